"""What a person looks at after a run: ``report.html``, one file that opens from disk and asks for nothing.

It is made from the run folder alone, so it can be made anew at any time. All that it shows of a run goes through
the template's escaping; the page has no script, and its own policy forbids any.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gold_lightning.report.page import contents
from gold_lightning.report.run import Run, read_run
from gold_lightning.report.samples import Detail, reasons_of, samples_of
from gold_lightning.report.text import visible

__all__ = ["LIMIT", "render", "try_to_report", "write_report"]

LIMIT = 3_000_000
"""Bytes that a report has at most."""

_HERE = Path(__file__).parent
_log = logging.getLogger("gold_lightning")
# From the most to the least of the samples; the first that fits is taken.
_DETAILS = (Detail(), Detail(20, 240, 40), Detail(20, 120, 30), Detail(8, 80, 20), Detail(0, 60, 0))


def write_report(run_dir: Path) -> Path:
    """Writes ``report.html`` into a run folder, whole or not at all.

    Args:
        run_dir: The run folder.

    Returns:
        The file.

    Raises:
        GoldError: It is no run folder.
    """
    page = render(read_run(run_dir)).encode()
    path, part = Path(run_dir) / "report.html", Path(run_dir) / "report.html.part"
    part.write_bytes(page)
    part.replace(path)
    return path


def try_to_report(run_dir: Path) -> None:
    """Writes the report of a run that has just ended; that it cannot be written is told, and harms nothing.

    Args:
        run_dir: The run folder.
    """
    try:
        _log.info("report: %s", write_report(run_dir))
    except Exception as e:  # whatever it is: the run is what counts
        why = " ".join(f"{type(e).__name__}: {e}".split())
        _log.warning("the report could not be written (%s); report %s tries again", why, run_dir)


def render(run: Run) -> str:
    """The page of a run, of :data:`LIMIT` bytes at most.

    Args:
        run: The run.
    """
    template = _environment().get_template("page.html")
    told = contents(run) | {"style": Markup((_HERE / "page.css").read_text(encoding="utf-8"))}
    page = ""
    for detail in _DETAILS:
        page = template.render(told, samples=samples_of(run, detail), reasons=reasons_of(run, detail))
        if len(page.encode()) <= LIMIT:
            break
    return page


def _shown(value: Any) -> Any:
    """What the template shows of a value. Then it is escaped as HTML, unless it is markup of ours."""
    return value if isinstance(value, Markup) else visible(str(value))


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
