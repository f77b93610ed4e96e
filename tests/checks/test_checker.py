"""One reason for each reject, and nothing kept twice."""

import random
import re
from collections import Counter
from dataclasses import replace

import pytest
from gold_lightning.checks.checker import Checker
from gold_lightning.checks.duplicates import DuplicateIndex
from gold_lightning.checks.registry import CHECKS
from gold_lightning.checks.rules import _common
from gold_lightning.errors import ConfigError
from gold_lightning.generators import Completion
from gold_lightning.parsing.words import words
from gold_lightning.task import Check, Field, Label, Sample, StudentFormat, Task

from tests.fakes import tickets_task

TASK = Task(
    name="pairs",
    description="Pairs of sentences.",
    fields=(Field("premise", "a sentence", 10, 80), Field("claim", "another", 3, 80)),
    target=Field("verdict", "whether it follows"),
    demos=(
        Sample(
            {"premise": "The old ferry left the harbour at noon with forty people.", "claim": "A boat sailed."}, "holds"
        ),
        Sample({"premise": "Snow fell on the pass all night and closed it.", "claim": "The road was open."}, "fails"),
    ),
    student=StudentFormat("{premise} {claim}", "{verdict}"),
    labels=(Label("holds", "it follows"), Label("fails", "it does not")),
    checks=(
        Check("fields_differ", {"first": "premise", "second": "claim"}),
        Check("label_not_in_text"),
        Check("min_words", {"field": "claim"}),
    ),
)
FREE = Task(
    name="answers",
    description="Questions.",
    fields=(Field("text", "a text", 5, 100),),
    target=Field("answer", "words of the text", 2, 20),
    demos=(Sample({"text": "Mara lives in Oslo."}, "Oslo"),),
    student=StudentFormat("{text}", "{answer}"),
    checks=(Check("target_in_field", {"field": "text"}),),
)
ANSWER = "verdict: holds\npremise:"
PROMPT = "You write realistic samples for a data set about pairs of sentences. Write one new sample."
GOOD = " Two children flew a kite on the beach.\nclaim: Someone was playing outside."


def judge(text, checker=None, *, task=TASK, label="holds", answer=ANSWER, prompt=PROMPT, finish="stop"):
    checked = (checker or Checker(task)).judge(Completion(text, finish=finish), label, answer, prompt, task.demos)
    return checked.sample, checked.reason


def reason(text, checker=None, **how):
    sample, why = judge(text, checker, **how)
    assert (sample is None) == bool(why)
    return why


def test_a_good_completion_is_a_sample():
    sample, why = judge(GOOD)
    assert why == ""
    assert sample == Sample(
        {"premise": "Two children flew a kite on the beach.", "claim": "Someone was playing outside."}, "holds"
    )


def test_a_json_completion_stands_for_itself():
    sample, _ = judge('{"verdict": "holds", "premise": "Two children flew a kite.", "claim": "Someone was playing."}')
    assert sample is not None
    assert sample.fields["claim"] == "Someone was playing."


def test_a_completion_that_begins_with_a_brace_is_a_text_unless_it_is_json():
    sample, why = judge(" {Two children} flew a kite.\nclaim: Someone was playing.")
    assert why == ""
    assert sample == Sample({"premise": "{Two children} flew a kite.", "claim": "Someone was playing."}, "holds")
    assert reason('{"verdict": "holds", "premise": "Two children flew a kite') == "unparsable"


REASONS = {
    "empty": " \n\t",
    "unparsable": "{}",
    "missing_field": " Two children flew a kite on the beach.",
    "too_short": " Kite.\nclaim: Someone was playing outside.",
    "too_long": " " + "Two children flew a kite. " * 5 + "\nclaim: Someone was playing outside.",
    "label_not_in_set": '{"verdict": "perhaps", "premise": "Two children flew.", "claim": "Someone was playing."}',
    "wrong_label": '{"verdict": "fails", "premise": "Two children flew a kite.", "claim": "Someone was playing."}',
    "copies_demo": " The old ferry left the harbour at noon with forty people.\nclaim: The boat carried forty people.",
    "copies_prompt": " Realistic samples for a data set about pairs.\nclaim: It is realistic indeed.",
    "fields_equal": " Two children flew a kite.\nclaim: two children flew a kite!",
    "label_in_text": " Two children flew a kite.\nclaim: The claim holds for them.",
    "too_few_words": " Two children flew a kite.\nclaim: Playing outside.",
}


