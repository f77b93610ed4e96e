"""Reads a task from its YAML file, the user's own or a shipped one; what is wrong in it is told by its key."""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from gold_lightning.errors import ConfigError, GoldError
from gold_lightning.inputs.paths import expand
from gold_lightning.inputs.pipes import is_copy, local_copy, written
from gold_lightning.task import Check, Field, Hints, Label, Sample, StudentFormat, Task, TestData, check_names

__all__ = [
    "TaskSource",
    "dump_task",
    "find_task_file",
    "load_task",
    "load_yaml",
    "local_task",
    "read_task",
    "shipped_tasks",
]


if TYPE_CHECKING:
    TaskSource = str | Task
    """A task, the path of a task file, or the name of a shipped task."""
else:  # on the command line a task has one setting, its path, and not one for each of its attributes
    TaskSource = str


def shipped_tasks() -> dict[str, Path]:
    """File of each task that comes with the package, by name, in alphabetical order."""
    folder = Path(str(resources.files("gold_lightning"))) / "tasks"
    return {p.stem: p for p in sorted(folder.glob("*.yaml"))}


def find_task_file(name_or_path: str, key: str = "data.task") -> Path:
    """The file of a task: a path, or the name of a shipped task.

    Args:
        name_or_path: What the user wrote; ``-`` is standard input.
        key: Where it was written, for the message.

    Raises:
        ConfigError: There is neither.
    """
    if copy := local_task(key, name_or_path):
        return Path(copy)
    path, known = Path(expand(key, name_or_path)), shipped_tasks()
    if path.is_file():
        return path
    if name_or_path not in known:
        raise ConfigError(key, name_or_path, f"the path of a task file, or a shipped task ({', '.join(known)})")
    return known[name_or_path]


def load_task(name_or_path: TaskSource) -> Task:
    """Reads a task: the path of a YAML file, or the name of a shipped task. A task is returned as it is.

    Raises:
        ConfigError: The task is not found, or a key in it is wrong; the message names file and key.
    """
    if isinstance(name_or_path, Task):
        return name_or_path
    path = find_task_file(name_or_path)
    found = path.stat()
    own = path == Path(expand("data.task", name_or_path))
    shown = written(str(path)) if is_copy(str(path)) else name_or_path if own else str(path)
    return _load_task(path, shown, found.st_mtime_ns, found.st_size, found.st_ino)


def local_task(key: str, path: str) -> str | None:
    """The copy of a task that is read from a pipe; ``None`` if the path is no pipe.

    Raises:
        ConfigError: It cannot be read, or another setting has read it.
    """
    return local_copy(key, path, _standing_alone)


def _standing_alone(content: bytes) -> bytes:
    """A task with absolute paths: its copy lies elsewhere, and what it names is beside the working folder."""
    try:
        raw = yaml.load(content.decode("utf-8"), _Loader)
    except (ValueError, RecursionError, yaml.YAMLError):  # told when it is read as a task
        return content
    changed = False
    for section in ("test", "validation"):
        values = raw.get(section) if isinstance(raw, dict) else None
        if not isinstance(values, dict):
            continue
        name = values.get("file")
        if isinstance(name, str) and name and not name.startswith("~") and not Path(name).is_absolute():
            values["file"] = str(Path(name).absolute())
            changed = True
    return yaml.safe_dump(raw, sort_keys=False, allow_unicode=True).encode() if changed else content


@functools.lru_cache(maxsize=16)  # one start reads its task six times
def _load_task(path: Path, shown: str, *_: int) -> Task:
    raw = load_yaml(path, shown)
    try:
        return _read_task(raw, str(path))
    except ConfigError as e:
        raise GoldError(f"{shown}: {e}") from None


def load_yaml(path: Path, shown: str = "") -> Any:
    """What a YAML file holds.

    Args:
        path: The file.
        shown: Its path as the user wrote it, for messages; ``path`` by default.

    Raises:
        GoldError: It cannot be read, is not UTF-8 or no YAML, or a key stands twice in one mapping.
    """
    name = shown or str(path)
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as e:
        raise GoldError(f"{name}: {e.strerror or e}") from None
    except UnicodeDecodeError as e:
        raise GoldError(f"{name}: not valid YAML: byte {e.start} is not UTF-8 ({e.reason}); save it as UTF-8") from None
    except RecursionError:
        raise GoldError(f"{name}: not valid YAML: nested too deeply to be read") from None
    except (yaml.YAMLError, ValueError) as e:  # ValueError: a date that is none
        told = " ".join(str(e).split()).replace('in "<unicode string>", ', "in ")
        raise GoldError(f"{name}: not valid YAML: {told}") from None


