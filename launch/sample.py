"""Sample completions of a recipe's problems without training, and measure how often each problem is solved.

    python launch/sample.py recipe=grpo_math model.path=DIR sample.completions=16
    torchrun --standalone --nproc_per_node=8 launch/sample.py recipe=grpo_math sample.limit=1000 sample.dir=outputs/easy

Takes what launch/train.py takes: the same recipe and overrides give the same prompts, policy, sampler and rewards.
Options of its own:

    sample.dir=DIR          where it goes; default outputs/<recipe>-samples
    sample.problems=eval    those of eval.data, under eval.sampling, instead of those of data.train
    sample.limit=N          the first N problems, in the order in which a run of this seed comes to them
    sample.completions=N    of each problem; default sampling.completions
    sample.seed=N           other draws; by default those that a run with this recipe begins with
    sample.prompts=N        problems between two writes to disk, all ranks together; default batch.prompts. More of
                            them keep a large sampler busier, and a kill costs more

Writes DIR/rollouts/*.jsonl, which launch/rescore.py and rollout=replay read, and DIR/pass_rates.jsonl, for

    launch/train.py ... collect.pass_rates=DIR/pass_rates.jsonl collect.pass_rate=[0.1,0.9] collect.revisit=0

After Ctrl-C, an error or a kill the same command goes on where it stopped, on any number of ranks.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from omegaconf import OmegaConf  # noqa: E402

from launch.speak import explaining_errors  # noqa: E402
from rl.config import compose_recipe, summaries, typed  # noqa: E402


def main(arguments: Sequence[str]) -> None:
    flags = [argument for argument in arguments if argument.startswith("-")]
    if flags:
        raise ValueError(f"{flags[0]} is not an option of launch/sample.py; --help shows what it takes")
    composed = compose_recipe(arguments, "sample")
    typed(composed)
    from launch.sample_run import run_samples  # torch and the rest: after the recipe has been checked

    recipe = next(argument.partition("=")[2] for argument in arguments if argument.startswith("recipe="))
    run_samples(composed, default=Path(f"outputs/{recipe}-samples"))


def help_text(overrides: list[str]) -> str:
    """What this program takes; with a recipe, all its keys."""
    lines = [(__doc__ or "").strip(), "", "Recipes:"]
    lines += [f"    {name:<18}{summary}" for name, summary in summaries().items()]
    if overrides:
        lines += ["", OmegaConf.to_yaml(compose_recipe(overrides, "sample"))]
    return "\n".join(lines)


if __name__ == "__main__":
    with explaining_errors():
        if {"-h", "--help"} & set(sys.argv[1:]):
            print(help_text([argument for argument in sys.argv[1:] if not argument.startswith("-")]))
            sys.exit()
        try:
            main(sys.argv[1:])
        except KeyboardInterrupt:
            print("\nstopped at once; the same command goes on", file=sys.stderr, flush=True)
            sys.exit(130)
