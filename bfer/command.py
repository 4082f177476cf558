"""Running the command to trace: forked, but it waits at the gate until tracing is on."""

from __future__ import annotations

import os
from errno import ENOENT, ENOTDIR

from bfer.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Command:
    """A child process. ``pid`` is known from the start; ``release`` lets it run, ``close`` gives it up.

    ``status`` is None until its end was seen, then waitpid's status.
    """

    __slots__ = ("_failure_fd", "_gate_fd", "argv", "pid", "status")

    def __init__(self, argv: list[str], in_child: Callable[[], None]) -> None:
        """Fork. ``in_child`` runs in the child before anything else (signal dispositions)."""
        self.argv = argv
        self.status: int | None = None
        gate_read, self._gate_fd = os.pipe2(os.O_CLOEXEC)
        self._failure_fd, failure_write = os.pipe2(os.O_CLOEXEC)
        # Looked up here: between the gate and exec the child must do nothing that could be traced.
        paths = _candidates(argv[0])
        self.pid = os.fork()
        if not self.pid:
            try:
                in_child()
                os.close(self._gate_fd)
                if os.read(gate_read, 1):
                    os.write(failure_write, b"%d" % _exec(paths, argv))
            finally:
                os._exit(127)
        os.close(gate_read)
        os.close(failure_write)

    def release(self) -> None:
        """Let it run. Raises CommandError if it cannot be executed."""
        gate_fd, self._gate_fd = self._gate_fd, -1
        try:
            os.write(gate_fd, b"x")
        except BrokenPipeError:  # a signal has killed it already
            pass
        os.close(gate_fd)
        failure = os.read(self._failure_fd, 16)
        if failure:
            code = int(failure)
            self.wait()
            status = 127 if code in (ENOENT, ENOTDIR) else 126
            raise CommandError(f"cannot run {self.argv[0]!r}: {os.strerror(code)}", status)

    def poll(self) -> bool:
        """Has it ended?"""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
        return self.status is not None

    def wait(self) -> None:
        """Wait for its end."""
        while self.status is None:
            self.status = os.waitpid(self.pid, 0)[1]

    def kill(self, signum: int) -> None:
        """Send it a signal; nothing happens if it has ended."""
        if self.status is None:
            os.kill(self.pid, signum)

    def close(self) -> None:
        """A command that was not released ends without having run."""
        for fd in (self._gate_fd, self._failure_fd):
            if fd >= 0:
                os.close(fd)
        if self._gate_fd >= 0:
            self.wait()
        self._gate_fd = self._failure_fd = -1


def _candidates(name: str) -> list[str]:
    if "/" in name:
        return [name]
    folders = os.environ.get("PATH", os.defpath).split(":")
    return [os.path.join(folder or ".", name) for folder in folders]


def _exec(paths: list[str], argv: list[str]) -> int:
    """Replace this process; the errno that says why that failed."""
    code = ENOENT
    for path in paths:
        try:
            os.execv(path, argv)
        except OSError as error:
            # As in a shell: a file that is there but cannot be run says more than one that is not there.
            if error.errno not in (ENOENT, ENOTDIR):
                code = error.errno or code
        except ValueError:  # an empty name or a NUL in an argument
            break
    return code
