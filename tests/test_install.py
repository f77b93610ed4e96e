"""The check of what users install finds what is not right."""

from __future__ import annotations

import sys
import tarfile
import zipfile

from gold_lightning import __version__

from tests.install import IN_THE_SOURCE, IN_THE_WHEEL, interpreter, missing


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
