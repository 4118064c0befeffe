"""How mathematics is spelled: Unicode characters, LaTeX commands and words, and what each stands for."""

from __future__ import annotations

SUPERSCRIPTS = dict(
    zip(
        "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b\u207f\u2071",
        "0123456789+-ni",
        strict=False,
    )
)
SUBSCRIPTS = dict(zip("\u2080\u2081\u2082\u2083\u2084\u2085\u2086\u2087\u2088\u2089", "0123456789", strict=False))
UNICODE = {
    "\u2212": "-", "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2014": "-", "\ufe63": "-",
    "\uff0d": "-", "\u00d7": r"\times ", "\u00b7": r"\cdot ", "\u22c5": r"\cdot ", "\u2217": "*", "\u2062": " ",
    "\u00f7": "/", "\u2044": "/", "\u2215": "/", "\u2264": r"\le ", "\u2a7d": r"\le ", "\u2265": r"\ge ",
    "\u2a7e": r"\ge ", "\u2260": r"\ne ", "\u2248": r"\approx ", "\u2243": r"\approx ", "\u2245": r"\approx ",
    "\u2261": r"\equiv ", "\u221e": r"\infty ", "\u221a": r"\sqrt ", "\u221b": r"\cbrt ", "\u222a": r"\cup ",
    "\u2229": r"\cap ", "\u2208": r"\in ", "\u2209": r"\notin ", "\u2205": r"\emptyset ", "\u2216": r"\setminus ",
    "\u211d": r"\mathbb{R}", "\u2124": r"\mathbb{Z}", "\u2115": r"\mathbb{N}", "\u211a": r"\mathbb{Q}",
    "\u2102": r"\mathbb{C}", "\u00b0": r"^\circ ", "\u00ba": r"^\circ ", "\u2032": "'", "\u2019": "'", "\u2018": "'",
    "\u2033": '"', "\u201c": '"', "\u201d": '"', "\u00b1": r"\pm ", "\u2213": r"\mp ", "\u27e8": r"\langle ",
    "\u27e9": r"\rangle ", "\u2329": r"\langle ", "\u232a": r"\rangle ", "\u230a": r"\lfloor ", "\u230b": r"\rfloor ",
    "\u2308": r"\lceil ", "\u2309": r"\rceil ", "\u2223": "|", "\u2225": r"\|", "\u2026": "...", "\u22ef": "...",
    "\u2220": r"\angle ", "\u25b3": r"\triangle ", "\u2227": r"\land ", "\u2228": r"\lor ", "\u2192": r"\to ",
    "\u2211": r"\sum ", "\u222b": r"\int ", "\u2061": "", "\u00d8": r"\emptyset ", "\u20ac": r"\euro ",
    "\u00a2": r"\cents ",
    "\u00a3": r"\pounds ",
    "\u00a5": r"\yen ", "\u20b9": r"\rupee ", "\u3001": ",", "\u3002": ".",
}  # fmt: skip
GREEK = {
    "\u03b1": "alpha", "\u03b2": "beta", "\u03b3": "gamma", "\u03b4": "delta", "\u03b5": "epsilon", "\u03b8": "theta",
    "\u03bb": "lambda", "\u03bc": "mu", "\u03bd": "nu", "\u03be": "xi", "\u03c0": "pi", "\u03c1": "rho",
    "\u03c3": "sigma", "\u03c4": "tau", "\u03c6": "phi", "\u03d5": "phi", "\u03c7": "chi", "\u03c8": "psi",
    "\u03c9": "omega", "\u0394": "Delta", "\u03a9": "Omega", "\u03b7": "eta", "\u03ba": "kappa", "\u03b6": "zeta",
    "\u0393": "Gamma", "\u0398": "Theta", "\u03a6": "Phi",
}  # fmt: skip
GREEK_NAMES = {
    *GREEK.values(), "varepsilon", "vartheta", "varphi", "ell", "Pi", "Sigma", "Lambda", "iota", "upsilon", "hbar",
}  # fmt: skip
UNICODE |= {letter: rf"\{name} " for letter, name in GREEK.items()}

