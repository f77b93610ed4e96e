"""Refusals in languages other than English. Each declines what only a model is asked, or is a whole text."""

from __future__ import annotations

from gold_lightning.parsing.patterns import spaced

__all__ = ["REFUSAL"]

_END = r"[.!]*\Z"
_GERMAN = rf"""
    (?:(?:es tut mir (?:sehr |wirklich )?leid|tut mir (?:sehr )?leid|entschuldigung|entschuldige|sorry|leider|nein)
    [,.!]* ?(?:aber )?(?:leider )?)?(?:
    (?:(?:ich kann|(?:das|dies|dabei|damit|hierbei|da) kann ich|kann ich)(?: (?:dir|ihnen|euch|dabei|damit|hierbei|hier
    |das|dies|so etwas|leider|aber|mit|bei|dieser|anfrage|diese|frage))* nicht (?:weiter)?
    (?:helfen|behilflich sein|unterstützen|tun|machen|schreiben|beantworten){_END})
    |ich (?:kann|darf|werde) (?:leider )?(?:diese[rn]?|ihre[rn]?|deine[rn]?) (?:anfrage|bitte|aufforderung)
    (?: leider)? nicht (?:erfüllen|nachkommen|beantworten|unterstützen|ausführen)
    |ich (?:kann|darf|werde) (?:leider )?(?:keine )?(?:solche|derartige|diese art von|dieser art)(?: \w+){{0,2}}?
    \ (?:inhalte?n?|texte?n?|nachrichten|aussagen)(?: leider)?(?: nicht)?
    \ (?:erstellen|schreiben|generieren|erzeugen|verfassen|bereitstellen)
    |(?:ich kann|das kann ich)[^.!?]{{0,60}}\b(?:bei|mit) (?:dieser|ihrer|deiner) anfrage\b[^.!?]{{0,20}}\bhelfen)
    |(?:es tut mir (?:sehr )?leid|tut mir leid|entschuldigung) ?,? ?(?:aber )?(?:ich kann|dabei kann ich|das kann ich)
    [^.!?]{{0,80}}\b(?:anfrage|behilflich|inhalte?)\b
    |(?:es tut mir (?:sehr )?leid|tut mir leid|entschuldigung) ?,? ?(?:aber )?dabei kann ich[^.!?]{{0,40}}\bhelfen\b
    |meine (?:\w*richtlinien|programmierung|grundsätze) (?:erlauben|gestatten|verbieten|lassen)\b
    |(?:das|dies|diese anfrage|dieser inhalt) (?:verstößt|widerspricht|könnte)[^.!?]{{0,40}}
    \b(?:meine[nr]?|unsere?[nr]?|die) (?:\w*richtlinien|programmierung)
    |als (?:ki\b|künstliche intelligenz|(?:großes )?sprachmodell)"""
_FRENCH = rf"""
    (?:(?:je suis (?:vraiment |sincèrement )?désolée?|désolée?|je m'excuse|malheureusement|je regrette|non)[,.]* ?
    (?:mais )?)?je ne (?:(?:peux|pourrais?|saurais) pas|suis (?:pas|malheureusement pas) en mesure de
    |suis pas capable de)
    \ (?:(?:vous |t'|te )?(?:aider|assister)(?: (?:avec|sur|pour|dans|à) (?:ça|cela|ceci|cette demande|ce sujet))?{_END}
    |faire (?:ça|cela|ceci){_END}
    |(?:répondre|donner suite|accéder) à (?:cette|votre) (?:demande|requête)
    |(?:satisfaire|traiter|exécuter) (?:cette|votre) (?:demande|requête){_END}
    |(?:générer|créer|écrire|produire|rédiger|fournir) (?:(?:ce|de|un|une|des)(?: type| genre| telle?s?)?(?: de)? )?
    (?:contenus?|textes?|messages?) ?(?:{_END}|qui\b|de ce\b|aussi\b|offensant|haineux|inapproprié|nuisible)
    |(?:générer|créer|écrire|produire|rédiger|fournir) (?:ce|de telles?|de tels|ce (?:type|genre) de)
    \ (?:contenus?|textes?|messages?)\b)
    |(?:je suis (?:vraiment )?désolée?|désolée?|je m'excuse) ?,? ?(?:mais )?je ne (?:peux|suis)
    [^.!?]{{0,60}}\b(?:cette demande|votre demande|vous aider|générer|ce contenu|requête)
    |(?:cette demande|ce contenu|cela) (?:va à l'encontre de|viole|enfreint|est contraire à|pourrait enfreindre)
    \ (?:mes|nos|les)\b
    |mes (?:directives|consignes|principes|règles) (?:ne )?(?:me |m')?(?:permettent|autorisent|interdisent)
    |en tant que? (?:modèle de langage|assistant (?:virtuel|ia)|ia\b|intelligence artificielle)"""
