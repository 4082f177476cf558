"""Records in the order of their times (option:sort-events).

CPUs take the time and room in the buffer one after the other, so that a record may overtake another
by a little. Each one is held back until none that is older can come any more.
"""

from __future__ import annotations

from time import CLOCK_BOOTTIME, clock_gettime_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DELAY = 50_000_000
"""How long a record waits; ns."""

MOST = 2048
"""How many may wait: under load the delay gets shorter, not the memory larger."""


class Sorter:
    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: list[tuple[int, bytes, bytes]] = []

    def __len__(self) -> int:
        return len(self._held)

    def add(self, rows: list[Any]) -> None:
        """Time, block and data of each record."""
        self._held += zip(rows[0::3], rows[1::3], rows[2::3])
        self._held.sort(key=_time)  # nearly sorted: about one comparison for each

    def take(self, limit: int, everything: bool = False) -> list[Any]:
        """At most ``limit`` of those that have waited long enough, the oldest first, as they came."""
        held = self._held
        count = len(held) if everything else max(0, len(held) - MOST)
        if count < limit:
            horizon = clock_gettime_ns(CLOCK_BOOTTIME) - DELAY
            while count < len(held) and count < limit and _time(held[count]) <= horizon:
                count += 1
        count = min(count, limit)
        taken = held[:count]
        del held[:count]
        return [field for record in taken for field in record]

    def due(self) -> float | None:
        """Seconds until the oldest has waited long enough; None when there is none."""
        if not self._held:
            return None
        return max(0, _time(self._held[0]) + DELAY - clock_gettime_ns(CLOCK_BOOTTIME)) / 1e9


def _time(record: tuple[int, bytes, bytes]) -> int:
    return record[0]
