"""Which strategies a run takes. That weights which are cut up train as whole ones do is in integration/test_loop.py."""

import pytest
from gold_lightning.errors import ConfigError
from gold_lightning.t5.fsdp import ShardedStrategy, check_strategy
from lightning.pytorch import Trainer

PATH = "lightning.pytorch.strategies."


@pytest.mark.parametrize("strategy", ["auto", "ddp", "ddp_spawn", "fsdp2", PATH + "DDPStrategy", "DDPStrategy"])
def test_strategies_that_a_round_can_do_with(strategy):
    check_strategy(strategy, "adamw")
    check_strategy({"class_path": strategy, "init_args": {"timeout": "1:00:00"}}, "adamw")


@pytest.mark.parametrize("strategy", ["fsdp", "fsdp_cpu_offload", "deepspeed", "deepspeed_stage_3_offload"])
@pytest.mark.parametrize("given", [str, lambda name: {"class_path": PATH + name}])
def test_strategies_that_it_cannot_do_with(strategy, given):
    with pytest.raises(ConfigError, match=rf"^trainer\.strategy: got '.*{strategy}'.*fsdp2"):
        check_strategy(given(strategy), "adamw")


@pytest.mark.parametrize("strategy", ["fsdp2", {"class_path": "gold_lightning.t5.fsdp.ShardedStrategy"}])
def test_adafactor_needs_whole_weights(strategy):
    with pytest.raises(ConfigError, match=r"^model\.optimizer: got 'adafactor', expected adamw"):
        check_strategy(strategy, "adafactor")
    check_strategy("ddp", "adafactor")


def test_the_trainer_knows_it_by_name():
    strategy = Trainer(accelerator="cpu", devices=1, strategy="fsdp2", logger=False).strategy
    assert isinstance(strategy, ShardedStrategy) and not strategy._save_distributed_checkpoint
