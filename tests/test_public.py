"""The public names: each is there, is documented, and its examples run."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys

import gold_lightning as gl
import pytest

NAMES = sorted(set(gl.__all__) - {"__version__"})


def test_public_names_are_there():
    assert set(NAMES) <= set(dir(gl))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = gl.nothing


def test_public_names_have_an_example():
    assert [name for name in NAMES if ">>> " not in (inspect.getdoc(getattr(gl, name)) or "")] == []


@pytest.mark.parametrize("name", NAMES)
def test_examples_of_public_names_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    public = getattr(gl, name)
    names = dict(vars(sys.modules[public.__module__]))
    tests = doctest.DocTestFinder(recurse=False).find(public, name, globs=names)
    results = [doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test) for test in tests]
    assert sum(result.attempted for result in results) > 0 and not any(result.failed for result in results)


def test_the_package_is_imported_without_torch():
    code = "import sys, gold_lightning; assert not {'torch', 'lightning', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_type_checkers_see_the_names_that_are_there():
    """The names for type checkers stand beside those that are imported on use."""
    source = inspect.getsource(gl)
    block = source[source.index("if TYPE_CHECKING:") : source.index("__version__ =")]
    assert sorted(line.split(" as ")[1] for line in block.splitlines() if " as " in line) == NAMES
