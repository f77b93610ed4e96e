"""Drawings of a report."""

import math
import re

from gold_lightning.report.plots import Energies, Lines, bars, drawing, forest, histogram, lines, ridge, stacked

from tests.report.test_page import Reader


def texts(svg):
    return "".join(Reader(svg).text)


def test_drawings_take_colours_and_fonts_of_the_page_and_share_no_names():
    row = Energies("round 0", {"train": [1.0, 2.0, 3.0], "probe": [2.0, 3.0, 4.0]}, {}, (0.5, 0.8), [3.0], 0.83)
    with drawing():
        drawn = [ridge([row]), ridge([row, row]), lines([Lines("accuracy", {0: 0.5, 1: 0.75})], percent=True)]
        drawn += [bars([("$5 & <b>", 2, "2")], unit="samples")]
        drawn += [stacked([("round 0", {"accepted": 3, "empty": 1})], ["accepted", "empty"], share=True, unit="share")]
        again = ridge([row])
    names = [set(re.findall(r'id="([^"]+)"', svg)) for svg in drawn]
    assert drawn[0] == again  # the same data, the same bytes
    for svg, own in zip(drawn, names, strict=True):
        assert not re.search(r"#[0-9a-f]{6}\b", svg) and "var(--" in svg
        assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg)) == own
    assert sum(map(len, names)) == len(set().union(*names))
    assert "0.83" in texts(drawn[0]) and "$5 & <b>" in texts(drawn[3]) and "&lt;b&gt;" in drawn[3]


def test_odd_energies_are_drawn(tmp_path):
    same = Energies("same", {"train": [1.0] * 5, "probe": [1.0]}, {}, (0.5, 0.8), [1.0], 0.5)
    none = Energies("none", {}, {}, None, [], math.nan)
    far = Energies("far", {"train": [0.0, 1e9], "probe": [-1e9]}, {}, (0.0, 1.0), [], 1.0)
    with drawing():
        for rows in ([same], [none], [far], [same, none, far]):
            assert "nan" not in ridge(rows)


def test_a_plot_of_each_kind_says_its_names_and_values():
    with drawing():
        drawn = forest([("student", 0.796, 0.746, 0.846), ("generator", 0.61, 0.56, 0.66)])
        drawn += histogram({"train": [3, 4, 4], "probe": [9]}, unit="words of an input")
    for text in ("student", "79.6 %", "generator", "61.0 %", "training", "probe set", "words of an input"):
        assert text in texts(drawn), text


def test_one_length_alone_is_drawn():
    with drawing():
        assert "nan" not in histogram({"train": [5], "probe": []}, unit="words")
