"""Whether a student can learn a task: its tokenizer, the labels, the targets, and what is cut."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from gold_lightning.cli.main import main
from gold_lightning.errors import GoldError
from gold_lightning.t5.checks import Cut, answer_of, check_student, count_cut
from gold_lightning.t5.weights import load_tokenizer
from gold_lightning.task import Field, Label, Sample, StudentFormat, Task, TestRow
from transformers import AutoConfig, AutoTokenizer, T5Config, T5ForConditionalGeneration

from tests.fakes import make_tiny_student, make_word_student

TEXTS = ("You charged my card twice.", "My parcel is in the depot.")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A student whose tokenizer is like T5's own."""
    return make_word_student(tmp_path_factory.mktemp("words"))


def labels(*names, most=32, texts=TEXTS, template="{queue}"):
    demos = tuple(Sample({"message": texts[i % len(texts)] + " " * i}, name) for i, name in enumerate(names))
    return Task(
        "tickets",
        "Each sample is a message.",
        (Field("message", "a message"),),
        Field("queue", "its desk"),
        demos,
        StudentFormat("queue of: {message}", template, max_target_tokens=most),
        tuple(Label(name, name) for name in names),
    )


def targets(*texts, metrics=("exact_match",), template="{out}", most=64):
    demos = tuple(Sample({"message": TEXTS[i % 2]}, text) for i, text in enumerate(texts))
    form = StudentFormat("do: {message}", template, max_target_tokens=most)
    fields = (Field("message", "a message"),), Field("out", "what to write")
    return Task("texts", "Each sample is a message.", *fields, demos, form, metrics=metrics)


def refused(task, student, *parts, key="model.student"):
    with pytest.raises(GoldError) as e:
        check_student(task, student, key=key)
    told = str(e.value)
    assert "\n" not in told and told.startswith(f"{key} {student!r}: expected "), told
    assert [part for part in parts if part not in told] == [], told


@pytest.mark.parametrize(
    "task",
    [
        labels("billing", "delivery"),
        labels("billing", "delivery", "x"),
        labels("Sci/Tech", "not_entailment", "a b"),
        labels("1", "2", template="desk {queue}."),
        targets("a note", "another note"),
        targets("a  note\nof two lines", metrics=("rouge_l",)),
        targets('{"a": 1}', "a b", metrics=("rouge_l", "exact_match")),
    ],
    ids=lambda task: task.label_names or task.demos[0].target,
)
def test_what_a_student_can_learn_is_let_through(task, words, tiny_student):
    for student in (words, tiny_student):
        warned = check_student(task, student)
        assert bool(warned) is ("{" in task.demos[0].target and student == words)
    assert check_student(task, "embedded") == []


@pytest.mark.parametrize(
    ("task", "parts"),
    [
        (labels("\u597d", "\u574f"), ["tell the labels apart", "'\u597d' and '\u574f' are the same tokens"]),
        (labels("<a", "{a", "b"), ["tell the labels apart", "'<a' and '{a'", "rename one"]),
        (labels("a b", "a  b"), ["tell the labels apart", "'a b' and 'a  b'"]),
        (labels("x", "\uff58"), ["tell the labels apart"]),
        (labels("good", "not \u597d"), ["write each label", "labels[1] 'not \u597d' as 'not'", "name the label"]),
        (labels("{a}", "b"), ["write each label", "labels[0] '{a}' as 'a'"]),
        (labels("\uff58", "b"), ["write each label", "as 'x'"]),
        (
            labels("billing", "a very long label", most=8),
            ["takes 19 tokens", "max_target_tokens 8", "to 19 "],
        ),
        (labels("billing", "d" * 8, "d" * 8 + "x", most=8), ["takes 10 tokens", "max_target_tokens 8"]),
        (
            labels("a", "b", texts=("\u5305\u88f9\u53c8\u665a\u4e86", "\u8bf7\u9000\u94b1")),
            ["characters", "100%", "ByT5"],
        ),
        (targets("\u5305\u88f9", "\u9000\u94b1"), ["characters of the task", "100%", "targets"]),
        (targets('{"a": 1}', '{"b": 2}', metrics=("json_equal",)), ["json_equal could only be 0", "'{\"a\": 1}' as"]),
        (targets("x < 1", "y < 2"), ["exact_match could only be 0", "'x < 1' as 'x  1'"]),
        (targets("a\nb"), ["exact_match could only be 0"]),
    ],
    ids=lambda x: str(x.label_names or x.demos[0].target) if isinstance(x, Task) else "",
)
def test_what_it_cannot_write_or_tell_apart_is_one_line(task, parts, words):
    refused(task, words, *parts)
    refused(task, words, *parts, key="--student")


def test_targets_that_come_back_in_part_are_warned_of(words):
    lost, warned = check_student(targets("a note", "a < b", metrics=("exact_match",)), words)
    assert "lacks 12% of the characters in the demos' targets (as '<')" in lost
    assert "exact_match of a student without any fault would be 0.50" in warned and "'a < b' as 'a  b'" in warned


