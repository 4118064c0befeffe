"""Train a policy by reinforcement learning, from a recipe.

    torchrun --standalone --nproc_per_node=1 launch/train.py recipe=grpo_tiny
    torchrun --nproc_per_node=8 launch/train.py recipe=grpo_math model.path=DIR optimizer.lr=2e-6

What is wrong with a recipe is said before a model loads.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

import hydra  # noqa: E402
from omegaconf import DictConfig  # noqa: E402

from launch.speak import explaining_errors  # noqa: E402
from rl.config import compose_recipe, register, typed  # noqa: E402


@hydra.main(version_base="1.3", config_path="../recipes", config_name="train")
def main(config: DictConfig) -> None:
    from launch.run import run_recipe  # torch and the rest: after the recipe has been checked

    with explaining_errors():
        run_recipe(config)


if __name__ == "__main__":
    register()
    with explaining_errors():
        if not any(argument.startswith("-") for argument in sys.argv[1:]):  # --help, --multirun and such are Hydra's
            typed(compose_recipe(sys.argv[1:]))
        main()
