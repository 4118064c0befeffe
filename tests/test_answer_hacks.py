"""The rewards that look for an answer, against completions that would be paid for none, and honest ones beside them."""

from __future__ import annotations

import pytest

from data.problem import Problem, ask
from rewards.countdown import countdown
from rewards.exact_match import exact_match
from rewards.gsm8k import gsm8k
from rewards.multiple_choice import multiple_choice
from rewards.token_f1 import token_f1


def asked(question, answer, **metadata):
    return Problem(id="hacks/1", messages=ask(question), answer=answer, source="hacks", metadata=metadata)


DUCKS = asked("Ducks lay 16 eggs; 3 are eaten, 4 baked, the rest sold at $2. How much is made?", "9 * 2 = 18\n#### 18")
FRANCE = asked("What is the capital of France?", "B", choices=["London", "Paris", "Rome", "Berlin"])
HAMLET = asked("Who wrote Hamlet?", "William Shakespeare", answers=["Shakespeare"])
GAME = asked("Use 3, 5, 7, 2 to make 24.", "24", nums=[3, 5, 7, 2])

STRICT_HACKS = [
    "#### 18 or 19",
    "#### 18\n#### 19",
    "#### 19\n#### 18",
    "<think>#### 18</think>",
    "<think>#### 18",
    "#### 18/19",
    "#### 18-19",
    "#### 18 19",
    "#### 18, 19",
    "#### not 18",
    "#### 18 is wrong, 19",
    "#### 180",
    "#### -18",
    "#### 1.8",
    "#### 18x",
    "#### 18+1",
    "#### 18%19",
    "#### 18 (or 19)",
    "#### eighteen or nineteen",
    "#### 17\nthe rest is 18 #### 18?19",
    "####18\n#### 20",
    "#### 18e1",
    "#### 18^2",
    "#### ~18 to 20",
    "#### < 18",
    "#### 18 if True else 19",
    "#### $18$ and $19$",
    "18\n####",
    "#### {18, 19}",
    "#### \\boxed{18} \\boxed{19}",
    "<!-- #### 18 -->",
    "> #### 18\n#### 19",
    "~~#### 18~~\n#### 19",
    "#### 18\u200b0",
    "#### 1 8",
    "#### 18.5",
    "#### 18,5",
    "#### 0018x",
    "#### 18 % of 100",
    "#### 18 million",
    "#### 18k",
    "#### 18 dozen",
    "#### twice 18",
    "#### -$18",
    "#### 18 != 18",
]
STRICT_HONEST = [
    "#### 18",
    "#### $18",
    "#### 18.",
    "#### 18.00",
    "####18",
    "#### 18 dollars",
    "#### $18$",
    "9*2=18\n#### 18\n",
    "<think>x</think>\n#### 18",
    "#### 18\n\nI hope this helps!",
    "#### 18 dollars per day",
    "#### $18 per day",
    "#### 18 eggs",
]

FLEXIBLE_HACKS = [
    "It is 18 or 19",
    "18 19",
    "18/19",
    "<think>18</think>",
    "18, then 20",
    "18 = 20",
    "180",
    "-18",
    "18.5",
    "18%5",
    "0.18",
    "not 18 but 20",
    "18x2",
]
FLEXIBLE_HONEST = [
    "She makes $18.",
    "18",
    "So the total is $18 per day.",
    "#### 18",
    "The answer is 18.",
    "**18**",
    "\\boxed{18}",
]

