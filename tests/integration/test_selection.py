"""Rounds are compared on the same rows: the best one is scored anew on each new probe set, or all on labelled rows."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import yaml
from gold_lightning.callbacks import OODFeedback
from gold_lightning.checkpoints import best as checkpoint
from gold_lightning.checkpoints.best import BestCheckpoint
from gold_lightning.checkpoints.selection import borrowed_weights
from gold_lightning.data import GoldDataModule
from gold_lightning.inputs.task_files import find_task_file
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.rounds import RoundEnd, SeedSteps
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.student import T5Student
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from tests.fakes import NewsWriter

PLAN = SynthesisPlan(samples_per_round=8, probe_per_round=12, group_size=2, decontaminate="off")
# How many of the twelve probe samples of each round the student of a round gets right: SKILL[student][probe set].
# On its own probe set round 0 is the best and round 2 the worst; on the probe sets of all rounds it is the other way.
SKILL = [[12, 0, 0, 0], [8, 8, 2, 2], [9, 9, 7, 3], [3, 3, 3, 8]]


def make_skilled(patch):
    """Makes students as good as SKILL says; one of their weights is the number of the round that trained them."""

    def train(self, batch, batch_idx):
        with torch.no_grad():
            self.model.shared.weight[0, 0] = self.trainer.datamodule.round
        return step(self, batch, batch_idx)

    def update(self, stage, predictions, batch):
        student, data = int(self.model.shared.weight[0, 0]), self.trainer.datamodule
        right = set()
        for r in range(len(SKILL)):
            right |= {s.sample.text for s in data.store(r).accepted("probe")[: SKILL[student][r]]}
        rows = data.watched(data.round).samples
        for i, row in enumerate(batch["id"].tolist()):
            predictions[i] = batch["targets"][i][0] if rows[row].text in right else "nothing"
        for _, metric in self._stage_metrics(stage):
            metric.update(predictions, batch["targets"], batch["id"])

    step = T5Student.training_step
    patch.setattr(T5Student, "training_step", train)
    patch.setattr(T5Student, "_update", update)


@pytest.fixture
def skilled(monkeypatch):
    make_skilled(monkeypatch)


def callbacks(folder, monitor="val/metric", mode="max", patience=9):
    keep = {"enable_version_counter": False, "save_on_train_epoch_end": True}
    return [
        SeedSteps(),  # a resumed run has the dropout of one that was left alone
        OODFeedback(),
        RoundEnd(),
        EarlyStopping(monitor=monitor, mode=mode, patience=patience),
        BestCheckpoint(folder / "checkpoints", monitor=monitor, mode=mode, filename="best", **keep),
        ModelCheckpoint(folder / "checkpoints", filename="last", **keep),
    ]


def fit(folder, student, rounds=4, resume=False, task="news_topics", **how):
    data = GoldDataModule(
        task, NewsWriter(0.0), PLAN, str(folder), student, passes_per_round=1, reuse_completions=False
    )
    model = T5Student(task, student, embedding_lr=0)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(max_epochs=rounds, callbacks=callbacks(folder, **how), default_root_dir=folder, **quiet)
    trainer.fit(model, datamodule=data, ckpt_path=folder / "checkpoints" / "last.ckpt" if resume else None)
    return trainer


def rows_of(folder):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_lines(folder / "rounds.jsonl")]


def saved(folder, name="best"):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_student):
    """Four rounds, left alone."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        make_skilled(patch)
        fit(folder, tiny_student)
    return folder


def assert_same(folder, whole):
    assert rows_of(folder) == rows_of(whole)
    for name in ("best", "last"):
        one, two = saved(folder, name), saved(whole, name)
        assert one["epoch"] == two["epoch"]
        assert all(torch.equal(one["state_dict"][k], two["state_dict"][k]) for k in one["state_dict"])
        for key in one["callbacks"]:
            if key.startswith("EarlyStopping"):
                assert one["callbacks"][key]["wait_count"] == two["callbacks"][key]["wait_count"]
                assert one["callbacks"][key]["best_score"] == two["callbacks"][key]["best_score"]


