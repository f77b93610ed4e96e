"""Checks of labels during synthesis: what is stored, rejected and resumed."""

import math
import random
from collections import Counter
from dataclasses import replace

import pytest
from gold_lightning.errors import ConfigError, QuotaError
from gold_lightning.feedback import FeedbackPool
from gold_lightning.questions import agreement_request
from gold_lightning.storage.json_lines import read_lines, write_lines
from gold_lightning.storage.round_store import RoundStore

from tests.fakes import NewsWriter
from tests.synthesizers import FREE, LABELS, PLAN, TASK, Scorer, adds_up, agrees, make

pytestmark = pytest.mark.integration


@pytest.fixture
def measured(tmp_path):
    writer = Scorer()
    synthesizer = make(tmp_path / "measure", writer, replace(PLAN, label_agreement="measure"))
    return synthesizer, writer, list(synthesizer.train(0, FeedbackPool(), 0.0))


def test_measuring_agreement_notes_it_and_rejects_nothing(measured):
    synthesizer, writer, accepted = measured
    assert len(accepted) == 24
    assert {s.label_agrees for s in accepted} == {True, False}
    # The bias towards the last label is taken out by the prior: what is left is the text's own.
    assert [s.label_agrees for s in accepted] == [agrees(s.sample.text) for s in accepted]
    assert all(
        (s.preferred_label == s.sample.target) == s.label_agrees and s.preferred_label in LABELS for s in accepted
    )
    store = synthesizer.store(0)
    assert "label_disagreement" not in store.rejects("train")
    asked = [r for r in writer.requests if r.choices]
    assert all(r.choices == tuple(f" {x}" for x in LABELS) for r in asked)
    checked = [*accepted, *store.surplus("train")]
    assert sum(b.asked_agreement for b in store.batches("train")) == len(checked) <= len(asked)
    assert sum(b.agreed for b in store.batches("train")) == sum(s.label_agrees for s in checked)
    adds_up(store, "train")


def test_requiring_agreement_keeps_only_what_agrees(tmp_path):
    synthesizer = make(tmp_path, Scorer(), replace(PLAN, label_agreement="require"))
    accepted = synthesizer.train(0, FeedbackPool(), 0.0)
    assert Counter(s.sample.target for s in accepted) == dict.fromkeys(LABELS, 6)
    assert all(s.label_agrees is True and agrees(s.sample.text) for s in accepted)
    store = synthesizer.store(0)
    rows = [r for r in read_lines(store.folder / "rejects.jsonl") if r["reason"] == "label_disagreement"]
    assert rows
    assert not any(agrees(r["raw"].strip()) for r in rows)
    assert len(rows) == sum(b.asked_agreement - b.agreed for b in store.batches("train"))
    adds_up(store, "train")


def test_requiring_agreement_resumes_to_the_same_samples(tmp_path):
    plan = replace(PLAN, label_agreement="require")
    wanted = list(make(tmp_path / "whole", Scorer(), plan).train(0, FeedbackPool(), 0.0))
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "cut", Scorer(fail_after=60), plan).train(0, FeedbackPool(), 0.0)
    assert 0 < len(RoundStore(tmp_path / "cut", 0).accepted("train")) < 24
    assert list(make(tmp_path / "cut", Scorer(), plan).train(0, FeedbackPool(), 0.0)) == wanted


class Hesitant(Scorer):
    """Has likelihoods that differ with every text, so that the mean over the samples decides on many of them."""

    def _likes(self, request):
        draw = random.Random(request.suffix)
        return [-5.0 + draw.gauss(0, 2) + at for at, _ in enumerate(LABELS)]


@pytest.mark.parametrize(
    ("calibration", "fail_after"), [("batch", 30), ("batch", 60), ("batch", 90), ("contextual", 60), ("none", 60)]
)
def test_calibration_goes_on_where_it_was(tmp_path, calibration, fail_after):
    plan = replace(PLAN, label_agreement="require", label_calibration=calibration)

    def rounds(folder, **how):
        synthesizer = make(tmp_path / folder, Hesitant(**how), plan)
        return [
            [*synthesizer.train(0, FeedbackPool(), 0.0)],
            [*synthesizer.probe(0)],
            [*synthesizer.train(1, FeedbackPool(), 0.0)],
        ]

    wanted = rounds("whole")
    with pytest.raises(KeyboardInterrupt):
        rounds("cut", fail_after=fail_after)
    assert rounds("cut") == wanted


def test_likelihoods_of_checked_samples_are_stored_whether_they_are_taken_or_not(tmp_path):
    plan = replace(PLAN, label_agreement="require")
    synthesizer = make(tmp_path, Hesitant(), plan)
    taken = [s.label_log_probs for s in synthesizer.train(0, FeedbackPool(), 0.0)]
    store = RoundStore(tmp_path, 0, read_only=True)
    assert [s.label_log_probs for s in store.accepted("train")] == taken
    checks = list(store.label_checks("train"))
    assert len(checks) == sum(b.asked_agreement for b in store.batches("train")) > len(taken) == 24
    for fields, label, log_probs in checks:
        asked = Hesitant()._likes(agreement_request(TASK, fields, ()))
        assert label in LABELS and [*log_probs] == [*LABELS] and [*log_probs.values()] == pytest.approx(asked, abs=1e-6)


