"""Rewards that shape rather than judge: lengths, repetition, steps. Tables, slow references, TRL's own functions."""

from __future__ import annotations

import math
import random

import pytest
from hang_guard import hang_guard

from rewards.cosine_length import cosine_length
from rewards.length import length
from rewards.reasoning_steps import reasoning_steps
from rewards.repetition import repetition, words
from rewards.soft_overlong import soft_overlong
from rewards.tag_count import tag_count
from rewards.think_format import think_format
from rl.experience import Verdict

NAN = math.nan


@pytest.fixture
def of_tokens(make_completion):
    """A completion of so many tokens."""

    def make(tokens, **fields):
        return make_completion("x", token_ids=list(range(tokens)), **fields)

    return make


# length


@pytest.mark.parametrize(
    ("tokens", "correct", "rewards"),
    [
        ([10, 20, 30], [1, 1, 1], [0.5, 0.0, -0.5]),
        ([10, 20, 30], [0, 0, 0], [0.0, 0.0, -0.5]),  # brevity does not pay where it is wrong, length costs
        ([10, 15, 30], [0, 1, 1], [0.0, 0.25, -0.5]),
        ([7, 7, 7], [1, 0, 1], [0.0, 0.0, 0.0]),
        ([10, 20, 30], [0.5, 1.5, 0.99], [0.0, 0.0, -0.5]),  # partial credit is not correct
        ([9], [1], [0.0]),
    ],
)
def test_length_rewards_the_shorter_of_a_group(tokens, correct, rewards, problem, of_tokens):
    completions = [of_tokens(count) for count in tokens]
    assert length(problem, completions, terms={"math_answer": correct}) == rewards


def test_length_leaves_out_what_has_no_verdict(problem, of_tokens):
    completions = [of_tokens(count) for count in (10, 20, 3000)]
    given = length(problem, completions, terms={"a": [1.0, 1.0, NAN]}, correct="a")
    assert given[:2] == [0.5, -0.5]  # the scale is that of the first two
    assert isinstance(given[2], Verdict)
    assert given[2].state == "undecided"


def test_length_agrees_with_the_papers_formula_on_random_groups(problem, of_tokens):
    draw = random.Random(0)
    for _ in range(200):
        tokens = [draw.randint(1, 9) for _ in range(draw.randint(2, 6))]
        right = [draw.randint(0, 1) for _ in tokens]
        given = length(problem, [of_tokens(count) for count in tokens], terms={"math_answer": right})
        for reward, count, good in zip(given, tokens, right, strict=True):
            if max(tokens) == min(tokens):
                assert reward == 0
                continue
            lam = 0.5 - (count - min(tokens)) / (max(tokens) - min(tokens))
            assert reward == (lam if good else min(0, lam))


def test_a_missing_term_is_named_with_those_there_are(problem, of_tokens):
    with pytest.raises(ValueError, match=r"correct=math_answer must name another term .* it has accuracy, format"):
        length(problem, [of_tokens(1)], terms={"accuracy": [1.0], "format": [1.0]})


# cosine_length


@pytest.mark.parametrize(
    ("tokens", "correct", "reward"),
    [  # L_max = 100; r_0 and r_L: correct 2 and 1, wrong -10 and 0
        (50, 1, 1.5),
        (100, 1, 1.0),
        (50, 0, -5.0),
        (100, 0, 0.0),
        (25, 1, 1.5 + 0.5 * math.sqrt(0.5)),
        (75, 0, -5.0 + 5.0 * math.sqrt(0.5)),
    ],
)
def test_cosine_length(tokens, correct, reward, problem, of_tokens):
    given = cosine_length(problem, of_tokens(tokens), terms={"math_answer": correct}, max_tokens=100)
    assert given == pytest.approx(reward, abs=1e-12)


def test_cosine_length_beyond_the_limit(problem, of_tokens):
    def reward(tokens, correct, finish="stop", **options):
        completion = of_tokens(tokens, finish_reason=finish)
        return cosine_length(problem, completion, terms={"math_answer": correct}, max_tokens=100, **options)

    assert reward(100, 1, "length") == -10.0
    assert reward(100, NAN, "length") == -10.0  # cut off, no answer: nothing needs to be known
    assert reward(101, 1) == -10.0
    assert reward(150, 1, "length", exceed=None) == reward(100, 1, exceed=None) == 1.0  # clamped, not risen again
    assert reward(150, 0, exceed=None) == 0.0
    assert reward(50, NAN).state == "undecided"


