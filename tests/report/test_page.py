"""The report: what stands in it, what cannot get into it, and what it does without."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

import pytest
from gold_lightning import report
from gold_lightning.cli.main import main
from gold_lightning.report import render, try_to_report, write_report
from gold_lightning.report.page import state_of
from gold_lightning.report.run import read_run
from gold_lightning.storage.json_lines import read_lines, write_lines

from tests.runs import make_run

pytestmark = pytest.mark.integration

HOSTILE = [
    "</script><script>alert(1)</script>",
    "</svg></style></title></pre><h1 onclick=alert(1)>owned</h1>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1) <a href='javascript:alert(1)'>x</a>",
    "{{ 7 * 7 }} {% raw %} {# x #}",
    "\u202eright to left\u202c \u2066isolated\u2069 \u200f",
    "null \x00 escape \x1b[31m bell \x07",
    "lone \ud800 surrogate \udfff",
    "&lt;b&gt; &amp; &#60;i&#62; $\\frac{1}{2}$ $",
    "long " + "x" * 10_000,
    "a" + "\u0301" * 400,
    "\n\n\n line \u2028 and \u2029 paragraph \r\n",
]


def hostile(rng):
    return f"MARK {rng.choice(HOSTILE)} <b>MARK</b> {rng.randint(0, 99999)}"


class Reader(HTMLParser):
    """Tags with their attributes, and the text that stands between them."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.text, self.open = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(attrs)))

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "news_topics" / "small")


@pytest.fixture(scope="module")
def page(small):
    return render(read_run(small))


def body(page):
    return " ".join(" ".join(Reader(page).text).split())


# What stands in it


def test_it_tells_the_story_from_top_to_bottom(page):
    heads = re.findall(r"<h2>(.*?)</h2>", page)
    assert heads == ["The result", "The loop", "The data", "Samples", "The costs", "The settings"]
    told = body(page)
    for part in (
        "79.6 % accuracy of the best student on 240 test rows; the 95 % interval is 74.6 to 84.6 %.",
        "Before training it had 0.0 %; the most frequent answer has 25.0 %; ",
        "; the generator, few-shot, calibrated, has 71.0 %; the generator, zero-shot, has 61.0 %.",
        "1 of 60 training samples shares text with the test set",
        "generator, few-shot: 2 rows were cut.",
        "Each interval covers one number. Differences between the lines are not tested here.",
        "All 3 rounds are done.",
        "The band holds the quantiles 0.5 to 0.8 of the probe set, taken within each label",
        "no two have the same words",
        "Prices: $0.15 for a million prompt tokens, $0.6 for a million written.",
    ):
        assert part in told, part


def table(page, caption):
    """Rows of a table of the page, as lists of cells."""
    found = re.search(rf"<caption>{re.escape(caption)}</caption>(.*?)</table>", page, re.DOTALL)[1]
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", found)]


def test_its_tables_have_the_numbers_of_the_run(page, small):
    rows = read_lines(small / "rounds.jsonl")
    energies = table(page, "Energies by round")[1:]
    assert [row[0] for row in energies] == ["0", "1", "2"]
    for found, row in zip(energies, rows, strict=True):
        assert found[3:5] == [f"{row['auroc']:.2f}", str(len(row["fed_back"]))]
        assert found[1] == f"{row['energy']['probe']['q50']:.2f}".replace("-", "\u2212")
    metrics = table(page, "Validation metrics by round")
    assert metrics[0] == ["round", "accuracy", "macro_f1", "trained on", "scored on"]
    assert metrics[2][1] == f"{100 * rows[1]['metrics']['val/accuracy']:.1f}\u00a0%"
    assert table(page, "Requests by round, and the share accepted")[1] == [
        "0",
        "48",
        "32",
        "66.7\u00a0%",
        "66.7\u00a0%",
    ]
    rejects = table(page, "Rejects by reason and round")
    assert [sum(int(cell) for cell in row[1:]) for row in rejects[1:]] == [16, 16, 16, 48]
    labels = table(page, "Training samples by label")
    assert [row[:3] for row in labels[1:]] == [
        ["World", "21", "35.0\u00a0%"],
        ["Sports", "21", "35.0\u00a0%"],
        ["Business", "18", "30.0\u00a0%"],
    ]
    assert table(page, "Seconds by phase")[-1] == ["all", "123.0", "78.0", "9.0", "210.0"]
    assert table(page, "Tokens by round")[-1] == ["all", "96", "0", "28,800", "3,840", "$0.0066"]
    settings = dict(table(page, "Main settings")[1:])
    assert settings["seed"] == "7" and settings["learning rate"] == "0.0005" and settings["band, to"] == "0.8"
    assert ["torch", "2.13.0"] in table(page, "Made with")


