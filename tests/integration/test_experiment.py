"""The experiment subcommand, with real runs of a scripted generator."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from gold_lightning.cli import main as cli
from gold_lightning.cli.configs import CONFIGS
from gold_lightning.cli.experiment import experiment_command
from gold_lightning.cli.main import main
from gold_lightning.evaluation.experiment_file import load_experiment
from gold_lightning.evaluation.experiments import plan_runs
from gold_lightning.feedback import STRATEGIES
from gold_lightning.storage.json_lines import read_lines, write_lines
from gold_lightning.storage.round_store import RoundStore

SHIPPED = sorted((CONFIGS / "experiments").glob("*.yaml"))


@pytest.fixture
def small(tmp_path, tiny_student):
    """An experiment of two arms and two seeds, of two tiny rounds each."""
    rows = [{"text": f"{word} of today in the news", "topic": topic} for word, topic in WORDS]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    settings = {
        "data.generator": "tests.fakes.NewsWriter",
        "data.plan.samples_per_round": 8,
        "data.plan.probe_per_round": 16,
        "data.plan.label_agreement": "off",
        "data.passes_per_round": 1,
        "data.test_file": str(tmp_path / "rows.jsonl"),
        "data.label_noise": 0.4,
        "model.student": tiny_student,
        "trainer.max_epochs": 2,
    }
    arms = {"none": {"feedback.strategy": "none"}, "band": {"feedback.strategy": "energy_band"}}
    text = {"name": "small", "base": "quickstart.yaml", "set": settings, "arms": arms, "seeds": [1, 2]}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(text | {"root": str(tmp_path / "out")}, sort_keys=False))
    return path


WORDS = [("goal", "Sports"), ("bank", "Business"), ("chip", "Sci/Tech"), ("troops", "World"), ("orbit", "Sci/Tech")]


@pytest.mark.slow
def test_arms_and_seeds_are_run_killed_resumed_and_compared(small, tmp_path, capsys):
    asked = []
    known = functools.cache(lambda args: cli._resolved(args))  # a second each

    def resolve(args):
        return known(tuple(args))

    def runner(args, log):
        asked.append((args[0], args[args.index("--run.name") + 1]))
        if len(asked) == 4:  # the second run is fitted, and not tested
            raise KeyboardInterrupt
        return main(list(args))

    with pytest.raises(KeyboardInterrupt):
        experiment_command(["--config", str(small)], resolve, runner)
    assert len(read_lines(tmp_path / "out" / "small" / "results.jsonl")) == 1
    assert experiment_command(["--config", str(small)], resolve, runner) == 0
    names = [name for _, name in asked]
    assert names == ["none-s1"] * 2 + ["band-s1"] * 4 + ["none-s2"] * 2 + ["band-s2"] * 2
    out = tmp_path / "out" / "small"
    results = read_lines(out / "results.jsonl")
    assert [(r["arm"], r["seed"], r["samples"], r["test_rows"]) for r in results] == [
        (arm, seed, 16, 5) for seed in (1, 2) for arm in ("none", "band")
    ]
    assert [r["fed_back"] for r in results[::2]] == [0, 0] and all(r["fed_back"] > 0 for r in results[1::2])
    # Exchanged labels: about 0.4 of the 32 probe samples of each run.
    for r in results:
        flips = [e["flipped"] for n in (0, 1) for e in RoundStore(Path(r["run"]), n).energies() if e["kind"] == "probe"]
        assert r["flipped"]["probe"] == [sum(flips), 32] and 5 < sum(flips) < 22
        assert r["flipped"]["fed_back"][1] == r["fed_back"]
    # Arms of a seed begin with the same samples, asked for once; seeds share none.
    texts = {
        (r["arm"], r["seed"]): {s.sample.text for s in RoundStore(Path(r["run"]), 0).accepted("train")} for r in results
    }
    assert texts["none", 1] == texts["band", 1] and not texts["none", 1] & texts["none", 2]
    assert [r["reused_calls"] > 0 for r in results] == [False, True, False, True]
    told = capsys.readouterr().out
    assert "difference to none" in told and "each run: 16 training samples" in told and "flipped" in told
    assert (out / "figure.png").stat().st_size > 10_000 and (out / "figure.svg").is_file()
    assert (out / "table.txt").read_text() in told
    assert [s["arm"] for s in read_lines(out / "summary.jsonl")] == ["none", "band"]

    asked.clear()
    assert experiment_command(["--config", str(small)], resolve, runner) == 0 and asked == []
    changed = ["--config", str(small), "--set", "data.passes_per_round=2"]
    with pytest.raises(cli.GoldError, match=r"was run with another data\.passes_per_round"):
        experiment_command(changed, resolve, runner)
    assert asked == []

    # Without its checkpoints a run is trained again on what it has.
    pruned = ["--config", str(small), "--prune"]
    assert len([*out.glob("*/*/checkpoints")]) == 4
    assert experiment_command([*pruned, "--table"], resolve, runner) == 0 and not [*out.glob("*/*/checkpoints")]
    run = Path(results[1]["run"])
    (record,) = read_lines(run / "experiment.json")
    write_lines(run / "experiment.json", [record | {"finished": False}])
    completions = (run / "data" / "completions.jsonl").read_bytes()
    assert experiment_command(pruned, resolve, runner) == 0 and asked == [("fit", "band-s1"), ("test", "band-s1")]
    assert (run / "data" / "completions.jsonl").read_bytes() == completions
    again = read_lines(out / "results.jsonl")
    assert [r | {"seconds": 0} for r in again] == [r | {"seconds": 0} for r in results]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (["--set", "data.no_such_key=1"], "no_such_key"),
        (["--set", "feedback.rate=often"], "feedback.rate"),
        (["--base", "no_such.yaml"], "--config"),
        (["--jobs", "none"], "jobs"),
    ],
)
def test_a_wrong_setting_is_one_line_before_anything_runs(small, tmp_path, change, key, capsys):
    assert main(["experiment", "--config", str(small), *change]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and key in error
    assert not (tmp_path / "out").exists()


def test_an_experiment_that_is_nowhere_is_one_line(capsys):
    assert main(["experiment", "--config", "no_such.yaml"]) == 2
    assert "experiments/feedback.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_each_shipped_experiment_is_whole(path):
    experiment = load_experiment(path)
    assert experiment.name == path.stem and len(experiment.seeds) == 5 and experiment.question.endswith("?")
    arms = [{**experiment.set, **arm} for arm in experiment.arms.values()]
    assert all(arm not in arms[:i] for i, arm in enumerate(arms))
    for arm in arms:  # settings whose values are names; a resolved config of each arm would take a second
        assert arm.get("feedback.strategy", "none") in STRATEGIES
        assert arm.get("feedback.label_check", "off") in ("off", "require", "relabel")
    every = {key: value for arm in arms for key, value in arm.items()}
    one = replace(experiment, seeds=(1,), set={}, arms={"all settings": every, "base": {}})
    known = iter([cli._resolved, lambda _: {"data": {"task": "news_topics"}}])
    config = plan_runs(one, lambda args: next(known)(args))[0].config
    for key, value in every.items():
        assert str(config.get(key, config.get(f"{key}.class_path"))) == str(value), key


def test_experiments_are_shipped():
    wanted = {"feedback", "strategies", "band", "loss", "student", "temperature", "prompts", "noise", "real_texts"}
    assert {path.stem for path in SHIPPED} == wanted
