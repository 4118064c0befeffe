"""Who may import whom. The arrows of the design are held here, by reading the imports of every file."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("rl", "rewards", "data", "launch")

# Package -> what it may import of ours: a package and all below it, or one module.
ARROWS = {
    "launch": ("rl", "rewards", "data", "launch"),
    "rewards": ("rewards", "rl.experience", "data.problem"),
    "data": ("data", "rl.experience"),
    "rl": ("rl", "data.problem"),
}

# Reward workers and data readers start in milliseconds because these never load torch.
WITHOUT_TORCH = (
    "rl/experience.py",
    "rl/scoring.py",
    "rl/combine.py",
    "rl/reward_*.py",
    "rewards/**/*.py",
    "data/problem.py",
)
MATHS = ("rl/advantages.py", "rl/kl.py", "rl/losses.py", "rl/moe.py")
HYDRA = ("hydra", "omegaconf")

DIRECTORIES = {"rl", "rewards", "data", "recipes", "launch", "tests", "docs", "benchmarks"}
FILES = {
    "README.md",
    "setup.cfg",
    "pyproject.toml",
    "requirements.lock",
    "Makefile",
    "LICENSE",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
}


def sources(*patterns: str) -> list[Path]:
    """The Python files that match; each pattern must match at least one, or the test would hold nothing."""
    found = []
    for pattern in patterns:
        matches = sorted(ROOT.glob(pattern))
        assert matches, f"no file matches {pattern} in {ROOT}: was it moved? This test must follow it"
        found += matches
    return found


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def imports(path: Path) -> list[tuple[int, str]]:
    """(line, module) of every import in the file, inside functions and type-checking blocks too.

    `from rl import experience` counts as rl.experience, `from rl.experience import Group` as rl.experience.
    """
    package = path.relative_to(ROOT).parent.parts
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            names = [f"{module}.{alias.name}" for alias in node.names]
            found += [(node.lineno, name if is_module(name) else module) for name in names]
    return found


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def offences(paths: list[Path], forbidden: Callable[[str], bool]) -> list[str]:
    """'file:line imports module' for each import of these files that `forbidden(module)` names."""
    return [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in paths
        for line, module in imports(path)
        if forbidden(module)
    ]


@pytest.mark.parametrize("package", ARROWS)
def test_a_package_imports_only_what_its_arrow_allows(package):
    ours = (*PACKAGES, "tests", "benchmarks", "recipes")
    paths = sources(f"{package}/**/*.py")
    assert not offences(paths, lambda module: within(module, ours) and not within(module, ARROWS[package]))


def test_only_launch_and_the_config_module_know_hydra():
    paths = [path for path in sources("rl/**/*.py", "rewards/**/*.py", "data/**/*.py") if path != ROOT / "rl/config.py"]
    assert not offences(paths, lambda module: within(module, HYDRA))


def test_values_rewards_and_scoring_do_not_import_torch():
    # A reward model is run by torch: its function imports it when it is called, in a process of its own.
    paths = [path for path in sources(*WITHOUT_TORCH) if path != ROOT / "rewards/reward_model.py"]
    assert not offences(paths, lambda module: within(module, ("torch",)))


def test_a_reward_worker_loads_no_torch_through_what_it_imports():
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sources(*WITHOUT_TORCH)]
    program = f"import {', '.join(names)}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_the_maths_imports_torch_and_nothing_else():
    allowed = ("torch", "typing", "__future__")
    assert not offences(sources(*MATHS), lambda module: not within(module, allowed))


def test_the_answer_is_out_of_reach_of_what_writes_prompts():
    (path,) = sources("data/prompts.py")
    tree = ast.parse(path.read_text())
    reads = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "answer"]
    assert not reads, f"data/prompts.py reads .answer at lines {reads}: the policy would see what only rewards may"


def test_recipes_are_values():
    assert sources("recipes/*.yaml")
    assert not list((ROOT / "recipes").rglob("*.py"))


def test_the_top_level_holds_what_the_design_names_and_no_more():
    assert {name for name in DIRECTORIES if not (ROOT / name).is_dir()} == set(), "folders are missing"
    assert {name for name in FILES if not (ROOT / name).is_file()} == set(), "files are missing"
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    # Without git (an unpacked archive) the list is empty: the project's files and the user's look alike.
    names = {line.split("/")[0] for line in listing.stdout.splitlines()}
    assert {name for name in names if not name.startswith(".")} <= DIRECTORIES | FILES