FUNCTIONS = {
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "arccot", "arcsec", "arccsc", "sinh",
    "cosh", "tanh", "coth", "sech", "csch", "arcsinh", "arccosh", "arctanh", "ln", "log", "lg", "exp", "gcd", "lcm",
    "max", "min", "sgn", "sign", "cis", "Re", "Im", "arg", "det", "abs", "floor", "ceil", "factorial", "cbrt", "conj",
}  # fmt: skip
ALIASES = {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "arsinh": "arcsinh", "arcosh": "arccosh",
    "artanh": "arctanh", "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh", "cosec": "csc", "ctg": "cot",
    "tg": "tan", "sign": "sgn", "Abs": "abs", "binomial": "binom", "arctg": "arctan", "ceiling": "ceil",
}  # fmt: skip
OPERATORS = {  # LaTeX command -> operator
    "times": "cross", "cdot": "*", "ast": "*", "bullet": "*", "div": "/", "le": "<=", "leq": "<=", "leqslant": "<=",
    "ge": ">=",
    "geq": ">=", "geqslant": ">=", "ne": "!=", "neq": "!=", "lt": "<", "gt": ">", "in": "in", "notin": "notin",
    "approx": "~",
    "simeq": "~", "thickapprox": "~", "cup": "cup", "cap": "cap", "setminus": "setminus", "backslash": "setminus",
    "pm": "pm",
    "mp": "mp", "lor": "lor", "vee": "lor", "land": "land", "wedge": "land", "langle": "langle", "rangle": "rangle",
    "lfloor": "lfloor", "rfloor": "rfloor", "lceil": "lceil", "rceil": "rceil", "lbrace": "\\{", "rbrace": "\\}",
    "lbrack": "[",
    "rbrack": "]", "mid": "mid", "vert": "|", "lvert": "|", "rvert": "|", "Vert": "||", "lVert": "||", "rVert": "||",
    "colon": ":",
    "circ": "circ", "degree": "deg", "prime": "'", "to": "to", "rightarrow": "to", "ldots": "...", "cdots": "...",
    "dots": "...",
    "equiv": "equiv", "sim": "~", "lparen": "(", "rparen": ")", "bigcup": "cup", "bigcap": "cap",
}  # fmt: skip
MONEY = {
    "cents": "cent",
    "euro": "\N{EURO SIGN}",
    "pounds": "\N{POUND SIGN}",
    "yen": "\N{YEN SIGN}",
    "rupee": "\N{INDIAN RUPEE SIGN}",
}
SHORT_WORDS = frozenset(("yes", "no", "odd", "red", "all", "none", "true", "the", "per", "mod", "if", "for", "is"))
ESCAPED = {"{": "\\{", "}": "\\}", "|": "||", "%": "%", "&": "&", "#": "#", "_": "_"}
LAYOUT = {
    "left", "right", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "biggl", "biggr", "Biggl", "Biggr",
    "middle", "displaystyle", "textstyle", "scriptstyle", "limits", "nolimits", "quad", "qquad", "hspace", "vspace",
    "phantom", "mathstrut", "strut", "thinspace", "enspace", "space", "nonumber", "hfill", "centering", "bf", "rm",
    "it", "large", "Large", "small", "boxed", "fbox", "mathbf", "boldsymbol", "mathit", "bm", "mathcal", "mathsf",
    "mathfrak", "vec", "overrightarrow", "hat", "widehat", "tilde", "underline", "pmb", "huge", "Huge", "LARGE",
    "tiny", "normalsize", "mathop", "ensuremath",
    "smash", "mathord", "mathrel", "mathbin", "color", "angle", "triangle", "therefore", "because",
}  # fmt: skip
TEXT_COMMANDS = {
    "text", "mbox", "textbf", "textit", "textrm", "textnormal", "textsf", "texttt", "mathrm", "operatorname", "hbox",
    "emph", "unit", "mathtt", "si", "textup",
}  # fmt: skip
SETS = {"R": "R", "Z": "Z", "N": "N", "Q": "Q", "C": "C"}
WORD_OPERATORS = {
    "and": "and", "or": "or", "union": "cup", "intersect": "cap", "intersection": "cap", "times": "*", "plus": "+",
    "to": ":",
}  # fmt: skip
CONSTANTS = {"pi": "pi", "infinity": "oo", "infty": "oo", "inf": "oo", "oo": "oo"}
# Words that, after a number, make it another one, a bound, or a doubt: no units.
REFUSED = {
    "negative", "positive", "point",
    "squared", "cubed", "is", "isnt", "not", "wrong", "maybe", "perhaps", "least", "most", "at", "more", "less",
    "than", "or", "over", "under", "about", "no", "incorrect", "false", "times", "probably", "possibly",
    "below", "above", "between", "if", "never", "guess", "unsure", "unknown", "almost", "nearly", "around",
    "up", "plus", "minus", "root", "divided", "factorial", "off", "fold", "through", "from", "until",
    "but", "except", "either", "neither", "when", "where", "for", "with", "by", "on",
}  # fmt: skip
