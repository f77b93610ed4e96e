"""Real texts in place of generated probe sets, driven as a user drives it: main([...]) and gl.distill(...)."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path

import gold_lightning as gl
import pytest
import torch
from gold_lightning.cli.main import main
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.unlabelled import real_texts

from tests.fakes import NewsReader, real_news

SMALL = ["--data.plan.samples_per_round=16", "--data.plan.probe_per_round=16", "--data.plan.group_size=2"]
SMALL += ["--data.plan.label_agreement=off", "--data.passes_per_round=1", "--data.reuse_completions=false"]
KINDS = ("train", "probe")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A file of 70 texts: 60 of them good, one twice, one empty, eight from the test set."""
    test_rows = read_lines(Path(gl.__file__).parent / "tasks" / "news_topics.test.jsonl")
    rows = [{"text": row["text"], "url": "https://example.org"} for row in (*real_news(60), *test_rows[:8])]
    rows += [rows[3], {"text": "  "}]
    path = tmp_path_factory.mktemp("texts") / "news.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def arguments(root, student, texts, *more):
    base = [
        "fit",
        "--config",
        "quickstart.yaml",
        "--run.root",
        str(root),
        "--run.name",
        "t",
        "--model.student",
        student,
    ]
    real = ["--data.unlabelled", str(texts)] if texts else []
    return [*base, "--data.generator", "tests.fakes.NewsReader", *SMALL, *real, *more]


def fit(root, student, texts, *more):
    return main(arguments(root, student, texts, *more))


def stores(root):
    return [RoundStore(Path(root) / "news_topics" / "t", r, read_only=True) for r in range(3)]


def rounds(root):
    return read_lines(Path(root) / "news_topics" / "t" / "rounds.jsonl")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_student, texts):
    root = tmp_path_factory.mktemp("whole")
    assert fit(root, tiny_student, texts, "--data.plan.unlabelled_as=[demos,style,data]") == 0
    return root


def test_rounds_tell_real_texts_from_generated_ones(whole, texts):
    counts = {"texts": 70, "usable": 60, "duplicate": 1, "empty": 1, "in_test_set": 8}
    for row in rounds(whole):
        assert row["unlabelled"] == {**counts, "left": 60 - 16 * (row["round"] + 1)}
        assert row["probe"]["unlabelled"] == row["probe"]["accepted"] == 16
        assert bool(row["train"].get("unlabelled")) == (row["round"] > 0)
        assert row["overlap"]["probe"]["any"] == 0
    kept = json.loads((whole / "news_topics" / "t" / "data" / "unlabelled.json").read_text())
    assert kept["path"] == texts and counts.items() <= kept.items()


def test_the_band_of_real_texts_goes_back_in_all_three_ways(whole):
    found = stores(whole)
    for before, after, row in zip(found, found[1:], rounds(whole), strict=False):
        fed = [s for s in before.accepted("probe") if s.id in row["fed_back"]]
        assert fed and all(s.source == "unlabelled" for s in fed)
        real = [s for s in after.accepted("train") if s.source == "unlabelled"]
        assert real and real_texts(real) <= real_texts(fed)
        assert all(n <= 1 for n in Counter(s.sample.target for s in real).values())  # a quarter of 4
    prompts = [p["prompt"] for store in found[1:] for p in read_lines(store.folder / "prompts.jsonl")]
    assert any("in the manner of this text" in prompt and "REAL" in prompt for prompt in prompts)
    assert any("\ntext: REAL" in prompt and "Examples:" in prompt.split("REAL")[0] for prompt in prompts)


def test_no_text_is_scored_that_was_trained_on(whole, tiny_student, texts, capsys):
    last = stores(whole)
    trained = real_texts(s for store in last for s in store.accepted("train"))
    row = rounds(whole)[-1]
    assert row["validated_on"] == {"rows": 48 - len(trained), "probe_sets": 3, "unlabelled": 48 - len(trained)}
    command = ["validate", "--config", str(whole / "news_topics" / "t" / "config.yaml"), "--ckpt_path", "last"]
    assert main(command) == 0
    assert f"{48 - len(trained)} real texts of 3 rounds" in capsys.readouterr().out


