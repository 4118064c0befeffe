"""From tokens to a tree: precedence climbing by hand, each token read once, with limits on depth and size.

statement  = element { (, ; and or) element }
element    = set { relation set }
set        = sum { (union intersection setminus) sum }
sum        = product { (+ - +-) product }
product    = signed { [* /] signed } [unit]
signed     = { - + +- } power
power      = primary { ^ script, _ script, !, %, degrees, primes }
"""

from __future__ import annotations

from fractions import Fraction

from rewards.mathematics import tree
from rewards.mathematics.build import (
    EXPRESSIONS,
    SETS,
    crossed,
    double_factorial,
    expression,
    gather,
    in_base,
    inverse,
    is_set_like,
    negative,
    primed,
    quantity,
    times,
    total,
    transposed,
)
from rewards.mathematics.lexer import ParseError
from rewards.mathematics.notation import REFUSED
from rewards.mathematics.primaries import CLOSERS, RADIANS, Primaries
from rewards.mathematics.tree import (
    Call,
    Group,
    Interval,
    Matrix,
    NamedSet,
    Node,
    Num,
    Pow,
    Quantity,
    Rel,
    SetOp,
    Sym,
    Text,
    number,
)
from rewards.mathematics.units import FILLERS, POWERS, combine, lookup
from rewards.mathematics.words import KNOWN as NUMBER_WORDS
from rewards.mathematics.words import MULTIPLIERS, PARTS, number_words

RELATIONS = frozenset(("=", "!=", "<", "<=", ">", ">=", "in", "notin", "~", "equiv"))
SEPARATORS = frozenset((",", ";", "and", "or", "land", "lor"))


SIGNS = {"minus": "-", "negative": "-", "positive": "+"}
LEADING = frozenset(("at", "when", "if", "for", "where", "so", "thus", "hence", "therefore"))
NO_TEXT = frozenset("(){}:!'")
ARTICLES = frozenset(("a", "an", "the", "of"))
TRANSPOSED = (Sym("T"), Sym("t"))
MAX_UNIT_WORDS = 6


