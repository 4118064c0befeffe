"""Units: words and symbols to dimensions and exact factors.

A unit is (dims, factor, offset): a value in it, times the factor plus the offset, is the value in base units (metre,
kilogram, second, dollar, ...). Words that are no known unit ("apples") are dimensions of their own, so that 5 apples
is not
5 oranges; words that say nothing ("units", "in total") are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

Dims = dict[str, int]


@dataclass(frozen=True, slots=True)
class Unit:
    dims: tuple[tuple[str, int], ...]  # base unit -> exponent, sorted
    factor: Fraction
    offset: Fraction = Fraction(0)


def _unit(factor: str | int | Fraction, offset: Fraction = Fraction(0), **dims: int) -> Unit:
    return Unit(tuple(sorted(dims.items())), Fraction(factor), offset)


# Singular -> unit; plurals in -s are found by rule. Inch, pound and gallon are those of the United States.
NAMES = {
    "meter": _unit(1, m=1),
    "inch": _unit("0.0254", m=1),
    "foot": _unit("0.3048", m=1),
    "yard": _unit("0.9144", m=1),
    "mile": _unit("1609.344", m=1),
    "gram": _unit("0.001", kg=1),
    "tonne": _unit(1000, kg=1),
    "pound": _unit("0.45359237", kg=1),
    "ounce": _unit("0.028349523125", kg=1),
    "second": _unit(1, s=1),
    "minute": _unit(60, s=1),
    "hour": _unit(3600, s=1),
    "day": _unit(86400, s=1),
    "week": _unit(604800, s=1),
    "fortnight": _unit(1209600, s=1),
    "month": _unit(1, month=1),
    "year": _unit(12, month=1),
    "decade": _unit(120, month=1),
    "century": _unit(1200, month=1),
    "liter": _unit("0.001", m=3),
    "gallon": _unit("0.003785411784", m=3),
    "floz": _unit("0.0000295735295625", m=3),
    "tablespoon": _unit("0.00001478676478125", m=3),
    "teaspoon": _unit("0.00000492892159375", m=3),
    "quart": _unit("0.000946352946", m=3),
    "pint": _unit("0.000473176473", m=3),
    "cup": _unit("0.0002365882365", m=3),
    "acre": _unit("4046.8564224", m=2),
    "hectare": _unit(10000, m=2),
    "newton": _unit(1, kg=1, m=1, s=-2),
    "joule": _unit(1, kg=1, m=2, s=-2),
    "watt": _unit(1, kg=1, m=2, s=-3),
    "pascal": _unit(1, kg=1, m=-1, s=-2),
    "hertz": _unit(1, s=-1),
    "ampere": _unit(1, A=1),
    "amp": _unit(1, A=1),
    "coulomb": _unit(1, A=1, s=1),
    "volt": _unit(1, A=-1, kg=1, m=2, s=-3),
    "ohm": _unit(1, A=-2, kg=1, m=2, s=-3),
    "mole": _unit(1, mol=1),
    "kelvin": _unit(1, K=1),
    "byte": _unit(8, bit=1),
    "bit": _unit(1, bit=1),
    "dollar": _unit(1, usd=1),
    "buck": _unit(1, usd=1),
    "cent": _unit("0.01", usd=1),
    "euro": _unit(1, eur=1),
    "yen": _unit(1, jpy=1),
    "yuan": _unit(1, cny=1),
    "rupee": _unit(1, inr=1),
    "knot": Unit((("m", 1), ("s", -1)), Fraction(1852, 3600)),
    "celsius": _unit(1, Fraction("273.15"), K=1),
    "fahrenheit": _unit(Fraction(5, 9), Fraction("273.15") - Fraction(160, 9), K=1),
}
PREFIXES = {"kilo": 3, "centi": -2, "milli": -3, "deci": -1, "micro": -6, "nano": -9, "mega": 6, "giga": 9, "tera": 12}
IRREGULAR = {
    "feet": "foot",
    "inches": "inch",
    "metre": "meter",
    "litre": "liter",
    "centuries": "century",
    "euros": "euro",
    "hrs": "hour",
    "hr": "hour",
    "min": "minute",
    "mins": "minute",
    "sec": "second",
    "secs": "second",
    "wk": "week",
    "wks": "week",
    "yr": "year",
    "yrs": "year",
    "mo": "month",
    "mos": "month",
    "ft": "foot",
    "in": "inch",
    "yd": "yard",
    "yds": "yard",
    "mi": "mile",
    "lb": "pound",
    "lbs": "pound",
    "oz": "ounce",
    "gal": "gallon",
    "qt": "quart",
    "pt": "pint",
    "ha": "hectare",
    "usd": "dollar",
    "eur": "euro",
}
SYMBOLS = {
    "m": "meter",
    "g": "gram",
    "s": "second",
    "h": "hour",
    "l": "liter",
    "L": "liter",
    "N": "newton",
    "J": "joule",
    "W": "watt",
    "Pa": "pascal",
    "Hz": "hertz",
    "A": "ampere",
    "V": "volt",
    "K": "kelvin",
    "mol": "mole",
    "B": "byte",
}
SYMBOL_PREFIXES = {"k": 3, "c": -2, "m": -3, "d": -1, "n": -9, "M": 6, "G": 9, "T": 12}
PREFIXED = {"m", "g", "s", "l", "L", "N", "J", "W", "Pa", "Hz", "A", "V", "mol", "B"}
COMPOUND = {
    "mph": Unit((("m", 1), ("s", -1)), Fraction("0.44704")),
    "kph": Unit((("m", 1), ("s", -1)), Fraction(1000, 3600)),
    "kmph": Unit((("m", 1), ("s", -1)), Fraction(1000, 3600)),
    "kmh": Unit((("m", 1), ("s", -1)), Fraction(1000, 3600)),
    "fps": Unit((("m", 1), ("s", -1)), Fraction("0.3048")),
    "kwh": _unit(3600000, kg=1, m=2, s=-2),
    "sqft": Unit((("m", 2),), Fraction("0.3048") ** 2),
    "cc": _unit("0.000001", m=3),
}
SIGNS = {
    "$": "usd",
    "\N{EURO SIGN}": "eur",
    "\N{POUND SIGN}": "gbp",
    "\N{YEN SIGN}": "jpy",
    "\N{INDIAN RUPEE SIGN}": "inr",
}
FILLERS = frozenset(
    [
        "unit",
        "units",
        "pts",
        "points",
        "point",
        "of",
        "old",
        "long",
        "tall",
        "wide",
        "high",
        "deep",
        "away",
        "each",
        "total",
        "in",
        "altogether",
        "away",
        "exactly",
        "only",
        "a",
        "an",
        "the",
    ]
)
GENERIC = "unit"  # the dimension of square units
POWERS = {"square": 2, "squared": 2, "sq": 2, "cubic": 3, "cubed": 3, "cu": 3}


def _table() -> dict[str, Unit]:
    """Every exact spelling, singular, prefixed or not."""
    table = dict(NAMES) | COMPOUND
    for name in (
        "meter",
        "gram",
        "second",
        "liter",
        "watt",
        "joule",
        "newton",
        "pascal",
        "hertz",
        "byte",
        "volt",
        "ampere",
    ):
        for prefix, exponent in PREFIXES.items():
            table[prefix + name] = Unit(NAMES[name].dims, NAMES[name].factor * Fraction(10) ** exponent)
    for word, name in IRREGULAR.items():
        table[word] = table[name]
    for symbol, name in SYMBOLS.items():
        table[symbol] = NAMES[name]
        if symbol in PREFIXED:
            for prefix, exponent in SYMBOL_PREFIXES.items():
                table[prefix + symbol] = Unit(NAMES[name].dims, NAMES[name].factor * Fraction(10) ** exponent)
    for sign, currency in SIGNS.items():
        table[sign] = Unit(((currency, 1),), Fraction(1))
    table["min"] = NAMES["minute"]
    return table


TABLE = _table()
FOLDED = {name.lower(): unit for name, unit in TABLE.items() if len(name) > 1 and name.lower() not in TABLE}


def lookup(word: str) -> Unit | None:
    """The unit that a word or symbol names, None if it is none. Case counts for symbols, and only for them."""
    found = TABLE.get(word)
    if found is None and len(word) > 1:
        low = word.lower()
        found = TABLE.get(low) or FOLDED.get(low)
        if found is None and low.endswith("s"):
            found = TABLE.get(low[:-1]) if len(low) > 3 else None
            if found is None and low.endswith("metres"):
                found = TABLE.get(low[:-6] + "meter")
            if found is None and low.endswith("litres"):
                found = TABLE.get(low[:-6] + "liter")
        elif found is None and low.endswith(("metre", "litre")):
            found = TABLE.get(low[:-2] + "er")
    return found


def singular(word: str) -> str:
    """A noun's singular, near enough to tell apples from oranges."""
    word = word.lower()
    for plural, one in (("people", "person"), ("children", "child"), ("men", "man"), ("women", "woman")):
        if word == plural:
            return one
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses", "zes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith("ss") and len(word) > 2:
        return word[:-1]
    return word