@pytest.mark.parametrize(("wanted", "text"), REASONS.items(), ids=REASONS)
def test_each_reason(wanted, text):
    assert reason(text) == wanted


def test_truncated():
    assert reason(GOOD.removesuffix("."), finish="length") == "truncated"
    assert reason("", finish="length") == "truncated"  # it is empty because all tokens went elsewhere


def test_refusals_and_thinking_are_reasons_of_their_own():
    refused = " I'm sorry, but I can't assist with that request."
    assert reason(refused) == reason(refused, finish="length") == "refusal"
    assert reason("<think> Two children", finish="length") == "only_thinking"
    assert reason(" Two children flew a kite.\nclaim: I cannot help with this request.") == "refusal"
    assert reason(refused + "\nclaim: Nobody helped them.", task=replace(TASK, allow_refusals=True)) == ""
    told = Completion("No.\nclaim: No.", reason="refusal")
    assert Checker(TASK).judge(told, "holds", ANSWER, PROMPT, TASK.demos).reason == "refusal"


def test_damaged_text_is_a_reject():
    for lost in ("\ufffd", "\x00", "\x92", "<unk>"):
        assert reason(GOOD.replace("kite", f"k{lost}te")) == "not_unicode"
    sample, _ = judge(GOOD.replace("kite", "\x1b[1mkite\x1b[0m"))
    assert sample == judge(GOOD)[0]


def test_the_second_field_has_limits_too():
    assert reason(" Two children flew a kite.\nclaim: No") == "too_short"
    assert reason(" Two children flew a kite.\nclaim: " + "very " * 40) == "too_long"
    assert reason(" Two children flew a kite.\nclaim:") == "missing_field"


def test_without_labels_the_target_has_limits():
    how = {"task": FREE, "label": None, "answer": "text:"}
    assert reason(" Tom lives in Rome.\nanswer: Rome", **how) == ""
    assert reason(" Tom lives in Rome.\nanswer: R", **how) == "too_short"
    assert reason(" Tom lives in Rome.\nanswer: " + "Rome " * 9, **how) == "too_long"
    assert reason(" Tom lives in Rome.\nanswer: rome", **how) == "target_not_in_field"


def test_duplicates_are_of_what_was_kept():
    checker = Checker(TASK)
    sample, _ = judge(GOOD, checker)
    assert reason(GOOD, checker) == ""  # judged, but not kept
    checker.keep(sample)
    assert reason(GOOD, checker) == "duplicate"
    assert reason(GOOD.replace("kite", "KITE,"), checker) == "duplicate"  # case and punctuation aside
    assert reason(GOOD.replace("outside", "outdoors"), checker) == "near_duplicate"
    assert (
        reason(" Nine trucks waited in line at the closed border.\nclaim: Traffic had come to a halt.", checker) == ""
    )


def test_keeping_twice_is_keeping_once():
    checker = Checker(TASK)
    sample, _ = judge(GOOD, checker)
    checker.keep(sample)
    checker.keep(sample)
    assert checker.duplicate(sample) == "duplicate"


def test_the_same_text_with_another_label_is_a_duplicate():
    checker = Checker(TASK)
    sample, _ = judge(GOOD, checker)
    checker.keep(sample)
    assert reason(GOOD, checker, label="fails", answer=ANSWER.replace("holds", "fails")) == "duplicate"


