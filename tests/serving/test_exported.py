"""An exported folder is served with the same answers, by what the Dockerfile installs alone."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import gold_lightning as gl
import httpx
import pytest
from gold_lightning.cli.main import main
from gold_lightning.errors import GoldError
from gold_lightning.serving.exported import ExportedStudent, is_exported
from gold_lightning.t5.inference import SavedStudent

from tests.exporting.students import TEXTS, task_file, write_rows, write_student

pytestmark = pytest.mark.integration

ROOT = Path(gl.__file__).parents[1]
BLOCKED = """
import sys
blocked = set(sys.argv.pop(1).split(","))
class Blocker:
    def find_spec(self, name, *_):
        if name.split(".")[0] in blocked:
            raise ImportError(f"{name} must not be needed")
sys.meta_path.insert(0, Blocker())
from gold_lightning.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_student):
    pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    root = tmp_path_factory.mktemp("exported")
    write_student(root / "student", tiny_student, task_file(root / "task.yaml"))
    rows = write_rows(root / "rows.jsonl", [{"text": text or " "} for text in TEXTS])
    gl.export(root / "student", "onnx", root / "onnx", rows=rows, threads=1)
    return root


def test_it_answers_as_the_student(folders):
    assert is_exported(folders / "onnx") and not is_exported(folders / "student")
    rows = [{"text": text} for text in TEXTS]
    exported, student = ExportedStudent(folders / "onnx"), SavedStudent(folders / "student")
    assert exported.task == student.task and exported.calibration is None
    for got, expected in zip(exported.predict(rows), student.predict(rows), strict=True):
        assert got == expected and set(got.to_dict()) == set(expected.to_dict())
        assert got.probabilities == pytest.approx(expected.probabilities, abs=1e-4)
        assert got.energy == pytest.approx(expected.energy, abs=1e-3)


def test_it_is_served_by_what_the_dockerfile_installs(folders):
    dockerfile = (ROOT / "examples" / "serve" / "Dockerfile").read_text()
    run = dockerfile.split("RUN ")[1].split(" && ")[0]
    installed = {re.split(r"[\[>=]", word.strip("'"))[0] for word in run.split()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[\[><=]", name)[0] for name in project["dependencies"]}
    assert {"pydantic", "rich", "regex"} <= needed & installed and {"torch", "lightning"} <= needed - installed
    blocked = {*(needed - installed), "transformers", "pytorch_lightning"}
    command = [sys.executable, "-c", BLOCKED, ",".join(blocked), "serve", str(folders / "onnx"), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = []
            for line in process.stderr:
                lines.append(line)
                if " at http" in line:
                    break
            url = re.search(r"at (\S+)", lines[-1])
            assert url, lines
            assert httpx.post(f"{url[1]}/predict", json="x", timeout=30).json()["label"]
        finally:
            process.terminate()
    assert process.returncode == 0


def test_settings_of_another_kind_of_folder_are_refused(folders, tmp_path, capsys):
    for key, value in (("--task", "news_topics"), ("--device", "cuda")):
        assert main(["serve", str(folders / "onnx"), "--port", "0", key, value]) == 2
        assert capsys.readouterr().err.startswith(f"error: {key}: got ")
    (tmp_path / "export.json").write_text("{}")
    with pytest.raises(GoldError, match="export it again"):
        ExportedStudent(tmp_path)
