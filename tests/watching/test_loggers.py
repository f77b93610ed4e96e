"""What loggers are shown of a round, apart from a run."""

import csv
import html
import math
import re
from collections import Counter
from types import SimpleNamespace

import pytest
from gold_lightning.data import GoldDataModule
from gold_lightning.feedback import FeedbackPool
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.storage.json_lines import read_lines, write_lines
from gold_lightning.synthesis import Synthesizer
from gold_lightning.task import Task
from gold_lightning.watching import loggers as tracking
from gold_lightning.watching.diversity import diversity
from gold_lightning.watching.loggers import RoundLogger, RoundRecord, RunCSVLogger, wandb_id
from lightning.pytorch.loggers import CSVLogger

from tests.fakes import NewsWriter

TASK = Task.load("news_topics")
HOSTILE = '<img src=x onerror="alert(1)"> ![](http://x.test/a.png) | `a` **b** \x1b[31m\n[c](javascript:d) \ud800'


def row(round_=0, **more):
    """A line of rounds.jsonl as OODFeedback writes it, with few numbers."""
    counts = {"requested": 20, "accepted": 16, "rejects": {"too_short": 3, "empty": 1}}
    summary = {"mean": -2.0, "q50": -2.0}
    return {
        "round": round_,
        "step": 4 * (round_ + 1),
        "train": counts,
        "probe": {"requested": 8, "accepted": 8, "rejects": {}},
        "trained_on": 16,
        "feedback_prompts": 0,
        "tokens": {"calls": 28, "prompt": 100, "completion": 60, "reused_calls": 0},
        "tokens_so_far": {"calls": 28, "prompt": 100, "completion": 60, "reused_calls": 0, "cost": 0.5},
        "seconds": {"generation": 3.0, "training": 2.0, "scoring": 1.0},
        "energy": {"probe": summary, "train": summary},
        "auroc": 0.5,
        "strategy": "energy_band",
        "band": [0.5, 0.75],
        "fed_back": [],
        "pool": 0,
        "metrics": {"val/accuracy": 0.75, "val/metric": 0.75, "train/loss": 1.0},
    } | more


@pytest.fixture
def store(tmp_path):
    """A round of 16 training and 8 probe samples, scored: the probe set from 0 to 7, training samples at 0."""
    made = Synthesizer(TASK, NewsWriter(), tmp_path, SynthesisPlan(samples_per_round=16, probe_per_round=8), 1)
    train, probe = made.train(0, FeedbackPool(), 0.0), made.probe(0)
    scored = [
        {"id": s.id, "kind": "probe", "energy": float(i), "loss": 0.5, "fed_back": i in (4, 5)}
        for i, s in enumerate(probe)
    ]
    scored += [{"id": s.id, "kind": "train", "energy": 0.0, "fed_back": False} for s in train]
    made.store(0).write_energies(scored)
    return made.store(0)


def test_histograms_hold_every_sample_between_the_same_edges(store):
    found = RoundRecord(row(), store).histograms
    assert {kind: sum(counts) for kind, (counts, _) in found.items()} == {"probe": 8, "train": 16, "fed_back": 2}
    assert len({tuple(edges) for _, edges in found.values()}) == 1
    counts, edges = found["train"]
    assert counts[0] == 16 and (edges[0], edges[-1]) == (0.0, 7.0)


def test_energies_that_are_not_finite_are_left_out(store):
    scored = store.energies()
    scored[0]["energy"], scored[1]["energy"] = math.inf, math.nan
    store.write_energies(scored)
    assert sum(RoundRecord(row(), store).histograms["probe"][0]) == 6
    store.write_energies([])
    bare = RoundRecord(row(), store)
    assert bare.histograms == {} and bare.band is None and bare.fed_back() == [] and bare.scalars


def test_the_band_is_of_the_probe_set_and_of_its_strategy(store):
    assert RoundRecord(row(), store).band == (3.5, 5.25)
    assert RoundRecord(row(strategy="random"), store).band is None