def test_near_duplicate_threshold():
    text = " ".join(f"word{i}" for i in range(40))
    near = text.replace("word20 ", "other ")  # shares 35 of 41 three-grams: 0.85
    for threshold, wanted in ((0.7, "near_duplicate"), (0.95, "")):
        index = DuplicateIndex(threshold)
        index.add(Sample({"text": text}, "holds"))
        assert index.reason(Sample({"text": near}, "holds")) == wanted


def test_a_text_that_was_forgotten_hides_no_other_like_it():
    texts = [" ".join([*(f"word{i}" for i in range(40)), end]) for end in ("a", "b", "c")]
    first, second, third = (Sample({"text": text}, "holds") for text in texts)
    index = DuplicateIndex()
    index.add(first)
    index.add(second)  # near the first: they share most bands
    index.remove(first)
    assert (index.reason(first), index.reason(third)) == ("near_duplicate", "near_duplicate")
    index.remove(second)
    index.remove(second)
    assert [index.reason(sample) for sample in (first, second, third)] == ["", "", ""]


def test_a_threshold_of_one_is_allowed_and_means_the_same_three_grams():
    sample, _ = judge(GOOD)
    other, _ = judge(GOOD.replace("outside", "outdoors"))
    index = DuplicateIndex(1.0)
    index.add(sample)
    assert (index.reason(sample), index.reason(other)) == ("duplicate", "")


@pytest.mark.parametrize(
    ("check", "key"),
    [
        (Check("no_such"), "checks[0]"),
        (Check("min_words", {"field": "premise", "number": 3}), "checks[0].min_words"),
        (Check("min_words", {"field": "premis"}), "checks[0].min_words"),
        (Check("fields_differ", {"first": "premise"}), "checks[0].fields_differ"),
        (Check("label_not_in_text", {"label": "x"}), "checks[0].label_not_in_text"),
        (Check("not_repeated", {"first": "premise", "second": "claim", "share": 0}), "checks[0].not_repeated"),
        (Check("not_repeated", {"first": "premise", "second": "claim", "share": "x"}), "checks[0].not_repeated"),
        (Check("not_repeated", {"first": "premise", "second": "hypothesis"}), "checks[0].not_repeated"),
        (Check("equation"), "checks[0].equation"),
        (Check("equation", {"fields": ["body"]}), "checks[0].equation"),
        (Check("equation", {"fields": "premise"}), "checks[0].equation"),
        (Check("equation", {"fields": ["premise"], "constants": 3}), "checks[0].equation"),
        (Check("equation", {"fields": ["premise"], "constants": ["dozen"]}), "checks[0].equation"),
        (Check("equation", {"fields": ["premise"], "constants": [float("nan")]}), "checks[0].equation"),
        (Check("linear_programme", {"field": "premise"}), "checks[0].linear_programme"),
        (Check("json_keys"), "checks[0].json_keys"),
        (Check("json_keys", {"keys": "day"}), "checks[0].json_keys"),
        (Check("json_keys", {"keys": ["day", 1]}), "checks[0].json_keys"),
        (Check("json_keys", {"keys": ["day"], "field": "text"}), "checks[0].json_keys"),
    ],
)
def test_wrong_checks_are_named_at_once(check, key):
    with pytest.raises(ConfigError) as e:
        Checker(replace(TASK, checks=(check,)))
    assert str(e.value).startswith(f"{key}: got ")
    assert len(str(e.value).splitlines()) == 1


def test_label_in_text_is_about_whole_words():
    check = CHECKS["label_not_in_text"]
    assert check(Sample({"premise": "Households pay more."}, "holds"), TASK) == ""
    assert check(Sample({"premise": "Nobody HOLDS it."}, "holds"), TASK) == "label_in_text"
    assert check(Sample({"premise": "The sci fi tech"}, "Sci/Tech"), TASK) == ""
    assert check(Sample({"premise": "news of sci-tech"}, "Sci/Tech"), TASK) == "label_in_text"


