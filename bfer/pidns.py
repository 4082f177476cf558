"""Numbers of processes where bfer runs in a pid namespace other than the first one: the programs see the first's.

The kernel is asked (by an iterator over all tasks, 5.8), for /proc tells only of the namespace that it was mounted in.
"""

from __future__ import annotations

from struct import Struct

from pybpf.links import attach
from pybpf.loader import Collection
from pybpf.object.reader import read_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from btf.reader import Btf
    from pybpf.links.iterators import IterLink

OBJECT = "pidns.bpf.o"
_PROGRAM = "number_processes"
_OWN = Struct("=II")  # programs.records.OwnNumber
_KEY = Struct("=I")


class OwnNumbers:
    """Numbers in the first namespace by those in bfer's own, which is ``level`` below it."""

    def __init__(self, load: Callable[[str], bytes], btf: Btf | None) -> None:
        """``load`` gives an object by its name. Raises Error."""
        self._collection = Collection(read_object(load(OBJECT), [_PROGRAM]), [_PROGRAM], btf=btf)
        self._map = self._collection.maps["own_numbers"]
        self._host: dict[int, int] = {}
        self._link: IterLink | None = None
        self.level = 0
        try:
            self._link = attach(self._collection.programs[_PROGRAM])
            self.refresh()
        except BaseException:
            self.close()
            raise

    def refresh(self) -> None:
        """Ask again: what was made since is known then. Raises Error."""
        assert self._link is not None
        for key in list(self._map.keys()):
            self._map.delete(key)
        self._link.read()
        found = {}
        for key, value in self._map.items():
            host, self.level = _OWN.unpack(value)
            found[_KEY.unpack(key)[0]] = host
        self._host = found

    def host(self, pid: int) -> int:
        """The number in the first namespace of the process that has ``pid`` here, 0 if there is none."""
        return self._host.get(pid, 0)

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
        self._collection.close()
