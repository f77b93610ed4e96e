"""Checks that Lightning's settings are compatible with rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gold_lightning.cli.messages import NOTHING, look_up
from gold_lightning.errors import ConfigError

__all__ = ["check_contradictions"]


def _is(*allowed: Any) -> Callable[[Any], bool]:
    return lambda value: any(value == a and isinstance(value, bool) == isinstance(a, bool) for a in allowed)


def _is_not(*refused: Any) -> Callable[[Any], bool]:
    return lambda value: value is None or not _is(*refused)(value)


def _least(low: float) -> Callable[[Any], bool]:
    return lambda value: value is None or value >= low


def _is_whole(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value == 1.0)  # 1 would be a single batch


# Settings of Lightning that would break a round, or leave a run without its checkpoints.
_RULES: Sequence[tuple[str, Callable[[Any], bool], str, str]] = (
    ("trainer.reload_dataloaders_every_n_epochs", _is(1), "1", "each round has samples of its own"),
    ("trainer.num_sanity_val_steps", _is(0), "0", "there is no probe set before the first round"),
    ("trainer.check_val_every_n_epoch", _is(1), "1", "each round ends with its probe set"),
    ("trainer.val_check_interval", _is(None, 1.0), "1.0 or null", "each round ends with its probe set"),
    ("trainer.limit_val_batches", _is_whole, "1.0 or null", "each round scores all of its probe set"),
    ("trainer.limit_train_batches", _is_not(0, 0.0), "more than 0", "each round trains"),
    ("trainer.overfit_batches", _is(0, 0.0), "0", "a probe set is never trained on"),
    ("trainer.fast_dev_run", _is(False, 0), "false", "for one tiny round: --config overlays/debug.yaml"),
    ("trainer.barebones", _is(False), "false", "a run goes on from its checkpoints"),
    ("trainer.enable_checkpointing", _is(None, True), "true or null", "a run goes on from its checkpoints"),
    ("trainer.max_steps", _is(-1), "-1", "it would end within a round; trainer.max_epochs counts rounds"),
    ("trainer.max_time", _is(None), "null", "it would end within a round; use data.budget.max_seconds"),
    ("trainer.gradient_clip_val", _least(0), "0 or more, or null", ""),
    ("trainer.accumulate_grad_batches", _least(1), "1 or more", ""),
    ("early_stopping.patience", _least(1), "1 or more", "it counts rounds without a better one"),
    ("checkpoint.filename", _is("best"), "best", "it is where the best student is looked for"),
    ("checkpoint.save_top_k", _is(1), "1", "the best round is kept, and the last one beside it"),
    ("checkpoint.save_last", _is(None, False), "null", "the last round is always kept"),
    ("checkpoint.enable_version_counter", _is(False), "false", "best.ckpt is where the best student is looked for"),
    ("checkpoint.every_n_train_steps", _is(None, 0), "null", "checkpoints are made when a round ends"),
    ("checkpoint.train_time_interval", _is(None), "null", "checkpoints are made when a round ends"),
)


def check_contradictions(config: Mapping[str, Any], logged: Sequence[str]) -> None:
    """Checks that Lightning's settings are compatible with rounds.

    Args:
        config: The settings.
        logged: Names of the values that a round logs, one of which ``monitor`` must name, unless the user's callbacks
            may log others.

    Raises:
        ConfigError: A setting would break a round.
    """
    for key, fits, allowed, hint in _RULES:
        value = look_up(config, key)
        if value is not NOTHING and not fits(value):
            raise ConfigError(key, value, allowed, hint)
    for section in ("early_stopping", "checkpoint"):
        name = config[section]["monitor"]
        if name is not None and name not in logged and not config["trainer"].get("callbacks"):
            raise ConfigError(f"{section}.monitor", name, f"one of {', '.join(logged)}")
