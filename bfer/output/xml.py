"""One XML document: ``<events>``, and in it a line with an ``<event>`` for each; its elements are JSON's members.

An argument is ``<arg name="..." type="...">``, in it text, an ``<item>`` for each element of
a list, or a ``<member name="...">`` for each of a structure. What XML 1.0 has no character for (control
characters, invalid UTF-8) is U+FFFD in the text, which ``<bytes>`` follows with all of it in base64.
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

# Deleting these leaves nothing of a text that needs no escaping.
_SAFE = bytes(set(range(0x20, 0x7F)) - set(b"&<>"))
# Characters that XML 1.0 lacks (section 2.2); a decoded text has no surrogates.
_LACKS = {*range(0x20), 0xFFFE, 0xFFFF} - {0x09, 0x0A, 0x0D}
# By number: what readers change, or take for the end of a line.
_NUMBERED = {0x09, 0x0A, 0x0D, *range(0x7F, 0xA0), 0x2028, 0x2029}
_MAP = {
    **{code: f"&#{code};" for code in _NUMBERED},
    **dict.fromkeys(_LACKS, "�"),
    **{ord(char): f"&{name};" for char, name in (("&", "amp"), ("<", "lt"), (">", "gt"))},
}


def text(data: bytes) -> bytes:
    """The content of an element that is ``data``."""
    if not data.translate(None, _SAFE):
        return data
    decoded = data.decode("utf-8", "replace")
    escaped = decoded.translate(_MAP).encode()
    if escape.is_utf8(data) and _LACKS.isdisjoint(map(ord, decoded)):
        return escaped
    return b"%s<bytes>%s</bytes>" % (escaped, escape.base64(data))


class Xml(Lines):
    """``texts``: flags, modes and addresses by name (option:parse-arguments)."""

    __slots__ = ("_texts",)

    no_stack = "<stackAddresses/>"
    stamp = b"<event><timestamp>%d</timestamp>"
    opening = b'<?xml version="1.0" encoding="UTF-8"?>\n<events>\n'
    closing = b"</events>\n"

    def __init__(self, events: dict[int, Event], names: Names, texts: bool = False) -> None:
        super().__init__(events, names)
        self._texts = texts

    def _safe(self, text: bytes) -> bool:
        return not text.translate(None, _SAFE)

    def _path(self, path: bytes) -> bytes:
        return text(path)

    def _pointer(self, value: int) -> str:
        return f"{value:#x}" if self._texts else str(value)

    def _addresses(self, addresses: list[int]) -> str:
        items = "".join([f"<item>{address}</item>" for address in addresses])
        return f"<stackAddresses>{items}</stackAddresses>"

    def _context(self, block: Block) -> str:
        comm, node = (text(name).decode() for name in (block.comm, block.node))
        id = text(container_of(block)).decode()
        container = f"<containerId>{id}</containerId>" if id else "<containerId/>"
        executable = f"<executable><path>{self.executable}</path></executable>" if self.executable else ""
        return (
            f"<threadStartTime>{block.start_time}</threadStartTime><processorId>{block.cpu}</processorId>"
            f"<processId>{block.pid}</processId><cgroupId>{block.cgroup_id}</cgroupId>"
            f"<threadId>{block.tid}</threadId><parentProcessId>{block.ppid}</parentProcessId>"
            f"<hostProcessId>{block.host_pid}</hostProcessId><hostThreadId>{block.host_tid}</hostThreadId>"
            f"<hostParentProcessId>{block.host_ppid}</hostParentProcessId><userId>{block.uid}</userId>"
            f"<mountNamespace>{block.mnt_ns}</mountNamespace><pidNamespace>{block.pid_ns}</pidNamespace>"
            f"<processName>{comm}</processName>{executable}<hostName>{node}</hostName>{container}<containerImage/>"
            "<containerName/><podName/><podNamespace/><podUID/>"
        )

    def _call(self, block: Block, event: Event) -> str:
        compat = "<isCompat>true</isCompat>" if event.is_compat else ""
        started = "true" if has_started(block) else "false"
        return (
            f"<eventId>{event.id}</eventId><eventName>{event.name}</eventName><argsNum>{len(event.args)}</argsNum>"
            f"<returnValue>{block.result}</returnValue>{self.stack}"
            f"<contextFlags><containerStarted>{started}</containerStarted>{compat}</contextFlags><args>"
        )

    def _around_path(self, block: Block, event: Event) -> tuple[str, str]:
        before, path, after = self._beside_path(block, event)
        type = "void*" if block.status == PATH_UNREADABLE else path.type
        opened = _opened(path, type, block.status == PATH_CUT)
        return (
            "".join([self._call(block, event), *before, opened]),
            "".join(["</arg>", *after, "</args></event>\n"]),
        )

    def _all_numbers(self, block: Block, event: Event) -> str:
        args = [self._number(arg, raw, block.args) for arg, raw in zip(event.args, block.args)]
        return f"{self._call(block, event)}{''.join(args)}</args></event>\n"

    def _around_fields(self, block: Block, event: Event) -> tuple[str, str]:
        return self._call(block, event), "</args></event>\n"

    def _joined(self, args: list[str]) -> bytes:
        return "".join(args).encode()

    def _number(self, arg: Arg, raw: int, args: Sequence[int]) -> str:
        if self._texts:
            name = values.named(arg, raw, self._names, args)
            if name is not None:
                shown = self._pointer(raw) if name == "NULL" else text(name.encode()).decode()
                return f"{_opened(arg, 'string')}{shown}</arg>"
        return f"{_opened(arg, arg.type)}{values.plain(arg, raw, args)}</arg>"

    def _memory(self, arg: Arg, value: object) -> str:
        type = arg.type
        if isinstance(value, Pointer):
            type = "void*"
        elif isinstance(value, Named):
            type = "string"
        cut = isinstance(value, Cut) or (isinstance(value, list) and MORE in value)
        whole = f"<resolved>{text(value.whole).decode()}</resolved>" if isinstance(value, Relative) else ""
        return f"{_opened(arg, type, cut)}{self._value(value)}{whole}</arg>"

    def _value(self, value: object) -> str:
        if isinstance(value, Pointer):
            return self._pointer(value)
        if isinstance(value, Blob):
            return escape.base64(value).decode()
        if isinstance(value, bytes):
            return text(value).decode()
        if isinstance(value, list):
            return "".join([self._item(item) for item in value if item is not MORE])
        if isinstance(value, dict):
            return "".join([self._member(name, item) for name, item in value.items()])
        return text(str(value).encode()).decode()

    def _item(self, value: object) -> str:
        cut = ' truncated="true"' if isinstance(value, Cut) else ""
        return f"<item{cut}>{self._value(value)}</item>"

    def _member(self, key: str, value: object) -> str:
        name, _, kind = key.partition(":")
        if isinstance(value, int) and kind and self._texts:
            value = f"{value:#x}" if kind == "ptr" else self._names.text(kind, value) or value
        return f'<member name="{name}">{self._value(value)}</member>'


def _opened(arg: Arg, type: str, cut: bool = False) -> str:
    more = ' truncated="true"' if cut else ""
    return f'<arg name="{arg.name}" type="{type}"{more}>'
