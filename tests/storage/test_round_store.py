"""The durable store: what is committed survives anything, what is not is gone."""

import contextlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from gold_lightning.errors import GoldError
from gold_lightning.storage import sample_rows
from gold_lightning.storage.json_lines import read_lines, write_lines
from gold_lightning.storage.round_store import BatchRecord, RoundStore, StoredSample
from gold_lightning.storage.run_folder import copy_round
from gold_lightning.task import Sample

FILES = ("train", "probe", "rejects", "prompts", "batches")


def stored(number, batch=0, text="text", kind="train"):
    return StoredSample(
        id=f"r000-{kind}-{number:05d}",
        sample=Sample({"text": f"{text} {number}"}, "A"),
        batch=batch,
        prompt_hash="hash",
        demo_ids=("demo-0",),
        hint={"topic": "x"},
        seed=number,
        raw=f" {text} {number}",
    )


def commit(store, index, kind="train", text="text", count=2):
    samples = [stored(index * 10 + i, index, text, kind) for i in range(count)]
    rejects = [{"id": f"r000-{kind}-{index * 10 + 9:05d}", "reason": "empty", "raw": ""}]
    record = BatchRecord(kind, index, count + 1, count, {"empty": 1}, 100, 10, 0.5, [{"label": "A", "size": count + 1}])
    store.commit(
        record,
        samples,
        rejects,
        {f"hash-{kind}-{index}": f"prompt {text}", "hash": "shared"},
        {"generator": {"class": "x"}},
    )
    return samples


def contents(folder):
    return {name: (folder / f"{name}.jsonl").read_bytes() for name in FILES if (folder / f"{name}.jsonl").exists()}


def test_committed_rows_survive(tmp_path):
    store = RoundStore(tmp_path, 3)
    made = commit(store, 0) + commit(store, 1)
    probes = commit(store, 0, "probe")
    assert store.folder == tmp_path / "data" / "round_003"
    again = RoundStore(tmp_path, 3)
    assert list(again.accepted("train")) == made == list(store.accepted("train"))
    assert list(again.accepted("probe")) == probes
    assert list(again.batches("train")) == list(store.batches("train"))
    assert again.rejects("train") == Counter(empty=2)
    assert again.rejects("probe") == Counter(empty=1)


def test_rows_hold_their_provenance(tmp_path):
    commit(RoundStore(tmp_path, 0), 0)
    row = read_lines(tmp_path / "data/round_000/train.jsonl")[0]
    wanted = {"id", "fields", "target", "prompt_hash", "demo_ids", "generator", "raw", "seed", "hint"}
    assert wanted <= row.keys()
    assert row["fields"] == {"text": "text 0"}
    assert row["generator"] == {"class": "x"}


def test_real_texts_are_told_from_generated_ones(tmp_path):
    store = RoundStore(tmp_path, 0)
    commit(store, 0, "probe")
    real = replace(stored(7, 1, kind="probe"), source="unlabelled", probabilities={"A": 0.75, "B": 0.25})
    store.commit(BatchRecord("probe", 1, 1, 1, {}, 9, 0, 0.1, from_unlabelled=1), [real], [], {}, {})
    again = RoundStore(tmp_path, 0)
    assert [s.source for s in again.accepted("probe")] == ["generator", "generator", "unlabelled"]
    assert again.accepted("probe")[-1] == real and again.batches("probe")[-1].from_unlabelled == 1
    rows = read_lines(store.folder / "probe.jsonl")
    assert "source" not in rows[0] and rows[-1]["probabilities"] == {"A": 0.75, "B": 0.25}


def test_a_prompt_is_stored_once(tmp_path):
    store = RoundStore(tmp_path, 0)
    commit(store, 0)
    commit(store, 1)
    store = RoundStore(tmp_path, 0)
    commit(store, 2)
    hashes = [row["hash"] for row in read_lines(store.folder / "prompts.jsonl")]
    assert sorted(hashes) == ["hash", "hash-train-0", "hash-train-1", "hash-train-2"]


def test_rounds_are_apart(tmp_path):
    commit(RoundStore(tmp_path, 0), 0)
    assert list(RoundStore(tmp_path, 1).accepted("train")) == []


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("torn", [b'{"id": "r0', b"\x00" * 30, b'{"a": "\xff\xfe', b"[1]\n", b"\n", b"nonsense\n"])
def test_a_torn_last_line_is_cut_off(tmp_path, name, torn):
    store = RoundStore(tmp_path, 0)
    made = commit(store, 0)
    commit(store, 0, "probe")
    before = contents(store.folder)
    with (store.folder / f"{name}.jsonl").open("ab") as file:
        file.write(torn)
    again = RoundStore(tmp_path, 0)
    assert list(again.accepted("train")) == made
    assert contents(store.folder) == before
    commit(again, 1)
    assert len(RoundStore(tmp_path, 0).accepted("train")) == 4


