"""bfer as a library: ``bfer.Tracer`` gives typed events to a program, by the run that the command line has too."""

from __future__ import annotations

import os
import select
from collections import deque
from typing import TYPE_CHECKING, Any

from bfer.event import Decoder, Event
from bfer.output.sink import OPTIONS
from bfer.session import Session
from btf.errors import Error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Literal

_SIGCHLD = 17
_STOP = 0
_USED = ("structures", "exec-env", "detect-syscall", "relative-time", "sort-events")


class Tracer:
    """Traces from ``start`` (or the beginning of a ``with`` block) to ``close`` (or its end), and gives the events::

        with bfer.Tracer("event=openat", "openat.flags=O_WRONLY") as tracer:
            for event in tracer:
                print(event.comm, event.args["pathname"], event.text("flags"))

    ``expressions`` are those of the command line. ``command`` is a program with its arguments, which is then run
    and traced with all its descendants; the events end with it. ``duration`` (seconds) ends them too, and so does
    ``stop``. ``options`` are output options that say what is in an event: ``structures``, ``exec-env``,
    ``detect-syscall``, ``relative-time``, ``sort-events``. ``buffer`` is the size in bytes of the buffer between
    kernel and program, a power of two, 0 for the default; ``btf`` names a file with the kernel's BTF where the kernel
    does not give its own.

    One thread at a time iterates. Raises bfer.Error (bfer.UsageError for wrong expressions).
    """

    def __init__(
        self,
        *expressions: str,
        command: Sequence[str] = (),
        options: Iterable[str] = (),
        duration: float | None = None,
        buffer: int = 0,
        btf: str = "",
    ) -> None:
        chosen = set(options)
        for name in chosen:
            if name not in _USED:
                known = name in OPTIONS
                raise Error(f"option {name!r} {'is for outputs only' if known else 'is not known'}: {', '.join(_USED)}")
        if buffer:
            from bfer.cli import size

            buffer = size(str(buffer))
        self._session = Session(expressions, chosen, command, buffer, btf)
        self._duration = duration
        self._waker: _Waker | None = None
        self._receiver = _Receiver(Decoder(self._session.events, self._session.names, "exec-env" in chosen))
        self._running = False
        self._lost: dict[str, int] = {}
        self.notes: list[str] = list(self._session.policy.notes)
        """What there is to say about the expressions: what was selected without having been asked for."""
        self.missing: dict[str, str] = {}
        """Events that cannot be had on this kernel, with the reason; known from ``start`` on."""

    def start(self) -> None:
        """Begin to trace, and let the command run."""
        if self._waker is not None:
            raise Error("this tracer has been started before: make another one")
        session, waker = self._session, _Waker()
        self._waker = waker
        try:
            session.load()
            session.begin([self._receiver], waker, waker.in_child, self._duration)
            if session.command is not None:
                waker.watch(session.command.pid)
            session.attach()
            for hook in session.tracer.hooks.missing() if session.tracer.hooks is not None else ():
                if hook.event.id:
                    self.missing[hook.event.name] = str(hook.tried[-1])
            if session.derivation is not None:
                self.missing.update(session.derivation.missing)
            if session.command is not None:
                session.command.release()
        except BaseException:
            self._waker = None
            try:
                session.close()
            finally:
                waker.close()
            raise
        self._running = True

    def close(self) -> None:
        """End; nothing remains in the kernel. A command that still runs goes on: see ``wait``."""
        if self._waker is None:
            return
        if self._running:
            self._running = False
            self._session.loop.losses.read()
            self._lost = self._session.loop.losses.by_name
        try:
            self._session.close()
        finally:
            self._waker.close()

    def stop(self) -> None:
        """End the events: what has been recorded by now still comes. For any thread, and for signal handlers."""
        if self._waker is not None:
            self._waker.wake()

    @property
    def lost(self) -> dict[str, int]:
        """How many events did not arrive since the start, by name; none of those that are not named here."""
        if self._running:
            losses = self._session.loop.losses
            losses.read()
            self._lost = losses.by_name
        return dict(self._lost)

    def wait(self) -> int:
        """Wait for the command's end; its exit status, or minus the signal that killed it."""
        command = self._session.command
        if command is None:
            raise Error("there is no command to wait for")
        command.wait()
        status = command.status or 0
        return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

    def __enter__(self) -> Tracer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> Literal[False]:
        self.close()
        return False

    def __iter__(self) -> Iterator[Event]:
        """The events, as they come, until the end."""
        while self._running:
            yield from self._receiver.take()
            loop = self._session.loop
            if loop.stopped:
                self._finish()
                break
            loop.wait(loop.turn())
        yield from self._receiver.take()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """The same without blocking the event loop of asyncio."""
        while self._running:
            for event in self._receiver.take():
                yield event
            loop = self._session.loop
            if loop.stopped:
                self._finish()
                break
            timeout = loop.turn()
            if timeout:
                await _readable(loop.fd, None if timeout < 0 else timeout)
            loop.wait(0)
        for event in self._receiver.take():
            yield event

    def _finish(self) -> None:
        """Take in what is left; there is no more after it."""
        loop = self._session.loop
        loop.tracer.detach()
        loop.finish()
        loop.losses.read()
        self._lost = loop.losses.by_name
        self._running = False


async def _readable(fd: int, timeout: float | None) -> None:
    """Wait until a descriptor can be read, for so many seconds at most."""
    import asyncio

    running = asyncio.get_running_loop()
    ready = running.create_future()
    running.add_reader(fd, lambda: ready.done() or ready.set_result(None))
    try:
        await asyncio.wait([ready], timeout=timeout)
    finally:
        running.remove_reader(fd)
        ready.cancel()


class _Receiver:
    """Keeps the events of a turn, a few thousand at most, until they are taken."""

    fd = -1

    def __init__(self, decoder: Decoder) -> None:
        self.lines = decoder.decode
        self._events: deque[Event] = deque()

    def write(self, data: Any) -> None:
        self._events.extend(data)

    def take(self) -> Iterator[Event]:
        events = self._events
        while events:
            yield events.popleft()


class _Waker:
    """Stops the run from other threads, and tells of the command's end without a signal handler."""

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._epoll = select.epoll()
        self._epoll.register(self._read_fd, select.EPOLLIN)
        self._pidfd = -1
        self.fd = self._epoll.fileno()

    def watch(self, pid: int) -> None:
        """Wake at the end of this child."""
        self._pidfd = os.pidfd_open(pid)
        self._epoll.register(self._pidfd, select.EPOLLIN)

    def wake(self) -> None:
        try:
            os.write(self._write_fd, b"x")
        except OSError:  # closed, or full of earlier requests
            pass

    def take(self) -> list[int]:
        found = []
        for fd, _ in self._epoll.poll(0):
            if fd == self._pidfd:
                self._epoll.unregister(fd)
                found.append(_SIGCHLD)
            else:
                found.append(_STOP)
                os.read(self._read_fd, 4096)
        return found

    def stop(self) -> None:
        pass

    def in_child(self) -> None:
        """Signals as a program expects them: Python ignores these for itself."""
        import signal

        for signum in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(signum, signal.SIG_DFL)

    def close(self) -> None:
        fds = self._read_fd, self._write_fd, self._pidfd
        self._read_fd = self._write_fd = self._pidfd = -1  # first, for another thread may wake just now
        self._epoll.close()
        for fd in fds:
            if fd >= 0:
                os.close(fd)