_SPANISH = rf"""
    (?:(?:lo siento(?: mucho)?|lo lamento|lamentablemente|desafortunadamente|disculpa|perdón|no)[,.]* ?(?:pero )?)?
    no (?:puedo|me es posible|soy capaz de) (?:
    (?:ayudar|asistir)(?:te|le|os|lo|la)?(?: (?:con|en) (?:eso|esto|ello|es[ae] \w+|est[ae] \w+|lo que pides))?{_END}
    |hacer (?:eso|esto){_END}
    |(?:cumplir(?: con)?|atender|responder a|satisfacer|completar|procesar) (?:esa|esta|tu|su) (?:solicitud|petición)
    |(?:generar|crear|escribir|producir|proporcionar)
    \ (?:(?:es[aeo]|est[aeo]|tal|dicho) (?:tipo de )?(?:contenidos?|textos?|mensajes?)|contenidos? que)\b)
    |lo siento ?,? ?(?:pero )?no puedo [^.!?]{{0,40}}
    \b(?:esa solicitud|esta solicitud|tu solicitud|su solicitud|ayudarte|ayudarle|generar|contenido|petición)
    |lamento no poder (?:ayudar|cumplir|hacer)
    |mis (?:directrices|pautas|políticas|normas) no (?:me )?(?:lo )?permiten"""
_PORTUGUESE = rf"""
    (?:(?:desculpe?|sinto muito|lamento|infelizmente|não)[,.]* ?(?:mas )?)?
    não (?:posso|consigo|sou capaz de) (?:
    (?:te |lhe |o |a )?(?:ajudar|auxiliar|ajudá-l[oa])
    (?: (?:com|em) (?:isso|isto|ess[ea] \w+|est[ea] \w+)| nisso)?{_END}
    |fazer (?:isso|isto){_END}
    |(?:atender|cumprir|responder|realizar)(?: a| com)? (?:ess[ea]|est[ea]|seu|sua) (?:pedido|solicitação)
    |(?:criar|gerar|escrever|produzir|fornecer) (?:ess[ea]|est[ea]|tal) (?:tipo de )?(?:conteúdo|texto|mensagem)\b)
    |(?:desculpe?|sinto muito|lamento) ?,? ?(?:mas )?não posso [^.!?]{{0,40}}
    \b(?:esse pedido|este pedido|gerar|conteúdo|solicitação)
    |minhas (?:diretrizes|políticas|regras) não (?:me )?permitem
    |como (?:um |uma? )?(?:modelo de (?:lenguaje|linguagem)|inteligencia artificial|inteligência artificial)"""
_ITALIAN = rf"""
    (?:(?:mi dispiace(?: molto)?|spiacente|purtroppo|scusa|no)[,.]* ?(?:ma )?)?non (?:posso|sono in grado di) (?:
    (?:aiutar(?:ti|la|vi|e)|assister(?:ti|la|vi))(?: (?:con|in) (?:questo|questa|ciò|quello|questa richiesta))?{_END}
    |(?:farlo|fare (?:questo|ciò|quello)){_END}
    |(?:soddisfare|esaudire|rispondere a|completare|evadere) (?:questa|la tua|la sua|tale) richiesta
    |(?:generare|creare|scrivere|produrre|fornire) (?:quest[oi]|tal[ei]|quel)(?: tipo di)?
    \ (?:contenut|test[oi]|messagg))
    |(?:mi dispiace|spiacente) ?,? ?(?:ma )?non posso [^.!?]{{0,40}}
    \b(?:questa richiesta|tua richiesta|sua richiesta|aiutarti|aiutarla|generare|contenut)
    |le mie linee guida non (?:me )?(?:lo )?(?:permettono|consentono)"""
