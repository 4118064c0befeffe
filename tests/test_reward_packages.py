"""The real reward functions of the installed TRL and verifiers, unmodified, and functions as verl and OpenRLHF document
them. Expected values are by hand, and where the package can say itself what its function is worth, by the package.
"""

from __future__ import annotations

import asyncio
import re

import pytest
import trl.rewards
from judge_server import Server
from reward_functions import score_with
from trl.rewards import (
    accuracy_reward,
    get_cosine_scaled_reward,
    get_repetition_penalty_reward,
    get_soft_overlong_punishment,
    reasoning_accuracy_reward,
    think_format_reward,
)

from data.problem import Problem, ask
from rl.experience import Group, Verdict
from rl.reward_arguments import verifiers_state
from rl.reward_forms import Failed, bind
from rl.scoring import Scorer, reward_terms

verifiers = pytest.importorskip("verifiers", reason="make test installs tests/verifiers.lock")
openai = pytest.importorskip("openai")


@pytest.fixture
def score(make_prompt, make_completion):
    return score_with(make_prompt, make_completion)


def problem_of(answer, **metadata):
    return Problem("fractions/1", ask("What is 1/6 + 1/6?"), answer, "fractions", metadata)


THIRD = problem_of(r"$\frac{1}{3}$")
CHAT = {"problem": THIRD, "conversational": True}
THINKING = {**CHAT, "prefix": "<think>"}
GIVEN_UP = "I do not know"


# TRL


TRL = [
    (accuracy_reward, (r"It is $\boxed{\frac{1}{3}}$", r"\boxed{\frac{1}{2}}", r"$\boxed{\frac{2}{6}}$"), (1, 0, 1)),
    (
        reasoning_accuracy_reward,
        (r"so</think>\boxed{\frac{1}{3}}", r"so</think>\boxed{3}", r"\boxed{\frac{1}{3}}</think>None"),
        (1, 0, 0),
    ),
    (think_format_reward, ("so</think>1/3", "so", "<think>so</think>1/3"), (1, 0, 0)),
    (
        get_soft_overlong_punishment(max_completion_len=10, soft_punish_cache=4),
        ("a" * 6, "a" * 8, "a" * 11),
        (0, -0.5, -1),
    ),
    (get_repetition_penalty_reward(ngram_size=2, max_penalty=-1.0), ("abcd", "aaaaa", "a"), (0, -0.75, 0)),
    (
        get_cosine_scaled_reward(max_len=64),  # the completions below are 64 tokens or more: at the long end
        (r"\boxed{\frac{1}{3}}" + " " * 50, r"\boxed{3}" + " " * 60, r"\boxed{\frac{1}{3}}" + " " * 60),
        (0.5, -0.5, 0.5),
    ),
]


@pytest.mark.parametrize(("function", "texts", "expected"), TRL)
def test_functions_of_trl(function, texts, expected, score):
    bound = bind(function, {})
    assert (bound.form, bound.whole_group, bound.is_async) == ("trl", True, False)
    assert score(function, *texts, **THINKING) == pytest.approx(expected)
    assert len({float(value) for value in expected}) > 1


def test_every_reward_function_of_trl_is_among_them():
    tested = {function.__name__ for function, _, _ in TRL}
    there = [name.removeprefix("get_") for name in dir(trl.rewards) if name.endswith(("_reward", "_punishment"))]
    assert len(there) == len(tested) == 6
    assert all(any(one.startswith(name) for one in tested) for name in there)


def test_what_trl_cannot_judge_adds_nothing(score):
    found = score(accuracy_reward, r"\boxed{1}", problem=problem_of("no number"), conversational=True)
    assert [(float(one), one.state, one.reason) for one in found] == [(0.0, "ok", "None: does not apply")]


def test_a_function_of_trl_that_wants_messages_fails_on_plain_text_instead_of_scoring_it(score):
    (found,) = score(accuracy_reward, r"\boxed{\frac{1}{3}}", problem=THIRD)
    assert isinstance(found, Failed)
    assert found.message.startswith("TypeError: string indices must be integers")


# open-r1's signatures, which are TRL's


def tag_count_reward(completions, **kwargs):
    return [
        sum(message["content"].count(tag) == 1 for tag in ("<think>", "</think>")) / 2 for (message,) in completions
    ]


def len_reward(completions: list[dict[str, str]], solution: list[str], **kwargs) -> list[float]:
    lengths = [len(completion[0]["content"]) for completion in completions]
    spread = (max(lengths) - min(lengths)) or 1
    return [0.5 - (length - min(lengths)) / spread for length in lengths]


async def code_reward(completions, num_parallel: int = 2, provider_type: str = "e2b", **kwargs) -> list[float]:
    tests = kwargs["unit_tests"]
    await asyncio.sleep(0)
    return [float(num_parallel + len(row)) for row in tests]


