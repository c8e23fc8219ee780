"""The checks of `dpoframe doctor`: each a function that yields findings and breaks nothing, whatever it meets."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from dpoframe.cli.finding import Finding
from dpoframe.cli.readiness import evaluators

MALICIOUS = frozenset({"2.6.2", "2.6.3"})
"""Versions of lightning that an attacker published."""

_GIB = 2**30
_NEEDED = 0.5
_COMFORTABLE = 5.0
_TORCH_INDEX = "https://pytorch.org/get-started/locally"


def examine() -> list[Finding]:
    """Everything that can be told of this machine in a few seconds."""
    checks = (python, torch_build, torchvision, lightning, processor, plugins, evaluators, disk, extras)
    return [finding for check in checks for finding in check()]


def version(distribution: str) -> str:
    """The installed version, or an empty string."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def python() -> Iterator[Finding]:
    """The interpreter."""
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.prefix}")


def torch_build() -> Iterator[Finding]:
    """torch, and the accelerators that it sees."""
    try:
        import torch
    except Exception as error:
        fix = f"Reinstall torch for this machine; {_TORCH_INDEX} has the command."
        yield Finding("torch", "broken", f"cannot be imported: {_line(error)}", fix)
        return
    yield Finding("torch", "ok", f"{torch.__version__}, built for {_target(torch)}")
    yield from _accelerators(torch)


def torchvision() -> Iterator[Finding]:
    """Whether an installed torchvision fits torch: one that does not breaks lightning, peft and others at import."""
    mine = version("torchvision")
    if not mine:
        return
    wanted, torch = _required_torch("torchvision"), version("torch")
    fix = (
        f"It breaks `import lightning`. Either: pip uninstall torchvision (dpoframe does not need it), "
        f"or install the build that belongs to torch {torch}; {_TORCH_INDEX} has the command."
    )
    if wanted and wanted != _public(torch):
        yield Finding("torchvision", "broken", f"{mine} is made for torch {wanted}, but torch {torch} is installed", fix)
        return
    error = _import_error("torchvision")
    yield (
        Finding("torchvision", "broken", f"{mine} cannot be imported: {error}", fix)
        if error
        else Finding("torchvision", "ok", mine)
    )


def lightning() -> Iterator[Finding]:
    """Whether lightning is there, and not one of the versions with malware."""
    for name in ("lightning", "pytorch-lightning"):
        mine = version(name)
        if mine in MALICIOUS:
            fix = f'Run: pip install "{name}!=2.6.2,!=2.6.3". Then change every password and token this machine holds.'
            yield Finding(name, "broken", f"{mine} was published by an attacker and steals credentials", fix)
        elif mine:
            yield Finding(name, "ok", mine)
        elif name == "lightning":
            yield Finding(name, "broken", "not installed", "Run: pip install lightning")


def processor() -> Iterator[Finding]:
    """Cores, threads, and how busy the machine is."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = _threads()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    found = f"{cores} cores, {threads} threads for torch, load {load:.1f}"
    if threads > cores:
        yield Finding("processor", "warning", found, f"More threads than cores slow torch down: set OMP_NUM_THREADS={cores}.")
    elif load > 0.75 * cores and threads > 1:
        fix = "Other work keeps the cores busy; one thread is then often faster: set trainer.threads: 1 or OMP_NUM_THREADS=1."
        yield Finding("processor", "warning", found, fix)
    else:
        yield Finding("processor", "ok", found)


def plugins() -> Iterator[Finding]:
    """Every installed plugin, and names that two of them supply."""
    from dpoframe.plugins import host
    from dpoframe.plugins.kinds import SINGULARS

    try:
        found = host()
    except Exception as error:
        yield Finding("plugins", "broken", f"the plugin host does not start: {_line(error)}", "Reinstall dpoframe.")
        return
    for plugin in found.plugins:
        origin = f"{plugin.distribution} {plugin.version}".strip()
        if plugin.status == "broken":
            fix = f"Mend, update or uninstall {plugin.distribution or plugin.name}; dpoframe runs without it."
            yield Finding(f"plugin {plugin.name}", "warning", f"{origin}: {plugin.error}", fix)
        else:
            yield Finding(f"plugin {plugin.name}", "ok" if plugin.status == "loaded" else "note", f"{origin}, {plugin.status}")
    for (kind, name), rivals in found.clashes().items():
        who = ", ".join(plugin.name for plugin in rivals)
        fix = f"Set one aside: DPOFRAME_DISABLE_PLUGINS={rivals[-1].name}"
        yield Finding(f"{SINGULARS[kind]} {name}", "warning", f"is supplied by {who}; a recipe cannot name it", fix)


def disk() -> Iterator[Finding]:
    """Room for runs and for the cache."""
    from platformdirs import user_cache_path

    for what, folder in (("disk here", Path.cwd()), ("disk of the cache", user_cache_path("dpoframe"))):
        existing = next(place for place in (folder, *folder.parents) if place.exists())
        free = shutil.disk_usage(existing).free / _GIB
        found = f"{free:.1f} GiB free in {existing}"
        if not os.access(existing, os.W_OK):
            yield Finding(
                what, "warning", f"{existing} cannot be written", "Run in another folder, give --out, or set XDG_CACHE_HOME."
            )
        elif free < _COMFORTABLE:
            status: Literal["broken", "warning"] = "broken" if free < _NEEDED else "warning"
            yield Finding(what, status, found, "Make room: a small model with its checkpoints takes 1 to 5 GiB.")
        else:
            yield Finding(what, "ok", found)


def extras() -> Iterator[Finding]:
    """Libraries that some parts need."""
    for module, extra, use in (("datasets", "datasets", "Hugging Face data sets"), ("wandb", "wandb", "the wandb reporter")):
        if importlib.util.find_spec(module) is None:
            yield Finding(module, "note", "not installed", f'For {use}: pip install "dpoframe[{extra}]"')
        else:
            yield Finding(module, "ok", version(module))


def _accelerators(torch: Any) -> Iterator[Finding]:
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(index)
            yield Finding(f"gpu {index}", "ok", f"{facts.name}, {facts.total_memory / _GIB:.0f} GiB")
    elif torch.backends.mps.is_available():
        yield Finding("gpu", "ok", "Apple's, through mps")
    elif shutil.which("nvidia-smi"):
        fix = f"torch {torch.__version__} cannot use it; {_TORCH_INDEX} has the command for a build that can."
        yield Finding("gpu", "warning", "an NVIDIA driver is there, but torch sees no GPU", fix)
    else:
        yield Finding("gpu", "note", "none; models run on the processor")


def _target(torch: Any) -> str:
    if torch.version.hip:
        return f"ROCm {torch.version.hip}"
    return f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"


def _threads() -> int:
    try:
        import torch
    except Exception:
        return 0
    return torch.get_num_threads()


def _required_torch(distribution: str) -> str:
    """The exact torch version that an installed distribution asks for, empty where it asks for none."""
    pattern = re.compile(r"torch\s*\(?==\s*([0-9][0-9.]*)")
    found = (pattern.match(line) for line in metadata.requires(distribution) or [])
    return next((match.group(1) for match in found if match), "")


def _public(text: str) -> str:
    """A version without its local part: 2.13.0 of 2.13.0+cpu."""
    return text.partition("+")[0]


def _import_error(module: str) -> str:
    """Why a module cannot be imported, tried in a process of its own; empty where it can."""
    try:
        done = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return _line(error)
    lines = done.stderr.strip().splitlines()
    return (lines[-1] if lines else f"exit code {done.returncode}") if done.returncode else ""


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0]
