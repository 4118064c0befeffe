"""Whether two single values are equal: numbers with degrees and percent, quantities, text, times, ratios."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from fractions import Fraction

from rewards.mathematics import tree
from rewards.mathematics.build import EXPRESSIONS
from rewards.mathematics.constants import renamed_families
from rewards.mathematics.expressions import equal_expressions
from rewards.mathematics.meaning import PARAMETER
from rewards.mathematics.progressions import renamed, same_progression
from rewards.mathematics.tree import (
    Call,
    Group,
    Mul,
    Node,
    Num,
    Quantity,
    Sym,
    Text,
    Time,
)
from rewards.mathematics.units import compatible, generic_fits

LETTER_GAP = re.compile(r"(?<![0-9]) | (?![0-9])")
POUND = Fraction("0.45359237")


def bare(node: Node) -> Node:
    """An angle or percentage without its sign."""
    while isinstance(node, Call) and node.name in ("deg", "rad", "percent"):
        node = node.args[0]
    return node


def same_number(gold: Node, answer: Node) -> bool | None:
    """Two expressions; of degrees, radians and percent, the sign may be missing on one side."""
    stated = PARAMETER in tree.symbols(gold)
    gold, answer = renamed(gold, answer)
    outcome = equal_expressions(gold, answer)
    if outcome or (PARAMETER in tree.symbols(gold) and same_progression(gold, answer, stated)):
        return True
    heads = [
        node.name if isinstance(node, Call) and node.name in ("deg", "rad", "percent") else ""
        for node in (gold, answer)
    ]
    for head, node, other in ((heads[0], gold, answer), (heads[1], answer, gold)):
        if not head or (head in heads[1:] and heads[0] == heads[1]) or (heads[0] and heads[1]):
            continue
        if head == "percent" and not large_percent(bare(node)):
            continue
        if head in ("deg", "rad") and tree.has_call(other, "deg"):
            continue
        if equal_expressions(bare(node), other):
            return True
    if outcome is False and any(equal_expressions(gold, other) for other in renamed_families(gold, answer)):
        return True
    return outcome


def large_percent(node: Node) -> bool:
    """50 for 50% is a missing sign; 1 or 0.5 for 1% or 0.5% is not, since these are percentages of their own."""
    return not isinstance(node, Num) or abs(node.value) > 1 or node.value == 0


def same_quantity(gold: Node, answer: Node) -> bool | None:
    if isinstance(gold, Quantity) and isinstance(answer, Quantity):
        if (fits := generic_fits(gold.dims, answer.dims)) is not None:
            return equal_expressions(gold.value, answer.value) if fits else False
        if gold.dims == answer.dims:
            return equal_expressions(base_value(gold), base_value(answer))
        if compatible(gold.dims, answer.dims):
            return equal_expressions(base_value(gold), base_value(answer))
        if sterling(gold, answer):
            return equal_expressions(gold.value, answer.value)
        return False
    quantity, other = (gold, answer) if isinstance(gold, Quantity) else (answer, gold)
    if not isinstance(quantity, Quantity) or tree.has_call(other, "deg", "percent", "rad"):
        return False
    return equal_expressions(quantity.value, other)


def sterling(gold: Quantity, answer: Quantity) -> bool:
    """Whether one is in pounds by their sign and the other by their name, which is that of the weight."""
    return {gold.dims, answer.dims} == {(("gbp", 1),), (("kg", 1),)} and POUND in (gold.factor, answer.factor)


def base_value(quantity: Quantity) -> Node:
    scaled = tree.mul(Num(quantity.factor), quantity.value)
    return tree.add(scaled, Num(quantity.offset)) if quantity.offset else scaled


def same_text(gold: Node, answer: Node) -> bool:
    if isinstance(gold, Text) and isinstance(answer, Text):
        return gold.words == answer.words or joined(gold.words) == joined(answer.words)
    text, other = (gold, answer) if isinstance(gold, Text) else (answer, gold)
    if isinstance(other, Mul) and all(isinstance(item, Sym) for item in other.items) and isinstance(text, Text):
        return text.words == "".join(getattr(item, "name", "") for item in other.items).lower()  # cm
    return isinstance(other, Sym) and isinstance(text, Text) and text.words == other.name.lower()


def joined(words: str) -> str:
    """The words without the spaces between letters: those between digits count, 1 5 is not 15."""
    return LETTER_GAP.sub("", words)


def same_time(gold: Time, answer: Time) -> bool:
    """Times of day; where only one says am or pm, the other may be meant by it."""
    if gold.half and answer.half:
        return gold == answer
    first, second = (_minutes(item) for item in (gold, answer))
    if not gold.half and not answer.half:
        return first == second
    return first == second or gold.minutes == answer.minutes


def _minutes(item: Time) -> int:
    if not item.half:
        return item.minutes
    return item.minutes % 720 + (720 if item.half == "pm" else 0)


def ratio_items(node: Node) -> tuple[Node, ...] | None:
    if isinstance(node, Group) and node.kind == "ratio":
        return node.items
    if isinstance(node, Time) and not node.half:
        return (tree.number(node.minutes // 60), tree.number(node.minutes % 60))
    return None


def same_ratio(gold: Node, answer: Node) -> bool | None:
    """3:4 = 6:8 = 3/4. What can be a time of day is no ratio, but for 4:15 and its like."""
    for item in (gold, answer):
        if isinstance(item, Time) and (item.minutes % 60 < 10 or math.gcd(*divmod(item.minutes, 60)) != 1):
            return False
    items = ratio_items(gold), ratio_items(answer)
    if items[0] and items[1]:
        if len(items[0]) != len(items[1]):
            return False
        first = [tree.div(item, items[0][0]) for item in items[0][1:]]
        second = [tree.div(item, items[1][0]) for item in items[1][1:]]
        return every(equal_expressions(a, b) for a, b in zip(first, second, strict=True))
    found = items[0] or items[1]
    other = answer if items[0] else gold
    if not found or len(found) != 2 or not isinstance(other, EXPRESSIONS):
        return False
    return equal_expressions(tree.div(found[0], found[1]), other)


def every(outcomes: Iterable[bool | None]) -> bool | None:
    """False if one is False, else None if one is None, else True."""
    unknown = False
    for outcome in outcomes:
        if outcome is False:
            return False
        unknown |= outcome is None
    return None if unknown else True
