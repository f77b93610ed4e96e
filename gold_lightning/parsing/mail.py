"""Headers of e-mails and forms above a text: ``Subject: ..``, ``From: ..``, in many languages."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["without_form", "without_mail_headers"]

_SUBJECT = (
    r"(?:(?:e-?mail )?subject(?: line)?|title|betreff|objet|sujet|asunto|oggetto|assunto|onderwerp|temat|тема|emne|ämne"
    r"|aihe|předmět|predmet|tárgy|subiect|konu|θέμα|主题|主旨|标题|件名|題名|제목"
    r"|الموضوع|موضوع|विषय|chủ đề|tiêu đề|נושא)"
)
_OTHER = (
    r"(?:from|to|cc|bcc|date|sent|reply-to|message-id|priority|importance|attachments?|von|an|kopie|datum|gesendet|de"
    r"|à|cci|envoyé|para|fecha|enviado|da|data|inviato|aan|van|verzonden|od|do|wysłano|от|кому|дата|från|till|fra"
    r"|til|dato|lähettäjä|vastaanottaja|kimden|kime|tarih|από|προς|发件人|收件人|抄送|日期|差出人|宛先|日付|보낸 사람"
    r"|받는 사람|날짜|من|إلى|التاريخ)"
)
_MARKS = r"[*_#> \t]{0,6}"
_COLON = r"[ \t\u00a0\u202f]?[:：]"


def _header(name: str) -> str:
    # A short value: a header is not a paragraph of the text.
    return rf"{_MARKS}(?:{name})[*_]{{0,2}}(?:{_COLON}|[ \t][-–](?=[ \t]))[*_]{{0,2}}[^\n]{{0,160}}"


_RULE = r"[ \t]*(?:-{3,}|={3,})[ \t]*"
_END = r"[ \t\r]*\n"
_LETTERHEAD = rf"(?:\s*+(?:{_RULE}{_END})?(?:e-?mail{_COLON}[ \t]*(?:{_END})?)?\s*+)"
_HEADERS = re.compile(
    rf"{_LETTERHEAD}(?:"
    # With a subject, among other lines or alone,
    rf"(?:{_header(_OTHER)}{_END})*{_header(_SUBJECT)}{_END}(?:{_header(_OTHER)}{_END})*"
    # a reply's subject,
    rf"|re:[^\n]{{1,80}}{_END}(?=[ \t\r]*\n)"
    # or several others, or one above an empty line.
    rf"|(?:{_header(_OTHER)}{_END}){{2,}}|{_header(_OTHER)}{_END}(?=[ \t\r]*\n)"
    rf")(?:{_RULE}{_END})?\s*(?=\S)",
    re.IGNORECASE,
)
_BODY = re.compile(
    rf"[*_#]{{0,3}}(?:(?:e-?mail )?body|message|text|content|nachricht|corps|cuerpo|mensaje|corpo|testo|正文|本文"
    rf"|본문){_COLON}[*_]{{0,2}}\s*(?=\S)",
    re.IGNORECASE,
)


def without_mail_headers(text: str, demos: Sequence[str] = ()) -> str:
    """Removes the headers of an e-mail from above its text.

    Args:
        text: The text, with its line breaks.
        demos: Texts of the demos. If one has headers, they are a part of the text.
    """
    headers = _HEADERS.match(text[:2000])
    if headers is None or any(_HEADERS.match(demo) for demo in demos):
        return text
    rest = text[headers.end() :]
    body = _BODY.match(rest)
    return rest[body.end() :] if body else rest


# Lines of a form above an empty line. The words of keys do not matter: texts of one line have no such lines.
_FORM_LINE = r"[*_#> \t-]{0,6}[^\W\d_][^\n:：.!?]{0,30}[*_]{0,2}[:：][*_]{0,2}[ \t]*[^\n]{1,60}\n"
_FORM = re.compile(rf"\s*+(?:{_FORM_LINE}){{2,8}}[ \t\r]*\n\s*(?=\S)")


def without_form(text: str, demos: Sequence[str] = ()) -> str:
    """Removes two or more lines ``key: value`` and the empty line below them from above a text.

    Args:
        text: The text, with its line breaks.
        demos: Texts of the demos. If one has line breaks, the lines may be a part of the text.
    """
    form = _FORM.match(text[:2000])
    return text if form is None or any("\n" in demo for demo in demos) else text[form.end() :]