SUM = Task(
    name="sums",
    description="Sums.",
    fields=(Field("body", "a story", 5, 200), Field("question", "a question", 5, 100)),
    target=Field("sum", "the arithmetic", 1, 400),
    demos=(Sample({"body": "Ann has 5 pens and buys three.", "question": "How many has she?"}, "5 + 3"),),
    student=StudentFormat("{body} {question}", "{sum}"),
    checks=(Check("equation", {"fields": ["body", "question"]}),),
)


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("( 1,250.0 - 3.0 )", ""),
        ("1250 \u2212 -3", ""),
        ("25 \u00d7 0.5", ""),
        ("1250 * 60 / 100", ""),
        ("1250 * 61", "equation_number_not_in_text"),
        ("1247", "equation_number_not_in_text"),
        ("1250 / (3 - 3)", "equation_not_finite"),
        ("1250", "equation_of_one_number"),
        ("-(3)", "equation_of_one_number"),
        ("60 / 12", "equation_number_not_in_text"),  # constants alone
        ("1250 - 3 = 1247", "equation_unparsable"),
        ("x - -3", "equation_unparsable"),
        ("__import__('os').system('ls')", "equation_unparsable"),
        ("(" * 99 + "3" + ")" * 99, "equation_unparsable"),
        ("9" * 301, "equation_unparsable"),
    ],
)
def test_equation(target, wanted):
    sample = Sample({"body": "Half of 1,250 jars and three bags", "question": "were in twenty-five boxes?"}, target)
    assert CHECKS["equation"](sample, SUM, fields=["body", "question"]) == wanted
    assert reason(f" Half of 1,250 jars and three bags\nquestion: were in twenty-five boxes?\nsum: {target}",
                  task=SUM, label=None, answer="body:") == wanted  # fmt: skip


def test_constants_of_an_equation():
    sample = Sample({"body": "7 jars", "question": "how many?"}, "7 * 12 + 0.25")
    check = CHECKS["equation"]
    assert check(sample, SUM, fields=["body"]) == "equation_number_not_in_text"
    assert check(sample, SUM, fields=["body"], constants=[12, 0.25]) == ""
    assert check(sample, SUM, fields=["body"], constants=[]) == "equation_number_not_in_text"


PROGRAMME = (
    "Variables:\n x: chairs, y: tables\nObjective Function:\nminimize\n2.00 * x + 5.00 * y\n"
    "Constraints:\n1.00 * x + 1.00 * y \u2265 40.00"
)


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        (PROGRAMME, ""),
        (PROGRAMME.replace("y: tables", "z: tables"), "programme_undeclared"),
        (PROGRAMME.replace("1.00 * y", "x * y"), "programme_not_linear"),
        (PROGRAMME.replace("40.00", "40 / 0"), "programme_not_finite"),
        (PROGRAMME.replace("minimize", "find"), "programme_unparsable"),
    ],
)
def test_linear_programme(target, wanted):
    assert CHECKS["linear_programme"](Sample({"text": ""}, target), FREE) == wanted


@pytest.mark.parametrize(
    ("second", "wanted"),
    [
        ("The ferry to Ask leaves at noon.", "field_repeated"),
        ("the FERRY to ask", "field_repeated"),
        ("On Sundays, the ferry to Ask", "field_repeated"),  # all its words, in this order
        ("Ask leaves the ferry at noon", ""),  # in another order
        ("The ferry to Ask leaves at midnight.", ""),
        ("...", ""),
    ],
)
def test_not_repeated(second, wanted):
    sample = Sample({"premise": "On Sundays and Mondays, the ferry to Ask leaves at noon.", "claim": second}, "holds")
    assert CHECKS["not_repeated"](sample, TASK, first="premise", second="claim") == wanted


