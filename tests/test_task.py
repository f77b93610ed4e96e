"""Task files: what is read, and that whatever is wrong is told in one line that names the key."""

import copy
import json
import pickle
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
import yaml
from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.prompts import Hint, training_request
from gold_lightning.task import Check, Field, Label, Sample, StudentFormat, Task, TestData, task_schema

TASKS = sorted(p.stem for p in (Path(str(resources.files("gold_lightning"))) / "tasks").glob("*.yaml"))

GOOD = {
    "name": "entailment",
    "description": "Each sample is a pair of sentences.",
    "fields": [
        {"name": "premise", "description": "a sentence", "min_chars": 3, "max_chars": 60},
        {"name": "claim", "description": "another sentence"},
    ],
    "target": {"name": "verdict", "description": "whether the claim follows"},
    "labels": [
        {"name": "true", "meaning": "it follows", "hints": ["trains", "rain"]},
        {"name": "false", "meaning": "it does not"},
    ],
    "demos": [
        {"premise": "It rains.", "claim": "It is wet.", "verdict": "true"},
        {"premise": "It rains.", "claim": "It is dry.", "verdict": "false"},
    ],
    "hints": {"topics": ["weather"], "styles": []},
    "student": {
        "input": "nli {premise} / {claim}",
        "target": "{verdict}",
        "max_input_tokens": 64,
        "max_target_tokens": 4,
    },
    "checks": ["label_not_in_text", {"fields_differ": {"first": "premise", "second": "claim"}}],
    "metrics": ["accuracy"],
    "test": {"file": "rows.jsonl", "columns": {"premise": "sentence1"}, "label_names": {0: "true", "1": "false"}},
    "max_sample_tokens": 50,
}
MISSING = object()


def changed(**changes):
    """GOOD with values set by path, ``demos__0__verdict=...``; MISSING takes the key out."""
    task = copy.deepcopy(GOOD)
    for path, value in changes.items():
        *way, last = [int(p) if p.isdigit() else p for p in path.split("__")]
        at = task
        for key in way:
            at = at[key]
        if value is MISSING:
            del at[last]
        else:
            at[last] = value
    return task


def load(tmp_path, content):
    path = tmp_path / "task.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return Task.load(str(path))


def refusal(tmp_path, content):
    """The message without the file's name; exactly one line."""
    with pytest.raises(GoldError) as e:
        load(tmp_path, content)
    message = str(e.value)
    assert len(message.splitlines()) == 1
    prefix = f"{tmp_path / 'task.yaml'}: "
    assert message.startswith(prefix)
    return message.removeprefix(prefix)


def test_a_good_task_is_read_whole(tmp_path):
    task = load(tmp_path, GOOD)
    assert [f.name for f in task.fields] == ["premise", "claim"]
    assert task.fields[0] == Field("premise", "a sentence", 3, 60)
    assert task.label_names == ("true", "false")
    assert task.label("true").hints == ("trains", "rain")
    assert task.demos[1] == Sample({"premise": "It rains.", "claim": "It is dry."}, "false")
    assert task.hints.topics == ("weather",)
    assert task.hints.styles == ()
    assert len(task.hints.perspectives) > 1  # left out: the default
    assert task.checks[1].params == {"first": "premise", "second": "claim"}
    assert task.test.label_names == {"0": "true", "1": "false"}
    assert task.test.split == "validation"
    assert task.max_sample_tokens == 50
    assert not task.contrast
    assert task.student_input(task.demos[0]) == "nli It rains. / It is wet."
    assert task.student_target("true") == "true"
    assert task.demos[0].text == "It rains.\nIt is wet."


def test_braces_in_a_text_are_no_slots(tmp_path):
    task = load(tmp_path, GOOD)
    sample = Sample({"premise": "{claim} {0} {", "claim": "}"}, "true")
    assert task.student_input(sample) == "nli {claim} {0} { / }"


