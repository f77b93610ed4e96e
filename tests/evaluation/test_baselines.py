"""Baselines against counts by hand, with the scripted generator."""

from dataclasses import replace

import pytest
from gold_lightning.errors import ConfigError, GoldError, NoLikelihoodsError
from gold_lightning.evaluation.baselines import (
    Baseline,
    BaselineSettings,
    GeneratorAnswers,
    calibrated,
    compare,
    majority,
    most_frequent,
    seed_demos,
)
from gold_lightning.evaluation.intervals import evaluate
from gold_lightning.generators import ScriptedGenerator
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.task import Field, Label, Sample, StudentFormat, Task, TestRow

COLOURS = Task(
    name="colours",
    description="Each sample is a thing.",
    fields=(Field("thing", "a thing"), Field("place", "where it is")),
    target=Field("colour", "its colour"),
    demos=(
        Sample({"thing": "a pine", "place": "in the wood"}, "green"),
        Sample({"thing": "a frog", "place": "in the pond"}, "green"),
        Sample({"thing": "a brick", "place": "in the wall"}, "red"),
    ),
    student=StudentFormat("{thing} {place}", "{colour}"),
    labels=(Label("green", "as grass is"), Label("red", "as blood is")),
)
SUMS = Task(
    name="sums",
    description="Each sample is a sum.",
    fields=(Field("left", "a number"), Field("right", "a number")),
    target=Field("result", "what they come to"),
    demos=(Sample({"left": "1", "right": "2"}, "3"), Sample({"left": "4", "right": "5"}, "9")),
    student=StudentFormat("{left} {right}", "{result}", max_target_tokens=5),
)
ROWS = {
    2: TestRow({"thing": "a very long green snake of the forest", "place": "here"}, "green"),
    3: TestRow({"thing": "moss", "place": "here"}, "green"),
    5: TestRow({"thing": "a ruby in the treasury", "place": "here"}, "red"),
    8: TestRow({"thing": "a tomato", "place": "here"}, "red"),
    9: TestRow({"thing": "rust", "place": "here"}, "red"),
}
# What the generator finds likelier to be green; right for rows 2, 5 and 9.
GREEN = {"a very long green snake of the forest": 0.7, "a tomato": 0.6, "moss": 0.4, "rust": 0.1}


def thing(request):
    return request.suffix.split("thing: ")[1].split("\n")[0]


def by_colour(request):
    green = GREEN.get(thing(request), 0.2)
    return [green - 1, -green]


def scripted(**how):
    return ScriptedGenerator(log_probs=by_colour, batch_size=2, **how)


def ask(task, generator, rows, demos=(), folder=None):
    return GeneratorAnswers(task, generator, rows, demos, "zero_shot").predict(folder / "x.part")


def test_choices_are_read_by_name_in_the_order_of_the_rows(tmp_path):
    found = ask(COLOURS, scripted(), ROWS, folder=tmp_path)
    assert [(r["row"], r["prediction"], r["target"]) for r in found] == [
        (2, "green", "green"),
        (3, "red", "green"),
        (5, "red", "red"),
        (8, "green", "red"),
        (9, "red", "red"),
    ]
    assert found[1]["log_probs"] == {"green": -0.6, "red": -0.4}
    numbers = evaluate(["accuracy", "macro_f1"], COLOURS.label_names, found)
    assert numbers["n"] == 5
    assert numbers["accuracy"]["value"] == pytest.approx(3 / 5)
    assert numbers["macro_f1"]["value"] == pytest.approx((1 / 2 + 2 / 3) / 2)  # F1 of green, of red


def test_calibration_takes_off_a_preference_whatever_the_model_reads_and_costs_no_request(tmp_path):
    def biased(request):
        green, red = by_colour(request)
        return [green + 3.0, red]

    generator = ScriptedGenerator(log_probs=biased, batch_size=2)
    results = compare(COLOURS, ["accuracy"], ROWS, tmp_path, baseline(generator))
    assert list(results) == ["zero_shot", "zero_shot_calibrated"] and len(generator.requests) == len(ROWS)
    assert results["zero_shot"]["accuracy"]["value"] == pytest.approx(2 / 5)  # always green
    # The mean of green - red is 3 + 0.8 - 1; that of rows 2, 3 and 8 is higher.
    rows = read_lines(tmp_path / "zero_shot_calibrated.jsonl")
    assert [r["prediction"] for r in rows] == ["green", "green", "red", "green", "red"]
    assert results["zero_shot_calibrated"]["accuracy"]["value"] == pytest.approx(4 / 5)
    assert all(sum(r["probabilities"].values()) == pytest.approx(1) and "log_probs" not in r for r in rows)


