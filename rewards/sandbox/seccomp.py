"""The system calls of a sandboxed program: a seccomp filter, assembled here, so that no library is needed.

A denied call fails with an error number, so a program that tries it sees an ordinary error; a program for another
architecture (32-bit calls on a 64-bit kernel, x32) is killed, since its numbers mean other calls. Calls newer than this
table fail as unknown (ENOSYS), and so does clone3, whose flags a filter cannot read: libraries then fall back on clone.

The format is classic BPF, see the kernel's Documentation/userspace-api/seccomp_filter.rst: an instruction is
(code, jump if true, jump if false, constant), the data are {int nr; u32 arch; u64 instruction_pointer; u64 args[6]}.
Call numbers: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h of Linux.
"""

from __future__ import annotations

import errno
import platform
import struct
from functools import cache

LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in the data
ALLOW, FAIL, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32_BIT = 0x40000000
NEWEST = 462  # the last call considered here (mseal, Linux 6.10)

NEW_NAMESPACES = 0x7E020080  # CLONE_NEWTIME | NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET
AF_UNIX = 1
TIOCSTI, TIOCLINUX = 0x5412, 0x541C  # type into, or paste into, a terminal

# name: (x86_64, aarch64); None where an architecture does not have it.
DENIED: dict[str, tuple[int | None, int | None]] = {
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # namespaces, mounts and roots
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    # the kernel: programs in it, keys, tracing, modules, and interfaces with a history of holes
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "syslog": (103, 116),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    "personality": (135, 92),
    "vhangup": (153, 58),
    "acct": (163, 89),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    "vmsplice": (278, 75),
    "splice": (275, 76),
    "tee": (276, 77),
    "ioperm": (173, None),
    "iopl": (172, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "_sysctl": (156, None),
    # memory that no limit of a process counts
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
}
CLONE, CLONE3 = (56, 220), (435, 435)
SOCKET, SOCKETPAIR = (41, 198), (53, 199)
IOCTL, PRLIMIT64 = (16, 29), (302, 261)

Instruction = tuple[int, int, int, int]


@cache
def seccomp_filter(machine: str = platform.machine()) -> bytes:
    """The filter for bubblewrap's --seccomp. Raises ValueError for a machine whose call numbers are not listed."""
    if machine not in AUDIT_ARCH:
        raise ValueError(f"the sandbox knows the system calls of {' and '.join(AUDIT_ARCH)}, this machine is {machine}")
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in assemble(machine))


def assemble(machine: str) -> list[Instruction]:
    which = list(AUDIT_ARCH).index(machine)
    program: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD, 0, 0, NUMBER),
    ]
    if machine == "x86_64":
        program += [(JUMP_AT_LEAST, 0, 1, X32_BIT), (RETURN, 0, 0, KILL_PROCESS)]
    program += [(JUMP_AT_LEAST, 0, 1, NEWEST + 1), _fail(errno.ENOSYS)]
    program += [(JUMP_EQUAL, 0, 1, CLONE3[which]), _fail(errno.ENOSYS)]
    for numbers in DENIED.values():
        number = numbers[which]
        if number is not None:
            program += [(JUMP_EQUAL, 0, 1, number), _fail(errno.EPERM)]
    program += _argument(CLONE[which], 0, [(JUMP_ANY_BIT, 0, 1, NEW_NAMESPACES), _fail(errno.EPERM)])
    for call in (SOCKET, SOCKETPAIR):
        program += _argument(call[which], 0, [(JUMP_EQUAL, 1, 0, AF_UNIX), _fail(errno.EAFNOSUPPORT)])
    for command in (TIOCSTI, TIOCLINUX):
        program += _argument(IOCTL[which], 1, [(JUMP_EQUAL, 0, 1, command), _fail(errno.EPERM)])
    program += _argument(PRLIMIT64[which], 0, [(JUMP_EQUAL, 1, 0, 0), _fail(errno.EPERM)])  # its own limits only
    return [*program, (RETURN, 0, 0, ALLOW)]


def _fail(number: int) -> Instruction:
    return (RETURN, 0, 0, FAIL | number)


def _argument(number: int, index: int, test: list[Instruction]) -> list[Instruction]:
    """If the call is `number`, run `test` on the low half of an argument; afterwards the call number is loaded again.

    Every test here looks at an int or at flags in the low half; both machines are little-endian.
    """
    body = [(LOAD, 0, 0, ARGUMENTS + 8 * index), *test, (LOAD, 0, 0, NUMBER)]
    return [(JUMP_EQUAL, 0, len(body), number), *body]
