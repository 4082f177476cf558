"""Records in the order of their times (option:sort-events).

CPUs take the time and room in the buffer one after the other, so that a record may overtake another
by a little. Each one is held back until none that is older can come any more.
"""

from __future__ import annotations

from struct import unpack_from
from time import CLOCK_BOOTTIME, clock_gettime_ns

DELAY = 50_000_000
"""How long a record waits; ns."""

MOST = 2048
"""How many may wait: under load the delay gets shorter, not the memory larger."""


class Sorter:
    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def __len__(self) -> int:
        return len(self._held)

    def add(self, records: list[bytes]) -> None:
        self._held += records
        self._held.sort(key=_time)  # nearly sorted: about one comparison for each

    def take(self, limit: int, everything: bool = False) -> list[bytes]:
        """At most ``limit`` of those that have waited long enough, the oldest first; the others remain."""
        held = self._held
        count = len(held) if everything else max(0, len(held) - MOST)
        if count < limit:
            horizon = clock_gettime_ns(CLOCK_BOOTTIME) - DELAY
            while count < len(held) and count < limit and _time(held[count]) <= horizon:
                count += 1
        count = min(count, limit)
        taken = held[:count]
        del held[:count]
        return taken

    def due(self) -> float | None:
        """Seconds until the oldest has waited long enough; None when there is none."""
        if not self._held:
            return None
        return max(0, _time(self._held[0]) + DELAY - clock_gettime_ns(CLOCK_BOOTTIME)) / 1e9


def _time(record: bytes) -> int:
    time: int = unpack_from("=Q", record)[0]
    return time