def test_a_generator_without_likelihoods_is_told_what_needs_them(tmp_path):
    def none(request):
        raise NoLikelihoodsError("generator 'm': no likelihoods of labels")

    with pytest.raises(GoldError, match=r"baselines of a task with labels need them: .*--baselines\.only") as told:
        ask(COLOURS, ScriptedGenerator(log_probs=none, batch_size=2), ROWS, folder=tmp_path)
    assert "label_agreement" not in str(told.value)


def test_a_row_without_an_answer_has_none_after_calibration(tmp_path):
    rows = [{"row": 0, "prediction": "", "target": "red", "unanswered": "stop"}]
    rows += [{"row": 1, "prediction": "green", "target": "red", "log_probs": {"green": None, "red": -1.0}}]
    first, second = calibrated(COLOURS, rows)
    assert first == rows[0]
    assert (second["prediction"], second["probabilities"]) == ("red", {"green": 0.0, "red": 1.0})


def test_equal_likelihoods_are_the_first_label(tmp_path):
    generator = ScriptedGenerator(log_probs=lambda _: [-1.0, -1.0])
    assert {r["prediction"] for r in ask(COLOURS, generator, ROWS, folder=tmp_path)} == {"green"}


@pytest.mark.parametrize("silence", [(), (-float("inf"),) * 2, (float("nan"), -1.0)], ids=str)
def test_a_row_without_an_answer_is_wrong_counted_and_asked_again(tmp_path, silence):
    def scores(request):
        return silence if thing(request) == "moss" else by_colour(request)

    first = ScriptedGenerator(log_probs=scores, batch_size=2)
    one = compare(COLOURS, ["accuracy", "macro_f1"], ROWS, tmp_path, baseline(first))["zero_shot"]
    rows = {row["row"]: row for row in read_lines(tmp_path / "zero_shot.jsonl")}
    assert (rows[3]["prediction"], rows[3]["unanswered"]) == ("", "stop")
    assert "log_probs" not in rows[3]
    assert one["notes"] == ["1 rows have no answer, and count as an empty one; the same command asks for them again"]
    assert one["accuracy"]["value"] == pytest.approx(3 / 5)
    again = scripted()
    two = compare(COLOURS, ["accuracy"], ROWS, tmp_path, baseline(again))["zero_shot"]
    assert [thing(r) for r in again.requests] == ["moss"] and two["notes"] == []
    assert [r["row"] for r in read_lines(tmp_path / "zero_shot.jsonl")] == sorted(ROWS)


def test_a_label_without_mass_has_no_number_in_the_file(tmp_path):
    generator = ScriptedGenerator(log_probs=lambda _: [-float("inf"), -0.5])
    compare(COLOURS, ["accuracy"], ROWS, tmp_path, baseline(generator))
    text = (tmp_path / "zero_shot.jsonl").read_text()
    assert "Infinity" not in text
    assert {r["log_probs"]["green"] for r in read_lines(tmp_path / "zero_shot.jsonl")} == {None}


def test_few_shot_shows_the_demos_and_zero_shot_none(tmp_path):
    plain, shown = scripted(), scripted()
    ask(COLOURS, plain, ROWS, folder=tmp_path / "a")
    ask(COLOURS, shown, ROWS, seed_demos(COLOURS), tmp_path / "b")
    for generator, demos in ((plain, 0), (shown, 3)):
        assert len(generator.requests) == 5
        assert len({(r.system, r.prefix) for r in generator.requests}) == 1  # an engine computes it once
        request = next(r for r in generator.requests if thing(r) == "moss")
        assert "green: as grass is\nred: as blood is\n" in request.prefix
        assert request.suffix.endswith("thing: moss\nplace: here") and request.answer_prefix == "colour:"
        assert request.choices == (" green", " red")
        assert [("thing: " + d.fields["thing"] in request.prefix) for d in COLOURS.demos] == 3 * [bool(demos)]
    # Labels in turn, each demo with its answer below.
    blocks = shown.requests[0].prefix.split("Examples:\n\n")[1].strip().split("\n\n")
    assert [b.split("colour: ")[1] for b in blocks] == ["green", "red", "green"]


