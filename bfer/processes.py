"""The process tree as /proc shows it, to begin with what runs already."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybpf.maps import Map

_PROC = "/proc"
_ROUNDS = 10


def exists(pid: int, proc: str = _PROC) -> bool:
    return os.path.isdir(f"{proc}/{pid}")


def parents(proc: str = _PROC) -> dict[int, int]:
    """Parent by process id, of all processes that run now."""
    found = {}
    for name in os.listdir(proc):
        if not name.isdigit():
            continue
        try:
            with open(f"{proc}/{name}/stat", "rb") as file:
                # The name in parentheses may hold anything, parentheses too.
                found[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):  # it has just ended
            continue
    return found


def inherited(roots: dict[int, bool], parents: dict[int, int]) -> dict[int, bool]:
    """The verdict on each root and each descendant: that of the nearest root above it."""
    verdicts = dict(roots)
    for pid in parents:
        chain = []
        at = pid
        while at not in verdicts and at in parents and at not in chain:
            chain.append(at)
            at = parents[at]
        if at in verdicts:
            for member in chain:
                verdicts[member] = verdicts[at]
    return verdicts


def seed(tree: Map, roots: dict[int, bool], proc: str = _PROC) -> None:
    """Put ``roots`` and their descendants into the map, while forks add to it from the kernel.

    Looks again until nothing new is found: a process that forked before its own
    entry was made has children that nobody entered.
    """
    entered: dict[int, bool] = {}
    for _ in range(_ROUNDS):
        verdicts = inherited(roots, parents(proc))
        fresh = {pid: verdict for pid, verdict in verdicts.items() if pid not in entered}
        if not fresh:
            break
        for pid, verdict in fresh.items():
            tree.update(_key(pid), _key(verdict))
        entered.update(fresh)
    for pid in entered:
        # It may have ended before its entry was made, so that nobody removes it; the number will be used again.
        if not exists(pid, proc):
            tree.delete(_key(pid))


def _key(value: int) -> bytes:
    from sys import byteorder

    return value.to_bytes(4, byteorder)
