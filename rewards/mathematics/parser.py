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
from rewards.mathematics.lexer import ParseError, Token
from rewards.mathematics.tree import (
    Add,
    Builder,
    Call,
    Const,
    Group,
    Interval,
    Matrix,
    Mul,
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
from rewards.mathematics.units import POWERS, Unit, combine
from rewards.mathematics.words import MULTIPLIERS, number_words

MAX_DEPTH = 40
RELATIONS = frozenset(("=", "!=", "<", "<=", ">", ">=", "in", "notin", "~", "equiv"))
SEPARATORS = frozenset((",", ";", "and", "or"))
CLOSERS = frozenset((")", "]", "}", "\\}", "|", "||", "rangle", "rfloor", "rceil", "&", "\\\\"))
EXPRESSIONS = (Num, Const, Sym, Add, Mul, Pow, Call)
SETS = (Interval, SetOp, NamedSet, Builder)
PAIRED = {"lfloor": ("rfloor", "floor"), "lceil": ("rceil", "ceil")}
SEVERAL = frozenset(("gcd", "lcm", "max", "min", "binom"))
INVERSE = {
    name: "arc" + name
    for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "coth", "sech", "csch")
}
MATRICES = frozenset(
    ("pmatrix", "bmatrix", "matrix", "Bmatrix", "array", "smallmatrix", "psmallmatrix", "bsmallmatrix")
)
RADIANS = frozenset(("radian", "radians", "rad", "rads"))


