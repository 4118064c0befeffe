"""The rewards that a tool is told of on its command line, without a model: for check_reward.py and rescore.py.

    recipe=grpo_math                     those of a recipe, and its data
    rewards=math                         a group of recipes/rewards/
    rewards=mine.yaml                    a file, {name: {fn: ..., weight: ...}}, or a run's config.yaml
    fn=my_rewards.py:f                   one function
    rewards.<name>.<key>=VALUE           changes or adds a key of them; ~rewards.<name> leaves one out
    data.train.<name>.path=FILE          a JSON Lines file, as data.jsonl.jsonl reads it unless _target_ says otherwise

With `recipe=` the others replace the recipe's rewards and leave the rest. Composed by Hydra, as in launch/train.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data.prompts import TEMPLATES
from rl.binding import check_choice, describe, fits, nearest, type_hints
from rl.config import RECIPES, TrainConfig, compose_recipe, register

SOURCES = ("recipe", "rewards", "fn")
GIVEN = "given_on_the_command_line"  # the recipe that is made of what was given
USUAL_WORKERS = 4  # unless told otherwise
MAX_WORKERS, MAX_WORKERS_A_CPU = 32, 4  # the larger of the two: a mistyped number should not fill the machine
MAX_DEADLINE_S = 86_400  # longer than anyone waits for one completion, and far from what overflows a clock
Options = TypeVar("Options")


@dataclass(frozen=True, kw_only=True)
class RewardRecipe:
    """Rewards, and what of a recipe bears on them."""

    words: str  # what was given, "recipe=grpo_math"
    config: TrainConfig
    has_recipe: bool

    @property
    def rewards(self) -> Mapping[str, Mapping[str, Any]]:
        return self.config.rewards

    @property
    def train_data(self) -> dict[str, Any]:
        """The section data.train, where a path alone means a JSON Lines file."""
        sections = self.config.data.train
        return {
            name: {"_target_": "data.jsonl.jsonl", **section} if isinstance(section, Mapping) else section
            for name, section in sections.items()
        }

    def outcome(self, chosen: str | None) -> str | None:
        """The term that says right or wrong: the one chosen, else eval.correct, else the first. "none": no term."""
        if chosen == "none":
            return None
        if chosen is not None and chosen not in self.rewards:
            known = ", ".join(self.rewards)
            raise ValueError(f"outcome={chosen} names no reward, there are {known}.{nearest(chosen, self.rewards)}")
        correct = self.config.eval.correct
        return chosen or (correct if correct in self.rewards else next(iter(self.rewards)))

    def scoring(self, workers: int | None, deadline_s: float | None) -> dict[str, Any]:
        """The recipe's `scoring` section as Scorer's options; a few workers unless told otherwise."""
        settings, cpus = vars(self.config.scoring), os.cpu_count() or 1
        if workers is None:
            workers = max(settings["workers"], min(USUAL_WORKERS, cpus))
        if deadline_s is None:
            deadline_s = float(settings["deadline_s"])
        most = max(MAX_WORKERS, MAX_WORKERS_A_CPU * cpus)
        if not 1 <= workers <= most:
            raise ValueError(f"workers must be 1 to {most} (each is a process; there are {cpus} CPUs), got {workers}")
        if not 0 < deadline_s <= MAX_DEADLINE_S:
            raise ValueError(f"deadline_s must be above 0 and at most {MAX_DEADLINE_S} (a day), got {deadline_s:g}")
        return {**settings, "workers": workers, "deadline_s": deadline_s}


@contextlib.contextmanager
def explaining_errors() -> Iterator[None]:
    """What a user can mend ends in one message and exit code 2; Ctrl-C in 130. TRACEBACK=1 shows where it was raised.

    As launch/speak.py, for tools of one process without torch.
    """
    try:
        yield
    except BrokenPipeError:  # the output went to head or less, which has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("TRACEBACK"):
            raise
        print(f"\nerror: {error}\n(TRACEBACK=1 shows where it was raised)", file=sys.stderr, flush=True)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr, flush=True)
        sys.exit(130)


def read_options(kind: type[Options], arguments: Sequence[str]) -> tuple[Options, list[str]]:
    """The tool's own options, key=value, by the fields of the dataclass `kind`; and what is left for Hydra.

    ValueError for an option that does not exist, is given twice or has a value of another type.
    """
    hints, given, rest = type_hints(kind), {}, []
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if key not in hints:
            rest.append(argument)
            continue
        if not equals or key in given:
            raise ValueError(f"{key} is given twice" if equals else f"{key} needs a value: {key}=VALUE")
        value = text if hints[key] in (str, str | None) else _value(text)
        if not fits(value, hints[key]):
            raise ValueError(f"{key} must be {describe(hints[key])}, got {text!r}")
        given[key] = value
    _check_keys(rest, list(hints))
    return kind(**given), rest


def _value(text: str) -> Any:
    """As YAML has it, and 1e-3 is a number."""
    try:
        value = yaml.safe_load(text)
        return float(value) if isinstance(value, str) and value[:1] in "+-.0123456789" else value
    except (yaml.YAMLError, ValueError):
        return text


def _check_keys(overrides: Sequence[str], options: Sequence[str]) -> None:
    """ValueError for a word that is neither an option nor a key that a recipe can have."""
    known = [*options, *SOURCES, *(field.name for field in dataclasses.fields(TrainConfig))]
    for override in overrides:
        key, equals, _ = override.partition("=")
        bare = key.lstrip("+~")
        top = bare.partition(".")[0].partition("/")[0]
        if not equals and not key.startswith("~"):
            raise ValueError(f"{override!r} is not understood: options are key=value; see --help")
        if top not in known:
            words = ", ".join([*SOURCES, "data.train.<name>.path", "rewards.<name>.<key>", *options])
            raise ValueError(f"there is no option {top}.{nearest(top, known)} Options are {words}")
        if bare not in SOURCES and "/" not in bare:
            _check_path(bare)
        if equals:
            _check_syntax(override)


def _check_path(key: str) -> None:
    """ValueError for a dotted key that no recipe has. Below `rewards`, `data.train` and such the user gives names."""
    kind: Any = TrainConfig
    above = ""
    for name in key.split("."):
        if not dataclasses.is_dataclass(kind):
            if kind is dict or typing.get_origin(kind) is dict:
                return
            raise ValueError(f"there is no key {key}: {above.rstrip('.')} is a value, without keys of its own")
        hints = type_hints(kind)  # type: ignore[arg-type]
        if name not in hints:
            near = nearest(name, hints).replace("Did you mean ", f"Did you mean {above}")
            raise ValueError(f"there is no key {above}{name} (in {key}).{near}")
        kind, above = hints[name], f"{above}{name}."


def _check_syntax(override: str) -> None:
    """ValueError for a value that Hydra does not read as one value, with the way to write it."""
    key, _, value = override.partition("=")
    try:
        is_one = not OverridesParser.create().parse_override(override).is_sweep_override()
    except HydraException:
        is_one = False
    if not is_one:
        raise ValueError(
            f"the value in {override} is not understood: a text with ~ , ( [ {{ = or quotes in it needs quotes within "
            f"quotes, '{key}=\"{value}\"'"
        )


def reward_recipe(overrides: Sequence[str], default: Path | None = None) -> RewardRecipe:
    """The rewards that the words of a command line name; `default` is a file to take them from if they name none.

    ValueError for what does not exist or does not go together.
    """
    given: dict[str, str] = {}
    rest = []
    for word in overrides:
        key, _, value = word.partition("=")
        if key.lstrip("+") not in SOURCES:
            rest.append(word)
        elif given.setdefault(key.lstrip("+"), value) != value:
            raise ValueError(f"{key.lstrip('+')} is given twice: {given[key.lstrip('+')]} and {value}")
    if not given and default is not None:
        given = {"rewards": str(default)}
    if not given:
        raise ValueError("name the rewards: recipe=NAME, rewards=NAME, rewards=FILE.yaml or fn=FILE.py:FUNCTION")
    if {"rewards", "fn"} <= set(given):
        raise ValueError(f"rewards={given['rewards']} and fn={given['fn']} are two sets of rewards; give one")
    about_rewards = [word for word in rest if word.lstrip("+~").startswith("rewards.")]
    others = [_adding(word) for word in rest if word not in about_rewards]
    config = _composed([f"recipe={given['recipe']}", *others]) if "recipe" in given else _bare(others)
    if section := _section(given):
        config = _with_rewards(config, section)
    if about_rewards:
        config = _given(OmegaConf.to_container(config), [_adding(word) for word in about_rewards])
    words = " ".join(f"{key}={value}" for key, value in given.items())
    typed = _typed(config)
    check_choice("data.template", typed.data.template, TEMPLATES)
    return RewardRecipe(words=words, config=typed, has_recipe="recipe" in given)


def _section(given: Mapping[str, str]) -> dict[str, Any]:
    """The rewards that replace a recipe's; empty if only a recipe is given."""
    if "fn" in given:
        _, colon, name = given["fn"].rpartition(":")
        if not colon or not name.isidentifier():
            raise ValueError(f"fn must look like my_rewards.py:function or module:function, got {given['fn']!r}")
        return {name: {"fn": given["fn"]}}
    if "rewards" not in given:
        return {}
    if given["rewards"].endswith((".yaml", ".yml")):
        return _from_file(Path(given["rewards"]).expanduser())
    rewards: Any = OmegaConf.to_container(_bare([f"+rewards={given['rewards']}"]))
    return dict(rewards["rewards"])


