"""Removes invisible characters from a text and detects characters that replace lost ones."""

from __future__ import annotations

import re

__all__ = ["clean_characters"]

# Escape sequences of terminals, whole: colours (CSI), titles (OSC) and character sets.
_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[()][0-9AB]")
_SPACES = re.compile("[\x0b\x0c\x1c-\x1f\x85]")
_LOST = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffd\ufffe\uffff]"
    "|<unk>|\\[UNK\\]| \u2047 |<0x[0-9A-F]{2}>"  # what tokenizers write for a character that they lack
)
_UNSEEN = "\u200b\u200c\u200d\u2060\ufeff"


def clean_characters(text: str) -> tuple[str, bool]:
    """Returns a text without invisible characters, and whether the text is damaged.

    Removes escape sequences, byte order marks, and zero-width characters at the ends; replaces separators of C0 and C1
    by a space. A text is damaged if it contains a substitute for a lost character: U+FFFD, half a surrogate pair, a
    noncharacter, another control character (some models write a zero byte in place of an accented letter), or a
    tokenizer's mark for an unknown character, such as ``<unk>``.
    """
    seen = _SPACES.sub(" ", _ESCAPE.sub("", text)).replace("\ufeff", "").strip(_UNSEEN)
    return (text if seen == text else seen.strip()), bool(_LOST.search(seen))
