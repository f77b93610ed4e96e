"""The samples and rejects on a page, and how large a page gets."""

from collections import Counter

import pytest
from gold_lightning.report import render
from gold_lightning.report.run import read_run
from gold_lightning.report.samples import max_chars, reasons_of, samples_of
from gold_lightning.storage.json_lines import read_lines

from tests.runs import make_run

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "news_topics" / "small")


@pytest.fixture(scope="module")
def page(small):
    return render(read_run(small))


def test_twenty_samples_of_each_round_with_the_fed_back_ones_marked(small, page):
    found = samples_of(read_run(small))
    assert [r.name for r in found] == ["Round 0", "Round 1", "Round 2"]
    for r, row in zip(found, read_lines(small / "rounds.jsonl"), strict=True):
        assert len(r.train) == len(r.probe) == 10
        marked = {s.id for s in (*r.train, *r.probe) if s.fed_back}
        assert marked == set(row["fed_back"]) and len(marked) == 3
        energies = [float(s.energy.replace("\u2212", "-")) for s in r.probe]
        assert energies == sorted(energies)
    assert page.count("<mark>fed back</mark>") == page.count('<li class="fed">') == 9


def test_rejects_have_an_example_or_two_by_reason(small):
    run = read_run(small)
    found = reasons_of(run)
    assert Counter({r.name: r.count for r in found}) == sum(
        (r.reasons("train", "probe") for r in run.rounds), Counter()
    )
    raw = {row["raw"]: row["reason"] for r in run.rounds for row in r.rejects}
    for r in found:
        assert 1 <= len(r.examples) <= 2 and {raw[e.text] for e in r.examples} == {r.name}


def test_ten_rounds_of_five_hundred_samples_and_twenty_labels_are_small(tmp_path):
    labels = [f"label_{i}_with_a_long_name" for i in range(20)]
    run = make_run(tmp_path / "intents" / "large", rounds=10, train=500, probe=100, labels=labels)
    page = render(read_run(run))
    assert len(page.encode()) < 1_000_000
    assert page.count("<summary>Round") == 10 and page.count("<li") >= 200


@pytest.mark.slow
@pytest.mark.parametrize("text", ["\U000e0001" * 900, '"' * 900])
def test_a_page_of_many_rounds_and_long_texts_is_bounded(text, tmp_path):
    labels = [f"{i}" * 5000 for i in range(3)]
    how = {"rounds": 55, "labels": labels, "fields": ("a", "b", "c"), "energies": False}
    run = read_run(make_run(tmp_path / "news_topics" / "wide", text=lambda rng: text, **how))
    page = render(run)
    assert max_chars(run) == 400_000 // (50 * 20 * 3)
    assert page.count("<summary>Round") == 50 and len(page.encode()) < 3_000_000


def test_a_short_run_shows_texts_at_length(small):
    assert max_chars(read_run(small)) == 600
