"""JSON lines with Tracee 0.8's members, in its order and with its types.

Rendered by hand: everything but the time stamp and the path is the same for
many events, so its text is made once and kept.
"""

from __future__ import annotations

from bfer import escape, values
from bfer.output.lines import Lines, container_of, has_started
from bfer.records import PATH_CUT, PATH_UNREADABLE, Block
from bfer.values import MORE, Blob, Cut, Named, Pointer, Relative

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from bfer.catalogue import Arg, Event
    from bfer.names import Names


class Json(Lines):
    """``texts``: flags, modes and addresses by name (option:parse-arguments)."""

    __slots__ = ("_texts",)

    stamp = b'{"timestamp":%d'

    no_stack = "null"

    def __init__(self, events: dict[int, Event], names: Names, texts: bool = False) -> None:
        super().__init__(events, names)
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

    def _addresses(self, addresses: list[int]) -> str:
        return f"[{','.join(map(str, addresses))}]"

    def _context(self, block: Block) -> str:
        comm, node = (escape.for_json(name).decode() for name in (block.comm, block.node))
        container = escape.for_json(container_of(block)).decode()
        executable = f',"executable":{{"path":"{self.executable}"}}' if self.executable else ""
        return (
            f',"threadStartTime":{block.start_time},"processorId":{block.cpu},"processId":{block.pid}'
            f',"cgroupId":{block.cgroup_id},"threadId":{block.tid},"parentProcessId":{block.ppid}'
            f',"hostProcessId":{block.host_pid},"hostThreadId":{block.host_tid}'
            f',"hostParentProcessId":{block.host_ppid},"userId":{block.uid}'
            f',"mountNamespace":{block.mnt_ns},"pidNamespace":{block.pid_ns}'
            f',"processName":"{comm}"{executable},"hostName":"{node}"'
            f',"containerId":"{container}","containerImage":"","containerName":"","podName":"","podNamespace":"","podUID":""'
        )

    def _call(self, block: Block, event: Event) -> str:
        compat = ',"isCompat":true' if event.is_compat else ""
        started = "true" if has_started(block) else "false"
        return (
            f',"eventId":"{event.id}","eventName":"{event.name}","argsNum":{len(event.args)}'
            f',"returnValue":{block.result},"stackAddresses":{self.stack},"contextFlags":{{"containerStarted":{started}{compat}}}'
            ',"args":'
        )

    def _around_path(self, block: Block, event: Event) -> tuple[str, str]:
        head, tail = self._args_around_path(block, event)
        return self._call(block, event) + head, tail + "}\n"

    def _args_around_path(self, block: Block, event: Event) -> tuple[str, str]:
        """The list of arguments, but for the path, or the address in its place."""
        before, path, after = self._beside_path(block, event)
        unreadable = block.status == PATH_UNREADABLE
        before.append(f'{{"name":"{path.name}","type":"{"void*" if unreadable else path.type}","value":')
        head = "[" + ",".join(before)
        tail = "".join(["}", *("," + text for text in after), "]"])
        if unreadable:
            return head, tail
        cut = ',"truncated":true' if block.status == PATH_CUT else ""
        return f'{head}"', f'"{cut}{tail}'

    def _all_numbers(self, block: Block, event: Event) -> str:
        return f"{self._call(block, event)}{self._args_of_numbers(block, event)}}}\n"

    def _args_of_numbers(self, block: Block, event: Event) -> str:
        args = [self._number(arg, raw, block.args) for arg, raw in zip(event.args, block.args)]
        return f"[{','.join(args)}]"

    def _around_fields(self, block: Block, event: Event) -> tuple[str, str]:
        return self._call(block, event) + "[", "]}\n"

    def _joined(self, args: list[str]) -> bytes:
        return ",".join(args).encode()

    def _number(self, arg: Arg, raw: int, args: Sequence[int]) -> str:
        if self._texts:
            name = values.named(arg, raw, self._names, args)
            if name is not None:
                text = self._pointer(raw) if name == "NULL" else f'"{name}"'
                return f'{{"name":"{arg.name}","type":"string","value":{text}}}'
        return f'{{"name":"{arg.name}","type":"{arg.type}","value":{values.plain(arg, raw, args)}}}'

    def _memory(self, arg: Arg, value: object) -> str:
        type = arg.type
        more = ""
        if isinstance(value, Pointer):
            type = "void*"
        elif isinstance(value, bytes):
            if isinstance(value, Named):
                type = "string"
            if not escape.is_utf8(value) and not isinstance(value, Blob):
                more = f',"valueBytes":"{escape.base64(value).decode()}"'
            if isinstance(value, Relative):
                more += f',"resolved":"{escape.for_json(value.whole).decode()}"'
            if isinstance(value, Cut):
                more += ',"truncated":true'
        elif isinstance(value, list):
            if MORE in value or any(isinstance(item, Cut) for item in value):
                more = ',"truncated":true'
            value = [item for item in value if item is not MORE]
        return f'{{"name":"{arg.name}","type":"{type}","value":{self._value(value)}{more}}}'

    def _value(self, value: object) -> str:
        if isinstance(value, Pointer):
            return self._pointer(value)
        if isinstance(value, Blob):
            return f'"{escape.base64(value).decode()}"'
        if isinstance(value, bytes):
            return f'"{escape.for_json(value).decode()}"'
        if isinstance(value, list):
            return "[" + ",".join([self._value(item) for item in value]) + "]"
        if isinstance(value, dict):
            return "{" + ",".join([self._member(name, item) for name, item in value.items()]) + "}"
        if isinstance(value, str):
            return f'"{value}"'
        return str(value)

    def _member(self, key: str, value: object) -> str:
        name, _, kind = key.partition(":")
        if isinstance(value, int) and kind and self._texts:
            text = f"{value:#x}" if kind == "ptr" else self._names.text(kind, value)
            return f'"{name}":"{value if text is None else text}"'
        return f'"{name}":{self._value(value)}'
