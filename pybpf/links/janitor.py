"""A process that cleans up after this one, for what the kernel does not tie to a descriptor.

A tc filter, an XDP program set by netlink, a control group's old attachment or a
tracefs probe outlives a process that is killed. So a small process is forked beside
it, which waits for the pipe between them to break. It sees the end however
that comes about, SIGKILL included; only a kill of the whole control group takes it too.
"""

from __future__ import annotations

import gc
import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pybpf import kernel

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)


class Janitor:
    """Runs ``clean`` when this process ends before ``dismiss`` is called. ``keep`` are descriptors that it needs."""

    def __init__(self, clean: Callable[[], None], keep: tuple[int, ...] = ()) -> None:
        from pybpf import kernel

        reading, writing = os.pipe()
        # So that it is never without the one protection or the other.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)
        try:
            self._pid = os.fork()
            if not self._pid:
                try:
                    _wait_and_clean(reading, clean, keep)
                finally:
                    os._exit(0)
        except OSError:
            os.close(writing)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(reading)
        self._pipe: kernel.Fd = kernel.Fd(writing, "pipe of a janitor")
        self._owner = os.getpid()

    def dismiss(self) -> None:
        """There is nothing to clean up any more; the janitor ends. May be repeated."""
        if self._pipe.fd < 0:
            return
        try:
            # A process forked from this one has a copy of this object, but not the right to dismiss.
            if os.getpid() == self._owner:
                os.write(self._pipe.fd, b"x")
                os.waitpid(self._pid, 0)
        except (BrokenPipeError, ChildProcessError):
            pass  # it was killed, or somebody has waited for all children
        finally:
            self._pipe.close()


def _wait_and_clean(pipe: int, clean: Callable[[], None], keep: tuple[int, ...]) -> None:
    """In the new process."""
    # Objects that own descriptors would close numbers that mean something else by now.
    gc.disable()
    os.setsid()
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # Else it would keep alive what it is to clean up, and its neighbours' pipes open.
    last = -1
    for fd in sorted({pipe, *keep}):
        os.closerange(last + 1, fd)
        last = fd
    os.closerange(last + 1, _highest() + 1)
    if not os.read(pipe, 1):
        clean()


def _highest() -> int:
    try:
        return max((int(name) for name in os.listdir("/proc/self/fd")), default=256)
    except OSError:
        return int(os.sysconf("SC_OPEN_MAX"))