_UNSEEN = "\u00a0\u1680\u180e\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u200c\u200d"
_UNSEEN += "\u200e\u200f\u202f\u205f\u2060\u3000\ufeff"
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Loader(yaml.SafeLoader):
    """PyYAML takes the last of two equal keys and says nothing; here the second one is refused."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            # Compared as what they will be: 1 and 0x1 are one key. A merge (<<) is no value.
            name = key.value if key.tag.endswith(":merge") else self.construct_object(key)
            line = key.start_mark.line + 1
            if key.style is None and key.value != key.value.strip(_UNSEEN):
                hint = f"write {key.value.strip(_UNSEEN)}"
                raise yaml.YAMLError(f"line {line}: the key {key.value!a} holds a space that cannot be seen; {hint}")
            if first := lines.get(name):
                raise yaml.YAMLError(f"line {line}: the key {key.value!r} stands in line {first} already; keep one")
            lines[name] = line
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        if not isinstance(value, str) or not _SURROGATE.search(value):
            return value
        # JSON writes a character beyond 16 bits as two escapes; PyYAML leaves them two.
        joined = value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        if _SURROGATE.search(joined):
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"line {line}: half a surrogate pair, which is no text; write the whole character")
        return joined


_T = TypeVar("_T")


class _Reader:
    """Takes keys out of a YAML mapping, each with its type, and refuses what is left over."""

    def __init__(self, value: object, key: str) -> None:
        if not isinstance(value, dict):
            raise ConfigError(key or "task", value, "a mapping of keys to values")
        self.at = f"{key}." if key else ""
        self.rest: dict[Any, Any] = dict(value)

    def text(self, key: str, default: str | None = None) -> str:
        value = self._take(key, default, "text")
        if not isinstance(value, str):
            raise ConfigError(self.at + key, value, "text", "put it in quotes")
        if default is None and not value.strip():
            raise ConfigError(self.at + key, value, "text that is not empty")
        return value

    def number(self, key: str, default: int) -> int:
        value = self._take(key, default, "a whole number")
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(self.at + key, value, "a whole number")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._take(key, default, "true or false")
        if not isinstance(value, bool):
            raise ConfigError(self.at + key, value, "true or false")
        return value

    def items(self, key: str, *, required: bool = False) -> list[tuple[str, Any]]:
        value = self._take(key, None if required else [], "a list")
        if not isinstance(value, list):
            raise ConfigError(self.at + key, value, "a list")
        return [(f"{self.at}{key}[{i}]", item) for i, item in enumerate(value)]

    def texts(self, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        if key not in self.rest:
            return default
        found = self.items(key)
        for at, item in found:
            if not isinstance(item, str) or not item.strip():
                raise ConfigError(at, item, "text that is not empty", "put it in quotes")
        return tuple(item for _, item in found)

    def mapping(self, key: str) -> dict[str, str]:
        value = self._take(key, {}, "a mapping")
        if not isinstance(value, dict):
            raise ConfigError(self.at + key, value, "a mapping of text to text")
        for k, v in value.items():
            if not isinstance(v, str):
                raise ConfigError(f"{self.at}{key}.{k}", v, "text", "put it in quotes")
        # A number as a key is what a label column holds; its text is compared, so 1 and "1" are one.
        found: dict[str, str] = {}
        for k, v in value.items():
            if str(k) in found:
                raise ConfigError(f"{self.at}{key}.{k}", v, f"one value; the key as text has {found[str(k)]!r} already")
            found[str(k)] = v
        return found

    def sub(self, key: str, *, required: bool = False) -> _Reader:
        return _Reader(self._take(key, None if required else {}, "a mapping"), self.at + key)

    def done(self, known: Sequence[str]) -> None:
        for key in self.rest:
            raise ConfigError(f"{self.at}{key}", self.rest[key], f"one of the keys {', '.join(known)}")

    def _take(self, key: str, default: object, kind: str) -> Any:
        if key in self.rest:
            return self.rest.pop(key)
        if default is None:
            raise ConfigError(self.at + key, None, f"{kind}; the key is missing")
        return default


def _at(at: str, make: Callable[[], _T]) -> _T:
    """Runs a constructor whose errors know only their own key, and puts the place before it."""
    try:
        return make()
    except ConfigError as e:
        raise ConfigError(f"{at}.{e.key}", e.value, e.allowed, e.hint) from None


def _read_field(reader: _Reader, at: str) -> Field:
    values = (
        reader.text("name"),
        reader.text("description"),
        reader.number("min_chars", 1),
        reader.number("max_chars", 1000),
    )
    made = _at(at, lambda: Field(*values))
    reader.done(("name", "description", "min_chars", "max_chars"))
    return made


def _composed(label: str) -> str:
    """A label in the form (NFC) that most keyboards write and tokenizers give back."""
    return unicodedata.normalize("NFC", label)


def _read_label(value: object, at: str) -> Label:
    reader = _Reader(value, at)
    values = _composed(reader.text("name")), reader.text("meaning"), reader.texts("hints")
    made = _at(at, lambda: Label(*values))
    reader.done(("name", "meaning", "hints"))
    return made


def _read_demo(value: object, at: str, fields: Sequence[str], target: str, *, labels: bool) -> Sample:
    reader = _Reader(value, at)
    made = Sample({name: reader.text(name) for name in fields}, reader.text(target))
    reader.done((*fields, target))
    return made if not labels else Sample(made.fields, _composed(made.target))


def _read_check(value: object, at: str) -> Check:
    if isinstance(value, str):
        return Check(value)
    if not isinstance(value, dict) or len(value) != 1:
        raise ConfigError(at, value, "the name of a check, or {name: {parameter: value}}")
    (name, params), *_ = value.items()
    if not isinstance(params, dict):
        raise ConfigError(f"{at}.{name}", params, "a mapping of parameters to values")
    return Check(str(name), params)


def _read_rows(reader: _Reader, *, composed: bool) -> TestData:
    rows = TestData(
        reader.text("file", ""),
        reader.text("hub", ""),
        reader.text("config", ""),
        reader.text("split", "validation"),
        reader.mapping("columns"),
        reader.mapping("label_names"),
    )
    reader.done(("file", "hub", "config", "split", "columns", "label_names"))
    if composed:  # as the labels are
        rows = dataclasses.replace(rows, label_names={k: _composed(v) for k, v in rows.label_names.items()})
    return rows


def _read_task(raw: object, source: str) -> Task:
    top = _Reader(raw, "")
    fields = tuple(_read_field(_Reader(value, at), at) for at, value in top.items("fields", required=True))
    target = _read_field(top.sub("target", required=True), "target")
    check_names(fields, target)  # before the demos, whose keys these are
    names = [f.name for f in fields]

    form = top.sub("student", required=True)
    shape = (
        form.text("input"),
        form.text("target", "{" + target.name + "}"),
        form.number("max_input_tokens", 128),
        form.number("max_target_tokens", 32),
    )
    student = _at("student", lambda: StudentFormat(*shape))
    form.done(("input", "target", "max_input_tokens", "max_target_tokens"))

    hints = top.sub("hints")
    varied = Hints(
        hints.texts("topics"),
        hints.texts("perspectives", Hints.perspectives),
        hints.texts("styles", Hints.styles),
    )
    hints.done(("topics", "perspectives", "styles"))

    labels = tuple(_read_label(value, at) for at, value in top.items("labels"))
    test, validation = (_read_rows(top.sub(key), composed=bool(labels)) for key in ("test", "validation"))

    task = Task(
        name=top.text("name"),
        description=top.text("description"),
        fields=fields,
        target=target,
        demos=tuple(
            _read_demo(v, at, names, target.name, labels=bool(labels)) for at, v in top.items("demos", required=True)
        ),
        student=student,
        labels=labels,
        hints=varied,
        checks=tuple(_read_check(value, at) for at, value in top.items("checks")),
        metrics=top.texts("metrics"),
        test=test,
        validation=validation,
        contrast=top.flag("contrast", False),
        max_sample_tokens=top.number("max_sample_tokens", 128),
        allow_refusals=top.flag("allow_refusals", False),
        source=source,
    )
    top.done([f.name for f in dataclasses.fields(Task) if f.name != "source"])
    return task


def read_task(document: object, source: str) -> Task:
    """Makes a task of the plain values that a task file holds.

    Args:
        document: The mapping.
        source: Where it stands, for messages; also the file that relative paths start from.

    Raises:
        ConfigError: A value is wrong; the error names its key.
    """
    return _read_task(document, source)


def dump_task(task: Task) -> dict[str, Any]:
    """Gives a task as the plain values of a task file; :func:`read_task` makes the same task of them.

    Args:
        task: The task. Paths of its rows become absolute, since the result may be written anywhere.
    """

    def rows(data: TestData) -> dict[str, Any]:
        document = {k: v for k, v in dataclasses.asdict(data).items() if v != getattr(TestData(), k)}
        if data.file and task.source:
            document["file"] = str((Path(task.source).parent / Path(data.file).expanduser()).resolve())
        return document

    document = dataclasses.asdict(task)
    for key in ("fields", "labels"):
        document[key] = [dict(part) for part in document[key]]
    for label in document["labels"]:
        label["hints"] = list(label["hints"])
    document["demos"] = [{**demo.fields, task.target.name: demo.target} for demo in task.demos]
    document["hints"] = {kind: list(values) for kind, values in document["hints"].items()}
    document["checks"] = [{check.name: dict(check.params)} for check in task.checks]
    document["metrics"] = list(task.metrics)
    document |= {key: rows(data) for key, data in (("test", task.test), ("validation", task.validation))}
    return {key: value for key, value in document.items() if key != "source" and value not in ([], {})}
