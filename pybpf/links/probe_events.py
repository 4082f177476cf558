"""Probes as named events in tracefs, for kernels whose perf has no probe events of its own.

Such an event is not tied to a descriptor: closing its link removes it, or a janitor
if this process is killed. It also carries its maker's process id and start time in
its name, so that whoever makes the next one removes what even that left.
"""

from __future__ import annotations

import os
from errno import EBUSY, ENOENT
from functools import partial
from time import sleep

from pybpf import abi, commands, kernel, tracefs
from pybpf.errors import LinkError
from pybpf.links.events import EventLink, attach_event
from pybpf.links.janitor import Janitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybpf.program import Program

_GROUP = "pybpf_"
FILES = ("kprobe_events", "uprobe_events")
_PATIENCE, _PAUSE = 200, 0.05  # how often a janitor looks, and how long it waits in between (seconds)
_number = 0
_swept: set[str] = set()


def start_time(pid: int | str) -> str:
    """When a process started, in ticks since boot; the empty string if there is none, or a dead one."""
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:
            # The second field is the command's name in brackets, which may hold anything.
            fields = file.read().rpartition(")")[2].split()
        return fields[19] if fields[0] not in "ZX" else ""
    except (OSError, IndexError):
        return ""


def _group() -> str:
    return f"{_GROUP}{os.getpid()}_{start_time('self')}"


def _write(file: str, command: str, what: str) -> None:
    path = f"{tracefs.root()}/{file}"
    try:
        # Never O_TRUNC: that would remove everybody's probes.
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(fd, command.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise kernel.failure(LinkError, f"write of {command.strip()!r} to {path}", what, error.errno or 0) from None


def remove(file: str, event: str) -> None:
    """Remove event ``GROUP/NAME`` of ``kprobe_events`` or ``uprobe_events``; one that is gone is no error."""
    try:
        _write(file, f"-:{event}\n", event)
    except LinkError as error:
        if error.errno not in (ENOENT, EBUSY):  # EBUSY: somebody else records it by now
            raise


def sweep(file: str) -> list[str]:
    """Remove the events whose makers are dead; gives their names. Raises LinkError."""
    left = []
    try:
        with open(f"{tracefs.root()}/{file}", errors="replace") as events:
            for line in events:
                # p:GROUP/NAME PLACE, r16:GROUP/NAME PLACE
                event = line.split(None, 1)[0].partition(":")[2]
                if event.startswith(_GROUP):
                    pid, _, started = event.partition("/")[0][len(_GROUP) :].partition("_")
                    if start_time(pid) != started:
                        left.append(event)
    except OSError as error:
        raise LinkError(f"this kernel has no {file} in tracefs: {error.strerror}", error.errno or ENOENT) from None
    for event in left:
        remove(file, event)
    return left


def _left(file: str) -> list[str]:
    try:
        return sweep(file)
    except LinkError:  # a kernel may have one of the files only
        return []


class _Probes:
    """The events of this process: how many there are, and who removes them if it is killed."""

    def __init__(self) -> None:
        self.count = 0
        self.janitor: Janitor | None = None

    def add(self) -> None:
        if not self.count:
            self.janitor = Janitor(partial(_sweep_after, os.getpid(), start_time("self")))
        self.count += 1

    def drop(self) -> None:
        self.count -= 1
        if not self.count and self.janitor is not None:
            self.janitor.dismiss()
            self.janitor = None


_probes = _Probes()


def _sweep_after(pid: int, started: str) -> None:
    """The maker was killed: its events can go when it is gone as a whole, and its descriptors with it."""
    for _ in range(_PATIENCE):
        if start_time(pid) != started and not any(_left(file) for file in FILES):
            return
        sleep(_PAUSE)


def attach(
    program: Program,
    file: str,
    place: str,
    returns: bool,
    pid: int,
    what: str,
    cookie: int = 0,
    maxactive: int = 0,
    janitor: bool = True,
) -> EventLink:
    """Make an event at ``place``, as the file wants it written, and put ``program`` on it. Raises LinkError.

    ``maxactive`` is how many calls the kernel remembers until they return, 0 for what it thinks right. Without
    a ``janitor`` the next process that makes an event removes what is left if this one is killed.
    """
    global _number
    if file not in _swept:
        sweep(file)
        _swept.add(file)
    _number += 1
    group, name = _group(), f"e{_number}"
    kind = f"r{maxactive or ''}" if returns else "p"
    event = f"{group}/{name}"
    if janitor:
        _probes.add()

    def after() -> None:
        try:
            remove(file, event)
        finally:
            if janitor:
                _probes.drop()

    try:
        _write(file, f"{kind}:{event} {place}\n", what)
    except BaseException:
        if janitor:
            _probes.drop()
        raise
    try:
        number = tracefs.event_id(group, name)
        perf = commands.perf_event_open(abi.PERF_TYPE_TRACEPOINT, number, pid, 0 if pid < 0 else -1, what)
    except BaseException:
        after()
        raise
    return attach_event(program, perf, what, cookie, file, after)