def test_a_task_without_labels(tmp_path):
    free = changed(labels=MISSING, demos__0__verdict="anything at all", student__target=MISSING)
    task = load(tmp_path, free)
    assert task.labels == ()
    assert task.label_names == ()
    assert task.student_target("x") == "x"


def test_a_task_that_does_not_name_refusals_is_the_task_that_it_was(tmp_path):
    plain, off = load(tmp_path, GOOD), load(tmp_path, changed(allow_refusals=False))
    assert not plain.allow_refusals
    assert plain.to_dict() == off.to_dict()
    assert "allow_refusals" not in plain.to_dict()  # run folders of before the key are gone on with
    on = load(tmp_path, changed(allow_refusals=True))
    assert on.allow_refusals
    assert on.to_dict() == plain.to_dict() | {"allow_refusals": True}


def test_keys_of_fields_that_are_not_set_are_not_in_fingerprints(tmp_path):
    plain = load(tmp_path, GOOD).to_dict()
    assert not {"max_sentences", "cut_at_sentence"} & {*plain["fields"][0], *plain["target"]}
    limited = load(tmp_path, changed(fields__0__max_sentences=2, target__cut_at_sentence=False)).to_dict()
    assert limited["fields"][0] == plain["fields"][0] | {"max_sentences": 2}
    assert limited["target"] == plain["target"] | {"cut_at_sentence": False}


def test_a_text_is_multiline_if_it_says_so_or_a_demo_is(tmp_path):
    plain = load(tmp_path, GOOD)
    assert not any(map(plain.is_multiline, plain.fields)) and "multiline" not in plain.to_dict()["fields"][0]
    said = load(tmp_path, changed(fields__0__multiline=True))
    assert [said.is_multiline(f) for f in said.fields] == [True, False]
    assert said.to_dict()["fields"][0] == plain.to_dict()["fields"][0] | {"multiline": True}
    shown = replace(plain, demos=(*plain.demos, Sample({"premise": "A\nb", "claim": "C"}, plain.demos[0].target)))
    assert [shown.is_multiline(f) for f in shown.fields] == [True, False]
    assert shown.to_dict()["fields"] == plain.to_dict()["fields"]


def test_a_demo_of_a_text_of_one_line_is_one(tmp_path):
    lines = changed(fields__0__multiline=False, demos__0__premise="A\nb")
    with pytest.raises(ConfigError) as error:
        load(tmp_path, lines)
    assert error.value.key.endswith("demos[0].premise") and "multiline: false" in error.value.allowed
    with pytest.raises(ConfigError) as error:
        load(tmp_path, changed(target__multiline=True))
    assert error.value.key.endswith("target.multiline")


def test_demos_keep_to_max_sentences(tmp_path):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, changed(fields__0__max_sentences=1, demos__1__premise="It snows. It is cold."))
    assert error.value.key.endswith("demos[1].premise")


def test_the_files_place_is_no_part_of_the_task(tmp_path):
    (tmp_path / "other").mkdir()
    one, two = load(tmp_path, GOOD), load(tmp_path / "other", GOOD)
    assert one.source != two.source
    assert one.to_dict() == two.to_dict()
    assert load(tmp_path, changed(demos__0__claim="It is damp.")).to_dict() != one.to_dict()


