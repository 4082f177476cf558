"""The user ring buffer's writer (6.1): records from this process to a program, by ``bpf_user_ringbuf_drain``.

The ring buffer the other way round: the consumer's counter is the kernel's, the producer's
and the data are ours to write. One writer at a time; records become visible in order.
"""

from __future__ import annotations

import os
from errno import E2BIG, EBADF, EINVAL
from struct import pack_into

from pybpf import abi, kernel
from pybpf.errors import MapError
from pybpf.ringbuf import counter, long_size, make_barrier, strongly_ordered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap
    from types import TracebackType

    from pybpf.maps import Map

_HEADER = abi.RINGBUF_HDR_SZ


class UserRingBuffer:
    """Writer of a user ring buffer map; the map stays the caller's.

    ``write`` puts a record in, False if there is no room now; ``fd`` is the map's, for
    epoll: writable (EPOLLOUT) when a program has made room. Raises MapError.
    """

    def __init__(self, map: Map) -> None:
        if map.type != abi.MAP_TYPE_USER_RINGBUF:
            raise MapError(f"{map} is no user ring buffer (type {map.type})", EINVAL)
        self._map = map
        self.size = map.max_entries
        self._mappings: list[mmap] = []
        page = self._page = kernel.page_size()
        machine = os.uname().machine
        what = str(map)
        try:
            # The consumer's page can only be read; then the producer's page and the data twice.
            self._mappings.append(kernel.map_memory(map.fd, page, what=what))
            self._mappings.append(kernel.map_memory(map.fd, page + 2 * self.size, page, writable=True, what=what))
        except BaseException:
            self._unmap()
            raise
        width = long_size(machine)
        consumer, self._data = self._mappings
        self._consumer = counter(memoryview(consumer)[:width])
        self._producer = counter(memoryview(self._data)[:width])
        self._wrap = (1 << 8 * width) - 1
        self._barrier: Callable[[], None] = (lambda: None) if strongly_ordered(machine) else make_barrier()

    @property
    def fd(self) -> int:
        """The map's file descriptor; -1 once the map is closed."""
        return self._map.fd

    def room(self) -> int:
        """Bytes that are free, headers included."""
        if not self._mappings:
            raise MapError("the user ring buffer's writer is closed", EBADF)
        return self.size - (self._producer[0] - self._consumer[0] & self._wrap)

    def write(self, data: bytes) -> bool:
        """Put a record in; False if there is no room now. Raises MapError for one that never has room.

        The record is there before the counter that shows it: a store is not passed by later
        ones on x86, elsewhere a barrier stands between. The first barrier keeps the data from
        being written before the consumer is known to have left the place.
        """
        need = _HEADER + len(data) + 7 & ~7
        if need > self.size:
            raise MapError(f"{self._map}: a record of {len(data)} bytes never fits {self.size}", E2BIG)
        if self.room() < need:
            return False
        self._barrier()
        position = self._producer[0]
        at = self._page + (position & self.size - 1)
        pack_into("=II", self._data, at, len(data), 0)
        self._data[at + _HEADER : at + _HEADER + len(data)] = data
        self._barrier()
        self._producer[0] = position + need & self._wrap
        return True

    def _unmap(self) -> None:
        for mapping in self._mappings:
            mapping.close()
        self._mappings = []

    def close(self) -> None:
        """Unmap the memory; a second call does nothing."""
        if self._mappings:
            self._consumer.release()
            self._producer.release()
            self._unmap()

    def __enter__(self) -> UserRingBuffer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
