"""Preview, driven as a user drives it: main([...])."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
import yaml
from gold_lightning.cli.main import main
from gold_lightning.feedback import FeedbackPool
from gold_lightning.generators import Completion
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.synthesis import Synthesizer
from gold_lightning.task import Task

from tests.fakes import NewsWriter

HOSTILE = "\x1b[2J\x1b]0;owned\x07 \u202egnp.exe \x9b31m tab\there \ud800 日本語のニュース " + "名" * 90


class Clean(NewsWriter):
    """All of it passes."""

    def __init__(self) -> None:
        super().__init__(junk=0.0)


class Hostile(NewsWriter):
    """Accepted and rejected texts with what a terminal would act on."""

    def _write(self, request):
        return f" A town on the sea {request.seed} {HOSTILE[:-100]}" if request.seed % 2 else " " + HOSTILE * 9


class Silent(NewsWriter):
    """Nothing of it passes."""

    def _write(self, request):
        return " short."


class Uncounted(NewsWriter):
    """Tells no tokens, as an engine of one's own may."""

    def generate(self, requests):
        return [Completion(c.text, finish=c.finish) for c in super().generate(requests)]


class NoSample(NewsWriter):
    """Wants to be asked for nothing."""

    def generate(self, requests):
        raise AssertionError("asked")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def load(name):
        raise AssertionError("the student was loaded")

    monkeypatch.setattr("gold_lightning.student.load_model", load)


@pytest.fixture
def sent(monkeypatch):
    """The requests that a generator got."""
    got = []
    real = NewsWriter.generate
    monkeypatch.setattr(NewsWriter, "generate", lambda self, requests: got.extend(requests) or real(self, requests))
    return got


def show(capsys, tiny_student, *more, generator="Clean", status=0):
    args = ["preview", "--config", "quickstart.yaml", "--model.student", tiny_student, "--run.name", "t"]
    args += ["--data.generator", f"tests.integration.test_preview.{generator}", "--data.plan.samples_per_round", "16"]
    args += ["--data.plan.probe_per_round", "12", "--data.plan.group_size", "2", "--data.plan.label_agreement", "off"]
    args += ["--preview.count", "8"]
    assert main([*args, *more]) == status
    return capsys.readouterr()


def section(text, title):
    """Lines of a section."""
    return re.search(rf"^-- {title}.*?\n(.*?)(?=^-- |\Z)", text, re.DOTALL | re.MULTILINE)[1].splitlines()


def squeezed(text):
    return "".join(text.split())


def prompt_of(lines):
    return squeezed("".join(line[1:] for line in lines if line[:1] in ("|", "~")))


def row(text, name):
    """Numbers of a row of the estimate."""
    line = next(line for line in text.splitlines() if line.strip().startswith(name))
    return [float(n.replace(",", "")) for n in re.findall(r"[\d,]+(?:\.\d+)?", line)]


def test_prompts_and_samples_are_those_of_round_0(capsys, tiny_student, tmp_path, sent):
    shown = show(capsys, tiny_student).out
    handful = [request for request in sent if not request.choices]
    sent.clear()
    plan = SynthesisPlan(samples_per_round=16, probe_per_round=12, group_size=2)
    run = Synthesizer(Task.load("news_topics"), Clean(), tmp_path / "run", plan, seed=1)
    run.train(0, FeedbackPool(), 0.0)
    first = sent[:16]
    assert prompt_of(section(shown, "a training prompt")) == squeezed(first[0].text)
    assert len(handful) == 8 and handful[0] == first[0] and all(r in first for r in handful)
    accepted = {s.id: s.sample for s in run.store(0).accepted("train")}
    ids = re.findall(r"^(r000-train-\d+)", "\n".join(section(shown, "what Clean makes")), re.MULTILINE)
    assert len(ids) == 8
    for id_ in ids:
        assert squeezed(accepted[id_].fields["text"]) in squeezed(shown)


def test_feedback_and_probe_prompts_mark_what_stands_in(capsys, tiny_student):
    shown = show(capsys, tiny_student, "--data.plan.seed_demos", "1", "--data.plan.feedback_as", "demo").out
    assert "show such demos" in section(shown, "a feedback prompt")[0]
    for title, start, many in (("a feedback prompt", "r001-train-00000", 2), ("a probe prompt", "r000-probe-00000", 2)):
        lines = section(shown, title)
        assert lines[0].startswith(start)
        assert f"stand in for {many} of them" in " ".join(lines)
        marked = squeezed(" ".join(line[1:] for line in lines if line[:1] == "~"))
        demos = [d for d in Task.load("news_topics").demos if squeezed(d.fields["text"]) in marked]
        assert len(demos) == many
        plain = prompt_of([line for line in lines if line[:1] == "|"])
        assert not any(squeezed(d.fields["text"]) in plain for d in demos)
    assert not [line for line in section(shown, "a training prompt") if line[:1] == "~"]


