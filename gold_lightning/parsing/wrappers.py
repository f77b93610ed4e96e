"""Removes wrappers that enclose a whole text: a short prefix that names it, brackets, tags, LaTeX, code."""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

from gold_lightning.parsing.framing import has_turn
from gold_lightning.parsing.notations import name_pattern
from gold_lightning.parsing.text_names import SENTENCE_START, name_end

__all__ = ["as_json", "unwrapped", "without_prefix"]

_LONGEST_LITERAL = 20_000  # characters
_LONGEST_PREFIX = 60
_TAG = re.compile(r"<([A-Za-z][\w.-]{0,30})(?: [^<>]{0,80})?>\s*")
_LATEX = re.compile(r"(?:\\[\[(]\s*|\${0,2}\s*)\\([A-Za-z]{2,12})\*?\{")
_CALL = re.compile(r"[A-Za-z_][\w.]{0,30}(?:\((?=[\"'\[{])|[ \t]?=[ \t]?(?=[\"'\[{]))")
_BARE_MEMBER = r"[{{](?P<before>[^{{}}\n]*?)\b(?:{name})\s*[:=]\s*(?![\"'\[{{])(?P<text>.+?)[ \t]*[}}]"

# Words that can accompany a name in a prefix. None of them says anything about the world.
_BESIDE = (
    r"(?:the|an?|my|your|our|his|her|new|final|first|next|last|another|one|own|generated|created|written|real|realistic"
    r"|possible|potential|suitable|appropriate|plausible|fictional|unique|short|single|example|sample|suggested"
    r"|proposed|requested|revised|improved|actual|full|main|here|is|are|reads|read|says|could|would|might|can|be|goes"
    r"|as|follows|like|this|this's|so|thus|then|therefore|for|with|about|in|on|of|from|by|to|and|labell?ed|category"
    r"|class|label|no|number|#?\d{1,3}|text|content|body|version|draft|option|output|response|answer|result|line"
    r"|customer(?:['’]?s)?|user(?:['’]?s)?|client(?:['’]?s)?|i(?:['’]d| would) (?:write|say)|simply|just)"
)
# Nouns for a text, in English and other languages.
_NOUNS = (
    r"(?:message|msg|text|question|query|review|comment|inquiry|enquiry|complaint|ticket|utterance|sentence|statement"
    r"|sample|example|output|response|answer|result|final|e-?mail|nachricht|kundennachricht|satz|bewertung|frage|antwort"
    r"|rezension|beispiel|texte|phrase|avis|exemple|réponse|mensaje|texto|pregunta|reseña|ejemplo|respuesta|mensagem"
    r"|pergunta|avaliação|exemplo|resposta|messaggio|testo|domanda|recensione|esempio|risposta|bericht|vraag|сообщение"
    r"|текст|вопрос|отзыв|пример|ответ|消息|留言|信息|文本|问题|评论|示例|样本|回答|メッセージ|テキスト|質問|レビュー|例文|例|回答)"
)
_ROLES = (
    r"(?:assistant|users?|customers?|clients?|human|person|speaker|sender|agent|shopper|buyer|caller|guest|patient"
    r"|member|visitor|writer|author|reviewer|tenant|student|employee|operator|representative|support|passenger"
    r"|subscriber|traveler|traveller|consumer|viewer|reader|owner|seller|host|kunde|kundin|nutzer|cliente|client"
    r"|utilisateur|usuario|utente|usuário|klant|клиент|пользователь|客户|顾客|用户|お客様|ユーザー)"
)
_SIGN = r"(?P<sign>[:：﹕](?!//)=?|[=-]>|=|→|[ \t](?:--|[-–—])(?=[ \t]))"


