"""How much this machine has, and its name."""

from __future__ import annotations

import os

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


def own_node(key: bytes) -> bytes | None:
    """The nodename that this process sees, padded to 64 bytes, if it is what records mean by ``key`` (NODE_KEY)."""
    from bfer.records import NODE_KEY, node_id

    uts_ns, number = NODE_KEY.unpack(key)
    name = os.fsencode(os.uname().nodename).ljust(64, b"\0")
    try:
        return name if number == node_id(name) and uts_ns == os.stat("/proc/self/ns/uts").st_ino else None
    except OSError:
        return None
