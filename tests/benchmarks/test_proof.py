"""The measurements of docs/results.md, and the tables made of them."""

import math
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from benchmarks.proof import (
    ARMS,
    INTENTS,
    SHOWN,
    Proof,
    alternating,
    by_coverage,
    errors_found,
    needs_texts,
    trains_on_texts,
)
from benchmarks.results_page import TABLES, Results, differences, draw_sizes, page
from gold_lightning.storage.json_lines import read_lines, write_lines
from gold_lightning.storage.round_store import BatchRecord, RoundStore, StoredSample
from gold_lightning.task import Sample, Task
from gold_lightning.text_labels import joint_probabilities

NEWS = Task.load("news_topics")
DOCS = Path(__file__).parents[2] / "docs"


def stored(*targets):
    return [StoredSample(f"r000-train-{i:05d}", Sample({"text": str(i)}, t), 0, "") for i, t in enumerate(targets)]


def test_labels_take_turns_until_one_has_no_more_samples():
    samples = stored("a", "a", "a", "b", "b")
    assert [s.sample.fields["text"] for s in alternating(samples, 3)] == ["0", "3", "1"]
    assert [s.sample.fields["text"] for s in alternating(samples, 9)] == ["0", "3", "1", "4", "2"]


def test_the_surest_answers_are_kept():
    right, doubt = [True, False, True, True, False], [0.1, 0.9, 0.2, 0.3, 0.8]
    assert by_coverage(right, doubt) == [0.6, 0.75, 1.0]
    assert errors_found(right, doubt) == 1.0
    assert math.isnan(errors_found([True, True], [0.1, 0.2]))


def test_arms_that_need_real_texts():
    assert [arm for arm in ARMS if not needs_texts(arm)] == [
        *("plain", "few_shot", "zero_shot", "cascade", "regression/plain", "own/plain"),
        *("random order", "7 passes", "7 passes, random order", "40", "80", "160", "soft", "drop", "loop"),
    ]


def test_differences_are_paired_and_corrected_for_the_comparisons_of_their_table():
    first, second = [1.0, 1.1, 0.9, 1.0], [1.0, -2.0, 3.0, 0.5]
    alone, with_another = differences([first])[0], differences([first, second])
    assert alone == "+1.0 (+0.9 to +1.1) *"
    assert with_another[0] == alone and with_another[1].endswith(")")
    assert differences([[2.0, 2.5], []]) == ["+2.2", "-"], "two seeds are too few for an interval"


def test_the_figure_has_a_line_for_each_task_that_has_all_sizes(tmp_path):
    rows = [
        {"task": task, "seed": seed, "arm": arm, "accuracy": 0.6 + seed / 100, "samples": 240}
        for task, arms in (("film", ("40", "80", "160", "plain")), ("news-large", ("40", "80", "160", "plain")))
        for arm in (*arms, "soft")
        for seed in (1, 2)
    ]
    rows.append({"task": "questions", "seed": 1, "arm": "plain", "accuracy": 0.5, "samples": 240})
    draw_sizes(Results(rows), file := tmp_path / "sizes.svg")
    text = file.read_text(encoding="utf-8")
    assert "film reviews (2)" in text and "news topics, larger generator (2)" in text and "questions" not in text


def test_pairs_are_those_of_seeds_that_both_arms_have():
    rows = [
        {"task": "news", "seed": seed, "arm": arm, "accuracy": value}
        for arm, seed, value in [("plain", 1, 0.8), ("plain", 2, 0.7), ("soft", 2, 0.75), ("soft", 3, 0.9)]
    ]
    assert Results(rows).difference("news", "soft", "plain") == [pytest.approx(5.0)]


def test_arms_of_earlier_versions_are_named():
    versions = [("plain", {"version": 1}), ("plain", {}), ("soft", {"version": 1}), ("drop", {"version": 1})]
    rows = [{"task": "film", "seed": 2, "arm": arm, "accuracy": 0.7} | version for arm, version in versions]
    rows += [
        {"task": "news", "seed": 1, "arm": f"{of}/top{true}", "version": 1} for of in "ab" for true in ("", ", true")
    ]
    assert [line for line in TABLES["earlier"](Results(rows)) if line.startswith(" ")] == [
        *("    - news topics: top", "    - film reviews: drop; soft")
    ]
    assert TABLES["earlier"](Results(rows[1:2])) == ["No number is of an earlier version."]


