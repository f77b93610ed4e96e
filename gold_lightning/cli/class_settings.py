"""Settings of classes: those that were written for one class are not those of another."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from jsonargparse import Namespace, _typehints
from jsonargparse._util import import_object

__all__ = ["own_defaults"]

_Discard = Callable[[Any, Any, Any], None]


@contextmanager
def own_defaults() -> Iterator[None]:
    """Gives each class its own defaults: a parser that reads another ``class_path`` forgets the settings before it.

    jsonargparse keeps the settings that the new class happens to have too: ``--data.generator OpenAIGenerator`` would
    take the form of the built-in default (https://github.com/mauvilsa/jsonargparse/issues/460). Here only those remain
    that the new class has no default for, so ``model`` stays if a config exchanges one engine for another.

    jsonargparse has no setting for that, but decides about it in one function, which is exchanged meanwhile.
    """
    before: _Discard = _typehints.discard_init_args_on_class_path_change
    _typehints.discard_init_args_on_class_path_change = partial(_discard, before)
    try:
        yield
    finally:
        _typehints.discard_init_args_on_class_path_change = before


def _discard(before: _Discard, parser_or_action: Any, prev_val: Any, value: Any) -> None:
    """Removes from ``prev_val`` what ``value`` does not take over; the names are those of jsonargparse."""
    # A class without settings may be no class, but another of the setting's values.
    if not isinstance(prev_val, Namespace) or not (prev_val.get("init_args") or prev_val.get("dict_kwargs")):
        return
    new = import_object(value["class_path"])
    if import_object(prev_val["class_path"]) is new:  # perhaps by another path
        return
    before(parser_or_action, prev_val, value)  # keeps what the new class has too
    if settings := prev_val.get("init_args"):
        for key in vars(settings).keys() - _needed(new):
            settings.pop(key)
    prev_val.pop("dict_kwargs", None)


def _needed(new: Any) -> set[str]:
    """Parameters without a default, of a class with those that it passes on to its bases, or of a function."""
    needed: dict[str, bool] = {}
    inits = (
        [vars(base)["__init__"] for base in new.__mro__ if "__init__" in vars(base)] if inspect.isclass(new) else [new]
    )
    for init in inits:
        parameters = inspect.signature(init).parameters.values()
        for p in parameters:
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
                needed.setdefault(p.name, p.default is p.empty)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return {name for name, is_needed in needed.items() if is_needed}
