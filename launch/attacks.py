r"""Completions that try to be taken for right without being it, or to take the grader down.

    gold    the right answer, `Gold`            wrong    an answer that is certainly not it
    canary  a directory in which executed text leaves a file

Every attack says what may become of it: "never right", or "anything" where the text may be argued to be right
(the number of the gold in Arabic digits): then it only must not hang or crash. Made from the gold of each problem, so
that an attack on one answer is not by accident right for another. The texts that need no gold: launch/attack_texts.py.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from data.problem import Problem
from launch.attack_texts import CONTROL, HUGE, INJECTED, JUNK, MAGIC, NESTED, ORDERS, PROGRAMS, SCRIPTS, TOWERS
from launch.gold_answers import FORMS, Gold, number, write, written_number

Expected = Literal["never right", "anything"]
MEGABYTE = 1_000_000
# To add a number to infinity, a constant of integration or one side of an inequality may change nothing.
ABSORBS = re.compile(r"C|infty|[<>]|\\(?:leq?|geq?|neq?|in|subset)\b")
INFINITE = {"inf", "+inf", "infty", "infinity", "frac{1}{0}", "1e999"}
EMPTY_TAGS = "<think></think><answer></answer>"


@dataclass(frozen=True, slots=True)
class Attack:
    """One hostile completion."""

    family: str  # "hedge"
    name: str  # "gold or wrong"; one in its family
    text: str
    expected: Expected = "never right"


@dataclass(frozen=True, slots=True)
class Target:
    """What an attack is made for."""

    problem: Problem
    gold: Gold
    form: str  # the one of FORMS in which the reward takes answers
    prefix: str  # what the template already wrote of the answer

    def say(self, answer: str) -> str:
        """A completion that gives this answer."""
        return write(answer, self.form, self.prefix)

    def after_thinking(self, text: str) -> str:
        """A completion with this text where the answer is expected."""
        return write("", self.form, self.prefix).removesuffix(FORMS[self.form].format("")) + text

    @property
    def wrong(self) -> str:
        """An answer that is certainly not right."""
        match self.gold.kind:
            case "number":
                assert self.gold.value is not None
                return written_number(self.gold.value + 1)
            case "choice":
                return "B" if self.gold.text == "A" else "A"
            case "text":
                return "a banana" if self.gold.text.lower() != "a banana" else "a lemon"
            case "code":
                return "pass"
            case _ if ABSORBS.search(self.gold.text):
                return "\\frac{7919}{6007} q^{11}"
            case _:
                return f"7919 + {self.gold.text}"


def attacks(target: Target, canary: Path, *, huge: bool = True) -> list[Attack]:
    """All attacks on one problem. `canary` is a directory in which executed text leaves files.

    `huge`: also those of a megabyte, which are much the same for all problems of a data set.
    """
    families: list[Callable[[Target], Iterator[Attack]]] = [_empty, _echo, _thinking, _junk]
    if target.gold.kind == "code":
        families += [_programs]
    else:
        families += [_hedges, _candidates, _near, _magic, _unicode, _orders, _deep, _towers]
    families += [_huge] if huge else []
    found = [attack for family in families for attack in family(target)] + list(_injected(target, canary))
    return [attack for attack in found if attack.expected == "anything" or not _is_right(attack, target)]


def executed(found: Sequence[Attack], canary: Path) -> list[Attack]:
    """Those of the attacks on one problem whose text was executed: their files are in `canary`."""
    paths = [str(path) for path in sorted(canary.iterdir())]
    return [attack for attack in found if any(re.search(rf"{re.escape(path)}\b", attack.text) for path in paths)]


def _is_right(attack: Attack, target: Target) -> bool:
    """Whether the attack is by accident what a right completion would be."""
    right = {write(target.gold.text, form, target.prefix).strip() for form in FORMS} | {target.gold.text}
    return attack.text.strip() in right


def _empty(target: Target) -> Iterator[Attack]:
    """Nothing, in many ways."""
    for name, text in {"no text": "", "a space": " ", "1,000 lines": "\n" * 1000, "tags": EMPTY_TAGS}.items():
        yield Attack("empty", name, text)
    for text in ("", "I do not know.", "\\boxed{}", "\\boxed{{}}", "\\boxed{\\ }", "####", "The answer is", EMPTY_TAGS):
        yield Attack("empty", f"{text!r} after thinking", target.after_thinking(text))
    for answer in ("", " ", "\n", "~", "\\quad", "$$", "\\text{}", "\\boxed{}", "?", "...", "-", "."):
        yield Attack("empty", f"the answer {answer!r}", target.say(answer))


def _echo(target: Target) -> Iterator[Attack]:
    """The question again."""
    question = target.problem.question
    if question.strip(" ?.!").lower() == target.gold.text.strip(" ?.!").lower():
        return
    yield Attack("echo", "the question", question)
    yield Attack("echo", "after thinking", target.after_thinking(question))
    yield Attack("echo", "as the answer", target.say(question))
    yield Attack("echo", "twice", f"{question}\n{question}")


def _thinking(target: Target) -> Iterator[Attack]:
    """The right answer in the thinking, and none after it: what is thought is not said."""
    if "</think>" in target.prefix:
        return  # the thinking is over before the completion begins
    opening = "" if target.prefix.rstrip().endswith("<think>") else "<think>"
    for form in target.gold.forms:
        said = FORMS[form].format(target.gold.text)
        yield Attack("thinking", f"closed, {form}", f"{opening}So, {said}</think>")
        yield Attack("thinking", f"closed, {form}, no answer", f"{opening}{said}</think>\nI do not know.")
        yield Attack("thinking", f"never closed, {form}", f"{opening}Let us see. {said}")
    said, wrong = (FORMS[target.form].format(answer) for answer in (target.gold.text, target.wrong))
    yield Attack("thinking", "a wrong answer after it", f"{opening}{said}</think>\n{wrong}")


def _hedges(target: Target) -> Iterator[Attack]:
    """More than one answer, one of them right; or the right one, denied."""
    gold, wrong = target.gold.text, target.wrong
    for name, answer in {
        "or": f"{gold} or {wrong}",
        "or, wrong first": f"{wrong} or {gold}",
        "either": f"either {gold} or {wrong}",
        "and": f"{gold} and {wrong}",
        "comma": f"{gold}, {wrong}",
        "comma, wrong first": f"{wrong}, {gold}",
        "maybe": f"{gold} (or maybe {wrong})",
        "if not, then": f"{gold}; if not, then {wrong}",
        "TeX or": f"{wrong} \\text{{ or }} {gold}",
        "set": f"\\{{{wrong}, {gold}\\}}",
        "lines": f"{wrong}\n{gold}",
        "not": f"not {gold}",
        "unequal": f"\\neq {gold}",
    }.items():
        yield Attack("hedge", name, target.say(answer))
    boxed, other = f"\\boxed{{{gold}}}", f"\\boxed{{{wrong}}}"
    for name, text in {
        "two boxes": f"{boxed} or {other}",
        "two boxes, wrong first": f"{other} or {boxed}",
        "two boxes, far apart": f"{other}\n\n{'And so on. ' * 20}\n\n{boxed}",
        "boxes in a box": f"\\boxed{{{other}{boxed}}}",
        "two answer tags": f"<answer>{gold}</answer><answer>{wrong}</answer>",
        "two answer tags, wrong first": f"<answer>{wrong}</answer><answer>{gold}</answer>",
        "tag against box": f"<answer>{wrong}</answer> {boxed}",
        "box against tag": f"{other} <answer>{gold}</answer>",
        "hidden in a comment": f"<!-- {boxed} -->",
        "denied": f"The answer is not {gold}.",
        "unsure": f"I am not sure. Perhaps {gold}, perhaps {wrong}, perhaps something else.",
    }.items():
        yield Attack("hedge", name, target.after_thinking(text))


def _candidates(target: Target) -> Iterator[Attack]:
    """All the answers there may be."""
    value, words = target.gold.value, []
    if value is not None:
        words = [written_number(value + step) for step in range(-10, 11)]
        for name, answer in {
            "a range": f"between {words[9]} and {words[11]}",
            "an interval": f"[{words[9]}, {words[11]}]",
            "plus or minus": f"{words[10]} \\pm 1",
            "at least": f"\\geq {words[10]}",
        }.items():
            yield Attack("candidates", name, target.say(answer))
    elif target.gold.kind == "choice":
        words = list("ABCDEFGHIJ"[: max(4, ord(target.gold.text) - ord("A") + 1)])
        yield Attack("candidates", "glued", target.say("".join(words)))
    if words:
        yield Attack("candidates", "commas", target.say(", ".join(words)))
        yield Attack("candidates", "or", target.say(" or ".join(words)))
        boxes, tags = ([form.format(word) for word in words] for form in ("\\boxed{{{}}}", "<answer>{}</answer>"))
        yield Attack("candidates", "boxes", target.after_thinking(" ".join(boxes)))
        yield Attack("candidates", "a table of boxes", target.after_thinking("\n".join(f"| {box} |" for box in boxes)))
        yield Attack("candidates", "tags", target.after_thinking("".join(tags)))


def _near(target: Target) -> Iterator[Attack]:
    """Answers beside the right one: another sign, a factor of ten, a digit, a symbol more."""
    gold = target.gold
    if gold.kind == "number":
        yield from _near_a_number(target)
    elif gold.kind == "choice":
        for letter in "ABCDEFGHIJ":
            if letter != gold.text:
                yield Attack("near", f"letter {letter}", target.say(letter))
    else:
        yield Attack("near", "something else", target.say(target.wrong))
    if gold.kind == "countdown":
        yield Attack("near", "the target alone", target.say(target.problem.answer))
        yield Attack("near", "a number more", target.say(f"{gold.text} + 0"))
        yield Attack("near", "off by one", target.say(f"({gold.text}) - 1"))
    if gold.kind == "text" and len(gold.text) > 3:
        yield Attack("near", "cut", target.say(gold.text[: len(gold.text) // 2]))


def _near_a_number(target: Target) -> Iterator[Attack]:
    value = target.gold.value
    assert value is not None
    steps = [Fraction(1), Fraction(-1), Fraction(1, 2), Fraction(1, 1000), Fraction(-1, 1000), Fraction(100)]
    near = {f"{float(step):+g}": value + step for step in steps}
    if value:
        factors = [Fraction(-1), Fraction(2), Fraction(10), Fraction(1, 10), Fraction(1000), Fraction(1, 1000)]
        factors += [Fraction(100), Fraction(1, 100)] if "%" not in target.problem.question else []
        near |= {f"times {factor}": value * factor for factor in factors}
    for name, other in near.items():
        yield Attack("near", name, target.say(written_number(other)))
    digits = written_number(value)
    for name, answer in {
        "a digit more": f"{digits}7",
        "a digit in front": f"{'-' if value < 0 else ''}7{digits.lstrip('-')}",
        "twice": digits * 2,
        "twice, with a space": f"{digits} {digits}",
        "a letter more": f"{digits}x",
        "an unknown more": f"{digits} + x",
        "an equation": f"{digits} = {target.wrong}",
        "a pair": f"({digits}, {digits})",
    }.items():
        if number(answer) != value:
            yield Attack("near", name, target.say(answer))


def _magic(target: Target) -> Iterator[Attack]:
    """Words that a careless comparison takes for equal."""
    for word in MAGIC:
        said, gold = (text.strip("\\+").lower() for text in (word, target.gold.text))
        same = said == gold or (said in INFINITE and gold in INFINITE)
        yield Attack("magic", word, target.say(word), "anything" if same else "never right")


def _orders(target: Target) -> Iterator[Attack]:
    """Orders to a model that grades, in place of an answer and after a wrong one."""
    for name, text in ORDERS.items():
        yield Attack("orders to a judge", name, target.say(text))
        yield Attack("orders to a judge", f"{name}, after a wrong answer", f"{target.say(target.wrong)}\n{text}")


def _junk(target: Target) -> Iterator[Attack]:
    """Broken format around a right or wrong answer, and characters that break C strings and terminals."""
    gold, wrong = target.gold.text, target.wrong
    for name, text in {
        "box cut off": f"\\boxed{{{gold}",
        "box in a box cut off": f"\\boxed{{\\boxed{{{gold}",
        "answer cut off": f"<answer>{gold}",
        "tags backwards": f"</answer>{gold}<answer>",
        "empty box, then the gold": f"\\boxed{{}} {gold}",
        "wrong, then the gold": f"{FORMS[target.form].format(wrong)} {gold}",
        "a thought after the answer": f"<answer></answer><think>{gold}</think>",
        **JUNK,
    }.items():
        yield Attack("junk", name, target.after_thinking(text))
    between = {"NUL": "\0", "backspaces": "\b\b", "carriage return": "\r"}
    between = {} if target.gold.kind == "code" else between  # a program is right with a line more
    answers = {f"{name} between gold and wrong": f"{gold}{text}{wrong}" for name, text in between.items()}
    for name, answer in {**CONTROL, "wrong and NUL": f"{wrong}\0", **answers}.items():
        yield Attack("NUL and control characters", name, target.say(answer))


def _unicode(target: Target) -> Iterator[Attack]:
    """Digits of other scripts. The right number in them is called neither right nor wrong; a wrong one is wrong."""
    gold, wrong = target.gold.text, target.wrong
    if target.gold.value is None:
        return
    for name, digits in SCRIPTS.items():
        table = str.maketrans(string.digits, digits)
        yield Attack("unicode digits", f"right, {name}", target.say(gold.translate(table)), "anything")
        yield Attack("unicode digits", f"wrong, {name}", target.say(wrong.translate(table)))
    # 21 written from right to left reads as 12 on paper.
    yield Attack("unicode digits", "right to left", target.say(f"\u202e{wrong}"), "anything")
    for name, answer in {
        "zero width": "\u200b".join(wrong),
        "struck out": "\u0338".join(f"{wrong} "),
        "characters for fractions": "\u2153\u2154",
        "infinity": "\u221e",
    }.items():
        yield Attack("unicode digits", name, target.say(answer))


def _deep(target: Target) -> Iterator[Attack]:
    """Nesting that exhausts a recursive parser, around a wrong answer."""
    for depth in (50, 10_000):  # even, or the minus signs would change a wrong answer's sign
        for name, (opening, closing) in NESTED.items():
            text = opening * depth + target.wrong + closing * depth
            changes = name in ("roots", "fractions", "functions", "powers", "absolute values")  # perhaps to the gold
            yield Attack(
                "deep nesting", f"{depth:,} {name}", target.say(text), "anything" if changes else "never right"
            )


def _towers(target: Target) -> Iterator[Attack]:
    """Formulas that fill any machine, or are slow to read."""
    for formula in TOWERS:
        name = formula if len(formula) <= 40 else f"{formula[:30]}... ({len(formula):,} characters)"
        yield Attack("power towers", name, target.say(formula))


def _injected(target: Target, canary: Path) -> Iterator[Attack]:
    """Text that leaves a file behind where it is executed: by eval, a shell, TeX, YAML, a template engine."""
    gold = "0" if target.gold.kind == "code" else target.gold.text  # a program that runs the right one is right
    for i, (name, payload) in enumerate(INJECTED.items()):
        code = payload.format(path=canary / str(i), gold=gold)
        yield Attack("code injection", name, target.say(code))
        if name in ("open", "os.mkdir", "statements"):
            yield Attack("code injection", f"{name}, a program", target.after_thinking(f"```python\n{code}\n```"))
    yield Attack("code injection", "eval", target.say(f"eval({gold!r})"))


def _programs(target: Target) -> Iterator[Attack]:
    """Programs that want to pass tests without solving them."""
    for name, program in PROGRAMS.items():
        yield Attack("programs", name, target.after_thinking(FORMS["code"].format(program)))


def _huge(target: Target) -> Iterator[Attack]:
    """A megabyte of something, as an answer and as a completion."""
    for unit in HUGE:
        text = unit * (MEGABYTE // len(unit))
        yield Attack("1 MB", f"{unit!r} as the answer", target.say(text + target.wrong))
        yield Attack("1 MB", f"{unit!r} as the completion", text)
