"""Fingerprint of the settings that a round's samples depend on; a run goes on only with samples of the same."""

from __future__ import annotations

from gold_lightning.generators.base import Generator
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.storage.json_lines import digest
from gold_lightning.task import Task

__all__ = ["synthesis_fingerprint"]


def synthesis_fingerprint(
    task: Task, generator: Generator, plan: SynthesisPlan, seed: int
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Hashes everything that all samples of a run depend on.

    Returns:
        Hashes by name, and equivalent hashes of earlier versions by the same names, as
        :meth:`gold_lightning.storage.round_store.RoundStore.require_fingerprint` takes them.
    """
    # Metrics, labelled rows and the student's format change no sample. Earlier versions hashed the format too.
    earlier_task = {k: v for k, v in task.to_dict().items() if k not in ("metrics", "test", "validation")}
    requested_task = {k: v for k, v in earlier_task.items() if k != "student"}
    parts = {
        "task": digest(requested_task),
        "generator": digest(generator.fingerprint()),
        "plan": digest(plan.fingerprint()),
        "seed": digest(seed),
    }
    same = {
        "task": [digest(earlier_task)],
        "generator": [digest(earlier) for earlier in generator.earlier_fingerprints()],
    }
    return parts, same
