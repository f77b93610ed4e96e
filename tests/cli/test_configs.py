"""Configs by path and by the name of a shipped one."""

from __future__ import annotations

from pathlib import Path

from gold_lightning.cli.configs import CONFIGS, find_config


def test_shipped_configs_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Path(find_config("anli.yaml")) == CONFIGS / "anli.yaml"
    (tmp_path / "anli.yaml").write_text("data: {task: rte}")
    assert find_config("anli.yaml") == "anli.yaml"  # a path comes first
