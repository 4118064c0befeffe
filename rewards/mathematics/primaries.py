"""The parts of the parser that read what stands between operators: literals, functions, brackets, matrices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from fractions import Fraction

from rewards.mathematics import tree
from rewards.mathematics.build import (
    barred,
    derivative,
    determinant,
    expression,
    listed,
    negative,
    quantity,
    times,
)
from rewards.mathematics.lexer import ParseError, Token
from rewards.mathematics.tree import (
    Builder,
    Call,
    Const,
    Group,
    Interval,
    Matrix,
    NamedSet,
    Node,
    Num,
    Rel,
    Sym,
    Text,
    number,
)
from rewards.mathematics.units import combine

MAX_DEPTH = 40
CLOSERS = frozenset((")", "]", "}", "\\}", "|", "||", "rangle", "rfloor", "rceil", "&", "\\\\"))
PAIRED = {"lfloor": ("rfloor", "floor"), "lceil": ("rceil", "ceil")}
SEVERAL = frozenset(("gcd", "lcm", "max", "min", "binom"))
INVERSE = {
    name: "arc" + name
    for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "coth", "sech", "csch")
}
DIFFERENTIAL_ENDS = frozenset(("+", "-", "=", ",", ")", "]", "}", "\\}", "<", ">", "*", "/", "~", "deg"))
MATRICES = frozenset(
    ("pmatrix", "bmatrix", "matrix", "Bmatrix", "array", "smallmatrix", "psmallmatrix", "bsmallmatrix")
)
FUNCTION_LETTERS = frozenset(("g", "h", "p", "q", "phi", "psi", "sigma", "tau", "Gamma", "zeta", "Phi", "Psi"))
ARGUMENTS = frozenset(("x", "t", "n", "theta"))
LOOSE = frozenset(("+", "-", "pm", "mp", ",", ";", "and", "or", "=", ":", "|"))
OPENERS = frozenset(("(", "[", "{", "\\{"))
CONDITIONS = frozenset(("=", "!=", "<", "<=", ">", ">=", "in", "notin"))
MAX_ARGUMENT = 16  # tokens of it
RADIANS = frozenset(("radian", "radians", "rad", "rads"))


class Tokens:
    """A list of tokens and how far it is read. The methods that read raise ParseError where they cannot."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.bars = 0  # open | whose closing one must not be read as an opening one
        self.angles = 0  # open < of vectors, in which > is no relation

    def op(self) -> str:
        """The operator at hand, "" if it is something else."""
        kind, value, _ = self.tokens[self.at]
        return str(value) if kind == "op" else ""

    def kind(self) -> str:
        return self.tokens[self.at][0]

    def value(self) -> str:
        return str(self.tokens[self.at][1])

    def peek(self, ahead: int) -> Token:
        """A token further on, the end token beyond it."""
        return self.tokens[min(self.at + ahead, len(self.tokens) - 1)]

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


