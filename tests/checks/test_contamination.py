"""What of a test set stands in the synthetic data: found word for word, counted, and dropped on request."""

import json
import logging
import random
import shutil
import time
from collections import Counter
from dataclasses import replace

import pytest
from gold_lightning.checks.contamination import OVERLAP_WORDS, Decontaminator, Overlap, count_overlaps
from gold_lightning.data import GoldDataModule
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.evaluation.results import overlaps_of_run
from gold_lightning.feedback import FeedbackPool
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.storage.run_folder import rounds_in
from gold_lightning.synthesis import Synthesizer
from gold_lightning.task import Sample, Task, TestRow

from tests.fakes import NewsWriter

pytestmark = pytest.mark.integration

TASK = Task.load("news_topics")
LABELS = TASK.label_names
PLAN = SynthesisPlan(samples_per_round=24, probe_per_round=12, group_size=4, max_attempts=20)
DROP = replace(PLAN, decontaminate="drop")
WORDS = "the old lighthouse keeper counted nine grey ships that passed his window before the fog came in".split()
SHORT = "It was never found.".split()


def text(count, first=0):
    return " ".join(WORDS[first : first + count])


def one(value):
    return Sample({"text": value}, "World")


def pair(first, second):
    return Sample({"premise": first, "claim": second}, "holds")


def overlap(test, sample):
    """Kinds of overlap with a test set of one row."""
    found = Decontaminator([test]).overlap(sample)
    assert bool(found) == bool(found.words or found.full_row)
    return {kind for kind, rows in vars(found).items() if rows}


# What counts


@pytest.mark.parametrize(("count", "wanted"), [(12, set()), (13, {"words"}), (14, {"words"})])
def test_thirteen_words_in_a_row_count(count, wanted):
    assert OVERLAP_WORDS == 13
    test = one(f"Years ago {text(count)}, they said.")
    assert overlap(test, one(f"So {text(count)} and left.")) == wanted
    assert overlap(test, one(text(count))) == wanted  # the sample's whole field, but not the test row's


@pytest.mark.parametrize(("count", "wanted"), [(12, {"full_row"}), (13, {"words", "full_field", "full_row"})])
def test_a_whole_row(count, wanted):
    assert overlap(one(text(count)), one(text(count))) == wanted


def test_words_with_a_gap_do_not_count():
    assert overlap(one(text(17)), one(f"{text(12)} but {text(5, 12)}")) == set()
    assert overlap(one(text(17)), one(" ".join(reversed(WORDS)))) == set()


def test_a_run_across_two_fields_does_not_count():
    whole = text(13)
    assert overlap(pair(text(6), text(7, 6)), pair(whole, "x")) == set()
    assert overlap(pair(whole, "x"), pair(text(6), text(7, 6))) == set()
    assert overlap(pair(text(6), text(7, 6)), pair(text(6), text(7, 6))) == {"full_row"}


def test_a_run_counts_in_whichever_field_it_stands():
    assert overlap(pair("A short one.", text(13)), pair(text(14), "Another.")) == {"words"}


def test_a_pair_is_a_full_row_only_with_both_of_its_fields():
    test = pair(text(15), "The keeper counted ships.")
    assert overlap(test, pair(text(15), "The keeper was asleep.")) == {"words", "full_field"}
    assert overlap(test, pair("Something else.", "The keeper counted ships.")) == set()  # too short on its own
    assert overlap(test, pair(text(15), "The keeper counted ships.")) == {"words", "full_field", "full_row"}
    assert overlap(test, pair("The keeper counted ships.", text(15))) == {"words", "full_field"}  # the other way round


def test_short_rows_are_compared_whole():
    test = one("It was never found.")
    assert overlap(test, one("it was NEVER found")) == {"full_row"}
    assert overlap(test, one("It was never found again.")) == set()
    assert overlap(test, one("It was found.")) == set()


