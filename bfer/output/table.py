"""The table for people: one line an event, columns as Tracee has them."""

from __future__ import annotations

from time import gmtime, localtime

from bfer import escape, values
from bfer.catalogue import HOW, PATH
from bfer.output.lines import Lines
from bfer.records import HOW_UNREADABLE, PATH_CUT, PATH_STATUS, Block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bfer.catalogue import Event
    from bfer.values import OpenTable

_SECOND = 1_000_000_000


class Table(Lines):
    """``utc``: times count from the start, they are no time of day."""

    __slots__ = ("_clock", "_utc")

    header = b"%-16s %-6s %-16s %-7s %-7s %-16s %-20s %s\n" % (
        *(b"TIME", b"UID", b"COMM", b"PID", b"TID", b"RET", b"EVENT", b"ARGS"),
    )

    def __init__(self, events: dict[int, Event], table: OpenTable, utc: bool = False) -> None:
        super().__init__(events, table)
        self._utc = utc
        self._clock = (-1, b"")

    def summary(self, events: int, lost: int) -> bytes:
        return b"\nEvents: %d  Lost: %d\n" % (events, lost)

    def _safe(self, text: bytes) -> bool:
        return escape.safe_for_table(text)

    def _path(self, path: bytes) -> bytes:
        return escape.for_table(path)

    def _pointer(self, value: int) -> str:
        return f"{value:#x}" if value else "NULL"

    def _stamps(self, times: Sequence[int]) -> Iterable[bytes]:
        second, clock = self._clock
        stamps = []
        for time in times:
            if time // _SECOND != second:
                second, clock = self._clock = self._tick(time // _SECOND)
            stamps.append(b"%s%06d  " % (clock, time % _SECOND // 1000))
        return stamps

    def _tick(self, second: int) -> tuple[int, bytes]:
        fields = (gmtime if self._utc else localtime)(second)
        return second, b"%02d:%02d:%02d:" % fields[3:6]

    def _parts(self, block: Block, event: Event) -> tuple[bytes, bytes]:
        before = ""
        after = ""
        seen = False
        for arg in event.args:
            if arg.kind == PATH:
                before += f"{arg.name}: "
                seen = True
                continue
            if arg.kind == HOW and block.status & HOW_UNREADABLE:
                text = self._pointer(block.scalars[arg.slot])
            else:
                text = values.text(arg, block.scalars, self._table)
            if seen:
                after += f", {arg.name}: {text}"
            else:
                before += f"{arg.name}: {text}, "
        comm = escape.for_table(block.comm).decode()
        columns = f"{block.uid:<6} {comm:<16} {block.pid:<7} {block.tid:<7} {block.result:<16} {event.name:<20} "
        cut = "..." if block.status & PATH_STATUS == PATH_CUT else ""
        return (columns + before).encode(), f"{cut}{after}\n".encode()
