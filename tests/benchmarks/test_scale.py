"""The figure of a round by its size, and the table that it is drawn from."""

import shutil
import sys
from pathlib import Path

from benchmarks import scale

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_of_the_page_is_read(tmp_path):
    (page := tmp_path / "page.md").write_text(
        f"| other | 7 |\n|---|---:|\n| a | 1 |\n\n{scale.HEADING}\nText.\n\n"
        "| phase | 1,000 samples | 1,000,000 samples |\n|---|---:|---:|\n| report | 1.01 | 2,004 |\n\n"
        "## Next\n\n| b | 2 |\n"
    )
    assert scale.read_table(page) == ([1_000, 1_000_000], {"report": [1.01, 2004.0]})


def test_the_figure_has_a_line_for_each_phase_and_peak(tmp_path, monkeypatch):
    page = Path(shutil.copy(DOCS / "performance.md", tmp_path))
    monkeypatch.setattr(sys, "argv", ["scale.py", "--draw", str(page)])
    scale.main()
    sizes, rows = scale.read_table(page)
    assert sizes == sorted(sizes) and all(len(values) == len(sizes) for values in rows.values())
    drawn = (tmp_path / "scale.svg").read_text(encoding="utf-8")
    assert all(f">{size:,}<" in drawn for size in sizes)
    lines = ("training samples", "probe set", "run folder opened again", "training feed by length", "report")
    assert all(f">{line}<" in drawn for line in (*lines, "before", "while synthesising", "when opened again"))
    assert "plan<" not in drawn, "parts of a phase are in the table alone"