def test_not_repeated_by_share():
    text = " ".join(f"word{i}" for i in range(20))
    sample = Sample({"premise": f"{text} and more", "claim": text.replace("word7", "other")}, "holds")
    for share, wanted in ((0.95, "field_repeated"), (0.96, ""), (1.0, "")):
        assert CHECKS["not_repeated"](sample, TASK, first="premise", second="claim", share=share) == wanted


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ('{"day": "Friday", "seats": 40}', ""),
        ('{"seats": 40.0, "day": "friday"}', ""),
        ('{"day": ["Friday", {"or": "9 pm"}], "seats": null}', ""),
        ('{"day": "Friday 9 pm", "seats": true}', ""),
        ('{"day": "Friday"}', "json_keys"),
        ('{"day": "Friday", "seats": 40, "place": "gym"}', "json_keys"),
        ('{"Day": "Friday", "seats": 40}', "json_keys"),
        ('["day", "seats"]', "json_keys"),
        ('{"day": "Friday", "seats": 40', "json_unparsable"),
        ('{"day": "Friday", "day": "Friday", "seats": 40}', "json_unparsable"),
        ("Friday, 40", "json_unparsable"),
        ("[" * 100_000, "json_unparsable"),
        ('{"day": "Monday", "seats": 40}', "json_value_not_in_field"),
        ('{"day": "Friday", "seats": 4}', "json_value_not_in_field"),
        ('{"day": ["Friday", ["Monday"]], "seats": 40}', "json_value_not_in_field"),
        ('{"day": "9 pm Friday", "seats": 40}', "json_value_not_in_field"),
        ('{"day": "", "seats": 40}', "json_value_not_in_field"),
    ],
)
def test_json_keys(target, wanted):
    sample = Sample({"text": "The quiz is on Friday, 9 p.m. and has 40 seats: Friday 9 pm!"}, target)
    check = CHECKS["json_keys"]
    assert check(sample, FREE, keys=["day", "seats"], field="text") == wanted
    free = "" if wanted == "json_value_not_in_field" else wanted
    assert check(sample, FREE, keys=["seats", "day"]) == free  # what stands in it is not compared


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ('{"day": "Friday", "seats": 40, "open": true, "late": true}', ""),
        ('{"day": "Friday", "seats": "friday!", "open": 1, "late": 2}', "json_values_equal"),
        ('{"day": ["1", 1], "seats": null, "open": null, "late": 2}', "json_values_equal"),
    ],
)
def test_json_values_that_must_differ(target, wanted):
    how = {"keys": ["day", "seats", "open", "late"]}
    assert CHECKS["json_keys"](Sample({"text": ""}, target), FREE, **how, distinct=True) == wanted
    assert CHECKS["json_keys"](Sample({"text": ""}, target), FREE, **how) == ""


def test_not_repeated_without_a_share_is_about_one_piece():
    sample = Sample({"premise": "The lorry stood at the bridge because it was too low.", "claim": ""}, "holds")
    for second, wanted in (("The lorry was too low.", ""), ("It was too low!", "field_repeated")):
        sample = replace(sample, fields={**sample.fields, "claim": second})
        assert CHECKS["not_repeated"](sample, TASK, first="premise", second="claim", share=None) == wanted


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("May 1702", ""),
        ("$5", ""),  # a sign is no part of a word
        ("5 shillings.", ""),
        ("he", "target_not_in_field"),  # in "the"
        ("17", "target_not_in_field"),
        ("may 1702", "target_not_in_field"),
        ("", "target_not_in_field"),
    ],
)
def test_target_in_field_is_about_whole_words(target, wanted):
    sample = Sample({"text": "In May 1702 the toll was US$5, or 5 shillings."}, target)
    assert CHECKS["target_in_field"](sample, FREE, field="text") == wanted


def test_target_in_field_where_no_spaces_part_words():
    sample = Sample({"text": "\u6761\u7ea6\u5728\u8c37\u4ed3\u91cc\u7b7e\u8ba2"}, "\u8c37\u4ed3")
    assert CHECKS["target_in_field"](sample, FREE, field="text") == ""
    assert CHECKS["target_in_field"](sample, FREE, field="text", whole_words=False) == ""
    missing = Sample(sample.fields, "\u8c37\u7c73")
    assert CHECKS["target_in_field"](missing, FREE, field="text") == "target_not_in_field"