class Parser:
    """Reads one token list. Every method leaves `at` behind what it read, or raises ParseError."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.bars = 0  # open | whose closing one must not be read as an opening one

    # Tokens

    def op(self) -> str:
        """The operator at hand, "" if it is something else."""
        kind, value, _ = self.tokens[self.at]
        return str(value) if kind == "op" else ""

    def kind(self) -> str:
        return self.tokens[self.at][0]

    def value(self) -> str:
        return str(self.tokens[self.at][1])

    def accept(self, *ops: str) -> str:
        found = self.op()
        if found and found in ops:
            self.at += 1
            return found
        return ""

    def expect(self, *ops: str) -> str:
        found = self.accept(*ops)
        if not found:
            raise ParseError(f"expected {' or '.join(ops)}, found {self.value() or 'the end'!r}")
        return found

    def close_bar(self) -> None:
        if self.op() == "||":
            self.tokens[self.at] = ("op", "|", False)
        else:
            self.expect("|")

    def enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ParseError("nested too deeply")

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
        while self.kind() != "end" and self.op() not in SEPARATORS and not (self.op() in CLOSERS and not parts):
            kind, value, _ = self.tokens[self.at]
            if kind == "op" and value in CLOSERS and value not in ("}", ")"):
                break
            words += kind == "word"
            if kind == "cmd":
                return None
            parts.append(value[2] if kind == "num" else str(value))
            self.at += 1
        if not words:
            return None
        return Text(" ".join(part.lower() for part in parts if part not in ("(", ")", "{", "}", ":", "!", "'")))

    def relation(self) -> Node:
        items = [self.set_expression()]
        ops: list[str] = []
        while (op := self.op()) in RELATIONS:
            self.at += 1
            if op in ("<", ">") and self.accept("="):
                op += "="
            ops.append(op)
            items.append(self.set_expression())
        if self.op() == ":" and not ops:
            return self.ratio(items)
        if not ops:
            return items[0]
        return Rel(tuple(ops), tuple(items))

    def ratio(self, items: list[Node]) -> Node:
        while self.accept(":"):
            items.append(self.sum())
        if not all(isinstance(item, EXPRESSIONS) for item in items):
            raise ParseError("a ratio of what is no number")
        return Group("ratio", tuple(items))

    def set_expression(self) -> Node:
        left = self.sum()
        while self.op() in ("cup", "cap", "setminus") and (isinstance(left, SETS) or is_set_like(left)):
            op = {"cup": "union", "cap": "intersection", "setminus": "minus"}[self.accept("cup", "cap", "setminus")]
            right = self.sum()
            if not isinstance(right, SETS) and not is_set_like(right):
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
            op = self.accept("*", "/")
            if op:
                right = self.signed()
                left = times(left, right if op == "*" else inverse(right))
            elif self.kind() == "word" or self.op() == "$":
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
        if kind == "num":
            previous = self.tokens[self.at - 1]
            if previous[0] == "num" or previous[0] == "sym":
                raise ParseError("a number right after another")
            return True
        if kind in ("sym", "const", "func", "cmd", "begin"):
            return True
        if op == "|":
            return self.bars == 0
        return op in ("(", "{", "lfloor", "lceil") or (op == "[" and not isinstance(left, (Group, Interval)))

    def signed(self) -> Node:
        signs: list[str] = []
        while op := self.accept("-", "+", "pm", "mp"):
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
            elif op == "!":
                self.at += 1
                node = Call("factorial", (expression(node),))
            elif op == "%":
                self.at += 1
                node = Call("percent", (expression(node),))
            elif op == "deg":
                self.at += 1
                node = self.degrees(node)
            elif op in ("'", '"'):
                self.at += 1
                node = primed(node, op)
            else:
                return node

    def raised(self, base: Node) -> Node:
        braced = self.op() == "{" and self.tokens[self.at + 1][1] in ("circ", "'", "deg")
        if braced or self.op() in ("circ", "'", "deg"):
            self.at += braced
            sign = self.expect("circ", "'", "deg")
            while sign == "'" and self.accept("'"):
                sign += "'"
            if braced:
                self.expect("}")
            return self.degrees(base) if sign != "'" * len(sign) else primed(base, sign)
        exponent = expression(self.script())
        if isinstance(base, (Matrix, Group, *SETS, Quantity)):
            raise ParseError("a power of what is no expression")
        return tree.power(base, exponent)

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
        self.enter()
        if self.accept("{"):
            node = self.statement()
            self.expect("}")
        else:
            sign = self.accept("-", "+")
            node = self.primary()
            if self.accept("^"):
                node = self.raised(node)
            node = negative(node) if sign == "-" else node
        self.depth -= 1
        return node

    def lowered(self, node: Node) -> Node:
        """A subscript: part of a variable's name, or the base in which a number is written."""
        self.at += 1
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
        if isinstance(node, Num) and name.isdigit():
            return in_base(str(node.value), int(name))
        raise ParseError("a subscript on what is no variable")

    # Primaries

    def primary(self) -> Node:
        kind, value, _ = self.tokens[self.at]
        if kind == "num":
            return self.number()
        if kind == "sym":
            self.at += 1
            return self.applied(Sym(value))
        if kind == "const":
            self.at += 1
            return Const(value)
        if kind == "set":
            self.at += 1
            return NamedSet(value)
        if kind == "func":
            return self.function()
        if kind == "cmd":
            return self.command()
        if kind == "begin":
            return self.matrix()
        if kind == "word":
            return self.words()
        if kind == "op":
            return self.bracketed()
        raise ParseError("it ends where something must follow")

    def number(self) -> Node:
        """A number literal; with a fraction right behind an integer, a mixed number."""
        value, places, _ = self.tokens[self.at][1]
        self.at += 1
        if places >= 0 or value.denominator != 1:
            return Num(value, places)
        if self.kind() == "cmd" and self.value() in ("frac", "dfrac", "tfrac", "cfrac"):
            start = self.at
            above, below = self.fraction()
            if isinstance(above, Num) and isinstance(below, Num) and 0 < above.value < below.value:
                return Num(value + above.value / below.value)
            self.at = start
        ahead = self.tokens[self.at : self.at + 3]
        if [token[0] for token in ahead] == ["num", "op", "num"] and ahead[1][1] == "/" and ahead[0][2]:
            above, below = ahead[0][1][0], ahead[2][1][0]
            if 0 < above < below and above.denominator == below.denominator == 1:
                self.at += 3
                return Num(value + above / below)
        return Num(value, places)

    def applied(self, name: Sym) -> Node:
        """f(x): a call, where f is a usual name of functions; x(y + 1) is a product."""
        if self.op() == "(" and name.name == "f":
            self.at += 1
            inner = self.statement()
            self.expect(")")
            args = inner.items if isinstance(inner, Group) else (inner,)
            return Call("f", tuple(expression(arg) for arg in args))
        return name

    def function(self) -> Node:
        name = self.value()
        self.at += 1
        exponent: Node | None = None
        base: Node | None = None
        for _ in range(2):
            if self.accept("^"):
                exponent = expression(self.script())
            elif self.op() == "_":
                self.at += 1
                base = expression(self.script())
        if exponent == tree.MINUS_ONE and name in INVERSE:
            name, exponent = INVERSE[name], None
        args = self.arguments(name)
        if name == "log" and base is not None:
            args = (*args, base)
        elif base is not None:
            raise ParseError("a subscript on a function")
        node: Node = tree.power(args[0], Num(Fraction(1, 3))) if name == "cbrt" else Call(name, args)
        return node if exponent is None else tree.power(node, exponent)

    def arguments(self, name: str) -> tuple[Node, ...]:
        """In brackets; or, of one argument, the factors that follow."""
        closing = {"(": ")", "{": "}", "[": "]"}.get(self.op())
        if closing:
            self.at += 1
            inner = self.statement()
            self.expect(closing)
            several = isinstance(inner, Group) and inner.kind in ("list", "tuple", "set") and name in SEVERAL
            if name == "log" and isinstance(inner, Group) and len(inner.items) == 2:
                several = True
            args = inner.items if several and isinstance(inner, Group) else (inner,)
            return tuple(expression(arg) for arg in args)
        self.enter()
        node = self.signed()
        while self.kind() in ("sym", "const", "cmd", "num") and self.starts_factor(node):
            node = times(node, self.power())
        self.depth -= 1
        return (expression(node),)

    def command(self) -> Node:
        name = self.value()
        if name in ("frac", "dfrac", "tfrac", "cfrac"):
            above, below = self.fraction()
            return tree.div(expression(above), expression(below))
        self.at += 1
        if name == "sqrt":
            degree: Node = number(2)
            if self.accept("["):
                degree = expression(self.sum())
                self.expect("]")
            return tree.power(expression(self.argument()), tree.div(tree.ONE, degree))
        if name == "cbrt":
            return tree.power(expression(self.argument()), Num(Fraction(1, 3)))
        if name in ("binom", "dbinom", "tbinom"):
            return Call("binom", (expression(self.argument()), expression(self.argument())))
        if name in ("overline", "bar", "widebar"):
            inner = self.argument()
            return Call("conj", (inner,)) if isinstance(inner, Sym) and inner.name.islower() else inner
        if name in ("sum", "prod"):
            return self.big_operator(name)
        if name in ("pmod", "bmod", "mod"):
            raise ParseError("a congruence")
        raise ParseError(f"a command that is not known: {name}")

    def big_operator(self, name: str) -> Node:
        r"""\sum_{k=1}^{n} body: a call with (body, variable, from, to)."""
        self.expect("_")
        lower = self.script()
        self.expect("^")
        upper = expression(self.script())
        if not (isinstance(lower, Rel) and lower.ops == ("=",) and isinstance(lower.items[0], Sym)):
            raise ParseError("a sum over what is no range")
        return Call(name, (expression(self.product()), lower.items[0], expression(lower.items[1]), upper))

    def fraction(self) -> tuple[Node, Node]:
        self.at += 1
        return self.argument(), self.argument()

    def argument(self) -> Node:
        r"""What a command takes: a group in braces or one token; of \frac12, one digit."""
        self.enter()
        if self.accept("{"):
            node = self.statement()
            self.expect("}")
        elif self.kind() == "num":
            digits = self.tokens[self.at][1][2]
            previous = self.tokens[self.at - 1]
            if len(digits) > 1 and digits.isdigit() and previous[1] != "sqrt":
                rest = digits[1:]
                self.tokens[self.at] = ("num", (Fraction(int(rest)), -1, rest), False)
                node = number(int(digits[0]))
            else:
                self.at += 1
                node = Num(*self.tokens[self.at - 1][1][:2])
        elif self.op() == "(":
            node = self.primary()
        else:
            node = self.signed() if self.op() in ("-", "+") else self.primary()
        self.depth -= 1
        return node

    def bracketed(self) -> Node:
        op = self.op()
        self.enter()
        self.at += 1
        if op in PAIRED:
            closing, name = PAIRED[op]
            node: Node = Call(name, (expression(self.inside()),))
            self.expect(closing)
        elif op == "|" or op == "||":
            if op == "||":
                self.at -= 1
                self.tokens[self.at] = ("op", "|", False)
            self.bars += 1
            node = Call("abs", (expression(self.sum()),))
            self.bars -= 1
            self.close_bar()
        elif op in ("(", "[", "]"):
            node = self.interval_or_group(op)
        elif op in ("\\{", "{"):
            node = self.set_literal("\\}" if op == "\\{" else "}")
        elif op == "langle":
            node = Group("angle", listed(self.inside()))
            self.expect("rangle")
        elif op == "<" and self.depth <= 3:
            node = Group("angle", listed(self.inside()))
            self.expect(">")
        elif op == "$":
            node = quantity(expression(self.power()), combine([("$", 1)]))
        elif op == "~":
            node = self.set_expression()
        else:
            raise ParseError(f"{op!r} where a value must stand")
        self.depth -= 1
        return node

    def inside(self) -> Node:
        """A statement within brackets: a bar in it opens anew."""
        bars, self.bars = self.bars, 0
        node = self.statement()
        self.bars = bars
        return node

    def interval_or_group(self, opening: str) -> Node:
        inner = self.inside()
        closing = self.expect(")", "]") if opening == "(" else self.expect(")", "]", "[")
        items = inner.items if isinstance(inner, Group) and inner.kind == "list" else ()
        if len(items) == 2 and (opening, closing) not in (("(", ")"), ("[", "]")):
            return Interval(items[0], items[1], opening == "[", closing == "]")
        if (opening, closing) == ("(", ")"):
            return Group("tuple", items) if items else inner
        if (opening, closing) != ("[", "]"):
            raise ParseError("brackets that do not match")
        rows = [row.items for row in items if isinstance(row, Group) and row.kind == "bracket"]
        if items and len(rows) == len(items) and len({len(row) for row in rows}) == 1:
            return Matrix(tuple(rows))
        return Group("bracket", items) if items else inner

    def set_literal(self, closing: str) -> Node:
        if self.accept(closing):
            return NamedSet("empty")
        bars, self.bars = self.bars, 1
        inner = self.relation_in_set() if closing == "\\}" or self.builder_ahead() else self.statement()
        self.bars = bars
        if self.accept("|", ":", "mid"):
            condition = self.inside()
            self.expect(closing)
            return Builder(inner, condition)
        self.expect(closing)
        if closing == "\\}":
            return Group("set", listed(inner))
        return Group("set", inner.items) if isinstance(inner, Group) and inner.kind == "list" else inner

    def builder_ahead(self) -> bool:
        return self.tokens[self.at + 1][1] in ("|", ":", "mid") or self.tokens[self.at + 1][1] == "in"

    def relation_in_set(self) -> Node:
        """The part of a set before "such that", where a colon is no ratio; or all its elements."""
        colon = [k for k in (self.at + 1, self.at + 3) if k < len(self.tokens) and self.tokens[k][1] == ":"]
        if not colon:
            return self.statement()
        token = self.tokens[colon[0]]
        self.tokens[colon[0]] = ("op", "mid", token[2])
        return self.statement()

    def matrix(self) -> Node:
        kind = self.value()
        if kind not in MATRICES:
            raise ParseError(f"an environment that is not known: {kind}")
        self.enter()
        self.at += 1
        rows: list[tuple[Node, ...]] = []
        while self.kind() != "endenv" and self.kind() != "end":
            row = [self.element()]
            while self.accept("&"):
                row.append(self.element())
            rows.append(tuple(row))
            if not self.accept("\\\\"):
                break
        if self.kind() != "endenv" or len({len(row) for row in rows}) != 1:
            raise ParseError("a matrix whose rows differ in length")
        self.at += 1
        self.depth -= 1
        return Matrix(tuple(rows))

    # Words and units

    def words(self) -> Node:
        """A number in words."""
        start = self.at
        words: list[str] = []
        while self.kind() == "word" or (words and self.op() == "and" and self.tokens[self.at + 1][0] == "word"):
            words.append(self.value().lower())
            self.at += 1
        found = number_words(words)
        if found is None:
            raise ParseError("words that are no number")
        self.at = start + found[1]
        return Num(found[0])

    def unit_of(self, left: Node) -> Node:
        """The value with the unit, scale, percent or degrees that the words after it name."""
        if self.accept("$"):
            return quantity(left, combine([("$", 1)]))
        word = self.value().lower()
        if not isinstance(left, (*EXPRESSIONS, Quantity)) or (isinstance(left, Sym) or tree.symbols(left)):
            raise ParseError("words after what is no number")
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
            elif self.op() in ("/", "*") and self.tokens[self.at + 1][0] == "word":
                sign = -1 if self.accept("/", "*") == "/" else 1
            else:
                return parts

    def unit_exponent(self) -> int:
        if not self.accept("^"):
            return 1
        exponent = self.script()
        if not isinstance(exponent, Num) or exponent.value.denominator != 1 or abs(exponent.value) > 9:
            raise ParseError("a unit's exponent that is no small integer")
        return int(exponent.value)


