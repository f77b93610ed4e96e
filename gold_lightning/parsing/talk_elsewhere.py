"""Talk about the task in languages other than English: a rule for the text, or the intention to write one."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from gold_lightning.parsing.notations import name_pattern
from gold_lightning.parsing.patterns import spaced

__all__ = ["speaks_of_task_elsewhere"]

_BEGIN = 300  # characters that are examined
_LEAD = (
    r"(?:(?:ok(?:ay)?|gut|klar|gerne?|natürlich|verstanden|also|zuerst|nun|bien sûr|d'accord|alors|compris|très bien"
    r"|voici|claro|vale|bueno|entendido|por supuesto|certo|va bene|allora|capito|claro|certo|entendi|então|goed|prima"
    r"|natuurlijk|dobrze|oczywiście|хорошо|конечно|понял[аи]?|итак|好的?|当然(?:可以)?|没问题|明白了?|はい|わかりました"
    r"|承知しました|もちろんです?)[ \t]?[ ,.!:;…–—，。！、：-]+){1,3}"
)
_ARTICLE = r"(?:die|der|das|le|la|l'|el|il|lo|o|a|de|het)?[ \t]?"
_TEXT = (
    r"(?:nachricht|text|satz|beispiel|bewertung|message|texte|phrase|exemple|avis|mensaje|texto|frase|ejemplo|reseña"
    r"|messaggio|testo|esempio|recensione|mensagem|exemplo|avaliação|bericht|tekst|zin|voorbeeld|wiadomość|tekst"
    r"|zdanie|przykład|сообщение|текст|предложение|пример|отзыв)"
)
_MUST = (
    r"(?:soll(?:te)?|muss|müsste|doit|devrait|debe(?:ría)?|tiene que|deve|dovrebbe|deveria|tem que|moet|zou moeten"
    r"|powinn[oay]|musi|долж(?:ен|на|но))"
)
_BE_ABOUT = (
    r"(?:handeln|gehen|thematisieren|beschreiben|klingen|enthalten|erwähnen|sein|parler|traiter|porter|concerner"
    r"|décrire|mentionner|contenir|être|tratar|hablar|describir|mencionar|contener|ser|parlare|riguardare|descrivere"
    r"|trattare|menzionare|contenere|essere|falar|descrever|conter|gaan|beschrijven|zijn|bevatten|dotyczyć|opisywać|być"
    r"|описывать|содержать|быть|касаться)"
)
_WRITE = (
    r"(?:schreiben?|erstellen?|verfassen?|formulieren?|generieren?|écrire|rédiger|créer|générer|produire|composer"
    r"|écris|rédige|escribir|crear|redactar|generar|escribo|scrivere|creare|generare|scriverò|scrivo|escrever|criar"
    r"|gerar|redigir|escrevo|schrijf|schrijven|maken|napiszę|napisać|stworzę|stworzyć|напишу|написать|создам|создать"
    r"|составлю)"
)
_I_WILL = (
    r"(?:(?:ich|je|ik|я|eu|io|yo)\b|voici ce que|j'|vou |voy a |sto per |ora |ahora |maintenant |jetzt |teraz |сейчас |"
    r"lass(?:en)? (?:mich|sie mich|uns) |scriverò|scrivo|escribo|escrevo|napiszę|напишу)"
)
# A text that the writer has in mind is new, an example, or one that some customer would write.
_IN_MIND = (
    r"\b(?:neue[nrs]?|nouve(?:au|lle|l)|nuev[oa]|nuov[oa]|nov[oa]|nieuwe?|now[yaą]|nową|нов\w{2,3})\b"
    r"|\b(?:beispiel\w*|exemples?|ejemplos?|esempi?o?|exemplos?|voorbeeld\w*|przykład\w*|пример\w*)\b"
    r"|\b(?:de clients?|de cliente|di (?:un )?cliente|eines kunden|einer kundin|d'un client|de un cliente"
    r"|de um cliente|van een klant|klienta|клиента)\b"
)
_INDEFINITE = r"(?:eine?n?|une?|una?|um|uma|een|jed(?:en|ną)|одн[оу]|en|ett)"
# Who has a reader writes a text of the world: "Ich schreibe Ihnen eine neue Nachricht".
_READER = (
    r"(?:ihnen|ihr\w*|euch|euer|dir|dein\w*|vous|vos|votre|toi|ton|usted|ustedes|sus?|tus?|vi|vostr\w+|lei|suo|sua"
    r"|lhe|você|seu|u|uw|jou\w*|wam|wasz\w*|państw\w*|вам|ваш\w*)"
)
_CHINESE = (
    r"(?:让)?我(?:将|会|要|来|需要|先)?(?:写|生成|创建|编写|创作|撰写)(?:出)?(?:一|新)?[条个段篇句]?[^。！？\n]{0,24}"
    r"(?:消息|文本|句子|样本|示例|例子|评论|信息|留言|文章|邮件)"
)
_JAPANESE = r"(?:新しい|以下の|次の)[^。\n]{0,30}(?:を)(?:作成|生成|書)(?:し|き|い)"


@functools.lru_cache(maxsize=256)
def _forms(names: tuple[str, ...], labels: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    text = rf"(?:{_TEXT}|{name_pattern(names)})"
    target = "|".join(map(re.escape, labels)) or r"(?!)"
    rule = rf"{_ARTICLE}{text} {_MUST}\b(?=[^.!?\n]{{0,100}}\b{_BE_ABOUT}\b)"
    plan = (
        rf"{_I_WILL}(?=[^.!?\n]{{0,60}}\b{_WRITE}\b)(?=[^.!?\n]{{0,80}}\b{_INDEFINITE} (?:\w+ ){{0,3}}?{text}\b)"
        rf"(?=[^\n]{{0,160}}(?:{_IN_MIND}|\b(?:{target})\b))(?![^.!?\n]{{0,80}}\b{_READER}\b)"
    )
    return (
        spaced(rf"(?:{_LEAD})?(?:{rule}|{plan}|{_JAPANESE})", re.IGNORECASE),
        re.compile(rf"(?:{_LEAD})?{_CHINESE}", re.IGNORECASE),
    )


def speaks_of_task_elsewhere(text: str, names: Sequence[str], labels: Sequence[str] = ()) -> bool:
    """Returns whether a text begins with talk about the task in a language other than English.

    Args:
        text: The text.
        names: Names of all lines of a sample.
        labels: Names of labels that the prompt mentions.

    >>> speaks_of_task_elsewhere("Die Nachricht soll kurz sein.", ["queue", "message"])
    True
    >>> speaks_of_task_elsewhere("Ich schreibe Ihnen wegen der Rechnung.", ["queue", "message"])
    False
    """
    plain = text[:_BEGIN].strip(" \t\r\n\"“”'*_()[]-").replace("’", "'")
    return any(form.match(plain) for form in _forms(tuple(names), tuple(labels)))