def test_a_run_without_labels_shows_targets_and_the_lengths_of_all_fields(tmp_path):
    page = render(read_run(make_run(tmp_path / "sums" / "seq", labels=(), fields=("body", "question"), rounds=2)))
    assert "Label balance" not in page and "taken within each label" not in page
    assert [row[0] for row in table(page, "Words of the training samples")[1:]] == ["body", "question", "target"]
    assert "<i>question</i>" in page and "<i>target</i>" in page


def test_baselines_on_other_rows_stand_apart(tmp_path):
    run = make_run(tmp_path / "news_topics" / "apart")
    path = run / "baselines" / "results.json"
    (held,) = read_lines(path)
    write_lines(path, [held | {"rows": 50, "of_rows": "b"}])
    page = render(read_run(run))
    assert "accuracy on 240 test rows" in page and "accuracy on 50 test rows" in page
    assert len(table(page, "Test metrics with 95 % bootstrap intervals, 240 rows")) == 4
    assert "the generator, few-shot" not in body(page)


def test_without_a_test_it_says_so(tmp_path):
    told = body(render(read_run(make_run(tmp_path / "news_topics" / "untested", tested=False))))
    assert "The student has not been tested on labelled rows" in told
    assert "Those labels are the generator's, and may be wrong." in told


# What it does without


def test_it_says_how_the_band_came_into_prompts(tmp_path):
    run = make_run(tmp_path / "news_topics" / "kinds")
    assert "rounds show it to the generator" in body(render(read_run(run)))
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("plan: {", "plan: {feedback_as: hint, "))
    told = body(render(read_run(run)))
    assert "rounds ask the generator for more of its kind" in told and "show it to" not in told


def test_an_older_run_is_drawn_from_its_quantiles(tmp_path):
    page = render(read_run(make_run(tmp_path / "news_topics" / "old", energies=False)))
    assert "If a round did not store the energies" in page and "by energy" not in page
    assert page.count("<mark>fed back</mark>") == 9


def test_a_run_at_work_has_a_page(tmp_path):
    run = make_run(tmp_path / "news_topics" / "live", rounds=0, tested=False, unfinished=True)
    told = body(render(read_run(run)))
    assert "Round 0 is not finished: it has 10 of 20 training samples." in told
    assert "No round is finished yet, so there is no student." in told and "Yield by round" in told
    (run / "rounds.jsonl").write_text('{"round": 0, "torn')
    assert "No round is finished yet" in render(read_run(run))


def test_a_run_that_has_only_begun_has_a_page(tmp_path):
    (tmp_path / "config.yaml").write_text("seed_everything: 1\n")
    told = body(render(read_run(tmp_path)))
    assert "There is no round yet." in told and "There is no sample yet." in told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"max_epochs: 3": "max_epochs: 8"}, "3 of at most 8 rounds are done."),
        ({"max_epochs: 3": "max_epochs: -1"}, "3 rounds are done."),
        ({"max_tokens: null": "max_tokens: 100"}, "Its budget of 100 tokens is spent."),
        ({"max_cost: null": "max_cost: 0.001"}, "Its budget of $0.001 is spent."),
        ({"max_seconds: null": "max_seconds: 60"}, "Its budget of 1 min is spent."),
        (
            {"max_epochs: 3": "max_epochs: 8", "min_delta: 0.0": "min_delta: 0.9", "patience: 3": "patience: 2"},
            "The run ended after 3 rounds: val/metric had not improved for 2 rounds.",
        ),
    ],
)
def test_it_says_why_the_run_ended(change, told, tmp_path):
    run = make_run(tmp_path / "news_topics" / "ended")
    text = (run / "config.yaml").read_text()
    for old, new in change.items():
        assert old in text
        text = text.replace(old, new)
    (run / "config.yaml").write_text(text)
    assert told in state_of(read_run(run))