@pytest.mark.parametrize(
    "sample",
    [
        text(13).upper(),
        text(13).replace(" ", ",\n"),
        "“" + text(13).replace(" ", "” — “") + "”!",
        text(13).replace("lighthouse keeper", "lighthouse_keeper"),
        text(13).replace("ships", "\uff53\uff48\uff49\uff50\uff53"),  # full width
    ],
)
def test_case_punctuation_and_spaces_are_nothing(sample):
    assert overlap(one(text(13)), one(sample)) == {"words", "full_field", "full_row"}


@pytest.mark.parametrize(
    ("test", "sample", "same"),
    [
        ("Die Straße war leer.", "DIE STRASSE WAR LEER", True),
        ("caf\u00e9 na\u00efve", "cafe\u0301 nai\u0308ve", True),  # composed and decomposed
        ("\u041c\u043e\u0441\u043a\u0432\u0430", "\u043c\u043e\u0441\u043a\u0432\u0430!", True),
        ("\u6771\u4eac\u306f\u591c\u3067\u3059\u3002", "\u6771\u4eac\u306f\u591c\u3067\u3059", True),
        ("café", "cafe", False),
        ("room 12", "room 13", False),
    ],
)  # fmt: skip
def test_unicode(test, sample, same):
    assert bool(overlap(one(test), one(sample))) == same


def test_characters_of_scripts_without_spaces_count_half_a_word():
    rng = random.Random(0)
    letters = [chr(c) for c in range(0x4E00, 0x4E00 + 400)]
    row = "".join(rng.sample(letters, 60))
    for count, wanted in ((26, {"words"}), (25, set())):
        assert overlap(one(row), one("\u9f8d" * 5 + row[10 : 10 + count] + "\u9f9f" * 5)) == wanted
    short = row[:9] + "\uff0c" + row[9:12]
    assert overlap(one(short), one(short.replace("\uff0c", "\u3002"))) == {"full_row"}
    # Latin words between them count as words: 20 characters and 3 words are 13.
    mixed = row[:20] + " GPT 4 model " + row[40:]
    assert overlap(one(row[:20] + " gpt-4 model"), one(mixed)) == {"words"}


def test_words_with_marks_are_whole():
    test = one(" ".join(["\u0915\u093f\u0924\u093e\u092c\u0947\u0902"] * 7))  # seven words of Hindi, not 28
    assert overlap(test, one(" ".join(["\u0915\u093f\u0924\u093e\u092c\u0947\u0902"] * 8))) == set()


def test_rows_without_a_word_match_nothing():
    assert overlap(one("?!"), one("...")) == set()
    assert overlap(pair("...", ""), pair("", "")) == set()


def test_targets_are_no_text():
    assert overlap(Sample({"text": "a"}, text(17)), Sample({"text": "b"}, text(17))) == set()
    assert overlap(one("Same text"), Sample({"text": "same text"}, "Sports")) == {"full_row"}


def test_each_row_that_shares_text_is_found():
    rows = [one("Nothing."), pair(text(17), "first"), pair(text(17), "second"), one(text(14, 3)), one("Nothing.")]
    index = Decontaminator(rows)
    assert index.overlap(pair(text(17), "second")) == Overlap(frozenset({1, 2, 3}), frozenset({1, 2}), frozenset({2}))
    assert index.overlap(one("nothing")) == Overlap(full_row=frozenset({0, 4}))
    assert not index.overlap(one("something"))


def test_counts():
    index = Decontaminator([one(text(15)), one("Short."), one("Other.")])
    samples = [one(text(13, 1)), one(text(15)), one("short"), one("Quite another thing."), one("SHORT")]
    assert count_overlaps(map(index.overlap, samples)) == {
        "samples": 5, "words": 2, "full_field": 1, "full_row": 3, "any": 4, "test_rows": 2,
    }  # fmt: skip
    assert set(count_overlaps([]).values()) == {0}


