"""Modules of a user: imported by name or by entry point, found by tasks, refused in one line if they are missing."""

import sys
from importlib.metadata import EntryPoint

import pytest
import yaml
from gold_lightning import plugins
from gold_lightning.checks.registry import CHECKS
from gold_lightning.cli.main import _resolved, main
from gold_lightning.data import GoldDataModule
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.inputs.task_files import shipped_tasks
from gold_lightning.metrics import METRICS, make_metric, metric

from tests.fakes import NewsWriter

MODULE = """
import gold_lightning as gl

@gl.check
def few_commas(sample, task, *, most=3):
    return "many_commas" if sample.text.count(",") > most else ""

@gl.metric
def same_initial(prediction, targets):
    return any(prediction[:1] == target[:1] for target in targets)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module with a check and a metric, which are gone after the test."""
    before = set(CHECKS), set(METRICS)
    (tmp_path / "my_plugins.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "broken_plugins.py").write_text("import no_such_package_at_all\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.load_entry_points.cache_clear()
    yield "my_plugins"
    plugins.load_entry_points.cache_clear()
    for registry, names in zip((CHECKS, METRICS), before, strict=True):
        for name in set(registry) - names:
            del registry[name]
    for name in ("my_plugins", "broken_plugins"):
        sys.modules.pop(name, None)


@pytest.fixture
def task(tmp_path):
    """A task file that names the check and the metric."""
    raw = yaml.safe_load(shipped_tasks()["news_topics"].read_text(encoding="utf-8"))
    del raw["test"]
    raw |= {"checks": [{"few_commas": {"most": 9}}], "metrics": ["same_initial", "accuracy"]}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return str(path)


def test_the_data_module_imports_them_before_the_tasks_checks_are_looked_up(module, task, tmp_path, tiny_student):
    with pytest.raises(ConfigError) as e:
        GoldDataModule(task, NewsWriter(), run_dir=str(tmp_path / "run"), student=tiny_student)
    assert e.value.key.endswith("checks[0]") and e.value.value == "few_commas" and "data.plugins" in e.value.hint
    data = GoldDataModule(task, NewsWriter(), run_dir=str(tmp_path / "run"), student=tiny_student, plugins=[module])
    assert data.task.checks[0].name == "few_commas" and "few_commas" in CHECKS


def test_the_setting_is_part_of_the_config(module, task):
    config = _resolved(["fit", "--data.task", task, "--data.plugins", f"[{module}]"])
    assert config["data"]["plugins"] == [module]
    assert _resolved(["fit"])["data"]["plugins"] == []


def test_tasks_check_takes_them_too(module, task, capsys):
    assert main(["tasks", "check", task]) == 2
    assert "same_initial" in capsys.readouterr().err
    assert main(["tasks", "check", task, "--plugins", f"[{module}]"]) == 0
    assert "metrics same_initial, accuracy" in capsys.readouterr().out


def test_installed_packages_bring_theirs_by_an_entry_point(module, monkeypatch):
    entry = EntryPoint("mine", module, plugins.GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry] if group == plugins.GROUP else [])
    same = make_metric("same_initial", ())
    assert same.rows(["ab", "b"], ["ac", ["c", "bb"]]).tolist() == [[1.0], [1.0]]
    assert plugins.find(CHECKS, "few_commas") is sys.modules[module].few_commas


def test_an_entry_point_that_fails_names_itself(module, monkeypatch):
    entry = EntryPoint("mine", "broken_plugins", plugins.GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry])
    with pytest.raises(GoldError, match=r"^plugin broken_plugins of an installed package: ModuleNotFoundError: "):
        plugins.find(CHECKS, "no_such_check")


@pytest.mark.parametrize("name", ["no_such_module", "no_such_package.checks", "my_plugins.checks", ".relative", ""])
def test_a_module_that_does_not_exist_is_one_line(module, name):
    with pytest.raises(ConfigError) as e:
        plugins.load_plugins(["json", name])
    assert (e.value.key, e.value.value) == ("data.plugins[1]", name)


def test_a_module_that_imports_a_missing_one_keeps_its_own_error(module):
    with pytest.raises(ModuleNotFoundError, match="no_such_package_at_all"):
        plugins.load_plugins(["broken_plugins"])


def test_a_metrics_name_is_taken_once(module):
    plugins.load_plugins([module])

    with pytest.raises(GoldError, match=r"^the metric same_initial of .* has the same name as one of my_plugins$"):

        @metric
        def same_initial(prediction, targets):
            return 0.0

    with pytest.raises(GoldError, match="accuracy"):

        @metric
        def accuracy(prediction, targets):
            return 0.0

    assert make_metric("accuracy", ()).rows(["a"], ["a"]).tolist() == [[1.0]]
