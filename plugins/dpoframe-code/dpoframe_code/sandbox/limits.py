"""What one program may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dpoframe import ConfigError, Fault

_DAY = 86_400
_MOST_BYTES = 1 << 50
# The interpreter needs 64 MiB. More than days is more than poll() can wait for.
_RANGES: dict[str, tuple[float, int, bool]] = {
    "cpu_seconds": (1, _DAY, False),
    "wall_seconds": (0.001, 5 * _DAY, True),
    "memory_bytes": (64 << 20, _MOST_BYTES, False),
    "output_bytes": (1, _MOST_BYTES, False),
    "flood_bytes": (1, _MOST_BYTES, False),
}


@dataclass(frozen=True)
class Limits:
    """Limits of one program: its loading and all of its calls together.

    Args:
        cpu_seconds: Processor time, in whole seconds (the kernel counts no finer). This is the time limit: it does not
            depend on what else the machine does.
        wall_seconds: Time by the clock; None is 5 times `cpu_seconds`. A backstop against programs that sleep.
        memory_bytes: Address space of the process, the interpreter's own (about 40 MB) included.
        output_bytes: How much of standard output and error is kept. What comes after is read and dropped.
        flood_bytes: Standard output and error at which the program is ended.
    """

    cpu_seconds: int = 5
    wall_seconds: float | None = None
    memory_bytes: int = 512 << 20
    output_bytes: int = 64 << 10
    flood_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        faults = [
            Fault(name, f"{getattr(self, name)!r} is not a {'number' if part else 'whole number'} from {least} to {most}.")
            for name, (least, most, part) in _RANGES.items()
            if not _within(getattr(self, name), least, most, part=part)
        ]
        if faults:
            raise ConfigError("The limits of a sandbox:", faults)

    @property
    def wall(self) -> float:
        """Seconds by the clock."""
        return 5.0 * self.cpu_seconds if self.wall_seconds is None else self.wall_seconds


def _within(value: Any, least: float, most: float, *, part: bool) -> bool:
    """Whether a limit is a number in its range, whole unless `part`; None stands for a default where a part may stand."""
    if value is None:
        return part
    number = isinstance(value, int | float if part else int) and not isinstance(value, bool)
    return number and least <= value <= most