def test_the_command_writes_the_file_and_names_it(small, capsys):
    assert main(["report", str(small)]) == 0
    assert capsys.readouterr().out == f"report: {small / 'report.html'}\n"
    assert (small / "report.html").read_text(encoding="utf-8") == render(read_run(small))
    assert not list(small.glob("*.part"))


def test_a_report_that_fails_is_one_warning(small, monkeypatch, caplog):
    def broken(run):
        raise ValueError("no\nink")

    monkeypatch.setattr(report, "render", broken)
    try_to_report(small)
    assert [r.getMessage() for r in caplog.records] == [
        f"the report could not be written (ValueError: no ink); report {small} tries again"
    ]


# What cannot get into it


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory):
    labels = [*HOSTILE, "<b>MARK", "$x$"]
    folder = tmp_path_factory.mktemp("runs") / "a<b>&c" / "<script>MARK"
    # A slash cannot stand in a folder's name; names of fields are the task's, and plain.
    return make_run(folder, labels=labels, text=hostile, train=30, probe=18, unfinished=True)


def structure(page):
    """Tags of a page and their attributes, drawings aside, whose numbers follow the data."""
    return Counter((tag, attrs) for tag, attrs in Reader(re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)).tags)


def test_no_tag_or_attribute_comes_from_data(hostile_run):
    page = render(read_run(hostile_run))
    tags = Reader(page).tags
    ours = set("html head meta title style body header main nav section div p h1 h2 h3 h4 ul ol li a dl dt dd".split())
    ours |= set("table caption thead tbody tfoot tr th td details summary span b i em mark pre".split())
    drawn = set("svg g path defs use text clippath rect pattern".split())
    assert {tag for tag, _ in tags} <= ours | drawn
    values = {str(value) for _, attrs in tags for _, value in attrs}
    assert not any("MARK" in v or "alert" in v or "script" in v for v in values)
    assert not any(name.startswith("on") for _, attrs in tags for name, _ in attrs)
    links = {v for _, attrs in tags for name, v in attrs if name in ("href", "src", "xlink:href")}
    assert len(links) > 6 and all(v.startswith("#") or v == "config.yaml" for v in links)
    text = "".join(Reader(page).text)
    for shown_as in ("</script><script>alert(1)</script>", "onerror=alert(1)>", "{{ 7 * 7 }}", "&lt;b&gt; &amp;"):
        assert shown_as in text
    assert text.count("MARK") > 100


def test_hostile_texts_change_nothing_of_the_structure(tmp_path, hostile_run):
    same = {"labels": [f"label {i}" for i in range(len(HOSTILE) + 2)], "train": 30, "probe": 18, "unfinished": True}
    plain = make_run(tmp_path / "plain" / "x", text=lambda rng: hostile(rng) and "word " * 200, **same)
    one, two = (structure(render(read_run(run))) for run in (hostile_run, plain))
    assert set(one) == set(two)
    # A text that is cut has an end of its own, and it may be another one that is drawn.
    same = [key for key in one if key[0] not in ("em", "span")]
    assert {key: one[key] for key in same} == {key: two[key] for key in same}


def test_what_cannot_be_seen_is_shown(hostile_run):
    page = write_report(hostile_run).read_text(encoding="utf-8")  # lone surrogates would not be written
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]", page)
    for told in (r"\u202eright to left\u202c", r"null \x00 escape \x1b[31m", r"lone \ud800 surrogate \udfff"):
        assert told in page
    assert " characters more</em>" in page and len(page.encode()) < 1_000_000


def test_it_asks_for_nothing_and_runs_nothing(page):
    tags = Reader(page).tags
    assert not {"script", "link", "img", "iframe", "object", "embed", "form", "base", "image"} & {
        tag for tag, _ in tags
    }
    assert "http:" not in page and "https:" not in page and "@import" not in page
    assert set(re.findall(r"url\((.)", page)) == {"#"}
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
