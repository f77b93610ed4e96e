"""Installs a wheel beside packages that are here already, instead of unpacking all of them once more.

Only what the wheel asks for is linked, and what that asks for in turn. A package that the program imports and does not
name is therefore missing, as it is in a fresh environment.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path, PurePath
from zipfile import ZipFile

from packaging.metadata import parse_email
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NO_INDEX = {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_NO_INDEX": "1", "PYTHONPATH": ""}
"""Environment in which pip takes what is there or fails: it must replace nothing, as it would do so behind a link."""


def requirements_of(wheel: Path) -> list[str]:
    """What a wheel's metadata asks for."""
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return parse_email(archive.read(name))[0].get("requires_dist", [])


def needed(requirements: Iterable[str], extras: Collection[str] = ()) -> dict[str, Distribution]:
    """The packages here, by name, that requirements ask for, directly or not. pip tells of those that are not here."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(Requirement(text), frozenset(extras)) for text in requirements]
    while waiting:
        asked, extras_of_asker = waiting.pop()
        markers = [{"extra": extra} for extra in ("", *extras_of_asker)]
        if asked.marker is not None and not any(asked.marker.evaluate(marker) for marker in markers):
            continue
        name = canonicalize_name(asked.name)
        key = (name, frozenset(asked.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue
        waiting += [(Requirement(text), key[1]) for text in found[name].requires or ()]
    return found


def link(packages: Mapping[str, Distribution], others: Iterable[Distribution], site: Path) -> None:
    """Links packages into a folder of packages: whole folders, except those in which other packages have files too.

    Args:
        packages: What is linked.
        others: What must not be seen there.
        site: The folder.
    """
    shared = {folder for other in others for file in other.files or () for folder in file.parents}
    for package in packages.values():
        for file in package.files or ():
            if ".." in file.parts or file.parts[0] == "__pycache__":  # commands; compiled modules
                continue
            paths = [*reversed(file.parents), PurePath(file)][1:]
            path = next((path for path in paths if path not in shared), paths[-1])
            if not (site / path).is_symlink():
                (site / path).parent.mkdir(parents=True, exist_ok=True)
                (site / path).symlink_to(Path(str(package.locate_file(path))).resolve())


def link_needed(wheel: Path, extras: Collection[str], site: Path) -> None:
    """Links what a wheel asks for, and pip, from this environment into an empty folder of packages."""
    packages = needed(["pip", *requirements_of(wheel)], extras)
    link(packages, [d for d in distributions() if canonicalize_name(d.metadata["Name"]) not in packages], site)
