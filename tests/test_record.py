"""Claims about rl/record.py and rl/rollout/replay.py."""

from __future__ import annotations

import json
import math
import random
import re
import struct

import pytest

from data.problem import Problem, ask
from rl.experience import Completion, Failure, Group, Prompt, SamplingParams, ScoredGroup
from rl.record import read_rollouts, write_rollouts
from rl.rollout.replay import ReplayRollout

TEXTS = [
    "plain",
    'quote " and \\ and\nnew line\r\n',
    "\u2028 \u00e9 \u4e2d \U0001f600",
    "\x00\x1b[31m",
    "\ud800 half",
    "",
]


def make_group(index: int, rng: random.Random, texts: list[str] = TEXTS) -> ScoredGroup:
    problem = Problem(f"sums/{index}", ask("What is 2 + 2?"), "4", "sums", {"level": 3, "tests": [["1", "2"], None]})
    prompt = Prompt(problem, index, "<|user|>What is 2 + 2?<think>", (5, 6, 7 + index), "<think>", True)
    completions = []
    for text in texts:
        logprobs = [-rng.expovariate(1.0) for _ in range(4)]
        completions.append(Completion(text, [rng.randrange(10**5) for _ in range(4)], logprobs, "length", index))
    rewards = (math.nan, *(rng.random() for _ in texts[1:]))
    terms = {"math": rewards, "zero": (0.0,) * len(texts)}
    return ScoredGroup(Group(prompt, tuple(completions)), rewards, terms, (Failure("math", 0, "error", "no [x]\n"),))


@pytest.fixture
def groups() -> list[ScoredGroup]:
    rng = random.Random(0)
    return [make_group(index, rng) for index in range(5)]


def test_what_was_written_is_read_back_equal(tmp_path, groups):
    path = tmp_path / "rollouts" / "000003.jsonl"
    write_rollouts(path, groups)
    assert read_rollouts(path) == groups


def test_floats_come_back_to_the_last_bit(tmp_path, groups):
    completion = groups[0].group.completions[0]
    values = [-5e-324, -0.1, -1 / 3, -math.inf, -1e300]
    odd = Completion(completion.text, [1] * len(values), values, "stop", 0)
    write_rollouts(tmp_path / "a.jsonl", [ScoredGroup(Group(groups[0].group.prompt, (odd,)), (0.1 + 0.2,), {})])
    (back,) = read_rollouts(tmp_path / "a.jsonl")
    read = [*back.group.completions[0].logprobs, back.rewards[0]]
    assert [struct.pack("d", x) for x in read] == [struct.pack("d", x) for x in [*values, 0.1 + 0.2]]


def test_every_line_is_strict_json_with_what_a_person_reads_first(tmp_path, groups):
    write_rollouts(tmp_path / "a.jsonl", groups)
    lines = (tmp_path / "a.jsonl").read_bytes().decode("ascii").splitlines()
    assert len(lines) == len(groups)
    for line in lines:
        row = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        assert list(row)[:5] == ["id", "index", "source", "question", "answer"]
        assert row["completions"][0]["reward"] is None


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda line: line[: len(line) // 2], "not a recorded group"),
        (lambda line: "[]", "not a recorded group"),
        (lambda line: line.replace('"completions"', '"samples"'), "needs the key 'completions'"),
        (lambda line: line.replace('"length"', '"eos"', 1), "finish_reason must be 'stop' or 'length', got 'eos'"),
        (lambda line: line.replace('"logprobs": [', '"logprobs": [-1.0, ', 1), "one logprob per token"),
    ],
)
def test_a_malformed_line_is_named_by_file_and_line(tmp_path, groups, spoil, reason):
    path = tmp_path / "a.jsonl"
    write_rollouts(path, groups)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], spoil(lines[1]), *lines[2:]]))
    with pytest.raises(ValueError, match=re.escape(f"{path}:2: ") + ".*" + re.escape(reason)):
        read_rollouts(path)


