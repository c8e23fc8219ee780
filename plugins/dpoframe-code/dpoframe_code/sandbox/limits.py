"""What one program may use."""

from __future__ import annotations

from dataclasses import dataclass

from dpoframe import ConfigError, Fault

_SMALLEST_MEMORY = 64 << 20


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
            Fault(name, f"{value!r} is not above 0.") for name, value in vars(self).items() if value is not None and not value > 0
        ]
        if self.cpu_seconds != int(self.cpu_seconds):
            faults.append(Fault("cpu_seconds", f"{self.cpu_seconds!r} is not a whole number of seconds."))
        if 0 < self.memory_bytes < _SMALLEST_MEMORY:
            faults.append(Fault("memory_bytes", f"{self.memory_bytes} is too small for the interpreter; 67108864 is the least."))
        if faults:
            raise ConfigError("The limits of a sandbox:", faults)

    @property
    def wall(self) -> float:
        """Seconds by the clock."""
        return 5.0 * self.cpu_seconds if self.wall_seconds is None else self.wall_seconds