WRONG = [
    # What YAML 1.1 makes of plain words and numbers
    ("labels[0].name", changed(labels__0__name=True)),
    ("labels[1].name", changed(labels__1__name=False)),
    ("labels[0].name", changed(labels__0__name=1)),
    ("labels[0].name", changed(labels__0__name=None)),
    ("demos[0].verdict", changed(demos__0__verdict=True)),
    ("demos[0].premise", changed(demos__0__premise=1984)),
    # Unknown keys
    ("label", changed(label=[])),
    ("source", changed(source="x")),
    ("fields[0].max_char", changed(fields__0__max_char=3)),
    ("target.type", changed(target__type="text")),
    ("labels[1].hint", changed(labels__1__hint="x")),
    ("demos[1].topic", changed(demos__1__topic="x")),
    ("hints.topic", changed(hints__topic=["x"])),
    ("student.inputs", changed(student__inputs="x")),
    ("test.path", changed(test__path="x")),
    # Missing keys
    ("name", changed(name=MISSING)),
    ("description", changed(description=MISSING)),
    ("fields", changed(fields=MISSING)),
    ("target", changed(target=MISSING)),
    ("demos", changed(demos=MISSING)),
    ("student", changed(student=MISSING)),
    ("student.input", changed(student__input=MISSING)),
    ("fields[1].name", changed(fields__1__name=MISSING)),
    ("fields[1].description", changed(fields__1__description=MISSING)),
    ("target.description", changed(target__description=MISSING)),
    ("labels[0].meaning", changed(labels__0__meaning=MISSING)),
    ("demos[1].claim", changed(demos__1__claim=MISSING)),
    ("demos[1].verdict", changed(demos__1__verdict=MISSING)),
    # Wrong types
    ("name", changed(name=7)),
    ("description", changed(description="  ")),
    ("fields", changed(fields={"premise": "a sentence"})),
    ("fields[0]", changed(fields__0="premise")),
    ("fields[0].name", changed(fields__0__name=3)),
    ("fields[0].min_chars", changed(fields__0__min_chars="3")),
    ("fields[0].max_chars", changed(fields__0__max_chars=1.5)),
    ("fields[0].max_sentences", changed(fields__0__max_sentences=0)),
    ("fields[0].cut_at_sentence", changed(fields__0__cut_at_sentence="yes")),
    ("fields[0].min_chars", changed(fields__0__min_chars=True)),
    ("target", changed(target="verdict")),
    ("labels", changed(labels={"true": "it follows", "false": "it does not"})),
    ("labels[0]", changed(labels__0="true")),
    ("labels[0].hints", changed(labels__0__hints="trains")),
    ("labels[0].hints[1]", changed(labels__0__hints=["trains", 3])),
    ("demos", changed(demos="none")),
    ("demos[0]", changed(demos__0=["It rains.", "It is wet.", "true"])),
    ("hints", changed(hints=["weather"])),
    ("hints.styles[0]", changed(hints__styles=[""])),
    ("student", changed(student="{premise} {claim}")),
    ("student.max_input_tokens", changed(student__max_input_tokens="64")),
    ("checks", changed(checks="fields_differ")),
    ("checks[0]", changed(checks=[3])),
    ("checks[0]", changed(checks=[{"min_words": {}, "fields_differ": {}}])),
    ("checks[0].min_words", changed(checks=[{"min_words": 3}])),
    ("metrics", changed(metrics="accuracy")),
    ("metrics[0]", changed(metrics=[1])),
    ("test", changed(test="rows.jsonl")),
    ("test.columns", changed(test__columns=["a"])),
    ("test.columns.premise", changed(test__columns={"premise": 3})),
    ("test.label_names.0", changed(test__label_names={0: True})),
    ("test.columns.premises", changed(test__columns={"premises": "sentence1"})),
    ("test.columns.label", changed(test__columns={"premise": "sentence1", "label": "gold"})),
    ("test.columns.0", changed(test__columns={0: "gold"})),
    ("validation.columns.premises", changed(validation={"columns": {"premises": "sentence1"}})),
    ("validation.files", changed(validation={"files": "rows.jsonl"})),
    ("test.label_names.1", changed(test__label_names={"0": "true", 1: "false", "1": "true"})),
    ("test.label_names.1", changed(test__label_names={"1": "true", 1: "true"})),
    ("test.label_names.True", changed(test__label_names={True: "true", "True": "false"})),
    ("test.label_names.1", changed(test__label_names={0: "true", 1: "maybe"})),
    ("test.label_names.1", changed(test__label_names={0: "true", 1: "False"})),
    ("contrast", changed(contrast="yes")),
    ("allow_refusals", changed(allow_refusals="yes")),
    ("max_sample_tokens", changed(max_sample_tokens=True)),
    # Values that contradict each other or make no sense
    ("name", changed(name="my task")),
    ("name", changed(name="../elsewhere")),
    ("fields", changed(fields=[])),
    ("fields[0].name", changed(fields__0__name="the premise")),
    ("fields[0].min_chars", changed(fields__0__min_chars=-1)),
    ("fields[0].max_chars", changed(fields__0__max_chars=2)),
    ("fields[1].name", changed(fields__1__name="premise")),
    ("target.name", changed(target__name="claim")),
    ("target.max_chars", changed(target__max_chars=0)),
    ("labels", changed(labels=[GOOD["labels"][0]], demos=[GOOD["demos"][0]])),
    ("labels[1].name", changed(labels__1__name="TRUE")),
    ("labels[0].name", changed(labels__0__name=" true")),
    ("labels[1].name", changed(labels__1__name="fal\nse")),
    ("demos", changed(demos=[])),
    ("demos", changed(demos=[GOOD["demos"][0]])),
    ("demos[0].verdict", changed(demos__0__verdict="maybe")),
    ("demos[0].verdict", changed(demos__0__verdict="True")),
    ("demos[1].premise", changed(demos__1__premise="a")),
    ("demos[1].premise", changed(demos__1__premise="a" * 61)),
    ("student.max_target_tokens", changed(student__max_target_tokens=1)),
    ("max_sample_tokens", changed(max_sample_tokens=0)),
    # Templates
    ("student.input", changed(student__input="{premise}")),
    ("student.input", changed(student__input="{premise} {claim} {verdict}")),
    ("student.input", changed(student__input="{premise} {claim} {}")),
    ("student.input", changed(student__input="{premise} {claim} {0}")),
    ("student.input", changed(student__input="{premise} {claim} {claim.__class__}")),
    ("student.input", changed(student__input="{premise} {claim!r}")),
    ("student.input", changed(student__input="{premise} {claim:>10}")),
    ("student.input", changed(student__input="{premise} {claim")),
    ("student.input", changed(student__input="{premise} } {claim}")),
    ("student.target", changed(student__target="true")),
    ("student.target", changed(student__target="{premise}")),
]


