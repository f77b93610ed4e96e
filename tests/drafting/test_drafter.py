"""Drafts of tasks: good, half-broken and hostile answers, with and without real texts."""

from __future__ import annotations

import json

import pytest
import yaml
from gold_lightning.checks.checker import Checker
from gold_lightning.cli.task_check import warnings_of
from gold_lightning.drafting.drafter import Drafter, draft_task, task_name
from gold_lightning.drafting.real_texts import read_real_texts
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.generators import Completion, Generator, ScriptedGenerator
from gold_lightning.task import Task

pytestmark = pytest.mark.integration

SENTENCE = "Say which desk of a bank answers a letter."
NOUNS = "mortgage loan card account transfer interest branch cheque pension insurance".split()


def asked(request):
    """The line that a request asks for, and the one before it."""
    *before, last = request.answer_prefix.splitlines()
    return last.rstrip(":"), before[-1] if before else ""


def good(request):
    """Answers as a good model gives them."""
    line, before = asked(request)
    label = before.partition(": ")[2]
    noun = NOUNS[request.seed % len(NOUNS)]
    return {
        "inputs": " Letter",
        "content": " one letter of a customer to a bank",
        "output": " Desk",
        "labels": " loans, cards, savings",
        "purpose": " the desk that answers the letter",
        "meaning": f" it asks about {label} or wants to change something about them",
        "subjects": f" a {noun} that ended, a {noun} of a child, the price of a {noun}, a lost {noun}",
        "subject": f" a {noun} number {request.seed % 97}",
    }.get(
        line,
        f" {request.seed} days ago I wrote about my {noun} and {request.seed % 89} others. Is it {label[:12]}?",
    )


def draft(replies=good, sentence=SENTENCE, log_probs=None, **settings):
    generator = ScriptedGenerator(replies, log_probs=log_probs)
    return Drafter(generator).draft(sentence, **settings), generator


def test_good_answers_give_a_task_that_passes_all_checks(tmp_path):
    made, _ = draft()
    assert made.blanks == [] and made.counts == {"first try": len(made.parts), "repaired": 0, "blank": 0}
    path = tmp_path / "letters.yaml"
    path.write_text(made.yaml(), encoding="utf-8")
    task = Task.load(str(path))
    assert [f.name for f in task.fields] == ["letter"] and task.target.name == "desk"
    assert task.label_names == ("loans", "cards", "savings") and len(task.label("cards").hints) == 4
    assert [d.target for d in task.demos] == ["loans"] * 2 + ["cards"] * 2 + ["savings"] * 2
    assert task.description == SENTENCE
    assert [w for w in warnings_of(task) if not w.startswith("test:")] == []
    assert Task.from_document(made.document) == made.task


def test_a_rejected_answer_is_asked_for_again_with_what_was_wrong():
    bad = {"content": "Sure! Here is one:", "meaning": "[insert meaning here]", "subjects": " loans"}

    def replies(request):
        line, _ = asked(request)
        again = line in tried
        tried.add(line)
        return good(request) if again or line not in bad else bad[line]

    tried: set[str] = set()
    made, generator = draft(replies)
    repaired = {part.key: part for part in made.parts if part.outcome == "repaired"}
    assert {*repaired} == {"fields[0].description", "labels[0].meaning", "labels[0].hints"}
    assert all(part.tries == 2 and part.reasons for part in repaired.values())
    (again,) = [r for r in generator.requests if asked(r)[0] == "subjects" and "It must list more" in r.suffix]
    first = next(r for r in generator.requests if asked(r)[0] == "subjects")
    assert again.seed != first.seed and again.prefix == first.prefix
    assert made.blanks == []


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "   \n\n",
        "I'm sorry, but I can't help with that.",
        "<think>The user wants a line",
        "[insert text here]",
        "\ufffd\ufffd\ufffd",
        "```yaml\nname: evil\n```",
        "a" * 5000,
        "!!python/object/apply:os.system ['true']",
        "null",
        "Let me think about what the user wants. The user wants me to write one new sample.",
    ],
)
def test_hostile_answers_leave_marked_blanks_and_never_a_broken_file(answer):
    made, _ = draft(lambda _: answer)
    assert made.counts["blank"] >= 3 and made.blanks
    text = made.yaml()
    values = yaml.safe_load(text)
    assert values == made.document
    marked = [line for line in text.splitlines() if "  # BLANK" in line]
    assert len(marked) >= len(made.blanks)
    for line in text.splitlines():
        assert ("null" in line.split("#")[0].split()) <= ("# BLANK" in line)
    with pytest.raises(ConfigError):
        Task.from_document(values)
    with pytest.raises(GoldError, match=made.blanks[0].replace("[", r"\[").replace("]", r"\]")):
        _ = made.task