def test_arms_are_compared_within_a_version():
    rows = [
        {"task": "film", "seed": 2, "arm": "plain", "accuracy": 0.8},
        {"task": "film", "seed": 2, "arm": "plain", "accuracy": 0.7, "version": 1},
        {"task": "film", "seed": 2, "arm": "soft", "accuracy": 0.75, "version": 1},
        {"task": "film", "seed": 3, "arm": "plain", "accuracy": 0.6, "version": 1},
        {"task": "film", "seed": 2, "arm": "drop", "accuracy": 0.82},
    ]
    for results in (Results(rows), Results(rows[::-1])):
        assert results.of("film", "plain") == pytest.approx({2: 80.0}), "seeds of one version, the latest"
        assert results.of("film", "soft") == pytest.approx({2: 75.0})
        assert results.difference("film", "soft", "plain") == [pytest.approx(5.0)]
        assert results.difference("film", "drop", "plain") == [pytest.approx(2.0)]
        assert results.difference("film", "drop", "soft") == []
        assert results.earlier() == {1: {"film": ["soft"]}}


def test_sizes_are_compared_over_the_seeds_that_have_all_of_them():
    arms = {"40": {1: 0.5}, "80": {1: 0.6}, "160": {1: 0.7}, "plain": {1: 0.8, 2: 0.1}}
    rows = [
        {"task": "film-large", "seed": s, "arm": arm, "accuracy": value}
        for arm, by_seed in arms.items()
        for s, value in by_seed.items()
    ]
    assert TABLES["sizes"](Results(rows))[2] == (
        "| film reviews, larger generator | 1 | 50.0 % | 60.0 % | 70.0 % | 80.0 % |"
    )


def test_the_page_has_the_tables_that_its_command_makes():
    text = (DOCS / "results.md").read_text(encoding="utf-8")
    assert page(text, Results(read_lines(DOCS / "results.jsonl"))) == text
    assert set(re.findall(r"<!-- table: ([\w ]+) -->", text)) <= set(TABLES)


def test_no_number_of_the_page_is_written_by_hand():
    text = (DOCS / "results.md").read_text(encoding="utf-8")
    prose = re.sub(r"<!-- table: .*?<!-- end -->|```.*?```", "", text, flags=re.DOTALL)
    assert "<!-- table: students -->" in text
    assert [n for n in re.findall(r"\d+(?:\.\d+)? (?:%|points)", prose) if n != "95 %"] == []


def sure_of(label):
    return {name: 0.7 if name == label else 0.1 for name in NEWS.label_names}


@pytest.fixture
def proof(tmp_path):
    """A run of three rounds with eight samples each, and twelve real texts a round, a third of them mislabelled."""
    (tmp_path / "rows").mkdir()
    names, texts = NEWS.label_names, {}
    run = tmp_path / "runs" / "news_topics" / "seed-1"
    for number in range(3):
        store = RoundStore(run, number)
        samples = [
            StoredSample(f"r{number:03d}-train-{i:05d}", Sample({"text": f"made {number} {i}"}, names[i % 4]), 0, "")
            for i in range(8)
        ]
        store.commit(BatchRecord("train", 0, 8, 8, {}, 0, 0, 0.0), samples, [], {"": ""}, {})
        probes = [
            StoredSample(
                f"r{number:03d}-probe-u{i:05d}",
                Sample({"text": f"real {number} {i}"}, names[i % 4]),
                *(0, ""),
                source="unlabelled",
                probabilities=sure_of(names[i % 4]),
            )
            for i in range(12)
        ]
        store.commit(BatchRecord("probe", 0, 12, 12, {}, 0, 0, 0.0, from_unlabelled=12), probes, [], {"": ""}, {})
        rows = [{"id": s.id, "kind": "probe", "energy": float(i), "loss": 0.0} for i, s in enumerate(probes)]
        store.write_energies([row | {"probabilities": sure_of(names[i % 4])} for i, row in enumerate(rows)])
        texts |= {s.sample.fields["text"]: names[(i + (i % 3 == 0)) % 4] for i, s in enumerate(probes)}
    texts["real 0 1"] = "?"  # nobody knows
    for kind, values in (("texts", texts), ("test", {"talks": names[0]})):
        write_lines(tmp_path / "rows" / f"news.{kind}.jsonl", [{"text": t, "topic": y} for t, y in values.items()])
    made = Proof("news", 1, tmp_path / "rows", tmp_path / "runs", None)
    stores = [RoundStore(run, number, read_only=True) for number in range(3)]
    stored = [s for store in stores for s in store.accepted("train")]
    made._cache["retraining"] = SimpleNamespace(stored=stored)
    return made


