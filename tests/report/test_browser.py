"""The page in a real browser: nothing fails, nothing is fetched, everything is drawn, on a desk and on a phone."""

import base64
import json
import re
import shutil
from pathlib import Path

import pytest

from serfuse.report import page
from serfuse.report import runs as folders_of
from serfuse.store import EmbeddingStore

WIDTHS = {"desk": 1200, "phone": 390}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    """Headless Chromium with its console and its network requests recorded."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs chromium and chromedriver (on Debian: apt-get install chromium chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield found
    found.quit()


@pytest.fixture(scope="module")
def report(reported: Path, folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page.render(folders_of.read(folders), store=EmbeddingStore(reported / "store")), "utf-8")
    return path


def show(browser, page_file: Path, device: str, *, dark: bool = False, media: str = "") -> None:
    metrics = {"width": WIDTHS[device], "height": 900, "deviceScaleFactor": 1, "mobile": device == "phone"}
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [scheme]})
    browser.get_log("performance"), browser.get_log("browser")
    browser.get(page_file.as_uri())


def captions(runs: list[folders_of.Run]) -> list[str]:
    """Of the figures that the runs have, as they stand on the page."""
    found = ["Accuracy over all held-out clips"]
    for run in runs:
        shown = "Inputs of the classifier" if run.model == "svm" else "Penultimate layer"
        found += ["Confusion matrix.", f"{shown}, by emotion.", f"{shown}, by speaker."]
        found += ["Learning curves."] if run.model != "svm" else []
        found += ["Accuracy per speaker."]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("device", WIDTHS)
def test_the_page_in_a_browser(browser, report: Path, folders: list[Path], device: str) -> None:
    show(browser, report, device)
    errors = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert errors == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert asked, "the page itself is recorded, so a request would be too"
    assert all(url.startswith(("file:", "data:")) for url in asked), asked

    drawn = browser.execute_script(
        "return [...document.querySelectorAll('figure')].map(f => { const s = f.querySelector('svg');"
        " const b = s.getBBox(), r = s.getBoundingClientRect();"
        " return [f.querySelector('figcaption').textContent, f.getAttribute('aria-label'), b.width, b.height, r.width,"
        " r.height, r.width / s.viewBox.baseVal.width, s.querySelectorAll('path, use, rect, image').length]; })"
    )
    expected = captions(folders_of.read(folders))
    assert len(drawn) == len(expected)
    for caption, (text, label, inner_width, inner_height, width, height, scale, marks) in zip(
        expected, drawn, strict=True
    ):
        assert text.startswith(caption)
        assert len(label) > 30, "what it shows, for those who hear the page"
        assert min(inner_width, inner_height, width, height) > 50 and marks > 10
        assert scale > 0.8, "letters of 9 points stay legible"
    overflow = browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
    assert overflow <= 0, "nothing makes the page wider than the screen"
    twice = browser.execute_script(
        "const ids = [...document.querySelectorAll('[id]')].map(e => e.id);"
        " return ids.filter((id, place) => ids.indexOf(id) !== place).length"
    )
    assert twice == 0, "no figure takes its letters or its clipping from another"
    dangling = browser.execute_script(
        "return [...document.querySelectorAll('use')].filter("
        "u => !document.getElementById(u.getAttribute('xlink:href').slice(1))).length"
    )
    assert dangling == 0
    results = browser.execute_script(
        "return [...document.querySelectorAll('[aria-label=\"Results of all runs\"] td')].filter(c => {"
        " const r = c.getBoundingClientRect(); return r.left < 0 || r.right > innerWidth; }).length"
    )
    assert results == 0, "every figure of the table is on the screen without scrolling sideways"


@pytest.mark.slow
def test_a_mistake_can_be_heard(browser, report: Path) -> None:
    show(browser, report, "desk")
    seconds = browser.execute_async_script(
        "const done = arguments[0], a = document.querySelector('audio');"
        " a.addEventListener('loadedmetadata', () => done(a.duration));"
        " a.addEventListener('error', () => done('error ' + a.error.message)); a.preload = 'auto'; a.load();"
    )
    assert seconds == pytest.approx(0.25, abs=0.01)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.mark.slow
def test_print_has_what_a_screen_folds_away(browser, report: Path) -> None:
    count = "return [...document.querySelectorAll('details > :not(summary)')].filter(e => e.checkVisibility()).length"
    show(browser, report, "desk")
    folded = browser.execute_script("return document.querySelectorAll('details').length")
    assert folded and browser.execute_script(count) == 0
    show(browser, report, "desk", media="print")
    assert browser.execute_script(count) == folded
    assert (
        browser.execute_script("return [...document.querySelectorAll('audio')].some(a => a.checkVisibility())") is False
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    printed = base64.b64decode(
        browser.execute_cdp_cmd("Page.printToPDF", {"paperWidth": 8.27, "paperHeight": 11.69})["data"]
    )
    assert printed.startswith(b"%PDF")
    pages = re.findall(rb"/Type\s*/Page\b", printed)
    assert len(pages) > 3, "each run begins a page of its own"


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_what_is_behind_it(browser, report: Path, dark: bool) -> None:
    """A contrast of 4.5, as WCAG 2.1 AA asks for, in both colour schemes."""
    show(browser, report, "desk", dark=dark)
    pairs = browser.execute_script(
        "const back = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;"
        " if (c !== 'rgba(0, 0, 0, 0)') return c; } return 'rgb(255, 255, 255)'; };"
        " return [...document.querySelectorAll('h1, h2, h3, p, li, th, td, a, figcaption, summary')]"
        ".map(e => [getComputedStyle(e).color, back(e), e.tagName])"
    )

    def light(colour: str) -> float:
        rgb = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    assert len(pairs) > 100
    for ink, paper, tag in {tuple(pair) for pair in pairs}:
        low, high = sorted((light(ink), light(paper)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, paper, tag)
    body = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (light(body) < 0.1) == dark