@pytest.mark.parametrize(
    ("text", "target", "wanted"),
    [
        ("\u0915\u0930\u0928\u093e \u0939\u0948", "\u0915\u0930", "target_not_in_field"),  # kar in karna
        ("\u0915\u093e \u0918\u0930", "\u0915", "target_not_in_field"),  # a letter without its vowel sign
        ("\u0915\u093e \u0918\u0930", "\u0918\u0930", ""),
        ("un cafe\u0301 noir", "caf\u00e9", ""),  # decomposed and composed
        ("un cafe\u0301 noir", "cafe", "target_not_in_field"),
        ("\u6211\u7528GPT4\u5199", "GPT4", ""),  # Latin letters between Chinese ones
        ("\u6211\u7528GPT4\u5199", "GPT", "target_not_in_field"),
        ("\u0e01\u0e23\u0e38\u0e07\u0e40\u0e17\u0e1e", "\u0e40\u0e17\u0e1e", ""),
        ("\u0e17\u0e35\u0e48", "\u0e17", "target_not_in_field"),  # a Thai letter without its marks
    ],
)
def test_target_in_field_in_other_scripts(text, target, wanted):
    assert CHECKS["target_in_field"](Sample({"text": text}, target), FREE, field="text") == wanted


CHINESE = "\u5c3d\u7ba1\u4e0b\u96e8\uff0c\u5b69\u5b50\u4eec\u8fd8\u662f\u5728\u6d77\u8fb9\u653e\u98ce\u7b5d\u3002"


def test_near_duplicates_without_spaces():
    checker = Checker(FREE)
    checker.keep(Sample({"text": CHINESE * 2}, "x"))
    other = "\u516c\u53f8\u4eca\u5929\u516c\u5e03\u4e86\u65b0\u7684\u8d22\u52a1\u62a5\u544a\u3002"
    assert checker.duplicate(Sample({"text": CHINESE * 2 + "\u597d"}, "y")) == "near_duplicate"
    assert checker.duplicate(Sample({"text": (CHINESE * 2).replace("\uff0c", "")}, "y")) == "duplicate"
    assert (
        checker.duplicate(Sample({"text": other * 2}, "y"))
        == checker.duplicate(Sample({"text": CHINESE[6:]}, "y"))
        == ""
    )


def test_symbols_alone_are_compared_as_they_are():
    checker = Checker(FREE)
    checker.keep(Sample({"text": "\U0001f600"}, "x"))
    assert checker.duplicate(Sample({"text": "\U0001f600"}, "x")) == "duplicate"
    assert checker.duplicate(Sample({"text": "\U0001f620"}, "y")) == ""


@pytest.mark.parametrize(
    ("text", "count", "wanted"),
    [
        ("\u597d\u7684", 2, "too_few_words"),  # a word of two characters
        ("\u4ed6\u4eec\u5728\u6d77\u8fb9", 3, ""),
        ("\u0915\u093f\u0924\u093e\u092c\u0947\u0902", 2, "too_few_words"),  # one word with marks, not four
        ("\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", 3, "too_few_words"),
        ("two words", 2, ""),
    ],
)
def test_min_words_in_any_script(text, count, wanted):
    assert CHECKS["min_words"](Sample({"text": text}, "x"), FREE, field="text", count=count) == wanted


def test_a_label_in_a_text_without_spaces():
    hidden = Sample({"text": "\u6211\u6700\u559c\u6b22\u4f53\u80b2\u8bfe"}, "\u4f53\u80b2")
    assert CHECKS["label_not_in_text"](hidden, FREE) == "label_in_text"
    assert CHECKS["label_not_in_text"](Sample(hidden.fields, "\u8d22\u7ecf"), FREE) == ""


