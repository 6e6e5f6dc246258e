"""The page in a real browser: nothing fails, nothing is fetched, everything is drawn, on a desk and on a phone."""

import json
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


@pytest.mark.slow
@pytest.mark.parametrize("device", WIDTHS)
def test_the_page_in_a_browser(browser, report: Path, folders: list[Path], device: str) -> None:
    metrics = {"width": WIDTHS[device], "height": 900, "deviceScaleFactor": 1, "mobile": device == "phone"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get_log("performance"), browser.get_log("browser")
    browser.get(report.as_uri())

    errors = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert errors == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert asked, "the page itself is recorded, so a request would be too"
    assert all(url.startswith(("file:", "data:")) for url in asked), asked

    drawn = browser.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(s => {"
        " const b = s.getBBox(), r = s.getBoundingClientRect();"
        " return [b.width, b.height, r.width, r.height, s.querySelectorAll('path, use, rect, image').length]; })"
    )
    # The overview; confusion, two t-SNE and the speakers for each; learning curves of the one that has epochs.
    assert len(drawn) == 1 + 4 * len(folders) + 1
    for inner_width, inner_height, width, height, marks in drawn:
        assert min(inner_width, inner_height, width, height) > 50 and marks > 10
    overflow = browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
    assert overflow <= 0, "nothing makes the page wider than the screen"
    players = browser.execute_script("return [...document.querySelectorAll('audio')].map(a => a.src.slice(0, 14))")
    assert players and set(players) == {"data:audio/wav"}
    assert browser.execute_script("return document.querySelectorAll('figure:not([aria-label])').length") == 0
