"""Sets of labels as text: what people and models write, and what is refused."""

from __future__ import annotations

import json

import pytest
from gold_lightning.errors import ConfigError
from gold_lightning.label_sets import LabelSets, overlap, sets_of
from gold_lightning.labelled import load_rows
from gold_lightning.task import Sample, Task

NAMES = ("billing", "delivery", "not for us")
DEMOS = [
    {"message": "a", "labels": ["billing"]},
    {"message": "b", "labels": "not for us, delivery"},
    {"message": "c", "labels": []},
]


def task(**changes):
    values = {"name": "t", "fields": ["message"], "labels": [*NAMES], "many": True, "demos": DEMOS}
    return Task(**values | changes)


def refused(**changes):
    with pytest.raises(ConfigError) as caught:
        task(**changes)
    return caught.value


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("billing", ("billing",)),
        ("Delivery , BILLING.", ("billing", "delivery")),
        ("['not for us', \"billing\"]", ("billing", "not for us")),
        ("billing, billing", ("billing",)),
        ("None.", ()),
        ("", None),
        ("billing, none", None),
        ("billing, returns", None),
        ("billing,", None),
    ],
)
def test_what_models_write_is_read_in_any_order_and_case(text, labels):
    assert LabelSets().read(text, NAMES) == labels


@pytest.mark.parametrize("size", range(4))
def test_text_and_labels_are_one_to_one(size):
    sets = LabelSets(separator=" | ", none="-")
    labels = NAMES[:size]
    text = sets.text(set(labels), NAMES)
    assert text == (" | ".join(labels) or "-")
    assert sets.read(text, NAMES) == sets.parse(text, NAMES) == sets.parse([*labels], NAMES) == labels


@pytest.mark.parametrize(
    ("value", "wrong", "allowed"),
    [
        (["billing", "billng"], "billng", "labels out of"),
        ("delivery, delivery", "delivery, delivery", "each label once"),
        (["none", "billing"], "none", "labels out of"),
        (3, 3, "a list of labels"),
        (None, None, "a list of labels"),
        ([["billing"]], ["billing"], "labels out of"),
    ],
)
def test_what_people_write_is_taken_exactly(value, wrong, allowed):
    with pytest.raises(ConfigError) as caught:
        LabelSets().parse(value, NAMES)
    assert caught.value.value == wrong and allowed in caught.value.allowed


def test_demos_have_lists_or_text_and_are_stored_in_the_order_of_the_task():
    assert [demo.target for demo in task().demos] == ["billing", "delivery, not for us", "none"]
    assert task().labels_of("delivery, not for us") == ("delivery", "not for us")
    assert task().labels_of("not for us, delivery") is None and task().labels_of("none") == ()
    assert (
        task(demos=[Sample({"message": "a"}, "not for us, billing"), *DEMOS]).demos[0].target == "billing, not for us"
    )


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"labels": ["a, b", *NAMES]}, "labels[0].name"),
        ({"labels": [*NAMES, "None"]}, "labels[3].name"),
        ({"labels": [], "demos": [{"message": "a", "answer": "b"}]}, "many"),
        ({"many": {"seperator": "|"}}, "many.seperator"),
        ({"many": {"separator": " "}}, "many.separator"),
        ({"many": {"separator": "\n"}}, "many.separator"),
        ({"many": {"none": "a, b"}}, "many.none"),
        ({"many": {"sizes": [1]}}, "many.sizes"),
        ({"many": {"sizes": [1, 0, 0, 0, 2]}}, "many.sizes"),
        ({"many": {"sizes": [1, -1]}}, "many.sizes[1]"),
        ({"many": "yes"}, "many"),
        ({"demos": [*DEMOS, {"message": "d", "labels": ["returns"]}]}, "demos[3].labels"),
        ({"demos": [*DEMOS, {"message": "d", "labels": ["billing", "billing"]}]}, "demos[3].labels"),
        ({"demos": [*DEMOS, {"message": "d"}]}, "demos[3].labels"),
        ({"demos": DEMOS[:2]}, "demos"),
        ({"demos": DEMOS[1:]}, "demos"),
    ],
)
def test_what_is_wrong_is_named_by_its_key(changes, key):
    assert refused(**changes).key == key


def test_no_demo_without_labels_is_needed_if_none_is_asked_for():
    assert task(many={"sizes": [0, 1]}, demos=DEMOS[:2]).many.sizes == (0.0, 1.0)


def test_a_document_makes_the_same_task_and_one_label_leaves_no_trace():
    document = json.loads(json.dumps(task(many={"none": "-"}).to_document()))
    assert Task.from_document(document) == task(many={"none": "-"})
    single = task(many=False, target="labels", demos=[{"message": name, "labels": name} for name in NAMES])
    assert single.many is None and single.one_label
    assert "many" not in single.to_document() and "many" not in single.to_dict()
    assert task().to_dict()["many"]["none"] == "none" and not task().one_label


def test_sets_of():
    assert sets_of(True) == {} and sets_of(False) is None and sets_of(None) is None


def test_overlap_is_that_of_jaccard():
    assert overlap("ab", "bc") == pytest.approx(1 / 3) and overlap("", "") == 1.0


@pytest.fixture
def rows(tmp_path):
    def read(*values, **changes):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps({"message": "m", "labels": value}) + "\n" for value in values))
        return [row.target for row in load_rows(task(**changes), path)]

    return read


def test_rows_have_lists_or_text_with_separators(rows):
    assert rows(["not for us", "billing"], "delivery,billing", [], "", "none", "billing") == [
        *("billing, not for us", "billing, delivery", "none", "none", "none", "billing")
    ]


def test_labels_of_rows_are_mapped_one_by_one(rows):
    names = {"label_names": {"0": "billing", "7": "delivery", "x": "not for us"}}
    assert rows([0, 7], "x, 0", 7, test=names) == ["billing, delivery", "billing, not for us", "delivery"]


@pytest.mark.parametrize(
    "value", [["returns"], "billing, returns", ["billing", "billing"], None, {"a": 1}, [["billing"]]]
)
def test_a_row_with_other_labels_is_an_error_of_one_line(rows, value):
    with pytest.raises(Exception, match=r"row 0 has .* as labels; expected ") as caught:
        rows(value)
    assert "\n" not in str(caught.value)
