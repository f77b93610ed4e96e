"""Detects a model's refusal to write a text.

Everyday texts also apologise and state inabilities ("I'm sorry my parcel is late", "I can't log in"), so an opening
alone proves nothing. The first sentence decides: its writer claims to be a model, or declines something only a model is
asked to do, such as helping with a request or writing content.
"""

from __future__ import annotations

import re

from gold_lightning.parsing.declining_elsewhere import REFUSAL
from gold_lightning.parsing.patterns import spaced

__all__ = ["is_refusal"]

_BEGIN = 800  # characters that are examined
_APOSTROPHES = str.maketrans(dict.fromkeys("’ʼ‘`´＇", "'"))
_CONTRACTIONS = (
    (r"\bi'm\b|\bim(?= (?:sorry|afraid|unable|not|an ai))", "i am"),
    (r"\bcan't\b|\bcan not\b|\bcant\b", "cannot"),
    (r"\bwon't\b", "will not"),
    (r"\b(could|would|do|does|is|was)n't\b", r"\1 not"),
    (r"\bi'd\b", "i would"),
    (r"\b(it|that)'s\b", r"\1 is"),
)


_LEAD = spaced(
    r"""(?:
    i am (?:(?:really|very|so|truly|terribly|deeply) )?sorry(?: to say that| for any [\w ]{1,30})?
    |(?:my )?(?:sincere )?apolog(?:ies|y)|sorry|unfortunately|regrettably|i am afraid(?: that)?
    |i (?:sincerely )?apologi[sz]e(?: for any [\w ]{1,30})?
    |(?:i (?:understand|appreciate)|thank you|i would (?:be (?:happy|glad)|love) to)\b[^.!?]{0,120}?(?=,? but\b)
    |no|however|but|hi|hello|hey(?: there)?|well|oh|hmm
    )\b[ ,.!;:–—-]*"""
)
_CANNOT = spaced(
    r"""i (?:(?:really|just|simply|also|still|respectfully) )?(?:
    cannot|could not|will not|would not|am (?:really |just |simply )?(?:not |un)able to
    |do not (?:feel comfortable|have the ability to)
    |am not comfortable(?: with)?|do not|am not supposed to|(?:would )?(?:rather|prefer) not(?: to)?|choose not to
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
    r"|unethical|dangerous|phishing|malicious|misleading|false|fake|fabricated|fictional|fictitious|fraudulent|deceptive|defamatory"
    r"|derogatory|toxic|abusive|racist|sexist|biased)"
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
_ACTS = spaced(
    rf""" (?:
    (?:assist|help|aid)(?:ing)?(?: you)? (?:with|in|on) (?:
    (?:this|that|these|those|it|(?:that|this) one){_END}
    |(?:this|that|your|these|those|such|such an?|the) (?:\w+ ){{0,2}}?(?:requests?|prompts?)\b
    |(?:this|that|such|these|those) {_KINDS}|such\b|any (?:requests?|content)|anything (?:that|like|of)
    |(?:the |any )?{_WRITE}\b|requests?\b|{_BAD}\b)
    |assist(?:ing)?(?: you)?{_END}
    |(?:help|assist)(?: you)?(?: to)? {_WRITE} (?:this|that|such)\b
    |continue (?:with )?(?:this|the) (?:conversation|discussion)\b
    |(?:respond to|discuss|talk about|engage with) (?:this|that|such|these|those|it)(?: (?:kind|type|sort)s? of)?
    (?: (?:topics?|subjects?|matters?|things?|requests?|content))?{_END}
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
    |(?:help (?:to |you )?)?{_WRITE} (?:[\w-]+ ){{1,4}}of (?:this|that) (?:kind|type|sort|nature)\b
    |{_WRITE} [^.!?]{{0,60}}[.!] ?(?:please |i recommend |you should )?(?:consult|seek|see|speak (?:to|with))(?:ing)?
    \ (?:with )?(?:an? )?(?:\w+ )?(?:professional|doctor|lawyer|attorney|physician|expert|specialist|advisor)\b
    )"""
)
_IS_MODEL = spaced(
    rf"""as (?:just |only |merely )?an? (?:\w+ )?{_MODEL}\b
    (?: (?:developed|created|trained|made|built|designed) [^,.]{{1,60}})?
    (?:,[^.!?]{{0,80}}?)? (?:i|my|it)\b
    |i am (?:just |only |merely |simply )?an? {_MODEL}(?: (?:developed|created|trained|made|built|designed|programmed)\b
    | and (?:i|do|can|am|cannot)\b| so\b| that\b| without\b| ?[,.;!]|$)
    |i am (?:programmed|designed) to (?:be|follow|avoid|provide|promote|refuse|prioriti[sz]e)\b"""
)
_DECLINES = spaced(
    r"""i (?:must|have to|need to|will have to) (?:respectfully |politely )?decline
    (?: (?:this|that|your|the) (?:request|prompt|task)\b| to (?:generate|create|write|produce|fulfill?|assist)\b)
    |it is (?:not (?:appropriate|ethical|right)|inappropriate|unethical) (?:for me )?to
    (?: generate| create| write| produce| provide)(?: content| such| this| that)\b
    |it would (?:not be (?:appropriate|right|ethical)|be (?:inappropriate|wrong|unethical)) for me to\b
    |i (?:must|have to|will have to)(?: respectfully| politely)? decline[.!]*\Z
    |(?:that|this|it|(?:that|this|your|the) (?:request|prompt|topic)) is not something (?:that )?i
    \ (?:can|could|will|am (?:able|willing|comfortable|allowed) to) (?:do|(?:help|assist)(?: you)?(?: with)?|write
    |create|generate|provide|produce|fulfill?|discuss|talk about|comply with|engage (?:in|with)|answer|support)
    (?: (?:for|with) you)?(?=[.!;,]|\Z| as an?\b| because\b)
    |(?:this|that|your|the) request (?:violates|goes against|is against|asks (?:me )?(?:for|to))\b
    |my (?:(?:content|usage|safety|ethical|core) )?(?:guidelines|programming|principles|content policy
    |(?:safety|usage) polic(?:y|ies)) (?:do(?:es)? not|will not|cannot|prevents?|prohibits?|forbids?)
    \ (?:allow|permit|let|this|that|such|me\b|(?:writ|creat|generat)ing)
    |(?:this|that|your|the) (?:content|prompt|request|conversation|input|material|output|response)
    (?: (?:may|might|could|would|appears? to|seems? to|likely))?
    \ (?:violates?|goes? against|breach(?:es)?|conflicts? with) (?:our|my|openai's|the|content|usage|safety)
    \ [^.!?]{0,40}\b(?:polic(?:y|ies)|guidelines|standards|terms)
    |(?:that|this|it|(?:creating|writing|generating|producing|providing)\b[^.!?]{0,60}?)
    \ (?:goes against|is against|violates|would violate|conflicts with) (?:my|our|openai's|anthropic's|google's|meta's)
    \ (?:\w+ ){0,2}(?:guidelines|programming|polic(?:y|ies)|principles|ethics)
    |(?:your|the|this) (?:request|prompt|message|response|output|content|input) (?:was|has been|is)
    \ (?:flagged|filtered|blocked|rejected|withheld) [^.!?]{0,80}
    \b(?:polic(?:y|ies)|safety|filter|moderation|guidelines)
    |(?:content|response|output|prompt|message|request) (?:was )?(?:blocked|filtered|withheld|flagged)
    (?:[.!]*\Z| (?:by|for|due to|because of) (?:the |our )?(?:safety|content|polic|filter|moderation|guidelines))
    |request (?:denied|refused|rejected) [^.!?]{0,30}\b(?:safety|guidelines|polic(?:y|ies))
    |let(?:'s| us) (?:talk about|discuss) something (?:else|different)[.!]*\Z
    |let(?:'s| us) change the (?:topic|subject)[.!]*\Z
    |i am not comfortable (?:with|doing|writing|discussing) (?:that|this|it)[.!]*\Z"""
)
_ASKED = r"(?:requests?|prompts?|tasks?|instructions?|quer(?:y|ies)|content|output|response|material)"
_DONE = r"(?:[.!;,]|\Z| (?:as|because|since|due|at this time|in its current form)\b)"
_MY_LIMITS = r"(?:what i(?: am| can| could)\b|my (?:\w+ ){0,2}(?:capabilit|abilit|scope|limit|guideline|polic|remit))"
# An inability or a rule that concerns the request itself. A customer's inability concerns something in the world.
_OF_THE_REQUEST = spaced(
    rf"""(?:(?:i|we) (?:am |are )?)?
    (?:(?:un|not )able to|cannot|could not|will not|(?:must|have to) (?:decline|refuse) to)
    \ (?:\w+ (?:with |to |on )?)(?:this|that|your|the|such an?) (?:\w+ ){{0,1}}{_ASKED}(?! because| since){_DONE}
    |(?:not able|unable) to (?:help|assist|comply)(?: you)?(?: with (?:that|this|it))?(?:,? sorry)?[.!]*\Z
    |(?:this|your|the requested|such) (?:\w+ )?{_ASKED} (?:cannot|could not|will not|is not|are not|must not)
    \ (?:be )?(?:\w+ed|done|met|written|shown|possible){_DONE}
    |(?:the requested|such) {_ASKED} (?:is|are) (?:not (?:allowed|permitted|available)|prohibited|forbidden)
    |i (?:(?:have|am going to have|will have|am afraid i have) to|must|need to|will)(?: respectfully| politely)?
    \ (?:refuse|decline|reject|turn down|pass(?: on)?)(?: (?:this|that|your|the)(?: {_ASKED}| one)?)?
    (?:(?!,){_DONE}|, (?:as|because|since|sorry)\b)
    |(?:this|that|it|(?:this|that|your|the) {_ASKED})
    \ (?:is|goes|falls|lies) (?:beyond|outside(?: of)?|out of) (?:the (?:scope|range|bounds|limits) of )?{_MY_LIMITS}
    |(?:it|this|that|(?:this|that|your|the) {_ASKED}) is (?:against|not in line with|not consistent with|prohibited by)
    \ (?:my|our) (?:\w+ ){{0,2}}(?:guidelines|polic(?:y|ies)|programming|principles|terms)
    |(?:it|this|that) is not possible for me{_DONE}
    |i do not (?:think|believe) (?:that )?i (?:should|can|could|am able to|ought to)
    \ (?:write|create|generate|help with|answer|do|produce|provide|assist with) (?:this|that|such|it)\b
    |i (?:do not have|lack) (?:the |any |enough |sufficient )?(?:ability|capability|capacity|information|context|means)
    \ to \w+ (?:this|that|your|the|such) {_ASKED}
    |i (?:must|have to|need to) (?:respectfully |politely )?decline ?[,:;–—-]+ ?(?:this|that|it|as it|because it)
    \ (?:looks|seems|appears|is|sounds)\b[^.!?]{{0,40}}\b(?:requests?|content|prompt|attempt)\b
    |(?:no can do|hard pass|i would rather not|i do not do that(?: (?:kind|sort) of thing)?)[.!]*\Z
    |(?:response|output|content|answer|reply) (?:was |has been )?(?:withheld|removed|suppressed|redacted|blocked)
    \ (?:for|by|due to|because of) (?:\w+ )?(?:safety|content|polic|filter|moderation|guidelines)"""
)
# Texts as such, of nobody: not "my review", not "the ticket". Customers cannot create or generate things of the world,
# so the rest of the sentence must speak of the text's misuse, or offer something else.
_OTHER_TEXT = (
    r" (?:generat(?:e|ing)|creat(?:e|ing)|writ(?:e|ing)|produc(?:e|ing)|compos(?:e|ing)|craft(?:ing)?|draft(?:ing)?)"
    r" (?!(?:my|our|the|this|a)\b)[\w-]+(?: [\w-]+){0,3}"
)
_MISUSE = spaced(
    rf"""{_OTHER_TEXT},? (?:
    (?:as|because|since) (?:it|they|this|that|these|such \w+) (?:could|might|may|would|can)(?: potentially)?
    \ (?:be (?:mistaken|mis\w+|used|seen|considered|taken|harmful|misleading|unethical)|mislead|promote|encourage|harm
    |deceive|violate|contribute|spread)
    |but i (?:can|could|would be (?:happy|glad) to|am happy to) (?:help|explain|offer|suggest|discuss|outline|describe
    |summari[sz]e|assist))\b"""
)
_RULES = spaced(
    r"""\b(?:my|our|openai's|ethical|content|safety|usage) (?:\w+ ){0,2}
    (?:guidelines|programming|principles|polic(?:y|ies))\b
    |\bas an (?:ai|artificial intelligence)\b|\bi am (?:just |only )?an ai\b"""
)
_THAT_ALONE = re.compile(
    r" (?:do|help|assist|continue|answer|comply|fulfill?|write|generate|create|provide|discuss|respond(?: to)?"
    r"|talk about)"
    r"(?: (?:with|that|this|you|it|here|such a thing|one))*"
)
_NAMES_IT = re.compile(r" (?:that|this)(?: one)?\Z")
_SENTENCE = re.compile(r"[^.!?。！？]*")
_MARKS = " \"'“”„«»「」*_>()[]-"


def is_refusal(text: str) -> bool:
    """Returns whether a text begins with a model's refusal.

    >>> is_refusal("I'm sorry, but I can't assist with that request.")
    True
    >>> is_refusal("I'm sorry, but I can't find my order number.")
    False
    """
    plain = " ".join(text[:_BEGIN].translate(_APOSTROPHES).lower().split()).strip(_MARKS)
    for form, full_form in _CONTRACTIONS:
        plain = re.sub(form, full_form, plain)
    if REFUSAL.match(plain):
        return True
    leads = 0
    while leads < 4 and (lead := _LEAD.match(plain)):
        plain, leads = plain[lead.end() :].lstrip(_MARKS), leads + 1
    if _IS_MODEL.match(plain) or _DECLINES.match(plain) or _OF_THE_REQUEST.match(plain):
        return True
    if not (cannot := _CANNOT.match(plain)):
        return False
    sentence = _SENTENCE.match(plain)
    first = sentence[0] if sentence else plain
    alone = not plain[len(first) :].strip(" .!?") and (leads > 0 or _NAMES_IT.search(first))
    return bool(
        _ACTS.match(plain, cannot.end())
        or _MISUSE.match(plain, cannot.end())
        or _RULES.search(first)
        or (alone and _THAT_ALONE.fullmatch(first.rstrip(" ,"), cannot.end()))
    )
