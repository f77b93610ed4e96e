"""What is taken over of a checkpoint's optimizer, and when it begins afresh."""

from __future__ import annotations

import pytest
import torch
from gold_lightning.t5.resuming import fitting_state
from torch import nn
from transformers.optimization import Adafactor


def model(width=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, width), nn.Linear(width, 2))


def adamw(net, parts=2, **more):
    weights = list(net.parameters())
    size = -(-len(weights) // parts)
    groups = [{"params": weights[i : i + size], "share": 1.0, **more} for i in range(0, len(weights), size)]
    return torch.optim.AdamW(groups, lr=1e-3)


def adafactor(net, parts=2):
    groups = [{"params": g["params"], "share": 1.0} for g in adamw(net, parts).param_groups]
    return Adafactor(groups, lr=1e-3, scale_parameter=False, relative_step=False)


def trained(make, net=None, **how):
    net = net or model()
    optimizer = make(net, **how)
    net(torch.ones(5, 4)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


@pytest.mark.parametrize("make", [adamw, adafactor])
def test_a_state_goes_on_with_the_settings_of_today(make):
    saved = trained(make)
    for group in saved["param_groups"]:
        group |= {"weight_decay": 0.5, "share": 9.0}
        group.pop("foreach", None)  # of a version that did not have it
    fresh = make(model())
    found = fitting_state(saved, fresh)
    assert found["state"] == saved["state"] and len(found["state"]) == 4
    fresh.load_state_dict(found)
    assert all(g["share"] == 1.0 and g["weight_decay"] != 0.5 for g in fresh.param_groups)


@pytest.mark.parametrize(
    ("saved", "today"),
    [
        (trained(adamw), adafactor(model())),
        (trained(adafactor), adamw(model())),
        (trained(adamw, parts=1), adamw(model())),
        (trained(adamw), adamw(model(), parts=4)),
        (trained(adamw), adamw(model(width=5))),
        (trained(adafactor), adafactor(model(width=5))),
        ({}, adamw(model())),
    ],
    ids=["to adafactor", "to adamw", "more groups", "still more", "another shape", "its rows", "nothing"],
)
def test_a_state_of_something_else_is_left_behind(saved, today):
    assert fitting_state(saved, today) is None


def test_groups_of_the_same_sizes_are_told_apart_by_names():
    saved, names = trained(adamw), ["a", "b", "c", "d"]
    assert fitting_state(saved, adamw(model()), names, names) is not None
    assert fitting_state(saved, adamw(model()), names) is not None  # a checkpoint without names
    assert fitting_state(saved, adamw(model()), names, ["c", "d", "a", "b"]) is None