def test_real_texts_take_the_place_of_samples_under_given_or_true_labels(proof, monkeypatch):
    monkeypatch.setattr(proof, "count", 32)
    given, about = proof.samples("top")
    true, about_true = proof.samples("top, true")
    texts = [s for s in given if s.source == "unlabelled"]
    assert (len(given), len(texts)) == (32, about["real_texts"])
    assert {s.id[:4] for s in texts} == {"r000", "r001"}, "the last round's texts come too late to be trained on"
    assert all(s.id != "r000-probe-u00001" for s in texts)
    assert [s.sample.fields for s in given] == [s.sample.fields for s in true] and about == about_true
    right = [a.sample.target == b.sample.target for a, b in zip(given, true, strict=True) if a.source == "unlabelled"]
    assert about["labels_right"] == pytest.approx(sum(right) / len(right), abs=1e-4) and not all(right)


def test_all_real_texts_but_the_last_rounds_join_the_samples(proof):
    samples, about = proof.samples("pseudo")
    assert (len(samples), about["real_texts"]) == (24 + 24, 24)
    assert about["labels_right"] == round(15 / 23, 4), "one text has no true label"
    assert {s.id[:4] for s in samples if s.source == "unlabelled"} == {"r000", "r001"}
    every, about = proof.samples("all texts")
    assert about["real_texts"] == 36 and {s.id[:4] for s in every[24:]} == {"r000", "r001", "r002"}


