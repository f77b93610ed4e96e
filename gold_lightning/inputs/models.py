"""Immutable data classes whose values pydantic checks, with its errors as one-line :class:`ConfigError`."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Protocol, TypeVar, dataclass_transform, get_args, get_type_hints

from pydantic import ConfigDict, Strict, StringConstraints, ValidationError
from pydantic import Field as Constraint
from pydantic.dataclasses import dataclass as pydantic_dataclass

from gold_lightning.errors import ConfigError

__all__ = ["Flag", "Misfit", "NaturalNumber", "PositiveNumber", "Text", "Words", "config_errors", "model"]

Text = Annotated[str, Strict()]
Words = Annotated[str, StringConstraints(strict=True, pattern=r"\S")]
"""Text that is not empty."""

Flag = Annotated[bool, Strict()]
NaturalNumber = Annotated[int, Constraint(strict=True, ge=0)]
PositiveNumber = Annotated[int, Constraint(strict=True, ge=1)]


class Misfit(ConfigError, ValueError):
    """A validator's error. Its key is relative to the validated value ("" for itself); pydantic adds the place."""


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


_T = TypeVar("_T", bound=_Dataclass)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def model(cls: type[_T]) -> type[_T]:
    """Makes an immutable data class whose constructor checks its values and raises :class:`ConfigError`.

    If the class has a class method ``fill_in``, the constructor passes its arguments through it first. Files are read
    without ``fill_in``, by ``TypeAdapter(cls).validate_python``. ``not_in_files`` names fields that files cannot set.
    """
    checked: Any = pydantic_dataclass(frozen=True, config=ConfigDict(extra="forbid"))(cls)
    construct: Callable[..., None] = checked.__init__
    fill_in = getattr(cls, "fill_in", dict)

    def __init__(self: Any, *args: Any, **values: Any) -> None:
        names = [f.name for f in dataclasses.fields(checked)]
        if len(args) > len(names):
            raise TypeError(f"{cls.__name__} takes {len(names)} arguments, and {len(args)} were given")
        with config_errors(checked):
            construct(self, **fill_in(dict(zip(names, args, strict=False)) | values))

    checked.__init__ = __init__
    return checked  # type: ignore[no-any-return]


@contextmanager
def config_errors(cls: Any) -> Iterator[None]:
    """Turns pydantic's first error about an instance of a class into one that names key, value and what is allowed.

    Raises:
        ConfigError: The block raised pydantic's ``ValidationError``.
    """
    try:
        yield
    except ValidationError as e:
        errors = e.errors(include_url=False)
        first = errors[0]
        if first["type"] == "missing":  # an unknown key in the same mapping is probably this one, misspelt
            siblings = (x for x in errors if x["loc"][:-1] == first["loc"][:-1])
            first = next((x for x in siblings if x["type"] == "unexpected_keyword_argument"), first)
        place = first["loc"]
        inner = first.get("ctx", {}).get("error")
        if isinstance(inner, Misfit):
            raise ConfigError(_key(place, inner.key), inner.value, inner.allowed, inner.hint) from None
        value = None if first["type"] == "missing" else first["input"]
        raise ConfigError(_key(place) or cls.__name__.lower(), value, *_allowed(first, cls)) from None


_ALLOWED = {
    "bool_type": "true or false",
    "dataclass_type": "a mapping of keys to values",
    "dict_type": "a mapping of text to text",
    "float_type": "a number",
    "int_type": "a whole number",
    "mapping_type": "a mapping of text to text",
    "missing": "a value; the key is missing",
    "string_pattern_mismatch": "text that is not empty",
    "string_type": "text",
    "tuple_type": "a list",
}


def _allowed(error: Mapping[str, Any], cls: Any) -> tuple[str, str]:
    """Returns the allowed values in words, and a hint."""
    kind, place = error["type"], error["loc"]
    if kind == "greater_than_equal":
        return f"{error['ctx']['ge']} or more", ""
    if kind != "unexpected_keyword_argument":
        return _ALLOWED.get(kind, error["msg"]), "put it in quotes" if kind == "string_type" else ""
    owner = _owner(cls, place[:-1])
    known = [f.name for f in dataclasses.fields(owner) if f.name not in getattr(owner, "not_in_files", ())]
    near = difflib.get_close_matches(str(place[-1]), known, 1)
    return f"one of the keys {', '.join(known)}", f"did you mean {near[0]}?" if near else ""


def _key(place: Sequence[int | str], rest: str = "") -> str:
    """Returns ``labels[1].name`` for ``("labels", 1, "name")``."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in place]
    if rest:
        parts.append(rest if rest.startswith("[") else f".{rest}")
    return "".join(parts).removeprefix(".")


def _owner(cls: Any, place: Sequence[int | str]) -> Any:
    """Returns the class of the value at a place."""
    for part in place:
        cls = get_type_hints(cls)[part] if isinstance(part, str) else get_args(cls)[0]
        if type(None) in get_args(cls):  # an optional part
            cls = get_args(cls)[0]
    return cls
