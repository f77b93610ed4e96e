"""Drafts the parts of a task in order, each with a bounded number of tries."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gold_lightning.drafting.asking import Asker
from gold_lightning.drafting.demos import draft_demos
from gold_lightning.drafting.document import BLANK, Draft
from gold_lightning.drafting.hints import draft_hints
from gold_lightning.drafting.lengths import lengths
from gold_lightning.drafting.lines import Line, Rule, identifier, is_list, items, phrase
from gold_lightning.drafting.real_texts import RealTexts, read_real_texts, shown
from gold_lightning.errors import ConfigError
from gold_lightning.generators import EmbeddedGenerator, Generator
from gold_lightning.parsing.words import words
from gold_lightning.task import Label, Task

__all__ = ["Drafter", "draft_task"]

_LONGEST = 2000  # characters that a drafted text may have
_STAND_IN = "A text that stands for demo number {}, until there is one."


def draft_task(
    sentence: str,
    *,
    labels: Sequence[str] | None = None,
    fields: Sequence[str] | None = None,
    texts: str | None = None,
    generator: Generator | None = None,
    tries: int = 3,
    seed: int = 1,
) -> Task:
    """Drafts a task from one sentence: fields, labels and their meanings, hints and demos.

    The draft is as good as the generator: read it before a student learns it. ``gold-lightning tasks new`` writes the
    same draft as a file with comments.

    Args:
        sentence: The task in one sentence.
        labels: Names of the labels; an empty list for a task that writes text, ``None`` to let the generator choose.
        fields: Names of the input texts, or columns of ``texts``; ``None`` to let the generator choose.
        texts: A file with real texts, from which lengths and subjects are taken.
        generator: The engine; an :class:`~gold_lightning.generators.EmbeddedGenerator` by default.
        tries: How often a part is asked for before it stays blank.
        seed: Seed of all requests.

    Raises:
        ConfigError: An argument is wrong.
        GoldError: The generator gave nothing usable for a part.

    Example:
        >>> import gold_lightning as gl
        >>> def reply(request):
        ...     asked = request.answer_prefix.splitlines()
        ...     answers = {"content:": " one message of a customer", "purpose:": " the desk that answers it"}
        ...     if asked[-1] == "meaning:":
        ...         return f" it is about {asked[-2].removeprefix('label: ')} and nothing else"
        ...     if asked[-1] == "subjects:":
        ...         return " a late parcel, a double charge, a voucher, a wrong size"
        ...     return answers.get(asked[-1], f" My {request.suffix[-15:-1]} gives me trouble, number {request.seed}.")
        >>> task = gl.draft_task(
        ...     "Say which desk answers a message.", labels=["payment", "delivery"], fields=["message"],
        ...     generator=gl.ScriptedGenerator(reply),
        ... )
        >>> task.label("payment").meaning, len(task.demos)
        ('it is about payment and nothing else', 4)
    """
    real = read_real_texts(texts, fields or ()) if texts else None
    return (
        Drafter(generator or EmbeddedGenerator(), tries=tries, seed=seed)
        .draft(sentence, labels=labels, fields=fields, real=real)
        .task
    )


class Drafter(Asker):
    """Drafts the parts of a task in order."""

    def draft(
        self,
        sentence: str,
        *,
        labels: Sequence[str] | None = None,
        fields: Sequence[str] | None = None,
        real: RealTexts | None = None,
        name: str = "",
    ) -> Draft:
        """Drafts a whole task.

        Args:
            sentence: The task in one sentence.
            labels: Names of the labels; an empty list for a task without labels, ``None`` to ask for them.
            fields: Names of the input texts; ``None`` to ask for them.
            real: Real texts.
            name: Name of the task; made of the sentence by default.

        Raises:
            ConfigError: The sentence is empty, or a name is no name of a field or label.
        """
        sentence = " ".join(sentence.split())
        if len(words(sentence)) < 2:
            raise ConfigError("the task", sentence, "one sentence that says what a student is to learn")
        if labels is not None:
            _check_labels(labels)
        names = self._inputs(sentence, fields, real)
        if real and real.nameless:
            real = real.named(names[0])
        contents = self._contents(sentence, names, real)
        target = self._target(sentence, names, labels)
        labels = self._labels(sentence, target["name"], real) if labels is None else list(labels)
        target["description"] = self._purpose(sentence, target["name"])
        meanings = self._meanings(sentence, labels, real)
        document: dict[str, Any] = {
            "name": name or task_name(sentence),
            "description": sentence,
            "fields": [{"name": n, "description": c} for n, c in zip(names, contents, strict=True)],
            "target": target,
        }
        if labels:
            document["labels"] = [{"name": n, "meaning": m} for n, m in zip(labels, meanings, strict=True)]
        task = _provisional(document)
        self._hints(document, sentence, task, real)
        demos, checked = draft_demos(self, document, task, real)
        document["demos"] = demos
        if not labels:
            document["hints"] = document.pop("hints", {"topics": []}) | {"perspectives": [], "styles": []}
        else:
            document["hints"] = {"perspectives": [], "styles": []}
        document |= lengths(document, real, self.notes)
        if labels:
            document["metrics"] = ["accuracy", "macro_f1"]
        if real and any(column not in ("", field) for field, column in real.columns.items()):
            document["test"] = {"columns": {f: c for f, c in real.columns.items() if c not in ("", f)}}
        self._note(document, real)
        return Draft(document, self.parts, self.notes, self._head(sentence, real, checked))

    # Parts

    def _inputs(self, sentence: str, fields: Sequence[str] | None, real: RealTexts | None) -> list[str]:
        if real and (fields or not real.nameless):
            return list(real.columns)
        if fields:
            for name in fields:
                if not name.isidentifier():
                    raise ConfigError("--fields", name, "names of letters, digits and _, no digit first")
            return list(fields)

        def rule(text: str) -> str:
            names = items(text)
            if not 1 <= len(names) <= (1 if real else 3):
                return "too_many"
            return "" if all(identifier(item) for item in names) else "not_a_name"

        (text,) = self.ask([Line("fields[0].name", "inputs", {"task": sentence}, [rule])])
        if text is None:
            self.notes["fields[0].name"] = "the generator named no text of its own; another name is as good"
        return [identifier(item) for item in items(text)] if text else ["text"]

    def _contents(self, sentence: str, names: Sequence[str], real: RealTexts | None) -> list[str | None]:
        rules = [phrase(sentence, 2, 30)]
        lines = [
            Line(
                f"fields[{i}].description",
                "content",
                {"task": sentence, "input": name},
                [*rules, _other_than([name])],
                shown(real, self.seed, name),
            )
            for i, name in enumerate(names)
        ]
        return self.ask(lines)

    def _target(self, sentence: str, names: Sequence[str], labels: Sequence[str] | None) -> dict[str, Any]:
        taken = [*names, *(labels or ())]

        def rule(text: str) -> str:
            if not identifier(text):
                return "not_a_name"
            return "duplicate" if identifier(text) in [name.casefold() for name in taken] else ""

        line = Line("target.name", "output", {"task": sentence, "inputs": ", ".join(names)}, [rule])
        (text,) = self.ask([line])
        if text is None:
            self.notes["target.name"] = "the generator named no output of its own; another name is as good"
        free = "label" if "label" not in names else "answer"
        return {"name": identifier(text) if text else free, "description": None}

    def _labels(self, sentence: str, output: str, real: RealTexts | None) -> list[Any]:
        def rule(text: str) -> str:
            return "" if text.casefold().strip(".") == "none" else is_list(2, 20, 4)(text)

        line = Line("labels", "labels", {"task": sentence, "output": output}, [rule], shown(real, self.seed))
        (text,) = self.ask([line])
        if text is None:
            self.notes["labels"] = "name at least two, or take them all out for a task that writes text"
            return [None, None]
        if text.casefold().strip(".") != "none":
            return items(text)
        self.notes["target.name"] = "LOOK: a text, since the generator named no labels; --labels a,b,c names some"
        return []

    def _purpose(self, sentence: str, output: str) -> str | None:
        rules = [phrase(sentence, 2, 30), _other_than([output])]
        return self.ask([Line("target.description", "purpose", {"task": sentence, "output": output}, rules)])[0]

    def _meanings(self, sentence: str, labels: Sequence[Any], real: RealTexts | None) -> list[str | None]:
        if None in labels:
            return [None] * len(labels)
        context = {"task": sentence, "labels": ", ".join(labels)}
        lines = [
            Line(
                f"labels[{i}].meaning",
                "meaning",
                context | {"label": label},
                [phrase(sentence, 2, 40), _other_than(labels)],
                shown(real, self.seed),
            )
            for i, label in enumerate(labels)
        ]
        return self.ask(lines, distinct=True)

    def _hints(self, document: dict[str, Any], sentence: str, task: Task, real: RealTexts | None) -> None:
        named = [label["name"] for label in document.get("labels", ())]
        if None in named:
            return
        hints = draft_hints(self, sentence, task, named or [""], real)
        if not named:
            document["hints"] = {"topics": hints.get("", [])}
        for i, name in enumerate(named):
            document["labels"][i]["hints"] = hints.get(name, [])

    # Demos

    def _note(self, document: Mapping[str, Any], real: RealTexts | None) -> None:
        self.notes["description"] = "your sentence; every prompt begins with it"
        self.notes["demos"] = "LOOK: is each text one that you would meet, and its label right? Your own are better"
        if real:
            self.notes["demos"] += "; none is a copy of your texts"
        self.notes.setdefault("hints", "points of view and manners of writing; name some if samples are too much alike")
        for i, label in enumerate(document.get("labels", ())):
            if label.get("hints") == []:
                self.notes[f"labels[{i}].hints"] = "subjects of this label make samples differ; optional"
        if document["hints"].get("topics") == []:
            self.notes["hints.topics"] = "subjects make samples differ; optional"

    def _head(self, sentence: str, real: RealTexts | None, checked: str) -> list[str]:
        counts = Draft({}, self.parts).counts
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
        lines = [
            f"Drafted by {type(self.generator).__name__} from one sentence ({outcomes}).",
            "Read every line: a student learns what stands here.",
            f"{BLANK} marks what is missing, LOOK what is doubtful. `tasks check FILE` says whether the file is right.",
        ]
        lines += [f"Lengths and manner come from {real.sentence()}."] if real else []
        return lines + ([checked] if checked else [])


def task_name(sentence: str) -> str:
    """Returns a name made of the first words of a sentence.

    >>> task_name("Say which desk of a shop answers a customer's message.")
    'say_which_desk_of_a_shop'
    """
    name = ""
    for word in re.findall(r"\w+", sentence.lower()):
        if name and len(name) + len(word) > 24:
            break
        name += f"_{word}" if name else word
    while re.search(r"_\w{1,2}$", name):  # an article without its noun
        name = name.rpartition("_")[0]
    name = name[:40]
    return name if name.isidentifier() else "task"


def _provisional(document: Mapping[str, Any]) -> Task:
    """The task so far, with stand-ins for what is missing, for prompts and checks."""
    fields = [
        {
            "name": f["name"],
            "description": f["description"] or f"the {f['name']}",
            "min_chars": 6,
            "max_chars": _LONGEST,
        }
        for f in document["fields"]
    ]
    target = document["target"]
    labels = [label["name"] for label in document.get("labels", ()) if label["name"]]
    texts = {f["name"]: _STAND_IN for f in fields}
    demos = [
        {**{name: text.format(i) for name, text in texts.items()}, target["name"]: label}
        for i, label in enumerate(labels or ["An answer."])
    ]
    values = {
        "name": document["name"],
        "description": document["description"],
        "fields": fields,
        "target": {"name": target["name"], "description": target["description"] or f"the {target['name']}"},
        "labels": [{"name": x["name"], "meaning": x["meaning"] or ""} for x in document.get("labels", ()) if x["name"]],
        "demos": demos,
        "max_sample_tokens": 128,
    }
    return Task.from_document(Task.fill_in(values))


def _check_labels(labels: Sequence[str]) -> None:
    for name in labels:
        try:
            Label(name=name, meaning="")
        except ConfigError as e:
            raise ConfigError("--labels", name, e.allowed, e.hint) from None
    if len(labels) == 1 or len({name.casefold() for name in labels}) < len(labels):
        raise ConfigError("--labels", ", ".join(labels), "two or more different labels, or none")


def _other_than(names: Sequence[str]) -> Rule:
    """The rule of a phrase that says more than names do."""
    known = [words(name) for name in names]
    return lambda text: "repeats_name" if words(text) in known else ""