_CHINESE = r"""
    (?:(?:很|非常|十分)?(?:抱歉|对不起|不好意思|遗憾)[，,。！!]? ?(?:但是?)?)(?:
    我?(?:无法|不能|不会|不便)(?:协助|满足|帮助?[你您]|生成|回答|创作|编写|继续|讨论|这样做|这么做|做到?这)
    |我?(?:无法|不能)(?:提供|完成|处理|写|执行)[^。！？]{0,14}(?:请求|要求|内容|任务|问题|指令)
    |(?:这个|该|此|这类|此类)(?:内容|请求|要求|话题|问题|类型)[^。！？]{0,4}我?(?:无法|不能|不便))
    |我(?:无法|不能|不会)(?:协助|满足|生成|提供|帮助|完成|回答|写)[^。！？]{0,20}(?:请求|要求|内容|此类问题|这个问题)
    |我(?:无法|不能)(?:帮助?|协助)[你您](?:完成|做|写)?(?:这|此|该)
    |(?:您|你)的(?:请求|输入|提示|问题)(?:可能)?(?:违反|涉及|包含|不符合)[^。！？]{0,20}(?:政策|规定|准则|敏感|违规|不当)
    |(?:该|此|这个|这些)(?:请求|内容|提示)(?:可能)?违反
    |(?:作为|我是)(?:一个|一名)?(?:ai|人工智能|大?语言模型|大型语言模型)"""
_CANNOT = r"(?:でき(?:ません|かね|ない|兼ね)|いたしかね|致しかね)"
_JAPANESE = rf"""
    (?:申し訳(?:ありません|ございません|ない(?:です)?)|すみません|ごめんなさい|恐れ入ります|残念)
    (?:が|ながら)?[、,。]? ?(?:
    [^。]{{0,40}}(?:お手伝い|お応え|お答え|生成|作成)[^。]{{0,12}}{_CANNOT}
    |[^。]{{0,20}}(?:ご要望|ご依頼|リクエスト|ご質問|そのような|そういった)[^。]{{0,20}}{_CANNOT}
    |(?:それ|これ|その件)(?:は|について(?:は)?)(?:お話し)?{_CANNOT})
    |(?:そのような|このような|その種の|こうした)(?:内容|コンテンツ|文章|テキスト|リクエスト|ご要望)[^。]{{0,12}}{_CANNOT}
    |(?:ご要望|ご依頼|リクエスト|ご質問)には?お(?:応え|答え)(?:する)?(?:ことは)?{_CANNOT}
    |(?:その|この)?(?:件|内容)?(?:については)?お手伝い(?:する)?(?:ことは|は)?{_CANNOT}
    |(?:私は)?(?:ai|人工知能|言語モデル)(?:なので|ですので|として)"""
_RUSSIAN = r"""
    (?:извините|к сожалению|прошу прощения) ?,? ?(?:но )?я не могу [^.!?]{0,40}(?:запрос|помочь с|генерировать|контент)
    |как (?:языковая модель|ии\b|искусственный интеллект)"""
# Languages with few patterns: an apology, then an inability to help or to write the requested text.
_DUTCH = rf"""
    (?:(?:het )?spijt me(?: zeer)?|sorry|helaas|excuses)?[,.]* ?(?:maar )?
    (?:(?:daar(?:bij|mee)?|hier(?:bij|mee)?|dat|dit) kan ik(?: (?:je|u|helaas|daar|niet))* ?(?:niet )?(?:mee |bij )?
    (?:helpen|schrijven)
    |ik kan(?: (?:je|u|hier|daar|helaas|niet))* (?:niet )?(?:mee |bij )?helpen{_END}
    |ik (?:kan|mag) (?:deze?|dit|zo'n|zulke|dergelijke) (?:\w+ )?(?:bericht\w*|inhoud|tekst\w*|verzoek\w*|content)
    \ niet (?:\w+)|als (?:ai|taalmodel|een taalmodel))"""
