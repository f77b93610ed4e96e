"""Wrong inputs: one line each, with exit status 2, no traceback, and nothing written."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from gold_lightning.cli.main import main
from gold_lightning.cli.messages import NOTHING, UserInput, explain_parser_error
from gold_lightning.generators import OpenAIGenerator, VLLMGenerator
from gold_lightning.losses import RobustLoss, SymmetricCrossEntropy
from gold_lightning.planning.plan import SynthesisPlan
from jsonargparse import ArgumentError, ArgumentParser, lazy_instance

from tests.cli.bad_inputs import BAD, lines_of

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parent.parent.parent


def test_there_are_enough_and_none_stands_twice():
    assert len(BAD) >= 60
    assert len({case.what for case in BAD}) == len(BAD)
    assert {case.what for case in BAD} >= set(IN_A_PROCESS)


@pytest.mark.parametrize("case", BAD, ids=[case.what[:60] for case in BAD])
def test_a_wrong_input_is_one_line_and_leaves_nothing(case, tmp_path, monkeypatch, tiny_student):
    monkeypatch.chdir(tmp_path)
    status, lines = lines_of(case, tiny_student)
    assert status == 2
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    if ": got" in case.tells[0]:  # the key comes first, perhaps after its file
        assert lines[0].startswith((f"error: {case.tells[0]}", f"error: c.yaml: {case.tells[0]}"))
    assert [part for part in case.tells if part not in lines[0]] == [], lines[0]
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {str(Path(name)) for name in case.files}


IN_A_PROCESS = ["a command that there is not", "an unquoted yes as a label"]


@pytest.mark.parametrize("case", [c for c in BAD if c.what in IN_A_PROCESS], ids=lambda c: c.what)
def test_the_program_itself_exits_with_2(case, tmp_path, tiny_student, monkeypatch, forks):
    case.place(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = forks.run(case.argv(tiny_student))
    assert done.statuses == [2]
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert [part for part in case.tells if part not in line] == []


def test_off_without_quotes_is_off(tmp_path, monkeypatch, capsys):
    # YAML reads off as false.
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text("data: {plan: {label_agreement: off, decontaminate: off}}\n")
    with pytest.raises(SystemExit) as done:
        main(["fit", "--config", "c.yaml", "--print_config"])
    assert done.value.code == 0
    plan = SynthesisPlan(label_agreement=False, decontaminate=False)
    assert plan == SynthesisPlan(label_agreement="off", decontaminate="off")
    assert VLLMGenerator("m", schema=False).schema == "off" and VLLMGenerator("m", schema=True).schema == "json"
    for value, meaning in ((False, "off"), (True, "json_schema")):
        assert OpenAIGenerator("m", "http://localhost:1/v1", schema=value).schema == meaning


@pytest.fixture(scope="module")
def parser():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data.batch_size", type=int, default=8)
    parser.add_argument("--data.replay", type=Literal["all", "last"], default="all")
    parser.add_argument("--data.limit", type=float | None, default=None)
    parser.add_subclass_arguments(RobustLoss, "model.loss", default=lazy_instance(SymmetricCrossEntropy))
    return parser


@pytest.mark.parametrize(
    ("args", "key", "value", "allowed", "hint"),
    [
        (["--data.batch_size", "eight"], "data.batch_size", "eight", "a whole number", ""),
        (["--data.batch_size=1.5"], "data.batch_size", 1.5, "a whole number", ""),
        (["--data.replay", "some"], "data.replay", "some", "all or last", ""),
        (["--data.replay", "no"], "data.replay", False, "all or last", "quotes"),
        (["--data.limit", "1h"], "data.limit", "1h", "a number or null", ""),
        (["--data.bach_size", "3"], "data.bach_size", 3, "batch_size, replay, limit", "did you mean data.batch_size?"),
        (["--data.batch_size"], "data.batch_size", NOTHING, "a value", ""),
        (
            ["--model.loss", "no_such_module.Loss"],
            "model.loss",
            "no_such_module.Loss",
            "import path of a class",
            "No module named",
        ),
        (["--model.loss.sigm", "3"], "model.loss.init_args.sigm", 3, "sigma, lambda_, clip", "did you mean sigma?"),
        (["--model.loss.sigma", "x"], "model.loss.init_args.sigma", "x", "a number", ""),
    ],
    ids=lambda item: " ".join(item) if isinstance(item, list) else "",
)
def test_an_error_of_the_parser_has_key_value_and_what_is_allowed(args, key, value, allowed, hint, parser):
    defaults = dict(parser.get_defaults().items())
    with pytest.raises(ArgumentError) as caught:
        parser.parse_args(args)
    error = explain_parser_error(caught.value, UserInput(args, [], defaults))
    assert (error.key, error.value) == (key, value)
    assert allowed in error.allowed and hint in error.hint and bool(error.hint) is bool(hint)
    assert "\n" not in str(error)


def test_the_value_of_a_config_is_found_by_dotted_and_by_nested_keys():
    configs = [{"data": {"plan": {"hints": 1}}}, {"data.plan": {"group_size": 2}}]
    user_input = UserInput(["fit", "--data.plan.hints=3"], configs)
    assert user_input.value("data.plan.hints") == 3
    assert user_input.value("data.plan.group_size") == 2
    assert UserInput([], configs).value("data.plan.hints") == 1
    assert user_input.value("data.batch_size") is NOTHING


def test_a_message_that_is_not_understood_is_one_line_still():
    line = str(explain_parser_error(ValueError('Parser key "data.plan":\n  something\n  new'), UserInput()))
    assert line == "data.plan: something new"
