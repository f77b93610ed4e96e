"""Gives each class its own defaults when one config names another class than the config before it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pkgutil import resolve_name
from typing import Any

from jsonargparse import Namespace, _typehints

__all__ = ["own_defaults"]

_Discard = Callable[[Any, Any, Any], None]


@contextmanager
def own_defaults() -> Iterator[None]:
    """Discards the settings of a class when a later ``class_path`` names another class.

    jsonargparse keeps those that the new class accepts too: ``--data.generator OpenAIGenerator`` would inherit the
    batch size of the default generator (https://github.com/mauvilsa/jsonargparse/issues/460). Inside this context only
    the parameters without a default are kept, so ``model`` stays if a config replaces one engine by another.
    """
    # A private name: jsonargparse.set_parsing_settings has no option for this, so the one function that decides about
    # it is replaced, and only while arguments are parsed.
    original: _Discard = _typehints.discard_init_args_on_class_path_change
    _typehints.discard_init_args_on_class_path_change = partial(_discard, original)
    try:
        yield
    finally:
        _typehints.discard_init_args_on_class_path_change = original


def _discard(original: _Discard, parser_or_action: Any, prev_val: Any, value: Any) -> None:
    """Removes from ``prev_val`` the settings that ``value`` does not keep; the parameters are named by jsonargparse."""
    # Without settings, prev_val may be another kind of value than a class.
    if not isinstance(prev_val, Namespace) or not (prev_val.get("init_args") or prev_val.get("dict_kwargs")):
        return
    new = resolve_name(value["class_path"])
    if resolve_name(prev_val["class_path"]) is new:  # the path may differ
        return
    original(parser_or_action, prev_val, value)
    if settings := prev_val.get("init_args"):
        for key in vars(settings).keys() - _required_parameters(new):
            settings.pop(key)
    prev_val.pop("dict_kwargs", None)


def _required_parameters(new: Any) -> set[str]:
    """Returns the parameters without a default of a function, or of a class and the bases that get its ``**kwargs``."""
    required: dict[str, bool] = {}
    inits = (
        [vars(base)["__init__"] for base in new.__mro__ if "__init__" in vars(base)] if inspect.isclass(new) else [new]
    )
    for init in inits:
        parameters = inspect.signature(init).parameters.values()
        for p in parameters:
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
                required.setdefault(p.name, p.default is p.empty)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return {name for name, is_required in required.items() if is_required}
