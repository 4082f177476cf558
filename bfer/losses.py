"""Events that did not arrive, by name, told once a second and at the end."""

from __future__ import annotations

from struct import iter_unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pybpf.maps import Map


class Losses:
    """Reads the programs' counters, while tracing only where ``alarmed`` says that they have changed.

    ``missed`` gives the runs that the kernel left out of the attached programs, by what they are runs of. ``say`` takes
    what there is to tell, if anybody wants to hear it.
    """

    __slots__ = (
        *("_alarmed", "_counts", "_lost", "_missed", "_names", "_say", "_told", "_untracked"),
        *("by_name", "total", "untracked"),
    )

    def __init__(
        self,
        lost: Map,
        untracked: Map | None,
        missed: Callable[[bool], dict[str, int]] | None,
        names: dict[int, str],
        say: Callable[[str], None] | None = None,
        alarmed: Callable[[], bool] = lambda: True,
    ) -> None:
        self._alarmed = alarmed
        self._counts: dict[str, int] = {}
        self._say = say
        self._lost = lost
        self._untracked = untracked
        self._missed = missed
        self._names = names
        self._told = (0, 0)
        self.by_name: dict[str, int] = {}
        self.total = 0
        self.untracked = 0

    def read(self, final: bool = True) -> None:
        if self._alarmed() or final:
            self._counts = {}
            for number, name in self._names.items():
                self._counts[name] = self._counts.get(name, 0) + _sum(self._lost, number)
            if self._untracked is not None:
                self.untracked = _sum(self._untracked, 0)
        counts = dict(self._counts)
        if self._missed is not None:
            for name, count in self._missed(final).items():
                counts[name] = counts.get(name, 0) + count
        self.by_name = {name: count for name, count in counts.items() if count}
        self.total = sum(counts.values())

    def tell(self, final: bool = False) -> None:
        """Read, and say what is new; at the end say what there was in all."""
        self.read(final)
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