def test_functions_with_the_signatures_of_open_r1(score):
    assert score(tag_count_reward, "a</think>b", "a", **THINKING) == (1.0, 0.5)
    assert score(len_reward, "a", "abc", "ab", **CHAT) == (0.5, -0.5, 0.0)
    row = {"problem": problem_of("4", unit_tests=["a", "b", "c"]), "conversational": True}
    assert score(code_reward, "a", "b", options={"num_parallel": 4}, **row) == (7.0, 7.0)


# verl, as its documentation describes a custom reward function


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    found = re.search(r"#### (-?\d+)", solution_str)
    right = found is not None and found.group(1) == ground_truth
    if data_source == "fractions":
        return {"score": 1.0 if right else 0.0, "acc": right, "level": (extra_info or {}).get("level")}
    raise NotImplementedError(f"Reward function is not implemented for {data_source=}")


def compute_score_batch(data_sources, solution_strs, ground_truths, extra_infos, **kwargs):
    rows = zip(data_sources, solution_strs, ground_truths, extra_infos, strict=True)
    return [compute_score(*row) for row in rows]


@pytest.mark.parametrize("function", [compute_score, compute_score_batch])
def test_functions_of_verl(function, score):
    assert score(function, "#### 4", "#### 5", GIVEN_UP, problem=problem_of("4")) == (1.0, 0.0, 0.0)
    other = Problem("sums/1", ask("2 + 2?"), "4", "sums")
    found = score(function, "#### 4", problem=other)
    assert found[0].message.startswith("NotImplementedError: Reward function is not implemented for data_source='sums'")


# OpenRLHF, as its documentation describes a reinforced fine-tuning function


def reward_func(queries, prompts, labels, **kwargs):
    import torch

    answers = [query[len(prompt) :].strip() for query, prompt in zip(queries, prompts, strict=True)]
    rewards = torch.tensor([float(answer == label) for answer, label in zip(answers, labels, strict=True)])
    return {"rewards": rewards, "scores": rewards, "extra_logs": {"share": rewards.mean()}}


def reward_func_of_tensor(queries, prompts, labels):
    return reward_func(queries, prompts, labels)["rewards"]


@pytest.mark.parametrize("function", [reward_func, reward_func_of_tensor])
def test_functions_of_openrlhf(function, score):
    assert score(function, "4", "5", " 4 ", problem=problem_of("4")) == (1.0, 0.0, 1.0)


# verifiers


XML = verifiers.XMLParser(["think", "answer"], answer_field="answer")
THINK = verifiers.ThinkParser()


def correct(parser, completion, answer):
    return 1.0 if parser.parse_answer(completion) == answer else 0.0


async def length(completion, **kwargs) -> float:
    await asyncio.sleep(0)
    return len(completion[-1]["content"]) / 100


def shortest(completions, states, parser) -> list[float]:
    assert parser.parse_answer(completions[0]) == completions[0][0]["content"]
    lengths = [len(completion[-1]["content"]) for completion in completions]
    for state in states:
        state["shortest"] = min(lengths)
    return [float(length == min(lengths)) for length in lengths]


def reads_what_was_left(state):
    return state["shortest"] / 1000


def bonus(completion, extra):
    return extra


def easy(level, completion):
    return level / 10


def raises(completion):
    raise ValueError("no idea")


XML_TEXTS = ("<think>a</think>\n<answer>4</answer>", "<think>a</think>\n<answer>5</answer>", GIVEN_UP)
FOUR = {"problem": problem_of("4", level=3), "conversational": True}


@pytest.mark.parametrize(
    ("function", "texts", "expected"),
    [
        (THINK.get_format_reward_func(), ("<think>a</think>b", "a", "<think>a"), (1.0, 0.0, 0.0)),
        (XML.get_format_reward_func(), ("<think>a</think>\n<answer>4</answer>", GIVEN_UP, ""), None),
        (correct, ("4", "5", "<answer>4</answer>"), (1.0, 0.0, 0.0)),  # with the parser a Rubric has by itself
        (length, ("a", "ab", ""), (0.01, 0.02, 0.0)),
    ],
)
def test_functions_of_verifiers_by_themselves(function, texts, expected, score, make_prompt, make_completion):
    assert bind(function, {}).form == "verifiers"
    found = score(function, *texts, **FOUR)
    if expected is not None:
        assert found == pytest.approx(expected)
    own = own_rewards(verifiers.Rubric([function]), make_prompt(**FOUR), [make_completion(text) for text in texts])
    assert found == pytest.approx(own)


def own_rewards(rubric, prompt, completions):
    """What verifiers itself makes of a rubric: its score_group on finished rollouts."""
    states = [verifiers_state(prompt, completion) for completion in completions]
    asyncio.run(rubric.score_group(states))
    return tuple(state["reward"] for state in states)


