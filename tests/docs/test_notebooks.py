"""The notebooks run, and their stored outputs are of the kinds that a run gives."""

import importlib.util
import json
from functools import partial
from pathlib import Path

import gold_lightning
import pytest
from gold_lightning.checks.registry import CHECKS

from tests.fakes import NewsReader

DOCS = Path(__file__).parents[2] / "docs"
NAMES = ("quickstart", "your_own_task")


def notebook(name):
    return json.loads((DOCS / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))


def runner():
    spec = importlib.util.spec_from_file_location("run_notebooks", DOCS / "run_notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kinds(outputs):
    return [output["output_type"] for output in outputs]


@pytest.fixture(autouse=True)
def own_checks():
    """A notebook registers its checks again when it is run again."""
    before = dict(CHECKS)
    yield
    CHECKS.clear()
    CHECKS.update(before)


def test_all_notebooks_are_tested():
    assert sorted(path.stem for path in (DOCS / "notebooks").glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.integration
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_and_gives_the_kinds_of_output_that_are_stored(name, undrawn_plots, tiny_student, monkeypatch):
    """Small models stand in for the embedded ones, which have tests of their own."""
    monkeypatch.setattr(gold_lightning, "distill", partial(gold_lightning.distill, student=str(tiny_student)))
    monkeypatch.setattr(gold_lightning, "EmbeddedGenerator", lambda batch_size: NewsReader(batch_size=batch_size))
    for cell, outputs in runner().run(notebook(name)):
        source = "".join(cell["source"])
        logs = {"stream"} if "gl.distill" in source else set()  # printed unless the program around it handles logs
        assert [k for k in kinds(outputs) if k not in logs] == [k for k in kinds(cell["outputs"]) if k not in logs], (
            source
        )
        if "gl.synthesize" in source or "gl.Task" in source:  # depends on no sum that machines compute differently
            assert outputs == cell["outputs"], source


@pytest.mark.parametrize("name", NAMES)
def test_stored_outputs_name_no_machine(name):
    text = json.dumps(notebook(name))
    assert "/tmp" not in text and "/home" not in text and "Traceback" not in text
