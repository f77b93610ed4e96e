"""Configs by path and by the name of a shipped one."""

from __future__ import annotations

from pathlib import Path

import pytest
from gold_lightning.cli.configs import CONFIGS, find_config
from gold_lightning.cli.main import main


def test_shipped_configs_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Path(find_config("anli.yaml")) == CONFIGS / "anli.yaml"
    (tmp_path / "anli.yaml").write_text("data: {task: rte}")
    assert find_config("anli.yaml") == "anli.yaml"  # a path comes first


@pytest.mark.parametrize("command", ["fit", "validate", "test", "preview", "baselines"])
def test_every_command_takes_the_config_of_a_run(tmp_path, monkeypatch, capsys, tiny_student, command):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["fit", "--model.student", tiny_student, "--run.name", "mine", "--print_config"])
    written = capsys.readouterr().out
    assert "ckpt_path:" in written and "weights_only:" in written
    Path("config.yaml").write_text(written)
    with pytest.raises(SystemExit) as done:
        main([command, "--config", "config.yaml", "--print_config"])
    assert done.value.code == 0 and "name: mine" in capsys.readouterr().out