def test_the_report_and_the_energies_name_the_source(whole):
    page = (whole / "news_topics" / "t" / "report.html").read_text()
    assert "real text" in page and "60 of them usable" in page
    fed_back = str(len(rounds(whole)[0]["fed_back"]))
    assert fed_back != "0"
    row = re.search(r"Real texts by round</caption>.*?<tr>.*?</tr>.*?<tr>(.*?)</tr>", page, re.DOTALL)
    assert re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row[1]) == ["0", "16 of 16", fed_back, "0 of 16", "44"]
    with (whole / "news_topics" / "t" / "metrics.csv").open() as file:
        logged = [row for row in csv.DictReader(file) if row.get("run/unlabelled_left")]
    assert [float(row["run/unlabelled_left"]) for row in logged] == [44, 28, 12]
    assert [float(row["probe/unlabelled"]) for row in logged] == [16, 16, 16]
    energies = stores(whole)[1].energies()
    assert {e.get("source", "generator") for e in energies if e["kind"] == "probe"} == {"unlabelled"}


@pytest.mark.parametrize("after", [20, 50, 75, 90])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(whole, tmp_path, tiny_student, texts, after):
    uses = "--data.plan.unlabelled_as=[demos,style,data]"
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(tmp_path, tiny_student, texts, uses, "--data.generator.init_args.fail_after", str(after))
    assert len(rounds(tmp_path)) < 3
    assert fit(tmp_path, tiny_student, texts, uses) == 0
    for one, two in zip(stores(whole), stores(tmp_path), strict=True):
        for kind in KINDS:
            assert list(one.accepted(kind)) == list(two.accepted(kind))
        assert one.energies() == two.energies() != []
    timeless = [[{k: v for k, v in r.items() if k != "seconds"} for r in rounds(root)] for root in (whole, tmp_path)]
    assert timeless[0] == timeless[1]
    paths = (root / "news_topics" / "t" / "checkpoints" / "last.ckpt" for root in (whole, tmp_path))
    a, b = (torch.load(path, weights_only=True, map_location="cpu") for path in paths)
    assert a["GoldDataModule"] == b["GoldDataModule"]
    assert all(torch.equal(a["state_dict"][k], b["state_dict"][k]) for k in a["state_dict"])


def test_a_file_that_has_changed_is_refused_in_one_line(whole, tmp_path, tiny_student, texts, capsys):
    changed = tmp_path / "news.jsonl"
    changed.write_text(Path(texts).read_text().replace("REAL 0:", "REAL zero:"))
    assert fit(whole, tiny_student, changed, "--trainer.max_epochs=4") == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error")]
    assert line.startswith("error: data.unlabelled: got ") and "the file that the run began with" in line


def test_without_feedback_the_probe_set_is_real_and_nothing_of_it_gets_back(tmp_path, tiny_student, texts):
    assert fit(tmp_path, tiny_student, texts, "--feedback.strategy=none", "--trainer.max_epochs=2") == 0
    for store in stores(tmp_path)[:2]:
        assert {s.source for s in store.accepted("probe")} == {"unlabelled"}
        assert {s.source for s in store.accepted("train")} == {"generator"}
        assert not any(
            "REAL" in p["prompt"] for p in read_lines(store.folder / "prompts.jsonl") if p["kind"] == "train"
        )


