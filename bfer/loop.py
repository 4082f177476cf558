"""The event loop: takes records from the ring buffer and writes them out until it is time to stop.

The programs do not wake us for each record. While records keep coming we nap
between batches, woken early at the watermark; when none came we ask to be
woken at the next one and sleep until then.
"""

from __future__ import annotations

import select
from time import monotonic

from bfer.doorbell import AT_NEXT, AT_WATERMARK, SILENT
from bfer.errors import OutputClosed, OutputError
from bfer.records import RECORD_SIZE, ROW, ROW_FORMAT, split
from bfer.signals import SAME, SIGCHLD, SIGINT, in_foreground
from pybpf.ringbuf import Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    from bfer.clock import RelativeClock, WallClock
    from bfer.command import Command
    from bfer.derive import Derivation
    from bfer.losses import Losses
    from bfer.residual import Residual
    from bfer.sorting import Sorter
    from bfer.tracer import Tracer

    class Receiver(Protocol):
        """What takes the records: ``fd``, if not negative, tells by hanging up that nobody wants them any more."""

        fd: int

        def lines(self, rows: list[Any], offset: int, /) -> Any:
            """What ``write`` gets for time, block and data of each record; ``offset`` (ns) is added to the times."""

        def write(self, data: Any, /) -> None:
            """Raises OutputClosed or OutputError."""

    class Waker(Protocol):
        """What ends a run from outside: ``fd`` becomes readable, and ``take`` gives signal numbers, 0 for just stop."""

        fd: int

        def take(self) -> list[int]:
            """What came since the last call."""

        def stop(self) -> None:
            """The end has begun."""


_BATCH = 256
_TURNS = 16
# Of a batch so many records are rendered at once that their text stays below what C libraries take from the kernel
# anew each time, and give back (128 KiB in glibc at first, and always in musl): that costs more than the rendering.
_TEXT_MAX = 80 << 10
_PART_MIN = 8
# A block of this size that was given back once makes glibc keep all smaller ones; it need not even be written to.
_KEEPING = 512 << 10
_NAP_MIN, _NAP_MAX = 0.001, 0.010
_LOSS_INTERVAL = 1.0
# A signal that the terminal sent to the command as well ends tracing when it comes twice within this time.
_TWICE = 2.0


