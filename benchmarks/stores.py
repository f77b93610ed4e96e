"""JSON Lines with an index, as a run stores its samples, against one SQLite file: time, memory and size.

    python benchmarks/stores.py                      # 64,000 samples
    python benchmarks/stores.py --samples 8000

Both store the same rows: completions by key, then accepted samples, rejects and prompts in batches of 128, each batch
on disk before the next. SQLite has one file with a write-ahead log and ``synchronous=FULL``, which syncs every
transaction as JSON Lines are synced, and an index for what is looked up. Nothing is judged. Each store has a process of
its own; the kernel's cache is warm.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gold_lightning.storage.completions import CompletionLog
from gold_lightning.storage.json_lines import digest
from gold_lightning.storage.round_store import BatchRecord, RoundStore, StoredSample
from gold_lightning.storage.sample_rows import sample_row, stored_sample
from gold_lightning.task import Sample

Rows = tuple[list[dict[str, Any]], list[StoredSample], list[dict[str, Any]], dict[str, str]]
BATCH, REJECTED = 128, 12  # of each batch
_WORDS = ["".join(random.Random(i).choices("abcdefghijklmnop", k=3 + i % 7)) for i in range(5_000)]


def batches(samples: int) -> Iterator[Rows]:
    """Yields rows of completions, accepted samples, rejects, and prompts of each batch."""
    for index in range(samples // (BATCH - REJECTED)):
        rng = random.Random(index)
        prompts = [" ".join(rng.choices(_WORDS, k=150)) for _ in range(8)]
        hashes = [digest(prompt) for prompt in prompts]
        completions, accepted, rejects = [], list[StoredSample](), []
        for i in range(BATCH):
            text, number = " ".join(rng.choices(_WORDS, k=rng.randint(10, 60))), index * BATCH + i
            completions.append({
                "key": digest(number, 32), "round": 0, "text": text, "prompt_tokens": 200, "completion_tokens": 60,
                "finish": "stop", "choice_log_probs": [], "reason": "",
            })  # fmt: skip
            if i < REJECTED:
                rejects.append({"id": f"r{number}", "reason": "duplicate", "label": "World", "raw": text})
            else:
                sample = Sample({"text": text}, "World")
                accepted.append(
                    StoredSample(f"r000-train-{number:05d}", sample, index, hashes[i % 8], raw=text, seed=i)
                )
        yield completions, accepted, rejects, dict(zip(hashes, prompts, strict=True))


def record(index: int) -> BatchRecord:
    return BatchRecord("train", index, BATCH, BATCH - REJECTED, {"duplicate": REJECTED}, 25_600, 7_680, 1.0)


class JsonLines:
    """The package's own files."""

    def __init__(self, folder: Path) -> None:
        self.log, self.store = CompletionLog(folder / "data" / "completions.jsonl"), RoundStore(folder, 0)

    def commit(self, completions, accepted, rejects, prompts) -> None:
        self.log.add(completions)
        self.store.commit(record(len(self.store.batches("train"))), accepted, rejects, prompts, {"generator": {}})

    def find(self, keys: list[str]) -> int:
        return len(self.log.find(keys, 0))

    def samples(self) -> Iterator[StoredSample]:
        return iter(self.store.accepted("train"))