_POLISH = rf"""
    (?:przykro mi|przepraszam|niestety)?[,.]* ?(?:ale )?nie (?:mogę|potrafię|jestem w stanie)
    \ (?:(?:w tym |ci |ci w tym )?pomóc(?: w tym| z tym)?{_END}|(?:tego )?(?:napisać|stworzyć|wygenerować|spełnić)
    \ (?:tego|takiej?|takich|tej) (?:wiadomości|treści|tekstu|prośby|typu)|(?:tego )?(?:napisać|zrobić){_END})
    |jako (?:model językowy|sztuczna inteligencja|ai\b)"""
_RUSSIAN_MORE = rf"""
    (?:извините|к сожалению|прошу прощения|простите)?[,.]* ?(?:но )?я не (?:могу|в состоянии)
    \ (?:(?:вам |тебе )?(?:с этим |в этом )?помочь(?: (?:вам|тебе))?(?: (?:с этим|в этом))?{_END}
    |(?:это )?(?:написать|создать|сгенерировать|составить|выполнить) (?:так\w+|этот?|эту|подобн\w+|эт\w+)
    \ (?:сообщени\w+|текст\w*|контент\w*|просьб\w+|запрос\w*)|(?:этого )?сделать(?: это)?{_END})"""
_KOREAN = r"""
    (?:죄송(?:하지만|합니다(?:만)?|해요)|미안(?:하지만|합니다(?:만)?)|유감(?:이지만|스럽게도))[,.]? ?
    (?:[^.!?]{0,30}(?:요청|내용|메시지|부탁|콘텐츠)[^.!?]{0,20}(?:수 없|드릴 수 없|못)
    |[^.!?]{0,20}(?:도와 ?드릴|작성할|생성할) 수 없)
    |(?:저는 )?(?:ai|인공지능|언어 모델)(?:로서|이라|이므로)"""
_ARABIC = r"""
    (?:عذر[اً]+|آسفة?|أعتذر|للأسف|معذرة)[,،.]? ?(?:لكن ?|ولكن ?)?(?:لا (?:أستطيع|يمكنني)|لن أستطيع|لست قادر)
    [^.!؟]{0,20}(?:المساعدة|مساعدت|كتابة|إنشاء|توليد|تلبية)[^.!؟]{0,20}(?:هذا|هذه|ذلك|الطلب|المحتوى|الرسالة)?
    |(?:كنموذج لغ|بصفتي نموذج)"""
_HINDI = r"""
    (?:मुझे (?:खेद|अफ़?सोस) है|क्षमा करें|माफ़? (?:करें|कीजिए)(?:गा)?)[,।]? ?(?:लेकिन |पर |किंतु )?(?:मैं )?
    [^।.!?]{0,30}(?:मदद|सहायता|लिख|बना)[^।.!?]{0,12}(?:नहीं)[^।.!?]{0,6}(?:सक)"""
_TURKISH = rf"""
    (?:üzgünüm|özür dilerim|maalesef|ne yazık ki)[,.]* ?(?:ama |fakat |ancak )?
    (?:(?:bu konuda |bu konuda size |size |buna |bunda )*yardımcı olamam{_END}
    |(?:bu|böyle|bu tür) [^.!?]{{0,24}}(?:yazamam|oluşturamam|üretemem|yerine getiremem))"""
_NORDIC = rf"""
    (?:(?:jag|jeg) (?:är|er) ledsen|jeg beklager|beklager|tyvärr|förlåt|desværre|dessverre)?[,.]* ?(?:men )?
    (?:jag|jeg) kan (?:tyvärr |desværre |dessverre |inte |ikke )*(?:hjälpa|hjælpe|hjelpe)(?: (?:till|dig|deg|med))* ?
    (?:det|detta|dette)(?: här)?{_END}
    |(?:jag|jeg) kan (?:tyvärr |desværre |dessverre |inte |ikke )+(?:skriva|skrive|skapa|generera|lage)
    \ (?:sådan\w*|slik\w*|det|detta|dette|den)"""
