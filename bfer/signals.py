"""Signals as something to wait for: each one makes a pipe readable, none interrupts anything half-way."""

from __future__ import annotations

# The module `signal` wraps this one in enumerations, which cost more than all of its work here.
import _signal  # type: ignore[import-not-found]
import os
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

SIGINT, SIGTERM, SIGHUP, SIGCHLD = _signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGCHLD
STOPS = (SIGINT, SIGTERM, SIGHUP)

SAME = 0.3
"""Seconds within which two signals count as one: timeout(1), for one, sends its signal twice."""


class Hurry(BaseException):
    """Another request to stop, while the first one is being followed: leave everything."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class Signals:
    """SIGINT, SIGTERM, SIGHUP (unless they were ignored when we started) and SIGCHLD, through ``fd``.

    After ``stop`` another stop signal raises Hurry wherever the program is: it
    may be stuck in a write that nobody reads. ``patient``: a command runs, whose
    end is waited for, so that a first signal does not stop us.
    """

    __slots__ = ("_before", "_stopped", "_write_fd", "fd", "patient")

    def __init__(self, patient: bool) -> None:
        self.patient = patient
        self._stopped: float | None = None
        self.fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before: list[tuple[int, Any]] = []
        _signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for signum in (*STOPS, SIGCHLD):
            before = _signal.getsignal(signum)
            if before != _signal.SIG_IGN or signum == SIGCHLD:
                self._before.append((signum, _signal.SIG_DFL if before is None else before))
                _signal.signal(signum, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if signum == SIGCHLD:
            return
        if self._stopped is not None and monotonic() - self._stopped > SAME:
            raise Hurry(signum)
        if not self.patient:
            self.stop()

    def stop(self) -> None:
        """The end has begun."""
        if self._stopped is None:
            self._stopped = monotonic()

    def take(self) -> list[int]:
        """The signals that came since the last call."""
        try:
            return list(os.read(self.fd, 256))
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Restore what was."""
        self._stopped = None
        _signal.set_wakeup_fd(-1)
        for signum, before in self._before:
            _signal.signal(signum, before)
        self._before = []
        for fd in (self.fd, self._write_fd):
            os.close(fd)

    def restore_in_child(self) -> None:
        """Give a forked child the dispositions that a program expects."""
        _signal.set_wakeup_fd(-1)
        for signum, before in self._before:
            _signal.signal(signum, _signal.SIG_IGN if before == _signal.SIG_IGN else _signal.SIG_DFL)
        for signum in (_signal.SIGPIPE, _signal.SIGXFSZ):  # Python ignores these for itself
            _signal.signal(signum, _signal.SIG_DFL)


def in_foreground() -> bool:
    """Does the terminal deliver its own signals to our process group (and to a command in it)?"""
    for fd in (0, 1, 2):
        try:
            return os.tcgetpgrp(fd) == os.getpgrp()
        except OSError:
            continue
    return False


def die_of(signum: int) -> int:
    """End this process by ``signum``, without a core file; returns a status only where that is impossible."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        _signal.signal(signum, _signal.SIG_DFL)
    except OSError:  # SIGKILL and SIGSTOP have no other disposition
        pass
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, {signum})
    os.kill(os.getpid(), signum)
    return 128 + signum
