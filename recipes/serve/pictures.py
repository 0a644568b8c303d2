"""The pictures of docs/serve.md: the page of `asr serve` in headless Chromium.

    python recipes/serve/pictures.py RECORDING "what is said" --output docs/images

It also prints the seconds from the choice of a file to the picture of its sound, and to its phones.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from asr.errors import exit_code

VIEWS = (  # name, width, height, colours, whether the gates are shown
    ("serve", 1120, 1120, "light", False),
    ("serve-phone", 390, 844, "dark", False),
    ("serve-gates", 1280, 1700, "dark", True),
)
DOCUMENTED = ("serve", "serve-phone")


def until(page: Page, what: str) -> None:
    """Wait until an expression is true; the policy of the page forbids waiting inside."""
    end = time.monotonic() + 120
    while not page.evaluate(f"() => Boolean({what})"):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}; {page.inner_text('#error')}")
        time.sleep(0.02)


def take(browser: Any, address: str, options: argparse.Namespace, view: Any) -> None:
    name, width, height, scheme, gates = view
    viewport = {"width": width, "height": height}
    context = browser.new_context(viewport=viewport, color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    until(page, "viewer.engine.can")
    started = time.monotonic()
    page.set_input_files("#file", options.recording)
    until(page, "viewer.plugins?.length")
    drawn_s = time.monotonic() - started
    until(page, "viewer.result")
    print(f"{name}: drawn after {drawn_s:.2f} s, phones after {time.monotonic() - started:.2f} s")
    page.fill("#text", options.text)
    page.click("#align")
    until(page, "viewer.assessment")
    if gates:
        page.click("#gates summary")
        until(page, "viewer.gates")
    page.evaluate("document.activeElement.blur()")
    time.sleep(1)
    if width < 500:
        page.evaluate("document.getElementById('name').scrollIntoView()")
    page.screenshot(path=options.output / f"{name}.jpg", type="jpeg", quality=75)
    context.close()


@exit_code
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recording", type=Path)
    parser.add_argument("text")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--all", action="store_true", help="those too that no page shows")
    options = parser.parse_args()
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    command = [sys.executable, "-m", "asr", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split()[0]
        with sync_playwright() as playwright:
            chromium = shutil.which("chromium")
            browser = playwright.chromium.launch(executable_path=chromium, args=flags)
            for view in VIEWS:
                if options.all or view[0] in DOCUMENTED:
                    take(browser, address, options, view)
            browser.close()
        server.terminate()


if __name__ == "__main__":
    sys.exit(main())
