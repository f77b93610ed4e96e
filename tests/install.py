"""Builds what users get, installs it as they do, and runs it far from any checkout.

``python -m tests.install python3.11 python3.12`` builds the source distribution, and the wheel from it, and looks at
what is in both. Then, with each of these interpreters, it installs the wheel with its extra ``embedded`` into a fresh
environment and runs the commands of ``RUNS`` there. An interpreter that is not there is told as skipped. With
``--linked`` it does the same with its own interpreter, and links what the wheel asks for from its own environment
instead of unpacking it once more. A failure ends it with status 1.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

from gold_lightning import __version__
from gold_lightning.cli.commands import COMMANDS

from tests.linked import NO_INDEX, link_needed

ROOT = Path(__file__).parent.parent
IN_THE_WHEEL = (
    "py.typed configs/quickstart.yaml configs/overlays/debug.yaml configs/paper/anli.yaml "
    "configs/experiments/band.yaml tasks/news_topics.yaml tasks/news_topics.test.jsonl "
    "assets/student/model.safetensors assets/student/tokenizer.json report/page.html report/page.css"
).split()
IN_THE_SOURCE = (
    "pyproject.toml LICENSE CHANGELOG.md README.md SECURITY.md Makefile requirements.txt configs/quickstart.yaml "
    "docs/report.md examples/intents.yaml tests/conftest.py recipes/student/pretrain.py benchmarks/losses.py"
).split()
CPU = ["--trainer.accelerator", "cpu", "--run.live", "false"]
# The embedded generator writes a sample in seconds: a run of a few goes through the same code.
DEBUG = ["--config", "overlays/debug.yaml", "--data.plan.samples_per_round", "4", "--data.plan.probe_per_round", "4"]
RUNS = [
    (["gold-lightning", "--version"], f"gold-lightning {__version__}\n"),
    (["gold-lightning", "--help"], f"  {list(COMMANDS)[-1]} "),
    (["gold-lightning", "tasks"], "news_topics"),
    (["gold-lightning", "tasks", "check", "rte"], "ok: "),
    (["gold-lightning", "preview", "--config", "quickstart.yaml", "--preview.count", "2", *CPU], "the whole run"),
    (["gold-lightning", "fit", *DEBUG, *CPU], "best student: runs/news_topics/default/student"),
    (["python", "-m", "gold_lightning", "test", *DEBUG, *CPU], "student before training"),
    (["gold-lightning", "report", "runs/news_topics/default"], "report: runs/news_topics/default/report.html"),
]
"""Each command, with what it must print."""


def build(folder: Path) -> tuple[Path, Path]:
    """Builds the source distribution, and from it the wheel."""
    run([sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], folder, {})
    (source,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return source, wheel


def missing(source: Path, wheel: Path) -> list[str]:
    """What is in one of them and should not be, or is not and should be."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    info = f"gold_lightning-{__version__}.dist-info"
    wanted = [*(f"gold_lightning/{name}" for name in IN_THE_WHEEL), f"{info}/licenses/LICENSE", f"{info}/METADATA"]
    wrong = [f"{wheel.name} lacks {name}" for name in wanted if name not in names]
    wrong += [
        f"{wheel.name} has {n}" for n in names if n.split("/")[0] not in ("gold_lightning", info) or "/tests/" in n
    ]
    with tarfile.open(source) as archive:
        names = archive.getnames()
    top = f"gold_lightning-{__version__}"
    return wrong + [f"{source.name} lacks {name}" for name in IN_THE_SOURCE if f"{top}/{name}" not in names]


def run(command: list[str], folder: Path, env: dict[str, str]) -> str:
    """The output of a command.

    Raises:
        RuntimeError: It failed.
    """
    done = subprocess.run(command, cwd=folder, env=os.environ | env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)}: status {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        )
    return done.stdout + done.stderr


def interpreter(name: str) -> str | None:
    """The path of an interpreter; one that pyenv has counts if it is not chosen, too."""
    of_pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for command in (name, *sorted(map(str, of_pyenv.glob(f"*/bin/{name}")))):
        with contextlib.suppress(OSError):
            asked = [command, "-c", "import sys; print(sys.executable)"]
            done = subprocess.run(asked, capture_output=True, text=True)
            if done.returncode == 0:
                return done.stdout.strip()
    return None


PIP = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
PIP += ["--no-compile"]  # of all modules a run imports a fifth
PINS = ROOT / "requirements.txt"


def install(wheel: Path, python: str, folder: Path) -> None:
    """Installs the wheel, and from the index what it asks for, into the environment ``env`` of a folder.

    Raises:
        RuntimeError: It failed.
    """
    run([python, "-m", "venv", "env"], folder, {})
    pip = [str(folder / "env" / "bin" / "python"), *PIP]
    torch = next(line for line in PINS.read_text(encoding="utf-8").splitlines() if line.startswith("torch=="))
    run([*pip, torch], folder, {})
    run([*pip, "-c", str(PINS), f"{wheel}[embedded]"], folder, {})


def install_linked(wheel: Path, folder: Path) -> None:
    """Does the same with links to the packages of this environment; what is not here is missing there.

    Raises:
        RuntimeError: It failed.
    """
    run([sys.executable, "-m", "venv", "--without-pip", "env"], folder, {})
    (site,) = (folder / "env").glob("lib/python*/site-packages")
    link_needed(wheel, ["embedded"], site)
    pip = [str(folder / "env" / "bin" / "python"), *PIP]
    run([*pip, "-c", str(PINS), f"{wheel}[embedded]"], folder, NO_INDEX)


def try_out(folder: Path, cache: Path) -> None:
    """Runs what was installed into the environment of a folder.

    Raises:
        RuntimeError: Something failed, or printed something else.
    """
    env = {"PATH": f"{folder / 'env' / 'bin'}:{os.environ['PATH']}", "GOLD_LIGHTNING_CACHE": str(cache)}
    env |= {"PYTHONPATH": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    (folder / "work").mkdir()
    for command, told in RUNS:
        printed = run(command, folder / "work", env)
        if told not in printed:
            raise RuntimeError(f"{' '.join(command)}: does not print {told!r}, but\n{printed[-4000:]}")


def main() -> int:
    """Runs all of it and tells how long it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pythons", nargs="*", help="Interpreters.")
    parser.add_argument("--linked", action="store_true", help="Try this one, with the packages that it has.")
    asked = parser.parse_args()
    if bool(asked.pythons) == asked.linked:
        parser.error("either interpreters or --linked")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "dist").mkdir()
        try:
            source, wheel = build(folder / "dist")
            if wrong := missing(source, wheel):
                raise RuntimeError("\n".join(wrong))
            sizes = ", ".join(f"{path.name} {path.stat().st_size / 1e6:.0f} MB" for path in (source, wheel))
            print(f"built {sizes}", flush=True)
            for name in asked.pythons or [sys.executable]:
                python = interpreter(name)
                if python is None:
                    print(f"skipped: no {name}", flush=True)
                    continue
                begun = time.monotonic()
                (folder / "try").mkdir()
                if asked.linked:
                    install_linked(wheel, folder / "try")
                else:
                    install(wheel, python, folder / "try")
                try_out(folder / "try", folder / "cache")
                shutil.rmtree(folder / "try")  # of several GB, if torch brings CUDA
                print(f"{name}: installed and run in {time.monotonic() - begun:.0f} s ({python})", flush=True)
        except RuntimeError as e:
            print(f"failed: {e}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
