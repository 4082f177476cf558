"""hooked_seq_ops: the functions that list sockets in /proc/net, replaced by others, as what hides a port does."""

from __future__ import annotations

from struct import unpack

from bfer.derive import fields
from bfer.derive.source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.catalogue import Event
    from bfer.derive.kernel import Kernel
    from bfer.pushdown import Plan

_TABLES = ("tcp4_seq_ops", "tcp6_seq_ops", "udp_seq_ops", "udp6_seq_ops", "raw_seq_ops", "raw6_seq_ops")
_MEMBERS = ("start", "stop", "next", "show")  # struct seq_operations, include/linux/seq_file.h


class SeqOps(Source):
    NEEDS = ("tcp4_seq_ops",)

    def __init__(self, events: list[Event], kernel: Kernel, plan: Plan) -> None:
        super().__init__(events, kernel, plan)
        self._tables = kernel.symbols(_TABLES)
        kernel.symbol(_TABLES[0])
        self._last: list[tuple[str, str, str]] = []

    def look(self) -> list[tuple[Event, bytes]]:
        found = self.hooked()
        told = [(event, fields.hooks(0, found)) for event in self.events.values() if found and found != self._last]
        self._last = found
        return told

    def hooked(self) -> list[tuple[str, str, str]]:
        """Table and member, the function's name, its module."""
        odd = {}
        for name, address in self._tables.items():
            functions = unpack("=4Q", self.kernel.read(address, 32) or bytes(32))
            for member, function in zip(_MEMBERS, functions):
                if function and not self.kernel.is_text(function):
                    odd[f"{name}_{member}"] = function
        owners = self.kernel.owners(odd.values())
        return [(name, *owners.get(function, ("", "hidden"))) for name, function in odd.items()]


SOURCE = SeqOps
