"""The page to try a student, in a real browser, headless: make test-browser. REPORTS=folder keeps pictures."""

from __future__ import annotations

import pytest
from gold_lightning.generators import ScriptedGenerator
from gold_lightning.serving.fallback import Fallback
from gold_lightning.serving.service import Service
from gold_lightning.serving.settings import ServeSettings

from tests.report.test_browser import CONTRAST, SCHEMES, WIDTHS, _keep, browser  # noqa: F401
from tests.serving.conftest import RuleStudent, serving

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def pages():
    """URLs of servers: of one field, of two, and with a generator."""
    plain = Service(RuleStudent(), ServeSettings(port=0, max_chars=300))
    student = RuleStudent()
    fallback = Service(student, ServeSettings(port=0), None, Fallback(student.task, ScriptedGenerator(["x"]), 10))
    with serving(plain) as one, serving(Service(RuleStudent("rte"), ServeSettings(port=0))) as two:
        with serving(fallback) as generator:
            yield {"one": one, "two": two, "generator": generator}


def look(browser, url, width=1280, scheme="light"):  # noqa: F811
    from selenium.webdriver.support.ui import WebDriverWait

    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(url)
    return WebDriverWait(browser, 20)


def typed(browser, *keys):  # noqa: F811
    """Presses keys wherever the focus is, as a person without a mouse does."""
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def text(browser, id_):  # noqa: F811
    script = "const e = document.getElementById(arguments[0]); return e.checkVisibility() ? e.innerText : ''"
    return browser.execute_script(script, id_)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["one", "two"])
def test_a_prediction_by_keyboard_alone(browser, pages, name, width, scheme):  # noqa: F811
    from selenium.webdriver.common.keys import Keys

    wait, ask = look(browser, pages[name], width, scheme), browser.execute_script
    wait.until(lambda _: ask("return document.activeElement.tagName") == "TEXTAREA")
    begin = "Sports: the striker" if name == "one" else "not_entailment: it rains"
    typed(browser, begin)
    if name == "two":
        typed(browser, Keys.TAB, "the sun shines")
    typed(browser, Keys.TAB)
    assert ask("return document.activeElement.id") == "predict"
    typed(browser, Keys.ENTER)
    wait.until(lambda _: text(browser, "answer") == begin.split(":")[0])
    assert not ask("return document.getElementById('unknown').checkVisibility()")
    rows = ask("return [...document.querySelectorAll('#bars tr')].map(row => row.innerText.replace(/\\s+/g, ' '))")
    assert rows[0] == f"{begin.split(':')[0]} 97.0 %" and len(rows) == (4 if name == "one" else 2)
    widths = ask("return [...document.querySelectorAll('.bar')].map(bar => bar.getBoundingClientRect().width)")
    assert widths[0] > 10 * widths[1] > 0
    assert ask("return document.documentElement.scrollWidth") <= width
    assert min(ask(CONTRAST, ["ink", "muted", "bar", "bad"]).values()) >= 4.5
    assert ask("return matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
    hosts = "return performance.getEntriesByType('resource').every(e => e.name.startsWith(location.origin))"
    assert ask(hosts)
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []
    _keep(browser, f"try-{name}-{width}-{scheme}", width)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_not_known_is_said(browser, pages, scheme):  # noqa: F811
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    for name, word in (("one", "may well be wrong"), ("generator", "The generator answered")):
        wait = look(browser, pages[name], 390, scheme)
        wait.until(lambda _: browser.execute_script("return document.activeElement.tagName") == "TEXTAREA")
        typed(browser, "unheard of")
        ActionChains(browser).key_down(Keys.CONTROL).send_keys(Keys.ENTER).key_up(Keys.CONTROL).perform()
        wait.until(lambda _, word=word: word in text(browser, "unknown"))
        assert text(browser, "unknown").startswith("Not known")
        _keep(browser, f"try-unknown-{name}-{scheme}", 390)


def test_refusals_and_markup_are_shown_as_text(browser, pages):  # noqa: F811
    wait, ask = look(browser, pages["one"]), browser.execute_script
    wait.until(lambda _: ask("return document.activeElement.tagName") == "TEXTAREA")
    ask("document.querySelector('textarea').value = '<img src=x onerror=alert(1)>'.repeat(20)")
    ask("document.getElementById('form').requestSubmit()")
    wait.until(lambda _: "expected at most 300" in text(browser, "problem"))
    assert not ask("return document.getElementById('result').checkVisibility()")
    ask("document.querySelector('textarea').value = 'World <img src=x onerror=alert(1)>'")
    ask("document.getElementById('form').requestSubmit()")
    wait.until(lambda _: text(browser, "answer") == "World")
    assert ask("return document.images.length") == 0 and not text(browser, "problem")
    browser.get_log("browser")  # the refusal is in it


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_of_the_interface(browser, pages, width):  # noqa: F811
    wait, ask = look(browser, f"{pages['two']}/docs", width, "dark"), browser.execute_script
    wait.until(lambda _: "POST /predict" in ask("return document.body.innerText"))
    content = ask("return document.body.innerText")
    assert all(path in content for path in ("GET /health", "GET /metrics", "curl http://127.0.0.1", "413", "503"))
    assert ask("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []
    _keep(browser, f"docs-{width}", width)