def test_a_run_folder_keeps_the_calibration_with_which_it_was_begun(tmp_path, caplog):
    plan = replace(PLAN, label_agreement="require", label_calibration="contextual")
    wanted = make(tmp_path / "earlier", Hesitant(), plan).train(0, FeedbackPool(), 0.0)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "cut", Hesitant(fail_after=60), plan).train(0, FeedbackPool(), 0.0)
    caplog.set_level("INFO")
    synthesizer = make(tmp_path / "cut", Hesitant(), replace(plan, label_calibration="batch"))
    assert synthesizer.train(0, FeedbackPool(), 0.0) == wanted
    assert synthesizer.plan == plan
    assert [r.message for r in caplog.records if "data.plan.label_calibration: contextual" in r.message]
    assert not list((tmp_path / "cut").glob("data/replaced_*"))


@pytest.mark.parametrize("calibration", ["batch", "none"])
def test_the_calibrated_distribution_is_stored_with_each_checked_sample(tmp_path, calibration):
    plan = replace(PLAN, label_agreement="measure", label_calibration=calibration, min_requests_per_batch=48)
    synthesizer = make(tmp_path, Hesitant(), plan)
    taken = [*synthesizer.train(0, FeedbackPool(), 0.0), *synthesizer.train(1, FeedbackPool(), 0.0)]
    assert any(s.surplus_of == 0 for s in taken)
    for stored in taken:
        assert [*stored.probabilities] == [*LABELS] and sum(stored.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert max(stored.probabilities, key=stored.probabilities.get) == stored.preferred_label
        if calibration == "none":
            raw = {label: math.exp(p) for label, p in stored.label_log_probs.items()}
            expected = {label: p / sum(raw.values()) for label, p in raw.items()}
            assert stored.probabilities == pytest.approx(expected, rel=1e-5)
    stores = [RoundStore(tmp_path, round_, read_only=True) for round_ in (0, 1)]
    assert [s.probabilities for store in stores for s in store.accepted("train")] == [s.probabilities for s in taken]


def test_rows_of_earlier_versions_have_no_likelihoods(tmp_path):
    store = make(tmp_path, Hesitant(), replace(PLAN, label_agreement="require"))
    store.train(0, FeedbackPool(), 0.0)
    new = {"label_log_probs", "probabilities"}
    for name in ("train", "rejects"):
        path = RoundStore(tmp_path, 0, read_only=True).folder / f"{name}.jsonl"
        write_lines(path, [{k: v for k, v in row.items() if k not in new} for row in read_lines(path)])
    earlier = RoundStore(tmp_path, 0, read_only=True)
    assert len(earlier.accepted("train")) == 24 and list(earlier.label_checks("train")) == []
    assert all(s.probabilities == {} for s in earlier.accepted("train"))


def test_agreement_requests_are_paid_for_in_the_ledger(measured):
    synthesizer, writer, _ = measured
    spent = synthesizer.log().usage()
    assert spent == synthesizer.log().usage(0, 0)
    assert spent.calls == len(writer.requests)
    assert spent.prompt_tokens == sum(len(r.text.split()) for r in writer.requests)


def test_agreement_is_off_by_default(tmp_path):
    writer = NewsWriter()
    accepted = make(tmp_path, writer).train(0, FeedbackPool(), 0.0)
    assert {s.label_agrees for s in accepted} == {None}
    assert not any(r.choices for r in writer.requests)


def test_agreement_needs_labels(tmp_path):
    with pytest.raises(ConfigError, match=r"^data\.plan\.label_agreement: got 'measure'"):
        make(tmp_path, task=FREE, plan=replace(PLAN, label_agreement="measure"))


SILENT = {
    "nothing": lambda n: [],
    "no mass": lambda n: [-float("inf")] * n,
    "no number": lambda n: [float("nan")] + [-1.0] * (n - 1),
    "a server's nothing": lambda n: [-9999.0] * n,
}


@pytest.mark.parametrize("silence", SILENT)
def test_likelihoods_without_mass_favour_no_label(tmp_path, silence, caplog):
    def scores(request):
        text = request.suffix
        return SILENT[silence](len(LABELS)) if len(text) % 3 == 0 else [-float(i) for i in range(len(LABELS))]

    writer = NewsWriter(junk=0.0)
    writer.log_probs = scores
    synthesizer = make(tmp_path, writer, replace(PLAN, label_agreement="measure"))
    accepted = synthesizer.train(0, FeedbackPool(), 0.0)
    assert {s.label_agrees for s in accepted if not s.preferred_label} == {None}
    assert 0 < sum(not s.preferred_label for s in accepted) < len(accepted)
    record = synthesizer.store(0).batches("train")
    assert sum(b.asked_agreement for b in record) < sum(b.requested for b in record)
    assert len([r for r in caplog.records if "label checks have no answer" in r.message]) == 1


def test_a_required_check_without_an_answer_is_a_reject(tmp_path):
    writer = NewsWriter(junk=0.0)
    writer.log_probs = lambda request: [-float("inf")] * len(LABELS)
    synthesizer = make(tmp_path, writer, replace(PLAN, label_agreement="require"))
    with pytest.raises(QuotaError, match="label_unchecked"):
        synthesizer.train(0, FeedbackPool(), 0.0)
    assert set(synthesizer.store(0).rejects("train")) == {"label_unchecked"}