def rubrics():
    yield "weights", verifiers.Rubric([correct, length], weights=[2.0, -1.0], parser=XML), (2 - 0.35, -0.35, -0.13)
    yield "a group", verifiers.Rubric([shortest, reads_what_was_left, length], weights=[1, 1, 0]), (0.013, 0.013, 1.013)
    metric = verifiers.Rubric([correct], parser=XML)
    metric.add_metric(raises)
    yield "a metric that fails", metric, (1, 0, 0)
    group = verifiers.RubricGroup([verifiers.Rubric([correct], parser=XML), verifiers.Rubric([length])])
    yield "a group of rubrics", group, (1.35, 0.35, 0.13)
    provider = verifiers.Rubric([bonus])
    provider.add_score_object_provider(lambda state: {"extra": len(state["completion"]) / 4})
    yield "objects of its own", provider, (0.25, 0.25, 0.25)
    yield "its own columns", verifiers.Rubric([easy]), (0.3, 0.3, 0.3)


@pytest.mark.parametrize(("name", "rubric", "expected"), list(rubrics()), ids=[name for name, *_ in rubrics()])
def test_rubrics_score_as_verifiers_scores_them(name, rubric, expected, score, make_prompt, make_completion):
    bound = bind(rubric, {})
    assert (bound.form, bound.is_async, bound.whole_group) == ("verifiers", True, name == "a group")
    found = score(rubric, *XML_TEXTS, **FOUR)
    assert found == pytest.approx(expected)
    completions = [make_completion(text) for text in XML_TEXTS]
    assert found == pytest.approx(own_rewards(rubric, make_prompt(**FOUR), completions))


def test_the_math_rubric_of_verifiers(score, make_prompt, make_completion):
    texts = (r"so</think>\boxed{4}", r"so</think>\boxed{5}", r"\boxed{4} so</think>none", r"so</think>\boxed{8/2}")
    rubric = verifiers.MathRubric()
    found = score(rubric, *texts, **{**FOUR, "prefix": "<think>"})
    assert found == (1.0, 0.0, 0.0, 1.0)
    asyncio.run(rubric.teardown())


async def approved(judge, prompt, completion, answer, state):
    return float((await judge(prompt, completion, answer, state)).startswith("yes"))


def test_the_judge_rubric_of_verifiers(score):
    server = Server()
    server.act = lambda body: (
        200,
        {},
        server.judgement("yes" if "It is 4." in body["messages"][0]["content"] else "no"),
    )
    client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none")
    rubric = verifiers.JudgeRubric(judge_client=client)
    rubric.add_reward_func(approved)
    assert score(rubric, "It is 4.", "It is 5.", **FOUR) == (1.0, 0.0)
    assert all("What is 1/6 + 1/6?" in body["messages"][0]["content"] for body in server.bodies)
    server.stop()


RECIPE_FILE = """
import verifiers
from trl.rewards import get_soft_overlong_punishment

soft_overlong = get_soft_overlong_punishment(max_completion_len=10, soft_punish_cache=4)

def correct(parser, completion, answer):
    return float(parser.parse_answer(completion) == answer)

rubric = verifiers.Rubric([correct], weights=[0.5], parser=verifiers.XMLParser(["answer"]))
"""


def test_a_recipe_names_objects_of_a_file_and_functions_of_a_package(tmp_path, make_prompt, make_completion):
    path = tmp_path / "my_rewards.py"
    path.write_text(RECIPE_FILE)
    terms = {name: {"fn": f"{path}:{name}"} for name in ("soft_overlong", "rubric")}
    terms |= {"accuracy": {"_target_": "trl.rewards.accuracy_reward"}}
    texts = ("<answer>4</answer>", r"\boxed{4}", "a" * 8)
    group = Group(make_prompt(**FOUR), tuple(make_completion(text) for text in texts))
    with Scorer(reward_terms(terms), deadline_s=60) as scorer:
        (scored,) = scorer.score([group])
    assert scored.failures == ()
    assert scored.terms == {"soft_overlong": (-1, -0.75, -0.5), "rubric": (0.5, 0, 0), "accuracy": (0, 1, 0)}


def test_where_a_rubric_would_score_0_for_a_function_that_raised_there_is_no_value(score, make_prompt, make_completion):
    rubric = verifiers.Rubric([correct, raises], parser=XML)
    assert own_rewards(rubric, make_prompt(**FOUR), [make_completion(XML_TEXTS[0])]) == (1.0,)
    (found,) = score(rubric, XML_TEXTS[0], **FOUR)
    assert isinstance(found, Failed)
    assert re.match(r"ValueError: no idea \(.*test_reward_packages\.py:\d+\)", found.message)


def test_a_rubrics_function_may_return_a_verdict(score):
    rubric = verifiers.Rubric([lambda completion: Verdict(state="undecided", reason="hm")])
    (found,) = score(rubric, "a", **FOUR)
    assert (found.state, found.reason) == ("undecided", "hm")


@pytest.mark.parametrize(
    ("rubric", "options", "said"),
    [
        (verifiers.Rubric(), {}, "the verifiers Rubric has no reward functions"),
        (verifiers.Rubric([correct]), {"parser": 1}, r"^\.parser is no option: a verifiers Rubric takes none"),
        (verifiers.Rubric, {}, "Rubric is a class"),
    ],
)
def test_a_rubric_that_cannot_be_a_reward_is_refused(rubric, options, said):
    with pytest.raises(ValueError, match=said):
        bind(rubric, options)