def test_the_text_around_a_target_is_no_part_of_the_answer():
    task = targets("4", template="answer: {out} .")
    assert [answer_of(task, text) for text in ("answer: 4 .", " answer: 4 .", "4", "answer:4", "answer")] == [
        "4", "4", "4", "4", "answer",
    ]  # fmt: skip
    assert answer_of(targets("4"), " 4 ") == "4"


def variant(tmp_path, change_config=None, change_tokenizer=None):
    """A tiny student with a change of its own."""
    folder = make_tiny_student(tmp_path / "student")
    if change_config:
        config = AutoConfig.from_pretrained(folder).to_dict() | change_config
        T5ForConditionalGeneration(T5Config(**config)).save_pretrained(folder)
    if change_tokenizer:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        change_tokenizer(tokenizer)
        tokenizer.save_pretrained(folder)
    return folder


TICKETS = labels("billing", "delivery")


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path):
    refused(TICKETS, variant(tmp_path, {"vocab_size": 50}), "259 tokens, the model 50")


def test_added_tokens_that_a_text_can_hold_are_refused_and_others_not(tmp_path):
    folder = variant(tmp_path, None, lambda t: t.add_tokens(["<extra>"]))
    refused(TICKETS, folder, "its tokenizer has 260 tokens, the model 259")
    path = tmp_path / "student" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"split_special_tokens": True}))
    spec = tmp_path / "student" / "tokenizer.json"
    held = json.loads(spec.read_text())
    for token in held["added_tokens"]:
        token["special"] = token["special"] or token["content"] == "<extra>"  # so the text is split
    spec.write_text(json.dumps(held))
    assert check_student(TICKETS, folder) == []


@pytest.mark.parametrize(("change", "part"), [({"eos_token_id": 5}, "ends a text with token 1, the model with 5")])
def test_a_tokenizer_that_ends_texts_otherwise_is_refused(tmp_path, change, part):
    refused(TICKETS, variant(tmp_path, change), part)


def test_a_tokenizer_without_padding_is_refused(tmp_path):
    def change(tokenizer):
        tokenizer.pad_token = None

    refused(TICKETS, variant(tmp_path, None, change), "no token for padding")


def test_a_blank_tokenizer_reads_nothing(tmp_path):
    from transformers import T5Tokenizer

    folder = variant(tmp_path)
    (tmp_path / "student" / "tokenizer.json").unlink()
    T5Tokenizer().save_pretrained(folder)
    refused(TICKETS, folder)  # by its tokens, or by what it makes of the texts


def test_what_is_cut_is_counted(tiny_student):
    task = replace(TICKETS, student=replace(TICKETS.student, max_input_tokens=20, max_target_tokens=10))
    tokenizer = load_tokenizer(tiny_student)
    rows = [
        Sample({"message": "short"}, "billing"),
        Sample({"message": "a good deal longer"}, "delivery"),
        TestRow({"message": "both"}, "a long target", ("short",)),
        TestRow({"message": "x" * 90}, "a long target", ("another long one",)),
    ]
    found = count_cut(task, tokenizer, rows)
    assert found == Cut(inputs=2, targets=1, of=4)
    one, two = found.sentences(task, "test rows")
    assert one.startswith("2 of 4 test rows are longer than student.max_input_tokens of the task (20)")
    assert "the targets of 1 of 4 test rows" in two and "max_target_tokens of the task (10)" in two
    assert count_cut(task, tokenizer, rows[:1]).sentences(task, "rows") == []
    assert count_cut(task, tokenizer, []) == Cut(0, 0, 0)


def test_tasks_check_takes_the_student_and_names_its_own_option(words, tmp_path, capsys):
    assert main(["tasks", "check", "news_topics", "--student", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: --student {str(tmp_path)!r}: expected ")
    assert main(["tasks", "check", "news_topics", "--student", words]) == 0
    assert capsys.readouterr().out.startswith("ok: news_topics")


def sets(**many):
    demos = [{"message": TEXTS[0], "queue": ["billing", "delivery"]}, {"message": TEXTS[1], "queue": []}]
    values = {"name": "t", "fields": ["message"], "target": "queue", "labels": ["billing", "delivery"], "demos": demos}
    form = {"input": "{message}", "max_target_tokens": many.pop("most", 32)}
    return Task(**values, student=form, many=many or True)


def test_sets_of_labels_can_be_written(words, tmp_path):
    assert check_student(sets(), words) == []
    assert check_student(sets(separator=" | ", none="-"), make_tiny_student(tmp_path)) == []


def test_sets_of_labels_that_cannot_be_written_are_refused(words):
    refused(sets(none="{nothing}"), words, "many.none '{nothing}'")
    refused(sets(most=3), words, "2 labels (many.sizes) may take 4 tokens of student.max_target_tokens 3")
    refused(sets(separator="~"), words, "it writes 'billing~delivery' as ", "many.separator")