def test_cosine_length_gives_trls_values(problem, make_completion):
    from trl.rewards import get_cosine_scaled_reward

    theirs = get_cosine_scaled_reward(64, -1.0, -0.5, 0.5, 1.0)
    ours = {"correct_short": 1.0, "correct_long": 0.5, "wrong_short": -1.0, "wrong_long": -0.5, "exceed": None}
    for tokens in (1, 10, 32, 63, 64, 65, 100):
        for text, correct in ((r"$\boxed{4}$", 1.0), (r"$\boxed{5}$", 0.0)):
            completion = make_completion(text, token_ids=[0] * tokens)
            (value,) = theirs([[{"role": "assistant", "content": text}]], ["$4$"], [completion.token_ids])
            terms = {"math_answer": correct}
            assert cosine_length(problem, completion, terms=terms, max_tokens=64, **ours) == pytest.approx(value)


def test_cosine_length_refuses_no_limit(problem, of_tokens):
    with pytest.raises(ValueError, match="max_tokens must be at least 1"):
        cosine_length(problem, of_tokens(1), terms={"math_answer": 1.0}, max_tokens=0)


# soft_overlong


@pytest.mark.parametrize(
    ("tokens", "reward"), [(1, 0), (80, 0), (81, -0.05), (90, -0.5), (99, -0.95), (100, -1), (101, -1), (500, -1)]
)
def test_soft_overlong(tokens, reward, problem, of_tokens):
    assert soft_overlong(problem, of_tokens(tokens), max_tokens=100, cache_tokens=20) == reward


@pytest.mark.parametrize(("limit", "cache"), [(100, 20), (7, 7), (50, 0), (33, 10), (1, 1)])
def test_soft_overlong_gives_trls_values(limit, cache, problem, of_tokens):
    from trl.rewards import get_soft_overlong_punishment

    theirs = get_soft_overlong_punishment(limit, cache)
    for tokens in range(1, 2 * limit):
        given = soft_overlong(problem, of_tokens(tokens), max_tokens=limit, cache_tokens=cache)
        assert [given] == theirs([list(range(tokens))])


@pytest.mark.parametrize(("limit", "cache"), [(10, 11), (10, -1), (0, 0)])
def test_soft_overlong_refuses_limits_that_make_no_sense(limit, cache, problem, of_tokens):
    with pytest.raises(ValueError, match="cache_tokens"):
        soft_overlong(problem, of_tokens(1), max_tokens=limit, cache_tokens=cache)


# repetition


@pytest.mark.parametrize(
    ("text", "size", "reward"),
    [
        ("one two three four", 1, 0.0),
        ("one one one one", 1, -0.75),  # 1 of 4 is new
        ("a b a b a b", 2, -0.6),  # ab ba ab ba ab: 2 of 5 are new
        ("Again AGAIN again", 1, -2 / 3),
        ("no no", 3, 0.0),  # too short for any
        ("", 1, 0.0),
        ("\u5bf9\u5bf9\u5bf9\u5bf9", 1, -0.75),  # Chinese: each character is a word
        ("\u6211\u4eec\u7b97\u6211\u4eec\u7b97", 3, -0.25),  # ABC BCA CAB ABC
        ("\u306f\u3044\u306f\u3044", 2, -1 / 3),  # Japanese: hai hai
        ("x+x+x+x", 2, -2 / 3),  # x+ +x x+ +x x+ +x
        ("!!!!!", 1, -0.8),
        ("ha1 ha2 ha3", 1, 0.0),
    ],
)
def test_repetition_of_words(text, size, reward, problem, make_completion):
    given = repetition(problem, make_completion(text), ngram_size=size, unit="words")
    assert given == pytest.approx(reward)
    assert math.copysign(1, given) == (-1 if reward else 1)  # 0.0, not -0.0


def test_words_are_split_the_same_in_mixed_text():
    assert words("Let x=12, \u8ba1\u7b97sum!") == ["let", "x", "=", "12", ",", "\u8ba1", "\u7b97", "sum", "!"]


def test_repetition_of_tokens_gives_trls_values(problem, make_completion):
    from trl.rewards import get_repetition_penalty_reward

    draw = random.Random(0)
    for size in (1, 2, 3, 5):
        theirs = get_repetition_penalty_reward(size, -0.5)
        for _ in range(50):
            token_ids = [draw.randint(0, 4) for _ in range(draw.randint(1, 30))]
            completion = make_completion("x", token_ids=token_ids)
            assert [repetition(problem, completion, ngram_size=size, max_penalty=-0.5)] == theirs([token_ids])


