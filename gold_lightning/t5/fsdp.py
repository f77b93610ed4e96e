"""Weights cut up among the processes, for a student that is too large for one device: PyTorch's FSDP2.

Lightning's own ``fsdp`` wraps a module so that its weights are whole only inside of the module's training and
validation steps. Here the student is asked between them too, by the callback that scores the probe set. FSDP2
gathers weights where a layer is called, whoever calls it, and leaves their names as they are.
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
from gold_lightning.t5.resuming import fitting_state, say_afresh

__all__ = ["ShardedStrategy", "check_strategy", "is_sharded", "load_whole", "own_weights", "shard"]

_PATIENCE = timedelta(hours=12)
_WHOLE = StateDictOptions(full_state_dict=True)
_GATHERED = StateDictOptions(full_state_dict=True, cpu_offload=True)


class ShardedStrategy(ModelParallelStrategy):
    """Cuts the student's weights, gradients and optimizer state up among all processes; ``fsdp2`` by name.

    Checkpoints are whole files, which a run with any number of processes reads.

    Args:
        process_group_backend: How processes talk; chosen by the device where it is ``None``.
        timeout: How long processes wait for each other's student.
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

    # Lightning numbers the weights of an optimizer by their place in the module, and a single process by their place
    # in the optimizer. The two differ as soon as there are groups of them, or some that are not trained.

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """State of an optimizer as a single process would have it; empty in all processes but the first."""
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer.optimizer
        state: dict[str, Any] = {**get_optimizer_state_dict(self._module, optimizer, options=_GATHERED)}
        numbers = {name: i for i, name in enumerate(n for g in state.get("param_groups", []) for n in g["params"])}
        return _renamed(state, numbers)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads a checkpoint of any number of processes; each takes its part of it.

        Args:
            checkpoint_path: A whole file.
            weights_only: Not looked at: nothing but plain values and tensors is loaded.
        """
        held = torch.load(checkpoint_path, map_location="cpu", weights_only=True, mmap=True)
        load_whole(self._module, held["state_dict"])
        of = {weight: name for name, weight in self._module.named_parameters()}
        for optimizer, saved in zip(self.optimizers, held.get("optimizer_states", []), strict=False):
            names = {i: of[w] for i, w in enumerate(w for g in optimizer.param_groups for w in g["params"])}
            # Lightning's module has the student's model in it by that name.
            own = [name.removeprefix("model.") for name in names.values()]
            state = fitting_state(saved, optimizer, own, held.get("optimizer_names", ()))
            if state is not None:
                set_optimizer_state_dict(self._module, optimizer, _renamed(state, names), options=_WHOLE)
            elif self.is_global_zero:
                say_afresh()
        return dict(held)

    @property
    def _module(self) -> nn.Module:
        if self.model is None:
            raise RuntimeError("there is no model yet")
        return self.model


def _renamed(state: dict[str, Any], names: Mapping[Any, Any]) -> dict[str, Any]:
    """State of an optimizer with other keys for its weights."""
    groups = [group | {"params": [names[key] for key in group["params"]]} for group in state.get("param_groups", [])]
    return {"state": {names[key]: of for key, of in state.get("state", {}).items()}, "param_groups": groups}


StrategyRegistry.register("fsdp2", ShardedStrategy, description="FSDP2 over all processes, checkpoints in one file")


def check_strategy(strategy: Any, optimizer: str) -> None:
    """Refuses strategies that leave no whole weights where a round needs them, and what does not go with one that does.

    Args:
        strategy: As in a config: a name, or a mapping with ``class_path``.
        optimizer: The student's.

    Raises:
        ConfigError: It is one of them.
    """
    given = str(strategy.get("class_path") if isinstance(strategy, dict) else strategy)
    name = given.split(".")[-1].lower()
    if name != "fsdp2" and name.startswith(("fsdp", "deepspeed", "modelparallel")):
        raise ConfigError(
            "trainer.strategy", given, "auto, ddp or one of its kin, or fsdp2, which cuts the weights up (FSDP2)"
        )
    if name in ("fsdp2", ShardedStrategy.__name__.lower()) and optimizer == "adafactor":
        raise ConfigError(
            "model.optimizer", optimizer, "adamw with trainer.strategy fsdp2", "its steps need whole weights"
        )


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Cuts a T5 up among the processes of a mesh, block by block; nothing where it is cut up already.

    Args:
        model: The whole one, the same in each process.
        mesh: With one dimension.
    """
    if is_sharded(model):
        return
    for stack in (model.encoder, model.decoder):
        for block in stack.block:  # type: ignore[union-attr]
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    # It calls the encoder by itself, whose embeddings are the whole model's.
    register_fsdp_forward_method(model, "generate")


def is_sharded(model: nn.Module) -> bool:
    """Whether :func:`shard` has cut a model up."""
    return isinstance(model, FSDPModule)


def load_whole(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Loads whole weights, which each process has, into a model that may be cut up."""
    set_model_state_dict(model, {**weights}, options=_WHOLE)


@torch.no_grad()
def own_weights(model: nn.Module) -> list[Tensor]:
    """What this process has of the weights and buffers of a model that may be cut up, to copy and to write back."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()  # after a forward pass the whole weights, or none, may stand in their place
    tensors = (*model.parameters(), *model.buffers())
    return [t.to_local() if isinstance(t, DTensor) else t.detach() for t in tensors]
