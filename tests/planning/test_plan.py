"""The plan: limits of its settings, its fingerprint, and its earlier names."""

import importlib
from dataclasses import replace

import pytest
from gold_lightning.errors import ConfigError
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.storage.json_lines import digest


def test_quotas_of_both_kinds():
    plan = SynthesisPlan(samples_per_round=7, probe_per_round=3)
    assert (plan.quota("train"), plan.quota("probe")) == (7, 3)


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ({"probe_contrast_samples": -1}, "0 or more"),
        ({"min_requests_per_batch": 0}, "1 or more"),
        ({"max_attempts": float("nan")}, "a finite number, 1 or more"),
        ({"unlabelled_as": ["demos", "labels"]}, "one or several of demos, style, data, pseudo_labels"),
        ({"unlabelled_as": []}, "one or several of demos, style, data, pseudo_labels"),
        ({"unlabelled_as": ["data", "pseudo_labels"]}, "data or pseudo_labels, which has all texts"),
        ({"unlabelled_share": 1.5}, "a number from 0 to 1"),
        ({"decontaminate": "yes"}, "one of off, measure, drop"),
        ({"label_calibration": False}, "one of batch, contextual, none"),
    ],
)
def test_wrong_settings_are_named(change, allowed):
    with pytest.raises(ConfigError) as e:
        SynthesisPlan(**change)
    ((key, value),) = change.items()
    assert (e.value.key, e.value.allowed) == (f"data.plan.{key}", allowed) and repr(e.value.value) == repr(value)


def test_the_fingerprint_is_that_of_run_folders_of_earlier_versions():
    # Computed by the version whose settings were called depart_from and least_requests.
    assert digest(SynthesisPlan().fingerprint()) == "03d0f22eeb073549"
    changed = SynthesisPlan(probe_contrast_samples=1, hints=False, label_agreement="require")
    assert digest(replace(changed, label_calibration="contextual").fingerprint()) == "a2f61a9e260f2eee"
    assert changed.fingerprint()["label_calibration"] == "batch"


def test_sizes_and_measuring_are_no_part_of_the_fingerprint():
    plan = SynthesisPlan()
    for change in (
        {"samples_per_round": 1}, {"probe_per_round": 1}, {"min_requests_per_batch": 9}, {"max_attempts": 3.0},
        {"decontaminate": "off"}, {"unlabelled_as": ["style"]}, {"unlabelled_share": 1.0},
    ):  # fmt: skip
        assert replace(plan, **change).fingerprint() == plan.fingerprint()
    assert replace(plan, group_size=1).fingerprint() != plan.fingerprint()


def test_uses_of_real_texts_may_be_one_name():
    assert SynthesisPlan(unlabelled_as="style").unlabelled_as == ("style",)
    assert SynthesisPlan(unlabelled_as=["data", "demos"]).unlabelled_as == ("data", "demos")


def test_earlier_paths_of_the_class():
    for module in ("gold_lightning.plan", "gold_lightning.planning.plan"):
        assert importlib.import_module(module).Plan is SynthesisPlan