@pytest.mark.parametrize(("key", "content"), WRONG, ids=[f"{i:02d}-{key}" for i, (key, _) in enumerate(WRONG)])
def test_bad_yaml_is_one_line_that_names_the_key(tmp_path, key, content):
    assert refusal(tmp_path, content).startswith(f"{key}: got ")


def test_unquoted_yes_and_no_say_what_to_do(tmp_path):
    text = yaml.safe_dump(GOOD).replace("name: 'true'", "name: yes").replace("name: 'false'", "name: no")
    assert refusal(tmp_path, text) == "labels[0].name: got True, expected text; put it in quotes"


def test_fields_whose_names_differ_in_case_alone_are_refused(tmp_path):
    # A block of lines is read in any case, so these two would be one.
    twins = changed(
        fields=[{"name": "text", "description": "a"}, {"name": "Text", "description": "b"}],
        demos=[{"text": "one", "Text": "two", "verdict": v} for v in ("true", "false")],
        student={"input": "{text} {Text}"},
        checks=[],
    )
    assert refusal(tmp_path, twins).startswith("fields[1].name: got 'Text'")


def test_a_missing_key_is_called_missing(tmp_path):
    assert (
        refusal(tmp_path, changed(description=MISSING)) == "description: got None, expected a value; the key is missing"
    )


def test_long_values_are_cut_in_messages(tmp_path):
    assert len(refusal(tmp_path, changed(contrast="x" * 5000))) < 200


@pytest.mark.parametrize(
    "text",
    ["fields: [", "a: b: c", "\tname: x", "name: !!python/object/apply:os.system ['true']", "name: \x00"],
    ids=["bracket", "colons", "tab", "python", "nul"],
)
def test_no_yaml_at_all(tmp_path, text):
    assert refusal(tmp_path, text).startswith("not valid YAML")


