"""The page of measured tables: commands that exist, and what they print."""

import argparse
import runpy
import sys

import pytest

from benchmarks import page

PROGRAMS = {
    "table": ["-c", "print('milliseconds\\n\\n| a |\\n|---|\\n| 1 |')"],
    "fails": ["-c", "print('half of it'); raise SystemExit(3)"],
    "lines": ["-c", "import os; print('a line', os.environ['OMP_NUM_THREADS'])"],
}


@pytest.fixture
def programs(monkeypatch):
    monkeypatch.setattr(page, "COMMANDS", PROGRAMS)


def test_each_section_is_what_its_command_printed(programs, tmp_path, capsys):
    path = tmp_path / "runs" / "bench.md"
    assert page.main(["table", "lines", "--out", str(path)]) == 0
    head, table, lines = path.read_text().split("\n## ")
    assert "Commit " in head and f"torch {page.version('torch')}" in head
    assert table.startswith("table\n\n`python -c print") and "\n\nmilliseconds\n\n| a |\n|---|\n| 1 |\n" in table
    assert lines.endswith("```text\na line 1\n```\n\n")
    assert path.read_text() == capsys.readouterr().out


def test_a_command_that_fails_is_told_and_the_others_go_on(programs, capsys):
    assert page.main([]) == 1
    text = capsys.readouterr().out
    assert "```text\nhalf of it\nended with status 3\n```" in text and text.index("## fails") < text.index("## lines")


def test_a_name_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit):
        page.main(["scales"])
    assert "got scales, expected one of scale, " in capsys.readouterr().err


class ParsedError(Exception):
    pass


@pytest.mark.integration
@pytest.mark.parametrize("name", page.COMMANDS)
def test_a_script_takes_the_arguments_of_its_command(name, monkeypatch):
    parse = argparse.ArgumentParser.parse_args

    def stops(parser, *arguments):
        parse(parser, *arguments)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stops)
    monkeypatch.setattr(sys, "argv", page.COMMANDS[name])
    with pytest.raises(ParsedError):
        runpy.run_path(str(page.ROOT / page.COMMANDS[name][0]), run_name="__main__")
