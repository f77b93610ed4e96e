"""Traits of a task's demos that would be faults of a sample otherwise, since samples may resemble demos."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from gold_lightning.parsing.special import has_next_turn
from gold_lightning.parsing.talk import is_placeholder, is_plan, is_talk
from gold_lightning.parsing.task_talk import speaks_of_task


@dataclass(frozen=True)
class DemoTraits:
    """Whether any demo has a trait in one of its lines.

    Attributes:
        plan: It plans an answer, as :func:`~gold_lightning.parsing.talk.is_plan` tells.
        talk: It is talk, as :func:`~gold_lightning.parsing.talk.is_talk` tells.
        about_task: It speaks of the task, as :func:`~gold_lightning.parsing.task_talk.speaks_of_task` tells.
        next_turn: It contains a further turn of a conversation.
        placeholder: It is a placeholder.
    """

    plan: bool
    talk: bool
    about_task: bool
    next_turn: bool
    placeholder: bool


@functools.lru_cache(maxsize=1024)  # one for each line and label of a task, asked for with every sample
def demo_traits(demos: tuple[str, ...], names: tuple[str, ...], labels: tuple[str, ...] = ()) -> DemoTraits:
    """Returns the traits of one line of all demos.

    Args:
        demos: The line's value in each demo.
        names: Names of all lines of a sample.
        labels: Names of labels that the prompt mentions.

    >>> demo_traits(("The message should be about money.", "Call me back."), ("queue", "message")).about_task
    True
    """
    return DemoTraits(
        plan=any(is_plan(demo, names) for demo in demos),
        talk=any(is_talk(demo, names) for demo in demos),
        about_task=any(speaks_of_task(demo, names, labels) for demo in demos),
        next_turn=any(has_next_turn(demo) for demo in demos),
        placeholder=any(is_placeholder(demo, names) for demo in demos),
    )