@pytest.mark.parametrize(
    ("text", "line", "key", "first"),
    [
        ("name: a\nfields: []\nname: b\n", 3, "name", 1),
        ("name: a\nlabels:\n  - name: x\n    meaning: y\n    name: z\n", 5, "name", 3),
        ("test:\n  label_names:\n    1: x\n    2: y\n    0x1: z\n", 5, "0x1", 3),
        ("test: {columns: {a: b, 'a': c}}\n", 1, "a", 1),
        ("hints:\n  topics: []\n\n  # more\n  ? topics\n  : []\n", 5, "topics", 2),
    ],
    ids=["top", "in a list", "one number in two forms", "in one line", "long form"],
)
def test_a_key_that_stands_twice_is_refused_with_its_line(tmp_path, text, line, key, first):
    wanted = f"not valid YAML: line {line}: the key {key!r} is in line {first} already; keep one"
    assert refusal(tmp_path, text) == wanted


def test_keys_of_a_merged_mapping_may_be_set_anew(tmp_path):
    text = yaml.safe_dump(changed(hints=MISSING, fields=MISSING), sort_keys=False)
    text += "fields:\n- &premise {name: premise, description: a sentence, max_chars: 60}\n"
    text += "- <<: *premise\n  name: claim\n"
    assert [(f.name, f.max_chars) for f in load(tmp_path, text).fields] == [("premise", 60), ("claim", 60)]


def test_a_date_that_is_none_is_no_yaml(tmp_path):
    assert refusal(tmp_path, "name: 2024-13-01").startswith("not valid YAML: month")


def test_label_names_of_a_task_without_labels_may_be_any_text(tmp_path):
    free = changed(labels=MISSING, student__target=MISSING, test__label_names={1: "yes, it does", 0: "no"})
    assert load(tmp_path, free).test.label_names == {"1": "yes, it does", "0": "no"}


def test_not_utf8(tmp_path):
    (tmp_path / "task.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(GoldError, match="not valid YAML"):
        Task.load(str(tmp_path / "task.yaml"))


@pytest.mark.parametrize("text", ["", "- name", "3", "name"], ids=["empty", "list", "number", "word"])
def test_no_mapping_at_all(tmp_path, text):
    assert refusal(tmp_path, text).startswith("task: got ")


def test_unknown_task_lists_the_shipped_ones(tmp_path):
    with pytest.raises(ConfigError) as e:
        Task.load("no_such_task")
    assert str(e.value).startswith("data.task: got 'no_such_task'")
    assert all(name in str(e.value) for name in TASKS)
    with pytest.raises(ConfigError, match=r"data\.task"):
        Task.load(str(tmp_path))  # a folder


@pytest.mark.parametrize("name", TASKS)
def test_shipped_tasks_load(name):
    task = Task.load(name)
    assert task.name.replace("-", "_") == name.replace("-", "_")
    assert {d.target for d in task.demos} >= set(task.label_names)
    for demo in task.demos:
        assert all(text in task.student_input(demo) for text in demo.fields.values())
    if task.test.file:
        assert (Path(task.source).parent / task.test.file).is_file()


def test_there_are_shipped_tasks():
    assert "news_topics" in TASKS


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Field("1st", "x"), "name"),
        (lambda: Field("a", "x", min_chars=-1), "min_chars"),
        (lambda: Field("a", "x", min_chars=5, max_chars=4), "max_chars"),
        (lambda: Label(" ", "x"), "name"),
        (lambda: StudentFormat("{a}", "{b}", max_input_tokens=1), "max_input_tokens"),
    ],
)
def test_parts_check_themselves(make, key):
    with pytest.raises(ConfigError) as e:
        make()
    assert e.value.key == key


