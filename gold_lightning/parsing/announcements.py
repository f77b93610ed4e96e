"""Announcements of a sample in languages other than English, and short ones in English."""

from __future__ import annotations

import re

from gold_lightning.parsing.patterns import spaced

__all__ = ["ANNOUNCEMENT"]

_YES = r"""(?:
    ok(?:ay)?|sure|certainly|of course|alright|all right|got it|understood
    |gerne?|natürlich|klar|sicher|selbstverständlich|bien sûr|d'accord|d’accord|avec plaisir|volontiers
    |claro(?: que sí)?
    |por supuesto|con gusto|desde luego|certo|certamente|volentieri|com certeza|natuurlijk|zeker|graag|oczywiście
    |jasne|конечно|хорошо|好的?|当然(?:可以)?|没问题|はい|もちろん(?:です)?|承知しました|わかりました|네|물론(?:입니다|이죠)?
    |알겠습니다|بالتأكيد|بالطبع|ज़रूर|बिल्कुल|tabii(?: ki)?|elbette|självklart|selvfølgelig|totta kai|tất nhiên|tentu
    )(?:[ \t]?[,，、.!！。;:–—-]+[ \t]*\s*|[ \t]+)"""
_SHOW = r"""(?:
    hier (?:ist|sind|kommt|folgt)|nachfolgend|im folgenden|voici|voilà|ci-dessous|aquí (?:tienes?|está|va|le dejo)
    |he aquí|a continuación|ecco|di seguito|aqui (?:está|vai|tens?|tem)|segue(?: abaixo)?|abaixo(?: está)?|hier is
    |hieronder(?: staat)?|oto|poniżej(?: znajduje się)?|вот|ниже(?: приведен[оа]?)?
    |här (?:är|kommer)|her er|tässä(?: on)?
    |i̇?şte|aşağıda|đây là|dưới đây là|berikut(?: ini)?(?: adalah)?
    |這是|这是|以下(?:是|为|は)|下面是|こちら(?:は|が)|次は
    |다음은|여기(?: 있습니다| 있어요)?|아래는|إليك|هذا(?: هو)?|هذه(?: هي)?|فيما يلي|यह(?:ाँ|ां)?(?: रहा| है| एक)?|नीचे
    )"""
_THING = r"""(?:
    beispiel|muster|nachricht|text|satz|exemple|échantillon|message|texte|phrase|ejemplo|muestra|mensaje|texto|frase
    |esempio|campione|messaggio|testo|exemplo|amostra|mensagem|voorbeeld|bericht|zin|przykład|wiadomość|tekst|zdanie
    |пример|образец|сообщение|текст|exempel|eksempel|meddelande|besked|melding|esimerkki|viesti|örnek|mesaj|ví dụ
    |tin nhắn|contoh|pesan|例子|示例|样本|消息|信息|文本|句子|例文?|サンプル|メッセージ|예시|예|샘플|메시지|مثال|عينة
    |رسالة|نص|उदाहरण|नमूना|संदेश
    )"""
# "Voici mon numéro" is part of a sample: announcements do not contain "my".
_OWN = (
    r"(?:mein\w*|mon|ma|mes|mi|mis|mio|mia|meu|minha|mijn|mój|moj\w*|мо[йяеёи]\w*|min|mitt|我的?|私の|내|제|मेरा|benim)"
)

ANNOUNCEMENT = re.compile(
    spaced(
        rf"""[¡*_]{{0,3}}(?:{_YES})?[¡*_]{{0,3}}{_SHOW}(?![^:：\n]{{0,100}}\b{_OWN}\b)
        (?:[^:：.!?。！？\n]{{0,80}}?{_THING}[^:：.!?。！？\n]{{0,60}}|[ \t]?)
        (?:[:：]|[。.](?=[ \t]*\n))[*_]{{0,2}}\s*(?=\S)
        |(?:ok(?:ay)?|sure|alright|certainly)[ ,.!–—-]+(?:(?:a|one|the|another|my)[ \t])?
        (?:new[ \t]|next[ \t]|first[ \t])?(?:one|try|attempt|version|sample|example)[:：][ \t]*(?=\S)
        |(?:let me|let's|i will|i'll|i can|allow me to) (?:write|try|give you|make|create|generate)
        \ (?:(?:a|an|another|one|you|the|new|more|sample|example)\b[ \t]?){{1,5}}(?:now|then|here|for you)?
        [.:!…]+[ \t]*\n\s*(?=\S)
        """
    ).pattern,
    re.IGNORECASE,
)
"""Pattern for an announcement at the beginning of a text, up to the sample."""