def test_the_longest_common_subsequence_is_that_of_the_table():
    def table(first, second):
        above = [0] * (len(second) + 1)
        for word in first:
            row = [0]
            for j, other in enumerate(second):
                row.append(above[j] + 1 if word == other else max(row[j], above[j + 1]))
            above = row
        return above[-1]

    rng = random.Random(0)
    for _ in range(500):
        first, second = ([rng.choice("abcde") for _ in range(rng.randrange(80))] for _ in range(2))
        assert _common(first, second) == table(first, second)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Who came? ", ""),
        ("He came.", "not_a_question"),
        ("", "not_a_question"),
        ("\u8c01\u6765\u4e86\uff1f", ""),
        ("\u0645\u0646 \u062c\u0627\u0621\u061f", ""),
        ("\u03a0\u03bf\u03b9\u03bf\u03c2 \u03ae\u03c1\u03b8\u03b5;", ""),  # Greek's own mark
        ("He came;", "not_a_question"),
    ],
)
def test_is_question(text, wanted):
    assert CHECKS["is_question"](Sample({"text": text}, "x"), FREE, field="text") == wanted


def test_words():
    assert words("It's 2 STRASSE-n!") == ["it", "s", "2", "strasse", "n"]
    assert words("...") == []


@pytest.mark.parametrize("name", ["prem\u0131se", "prem\u0130se", "CLA\u0131M"])
def test_hostile_names_do_not_end_the_round(name):
    assert isinstance(reason(f" x\n{name}: Two children flew a kite."), str)


@pytest.mark.parametrize(
    "text",
    [
        " Two children \\ud800 flew a kite on the beach.\nclaim: Someone was playing outside.",
        '{"verdict": "holds", "premise": "Two children \\ud800 flew a kite.", "claim": "Someone was playing."}',
    ],
    ids=["lines", "json"],
)
def test_what_is_accepted_can_be_tokenised(text):
    # Six plain characters in a completion; as a lone surrogate no tokenizer takes them, and training would stop.
    sample, why = judge(text)
    assert sample is None or sample.text.encode("utf-8")
    assert (sample is None) == bool(why)


PIECES = [
    "", " ", "\n", "\n\n", "\r\n", "\t", "\x00", "\x1c", "\u2028", "\ufeff", "\u202e", "\ud800", "\U0001f600",
    "e\u0301" * 30,
    "verdict:", "premise:", "claim:", "VERDICT :", "**claim**:", "- premise:", "1) claim:", "holds", "fails", "perhaps",
    "{", "}", "[", '{"verdict": "holds"', '"premise": ', '{"verdict": ["holds"], "premise": {}, "claim": 1e999}',
    "null", "NaN",
    "\\", "\\n", "\\u", "\\ud83d", "\\u0000", '"', '""', "'", "%s", "{premise}", "</s>", "<pad>",
    "<script>alert(1)</script>",
    "Two children flew a kite", "on the beach.", "Someone was playing outside.",
    "The old ferry left the harbour at noon",
    "a " * 50, "x" * 300, "?" * 90, "\u3042" * 20, "word", "1", "-", "\u0130", "\u0131",
]  # fmt: skip


def hostile(rng):
    if rng.random() < 0.2:
        return "".join(
            chr(rng.choice([rng.randrange(128), rng.randrange(0x3000), rng.randrange(0x110000)]))
            for _ in range(rng.randrange(80))
        )
    junk = rng.choice(["", " "]).join(rng.choice(PIECES) for _ in range(rng.randrange(14)))
    if rng.random() < 0.4:
        return junk
    # What nearly is a sample: most pieces of text, a name or two, and junk somewhere.
    plain = [p for p in PIECES if p[:1].isalpha() and ":" not in p]
    parts = [rng.choice(plain) for _ in range(3)] + [
        rng.choice(["\nclaim:", "\nanswer:"]),
        rng.choice(plain),
        rng.choice(PIECES),
    ]
    return " " + " ".join(parts) + (junk if rng.random() < 0.2 else "")