def test_a_label_in_either_form_of_unicode_is_one_label(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    raw = yaml.safe_load(yaml.safe_dump(GOOD))
    raw["labels"][0]["name"] = decomposed
    raw["demos"][0]["verdict"] = composed
    raw["test"] = {"file": "x.csv", "label_names": {1: decomposed}}
    path = tmp_path / "t.yaml"
    path.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    task = Task.load(str(path))
    assert task.label_names[0] == task.demos[0].target == task.test.label_names["1"] == composed


def test_two_escapes_are_one_character_as_in_json(tmp_path):
    raw = yaml.safe_load(yaml.safe_dump(GOOD))
    raw["description"] = "A smile \U0001f600 \ufffd."
    path = tmp_path / "t.yaml"
    path.write_text(json.dumps(raw), encoding="utf-8")  # JSON is YAML
    assert "\\ud83d\\ude00" in path.read_text(encoding="utf-8")
    assert Task.load(str(path)).description == raw["description"]


# Tasks constructed in Python

DEMOS = [{"message": "You won a prize!", "label": "spam"}, {"message": "Lunch at noon?", "label": "ham"}]
SPAM = {"name": "spam", "fields": ["message"], "labels": ["spam", "ham"], "demos": DEMOS}


def test_short_forms_stand_for_whole_parts():
    task = Task(**SPAM, test="rows.jsonl")
    assert task == Task(
        name="spam",
        description="Each sample has these parts: message, label.",
        fields=(Field("message", "the message"),),
        target=Field("label", "the label"),
        labels=(Label("spam", ""), Label("ham", "")),
        demos=tuple(Sample({"message": d["message"]}, d["label"]) for d in DEMOS),
        student=StudentFormat("message: {message}", "{label}"),
        test=TestData(file="rows.jsonl"),
    )
    assert Task(**SPAM | {"fields": [Field("message", "an SMS")]}).fields == (Field("message", "an SMS"),)
    mixed = Task(
        **SPAM | {"labels": [Label("spam", "unwanted"), "ham"], "checks": [{"min_words": {"field": "message"}}]}
    )
    assert [label.meaning for label in mixed.labels] == ["unwanted", ""]
    assert mixed.checks == (Check("min_words", {"field": "message"}),)


def test_a_task_without_labels_has_an_answer():
    task = Task(name="sums", fields=["question"], demos=[{"question": "1 + 1?", "answer": "2"}])
    assert (task.target.name, task.student_target("2"), task.label_names) == ("answer", "2", ())


def test_a_label_without_a_meaning_has_a_prompt_without_a_colon():
    request = training_request(Task(**SPAM), "spam", (), Hint(), 0)
    assert "All samples have the label spam.\n" in request.prefix


@pytest.mark.parametrize(
    ("changes", "key", "value", "allowed"),
    [
        ({"labels": ["spam", 3]}, "labels[1]", 3, "a mapping of keys to values"),
        ({"labels": "spam"}, "labels", "spam", "a list"),
        ({"labels": ["spam", "spam"]}, "labels[1].name", "spam", "a name that no other label has"),
        ({"fields": ["1st"]}, "fields[0].name", "1st", "a name of letters, digits and _, no digit first"),
        ({"fields": 3}, "fields", 3, "a list"),
        ({"fields": [Field("text", "x")]}, "demos[0].text", None, "text that is not empty"),
        ({"demos": [*DEMOS, {"message": "Hi", "label": "eggs"}]}, "demos[2].label", "eggs", "one of ['spam', 'ham']"),
        ({"demos": [*DEMOS, "Hi"]}, "demos[2]", "Hi", "a mapping with the keys message, label"),
        ({"contrast": "yes"}, "contrast", "yes", "true or false"),
        ({"student": {"input": "{text}"}}, "student.input", "{text}", "each of {message} and nothing else in braces"),
    ],
)
def test_python_is_told_what_a_file_is_told(changes, key, value, allowed):
    with pytest.raises(ConfigError) as e:
        Task(**SPAM | changes)
    assert (e.value.key, e.value.value, e.value.allowed) == (key, value, allowed)


def test_a_missing_or_misspelt_argument_is_named():
    with pytest.raises(ConfigError) as e:
        Task(name="spam")
    assert (e.value.key, e.value.value) == ("fields", None)
    with pytest.raises(ConfigError) as e:
        Task(name="spam", feilds=["message"], demos=DEMOS)
    assert (e.value.key, e.value.hint) == ("feilds", "did you mean fields?")
    with pytest.raises(TypeError, match="Field takes 7 arguments, and 8 were given"):
        Field("a", "b", 1, 2, 3, True, False, 5)


@pytest.mark.parametrize("name", TASKS)
def test_tasks_are_immutable_equal_copied_and_pickled(name):
    task = Task.load(name)
    with pytest.raises(AttributeError):
        task.name = "other"
    for copied in (pickle.loads(pickle.dumps(task)), copy.deepcopy(task), replace(task)):
        assert copied == task and copied.to_dict() == task.to_dict()
    assert hash(task.fields) == hash(replace(task).fields) and hash(task.labels) == hash(copied.labels)
    assert replace(task, name="other") != task


@pytest.mark.parametrize("name", TASKS)
def test_a_document_makes_the_same_task(name):
    task = Task.load(name)
    again = Task.from_document(yaml.safe_load(yaml.safe_dump(task.to_document())), task.source)
    assert replace(again, test=task.test) == task
    if task.test.file:
        assert Path(again.test.file).is_absolute() and Path(again.test.file).is_file()


# The schema for editors


def problems(value, schema, whole):
    """What a schema refuses in a value, of the keywords that the schema of tasks has."""
    if "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
    if "anyOf" in schema:
        found = [problems(value, option, whole) for option in schema["anyOf"]]
        return [] if [] in found else found[0]
    kinds = {"string": str, "object": dict, "array": list, "boolean": bool, "integer": int}
    kinds |= {"number": float, "null": type(None)}
    if not isinstance(value, kinds[schema["type"]]) or (schema["type"] == "integer" and isinstance(value, bool)):
        return [f"{value!r} is no {schema['type']}"]
    if isinstance(value, list):
        return [p for item in value for p in problems(item, schema["items"], whole)]
    if not isinstance(value, dict):
        low = schema["type"] == "integer" and value < schema.get("minimum", value)
        return ["too low"] if low or not re.search(schema.get("pattern", ""), str(value)) else []
    inside, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
    missing = [f"{key} is missing" for key in schema.get("required", ()) if key not in value]
    unknown = [f"{key} is unknown" for key in value if key not in inside and rest is False]
    parts = [(part, inside.get(key, rest)) for key, part in value.items() if key in inside or isinstance(rest, dict)]
    return [*missing, *unknown, *(p for part, of in parts for p in problems(part, of, whole))]


def test_the_shipped_schema_is_the_models():
    path = Path(str(resources.files("gold_lightning"))) / "assets" / "task.schema.json"
    assert json.loads(path.read_text(encoding="utf-8")) == task_schema(), "tasks schema > gold_lightning/assets/..."


@pytest.mark.parametrize("name", TASKS)
def test_the_schema_takes_the_shipped_tasks(name):
    raw = yaml.safe_load(Path(Task.load(name).source).read_text(encoding="utf-8"))
    assert problems(raw, task_schema(), task_schema()) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"source": "x"}, "source is unknown"),
        ({"labels__0__hint": "x"}, "hint is unknown"),
        ({"student__input": MISSING}, "input is missing"),
        ({"fields__0__min_chars": -1}, "too low"),
        ({"labels__0__name": True}, "True is no string"),
        ({"checks": [3]}, "3 is no string"),
        ({"description": " "}, "too low"),
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(tmp_path, changes, problem):
    assert problems(GOOD, task_schema(), task_schema()) == []
    assert problems(changed(**changes), task_schema(), task_schema()) == [problem]
    with pytest.raises(GoldError):
        load(tmp_path, changed(**changes))


def test_the_schema_explains_every_key():
    schema = task_schema()
    for part in (schema, *schema["$defs"].values()):
        assert all(len(value.get("description", "")) > 9 for value in part["properties"].values()), part["title"]
    assert "`" * 2 not in json.dumps(schema) and ":mod:" not in json.dumps(schema)