class Loop:
    """One run.

    Afterwards ``events`` tells how many were written and ``unwritten`` how many
    could not be, ``failure`` is what ended it early (None if nothing did) and
    ``signum`` the signal that took it away from a command, or 0.
    """

    def __init__(
        self,
        tracer: Tracer,
        sinks: Sequence[Receiver],
        clock: WallClock | RelativeClock,
        signals: Waker,
        losses: Losses,
        residual: Residual | None = None,
        command: Command | None = None,
        duration: float | None = None,
        sorter: Sorter | None = None,
        derivation: Derivation | None = None,
    ) -> None:
        self.tracer = tracer
        self.ring = tracer.ring
        self.doorbell = tracer.doorbell
        self.sinks = sinks
        self.clock = clock
        self.signals = signals
        self.losses = losses
        self.residual = residual
        self.command = command
        self.sorter = sorter
        self.derivation = derivation
        self.events = 0
        self.unwritten = 0
        self.failure: OutputClosed | OutputError | None = None
        self.signum = 0
        bytes(_KEEPING)
        self._deadline = None if duration is None else monotonic() + duration
        self._next_check = monotonic() + _LOSS_INTERVAL
        self._layout = Layout(ROW_FORMAT, RECORD_SIZE, split)
        self._part = _PART_MIN
        self._active = False
        self._nap = _NAP_MIN
        self._stop = False
        self._bell = SILENT
        self._last_stop: float | None = None
        self._epoll = select.epoll()
        self._epoll.register(self.ring.fd, select.EPOLLIN | select.EPOLLET)
        self._epoll.register(signals.fd, select.EPOLLIN)
        for sink in sinks:
            if sink.fd < 0:
                continue
            try:
                self._epoll.register(sink.fd, 0)  # hang-up and error are always reported
            except (PermissionError, FileExistsError):  # a plain file, which cannot hang up
                pass

    # --- running ----------------------------------------------------------------

    def run(self) -> None:
        """Until a signal, the command's end, the deadline or a failing output. Then detach and write what is left."""
        try:
            while not self._stop:
                self.wait(self.turn())
        except (OutputClosed, OutputError) as error:
            self.failure = error
        finally:
            self.signals.stop()
            self.tracer.detach()
        self.finish()

    def finish(self) -> None:
        """Write what is left once the programs are detached, or count it where nobody takes it."""
        if self.failure is None:
            try:
                self._drain()
            except (OutputClosed, OutputError) as error:
                self.failure = error
        if self.failure is not None:
            self._drop()

    @property
    def stopped(self) -> bool:
        """Is it time to end?"""
        return self._stop

    @property
    def fd(self) -> int:
        """Readable when ``wait`` would return at once."""
        return self._epoll.fileno()

    def turn(self) -> float:
        """Write what waits; the seconds to ``wait`` before the next turn, -1 for ever."""
        ring = self.ring
        waiting = ring.available()
        if not waiting:
            self._nap = _NAP_MIN
            self._ring_at(AT_NEXT)
            return 0 if ring.available() else self._idle_time()  # it may have come before the doorbell was set
        self._take()
        if waiting > ring.size >> 2:
            self._nap = _NAP_MIN
            return 0
        # So long that an eighth of the buffer fills meanwhile: to wake up costs as much as a hundred records.
        if waiting < ring.size >> 4:
            self._nap = min(self._nap * 2, _NAP_MAX)
        elif waiting > ring.size >> 3:
            self._nap = max(self._nap / 2, _NAP_MIN)
        self._ring_at(AT_WATERMARK)
        return self._nap

    def _take(self) -> None:
        """Write what waits, but come back now and then however much comes."""
        for _ in range(_TURNS):
            rows = self.ring.rows(self._layout, _BATCH)
            if rows:
                self._emit(rows)
            if len(rows) < _BATCH * ROW:
                return

    def _ring_at(self, when: int) -> None:
        if self._bell != when:
            self.doorbell.ring_at(when)
            self._bell = when

    def _idle_time(self) -> float:
        """Seconds to sleep at most; -1 is for ever."""
        now = monotonic()
        until = [self._deadline] if self._deadline is not None else []
        if self._active:  # something may have got lost: look once more
            until.append(self._next_check)
        for waiting in (self.sorter, self.derivation):
            due = waiting.due() if waiting is not None else None
            if due is not None:
                until.append(now + due)
        return max(0.0, min(until) - now) if until else -1

    def wait(self, timeout: float) -> None:
        """Sleep for so many seconds, or until there is something to do; take note of signals, time and losses."""
        for fd, _ in self._epoll.poll(timeout):
            if fd == self.ring.fd:
                self._bell = SILENT  # the program takes the request back when it rings
            elif fd == self.signals.fd:
                for signum in self.signals.take():
                    self._signal(signum)
            else:
                raise OutputClosed("output closed")
        if self.derivation is not None:
            self._filter(self.derivation.tick())
        self._release()
        now = monotonic()
        if self._deadline is not None and now >= self._deadline:
            self._stop = True
        if now >= self._next_check:
            self._next_check = now + _LOSS_INTERVAL
            if self._active:
                self._active = False
                self.losses.tell()

    def _signal(self, signum: int) -> None:
        command = self.command
        if signum == SIGCHLD:
            self._stop = self._stop or (command is not None and command.poll())
            return
        if command is None:
            self._stop = True
            return
        delivered = signum == SIGINT and in_foreground()
        now = monotonic()
        age = None if self._last_stop is None else now - self._last_stop
        if age is not None and age <= SAME:
            return
        self._last_stop = now
        if age is not None and (not delivered or age < _TWICE):
            self._stop = True
            self.signum = signum
        elif not delivered:
            command.kill(signum)

    def outlast_command(self) -> None:
        """Wait for the command's end without tracing it, still passing signals on."""
        command = self.command
        assert command is not None
        self._stop = False
        poller = select.poll()
        poller.register(self.signals.fd, select.POLLIN)
        while not self._stop and not command.poll():
            poller.poll()
            for signum in self.signals.take():
                self._signal(signum)

    # --- output -----------------------------------------------------------------

    def _emit(self, rows: list[Any]) -> None:
        """``rows``: time, block and data of each record."""
        self._active = True
        if self.derivation is not None:
            rows = self.derivation.feed(rows)
        self._filter(rows)

    def _filter(self, rows: list[Any]) -> None:
        if self.residual is not None:
            rows = self.residual.keep(rows)
        if not rows:
            return
        if self.sorter is None:
            self._write(rows)
        else:
            self.sorter.add(rows)
            self._release()

    def _release(self, everything: bool = False) -> None:
        """Write what the sorter held back for long enough."""
        if self.sorter is not None:
            while rows := self.sorter.take(_BATCH, everything):
                self._write(rows)

    def _write(self, rows: list[Any]) -> None:
        """In parts, see _TEXT_MAX."""
        offset = self.clock.offset()
        before = self.events
        count = len(rows) // ROW
        self.events += count
        done = 0
        while done < count:
            part = rows[done * ROW : (done + self._part) * ROW]
            longest = 0
            for sink in self.sinks:
                try:
                    text = sink.lines(part, offset)
                    sink.write(text)
                except OutputError as error:
                    self.events = before + done + error.written
                    self.unwritten = count - done - error.written
                    raise
                longest = max(longest, len(text))
            done += len(part) // ROW
            if longest > _TEXT_MAX:
                self._part = max(self._part >> 1, _PART_MIN)
            elif longest < _TEXT_MAX >> 1 and self._part < min(count, _BATCH):
                self._part <<= 1

    def _drain(self) -> None:
        """What is in the buffer, and what a program on another CPU was just about to put there."""
        for _ in range(2):
            while rows := self.ring.rows(self._layout, _BATCH):
                self._emit(rows)
            self._epoll.poll(_NAP_MIN)
        self._release(everything=True)

    def _drop(self) -> None:
        """Count what nobody will see."""
        if self.sorter is not None:
            self.unwritten += len(self.sorter)
        while rows := self.ring.rows(self._layout, _BATCH):
            self.unwritten += len(rows if self.residual is None else self.residual.keep(rows)) // ROW

    def close(self) -> None:
        self._epoll.close()
