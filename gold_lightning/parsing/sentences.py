"""Ends of sentences in all scripts, and texts cut at their last whole sentence.

The rules are those of Unicode's text segmentation (UAX #29, sentence boundaries), made careful: a full stop that may
belong to an abbreviation, an initial, an ordinal or a decimal ends no sentence. Text is cut at the places found, and a
sentence too many does less harm than half a sentence.
"""

from __future__ import annotations

import regex

__all__ = ["count_sentences", "cut_to_sentences", "sentence_ends"]

# "…" is not a sentence terminal in Unicode. Greek writes its question mark as a semicolon.
_TERMINAL = r"(?:[\p{Sentence_Terminal}…]|(?<=\p{Greek})[;\u037e])"
_CLOSING = r"""(?:["'“”’»›」』】）〉》\)\]*_]|[ \u00a0\u202f]»)"""
_END = regex.compile(
    rf"(?P<mark>{_TERMINAL}+){_CLOSING}*(?=(?P<gap>[\s\u200b]?)(?P<next>[\W_]{{0,16}}.?))",
    regex.DOTALL,
)
_STOPS = ".․﹒．…"  # can occur within a sentence; other terminals only if lower case follows
_OPENING = " \"'“”„«»‘’‚‹›([{¿¡*_\u00a0\u202f"
_UNSPACED = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Myanmar}\p{Khmer}\p{Thai}\p{Lao}\u3000-\u303f\uff00-\uffef]"
)
_LAST_WORD = regex.compile(r"[\p{L}\p{M}\p{N}.'’-]*\Z")
_INNER_STOP = regex.compile(r"\p{L}\.\p{L}|\A\p{L}{1,4}\.\p{L}")
_INITIAL = regex.compile(r"[\p{Lu}\p{Ll}\p{Lt}]\p{M}*\Z")
_ORDINAL = regex.compile(r"(?<![^\s(])(?:\p{Nd}{1,2}|[IVXLC]{1,6})\Z")
_ABBREVIATIONS = frozenset(
    # English
    "mr mrs ms dr prof st sr jr rev gen col lt sgt capt cmdr gov sen rep hon supt messrs vs etc al ed eds dept univ inc"
    " ltd corp bros approx appt apt ave blvd rd hwy mt cf ca viz jan feb jun jul aug sept oct nov tues thu thur thurs"
    # German
    " hr fr bzw usw evtl ggf inkl exkl zzgl bd bspw str dipl geb gest jh mio mrd od sog vgl allg bes betr bez dgl ehem"
    # French
    " mme mlle mgr cie av bd éd janv févr juill réf"
    # Spanish and Portuguese
    " sra srta dra ud uds ee uu avda lic arq adm aprox teléf"
    # Italian
    " sig sigg dott dottssa avv geom rag ecc spett egr gent"
    # Dutch
    " dhr mevr drs jhr bijv enz evt zgn zog"
    # Polish, Russian, Nordic languages, Turkish
    " np ul itd itp tzn tzw zob dyr inż płk ул руб тыс млн млрд проф акад обл корп osv tlf esim şti".split()
)
_BEFORE_NUMBERS = frozenset(  # abbreviations that are also words
    "no nos nr art pp fig figs eq vol vols ch sec est ext max min mon mar apr sep dec wed fri sat sun abs kap pag pág"
    " págs núm chap стр гл рис табл tel tél тел co".split()
)


def sentence_ends(text: str, *, whole: bool = True) -> list[int]:
    """Returns the end positions of a text's sentences in order, without a last sentence that has no end mark.

    Args:
        text: The text.
        whole: Whether the text's own end is the writer's. If not, a full stop there may belong to an abbreviation or
            to a decimal, of which the rest is missing.

    >>> text = "Mr. Ng paid 3.50 euros. Why? 他说好。再见。"
    >>> text[: sentence_ends(text)[0]], len(sentence_ends(text))
    ('Mr. Ng paid 3.50 euros.', 4)
    """
    last = len(text.rstrip()) if whole else len(text) + 1
    return [match.end() for match in _END.finditer(text) if match.end() >= last or _ends_sentence(text, match)]


def _ends_sentence(text: str, match: regex.Match[str]) -> bool:
    mark, behind = match["mark"], match["next"].lstrip(_OPENING)
    if behind[:1].islower() or behind[:1] in (*",;:",):
        return False
    spaced = bool(match["gap"]) or match.end() == len(text)
    if not spaced and not (_UNSPACED.match(mark[-1]) or _UNSPACED.match(behind)):
        return False  # example.org, 3.5
    if mark not in _STOPS or mark == "…":
        return True
    last_word = _LAST_WORD.search(text, max(0, match.start() - 40), match.start())
    word = last_word[0].casefold() if last_word else ""
    if word in _ABBREVIATIONS or _INITIAL.fullmatch(word) or _INNER_STOP.search(word):
        return False
    if word in _BEFORE_NUMBERS:
        return not behind[:1].isdigit()
    ordinal = _ORDINAL.search(text, max(0, match.start() - 8), match.start())
    return not (ordinal and (not behind or behind[0].isalpha()))


def count_sentences(text: str) -> int:
    """Returns the number of sentences, a last one without a mark at its end included."""
    ends = sentence_ends(text)
    return len(ends) + bool(text[ends[-1] if ends else 0 :].strip())


def cut_to_sentences(text: str, max_chars: int, max_sentences: int | None = None, *, whole: bool = True) -> str:
    """Cuts a text at the end of its last sentence within the limits. "" if there is none.

    Text is not cut within quotes or brackets.

    Args:
        text: The text.
        max_chars: Most characters.
        max_sentences: Most sentences; any number by default.
        whole: Whether the text's own end is the writer's, as for :func:`sentence_ends`.

    >>> cut_to_sentences("It rained all day. We stayed in and", 100, whole=False)
    'It rained all day.'
    """
    for end in reversed(sentence_ends(text, whole=whole)[:max_sentences]):
        if end <= max_chars and _is_balanced(text[:end]):
            return text[:end]
    return ""


def _is_balanced(text: str) -> bool:
    pairs = ("()", "[]", "{}", "（）", "「」", "『』", "《》", "【】")
    if any(text.count(pair[0]) != text.count(pair[1]) for pair in pairs):
        return False
    # German opens with a mark that English closes with, so curly quotes are counted together, and so are guillemets.
    return all(sum(map(text.count, marks)) % 2 == 0 for marks in ('"', "“”„‟", "«»"))
