"""Programs that attack the machine: nothing gets out, nothing changes, nothing is left.

Each defines `attack(folder, secret, pid, port, path, name)` and returns what got through. `tried(label, action)` notes the
label where an action does not fail.
"""

from __future__ import annotations

import platform
from typing import Any

import pytest
from dpoframe_code.sandbox import Call, Sandbox, Status
from dpoframe_code.sandbox.filter import numbers
from dpoframe_code.sandbox.launch import _ENVIRONMENT

PRELUDE = """
import ctypes, os, resource, signal, socket, sys, threading, time
through = []
def tried(label, action, *arguments):
    try:
        action(*arguments)
    except (OSError, RuntimeError, MemoryError, ValueError, ImportError):
        return False
    through.append(label)
    return True
libc = ctypes.CDLL(None, use_errno=True)
def syscall(number, *arguments):
    if libc.syscall(number, *arguments) == -1:
        raise OSError(ctypes.get_errno(), "syscall")
"""

ATTACKS: dict[str, str] = {
    "read_a_secret": """
def attack(folder, secret, pid, port, path, name):
    for each in (secret, "/etc/passwd", "/etc/shadow", os.path.expanduser("~/.ssh/id_rsa"), "/root/.bashrc", "/etc/hostname"):
        tried(each, lambda: open(each, "rb").read())
    tried("link", lambda: os.readlink("/proc/self/exe"))
    tried("relative", lambda: os.open("../../../../../.." + secret, os.O_RDONLY))
    return through
""",
    "list_folders": """
def attack(folder, secret, pid, port, path, name):
    for each in (folder, "/", "/root", "/home", "/tmp", "/etc", "/proc", "/sys", "/work", "/var"):
        tried(each, os.listdir, each)
    tried("chdir", os.chdir, folder)
    return through
""",
    "read_other_processes": """
def attack(folder, secret, pid, port, path, name):
    for each in ("self", 1, pid, os.getppid()):
        for part in ("environ", "mem", "maps", "cmdline", "fd/0", "root/etc/passwd"):
            tried(f"{each}/{part}", lambda: open(f"/proc/{each}/{part}", "rb").read(1))
    return through
""",
    "read_memory_of_the_tester": """
def attack(folder, secret, pid, port, path, name):
    for each in (pid, os.getppid(), 1):
        tried("attach", lambda: syscall(NUMBERS["ptrace"], 16, each, 0, 0))
        tried("seize", lambda: syscall(NUMBERS["ptrace"], 0x4206, each, 0, 0))
        tried("readv", lambda: syscall(NUMBERS["process_vm_readv"], each, 0, 0, 0, 0, 0))
        tried("pidfd", lambda: syscall(NUMBERS["pidfd_open"], each, 0))
        tried("kcmp", lambda: syscall(NUMBERS["kcmp"], each, os.getpid(), 0, 0, 0))
    return through
""",
    "look_for_processes": """
def attack(folder, secret, pid, port, path, name):
    for each in (pid, os.getppid(), 1):
        tried("limits", lambda: syscall(NUMBERS["prlimit64"], each, 7, None, ctypes.create_string_buffer(16)))
        tried("affinity", os.sched_getaffinity, each)
        for kind in range(4):
            tried("clock", time.clock_gettime, ~each << 3 | kind)
            tried("resolution", time.clock_getres, ~each << 3 | kind)
        tried("group", os.getpgid, each)
        tried("session", os.getsid, each)
        tried("priority", os.getpriority, os.PRIO_PROCESS, each)
        tried("scheduler", os.sched_getscheduler, each)
    own = (os.sched_getaffinity(0), resource.getrlimit(resource.RLIMIT_CPU), time.process_time(), time.thread_time())
    assert all(own) and time.clock_gettime(time.CLOCK_BOOTTIME) > 0 < time.get_clock_info("monotonic").resolution
    return through
""",
    "kill_everything": """
def attack(folder, secret, pid, port, path, name):
    # Only where harmless signals are held is a harmful one sent.
    if any([tried("tester", os.kill, pid, 0), tried("zygote", os.kill, os.getppid(), 0), tried("all", os.kill, -1, 0)]):
        return through
    for each in (pid, os.getppid(), -1, 0, 1):
        tried(each, os.kill, each, 9)
    tried("group", os.killpg, 0, 9)
    for call in ("tkill", "tgkill", "rt_sigqueueinfo", "pidfd_send_signal"):
        tried(call, lambda: syscall(NUMBERS[call], os.getppid(), os.getppid(), 9, 0))
    return through
""",
    "signal_through_a_descriptor": """
def attack(folder, secret, pid, port, path, name):
    import fcntl
    left, right = socket.socketpair()
    for each in (pid, os.getppid()):
        tried("F_SETOWN", fcntl.fcntl, left.fileno(), 8, each)
        tried("F_SETOWN_EX", fcntl.fcntl, left.fileno(), 15, bytes(8))
    tried("F_SETSIG", fcntl.fcntl, left.fileno(), 10, 9)
    tried("F_SETFL", fcntl.fcntl, left.fileno(), 4, 0o20000)
    tried("FIOASYNC", fcntl.ioctl, left.fileno(), 0x5452, bytes(4))
    tried("FIOSETOWN", fcntl.ioctl, left.fileno(), 0x8901, bytes(4))
    tried("F_SETPIPE_SZ", fcntl.fcntl, 1, 1031, 1 << 20)
    return through
""",
    "fork_bomb": """
def attack(folder, secret, pid, port, path, name):
    def fork():
        if os.fork() == 0:
            time.sleep(60)
    for _ in range(30):
        tried("fork", fork)
    tried("vfork", lambda: syscall(NUMBERS.get("fork", 1 << 20)))
    tried("clone3", lambda: syscall(NUMBERS["clone3"], bytes(88), 88))
    return through
""",
    "daemon": """
def attack(folder, secret, pid, port, path, name):
    tried("setsid", os.setsid)
    tried("setpgid", os.setpgid, 0, 0)
    def daemon():
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                open(folder + "/daemon", "w").write("here")
                time.sleep(60)
            os._exit(0)
    tried("daemon", daemon)
    return through
""",
    "other_programs": """
def attack(folder, secret, pid, port, path, name):
    import subprocess, _posixsubprocess
    if os.system("touch " + folder + "/trace") == 0:
        through.append("system")
    tried("popen", lambda: subprocess.run(["/bin/sh", "-c", "true"]))
    tried("spawn", lambda: os.posix_spawn("/bin/true", ["true"], {}))
    for program in ("/bin/sh", sys.executable, "/usr/bin/python3", "/lib64/ld-linux-x86-64.so.2"):
        tried("exec", lambda: os.execv(program, [program, "-c", ""]))
    tried("execveat", lambda: syscall(NUMBERS["execveat"], 0, b"", 0, 0, 0x1000))
    return through
""",
    "threads": """
def attack(folder, secret, pid, port, path, name):
    for _ in range(10):
        tried("thread", threading.Thread(target=time.sleep, args=(60,), daemon=True).start)
    from concurrent.futures import ThreadPoolExecutor
    tried("pool", lambda: ThreadPoolExecutor().submit(int))
    return through
""",
    "memory_bomb": """
def attack(folder, secret, pid, port, path, name):
    import mmap
    tried("bytes", lambda: bytearray(1 << 30))
    tried("list", lambda: [0] * (1 << 28))
    tried("mapped", lambda: mmap.mmap(-1, 1 << 30))
    def slowly():
        held = []
        while len(held) < 1 << 16:
            held.append(bytearray(1 << 16))
    tried("slowly", slowly)
    tried("memfd", lambda: os.memfd_create("x"))
    tried("mlock", lambda: syscall(NUMBERS["mlockall"], 3))
    tried("shmget", lambda: syscall(NUMBERS["shmget"], 0, 1 << 20, 0o1600))
    from multiprocessing import shared_memory
    tried("shm", lambda: shared_memory.SharedMemory(create=True, size=1 << 20))
    return through
""",
    "fill_the_disk": """
def attack(folder, secret, pid, port, path, name):
    for place in (folder, "/tmp", "/var/tmp", "/dev/shm", "/dev", "/run", os.path.expanduser("~"), ".", "/", "/root", "/usr/lib"):
        tried(place, lambda: open(place + "/trace", "wb").write(bytes(1 << 20)))
        tried(place + "/made", os.mkdir, place + "/trace-folder")
        tried(place + "/fifo", os.mkfifo, place + "/trace-fifo")
        tried(place + "/temporary", lambda: os.open(place, os.O_TMPFILE | os.O_RDWR))
        tried(place + "/device", lambda: os.mknod(place + "/trace-device", 0o60600, os.makedev(8, 0)))
    import tempfile
    tried("tempfile", tempfile.TemporaryFile)
    return through
""",
    "change_files": """
def attack(folder, secret, pid, port, path, name):
    tried("append", lambda: open(secret, "ab").write(b"x"))
    tried("truncate", os.truncate, secret, 0)
    tried("open to truncate", lambda: os.open(secret, os.O_RDONLY | os.O_TRUNC))
    tried("chmod", os.chmod, secret, 0)
    tried("chown", os.chown, secret, 1, 1)
    tried("utime", os.utime, secret, (0, 0))
    tried("remove", os.remove, secret)
    tried("rename", os.rename, secret, folder + "/trace")
    tried("link", os.link, secret, folder + "/trace")
    tried("symlink", os.symlink, secret, folder + "/trace")
    tried("setxattr", os.setxattr, secret, "user.x", b"x")
    tried("stdlib", lambda: open(os.__file__, "ab"))
    return through
""",
    "sockets": """
def attack(folder, secret, pid, port, path, name):
    tried("tcp", lambda: socket.create_connection(("127.0.0.1", port), 1))
    tried("listen", lambda: socket.create_server(("127.0.0.1", 0)))
    tried("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", port)))
    tried("unix", lambda: socket.socket(socket.AF_UNIX).connect(path))
    tried("abstract", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"x", "\\0" + name))
    for family in range(46):
        if family != 1:
            tried(f"family {family}", socket.socket, family, socket.SOCK_STREAM)
            tried(f"raw {family}", socket.socket, family, socket.SOCK_RAW)
    tried("names", lambda: socket.getaddrinfo("localhost.localdomain", 80))
    return through
""",
    "sockets_out_of_a_pair": """
def attack(folder, secret, pid, port, path, name):
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    tried("sendto", left.sendto, b"x", "\\0" + name)
    tried("sendto a path", left.sendto, b"x", path)
    tried("connect", left.connect, "\\0" + name)
    tried("bind", left.bind, "\\0trace")
    tried("sendmsg", left.sendmsg, [b"x"], [], 0, "\\0" + name)
    tried("pass a descriptor", socket.send_fds, left, [b"x"], [0])
    tried("through the wire", socket.send_fds, socket.socket(fileno=os.dup(3)), [b"x"], [0])
    return through
""",
    "peer_of_the_wire": """
def attack(folder, secret, pid, port, path, name):
    wire, (left, right) = socket.socket(fileno=os.dup(3)), socket.socketpair()
    for each in (wire, left):
        # Who is at the other end (SO_PEERCRED, SO_PEERSEC, SO_PEERGROUPS), and a descriptor of that process (SO_PEERPIDFD).
        for option in (17, 31, 59, 77):
            tried(option, each.getsockopt, 1, option, 64)
        for level in (0, 6, 17, 41, 270):
            tried(level, each.getsockopt, level, 1, 64)
        assert each.getsockopt(1, socket.SO_TYPE) == socket.SOCK_STREAM and each.getsockopt(1, socket.SO_ERROR) == 0
    return through
""",
    "forbidden_calls": """
def attack(folder, secret, pid, port, path, name):
    for call in FORBIDDEN:
        if call in NUMBERS:
            ctypes.set_errno(0)
            if libc.syscall(NUMBERS[call], -1, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() != 1:
                through.append(f"{call} {ctypes.get_errno()}")
    return through
""",
    "take_locks_off": """
def attack(folder, secret, pid, port, path, name):
    for limit in (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):
        tried("setrlimit", resource.setrlimit, limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    tried("pdeathsig", lambda: syscall(NUMBERS["prctl"], 1, 0, 0, 0, 0))
    tried("dumpable", lambda: syscall(NUMBERS["prctl"], 4, 1, 0, 0, 0))
    tried("seccomp", lambda: syscall(NUMBERS["seccomp"], 1, 0, 0))
    tried("notification pipe", os.pipe2, os.O_EXCL)
    tried("priority futex", lambda: syscall(NUMBERS["futex"], ctypes.byref(ctypes.c_int(0)), 6, 0, 0, 0, 0))
    tried("limits of others", lambda: syscall(NUMBERS["prlimit64"], pid, 0, bytes(16), 0))
    tried("setuid", os.setuid, 0)
    tried("setgroups", os.setgroups, [])
    tried("nice", os.nice, -5)
    tried("affinity", os.sched_setaffinity, 0, {0})
    return through
""",
    "namespaces": """
def attack(folder, secret, pid, port, path, name):
    for flags in (0x10000000, 0x00020000, 0x40000000, 0x20000000):
        tried("unshare", lambda: syscall(NUMBERS["unshare"], flags))
    tried("mount", lambda: syscall(NUMBERS["mount"], b"none", b"/", b"tmpfs", 0, 0))
    tried("remount", lambda: syscall(NUMBERS["mount"], b"none", b"/", 0, 32, 0))
    tried("umount", lambda: syscall(NUMBERS["umount2"], b"/", 2))
    tried("pivot", lambda: syscall(NUMBERS["pivot_root"], b"/", b"/"))
    tried("chroot", os.chroot, "/")
    tried("setns", lambda: syscall(NUMBERS["setns"], 0, 0))
    return through
""",
    "leftovers": """
def attack(folder, secret, pid, port, path, name):
    for number in range(4, 32):
        tried(f"descriptor {number}", os.fstat, number)
    through.extend(key for key in os.environ if key not in ENVIRONMENT)
    if any("secret-of-the-environment" in value for value in os.environ.values()):
        through.append("environment")
    return through
""",
    "terminal": """
def attack(folder, secret, pid, port, path, name):
    import fcntl, termios
    for number in (0, 1, 2, 3):
        tried("TIOCSTI", fcntl.ioctl, number, 0x5412, b"x")
        tried("TIOCLINUX", fcntl.ioctl, number, 0x541C, b"x")
    tried("tty", lambda: open("/dev/tty", "wb"))
    return through
""",
    "the_tests_themselves": """
def attack(folder, secret, pid, port, path, name):
    import importlib
    for module in ("dpoframe_code", "dpoframe_code.oracle", "dpoframe", "py_landlock", "site", "test.support"):
        found = sys.modules.get(module)
        for place in getattr(found, "__path__", ()):
            tried(module, os.listdir, place)
    tried("oracle", importlib.import_module, "dpoframe_code.oracle")
    tried("pytest", importlib.import_module, "pytest")
    tried("this file", lambda: open(THIS).read())
    return through
""",
}
"""What must come back empty."""


