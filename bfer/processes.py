"""The process tree as /proc shows it, to begin with what runs already."""

from __future__ import annotations

import os
from sys import byteorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from bfer.pidns import OwnNumbers
    from bfer.policy import Choice
    from pybpf.maps import Map

_PROC = "/proc"
_DELETED = b" (deleted)"
_MARK_SHIFT = 1  # programs.records.MEMBER_SHIFT
_ROUNDS = 10


def exists(pid: int, proc: str = _PROC) -> bool:
    return os.path.isdir(f"{proc}/{pid}")


def table(proc: str = _PROC) -> dict[int, tuple[int, int]]:
    """Parent and start (clock ticks since boot) by process id, of all processes that run now."""
    found = {}
    for pid in _pids(proc):
        try:
            with open(f"{proc}/{pid}/stat", "rb") as file:
                # The name in parentheses may hold anything, parentheses too.
                fields = file.read().rpartition(b")")[2].split()
            found[pid] = (int(fields[1]), int(fields[19]))
        except (OSError, IndexError, ValueError):  # it has just ended
            continue
    return found


def _pids(proc: str) -> list[int]:
    return [int(name) for name in os.listdir(proc) if name.isdigit()]


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


class Members:
    """The programs' map of processes, by the numbers that /proc shows."""

    __slots__ = ("_map", "_numbers")

    def __init__(self, map: Map, numbers: OwnNumbers | None) -> None:
        """``numbers`` translates, where this is not the first pid namespace."""
        self._map = map
        self._numbers = numbers

    def refresh(self) -> None:
        """There are new processes."""
        if self._numbers is not None:
            self._numbers.refresh()

    def _key(self, pid: int) -> bytes:
        host = pid if self._numbers is None else self._numbers.host(pid)
        return host.to_bytes(4, byteorder)

    def enter(self, pid: int, verdict: bool) -> None:
        key = self._key(pid)
        if any(key) and not self._is_known(key):
            self._map.update(key, int(verdict).to_bytes(8, byteorder))

    def leave(self, pid: int) -> None:
        key = self._key(pid)
        if not self._is_known(key):
            self._map.delete(key)

    def _is_known(self, key: bytes) -> bool:
        """Was the entry made by a program, at fork or exec? Then it is right, and ours would be late."""
        value = self._map.lookup(key)
        return value is not None and int.from_bytes(value, byteorder) >> _MARK_SHIFT != 0

    def drop_ended(self, entered: Iterable[int], proc: str) -> None:
        """Take out those that ended before they were entered, so that nobody will."""
        for pid in entered:
            if not exists(pid, proc):
                self.leave(pid)


def seed(tree: Map, roots: dict[int, bool], numbers: OwnNumbers | None = None, proc: str = _PROC) -> None:
    """Put ``roots`` and their descendants into the map, while the programs at fork and exit keep it.

    Looks again until nothing new is found: a process that forked before its own
    entry was made has children that nobody entered.
    """
    members = Members(tree, numbers)
    entered: dict[int, tuple[int, bool]] = {}
    for _ in range(_ROUNDS):
        running = table(proc)
        verdicts = inherited(roots, {pid: parent for pid, (parent, _) in running.items()})
        found = {pid: (running[pid][1] if pid in running else 0, verdict) for pid, verdict in verdicts.items()}
        fresh = {pid: what for pid, what in found.items() if entered.get(pid) != what}
        if not fresh:
            break
        members.refresh()
        for pid, (_, verdict) in fresh.items():
            members.enter(pid, verdict)
        entered.update(fresh)
    members.drop_ended(entered, proc)


def seed_binaries(binaries: Map, choice: Choice, numbers: OwnNumbers | None = None, proc: str = _PROC) -> None:
    """Enter the processes that run a file other than what ``choice`` takes for granted, while programs keep the map.

    Looks again until nothing changed: what a process runs may be another file when it has been entered.
    """
    from bfer.residual import path_test

    wanted = path_test(choice, False)
    default = not choice.wanted
    members = Members(binaries, numbers)
    seen: dict[int, bytes] = {}
    for _ in range(_ROUNDS):
        fresh = {pid: path for pid in _pids(proc) if (path := executable(pid, proc)) != seen.get(pid, b"")}
        if not fresh:
            break
        members.refresh()
        for pid, path in fresh.items():
            verdict = wanted(path)
            if verdict != default:
                members.enter(pid, verdict)
            else:
                members.leave(pid)
        seen.update(fresh)
    members.drop_ended(seen, proc)


def executable(pid: int, proc: str = _PROC) -> bytes:
    """Path of the file that a process runs; empty where there is none, as in kernel threads."""
    link = f"{proc}/{pid}/exe"
    try:
        path = os.readlink(link.encode())
        if path.endswith(_DELETED) and not os.stat(link).st_nlink:
            path = path[: -len(_DELETED)]
    except OSError:
        return b""
    return path
