"""Pictures of the web page for the docs, at the widths of a desk and of a phone.

    python benchmarks/screens.py RUN/best.safetensors SHAPES

RUN is a folder that `m2clip demo` or `m2clip train configs/motionshapes.yaml` wrote, SHAPES its MotionShapes; needs
chromium and the packages of m2clip[dev]. Writes docs/images/page-*.png.
"""

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
WIDTHS = {"desktop": (1440, 900), "phone": (390, 844)}
MOST_BYTES = 200_000


@contextmanager
def serving(*options: str) -> Iterator[str]:
    """The address of a server that runs as long as this does."""
    command = [sys.executable, "-m", "m2clip", "serve", *options, "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        if found is None:
            raise SystemExit("the server did not start: run m2clip serve by hand to see why")
        yield found[0]
    finally:
        server.terminate()
        server.wait(30)


def make_index(checkpoint: Path, videos: Path, folder: Path) -> str:
    """An index of a folder of videos."""
    m2clip, table, place = [sys.executable, "-m", "m2clip"], str(folder / "vectors.parquet"), str(folder / "index")
    for command in (
        ["embed", str(videos), "--checkpoint", str(checkpoint), "--out", table],
        ["index", table, "--out", place],
    ):
        subprocess.run([*m2clip, *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return place


def save(page: "Page", name: str, *, focus: str | None = None) -> None:
    """A picture of the whole page, or of the card around `focus`, made smaller until its file is small."""
    from PIL import Image

    page.mouse.move(0, 0)
    page.evaluate("document.activeElement && document.activeElement.blur()")
    shown = page.locator(f".m2-card:has({focus})").last.screenshot() if focus else page.screenshot(full_page=True)
    picture = Image.open(io.BytesIO(shown)).convert("RGB")
    path = IMAGES / f"page-{name}.png"
    while True:
        picture.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=4).save(path, optimize=True)
        if path.stat().st_size < MOST_BYTES:
            break
        picture = picture.resize((picture.width * 3 // 4, picture.height * 3 // 4), Image.Resampling.LANCZOS)
    print(path, picture.size, path.stat().st_size)


def finished(page: "Page") -> None:
    """Wait until a video has its scores, its map and its timeline."""
    page.wait_for_selector("#bars .m2-bars")
    page.wait_for_selector("#strip .m2-heat", state="attached")
    page.wait_for_selector("#timeline .m2-lanes")
    page.wait_for_function("document.querySelector('#video video').readyState > 1")


def all_screens(page: "Page", address: str, width: str, broken: Path) -> None:
    """Every state of the page at one width."""
    page.goto(address)
    page.wait_for_selector("#video .m2-picker")
    page.set_input_files("#video input[type=file]", broken)
    page.wait_for_selector("#status .m2-trouble")
    save(page, f"error-{width}")
    page.click("#video [data-example='0']")
    page.wait_for_selector("#status:has-text('2.0 s')")
    finished(page)
    save(page, f"recognise-{width}")
    page.click("#video [data-example='2']")
    page.wait_for_selector("#status:has-text('6.0 s')")
    finished(page)
    page.locator("#timeline .m2-moment").nth(1).click()
    page.wait_for_selector("#timeline li:not(:first-child) .m2-moment[aria-current]")
    save(page, f"timeline-{width}", focus="#timeline")
    page.get_by_role("tab", name="Search").click()
    page.fill("#search-text input, #search-text textarea", "an orange drop spinning clockwise")
    page.click("#search-go")
    page.wait_for_selector("#results .m2-results")
    page.wait_for_timeout(1500)  # the pictures of what was found
    save(page, f"search-{width}")
    page.get_by_role("tab", name="Compare").click()
    page.click("#compare-video [data-example='0']")
    page.wait_for_selector("#both section >> nth=1")
    page.wait_for_function("document.querySelector('#compare-video video').readyState > 1")
    save(page, f"compare-{width}")


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("shapes", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as started:
        folder = Path(name)
        broken = folder / "broken.mp4"
        broken.write_bytes(b"no video at all")
        index = make_index(asked.checkpoint, asked.shapes / "novel" / "test", folder)
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with serving(str(asked.checkpoint), "--compare", "builtin", "--index", index) as address:
            for width, (across, down) in WIDTHS.items():
                all_screens(browser.new_page(viewport={"width": across, "height": down}), address, width, broken)
            dark = browser.new_page(viewport={"width": 1440, "height": 900}, color_scheme="dark")
            dark.goto(address)
            dark.click("#video [data-example='1']")
            finished(dark)
            save(dark, "dark-desktop")
        browser.close()


if __name__ == "__main__":
    main()