FORBIDDEN = (
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd", "bpf", "perf_event_open", "fanotify_init"),
    *("inotify_init1", "keyctl", "add_key", "request_key", "init_module", "finit_module", "delete_module", "kexec_load"),
    *("reboot", "swapon", "swapoff", "sethostname", "setdomainname", "settimeofday", "clock_settime", "adjtimex", "acct"),
    *("quotactl", "mount_setattr", "fsopen", "open_tree", "move_mount", "name_to_handle_at", "open_by_handle_at", "chroot"),
    *("iopl", "ioperm", "personality", "ptrace", "process_vm_writev", "pidfd_getfd", "process_madvise", "memfd_secret"),
    *("vmsplice", "splice", "tee", "sendfile", "copy_file_range", "fallocate", "ftruncate", "fchmod", "fchown", "msgget"),
    *("semget", "shmat", "mq_open", "timer_create", "signalfd4", "timerfd_create", "landlock_add_rule", "landlock_create_ruleset"),
    *("landlock_restrict_self", "capset", "clone", "clone3", "execve", "socket", "connect", "bind", "listen", "accept4"),
    *("sendmsg", "sendmmsg", "recvmsg", "setsockopt", "openat2", "syslog", "lookup_dcookie", "vhangup", "modify_ldt"),
)
"""Calls of the kernel that nobody needs to answer a question."""
CALLS = (
    *("pidfd_open", "kcmp", "tkill", "tgkill", "rt_sigqueueinfo", "pidfd_send_signal", "fork", "process_vm_readv", "execveat"),
    *("mlockall", "shmget", "prctl", "seccomp", "unshare", "mount", "umount2", "pivot_root", "setns"),
    *("futex", "prlimit64"),
)


