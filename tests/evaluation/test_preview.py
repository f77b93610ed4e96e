"""What a preview shows and estimates, without the command line."""

from dataclasses import replace

import pytest
from gold_lightning.errors import ConfigError
from gold_lightning.evaluation import reject_advice
from gold_lightning.evaluation.preview import PreviewSettings, plan_requests
from gold_lightning.feedback import FeedbackPool
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.synthesis import Synthesizer
from gold_lightning.task import Task

from tests.fakes import NewsWriter

TASK = Task.load("news_topics")
PLAN = SynthesisPlan(samples_per_round=24, probe_per_round=8, group_size=3, max_attempts=20)


def make(tmp_path, writer=None, plan=PLAN):
    return Synthesizer(TASK, writer or NewsWriter(), tmp_path, plan, seed=5)


def test_the_batch_shown_is_the_first_that_a_run_sends(tmp_path):
    writer = NewsWriter()
    shown = plan_requests(make(tmp_path / "a"), 0, 0.5)
    make(tmp_path / "b", writer).train(0, FeedbackPool(), 0.5)
    assert [a.request for a in shown.batch] == writer.requests[: writer.batch_size]
    assert not (tmp_path / "a").exists()


def test_a_handful_has_all_labels_and_stays_in_order(tmp_path):
    shown = plan_requests(make(tmp_path), 0, 0.5)
    assert [a.label for a in shown.batch[:3]] == ["World"] * 3  # a group each: the first eight would be three labels
    handful = shown.handful(8)
    assert {a.label for a in handful} == set(TASK.label_names)
    assert handful == sorted(handful, key=lambda a: a.id) and len(handful) == 8
    assert shown.handful(100) == list(shown.batch)


def test_what_does_not_exist_yet_has_other_demos_of_the_label_standing_in(tmp_path):
    shown = plan_requests(
        make(tmp_path, plan=replace(PLAN, seed_demos=1, feedback_demos=2, probe_contrast_samples=1)), 2, 0.5
    )
    assert shown.feedback.id == "r003-train-00000" and shown.probe.id == "r000-probe-00000"
    for asked, many in ((shown.feedback, 2), (shown.probe, 1)):
        ids = [i for i, _ in asked.demos]
        stand_ins = [i for i in ids if i.startswith("stand-in-")]
        assert len(stand_ins) == many and len(ids) == many + 1
        assert {TASK.demos[int(i.rsplit("-", 1)[1])].target for i in ids} == {asked.label}
        assert len({i.rsplit("-", 1)[1] for i in ids}) == len(ids)
        assert all(d.fields["text"] in asked.request.text for _, d in asked.demos)


@pytest.mark.parametrize(("rate", "demos"), [(0.0, 2), (0.5, 0)])
def test_without_feedback_no_feedback_prompt(rate, demos, tmp_path):
    assert plan_requests(make(tmp_path, plan=replace(PLAN, feedback_demos=demos)), 0, rate).feedback is None


def test_calibration_is_counted_apart_from_label_checks(tmp_path):
    synthesizer = make(tmp_path, NewsWriter(junk=0.0), replace(PLAN, label_agreement="measure"))
    batch = plan_requests(synthesizer, 0, 0.0).handful(5)
    assert len(synthesizer.label_check.calibrate(0)) == len(TASK.demos) - len(TASK.labels)
    assert synthesizer.label_check.calibrate(0) == []
    assert len(synthesizer.answer(batch, synthesizer.missing(0, "train")).label_checks) == 5


def test_wrong_settings_name_their_key():
    with pytest.raises(ConfigError) as caught:
        PreviewSettings(count=0)
    assert (caught.value.key, caught.value.value) == ("preview.count", 0)


def test_advice_is_given_for_reasons_that_there_are():
    from gold_lightning.checks.checker import Checker

    # None of them is spelt otherwise than the checks do.
    known = Checker.__doc__ + " label_disagreement label_unchecked "
    assert all(f"``{r}``" in known or f" {r} " in known for r in reject_advice.WHAT_TO_CHANGE)
