"""Random answers: the same tree in two notations is equal, a changed one differs, and nothing raises or takes long.

What is equal and what differs is decided here, by exact rational values of the tree that the texts are written from.
"""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hang_guard import hang_guard

from rewards.mathematics.compare import compare

Tree = int | str | tuple  # a number, a variable, or (operator, left, right)
POINTS = [{"x": Fraction(7, 3), "y": Fraction(-5, 11)}, {"x": Fraction(-13, 6), "y": Fraction(9, 4)}]
SOUP = [
    "1", "2", "0.5", ",", "(", ")", "[", "]", "{", "}", r"\{", r"\}", "|", "<", r"\le", "=", "+", "-", "*",
    "/", "^", "_", "!", "'", "%", r"\frac", r"\sqrt", r"\sin", r"\log", r"\pi", "e", "i", "x", "n", r"\pm",
    r"\cup", r"\setminus", r"\mathbb{R}", r"\infty", r"\in", r"\text{cm}", "and", "or", r"\begin{pmatrix}",
    r"\end{pmatrix}", "&", "\\\\", r"\binom", r"\sum", r"\overline", r"^\circ", "$", ":", ";", "...",
    r"\cdot", "mod", "10^{9}", "99999", r"\over", "apples", "twelve", "3:30", r"\ne", "1,000", "\\", "abs",
    "max", "C", "(1,2)", r"\int", "d", "x", r"\lim_{x\to0}",
]  # fmt: skip


def grown(draw: random.Random, depth: int) -> Tree:
    if depth == 0 or draw.random() < 0.2:
        return draw.choice(["x", "y", draw.randint(1, 9), draw.randint(1, 9)])
    operator = draw.choice("++-**/^")
    if operator == "^":
        return (operator, grown(draw, depth - 1), draw.randint(2, 3))
    return (operator, grown(draw, depth - 1), grown(draw, depth - 1))


def value(tree: Tree, at: dict[str, Fraction]) -> Fraction:
    if not isinstance(tree, tuple):
        return at[tree] if isinstance(tree, str) else Fraction(tree)
    operator, left, right = tree
    a, b = value(left, at), value(right, at)
    return {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "/": lambda: a / b, "^": lambda: a ** int(b)}[
        operator
    ]()


def latex(tree: Tree) -> str:
    if not isinstance(tree, tuple):
        return str(tree)
    operator, left, right = tree
    a, b = latex(left), latex(right)
    if operator == "/":
        return rf"\frac{{{a}}}{{{b}}}"
    if operator == "^":
        return rf"\left({a}\right)^{{{b}}}"
    if operator == "*":
        return rf"\left({a}\right)\cdot\left({b}\right)"
    return rf"{a}{operator}\left({b}\right)"


def plain(tree: Tree, draw: random.Random) -> str:
    """Another notation, sums and products in any order."""
    if not isinstance(tree, tuple):
        return str(tree)
    operator, left, right = tree
    if operator in "+*" and draw.random() < 0.5:
        left, right = right, left
    a, b = plain(left, draw), plain(right, draw)
    if operator == "-":
        return draw.choice([f"({a}) - ({b})", f"-({b}) + ({a})"])
    sign = {"^": draw.choice(["^", "**"]), "*": draw.choice(["*", "", " "])}.get(operator, operator)
    return f"(({a}){sign}({b}))"


def changed(tree: Tree, draw: random.Random) -> Tree:
    """The tree with one leaf another one."""
    if isinstance(tree, tuple):
        operator, left, right = tree
        if operator != "^" and draw.random() < 0.5:
            return (operator, left, changed(right, draw))
        return (operator, changed(left, draw), right)
    if isinstance(tree, int):
        return tree + draw.choice([-1, 1])
    return draw.choice(["x" if tree == "y" else "y", 1])


def values(tree: Tree) -> list[Fraction] | None:
    try:
        return [value(tree, at) for at in POINTS]
    except ZeroDivisionError:
        return None


@pytest.mark.parametrize("seed", range(150))
def test_a_formula_equals_itself_in_another_notation_and_not_another_one(seed: int):
    draw = random.Random(seed)
    tree = grown(draw, 3)
    other = changed(tree, draw)
    if values(tree) is None:
        return
    assert compare(latex(tree), plain(tree, draw)).state == "ok", (latex(tree), plain(tree, draw))
    if values(other) is not None and values(other) != values(tree):
        assert compare(latex(tree), plain(other, draw)).state == "wrong", (latex(tree), plain(other, draw))


def pieces(draw: random.Random) -> list[tuple[bool, int, int, bool]]:
    ends = sorted(draw.sample(range(-20, 20), 2 * draw.randint(1, 3)))
    return [(draw.random() < 0.5, a, b, draw.random() < 0.5) for a, b in zip(ends[::2], ends[1::2], strict=True)]


