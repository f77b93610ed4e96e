"""Facts of a run that its cards tell: generator, sizes, settings and results, and nothing that names a machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gold_lightning.inputs.yaml_files import parse_own_yaml
from gold_lightning.storage.json_lines import read_lines
from gold_lightning.storage.run_folder import RunFolder

__all__ = ["RunFacts", "public_name"]

_EMBEDDED = "gold_lightning.generators.EmbeddedGenerator"
_HUB_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?")


@dataclass(frozen=True)
class RunFacts:
    """Facts of a finished run.

    Attributes:
        generator: The generator in words, with its licence if that is known.
        base: Hub id of the student before training; "" for a folder or the embedded student.
        embedded: Whether the student was the embedded one.
        rounds: Number of rounds.
        samples: Training samples of all rounds.
        real_samples: How many of them are real texts that the generator labelled.
        loss: Class of the loss.
        seed: Seed of the run.
        results: ``results.json`` of the last test; empty before a test.
        test_file: Name of the file with the test rows, without its folder; "" for the task's own.
    """

    generator: str
    base: str = ""
    embedded: bool = False
    rounds: int = 0
    samples: int = 0
    real_samples: int = 0
    loss: str = ""
    seed: int = 0
    results: Mapping[str, Any] = field(default_factory=dict)
    test_file: str = ""

    @classmethod
    def of(cls, run_dir: Path) -> RunFacts:
        """Reads the facts from a run folder.

        Args:
            run_dir: The run folder, with its ``config.yaml``.
        """
        folder = RunFolder(Path(run_dir))
        config = parse_own_yaml(folder.config.read_text(encoding="utf-8")) if folder.config.is_file() else {}
        model, data = config.get("model") or {}, config.get("data") or {}
        rows = read_lines(folder.rounds)
        results = (read_lines(folder.results) or [{}])[-1]
        student = str(model.get("student") or "")
        return cls(
            generator=_generator(data.get("generator") or {}),
            base=public_name(student) if student != "embedded" else "",
            embedded=student == "embedded",
            rounds=len(rows),
            samples=int(rows[-1].get("trained_on", 0)) if rows else 0,
            real_samples=sum(int(row["train"].get("unlabelled", 0)) for row in rows),
            loss=str((model.get("loss") or {}).get("class_path", "")).rpartition(".")[2],
            seed=int(config.get("seed_everything") or 0),
            results=results,
            test_file=str(results.get("test_file", "")),
        )


def public_name(name: str) -> str:
    """Returns an id of the hub as it is, and "" for a path, which would tell about the machine.

    Example:
        >>> public_name("google/flan-t5-small"), public_name("/home/ann/models/t5"), public_name("../t5")
        ('google/flan-t5-small', '', '')
    """
    return name if _HUB_ID.fullmatch(name) and not name.startswith(".") and not Path(name).exists() else ""


def _generator(config: Mapping[str, Any]) -> str:
    class_path = str(config.get("class_path") or _EMBEDDED)
    if class_path == _EMBEDDED:
        return "SmolLM2-135M-Instruct (Apache-2.0)"
    model = str((config.get("init_args") or {}).get("model") or "")
    # A file of weights is named without its folder; a server is not named at all.
    named = public_name(model) or (Path(model).name if model else "")
    return (
        f"{named or class_path.rpartition('.')[2]} (licence: see its publisher; it may restrict what is made with it)"
    )