def test_pseudo_labels_are_the_students_and_the_generators_together(tmp_path, tiny_student, texts):
    uses = ["--data.plan.unlabelled_as=pseudo_labels", "--feedback.strategy=none", "--trainer.max_epochs=2"]
    assert fit(tmp_path, tiny_student, texts, *uses) == 0
    first, second = stores(tmp_path)[:2]
    joint = {row["id"]: row["probabilities"] for row in first.energies() if row["kind"] == "probe"}
    probes = {s.sample.text: s for s in first.accepted("probe")}
    real = [s for s in second.accepted("train") if s.source == "unlabelled"]
    assert len(real) == len(joint) == 16 and len(second.accepted("train")) == 32
    for s in real:
        assert s.probabilities == joint[probes[s.sample.text].id]
        assert s.sample.target == max(s.probabilities, key=s.probabilities.get)
    assert any(s.probabilities != probes[s.sample.text].probabilities for s in real)
    again = ["--trainer.max_epochs=3", *uses[:2]]
    assert fit(tmp_path, tiny_student, texts, *again) == 0
    assert list(stores(tmp_path)[1].accepted("train")) == list(second.accepted("train"))


def test_the_generators_labels_alone_are_a_setting(tmp_path, tiny_student, texts):
    assert fit(tmp_path, tiny_student, texts, "--feedback.label_by=generator", "--trainer.max_epochs=1") == 0
    assert not any("probabilities" in row for row in stores(tmp_path)[0].energies())


@pytest.mark.parametrize("strategy", ["random", "energy_top", "energy_bottom", "loss_top"])
def test_every_strategy_chooses_among_real_texts(tmp_path, tiny_student, texts, strategy):
    assert fit(tmp_path, tiny_student, texts, f"--feedback.strategy={strategy}", "--trainer.max_epochs=1") == 0
    (row,) = rounds(tmp_path)
    assert row["strategy"] == strategy and len(row["fed_back"]) > 0


@pytest.mark.slow
def test_two_processes_draw_and_label_the_texts_that_one_does(tmp_path, tiny_student, texts, forks):
    more = ["--trainer.max_epochs=2", "--data.generator", "tests.fakes.SteadyReader"]
    size = "--data.generator.init_args.batch_size"
    for processes, name, own in ((1, "one", [size, "32"]), (2, "two", [size, "16", "--trainer.devices=2"])):
        finished = forks.run(arguments(tmp_path / name, tiny_student, texts, *more, *own), processes=processes)
        assert finished.statuses == [0] * processes, finished.stderr[-2000:]
    for one, two in zip(stores(tmp_path / "one")[:2], stores(tmp_path / "two")[:2], strict=True):
        assert list(one.accepted("probe")) == list(two.accepted("probe")) != []
    # Which texts are chosen depends on dropout, whose masks are each process's own.
    real = [[s.source for s in stores(tmp_path / name)[1].accepted("train")] for name in ("one", "two")]
    assert real[0] == real[1] and "unlabelled" in real[0]
    assert rounds(tmp_path / "one")[-1]["unlabelled"] == rounds(tmp_path / "two")[-1]["unlabelled"]


def test_a_notebook_gives_texts_as_a_list(tmp_path, tiny_student):
    plan = gl.SynthesisPlan(samples_per_round=8, probe_per_round=8, group_size=2, unlabelled_share=0.5)
    listed = [row["text"] for row in real_news(16)]
    run = gl.distill(
        "news_topics", generator=NewsReader(), student=tiny_student, rounds=2, plan=plan, unlabelled=listed,
        output=tmp_path / "news_topics" / "t", data={"passes_per_round": 1}, verbose=False,
    )  # fmt: skip
    probes = run.samples("probe")
    assert set(probes["text"]) == set(listed) and set(probes["source"]) == {"unlabelled"}
    assert set(run.samples("train")["source"]) == {"generator", "unlabelled"}
    assert main(["fit", "--config", str(run.folder / "config.yaml"), "--trainer.max_epochs=2"]) == 0
    assert len(rounds(tmp_path)) == 2


def test_a_preview_shows_how_many_texts_there_are_and_one(tmp_path, tiny_student, texts, capsys):
    base = ["preview", "--config", "quickstart.yaml", "--run.root", str(tmp_path), "--model.student", tiny_student]
    assert main([*base, "--data.generator", "tests.fakes.NewsReader", *SMALL, "--data.unlabelled", texts]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "60 of them usable" in page and "REAL" in page and "departs from its training samples" not in page
