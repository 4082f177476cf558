"""From the kernel's clock (ns since boot, suspend included) to the wall clock."""

from __future__ import annotations

from time import CLOCK_BOOTTIME, CLOCK_REALTIME, clock_gettime_ns

_SECOND = 1_000_000_000


def measure() -> tuple[int, int]:
    """``(offset, error bound)`` in ns, the best of three readings."""
    best = (0, 1 << 63)
    for _ in range(3):
        before = clock_gettime_ns(CLOCK_BOOTTIME)
        wall = clock_gettime_ns(CLOCK_REALTIME)
        after = clock_gettime_ns(CLOCK_BOOTTIME)
        if after - before < best[1]:
            best = (wall - (before + after) // 2, after - before)
    return best


class WallClock:
    """What to add to a record's time. It is measured again at most once a second."""

    __slots__ = ("_next", "_offset")

    def __init__(self) -> None:
        self._offset = measure()[0]
        self._next = clock_gettime_ns(CLOCK_BOOTTIME) + _SECOND

    def offset(self) -> int:
        now = clock_gettime_ns(CLOCK_BOOTTIME)
        if now >= self._next:
            self._next = now + _SECOND
            fresh, error = measure()
            # Within the error of measuring nothing has changed: time stamps must not jitter.
            if abs(fresh - self._offset) > error:
                self._offset = fresh
        return self._offset


class RelativeClock:
    """Time since the tracer started instead."""

    __slots__ = ("_offset",)

    def __init__(self) -> None:
        self._offset = -clock_gettime_ns(CLOCK_BOOTTIME)

    def offset(self) -> int:
        return self._offset
