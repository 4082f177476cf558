"""print_mem_dump: the first bytes of kernel functions or data, by the names given as print_mem_dump.symbol_name=...

Taken at the beginning, and again whenever a module has been loaded: what was patched in between shows.
"""

from __future__ import annotations

import os

from bfer.derive import fields
from bfer.derive.kernel import PIECE
from bfer.derive.source import Source
from bfer.policy import EXACT, Pattern
from btf.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.catalogue import Event
    from bfer.derive.kernel import Kernel
    from bfer.pushdown import Plan

_LENGTH = 256  # bytes, where no length is asked for


class MemoryDump(Source):
    def __init__(self, events: list[Event], kernel: Kernel, plan: Plan) -> None:
        super().__init__(events, kernel, plan)
        (event,) = events
        filter = plan.residual.get(event.number)
        wanted = filter.args["symbol_name"][1].wanted if filter is not None and "symbol_name" in filter.args else []
        names = [item.data.decode() for item in wanted if isinstance(item, Pattern) and item.kind == EXACT]
        if not names or len(names) < len(wanted):
            raise Error("it needs whole names of symbols: print_mem_dump.symbol_name=NAME,NAME")
        lengths = filter.args["length"][1].wanted if filter is not None and "length" in filter.args else []
        self._length = min([PIECE, *[item for item in lengths if isinstance(item, int)]]) if lengths else _LENGTH
        self._places = [(name, kernel.symbol(name)) for name in names]
        self._looks = 0

    def look(self) -> list[tuple[Event, bytes]]:
        told = []
        for name, address in self._places:
            data = self.kernel.read(address, self._length)
            if data:
                told += [(event, self._fields(name, address, data)) for event in self.events.values()]
        self._looks += 1
        return told

    def _fields(self, name: str, address: int, data: bytes) -> bytes:
        return b"".join(
            [
                fields.raw(0, data),
                fields.number(1, address),
                fields.number(2, len(data)),
                fields.number(3, self._looks),
                fields.text(4, os.uname().machine),
                fields.text(5, name),
                fields.text(6, "system"),
            ]
        )


SOURCE = MemoryDump
