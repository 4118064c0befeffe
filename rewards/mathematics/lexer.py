r"""From text, LaTeX or plain, to tokens. One pass, no backtracking; what is only layout disappears.

A token is (kind, value, gap): `gap` says that space came before it. Kinds: num (an exact Fraction and its decimals),
sym
(a variable), const, func, op, cmd (a LaTeX command with arguments), word, set, end.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from typing import Any

from rewards.mathematics.notation import (
    ALIASES,
    CONSTANTS,
    ESCAPED,
    FUNCTIONS,
    GREEK_NAMES,
    LAYOUT,
    MONEY,
    OPERATORS,
    SETS,
    SHORT_WORDS,
    SUBSCRIPTS,
    SUPERSCRIPTS,
    TEXT_COMMANDS,
    UNICODE,
    WORD_OPERATORS,
)
from rewards.mathematics.units import FILLERS, POWERS, TABLE, lookup
from rewards.mathematics.words import KNOWN as NUMBER_WORDS

MAX_CHARS = 2000
MAX_TOKENS = 2000
MAX_EXPONENT = 1000  # of a literal such as 1e999

Token = tuple[str, Any, bool]


class ParseError(ValueError):
    """The text cannot be read as mathematics."""


HATS = {"hat": "hat", "widehat": "hat", "tilde": "tilde", "widetilde": "tilde"}
VECTORS = frozenset(("vec", "overrightarrow", "widevec", "mathbf", "boldsymbol", "bm", *HATS))
VECTOR = re.compile(r"\s*(?:\{\s*(\\[ij]math|[a-zA-Z]{1,3})\s*\}|(\\[ij]math|[a-zA-Z]))")
ENVIRONMENT = re.compile(
    r"\\(?:begin|end)\s*\{(?:aligned|align\*?|equation\*?|gather\*?|gathered|split|displaymath|math)\}"
)
DECORATION = re.compile(
    r"\\(?:(?:text)?color|tag\*?|label|[hv]space\*?|[hv]?phantom|hskip|kern)\s*\{[^{}]{0,40}\}|\\(?:checkmark|blacksquare|square|qed)"
)
ARROW = re.compile(r"^\s*\\(?:implies|Rightarrow|Longrightarrow)(?![a-zA-Z])")  # before all: so
ARROWS = {"implies": "Rightarrow", "Longrightarrow": "Rightarrow", "iff": "Leftrightarrow"}
ROMAN = frozenset(("II", "IV", "VI", "IX"))
ANGLES = frozenset(("rad", "rads", "deg", "radian", "radians"))
RAISED_FRACTION = re.compile(r"\^\{([0-9]+)\}/_\{([0-9]+)\}")
NEGATED = re.compile(r"\\not\s*(=|\\in(?![a-zA-Z]))")
HTML = re.compile(r"</?(?:b|i|em|strong|u|span|p|div|br|sub|sup|code)\s*/?>", re.IGNORECASE)
SKIP = re.compile(r"[\s~]+")
NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4}(?![0-9a-zA-Z]))?")
THOUSANDS = re.compile(r"[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9]|,[0-9])(?:\.[0-9]+)?")
EUROPEAN = re.compile(
    r"[1-9][0-9]{0,2}(?:\.[0-9]{3})+(?:,[0-9]+)(?![0-9,.])|[1-9][0-9]{0,2}(?:\.[0-9]{3}){2,}(?![0-9,.])"
)
LETTERS = re.compile(r"[a-zA-Z]+(?:-[a-zA-Z]{2,}(?![a-zA-Z]))*")
LATIN = re.compile(r"[a-zA-Z]+")
SPACING = frozenset((",", ";", ":", "!", "(", ")", "[", "]", ">", "/", "-")) | {" ", "\n", "\t"}
TIMES = re.compile(r"(?<=[0-9])\s?[xX]\s?(?=10\s?\^)|(?<=[0-9]) [xX] (?=[0-9])")
COMMAND = re.compile(r"\\(?:[a-zA-Z]+|.)", re.DOTALL)
SYMBOLS = re.compile(r"\*\*|<=|=<|>=|!=|<>|==|=>|->|\|\||\.\.\.+|[-+*/^_!'%=<>,;:|()\[\]{}&$\"?.#@]")
GROUPED = re.compile(
    r"(?<![0-9.,])([0-9]{1,3})((?:(?:\\[,;: ]|~| |\{,\}|\\!,|,\\!|\\!)[0-9]{3})+)(?![0-9])(?!\s*(?:/|\\[dt]?frac))"
)
DECIMAL_COMMA = re.compile(r"(?<=[0-9])\{,\}(?=[0-9])")
SPACED_COMMA = re.compile(r",(?:\s|~|\\[ ,;:q])")
SPLIT_FUNCTIONS = re.compile(
    "|".join(
        sorted((name for name in (FUNCTIONS | set(ALIASES) | {"sqrt", "pi"}) if len(name) > 1), key=len, reverse=True)
    )
)
LOOSE = frozenset("xyztuvnkabmrp")  # single letters that may stand beside a function's name: xsinx
INVISIBLE = dict.fromkeys(
    [
        *range(0, 9),
        *range(14, 32),
        0x7F,
        0xAD,
        *range(0x200B, 0x2010),
        *range(0x2028, 0x202F),
        *range(0x2060, 0x2062),
        0xFEFF,
    ]
)


def to_ascii(text: str) -> str:
    """The text with Unicode mathematics spelled in ASCII and LaTeX."""
    if text.isascii():
        return text
    out: list[str] = []
    raised = lowered = False
    for char in text.translate(INVISIBLE):
        if (char in SUPERSCRIPTS) != raised:
            out.append("}" if raised else "^{")
            raised = not raised
        if (char in SUBSCRIPTS) != lowered:
            out.append("}" if lowered else "_{")
            lowered = not lowered
        out.append(SUPERSCRIPTS.get(char) or SUBSCRIPTS.get(char) or _one_char(char))
    if raised or lowered:
        out.append("}")
    return RAISED_FRACTION.sub(r"\\frac{\1}{\2}", "".join(out))


def _one_char(char: str) -> str:
    if char.isascii():
        return char
    if char in UNICODE:
        return UNICODE[char]
    if char.isspace():
        return " "
    digit = unicodedata.decimal(char, None)
    if digit is not None:
        return str(digit)
    value = unicodedata.normalize("NFKC", char)
    if "\u2044" in value:  # a vulgar fraction
        above, _, below = value.partition("\u2044")
        return rf"\frac{{{above}}}{{{below}}}" if above and below else char
    return "".join(UNICODE.get(part, part) for part in value)


def normalise(text: str) -> str:
    r"""The text in ASCII, stripped of math delimiters, of \boxed, and of the period at its end."""
    text = undecorated(to_ascii(text).strip())
    while text.endswith("\\"):  # and a last "\ ", without its space
        text = text.removesuffix("\\").removesuffix("\\").rstrip()
    for _ in range(4):
        before = text
        text = text.strip().rstrip(".").strip() if not text.endswith("..") else text.strip()
        for opening, closing in (
            ("$$", "$$"),
            ("$", "$"),
            ("\\(", "\\)"),
            ("\\[", "\\]"),
            ("**", "**"),
            ("*", "*"),
            ("`", "`"),
        ):
            inside = text[len(opening) : -len(closing)]
            if (
                len(text) > len(opening + closing)
                and text.startswith(opening)
                and text.endswith(closing)
                and opening not in inside
            ) and not (opening == "$" and inside.endswith("\\")):
                text = inside
        for opening in ("\\boxed{", "\\fbox{"):
            if text.startswith(opening) and _closing(text, len(opening)) == len(text) - 1:
                text = text[len(opening) : -1]
        if text.startswith("{") and "," not in text and _closing(text, 1) == len(text) - 1 > 1:
            text = text[1:-1]
        for layout in ("\\displaystyle", "\\textstyle"):
            text = text.removeprefix(layout) if not text[len(layout) :][:1].isalpha() else text
        for layout in ("\\quad", "\\qquad", "\\,", "\\;", "\\!", "\\:", "~"):
            text = text.removesuffix(layout).removeprefix(layout if not layout[-1].isalpha() else "\0")
        if text == before:
            break
    return text


def undecorated(text: str) -> str:
    """The text without colours, tags, spaces of a given width, environments of one formula, and HTML."""
    if "\\" in text:
        text, count = ENVIRONMENT.subn(" ", text)
        if count:
            text = text.replace("&", " ")
        text = DECORATION.sub(" ", text)
        text = NEGATED.sub(lambda match: r"\ne " if match[1] == "=" else r"\notin ", text)
    if "<" in text:
        text = HTML.sub(" ", text)
    if ":=" in text:
        text = text.replace(":=", "=")
    return ARROW.sub("", text).strip().removeprefix("=").removesuffix(":").strip()


def _closing(text: str, start: int) -> int:
    """Where the brace closes whose content starts at `start`; -1 if it does not."""
    depth = 1
    at = start
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 2
            continue
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return at
        at += 1
    return -1


class Lexer:
    """Cuts one text into tokens."""

    def __init__(self, text: str, units: bool = True) -> None:
        self.units = units
        text = text.replace("\\text{,}", "{,}").replace("\\mbox{,}", "{,}")
        text = TIMES.sub(r"\\times ", text)
        text = GROUPED.sub(lambda match: match[1] + re.sub(r"[^0-9]", "", match[2]), text)
        self.text = DECIMAL_COMMA.sub(".", text).replace(r"\!", "")
        self.tokens: list[Token] = []
        self.brackets = 0
        self.spaced = SPACED_COMMA.search(self.text) is not None
        self.gap = False

    def push(self, kind: str, value: Any) -> None:
        self.tokens.append((kind, value, self.gap))
        self.gap = False
        if len(self.tokens) > MAX_TOKENS:
            raise ParseError("too many tokens")

    def run(self, start: int = 0, end: int | None = None, in_text: bool = False) -> None:
        text = self.text
        at, end = start, len(text) if end is None else end
        while at < end:
            char = text[at]
            if char.isspace() or char == "~":
                self.gap = True
                at += 1
            elif "0" <= char <= "9" or (char == "." and at + 1 < end and "0" <= text[at + 1] <= "9"):
                at = self.number(at)
            elif "a" <= char <= "z" or "A" <= char <= "Z":
                at = self.letters(at, end, in_text)
            elif char == "\\":
                at = self.command(at, end)
            else:
                at = self.symbol(at, in_text)

    def number(self, at: int) -> int:
        """A number: 12, 1.50, .5, 1e-3; 1,000 where the comma is no list's; 1.000,5."""
        match = EUROPEAN.match(self.text, at)
        if match and (self.brackets == 0 or self.spaced):
            digits = match[0].replace(".", "").replace(",", ".")
        else:
            match = THOUSANDS.match(self.text, at) if self.brackets == 0 or self.spaced else None
            match = match or NUMBER.match(self.text, at)
            if match is None:
                raise ParseError("no number")
            digits = match[0].replace(",", "")
        self.push("num", (*literal(digits), digits))
        return match.end()

    def letters(self, at: int, end: int, in_text: bool) -> int:
        match = LETTERS.match(self.text, at, end)
        if match is None:
            raise ParseError("no letters")
        run = match[0]
        if "-" in run and not in_text and not all(self.is_word(part) for part in run.split("-")):
            match = LATIN.match(self.text, at, end) or match
            run = match[0]
        for part in run.split("-"):
            self.word(part, in_text)
            if "-" in run:
                self.gap = True
        return match.end()

    def is_word(self, run: str) -> bool:
        return run.lower() in NUMBER_WORDS or (len(run) > 3 and self.split(run) is None)

    def is_unit(self, run: str, previous: Token) -> bool:
        """Whether letters after a value name a unit: cm; m only where space or another unit stands before it."""
        if (run == "of" and self.gap) or (previous[0] == "word" and run.lower() in FILLERS):
            return True
        if len(run) == 1 and (run in "eiAVKBNWJ" or not (self.gap or previous[1] == "/" or previous[0] == "word")):
            return False
        if len(run) == 2 and run.islower() and run not in TABLE and run not in POWERS:  # 2ca is no centiampere
            return False
        return lookup(run) is not None or run.lower() in POWERS or run.lower() in ANGLES

    def word(self, run: str, in_text: bool) -> None:
        """A run of letters: an operator, a function, a constant, a unit, a word, or a product of variables."""
        low = run.lower()
        previous = self.tokens[-1] if self.tokens else ("", "", False)
        value_before = previous[0] in ("num", "const", "word", "money") or previous[1] in (")", "}", "]", "!")
        if previous[:2] in (("op", "/"), ("op", "*")) and len(self.tokens) > 1 and self.tokens[-2][0] == "word":
            value_before = True
        if low in WORD_OPERATORS and (low != "times" or value_before):
            self.push("op", WORD_OPERATORS[low])
        elif low in CONSTANTS and (len(run) > 2 or run in ("pi", "Pi", "oo")):
            self.push("const", CONSTANTS[low])
        elif value_before and run in ("min", "mins", "in", "ft", "sec") and (in_text or run != "in" or self.gap):
            self.push("word", run)
        elif run == "in":
            self.push("word" if in_text else "op", "in")
        elif run in ("sqrt", "frac", "dfrac", "tfrac", "binom"):
            self.push("cmd", run)
        elif run in FUNCTIONS or (run in ALIASES and not in_text):
            self.push("func", ALIASES.get(run, run))
        elif run in GREEK_NAMES and len(run) > 1:
            self.push("sym", run)
        elif in_text and len(run) == 1:
            self.push("word" if value_before else "sym", run)
        elif (in_text or (low in NUMBER_WORDS and len(run) > 2) or low in SHORT_WORDS) or (
            value_before and self.units and self.is_unit(run, previous)
        ):
            self.push("word", run)
        elif (len(run) in (3, 4) and run.isupper() and run != "DNE") or run in ROMAN:  # ABC, a triangle
            self.push("sym", run)
        else:
            self.product(run)

    def product(self, run: str) -> None:
        parts = self.split(run)
        in_words = len(run) > 3 and bool(self.tokens) and self.tokens[-1][0] == "word"  # the pizza
        if parts is None or in_words:
            self.push("word", run)
            return
        for part in parts:
            if part in ("sqrt",):
                self.push("cmd", part)
            elif part == "pi":
                self.push("const", "pi")
            elif len(part) > 1:
                self.push("func", ALIASES.get(part, part))
            elif part == "e" or part == "i":
                self.push("const", part)
            else:
                self.push("sym", part)

    def split(self, run: str) -> list[str] | None:
        """The run as variables and function names; None if it is a word."""
        if len(run) <= 3 and not (len(run) == 3 and run.isupper()):
            if len(run) == 3 and run[0].isupper() and run[1:].islower() and any(c in "aeiou" for c in run):
                return None
            return [run] if run in FUNCTIONS else ["pi", run[2]] if run[:2] == "pi" and len(run) == 3 else list(run)
        parts: list[str] = []
        at, known = 0, False
        while at < len(run):
            match = SPLIT_FUNCTIONS.match(run, at)
            if match:
                parts.append(match[0])
                at, known = match.end(), True
            elif run[at] in LOOSE:
                parts.append(run[at])
                at += 1
            else:
                return None
        return parts if known or (len(run) == 4 and not set(run) - set("xyzabc")) else None

    def command(self, at: int, end: int) -> int:
        match = COMMAND.match(self.text, at)
        if match is None:
            raise ParseError("a backslash at the end")
        name, at = match[0][1:], match.end()
        if name == "$":
            self.push("money", "$")
        elif name in ESCAPED:
            self.brackets += (name == "{") - (name == "}")
            self.push("op", ESCAPED[name])
        elif name == "\\":
            self.push("op", "\\\\")
        elif not name.isalpha():  # \, \; \( and their like
            if name not in SPACING:
                raise ParseError(f"a command that is not known: {name}")
            after = SKIP.match(self.text, at)
            nearby = self.text[after.end() if after else at :][:2]
            if name == " " and self.tokens and self.tokens[-1][0] == "set" and nearby[:1] in ("\\", "{"):
                self.push("op", "setminus")
            self.gap = True
        elif name in TEXT_COMMANDS:
            return self.text_command(name, at)
        elif name in ("mathbb", "Bbb", "mathbf") and (letter := self.set_name(at)):
            self.push("set", letter[0])
            return letter[1]
        elif name in VECTORS and (letters := VECTOR.match(self.text, at)):
            found = (letters[1] or letters[2]).lstrip("\\").replace("imath", "i").replace("jmath", "j")
            bold = len(found) == 1 and found.islower() and name in ("mathbf", "boldsymbol", "bm") and found != "e"
            if bold or name in ("vec", "overrightarrow", "widevec") or found in ("i", "j", "k"):
                self.push("sym", f"vec:{found}")
                return letters.end()
            if len(found) == 1 and name in HATS:
                self.push("sym", f"{HATS[name]}:{found}")
                return letters.end()
        elif name in ("left", "right") and self.text[at : at + 1] == ".":
            return at + 1
        elif name in OPERATORS:
            self.push("op", OPERATORS[name])
        elif name in FUNCTIONS or name in ALIASES:
            self.push("func", ALIASES.get(name, name))
        elif name in ("infty", "pi"):
            self.push("const", CONSTANTS[name])
        elif name in ("emptyset", "varnothing"):
            self.push("set", "empty")
        elif name in SETS or name in ("reals", "Reals"):
            self.push("set", name[0].upper())
        elif name in GREEK_NAMES:
            self.push("sym", name.removeprefix("var"))
        elif name in LAYOUT:
            self.gap = True
        elif name == "begin" or name == "end":
            return self.environment(name, at)
        elif name in MONEY:
            self.push("money", MONEY[name])
        else:
            self.push("cmd", ARROWS.get(name, name))
        return at

    def set_name(self, at: int) -> tuple[str, int] | None:
        match = re.compile(r"\s*(?:\{\s*([RZNQC])\s*\}|([RZNQC])(?![a-zA-Z]))").match(self.text, at)
        return ((match[1] or match[2]), match.end()) if match else None

    def text_command(self, name: str, at: int) -> int:
        r"""\text{...}: its content, letters read as words."""
        while at < len(self.text) and self.text[at] in " *":
            at += 1
        if self.text[at : at + 1] != "{":
            return at
        close = _closing(self.text, at + 1)
        if close < 0:
            raise ParseError("a brace is not closed")
        content = self.text[at + 1 : close].strip()
        if name == "mathrm" and content in ("e", "i", "d"):
            self.push("sym" if content == "d" else "const", content)
        elif name in ("operatorname", "mathrm") and content in ALIASES:
            self.push("func", ALIASES[content])
        else:
            self.gap = True
            self.run(at + 1, close, in_text=True)
            self.gap = True
        return close + 1

    def environment(self, name: str, at: int) -> int:
        close = self.text.find("}", at)
        if self.text[at : at + 1] != "{" or close < 0:
            raise ParseError("an environment without a name")
        kind = self.text[at + 1 : close].strip("* ")
        self.push("begin" if name == "begin" else "endenv", kind)
        at = close + 1
        if name == "begin" and kind == "array" and self.text[at : at + 1] == "{":
            at = self.text.find("}", at) + 1 or len(self.text)
        return at

    def symbol(self, at: int, in_text: bool) -> int:
        match = SYMBOLS.match(self.text, at)
        if match is None:
            raise ParseError(f"a character that means nothing here: {self.text[at]!r}")
        value = match[0]
        self.brackets += (value in "([") - (value in ")]") if len(value) == 1 else 0
        if value.startswith("..."):
            value = "..."
        elif value == "!=" and self.tokens and self.tokens[-1][0] == "num" and not self.gap:
            self.push("op", "!")
            value = "="
        elif value == "$":
            follows = self.text[at + 1 : at + 2]
            if not ("0" <= follows <= "9" or follows == ".") or self.text.count("$", 0, at + 1) % 2 == 0:
                self.gap = True
                return match.end()
            self.push("money", "$")
            return match.end()
        elif value == "." and self.tokens and self.tokens[-1][0] == "word":  # sq. cm
            return match.end()
        elif value in ("?", "@", "#") and not in_text:
            raise ParseError(f"a character that means nothing here: {value!r}")
        elif value in ('"', "?", "@", "#") or (value == "." and in_text):
            self.gap = True
            if value == '"' and self.tokens and self.tokens[-1][0] == "num":
                self.push("op", '"')
            return match.end()
        self.push("op", {"**": "^", "=<": "<=", "<>": "!=", "==": "=", "=>": "to", "->": "to"}.get(value, value))
        return match.end()


def literal(digits: str) -> tuple[Fraction, int]:
    """(exact value, decimals) of a number as written: "1.50" is (3/2, 2)."""
    mantissa, _, exponent = digits.lower().partition("e")
    whole, point, decimals = mantissa.partition(".")
    value = Fraction(int(whole + decimals or "0"), 10 ** len(decimals))
    if exponent:
        shift = int(exponent)
        if abs(shift) > MAX_EXPONENT:
            raise ParseError("an exponent too large to write out")
        value = value * Fraction(10) ** shift
    return value, len(decimals) if point else -1


def tokenize(text: str, units: bool = True) -> list[Token]:
    """The tokens of a normalised text, and an end token; `units`: 5 m is five metres. Raises ParseError."""
    if len(text) > MAX_CHARS:
        raise ParseError(f"longer than {MAX_CHARS} characters")
    lexer = Lexer(text, units)
    lexer.run()
    lexer.push("end", "")
    return lexer.tokens