def test_a_filled_in_draft_is_a_task():
    made, _ = draft(lambda r: "" if asked(r)[0] in ("meaning", "subjects") else good(r))
    assert made.blanks == [f"labels[{i}].meaning" for i in range(3)]
    values = yaml.safe_load(made.yaml())
    for label in values["labels"]:
        assert label["hints"] == []  # optional: no blank
        label["meaning"] = f"it is about {label['name']}"
    assert Task.from_document(values).label_names == ("loans", "cards", "savings")


def test_each_part_is_asked_for_a_bounded_number_of_times():
    generator = ScriptedGenerator([""])
    made = Drafter(generator, tries=2).draft(SENTENCE, labels=["a", "b"])
    assert {part.tries for part in made.parts} == {2}
    assert len(generator.requests) == 2 * len(made.parts)
    with pytest.raises(ConfigError) as refused:
        Drafter(generator, tries=0)
    assert refused.value.key == "--tries"


def test_twelve_labels_long_and_in_other_scripts():
    labels = ["Rückfrage: Rechnung", "新闻", "עברית", "yes", "3", "a label of quite a few words, with a comma", "#tag"]
    labels += [f"label {i}" for i in range(5)]
    made, _ = draft(labels=labels)
    assert made.blanks == [] and len(made.document["demos"]) == 24
    assert [x["name"] for x in yaml.safe_load(made.yaml())["labels"]] == labels
    assert made.task.label_names == tuple(labels)


@pytest.mark.parametrize(
    ("labels", "key"),
    [(["one"], "--labels"), (["a", "A"], "--labels"), ([" a", "b"], "--labels"), (["", "b"], "--labels")],
)
def test_labels_that_cannot_be_are_refused_before_anything_is_asked(labels, key):
    generator = ScriptedGenerator(good)
    with pytest.raises(ConfigError) as refused:
        Drafter(generator).draft(SENTENCE, labels=labels)
    assert refused.value.key == key and generator.requests == []


def test_a_task_without_labels():
    def replies(request):
        line, _ = asked(request)
        if line == "letter":
            return (
                f" Letter {request.seed} about a {NOUNS[request.seed % 10]} from long ago.\ntitle: About {request.seed}"
            )
        return " title" if line == "output" else " none" if line == "labels" else good(request)

    made, _ = draft(replies, "Write a title for a letter.")
    assert made.blanks == [] and made.task.labels == () and len(made.task.demos) == 4
    assert made.task.hints.topics and "metrics" not in made.document
    same, _ = draft(replies, "Write a title for a letter.", labels=[])
    assert same.document == made.document


def test_several_inputs():
    def replies(request):
        line, _ = asked(request)
        if line == "first_part":
            return f" Letter {request.seed} came.\nsecond: It was about {NOUNS[request.seed % 10]} and {request.seed}."
        return " first part, second" if line == "inputs" else good(request)

    made, _ = draft(replies, labels=["yes", "no"])
    assert [f.name for f in made.task.fields] == ["first_part", "second"]
    assert made.task.student.input == "first_part: {first_part} second: {second}"


def test_demos_that_the_generator_would_label_otherwise_are_marked():
    def log_probs(request, swapped=""):
        own = next((name for name in ("loans", "cards", "savings") if f"Is it {name}?" in request.suffix), "")
        return [float(choice.strip() == ("cards" if own == swapped else own)) for choice in request.choices]

    made, _ = draft(log_probs=log_probs)
    assert not any("LOOK: asked" in note for note in made.notes.values()) and "6 of 6" in made.yaml()
    wrong, _ = draft(log_probs=lambda request: log_probs(request, swapped="loans"))
    assert [key for key, note in wrong.notes.items() if "LOOK: asked" in note] == ["demos[0]", "demos[1]"]
    assert "4 of 6" in wrong.yaml() and "says cards" in wrong.yaml()


def test_a_generator_without_likelihoods_is_no_error():
    class Silent(ScriptedGenerator):
        def generate(self, requests):
            if requests[0].choices:
                raise GoldError("no logprobs")
            return super().generate(requests)

    made = Drafter(Silent(good)).draft(SENTENCE)
    assert made.blanks == [] and "nothing checked the labels" in made.yaml()


def test_answers_that_break_off():
    class Broken(Generator):
        def generate(self, requests):
            return [Completion("half of", finish="failed") for _ in requests]

    made = Drafter(Broken()).draft(SENTENCE, labels=["a", "b"])
    assert {reason for part in made.parts for reason in part.reasons} == {"failed"}


@pytest.fixture
def letters(tmp_path):
    path = tmp_path / "letters.csv"
    rows = [
        f'"Dear bank, this is letter number {i} about my {NOUNS[i % 10]}, {"please " * (i % 7)}answer",{i},x'
        for i in range(60)
    ]
    path.write_text("Text of letter,id,kind\n" + "\n".join(rows), encoding="utf-8")
    return path


