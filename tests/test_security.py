"""Reads the source for what could run generated text or a file's content as code."""

import ast
from pathlib import Path

import gold_lightning
import pytest
import yaml

PACKAGE = Path(gold_lightning.__file__).parent
FILES = sorted(p for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts)
SAFE = {"StrictLoader", "yaml.CSafeLoader"}  # the first of inputs/yaml_files.py, on top of PyYAML's safe one
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "subprocess", "code", "pty"}
NAMES = {"eval", "exec", "compile", "__import__", "execfile"}
CALLS = {"os.system", "os.popen", "os.execv", "os.execvp", "os.spawnv", "yaml.unsafe_load", "yaml.full_load"}


def offences(source):
    """Lists what in a source could run text as code, with its line."""
    wrong = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            wrong += [(node.lineno, a.name) for a in node.names if a.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            wrong.append((node.lineno, node.module))
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if name in NAMES or name in CALLS:
            wrong.append((node.lineno, name))
        if name == "yaml.load" and ast.unparse(node.args[1] if len(node.args) > 1 else node) not in SAFE:
            wrong.append((node.lineno, name))
        if name == "torch.load" and keywords.get("weights_only") != "True":
            wrong.append((node.lineno, name))
        # Weights of models; tokenizers and configs are JSON.
        if name.startswith("AutoModel") and name.endswith(".from_pretrained"):
            if keywords.get("use_safetensors") != "True" and "quantization_config" not in keywords:
                wrong.append((node.lineno, name))
        if keywords.get("trust_remote_code") == "True" or keywords.get("shell") == "True":
            wrong.append((node.lineno, name))
    return wrong


def test_nothing_runs_text_as_code():
    starters = {"experiments.py", "embedded_weights.py", "parity.py", "web_page.py"}  # looked at below
    assert [
        f"{path.relative_to(PACKAGE)}:{line} {name}"
        for path in FILES
        for line, name in offences(path.read_text(encoding="utf-8"))
        if not (name == "subprocess" and path.name in starters)
    ] == []


def subprocess_of(tree):
    """All that a module takes from ``subprocess``."""
    nodes = (n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "subprocess")
    return sorted(ast.unparse(n) for n in nodes)


def test_weights_are_fetched_by_pip_or_uv_and_no_other_program():
    tree = ast.parse((PACKAGE / "generators" / "embedded_weights.py").read_text(encoding="utf-8"))
    assert subprocess_of(tree) == ["subprocess.DEVNULL", "subprocess.run"]
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    (call,) = (n for n in calls if ast.unparse(n.func) == "subprocess.run")
    assert not {"shell", "executable"} & {k.arg for k in call.keywords}
    (sources,) = (n for n in ast.walk(tree) if isinstance(n, ast.For) and ast.unparse(n.target) == "source")
    assert ast.unparse(sources.iter) == "(_by_pip, _by_uv, _from_hub)"
    runs = [ast.unparse(n) for n in calls if ast.unparse(n.func) == "_run"]
    assert len(runs) == 2
    pip = next(n for n in ast.walk(tree) if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "command")
    assert ast.unparse(pip.value).startswith("[sys.executable, '-P', '-m', 'pip', 'download', ")
    assert runs[0].startswith("_run('pip', [*command, ") and runs[1].startswith("_run('uv', [uv, 'pip', 'install', ")


def test_an_experiment_starts_this_program_and_no_other():
    tree = ast.parse((PACKAGE / "evaluation" / "experiments.py").read_text(encoding="utf-8"))
    assert subprocess_of(tree) == ["subprocess.DEVNULL", "subprocess.Popen", "subprocess.STDOUT"]
    (call,) = (n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "subprocess.Popen")
    assert ast.unparse(call.args[0]) == "[sys.executable, '-m', 'gold_lightning', *arguments]"
    assert not {"shell", "executable"} & {k.arg for k in call.keywords}


def test_our_own_loader_is_a_safe_one():
    from gold_lightning.inputs.yaml_files import StrictLoader

    assert issubclass(StrictLoader, yaml.SafeLoader | getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@pytest.mark.parametrize(
    "source",
    [
        "eval(text)",
        "import pickle",
        "from subprocess import run",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "yaml.load(text)",
        "yaml.load(text, yaml.Loader)",
        "os.system(text)",
        "AutoModelForCausalLM.from_pretrained(name)",
        "AutoModel.from_pretrained(name, use_safetensors=True, trust_remote_code=True)",
    ],
)
def test_what_is_looked_for_is_found(source):
    assert offences(source)


@pytest.mark.parametrize(
    "module, start",
    [
        ("parity.py", "[sys.executable, '-m', 'gold_lightning.exporting.measure', "),  # by this Python
        ("web_page.py", "[npm, 'pack', "),  # which runs no code of the packages
    ],
)
def test_an_export_starts_one_program_without_a_shell(module, start):
    tree = ast.parse((PACKAGE / "exporting" / module).read_text(encoding="utf-8"))
    assert subprocess_of(tree) == ["subprocess.run"]
    command = next(n for n in ast.walk(tree) if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "command")
    assert ast.unparse(command.value).startswith(start)
    (call,) = (n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "subprocess.run")
    assert not {"shell", "executable"} & {k.arg for k in call.keywords}
