"""Scripts beside the package, which no other test runs, import names that exist."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(
    path for folder in ("benchmarks", "docs", "examples", "recipes") for path in (ROOT / folder).rglob("*.py")
)


def missing_names(path: Path) -> list[str]:
    """Names that a script imports from this project, anywhere in it, and that do not exist."""
    missing = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] not in ("gold_lightning", "tests"):
            continue
        module = importlib.import_module(str(node.module))
        for name in (alias.name for alias in node.names):
            is_module = hasattr(module, "__path__") and importlib.util.find_spec(f"{node.module}.{name}") is not None
            if not is_module and not hasattr(module, name):
                missing.append(f"{node.module}.{name}")
    return missing


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_that_a_script_imports_exist(path):
    assert missing_names(path) == []


def test_a_name_that_does_not_exist_is_found(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from gold_lightning.prompts import nothing, training_request\nfrom gold_lightning import prompts\n"
    )
    assert missing_names(script) == ["gold_lightning.prompts.nothing"]