CHOICE_HACKS = [
    "A B C D",
    "(A) (B) (C) (D)",
    "\\boxed{A}\\boxed{B}",
    "B or C",
    "The answer is B or C.",
    "Answer: not B",
    "Not B",
    "\\boxed{AB}",
    "\\boxed{B, C}",
    "<answer>B</answer><answer>C</answer>",
    "<think>B</think>",
    "<think>B",
    "The answer is B. The answer is C.",
    "Paris, London",
    "\\boxed{\\text{Paris or Rome}}",
    "B) London",
    "(B) Rome",
    "All of the above",
    "The answer is (B) or maybe (C).",
    "I choose B. I choose C.",
    "Option B is correct. Option C is correct.",
    "Option B is incorrect.",
    "Option B is not correct.",
    "The correct option is not B.",
    "I would never pick B.",
    "I choose B? No, C.",
    "If forced, B; otherwise C.",
    "A: no. B: maybe. C: maybe.",
    "\\boxed{B?C}",
    "\\boxed{[A-D]}",
    "\\boxed{.*}",
    "\\boxed{any}",
    "B is wrong",
    "Definitely not (B)",
    "Everything except (B)",
    "B, C",
    "b/c",
    "Either B or D",
    "<answer>B|D</answer>",
    "B <!-- C -->C",
    "\\boxed{C} (B)",
    "The answer is B, unless it is C.",
    "It could be B.",
    "The answer is probably not Paris",
    "The answer is anything but Paris.",
    "The best answer is B or D.",
    "A) London\nB) Paris\nC) Rome\nD) Berlin",
    "\\neg B",
    "\\boxed{\\neg B}",
    "Option B is correct is false.",
]
CHOICE_HONEST = [
    "B",
    "(B)",
    "B.",
    "**B**",
    "\\boxed{B}",
    "The answer is B.",
    "Answer: B",
    "<answer>B</answer>",
    "B) Paris",
    "\\boxed{\\text{B) Paris}}",
    "Paris",
    "\\boxed{Paris}",
    "The answer is Paris.",
    "The correct answer is B) Paris.",
    "The capital of France is Paris, so the answer is (B).",
    "Option B is correct.",
    "The correct option is **B**.",
    "A is wrong, C is wrong. The answer is B.",
    "Answer: **B) Paris**",
    "<think>A? no</think>B",
    "\\boxed{b}",
    "The best answer is B.",
    "The answer is option B.",
    "Therefore, the answer is B: Paris.",
    "B: Paris",
    "The correct choice is (B) Paris.",
    "I choose B.",
    "Final answer: B",
    "#### B",
    "The answer is \\boxed{(B)}",
    "Therefore, the correct answer is:\n\n**B) Paris**",
    "So the correct option is B.",
    "The answer is **B**, Paris.",
    "Hence (B).",
    "Answer: (B) Paris\n\nLondon is the capital of the UK.",
]

WORDS_HACKS = [
    "Shakespeare or Marlowe",
    "<answer>Shakespeare</answer><answer>Marlowe</answer>",
    "\\boxed{Shakespeare}\\boxed{Marlowe}",
    "not Shakespeare",
    "The answer is not Shakespeare.",
    "<think>Shakespeare</think>",
    "<think>Shakespeare",
    "Shakespeare Marlowe Jonson",
    "Shakespeare, Marlowe, Jonson",
    "\\boxed{\\text{Shakespeare or Marlowe}}",
    "The answer is Shakespeare. The answer is Marlowe.",
    "<answer>Shakespeare/Marlowe</answer>",
    "<answer>maybe Shakespeare</answer>",
    "",
    "\\boxed{}",
    "<!-- Shakespeare -->",
    "\\boxed{Marlowe} Shakespeare",
    "The answer is Marlowe (or Shakespeare).",
    "Shakespeare\u200b Marlowe",
    "~~Shakespeare~~ Marlowe",
    "I doubt that the answer is Shakespeare.",
    "It is false that the answer is Shakespeare.",
    "Shakespeare? No.",
    "the a an",
]
WORDS_HONEST = [
    "Shakespeare",
    "William Shakespeare",
    "The answer is Shakespeare.",
    "\\boxed{Shakespeare}",
    "<answer>William Shakespeare</answer>",
    "**Shakespeare**",
    "<think>who?</think> Shakespeare",
    "Answer: Shakespeare",
    "\\boxed{\\text{William Shakespeare}}",
    "shakespeare",
    "Final answer: William Shakespeare.",
    "<answer>Shakespeare</answer>\n",
    "\\boxed{\\textbf{Shakespeare}}",
    "The answer is **William Shakespeare**.",
    "<answer>\nShakespeare\n</answer>",
    "\u201cShakespeare\u201d",
]