# Putting nodes together


def is_set_like(node: Node) -> bool:
    return isinstance(node, SETS) or (isinstance(node, Group) and node.kind in ("set", "tuple", "bracket"))


def expression(node: Node) -> Node:
    """The node, if it is an expression: what stands in sums, powers and functions."""
    if not isinstance(node, EXPRESSIONS):
        raise ParseError(f"{type(node).__name__} where an expression must stand")
    return node


def negative(node: Node) -> Node:
    return times(tree.MINUS_ONE, node) if not isinstance(node, Num) else tree.neg(node)


def times(left: Node, right: Node) -> Node:
    """The product; a scalar times a matrix or a vector is multiplied out, a quantity keeps its unit."""
    for scalar, other in ((left, right), (right, left)):
        if isinstance(scalar, EXPRESSIONS):
            if isinstance(other, Matrix):
                return Matrix(tuple(tuple(times(scalar, item) for item in row) for row in other.rows))
            if (
                isinstance(other, Group)
                and other.kind in ("tuple", "angle", "bracket")
                and isinstance(scalar, (Num, Pow, Mul))
            ):
                return Group(other.kind, tuple(times(scalar, item) for item in other.items))
            if isinstance(other, Quantity):
                return Quantity(tree.mul(scalar, other.value), other.dims, other.factor, other.offset)
    return tree.mul(expression(left), expression(right))