def test_repetition_agrees_with_counting_by_hand(problem, make_completion):
    draw = random.Random(1)
    for _ in range(50):
        ids = [draw.randint(0, 3) for _ in range(draw.randint(1, 25))]
        seen, repeats = [], 0
        for start in range(len(ids) - 1):
            repeats += ids[start : start + 2] in seen
            seen.append(ids[start : start + 2])
        expected = -repeats / len(seen) if seen else 0
        assert repetition(problem, make_completion("x", token_ids=ids), ngram_size=2) == pytest.approx(expected)


def test_repetition_refuses_a_reward_for_it(problem, make_completion):
    for options in ({"max_penalty": 1.0}, {"ngram_size": 0}):
        with pytest.raises(ValueError, match="needed"):
            repetition(problem, make_completion("x"), **options)


# reasoning_steps


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("The answer is 4.", 0),
        ("Step 1: add. Step 2: check.", 2 / 3),
        ("1. add\n2. check\n3) done", 1),
        ("- add\n* check", 2 / 3),
        ("First, we add. Next, we check. Finally, we answer.", 1),
        ("first, second, third, next, finally, then,", 1),  # not more than 1
        ("3.14 is pi\n2.72 is e\n-5 is less\n*bold*", 0),  # numbers and emphasis are no list
        ("at first we add, and next to it 2. is", 0),
        ("Stepwise, my steps 1", 0),
        ("", 0),
    ],
)
def test_reasoning_steps(text, reward, problem, make_completion, make_prompt):
    assert reasoning_steps(problem, make_completion(text), prompt=make_prompt()) == pytest.approx(reward)


def test_reasoning_steps_counts_up_to_the_number_asked_for(problem, make_completion, make_prompt):
    completion = make_completion("Step 1 Step 2 Step 3")
    assert reasoning_steps(problem, completion, prompt=make_prompt(), steps=6) == 0.5
    with pytest.raises(ValueError, match="steps must be at least 1"):
        reasoning_steps(problem, completion, prompt=make_prompt(), steps=0)


# the format rewards, together with what a template wrote


@pytest.mark.parametrize("text", ["<think>a</think><answer>b</answer>", "a</think><answer>b</answer>", "a", ""])
def test_the_format_rewards_do_not_mind_who_wrote_the_opening_tag(text, problem, make_completion, make_prompt):
    whole = make_completion("<think>" + text.removeprefix("<think>"))
    rest = make_completion(text.removeprefix("<think>"))
    for reward in (think_format, tag_count):
        alone = reward(problem, whole, prompt=make_prompt())
        assert reward(problem, rest, prompt=make_prompt("<think>")) == alone


@pytest.mark.parametrize(
    "text",
    [
        "<think>a</think>b",
        "<think>a</think>",
        "a</think>b",
        "<think>a<think>b</think>c",
        "<think>a\n\nb</think>\nc\nd",
        "b",
        " <think>a</think>b",
        "<think>a</think>b<think>c</think>",
        "<think></think>b",
        "<think>a</think>b</think>c",
    ],
)
def test_think_format_accepts_nothing_that_trl_refuses(text, problem, make_completion, make_prompt):
    from trl.rewards import think_format_reward

    (theirs,) = think_format_reward([[{"role": "assistant", "content": text}]])
    ours = think_format(problem, make_completion(text), prompt=make_prompt(), require_answer=False)
    # TRL accepts an empty thought, no answer, and a second </think>; and it refuses a space before <think>.
    differs = {"<think>a</think>": (0, 1), "<think></think>b": (0, 1), "<think>a</think>b</think>c": (0, 1)}
    assert (ours, theirs) == differs.get(text, (1, 0) if text.startswith(" ") else (theirs, theirs))


# all


@pytest.mark.parametrize("unit", ["a ", "\n", " ", "1. ", "Step ", "\u5bf9", "- ", "first, ", "!", "\t", "\x00"])
def test_a_megabyte_is_read_to_its_end(unit, problem, make_completion, make_prompt):
    completion = make_completion(unit * (1_000_000 // len(unit)), token_ids=list(range(200_000)))
    with hang_guard():
        repetition(problem, completion, ngram_size=20, unit="words")
        repetition(problem, completion, ngram_size=40)
        reasoning_steps(problem, completion, prompt=make_prompt("<think>"))