def test_the_figure_shows_counts_and_band(store):
    (axes,) = RoundRecord(row(), store).figure().axes
    assert [t.get_text() for t in axes.get_legend().get_texts()] == [
        "training samples",
        "probe set",
        "fed back",
        "band 0.5 to 0.75",
    ]
    assert [sum(p.get_data().values) for p in axes.patches if hasattr(p, "get_data")] == [16, 8, 2]
    (axes,) = RoundRecord(row(strategy="none"), store).figure().axes
    assert "band" not in " ".join(t.get_text() for t in axes.get_legend().get_texts())


def test_what_was_fed_back_comes_with_the_prompt_that_made_it(store):
    prompts = {r["hash"]: r["prompt"] for r in read_lines(store.folder / "prompts.jsonl")}
    samples = store.accepted("probe")
    assert RoundRecord(row(), store).fed_back() == [
        {
            "id": samples[i].id,
            "text": samples[i].sample.fields["text"],
            "target": samples[i].sample.target,
            "energy": float(i),
            "loss": 0.5,
            "source": "generator",
            "prompt": prompts[samples[i].prompt_hash],
        }
        for i in (4, 5)
    ]


def test_scalars_by_hand(store):
    found = RoundRecord(
        row(), store, frozenset({("train", "too_short"), ("probe", "copied")}), TASK.label_names
    ).scalars
    assert (found["round/yield"], found["round/probe_yield"]) == (0.8, 1.0)
    assert (found["train/rejects_too_short"], found["probe/rejects_copied"]) == (3, 0)
    assert [found[f"train/label_{name}"] for name in TASK.label_names] == [4, 4, 4, 4]
    assert (found["run/tokens_prompt"], found["run/cost"], found["round/tokens_per_second"]) == (100, 0.5, 20.0)
    assert found["round/samples_per_second"] == 8.0
    measures = diversity([s.sample.text for s in store.accepted("train")])
    assert {
        name: found[f"train/{name}"] for name in ("distinct_2", "self_bleu", "words_q50")
    }.items() <= measures.items()
    assert measures["words_q50"] > 5
    assert "val/accuracy" not in found  # Lightning logs it
    missed = RoundRecord(row(), store, missed=True).scalars
    assert (missed["val/accuracy"], missed["probe/energy_mean"], missed["probe/auroc"]) == (0.75, -2.0, 0.5)
    assert "train/loss" not in missed


def test_what_the_generator_wrote_is_no_markup_in_tensorboard():
    rows = [{"energy": 1.0, "target": "<b>", "text": HOSTILE, "prompt": "p"}] * 21
    shown = tracking._markdown(rows)
    lines = shown.splitlines()
    assert lines[-1] == "20 of 21" and all(line.count("|") == 5 for line in lines[:22])
    cell = lines[2].split(" | ")[2]
    assert set(re.sub(r"&#\d+;", "", cell)) <= set("abcdefghijklmnopqrstuvwxyz0123456789 ")
    assert html.unescape(cell.replace("&#55296;", "")) == HOSTILE[:-1].replace("\n", " ").replace("\x1b", "")
    from markdown import markdown  # what TensorBoard renders with

    tags = re.findall(r"<(\w+)", markdown(shown, extensions=["tables"]).partition("<tbody>")[2])
    assert Counter(tags) == {"tr": 20, "td": 80, "p": 1}


def logged(run_dir):
    with (run_dir / "metrics.csv").open(newline="") as file:
        return [(r["loss"], r["round/number"], r["step"]) for r in csv.DictReader(file)]


def test_the_csv_file_goes_on_and_forgets_what_came_from_a_step_on(tmp_path):
    first = RunCSVLogger(str(tmp_path))
    first.log_metrics({"loss": 3.0}, step=1)
    first.log_metrics({"round/number": 0.0}, step=2)
    first.log_metrics({"loss": 1.0}, step=3)
    first.save()
    second = RunCSVLogger(str(tmp_path))
    second.forget_from(3)
    assert second.rounds() == {0} and logged(tmp_path) == [("3.0", "", "1"), ("", "0.0", "2")]
    second.log_metrics({"loss": 2.0, "other": 1.0}, step=3)
    second.save()
    assert logged(tmp_path) == [("3.0", "", "1"), ("", "0.0", "2"), ("2.0", "", "3")]
    third = RunCSVLogger(str(tmp_path))
    third.forget_from(0)
    assert third.rounds() == set() and not (tmp_path / "metrics.csv").exists()