def inverse(node: Node) -> Node:
    return tree.power(expression(node), tree.MINUS_ONE)


def quantity(value: Node, unit: Unit | None) -> Node:
    """The value in the unit; a value that has one already is in the product of both (dollars per hour)."""
    if unit is None:
        return value
    if isinstance(value, Quantity):
        dims = dict(value.dims)
        for name, exponent in unit.dims:
            dims[name] = dims.get(name, 0) + exponent
        left = tuple(sorted((name, exponent) for name, exponent in dims.items() if exponent))
        return Quantity(value.value, left, value.factor * unit.factor)
    return Quantity(expression(value), unit.dims, unit.factor, unit.offset)


def total(items: list[Node]) -> Node:
    """The sum: of expressions, of quantities of one dimension, of matrices of one shape."""
    if all(isinstance(item, EXPRESSIONS) for item in items):
        return tree.add(*items)
    quantities = [item for item in items if isinstance(item, Quantity)]
    if len(quantities) == len(items) and len({item.dims for item in quantities}) == 1:
        scaled = [tree.mul(Num(item.factor), item.value) for item in quantities]
        return Quantity(tree.add(*scaled), quantities[0].dims, Fraction(1))
    raise ParseError("a sum of what cannot be added")


def primed(node: Node, sign: str) -> Node:
    """x' is another variable; 5' is five feet, 5'' or 5\" five inches."""
    if isinstance(node, Sym):
        return Sym(node.name + sign)
    if isinstance(node, Num):
        return quantity(node, combine([("foot" if sign == "'" else "inch", 1)]))
    raise ParseError("a prime on what is no variable")