def as_intervals(found: list[tuple[bool, int, int, bool]]) -> str:
    return r" \cup ".join(f"{'[' if low else '('}{a}, {b}{']' if high else ')'}" for low, a, b, high in found)


def as_inequalities(found: list[tuple[bool, int, int, bool]]) -> str:
    return " or ".join(f"{a} {'<=' if low else '<'} x {'<=' if high else '<'} {b}" for low, a, b, high in found)


@pytest.mark.parametrize("seed", range(60))
def test_a_union_of_intervals_equals_its_inequalities_and_every_bracket_and_end_counts(seed: int):
    draw = random.Random(seed)
    found = pieces(draw)
    if len(found) == 1 and not found[0][0] and not found[0][3]:
        return  # (1, 2) alone may be a point
    shuffled = draw.sample(found, len(found))
    assert compare(as_intervals(found), as_inequalities(shuffled)).state == "ok"
    at = draw.randrange(len(found))
    low, a, b, high = found[at]
    for piece in ((not low, a, b, high), (low, a, b, not high), (low, a - 1, b, high), (low, a, b + 1, high)):
        other = [*found[:at], piece, *found[at + 1 :]]
        if len({end for _, p, q, _ in other for end in (p, q)}) == 2 * len(other):  # none touches its neighbour
            assert compare(as_intervals(found), as_inequalities(other)).state == "wrong"


@pytest.mark.parametrize("seed", range(60))
def test_order_counts_in_tuples_and_not_in_sets(seed: int):
    draw = random.Random(seed)
    items = [Fraction(draw.randint(-30, 30), draw.randint(1, 7)) for _ in range(draw.randint(2, 5))]
    texts = [draw.choice([f"{item}", rf"\frac{{{item.numerator}}}{{{item.denominator}}}"]) for item in items]
    order = list(range(len(items)))
    draw.shuffle(order)
    again = [str(items[k]) for k in order]
    assert compare(r"\{" + ", ".join(texts) + r"\}", ", ".join(again)).state == "ok"
    assert compare(", ".join(texts), " and ".join(again)).state == "ok"
    right = [items[k] for k in order] == items
    assert compare("(" + ", ".join(texts) + ")", "(" + ", ".join(again) + ")").state == ("ok" if right else "wrong")
    assert compare(", ".join(texts), ", ".join(again[:-1])).state == "wrong"
    assert compare(", ".join(texts), ", ".join([*again, "31"])).state == "wrong"


@pytest.mark.parametrize("seed", range(100))
def test_numbers_equal_their_other_notations_and_no_neighbour(seed: int):
    draw = random.Random(seed)
    cents = draw.randint(1, 10**8)
    exact = Fraction(cents, 100)
    texts = [
        f"{exact}",
        f"{cents / 100:,.2f}",
        rf"\frac{{{cents}}}{{100}}",
        f"{cents}%",
        rf"{cents} \times 10^{{-2}}",
        f"\\${cents / 100:.2f}",
    ]
    for text in texts:
        if "%" not in text or exact > 1:
            assert compare(texts[0], text).state == "ok", text
    for other in (
        exact + Fraction(1, 100),
        -exact,
        exact * 10,
        exact / 10,
        exact * 100,
        exact * 1000,
        exact + Fraction(1, 10**12),
    ):
        assert compare(texts[0], str(other)).state == "wrong", other


def test_nothing_raises_and_everything_equals_itself():
    draw = random.Random(5)
    for _ in range(1500):
        text = draw.choice(["", " "]).join(draw.choices(SOUP, k=draw.randint(1, 12)))
        for pair in ((text, text), (text, "5"), ("x^2", text), (text, text.replace("1", "2"))):
            compare(*pair)
        if compare(text, text).state != "bad_gold":
            assert compare(text, text).state == "ok", text


@pytest.mark.parametrize(
    "text",
    [
        "3^{10^{9}}",
        "9^{9^{9^{9^9}}}",
        "99999999!",
        r"\binom{10^9}{5\cdot10^8}",
        "(x+1)^{1000}",
        "(a+b+c+d+e)^{50}",
        r"\sqrt{" * 300 + "2" + "}" * 300,
        "(" * 1500 + "1" + ")" * 1500,
        r"\frac{1}{" * 400 + "2" + "}" * 400,
        "1+" * 900 + "1",
        "-" * 1900 + "1",
        "!" * 1000,
        "9" * 7000,
        r"\sum_{k=1}^{1000}\sum_{j=1}^{1000}\sum_{i=1}^{1000} ijk",
        r"\{" + ",".join(map(str, range(500))) + r"\}",
        "1e999999999",
        "\\" * 2000,
        "\0" * 2000,
    ],
)
def test_every_answer_is_compared_to_an_end(text: str):
    with hang_guard():
        for pair in ((text, "5"), ("5", text), ("x^2+1", text), (text, text + "+1")):
            assert compare(*pair).state != "ok"