def test_each_round_is_compared_with_the_best_on_the_probe_sets_of_all(whole):
    rows = rows_of(whole)
    assert [row["validated_on"] for row in rows] == [{"rows": 12 * r, "probe_sets": r} for r in (1, 2, 3, 4)]
    own = [12, 16, 25, 17]
    assert [row["metrics"]["val/metric"] for row in rows] == pytest.approx(
        [n / (12 * (r + 1)) for r, n in enumerate(own)]
    )
    compared = [(row["selection"]["best_before"], row["selection"]["best"]) for row in rows]
    assert compared == [(None, 0), (0, 1), (1, 2), (2, 2)]
    before = [row["selection"]["before"].get("val/metric") for row in rows]
    assert before[0] is None and before[1:] == pytest.approx([12 / 24, 18 / 36, 28 / 48])
    assert saved(whole)["epoch"] == 2 and saved(whole)["state_dict"]["model.shared.weight"][0, 0] == 2
    assert saved(whole, "last")["state_dict"]["model.shared.weight"][0, 0] == 3  # its own weights are back
    assert [len(row["fed_back"]) for row in rows] == [4] * 4  # of its own probe set alone
    for row in rows:
        own = RoundStore(whole, row["round"], read_only=True).accepted("probe")
        assert set(row["fed_back"]) <= {s.id for s in own}


class Killed(RuntimeError):
    """Stands for a kill."""


@pytest.mark.usefixtures("skilled")
@pytest.mark.parametrize(
    ("when", "round_"),
    [
        ("before the best is scored", 1),
        ("while the best is scored", 2),
        ("before saving", 3),
        ("between", 1),
        ("between", 2),
        ("between", 3),
    ],
)
def test_a_kill_while_rounds_are_compared_changes_nothing(whole, tmp_path, tiny_student, monkeypatch, when, round_):
    def killing(real, at_round):
        def run(self, *args, **how):
            trainer = self.trainer if isinstance(self, T5Student) else args[0]
            if trainer.datamodule.round >= at_round:
                raise Killed(when)
            return real(self, *args, **how)

        return run

    with monkeypatch.context() as patch:
        owner, name, at_round = {
            "before the best is scored": (BestCheckpoint, "_compare_on_same_rows", round_),
            "while the best is scored": (T5Student, "evaluate", round_),
            "before saving": (ModelCheckpoint, "on_train_epoch_end", round_ + 1),
        }.get(when, (None, "", 0))
        if when == "between":  # the best checkpoint is saved, the last one is not
            real = ModelCheckpoint.on_train_epoch_end

            def last(self, trainer, pl_module):
                if type(self) is ModelCheckpoint and trainer.datamodule.round > round_:
                    raise Killed(when)
                real(self, trainer, pl_module)

            patch.setattr(ModelCheckpoint, "on_train_epoch_end", last)
        else:
            patch.setattr(owner, name, killing(getattr(owner, name), at_round))
        with pytest.raises(Killed):
            fit(tmp_path, tiny_student)
    assert saved(tmp_path, "last")["GoldDataModule"]["round"] == round_
    fit(tmp_path, tiny_student, resume=True)
    assert_same(tmp_path, whole)


@pytest.mark.usefixtures("skilled")
def test_early_stopping_counts_rounds_that_are_no_better_on_the_same_rows(tmp_path, tiny_student, monkeypatch):
    # Each student is better on the rows so far, and worse on its own probe set: 12, 11, 10, 9 of 12.
    monkeypatch.setattr(
        "tests.integration.test_selection.SKILL", [[12, 0, 0, 0], [12, 11, 0, 0], [12, 12, 10, 0], [12] * 3 + [9]]
    )
    trainer = fit(tmp_path, tiny_student, patience=1)
    assert trainer.current_epoch == 4 and saved(tmp_path)["epoch"] == 3
    # And the other way round: no better on the same rows, better on its own.
    monkeypatch.setattr(
        "tests.integration.test_selection.SKILL", [[3, 12, 12, 12], [0, 4, 0, 0], [0, 0, 5, 0], [0, 0, 0, 6]]
    )
    trainer = fit(tmp_path / "b", tiny_student, patience=2)
    assert trainer.current_epoch == 3 and saved(tmp_path / "b")["epoch"] == 0


@pytest.mark.usefixtures("skilled")
def test_of_equally_good_rounds_the_latest_is_kept_and_stops_a_plateau(tmp_path, tiny_student, monkeypatch):
    monkeypatch.setattr("tests.integration.test_selection.SKILL", [[5, 5, 5, 5]] * 4)
    trainer = fit(tmp_path, tiny_student, patience=2)
    assert trainer.current_epoch == 3 and saved(tmp_path)["epoch"] == 2
    assert [row["selection"]["best"] for row in rows_of(tmp_path)] == [0, 1, 2]


