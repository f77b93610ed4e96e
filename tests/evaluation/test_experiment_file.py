"""Experiment files: grids, and mistakes named by file and key."""

import pytest
from gold_lightning.errors import GoldError
from gold_lightning.evaluation.experiment_file import load_experiment


def write(tmp_path, text):
    path = tmp_path / "e.yaml"
    path.write_text(text)
    return path


def test_a_grid_is_all_its_points_with_each_arm(tmp_path):
    text = "name: n\nbase: a.yaml\ngrid:\n  data.label_noise: [0.0, 0.2]\n"
    text += "  model.loss: [CrossEntropy, {class_path: x.Robust, init_args: {q: 0.7}}]\n"
    arms = load_experiment(write(tmp_path, text)).arms
    assert list(arms) == [
        "label_noise 0.0, loss CrossEntropy",
        "label_noise 0.0, loss Robust q 0.7",
        "label_noise 0.2, loss CrossEntropy",
        "label_noise 0.2, loss Robust q 0.7",
    ]
    assert arms["label_noise 0.2, loss CrossEntropy"] == {"data.label_noise": 0.2, "model.loss": "CrossEntropy"}
    arms = load_experiment(write(tmp_path, text + "arms: {none: {feedback.strategy: none}, band: }\n")).arms
    assert len(arms) == 8 and "band, label_noise 0.2, loss CrossEntropy" in arms
    assert arms["none, label_noise 0.0, loss CrossEntropy"]["feedback.strategy"] == "none"


GOOD = "name: n\nbase: quickstart.yaml\narms: {a: {feedback.rate: 0}, b: {}}\nseeds: [1, 2]\n"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("- 1", "the experiment"),
        ("name: n", "base"),
        ("base: a", "name"),
        (GOOD.replace("name: n", "name: ../n"), "name"),
        (GOOD.replace("name: n", "name: 3"), "name"),
        (GOOD.replace("{a: {feedback.rate: 0}, b: {}}", "{a: {}}"), "arms"),
        (GOOD.replace("a: {", "no: {"), "arms"),
        (GOOD.replace("b: {}", "b: 3"), "arms.b"),
        (GOOD.replace("b: {}", "a/: {}"), "arms"),
        (GOOD.replace("b: {}", "b: {seed_everything: 3}"), "arms.b.seed_everything"),
        (GOOD.replace("b: {}", "b: {run.name: x}"), "arms.b.run.name"),
        (GOOD.replace("[1, 2]", "[1, 1]"), "seeds"),
        (GOOD.replace("[1, 2]", "[one]"), "seeds"),
        (GOOD + "checkpoint: first", "checkpoint"),
        (GOOD + "grid: {feedback.alpha: 0.5}", "grid.feedback.alpha"),
        (GOOD + "seed: 3", "seed"),
        (GOOD + "name: m", "name"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_file_and_key(text, key, tmp_path):
    path = write(tmp_path, text)
    with pytest.raises(GoldError) as caught:
        load_experiment(path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}: ") and key in line