def killed_before(tmp_path, name):
    """A store whose second training batch was written up to, but without, the file of that name."""
    store = RoundStore(tmp_path, 0)
    commit(store, 0)
    before = contents(store.folder)
    commit(store, 1)
    order = ("prompts", "rejects", "train", "batches")
    for late in order[order.index(name) :]:
        (store.folder / f"{late}.jsonl").write_bytes(before[late])
    return store.folder, before


@pytest.mark.parametrize("name", ["rejects", "train", "batches"])
def test_an_uncommitted_batch_is_dropped_on_reopening(tmp_path, name):
    folder, before = killed_before(tmp_path, name)
    assert contents(folder) != before
    again = RoundStore(tmp_path, 0)
    assert contents(folder) == before
    assert len(again.accepted("train")) == 2
    assert len(again.batches("train")) == 1
    commit(again, 1, text="another")
    texts = [s.sample.fields["text"] for s in RoundStore(tmp_path, 0).accepted("train")]
    assert texts == ["text 0", "text 1", "another 10", "another 11"]
    assert "prompt another" in [row["prompt"] for row in read_lines(folder / "prompts.jsonl")]


def test_an_uncommitted_probe_batch_does_not_ride_on_a_training_batch(tmp_path):
    store = RoundStore(tmp_path, 0)
    commit(store, 0)
    commit(store, 0, "probe")
    rows = [r for r in read_lines(store.folder / "batches.jsonl") if r["kind"] == "train"]
    write_lines(store.folder / "batches.jsonl", rows)
    again = RoundStore(tmp_path, 0)
    assert len(again.accepted("train")) == 2
    assert list(again.accepted("probe")) == []
    assert read_lines(store.folder / "probe.jsonl") == []


def test_read_only_leaves_the_files_as_they_are(tmp_path):
    folder, _ = killed_before(tmp_path, "batches")
    with (folder / "train.jsonl").open("ab") as file:
        file.write(b'{"torn')
    before = contents(folder)
    again = RoundStore(tmp_path, 0, read_only=True)
    assert len(again.accepted("train")) == 2
    assert contents(folder) == before


def test_batches_must_come_in_turn(tmp_path):
    store = RoundStore(tmp_path, 0)
    with pytest.raises(ValueError, match="batch 1 is not the next one"):
        commit(store, 1)
    commit(store, 0)
    with pytest.raises(ValueError, match="batch 0 is not the next one"):
        commit(store, 0)
    assert len(store.accepted("train")) == 2


@pytest.mark.parametrize(
    "text", ["\ud800 alone", "a\udfffb", "\u2028\u2029\x85\x0b\x1c", "\x00", "\U0001f600", 'quote " \\ud800', "a\r\nb"]
)
def test_any_text_survives(tmp_path, text):
    made = commit(RoundStore(tmp_path, 0), 0, text=text)
    again = RoundStore(tmp_path, 0)
    assert list(again.accepted("train")) == made
    assert again.accepted("train")[0].raw == f" {text} 0"
    for name in FILES:
        if (again.folder / f"{name}.jsonl").exists():
            (again.folder / f"{name}.jsonl").read_text(encoding="utf-8")  # other tools can read it
    commit(again, 1, text=text)
    assert len(RoundStore(tmp_path, 0).accepted("train")) == 4


PARTS = {"task": "1", "generator": "2", "plan": "3", "seed": "4"}


@pytest.mark.parametrize("part", [p for p in [*PARTS, "feedback"] if p != "task"])
def test_samples_that_were_asked_for_in_another_way_are_set_aside(tmp_path, part, caplog):
    store = RoundStore(tmp_path, 0)
    store.require_fingerprint("train", PARTS)
    commit(store, 0)
    probes = commit(store, 0, "probe")
    again = RoundStore(tmp_path, 0)
    again.require_fingerprint("train", PARTS)
    assert again.accepted("train") and not caplog.records
    before = contents(store.folder)
    again.require_fingerprint("train", {**PARTS, part: "other"})
    (told,) = (r.getMessage() for r in caplog.records)
    assert f"its training samples were asked for with another {part};" in told
    kept = tmp_path / "data" / "replaced_round_000_1"
    assert str(kept) in told and contents(kept) == before
    for store in (again, RoundStore(tmp_path, 0)):
        assert not store.accepted("train") and not store.batches("train")
        assert list(store.accepted("probe")) == probes  # kinds are apart
    new = commit(again, 0, text="new")
    caplog.clear()
    last = RoundStore(tmp_path, 0)
    last.require_fingerprint("train", {**PARTS, part: "other"})
    assert list(last.accepted("train")) == new and not caplog.records


