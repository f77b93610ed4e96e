"""Strategies that a run accepts. integration/test_loop.py compares sharded training with unsharded training."""

import pytest
from gold_lightning.errors import ConfigError
from gold_lightning.t5.fsdp import ShardedStrategy, check_strategy
from lightning.pytorch import Trainer

PATH = "lightning.pytorch.strategies."


@pytest.mark.parametrize("strategy", ["auto", "ddp", "ddp_spawn", "fsdp2", PATH + "DDPStrategy", "DDPStrategy"])
def test_accepted_strategies(strategy):
    check_strategy(strategy, "adamw")
    check_strategy({"class_path": strategy, "init_args": {"timeout": "1:00:00"}}, "adamw")


@pytest.mark.parametrize("strategy", ["fsdp", "fsdp_cpu_offload", "deepspeed", "deepspeed_stage_3_offload"])
@pytest.mark.parametrize("form", [str, lambda name: {"class_path": PATH + name}])
def test_other_sharded_strategies_are_refused(strategy, form):
    with pytest.raises(ConfigError) as e:
        check_strategy(form(strategy), "adamw")
    assert e.value.key == "trainer.strategy" and str(e.value.value).endswith(strategy) and "fsdp2" in e.value.allowed


@pytest.mark.parametrize("strategy", ["fsdp2", {"class_path": "gold_lightning.t5.fsdp.ShardedStrategy"}])
def test_adafactor_needs_whole_weights(strategy):
    with pytest.raises(ConfigError) as e:
        check_strategy(strategy, "adafactor")
    assert (e.value.key, e.value.value) == ("model.optimizer", "adafactor") and e.value.allowed.startswith("adamw")
    check_strategy("ddp", "adafactor")


def test_the_trainer_knows_it_by_name():
    strategy = Trainer(accelerator="cpu", devices=1, strategy="fsdp2", logger=False).strategy
    assert isinstance(strategy, ShardedStrategy) and not strategy._save_distributed_checkpoint
