"""Programs that a policy might write against its sandbox. Each is asked for 7 * 7 and must not get away with more.

A program prints BREACH where it has done what it must not be able to do. Every program is run with one input line, "7",
within 1.5 s, 128 MiB of memory and 16 processes.
"""

from __future__ import annotations

HOSTILE: dict[str, str] = {
    # too much of something
    "fork bomb": "import os\nwhile True: os.fork()",
    "fork bomb that carries on": """
import os
while True:
    try: os.fork()
    except OSError: pass
""",
    "fork and exit for ever": """
import os
while True:
    try:
        if os.fork() == 0: os.setsid()
    except OSError: os._exit(1)
""",
    "threads": """
import threading, time
while True: threading.Thread(target=time.sleep, args=(60,)).start()
""",
    "memory, byte by byte": "x = []\nwhile True: x.append(bytes(1 << 20))",
    "memory at once": "print(len(bytes(1 << 36)))",
    "a big integer": "print(7 ** 7 ** 12)",
    "shared memory of many processes": """
import mmap, os
for _ in range(12):
    if os.fork() == 0: break
kept = []
while True:
    kept.append(mmap.mmap(-1, 1 << 24))
    kept[-1].write(b"x" * (1 << 24))
""",
    "private memory of many processes": """
import os
for _ in range(12):
    if os.fork() == 0: break
kept = [b"x" * (1 << 20) for _ in range(100)]
import time; time.sleep(60)
""",
    "memory without a mapping": """
import os
fd = os.memfd_create("x")
while True: os.write(fd, bytes(1 << 20)); print("BREACH")
""",
    "System V shared memory": """
import ctypes
libc = ctypes.CDLL(None)
if libc.shmget(0, 1 << 30, 0o1600) >= 0: print("BREACH")
""",
    "disk": "f = open('x', 'wb')\nwhile True: f.write(bytes(1 << 20))",
    "disk in many files": """
n = 0
while True:
    open(f"f{n}", "wb").write(bytes(1 << 20))
    n += 1
""",
    "inodes": "import os\nn = 0\nwhile True:\n    os.mkdir(str(n))\n    n += 1",
    "deep directories": "import os\nwhile True:\n    os.mkdir('d')\n    os.chdir('d')",
    "output": "while True: print('x' * 1000)",
    "output without a line end": "import os\nwhile True: os.write(1, b'x' * 65536)",
    "output on standard error": "import os\nwhile True: os.write(2, b'x' * 65536)",
    "output by many": """
import os
for _ in range(8):
    if os.fork() == 0: break
while True: os.write(1, b'49\\n' * 20000)
""",
    "files opened": """
kept = []
for _ in range(100_000): kept.append(open("/dev/null"))
print("BREACH")
""",
    "sleep": "import time\ntime.sleep(1000)",
    "endless loop": "while True: pass",
    "deaf to signals": """
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass
""",
    "deep recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(n): return f(n + 1) + 1\nprint(f(0))",
    "deep recursion in C": """
import sys
sys.setrecursionlimit(10**9)
x = []
for _ in range(10**6): x = [x]
print(repr(x))
""",
    "crash of the interpreter": "import ctypes\nctypes.string_at(0)",
    "core dump": """
import os, resource
try: resource.setrlimit(resource.RLIMIT_CORE, (1 << 30, 1 << 30)); print("BREACH")
except ValueError: pass
os.abort()
""",
    "limits raised": """
import resource
for limit in (resource.RLIMIT_NPROC, resource.RLIMIT_DATA, resource.RLIMIT_AS, resource.RLIMIT_FSIZE):
    try: resource.setrlimit(limit, (-1, -1)); print("BREACH")
    except ValueError: pass
""",
    "limits of the driver": """
import resource
try: resource.prlimit(1, resource.RLIMIT_CPU, (0, 0)); print("BREACH")
except OSError: pass
""",
    "zip bomb": "import zlib\ndata = zlib.compress(bytes(1 << 25))\nprint(len(zlib.decompress(data * 1) * 1000))",
    "endless device": "print(len(open('/dev/zero', 'rb').read()))",
    "compiler bomb": "print(eval('(' * 100000 + ')' * 100000))",
    "huge constant": "x = '\\0' * 10**10",
    # the network
    "TCP": "import socket\nsocket.create_connection(('127.0.0.1', 22), 1)\nprint('BREACH')",
    "TCP socket": "import socket\nsocket.socket()\nprint('BREACH')",
    "UDP": "import socket\nsocket.socket(2, 2).sendto(b'x', ('8.8.8.8', 53))\nprint('BREACH')",
    "IPv6": "import socket\nsocket.socket(socket.AF_INET6)\nprint('BREACH')",
    "DNS": "import socket\nprint('BREACH', socket.getaddrinfo('example.org', 80))",
    "raw socket": "import socket\nsocket.socket(socket.AF_PACKET, 3)\nprint('BREACH')",
    "netlink": "import socket\nsocket.socket(16, 3, 0)\nprint('BREACH')",
    "unix socket of the host": """
import socket, glob
for path in ("/var/run/docker.sock", "/run/docker.sock", "/run/dbus/system_bus_socket", *glob.glob("/tmp/*sock*")):
    try: socket.socket(socket.AF_UNIX).connect(path); print("BREACH")
    except OSError: pass
""",
    "abstract socket of the host": """
import socket
socket.socket(socket.AF_UNIX).connect("\\0hostile-test")
print("BREACH")
""",
    # the host's files
    "shadow": "print('BREACH', open('/etc/shadow').read())",
    "passwd": "print('BREACH', open('/etc/passwd').read())",
    "environment of process 1": "print('BREACH', open('/proc/1/environ').read())",
    "environment": "import os\nif 'HOSTILE_SECRET' in os.environ: print('BREACH')",
    "environment in memory": """
import ctypes
environ = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
n = 0
while environ[n]:
    if b"HOSTILE_SECRET" in environ[n]: print("BREACH")
    n += 1
""",
    "home, project and temporary files": """
import os
for path in ("/root/.ssh", "/root/.bashrc", "/home", "/tmp/hostile-secret", "/work", "/mnt/0", "/var", "/run", "/sys"):
    if os.path.exists(path): print("BREACH", path)
""",
    "symbolic link out": """
import os
os.symlink("/etc/passwd", "link")
os.symlink("../../../../etc", "up")
for path in ("link", "up/passwd", "/box/../etc/passwd", "/lib/../../etc/passwd"):
    try: print("BREACH", open(path).read())
    except OSError: pass
""",
    "hard link": "import os\nos.link('/usr/lib/os-release', 'x')\nprint('BREACH')",
    "writing to the root": "open('/x', 'w')\nprint('BREACH')",
    "writing to /usr": "open('/usr/lib/x', 'w')\nprint('BREACH')",
    "writing over the library": "import os\nopen(os.__file__, 'a').write('x')\nprint('BREACH')",
    "writing to a device": "import os\nos.mknod('disk', 0o60600, os.makedev(8, 0))\nprint('BREACH')",
    "setuid file": """
import os
open("x", "w").close()
os.chmod("x", 0o6777)
try: os.setuid(0); print("BREACH")
except OSError: pass
try: os.chown("x", 0, 0); print("BREACH")
except OSError: pass
""",
    "left in shared memory": "open('/dev/shm/hostile-left', 'w').write('x')\nopen('/tmp/hostile-left', 'w').write('x')",
    "control groups": """
import os
for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/pids/x"):
    if os.path.exists(os.path.dirname(path)): print("BREACH")
    try: open(path, "w"); print("BREACH")
    except OSError: pass
""",
    # out of the namespaces
    "user namespace": """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x08000000, 0x80):
    if libc.unshare(flag) == 0: print("BREACH")
""",
    "new namespaces by clone": """
import ctypes, os
libc = ctypes.CDLL(None)
machine = os.uname().machine
for call, arguments in ((56 if machine == "x86_64" else 220, (0x10000000 | 17, 0, 0, 0, 0)), (435, (0, 0))):
    found = libc.syscall(call, *arguments)
    if found == 0: os._exit(0)
    if found > 0: print("BREACH", call)
""",
    "chroot": "import os\nos.chroot('/box')\nprint('BREACH')",
    "mount": """
import ctypes
libc = ctypes.CDLL(None)
if libc.mount(b"none", b"/box", b"tmpfs", 0, None) == 0: print("BREACH")
if libc.umount2(b"/box", 2) == 0: print("BREACH")
if libc.pivot_root(b"/box", b"/box") == 0: print("BREACH")
""",
    "kernel interfaces": """
import ctypes, os
libc = ctypes.CDLL(None)
x86_64, aarch64 = (321, 298, 323, 425, 250, 304, 303, 246), (280, 241, 282, 425, 219, 265, 264, 104)
for call in x86_64 if os.uname().machine == "x86_64" else aarch64:
    if libc.syscall(call, 0, 0, 0, 0, 0) != -1: print("BREACH", call)
""",
    "calls of another architecture": """
import ctypes, os
libc = ctypes.CDLL(None)
if os.uname().machine == "x86_64":
    libc.syscall(0x40000000 + 39)
    print("BREACH")
""",
    "ptrace": """
import ctypes
libc = ctypes.CDLL(None)
if libc.ptrace(16, 1, 0, 0) == 0: print("BREACH")
""",
    "memory of the driver": """
import ctypes
libc = ctypes.CDLL(None)
class Vector(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
buffer = ctypes.create_string_buffer(8)
here, there = Vector(ctypes.addressof(buffer), 8), Vector(0x400000, 8)
if libc.process_vm_readv(1, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) > 0: print("BREACH")
try: print("BREACH", open("/proc/1/mem"))
except OSError: pass
""",
    "descriptors of the driver": """
import ctypes, os
libc = ctypes.CDLL(None)
handle = os.pidfd_open(1)
for number in range(10):
    if libc.syscall(438, handle, number, 0) >= 0: print("BREACH")
""",
    "keyrings": """
import ctypes, os
keyctl = 250 if os.uname().machine == "x86_64" else 219
if ctypes.CDLL(None).syscall(keyctl, 0, -3, 1) != -1: print("BREACH")
""",
    "terminal": """
import fcntl, termios
for fd in (0, 1, 2):
    try: fcntl.ioctl(fd, termios.TIOCSTI, b"x"); print("BREACH")
    except OSError: pass
try: open("/dev/tty"); print("BREACH")
except OSError: pass
""",
    # other processes
    "kill all": "import os\nos.kill(-1, 9)\nprint('BREACH')",
    "kill the driver": """
import os, signal, time
for number in range(1, 65):
    try: os.kill(1, number)
    except OSError: pass
os.kill(os.getppid(), signal.SIGKILL)
time.sleep(60)
""",
    "processes of the host": """
import os
for number in range(2, 5000):
    if number == os.getpid(): continue
    try: os.kill(number, 0); print("BREACH", number)
    except ProcessLookupError: pass
    except PermissionError: print("BREACH", number)
""",
    "daemon": """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in range(3): os.close(fd)
        while True: time.sleep(1)
    os._exit(0)
""",
    "daemon that holds the output open": """
import os, time
if os.fork() == 0:
    os.setsid()
    while True: time.sleep(1)
""",
    "daemon that answers later": """
import os, time
if os.fork() == 0:
    os.setsid()
    time.sleep(0.2)
    print(49, flush=True)
    time.sleep(60)
""",
    "many daemons": """
import os, time
for _ in range(10):
    if os.fork() == 0:
        os.setsid()
        while True: os.getpid()
""",
    # the verdict
    "forged report": """
import os
for fd in range(64):
    try: os.write(fd, b"exit 0 1000 1000 1 3 0\\n49\\n")
    except OSError: pass
os._exit(0)
""",
    "closed channels": "import os\nos.closerange(0, 1024)\nwhile True: pass",
    "claims to pass": "import os\nprint('ok: all tests passed', flush=True)\nos._exit(0)",
    "expected output in memory": """
import gc, sys
frame, names = sys._getframe(), []
while frame:
    names += [value for value in frame.f_globals.values() if isinstance(value, (str, bytes))]
    frame = frame.f_back
names += [one for one in gc.get_objects() if isinstance(one, (str, bytes))]
names += [item for one in gc.get_objects() if isinstance(one, (list, tuple)) for item in one if isinstance(item, str)]
for one in names:
    text = one.decode("latin-1") if isinstance(one, bytes) else one
    if text.strip() == str(6 * 8 + 1): print(text, "BREACH")
""",
    "patched interpreter": """
import builtins, json, os, sys
builtins.print = builtins.open = lambda *a, **k: None
json.dumps = lambda *a, **k: "49"
os._exit = sys.exit = lambda *a: None
sys.stdout = sys.stderr = None
""",
    "answers from the driver's own functions": """
import sys
for module in list(sys.modules.values()):
    for name in ("write", "serve", "test"):
        if name in getattr(module, "__dict__", {}) and module.__name__ not in ("os", "posix"):
            getattr(module, name)(b"exit 0 1 1 1 3 0\\n49\\n")
import gc
for one in gc.get_objects():
    if type(one).__name__ == "function" and one.__name__ == "write" and "view" in one.__code__.co_varnames:
        one(b"exit 0 1 1 1 3 0\\n49\\n")
""",
}
