"""Lines as the user words them: a text in which ``{NAME}`` stands for a member of the event.

Names are JSON's members, ``time`` (the table's), ``args`` (all arguments, as in the table) and
``args.NAME`` (one, empty where the event has none of this name). ``{NAME:<16}`` pads to a width, ``<`` to
the right, ``>`` to the left, ``^`` on both sides; ``{{`` and ``}}`` are braces, ``\\n``, ``\\t``, ``\\e`` and ``\\\\``
what they are in the shell's printf. All but times and arguments is made once for each distinct block of fields.
"""

from __future__ import annotations

from bfer import escape, values
from bfer.errors import UsageError
from bfer.machine import is_small
from bfer.output.lines import container_of
from bfer.output.table import Table
from bfer.records import Block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from bfer.catalogue import Arg, Event
    from bfer.names import Names

_CACHE_MAX = 1024 if is_small() else 4096
_ESCAPES = {"n": "\n", "t": "\t", "e": "\x1b", "\\": "\\"}
_WIDTH_MAX = 1000

_OF_BLOCK: dict[str, Callable[[Block, Event], object]] = {
    "threadStartTime": lambda block, event: block.start_time,
    "processorId": lambda block, event: block.cpu,
    "processId": lambda block, event: block.pid,
    "cgroupId": lambda block, event: block.cgroup_id,
    "threadId": lambda block, event: block.tid,
    "parentProcessId": lambda block, event: block.ppid,
    "hostProcessId": lambda block, event: block.host_pid,
    "hostThreadId": lambda block, event: block.host_tid,
    "hostParentProcessId": lambda block, event: block.host_ppid,
    "userId": lambda block, event: block.uid,
    "mountNamespace": lambda block, event: block.mnt_ns,
    "pidNamespace": lambda block, event: block.pid_ns,
    "processName": lambda block, event: escape.for_table(block.comm).decode(),
    "hostName": lambda block, event: escape.for_table(block.node).decode(),
    "containerId": lambda block, event: escape.for_table(container_of(block)).decode(),
    "eventId": lambda block, event: event.id,
    "eventName": lambda block, event: event.name,
    "argsNum": lambda block, event: len(event.args),
    "returnValue": lambda block, event: block.result,
}
# What is not the same for equal blocks.
_OF_RECORD = ("timestamp", "time", "args")

NAMES = (*_OF_BLOCK, *_OF_RECORD)


class Field:
    """``{name:<width}``"""

    __slots__ = ("align", "name", "width")

    def __init__(self, name: str, align: str, width: int) -> None:
        self.name = name
        self.align = align
        self.width = width

    def padded(self, text: str) -> str:
        return f"{text:{self.align}{self.width}}" if self.width else text


def parse(text: str) -> list[str | Field]:
    """The parts of a template. Raises UsageError."""
    parts: list[str | Field] = []
    literal = ""
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            escaped = text[at + 1 : at + 2]
            if escaped not in _ESCAPES or not escaped:
                raise UsageError(f"template: \\{escaped} at character {at + 1}: there are \\n, \\t, \\e and \\\\")
            literal += _ESCAPES[escaped]
            at += 2
        elif char in "{}" and text[at + 1 : at + 2] == char:
            literal += char
            at += 2
        elif char == "}":
            raise UsageError(f"template: a lone }} at character {at + 1}: write }}}} for a brace")
        elif char == "{":
            end = text.find("}", at)
            if end < 0:
                raise UsageError(f"template: the {{ at character {at + 1} is not closed; write {{{{ for a brace")
            parts += [literal, _field(text[at + 1 : end])]
            literal = ""
            at = end + 1
        else:
            literal += char
            at += 1
    parts.append(literal if literal.endswith("\n") else literal + "\n")
    return [part for part in parts if part]


def _field(text: str) -> Field:
    name, colon, spec = text.partition(":")
    if name not in NAMES and not (name.startswith("args.") and name[5:].isidentifier()):
        from bfer.suggest import nearest

        hint = nearest(name, NAMES) or ": there are JSON's members, time, args and args.NAME"
        raise UsageError(f"template: unknown field {name!r}{hint}")
    align = spec[:1] if spec[:1] in ("<", ">", "^") and spec else ""
    width = spec[len(align) :]
    if colon and not (width.isascii() and width.isdigit() and 0 < int(width) <= _WIDTH_MAX):
        raise UsageError(f"template: {{{text}}}: a width is <N, >N or ^N, N from 1 to {_WIDTH_MAX}")
    return Field(name, align or "<", int(width) if width else 0)


class Template(Table):
    """``text`` is the template; ``utc`` as in the table."""

    __slots__ = ("_lines", "_parts", "_wants_args", "lines_per_event")

    header = b""

    def __init__(self, events: dict[int, Event], names: Names, text: str, utc: bool = False) -> None:
        super().__init__(events, names, utc)
        self._parts = parse(text)
        fields = [part for part in self._parts if isinstance(part, Field)]
        self._wants_args = any(field.name.startswith("args") and field.name != "argsNum" for field in fields)
        self.lines_per_event = sum([part.count("\n") for part in self._parts if isinstance(part, str)])
        self._lines: dict[bytes, tuple[Block, Event, list[str | Field]]] = {}

    def summary(self, events: int, lost: int) -> bytes:
        return b""

    def lines(self, rows: list[Any], offset: int) -> bytes:
        out: list[str] = []
        for time, data, raw in zip(rows[0::3], rows[1::3], rows[2::3]):
            line = self._lines.get(data) or self._line(data)
            block, event, parts = line
            texts = self._all_args(block, event, raw) if self._wants_args else []
            for part in parts:
                out.append(
                    part if isinstance(part, str) else part.padded(self._text(part, time + offset, event, texts))
                )
        return "".join(out).encode()

    def _line(self, data: bytes) -> tuple[Block, Event, list[str | Field]]:
        if len(self._lines) >= _CACHE_MAX:
            self._lines.clear()
        block = Block(data, self._names)
        event = self._events[block.event]
        parts: list[str | Field] = [""]
        for part in self._parts:
            if isinstance(part, Field) and part.name in _OF_BLOCK:
                part = part.padded(str(_OF_BLOCK[part.name](block, event)))
            last = parts[-1]
            if isinstance(part, str) and isinstance(last, str):
                parts[-1] = last + part
            else:
                parts.append(part)
        line = self._lines[data] = block, event, parts
        return line

    def _text(self, field: Field, time: int, event: Event, texts: list[str]) -> str:
        if field.name == "timestamp":
            return str(time)
        if field.name == "time":
            return self._clock_time(time).decode().rstrip()
        if field.name == "args":
            return ", ".join([f"{arg.name}: {text}" for arg, text in zip(event.args, texts)])
        name = field.name[5:]
        return next((text for arg, text in zip(event.args, texts) if arg.name == name), "")

    def _number(self, arg: Arg, raw: int, args: Sequence[int]) -> str:
        return values.text(arg, raw, self._names, args)

    def _memory(self, arg: Arg, value: object) -> str:
        return self.value(value)
