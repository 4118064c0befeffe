"""Which answers are the same mathematics: a table of right and wrong pairs, to be checked by eye."""

from __future__ import annotations

import pytest

from rewards.mathematics.compare import compare

# (gold, answer)
RIGHT = [
    (r"\frac{1}{2}", "0.5"),
    (r"\frac12", "1/2"),
    (r"50\%", "1/2"),
    ("50%", "50"),
    ("1 1/2", "1.5"),
    (r"1\frac{1}{2}", r"\frac32"),
    ("1,000", "1000"),
    ("1{,}000", "1000"),
    (r"1\,000", "1000"),
    ("12 345", "12345"),
    (r"1.5 \times 10^{3}", "1500"),
    ("1.5e3", "1500"),
    ("10^-3", "0.001"),
    ("5", "5 cm"),
    ("5 cm", "5"),
    ("5 m", "500 cm"),
    (r"5 \text{ cm}^2", "5 square centimetres"),
    (r"5 \text{ cm}^2", "5 cm^2"),
    (r"45^\circ", "45"),
    (r"45^\circ", "45 degrees"),
    (r"45^{\circ}", r"\frac{\pi}{4}"),
    ("12", "twelve"),
    ("1/2", "a half"),
    ("3:30", "3:30 PM"),
    ("3:4", "6:8"),
    ("101_2", "5"),
    ("101_2", "101_{2}"),
    ("1/3", r"0.\overline{3}"),
    ("1/3", "0.333..."),
    (r"\pm 2", "2, -2"),
    (r"1 \pm \sqrt{2}", r"1+\sqrt2, 1-\sqrt2"),
    (r"\sqrt{12}", r"2\sqrt{3}"),
    (r"\sqrt{3+2\sqrt{2}}", r"1+\sqrt2"),
    ("3", r"\frac{\log 8}{\log 2}"),
    ("x^2-1", "(x-1)(x+1)"),
    (r"\frac{x^2-1}{x-1}", "x+1"),
    (r"\sqrt{x^2}", "|x|"),
    (r"\sin^2 x + \cos^2 x", "1"),
    (r"\sin 2x", r"2\sin x\cos x"),
    ("x = 5", "5"),
    ("5", "x = 5"),
    ("y = 2x+1", "2x - y + 1 = 0"),
    ("y = 2x+1", "2x+1"),
    ("x>3", r"(3,\infty)"),
    ("x > 3", "3 < x"),
    ("[1,2]", r"x \in [1,2]"),
    (r"1<x\le 2", "(1,2]"),
    ("(1,2)", r"\left( 1, 2 \right)"),
    ("{1,2,3}", "3, 2, 1"),
    ("1, 2, 3", "1 and 2 and 3"),
    ("1, 2, 3", r"\{3,2,1\}"),
    ("x=1, y=2", "(1,2)"),
    ("x=1,y=2", "y=2, x=1"),
    ("(A)", "A"),
    (r"\text{(A)}", "A"),
    (r"\text{A}", "(A)"),
    (r"\text{Evelyn}", "evelyn"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "[[1,2],[3,4]]"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,2)"),
    (r"(-\infty,2)\cup(2,\infty)", r"x \ne 2"),
    (r"\mathbb{R}\setminus\{2\}", r"x\neq 2"),
    (r"\mathbb{R}", r"(-\infty,\infty)"),
    (r"\mathbb{R}", "all real numbers"),
    (r"\emptyset", "no solution"),
    ("x^2 + C", "x^2 + c"),
    ("2+3i", "3i+2"),
    ("(x-1)^2+(y-2)^2=9", "x^2+y^2-2x-4y-4=0"),
    (r"\{x \mid x > 3\}", r"(3, \infty)"),
    ("2^{10}", "1024"),
    ("18", r"\$18"),
    ("18", "18 apples"),
    ("18 dollars", r"\$18.00"),
    (r"\frac{\pi}{2}", "pi/2"),
    (r"e^{i\pi}", "-1"),
    ("2x", "x*2"),
    ("xy", "yx"),
    (r"x \in (1,2) \cup (3,4)", "1<x<2 or 3<x<4"),
    (r"x<-1 \text{ or } x>3", r"(-\infty,-1)\cup(3,\infty)"),
    (r"\frac{\pi}{4}+n\pi, n\in\mathbb{Z}", r"\frac{\pi}{4}+k\pi, k\in\mathbb{Z}"),
    (r"-\frac{1}{2}", r"\frac{-1}{2}"),
    (r"3\frac{1}{2} hours", "3 hours 30 minutes"),
    ("2 hours", "120 minutes"),
    ("60 mph", "60 miles per hour"),
    (r"\log_2 8", "3"),
    ("120", "5!"),
    ("10", r"\binom{5}{2}"),
    ("7", "|{-7}|"),
    ("5 million", "5,000,000"),
    (r"x=\frac{-1\pm\sqrt5}{2}", r"\frac{-1+\sqrt5}{2}, \frac{-1-\sqrt5}{2}"),
    (r"10\sqrt{2}", "10\u221a2"),
    (r"\$1,234.50", "1234.5"),
]
WRONG = [
    ("0.5", "50"),
    ("0.5", "0.5%"),
    ("100", "1,00"),
    ("5 cm", "5 m"),
    (r"5 \text{ cm}^2", "5 cm"),
    ("45", r"\frac{\pi}{4}"),
    (r"45^\circ", "45 radians"),
    ("3:30 am", "3:30 pm"),
    ("3:4", "4:3"),
    ("101_2", "101"),
    ("1/3", "0.333"),
    (r"\sqrt{2}", "1.414"),
    (r"\sqrt{2}", "1.41421356237"),
    ("x^2-1", "(x-1)(x-1)"),
    (r"\sqrt{x^2}", "x"),
    (r"\ln(x^2)", r"2\ln x"),
    ("x=5", "y=5"),
    ("x > 3", r"x \ge 3"),
    ("x > 3", "y > 3"),
    ("(1,2]", "(1,2)"),
    ("(1,2)", "[1,2]"),
    ("(1,2)", "(2,1)"),
    ("1, 2, 3", "1, 2"),
    ("3", "3 or 4"),
    ("A", "B"),
    (r"\text{Evelyn}", r"\text{Bob}"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "[[1,3],[2,4]]"),
    ("no solution", "all real numbers"),
    ("x^2 + C", "x^2"),
    ("2+3i", "2-3i"),
    ("18 apples", "18 oranges"),
    ("xy", "xz"),
]


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_equal(gold: str, answer: str):
    assert compare(gold, answer).state == "ok"
    assert compare(gold, gold).state == "ok"


@pytest.mark.parametrize(("gold", "answer"), WRONG)
def test_different(gold: str, answer: str):
    assert compare(gold, answer).state == "wrong"


def test_an_empty_gold_is_a_bad_gold():
    assert compare(" ", "5").state == "bad_gold"


def test_what_is_too_large_to_compute_is_undecided():
    assert compare("3^{10^9}", "3^{1000000000}+1").state == "undecided"
