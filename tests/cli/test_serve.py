"""``serve``: a process of its own, its exit status, and settings that are refused before a student is loaded."""

import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest
from gold_lightning.cli.main import main
from gold_lightning.student import T5Student

from tests.test_student import places  # noqa: F401


@pytest.fixture(scope="module")
def folder(places, tmp_path_factory):  # noqa: F811
    student = T5Student(task=places[0], student=places[1])
    path = tmp_path_factory.mktemp("run") / "student"
    student.export(path, {f"model.{name}": w for name, w in student.model.state_dict().items()})
    return path


@pytest.fixture
def serve(folder):
    """Starts a server, and returns its process and its address."""
    processes = []

    def start(*args):
        command = [sys.executable, "-m", "gold_lightning", "serve", str(folder), "--port", "0", *args]
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        processes.append(process)
        lines = []
        for line in process.stderr:
            lines.append(line)
            if match := re.search(r"at (http://\S+)", line):
                return process, match[1], lines
        raise AssertionError(lines)

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_process_serves_until_a_signal_and_ends_with_0(serve, sent):
    process, url, _ = serve()
    assert httpx.post(f"{url}/predict", json="a text", timeout=30).json()["label"]
    process.send_signal(sent)
    assert process.wait(30) == 0
    assert process.stderr.read() == ""


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


def test_a_missing_package_names_its_extra(folder, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["serve", str(folder)]) == 2
    assert "gold-lightning[serve]" in capsys.readouterr().err
