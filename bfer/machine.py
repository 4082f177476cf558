"""How much this machine has."""

from __future__ import annotations

_SMALL, _LARGE = 128 << 20, 2 << 30
_MEMINFO = "/proc/meminfo"
_total: int | None = None  # this machine's memory: each hook asks, and it does not grow


def is_small(path: str = _MEMINFO) -> bool:
    """Has it 128 MB of memory at most? A machine that does not tell counts as one."""
    return _memory(path) <= _SMALL


def is_large(path: str = _MEMINFO) -> bool:
    """Has it 2 GB of memory or more?"""
    return _memory(path) >= _LARGE


def tidy() -> None:
    """Free what only refers to itself, before more memory is asked for; where it is little, this is worth the time."""
    if is_small():
        import gc

        gc.collect()


def _memory(path: str) -> int:
    """In bytes, 0 where that is not told."""
    global _total
    if path != _MEMINFO:
        return _read(path)
    if _total is None:
        _total = _read(path)
    return _total


def _read(path: str) -> int:
    try:
        with open(path, "rb") as file:
            return int(file.readline().split()[1]) << 10
    except (OSError, IndexError, ValueError):
        return 0
