"""Several processes that ask an engine together: who answers what, what is stored when, and how a failure ends all."""

import os
import socket
import threading
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from gold_lightning.errors import GoldError
from gold_lightning.generators import Completion, Generator, Request
from gold_lightning.generators.distributed import (
    DistributedGenerator,
    SharedError,
    StreamingDistributedGenerator,
    distribute,
)
from gold_lightning.storage.completions import CompletionLog, Completions
from gold_lightning.storage.json_lines import read_lines

pytestmark = pytest.mark.integration

REQUESTS = [Request("", "", f"prompt {i}", seed=i) for i in range(7)]


class Whole(Generator):
    """Answers a batch as a whole."""

    batch_size = 3

    def __init__(self, rank, fails=None):
        self.rank, self.fails, self.placed = rank, fails, None

    def share_machine(self, index, count):
        self.placed = (index, count)

    def generate(self, requests):
        if self.rank == self.fails:
            raise GoldError("no answer here")
        return [Completion(f"{r.suffix} by {self.rank}") for r in requests]


class OneByOne(Whole):
    """Answers one request after the other; the second process waits before its last one until it is told to go on."""

    def __init__(self, rank, fails=None, go=None):
        super().__init__(rank, fails)
        self.go, self.closed = go, False

    def stream(self, requests):
        try:
            for at in reversed(range(len(requests))):
                if at == 0 and self.rank == self.fails:
                    raise GoldError("no answer here")
                if at == 0 and self.rank and self.go:
                    wait_for(self.go.exists)
                yield at, Completion(f"{requests[at].suffix} by {self.rank}")
        except GeneratorExit:
            self.closed = True
            raise


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def together(rank, folder, scenarios):
    """A process of two, which runs scenarios one after the other."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=(folder / "port").read_text())
    dist.init_process_group("gloo", rank=rank, world_size=2)
    try:
        for scenario in scenarios:
            scenario(rank, folder)
            dist.barrier()
    finally:
        dist.destroy_process_group()


def run_two(folder, *scenarios):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (folder / "port").write_text(str(free.getsockname()[1]))
    torch.multiprocessing.spawn(together, (folder, scenarios), nprocs=2)


def ask(fleet, folder, name):
    """Has the fleet answer all requests; what was stored."""
    path = folder / f"{name}.jsonl"
    found = []
    fleet.run(lambda: found.extend(Completions(fleet, CompletionLog(path)).answer(REQUESTS, 0)))
    return found, path


def answers(rank, folder):
    for kind in (Whole, OneByOne):
        own = kind(rank)
        fleet = distribute(own)
        assert type(fleet) is (DistributedGenerator if kind is Whole else StreamingDistributedGenerator)
        assert fleet.batch_size == 6 and fleet.fingerprint() == own.fingerprint() and own.placed == (rank, 2)
        for turn in range(2):
            found, path = ask(fleet, folder, kind.__name__)
            if rank == 0:
                assert [c.text for c in found] == [f"prompt {i} by {int(i >= 3)}" for i in range(7)]
                assert len(read_lines(path)) == 7, turn  # asked once


def stores_as_they_come(rank, folder):
    go = folder / "go"
    own = OneByOne(rank, go=go)
    fleet = distribute(own)
    path = folder / "stream.jsonl"
    if rank:
        # The last of this process's four waits; the other three reach the first process's file meanwhile.
        fleet.run(lambda: None)
        return

    def look():
        wait_for(lambda: _stored(path) >= 4)  # three of this process's own, and one of the other's
        go.touch()

    thread = threading.Thread(target=look)
    thread.start()
    found, _ = ask(fleet, folder, "stream")
    thread.join()
    assert len(found) == 7


def _stored(path):
    return len(read_lines(path))


def failures(rank, folder):
    for kind in (Whole, OneByOne):
        for fails in (0, 1):
            fleet = distribute(kind(rank, fails))
            name = f"{kind.__name__}-{fails}"
            with pytest.raises(SharedError if rank else GoldError, match=f"process {fails}: no answer here"):
                ask(fleet, folder, name)
            if rank == 0 and kind is OneByOne:
                # What came before the failure is stored.
                assert 2 <= len(read_lines(folder / f"{name}.jsonl")) <= 6
            found, _ = ask(distribute(kind(rank)), folder, f"{name}-again")  # the processes are at one still
            assert len(found) == (0 if rank else 7)


def gives_up(rank, folder):
    own = OneByOne(rank, go=folder / "never")
    fleet = distribute(own)

    def stop():
        stream = fleet.stream(REQUESTS)
        next(stream)
        (folder / "never").touch()
        stream.close()
        raise GoldError("enough")

    with pytest.raises(SharedError if rank else GoldError, match="enough"):
        fleet.run(stop)


class NoRoom(Whole):
    """Finds no place in the second process."""

    def share_machine(self, index, count):
        if index:
            raise GoldError("got 1, expected 2 GPUs")


def no_room(rank, folder):
    with pytest.raises(SharedError if rank else GoldError, match=r"^got 1, expected 2 GPUs$"):
        distribute(NoRoom(rank))


class FullDisk(CompletionLog):
    """Takes nothing."""

    def add(self, rows, together=False):
        raise OSError(28, "No space left on device")


def a_full_disk(rank, folder):
    fleet = distribute(OneByOne(rank))
    with pytest.raises(SharedError if rank else OSError, match="No space left"):
        fleet.run(lambda: Completions(fleet, FullDisk()).answer(REQUESTS, 0))
    assert len(ask(distribute(OneByOne(rank)), folder, "space")[0]) == (0 if rank else 7)


def test_two_processes_answer_store_fail_and_give_up_together(tmp_path: Path):
    run_two(tmp_path, answers, stores_as_they_come, failures, gives_up, a_full_disk, no_room)