class Parser(Primaries):
    """Reads one token list. Every method leaves `at` behind what it read, or raises ParseError."""

    # Statements

    def whole(self) -> Node:
        node = self.statement()
        if self.kind() != "end":
            raise ParseError(f"left over: {self.value()!r}")
        return node

    def statement(self) -> Node:
        """Elements with what separates them; "or" binds least, a comma before "or" or "and" is part of it."""
        self.enter()
        items, separators = [self.element()], []
        if self.kind() == "cmd" and self.value() in ("over", "choose"):
            name = self.value()
            self.at += 1
            above, below = expression(items[0]), expression(self.element())
            items = [tree.div(above, below) if name == "over" else Call("binom", (above, below))]
        while True:
            separator = self.accept(*SEPARATORS)
            if not separator and self.op() == "cup" and isinstance(items[-1], Rel):
                separator = self.accept("cup") and "or"
            if not separator:
                break
            if separator in (",", ";"):
                if self.kind() == "end" or self.op() in CLOSERS:
                    break
                separator = self.accept("and", "or") or separator
            separators.append("," if separator == ";" else separator)
            items.append(self.element())
        self.depth -= 1
        return gather(items, separators)

    def element(self) -> Node:
        if self.kind() == "word" and self.value().lower() in LEADING and self.peek(1)[0] in ("sym", "num"):
            self.at += 1
        start = self.at
        try:
            return self.relation()
        except ParseError:
            words = self.text_element(start)
            if words is None:
                raise
            return words

    def text_element(self, start: int) -> Node | None:
        """The tokens up to the next separator as text, if there are words among them."""
        self.at = start
        parts: list[str] = []
        words = 0
        while (
            self.kind() not in ("end", "endenv")
            and self.op() not in SEPARATORS
            and not (self.op() in CLOSERS and not parts)
        ):
            kind, value, gap = self.tokens[self.at]
            if value == "=" and words:
                break
            if kind == "op" and value in CLOSERS and value not in ("}", ")"):
                break
            if gap or kind == "word":
                parts.append(" ")
            words += kind == "word"
            if kind == "cmd":
                return None
            parts.append(value[2] if kind == "num" else str(value))
            self.at += 1
        if not words:
            return None
        text = Text(" ".join("".join(part for part in parts if part not in NO_TEXT).lower().split()))
        if all(token[0] == "word" for token in self.tokens[start : self.at]) and self.accept("="):  # Area = 5
            return Rel(("=",), (text, self.set_expression()))
        return text

    def relation(self) -> Node:
        starts = [self.at]
        items = [self.set_expression()]
        ops: list[str] = []
        while (op := self.op()) in RELATIONS and not (op == ">" and self.angles):
            self.at += 1
            if op in ("<", ">") and self.accept("="):
                op += "="
            ops.append(op)
            starts.append(self.at)
            items.append(self.set_expression())
        if ops and set(ops) == {"="}:
            sides = [self.written(a, b - 1) for a, b in zip(starts, [*starts[1:], self.at + 1], strict=True)]
            if all(side == sides[0] for side in sides):
                raise ParseError("an equation of a value with itself")
        if modulus := self.modulus():
            items[-1] = Group("mod", (expression(items[-1]), modulus))
        if self.op() == ":" and not ops:
            return self.ratio(items)
        if not ops:
            return items[0]
        if ops == ["!="] and tree.has_call(items[1], "pm"):  # x != +-1
            values = [tree.split_signs(items[1], upper) for upper in (True, False)]
            return Group("and", tuple(Rel(("!=",), (items[0], value)) for value in values))
        return Rel(tuple(ops), tuple(items))

    def written(self, start: int, stop: int) -> list[tuple[str, object]]:
        return [(kind, value) for kind, value, _ in self.tokens[start:stop]]

    def modulus(self) -> Node | None:
        r"""The m of \\pmod{m}, (mod m) or mod m, if that follows."""
        bracket = self.op() == "("
        kind, value, _ = self.peek(bracket)
        if value not in ("pmod", "mod") or kind not in ("cmd", "word"):
            return None
        self.at += 1 + bracket
        node = expression(self.argument() if self.op() == "{" else self.sum())
        if bracket:
            self.expect(")")
        return node

    def ratio(self, items: list[Node]) -> Node:
        while self.accept(":"):
            items.append(self.sum())
        if not all(isinstance(item, EXPRESSIONS) for item in items):
            raise ParseError("a ratio of what is no number")
        return Group("ratio", tuple(items))

    def set_expression(self) -> Node:
        left = self.sum()
        while is_set_like(left) or (isinstance(left, Sym) and left.name.isupper()):
            if self.tokens[self.at][:2] == ("sym", "U"):
                self.tokens[self.at] = ("op", "cup", True)
            found = self.accept("cup", "cap", "setminus")
            if not found:
                break
            op = {"cup": "union", "cap": "intersection", "setminus": "minus"}[found]
            right = self.sum()
            if not is_set_like(right) and not isinstance(right, Sym):
                raise ParseError("a set operation on what is no set")
            left = SetOp(op, (left, right))
        return left

    # Expressions

    def sum(self) -> Node:
        items = [self.product()]
        while op := self.accept("+", "-", "pm", "mp"):
            right = self.product()
            if op == "-" and is_set_like(items[-1]) and len(items) == 1:
                return SetOp("minus", (items[0], right))
            items.append(right if op == "+" else negative(right) if op == "-" else Call(op, (expression(right),)))
        return items[0] if len(items) == 1 else total(items)

    def product(self) -> Node:
        left = self.signed()
        while True:
            op = self.accept("*", "/", "cross")
            if op == "cross":
                left = crossed(left, self.signed())
            elif op:
                right = self.signed()
                left = times(left, right if op == "*" else inverse(right))
            elif self.kind() == "cmd" and self.value() == "bmod":
                self.at += 1
                left = Call("mod", (expression(left), expression(self.signed())))
            elif self.kind() in ("word", "money"):
                left = self.unit_of(left)
            elif self.starts_factor(left):
                if isinstance(left, Quantity):
                    right = self.product()
                    if not isinstance(right, Quantity) or right.dims != left.dims:
                        raise ParseError("a unit within a product")
                    return total([left, right])
                left = times(left, self.power())
            else:
                return left

    def starts_factor(self, left: Node) -> bool:
        """Whether the next token begins a factor that is written without a sign of multiplication."""
        kind, op = self.kind(), self.op()
        if not isinstance(left, (*EXPRESSIONS, Matrix, Quantity)) and kind != "op" and self.value() != "begin":
            return False
        if kind == "cmd" and self.value() in ("over", "choose", "pmod", "mod", "bmod"):
            return False
        if kind == "num":
            previous = self.tokens[self.at - 1]
            raised = self.at > 1 and self.tokens[self.at - 2][1] == "^"  # 2^x 2^y
            if (
                previous[0] == "num"
                or (previous[0] == "word" and not isinstance(left, Quantity))
                or (previous[0] == "sym" and not raised and self.peek(1)[1] != "^")  # but n2^{n-1}
            ):
                raise ParseError("a number right after another")
            return True
        if kind in ("sym", "const", "func", "cmd", "begin"):
            return True
        if op == "|":
            return self.bars == 0
        following = self.peek(1)[1] if kind != "end" else ""
        if op == "(" and following == "mod":
            return False
        if op == "[":  # not the end of [1, 2[
            return isinstance(left, EXPRESSIONS) and following not in (
                "",
                "cup",
                "cap",
                "setminus",
                ",",
                ")",
                "or",
                "and",
            )
        return op in ("(", "{", "lfloor", "lceil")

    def signed(self) -> Node:
        signs: list[str] = []
        while True:
            op = self.accept("-", "+", "pm", "mp")
            if (
                not op
                and self.kind() == "word"
                and self.value().lower() in SIGNS
                and self.peek(1)[0] in ("num", "const")
            ):
                op = SIGNS[self.value().lower()]
                self.at += 1
            if not op:
                break
            signs.append(op)
        node = self.power()
        for op in reversed(signs):
            if op in ("pm", "mp"):
                node = Call(op, (expression(node),))
            elif op == "-":
                node = negative(node)
        return node

    def power(self) -> Node:
        node = self.primary()
        while True:
            op = self.op()
            if op == "^":
                self.at += 1
                node = self.raised(node)
            elif op == "_":
                node = self.lowered(node)
                node = self.applied(node) if isinstance(node, Sym) else node
            elif op == "!":
                self.at += 1
                node = double_factorial(node) if self.accept("!") else Call("factorial", (expression(node),))
            elif op == "%":
                self.at += 1
                node = Call("percent", (expression(node),))
            elif op == "deg":
                self.at += 1
                node = self.degrees(node)
            elif op in ("'", '"'):
                self.at += 1
                if op == "'" and isinstance(node, Num) and self.accept("'"):
                    op = '"'
                node = primed(node, op)
                node = self.applied(node) if isinstance(node, Sym) else node
            else:
                return node

    def raised(self, base: Node) -> Node:
        braced = self.op() == "{" and self.peek(1)[1] in ("circ", "'", "deg")
        if braced or self.op() in ("circ", "'", "deg"):
            self.at += braced
            sign = self.expect("circ", "'", "deg")
            while sign == "'" and self.accept("'"):
                sign += "'"
            if braced:
                self.expect("}")
            return self.degrees(base) if sign != "'" * len(sign) else primed(base, sign)
        if isinstance(base, NamedSet) and base.name in "RZ":
            return self.half_set(base)
        if isinstance(base, Sym) and (order := self.derivative_order()):
            return self.applied(Sym(f"{base.name}^({order})"))
        exponent = expression(self.script())
        if exponent in TRANSPOSED and isinstance(base, (Matrix, Group)):
            return transposed(base)
        if isinstance(base, (Matrix, Group, *SETS, Quantity)):
            raise ParseError("a power of what is no expression")
        return tree.power(base, exponent)

    def derivative_order(self) -> str:
        """The 4 of f^{(4)}; "" if something else is raised."""
        tokens = [self.peek(ahead)[1] for ahead in range(5)]
        if [*tokens[:2], *tokens[3:]] != ["{", "(", ")", "}"] or self.peek(2)[0] not in ("num", "sym"):
            return ""
        self.at += 5
        return str(tokens[2] if isinstance(tokens[2], str) else tokens[2][2])

    def half_set(self, base: NamedSet) -> Node:
        r"""\mathbb{R}^+, \mathbb{Z}^{-}: the positive or negative part."""
        braced = bool(self.accept("{"))
        sign = self.expect("+", "-")
        if braced:
            self.expect("}")
        if base.name == "Z":
            return NamedSet("Z" + sign)
        low, high = (tree.ZERO, tree.INFINITY) if sign == "+" else (tree.neg(tree.INFINITY), tree.ZERO)
        return Interval(low, high, False, False)

    def bounded_reals(self) -> Node:
        r"""\mathbb{R}_{>0}, \mathbb{R}_{\ge 0}, \mathbb{R}_+."""
        braced = bool(self.accept("{"))
        op = self.expect("+", "-", ">", ">=", "<", "<=")
        if op in (">", "<") and self.accept("="):
            op += "="
        bound = tree.ZERO if op in ("+", "-") else expression(self.sum())
        if braced:
            self.expect("}")
        if op in ("+", ">", ">="):
            return Interval(bound, tree.INFINITY, op == ">=", False)
        return Interval(tree.neg(tree.INFINITY), bound, False, op == "<=")

    def degrees(self, node: Node) -> Node:
        """After the sign of degrees: an angle, or with C or F a temperature."""
        if self.kind() in ("sym", "word") and self.value() in (
            "C",
            "F",
            "Celsius",
            "Fahrenheit",
            "celsius",
            "fahrenheit",
        ):
            unit = combine([({"c": "celsius", "f": "fahrenheit"}[self.value()[0].lower()], 1)])
            self.at += 1
            return quantity(node, unit)
        return Call("deg", (expression(node),))

    def script(self) -> Node:
        """What is raised: a group in braces, or one signed primary; towers lean right."""
        return self.group_or_signed(raises=True)

    def lowered(self, node: Node) -> Node:
        """A subscript: part of a variable's name, or the base in which a number is written; R_{>0} is half the line."""
        self.at += 1
        if node == NamedSet("R"):
            return self.bounded_reals()
        parts: list[str] = []
        if self.accept("{"):
            while self.op() != "}":
                if self.kind() == "end":
                    raise ParseError("a subscript is not closed")
                parts.append(self.value() if self.kind() != "num" else self.tokens[self.at][1][2])
                self.at += 1
            self.at += 1
        elif self.kind() in ("num", "sym", "const", "word"):
            parts.append(self.value() if self.kind() != "num" else self.tokens[self.at][1][2])
            self.at += 1
        name = "".join(parts)
        if isinstance(node, Sym) and name:
            return Sym(f"{node.name}_{name}")
        if isinstance(node, Pow) and isinstance(node.base, Sym) and name:  # x^2_1
            return Pow(Sym(f"{node.base.name}_{name}"), node.exponent)
        if isinstance(node, Num) and name.isdigit():
            return in_base(str(node.value), int(name))
        raise ParseError("a subscript on what is no variable")

    # Words and units

    def words(self) -> Node:
        """A number in words."""
        start = self.at
        words: list[str] = []
        while self.kind() == "word" or (words and self.op() == "and" and self.peek(1)[0] == "word"):
            words.append(self.value().lower())
            self.at += 1
        found = number_words(words)
        if found is None:
            raise ParseError("words that are no number")
        self.at = start + found[1]
        return Num(found[0])

    def unit_of(self, left: Node) -> Node:
        """The value with the unit, scale, percent or degrees that the words after it name."""
        if self.kind() == "money":
            self.at += 1
            return quantity(left, combine([(str(self.tokens[self.at - 1][1]), 1)]))
        word = self.value().lower()
        if not isinstance(left, (*EXPRESSIONS, Quantity)):
            raise ParseError("words after what is no number")
        if tree.symbols(left):  # 5x cm, but not "a circle"
            unit = combine(self.unit_words())
            if unit is None or any(name.startswith("#") for name, _ in unit.dims):
                raise ParseError("words after what is no number")
            return quantity(left, unit)
        part = PARTS.get(word) or PARTS.get(word.removesuffix("s"))
        if part and word != "second" and isinstance(left, Num):
            self.at += 1
            return times(left, Num(Fraction(1, part)))
        if word in MULTIPLIERS:
            self.at += 1
            return times(left, number(MULTIPLIERS[word]))
        if word in ("percent", "pct", "percents"):
            self.at += 1
            return Call("percent", (left,))
        if word in ("degree", "degrees", "deg"):
            self.at += 1
            return self.degrees(left)
        if word in RADIANS:
            self.at += 1
            return Call("rad", (left,))
        return quantity(left, combine(self.unit_words()))

    def unit_words(self) -> list[tuple[str, int]]:
        """Words and exponents: "square metres per second", "kg m/s^2"."""
        parts: list[tuple[str, int]] = []
        sign, raised = 1, 1
        while True:
            if self.kind() == "word":
                word = self.value()
                self.at += 1
                if word.lower() in ("fl", "fluid") and self.kind() == "word":
                    word = "floz"
                    self.at += 1
                if len(parts) >= MAX_UNIT_WORDS or (len(word) == 1 and lookup(word) is None and word != "a"):
                    raise ParseError("words that are no unit")
                if word.lower() in NUMBER_WORDS and word.lower() not in FILLERS:
                    raise ParseError("a number right after another")
                signed = word.lower() in SIGNS and self.kind() == "word"  # 7 positive integers
                if word.lower() in REFUSED and not signed and not (word.lower() in POWERS and parts):
                    raise ParseError("words that are no unit")
                if word.lower() in POWERS:
                    if word.lower().endswith("ed") and parts:
                        parts[-1] = (parts[-1][0], parts[-1][1] * POWERS[word.lower()])
                    else:
                        raised = POWERS[word.lower()]
                    continue
                if word.lower() in ("per", "every"):
                    sign = -1
                    continue
                exponent = raised * sign * self.unit_exponent()
                parts.append((word, exponent))
                raised, sign = 1, 1
            elif self.op() in ("/", "*") and self.peek(1)[0] == "word":
                sign = -1 if self.accept("/", "*") == "/" else 1
            elif parts and parts[-1][0].lower() in ARTICLES:
                raise ParseError("words that are no unit")
            else:
                return parts

    def unit_exponent(self) -> int:
        if not self.accept("^"):
            return 1
        exponent = self.script()
        if not isinstance(exponent, Num) or exponent.value.denominator != 1 or abs(exponent.value) > 9:
            raise ParseError("a unit's exponent that is no small integer")
        return int(exponent.value)
