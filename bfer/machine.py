"""How much this machine has."""

from __future__ import annotations

_SMALL = 128 << 20


def is_small(path: str = "/proc/meminfo") -> bool:
    """Has it 128 MB of memory at most? A machine that does not tell counts as one."""
    try:
        with open(path, "rb") as file:
            return int(file.readline().split()[1]) << 10 <= _SMALL
    except (OSError, IndexError, ValueError):
        return True