def test_the_csv_file_is_read_once_whatever_the_number_of_rounds(tmp_path, tiny_student, store, monkeypatch):
    data = GoldDataModule(student=tiny_student, run_dir=str(tmp_path))
    logger = RunCSVLogger(str(tmp_path))
    trainer = SimpleNamespace(datamodule=data, loggers=[logger], is_global_zero=True, global_step=0)
    reads = []
    rows_of = RunCSVLogger._rows
    monkeypatch.setattr(RunCSVLogger, "_rows", lambda self: reads.append(1) or rows_of(self))
    callback = RoundLogger()
    callback.on_train_start(trainer, None)
    for number in range(12):
        write_lines(tmp_path / "rounds.jsonl", [row(r) | {"step": 4 * (r + 1)} for r in range(number + 1)])
        data.round = number + 1
        callback.on_train_epoch_end(trainer, None)
    assert [r for _, r, _ in logged_rounds(tmp_path)] == [str(r) for r in range(12)] and len(reads) <= 3
    again = RunCSVLogger(str(tmp_path))
    again.forget_from(20)
    assert again.rounds() == {0, 1, 2, 3, 4}
    again.log_metrics({"round/number": 5}, step=23)
    assert again.rounds() == {0, 1, 2, 3, 4, 5}


def logged_rounds(run_dir):
    with (run_dir / "metrics.csv").open(newline="") as file:
        return [(r["step"], r["round/number"], r) for r in csv.DictReader(file) if r["round/number"]]


def test_a_run_folder_has_one_id(tmp_path):
    made = wandb_id(tmp_path / "a")
    assert re.fullmatch(r"[0-9a-f]{8}", made) and wandb_id(tmp_path / "a") == made != wandb_id(tmp_path / "b")
    (tmp_path / "a" / "wandb_id").write_text("")  # a kill
    assert re.fullmatch(r"[0-9a-f]{8}", wandb_id(tmp_path / "a"))


class Memory(CSVLogger):
    """A logger that keeps what it is given and forgets nothing."""

    def __init__(self, version):
        super().__init__("unused", version=version)
        self.given = []

    def log_metrics(self, metrics, step=None):
        self.given.append((metrics["round/number"], step))

    def save(self):
        pass


def test_each_logger_is_shown_each_round_once_and_again_only_if_it_was_made_again(
    store, tmp_path, tiny_student, caplog
):
    data = GoldDataModule(student=tiny_student, run_dir=str(tmp_path))
    data.round = 1
    one, two = Memory("one"), Memory("two")
    trainer = SimpleNamespace(datamodule=data, loggers=[one], is_global_zero=True, global_step=4)
    write_lines(tmp_path / "rounds.jsonl", [row(0), row(1)])  # round 1 was cut off before its checkpoint
    callback = RoundLogger()
    for _ in range(2):
        callback.on_train_start(trainer, None)
    assert one.given == [(0, 3)]
    trainer.loggers.append(two)  # new to the run
    callback.on_train_start(trainer, None)
    assert one.given == two.given == [(0, 3)]
    data.round = 2
    store.folder.rename(store.folder.with_name("round_001"))
    callback.on_train_epoch_end(trainer, None)
    assert one.given == two.given == [(0, 3), (1, 7)] and not caplog.records
    other = row(1) | {"train": row()["train"] | {"requested": 21}}
    write_lines(tmp_path / "rounds.jsonl", [row(0), other | {"seconds": row()["seconds"] | {"training": 9.0}}])
    callback.on_train_epoch_end(trainer, None)
    assert one.given == [(0, 3), (1, 7), (1, 7)]
    assert "round 1 was generated again with other samples; Memory/one has both" in caplog.text
    trainer.is_global_zero = False
    trainer.loggers.append(Memory("three"))
    callback.on_train_epoch_end(trainer, None)
    assert trainer.loggers[-1].given == []
