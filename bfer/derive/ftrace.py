"""ftrace_hook: functions of the kernel that somebody gets called at by ftrace, as tracefs lists them.

What this run itself hangs there is left out: it is what came in while the programs were attached.
"""

from __future__ import annotations

from bfer.derive import fields
from bfer.derive.source import Once, Source
from btf.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from bfer.catalogue import Event
    from bfer.derive.kernel import Kernel
    from bfer.pushdown import Plan

_FOLDERS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_FILE = "enabled_functions"
_MAX = 4096  # a function tracer that is on hooks all functions there are


class Hooked:
    """A line of the file. ``count`` is how many hang there."""

    __slots__ = ("callback", "count", "flags", "offset", "owner", "symbol", "trampoline")

    def __init__(self, text: str) -> None:
        """Raises ValueError for a text that is no such line."""
        head, _, rest = text.partition("(")
        count, _, rest = rest.partition(")")
        words = head.split()
        self.symbol = words[0] if words else ""
        self.count = int(count)
        flags, _, rest = rest.partition("\t")
        self.flags = "".join(flags.split())
        self.trampoline = self.callback = self.owner = ""
        self.offset = 0
        if "tramp:" in rest:
            place, _, called = rest.partition("tramp:")[2].partition("(")
            self.trampoline = place.strip()
            self._called(called.partition(")")[0])
        elif "ops:" in rest:  # arm64 from 6.3 on: found by what stands before the function
            self._called(rest.partition("ops:")[2].partition("(")[2].partition(")")[0])
        elif "->" in rest:
            self._called(rest.partition("->")[2].lstrip(">"))

    def _called(self, text: str) -> None:
        """``function+0x0/0x10 [module]``"""
        words = text.split()
        self.callback, _, offset = (words[0] if words else "").partition("+")
        self.offset = int(offset.partition("/")[0] or "0", 16)
        self.owner = words[1].strip("[]") if len(words) > 1 and words[1][:1] == "[" else ""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.symbol, self.callback, self.owner


def parse(lines: list[str]) -> list[Hooked]:
    """What the file says; a direct call stands in a line of its own, below its function."""
    found: list[Hooked] = []
    for line in lines:
        if line[:1].isspace():
            if found and "direct" in line and not found[-1].callback:
                found[-1]._called(line.partition("->")[2])
            continue
        try:
            found.append(Hooked(line))
        except ValueError:
            continue
    return found


def read(limit: int = 2 * _MAX) -> list[str]:
    """The file's first lines. Raises Error."""
    why = ""
    for folder in _FOLDERS:
        try:
            with open(f"{folder}/{_FILE}") as file:
                return [line for line, _ in zip(file, range(limit))]
        except OSError as error:
            why = why or f"{folder}/{_FILE}: {error.strerror} (tracefs, CONFIG_DYNAMIC_FTRACE, lockdown)"
    raise Error(why)


class Ftrace(Source):
    interval = 10.0

    @classmethod
    def refused(cls, symbols: Container[str]) -> str:
        try:
            read(1)
        except Error as error:
            return str(error)
        return ""

    def __init__(self, events: list[Event], kernel: Kernel, plan: Plan) -> None:
        super().__init__(events, kernel, plan)
        self._own: dict[str, int] | None = None
        self._once = Once()
        self._before = parse(read())

    def look(self) -> list[tuple[Event, bytes]]:
        try:
            now = parse(read())
        except Error:
            return []
        if self._own is None:
            before = {hooked.symbol: hooked.count for hooked in self._before}
            self._own = {
                hooked.symbol: hooked.count - before.get(hooked.symbol, 0)
                for hooked in now
                if hooked.count > before.get(hooked.symbol, 0)
            }
            now, self._before = self._before, []
        else:
            now = [hooked for hooked in now if hooked.count > self._own.get(hooked.symbol, 0)]
        told = []
        for hooked in now:
            if self._once.is_new(hooked.key):
                told += [(event, _fields(hooked)) for event in self.events.values()]
        self._once.forget({hooked.key for hooked in now})
        return told


def _fields(hooked: Hooked) -> bytes:
    return b"".join(
        [
            fields.text(0, hooked.symbol),
            fields.text(1, hooked.trampoline),
            fields.text(2, hooked.callback),
            fields.number(3, hooked.offset),
            fields.text(4, hooked.owner),
            fields.text(5, hooked.flags),
            fields.number(6, hooked.count),
        ]
    )


SOURCE = Ftrace
