"""The report of two models under four splits on the real Emo-DB, and its picture in docs/.

    python benchmarks/splits.py --store runs/emodb/store --out runs/splits

The store is the one that `python benchmarks/emodb.py run` fills. Runs that are finished are not run again. The picture
needs chromium and chromedriver (on Debian: apt-get install chromium chromium-driver).
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import click

DOCS = Path(__file__).resolve().parent.parent / "docs"
ENCODER = "soundstream-lyra"
MODELS = ("svm", "fcn")
SPLITS = ("random", "speaker", "loso", "text")
TITLE = "Four splits of Emo-DB, two models, one representation"
WIDTHS = {"report.png": (1100, 1750), "report-phone.png": (390, 1750)}


@click.command()
@click.option("--store", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", default="runs/splits", type=click.Path(path_type=Path), show_default=True)
def main(store: Path, out: Path) -> None:
    """Run, report, and take the picture."""
    folders = []
    for model in MODELS:
        for split in SPLITS:
            folders.append(out / f"{model}-{split}")
            if not (folders[-1] / "metrics.json").exists():
                command = ["serfuse", "cv", "--head", model, "--a", ENCODER, "--split", split, "--quiet"]
                subprocess.run([*command, "--store", str(store), "--out", str(folders[-1])], check=True)
    page = out / "report.html"
    subprocess.run(
        ["serfuse", "report", *map(str, folders), "-o", str(page), "--store", str(store), "--title", TITLE], check=True
    )
    # Without anybody's voice, and a seventh of the size.
    public = ["-o", str(DOCS / "splits.html"), "--no-audio", "--title", TITLE]
    subprocess.run(["serfuse", "report", *map(str, folders), *public], check=True)
    subprocess.run(["serfuse", "report", *map(str, folders), "-o", str(out / "report.md")], check=True)
    for name, (width, height) in WIDTHS.items():
        photograph(page, DOCS / name, width, height)


def photograph(page: Path, picture: Path, width: int, height: int) -> None:
    """The upper part of a page as PNG."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as profile:
        for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            browser.get(page.resolve().as_uri())
            browser.save_screenshot(str(picture))
        finally:
            browser.quit()
    click.echo(f"wrote {picture}")


if __name__ == "__main__":
    main()
