"""A killed build must not make later runs wait for ever; a running one must not be disturbed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launch import build_ops

# What torch's builder does: create the lock, keep it open, and say so.
HOLD = "import os, sys, time; os.open(sys.argv[1], os.O_CREAT | os.O_EXCL); print('held', flush=True); time.sleep(60)"


@pytest.fixture
def lock(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    (tmp_path / build_ops.OP).mkdir()
    return tmp_path / build_ops.OP / "lock"


@pytest.fixture
def builder(lock):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_without_a_lock_nothing_is_stale(lock):
    assert build_ops.stale_lock() is None


def test_a_lock_is_stale_when_its_builder_was_killed_and_not_before(lock, builder):
    assert build_ops.stale_lock() is None
    builder.kill()
    builder.wait()
    assert build_ops.stale_lock() == lock


def test_a_lock_without_owner_on_a_network_file_system_may_be_another_machines(lock, monkeypatch):
    lock.touch()
    monkeypatch.setattr(build_ops, "NETWORK_FILE_SYSTEMS", ("",))  # what any file system's name starts with
    assert build_ops.stale_lock() is None
    monkeypatch.setattr(build_ops, "NETWORK_PATIENCE_S", 0.0)
    assert build_ops.stale_lock() == lock


def test_ensure_built_removes_a_stale_lock_says_so_and_keeps_what_is_built(lock, monkeypatch, capsys):
    shutil.rmtree(lock.parent)
    with monkeypatch.context() as user:
        user.delenv("TORCH_EXTENSIONS_DIR")
        build_ops.ensure_built()
        shutil.copytree(build_ops.extensions_dir() / build_ops.OP, lock.parent)
    lock.touch()
    capsys.readouterr()
    build_ops.ensure_built()
    assert not lock.exists()
    assert f"removing {lock}" in capsys.readouterr().out
    assert build_ops.is_built()


def test_what_another_torch_built_does_not_count(lock):
    (lock.parent / f"{build_ops.OP}.so").touch()
    (lock.parent / "build.ninja").write_text("cflags = -isystem /another/environment/torch/include")
    assert not build_ops.is_built()


def test_a_missing_compiler_is_named(lock, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RuntimeError, match="needs a C\\+\\+ compiler, but 'no-such-compiler' was not found"):
        build_ops.ensure_built()


def test_nothing_is_built_for_ranks_on_a_gpu(monkeypatch):
    monkeypatch.setenv("DS_ACCELERATOR", "cuda")
    assert not build_ops.is_needed()


def test_torch_looks_where_ensure_built_has_built(monkeypatch, capsys):
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "")
    build_ops.ensure_built()
    program = "from deepspeed.comm.torch import build_shm_op; print(build_shm_op().__file__)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == str(build_ops.extensions_dir() / build_ops.OP / f"{build_ops.OP}.so")