def test_a_loss_is_compared_on_the_same_rows_too(tmp_path, tiny_student):
    fit(tmp_path, tiny_student, rounds=3, monitor="val/loss", mode="min")
    rows = rows_of(tmp_path)
    for row in rows[1:]:
        selection = row["selection"]
        better = row["metrics"]["val/loss"] <= selection["before"]["val/loss"]
        assert selection["best"] == (row["round"] if better else selection["best_before"])
    assert saved(tmp_path)["epoch"] == rows[-1]["selection"]["best"]


def test_what_is_no_validation_metric_is_compared_as_it_is(tmp_path, tiny_student):
    fit(tmp_path, tiny_student, rounds=3, monitor="train/loss", mode="min")
    losses = [row["metrics"]["train/loss"] for row in rows_of(tmp_path)]
    assert saved(tmp_path)["epoch"] == losses.index(min(losses)) and "selection" not in rows_of(tmp_path)[0]


@pytest.mark.usefixtures("skilled")
def test_the_best_student_scores_as_it_did(tmp_path, tiny_student, monkeypatch):
    # Scored on the rows that it was validated on, it has the very same numbers.
    seen = []

    def rescored(self, batches):
        found = evaluate(self, batches)
        seen.append((self.trainer.datamodule.round, found))
        return found

    evaluate = T5Student.evaluate
    monkeypatch.setattr(T5Student, "evaluate", rescored)
    watched = GoldDataModule.watched
    monkeypatch.setattr(GoldDataModule, "watched", lambda self, round_: watched(self, 0))
    monkeypatch.setattr(checkpoint.BestCheckpoint, "best_rows", property(lambda self: "", lambda self, value: None))
    fit(tmp_path, tiny_student, rounds=2)
    rows = rows_of(tmp_path)
    assert seen[0][0] == 1 and seen[0][1]["val/metric"] == rows[0]["metrics"]["val/metric"] == 1.0
    assert seen[0][1]["val/loss"] == pytest.approx(rows[0]["metrics"]["val/loss"], rel=1e-6)