_FINNISH = rf"""
    (?:olen pahoillani|pahoittelen|valitettavasti|anteeksi)[,.]* ?(?:mutta )?en (?:voi|pysty) (?:auttaa|auttamaan)
    (?: (?:tässä|siinä|sinua|asiassa))*{_END}
    |(?:olen pahoillani|pahoittelen|valitettavasti)[,.]* ?(?:mutta )?
    en voi (?:kirjoittaa|luoda) (?:tällais|tuollais|sit)"""
_VIETNAMESE = rf"""
    (?:xin lỗi|rất tiếc)[,.]* ?(?:nhưng )?tôi không thể (?:giúp(?: bạn)?(?: (?:việc|điều|với))?(?: (?:này|đó))?{_END}
    |(?:viết|tạo|thực hiện)[^.!?]{{0,20}}(?:này|đó|như vậy|yêu cầu))"""
_FRENCH_MORE = r"""
    en tant qu'(?:ia|intelligence artificielle|assistant)\b"""

# One sentence with both the request ("this", "your", never "my") and a negation.
_OF_THE_REQUEST = r"""
    (?=[^.!?]{0,80}\b(?:diese[rn]?|ihre[rn]?|deine[rn]?) (?:anfrage|aufforderung|anforderung|eingabe)\b
    |[^.!?]{0,80}\bdiese[rn]? aufgabe\b)
    [^.!?]{0,120}\b(?:nicht|ablehnen|verweigern|zurückweisen|außerstande|unmöglich)\b
    |(?:dazu|hierzu|dabei|damit|das) (?:kann|darf|werde|möchte) ich(?: leider| dir| ihnen)? nichts?
    \ (?:schreiben|sagen|beitragen|helfen|erstellen)[.!]*\Z
    |(?=[^.!?]{0,80}\b(?:cette|votre|ta) (?:demande|requête|tâche|instruction)\b)
    [^.!?]{0,120}\b(?:pas|refuser|décliner|rejeter|impossible)\b
    |(?=[^.!?]{0,80}\b(?:esta|esa|tu|su) (?:solicitud|petición|tarea|instrucción)\b)
    [^.!?]{0,120}\b(?:no|rechazar|declinar|negarme|imposible)\b
    |(?=[^.!?]{0,80}\b(?:questa|tua|sua|tale) richiesta\b)
    [^.!?]{0,120}\b(?:non|rifiutare|declinare|impossibile|respingere)\b
    |(?=[^.!?]{0,80}\b(?:essa|esta|sua|tua) (?:solicitação|tarefa|instrução)\b)
    [^.!?]{0,120}\b(?:não|recusar|rejeitar|impossível|declinar)\b
    |(?:很?抱歉[，,]?)?(?:该|此|这个|您的|你的)(?:请求|要求|任务|指令)[^。！？]{0,10}(?:无法|不能|拒绝|不便|不予)
    |(?:申し訳ありませんが、)?(?:この|その|ご)(?:リクエスト|依頼|要求|要望|タスク)[^。]{0,12}
    (?:でき(?:ません|かね)|お断り|応じ(?:られ|かね))
    |(?=[^.!?]{0,60}\b(?:этот|ваш|данный|это|данное) (?:запрос|задание)\b)[^.!?]{0,100}\bне\b"""