@pytest.mark.slow
def test_thousands_of_long_contexts_are_indexed_in_seconds():
    rng = random.Random(0)
    vocabulary = [f"w{i}" for i in range(20_000)]
    contexts = [" ".join(rng.choices(vocabulary, k=150)) for _ in range(2_000)]
    rows = [pair(context, f"Question {i}?") for context in contexts for i in range(5)]
    began = time.process_time()
    index = Decontaminator(rows)
    hit, miss = contexts[7].split()[40:53], contexts[7].split()[40:52]
    assert index.overlap(pair("so " + " ".join(hit), "?")).words == set(range(35, 40))
    assert not index.overlap(pair("so " + " ".join(miss), "?"))
    assert time.process_time() - began < 10


# Dropping


def synthesizer(folder, rows=(), plan=DROP, **how):
    return Synthesizer(TASK, NewsWriter(0.2, **how), folder, plan, 1, decontaminator=lambda: Decontaminator(rows))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A round without decontamination: its folder, and every third sample, training and probe, as a test set."""
    folder = tmp_path_factory.mktemp("plain")
    made = synthesizer(folder, plan=PLAN)
    train, probe = made.train(0, FeedbackPool(), 0.0), made.probe(0)
    return folder, [TestRow(s.sample.fields, s.sample.target) for s in [*train[::3], *probe[::3]]]


def both(made):
    return [*made.train(0, FeedbackPool(), 0.0), *made.probe(0)]


def test_what_stands_in_the_test_set_is_dropped_and_the_quota_met(tmp_path, plain):
    _, rows = plain
    made = synthesizer(tmp_path, rows)
    samples = both(made)
    tests = {r.text for r in rows}
    assert not tests & {s.sample.text for s in samples}
    store = made.store(0)
    for kind, each in (("train", 6), ("probe", 3)):
        assert Counter(s.sample.target for s in store.accepted(kind)) == dict.fromkeys(LABELS, each)
        assert store.rejects(kind)["in_test_set"] > 0
        assert all(b.requested == b.accepted + sum(b.rejects.values()) for b in store.batches(kind))
    dropped = [r for r in read_lines(store.folder / "rejects.jsonl") if r["reason"] == "in_test_set"]
    assert {r["raw"].strip() for r in dropped} <= tests
    assert len(dropped) == sum(store.rejects(kind)["in_test_set"] for kind in ("train", "probe"))


def test_a_paraphrase_is_not_dropped(tmp_path, plain):
    _, rows = plain
    reworded = [replace(r, fields={"text": " ".join(reversed(r.text.split()))}) for r in rows]
    assert both(synthesizer(tmp_path, reworded)) == both(synthesizer(plain[0], plan=PLAN))


@pytest.mark.parametrize("fail_after", [10, 40])
def test_dropping_resumes_to_the_same_samples(tmp_path, plain, fail_after):
    wanted = both(synthesizer(tmp_path / "whole", plain[1]))
    with pytest.raises(KeyboardInterrupt):
        both(synthesizer(tmp_path / "cut", plain[1], fail_after=fail_after))
    assert both(synthesizer(tmp_path / "cut", plain[1])) == wanted


def test_the_test_set_is_in_no_prompt(tmp_path):
    rows = [TestRow({"text": f"Secret item {i}: {text(15)}."}, LABELS[i % 4]) for i in range(20)]
    made = synthesizer(tmp_path, rows)
    both(made)
    requests = made.generator.requests
    assert requests
    assert not any("Secret" in r.text or "lighthouse" in r.text for r in requests)
    other = synthesizer(tmp_path / "off", plan=PLAN)
    both(other)
    assert other.generator.requests == requests  # nothing was dropped: the same as without a test set


@pytest.mark.slow
def test_dropping_is_part_of_the_fingerprint_and_measuring_is_not(tmp_path, plain, caplog):
    folder, rows = plain
    folder = shutil.copytree(folder, tmp_path / "plain")  # others use it too
    asked = len(list(RoundStore(folder, 0, read_only=True).batches("train")))
    for setting in ("off", "measure"):
        both(synthesizer(folder, rows, replace(PLAN, decontaminate=setting)))
    assert len(list(RoundStore(folder, 0, read_only=True).batches("train"))) == asked
    assert "asked for with another" not in caplog.text
    both(synthesizer(folder, rows))
    assert "its training samples were asked for with another decontamination;" in caplog.text
    caplog.clear()
    both(synthesizer(tmp_path / "drop", rows))
    both(synthesizer(tmp_path / "drop", rows[::-1]))  # the same rows
    assert caplog.text == ""
    for other, plan in ((rows[1:], DROP), (rows, PLAN)):
        both(synthesizer(tmp_path / "drop", other, plan))
        assert "its training samples were asked for with another decontamination;" in caplog.text
        caplog.clear()


def test_dropping_needs_a_test_set(tmp_path):
    with pytest.raises(ConfigError, match=r"^data\.plan\.decontaminate: got 'drop'"):
        Synthesizer(TASK, NewsWriter(), tmp_path, DROP)


def test_the_test_set_is_read_only_to_drop(tmp_path):
    def read():
        raise AssertionError("read")

    both(Synthesizer(TASK, NewsWriter(), tmp_path, replace(PLAN, decontaminate="measure"), 1, decontaminator=read))


# Measuring


def module(folder, student, setting, test_file=None, task="news_topics"):
    return GoldDataModule(
        task, NewsWriter(), replace(PLAN, decontaminate=setting), str(folder), student, test_file=test_file
    )


def test_a_data_module_measures_with_its_own_test_rows(tmp_path, tiny_student):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": text(14), "topic": "World"}) + "\n")
    samples = {"a": one(text(13)), "b": one("Something else.")}
    for setting in ("measure", "drop"):
        found = module(tmp_path, tiny_student, setting, str(path)).test_set.overlap(samples.items())
        assert dict(found) == {"a": Overlap(words=frozenset({0})), "b": Overlap()}
    assert module(tmp_path, tiny_student, "off", str(path)).test_set.overlap(samples.items()) is None


def test_without_a_test_set_in_reach_measuring_says_so_once_and_dropping_stops(tmp_path, tiny_student, caplog):
    task = tmp_path / "t.yaml"
    with open(TASK.source, encoding="utf-8") as shipped:
        task.write_text(shipped.read().replace("file: news_topics.test.jsonl", "hub: no-such-person/no-such-set"))
    data = module(tmp_path, tiny_student, "measure", task=str(task))
    with caplog.at_level(logging.WARNING, logger="gold_lightning"):
        assert [data.test_set.overlap([("a", one(text(13)))]) for _ in range(3)] == [None] * 3
    assert len(caplog.records) == 1
    assert "overlap with the test set is not measured: test data no-such-person" in caplog.text
    data = module(tmp_path, tiny_student, "drop", task=str(task))
    with pytest.raises(GoldError, match=r"^data\.plan\.decontaminate: drop needs the test set; test data no-such"):
        data.train_dataloader()


def test_training_samples_of_all_rounds_and_demos_are_counted(tmp_path, tiny_student):
    data = module(tmp_path, tiny_student, "off")
    assert rounds_in(tmp_path) == []
    made = [s for r in range(2) for s in data.synthesizer.train(r, FeedbackPool(), 0.0)]
    assert rounds_in(tmp_path) == [0, 1] and overlaps_of_run(data) == ({}, [])
    known = [made[0].sample, made[-1].sample, TASK.demos[2]]  # of both rounds, and a demo
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({**s.fields, "topic": s.target}) + "\n" for s in known))
    counts, rows = overlaps_of_run(module(tmp_path, tiny_student, "measure", str(path)))
    assert counts["train"]["samples"] == len(made) and counts["demos"]["samples"] == len(TASK.demos)
    assert counts["train"]["full_row"] == 2 and counts["demos"]["full_row"] == 1
    assert {r["id"]: r["full_row"] for r in rows if r["full_row"]} == {made[0].id: [0], made[-1].id: [1], "demo-2": [2]}
