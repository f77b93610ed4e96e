"""The tables of docs/performance.md that a machine with two cores fills in minutes, as Markdown.

    make bench                                    # all of them, in runs/bench.md
    python benchmarks/page.py losses scale        # these alone

Each section is what one command printed, under the command itself; machine, versions and commit stand above. Compare
figures of one page alone: what else the machine does makes all of them higher.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMMANDS = {
    "scale": ["benchmarks/scale.py", "--samples", "1000", "8000"],
    "stores": ["benchmarks/stores.py", "--samples", "8000"],
    "training": ["benchmarks/training.py", "--samples", "256", "--ways", "gold", "hf"],
    "labels": ["benchmarks/label_scoring.py", "--labels", "4", "77"],
    "losses": ["benchmarks/losses.py"],
    "engine": ["benchmarks/engines.py", "--samples", "32", "--batch-size", "32", "--group-size", "8"],
}


def machine() -> str:
    """Commit, processor and versions, in one paragraph."""
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        info = []
    processor = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), "")
    git = ["git", "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "lightning"))
    return (
        f"Commit {commit}; {processor or platform.machine()}, {os.cpu_count()} cores, one thread; "
        f"Python {platform.python_version()}, {versions}."
    )


def section(name: str) -> tuple[str, bool]:
    """Runs a command, and returns its section and whether it did well."""
    words, started = COMMANDS[name], time.perf_counter()
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, *words], cwd=ROOT, env=one_thread, stdout=subprocess.PIPE, text=True)
    minutes, output = (time.perf_counter() - started) / 60, run.stdout.strip()
    if run.returncode:
        output += f"\nended with status {run.returncode}"
    if run.returncode or not any(line.startswith("|") for line in output.splitlines()):
        output = f"```text\n{output.strip()}\n```"
    return f"## {name}\n\n`python {' '.join(words)}` ({minutes:.1f} minutes)\n\n{output}\n", not run.returncode


def page(names: list[str]) -> Iterator[tuple[str, bool]]:
    yield f"# Measured\n\n{machine()}\n", True
    yield from map(section, names)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(COMMANDS)}; all by default")
    parser.add_argument("--out", type=Path, help="file that is written, section by section")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in COMMANDS]:
        parser.error(f"NAME: got {unknown[0]}, expected one of {', '.join(COMMANDS)}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("", encoding="utf-8")
    succeeded = True
    for text, fine in page(options.names or [*COMMANDS]):
        succeeded = succeeded and fine
        print(text, flush=True)
        if options.out:
            with options.out.open("a", encoding="utf-8") as file:
                file.write(text + "\n")
    return int(not succeeded)


if __name__ == "__main__":
    sys.exit(main())
