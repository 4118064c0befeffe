"""Train a policy by reinforcement learning, from a recipe.

    torchrun --standalone --nproc_per_node=1 launch/train.py recipe=grpo_tiny
    torchrun --standalone --nproc_per_node=8 launch/train.py recipe=grpo_math model.path=DIR optimizer.lr=2e-6

    recipe=NAME         which recipe; --help recipe=NAME shows every key of it
    key=value           changes a key of the recipe;  +key=value adds one;  ~key leaves one out
    group=NAME          takes another part, engine=zero3 for example
    --multirun          one run for each of key=a,b,c

What is wrong with a recipe is said before a model loads.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

import hydra  # noqa: E402
from omegaconf import DictConfig, OmegaConf  # noqa: E402

from launch.speak import explaining_errors  # noqa: E402
from rl.config import compose_recipe, register, summaries, typed  # noqa: E402


@hydra.main(version_base="1.3", config_path="../recipes", config_name="train")
def main(config: DictConfig) -> None:
    from launch.run import run_recipe  # torch and the rest: after the recipe has been checked

    with explaining_errors():
        run_recipe(config)


def help_text(overrides: list[str]) -> str:
    """What this program takes; with a recipe, all its keys."""
    lines = [(__doc__ or "").strip(), "", "Recipes:"]
    width = 2 + max(map(len, summaries()))
    lines += [f"    {name:<{width}}{summary}" for name, summary in summaries().items()]
    if overrides:
        lines += ["", OmegaConf.to_yaml(compose_recipe(overrides))]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.argv[1:] = arguments = sorted(sys.argv[1:], key=lambda argument: not argument.startswith("-"))  # flags anywhere
    register()
    with explaining_errors():
        if {"-h", "--help"} & set(arguments):
            print(help_text([argument for argument in arguments if not argument.startswith("-")]))
            sys.exit()
        if not any(argument.startswith("-") for argument in arguments):  # --multirun, --cfg and such are Hydra's
            typed(compose_recipe(arguments))
        main()
