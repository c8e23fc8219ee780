"""What a machine can do: published figures of accelerators, numbers that are given, and this machine, measured."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from typing import Literal

from dpoframe.errors import ConfigError, suggestion
from dpoframe.planning.process import machine_memory

Grade = Literal["float32", "half"]
"""Whether matrix products are formed in float32 or in 16 bits."""

HERE = "this machine"
_TERA, _GIGA, _GIB = 1e12, 1e9, 2**30
# Three runs of benchmarks/plan.py reached 41, 46 and 67 % of a CPU's measured peak; on a GPU nothing was measured.
_GPU_UTILISATION, _CPU_UTILISATION = 0.35, 0.45
_NUMBERS = re.compile(r"(?P<peak>[\d.eE+]+)\s*(?P<tera>[tTgG]?)\s*:\s*(?P<memory>[\d.eE+]+)\s*(?P<giga>[gG]?)")
# On a CPU short enough to be done between two others that share the processor, on a GPU long enough to fill it.
_SIDES = {"cpu": 512, "cuda": 4096}


@dataclass(frozen=True)
class Hardware:
    """One device.

    Attributes:
        name: What it is called.
        float32: Most floating-point operations a second of matrix products in float32, without sparsity and without TF32.
        half: The same in bfloat16 (float16 where it has none), sums in float32.
        memory: Bytes.
        utilisation: The share of the peak that training is assumed to reach.
        gpu: Whether it is one.
        source: Where its figures are from: published by the maker, given by the user, or measured here.
    """

    name: str
    float32: float
    half: float
    memory: float
    utilisation: float = _GPU_UTILISATION
    gpu: bool = True
    source: Literal["published", "given", "measured"] = "published"

    def peak(self, grade: Grade) -> float:
        """Operations a second at most."""
        return self.float32 if grade == "float32" else self.half


def _published(float32: float, half: float, gigabytes: float) -> tuple[float, float, float]:
    return float32 * _TERA, half * _TERA, gigabytes * _GIGA


# Peak TFLOP/s in float32 and in 16 bits (dense), and memory in GB, as the makers' data sheets give them.
PUBLISHED: dict[str, Hardware] = {
    name: Hardware(name, *_published(*figures))
    for name, figures in {
        "a10": (31.2, 125.0, 24),
        "a100-40gb": (19.5, 312.0, 40),
        "a100-80gb": (19.5, 312.0, 80),
        "h100-pcie": (51.0, 756.0, 80),
        "h100-sxm": (67.0, 989.0, 80),
        "h200-sxm": (67.0, 989.0, 141),
        "l4": (30.3, 121.0, 24),
        "l40s": (91.6, 362.0, 48),
        "mi300x": (163.4, 1307.4, 192),
        "rtx-3090": (35.6, 71.0, 24),
        "rtx-4090": (82.6, 165.2, 24),
        "t4": (8.1, 65.0, 16),
        "v100-32gb": (15.7, 125.0, 32),
    }.items()
}
_SHORT = {"a100": "a100-80gb", "h100": "h100-sxm", "h200": "h200-sxm", "v100": "v100-32gb"}


def find_hardware(given: str, utilisation: float | None = None, threads: int | None = None) -> Hardware:
    """The device of a name of `PUBLISHED`, of numbers as in `312T:80G` (operations a second, bytes), or `this machine`.

    Args:
        given: The name or the numbers; empty for this machine.
        utilisation: In place of the share of the peak that is assumed otherwise.
        threads: Of torch, where this machine is measured; None for torch's own choice.

    Raises:
        ConfigError: there is no such device, or a number is none.
    """
    if utilisation is not None and not 0 < utilisation <= 1:
        raise ConfigError(f"The utilisation is {utilisation:g}; it must be above 0 and at most 1, such as 0.4.")
    name = re.sub(r"[\s_]+", "-", given.strip().lower())
    if name in ("", "this-machine"):
        found = this_machine(threads)
    elif match := _NUMBERS.fullmatch(given.strip()):
        found = _from_numbers(given, match)
    elif (name := _SHORT.get(name, name)) in PUBLISHED:
        found = PUBLISHED[name]
    else:
        known = ["this-machine", *PUBLISHED, *_SHORT]
        raise ConfigError(
            f"The hardware {given!r} is not known. {suggestion(name, known)} Known are {', '.join(sorted(known))}; or give numbers "
            "as in 312T:80G, operations a second and bytes.".replace("  ", " ")
        )
    return found if utilisation is None else replace(found, utilisation=utilisation)


def _from_numbers(given: str, match: re.Match[str]) -> Hardware:
    try:
        peak, memory = float(match["peak"]), float(match["memory"])
    except ValueError as error:
        raise ConfigError(f"The hardware {given!r} is no pair of numbers, such as 312T:80G.") from error
    peak *= {"t": _TERA, "g": _GIGA}.get(match["tera"].lower(), 1.0)
    memory *= _GIGA if match["giga"] else 1.0
    if not 0 < peak < 1e19 or not 0 < memory < 1e16:
        raise ConfigError(f"The hardware {given!r} must have a speed and a memory above 0, such as 312T:80G.")
    return Hardware(given.strip(), peak, peak, memory, source="given")


def this_machine(threads: int | None = None) -> Hardware:
    """The first GPU where there is one, else the CPU: its speed measured by products of matrices, which takes a second."""
    import torch

    if torch.cuda.is_available():
        memory, device, utilisation = float(torch.cuda.get_device_properties(0).total_memory), "cuda", _GPU_UTILISATION
        name = torch.cuda.get_device_name(0)
    else:
        memory, device, utilisation = machine_memory(), "cpu", _CPU_UTILISATION
        name = "CPU"
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        float32, half = (_speed(device, kind) for kind in (torch.float32, torch.bfloat16))
        name += "" if device == "cuda" else f", {torch.get_num_threads()} threads"
    finally:
        torch.set_num_threads(before)
    return Hardware(f"{HERE} ({name})", float32, half, memory, utilisation, device == "cuda", "measured")


def _speed(device: str, kind: object, least: float = 0.3) -> float:
    """Operations a second of a product of square matrices: the quickest of some in `least` seconds, after a first one."""
    import torch

    side = _SIDES[device]
    one = torch.ones(side, side, device=device, dtype=kind)  # type: ignore[call-overload]
    best, spent, warm = float("inf"), 0.0, False
    while spent < least:
        begun = time.perf_counter()
        one @ one
        if device == "cuda":
            torch.cuda.synchronize()
        took = time.perf_counter() - begun
        best, spent, warm = (min(best, took) if warm else best), spent + took, True
        if best == float("inf"):
            spent = 0.0
    return float(2 * side**3 / best)
