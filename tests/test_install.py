"""The check of what users install finds what is not right."""

from __future__ import annotations

import sys
import tarfile
import zipfile

import pytest
from gold_lightning import __version__

from tests.install import IN_THE_SOURCE, IN_THE_WHEEL, interpreter, missing
from tests.linked import link_needed, needed


def archives(folder, wheel_names, source_names):
    folder.mkdir()
    wheel, source = folder / "w.whl", folder / "s.tar.gz"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in wheel_names:
            archive.writestr(name, "")
    with tarfile.open(source, "w:gz") as archive:
        for name in source_names:
            archive.addfile(tarfile.TarInfo(f"gold_lightning-{__version__}/{name}"))
    return source, wheel


def test_what_is_missing_or_too_much_is_found(tmp_path):
    info = f"gold_lightning-{__version__}.dist-info"
    whole = [*(f"gold_lightning/{name}" for name in IN_THE_WHEEL), f"{info}/licenses/LICENSE", f"{info}/METADATA"]
    assert missing(*archives(tmp_path / "a", whole, IN_THE_SOURCE)) == []
    assert missing(*archives(tmp_path / "b", [*whole[1:], "tests/x.py"], IN_THE_SOURCE[1:])) == [
        f"w.whl lacks gold_lightning/{IN_THE_WHEEL[0]}",
        "w.whl has tests/x.py",
        f"s.tar.gz lacks {IN_THE_SOURCE[0]}",
    ]


def test_an_interpreter_that_is_not_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert interpreter("python-that-is-not-there") is None
    assert interpreter(sys.executable) == sys.executable
    (tmp_path / "versions" / "3.0.0" / "bin").mkdir(parents=True)
    (tmp_path / "versions" / "3.0.0" / "bin" / "python3.0").symlink_to(sys.executable)
    assert interpreter("python3.0") is not None


def package(folder, name, files, requires=()):
    """Installs a package that holds files, by hand."""
    info = f"{name.replace('-', '_')}-1.0.dist-info"
    told = [f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0", *(f"Requires-Dist: {line}" for line in requires)]
    for file, content in {**dict.fromkeys(files, ""), f"{info}/METADATA": "\n".join(told)}.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(content)
    (folder / info / "RECORD").write_text("".join(f"{file},,\n" for file in [*files, f"{info}/METADATA"]))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of packages on the path: a asks for b, and for c with an extra; d is nobody's."""
    folder = tmp_path / "here"
    package(
        folder, "aa-1", ["aa/x.py", "aa/deep/y.py", "both/a.py"], ["bb-1>=0.5; python_version>'3'", "cc-1; extra=='e'"]
    )
    package(folder, "bb-1", ["bb.py", "__pycache__/bb.pyc", "../../bin/bb"])
    package(folder, "cc-1", ["cc/x.py"], ["no-such-package", "aa-1[e]"])
    package(folder, "dd-1", ["dd/x.py", "both/d.py"])
    monkeypatch.syspath_prepend(folder)
    return folder


def test_what_a_wheel_asks_for_is_followed_through_extras_and_markers(here):
    assert set(needed(["aa-1"])) == {"aa-1", "bb-1"}
    assert set(needed(["aa-1[e]"])) == {"aa-1", "bb-1", "cc-1"}
    assert set(needed(["aa-1; extra=='f'", "dd-1; python_version<'3'"])) == set()
    assert set(needed(["aa-1; extra=='f'"], ["f"])) == {"aa-1", "bb-1"}


def test_nothing_else_is_linked(here, tmp_path):
    site, wheel = tmp_path / "site", tmp_path / "w-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        text = "Metadata-Version: 2.1\nName: w\nVersion: 1.0\nRequires-Dist: aa-1\nProvides-Extra: x\n"
        archive.writestr("w-1.0.dist-info/METADATA", f"{text}Requires-Dist: cc-1; extra == 'x'\n")
    link_needed(wheel, [], site)
    ours = {path.name for path in site.iterdir()} & {path.name for path in here.iterdir()}
    assert ours == {"aa", "both", "bb.py", "aa_1-1.0.dist-info", "bb_1-1.0.dist-info"} and (site / "pip").is_dir()
    assert (site / "aa").is_symlink() and (site / "aa" / "deep" / "y.py").resolve() == here / "aa" / "deep" / "y.py"
    assert [path.name for path in (site / "both").iterdir()] == ["a.py"] and not (site / "both").is_symlink()
    link_needed(wheel, ["x"], tmp_path / "more")
    assert (tmp_path / "more" / "cc").is_symlink() and not (tmp_path / "more" / "torch").exists()
