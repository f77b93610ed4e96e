"""Reports in a real browser, headless: make test-browser. REPORTS=folder keeps pictures of them."""

from __future__ import annotations

import base64
import os
import shutil
from pathlib import Path

import pytest
from gold_lightning.report import write_report

from tests.report.test_page import HOSTILE, hostile
from tests.runs import make_run

pytestmark = pytest.mark.browser
WIDTHS, SCHEMES = (1280, 390), ("light", "dark")
FLAGS = "headless=new no-sandbox disable-gpu no-first-run disable-background-networking disable-component-update "
FLAGS += "disable-sync hide-scrollbars"
# The luminance of a colour, and the contrast of two (WCAG 2.2), computed where the colours are.
CONTRAST = """
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const light = name => {
  canvas.fillStyle = getComputedStyle(document.documentElement).getPropertyValue('--' + name);
  canvas.fillRect(0, 0, 1, 1);
  const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)
    .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const paper = light('paper');
return Object.fromEntries(arguments[0].map(name => {
  const [low, high] = [paper, light(name)].sort((a, b) => a - b);
  return [name, (high + 0.05) / (low + 0.05)];
}));
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = _program("CHROMIUM", "chromium")
    for flag in FLAGS.split():
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(_program("CHROMEDRIVER", "chromedriver")))
    driver.set_page_load_timeout(120)
    yield driver
    driver.quit()


def _program(variable, name):
    found = shutil.which(os.environ.get(variable, name))
    assert found, f"no {name}; {variable} may name it"
    return found


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Reports by name: an ordinary run, a large one, one of hostile texts, one without labels, one at work."""
    root = tmp_path_factory.mktemp("runs")
    twenty = [f"{a}_{b}" for a in ("card", "transfer", "account", "loan") for b in ("lost", "fees", "a", "b", "c" * 40)]
    runs = {
        "plain": make_run(root / "news_topics" / "plain"),
        "large": make_run(root / "intents" / "large", rounds=10, train=100, probe=40, labels=twenty),
        "hostile": make_run(root / "a<b>&c" / "<script>alert(1)<x>", labels=HOSTILE, text=hostile, unfinished=True),
        "sequence": make_run(root / "sums" / "seq", labels=(), fields=("body", "question"), energies=False),
        "begun": make_run(root / "news_topics" / "begun", rounds=0, unfinished=True, tested=False),
    }
    return {name: write_report(run) for name, run in runs.items()}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["plain", "large", "hostile", "sequence", "begun"])
def test_a_report_is_sound(browser, pages, name, width, scheme):
    ask = browser.execute_script
    phone = width < 600
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": phone}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(pages[name].as_uri())
    _keep(browser, f"{name}-{width}-{scheme}", width)
    ask("for (const d of document.querySelectorAll('details')) d.open = true")
    assert browser.get_log("browser") == []
    assert ask("return document.compatMode") == "CSS1Compat"
    # Nothing runs and nothing is asked for.
    assert ask("return document.scripts.length + document.images.length + document.forms.length") == 0
    assert ask("return performance.getEntriesByType('resource').length") == 0
    links = ask("return [...document.links].map(a => [a.getAttribute('href'), a.target])")
    assert len(links) > 5 and all((to[0] == "#" or to == "config.yaml") and not target for to, target in links)
    assert ask(
        "return [...document.querySelectorAll('*')].every(e => ![...e.attributes].some(a => /^on/.test(a.name)))"
    )
    # Nothing is wider than the page, and what is wider than its place can be reached by keyboard.
    assert ask("return document.documentElement.scrollWidth") <= width
    wide = "return [...document.querySelectorAll('.table, pre')].filter(e => e.scrollWidth > e.clientWidth)"
    assert ask(f"{wide}.every(e => e.tabIndex === 0)")
    # Every drawing is there, and its smallest text can be read.
    assert ask("return [...document.querySelectorAll('svg')].every(s => s.getBoundingClientRect().height > 40)")
    if name != "begun":
        least = "return Math.min(...[...document.querySelectorAll('svg')].map(s => "
        least += "10.5 * s.getBoundingClientRect().width / s.viewBox.baseVal.width))"
        assert ask(least) >= 9
    contrast = ask(CONTRAST, ["ink", "muted", "probe", "train"])
    assert min(contrast.values()) >= 4.5, contrast
    assert ask("return matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")


@pytest.mark.parametrize("name", ["plain", "hostile"])
def test_light_and_dark_differ_in_colours_alone(browser, pages, name):
    seen = []
    for scheme in SCHEMES:
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        browser.get(pages[name].as_uri())
        look = "const s = getComputedStyle(document.querySelector('svg text')); "
        look += "return [getComputedStyle(document.body).backgroundColor, s.fill, document.body.scrollHeight]"
        seen.append(browser.execute_script(look))
    (paper, ink, height), (dark, light, again) = seen
    assert paper != dark and ink != light and height == again


def _keep(browser, name, width):
    """A picture of the whole page, where a folder for it is named."""
    if not (folder := os.environ.get("REPORTS")):
        return
    height = browser.execute_script("return document.documentElement.scrollHeight")
    clip = {"x": 0, "y": 0, "width": width, "height": min(height, 16000), "scale": 1}
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))
