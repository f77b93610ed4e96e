"""Shards the student's weights over processes with PyTorch's FSDP2, for a student too large for one device.

Lightning's own ``fsdp`` gathers weights only inside the module's training and validation steps. The callback that
scores the probe set also calls the student between these steps. FSDP2 gathers weights whenever a layer is called, and
keeps their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from gold_lightning.errors import ConfigError
from gold_lightning.t5.modes import is_sharded
from gold_lightning.t5.resuming import fitting_state, say_afresh

__all__ = ["ShardedStrategy", "check_strategy", "load_whole", "own_weights", "shard"]

_PATIENCE = timedelta(hours=12)
_WHOLE = StateDictOptions(full_state_dict=True)
_GATHERED = StateDictOptions(full_state_dict=True, cpu_offload=True)


class ShardedStrategy(ModelParallelStrategy):
    """Shards the student's weights, gradients and optimizer state over all processes; registered as ``fsdp2``.

    Checkpoints are unsharded files, so that a run with any number of processes can read them.

    Args:
        process_group_backend: Communication backend of the processes; ``None`` chooses it by the device.
        timeout: How long processes wait for each other.

    Example:
        In a config: ``trainer.strategy: fsdp2``. In Python:

        >>> import lightning
        >>> trainer = lightning.Trainer(strategy="fsdp2", devices=2, accelerator="gpu")  # doctest: +SKIP
    """

    def __init__(self, process_group_backend: str | None = None, timeout: timedelta | None = _PATIENCE) -> None:
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            process_group_backend=process_group_backend,
            timeout=timeout,
        )

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    # Lightning numbers an optimizer's weights by their position in the module; a single process numbers them by their
    # position in the optimizer. The two differ if there are several groups or untrained weights.

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Returns the optimizer state of an unsharded run; empty in all processes but the first."""
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer.optimizer
        state: dict[str, Any] = {**get_optimizer_state_dict(self._module, optimizer, options=_GATHERED)}
        numbers = {name: i for i, name in enumerate(n for g in state.get("param_groups", []) for n in g["params"])}
        return _renamed(state, numbers)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads a checkpoint; each process keeps its shard.

        Args:
            checkpoint_path: An unsharded file.
            weights_only: Ignored; only plain values and tensors are ever loaded.
        """
        checkpoint = torch.load(checkpoint_path, map_location="cpu", weights_only=True, mmap=True)
        load_whole(self._module, checkpoint["state_dict"])
        name_of = {weight: name for name, weight in self._module.named_parameters()}
        for optimizer, saved in zip(self.optimizers, checkpoint.get("optimizer_states", []), strict=False):
            names = {i: name_of[w] for i, w in enumerate(w for g in optimizer.param_groups for w in g["params"])}
            # The student's T5 is the attribute "model" of the Lightning module.
            t5_names = [name.removeprefix("model.") for name in names.values()]
            state = fitting_state(saved, optimizer, t5_names, checkpoint.get("optimizer_names", ()))
            if state is not None:
                set_optimizer_state_dict(self._module, optimizer, _renamed(state, names), options=_WHOLE)
            elif self.is_global_zero:
                say_afresh()
        return dict(checkpoint)

    @property
    def _module(self) -> nn.Module:
        if self.model is None:
            raise RuntimeError("there is no model yet")
        return self.model


def _renamed(state: dict[str, Any], names: Mapping[Any, Any]) -> dict[str, Any]:
    """Renames the weights in the state of an optimizer."""
    groups = [group | {"params": [names[key] for key in group["params"]]} for group in state.get("param_groups", [])]
    return {"state": {names[key]: value for key, value in state.get("state", {}).items()}, "param_groups": groups}


StrategyRegistry.register("fsdp2", ShardedStrategy, description="FSDP2 over all processes, checkpoints in one file")


def check_strategy(strategy: Any, optimizer: str) -> None:
    """Refuses strategies under which a round cannot gather the student's weights, and optimizers that need whole ones.

    Args:
        strategy: Value of ``trainer.strategy``: a name, or a mapping with ``class_path``.
        optimizer: Value of ``model.optimizer``.

    Raises:
        ConfigError: The strategy or its combination with the optimizer is not supported.
    """
    value = str(strategy.get("class_path") if isinstance(strategy, dict) else strategy)
    name = value.split(".")[-1].lower()
    if name != "fsdp2" and name.startswith(("fsdp", "deepspeed", "modelparallel")):
        raise ConfigError(
            "trainer.strategy", value, "auto, ddp or one of its kin, or fsdp2, which cuts the weights up (FSDP2)"
        )
    if name in ("fsdp2", ShardedStrategy.__name__.lower()) and optimizer == "adafactor":
        raise ConfigError(
            "model.optimizer", optimizer, "adamw with trainer.strategy fsdp2", "its steps need whole weights"
        )


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Shards a T5 over the processes of a mesh, block by block. Does nothing to a sharded T5.

    Args:
        model: The unsharded T5, identical in all processes.
        mesh: A mesh with one dimension.
    """
    if is_sharded(model):
        return
    for stack in (model.encoder, model.decoder):
        for block in stack.block:  # type: ignore[union-attr]
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    # generate calls the encoder directly, whose embeddings belong to the whole model.
    register_fsdp_forward_method(model, "generate")


def load_whole(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Loads unsharded weights, given in each process, into a model that may be sharded."""
    set_model_state_dict(model, {**weights}, options=_WHOLE)


@torch.no_grad()
def own_weights(model: nn.Module) -> list[Tensor]:
    """Returns this process's part of a model's weights and buffers, to read and to write; the model may be sharded."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()  # a forward pass may leave gathered weights, or none
    tensors = (*model.parameters(), *model.buffers())
    return [t.to_local() if isinstance(t, DTensor) else t.detach() for t in tensors]
