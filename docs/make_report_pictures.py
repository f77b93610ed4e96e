"""Takes the README's pictures of a report, light and dark: ``python docs/make_report_pictures.py RUN_FOLDER``.

It needs Chromium and selenium, as ``make test-browser`` does.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gold_lightning.report import write_report

WIDTH, HEIGHT = 1100, 1390  # pixels of the window: the page to the end of its result


def take(report: Path) -> None:
    """Writes ``docs/report-light.png`` and ``docs/report-dark.png``."""
    from selenium import webdriver

    for scheme in ("light", "dark"):
        options = webdriver.ChromeOptions()
        options.binary_location = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        for flag in ("headless=new", "no-sandbox", "hide-scrollbars", f"window-size={WIDTH},{HEIGHT}"):
            options.add_argument(f"--{flag}")
        service = webdriver.ChromeService(os.environ.get("CHROMEDRIVER", "/usr/bin/chromedriver"))
        browser = webdriver.Chrome(options=options, service=service)
        try:
            feature = [{"name": "prefers-color-scheme", "value": scheme}]
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
            browser.get(report.resolve().as_uri())
            browser.save_screenshot(str(Path(__file__).parent / f"report-{scheme}.png"))
        finally:
            browser.quit()


if __name__ == "__main__":
    take(write_report(Path(sys.argv[1])))