# A text of the requested kind, or a false one: a person who cannot write speaks of a text of his own.
_APOLOGY = (
    r"(?:(?:es tut mir (?:sehr )?leid|tut mir (?:sehr )?leid|entschuldigung|leider|(?:je suis )?désolée?|je regrette"
    r"|malheureusement|lo siento(?: mucho)?|lo lamento|lamentablemente|desculpe?|sinto muito|lamento|infelizmente"
    r"|mi dispiace|spiacente|purtroppo|(?:het )?spijt me|helaas|sorry|przykro mi|przepraszam|niestety|извините"
    r"|простите|к сожалению|прошу прощения)[,.!]* ?(?:aber |mais |pero |mas |ma |maar |ale |но )?)?"
)
_FALSE = (
    r"(?:gefälscht|fals[ck]h?|erfunden|fingiert|faux|fausses?|fictifs?|fictives?|mensong|fals[oaie]s?\b|inventad|fictici"
    r"|finti?\b|finte\b|fintas?|inventat|fittizi|nep|vals|verzonnen|fałszyw|zmyślon|поддельн|фальшив|вымышленн|ложн)"
)
_OF_THIS_KIND = (
    r"(?:dieser art|solche[nrs]?|derartige[nr]?|de ce (?:type|genre)|de telle?s?|de tels|de (?:este|ese) tipo"
    r"|dest[ae] tipo|dess[ae] tipo|desse tipo|deste tipo|di questo (?:tipo|genere)|di tale tipo"
    r"|van (?:dit|deze) (?:type|soort)|dit soort|zulke|tego (?:typu|rodzaju)|takich|такого (?:рода|типа)"
    r"|подобн\w+|так(?:ие|ого))"
)
_CANNOT_WRITE = (
    r"(?:ich (?:kann|darf|werde|möchte) (?:leider )?(?:keine?n? )?|je ne (?:peux|pourrais|saurais|veux) pas"
    r"|je ne suis pas en mesure (?:de |d')|no (?:puedo|quiero|voy a|me es posible)|não (?:posso|vou|consigo)"
    r"|non (?:posso|voglio|intendo|sono in grado di)|ik (?:kan|mag|zal|wil) (?:geen )?|nie (?:mogę|będę|chcę)"
    r"|я не (?:могу|буду|стану))"
)
_ANY_WRITE = (
    r"(?:schreiben|erstellen|verfassen|generieren|erzeugen|écrire|rédiger|créer|générer|produire|fournir|escribir|crear"
    r"|generar|redactar|producir|escrever|criar|gerar|redigir|produzir|scrivere|creare|generare|produrre|redigere|comporre|schrijven|maken"
    r"|genereren|opstellen|pisać|napisać|tworzyć|stworzyć|generować|писать|написать|создавать|создать|генерировать"
    r"|составлять)"
)
_FALSE_TEXT = (
    rf"{_APOLOGY}{_CANNOT_WRITE}(?=[^.!?]{{0,80}}\b{_ANY_WRITE})(?=[^.!?]{{0,80}}(?:\b{_FALSE}|\b{_OF_THIS_KIND}\b))"
    rf"|{_FALSE}\w* \w+ (?:schreibe|erstelle|verfasse|generiere) ich (?:leider )?nicht"
    r"|das (?:kann|darf|werde) ich (?:leider )?nicht (?:schreiben|erstellen|verfassen|generieren), (?:da|weil|denn)\b"
    r"|(?:很?抱歉|对不起|不好意思)?[，,]? ?我?(?:不能|无法|不会|不便)(?:编写|撰写|写|生成|创作|制作|提供|编造)"
    r"[^。！？]{0,8}(?:虚假|伪造|假的?|编造|不实|此类|这类|这种)"
    r"|(?:申し訳(?:ありません|ございません)が|すみませんが)?[、,]? ?(?:偽|虚偽|架空|嘘|そのよう|このよう|こうし)"
    rf"[^。]{{0,14}}(?:作成|生成|執筆|書くこと|作ること)[^。]{{0,8}}{_CANNOT}"
)

REFUSAL = spaced(
    "|".join(
        f"(?:{pattern})"
        for pattern in (
            *(_DUTCH, _POLISH, _RUSSIAN_MORE, _KOREAN, _ARABIC, _HINDI, _TURKISH, _NORDIC, _FINNISH, _VIETNAMESE),
            *(_FRENCH_MORE, _OF_THE_REQUEST, _GERMAN, _FRENCH, _SPANISH, _PORTUGUESE, _ITALIAN, _CHINESE, _JAPANESE),
            *(_RUSSIAN, _FALSE_TEXT),
        )
    )
)
"""Pattern for the beginning of a text in lower case, with straight apostrophes and single spaces."""