@functools.lru_cache(maxsize=256)
def _prefix(names: tuple[str, ...], labels: tuple[str, ...]) -> re.Pattern[str]:
    known = rf"(?:{name_pattern(names)}|{'|'.join(map(re.escape, labels)) or '(?!)'})(?:'s)?"
    gap = r"[ \t*_`(\[\]),]{1,4}"
    beside = rf"(?:{_BESIDE}{gap}){{0,6}}?"
    behind = rf"(?:{gap}(?:{_BESIDE}|{known}|{_NOUNS}|\d{{1,3}})){{0,5}}?"
    verb = r"(?:[ \t](?:says|said|writes|asks|wrote))?"
    return re.compile(
        rf"\s*+[>#*_`\[(]{{0,4}}[ \t]?(?:{beside}(?:{known}|{_NOUNS}){behind}"
        rf"|(?:(?:an?|the|angry|new)[ \t])?{_ROLES}(?:[ \t]#?\d{{1,2}}|[ \t]\([^()\n]{{1,30}}\))?{verb}"
        rf"|let(?:'s|’s| us| me) (?:go with|write|say)"
        rf"|i(?:'d|’d| would|'ll|’ll| will) (?:write|say|go with)(?: this)?)"
        rf"[*_`\])]{{0,4}}[ \t\u00a0\u202f]?{_SIGN}[*_`]{{0,3}}[ \t]*(?:\n\s*)?{SENTENCE_START}",
        re.IGNORECASE,
    )


@functools.lru_cache(maxsize=256)
def _name_with_stop(name: str) -> re.Pattern[str]:
    """Matches a name with a full stop before a new sentence: ``message. Where is my parcel?``."""
    return re.compile(
        rf"\s*+[*_#>]{{0,4}}(?:{name_pattern([name])})[*_]{{0,3}}\.[*_]{{0,3}}[ \t]+{SENTENCE_START}", re.IGNORECASE
    )


def without_prefix(
    text: str,
    names: Sequence[str],
    labels: Sequence[str] = (),
    *,
    demos: Sequence[str] = (),
    name: str = "",
    vocabulary: Collection[str] = (),
) -> str:
    """Removes prefixes that only name a text: ``My message: ..``, ``billing - ..``, ``Buyer: ..``.

    A prefix consists of a name, the label, a noun for a text or a role, and words such as articles. A new sentence must
    follow it.

    Args:
        text: The text.
        names: Names of all lines of a sample.
        labels: Labels that the prompt mentions.
        demos: Texts of the demos. If any has such a prefix, the prefix is part of the text.
        name: Name of the text's own line; the last one by default.
        vocabulary: Stems of the words of the task's description, as :func:`~.text_names.stems` returns them.
    """
    form = _prefix(tuple(names), tuple(labels))
    name = name or (names[-1] if names else "")
    if (end := name_end(text, name, vocabulary)) and not any(name_end(demo, name, vocabulary) for demo in demos):
        text = text[end:]
    stop_form = _name_with_stop(name)
    if (match := stop_form.match(text)) and not any(stop_form.match(demo) for demo in demos):
        text = text[match.end() :]
    for _ in range(2):
        prefix = form.match(text[: 2 * _LONGEST_PREFIX])
        if prefix is None or prefix.end() > _LONGEST_PREFIX or any(form.match(demo) for demo in demos):
            return text
        # Sentences contain dashes too, so a prefix has at most three words before a dash.
        if prefix["sign"].strip() in ("-", "–", "—", "--") and len(prefix[0].split()) > 4:
            return text
        if has_turn(text[prefix.end() :]):
            return text
        text = text[prefix.end() :]
    return text


def unwrapped(text: str, names: Sequence[str] = (), labels: Sequence[str] = (), *, demos: Sequence[str] = ()) -> str:
    """Removes tags, LaTeX commands, lists and calls that enclose a whole text.

    Args:
        text: The text.
        names: Names of all lines of a sample.
        labels: Labels that the prompt mentions. Next to a single text in a list they only name it.
        demos: Texts of the demos. Wrappers around any of them are part of the text.
    """

    def unwrap(value: str) -> str | None:
        for form in (_inside_tag, _inside_latex):
            inner = form(value)
            if inner is not None and all(form(demo.strip()) is None for demo in demos):
                return inner
        demos_are_literals = any(demo.lstrip().startswith(("[", "{", "(")) for demo in demos)
        return None if demos_are_literals else _inside_literal(value, names, labels)

    bare = text.strip()
    for _ in range(4):
        inner = unwrap(bare)
        if inner is None or not inner.strip():
            return text
        text = bare = inner.strip()
    return text