def _from_file(path: Path) -> dict[str, Any]:
    """The rewards in a YAML file: under `rewards`, or the whole of it."""
    if not path.is_file():
        raise ValueError(f"rewards={path}: there is no such file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"rewards={path}: not YAML: {' '.join(str(error).split())}") from error
    section = content.get("rewards", content) if isinstance(content, dict) else content
    if not isinstance(section, dict) or not section or not all(isinstance(term, dict) for term in section.values()):
        raise ValueError(
            f"rewards={path}: it must hold {{name: {{fn: FILE.py:FUNCTION, ...}}, ...}}, got {content!r:.200}"
        )
    return section


def _adding(word: str) -> str:
    """An override that may add its key: data sets and rewards are named by the user. With or without Hydra's +."""
    bare = word.lstrip("+")
    return f"++{bare}" if bare.startswith(("data.", "eval.data.", "rewards.")) else word


def _bare(overrides: Sequence[str]) -> DictConfig:
    """A recipe that is empty but for these; a group such as data=gsm8k needs no + here."""
    adding = [f"+{word}" if (RECIPES / word.partition("=")[0]).is_dir() else word for word in overrides]
    return _given({}, adding)


def _given(content: Any, overrides: Sequence[str]) -> DictConfig:
    """A recipe of this content, with overrides."""
    register()
    ConfigStore.instance().store(group="recipe", name=GIVEN, node=content, package="_global_")
    return _composed([f"recipe={GIVEN}", *overrides])


def _composed(overrides: Sequence[str]) -> DictConfig:
    """As compose_recipe, whose own search for a near key may fail where the recipe itself is what is wrong."""
    try:
        return compose_recipe(overrides)
    except (HydraException, OmegaConfBaseException) as error:
        words = str(error).split("\nSet the environment variable")[0].splitlines()
        raise ValueError("; ".join(line.strip() for line in words[:2])) from error


def _with_rewards(config: DictConfig, section: Mapping[str, Any]) -> DictConfig:
    """The same recipe with other rewards. eval.correct stays only if it names one of them."""
    content: Any = OmegaConf.to_container(config)
    if content["eval"]["correct"] not in section:
        content["eval"]["correct"] = None
    return _given({**content, "rewards": dict(section)}, [])


def _typed(config: DictConfig) -> TrainConfig:
    """The settings as dataclasses. Not checked between sections: no model, sampling or batch is needed here."""
    try:
        settings = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise ValueError(str(error).splitlines()[0]) from error
    assert isinstance(settings, TrainConfig)
    return settings
