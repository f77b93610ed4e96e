"""Every command and code block of the README and the documentation site is run, or says why it is not.

Blocks of a page are taken in order, in one folder. A comment before a block says what is done with it:

- none: a ``bash`` block is run, command by command; a ``python`` block is executed, with the names of those before it;
- ``<!-- parsed: REASON -->``: its commands are checked for everything that is known before they ask for anything;
- ``<!-- output -->``: this is what the block before it printed; ``...`` stands for any text;
- ``<!-- file: NAME -->``: this is a file that later blocks use;
- ``<!-- part of: PATH -->``: these lines stand in that file of the repository;
- ``<!-- config -->``: this is a config, and is parsed after ``quickstart.yaml``;
- ``<!-- not run: REASON -->``: nothing is done.
"""

import contextlib
import io
import itertools
import re
import shlex
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from gold_lightning.cli.configs import find_config
from gold_lightning.cli.main import main
from gold_lightning.evaluation.experiment_file import load_experiment

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in (
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))
) if path.is_file() and path.name != "configuration.md"}  # fmt: skip
BLOCK = re.compile(r"(?:^<!-- ([^\n]*) -->\n\n?)?^```([a-z]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAM = (["python", "-m", "gold_lightning"], ["gold-lightning"])
MARKS = "not run: ", "parsed: ", "part of: ", "file: ", "output", "config"
REPOSITORY = "configs", "examples"


@dataclass
class Reader:
    """Does with the blocks of one page what their marks say."""

    folder: Path
    names: dict = field(default_factory=dict)
    printed: str = ""

    def read(self, mark, kind, text):
        name, _, value = mark.partition(": ")
        if name == "not run":
            assert len(value) > 3, "a reason"
        elif name == "output":
            assert_printed(text, self.printed)
        elif name == "file":
            (self.folder / value).write_text(text, encoding="utf-8")
        elif name == "part of":
            lines = {line.strip() for line in (ROOT / value).read_text(encoding="utf-8").splitlines()}
            assert [line for line in text.splitlines() if line.strip() not in lines] == []
        elif name == "config":
            (self.folder / "config.yaml").write_text(text, encoding="utf-8")
            self.call(["fit", "--config", "quickstart.yaml", "--config", "config.yaml", "--print_config"])
        elif kind == "bash":
            self.printed = ""
            for words in commands(text):
                arguments = arguments_of(words)
                assert arguments is not None, f"{words[0]}: not a command of this program: say why it is not run"
                self.call(check_only(arguments, self.folder) if name == "parsed" else arguments)
        elif kind == "python" and not name:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(text, "page", "exec"), self.names)
            self.printed = out.getvalue()
        else:
            raise AssertionError(f"a {kind or 'text'} block with the mark {mark!r}")

    def call(self, arguments):
        out, err, status = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = main(arguments)
            except SystemExit as e:
                status = e.code
        self.printed += out.getvalue() + err.getvalue()
        wrong = status == 2 and "error: " in err.getvalue()
        assert status == 0 or (wrong and "--print_config" not in arguments), (arguments, err.getvalue())
        self.failed = bool(status)


def commands(text):
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def arguments_of(words):
    return next((words[len(name) :] for name in PROGRAM if words[: len(name)] == name), None)


def check_only(arguments, folder):
    """The same command with nothing left to do but to look at its settings."""
    if arguments[0] == "experiment":
        every = list(load_experiment(Path(find_config(arguments[arguments.index("--config") + 1]))).arms)
        after = arguments[arguments.index("--arms") + 1 :] if "--arms" in arguments else []
        arms = list(itertools.takewhile(lambda word: not word.startswith("--"), after))
        assert set(arms) <= set(every)
        two_runs = ["--seeds", "1", "--arms", *(arms or every)[:2]]
        return [*arguments, "--table", *two_runs, "--root", str(folder / "experiments")]
    assert arguments[0] in ("fit", "validate", "test", "preview", "baselines"), f"{arguments[0]} is fast: run it"
    return [*arguments, "--print_config"]


def assert_printed(expected, printed):
    pieces = [" ".join(piece.split()) for piece in expected.split("...")]
    pattern = ".*".join(re.escape(piece) for piece in pieces if piece)
    assert pattern and re.search(pattern, " ".join(printed.split())), (expected, printed)


@pytest.mark.usefixtures("undrawn_plots", "kept_parsers")
@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_the_page_holds(page, tmp_path, monkeypatch):
    for name in REPOSITORY:
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("COLUMNS", "100")
    blocks = BLOCK.findall(PAGES[page])
    assert PAGES[page].count("```") == 2 * len(blocks), "a block that is not read: indented, or marked too far above"
    reader = Reader(tmp_path)
    for i, (mark, kind, text) in enumerate(blocks):
        assert not mark or mark.startswith(MARKS), mark
        reader.failed = False
        reader.read(mark, kind, text)
        if reader.failed:  # a page may show an error, with its text
            assert blocks[i + 1][0] == "output" and blocks[i + 1][2].startswith("error: ")


def test_make_targets_and_extras_that_pages_name_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = "\n".join(PAGES.values())
    made = set(re.findall(r"(?:^|`|\n)make ([a-z-]+)", named))
    assert made and made <= targets
    asked = set(re.findall(r"gold-lightning\[([a-z]+)\]", named))
    assert asked and asked <= set(project["optional-dependencies"])


def test_every_file_that_a_page_links_is_there():
    generated = {"docs/configuration.md"}
    links = [(page, target) for page, text in PAGES.items() for target in re.findall(r"\]\((?!\w+:|#)([^)#]+)", text)]
    links += [
        (page, target) for page, text in PAGES.items() for target in re.findall(r'(?:src|srcset)="([^":]+)"', text)
    ]
    assert len(links) > 20
    missing = [
        (page, target)
        for page, target in links
        if not target.startswith("../../actions/")  # the repository's own CI, by an address relative to its page
        and not (path := (ROOT / page).parent / target).resolve().exists()
        and path.resolve().relative_to(ROOT).as_posix() not in generated
    ]
    assert missing == []


def test_settings_that_pages_name_exist():
    """Keys like ``data.plan.samples_per_round`` in running text are settings of the program, or keys of a task file."""
    from tests.docs.test_site import script

    configuration = script("generate_configuration")
    known = {
        row.key for command in ("fit", "preview") for row in configuration.settings(configuration.parser_of(command))
    }
    known |= {part for key in known for part in (key.rsplit(".", 1)[0], key.rsplit(".", 2)[0])}
    pattern = r"(?<![\w./-])(?:data|model|feedback|trainer|run|early_stopping|preview|baselines)\.[a-z_]+(?:\.[a-z_]+)*"
    files = {"data.py", "model.onnx", "model.safetensors", "feedback.py", "preview.py", "run.py", "run.name"}
    prose = {page: re.sub(r"^```python\n.*?^```$", "", text, flags=re.M | re.S) for page, text in PAGES.items()}
    named = {(page, key) for page, text in prose.items() for key in re.findall(pattern, text)}
    assert len(named) > 40
    assert sorted((p, k) for p, k in named if k not in known and k not in files and "init_args" not in k) == []