class Primaries(Tokens, ABC):
    """Reads one primary; what is inside brackets is left to the parser that this is the base of."""

    @abstractmethod
    def statement(self) -> Node: ...

    @abstractmethod
    def element(self) -> Node: ...

    @abstractmethod
    def set_expression(self) -> Node: ...

    @abstractmethod
    def sum(self) -> Node: ...

    @abstractmethod
    def product(self) -> Node: ...

    @abstractmethod
    def signed(self) -> Node: ...

    @abstractmethod
    def power(self) -> Node: ...

    @abstractmethod
    def script(self) -> Node: ...

    @abstractmethod
    def raised(self, base: Node) -> Node: ...

    @abstractmethod
    def starts_factor(self, left: Node) -> bool: ...

    @abstractmethod
    def words(self) -> Node: ...

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
        if kind == "money":
            self.at += 1
            return quantity(expression(self.power()), combine([(str(value), 1)]))
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
        """f(x), g(2), P(A): the call of a function nobody knows; x(y + 1) and P(1 + r) are products."""
        if self.op() != "(" or not (name.name.rstrip("'") == "f" or self.is_call(name.name)):
            return name
        self.at += 1
        inner = self.statement()
        self.expect(")")
        args = inner.items if isinstance(inner, Group) else (inner,)
        return Call("f:" + name.name, tuple(expression(arg) for arg in args))

    def is_call(self, name: str) -> bool:
        """Whether a letter before a bracket is a function: one term is in it, which nobody multiplies by like that."""
        stem = name.rstrip("'").partition("_")[0]
        kind, value, _ = self.peek(1)
        if kind == "sym" and value in ARGUMENTS and self.peek(2)[1] == ")" and value != stem:
            return True
        if not (stem in FUNCTION_LETTERS or (len(stem) == 1 and stem.isupper())):
            return False
        depth = 0
        for ahead in range(1, MAX_ARGUMENT):
            kind, value, _ = self.peek(ahead)
            if kind == "op":
                depth += (value in OPENERS) - (value in CLOSERS)
                if depth < 0:
                    return bool(value == ")" and ahead > 1)
                if depth == 0 and value in LOOSE:
                    return False
            elif kind not in ("num", "sym", "const", "cmd"):
                return False
        return False

    def function(self) -> Node:
        name = self.value()
        self.at += 1
        exponent: Node | None = None
        base: Node | None = None
        for _ in range(2):
            if self.accept("^"):
                exponent = expression(self.argument() if self.kind() == "num" else self.script())
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
        closing = {"(": ")", "{": "}", "[": "]", "\\{": "\\}"}.get(self.op())
        if closing:
            self.at += 1
            inner = self.statement()
            self.expect(closing)
            several = isinstance(inner, Group) and inner.kind in ("list", "tuple", "set") and name in SEVERAL
            if name == "log" and isinstance(inner, Group) and len(inner.items) == 2:
                several = True
            args = inner.items if several and isinstance(inner, Group) else (inner,)
            if name in ("max", "min") and len(args) < 2:
                raise ParseError(f"{name} of one value")
            return tuple(expression(arg) for arg in args)
        if name in SEVERAL:
            raise ParseError(f"{name} of one value")
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
            return derivative(above, below) or tree.div(expression(above), expression(below))
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
            return barred(self.argument())
        if name in ("sum", "prod"):
            return self.big_operator(name)
        if name == "int":
            return self.integral()
        if name == "lim":
            return self.limit()
        if name in ("pmod", "bmod", "mod"):
            raise ParseError("a congruence")
        raise ParseError(f"a command that is not known: {name}")

    def big_operator(self, name: str) -> Node:
        r"""\sum_{k=1}^{n} body: a call with (body, variable, from, to)."""
        self.expect("_")
        lower = self.lower_limit()
        self.expect("^")
        upper = expression(self.script())
        if not (isinstance(lower, Rel) and lower.ops == ("=",) and isinstance(lower.items[0], (Sym, Const))):
            raise ParseError("a sum over what is no range")
        index = Sym(f"index:{lower.items[0].name}")
        letter = lower.items[0].name
        body = tree.replaced(expression(self.product()), lower.items[0], index)
        body = tree.rename(
            body, {n: n[: -len(letter)] + "index" for n in tree.symbols(body) if n.endswith("_" + letter)}
        )
        return Call(name, (body, index, expression(lower.items[1]), upper))

    def lower_limit(self) -> Node:
        """What stands below: a group in braces or one signed primary; what is raised after it is the upper limit."""
        return self.group_or_signed(raises=False)

    def group_or_signed(self, raises: bool) -> Node:
        """A group in braces, or one signed primary, with what it is raised to if `raises`."""
        self.enter()
        if self.accept("{"):
            node = self.statement()
            self.expect("}")
        else:
            sign = self.accept("-", "+")
            node = self.primary()
            if raises and self.accept("^"):
                node = self.raised(node)
            node = negative(node) if sign == "-" else node
        self.depth -= 1
        return node

    def integral(self) -> Node:
        r"""\\int_a^b body dx: a call with (body, variable, from, to). The d is found first."""
        self.expect("_")
        low = expression(self.lower_limit())
        self.expect("^")
        high = expression(self.script())
        at = next((k for k in range(self.at, len(self.tokens) - 2) if self.is_differential(k)), -1)
        if at < 0:
            raise ParseError("an integral without a differential")
        self.tokens[at] = ("op", "differential", False)
        body = expression(self.sum()) if at > self.at else tree.ONE
        self.expect("differential")
        variable = Sym(self.value())
        self.at += 1
        index = Sym(f"index:{variable.name}")
        return Call("int", (tree.replaced(body, variable, index), index, low, high))

    def is_differential(self, at: int) -> bool:
        after = self.tokens[at + 2]
        ends = after[0] == "end" or (after[0] == "op" and after[1] in DIFFERENTIAL_ENDS)
        return self.tokens[at][:2] == ("sym", "d") and self.tokens[at + 1][0] == "sym" and ends

    def limit(self) -> Node:
        r"""\\lim_{x \\to a} body: a call with (body, variable, a)."""
        self.expect("_")
        self.expect("{")
        if self.kind() != "sym":
            raise ParseError("a limit of what is no variable")
        variable = Sym(self.value())
        self.at += 1
        self.expect("to")
        goal = expression(self.sum())
        self.expect("}")
        index = Sym(f"index:{variable.name}")
        return Call("lim", (tree.replaced(expression(self.product()), variable, index), index, goal))

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
        elif op == "<" and not self.angles:
            self.angles += 1
            node = Group("angle", listed(self.inside()))
            self.angles -= 1
            self.expect(">")
        elif op == "...":
            node = Text("...")
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
        before = self.tokens[self.at - 2][1] if self.at > 1 else ""
        bars, self.bars = self.bars, 1
        inner = self.relation_in_set() if closing == "\\}" or self.builder_ahead() else self.statement()
        self.bars = bars
        if self.accept("|", ":", "mid"):
            condition = self.inside()
            self.expect(closing)
            return Builder(inner, condition)
        self.expect(closing)
        if closing == "\\}" or self.op() in ("cup", "cap", "setminus") or before in ("cup", "cap", "setminus"):
            return Group("set", listed(inner))
        return Group("set", inner.items) if isinstance(inner, Group) and inner.kind == "list" else inner

    def builder_ahead(self) -> bool:
        return self.peek(1)[1] in ("|", ":", "mid") or self.peek(1)[1] == "in"

    def relation_in_set(self) -> Node:
        """The part of a set before "such that", where a colon is no ratio; or all its elements."""
        at = self.such_that()
        if at:
            self.tokens[at] = ("op", "mid", self.tokens[at][2])
        return self.statement()

    def such_that(self) -> int:
        """Where the one colon of {2k : k in Z} stands, after which a relation follows; 0 if there is none."""
        depth, found = 0, 0
        for k in range(self.at, len(self.tokens)):
            kind, value, _ = self.tokens[k]
            if kind != "op":
                continue
            depth += (value in OPENERS) - (value in CLOSERS and value not in ("|", "||"))
            if depth < 0:
                break
            if depth == 0 and value == ":":
                if found:
                    return 0
                found = k
            if depth == 0 and found and value in CONDITIONS:
                return found
        return 0

    def cell(self) -> Node:
        """An entry of a matrix, or of cases, where words such as "if" say nothing."""
        while self.kind() == "word" and self.value().lower() in ("if", "for", "when", "where"):
            self.at += 1
        node = self.element()
        self.accept(",")
        return node

    def matrix(self) -> Node:
        kind = self.value()
        if kind not in MATRICES and kind not in ("vmatrix", "cases"):
            raise ParseError(f"an environment that is not known: {kind}")
        self.enter()
        self.at += 1
        rows: list[tuple[Node, ...]] = []
        while self.kind() != "endenv" and self.kind() != "end":
            row = [self.cell()]
            while self.accept("&"):
                row.append(self.cell())
            rows.append(tuple(row))
            if not self.accept("\\\\"):
                break
        if self.kind() != "endenv" or len({len(row) for row in rows}) != 1:
            raise ParseError("a matrix whose rows differ in length")
        self.at += 1
        self.depth -= 1
        if kind == "vmatrix":
            return determinant(rows)
        if kind == "cases":
            return Group("cases", tuple(Group("case", row) if len(row) > 1 else row[0] for row in rows))
        return Matrix(tuple(rows))
