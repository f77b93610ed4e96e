"""The comparison of stores: both hold the same samples."""

from benchmarks import stores


def test_both_stores_give_back_what_was_written(tmp_path):
    written = [row for rows in stores.batches(300) for row in rows[1]]
    for kind in (stores.JsonLines, stores.Sqlite):
        folder = tmp_path / kind.__name__
        store, keys = kind(folder), []
        for rows in stores.batches(300):
            store.commit(*rows)
            keys += [row["key"] for row in rows[0]]
        again = kind(folder)
        assert [(s.id, s.sample, s.prompt_hash) for s in again.samples()] == [
            (s.id, s.sample, s.prompt_hash) for s in written
        ]
        assert again.find([*keys, "unknown"]) == len(keys) == 256


def test_each_phase_is_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind in (stores.JsonLines, stores.Sqlite):
        values = stores.measure(kind, 240)
        assert all(values[name] > 0 for name in ("written", "opened again", "all samples read", "looked up"))
        assert values["size, MB"] > 0.05
