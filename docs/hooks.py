"""What the site is built with besides its pages: figures drawn from the code, and the files that pages link to.

A page may link to any file of the repository by a relative path, which works where the page is read in the
repository. On the site such a file is copied to ``files/`` as plain text, and the link leads there.
"""

from __future__ import annotations

import json
import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs"))

from generate_architecture import GENERATED  # noqa: E402

_LINK = re.compile(r"(\]\()([^)#\s]+)([)#])")
_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):<code>~?(?:[\w.]+\.)?(\w+)</code>")
_MARK = re.compile(r"<!-- generated: (\w+) -->")


def _outside(page: str, target: str) -> str | None:
    """The path in the repository of what a page links to, if it is no page or picture of the site."""
    if re.match(r"\w+:", target):
        return None
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    return None if path.startswith("docs/") and not path.endswith(".py") else path


def _copy(path: str) -> str:
    return f"files/{path}.txt"


def _fenced(text: str, language: str = "") -> str:
    return f"```{language}\n{text.rstrip()}\n```\n"


def _notebook_page(path: Path) -> str:
    """A notebook as a Markdown page: its text, its code, and the outputs that are stored in it."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source + "\n" if cell["cell_type"] == "markdown" else _fenced(source, "python"))
        for output in cell.get("outputs", []):
            parts.append(_fenced("".join(output.get("text") or output["data"]["text/plain"])))
    return "\n".join(parts)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Makes pages of the notebooks, and adds every file of the repository that a page links to."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            page = _notebook_page(Path(str(file.abs_src_path)))
            files.append(File.generated(config, file.src_uri.removesuffix("ipynb") + "md", content=page))
    for file in list(files.documentation_pages()):
        for _, target, _ in _LINK.findall(file.content_string):
            path = _outside(file.src_uri, target)
            if path and (ROOT / path).is_file() and files.get_file_from_path(_copy(path)) is None:
                files.append(File.generated(config, _copy(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads links to files of the repository to their copies, and puts in what is generated."""

    def link(match: re.Match[str]) -> str:
        if match[2].endswith(".ipynb") and not match[2].startswith(".."):
            return match[1] + match[2].removesuffix("ipynb") + "md" + match[3]
        path = _outside(page.file.src_uri, match[2])
        if path is None or not (ROOT / path).is_file():  # mkdocs reports it
            return match[0]
        return match[1] + posixpath.relpath(_copy(path), posixpath.dirname(page.file.src_uri) or ".") + match[3]

    return _MARK.sub(lambda mark: GENERATED[mark[1]](), _LINK.sub(link, markdown))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Shows the Sphinx roles of docstrings as the names that they stand for."""
    return _ROLE.sub(r"<code>\1</code>", html)