def test_lengths_and_subjects_come_from_real_texts(letters):
    real = read_real_texts(str(letters))
    assert dict(real.columns) == {"text_of_letter": "Text of letter"} and real.ignored == ["id", "kind"]

    def log_probs(request):
        return [float("loan" in request.suffix), float("card" in request.suffix), float("account" in request.suffix)]

    made, generator = draft(real=real, log_probs=log_probs, labels=["loans", "cards", "savings"])
    task = made.task
    lengths = sorted(len(row["text_of_letter"]) for row in real.rows)
    field = task.fields[0]
    assert field.min_chars <= lengths[1] and lengths[-2] <= field.max_chars <= max(lengths[-1] + 10, 200)
    assert task.test.columns == {"text_of_letter": "Text of letter"}
    shown = [r for r in generator.requests if "Dear bank" in r.suffix]
    assert any(asked(r)[0] == "content" for r in shown) and any("in the manner of this text" in r.suffix for r in shown)
    assert any("by the generator's guess" in note for note in made.notes.values())
    texts = {row["text_of_letter"] for row in real.rows}
    assert all(demo.fields["text_of_letter"] not in texts for demo in task.demos)
    assert "none is a copy of your texts" in made.yaml()


@pytest.mark.parametrize(("broken", "multiline"), [(0, None), (5, None), (6, True), (30, True)])
def test_real_texts_with_line_breaks_make_a_multiline_field(tmp_path, broken, multiline):
    path = tmp_path / "mails.jsonl"
    rows = [f"Dear bank,{chr(10) if i < broken else ' '}this is mail {i} about a {NOUNS[i % 10]}." for i in range(30)]
    path.write_text("".join(json.dumps({"mail": row}) + "\n" for row in rows), encoding="utf-8")
    made, _ = draft(real=read_real_texts(str(path)), labels=["a", "b"])
    assert made.task.fields[0].multiline is multiline
    assert (f"{broken} of your 30 texts have line breaks" in made.yaml()) == bool(multiline)


def test_a_demo_that_copies_a_real_text_is_rejected(letters):
    def replies(request):
        if "in the manner of this text" in request.suffix:
            return " " + request.suffix.split("text_of_letter: ")[1].split("\n")[0]
        return good(request)

    made, _ = draft(replies, real=read_real_texts(str(letters)), labels=["a", "b"])
    demos = [part for part in made.parts if part.key.startswith("demos")]
    assert len(demos) == 4 and all(part.blank and set(part.reasons) == {"copies_demo"} for part in demos)


def test_lines_of_a_text_file_get_the_name_that_the_generator_gives(tmp_path):
    path = tmp_path / "letters.txt"
    path.write_text("".join(f"Letter {i} of somebody about a {NOUNS[i % 10]}.\n" for i in range(30)), encoding="utf-8")
    made, _ = draft(real=read_real_texts(str(path)), labels=["a", "b"])
    assert [f["name"] for f in made.document["fields"]] == ["letter"] and made.blanks == []


@pytest.mark.parametrize(
    ("content", "fields", "key"),
    [
        ("id,n\n1,2\n3,4\n", (), "--from"),
        ("text,n\na b c,2\n", ("gone",), "--fields"),
        ("", (), "--from"),
        ("text,n\n,2\n", ("text",), "--from"),
    ],
)
def test_files_without_texts_are_refused_with_their_columns(content, fields, key, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(content)
    with pytest.raises(ConfigError) as refused:
        read_real_texts(str(path), fields)
    assert refused.value.key == key
    with pytest.raises(ConfigError):
        read_real_texts(str(tmp_path / "gone.csv"))


def test_from_python(letters):
    generator = ScriptedGenerator(good)
    task = draft_task(SENTENCE, labels=["a", "b"], texts=str(letters), generator=generator)
    assert isinstance(task, Task) and len(task.demos) == 4
    with pytest.raises(GoldError, match="nothing usable"):
        draft_task(SENTENCE, generator=ScriptedGenerator([""]))


@pytest.mark.parametrize("sentence", ["", "  ", "word", "!!! ???"])
def test_a_sentence_is_needed(sentence):
    with pytest.raises(ConfigError) as refused:
        draft(sentence=sentence)
    assert refused.value.key == "the task"


@pytest.mark.parametrize(
    "sentence", ["新闻属于哪个版面 请分类 新闻", "Ist dieser Brief höflich?", "1 2 3", "a" * 200 + " b"]
)
def test_names_of_tasks_are_names_of_folders(sentence):
    name = task_name(sentence)
    assert name.isidentifier() and len(name) <= 40
    made, _ = draft(sentence=sentence, labels=["a", "b"])
    assert made.task.name == name


def test_the_same_seed_gives_the_same_draft():
    one, other = draft()[0], draft()[0]
    assert one.yaml() == other.yaml() and json.dumps(one.document)
    assert Checker(one.task)
