"""The locks a program runs under."""

from __future__ import annotations

import enum


class Tier(enum.StrEnum):
    """Sets of locks, strongest first. There is no third: without one of these nothing runs."""

    NAMESPACES = "bubblewrap+landlock+seccomp+rlimits"
    LANDLOCK = "landlock+seccomp+rlimits"

    @property
    def landlock_abi(self) -> int:
        """The Landlock version that this tier cannot do without.

        Version 3 (Linux 6.2) stops truncation. Version 6 (Linux 6.12) also stops TCP, signals and abstract sockets, which
        namespaces stop in the first tier.
        """
        return 3 if self is Tier.NAMESPACES else 6