def in_base(digits: str, base: int) -> Node:
    """The value of digits written in a base, kept apart from the plain number by its call."""
    if not 2 <= base <= 36:
        raise ParseError("a base outside 2 to 36")
    try:
        return Num(Fraction(int(digits, base)))
    except ValueError:
        raise ParseError("digits that the base has not") from None


def listed(node: Node) -> tuple[Node, ...]:
    return node.items if isinstance(node, Group) and node.kind in ("list", "and", "or") else (node,)


def gather(items: list[Node], separators: list[str]) -> Node:
    """One node of separated elements."""
    if len(items) == 1:
        return items[0]
    kinds = set(separators)
    relations = any(isinstance(item, Rel) for item in items)
    if "or" in kinds and relations and len(kinds) > 1:
        groups: list[list[Node]] = [[items[0]]]
        for separator, item in zip(separators, items[1:], strict=True):
            if separator == "or":
                groups.append([item])
            else:
                groups[-1].append(item)
        parts = [part[0] if len(part) == 1 else Group("and", tuple(part)) for part in groups]
        return Group("or", tuple(parts))
    if "or" in kinds:
        return Group("or", tuple(items))
    if kinds == {"and"} and relations:
        return Group("and", tuple(items))
    quantities = [item for item in items if isinstance(item, Quantity)]
    if kinds == {"and"} and len(quantities) == len(items) == 2:
        first, second = quantities  # 3 hours and 20 minutes
        if first.dims == second.dims and first.factor > second.factor:
            return total(items)
    return Group("list", tuple(items))
