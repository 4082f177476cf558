"""Probes as named events in tracefs, for kernels whose perf has no probe events of its own.

Such an event is not tied to a descriptor: closing its link removes it, or a janitor (a
shell) if this process is killed. It also carries its maker's process id and start time in
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
from pybpf.links.janitor import Janitor, ShellJanitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybpf.program import Program

_GROUP = "pybpf_"
FILES = ("kprobe_events", "uprobe_events")
# For how long a janitor tries, and how long it waits in between, in seconds.
_PATIENCE, _PAUSE = 10.0, 0.1
# The same by a shell: its arguments are the group, how often to try, and the files. The names are read before any is
# removed, since the kernel counts its place in a list that gets shorter. What the dying process still holds is EBUSY.
_SCRIPT = r"""
group=$1 tries=$2 pause=:
shift 2
rest() {
    sleep 0.1 || { sleep 1; tries=$((tries - 9)); }
    tries=$((tries - 1))
}
while :; do
    left=
    for file; do
        found=
        while read -r event place; do
            case $event in *:"$group"/*) found="$found ${event#*:}" ;; esac
        done <"$file"
        case $found in '') continue ;; esac
        left=1
        $pause
        for event in $found; do echo "-:$event" >>"$file"; done
    done
    case $left in '') exit ;; esac
    case $tries in 0 | -*) exit ;; esac
    pause=rest
done
"""
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
    """The events of this process: how many guards there are, and who removes the events if it is killed."""

    def __init__(self) -> None:
        self.count = 0
        self.owner = 0
        self.janitor: Janitor | None = None

    def add(self, fork: bool) -> None:
        """One more guard. Raises LinkError if there is to be a janitor and cannot."""
        if self.owner != os.getpid():  # a forked process has a copy of what its parent counts
            if self.janitor is not None:
                self.janitor.dismiss()
            self.count, self.owner, self.janitor = 0, os.getpid(), None
        if self.janitor is None:
            self.janitor = _janitor(fork)
        self.count += 1

    def drop(self) -> None:
        if self.owner != os.getpid():
            return
        self.count -= 1
        if not self.count and self.janitor is not None:
            self.janitor.dismiss()
            self.janitor = None


_probes = _Probes()


class Guard:
    """Until it is closed there is a process that removes this one's events if it is killed.

    Every event holds one. Whoever holds one before the first program is attached, and until the last one is detached,
    has that process's own doings seen by none. It is a shell; where there is none, a ``fork`` of this process, or
    without that nothing, until the next process makes an event. Raises LinkError.
    """

    def __init__(self, fork: bool = True) -> None:
        _probes.add(fork)
        self._closed = False

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            _probes.drop()


def _janitor(fork: bool) -> Janitor | None:
    root = tracefs.root()
    files = [path for file in FILES if os.access(path := f"{root}/{file}", os.F_OK)]
    if not files:
        return None
    try:
        return ShellJanitor(_SCRIPT, _group(), str(round(_PATIENCE / _PAUSE)), *files)
    except (OSError, NotImplementedError):  # no shell, or a C library that starts none as it should be
        pass
    try:
        return Janitor(partial(_sweep_after, os.getpid(), start_time("self"))) if fork else None
    except OSError as error:
        raise kernel.failure(LinkError, "fork", "a janitor of events in tracefs", error.errno or 0) from None


def _sweep_after(pid: int, started: str) -> None:
    """The maker was killed: its events can go when it is gone as a whole, and its descriptors with it."""
    for _ in range(round(_PATIENCE / _PAUSE)):
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
    fork: bool = True,
) -> EventLink:
    """Make an event at ``place``, as the file wants it written, and put ``program`` on it. Raises LinkError.

    ``maxactive`` is how many calls the kernel remembers until they return, 0 for what it thinks right. ``fork`` is
    as for Guard.
    """
    global _number
    if file not in _swept:
        sweep(file)
        _swept.add(file)
    _number += 1
    group, name = _group(), f"e{_number}"
    kind = f"r{maxactive or ''}" if returns else "p"
    event = f"{group}/{name}"
    guard = Guard(fork)

    def after() -> None:
        try:
            remove(file, event)
        finally:
            guard.close()

    try:
        _write(file, f"{kind}:{event} {place}\n", what)
    except BaseException:
        guard.close()
        raise
    try:
        number = tracefs.event_id(group, name)
        perf = commands.perf_event_open(abi.PERF_TYPE_TRACEPOINT, number, pid, 0 if pid < 0 else -1, what)
    except BaseException:
        after()
        raise
    return attach_event(program, perf, what, cookie, file, after)
