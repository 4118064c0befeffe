"""Answers in words that mean something mathematical: "no solution", "all real numbers", "infinitely many"."""

from __future__ import annotations

from rewards.mathematics.tree import INFINITY, ZERO, Interval, NamedSet, Node, Text, neg

PHRASES: dict[str, Node] = {}
for _words in [
    "no solution",
    "no solutions",
    "no real solution",
    "no real solutions",
    "there is no solution",
    "there are no solutions",
    "empty set",
    "the empty set",
    "none",
    "no such values",
    "null set",
    "no such x",
    "no such number",
    "no such numbers",
    "no roots",
    "no real roots",
]:
    PHRASES[_words] = NamedSet("empty")
for _words in [
    "does not exist",
    "dne",
    "undefined",
    "doesnt exist",
    "doesn t exist",
    "not defined",
    "it does not exist",
    "limit does not exist",
]:
    PHRASES[_words] = Text("does not exist")
for _words in [
    "all real numbers",
    "all reals",
    "all real",
    "real numbers",
    "any real number",
    "every real number",
    "the real numbers",
    "all real values",
    "reals",
    "all real x",
    "all real values of x",
    "all x",
    "the set of all real numbers",
    "the set of real numbers",
    "all real number",
]:
    PHRASES[_words] = NamedSet("R")
for _words in [
    "all integers",
    "integers",
    "any integer",
    "every integer",
    "the integers",
    "the set of integers",
    "the set of all integers",
]:
    PHRASES[_words] = NamedSet("Z")
for _words in [
    "infinitely many",
    "infinitely many solutions",
    "infinite",
    "infinite solutions",
    "an infinite number",
    "an infinite number of solutions",
    "infinite number of solutions",
    "there are infinitely many solutions",
]:
    PHRASES[_words] = Text("infinitely many")
PHRASES |= {
    "infinity": INFINITY,
    "positive infinity": INFINITY,
    "plus infinity": INFINITY,
    "negative infinity": neg(INFINITY),
}
PHRASES |= {"minus infinity": neg(INFINITY)}
for _sign, _reals, _integers in [
    ("positive", Interval(ZERO, INFINITY, False, False), NamedSet("Z+")),
    ("negative", Interval(neg(INFINITY), ZERO, False, False), NamedSet("Z-")),
    ("nonnegative", Interval(ZERO, INFINITY, True, False), None),
    ("non negative", Interval(ZERO, INFINITY, True, False), None),
    ("nonpositive", Interval(neg(INFINITY), ZERO, False, True), None),
    ("non positive", Interval(neg(INFINITY), ZERO, False, True), None),
]:
    for _before in ("", "all ", "any ", "the set of ", "the set of all "):
        for _after in ("reals", "real numbers", "real x"):
            PHRASES[f"{_before}{_sign} {_after}"] = _reals
        if _integers is not None:
            PHRASES[f"{_before}{_sign} integers"] = _integers
for _verb, _adjective in [("converges", "convergent"), ("diverges", "divergent")]:
    for _words in (_adjective, f"it {_verb}", f"the series {_verb}", f"it is {_adjective}", f"series {_verb}"):
        PHRASES[_words] = Text(_verb)
for _day in ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"):
    PHRASES[f"on {_day}"] = Text(_day)
