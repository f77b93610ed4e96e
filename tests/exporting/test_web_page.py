"""The page of a student: its files, and in a headless Chromium without a network (make test-browser) its answers."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gold_lightning as gl
import pytest
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.exporting import web_page
from gold_lightning.t5.folder import write_calibration
from gold_lightning.t5.inference import SavedStudent

from tests.exporting.students import TEXTS, task_file, write_rows, write_student
from tests.fakes import real_news
from tests.report.test_browser import FLAGS, _program

pytestmark = pytest.mark.integration

TASK = gl.Task.load("news_topics")


def modules(folder):
    """A ``node_modules`` whose packages have the right files with a word in each."""
    for package in web_page._PACKAGES:
        for name in package.files:
            path = folder / package.name / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(package.name)
    return folder


def test_the_folder_is_static_and_shows_no_demos(tmp_path):
    web_page.write_page(tmp_path, TASK, {"temperature": 2.0}, str(modules(tmp_path / "node_modules")))
    settings = json.loads((tmp_path / "student.json").read_text())
    assert settings["template"] == [{"text": "news topic: "}, {"field": "text"}]
    assert settings["labels"] == list(TASK.label_names) and settings["calibration"] == {"temperature": 2.0}
    written = "".join(p.read_text() for p in tmp_path.iterdir() if p.suffix in (".json", ".js", ".html"))
    assert not any(demo.fields["text"] in written for demo in TASK.demos)
    page = (tmp_path / "index.html").read_text()
    assert "default-src 'none'" in page and "://" not in page
    assert "://" not in "".join((tmp_path / name).read_text() for name in ("page.js", "student.js"))
    assert len(list((tmp_path / "vendor").iterdir())) == 5


def test_packages_that_are_missing_or_others_are_refused(tmp_path, monkeypatch):
    package = web_page._PACKAGES[0]
    with pytest.raises(ConfigError) as error:
        list(web_page._contents(package, str(tmp_path)))
    assert error.value.key == "--runtime" and package.version in error.value.hint
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(web_page.shutil, "which", lambda name: None)
    with pytest.raises(GoldError, match="npm"):
        web_page._archive(package)
    archive = tmp_path / "gold_lightning" / "npm" / f"{package.name}-{package.version}.tgz"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"another")
    with pytest.raises(GoldError, match="checksum"):
        web_page._archive(package)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_student):
    """A calibrated student, its export to ONNX in 8 bits and its page. GOLD_TEST_STUDENT names another student."""
    root = tmp_path_factory.mktemp("web")
    if "GOLD_TEST_STUDENT" in os.environ:
        student, rows = Path(os.environ["GOLD_TEST_STUDENT"]), None
    else:
        student = write_student(root / "student", tiny_student, task_file(root / "task.yaml"))
        config = json.loads((student / "tokenizer_config.json").read_text())  # as the embedded student's
        (student / "tokenizer_config.json").write_text(json.dumps(config | {"split_special_tokens": True}))
        news = [row["text"] for row in real_news(100)]
        energies = sorted(prediction.energy for prediction in SavedStudent(student).predict(news))
        rule = {"temperature": 3.0, "score": "energy", "threshold": energies[50], "promise": "selective"}
        write_calibration(student, rule | {"level": 0.9, "confidence": 0.9, "source": "rows", "rows": 9})
        rows = write_rows(root / "rows.jsonl", [{"text": text} for text in TEXTS if text])
    onnx = gl.export(student, "onnx", root / "onnx", quantize="int8", rows=rows, threads=1)
    page = gl.export(student, "web", root / "page", rows=rows, threads=1)
    return onnx.folder, page.folder


@pytest.fixture(scope="module")
def page(folders, tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folders[1])))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = webdriver.ChromeOptions()
    options.binary_location = _program("CHROMIUM", "chromium")
    for flag in FLAGS.split():
        options.add_argument(f"--{flag}")
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")  # no network
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(_program("CHROMEDRIVER", "chromedriver")))
    driver.set_script_timeout(240)
    driver.get(f"http://127.0.0.1:{server.server_port}/index.html")
    _wait(driver, "return document.querySelector('form') && !document.querySelector('form').hidden")
    yield driver
    driver.quit()
    server.shutdown()


def _wait(driver, script):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 120).until(lambda _: driver.execute_script(script))


@pytest.mark.browser
def test_the_page_answers_as_python_on_100_rows(folders, page):
    rows = [row["text"] for row in real_news(96)] + ["x", "été 漢字 😀", "two  spaces\n\n{braces} </s>", "long " * 300]
    code = "import sys, json; sys.path.insert(0, sys.argv[1]); from predict import Student; "
    code += "print(json.dumps(Student(threads=1).predict(json.load(sys.stdin), 1)))"
    process = subprocess.run([sys.executable, "-c", code, str(folders[0])], input=json.dumps(rows),
                             capture_output=True, text=True, check=True)  # fmt: skip
    expected = json.loads(process.stdout)
    script = """
    const done = arguments[arguments.length - 1], rows = arguments[0], predictions = [];
    (async () => { for (const text of rows) predictions.push(await window.student.predict({text})); })()
      .then(() => done(predictions), error => done(String(error)));
    """
    predictions = page.execute_async_script(script, rows)
    assert len(predictions) == len(expected) == 100
    assert [p["label"] for p in predictions] == [p["label"] for p in expected]
    assert [p["known"] for p in predictions] == [p["known"] for p in expected]
    for prediction, wanted in zip(predictions, expected, strict=True):
        # Values that are rounded to 8 bits while the graph runs depend on the order of sums before.
        assert prediction["probabilities"] == pytest.approx(wanted["probabilities"], abs=2e-2)
        assert prediction["energy"] == pytest.approx(wanted["energy"], abs=5e-2)
    names = page.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    origin = page.execute_script("return location.origin")
    assert names and all(name.startswith(origin) for name in names)
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_it_is_used_by_keyboard_at_any_width(page, width):
    from selenium.webdriver.common.keys import Keys

    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    box = page.switch_to.active_element
    assert box.tag_name == "textarea"
    page.execute_script("arguments[0].value = ''; document.querySelector('#answer').replaceChildren()", box)
    box.send_keys("The striker scored twice in the second half.", Keys.TAB)
    assert page.switch_to.active_element.tag_name == "button"
    page.switch_to.active_element.send_keys(Keys.ENTER)
    _wait(page, "return document.querySelector('#answer .label')")
    labels = page.execute_script("return window.student.labels")
    assert page.execute_script("return document.querySelector('#answer .label').textContent") in labels
    assert len(page.execute_script("return [...document.querySelectorAll('#answer li')]")) == len(labels)
    assert "%" in page.execute_script("return document.querySelector('#answer .facts').textContent")
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    if "REPORTS" in os.environ:
        picture = page.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        Path(os.environ["REPORTS"], f"student_page_{width}.png").write_bytes(base64.b64decode(picture["data"]))
    page.execute_script("document.querySelector('textarea').focus()")