@pytest.mark.slow
def test_hostile_completions_are_each_counted():
    rng = random.Random(0)
    documented = set(re.findall(r"``(\w+)``", Checker.__doc__))
    known = {"", "fields_equal", "label_in_text", "too_few_words", "target_not_in_field", *documented}
    for task, answer in ((TASK, ANSWER), (FREE, "text:")):
        checker, seen = Checker(task), Counter()
        for i in range(1000):
            label = "holds" if task.labels else None
            finish = "length" if i % 50 == 0 else "stop"
            sample, why = judge(hostile(rng), checker, task=task, label=label, answer=answer, finish=finish)
            assert (sample is None) == bool(why)
            if sample is not None:
                assert sample.target == "holds" or not task.labels
                assert list(sample.fields) == [f.name for f in task.fields]
                checker.keep(sample)
                assert checker.duplicate(sample) == "duplicate"
            seen[why] += 1
        assert seen.total() == 1000
        assert set(seen) <= known
        assert len(seen) >= 6  # the fuzz gets past the first checks


def test_same_completions_same_verdicts():
    def run():
        rng, checker, found = random.Random(1), Checker(FREE), []
        for _ in range(200):
            sample, why = judge(
                f" Tom {rng.randrange(20)} lives in Rome.\nanswer: Rome", checker, task=FREE, label=None, answer="text:"
            )
            if sample:
                checker.keep(sample)
            found.append(why)
        return found

    first = run()
    assert first == run()
    assert {"", "duplicate"} <= set(first)


# Texts cut at the end of a sentence

TICKETS = tickets_task(10, 60)
CUT_ANSWER = "queue: billing\nmessage:"
ENDLESS = " You took the money from my account twice. I also wonder whether the bill"


def checked(text, task=TICKETS, finish="stop"):
    return Checker(task).judge(Completion(text, finish=finish), "billing", CUT_ANSWER, "", [])


def with_field(task=TICKETS, **keys):
    return replace(task, fields=(replace(task.fields[0], **keys),))


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_a_long_text_ends_with_its_last_whole_sentence(finish):
    found = checked(ENDLESS, finish=finish)
    assert found.sample == Sample({"message": "You took the money from my account twice."}, "billing") and found.cut


def test_a_text_within_the_limits_is_not_cut():
    found = checked(" You took the money twice. Why?")
    assert found.sample.fields["message"] == "You took the money twice. Why?" and not found.cut


def test_a_text_that_the_token_limit_broke_off_behind_a_whole_sentence_is_whole():
    found = checked(" You took the money twice.", finish="length")
    assert found.sample.fields["message"] == "You took the money twice." and not found.cut


def test_cutting_leaves_min_chars_or_the_text_is_rejected():
    assert checked(" Oh no. " + "I pay and pay " * 6).reason == "too_long"
    assert checked(" Oh no. I pay", finish="length").reason == "truncated"
    assert checked(" I pay and pay", finish="length").reason == "truncated"


def test_a_setting_turns_cutting_off():
    off = with_field(cut_at_sentence=False)
    assert checked(ENDLESS, off).reason == "too_long"
    assert checked(ENDLESS, off, "length").reason == "truncated"


def test_more_sentences_than_the_field_may_have():
    one = with_field(max_sentences=1)
    assert checked(" You took it twice. Why is that?", one).sample.fields["message"] == "You took it twice."
    off = with_field(one, cut_at_sentence=False)
    assert checked(" You took it twice. Why is that?", off).reason == "too_many_sentences"
    assert checked(" You took it twice.", off).reason == ""


def test_texts_with_line_breaks_or_with_others_written_for_them_are_cut_on_demand():
    lines = replace(TICKETS, demos=tuple(replace(d, fields={"message": d.text + "\nBest, Ann"}) for d in TICKETS.demos))
    assert checked(ENDLESS, lines).reason == "too_long"
    assert checked(ENDLESS, with_field(lines, cut_at_sentence=True)).cut
    assert [TASK.cuts(f) for f in TASK.fields] == [False, True]  # the claim was written for the premise
    assert not any(FREE.cuts(f) for f in (*FREE.fields, FREE.target))


def test_a_character_that_the_token_limit_broke_is_cut_off():
    assert checked(ENDLESS + " \ufffd", finish="length").cut
    assert checked(" You took\ufffd the money twice. And", finish="length").reason == "not_unicode"
