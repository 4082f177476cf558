"""How much this machine has."""

from __future__ import annotations

_SMALL, _LARGE = 128 << 20, 2 << 30


def is_small(path: str = "/proc/meminfo") -> bool:
    """Has it 128 MB of memory at most? A machine that does not tell counts as one."""
    return _memory(path) <= _SMALL


def is_large(path: str = "/proc/meminfo") -> bool:
    """Has it 2 GB of memory or more?"""
    return _memory(path) >= _LARGE


def tidy() -> None:
    """Free what only refers to itself, before more memory is asked for; where it is little, this is worth the time."""
    if is_small():
        import gc

        gc.collect()


def _memory(path: str) -> int:
    """In bytes, 0 where that is not told."""
    try:
        with open(path, "rb") as file:
            return int(file.readline().split()[1]) << 10
    except (OSError, IndexError, ValueError):
        return 0
