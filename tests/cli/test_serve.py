"""``serve``: a process of its own, its exit status, and settings that are refused before a student is loaded."""

import re
import signal
import socket
import time

import pytest
from gold_lightning.cli.main import main
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.t5.folder import write_calibration

httpx = pytest.importorskip("httpx", reason="the extra openai is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folder(saved_student):
    return saved_student


@pytest.fixture
def serve(folder, forks):
    """Starts a server, and returns its process and its address."""
    processes = []

    def start(*args):
        process = forks.start(["serve", str(folder), "--port", "0", *args])
        processes.append(process)
        while process.is_running():
            if match := re.search(r"at (http://\S+) ", process.stderr):
                return process, match[1]
            time.sleep(0.02)
        raise AssertionError(process.stderr)

    yield start
    for process in processes:
        process.kill()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_process_serves_until_a_signal_and_ends_with_0(serve, sent):
    process, url = serve()
    assert httpx.post(f"{url}/predict", json="a text", timeout=30).json()["label"]
    process.send_signal(sent)
    finished = process.wait(30)
    assert finished.statuses == [0]
    assert len(finished.stderr.splitlines()) == 1  # its address


def test_wrong_settings_are_one_line(folder, tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        for args, key in [
            ([folder, "--port", port], "--port"),
            ([folder, "--host", "256.0.0.1", "--port", 0], "--host"),
            ([folder, "--max_rows", 0], "--max_rows"),
            ([tmp_path / "none", "--port", 0], "STUDENT"),
            ([folder, "--device", "abacus", "--port", 0], "--device"),
        ]:
            assert main(["serve", *map(str, args)]) == 2
            err = capsys.readouterr().err
            assert err.startswith(f"error: {key}: got ") and err.count("\n") == 1


def test_unknown_inputs_ask_for_a_calibration(folder, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("data: {generator: tests.fakes.NewsReader}\n")
    for key, value in (("--unknown", tmp_path / "unknown.jsonl"), ("--fallback", tmp_path / "config.yaml")):
        assert main(["serve", str(folder), "--port", "0", key, str(value)]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"error: {key}: got ") and " calibrate " in err and err.count("\n") == 1
    (tmp_path / "config.yaml").write_text("data: {batch_size: 4}\n")
    assert main(["serve", str(folder), "--port", "0", "--fallback", str(tmp_path / "config.yaml")]) == 2
    assert capsys.readouterr().err.startswith("error: --fallback: got ")


def test_a_server_says_loudly_that_it_keeps_and_sends_texts(serve, folder, tmp_path):
    calibration = {"temperature": 1.0, "score": "energy", "threshold": -1e9, "promise": "selective", "level": 0.9}
    write_calibration(folder, {**calibration, "confidence": 0.9, "source": "rows", "rows": 100})
    generator = "class_path: gold_lightning.generators.ScriptedGenerator, init_args: {replies: [x]}"
    (tmp_path / "config.yaml").write_text(f"data: {{generator: {{{generator}}}}}\n")
    file = tmp_path / "unknown.jsonl"
    process, url = serve("--unknown", str(file), "--fallback", str(tmp_path / "config.yaml"))
    answer = httpx.post(f"{url}/predict", json="a goal of the league", timeout=30).json()
    assert (answer["known"], answer["source"]) == (False, "generator")
    process.send_signal(signal.SIGTERM)
    finished = process.wait(30)
    assert finished.statuses == [0]
    warnings = finished.stderr
    assert warnings.count("WARNING") == 2 and "users' texts" in warnings and str(file) in warnings
    assert [row["generator"]["label"] for row in read_lines(file)] == [answer["label"]]


def test_a_missing_package_names_its_extra(folder, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["serve", str(folder)]) == 2
    assert "gold-lightning[serve]" in capsys.readouterr().err
