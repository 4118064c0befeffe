"""Build, once, the C++ extension that DeepSpeed compiles on its first start on CPU ranks.

    python launch/build_ops.py

DeepSpeed's shared-memory collectives (`deepspeed_shm_comm`) are compiled by torch.utils.cpp_extension inside the first
`deepspeed.init_distributed`: a minute without a word. torch guards the build with a file named `lock`. A process killed
while it held that file leaves it behind, and every later run waits for it for ever, silently. So launch scripts call
`ensure_built` before they start anything distributed. On GPU ranks there is nothing to build.

No torch import: this module answers in milliseconds when there is nothing to do.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OP = "deepspeed_shm_comm"
NETWORK_FILE_SYSTEMS = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "fuse", "smb", "cifs", "afs", "v9fs")
NETWORK_PATIENCE_S = 600.0  # the owner of a lock on a network file system may be on another machine: a build takes less


def extensions_dir() -> Path:
    """Where compiled extensions are kept: $TORCH_EXTENSIONS_DIR, or a folder of this virtual environment.

    torch's own default, ~/.cache/torch_extensions/py311_cpu, is shared by all environments of a user, whatever their
    torch: two of them used in turn compile again each time.
    """
    if chosen := os.environ.get("TORCH_EXTENSIONS_DIR"):
        return Path(chosen)
    if sys.prefix != sys.base_prefix and os.access(sys.prefix, os.W_OK):
        return Path(sys.prefix) / "torch_extensions"
    return Path.home() / ".cache" / "torch_extensions" / f"py{sys.version_info.major}{sys.version_info.minor}_cpu"


def is_needed() -> bool:
    """Whether ranks on this machine will use the extension: Linux, and no GPU that this torch can drive."""
    if sys.platform != "linux":
        return False
    if chosen := os.environ.get("DS_ACCELERATOR"):
        return chosen == "cpu"
    torch = _torch_version()
    nvidia = torch["cuda"] and Path("/dev/nvidiactl").exists()
    amd = torch["hip"] and Path("/dev/kfd").exists()
    return not (nvidia or amd)


def is_built() -> bool:
    """Whether the extension exists and belongs to the torch and DeepSpeed of this environment."""
    library, recipe = extensions_dir() / OP / f"{OP}.so", extensions_dir() / OP / "build.ninja"
    if not (library.exists() and recipe.exists()):
        return False
    # A chosen directory may be shared with another environment, and this one's torch may have been upgraded since.
    roots = [_package_dir("torch"), _package_dir("deepspeed")]
    installed = max((root / "__init__.py").stat().st_mtime for root in roots)
    text = recipe.read_text()
    return library.stat().st_mtime >= installed and all(str(root) in text for root in roots)


def stale_lock(op: str = OP) -> Path | None:
    """The lock file of a build that was killed, or None. Looks twice: a live owner closes the file, then removes it."""
    lock = extensions_dir() / op / "lock"
    for wait_s in (1.0, 0.0):
        if not _is_abandoned(lock):
            return None
        time.sleep(wait_s)
    return lock


def ensure_built() -> None:
    """Build the extension if ranks here need it; remove what a killed build left. Any number of ranks may call this.

    Sets TORCH_EXTENSIONS_DIR, where torch will look, and puts this environment's scripts, ninja among them, on PATH:
    torch asks ninja even when all is built. Processes started from here inherit both.
    Raises RuntimeError if there is no compiler, or with the compiler's output.
    """
    if not is_needed():
        return
    _add_scripts_to_path()
    os.environ["TORCH_EXTENSIONS_DIR"] = str(extensions_dir())
    directory = extensions_dir() / OP
    directory.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(directory / "ensure_built"):
        if lock := stale_lock():
            print(f"removing {lock}: a build of {OP} was killed, and every run would wait for it", flush=True)
            lock.unlink(missing_ok=True)
        if not is_built():
            _compile()


def _compile() -> None:
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise RuntimeError(
            f"DeepSpeed compiles its shared-memory collectives on CPU ranks and needs a C++ compiler, but {compiler!r} "
            "was not found: install g++ (Debian and Ubuntu: apt install g++), or name another one in $CXX"
        )
    print("compiling DeepSpeed's shared-memory op, a minute or more, once", flush=True)
    start_s = time.monotonic()
    # The function DeepSpeed itself calls; in a process of its own, so that its output is seen only if it fails.
    program = "from deepspeed.comm.torch import build_shm_op; build_shm_op()"
    result = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"DeepSpeed's {OP} did not compile:\n{result.stdout[-2000:]}{result.stderr[-4000:]}")
    print(f"compiled in {time.monotonic() - start_s:.0f} s: {extensions_dir() / OP}", flush=True)


def _is_abandoned(lock: Path) -> bool:
    """True if the file exists and no process that we can see has it open; torch's builder holds it open to the end."""
    try:
        status = lock.stat()
    except FileNotFoundError:
        return False
    if os.getuid() not in (0, status.st_uid):
        return False  # another user's process, whose open files we may not read
    if _is_on_network(lock) and time.time() - status.st_mtime < NETWORK_PATIENCE_S:
        return False
    return Path("/proc/self/fd").exists() and not _is_open_anywhere(lock)


def _is_open_anywhere(path: Path) -> bool:
    """Whether a process of this machine has the file open, by the links in /proc/<pid>/fd."""
    target = os.path.realpath(path)
    for process in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):  # it ended while we looked, or is another user's
            for descriptor in process.iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor) == target:
                        return True
    return False


def _is_on_network(path: Path) -> bool:
    answer = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=False)
    return answer.stdout.strip().startswith(NETWORK_FILE_SYSTEMS)


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Processes of this machine pass one by one. Unlike torch's, this lock goes with the process that holds it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _add_scripts_to_path() -> None:
    scripts = sysconfig.get_path("scripts")
    if scripts not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join(filter(None, [scripts, os.environ.get("PATH")]))


def _package_dir(name: str) -> Path:
    """Where a package is installed, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"{name} is not installed in {sys.prefix}: run `make install`, or `pip install -e .`")
    return Path(spec.origin).parent


def _torch_version() -> dict[str, Any]:
    """The variables of torch/version.py: `__version__`, `cuda`, `hip`."""
    return runpy.run_path(str(_package_dir("torch") / "version.py"))


if __name__ == "__main__":
    try:
        ensure_built()
    except RuntimeError as error:
        sys.exit(f"error: {error}")
