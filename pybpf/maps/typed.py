"""A map as a mapping of Python objects."""

from __future__ import annotations

from errno import EINVAL

from pybpf.errors import MapError
from pybpf.maps.codec import codec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import Any

    from pybpf.maps.base import Map


class TypedMap:
    """``map`` with keys and values of the types given (see ``pybpf.maps.codec``), used like a dict.

    The values of a per-CPU map are lists, one for each possible CPU; one plain value
    assigned is given to every CPU. The types must have the map's sizes. Closing
    closes the map. Every operation raises MapError.
    """

    __slots__ = ("_key", "_value", "map")

    def __init__(self, map: Map, key: Any = None, value: Any = None) -> None:
        self.map = map
        try:
            self._key = codec(key, map.key_size)
            self._value = codec(value, map.value_size)
        except MapError as error:
            raise MapError(f"{map}: {error}", error.errno) from None

    @property
    def fd(self) -> int:
        """The file descriptor; -1 once closed."""
        return self.map.fd

    def _pack_key(self, key: Any) -> bytes:
        try:
            return self._key.pack(key)
        except MapError as error:
            raise MapError(f"{self.map}: key: {error}", error.errno) from None

    def _pack_value(self, value: Any) -> bytes:
        try:
            if self.map.percpu and isinstance(value, list):
                return self._pack_cpus(value)
            return self._value.pack(value)
        except MapError as error:
            raise MapError(f"{self.map}: value: {error}", error.errno) from None

    def _pack_cpus(self, values: list[Any]) -> bytes:
        stride = self.map.value_size + 7 & ~7
        count = self.map.width // stride
        if len(values) != count:
            raise MapError(f"{len(values)} values given, there are {count} possible CPUs", EINVAL)
        return b"".join([self._value.pack(value).ljust(stride, b"\0") for value in values])

    def _unpack(self, raw: bytes) -> Any:
        if self.map.percpu:
            return [self._value.unpack(part) for part in self.map.split(raw)]
        return self._value.unpack(raw)

    def get(self, key: Any, default: Any = None, flags: int = 0) -> Any:
        """The value of ``key``, or ``default``; ``flags``: ``abi.F_LOCK``."""
        raw = self.map.lookup(self._pack_key(key), flags)
        return default if raw is None else self._unpack(raw)

    def __getitem__(self, key: Any) -> Any:
        raw = self.map.lookup(self._pack_key(key))
        if raw is None:
            raise KeyError(key)
        return self._unpack(raw)

    def set(self, key: Any, value: Any, flags: int = 0) -> None:
        """Assign with ``flags``: ``abi.NOEXIST``, ``EXIST``, ``F_LOCK``."""
        self.map.update(self._pack_key(key), self._pack_value(value), flags)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: Any) -> None:
        if not self.map.delete(self._pack_key(key)):
            raise KeyError(key)

    def __contains__(self, key: Any) -> bool:
        return self.map.lookup(self._pack_key(key)) is not None

    def pop(self, key: Any, default: Any = None) -> Any:
        """Remove ``key`` and give its value, or ``default``: at once where the kernel can (hashes 5.14)."""
        raw_key = self._pack_key(key)
        try:
            raw = self.map.take(raw_key)
        except MapError as error:
            from pybpf.commands import UNSUPPORTED

            if error.errno not in UNSUPPORTED:
                raise
            raw = self.map.lookup(raw_key)
            if raw is not None and not self.map.delete(raw_key):
                raw = None
        return default if raw is None else self._unpack(raw)

    def keys(self) -> Iterator[Any]:
        """All keys, see ``Map.keys``."""
        for key in self.map.keys():  # noqa: SIM118
            yield self._key.unpack(key)

    def __iter__(self) -> Iterator[Any]:
        return self.keys()

    def items(self) -> Iterator[tuple[Any, Any]]:
        """All keys and values, see ``Map.items``."""
        for key, value in self.map.items():
            yield self._key.unpack(key), self._unpack(value)

    def values(self) -> Iterator[Any]:
        """All values."""
        for _, value in self.map.items():
            yield self._unpack(value)

    def update(self, items: Mapping[Any, Any] | Iterable[tuple[Any, Any]], flags: int = 0) -> int:
        """Set many elements in batches; returns how many."""
        pairs: Iterable[tuple[Any, Any]] = items.items() if hasattr(items, "items") else items
        return self.map.update_batch([(self._pack_key(key), self._pack_value(value)) for key, value in pairs], flags)

    def discard(self, keys: Iterable[Any]) -> int:
        """Remove many elements in batches; returns how many of them there were."""
        return self.map.delete_batch([self._pack_key(key) for key in keys])

    def take_all(self) -> Iterator[tuple[Any, Any]]:
        """Look up and delete everything, see ``Map.take_all``."""
        for key, value in self.map.take_all():
            yield self._key.unpack(key), self._unpack(value)

    def close(self) -> None:
        """Close the map."""
        self.map.close()

    def __enter__(self) -> TypedMap:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<TypedMap {self.map!r}>"
