"""Our advantages and mismatch weights beside TRL's: the statements of its trainers themselves, run on our tensors.

TRL computes both in the middle of long methods that generate as well. What is compared here is cut out of them by the
names that it assigns, so a TRL that computes otherwise is noticed.
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from trl import GRPOTrainer, RLOOTrainer

from rl.advantages import batch_normalized, group_centred, group_normalized, leave_one_out
from rl.algorithms import TokenPass
from rl.algorithms.gdpo import GDPO
from rl.algorithms.grpo import GRPO
from rl.algorithms.rloo import RLOO
from rl.combine import combined
from rl.credit import token_advantages
from rl.losses import mismatch_weight
from rl.reward_terms import RewardTerm

# TRL adds 1e-4 to a standard deviation; rewards of this size make that nothing, and advantages do not depend on it.
LARGE = 1e5
GROUP = 4
METHOD = "_generate_and_score_completions"
REWARDS = LARGE * torch.tensor([1.0, 0, 0.25, 0, 0.5, 0.1, 0.5, 1.0, 0, 1.0, 0, 0], dtype=torch.float64)


def statements(trainer: type, method: str, wanted: Callable[[ast.stmt], bool]) -> list[ast.stmt]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(getattr(trainer, method))))
    return [node for node in ast.walk(tree) if isinstance(node, ast.stmt) and wanted(node)]


def run(trainer: type, nodes: list[ast.stmt], **names: Any) -> dict[str, Any]:
    """Executes these statements of the trainer's module with the given names; -> all names afterwards."""
    space = {**vars(inspect.getmodule(trainer)), **names}  # type: ignore[arg-type]
    exec(compile(ast.Module(body=nodes, type_ignores=[]), f"<{trainer.__name__}>", "exec"), space)
    return space


def trl_advantages(trainer: type, rewards_per_func: Tensor, setting: dict[str, Any], **names: Any) -> Tensor:
    """From `unscorable_mask = ...` to `advantages = torch.nan_to_num(...)` in _generate_and_score_completions."""
    (method,) = statements(trainer, METHOD, lambda node: isinstance(node, ast.FunctionDef) and not node.col_offset)
    assert isinstance(method, ast.FunctionDef)
    texts = [ast.unparse(node) for node in method.body]
    first = next(i for i, text in enumerate(texts) if text.startswith("unscorable_mask ="))
    last = next(i for i, text in enumerate(texts) if text.startswith("advantages = torch.nan_to_num("))
    trainer_self = SimpleNamespace(
        reward_weights=torch.ones(rewards_per_func.shape[1], dtype=torch.float64), beta=0.0, reward_clip_range=None,
        normalize_advantages=False, scale_rewards="group", multi_objective_aggregation="sum_then_normalize",
        reward_funcs=[None] * rewards_per_func.shape[1],
    )  # fmt: skip
    vars(trainer_self).update(setting)
    space = run(
        trainer, method.body[first : last + 1], self=trainer_self, rewards_per_func=rewards_per_func,
        num_generations=GROUP, device="cpu", gather=lambda value: value, **names,
    )  # fmt: skip
    return space["advantages"]


def groups() -> list[Tensor]:
    return list(REWARDS.view(-1, GROUP))


def test_group_normalised_advantages_are_trls_up_to_its_sample_standard_deviation():
    theirs = trl_advantages(GRPOTrainer, REWARDS.unsqueeze(1), {"scale_rewards": "group"})
    ours = torch.cat([group_normalized(rewards) for rewards in groups()]) * math.sqrt((GROUP - 1) / GROUP)
    assert_close(ours, theirs, rtol=1e-5, atol=1e-8)


def test_centred_advantages_are_trls_without_scaling():
    theirs = trl_advantages(GRPOTrainer, REWARDS.unsqueeze(1), {"scale_rewards": "none"})
    assert_close(torch.cat([group_centred(rewards) for rewards in groups()]), theirs, rtol=1e-12, atol=1e-9)


def test_batch_normalised_advantages_are_trls_up_to_its_sample_standard_deviation():
    # TRL's scale_rewards="batch" divides by the deviation of the rewards, ours by that of the advantages.
    theirs = trl_advantages(GRPOTrainer, REWARDS.unsqueeze(1), {"scale_rewards": "batch"})
    centred = [group_centred(rewards) for rewards in groups()]
    assert_close(torch.cat(centred) / (REWARDS.std() + 1e-4), theirs, rtol=1e-6, atol=1e-9)
    ours = torch.cat(batch_normalized(centred, lambda value: [value], "token"))
    ratio = ours / theirs
    assert_close(ratio, ratio[0].expand_as(ratio), rtol=1e-6, atol=0)  # one factor for the whole batch