@pytest.mark.parametrize("arm", ["loop", "band as style"])
def test_feedback_is_measured_on_a_run_of_its_own(proof, monkeypatch, arm):
    commands, name = [], f"{arm.replace(' ', '-')}-seed-1"

    def fit(command, **settings):
        commands.append(command)
        run = proof.run.with_name(name)
        shutil.copytree(proof.run, run)
        (run / "student").mkdir()
        write_lines(run / "rounds.jsonl", [{"round": r, "auroc": value} for r, value in enumerate((0.5, 0.6, 0.7))])

    monkeypatch.setattr("benchmarks.proof.subprocess.run", fit)
    stored = proof.retraining.stored
    monkeypatch.setattr("benchmarks.proof.Retraining", lambda run, task, config: SimpleNamespace(stored=stored))
    (proof.run / "config.yaml").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(proof, "_trained", lambda arm, samples, about: {"samples": len(samples), **about})
    assert proof.measure(arm) == {"samples": 24, "auroc_probes": 0.6}
    (command,) = commands
    given = dict(zip(command[6::2], command[7::2], strict=True))
    assert given["--run.name"] == name and given["--feedback.strategy"] == "energy_band"
    if arm == "loop":
        assert given["--data.plan.probe_per_round"] == "60" and "--data.unlabelled" not in given
    else:
        assert given["--data.plan.unlabelled_as"] == "style" and Path(given["--data.unlabelled"]).is_file()
        assert given["--data.plan.probe_per_round"] == str(len(read_lines(Path(given["--data.unlabelled"]))) // 3)
    proof.measure(arm)
    assert len(commands) == 1, "a finished run is not made again"


def test_students_of_generated_samples_alone_train_in_one_order():
    assert [arm for arm in (*SHOWN, "loop", "plain") if trains_on_texts(arm)] == []
    assert trains_on_texts("band") and trains_on_texts("regression/random, true") and trains_on_texts("pseudo")


def test_a_task_of_fewer_labels_is_written_and_its_rows_are_those_of_the_labels(tmp_path):
    rows = [{"text": f"message {label}", "intent": label} for label in ("change pin", "card linking")]
    write_lines(tmp_path / "intents.test.jsonl", rows)
    fewer, whole = (Proof(name, 1, tmp_path, tmp_path / "runs", None) for name in ("intents-20", "intents-77"))
    assert {row.target for row in fewer.test} == {"change pin"} and len(whole.test) == 2
    assert set(fewer.task.label_names) == set(INTENTS) and fewer.run != whole.run
    assert set(INTENTS) < set(whole.task.label_names) and (fewer.count, whole.count) == (240, 6 * 77)


def test_a_larger_generator_has_runs_of_its_own(proof, tmp_path):
    file = tmp_path / "large.gguf"
    larger = Proof("news-large", 1, tmp_path / "rows", tmp_path / "runs", None, file)
    assert larger.run == tmp_path / "runs" / "large" / "news_topics" / "seed-1"
    assert larger._generator()[-2:] == ["--data.generator.init_args.model", str(file)] and proof._generator() == []
    larger.large = tmp_path / "server.yaml"
    assert larger._generator() == ["--config", str(tmp_path / "server.yaml")]
    assert [row.fields for row in larger.test] == [row.fields for row in proof.test]


def test_joint_labels_are_those_of_todays_rule_whatever_weight_the_run_gave_the_student(proof):
    rng, names = np.random.default_rng(0), NEWS.label_names
    rows = [dict(zip(names, row, strict=True)) for row in rng.dirichlet(np.full(4, 3.0), 40).tolist()]
    student = np.log(rng.dirichlet(np.full(4, 3.0), 40))
    joint = joint_probabilities(rows, student.tolist(), names)
    logs = np.log([[row[name] for name in names] for row in rows])
    shares = np.exp(logs + 3 * student)
    stored = [dict(zip(names, row, strict=True)) for row in (shares / shares.sum(1, keepdims=True)).tolist()]
    for old, again, new in zip(proof._joint(rows, stored), proof._joint(rows, joint), joint, strict=True):
        assert old == pytest.approx(new, abs=1e-3) and again == pytest.approx(new, abs=1e-3)


def test_labels_and_energies_of_real_texts_are_compared_with_the_truth(proof):
    labels, energy = proof.measure("labels"), proof.measure("energy")
    assert labels == {"rows": 35, "generator": round(23 / 35, 4), "joint": round(23 / 35, 4)}
    assert energy["rows"] == 35 and len(energy["labels_right_by_fifth"]) == 5 and 0.3 < energy["auroc"] < 0.6


def test_the_generator_answers_the_rows_that_the_student_is_least_sure_of(proof):
    names = NEWS.label_names
    proof.test = [Sample({"text": str(i)}, names[0]) for i in range(10)]
    sure = np.log([[0.3 + 0.05 * i, 0.2, 0.1, 0.1] for i in range(10)])
    sure[:2] = sure[:2, ::-1]  # the two rows of which it is least sure are wrong
    np.savez(proof.run / "proof.npz", log_probs=sure)
    folder = proof.root / "news_topics" / "baselines" / "baselines"
    folder.mkdir(parents=True)
    for suffix, right in (("", 5), ("_calibrated", 9)):
        rows = [{"prediction": names[int(i >= right)], "target": names[0]} for i in range(10)]
        write_lines(folder / f"few_shot{suffix}.jsonl", rows)
    assert proof.measure("few_shot") == {"rows": 10, "raw": 0.5, "accuracy": 0.9}
    assert proof.measure("cascade") == {"rows": 10, "by_calls": [0.8, 0.9, 1.0, 1.0, 1.0, 0.9]}


def test_a_generators_answers_are_asked_for_once_of_the_one_that_writes(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr("benchmarks.proof.subprocess.run", lambda command, **_: commands.append(command))
    larger = Proof("news-large", 1, None, tmp_path, None, tmp_path / "server.yaml")
    file = larger.root / "news_topics" / "baselines" / "baselines" / "few_shot_calibrated.jsonl"
    assert larger._predictions("few_shot") == []
    (command,) = commands
    assert command[3:6] == ["baselines", "--config", "quickstart.yaml"] and "[few_shot]" in command
    assert command[command.index("--config", 5) + 1] == str(tmp_path / "server.yaml")
    file.parent.mkdir(parents=True)
    write_lines(file, [{"prediction": "World", "target": "World"}] * 240)
    assert len(larger._predictions("few_shot")) == 240 and len(commands) == 1


def test_without_rows_the_task_is_measured_on_its_own(tmp_path):
    proof = Proof("news", 1, None, tmp_path, None)
    assert len(proof.test) == 240 and {s.target for s in proof.test} == set(NEWS.label_names) and proof.truth == {}
