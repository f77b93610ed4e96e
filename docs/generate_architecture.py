"""Draws docs/architecture.md's tree and picture of the layers from the source, without importing the package.

The hook of the site calls it. Layers are those that ``tests/test_layering.py`` enforces; arrows are the imports that
no longer chain of imports implies, so that the picture shows every dependency and stays readable.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gold_lightning"
_ROW, _BOX, _GAP, _WIDTH = 46, 24, 10, 940  # pixels of the picture
_LETTER = 6.8


@cache
def layers() -> tuple[tuple[str, ...], ...]:
    """Names of modules and wings, lowest layer first."""
    for node in ast.parse((ROOT / "tests" / "test_layering.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LAYERS":
            constants = (n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant))
            return tuple(tuple(str(names).split()) for names in constants)
    raise LookupError("tests/test_layering.py defines no LAYERS")


def files() -> list[Path]:
    """Every module of the package, the modules of a folder together."""
    found = [p for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts]
    return sorted(found, key=lambda p: (p.parent != PACKAGE, p.parent.parts, p.name != "__init__.py", p.name))


def summary(path: Path) -> str:
    """The first line of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def tree() -> str:
    """A Markdown table of the files: path, lines, what is in it."""
    lines = ["| file | lines | what is in it |", "|---|---:|---|"]
    for path in files():
        name = path.relative_to(PACKAGE).as_posix()
        count = len(path.read_text(encoding="utf-8").splitlines())
        text = summary(path).replace("``", "`").replace("|", r"\|")
        lines.append(f"| `{name}` | {count} | {text} |")
    return "\n".join(lines)


def wing_of(module: str) -> str:
    """``generators`` of ``gold_lightning.generators.base``; nothing for what is outside of the package."""
    parts = module.split(".")
    return parts[1] if parts[0] == "gold_lightning" and len(parts) > 1 else ""


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            if node.module == "gold_lightning":
                yield from (f"gold_lightning.{alias.name}" for alias in node.names)


@cache
def imports() -> Mapping[str, frozenset[str]]:
    """Which wings each wing imports."""
    names = {name for layer in layers() for name in layer}
    edges: dict[str, set[str]] = {name: set() for name in names}
    for path in files():
        wing = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if wing in names:
            edges[wing] |= {wing_of(module) for module in _imported(path)} & (names - {wing})
    return {name: frozenset(below) for name, below in edges.items()}


@cache
def _reach(name: str) -> frozenset[str]:
    below = imports()[name]
    return below.union(*(_reach(other) for other in below))


def arrows() -> list[tuple[str, str]]:
    """Imports that no longer chain implies: the transitive reduction of the graph."""
    return sorted(
        (name, other)
        for name, below in imports().items()
        for other in below
        if not any(other in _reach(between) for between in below - {other})
    )


def longest_chain() -> list[str]:
    """The longest chain of imports between wings, from the top down."""

    @cache
    def chain(name: str) -> tuple[str, ...]:
        return (name, *max((chain(other) for other in sorted(imports()[name])), key=len, default=()))

    return list(max((chain(name) for name in sorted(imports())), key=len))


def picture() -> str:
    """An SVG in a block that Markdown leaves alone: layers as rows, wings as boxes, imports as arrows."""
    place: dict[str, tuple[float, float, float]] = {}
    height = _ROW * len(layers()) + 8
    for level, names in enumerate(layers()):
        widths = [len(name) * _LETTER + 18 for name in names]
        x = (_WIDTH - sum(widths) - _GAP * (len(names) - 1)) / 2
        for name, width in zip(names, widths, strict=True):
            place[name] = (x, height - _ROW * (level + 1), width)
            x += width + _GAP
    parts = [
        f'<div class="figure"><svg viewBox="0 0 {_WIDTH} {height}" role="img" '
        'aria-label="The layers of the package, the highest on top, with arrows from modules to what they import">',
        '<defs><marker id="tip" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" markerHeight="6" orient="auto">'
        '<path d="M0 0 L6 3 L0 6 z" fill="currentColor"/></marker></defs>',
    ]
    for name, other in arrows():
        x0, y0, w0 = place[name]
        x1, y1, w1 = place[other]
        start, end = (x0 + w0 / 2, y0 + _BOX), (x1 + w1 / 2, y1 - 1)
        bend = (end[1] - start[1]) / 2
        parts.append(
            f'<path d="M{start[0]:.0f} {start[1]:.0f} C{start[0]:.0f} {start[1] + bend:.0f} {end[0]:.0f} '
            f'{end[1] - bend:.0f} {end[0]:.0f} {end[1]:.0f}" fill="none" stroke="currentColor" '
            f'stroke-opacity="0.35" marker-end="url(#tip)"><title>{escape(name)} imports {escape(other)}</title></path>'
        )
    for name, (x, y, width) in place.items():
        parts.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{_BOX}" rx="4" '
            'fill="var(--md-default-bg-color, #fff)" stroke="currentColor"/>'
            f'<text x="{x + width / 2:.0f}" y="{y + 16:.0f}" text-anchor="middle" fill="currentColor" '
            f'font-family="monospace" font-size="11">{escape(name)}</text>'
        )
    return "".join([*parts, "</svg></div>"])


def facts() -> str:
    """One sentence of numbers about the imports."""
    chain = longest_chain()
    wings = sum(1 for name in imports() if (PACKAGE / name).is_dir())
    return (
        f"{len(imports())} modules and folders ({wings} folders), {len(files())} files, "
        f"{sum(map(len, imports().values()))} dependencies between them, of which {len(arrows())} are drawn. "
        f"The longest chain of imports has {len(chain)} members: {', '.join(f'`{name}`' for name in chain)}."
    )


GENERATED: Mapping[str, Callable[[], str]] = {"tree": tree, "layers": picture, "imports": facts}
"""What a page may put in by ``<!-- generated: NAME -->``."""