def test_what_an_earlier_version_noted_for_the_same_is_the_same(tmp_path, caplog):
    store = RoundStore(tmp_path, 0)
    store.require_fingerprint("train", PARTS | {"generator": "as it was noted then"})
    made = commit(store, 0)
    same = {"generator": ["older", "as it was noted then"]}
    again = RoundStore(tmp_path, 0)
    again.require_fingerprint("train", PARTS, same)
    RoundStore(tmp_path, 1).require_fingerprint("train", PARTS, same)
    assert list(again.accepted("train")) == made and not caplog.records
    RoundStore(tmp_path, 0).require_fingerprint("train", PARTS)  # noted as it is now
    assert not caplog.records
    RoundStore(tmp_path, 0).require_fingerprint("train", PARTS | {"generator": "other"}, {"generator": ["older"]})
    assert "another generator" in caplog.text


def test_opening_a_whole_round_writes_nothing(tmp_path, monkeypatch):
    store = RoundStore(tmp_path, 0)
    made = commit(store, 0) + commit(store, 1)
    path = store.folder / "train.jsonl"  # as another tool writes JSON
    path.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in read_lines(path)))
    before, dates = contents(store.folder), [p.stat().st_mtime_ns for p in sorted(store.folder.iterdir())]
    assert list(RoundStore(tmp_path, 0).accepted("train")) == made
    assert contents(store.folder) == before
    assert [p.stat().st_mtime_ns for p in sorted(store.folder.iterdir())] == dates


def test_another_task_is_refused(tmp_path):
    store = RoundStore(tmp_path, 0)
    store.require_fingerprint("train", PARTS)
    made = commit(store, 0)
    with pytest.raises(GoldError, match="with another plan, task;") as e:
        RoundStore(tmp_path, 0).require_fingerprint("train", {**PARTS, "task": "x", "plan": "y"})
    assert len(str(e.value).splitlines()) == 1 and "--run.name" in str(e.value)
    again = RoundStore(tmp_path, 0)
    again.require_fingerprint("train", PARTS)  # the refused one was not written down
    assert list(again.accepted("train")) == made
    with pytest.raises(GoldError, match="another task"):  # of an earlier round too
        RoundStore(tmp_path, 1).require_fingerprint("train", {**PARTS, "task": "x"})


def test_a_change_from_one_round_to_the_next_is_told(tmp_path, caplog):
    RoundStore(tmp_path, 0).require_fingerprint("train", PARTS | {"feedback": "a"})
    RoundStore(tmp_path, 1).require_fingerprint("train", PARTS | {"feedback": "b"})
    assert not caplog.records
    RoundStore(tmp_path, 2).require_fingerprint("train", PARTS | {"generator": "other", "feedback": "c"})
    (told,) = (r.getMessage() for r in caplog.records)
    assert told == "from round 2 on samples are asked for with another generator"


def test_a_round_without_batches_takes_another_fingerprint(tmp_path, caplog):
    store = RoundStore(tmp_path, 0)
    store.require_fingerprint("train", PARTS)
    store.require_fingerprint("train", {**PARTS, "task": "x"})
    commit(store, 0)
    with pytest.raises(GoldError, match="another task"):
        store.require_fingerprint("train", PARTS)


def test_a_kill_while_the_fingerprint_is_written_leaves_the_round_usable(tmp_path, monkeypatch):
    store = RoundStore(tmp_path, 0)
    store.require_fingerprint("train", PARTS)

    def torn(path, text, *_, **__):
        path.write_bytes(text.encode()[:7])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        patched.setattr(Path, "write_text", torn)
        RoundStore(tmp_path, 0).require_fingerprint("train", {**PARTS, "plan": "other"})
    made = commit(RoundStore(tmp_path, 0), 0)
    again = RoundStore(tmp_path, 0)
    again.require_fingerprint("train", PARTS)
    assert list(again.accepted("train")) == made
    with pytest.raises(GoldError, match="another task"):
        again.require_fingerprint("train", {**PARTS, "task": "x"})


def test_a_damaged_fingerprint_is_another_one(tmp_path, caplog):
    store = RoundStore(tmp_path, 0)
    store.require_fingerprint("train", {k: v for k, v in PARTS.items() if k != "task"})
    commit(store, 0)
    (store.folder / "fingerprint_train.json").write_text("{torn")
    again = RoundStore(tmp_path, 0)
    with pytest.raises(GoldError, match="another"):  # whose task it was, nobody can tell
        again.require_fingerprint("train", PARTS)


