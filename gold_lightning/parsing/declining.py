"""Whether a text is a model's refusal to write one.

Everyday texts apologise and cannot do things too ("I'm sorry my parcel is late", "I can't log in"), so an opening alone
proves nothing. What counts is the first sentence: its writer says to be a model, or is unable to do what only a model
is asked for: to help with a request, to write content.
"""

from __future__ import annotations

import re

__all__ = ["is_refusal"]

_BEGIN = 800  # characters that are looked at
_APOSTROPHES = str.maketrans(dict.fromkeys("’ʼ‘`´＇", "'"))
_CONTRACTIONS = (
    (r"\bi'm\b|\bim(?= (?:sorry|afraid|unable|not|an ai))", "i am"),
    (r"\bcan't\b|\bcan not\b|\bcant\b", "cannot"),
    (r"\bwon't\b", "will not"),
    (r"\b(could|would|do)n't\b", r"\1 not"),
    (r"\bi'd\b", "i would"),
    (r"\bit's\b", "it is"),
)


def _spaced(pattern: str) -> re.Pattern[str]:
    """A pattern over several lines, in which a space stands for itself and line breaks for nothing."""
    return re.compile("".join(line.strip("\n\t") for line in re.sub(r"\n +", "\n", pattern).split("\n")))


_LEAD = _spaced(
    r"""(?:
    i am (?:(?:really|very|so|truly|terribly|deeply) )?sorry(?: to say that| for any [\w ]{1,30})?
    |(?:my )?(?:sincere )?apolog(?:ies|y)|sorry|unfortunately|regrettably|i am afraid(?: that)?
    |i (?:sincerely )?apologi[sz]e(?: for any [\w ]{1,30})?
    |(?:i (?:understand|appreciate)|thank you|i would (?:be (?:happy|glad)|love) to)\b[^.!?]{0,120}?(?=,? but\b)
    |no|however|but|hi|hello|hey(?: there)?|well|oh|hmm
    )\b[ ,.!;:–—-]*"""
)
_CANNOT = _spaced(
    r"""i (?:(?:really|just|simply|also|still|respectfully) )?(?:
    cannot|could not|will not|would not|am (?:not |un)able to|do not (?:feel comfortable|have the ability to)
    |am not comfortable
    |(?:must |have to )?decline to|refuse to|am not (?:allowed|permitted|programmed|designed|going) to
    )(?: (?:and|or) (?:will not|cannot))?(?: be able to)?
    (?:,? (?:in good (?:conscience|faith)|directly|ethically|knowingly|legally),?)?"""
)
_MODEL = (
    r"(?:(?:large )?language model(?: ai)?|(?:ai|artificial intelligence)(?:[ -](?:powered|based))?"
    r"(?: (?:language model|text model|model|assistant|chat ?bot|system|program))?|(?:virtual|digital) assistant"
    r"|chat ?bot)"
)
_BAD = (
    r"(?:harmful|hateful|hate|offensive|discriminatory|explicit|inappropriate|illegal|violent|graphic|sexual|sexually"
    r"|unethical|dangerous|misleading|false|fake|fabricated|defamatory|derogatory|toxic|abusive|racist|sexist|biased)"
)
_WRITINGS = (
    r"(?:content|texts?|samples?|examples?|materials?|messages?|outputs?|sentences?|stor(?:y|ies)|articles?|reviews?"
    r"|posts?|statements?|tweets?|descriptions?|dialogues?|scenarios?|responses?|data(?: ?sets?)?|information|language)"
)
_WRITE = (
    r"(?:generat(?:e|ing)|creat(?:e|ing)|writ(?:e|ing)|produc(?:e|ing)|provid(?:e|ing)|compos(?:e|ing)|craft(?:ing)?"
    r"|mak(?:e|ing) up|fabricat(?:e|ing)|draft(?:ing)?|offer(?:ing)?|shar(?:e|ing)|supply(?:ing)?)"
)
_END = r"(?=[ \"'”]*(?:[.!?;:,]|$)| (?:but|as|because|since|due)\b)"
_ARTICLES = r"(?:(?:any|an?|the|some|new|you with|more|you|for you) )*"
_KINDS = r"(?:kind|type|sort|form)s? of "
_ACTS = _spaced(
    rf""" (?:
    (?:assist|help|aid)(?:ing)?(?: you)? (?:with|in|on) (?:
    (?:this|that|these|those|it|that one){_END}
    |(?:this|that|your|these|those|such|such an?|the) (?:\w+ ){{0,2}}?(?:requests?|prompts?)\b
    |(?:this|that|such|these|those) {_KINDS}|such\b|any (?:requests?|content)|anything (?:that|like|of)
    |(?:the |any )?{_WRITE}\b|requests?\b|{_BAD}\b)
    |assist(?:ing)?(?: you)?{_END}
    |(?:help|assist)(?: you)?(?: to)? {_WRITE} (?:this|that|such)\b
    |continue (?:with )?(?:this|the) (?:conversation|discussion)\b
    |(?:fulfill?|comply with|satisfy|accommodate|honou?r|carry out|respond to|complete|do|grant|meet|answer|follow
    |execute|perform|engage (?:in|with)|fulfilling|complying with|process) (?:
    (?:this|that|these|those|such an?|such)(?: specific| particular)?
    (?: requests?|prompts?|instructions?|task(?=[.!?]|$|, as))\b
    |(?:your|the) (?:requests?|prompts?)\b(?<!process your request)(?<!process the request)
    )(?! (?:forms?|pages?|buttons?|online|for|from|at)\b)
    |(?:engage|engaging|participate|participating) in (?:this|that|such|any|creating|{_BAD})\b
    |{_WRITE} (?:
    such\b|(?:this|that) {_KINDS}|{_KINDS}{_WRITINGS}|(?:this|that) {_WRITINGS}\b|(?:this|that|anything like that){_END}
    |anything that\b
    |{_ARTICLES}(?:[\w-]+,? (?:or |and )?){{0,3}}?{_WRITINGS}
    (?: (?:that|which|of (?:this|that)|with (?:this|that|such)|for (?:you|this|that)|like (?:this|that)
    |as (?:this|that|requested|it))\b)
    |{_ARTICLES}(?:content|samples?|examples?)
    (?: (?:that|which|of|about|involving|promoting|containing|related)\b|{_END})
    |{_ARTICLES}(?:[\w-]+ ){{0,2}}?{_BAD}\b)
    )"""
)
_IS_MODEL = _spaced(
    rf"""as (?:just |only |merely )?an? (?:\w+ )?{_MODEL}\b
    (?: (?:developed|created|trained|made|built|designed) [^,.]{{1,60}})?
    (?:,[^.!?]{{0,80}}?)? (?:i|my|it)\b
    |i am (?:just |only |merely |simply )?an? {_MODEL}(?: (?:developed|created|trained|made|built|designed|programmed)\b
    | and (?:i|do|can|am|cannot)\b| so\b| that\b| without\b| ?[,.;!]|$)
    |i am (?:programmed|designed) to (?:be|follow|avoid|provide|promote|refuse|prioriti[sz]e)\b"""
)
_DECLINES = _spaced(
    r"""i (?:must|have to|need to|will have to) (?:respectfully |politely )?decline
    (?: (?:this|that|your|the) (?:request|prompt|task)\b| to (?:generate|create|write|produce|fulfill?|assist)\b)
    |it is (?:not (?:appropriate|ethical|right)|inappropriate|unethical) (?:for me )?to
    (?: generate| create| write| produce| provide)(?: content| such| this| that)\b
    |(?:this|that|your|the) request (?:violates|goes against|is against|asks (?:me )?(?:for|to))\b"""
)
_RULES = _spaced(
    r"""\b(?:my|our|openai's|ethical|content|safety|usage) (?:\w+ ){0,2}
    (?:guidelines|programming|principles|polic(?:y|ies))\b
    |\bas an (?:ai|artificial intelligence)\b|\bi am (?:just |only )?an ai\b"""
)
_THAT_ALONE = re.compile(
    r" (?:do|help|assist|continue|answer|comply|fulfill?)(?: (?:with that|that|this|you|it|here))*"
)
# Openings in other languages, each with what only a model is asked for.
_OTHER_LANGUAGES = _spaced(
    r"""(?:je suis (?:vraiment )?désolée?|désolée?|je m'excuse) ?,? ?(?:mais )?je ne (?:peux|suis)
    [^.!?]{0,60}\b(?:demande|aider|générer|créer|contenu|requête)
    |en tant que? (?:modèle de langage|assistant (?:virtuel|ia)|ia\b|intelligence artificielle)
    |(?:es tut mir (?:sehr )?leid|tut mir leid|entschuldigung) ?,? ?(?:aber )?(?:ich kann|dabei kann ich|das kann ich)
    [^.!?]{0,80}\b(?:anfrage|dabei|damit|behilflich|helfen|inhalte?)\b
    |als (?:ki\b|künstliche intelligenz|(?:großes )?sprachmodell)
    |lo siento ?,? ?(?:pero )?no puedo [^.!?]{0,40}
    \b(?:solicitud|ayudarte|ayudarle|ayudar con|generar|contenido|petición)
    |como (?:un |uma? )?(?:modelo de (?:lenguaje|linguagem)|inteligencia artificial|inteligência artificial)
    |(?:desculpe?|sinto muito|lamento) ?,? ?(?:mas )?não posso [^.!?]{0,40}
    \b(?:pedido|ajudar|gerar|conteúdo|solicitação)
    |(?:mi dispiace|spiacente) ?,? ?(?:ma )?non posso [^.!?]{0,40}\b(?:richiesta|aiutarti|aiutarla|generare|contenut)
    |(?:很|非常)?(?:抱歉|对不起)[，,。]? ?但?是?我?(?:无法|不能)(?:协助|提供|满足|帮助|生成|完成|回答|创作|编写|处理)
    |我(?:无法|不能)(?:协助|满足|生成|提供)[^。！？]{0,20}(?:请求|要求|内容)
    |(?:作为|我是)(?:一个|一名)?(?:ai|人工智能|大?语言模型|大型语言模型)
    |申し訳(?:ありません|ございません)(?:が|。)[、,]?[^。]{0,40}(?:お手伝い|お応え|お答え|対応|生成|作成|提供)[^。]{0,12}でき
    |(?:извините|к сожалению|прошу прощения) ?,? ?(?:но )?я не могу [^.!?]{0,40}(?:запрос|помочь с|генерировать|контент)
    |как (?:языковая модель|ии\b|искусственный интеллект)"""
)
_SENTENCE = re.compile(r"[^.!?。！？]*")
_MARKS = " \"'“”„«»「」*_>()[]-"


def is_refusal(text: str) -> bool:
    """Whether a text begins with a model's refusal.

    >>> is_refusal("I'm sorry, but I can't assist with that request.")
    True
    >>> is_refusal("I'm sorry, but I can't find my order number.")
    False
    """
    plain = " ".join(text[:_BEGIN].translate(_APOSTROPHES).lower().split()).strip(_MARKS)
    for form, whole in _CONTRACTIONS:
        plain = re.sub(form, whole, plain)
    if _OTHER_LANGUAGES.match(plain):
        return True
    leads = 0
    while leads < 4 and (lead := _LEAD.match(plain)):
        plain, leads = plain[lead.end() :].lstrip(_MARKS), leads + 1
    if _IS_MODEL.match(plain) or _DECLINES.match(plain):
        return True
    if not (cannot := _CANNOT.match(plain)):
        return False
    sentence = _SENTENCE.match(plain)
    first = sentence[0] if sentence else plain
    alone = leads > 0 and not plain[len(first) :].strip(" .!?")
    return bool(
        _ACTS.match(plain, cannot.end())
        or _RULES.search(first)
        or (alone and _THAT_ALONE.fullmatch(first.rstrip(" ,"), cannot.end()))
    )
