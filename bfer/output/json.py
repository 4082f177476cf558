"""JSON lines with Tracee 0.8's members, in its order and with its types.

Rendered by hand: everything but the time stamp and the path is the same for
many events, so its text is made once and kept.
"""

from __future__ import annotations

from bfer import escape, values
from bfer.catalogue import HOW, MODE, OPEN_FLAGS, PATH, UNLINK_FLAGS
from bfer.output.lines import Lines
from bfer.records import HOW_UNREADABLE, PATH_CUT, PATH_STATUS, PATH_UNREADABLE, Block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bfer.catalogue import Arg, Event
    from bfer.values import OpenTable

_AS_TEXT = (OPEN_FLAGS, UNLINK_FLAGS, MODE)


class Json(Lines):
    """``texts``: flags and modes by name (option:parse-arguments)."""

    __slots__ = ("_texts",)

    def __init__(self, events: dict[int, Event], table: OpenTable, texts: bool = False) -> None:
        super().__init__(events, table)
        self._texts = texts

    def _safe(self, text: bytes) -> bool:
        return escape.safe_for_json(text)

    def _path(self, path: bytes) -> bytes:
        """The inside of the path's string; where that cannot say all, a member with its raw bytes follows."""
        text = escape.for_json(path)
        if escape.is_utf8(path):
            return text
        return text + b'","valueBytes":"' + escape.base64(path)

    def _pointer(self, value: int) -> str:
        return f'"{value:#x}"' if self._texts else str(value)

    def _stamps(self, times: Sequence[int]) -> Iterable[bytes]:
        return [b'{"timestamp":%d' % time for time in times]

    def _parts(self, block: Block, event: Event) -> tuple[bytes, bytes]:
        before: list[str] = []
        after: list[str] = []
        status = block.status & PATH_STATUS
        args = before
        for arg in event.args:
            if arg.kind == PATH:
                type = "void*" if status == PATH_UNREADABLE else arg.type
                before.append(f'{{"name":"{arg.name}","type":"{type}","value":')
                args = after
            else:
                args.append(self._arg(block, arg))
        head = self._context(block, event) + ",".join(before)
        tail = "".join(["}", *("," + text for text in after), "]}\n"])
        if status == PATH_UNREADABLE:
            return head.encode(), tail.encode()
        cut = ',"truncated":true' if status == PATH_CUT else ""
        return f'{head}"'.encode(), f'"{cut}{tail}'.encode()

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
