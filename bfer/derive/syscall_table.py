"""hooked_syscall, hooked_syscalls: entries of the table of system calls that lead out of the kernel's own code."""

from __future__ import annotations

import os
from struct import unpack

from bfer.catalogue import Catalogue
from bfer.derive import fields
from bfer.derive.kernel import PIECE
from bfer.derive.source import Once, Source
from bfer.records import COMPAT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.catalogue import Event
    from bfer.derive.kernel import Kernel
    from bfer.pushdown import Plan


class SyscallTable(Source):
    NEEDS = ("sys_call_table",)

    def __init__(self, events: list[Event], kernel: Kernel, plan: Plan) -> None:
        super().__init__(events, kernel, plan)
        self._table = kernel.symbol("sys_call_table")
        self._once = Once()
        self._last: list[tuple[str, str, str]] = []
        calls = Catalogue(os.uname().machine).events.values()
        # A call that is newer than the kernel would stand behind the table's end.
        end = min(kernel.extent(self._table) // 8, COMPAT)
        self._names = {event.number: event.name for event in calls if not event.hooks and event.number < end}

    def look(self) -> list[tuple[Event, bytes]]:
        hooked = self.hooked()
        told = []
        event = self.events.get("hooked_syscalls")
        found = [("", name, owner) for name, _, _, owner in hooked]
        if event is not None and found and found != self._last:
            told.append((event, fields.hooks(0, found)))
        self._last = found
        event = self.events.get("hooked_syscall")
        for name, address, function, owner in hooked if event is not None else ():
            assert event is not None
            if self._once.is_new((name, address)):
                texts = (name, f"{address:x}", function, owner)
                told.append((event, b"".join([fields.text(slot, text) for slot, text in enumerate(texts)])))
        self._once.forget({(name, address) for name, address, _, _ in hooked})
        return told

    def hooked(self) -> list[tuple[str, int, str, str]]:
        """Call, address of what is called, the function's name if there is one, its module."""
        entries = unpack(f"={PIECE // 8}Q", self.kernel.read(self._table, PIECE) or bytes(PIECE))
        odd = {
            name: entries[number]
            for number, name in sorted(self._names.items())
            if entries[number] and not self.kernel.is_text(entries[number])
        }
        owners = self.kernel.owners(odd.values())
        return [(name, address, *owners.get(address, ("", "hidden"))) for name, address in odd.items()]


SOURCE = SyscallTable
