"""Whether the sandbox works on this machine, and what to do where it does not."""

from __future__ import annotations

import os

from rewards.sandbox import bubblewrap
from rewards.sandbox.limits import Limits, SandboxError
from rewards.sandbox.runner import Sandbox

# Prints what it can do that it should not be able to.
PROBE = b"""
import os, socket
found = [path for path in ("/etc", "/proc", "/sys", "/home", "/var", "/run", "/bin") if os.path.exists(path)]
if os.getuid() == 0:
    found.append("root")
try:
    socket.socket(socket.AF_INET)
    found.append("network")
except OSError:
    pass
try:
    open("/usr/probe", "w")
    found.append("writing to /usr")
except OSError:
    pass
print("sealed", *found)
"""

SETTINGS = (  # file, the value that forbids, what to do
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "Ubuntu forbids user namespaces to programs without an AppArmor profile: "
        "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "this system forbids user namespaces: sudo sysctl kernel.unprivileged_userns_clone=1",
    ),
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "this system allows no user namespaces: sudo sysctl user.max_user_namespaces=15000",
    ),
)
CONTAINER = (
    "the default profile of Docker forbids namespaces: start the container with --security-opt seccomp=unconfined "
    "--security-opt apparmor=unconfined --security-opt systempaths=unconfined, or use sandbox=remote"
)

_sound: set[tuple[int, bool]] = set()  # for (process, site_packages): a failure may pass and is looked at again


def trouble(*, site_packages: bool = False) -> str:
    """Why no program can be run in a sandbox here, "" if one can. A probe is run in one, once a process."""
    key = (os.getpid(), site_packages)
    if key in _sound:
        return ""
    if bubblewrap.find_bwrap() is None:
        return f"bubblewrap is not installed ({bubblewrap.INSTALL})"
    try:
        with Sandbox(PROBE, Limits(timeout_s=10.0), site_packages=site_packages) as sandbox:
            ran = sandbox.run("stdin", b"")
    except SandboxError as error:
        return f"bubblewrap cannot start a sandbox here: {error}{hint()}"
    said = ran.output.decode(errors="replace").strip()
    if said != "sealed":
        errors = ran.errors.decode(errors="replace").strip()
        return f"the sandbox is not tight or does not work: it ended by {ran.how} {ran.status}: {said} {errors}"
    _sound.add(key)
    return ""


def hint() -> str:
    """What on this machine forbids a sandbox to start, if it is one of the usual causes."""
    for file, forbids, advice in SETTINGS:
        try:
            with open(file) as setting:
                if setting.read().strip() == forbids:
                    return f"; {advice}"
        except OSError:
            pass
    contained = os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv")
    return f"; {CONTAINER}" if contained else ""