def test_a_feedback_prompt_that_asks_for_a_kind_shows_no_more_than_seeds(capsys, tiny_student):
    lines = section(show(capsys, tiny_student).out, "a feedback prompt")  # the quickstart's way
    assert "ask for the kind of a fed-back sample" in " ".join(lines) and not [
        line for line in lines if line[:1] == "~"
    ]


@pytest.mark.parametrize(
    "off", [["--feedback.rate", "0"], ["--trainer.max_epochs", "1"], ["--feedback.warmup_rounds=2"]]
)
def test_where_no_round_shows_feedback_it_says_so(off, capsys, tiny_student):
    assert section(show(capsys, tiny_student, *off).out, "a feedback prompt")[0].startswith("none: no round")


def test_nothing_is_written_and_the_student_not_loaded(capsys, tiny_student, tmp_path):
    rows = tmp_path / "runs" / "news_topics" / "t" / "data" / "round_000" / "train.jsonl"
    show(capsys, tiny_student)
    assert list(tmp_path.iterdir()) == []
    rows.parent.mkdir(parents=True)
    rows.write_text("torn")  # opening the store for writing would cut this off
    show(capsys, tiny_student)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [rows] and rows.read_text() == "torn"


def test_the_estimate_is_what_a_hand_computes(capsys, tiny_student, sent):
    prices = ["--data.budget.price_prompt", "1000", "--data.budget.price_completion", "3000", "--feedback.rate", "0"]
    shown = show(capsys, tiny_student, "--data.plan.probe_contrast_samples", "0", *prices).out
    # 3 rounds of 16 + 12 samples; all of 8 accepted, whose Wilson interval begins at 8 / (8 + 1.96 squared).
    assert "at a yield of 100% (68% to 100%:" in " ".join(shown.split())
    most = 84 * (8 + 1.959964**2) / 8
    assert row(shown, "requests") == [84, 84, round(most)]
    words = sum(len(r.text.split()) for r in sent if not r.choices)
    probe = len(prompt_text(shown, "a probe prompt")) / len(prompt_text(shown, "a training prompt"))
    tokens = words / 8 * (48 + 36 * probe)
    found = row(shown, "prompt tokens")
    assert found[0] == pytest.approx(tokens, rel=0.02)  # three digits, and line breaks of the shown prompt
    assert found[2] == pytest.approx(found[0] * most / 84, rel=0.01)
    assert row(shown, "tokens written") == [
        1010,
        1010,
        pytest.approx(most * 12, rel=0.005),
    ]  # of 84 x 12 words, in three digits
    money = row(shown, "money")
    assert money[0] == pytest.approx((found[0] * 1000 + 84 * 12 * 3000) / 1e6, rel=0.01)


def prompt_text(shown, title):
    return "\n".join(line[2:] for line in section(shown, title) if line[:1] in ("|", "~"))


def test_own_machines_are_free_and_unknown_tokens_are_not(capsys, tiny_student):
    assert "free, on an own machine" in show(capsys, tiny_student).out
    shown = show(capsys, tiny_student, "--data.budget.price_prompt", "1", generator="Uncounted").out
    assert "not counted" in shown and "money is not known" in shown and "$" not in shown


def test_a_yield_of_nothing_is_told_as_it_is(capsys, tiny_student):
    shown = show(capsys, tiny_student, generator="Silent").out
    text = " ".join(shown.split())
    assert "accepted 0 of 8" in text and "None of 8 accepted." in text
    assert "would stop in round 0 after about 128 requests" in text  # 8 attempts for each of 16
    assert row(shown, "requests") == [128]
    assert "up to 32%" in text and "to have fewer too_short: longer demos" in text


def test_no_generated_character_acts_on_the_terminal(capsys, tiny_student):
    shown = show(capsys, tiny_student, generator="Hostile").out
    assert not [c for c in shown if c != "\n" and unicodedata.category(c)[0] == "C"]
    assert r"\x1b[2J\x1b]0;owned\x07" in shown and r"\u202e" in shown and "日本語のニュース" in shown
    width = {c: 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in set(shown)}
    assert max(sum(width[c] for c in line) for line in shown.splitlines()) <= 100


@pytest.mark.parametrize(
    "args", [["--preview.count", "0"], ["--data.budget.price_prompt", "-1"], ["--data.budget.price_completion", "much"]]
)
def test_a_wrong_setting_is_one_line_before_anything_is_asked(args, capsys, tiny_student):
    out, error = show(capsys, tiny_student, *args, generator="NoSample", status=2)
    assert args[0].removeprefix("--").rsplit(".")[-1] in error.splitlines()[-1] and out == ""
    assert error.splitlines()[-1].startswith("error: ") and "Traceback" not in error


def test_prices_may_stand_in_the_config_of_every_subcommand(capsys, tmp_path):
    Path("prices.yaml").write_text("data: {budget: {price_prompt: 0.15}}")
    with pytest.raises(SystemExit) as done:
        main(["fit", "--config", "quickstart.yaml", "--config", "prices.yaml", "--print_config"])
    assert done.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"]["budget"]["price_prompt"] == 0.15
