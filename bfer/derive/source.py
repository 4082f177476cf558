"""What every source of derived events can do."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from bfer.catalogue import Event
    from bfer.derive.kernel import Kernel
    from bfer.pushdown import Plan


class Source:
    """Makes one event, or a few that tell the same in other words.

    ``events`` are those asked for, by name. A source that cannot work on this kernel raises Error when it is made.
    """

    NEEDS: tuple[str, ...] = ()
    """Symbols of the kernel without which it cannot work."""

    interval = 0.0
    """Seconds after which to look again without a reason; 0 for never."""

    def __init__(self, events: list[Event], kernel: Kernel, plan: Plan) -> None:
        self.events = {event.name: event for event in events}
        self.kernel = kernel

    @classmethod
    def refused(cls, symbols: Container[str]) -> str:
        """Why it cannot work on this kernel, empty if it may; ``symbols`` are those of NEEDS that there are."""
        lacking = [name for name in cls.NEEDS if name not in symbols]
        return f"it shows no symbol {lacking[0]} (CONFIG_KALLSYMS_ALL)" if lacking else ""

    def look(self) -> list[tuple[Event, bytes]]:
        """What there is to tell of the system now and was not told before: events and their fields."""
        return []

    def convert(self, block: bytes, data: bytes) -> list[tuple[bytes, bytes]]:
        """What becomes of a record of the event's own programs: blocks and data."""
        return [(block, data)]


class Once:
    """Remembers what was told, up to a limit: then everything may be told once more."""

    def __init__(self, limit: int = 4096) -> None:
        self._limit = limit
        self._told: set[object] = set()

    def is_new(self, key: object) -> bool:
        """Was this not asked before?"""
        if key in self._told:
            return False
        if len(self._told) >= self._limit:
            self._told.clear()
        self._told.add(key)
        return True

    def forget(self, keep: set[object]) -> None:
        """Of what is not there any more: when it comes again it is told again."""
        self._told &= keep