def combine(parts: list[tuple[str, int]]) -> Unit | None:
    """The product of units, each a word and its exponent; unknown words become dimensions "#word"; None of nothing."""
    dims: Dims = {}
    factor, offset = Fraction(1), Fraction(0)
    unknown: list[str] = []
    for word, exponent in parts:
        unit = lookup(word)
        if unit is None:
            if word.lower() not in FILLERS:
                unknown.append(("/" if exponent < 0 else "") + singular(word))
            continue
        if len(parts) == 1 and exponent == 1:
            offset = unit.offset
        for name, power in unit.dims:
            dims[name] = dims.get(name, 0) + power * exponent
        factor *= unit.factor**exponent
    if unknown:
        dims["#" + " ".join(unknown)] = 1
    elif not dims and parts and all(word.lower() in ("unit", "units") for word, _ in parts):
        dims = {GENERIC: sum(exponent for _, exponent in parts)}
    left = tuple(sorted((name, power) for name, power in dims.items() if power))
    return Unit(left, factor, offset) if left else None


def generic_fits(first: tuple[tuple[str, int], ...], second: tuple[tuple[str, int], ...]) -> bool | None:
    """Whether "square units" may stand for the other unit: for cm^2, not for cm; None if neither is such.

    Plain "units" may be anything but an area or a volume.
    """
    if second[0][0] == GENERIC:
        first, second = second, first
    if first[0][0] != GENERIC:
        return None
    power = first[0][1]
    if power == 1:
        return second not in (((GENERIC, 2),), ((GENERIC, 3),), (("m", 2),), (("m", 3),))
    return second in (((GENERIC, power),), (("m", power),))


def compatible(first: tuple[tuple[str, int], ...], second: tuple[tuple[str, int], ...]) -> bool:
    """Whether two units measure the same: equal dimensions; of unknown words, one may say more (red apples, apples)."""
    if first == second:
        return True
    words = [[set(name[1:].split()) for name, _ in dims if name.startswith("#")] for dims in (first, second)]
    known = [{item for item in dims if not item[0].startswith("#")} for dims in (first, second)]
    if known[0] != known[1]:
        return False
    if not words[0] or not words[1]:  # 3 cups of flour, 3 cups: the noun may be left out, but not "per hour"
        return bool(known[0]) and not any(word.startswith("/") for part in words for group in part for word in group)
    return words[0][0] <= words[1][0] or words[1][0] <= words[0][0]
