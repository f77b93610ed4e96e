"""Writes ``report.html`` of a run: one file that opens from disk and requests nothing.

The page is built from the run folder alone, so it can be rewritten at any time. The template escapes every value of
the run; the page has no script, and its content security policy forbids any.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from gold_lightning.report.page import contents
from gold_lightning.report.run import Run, read_run
from gold_lightning.report.text import visible
from gold_lightning.storage.run_folder import RunFolder

__all__ = ["render", "renew_report", "try_to_report", "write_report"]

_HERE = Path(__file__).parent
_log = logging.getLogger("gold_lightning")


def write_report(run_dir: Path) -> Path:
    """Writes ``report.html`` into a run folder, as a whole or not at all.

    Args:
        run_dir: The run folder.

    Returns:
        The path of the file.

    Raises:
        GoldError: The folder holds no run.
    """
    page = render(read_run(run_dir)).encode()
    path = RunFolder(Path(run_dir)).report
    part = path.with_name(path.name + ".part")
    part.write_bytes(page)
    part.replace(path)
    return path


def try_to_report(run_dir: Path) -> None:
    """Writes the report of a run that has just ended and logs its path; logs a warning if that fails.

    Args:
        run_dir: The run folder.
    """
    if (path := renew_report(run_dir)) is not None:
        _log.info("report: %s", path)


def renew_report(run_dir: Path) -> Path | None:
    """Writes the report, and logs a warning if that fails.

    Args:
        run_dir: The run folder.

    Returns:
        The path of the file; ``None`` if that failed.
    """
    try:
        return write_report(run_dir)
    except Exception as e:  # any: the run matters more than its report
        error = " ".join(f"{type(e).__name__}: {e}".split())
        _log.warning("the report could not be written (%s); report %s tries again", error, run_dir)
        return None


def render(run: Run) -> str:
    """Renders the page of a run. Its size is bounded: see :func:`gold_lightning.report.samples.max_chars`.

    Args:
        run: The run.
    """
    style = Markup((_HERE / "page.css").read_text(encoding="utf-8"))
    return _template().render(contents(run), style=style)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")


def _visible(value: Any) -> Any:
    """Escapes the invisible characters of all values except our own markup; autoescaping follows."""
    return value if isinstance(value, Markup) else visible(str(value))
