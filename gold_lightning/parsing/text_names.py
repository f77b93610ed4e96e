"""Finds a short prefix that only names a text, in any language: ``Message du client : ..``, ``Note clinique : ..``.

A colon alone proves nothing ("Fazit: Wir kommen wieder."). A prefix names a text if its words do: a noun for a text
with its writer or its contents, or words of the task's own description around the name of the field.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Collection, Iterable

__all__ = ["SENTENCE_START", "name_end", "stems"]

_LONGEST = 60  # characters of a prefix
_MOST_WORDS = 6
_STEM = 5  # letters that related words of several languages share: clinical, clinique
_FEWEST_WORDS = 4  # of the sentence after a prefix of which only the person is known

SENTENCE_START = r"(?=[*_`\"“‘«'「¿¡(]{0,3}(?-i:[^\W\d_a-zà-þ]))"
"""Pattern of the beginning of a sentence, in patterns that ignore case."""

# Nouns for a text as such. Whatever they are of, they name one: "Texte du ticket", "Inhalt der Mail".
_TEXT = (
    r"(?:texte?|testo|texto|tekst|текст|inhalt|wortlaut|contenu|contenido|contenuto|conteúdo|inhoud|treść|содержание"
    r"|内容|文本|本文|内容文|내용|본문|텍스트)"
)
# Nouns for texts that people write. They name one if a person or another such noun follows.
_WRITING = (
    r"(?:message|nachricht|mensaje|messaggio|mensagem|bericht|boodschap|besked|melding|meddelande|viesti|wiadomość"
    r"|wiadomości|zpráva|správa|üzenet|mesaj[ıi]?|сообщение|повідомлення|μήνυμα|رسالة|نص|پیام|संदेश|पाठ|ข้อความ|tin nhắn"
    r"|pesan|הודעה|消息|信息|留言|メッセージ|文章|메시지|글"
    r"|e-?mail|courriel|correo|anfrage|frage|beschwerde|bewertung|rezension|kommentar|anliegen|schreiben|demande|question"
    r"|requête|réclamation|plainte|avis|commentaire|consulta|solicitud|pregunta|queja|reclamo|reseña|comentario|richiesta"
    r"|domanda|recensione|commento|segnalazione|solicitação|pedido|pergunta|reclamação|avaliação|comentário|vraag|verzoek"
    r"|klacht|beoordeling|recensie|opmerking|pytanie|zapytanie|skarga|opinia|обращение|запрос|вопрос|жалоба|отзыв"
    r"|комментарий|咨询|问题|投诉|评价|评论|お?問い合わせ|質問|レビュー|口コミ|ご意見|문의|질문|리뷰|후기)"
)
_PERSON = (
    r"(?:client[ea]?s?|clientes?|kunden?s?|kundin|nutzers?|benutzers?|gast(?:es)?|utilisateur|usuario|usuário|utente"
    r"|gebruiker|klant(?:en)?|klienta?|klientki|zákazníka|ügyfél|asiakkaan|kundens|kundes?|müşteri(?:nin)?"
    r"|kullanıcı(?:nın)?|клиента|пользователя|покупателя|клієнта|πελάτη|العميل|الزبون|المستخدم|مشتری|ग्राहक"
    r"|उपयोगकर्ता|ลูกค้า|khách hàng|pelanggan|הלקוח|客户|顾客|用户|お客様|お客さま|顧客|ユーザー|고객|사용자)"
)
_LINK = (
    r"(?:de la|de el|del|della|dello|dell['’]|de|des|der|du|do|da|di|vom|von|van de|van een|van|af|от|của|का|की|से"
    r"|d['’]une?|de l['’]|d['’]|an?|un|une|une?|einer|eines|des|het|את|של|dari)"
)
_ARTICLE = r"(?:(?:le|la|l['’]|die|das|der|el|il|lo|o|a|het|de)[ \t]?)?"
_GAP = r"(?:[ \t]|(?<=['’]))"
_COLON = r"[*_)\]]{0,4}[ \t\u00a0\u202f]?[:：][*_]{0,3}\s*"
_BY_MEANING = re.compile(
    rf"\s*+[*_#>]{{0,4}}(?:{_ARTICLE}(?:"
    rf"(?:{_TEXT}|{_WRITING})(?:[ \t]{_LINK}){{0,2}}{_GAP}(?:{_PERSON}|{_WRITING}|{_TEXT})"
    rf"|{_PERSON}(?:[ \t]?(?:का|की|के|の|的|의))?[ \t]?{_WRITING}(?:{_TEXT})?"
    rf"|{_WRITING}(?:s|n|en|es)?-?(?:{_TEXT})){_COLON}(?=\S)"
    rf"|{_TEXT}[ \t]{_LINK}{_GAP}[^\W\d_]+(?:[ \t][^\W\d_]+){{0,2}}{_COLON}{SENTENCE_START})",
    re.IGNORECASE,
)
# Any noun of a person: "Signalement du client : ..". Forms also begin so ("Nom du client : Dupont").
_BY_PERSON = re.compile(
    rf"\s*+[*_#>]{{0,4}}{_ARTICLE}[^\W\d_]{{3,20}}[ \t]{_LINK}{_GAP}{_PERSON}{_COLON}{SENTENCE_START}", re.IGNORECASE
)
_BEFORE_COLON = re.compile(
    rf"\s*+[*_#>(\[]{{0,4}}(?P<words>[^\W\d_][^\n:：.!?。,;]{{1,{_LONGEST}}}?){_COLON}{SENTENCE_START}", re.IGNORECASE
)
_NOUN = re.compile(rf"(?:{_TEXT}|{_WRITING})s?", re.IGNORECASE)
# Words without a meaning of their own, and "new".
_FUNCTION_WORDS = frozenset(
    "the a an one my your our new next here is are reads says this for of from by to about with in and as follows"
    " der die das ein eine einen einer eines mein meine meiner neue neuer neues hier ist lautet dieser diese dieses für"
    " von vom über zu zum zur le la les l un une mon ma mes nouveau nouvelle nouvel voici est ce cette pour du de des d"
    " sur au aux el los las una uno mi mis nuevo nueva es este esta para por del sobre il lo gli i uno mio mia nuovo"
    " nuova ecco è questo questa per della dello di o os as um uma meu minha novo nova é esse essa do da dos das het"
    " een mijn nieuwe nieuw dit deze voor van över en et ett min mitt ny nytt det den for fra".split()
)


def stems(texts: Iterable[str]) -> frozenset[str]:
    """Returns the first letters of all words, without accents, by which related words are recognised."""
    return frozenset(map(_stem, re.findall(r"[^\W\d_]+", " ".join(texts))))


@functools.lru_cache(maxsize=4096)
def _stem(word: str) -> str:
    plain = unicodedata.normalize("NFKD", word.casefold())
    return "".join(c for c in plain if not unicodedata.combining(c))[:_STEM]


def name_end(text: str, name: str = "", vocabulary: Collection[str] = ()) -> int:
    """Returns the position after a prefix that names the text; 0 if there is none.

    Args:
        text: The text.
        name: Name of the field.
        vocabulary: Stems of the words of the task's description, as :func:`stems` returns them.

    >>> name_end("Note clinique : Douleur du genou.", "note", stems(["one clinical note"]))
    16
    >>> name_end("Fazit: Wir kommen wieder.", "review", stems(["one review"]))
    0
    """
    begin = text[: 2 * _LONGEST]
    if match := _BY_MEANING.match(begin):
        return match.end()
    if (match := _BY_PERSON.match(begin)) and len(re.split(r"[.!?]", text[match.end() :])[0].split()) >= _FEWEST_WORDS:
        return match.end()
    if name and (match := _BEFORE_COLON.match(begin)) and _echoes(match["words"], name, vocabulary):
        return match.end()
    return 0


def _echoes(prefix: str, name: str, vocabulary: Collection[str]) -> bool:
    """Returns whether a prefix consists of words of the task, one of which is the field's name."""
    words = re.findall(r"[^\W\d_]+", prefix)
    if len(words) > _MOST_WORDS:
        return False
    name_stems = stems([name])
    if not any(_stem(word) in name_stems for word in words):
        return False
    return all(
        word.casefold() in _FUNCTION_WORDS or _stem(word) in vocabulary or _stem(word) in name_stems
        or _NOUN.fullmatch(word)
        for word in words
    )  # fmt: skip