def test_a_sequence_is_decoded_greedily_and_read_as_it_is_written(tmp_path):
    def reply(request):
        left, right = (int(line.split(": ")[1]) for line in request.suffix.splitlines()[-2:])
        return f" {left + right}\nleft: 0" if left else r" a\nb "

    generator = ScriptedGenerator(reply, batch_size=2)
    rows = {i: TestRow({"left": str(i), "right": "1"}, str(i + 1), (f"{i + 1}.0",)) for i in (0, 2, 1)}
    found = ask(SUMS, generator, rows, SUMS.demos, tmp_path)
    assert [r["prediction"] for r in found] == ["a\nb", "2", "3"]
    assert found[1]["targets"] == ["2", "2.0"] and found[1]["finish"] == "stop"
    assert all(r.greedy and not r.choices and r.max_tokens == 5 and r.stop == ("\n",) for r in generator.requests)
    assert "left: 1\nright: 2\nresult: 3\n\nleft: 4" in generator.requests[0].prefix
    assert "The result is what they come to." in generator.requests[0].prefix


def test_a_target_of_several_lines_may_have_them_where_no_demo_shows_another_form(tmp_path):
    task = replace(SUMS, demos=(Sample({"left": "1", "right": "2"}, "3\nin all"),))
    for demos, wanted in (((), "4\nin all"), (task.demos, "4")):
        generator = ScriptedGenerator([" 4\nin all\n\nleft: 9"])
        rows = {0: TestRow({"left": "2", "right": "2"}, "4\nin all")}
        (found,) = ask(task, generator, rows, demos, tmp_path / str(len(demos)))
        assert found["prediction"] == wanted


def test_a_row_that_is_too_long_loses_the_end_of_its_longest_field_and_is_counted(tmp_path):
    long = TestRow({"thing": "moss " * 40, "place": "here and there"}, "green")
    plain = scripted()
    (request,) = (ask(COLOURS, plain, {3: ROWS[3]}, folder=tmp_path / "a"), plain.requests)[1]
    limit = len(request.text.split()) + 1 + 12  # twelve words more than the row of one; a choice is one word
    generator = scripted(limit=limit)
    found = ask(COLOURS, generator, {3: ROWS[3], 4: long}, folder=tmp_path / "b")
    assert "cut" not in found[0]
    assert set(found[1]["cut"]) == {"thing"}
    asked = next(r for r in generator.requests if "there" in r.suffix)
    assert len(asked.text.split()) + 1 == limit
    assert "place: here and there" in asked.suffix
    kept = 200 - found[1]["cut"]["thing"]
    assert thing(asked).startswith("moss moss") and len(asked.suffix.split("moss")) - 1 == kept // 5 + (kept % 5 > 0)
    results = compare(
        COLOURS, ["accuracy"], {3: ROWS[3], 4: long}, tmp_path / "c", {"zero_shot": Baseline({}, lambda _: found)}
    )
    assert results["zero_shot"]["notes"] == [
        "1 rows were too long for the model; the end of their longest field was cut off"
    ]


def test_demos_that_leave_no_room_are_told(tmp_path):
    with pytest.raises(GoldError, match=r"zero_shot: the instruction and 3 demos are \d+ tokens longer than the model"):
        ask(COLOURS, scripted(limit=20), ROWS, COLOURS.demos, tmp_path)


def test_answers_that_did_not_end_are_counted(tmp_path):
    answers = GeneratorAnswers(SUMS, ScriptedGenerator(["one two three four five six", "7"]), {}, (), "few_shot")
    answers.rows = {i: TestRow({"left": str(i), "right": "1"}, "x") for i in range(4)}
    results = compare(
        SUMS, ["exact_match"], answers.rows, tmp_path, {"few_shot": Baseline(answers.depends(), answers.predict)}
    )
    assert results["few_shot"]["notes"] == ["2 answers were cut off at the most tokens of a target"]


# What is kept


def baseline(generator, rows=ROWS, demos=()):
    answers = GeneratorAnswers(COLOURS, generator, rows, demos, "zero_shot")
    return {"zero_shot": Baseline(answers.depends(), answers.predict)}


def test_numbers_and_predictions_are_written_and_not_paid_for_again(tmp_path):
    folder = tmp_path / "baselines"
    first, second = scripted(), scripted()
    one = compare(COLOURS, ["accuracy"], ROWS, folder, baseline(first))
    predictions = read_lines(folder / "zero_shot.jsonl")
    assert one["zero_shot"]["accuracy"] == evaluate(["accuracy"], COLOURS.label_names, predictions)["accuracy"]
    (held,) = read_lines(folder / "results.json")
    assert held["results"] == one and held["rows"] == 5
    assert compare(COLOURS, ["accuracy"], ROWS, folder, baseline(second)) == one
    assert len(first.requests) == 5 and not second.requests
    assert {p.stem for p in folder.iterdir()} == {"results", "zero_shot", "zero_shot_calibrated"}


