"""A process that cleans up after this one, for what the kernel does not tie to a descriptor.

A tc filter, an XDP program set by netlink, a control group's old attachment or a
tracefs probe outlives a process that is killed. So a small process is started beside
it, which waits for the pipe between them to break. It sees the end however
that comes about, SIGKILL included; only a kill of the whole control group takes it too.

It is a fork of this process, or a shell where a shell's own commands can clean up: that has
a few hundred kB of memory of its own, however large this process is.
"""

from __future__ import annotations

# The module `signal` wraps this one in enumerations, which cost more than all of its work here.
import _signal as signal  # type: ignore[import-not-found]
import gc
import os
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pybpf import kernel

SHELL = "/bin/sh"
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)
# Signals are blocked until they are ignored. No folder is kept busy. A line that it writes tells that it waits, a line
# that it can read that there is nothing to clean up.
_PRELUDE = "trap '' INT TERM HUP QUIT PIPE\ncd /\necho\nexec >&2\nread -r line && exit\n"


class Janitor:
    """Runs ``clean`` when this process ends before ``dismiss`` is called. ``keep`` are descriptors that it needs."""

    def __init__(self, clean: Callable[[], None], keep: tuple[int, ...] = ()) -> None:
        self._begin(partial(_fork, clean, keep))

    def _begin(self, start: Callable[[int], int]) -> None:
        """``start`` makes the process, which waits at the end of the pipe that it is given."""
        from pybpf import kernel

        reading, writing = os.pipe()
        try:
            self._pid = start(reading)
        except BaseException:
            os.close(writing)
            raise
        finally:
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
                os.write(self._pipe.fd, b"\n")
                os.waitpid(self._pid, 0)
        except (BrokenPipeError, ChildProcessError):
            pass  # it was killed, or somebody has waited for all children
        finally:
            self._pipe.close()


class ShellJanitor(Janitor):
    """A shell that runs ``script`` with ``arguments`` as $1 and so on.

    It waits already when this returns: what traces all processes from then on sees nothing of it. Raises OSError
    where there is no shell, NotImplementedError where the C library cannot start one as it should be.
    """

    def __init__(self, script: str, *arguments: str) -> None:
        self._begin(partial(_spawn, script, arguments))


def _spawn(script: str, arguments: tuple[str, ...], pipe: int) -> int:
    """Start a shell, which copies none of this process's memory; gives its number."""
    words = ["sh", "-c", _PRELUDE + script, "janitor", *arguments]
    ready, telling = os.pipe()  # the lower numbers are taken: this one's is 3 at least
    try:
        actions: list[tuple[int, int] | tuple[int, int, int] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_DUP2, pipe, 0),
            (os.POSIX_SPAWN_DUP2, telling, 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        actions += [(os.POSIX_SPAWN_CLOSE, fd) for fd in _inherited()]
        # A session of its own: what is typed at the terminal, and the terminal's end, is not for it.
        pid = os.posix_spawn(
            SHELL,
            words,
            {"PATH": os.environ.get("PATH", os.defpath)},
            file_actions=actions,
            setsid=True,
            setsigmask=_IGNORED,
        )
        os.close(telling)
        telling = -1
        os.read(ready, 1)
        return pid
    finally:
        os.close(ready)
        if telling >= 0:
            os.close(telling)


def _inherited() -> list[int]:
    """Descriptors that a program executed would get besides the first three: not ours, but what we were given."""
    try:
        fds = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        return []
    found = []
    for fd in fds:
        try:
            if fd > 2 and os.get_inheritable(fd):
                found.append(fd)
        except OSError:  # the listing's own, closed by now
            pass
    return found


def _fork(clean: Callable[[], None], keep: tuple[int, ...], pipe: int) -> int:
    """Start a copy of this process; gives its number."""
    # So that it is never without the one protection or the other.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)
    try:
        pid = os.fork()
        if not pid:
            try:
                _wait_and_clean(pipe, clean, keep)
            finally:
                os._exit(0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


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
