"""Kills a run again and again, starts it with the same command, and compares it with a run that was left alone.

``make kill`` does it some 60 times with a scripted generator, and a few times with the embedded one. Each run is
killed (SIGKILL) at random moments of randomly drawn phases until all drawn phases had their turn; then it may end.
Processes are forked from one that has imported everything, so that most of the time goes into what is tested.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from gold_lightning import rounds
from gold_lightning import runner as trainer
from gold_lightning.checkpoints.best import WholeCheckpointIO
from gold_lightning.cli import main as cli
from gold_lightning.generators.base import request_dict
from gold_lightning.storage import completions
from gold_lightning.storage.completions import CompletionLog, Completions, stored_rows
from gold_lightning.storage.json_lines import digest, read_lines, write_lines
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.storage.run_folder import rounds_in
from gold_lightning.student import T5Student

from tests.fakes import make_tiny_student, real_news

SCRIPTED = ["--data.generator", "tests.fakes.NewsWriter", "--data.plan.label_agreement=measure"]
SCRIPTED += ["--data.plan.samples_per_round=16", "--data.plan.probe_per_round=12", "--data.plan.group_size=2"]
SCRIPTED += ["--data.passes_per_round", "2", "--trainer.max_epochs", "3"]
REAL_TEXTS = [
    *SCRIPTED[2:],
    "--data.generator",
    "tests.fakes.NewsReader",
    "--data.plan.unlabelled_as=[demos,style,data]",
]
EMBEDDED = ["--data.plan.samples_per_round=8", "--data.plan.probe_per_round=4", "--data.plan.group_size=4"]
EMBEDDED += ["--data.generator.init_args.batch_size=8", "--data.plan.label_agreement=off"]
EMBEDDED += ["--data.passes_per_round", "2", "--trainer.max_epochs", "2"]
# Where a phase begins: an object and the name of its method or function.
PHASES = {
    "asking": (Completions, "_ask"),
    "storing completions": (CompletionLog, "add"),
    "committing": (RoundStore, "commit"),
    "training": (T5Student, "training_step"),
    "probing": (T5Student, "validation_step"),
    "scoring": (T5Student, "score"),
    "writing rounds.jsonl": (rounds, "write_lines"),
    "checkpointing": (WholeCheckpointIO, "save_checkpoint"),
    "reporting": (trainer, "try_to_report"),
    "exporting": (trainer, "export_best"),
}


def announce(pipe):
    """Writes the number of a phase into the pipe whenever it begins."""
    for number, (owner, name) in enumerate(PHASES.values()):
        real = getattr(owner, name)

        def told(*args, number=number, real=real, **how):
            os.write(pipe, bytes([number]))
            return real(*args, **how)

        setattr(owner, name, told)


def count(path):
    """Notes the key of each request that the engine gets, before it answers."""
    real = Completions._ask

    def asked(self, missing, round_):
        who = self.generator.fingerprint()
        lines = [digest([who, request_dict(r)], 32) + "\n" for r in missing.values()]
        with path.open("a") as file:
            file.write("".join(lines))
        return real(self, missing, round_)

    Completions._ask = asked


def start(arguments, log, asked=None, prepare=lambda: None):
    """Forks a process that runs the command line; gives its id and a pipe that tells its phases."""
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        status = 70
        try:
            os.close(read)
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(out, 1)
            os.dup2(out, 2)
            torch.set_num_threads(1)
            completions._FLUSH_SECONDS = 0.0
            if asked is not None:
                count(asked)
            announce(write)
            prepare()
            status = cli.main(arguments)
        except SystemExit as e:
            status = e.code if isinstance(e.code, int) else 1
        finally:
            os._exit(status)
    os.close(write)
    return pid, read


def finish(pid, pipe):
    """Waits for the end; gives the exit status."""
    while os.read(pipe, 4096):
        pass
    os.close(pipe)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_at(pid, pipe, phase, entry, delay):
    """Kills a process some time after it has begun a phase for the n-th time; false where it ended before."""
    number = list(PHASES).index(phase)
    seen = 0
    while seen <= entry:
        told = os.read(pipe, 1)
        if not told:
            os.close(pipe)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if status != 0:
                raise AssertionError(f"a run that was not killed ended with {status}")
            return False
        seen += told[0] == number
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    while os.read(pipe, 4096):
        pass
    os.close(pipe)
    os.waitpid(pid, 0)
    return True


def timeless(row):
    # A request without an answer is asked again if a kill comes before it is judged: that is paid for, and counted.
    return {k: v for k, v in row.items() if k not in ("seconds", "tokens_so_far")}


def outcome(folder):
    """All that must be the same: data, rounds, pool, weights, student."""
    found = {}
    for path in sorted((folder / "data").glob("round_*/*.json*")):
        rows = read_lines(path) if path.suffix == ".jsonl" else [json.loads(path.read_text())]
        found[f"{path.parent.name}/{path.name}"] = digest([timeless(row) for row in rows])
    rows = read_lines(folder / "data" / "completions.jsonl")
    found["completions"] = digest(sorted(row["key"] for row in rows if "text" in row))
    found["rounds"] = digest([timeless(row) for row in read_lines(folder / "rounds.jsonl")])
    for name in ("last", "best"):
        held = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
        found[f"{name} pool"] = digest(held["GoldDataModule"])
        weights = {k: v.double().sum().item() for k, v in held["state_dict"].items()}
        found[f"{name} weights"] = digest([weights, [v.flatten()[:50].tolist() for v in held["state_dict"].values()]])
        found[f"{name} optimizer"] = digest(str(held["optimizer_states"]))
    found["student"] = digest((folder / "student" / "model.safetensors").read_bytes().hex())
    return found


def differences(folder, wanted):
    got = outcome(folder)
    return sorted(k for k in got.keys() | wanted.keys() if got.get(k) != wanted.get(k))


def campaign(kills, arguments, root, name, rng, phases):
    """Kills runs until the number is reached; gives kills by phase and what went wrong."""

    def command(run):
        base = ["fit", "--config", "quickstart.yaml", "--run.root", str(root / run), "--run.name", "t"]
        return [*base, "--data.reuse_completions", "false", *arguments]

    log = root / f"{name}.log"
    began = time.monotonic()
    if finish(*start(command("alone"), log)) != 0:
        raise AssertionError(log.read_text())
    wanted = outcome(root / "alone" / "news_topics" / "t")
    print(f"{name}: left alone {time.monotonic() - began:.1f} s", flush=True)
    done, wrong, lost, again, runs = Counter(), [], 0, 0, 0
    while done.total() < kills:
        run = f"killed-{runs}"
        folder, asked = root / run / "news_topics" / "t", root / f"{run}.asked"
        asked.touch()
        stored, accepted, runs = set(), set(), runs + 1
        turn = rng.sample(phases, len(phases))
        for phase in [*turn, None]:
            before = len(asked.read_text().split())
            pid, pipe = start(command(run), log, asked)
            if phase is None or done.total() >= kills:
                if finish(pid, pipe) != 0:
                    raise AssertionError(log.read_text()[-3000:])
                killed = False
            else:
                killed = kill_at(pid, pipe, phase, rng.choice([0, 0, 1, 2]), rng.random() ** 2 * 0.03)
            again += len(stored.intersection(asked.read_text().split()[before:]))
            rows, _ = stored_rows(folder / "data" / "completions.jsonl")
            stored |= {row["key"] for row in rows if "text" in row}
            now = {r["id"] for p in folder.glob("data/round_*/train.jsonl") for r in read_lines(p)}
            committed = {
                s.id for r in rounds_in(folder) for s in RoundStore(folder, r, read_only=True).accepted("train")
            }
            lost += len(accepted - now)
            accepted |= committed
            if not killed:
                break
            done[phase] += 1
        if found := differences(folder, wanted):
            wrong.append((run, found))
        else:
            shutil.rmtree(root / run)
    print(f"{name}: {done.total()} kills in {runs} runs, {time.monotonic() - began:.0f} s")
    for phase in phases:
        print(f"  {phase:<22} {done[phase]}")
    print(f"  runs that differ from the one left alone: {len(wrong)} {wrong or ''}")
    print(f"  accepted samples lost: {lost}; stored completions asked for again: {again}", flush=True)
    return not wrong and not lost and not again


def hostile(arguments, root):
    """A full disk, a read-only folder and a clock that goes back; the first two need the right to mount."""
    good = True

    def command(folder):
        base = ["fit", "--config", "quickstart.yaml", "--run.root", str(folder), "--run.name", "t"]
        return [*base, "--data.reuse_completions", "false", *arguments]

    def run(folder, prepare=lambda: None):
        log = root / "hostile.log"
        log.unlink(missing_ok=True)
        status = finish(*start(command(folder), log, prepare=prepare))
        lines = [line for line in log.read_text().splitlines() if line.startswith("error: ")]
        return status, lines, "Traceback" in log.read_text()

    def clock_goes_back():
        real = time.time
        began = real()
        time.time = lambda: began - 3600 * (real() - began)

    wanted = outcome(root / "alone" / "news_topics" / "t")
    status, _, _ = run(root / "clock", clock_goes_back)
    same = status == 0 and not differences(root / "clock" / "news_topics" / "t", wanted)
    print(f"a clock that goes back an hour a second: {'the same run' if same else 'DIFFERS'}")
    good &= same
    if os.geteuid():
        print("a full disk and a read-only folder: not tried, which takes the right to mount")
        return good
    for name, options in (("a full disk", "size=600k"), ("a read-only folder", "size=64m")):
        place = root / name.replace(" ", "_")
        place.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True).returncode:
            print(f"{name}: not tried, mounting is not allowed here")
            continue
        try:
            if name == "a read-only folder":
                subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
            status, lines, traceback = run(place)
            told = status == 1 and len(lines) == 1 and not traceback
            subprocess.run(["mount", "-o", "remount,rw,size=64m", str(place)], check=True)
            status, _, _ = run(place)
            same = status == 0 and not differences(place / "news_topics" / "t", wanted)
            print(f"{name}: {lines}; then with room the same command: {'the same run' if same else 'DIFFERS'}")
            good &= told and same
        finally:
            subprocess.run(["umount", str(place)], check=False)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--kills", type=int, default=54, help="with the scripted generator; half as many with real texts"
    )
    parser.add_argument("--embedded", type=int, default=0, help="with the embedded generator")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hostile", action="store_true", help="a full disk, a read-only folder, a clock going back")
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="gold-kill-"))
    rng = random.Random(given.seed)
    student = make_tiny_student(root / "tiny")
    small = ["--model.student", student]
    good = campaign(given.kills, [*SCRIPTED, *small], root, "scripted generator", rng, list(PHASES))
    place = root / "real texts"
    place.mkdir()
    write_lines(place / "texts.jsonl", real_news(60))
    real = [*REAL_TEXTS, "--data.unlabelled", str(place / "texts.jsonl")]
    good &= campaign(given.kills // 2, [*real, *small], place, "real texts", rng, list(PHASES))
    if given.hostile:
        good &= hostile([*SCRIPTED, *small], root)
    if given.embedded:
        place = root / "embedded"
        place.mkdir()
        good &= campaign(given.embedded, [*EMBEDDED, *small], place, "embedded generator", rng, list(PHASES))
    if good:
        with contextlib.suppress(OSError):
            shutil.rmtree(root)
    else:
        print(f"kept: {root}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
