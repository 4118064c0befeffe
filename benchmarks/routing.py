"""What routing replay takes from the mismatch between sampler and trainer, on tiny random mixtures of experts.

    python benchmarks/routing.py            # docs/moe.md's table, half a minute

The trainer is in float32. A sampler in bfloat16 sends some tokens to other experts by rounding; one whose routers were
moved a little does so too. The same completions are scored by the trainer with its own choice of experts and with the
sampler's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmarks import machine  # noqa: E402
from data.problem import Problem, ask  # noqa: E402
from rl.batch import micro_batch, trajectory  # noqa: E402
from rl.experience import Group, Prompt, SamplingParams  # noqa: E402
from rl.kl import k3  # noqa: E402
from rl.moe import disagreement  # noqa: E402
from rl.policy import Policy, load_model, load_tokenizer  # noqa: E402
from rl.rollout.hf import HFRollout  # noqa: E402
from rl.routers import FAMILIES, Routers, of_trajectory  # noqa: E402
from rl.tiny import build_tiny_moe  # noqa: E402

SHAPE = {"hidden": 64, "layers": 3, "heads": 2, "kv_heads": 1, "intermediate": 32, "seed": 1}
QUESTIONS = ("What is 1+2?", "Why?", "What is 9+8-7+6-5+4, and what is it twice?")
OFF = 0.02  # what is added to a router's weights, times a standard normal
SAMPLERS = ("bfloat16", f"float32, its routers off by {OFF}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--completions", type=int, default=16, help=f"of each of {len(QUESTIONS)} prompts")
    parser.add_argument("--seed", type=int, default=3, help="of the draws")
    options = parser.parse_args()
    rows, ratios = [], {}
    for sampler in SAMPLERS:
        for family in FAMILIES:
            with tempfile.TemporaryDirectory() as directory:
                path = str(build_tiny_moe(directory, family=family, **SHAPE))
                row, ratios[f"{family}, {sampler}"] = measured(path, sampler, options)
                rows.append({"sampler": sampler, "family": family, **row})
    print(f"{machine.describe()}\n")
    machine.print_table(rows)
    machine.print_json(ratios)


def measured(path: str, sampler: str, options: argparse.Namespace) -> tuple[dict[str, str], float]:
    """One line of the table, and the ratio of the KL; -> stands between the trainer's own experts and the sampler's."""
    groups = sampled(path, sampler, options)
    policy = Policy(load_model(path, "float32"), temperature=1.0).eval()
    items = [
        replace(
            trajectory(group.prompt.token_ids, done.token_ids, done.logprobs, 0.0), experts=of_trajectory(group, done)
        )
        for group in groups
        for done in group.completions
    ]
    batch = micro_batch(items, [1.0] * len(items))
    trained = batch.loss_mask
    found = []
    for experts in (None, batch.experts):
        with torch.no_grad():
            logprobs = policy(replace(batch, experts=experts))[0][trained]
        routes = policy.routers.routes()
        off = logprobs - batch.rollout_logprobs[trained]
        found.append((float(k3(batch.rollout_logprobs[trained], logprobs).mean()), off.abs(), routes))
    (kl, differences, _), (kl_replayed, differences_replayed, routes) = found
    row = {
        "KL, nats": f"{kl:.1e} -> {kl_replayed:.1e}",
        "mean and largest difference of a log-probability": f"{both(differences)} -> {both(differences_replayed)}",
        "routing disagreement": f"{float(disagreement(routes.own, routes.experts)[trained].mean()):.1%}",
    }
    return row, kl_replayed / kl


def both(differences: Tensor) -> str:
    return f"{float(differences.mean()):.2g}, {float(differences.max()):.2g}"


def sampled(path: str, sampler: str, options: argparse.Namespace) -> list[Group]:
    dtype = "bfloat16" if sampler == "bfloat16" else "float32"
    tokenizer = load_tokenizer(path)
    engine = HFRollout(path, tokenizer, dtype, torch.device("cpu"), record_routing=True)
    if dtype == "float32":
        shake(engine.model)
    prompts = [
        Prompt(Problem(text, ask(text), "", "x"), i, text, tuple(tokenizer(text)["input_ids"]))
        for i, text in enumerate(QUESTIONS)
    ]
    return engine.generate(prompts, SamplingParams(completions=options.completions, max_tokens=24), options.seed)


@torch.no_grad()
def shake(model: torch.nn.Module) -> None:
    draws = torch.Generator().manual_seed(5)
    for router in Routers(model).modules:
        router.weight.add_(OFF * torch.randn(router.weight.shape, generator=draws))


if __name__ == "__main__":
    main()