def test_a_write_that_fails_leaves_the_earlier_file_whole(tmp_path, groups):
    path = tmp_path / "a.jsonl"
    write_rollouts(path, groups)
    with pytest.raises(AttributeError):
        write_rollouts(path, [*groups, None])
    assert read_rollouts(path) == groups
    assert list(tmp_path.iterdir()) == [path]


def test_who_reads_a_file_while_it_is_written_anew_reads_the_earlier_one_whole(tmp_path, groups):
    write_rollouts(tmp_path / "a.jsonl", groups[:1])
    with (tmp_path / "a.jsonl").open() as reader:
        write_rollouts(tmp_path / "a.jsonl", groups[1:])
        assert [json.loads(line)["id"] for line in reader] == ["sums/0"]
    assert read_rollouts(tmp_path / "a.jsonl") == groups[1:]


def params(**fields) -> SamplingParams:
    return SamplingParams(completions=len(TEXTS), **fields)


def test_replay_gives_what_was_recorded_in_the_order_asked(tmp_path, groups):
    write_rollouts(tmp_path / "000000.jsonl", groups[:2])
    write_rollouts(tmp_path / "000010.jsonl", groups[2:])
    (tmp_path / "notes.jsonl").write_text("not rollouts")
    rollout = ReplayRollout(tmp_path)
    wanted = [groups[4], groups[0], groups[2]]
    with rollout.awake():
        played = rollout.generate([scored.group.prompt for scored in wanted], params(), seed=7)
    assert played == [scored.group for scored in wanted]


def test_replay_also_gives_what_dynamic_sampling_threw_away(tmp_path, groups):
    write_rollouts(tmp_path / "000000.jsonl", groups[:2])
    write_rollouts(tmp_path / "000000.dropped.jsonl", groups[2:])
    wanted = [groups[3], groups[0]]
    played = ReplayRollout(tmp_path).generate([scored.group.prompt for scored in wanted], params(), seed=7)
    assert played == [scored.group for scored in wanted]


def test_replay_names_what_was_not_recorded(tmp_path, groups):
    write_rollouts(tmp_path / "a.jsonl", groups[:2])
    with pytest.raises(ValueError, match=r"problem sums/4, prompt 4 is not among the 2 groups recorded in .*a\.jsonl"):
        ReplayRollout(tmp_path / "a.jsonl").generate([groups[4].group.prompt], params(), seed=0)


def test_replay_refuses_a_prompt_of_other_tokens(tmp_path, groups):
    write_rollouts(tmp_path / "a.jsonl", groups)
    prompt = groups[0].group.prompt
    other = Prompt(prompt.problem, prompt.index, prompt.text, (5, 6, 8), prompt.prefix, True)
    with pytest.raises(ValueError, match=r"its 3 tokens are not the 3 recorded .* data\.template"):
        ReplayRollout(tmp_path / "a.jsonl").generate([other], params(), seed=0)


def test_replay_refuses_another_group_size(tmp_path, groups):
    write_rollouts(tmp_path / "a.jsonl", groups)
    with pytest.raises(ValueError, match=r"6 completions are recorded .* sampling\.completions=8"):
        ReplayRollout(tmp_path / "a.jsonl").generate([groups[0].group.prompt], SamplingParams(), seed=0)


def test_replay_refuses_two_recordings_of_one_prompt(tmp_path, groups):
    write_rollouts(tmp_path / "1.jsonl", groups)
    write_rollouts(tmp_path / "2.jsonl", groups[3:])
    with pytest.raises(ValueError, match=r"2\.jsonl: problem sums/3, prompt 3 is recorded twice"):
        ReplayRollout(tmp_path)


def test_replay_of_nothing_says_what_was_needed(tmp_path):
    with pytest.raises(ValueError, match=r"must be a recorded file or a directory of <step>\.jsonl"):
        ReplayRollout(tmp_path / "nowhere")


def test_replay_takes_all_weights_because_the_sender_may_be_collective(tmp_path, groups):
    write_rollouts(tmp_path / "a.jsonl", groups)
    sent = iter([("a", None), ("b", None)])
    ReplayRollout(tmp_path / "a.jsonl").load_weights(sent, policy_step=1)
    assert next(sent, "all taken") == "all taken"
