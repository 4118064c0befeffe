"""`rl`, `data`, `rewards` and `launch` are names that others use too: here they must mean this checkout."""

from __future__ import annotations

import ast
import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("rl", "rewards", "data", "launch")
OURS = re.compile(rf"\s*(from|import) ({'|'.join(PACKAGES)})\b", re.MULTILINE)
ROOT_FIRST = "sys.path[0] = str(Path(__file__).resolve().parents[1])"


def setup_cfg(section: str, key: str) -> list[str]:
    """The lines of one value of setup.cfg."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config[section][key].split("\n")[1:]


def scripts() -> list[Path]:
    """The programs of launch/ that import the project."""
    texts = {path: path.read_text() for path in sorted((ROOT / "launch").glob("*.py"))}
    found = [path for path, text in texts.items() if "__main__" in text and re.search(rf"(?m)^{OURS.pattern}", text)]
    assert found, "launch/ holds no script that imports the project"
    return found


def recipe(path: Path) -> list[str]:
    """What a program composed by Hydra needs on its command line, even to print its help."""
    return ["recipe=grpo_tiny"] if "@hydra.main" in path.read_text() else []


def canonical(name: str) -> str:
    """A distribution's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_setup_cfg_lists_the_packages_that_are_on_disk():
    on_disk = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in PACKAGES
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert set(setup_cfg("options", "packages")) == on_disk


def test_every_folder_of_python_files_is_a_package():
    folders = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_resolves_to_this_checkout(package):
    module = __import__(package)
    assert Path(module.__file__) == ROOT / package / "__init__.py"


def test_launch_scripts_put_the_root_first_before_they_import_ours():
    for path in scripts():
        lines = [ast.unparse(node) for node in ast.parse(path.read_text()).body]
        first_of_ours = next(i for i, line in enumerate(lines) if OURS.match(line))
        assert ROOT_FIRST in lines[:first_of_ours], f"{path.name} imports ours before it says where they are"


def test_scripts_start_from_any_directory_and_find_this_checkout(tmp_path):
    """A script runs as `python launch/x.py` from elsewhere, with impostors of our packages where it is started."""
    for package in PACKAGES:
        (tmp_path / f"{package}.py").write_text("raise ImportError('not the package that was meant')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    runs = {
        path.name: subprocess.run(
            [sys.executable, path, *recipe(path), "--help"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        for path in scripts()
    }
    assert {name: run.stderr[-500:] for name, run in runs.items() if run.returncode != 0} == {}


def test_the_lock_pins_every_requirement_exactly():
    locks = [ROOT / "requirements.lock", ROOT / "tests" / "verifiers.lock"]
    lines = [line for lock in locks for line in lock.read_text().splitlines() if not line.startswith("#")]
    assert not [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)]
    pinned = {canonical(line.split("==")[0]) for line in lines}
    extras = [line for extra in ("dev", "gguf") for line in setup_cfg("options.extras_require", extra)]
    asked = [re.split(r"[ <>=!~\[;]", line)[0] for line in setup_cfg("options", "install_requires") + extras]
    assert {canonical(name) for name in asked} <= pinned