@pytest.mark.usefixtures("skilled")
def test_a_run_folder_of_before_goes_on(whole, tmp_path, tiny_student):
    shutil.copytree(whole, tmp_path / "run")
    for row in (rows := read_lines(tmp_path / "run" / "rounds.jsonl")):
        del row["selection"], row["validated_on"], row["not_fed_back"]
    (tmp_path / "run" / "rounds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))
    # As it stood after round 2, with the best round by its own probe set: round 0.
    for name, source in (("last", 2), ("best", 0)):
        fit(tmp_path / str(source), tiny_student, rounds=source + 1)
        held = saved(tmp_path / str(source), "last")
        for state in held["callbacks"].values():
            if "best_model_score" in state:
                state.pop("best_round", None), state.pop("best_rows", None)
                if state["best_model_path"].endswith("best.ckpt"):
                    path = str(tmp_path / "run" / "checkpoints" / "best.ckpt")
                    state |= {
                        "best_model_path": path,
                        "kth_best_model_path": path,
                        "dirpath": str(tmp_path / "run" / "checkpoints"),
                    }
                    state |= {"best_k_models": {path: torch.tensor(1.0)}, "best_model_score": torch.tensor(1.0)}
        torch.save(held, tmp_path / "run" / "checkpoints" / f"{name}.ckpt")
    fit(tmp_path / "run", tiny_student, resume=True)
    (row,) = rows_of(tmp_path / "run")[3:]
    assert row["selection"]["best_before"] == 0 and row["selection"]["best"] == 3  # 17 of 48 against 12
    assert row["selection"]["before"]["val/metric"] == pytest.approx(12 / 48) and saved(tmp_path / "run")["epoch"] == 3


@pytest.mark.usefixtures("skilled")
@pytest.mark.parametrize("damage", ["gone", "torn", "moved"])
def test_a_best_checkpoint_that_is_lost_is_told_and_one_that_moved_is_found(damage, tmp_path, tiny_student, caplog):
    fit(tmp_path / "a", tiny_student, rounds=3)
    path = tmp_path / "a" / "checkpoints" / "best.ckpt"
    if damage == "gone":
        path.unlink()
    elif damage == "torn":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        (tmp_path / "a").rename(tmp_path / "b")
    folder = tmp_path / ("b" if damage == "moved" else "a")
    fit(folder, tiny_student, resume=True)
    best = rows_of(folder)[-1]["selection"]["best"]
    assert ("rounds are compared from this one on" in caplog.text) == (damage != "moved")
    assert best == saved(folder)["epoch"] == (2 if damage == "moved" else 3)


def labelled(folder, count=40, **more):
    """The shipped task with validation rows of its own."""
    folder.mkdir(exist_ok=True)
    task = yaml.safe_load(find_task_file("news_topics").read_text(encoding="utf-8"))
    topics = [label["name"] for label in task["labels"]]
    lines = [{"text": f"A report about the case number {i} of the week.", "topic": topics[i % 4]} for i in range(count)]
    (folder / "held_out.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "task.yaml").write_text(yaml.safe_dump(task | {"validation": {"file": "held_out.jsonl", **more}}))
    return str(folder / "task.yaml")


def test_labelled_rows_are_watched_where_a_task_names_some(tmp_path, tiny_student, monkeypatch, caplog):
    def rescore(*_):
        raise AssertionError("the rows are the same in each round")

    caplog.set_level("INFO", "gold_lightning")
    monkeypatch.setattr(checkpoint, "rescore", rescore)
    task = labelled(tmp_path / "task")
    fit(tmp_path / "run", tiny_student, rounds=3, task=task)
    rows = rows_of(tmp_path / "run")
    assert [row["validated_on"] for row in rows] == [{"rows": 40, "probe_sets": 0}] * 3
    assert "on 40 labelled rows" in caplog.text and [row["probe"]["accepted"] for row in rows] == [12] * 3
    assert [len(row["fed_back"]) for row in rows] == [4] * 3
    values = [row["metrics"]["val/metric"] for row in rows]
    best = max(range(3), key=lambda r: (values[r], r))
    assert rows[-1]["selection"]["best"] == best == saved(tmp_path / "run")["epoch"]
    # They are in no prompt.
    prompts = "".join(p.read_text() for p in (tmp_path / "run").rglob("prompts.jsonl"))
    assert prompts and "A report about the case" not in prompts
    assert not any("validation_overlap" in row for row in rows)  # decontaminate is off


def test_rows_that_come_later_or_change_are_scored_anew(tmp_path, tiny_student):
    fit(tmp_path / "run", tiny_student, rounds=2)
    task = labelled(tmp_path / "task")
    fit(tmp_path / "run", tiny_student, rounds=3, task=task, resume=True)  # the same samples: no other task
    labelled(tmp_path / "task", 44)
    fit(tmp_path / "run", tiny_student, rounds=4, task=task, resume=True)
    rows = rows_of(tmp_path / "run")
    assert [row["validated_on"]["rows"] for row in rows] == [12, 24, 40, 44]
    assert len({row["selection"]["rows"] for row in rows}) == 4
    assert rows[2]["selection"]["best_before"] == rows[1]["selection"]["best"]


def test_what_samples_share_with_validation_rows_is_measured(tmp_path, tiny_student):
    task = labelled(tmp_path)
    data = GoldDataModule(
        task, NewsWriter(0.0), SynthesisPlan(samples_per_round=8, group_size=2), str(tmp_path / "r"), tiny_student
    )
    shared = data.synthesizer.train(0, data.pool, 0.0)[0].sample
    line = {"text": shared.fields["text"], "topic": "World"}
    (tmp_path / "held_out.jsonl").write_text(json.dumps(line) + "\n")
    data = GoldDataModule(
        task, NewsWriter(0.0), SynthesisPlan(samples_per_round=8, group_size=2), str(tmp_path / "r"), tiny_student
    )
    samples = [stored.sample for stored in data.store().accepted("train")]
    overlaps = data.validation.overlaps({"train": samples, "demos": data.task.demos})
    assert overlaps["train"]["any"] == 1 and overlaps["train"]["samples"] == 8 and overlaps["demos"]["any"] == 0


def test_borrowed_weights_are_given_back(tiny_student):
    student = T5Student("news_topics", tiny_student)
    before = {name: weight.clone() for name, weight in student.state_dict().items()}
    other = {name: torch.zeros_like(weight) for name, weight in before.items()}
    with pytest.raises(Killed), borrowed_weights(student, other):
        assert not student.training and not any(w.any() for w in student.model.parameters())
        raise Killed
    assert student.training and all(torch.equal(w, before[name]) for name, w in student.state_dict().items())
