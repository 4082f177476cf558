"""The table for people: one line an event, columns as Tracee has them."""

from __future__ import annotations

from time import gmtime, localtime

from bfer import escape, values
from bfer.output.lines import Lines, container_of
from bfer.records import PATH_CUT, Block
from bfer.values import MORE, Cut, Pointer, Relative

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bfer.catalogue import Arg, Event
    from bfer.names import Names

_SECOND = 1_000_000_000
_MICROS = 1_000_000
_ID_SHOWN = 12


class Table(Lines):
    """``utc``: times count from the start, they are no time of day."""

    __slots__ = ("_clock", "_utc")

    stamp = b"%b"

    header = b"%-16s %-6s %-16s %-7s %-7s %-16s %-20s %s\n" % (
        *(b"TIME", b"UID", b"COMM", b"PID", b"TID", b"RET", b"EVENT", b"ARGS"),
    )

    def __init__(self, events: dict[int, Event], names: Names, utc: bool = False) -> None:
        super().__init__(events, names)
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

    def _stamps(self, times: Sequence[int], offset: int) -> Iterable[int | bytes]:
        first = (times[0] + offset) // _SECOND
        passed = first * _SECOND - offset
        micros = [(time - passed) // 1000 for time in times]
        if min(micros) < 0 or max(micros) >= _MICROS:  # more than one second of the clock
            return [self._clock_time(time + offset) for time in times]
        stamp = self._begin(first) + b"%06d  \n"
        return (stamp * len(times) % tuple(micros)).split(b"\n")[:-1]

    def _clock_time(self, time: int) -> bytes:
        return self._begin(time // _SECOND) + b"%06d  " % (time % _SECOND // 1000)

    def _begin(self, second: int) -> bytes:
        """Hours, minutes and seconds."""
        known, clock = self._clock
        if second != known:
            fields = (gmtime if self._utc else localtime)(second)
            clock = b"%02d:%02d:%02d:" % fields[3:6]
            self._clock = second, clock
        return clock

    def _context(self, block: Block) -> str:
        comm = escape.for_table(block.comm).decode()
        return f"{block.uid:<6} {comm:<16} {block.pid:<7} {block.tid:<7} "

    def _call(self, block: Block, event: Event) -> str:
        result: object = block.result
        if event.returns is not None:
            result = values.text(event.returns, block.result, self._names)
        return f"{result:<16} {event.name:<20} "

    def _around_path(self, block: Block, event: Event) -> tuple[str, str]:
        before, path, after = self._beside_path(block, event)
        head = "".join([self._call(block, event), *(text + ", " for text in before), path.name, ": "])
        cut = "..." if block.status == PATH_CUT else ""
        return head, "".join([cut, *(", " + text for text in after), "\n"])

    def _all_numbers(self, block: Block, event: Event) -> str:
        args = ", ".join([self._number(arg, raw, block.args) for arg, raw in zip(event.args, block.args)])
        return f"{self._call(block, event)}{args}".rstrip(" ") + "\n"

    def _around_fields(self, block: Block, event: Event) -> tuple[str, str]:
        return self._call(block, event), "\n"

    def _joined(self, args: list[str]) -> bytes:
        return ", ".join(args).encode()

    def _number(self, arg: Arg, raw: int, args: Sequence[int]) -> str:
        return f"{arg.name}: {values.text(arg, raw, self._names, args)}"

    def _memory(self, arg: Arg, value: object) -> str:
        return f"{arg.name}: {self.value(value)}"

    def value(self, value: object, quoted: bool = False) -> str:
        """What bfer.memory found, as text; ``quoted``: a string inside of something."""
        if isinstance(value, Pointer):
            return self._pointer(value)
        if isinstance(value, bytes):
            text = escape.for_table(value).decode()
            if quoted:
                text = '"' + text.replace('"', '\\"') + '"'
            if isinstance(value, Relative):
                return f"{text} <{escape.for_table(value.whole).decode()}>"
            return text + "..." if isinstance(value, Cut) else text
        if isinstance(value, list):
            return "[" + ", ".join([self.value(item, quoted=True) for item in value]) + "]"
        if isinstance(value, dict):
            return "{" + ", ".join([self._member(name, item) for name, item in value.items()]) + "}"
        return "..." if value is MORE else str(value)

    def _member(self, key: str, value: object) -> str:
        name, _, kind = key.partition(":")
        if isinstance(value, int) and kind:
            text = self._pointer(value) if kind == "ptr" else self._names.text(kind, value)
            return f"{name}: {value if text is None else text}"
        return f"{name}: {self.value(value)}"


class ContainerTable(Table):
    """The table where containers are filtered: with the container, and numbers inside of it / outside."""

    __slots__ = ()

    header = b"%-16s %-13s %-6s %-16s %-15s %-15s %-16s %-20s %s\n" % (
        *(b"TIME", b"CONTAINER_ID", b"UID", b"COMM", b"PID/host", b"TID/host", b"RET", b"EVENT", b"ARGS"),
    )

    def _context(self, block: Block) -> str:
        comm = escape.for_table(block.comm).decode()
        pid, tid = f"{block.pid}/{block.host_pid}", f"{block.tid}/{block.host_tid}"
        return f"{short_id(block):<13} {block.uid:<6} {comm:<16} {pid:<15} {tid:<15} "


def short_id(block: Block) -> str:
    """The first digits of a container's id, as engines show it."""
    return escape.for_table(container_of(block)[:_ID_SHOWN]).decode()
