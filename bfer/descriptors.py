"""What file descriptors stand for, as /proc shows it (option:parse-arguments-fds).

It is looked up when the event is read, milliseconds after it happened: what was closed
or whose process has ended by then has no name, and its number stays alone.
"""

from __future__ import annotations

import os

from bfer import values
from bfer.values import Named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.catalogue import Arg, Event
    from bfer.records import Block

_KINDS = ("fd", "dirfd")
_INITIAL_PID_NS = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h


class Descriptors:
    """``proc`` must be a /proc of our own pid namespace, or of the initial one if that is ours."""

    __slots__ = ("_namespace", "_proc")

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc
        try:
            self._namespace = os.stat(f"{proc}/self/ns/pid").st_ino
        except OSError:
            self._namespace = 0

    def concern(self, event: Event) -> bool:
        """Has the event an argument that may have a name here?"""
        return any(self._is_one(event, arg) for arg in event.args)

    def _is_one(self, event: Event, arg: Arg) -> bool:
        # What has been closed may be another file by now.
        return arg.kind in _KINDS and not arg.memory and event.name != "close"

    def name(self, block: Block, event: Event, arg: Arg, raw: int) -> Named | None:
        """``3=/etc/passwd``, None where nothing is known of it."""
        if not self._is_one(event, arg):
            return None
        number = values.number(arg, raw)
        if number < 0:
            return None
        if block.pid_ns == self._namespace:
            pid, tid = block.pid, block.tid
        elif self._namespace == _INITIAL_PID_NS:
            pid, tid = block.host_pid, block.host_tid
        else:
            return None
        try:
            target = os.readlink(f"{self._proc}/{pid}/task/{tid}/fd/{number}".encode())
        except OSError:
            return None
        return Named(b"%d=%s" % (number, target))
