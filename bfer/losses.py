"""Events that did not arrive, by name, told once a second and at the end."""

from __future__ import annotations

from struct import iter_unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pybpf.maps import Map


class Losses:
    """Reads the programs' counters. ``missed`` gives the runs that the kernel left out of the attached program.

    ``say`` takes what there is to tell, if anybody wants to hear it.
    """

    __slots__ = ("_lost", "_missed", "_names", "_say", "_told", "_untracked", "by_name", "total", "untracked")

    def __init__(
        self,
        lost: Map,
        untracked: Map | None,
        missed: Callable[[], int] | None,
        names: dict[int, str],
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._say = say
        self._lost = lost
        self._untracked = untracked
        self._missed = missed
        self._names = names
        self._told = (0, 0)
        self.by_name: dict[str, int] = {}
        self.total = 0
        self.untracked = 0

    def read(self) -> None:
        counts: dict[str, int] = {}
        for number, name in self._names.items():
            counts[name] = counts.get(name, 0) + _sum(self._lost, number)
        if self._missed is not None:
            counts["not known"] = self._missed()
        self.by_name = {name: count for name, count in counts.items() if count}
        self.total = sum(counts.values())
        if self._untracked is not None:
            self.untracked = _sum(self._untracked, 0)

    def tell(self, final: bool = False) -> None:
        """Read, and say what is new; at the end say what there was in all."""
        self.read()
        if (self.total, self.untracked) == ((0, 0) if final else self._told):
            return
        self._told = (self.total, self.untracked)
        say = self._say
        if say is None:
            return
        so_far = "" if final else " so far"
        if self.total:
            details = ", ".join(f"{name} {count}" for name, count in self.by_name.items())
            say(f"lost {_count(self.total, 'event')}{so_far} ({details})")
        if self.untracked:
            say(f"no room to follow {_count(self.untracked, 'process', 'es')}{so_far}: their events are missing")


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number} {noun}{plural if number != 1 else ''}"


def _sum(map: Map, key: int) -> int:
    from sys import byteorder

    value = map.lookup(key.to_bytes(4, byteorder))
    return sum(count for (count,) in iter_unpack("=Q", value)) if value else 0