@pytest.mark.parametrize("change", ["rows", "demos", "generator", "file"])
def test_other_settings_are_paid_for(tmp_path, change):
    compare(COLOURS, ["accuracy"], ROWS, tmp_path, baseline(scripted()))
    rows = {i: r for i, r in ROWS.items() if i < 9} if change == "rows" else ROWS
    generator = scripted()
    if change == "generator":
        generator.batch_size = 3  # part of its fingerprint
    if change == "file":
        (tmp_path / "zero_shot.jsonl").unlink()
    compare(
        COLOURS, ["accuracy"], rows, tmp_path, baseline(generator, rows, COLOURS.demos if change == "demos" else ())
    )
    assert len(generator.requests) == len(rows)


def test_a_killed_baseline_goes_on_where_it_was(tmp_path):
    class Killed(ScriptedGenerator):
        def generate(self, requests):
            if len(self.requests) >= 4:
                raise KeyboardInterrupt
            return super().generate(requests)

        def fingerprint(self):
            return scripted().fingerprint()

    killed, again, whole = Killed(log_probs=by_colour, batch_size=2), scripted(), scripted()
    with pytest.raises(KeyboardInterrupt):
        compare(COLOURS, ["accuracy"], ROWS, tmp_path / "a", baseline(killed))
    assert not (tmp_path / "a" / "zero_shot.jsonl").exists()
    one = compare(COLOURS, ["accuracy"], ROWS, tmp_path / "a", baseline(again))
    assert [thing(r) for r in again.requests] == ["a very long green snake of the forest"]  # the longest was left
    two = compare(COLOURS, ["accuracy"], ROWS, tmp_path / "b", baseline(whole))
    assert (tmp_path / "a" / "zero_shot.jsonl").read_bytes() == (tmp_path / "b" / "zero_shot.jsonl").read_bytes()
    assert one["zero_shot"]["accuracy"] == two["zero_shot"]["accuracy"]


def test_numbers_of_the_same_rows_stay_and_those_of_others_go(tmp_path):
    constant = {"majority": Baseline({}, lambda _: majority(ROWS))}
    compare(COLOURS, ["accuracy"], ROWS, tmp_path, constant)
    assert set(compare(COLOURS, ["accuracy"], ROWS, tmp_path, baseline(scripted()))) == {
        "zero_shot",
        "zero_shot_calibrated",
    }
    assert set(read_lines(tmp_path / "results.json")[0]["results"]) == {"majority", "zero_shot", "zero_shot_calibrated"}
    fewer = {i: ROWS[i] for i in (2, 3)}
    compare(COLOURS, ["accuracy"], fewer, tmp_path, baseline(scripted(), fewer))
    assert set(read_lines(tmp_path / "results.json")[0]["results"]) == {"zero_shot", "zero_shot_calibrated"}


# The rest


def test_the_most_frequent_answer():
    assert most_frequent(ROWS) == "red"
    assert most_frequent({i: ROWS[i] for i in (8, 9, 2, 3)}) == "green"  # as many; rows 2 and 3 come first
    found = majority(ROWS)
    assert evaluate(["accuracy"], COLOURS.label_names, found)["accuracy"]["value"] == pytest.approx(3 / 5)
    assert [r["row"] for r in found] == [2, 3, 5, 8, 9]


def test_demos_of_a_task_without_labels_keep_their_order():
    assert seed_demos(SUMS) == list(SUMS.demos)


def test_what_is_run_by_default_is_what_can_be(tmp_path):
    file = tmp_path / "train.csv"
    file.touch()
    cheap = ["majority", "untrained", "zero_shot", "one_shot", "few_shot"]
    assert BaselineSettings().names(False, COLOURS) == cheap
    assert BaselineSettings(train_file=str(file)).names(True, COLOURS) == [*cheap, "supervised", "student"]
    assert BaselineSettings(only=["few_shot", "majority"]).names(True, COLOURS) == ["majority", "few_shot"]
    for task in (SUMS, replace(COLOURS, demos=COLOURS.demos[1:])):  # one demo a label: few_shot is the same
        assert "one_shot" not in BaselineSettings().names(True, task)
    with pytest.raises(ConfigError) as e:
        BaselineSettings(only=["one_shot"]).names(True, SUMS)
    assert e.value.key == "baselines.only"


@pytest.mark.parametrize(
    ("settings", "key", "value"),
    [
        ({"rows": 0}, "baselines.rows", 0),
        ({"train_file": "gone.csv"}, "baselines.train_file", "gone.csv"),
        ({"only": ["supervised"]}, "baselines.train_file", None),
        ({"only": []}, "baselines.only", []),
    ],
)
def test_wrong_settings_name_their_key(settings, key, value):
    with pytest.raises(ConfigError) as caught:
        BaselineSettings(**settings)
    assert (caught.value.key, caught.value.value) == (key, value)
