"""Fingerprint of the settings that a round's samples depend on; a run goes on only with samples of the same."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import get_args

from gold_lightning.generators.base import Generator
from gold_lightning.likelihoods import Calibration
from gold_lightning.planning.plan import SynthesisPlan
from gold_lightning.storage.json_lines import digest
from gold_lightning.storage.round_store import RoundStore
from gold_lightning.task import Task

__all__ = ["plan_of_folder", "synthesis_fingerprint"]

_log = logging.getLogger(__name__)


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


def plan_of_folder(first: RoundStore, plan: SynthesisPlan) -> SynthesisPlan:
    """Returns the plan with the label calibration with which a run folder was begun, if they differ in that alone.

    Args:
        first: The store of round 0.
        plan: The plan of this run.
    """
    stored = first.fingerprint("train").get("plan")
    if stored is None or stored == digest(plan.fingerprint()):
        return plan
    for kind in get_args(Calibration):
        earlier = replace(plan, label_calibration=kind)
        if stored == digest(earlier.fingerprint()):
            _log.info(
                "%s: its label checks go on with data.plan.label_calibration: %s, with which the folder was begun; "
                "%s takes another --run.name",
                *(first.folder.parent.parent, kind, plan.label_calibration),
            )
            return earlier
    return plan