def knowledge() -> str:
    """What an attacker knows of the machine, as lines of a program."""
    names = sorted({*FORBIDDEN, *CALLS})
    known = {name: numbers(platform.machine(), [name]) for name in names}
    table = {name: found[0] for name, found in known.items() if found}
    return f"NUMBERS = {table}\nFORBIDDEN = {FORBIDDEN}\nENVIRONMENT = {tuple(_ENVIRONMENT)}\nTHIS = {__file__!r}\n"


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_gets_out(name: str, sandbox: Sandbox, host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No attempt gets through, the host is as before, no process is left, and the next program gets its right verdict."""
    monkeypatch.setenv("TOKEN", "secret-of-the-environment")
    with host.watched(sandbox):
        program = PRELUDE + knowledge() + ATTACKS[name]
        (outcome,) = sandbox.run(program, [Call("attack", host.bait)])
        assert (outcome.status, outcome.value, outcome.error) == (Status.RETURNED, [], "")
    assert host.touched() == []


def test_every_forbidden_call_is_known_by_name() -> None:
    """A name with a typing error would be no attack: each is a call of this architecture, or of another one."""
    known = [name for name in FORBIDDEN if numbers("x86_64", [name]) or numbers("aarch64", [name])]
    assert sorted(set(FORBIDDEN) - set(known)) == []
    assert len(FORBIDDEN) > 70