class Sqlite:
    """The same rows in one SQLite file."""

    def __init__(self, folder: Path) -> None:
        (folder / "data").mkdir(parents=True, exist_ok=True)
        self.db = sqlite3.connect(folder / "data" / "run.sqlite", isolation_level=None)
        self.db.executescript("""
            pragma journal_mode=wal; pragma synchronous=full;
            create table if not exists completions (key text primary key, row text) without rowid;
            create table if not exists samples (id text primary key, kind text, batch integer, row text);
            create table if not exists rejects (kind text, batch integer, row text);
            create table if not exists prompts (hash text primary key, prompt text) without rowid;
            create table if not exists batches (kind text, number integer, row text, primary key (kind, number));
        """)
        (self.count,) = self.db.execute("select count(*) from batches").fetchone()

    def commit(self, completions, accepted, rejects, prompts) -> None:
        self._write([("insert into completions values (?, ?)", [(c["key"], json.dumps(c)) for c in completions])])
        rows = [sample_row("train", s, {"generator": {}}) for s in accepted]
        self._write([
            ("insert or ignore into prompts values (?, ?)", [*prompts.items()]),
            ("insert into rejects values ('train', ?, ?)", [(self.count, json.dumps(r)) for r in rejects]),
            ("insert into samples values (?, 'train', ?, ?)", [(r["id"], self.count, json.dumps(r)) for r in rows]),
            ("insert into batches values ('train', ?, ?)", [(self.count, json.dumps(asdict(record(self.count))))]),
        ])  # fmt: skip
        self.count += 1

    def _write(self, statements) -> None:
        self.db.execute("begin")
        for statement, rows in statements:
            self.db.executemany(statement, rows)
        self.db.execute("commit")

    def find(self, keys: list[str]) -> int:
        found = (self.db.execute("select row from completions where key = ?", (key,)).fetchone() for key in keys)
        return sum(row is not None and bool(json.loads(row[0])) for row in found)

    def samples(self) -> Iterator[StoredSample]:
        for (row,) in self.db.execute("select row from samples where kind = 'train' order by rowid"):
            yield stored_sample(json.loads(row))


def measure(kind: type[JsonLines | Sqlite], samples: int) -> dict[str, float]:
    """Returns milliseconds a sample of each phase, and MB: of the processor, and by the clock where it is written."""
    values: dict[str, float] = {}

    def timed(name: str, work: Callable[[], object]) -> Any:
        gc.collect()
        started, clock = time.process_time(), time.perf_counter()
        result = work()
        values[name] = 1000 * (time.process_time() - started) / samples
        values[f"{name}, clock"] = 1000 * (time.perf_counter() - clock) / samples
        return result

    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        store = kind(Path(folder))

        def commit() -> None:
            seconds = clock = 0.0
            for rows in batches(samples):
                started, began = time.process_time(), time.perf_counter()
                store.commit(*rows)
                seconds, clock = seconds + time.process_time() - started, clock + time.perf_counter() - began
            values["written"], values["written, clock"] = 1000 * seconds / samples, 1000 * clock / samples

        commit()
        del store
        gc.collect()
        before = _memory()
        store = timed("opened again", lambda: kind(Path(folder)))
        values["memory of the open store, MB"] = _memory() - before
        count = timed("all samples read", lambda: sum(1 for _ in store.samples()))
        keys = [digest(number, 32) for number in random.Random(1).sample(range(count), min(count, 6_400))]
        found = timed("looked up", lambda: sum(store.find(keys[at : at + BATCH]) for at in range(0, len(keys), BATCH)))
        assert found == len(keys), (found, len(keys))
        values["looked up"] *= samples / len(keys)
        values["size, MB"] = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6
    values["peak of the process, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return values


def _memory() -> float:
    """Returns the memory of the process now, in MB, by Linux's own count; nan elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=64_000)
    parser.add_argument("--one", choices=["JsonLines", "Sqlite"], help=argparse.SUPPRESS)  # in this process, as JSON
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure({"JsonLines": JsonLines, "Sqlite": Sqlite}[args.one], args.samples)))
        return
    columns = []
    for name in ("JsonLines", "Sqlite"):
        command = [sys.executable, __file__, "--one", name, "--samples", str(args.samples)]
        columns.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    lines, sqlite = columns
    print(f"{args.samples:,} samples; milliseconds of the processor a sample\n")
    print("| | JSON Lines | SQLite |\n|---|---:|---:|")
    for name in ("written", "written, clock", "opened again", "all samples read", "looked up"):
        print(f"| {name} | {lines[name]:.3f} | {sqlite[name]:.3f} |")
    for name in ("memory of the open store, MB", "peak of the process, MB", "size, MB"):
        print(f"| {name} | {lines[name]:.0f} | {sqlite[name]:.0f} |")


if __name__ == "__main__":
    main()
