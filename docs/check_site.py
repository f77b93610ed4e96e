"""Fails if a built site asks the network for anything: python docs/check_site.py site.

Links that a reader follows may lead anywhere; what a page loads by itself (scripts, styles, pictures, fonts, frames)
must lie in the site.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

_LOADS = {"script": "src", "img": "src", "source": "srcset", "iframe": "src", "link": "href", "object": "data"}
_PASSIVE = {"canonical", "next", "prev", "search"}  # of <link>: told, not loaded


class _Loaded(HTMLParser):
    """Collects what a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        url = values.get(_LOADS.get(tag, ""))
        if url and not (tag == "link" and values.get("rel") in _PASSIVE):
            self.urls.append(url)


def remote(site: Path) -> Iterator[str]:
    """Every address outside of the site that a page or a style sheet loads."""
    for path in sorted(site.rglob("*.html")):
        page = _Loaded()
        page.feed(path.read_text(encoding="utf-8"))
        yield from (f"{path}: {url}" for url in page.urls if re.match(r"(\w+:)?//", url))
    for path in sorted([*site.rglob("*.css"), *site.rglob("*.svg")]):
        found = re.findall(r"(?:url\(|@import )[\"']?((?:https?:)?//[^\"')]+)", path.read_text(encoding="utf-8"))
        yield from (f"{path}: {url}" for url in found)


if __name__ == "__main__":
    site = Path(sys.argv[1])
    if not (site / "index.html").is_file():
        sys.exit(f"{site}: no index.html")
    if loaded := list(remote(site)):
        sys.exit("\n".join(loaded))
