"""The shares of right labels of real texts, by whose label it is."""

from benchmarks.text_labels import cell, right_by_round, true_labels
from gold_lightning.storage.round_store import BatchRecord, RoundStore, StoredSample
from gold_lightning.task import Sample, Task

NEWS = Task.load("news_topics")


def test_labels_by_generator_and_by_both_are_compared_with_the_truth(tmp_path):
    store = RoundStore(tmp_path, 0)
    texts = [
        StoredSample(f"r000-probe-u0000{i}", Sample({"text": f"item  {i}"}, "World"), 0, "", source="unlabelled")
        for i in range(4)
    ]
    record = BatchRecord("probe", 0, 4, 4, {}, 0, 0, 0.0, from_unlabelled=4)
    store.commit(record, texts, [], {"": ""}, {})
    sports = dict.fromkeys(NEWS.label_names, 0.1) | {"Sports": 0.7}
    store.write_energies([{"id": s.id, "kind": "probe", "energy": 0.0, "probabilities": sports} for s in texts])
    rows = [{"text": f"item {i}", "topic": label} for i, label in enumerate(["Sports", "Sports", "World", "nonsense"])]
    truth = true_labels(rows, NEWS, "topic")
    assert right_by_round(tmp_path, truth) == [
        {"generator": [False, False, True], "both": [True, True, False], "trained": []}
    ]
    assert cell([True, True, False]).startswith("66.7% (") and cell([]) == "-"
