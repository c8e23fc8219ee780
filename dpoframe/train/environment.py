"""What a run was made with: versions, plugins, machine, commit. No environment variable is copied, so no secret can be."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch

import dpoframe
from dpoframe.plugins import Plugin

LIBRARIES = (
    "torch", "lightning", "transformers", "peft", "diffusers", "datasets", "safetensors", "bitsandbytes", "numpy", "scipy"
)  # fmt: skip


def environment(plugins: Sequence[Plugin], seed: int) -> dict[str, Any]:
    """The content of environment.json.

    Args:
        plugins: All plugins of the process.
        seed: The run's seed, from which every other one follows.
    """
    installed = {found.metadata["Name"]: found.version for found in distributions() if found.metadata and found.metadata["Name"]}
    return {
        "dpoframe": dpoframe.__version__,
        "python": platform.python_version(),
        "versions": {name: installed[name] for name in LIBRARIES if name in installed},
        "plugins": [described(plugin) for plugin in plugins],
        "git": git_commit(Path.cwd()),
        "seed": seed,
        "command": Path(sys.argv[0]).name,
        "hardware": hardware(),
    }


def described(plugin: Plugin) -> dict[str, str]:
    """A plugin with where it came from."""
    return {"name": plugin.name, "distribution": plugin.distribution, "version": plugin.version, "status": plugin.status}


def hardware() -> dict[str, Any]:
    """Processor, threads and accelerators."""
    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "gpus": [{"name": gpu.name, "memory_gib": round(gpu.total_memory / 2**30, 1)} for gpu in gpus],
    }


def git_commit(folder: Path) -> dict[str, Any] | None:
    """Commit of the checkout that holds `folder`, and whether files differ from it; None outside one."""
    git = shutil.which("git")
    if git is None:
        return None

    def ask(*words: str) -> str | None:
        # A checkout may name a program that git is to ask about changed files.
        done = subprocess.run(
            [git, "-c", "core.fsmonitor=false", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        commit = ask("rev-parse", "HEAD")
        return {"commit": commit, "changed": bool(ask("status", "--porcelain", "--untracked-files=no"))} if commit else None
    except (OSError, subprocess.TimeoutExpired):
        return None
