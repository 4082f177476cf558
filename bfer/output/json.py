"""JSON lines with Tracee 0.8's members, in its order and with its types.

Rendered by hand: everything but the time stamp and the path is the same for
many events, so its text is made once and kept.
"""

from __future__ import annotations

from bfer import escape, values
from bfer.catalogue import HOW, MODE, OPEN_FLAGS, PATH, UNLINK_FLAGS
from bfer.records import (
    BLOCK_START,
    HOW_UNREADABLE,
    PATH_CUT,
    PATH_START,
    PATH_STATUS,
    PATH_UNREADABLE,
    POINTER,
    TIME,
    Block,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.catalogue import Arg, Event
    from bfer.values import OpenTable

_CACHE_MAX = 4096
_AS_TEXT = (OPEN_FLAGS, UNLINK_FLAGS, MODE)


class Json:
    """Renderer. ``events`` is by system call number; ``texts``: flags and modes by name (option:parse-arguments)."""

    __slots__ = ("_cache", "_events", "_table", "_texts")

    header = b""

    def __init__(self, events: dict[int, Event], table: OpenTable, texts: bool = False) -> None:
        self._events = events
        self._table = table
        self._texts = texts
        # Text before and after the path by block; the latter is None where a pointer takes the path's place.
        self._cache: dict[bytes, tuple[bytes, bytes | None]] = {}

    def summary(self, events: int, lost: int) -> bytes:
        return b""

    def render(self, records: list[bytes], offset: int) -> bytes:
        """The lines of ``records``; ``offset`` is added to their times."""
        paths = [record[PATH_START:] for record in records]
        if b"".join(paths).translate(None, escape.JSON_SAFE):
            paths = [_quoted(path) for path in paths]
        cache = self._cache
        time = TIME.unpack_from
        out: list[bytes] = []
        append = out.append
        for record, path in zip(records, paths):
            try:
                head, tail = cache[record[BLOCK_START:PATH_START]]
            except KeyError:
                head, tail = self._compile(record[BLOCK_START:PATH_START])
            append(b'{"timestamp":%d' % (time(record)[0] + offset))
            append(head)
            if tail is None:
                append(self._pointer_line(record))
            else:
                append(path)
                append(tail)
        return b"".join(out)

    def _compile(self, data: bytes) -> tuple[bytes, bytes | None]:
        cache = self._cache
        if len(cache) >= _CACHE_MAX:
            cache.clear()
        block = Block(data)
        event = self._events[block.event]
        head = self._context(block, event) + ",".join(self._args(block, event, 0))
        tail = self._tail(block, event)
        if block.status & PATH_STATUS == PATH_UNREADABLE:
            entry: tuple[bytes, bytes | None] = (head.encode(), None)
        else:
            if block.status & PATH_STATUS == PATH_CUT:
                tail = ',"truncated":true' + tail
            entry = (head.encode() + b'"', b'"' + tail.encode())
        cache[data] = entry
        return entry

    def _context(self, block: Block, event: Event) -> str:
        comm, node = (escape.for_json(name).decode() for name in (block.comm, block.node))
        return (
            f',"threadStartTime":{block.start_time},"processorId":{block.cpu},"processId":{block.pid}'
            f',"cgroupId":{block.cgroup_id},"threadId":{block.tid},"parentProcessId":{block.ppid}'
            f',"hostProcessId":{block.host_pid},"hostThreadId":{block.host_tid}'
            f',"hostParentProcessId":{block.host_ppid},"userId":{block.uid}'
            f',"mountNamespace":{block.mnt_ns},"pidNamespace":{block.pid_ns}'
            f',"processName":"{comm}","hostName":"{node}"'
            ',"containerId":"","containerImage":"","containerName":"","podName":"","podNamespace":"","podUID":""'
            f',"eventId":"{event.id}","eventName":"{event.name}","argsNum":{len(event.args)}'
            f',"returnValue":{block.result},"stackAddresses":null,"contextFlags":{{"containerStarted":false}}'
            ',"args":['
        )

    def _args(self, block: Block, event: Event, part: int) -> list[str]:
        """The arguments up to the path, whose value is left open (part 0), or those after it (part 1)."""
        at = next(i for i, arg in enumerate(event.args) if arg.kind == PATH)
        if part:
            return [self._arg(block, arg) for arg in event.args[at + 1 :]]
        path = event.args[at]
        type = "void*" if block.status & PATH_STATUS == PATH_UNREADABLE else path.type
        return [
            *(self._arg(block, arg) for arg in event.args[:at]),
            f'{{"name":"{path.name}","type":"{type}","value":',
        ]

    def _tail(self, block: Block, event: Event) -> str:
        """What follows the path's value."""
        return "".join(["}", *("," + arg for arg in self._args(block, event, 1)), "]}\n"])

    def _arg(self, block: Block, arg: Arg) -> str:
        type, value = arg.type, str(values.number(arg, block.scalars)) if arg.kind != HOW else ""
        if arg.kind == HOW:
            if block.status & HOW_UNREADABLE:
                type, value = "void*", self._pointer(block.scalars[arg.slot])
            else:
                value = self._how(block, arg)
        elif self._texts and arg.kind in _AS_TEXT:
            type, value = "string", f'"{values.text(arg, block.scalars, self._table)}"'
        return f'{{"name":"{arg.name}","type":"{type}","value":{value}}}'

    def _how(self, block: Block, arg: Arg) -> str:
        if self._texts:
            members = tuple(f'"{text}"' for text in values.how(arg, block.scalars, self._table))
        else:
            members = tuple(str(value) for value in block.scalars[arg.slot : arg.slot + 3])
        return '{{"flags":{},"mode":{},"resolve":{}}}'.format(*members)

    def _pointer(self, value: int) -> str:
        return f'"{value:#x}"' if self._texts else str(value)

    def _pointer_line(self, record: bytes) -> bytes:
        block = Block(record[BLOCK_START:PATH_START])
        pointer = self._pointer(POINTER.unpack_from(record, PATH_START)[0])
        return (pointer + self._tail(block, self._events[block.event])).encode()


def _quoted(path: bytes) -> bytes:
    """The inside of the path's string; where that cannot say all, a member with its raw bytes follows."""
    text = escape.for_json(path)
    if escape.is_utf8(path):
        return text
    return text + b'","valueBytes":"' + escape.base64(path)
