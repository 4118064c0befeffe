"""Answers that hang, crash or exhaust graders: huge values in a few characters, huge texts, malformed and odd ones.

CASES: name -> function that makes the text (some are megabytes long, so they are made when wanted). None of them is
5, 1/2 or x^2+1, which tests put beside them. PAIRS: two hostile texts that differ in value, put beside each other.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction

MEGABYTE = 1_000_000


def tower(base: str, height: int) -> str:
    """base^{base^{...}}"""
    text = base
    for _ in range(height - 1):
        text = f"{base}^{{{text}}}"
    return text


def nested(before: str, middle: str, after: str, depth: int) -> str:
    return before * depth + middle + after * depth


def drawn(alphabet: str, size: int, seed: int = 0) -> str:
    """Random characters of an alphabet, the same for the same seed."""
    draw = random.Random(seed)
    return "".join(draw.choices(alphabet, k=size))


def drawn_tokens(size: int, seed: int) -> str:
    r"""Random LaTeX tokens, mostly malformed together."""
    tokens = [
        r"\frac",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "^",
        "_",
        "1",
        "x",
        "+",
        "-",
        r"\sqrt",
        ",",
        r"\cup",
        "=",
        "<",
        "|",
    ]
    tokens += [r"\left", r"\right", "&", r"\\", "!", "9", r"\sin", r"\log", r"\text{", r"\infty", r"\pm", "'", "%"]
    return "".join(random.Random(seed).choices(tokens, k=size))


def egyptian(terms: int) -> str:
    """1/2 + 1/3 + 1/5 + ... over numbers coprime in pairs: denominators multiply up."""
    primes = [n for n in range(2, 20 * terms) if all(n % k for k in range(2, int(n**0.5) + 1))][:terms]
    return "+".join(rf"\frac{{1}}{{{p}}}" for p in primes)


def continued_fraction(depth: int) -> str:
    return nested(r"1+\frac{1}{", "1", "}", depth)


def matrix(rows: int, columns: int, entry: str = "1") -> str:
    body = r"\\".join("&".join([entry] * columns) for _ in range(rows))
    return rf"\begin{{pmatrix}}{body}\end{{pmatrix}}"


def intervals(count: int) -> str:
    return r"\cup".join(f"({2 * i},{2 * i + 1})" for i in range(count))


def near(digits: int) -> str:
    """One half, but for its last digit."""
    return "0.5" + "0" * digits + "1"


HUGE_VALUES: dict[str, Callable[[], str]] = {
    "3^(10^9)": lambda: "3^{10^{9}}",
    "3^10^9 plain": lambda: "3**10**9",
    "9^(9^9)": lambda: "9^{9^9}",
    "9^9^9^9": lambda: tower("9", 4),
    "tower of 20 nines": lambda: tower("9", 20),
    "tower of 40 twos": lambda: tower("2", 40),
    "tower of 1000 twos": lambda: tower("2", 1000),
    "tower of x": lambda: tower("x", 30),
    "plain tower": lambda: "**".join(["9"] * 9),
    "plain tower with carets": lambda: "^".join(["9"] * 9),
    "power of a huge number": lambda: "(10^{1000})^{10^{1000}}",
    "negative huge exponent": lambda: "2^{-10^{12}}",
    "negative tower": lambda: "-9^{9^{9^9}}",
    "tower below a fraction": lambda: r"\frac{1}{9^{9^9}}",
    "quotient of towers": lambda: r"\frac{9^{9^9}}{9^{9^8}}",
    "difference of towers": lambda: "9^{9^9}-9^{9^9}+7",
    "huge fractional exponent": lambda: r"2^{\frac{10^{12}}{3}}",
    "near one to a huge power": lambda: r"(1+10^{-9})^{10^{12}}",
    "huge decimal to a power": lambda: "1.0000001^{1000000000}",
    "fraction to a huge power": lambda: r"\left(\frac{355}{113}\right)^{10^7}",
    "i to a huge power": lambda: "(1+i)^{10^{10}}",
    "root of a tower": lambda: r"\sqrt{9^{9^9}}",
    "huge root index": lambda: r"\sqrt[10^{12}]{7}",
    "zero root index": lambda: r"\sqrt[0]{7}",
    "1e999999999": lambda: "1e999999999",
    "1e-999999999": lambda: "1e-999999999",
    "1E+1000000000000000000000": lambda: "1E+1000000000000000000000",
    "7 times 10^(10^10)": lambda: r"7\times10^{10^{10}}",
    "percent of a tower": lambda: r"9^{9^9}\%",
    "factorial of a million": lambda: "1000000!",
    "factorial of 10^9": lambda: "(10^9)!",
    "factorial of a factorial": lambda: "((100!)!)!",
    "factorial tower": lambda: "(" * 30 + "3" + "!)" * 30,
    "many factorial signs": lambda: "9" + "!" * 100,
    "factorial of a negative number": lambda: "(-7)!",
    "factorial of a fraction": lambda: r"\left(\frac{10^{9}+1}{2}\right)!",
    "quotient of factorials": lambda: r"\frac{1000000!}{999999!}",
    "binomial 10^9 over 5 10^8": lambda: r"\binom{10^9}{5\cdot10^8}",
    "binomial of factorials": lambda: r"\binom{50!}{25!}",
    "binomial with a negative number": lambda: r"\binom{-10^9}{10^8}",
    "gcd of huge powers": lambda: r"\gcd(2^{10^{8}}-1, 2^{10^{7}}-1)",
    "lcm of many": lambda: r"\text{lcm}(" + ",".join(map(str, range(1, 2000))) + ")",
    "exp of exp of exp": lambda: r"e^{e^{e^{e^{10}}}}",
    "exp of a huge number": lambda: r"\exp(10^{12})",
    "exp of minus a huge number": lambda: r"\exp(-10^{12})",
    "sinh of a huge number": lambda: r"\sinh(10^{9})",
    "log of a tower": lambda: r"\log_{2}(9^{9^9})",
    "log tower": lambda: nested(r"\ln(", "10^{100}", ")", 30),
    "log of zero": lambda: r"\ln 0",
    "log to the base one": lambda: r"\log_1 7",
    "log of a negative number": lambda: r"\ln(-7)",
    "sine of a huge number": lambda: r"\sin(10^{1000})",
    "sine of a tower": lambda: r"\sin(9^{9^9})",
    "tangent at its pole": lambda: r"\tan\frac{\pi}{2}",
    "floor of a tower": lambda: r"\lfloor 9^{9^9}/7 \rfloor",
    "modulo of a tower": lambda: r"9^{9^9} \bmod 7",
    "sum to 10^9": lambda: r"\sum_{k=1}^{10^9} k^{k}",
    "sum to infinity": lambda: r"\sum_{n=1}^{\infty} \frac{1}{n^{1.0001}}",
    "product to 10^9": lambda: r"\prod_{k=1}^{10^{9}} k",
    "nested sums": lambda: r"\sum_{a=1}^{999}" * 9 + "a",
    "integral": lambda: r"\int_0^{\infty} e^{-x^{x^{x}}}\,dx",
    "limit": lambda: r"\lim_{n\to\infty}\left(1+\frac{1}{n}\right)^{n^n}",
    "one over zero": lambda: r"\frac{1}{0}",
    "zero over zero": lambda: r"\frac{0}{0}",
    "zero to the power zero": lambda: "0^0",
    "zero to a negative power": lambda: "0^{-1}",
    "infinity minus infinity": lambda: r"\infty-\infty",
    "one over a hidden zero": lambda: r"\frac{1}{\sqrt{3+2\sqrt{2}}-1-\sqrt{2}}",
    "one over x minus x": lambda: r"\frac{1}{x-x}",
    "repeating decimal with a long period": lambda: r"0.\overline{" + drawn("0123456789", 5000) + "}",
    "base with a huge number": lambda: "9" * 3000 + "_{7}",
    "base of a tower": lambda: "101_{9^{9^9}}",
    "time with huge numbers": lambda: "99999999999999:99999999999999",
    "units to a huge power": lambda: r"7\text{ cm}^{10^9}",
    "interval with towers": lambda: r"[9^{9^9},9^{9^{9^9}})",
    "plus-minus many times": lambda: r"\pm" + r"\pm".join(str(i) for i in range(1, 40)),
    "plus-minus in each of 60 factors": lambda: r"(1\pm2)" * 60,
    "scalar tower times matrix": lambda: "9^{9^9}" + matrix(2, 2),
    "matrix to a huge power": lambda: matrix(2, 2) + "^{10^9}",
    "determinant of 30 by 30": lambda: matrix(30, 30, "x+1").replace("pmatrix", "vmatrix"),
}

POLYNOMIALS: dict[str, Callable[[], str]] = {
    "(x+1)^1000": lambda: "(x+1)^{1000}",
    "(x+1)^1000000": lambda: "(x+1)^{1000000}",
    "(x+y+z+w)^200": lambda: "(x+y+z+w)^{200}",
    "nested powers": lambda: nested("(", "x+1", ")^{9}", 30),
    "product of 200 sums": lambda: "".join(f"(x_{{{i}}}+y_{{{i}}})" for i in range(200)),
    "product of 26 sums": lambda: "".join(f"(1+{c})" for c in "abcdefghijklmnopqrstuvwxyz"),
    "product of 60 polynomials": lambda: "".join(f"(x^{i}+{i}x+1)" for i in range(1, 61)),
    "sum of 1000 monomials": lambda: "+".join(f"{i}x^{{{i}}}" for i in range(1000)),
    "sum of 100000 monomials": lambda: "+".join(f"{i}x^{{{i}}}" for i in range(100000)),
    "cyclotomic quotient": lambda: r"\frac{x^{10000}-1}{x-1}",
    "quotient of high powers": lambda: r"\frac{(x^2-1)^{500}}{(x-1)^{500}}",
    "sum of 100 reciprocals": lambda: "+".join(rf"\frac{{1}}{{x+{i}}}" for i in range(100)),
    "x to a tower": lambda: "x^{9^{9^9}}",
    "x^(10^18) minus 1": lambda: "x^{10^{18}}-1",
    "huge coefficient": lambda: "9" * 1500 + "x",
    "equation of degree 1000": lambda: "(x+1)^{1000}=(x-1)^{1000}+y",
    "nested square roots of x": lambda: nested(r"\sqrt{x+", "1", "}", 100),
    "nested absolute values": lambda: nested("|x-", "1", "|", 60),
    "nested sine": lambda: nested(r"\sin(", "x", ")", 200),
    "nested sine squared": lambda: nested(r"\sin^2(", "x", ")", 45),
    "many symbols": lambda: "+".join(f"x_{{{i}}}" for i in range(300)),
    "trigonometric product": lambda: "".join(rf"\cos({i}x)" for i in range(1, 150)),
    "trigonometric identity of high order": lambda: r"(\sin^2 x+\cos^2 x)^{300}+x",
}

FRACTIONS: dict[str, Callable[[], str]] = {
    "sum of 200 prime reciprocals": lambda: egyptian(200),
    "sum of 3000 prime reciprocals": lambda: egyptian(3000),
    "continued fraction of 40": lambda: continued_fraction(40),
    "continued fraction of 400": lambda: continued_fraction(400),
    "continued fraction of 20000": lambda: continued_fraction(20000),
    "quotient of 400-digit numbers": lambda: rf"\frac{{{'7' * 400}}}{{{'3' * 399}1}}",
    "quotient of 50000-digit numbers": lambda: rf"\frac{{{'7' * 50000}}}{{{'3' * 49999}1}}",
    "product of 300 fractions": lambda: "".join(rf"\frac{{{i}}}{{{i + 7}}}" for i in range(1, 301)),
    "slashes": lambda: "/".join(str(i) for i in range(1, 500)),
    "fraction in the exponent": lambda: nested(r"2^{\frac{1}{", "3", "}}", 45),
    "one half but for the 50th digit": lambda: near(50),
    "one half but for the 900th digit": lambda: near(900),
    "one half but for the 100000th digit": lambda: near(100000),
    "one half plus a tiny power": lambda: r"\frac{1}{2}+10^{-1000}",
    "one half plus a tinier power": lambda: r"\frac{1}{2}+10^{-10^{9}}",
    "five but for a tiny root": lambda: r"5+\sqrt{10^{-400}}",
    "five but for a tiny exponential": lambda: r"5+e^{-2000}",
    "five times nearly one": lambda: r"5\cdot(1-2^{-3000})",
    "five by a huge cancellation": lambda: r"(10^{60}+5.5)-10^{60}",
    "five but for a rounding of doubles": lambda: r"5+\frac{10^{30}+1-10^{30}}{10^{40}}",
    "close sums of roots": lambda: r"5+\sqrt{10}+\sqrt{11}-\sqrt{5}-\sqrt{18}+10^{-30}",
    "x^2+1 but for a tiny term": lambda: "x^2+1+10^{-60}x",
}

NESTING: dict[str, Callable[[], str]] = {
    "10^5 braces": lambda: nested("{", "7", "}", 100_000),
    "10^5 parentheses": lambda: nested("(", "7", ")", 100_000),
    "10^5 brackets": lambda: nested("[", "7", "]", 100_000),
    "10^5 fractions": lambda: nested(r"\frac{1}{", "7", "}", 100_000),
    "10^5 square roots": lambda: nested(r"\sqrt{", "7", "}", 100_000),
    "10^5 exponents": lambda: nested("x^{", "7", "}", 100_000),
    "10^5 subscripts": lambda: nested("x_{", "7", "}", 100_000),
    "10^5 texts": lambda: nested(r"\text{", "7", "}", 100_000),
    "10^5 boxes": lambda: nested(r"\boxed{", "7", "}", 100_000),
    "10^5 \\left(": lambda: nested(r"\left(", "7", r"\right)", 100_000),
    "10^5 sets": lambda: nested(r"\{", "7", r"\}", 100_000),
    "10^5 bars": lambda: nested("|", "7", "|", 100_000),
    "10^5 signs": lambda: nested("-", "7", "", 100_000),
    "10^5 plus-minus signs": lambda: nested(r"\pm", "7", "", 100_000),
    "10^5 unbalanced opening braces": lambda: "{" * 100_000 + "7",
    "10^5 unbalanced closing braces": lambda: "7" + "}" * 100_000,
    "10^5 unbalanced parentheses": lambda: "(" * 100_000 + "7",
    "10^5 unbalanced fractions": lambda: r"\frac" * 100_000 + "7",
    "10^5 \\frac without braces": lambda: r"\frac1" * 100_000 + "7",
    "10^5 \\sqrt without braces": lambda: r"\sqrt" * 100_000 + "7",
    "10^5 open boxes": lambda: r"\boxed{" * 100_000 + "7",
    "10^5 matrices": lambda: nested(r"\begin{pmatrix}", "7", r"\end{pmatrix}", 100_000),
    "1000 parentheses": lambda: nested("(", "7", ")", 1000),
    "240 square roots": lambda: nested(r"\sqrt{", "7", "}", 240),
    "mixed brackets": lambda: nested("({[", "7", "]})", 20_000),
    "crossed brackets": lambda: nested("([", "7", ")]", 20_000),
    "functions": lambda: nested("f(", "x", ")", 50_000),
    "absolute values that could close or open": lambda: "|" * 47 + "x" + "|" * 46,
    "angle brackets": lambda: nested("<", "7", ">", 50_000),
    "comparison chain": lambda: "<".join(["x"] * 50_000),
    "equation chain": lambda: "=".join(["x"] * 50_000),
    "primes": lambda: "f" + "'" * 100_000,
    "carets": lambda: "x" + "^" * 100_000,
    "alternating powers and subscripts": lambda: "x" + "_1^2" * 50_000,
}

SIZES: dict[str, Callable[[], str]] = {
    "1 MB of 9": lambda: "9" * MEGABYTE,
    "4000 digits": lambda: "9" * 4000,
    "5000 digits": lambda: "9" * 5000,
    "1900 digits": lambda: "9" * 1900,
    "1 MB decimal": lambda: "0." + "3" * MEGABYTE,
    "1 MB of zeros": lambda: "0" * MEGABYTE,
    "1 MB of spaces": lambda: " " * MEGABYTE,
    "1 MB of spaces before a number": lambda: " " * MEGABYTE + "7",
    "1 MB of newlines": lambda: "\n" * MEGABYTE + "7",
    "1 MB of commas": lambda: "," * MEGABYTE,
    "1 MB of numbers and commas": lambda: "1," * (MEGABYTE // 2),
    "1 MB of thousands": lambda: "1" + ",000" * (MEGABYTE // 4),
    "1 MB of x": lambda: "x" * MEGABYTE,
    "1 MB of letters": lambda: drawn("abcdefghijklmnopqrstuvwxyz ", MEGABYTE),
    "1 MB of 7+": lambda: "7+" * (MEGABYTE // 2),
    "1 MB of 7*": lambda: "7*" * (MEGABYTE // 2) + "7",
    "1 MB of 9^": lambda: "9^" * (MEGABYTE // 2) + "9",
    "1 MB of 9**": lambda: "9**" * (MEGABYTE // 3) + "9",
    "1 MB of !": lambda: "7" + "!" * MEGABYTE,
    "1 MB of %": lambda: "7" + "%" * MEGABYTE,
    "1 MB of $": lambda: "$" * MEGABYTE,
    "1 MB of backslashes": lambda: "\\" * MEGABYTE,
    "1 MB of dots": lambda: "." * MEGABYTE,
    "1 MB of minus signs": lambda: "-" * MEGABYTE + "7",
    "1 MB of equals signs": lambda: "=" * MEGABYTE,
    "1 MB of bars": lambda: "|" * MEGABYTE,
    "1 MB of underscores": lambda: "_" * MEGABYTE,
    "1 MB of hashes": lambda: "#" * MEGABYTE,
    "1 MB of stars": lambda: "*" * MEGABYTE,
    "1 MB of \\cup": lambda: r"(1,2)\cup" * (MEGABYTE // 9) + "(3,4)",
    "1 MB of \\quad": lambda: r"\quad " * (MEGABYTE // 6),
    "1 MB of \\,": lambda: r"\," * (MEGABYTE // 2) + "7",
    "1 MB of \\left": lambda: r"\left" * (MEGABYTE // 5),
    "1 MB of \\text{": lambda: r"\text{a}" * (MEGABYTE // 8),
    "1 MB of \\frac": lambda: r"\frac12" * (MEGABYTE // 7),
    "1 MB of \\sqrt": lambda: r"\sqrt2" * (MEGABYTE // 6),
    "1 MB of \\boxed{}": lambda: r"\boxed{}" * (MEGABYTE // 8),
    "1 MB of \\boxed{7}": lambda: r"\boxed{7}" * (MEGABYTE // 9),
    "1 MB of <think>": lambda: "<think>" * (MEGABYTE // 7),
    "1 MB of </think>": lambda: "</think>" * (MEGABYTE // 8),
    "1 MB of <answer>": lambda: "<answer>" * (MEGABYTE // 8),
    "1 MB of answers": lambda: "The answer is 7. " * (MEGABYTE // 17),
    '1 MB of "the answer is"': lambda: "the answer is " * (MEGABYTE // 14),
    '1 MB of "or"': lambda: "7 or " * (MEGABYTE // 5),
    "1 MB of #### 7": lambda: "#### 7\n" * (MEGABYTE // 7),
    "1 MB of matrix": lambda: matrix(500, 1000),
    "matrix of 40 by 40": lambda: matrix(40, 40),
    "matrix with ragged rows": lambda: r"\begin{pmatrix}1&2\\3\\4&5&6\end{pmatrix}",
    "matrix without an end": lambda: r"\begin{pmatrix}" + r"1&2\\" * 10_000,
    "set of 500 numbers": lambda: r"\{" + ",".join(str(i) for i in range(500)) + r"\}",
    "set of 200 roots": lambda: r"\{" + ",".join(rf"\sqrt{{{i}}}" for i in range(200)) + r"\}",
    "set of 100000 numbers": lambda: r"\{" + ",".join(str(i) for i in range(100_000)) + r"\}",
    "list of 300 plus-minus": lambda: ",".join(rf"\pm{i}" for i in range(1, 300)),
    "union of 150 intervals": lambda: intervals(150),
    "union of 20000 intervals": lambda: intervals(20_000),
    "list of 400 equations": lambda: ",".join(f"x_{{{i}}}={i}" for i in range(400)),
    "tuple of 900": lambda: "(" + ",".join("7" for _ in range(900)) + ")",
    "long text": lambda: r"\text{" + "word " * 300 + "}",
    "long unit": lambda: "7 " + "cm " * 500,
    "long command": lambda: "\\" + "a" * 100_000,
    "long variable name": lambda: r"\mathrm{" + "a" * 1500 + "}",
    "regular expression bait": lambda: "a" * 50_000 + "!",
    "number pattern bait": lambda: "1" * 50_000 + "x" + "1" * 50_000 + ".",
    "spaces between digits": lambda: "7 " * 50_000,
    "digits and commas bait": lambda: "1,111" * 20_000 + "x",
}

ODDITIES: dict[str, Callable[[], str]] = {
    "nothing": lambda: "",
    "NUL": lambda: "\x00",
    "NUL inside a number": lambda: "7\x007",
    "1 MB of NUL": lambda: "\x00" * MEGABYTE,
    "all control characters": lambda: "".join(map(chr, range(32))),
    "unpaired surrogate": lambda: "7\ud800",
    "1 MB of an emoji": lambda: "\U0001f600" * (MEGABYTE // 4),
    "1 MB of zero-width spaces": lambda: "\u200b" * MEGABYTE + "7",
    "1 MB of combining marks": lambda: "7" + "\u0301" * MEGABYTE,
    "1 MB of unicode minus": lambda: "\u2212" * MEGABYTE + "7",
    "1 MB of superscripts": lambda: "7" + "\u2079" * MEGABYTE,
    "1 MB of unicode fractions": lambda: "\u00bd" * MEGABYTE,
    "1 MB of roots": lambda: "\u221a" * MEGABYTE + "7",
    "ligature that grows": lambda: "\ufdfa" * 100_000,
    "superscript tower": lambda: "9\u2079\u2079\u2079\u2079\u2079\u2079\u2079\u2079\u2079",
    "digits of other scripts": lambda: "\u0667\u0966\u0be7",
    "circled digits": lambda: "\u2466\u2467",
    "mathematical bold digits": lambda: "\U0001d7d5",
    "right-to-left marks": lambda: "\u202e7\u202c" * 10_000,
    "infinity sign to a power": lambda: "\u221e^{\u221e}",
    "every printable character": lambda: "".join(map(chr, range(32, 127))),
    "bytes drawn at random": lambda: drawn("".join(map(chr, range(256))), 2000),
    "unicode drawn at random": lambda: drawn("".join(map(chr, range(0x20, 0x3000))), 2000),
    "dangling backslash": lambda: "7\\",
    "dangling exponent": lambda: "7^",
    "dangling \\frac": lambda: r"\frac",
    "dangling \\begin": lambda: r"\begin",
    "unknown environment": lambda: r"\begin{foo}7\end{bar}",
    "loop bait": lambda: r"\def\x{\x\x}\x",
    "while bait": lambda: "while True: pass",
    "allocation bait": lambda: "'a' * 10**12",
    "list allocation bait": lambda: "[0]*10**12",
    "range bait": lambda: "sum(range(10**12))",
    "recursion bait": lambda: "(lambda f: f(f))(lambda f: f(f))",
    "int of a long string": lambda: "int('" + "9" * 100_000 + "')",
    "digits with underscores": lambda: "1_000_000_000_000",
    "hexadecimal": lambda: "0x" + "f" * 10_000,
    "double brackets": lambda: "[" * 300 + "7" + "]" * 300,
    "set-builder with a quantifier": lambda: r"\{n \in \mathbb{N} : n^n = 9^{9^9}\}",
    "periodic solutions": lambda: r"x=\frac{\pi}{4}+\frac{k\pi}{2}, k\in\mathbb{Z}",
    "piecewise of 100 pieces": lambda: r"\begin{cases}" + r"x & x>1\\" * 100 + r"\end{cases}",
}  # fmt: skip
for _seed in range(12):  # malformed at random, long and short
    ODDITIES[f"drawn tokens {_seed}"] = lambda seed=_seed: drawn_tokens(40 * (seed + 1), seed)  # type: ignore[misc]

COMPUTED: dict[str, Callable[[], str]] = {  # what a grader may try to carry out
    "double sum": lambda: r"\sum_{i=1}^{1000}\sum_{j=1}^{1000} ij",
    "triple sum": lambda: r"\sum_{i=1}^{200}\sum_{j=1}^{200}\sum_{k=1}^{200} ijk",
    "sum of towers": lambda: r"\sum_{k=1}^{9} k^{k^{k}}",
    "sum of factorials": lambda: r"\sum_{k=1}^{1000} k!",
    "sum of 10000 roots": lambda: r"\sum_{k=1}^{10000}\sqrt{k}",
    "sum to 10^18": lambda: r"\sum_{k=1}^{10^{18}} k",
    "sum from minus 10^9": lambda: r"7+\sum_{k=-10^9}^{10^9} k",
    "sum to a sum": lambda: r"\sum_{k=1}^{\sum_{j=1}^{1000}j} k",
    "product of 2500 factors": lambda: r"\prod_{a=1}^{50}\prod_{b=1}^{50}(x+a+b)",
    "product of factorials": lambda: r"\prod_{k=1}^{500}k!",
    "remainder of a huge power": lambda: r"7^{10^{18}}\bmod 1000000007",
    "remainder by zero": lambda: r"5\bmod 0",
    "lcm of huge numbers": lambda: r"\text{lcm}(10^{1000}+1,10^{999}+7,3^{900})",
    "minimum of towers": lambda: r"\max(9^{9^{9^9}},3)",
    "power of a semiprime": lambda: r"(10^{41}+3)^{10^9}",
    "product of 25 sets": lambda: r"\{1,2\}" + r"\times\{1,2\}" * 25,
    "10^12 integers": lambda: r"\{n\in\mathbb{Z}: 1\le n\le 10^{12}\}",
    "the roots of x^1000 = 1": lambda: r"\{x : x^{1000}=1\}",
    "an inequality of degree 1000": lambda: "x^{1000}-1<0",
    "an inequality with 59 roots": lambda: "(" + ")(".join(f"x-{i}" for i in range(1, 60)) + ")>0",
    "60 intersections": lambda: r"\cup".join(rf"(({i},{i + 3})\cap({i + 1},{i + 5}))" for i in range(60)),
    "product of 60 matrices": lambda: matrix(2, 2) * 60,
    "determinant of 25 by 25": lambda: matrix(25, 25, "7").replace("pmatrix", "vmatrix"),
    "119 absolute values": lambda: "".join(f"|x-{i}|" for i in range(1, 120)),
    "150 floors": lambda: "+".join(rf"\lfloor x/{i}\rfloor" for i in range(1, 150)),
    "20 plus-minus signs in a sum": lambda: "".join(rf"\pm{i}" for i in range(1, 21)),
    "a number in words": lambda: "one hundred thousand million billion trillion " * 60,
    "x^x^x^x^x": lambda: tower("x", 5),
    "factorial of x factorial": lambda: "(x!)!",
    "binomial of powers of x": lambda: r"\binom{x^{20}}{x^{10}}",
    "exponential tower of x": lambda: nested("e^{", "x", "}", 45),
    "tangent tower": lambda: nested(r"\tan(", "x", ")", 45),
    "148 roots": lambda: "+".join(rf"\sqrt{{{i}}}" for i in range(2, 150)),
    "product of 58 sums of roots": lambda: "".join(rf"(1+\sqrt{{{i}}})" for i in range(2, 60)),
}

CASES: dict[str, Callable[[], str]] = HUGE_VALUES | POLYNOMIALS | FRACTIONS | NESTING | SIZES | ODDITIES | COMPUTED

PAIRS: dict[str, tuple[str, str]] = {
    "huge powers one apart": ("3^{10^{9}}", "3^{10^{9}}+1"),
    "huge powers of different bases": ("3^{10^9}", "5^{10^9}"),
    "towers of different heights": (tower("9", 4), tower("9", 5)),
    "towers of different bases": (tower("9", 4), tower("8", 4)),
    "factorials": ("(10^9)!", "(10^9+1)!"),
    "binomials": (r"\binom{10^9}{5\cdot10^8}", r"\binom{10^9}{5\cdot10^8-1}"),
    "polynomials of degree 1000": ("(x+1)^{1000}", "(x+1)^{1001}"),
    "polynomials of degree 1000 in one term": ("(x+1)^{1000}", "(x+1)^{1000}+x^{500}"),
    "products of 20 sums": (
        "".join(f"({c}+1)" for c in "abcdfghjklmnopqrstuv"),
        "".join(f"({c}+1)" for c in "abcdfghjklmnopqrstu") + "(v+2)",
    ),
    "multinomials": ("(a+b+c+d)^{60}", "(a+b+c-d)^{60}"),
    "prime reciprocals": (egyptian(150), egyptian(151)),
    "continued fractions": (continued_fraction(40), continued_fraction(41)),
    "decimals in the 1000th digit": ("0." + "3" * 1000, "0." + "3" * 999 + "4"),
    "decimals in the 100000th digit": ("0." + "3" * 100_000, "0." + "3" * 99_999 + "4"),
    "long numbers in the last digit": ("9" * 4200, "9" * 4199 + "8"),
    "1 MB numbers in the last digit": ("9" * MEGABYTE, "9" * (MEGABYTE - 1) + "8"),
    "close sums of roots": (r"\sqrt{10}+\sqrt{11}", r"\sqrt{5}+\sqrt{18}"),
    "nested roots": (nested(r"\sqrt{2+", r"\sqrt{2}", "}", 40), nested(r"\sqrt{2+", r"\sqrt{2}", "}", 39)),
    "sets of 300": (
        r"\{" + ",".join(str(i) for i in range(300)) + r"\}",
        r"\{" + ",".join(str(i) for i in range(1, 301)) + r"\}",
    ),
    "sets of 120 formulas": (
        r"\{" + ",".join(rf"\sqrt{{{i}}}x" for i in range(2, 122)) + r"\}",
        r"\{" + ",".join(rf"\sqrt{{{i}}}x" for i in range(3, 123)) + r"\}",
    ),
    "tuples of 500": ("(" + ",".join(["7"] * 500) + ")", "(" + ",".join(["7"] * 499 + ["8"]) + ")"),
    "unions of 100 intervals": (intervals(100), intervals(101)),
    "matrices of 20 by 20": (matrix(20, 20), matrix(20, 20, "2")),
    "exponentials of exponentials": (r"e^{e^{e^{10}}}", r"e^{e^{e^{11}}}"),
    "tiny exponentials": ("e^{-10^9}", "e^{-10^{10}}"),
    "sines of huge numbers": (r"\sin(10^{100})", r"\sin(10^{100}+1)"),
    "sines of high frequency": (r"\sin(1000x)\cos(1000x)", r"\sin(1000x)"),
    "x to huge powers": ("x^{10^{18}}", "x^{10^{18}+1}"),
    "gcd-heavy fractions": (
        f"{Fraction(2**400 - 1, 3**250)}",
        f"{Fraction(2**400 - 3, 3**250)}",
    ),
    "sums of 100 reciprocals": (
        "+".join(rf"\frac{{1}}{{x+{i}}}" for i in range(1, 60)),
        "+".join(rf"\frac{{1}}{{x+{i}}}" for i in range(2, 61)),
    ),
    "logs of huge powers": (r"\log_2(3^{10^9})", r"\log_2(3^{10^9+1})"),
}  # fmt: skip