def as_json(text: str) -> str:
    """Converts a Python mapping, ``{'message': '..'}``, to JSON. Other texts stay unchanged."""
    bare = text.strip()
    if not (bare.startswith("{") and bare.endswith("}")) or len(bare) > _LONGEST_LITERAL:
        return text
    try:
        json.loads(bare)
        return text
    except (ValueError, RecursionError):  # not JSON
        value = _literal(bare)
    if not isinstance(value, dict):
        return text
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):  # keys or values that JSON cannot represent
        return text


def _inside_tag(text: str) -> str | None:
    tag = _TAG.match(text)
    if tag is None:
        return None
    closing = re.search(rf"</{re.escape(tag[1])}\s{{0,3}}>\Z", text[-40:])
    inner = text[tag.end() : len(text) - len(text[-40:]) + closing.start()] if closing else None
    return None if inner is None or f"<{tag[1]}" in inner else inner


def _inside_latex(text: str) -> str | None:
    """Returns the argument of a LaTeX command, with or without formula delimiters around it."""
    begin = _LATEX.match(text)
    end = re.search(r"\}\s*(?:\$\$?|\\[\])])?\s*\Z", text[-8:])
    if begin is None or end is None:
        return None
    inner = text[begin.end() : len(text) - len(text[-8:]) + end.start()]
    depth = 0
    for mark in re.finditer(r"(?<!\\)[{}]", inner):
        depth += 1 if mark[0] == "{" else -1
        if depth < 0:
            return None
    return re.sub(r"\\([%$&#_{} ])", r"\1", inner)


def _inside_literal(text: str, names: Sequence[str], labels: Sequence[str]) -> str | None:
    """Returns the only text in a Python or JSON literal, or in a call or assignment of one."""
    if len(text) > _LONGEST_LITERAL:
        return None
    if call := _CALL.match(text):
        text = text[call.end() :]
        if call[0].endswith("("):
            if not text.endswith(")"):
                return None
            text = text[:-1]
        if text[:1] not in "[{":
            text = f"({text})"
    if not text.startswith(("[", "(", "{")) or not text.endswith(("]", ")", "}")):
        return None
    value = _literal(text.replace("“", '"').replace("”", '"') if '"' not in text else text)
    if value is None and len(names) == 2 and text.startswith("{"):
        member = re.fullmatch(_BARE_MEMBER.format(name=name_pattern(names[-1:])), text, re.IGNORECASE)
        if member is None or (names[0] in member["before"] and not any(label in member["before"] for label in labels)):
            return None
        return member["text"]
    return _only_text(value, names, labels)


def _literal(text: str) -> Any:
    loaders: tuple[Callable[[str], Any], ...] = (json.loads, ast.literal_eval)
    for load in loaders:
        try:
            return load(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return None


def _only_text(value: Any, names: Sequence[str], labels: Sequence[str]) -> str | None:
    """Returns the only text in a list or mapping, apart from labels and names; ``None`` if there is not exactly one."""
    for _ in range(3):
        if isinstance(value, dict):
            known = {name.casefold() for name in (*names, *labels)}
            if not value or any(str(key).casefold() not in known for key in value):
                return None
            value = list(value.values())
        if isinstance(value, list | tuple):
            marks = {word.casefold() for word in (*names, *labels)}
            value = [part for part in value if not (isinstance(part, str) and part.casefold() in marks)]
            if len(value) != 1:
                return None
            value = value[0]
    return value if isinstance(value, str) else None