def test_gdpo_is_trls_normalise_then_sum():
    other = REWARDS.flip(0) / 7 + LARGE * torch.arange(12, dtype=torch.float64).cos()
    both = torch.stack([REWARDS, other], dim=1)
    setting = {"multi_objective_aggregation": "normalize_then_sum", "reward_weights": torch.tensor([1.0, 0.3]).double()}
    theirs = trl_advantages(GRPOTrainer, both, setting)
    rewards = []
    for start in range(0, 12, GROUP):
        rows = both[start : start + GROUP]
        terms = [RewardTerm(name=n, target=n, weight=w) for n, w in (("a", 1.0), ("b", 0.3))]
        values = {"a": rows[:, 0].tolist(), "b": rows[:, 1].tolist()}
        rewards.append(torch.tensor(combined(terms, values, normalize_terms=True), dtype=torch.float64))
    lengths = [[3, 1, 4, 1], [5, 9, 2, 6], [5, 3, 5, 8]]
    result = token_advantages(GDPO(), rewards, lengths, None, lambda value: [value])
    ours = torch.stack([row[0] for group in result for row in group])
    # One factor for the whole batch: TRL's last deviation is the sample's, and has its 1e-4 added.
    assert_close(ours / theirs, (ours / theirs)[0].expand(12), rtol=1e-5, atol=0)
    assert_close(float(ours[0] / theirs[0]), math.sqrt(12 / 11), rtol=3e-4, atol=0)


@pytest.mark.parametrize("beta", [0.0, 0.05])
def test_leave_one_out_advantages_and_their_kl_are_trls(beta):
    draw = torch.Generator().manual_seed(0)
    old, ref = (-3 * torch.rand(12, 6, generator=draw, dtype=torch.float64) for _ in range(2))
    mask = (torch.arange(6) < torch.tensor([6, 1, 3, 2, 5, 4, 6, 1, 2, 3, 6, 4]).unsqueeze(1)).double()
    rewards = REWARDS / LARGE
    theirs = trl_advantages(
        RLOOTrainer, rewards.unsqueeze(1), {"beta": beta},
        old_per_token_logps=old, ref_per_token_logps=ref, completion_mask=mask,
    )  # fmt: skip
    lengths = mask.sum(1).long().view(-1, GROUP).tolist()
    flat = [
        TokenPass(o[:n], o[:n], o[:n], r[:n]) for o, r, n in zip(old, ref, mask.sum(1).long().tolist(), strict=True)
    ]
    passes = [flat[i : i + GROUP] for i in range(0, 12, GROUP)]
    result = token_advantages(RLOO(beta=beta), list(rewards.view(-1, GROUP)), lengths, passes, lambda value: [value])
    assert_close(torch.stack([row[0] for group in result for row in group]), theirs, rtol=1e-9, atol=1e-12)
    if beta == 0:
        assert_close(torch.cat([leave_one_out(r) for r in rewards.view(-1, GROUP)]), theirs, rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------------- a sampler that differs

MODES = ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.2), (0.8, 1.1)])
def test_mismatch_weights_are_trls(mode, low, high):
    (block,) = statements(
        GRPOTrainer, METHOD,
        lambda node: isinstance(node, ast.If) and ast.unparse(node.body[-1]).startswith("if self.vllm_importance"),
    )  # fmt: skip
    draw = torch.Generator().manual_seed(1)
    old = -3 * torch.rand(5, 6, generator=draw, dtype=torch.float64)
    rollout = old + 0.2 * torch.randn(5, 6, generator=draw, dtype=torch.float64)
    mask = (torch.arange(6) < torch.tensor([6, 1, 3, 2, 5]).unsqueeze(1)).double()
    trainer_self = SimpleNamespace(
        use_vllm=True, vllm_importance_sampling_correction=True, vllm_importance_sampling_mode=mode,
        vllm_importance_sampling_clip_min=low, vllm_importance_sampling_clip_max=high,
    )  # fmt: skip
    space = run(
        GRPOTrainer, [block], self=trainer_self, old_per_token_logps=old, sampling_per_token_logps=rollout,
        completion_mask=mask, tool_mask=None,
    )  # fmt: skip
    theirs = space["vllm_importance_sampling_ratio"].expand(5, 6)[mask.bool()]

    ids = torch.arange(5).unsqueeze(1).expand(5, 6)[mask.bool()]
    ones = torch.ones(len(ids), dtype=torch.bool)
    ours = mismatch_weight(mode, old[mask.bool()], rollout[mask.bool()], ids, ones, low, high)
    assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    assert len(set(ours.tolist())) > 1


def test_grpo_of_a_group_of_equal_rewards_is_zero_where_trls_is_rounding():
    equal = torch.full((GROUP,), 0.1, dtype=torch.float32).unsqueeze(1)
    assert GRPO().advantages(equal[:, 0].double()).tolist() == [0.0] * GROUP
    assert trl_advantages(GRPOTrainer, equal, {"reward_weights": torch.ones(1)}).abs().max() < 1e-3
