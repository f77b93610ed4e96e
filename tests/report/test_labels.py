"""The balance of labels in a report, also of samples with several labels."""

from __future__ import annotations

from gold_lightning.report.labels import label_panel
from gold_lightning.report.run import read_run
from gold_lightning.storage.round_store import BatchRecord, RoundStore, StoredSample
from gold_lightning.task import Sample
from gold_lightning.watching.loggers import RoundRecord

SETS = {"none": [], "billing": ["billing"], "billing, delivery": ["billing", "delivery"]}
TARGETS = ["none", "billing", "billing", "billing, delivery", "billing, delivery", "billing, delivery"]


def write(folder, sets):
    store = RoundStore(folder, 0)
    samples = [
        StoredSample(
            id=f"r000-train-{i:05d}", sample=Sample({"message": f"m{i}"}, t), batch=0, prompt_hash="p", raw="m"
        )
        for i, t in enumerate(TARGETS)
    ]
    groups = [
        {"label": target, "feedback": False, "size": 3} | ({"labels": labels} if sets else {})
        for target, labels in SETS.items()
    ]
    reject = {
        "id": "r000-train-00009",
        "reason": "too_short",
        "label": "billing, delivery",
        "prompt_hash": "p",
        "raw": "x",
    }
    record = BatchRecord(
        kind="train", index=0, requested=7, accepted=6, rejects={"too_short": 1}, prompt_tokens=1, completion_tokens=1,
        seconds=1.0, groups=groups,
    )  # fmt: skip
    store.commit(record, samples, [reject], {"p": "prompt"}, {"generator": {}})
    return store


def test_labels_of_sets_are_counted_one_by_one(tmp_path):
    write(tmp_path, sets=True)
    run = read_run(tmp_path)
    assert run.many and run.labels == ("none", "billing", "delivery")
    by_label, by_size = label_panel(run).tables
    assert [row[:2] for row in by_label.rows] == [["none", "1"], ["billing", "5"], ["delivery", "3"]]
    assert [row[2:] for row in by_label.rows] == [
        ["16.7\u00a0%", "100.0\u00a0%"],
        ["83.3\u00a0%", "83.3\u00a0%"],
        ["50.0\u00a0%", "75.0\u00a0%"],
    ]
    assert by_size.rows == [["0", "1", "16.7\u00a0%"], ["1", "2", "33.3\u00a0%"], ["2", "3", "50.0\u00a0%"]]


def test_one_label_has_one_table(tmp_path):
    write(tmp_path, sets=False)
    run = read_run(tmp_path)
    assert not run.many and run.labels == tuple(SETS)
    (table,) = label_panel(run).tables
    assert [row[:2] for row in table.rows] == [["none", "1"], ["billing", "2"], ["billing, delivery", "3"]]


def test_loggers_count_labels_of_sets_too(tmp_path):
    store = write(tmp_path, sets=True)
    round_ = {
        "round": 0,
        "step": 1,
        "train": {"accepted": 6, "requested": 7, "rejects": {}},
        "trained_on": 6,
        "pool": 0,
    }
    round_ |= {"probe": {"accepted": 0, "requested": 0, "rejects": {}}, "feedback_prompts": 0, "fed_back": []}
    round_ |= {"tokens": {"completion": 1}, "tokens_so_far": {}, "seconds": {"generation": 1.0}, "band": [0.5, 0.8]}
    record = RoundRecord(round_, store, frozenset(), ["billing", "delivery"], SETS.get)
    assert (record.scalars["train/label_billing"], record.scalars["train/label_delivery"]) == (5, 3)
