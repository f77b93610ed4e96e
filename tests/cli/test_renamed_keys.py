"""Settings by their earlier names, in configs and on the command line."""

import logging

import pytest
import yaml
from gold_lightning.cli.configs import find_config
from gold_lightning.cli.main import _resolved
from gold_lightning.cli.renamed_keys import RENAMED, rename_argument, rename_settings


@pytest.mark.parametrize(
    ("argument", "renamed"),
    [
        ("--data.plan.depart_from", "--data.plan.probe_contrast_samples"),
        ("--data.plan.least_requests=16", "--data.plan.min_requests_per_batch=16"),
        ("--data.plan.group_size=4", "--data.plan.group_size=4"),
        ("data.plan.depart_from", "data.plan.depart_from"),  # a value
        ("--data.plan.depart_from_more", "--data.plan.depart_from_more"),
        ("fit", "fit"),
    ],
)
def test_arguments(argument, renamed):
    assert rename_argument(argument) == renamed


def test_settings_keep_their_order_and_their_neighbours(caplog):
    config = {"data": {"plan": {"group_size": 2, "depart_from": 1, "hints": False}, "seed": 3}}
    with caplog.at_level(logging.WARNING):
        assert rename_settings(config)
    assert list(config["data"]["plan"].items()) == [("group_size", 2), ("probe_contrast_samples", 1), ("hints", False)]
    (message,) = caplog.messages
    assert message.startswith("data.plan.depart_from is called data.plan.probe_contrast_samples now")
    assert not rename_settings(config)


@pytest.mark.parametrize("config", [{}, {"data": None}, {"data": {"plan": "file.yaml"}}, {"data": {"plan": {}}}])
def test_configs_without_them_stay_as_they_are(config):
    before = yaml.safe_dump(config)
    assert not rename_settings(config)
    assert yaml.safe_dump(config) == before


def test_a_config_and_a_command_line_of_an_earlier_version(tmp_path):
    path = tmp_path / "earlier.yaml"
    path.write_text("# depart_from in a comment\ndata:\n  plan:\n    depart_from: 1\n    group_size: 3\n")
    plan = _resolved(["fit", "--config", str(path), "--data.plan.least_requests", "5"])["data"]["plan"]
    assert (plan["probe_contrast_samples"], plan["group_size"], plan["min_requests_per_batch"]) == (1, 3, 5)
    assert not {name.rsplit(".", 1)[1] for name in RENAMED} & plan.keys()


def test_a_config_of_today_is_read_where_it_lies(tmp_path):
    path = tmp_path / "today.yaml"
    path.write_text("# depart_from in a comment\ndata: {plan: {group_size: 3}}\n")
    assert find_config(str(path)) == str(path)
