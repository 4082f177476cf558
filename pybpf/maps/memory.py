"""Arrays made with ``abi.F_MMAPABLE`` (5.5) and arenas (6.9), mapped: read and written without system calls."""

from __future__ import annotations

from errno import EINVAL

from pybpf import abi, kernel
from pybpf.errors import MapError
from pybpf.maps.codec import codec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mmap import mmap
    from types import TracebackType
    from typing import Any

    from pybpf.maps.base import Map


class MappedArray:
    """The values of an array, by index: ``array[3]``, ``array[3] = value``; ``type`` as in ``pybpf.maps.codec``.

    A value is copied as a whole by neither side: programs may see half of it, unless it is one
    aligned number, for which ``words`` is the better view. Writable mappings keep the
    map from being frozen. Raises MapError, EPERM for a map without the flag.
    """

    def __init__(self, map: Map, type: Any = None, writable: bool = True) -> None:
        if map.type != abi.MAP_TYPE_ARRAY:
            raise MapError(f"{map} is no array (type {map.type})", EINVAL)
        self._codec = codec(type, map.value_size)
        self._stride = map.value_size + 7 & ~7
        self._count = map.max_entries
        page = kernel.page_size()
        size = -(-self._stride * self._count // page) * page
        self._memory = kernel.map_memory(map.fd, size, writable=writable, what=str(map))

    def _at(self, index: int) -> int:
        if not 0 <= index < self._count:
            raise IndexError(f"index {index} of {self._count}")
        return index * self._stride

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Any:
        at = self._at(index)
        return self._codec.unpack(self._memory[at : at + self._codec.size])

    def __setitem__(self, index: int, value: Any) -> None:
        at = self._at(index)
        try:
            self._memory[at : at + self._codec.size] = self._codec.pack(value)
        except TypeError:
            raise MapError("the array is mapped read-only", EINVAL) from None

    def words(self) -> memoryview:
        """All of it as u64, one native access each; for arrays of 8-byte values. Release it before ``close``."""
        return memoryview(self._memory).cast("Q")[: self._stride * self._count // 8]

    def close(self) -> None:
        """Unmap; a second call does nothing."""
        self._memory.close()

    def __enter__(self) -> MappedArray:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def map_arena(map: Map) -> mmap:
    """An arena's memory: ``max_entries`` pages, which come into being when first touched. The caller closes it."""
    if map.type != abi.MAP_TYPE_ARENA:
        raise MapError(f"{map} is no arena (type {map.type})", EINVAL)
    return kernel.map_memory(map.fd, map.max_entries * kernel.page_size(), writable=True, what=str(map))