@pytest.mark.parametrize("name", ["train", "rejects", "prompts", "batches"])
def test_a_damaged_row_of_a_committed_batch_has_it_made_again(tmp_path, name, caplog):
    store = RoundStore(tmp_path, 0)
    first = commit(store, 0)
    commit(store, 1)
    probes = commit(store, 0, "probe")
    path = store.folder / f"{name}.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    # The second batch's: prompts have one row of both beside one of each.
    at = {"train": 3, "rejects": 1, "prompts": 2, "batches": 1}[name]
    if name == "prompts":  # its samples point to the prompt that both have: give one of them its own
        rows = [json.loads(line) for line in (store.folder / "train.jsonl").read_bytes().splitlines()]
        rows[3]["prompt_hash"] = "hash-train-1"
        write_lines(store.folder / "train.jsonl", rows)
    lines[at] = lines[at][: len(lines[at]) // 2] + b"\xff\n"
    path.write_bytes(b"".join(lines))
    damaged = contents(store.folder)
    seen = RoundStore(tmp_path, 0, read_only=True)
    assert list(seen.accepted("train")) == first and contents(store.folder) == damaged
    again = RoundStore(tmp_path, 0)
    assert list(again.accepted("train")) == first and len(again.batches("train")) == 1
    assert list(again.accepted("probe")) == probes
    if name != "batches":  # without its line a batch was not committed, for all that anybody can tell
        assert contents(tmp_path / "data" / "damaged_round_000_1") == damaged
        assert "1 batches are damaged" in caplog.text
    commit(again, 1, text="new")
    assert len(RoundStore(tmp_path, 0).accepted("train")) == 4


def test_energies_are_replaced_as_a_whole_and_leave_with_their_samples(tmp_path):
    store = RoundStore(tmp_path / "run", 0)
    store.require_fingerprint("train", PARTS)
    commit(store, 0)
    assert store.energies() == []
    rows = [{"id": "r000-train-00000", "kind": "train", "energy": -1.5, "fed_back": False}]
    for written in (rows * 3, rows):
        store.write_energies(written)
        assert RoundStore(tmp_path / "run", 0).energies() == written
    copy_round(tmp_path / "run", tmp_path / "other", 0)
    copied = RoundStore(tmp_path / "other", 0)
    assert list(copied.accepted("train")) == list(store.accepted("train")) != [] and copied.energies() == []
    store.require_fingerprint("train", {**PARTS, "plan": "other"})  # another plan: its samples are set aside
    assert store.energies() == []
    (aside,) = (tmp_path / "run" / "data").glob("replaced_round_000_*")
    assert read_lines(aside / "energies.jsonl") == rows


def test_samples_are_read_from_the_file_when_they_are_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(sample_rows, "_BLOCK", 4)
    monkeypatch.setattr(sample_rows, "_BLOCKS", 3)
    store = RoundStore(tmp_path, 0)
    made = [sample for i in range(40) for sample in commit(store, i, count=11)]
    rows = store.accepted("train")
    assert len(rows) == 440 and rows == made and made == rows and rows != made[1:] and rows != 3
    assert [rows[i] for i in (0, 439, -1, 200, 7, 300, 201)] == [made[i] for i in (0, 439, -1, 200, 7, 300, 201)]
    assert rows[433:] == made[433:] and rows[::-1] == made[::-1] and rows[500:] == []
    with pytest.raises(IndexError):
        rows[440]
    assert list(rows.with_ids) == [(s.id, s.sample) for s in made]
    made += commit(store, 40, count=3)
    assert rows == made == store.accepted("train") and rows[-1] == made[-1]
    assert 0 < sum(len(block) for block in rows._blocks.values()) <= 12


def test_samples_of_a_file_that_another_program_changes_are_one_line(tmp_path):
    store = RoundStore(tmp_path, 0)
    commit(store, 0)
    reader = RoundStore(tmp_path, 0, read_only=True)
    (store.folder / "train.jsonl").write_text('{"id": "another"}\n{}\n')
    with pytest.raises(GoldError, match=r"train\.jsonl: another program changed this file"):
        list(reader.accepted("train"))


@pytest.mark.parametrize("key", ["fields", "raw", "demo_ids"])
def test_a_row_without_a_value_is_a_damaged_batch(tmp_path, key):
    store = RoundStore(tmp_path, 0)
    made = commit(store, 0) + commit(store, 1)
    path = store.folder / "train.jsonl"
    rows = read_lines(path)
    del rows[2][key]
    write_lines(path, rows)
    again = RoundStore(tmp_path, 0)
    assert list(again.accepted("train")) == made[:2] and len(again.batches("train")) == 1
