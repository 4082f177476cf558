"""Maps without keys: queues and stacks (4.20), bloom filters (5.16)."""

from __future__ import annotations

from errno import E2BIG, EINVAL

from pybpf import abi, kernel
from pybpf.errors import MapError
from pybpf.maps.codec import codec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pybpf.maps.base import Map


class Queue:
    """A queue or stack: ``push``, ``pop``, ``peek`` of values of a type (see ``pybpf.maps.codec``)."""

    def __init__(self, map: Map, value: Any = None) -> None:
        if map.type not in (abi.MAP_TYPE_QUEUE, abi.MAP_TYPE_STACK):
            raise MapError(f"{map} is neither a queue nor a stack (type {map.type})", EINVAL)
        self.map = map
        self._value = codec(value, map.value_size)

    def push(self, value: Any, replace: bool = False) -> bool:
        """Put ``value`` in; False if there is no room. ``replace`` drops the oldest value instead."""
        try:
            self.map.update(b"", self._value.pack(value), abi.EXIST if replace else abi.ANY)
        except MapError as error:
            if error.errno == E2BIG:
                return False
            raise
        return True

    def pop(self, default: Any = None) -> Any:
        """Take the next value out: a queue's oldest, a stack's newest; ``default`` when there is none."""
        raw = self.map.take()
        return default if raw is None else self._value.unpack(raw)

    def peek(self, default: Any = None) -> Any:
        """The next value, which stays."""
        raw = self.map.lookup()
        return default if raw is None else self._value.unpack(raw)

    def drain(self) -> Iterator[Any]:
        """Take values out until there is none; those that arrive meanwhile too."""
        while True:
            raw = self.map.take()
            if raw is None:
                return
            yield self._value.unpack(raw)


class Bloom:
    """A bloom filter: what was added is always in it, anything else hardly ever."""

    def __init__(self, map: Map, value: Any = None) -> None:
        if map.type != abi.MAP_TYPE_BLOOM_FILTER:
            raise MapError(f"{map} is no bloom filter (type {map.type})", EINVAL)
        self.map = map
        self._value = codec(value, map.value_size)

    def add(self, value: Any) -> None:
        """Add ``value``, for good. Raises MapError."""
        self.map.update(b"", self._value.pack(value))

    def __contains__(self, value: Any) -> bool:
        # The kernel reads the value to look for from where other types put the answer.
        return kernel.map_lookup(self.map.fd, b"", bytearray(self._value.pack(value)), str(self.map))
