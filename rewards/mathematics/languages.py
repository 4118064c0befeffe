"""The few words of other languages that announce an answer, put another beside it, or take it back.

Chinese (zh), French (fr), German (de), Italian (it), Japanese (ja), Korean (ko), Portuguese (pt), Russian (ru), Spanish
(es). Letters outside ASCII are escaped: "r[e\\u00e9]ponse" is French for an answer, with its accent or without.
"""

from __future__ import annotations

ANSWER = (  # to be followed by IS and the answer
    r"(?:respuesta|r[e\u00e9]ponse|antwort|resposta|risposta)(?: (?:final[ae]?|corr?ec?t[ae]))?|"  # es fr de pt it
    r"(?-i:[\u041e\u043e])\u0442\u0432\u0435\u0442|"  # ru
    r"\u7b54\u6848|\u7b54\u3048|\u6b63\u89e3|\u7b54|\ub2f5|\uc815\ub2f5"  # zh ja ja zh ko ko
)
IS = r"\u662f|\u4e3a|\u306f|\uc740|(?:es|est|ist|lautet)\b|[\u00e9\u00e8](?=\s)"  # zh zh ja ko, es fr de de, pt it
COLON = r"\uff1a"  # of full width
# What ends the sentence: full stop, comma, semicolon; a copula behind the answer, ja ja ko ko.
STOP = r"[\u3002\uff0c\uff1b]|(?=\u3067\u3059|\u3067\u3042\u308b|\uc785\ub2c8\ub2e4|\uc774\ub2e4)"
# The articles and adjectives that may stand before the word for the answer, and the words that make it a supposition.
OWN = (
    "la die a meine mi ma minha final finale endg\u00fcltige richtige bonne correcta "
    "\u043f\u0440\u0430\u0432\u0438\u043b\u044c\u043d\u044b\u0439"
)
IF = "si wenn se \u0435\u0441\u043b\u0438"  # es fr, de, pt it, ru
SUPPOSED_BEFORE = (  # zh zh zh zh ja ko, where no spaces part the words
    r"(?:\u5982\u679c|\u5047\u8bbe|\u5047\u5982|\u82e5|\u3082\u3057|\ub9cc\uc57d)[^\u3002\uff0c]{0,8}\Z"
)
OR = (  # es it, fr pt, de; perhaps: es fr de pt it; ru zh zh ja ko
    r"(?:o|ou|oder|quiz[a\u00e1]s?|peut-[e\u00ea]tre|vielleicht|talvez|forse|\u0438\u043b\u0438)(?=[\s$])|"
    r"\u6216\u8005?|\u4e5f\u53ef\u80fd\u662f|\u307e\u305f\u306f|\ub610\ub294"
)
WRONG = r"\u4e0d\u5bf9|\u9519|\u9055\u3044|perd[o\u00f3]n|nein\b|pardon\b|\u043d\u0435\u0442\b"  # zh zh ja es de fr ru
SHOULD_BE = r"\u5e94\u8be5\u662f|\u5e94\u4e3a|deber[i\u00ed]a ser|devrait [e\u00ea]tre|sollte"  # zh zh es fr de