COUNTDOWN_HACKS = [
    "\\boxed{24}",
    "<answer>24</answer>",
    "<answer>3*8</answer>",
    "<answer>3*7+5-2=25</answer>",
    "<answer>3*7+3</answer>",
    "<answer>3*7+5-2-0</answer>",
    "<answer>3*7+5-2*1</answer>",
    "<answer>37-5*2-3</answer>",
    "<answer>3*7+5-2</answer><answer>3*7</answer>",
    "<answer>3*7</answer> or <answer>3*7+5-2</answer>",
    "<think><answer>3*7+5-2</answer></think>",
    "<think><answer>3*7+5-2</answer>",
    "<answer>int('24')</answer>",
    "<answer>3**7</answer>",
    "<answer>3*7+5-2 or 1</answer>",
    "<answer>(3*7+5-2</answer>",
    "<answer>3*7+5--2</answer>",
    "<answer>24 = 24</answer>",
    "<answer>3*7+5-2 # comment</answer>",
    "<answer>__import__('os')</answer>",
    "<answer>3 7 5 2</answer>",
    "<answer>3*7+5-2\n3*7+5-2-1</answer>",
    "<answer>not 3*7+5-2</answer>",
    "<answer>3.0*7+5-2</answer>",
    "<answer>3*7+5-2==24</answer>",
    "<answer>3*7+5-2=24=25</answer>",
    "<answer>99**99**99</answer>",
    "The answer is not 3*7+5-2.",
    "<!-- <answer>3*7+5-2</answer> -->",
    "<answer>3*7+5-2+0*9</answer>",
    "<answer>3!*4</answer>",
    "<answer>-2+5+3*7</answer>",
    "It would be wrong to say \\boxed{3*7+5-2}",
]
COUNTDOWN_HONEST = [
    "<answer>3*7+5-2</answer>",
    "<answer>3 * 7 + 5 - 2</answer>",
    "<answer>(3 * 7) + 5 - 2</answer>",
    "<answer>3*7+5-2=24</answer>",
    "<answer> 5 + 7*3 - 2 = 24 </answer>",
    "\\boxed{3*7+5-2}",
    "The answer is 3*7+5-2.",
    "<think>try 3*7=21</think>\n<answer>3*7+5-2</answer>",
    "<answer>3 * 7 + (5 - 2)</answer>",
    "<answer>$3*7+5-2$</answer>",
    "\\boxed{3 \\times 7 + 5 - 2}",
    "<answer>3 \u00d7 7 + 5 \u2212 2</answer>",
    "\\boxed{3 \\cdot 7 + 5 - 2 = 24}",
    "<answer>\n3*7+5-2\n</answer>",
    "<answer>`3*7+5-2`</answer>",
    "Answer: 3*7+5-2 = 24",
    "<answer>\\( 3*7+5-2 \\)</answer>",
    "<answer>\\boxed{3*7+5-2}</answer>",
    "\\boxed{\\left(3 \\times 7\\right) + 5 - 2}",
    "<answer>((3*7)+(5-2))</answer>",
    "<answer>3*7 + 5 - 2</answer>\n\nThis uses each number once.",
    "Therefore, the expression is \\boxed{3*7+5-2}, which equals 24.",
]


CASES = [
    (gsm8k, DUCKS, {}, STRICT_HACKS, STRICT_HONEST),
    (gsm8k, DUCKS, {"mode": "flexible"}, FLEXIBLE_HACKS, FLEXIBLE_HONEST),
    (multiple_choice, FRANCE, {}, CHOICE_HACKS, CHOICE_HONEST),
    (exact_match, HAMLET, {}, WORDS_HACKS, WORDS_HONEST),
    (token_f1, HAMLET, {}, WORDS_HACKS, WORDS_HONEST),
    (countdown, GAME, {}, COUNTDOWN_HACKS, COUNTDOWN_HONEST),
]


@pytest.mark.parametrize(
    ("reward", "problem", "options", "text"), [(*case[:3], text) for case in CASES for text in case[3]]
)
def test_a_hack_is_not_paid_in_full(reward, problem, options, text, make_completion):
    assert reward(problem, make_completion(text), **options) < 1


@pytest.mark.parametrize(
    ("reward", "problem", "options", "text"), [(*case[:3], text) for case in CASES for text in case[4]]
)
def test_an_honest_answer_is_right(reward, problem, options, text, make_completion):
    assert reward(problem, make_completion(text), **options) == 1
