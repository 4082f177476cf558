"""The kernel map: creation from a specification, access by the bytes of keys and values."""

from __future__ import annotations

import sys
from errno import E2BIG, EEXIST, EINVAL, ENOENT, EPERM

from pybpf import abi, kernel
from pybpf.errors import LoadError, MapError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Any

    from pybpf.maps.info import MapInfo
    from pybpf.maps.typed import TypedMap
    from pybpf.object.spec import MapSpec


def check_ringbuf_size(name: str, size: int) -> None:
    """Raise LoadError unless ``size`` is what the kernel takes for a ring buffer (kernel/bpf/ringbuf.c)."""
    page = kernel.page_size()
    if size >= page and not size & size - 1:
        return
    good = page
    while good < size:
        good *= 2
    raise LoadError(
        f"ring buffer {name!r} has {size} bytes: it must be a power of two and a multiple of the page size ({page}), "
        f"such as {good}",
        EINVAL,
    )


class Map:
    """A kernel map. Keys and values are bytes of exactly ``key_size`` and ``value_size``.

    Per-CPU values are exchanged as one block: a value for each possible CPU,
    each padded to a multiple of 8 bytes. Every operation raises MapError.
    """

    __slots__ = ("_fd", "_width", "key_size", "max_entries", "name", "percpu", "type", "value_size")

    def __init__(self, fd: kernel.Fd, name: str, type: int, key_size: int, value_size: int, max_entries: int) -> None:
        self._fd = fd
        self.name = name
        self.type = type
        self.key_size = key_size
        self.value_size = value_size
        self.max_entries = max_entries
        self.percpu = type in abi.PERCPU_MAP_TYPES
        if self.percpu:
            self._width = (value_size + 7 & ~7) * kernel.possible_cpus()
        else:
            self._width = value_size

    @classmethod
    def create(cls, spec: MapSpec, btf_fd: int = 0, inner_fd: int = 0, extra_flags: int = 0) -> Map:
        """Create the map that ``spec`` describes; its initial contents are not written here.

        ``btf_fd`` is the loaded BTF that the spec's type ids belong to, 0 for
        none; ``inner_fd`` a map like the ones that a map of maps will hold;
        ``extra_flags`` are added to the spec's.
        Raises LoadError.
        """
        entries = spec.max_entries
        if spec.type == abi.MAP_TYPE_RINGBUF:
            check_ringbuf_size(spec.name, entries)
        elif spec.type == abi.MAP_TYPE_PERF_EVENT_ARRAY and not entries:
            entries = kernel.possible_cpus()
        typed = bool(btf_fd and (spec.key_type_id or spec.value_type_id))
        try:
            fd = kernel.map_create(
                spec.type,
                spec.key_size,
                spec.value_size,
                entries,
                name=spec.name,
                flags=spec.flags | extra_flags,
                inner_fd=inner_fd,
                btf_fd=btf_fd if typed else 0,
                key_type_id=spec.key_type_id if typed else 0,
                value_type_id=spec.value_type_id if typed else 0,
                map_extra=spec.map_extra,
            )
        except LoadError as error:
            if not typed or error.errno == EPERM:
                raise
            # Many map types take no BTF, and which ones depends on the kernel; the types only describe.
            fd = kernel.map_create(
                spec.type,
                spec.key_size,
                spec.value_size,
                entries,
                name=spec.name,
                flags=spec.flags | extra_flags,
                inner_fd=inner_fd,
                map_extra=spec.map_extra,
            )
        try:
            return cls(fd, spec.name, spec.type, spec.key_size, spec.value_size, entries)
        except BaseException:
            fd.close()
            raise

    @classmethod
    def of(cls, fd: kernel.Fd) -> Map:
        """The map behind a descriptor, which belongs to the Map from now on. Raises SyscallError."""
        try:
            from pybpf.commands import check_kind
            from pybpf.maps.info import MapInfo

            check_kind(fd, "bpf-map", "map")
            info = MapInfo(fd.fd, fd.label)
            return cls(fd, info.name or fd.label, info.type, info.key_size, info.value_size, info.max_entries)
        except BaseException:
            fd.close()
            raise

    @classmethod
    def by_id(cls, id: int) -> Map:
        """Open a map that exists (4.13). Needs CAP_SYS_ADMIN; raises SyscallError (ENOENT: gone)."""
        from pybpf.commands import map_get_fd_by_id

        return cls.of(map_get_fd_by_id(id))

    @classmethod
    def open_pinned(cls, path: str, flags: int = 0) -> Map:
        """Open a map pinned in a bpf file system; ``flags``: ``abi.F_RDONLY`` or ``F_WRONLY``. Raises SyscallError."""
        from pybpf.commands import obj_get

        return cls.of(obj_get(path, flags))

    @property
    def fd(self) -> int:
        """The file descriptor; -1 once closed."""
        return self._fd.fd

    def _check(self, key: bytes) -> None:
        if len(key) != self.key_size:
            raise MapError(f"{self}: a key has {self.key_size} bytes, got {len(key)}", EINVAL)

    def __str__(self) -> str:
        return f"map {self.name!r}"

    def lookup(self, key: bytes = b"", flags: int = 0) -> bytes | None:
        """The value of ``key``, None when it is absent. Arrays of objects give the 4-byte id in a slot.

        ``flags``: ``abi.F_LOCK`` takes the value's bpf_spin_lock meanwhile (5.1). A
        queue or stack has no key: the oldest or the newest value, which stays.
        """
        self._check(key)
        value = bytearray(self._width)
        if flags:
            from pybpf.commands import map_lookup

            return bytes(value) if map_lookup(self.fd, key, value, flags, str(self)) else None
        return bytes(value) if kernel.map_lookup(self.fd, key, value, str(self)) else None

    def lookup_percpu(self, key: bytes) -> list[bytes]:
        """The value of each possible CPU, in order; an empty list when ``key`` is absent."""
        if not self.percpu:
            raise MapError(f"{self} is not a per-CPU map", EINVAL)
        raw = self.lookup(key)
        return [] if raw is None else self.split(raw)

    def split(self, raw: bytes) -> list[bytes]:
        """Take a per-CPU block apart into the values of the possible CPUs."""
        size = self.value_size
        return [raw[at : at + size] for at in range(0, len(raw), size + 7 & ~7)]

    def take(self, key: bytes = b"") -> bytes | None:
        """Look up and delete at once: the head of a queue or stack, or a hash element (5.14). None when absent."""
        from pybpf.commands import map_lookup_and_delete

        self._check(key)
        value = bytearray(self._width)
        return bytes(value) if map_lookup_and_delete(self.fd, key, value, str(self)) else None

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """Set ``key`` to ``value`` (a descriptor's 4 bytes for arrays of objects).

        ``flags``: ``abi.NOEXIST`` creates only, ``abi.EXIST`` replaces only, ``abi.F_LOCK``
        takes the value's bpf_spin_lock meanwhile (5.1). A per-CPU map also takes one
        plain value, which every CPU gets.
        """
        self._check(key)
        value = self.whole(value)
        try:
            kernel.map_update(self.fd, key, value, flags, str(self))
        except MapError as error:
            reason = self._update_reason(error.errno)
            if not reason:
                raise
            raise MapError(f"{self}: {reason}", error.errno, str(error)) from None

    def whole(self, value: bytes) -> bytes:
        """``value`` as the kernel exchanges it: for a per-CPU map the same for every CPU, unless it is a block."""
        if len(value) == self._width:
            return value
        if not self.percpu or len(value) != self.value_size:
            raise MapError(f"{self}: a value has {self._width} bytes, got {len(value)}", EINVAL)
        stride = value.ljust(self.value_size + 7 & ~7, b"\0")
        return stride * (self._width // len(stride))

    @property
    def width(self) -> int:
        """Bytes of a value as the kernel exchanges it: of all CPUs for a per-CPU map."""
        return self._width

    def _update_reason(self, error: int) -> str:
        if error == E2BIG:
            return f"no room for another element (max_entries {self.max_entries})"
        if error == EEXIST:
            return "the key exists already"
        if error == ENOENT:
            return "there is no such key"
        return ""

    def delete(self, key: bytes) -> bool:
        """Remove ``key``; False if it was not there. Arrays cannot delete (EINVAL)."""
        self._check(key)
        return kernel.map_delete(self.fd, key, str(self))

    def freeze(self) -> None:
        """Forbid every further write from user space; programs with F_RDONLY_PROG then see constants."""
        kernel.map_freeze(self.fd, str(self))

    def id(self) -> int:
        """The kernel's id of the map."""
        return int.from_bytes(kernel.obj_get_info(self.fd, 8, str(self))[4:8], sys.byteorder)

    # --- what other modules do, imported on use ---------------------------------

    def keys(self) -> Iterator[bytes]:
        """All keys, each at most once, whatever is deleted meanwhile by the caller or by programs."""
        from pybpf.maps.walk import keys

        return keys(self)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All ``(key, value)``; what is deleted meanwhile may be missing, nothing comes twice.

        Elements added meanwhile may or may not be seen.
        """
        from pybpf.maps.walk import items

        return items(self)

    def typed(self, key: Any = None, value: Any = None) -> TypedMap:
        """This map with keys and values of these types, see ``pybpf.maps.codec``; None leaves bytes."""
        from pybpf.maps.typed import TypedMap

        return TypedMap(self, key, value)

    def info(self) -> MapInfo:
        """Everything that the kernel tells of the map. Raises SyscallError."""
        from pybpf.maps.info import MapInfo

        return MapInfo(self.fd, str(self))

    def pin(self, path: str) -> None:
        """Give the map a name in a bpf file system, under which it outlives us. Raises SyscallError."""
        from pybpf.commands import obj_pin

        obj_pin(path, self.fd, str(self))

    def update_batch(self, items: Iterable[tuple[bytes, bytes]], flags: int = 0) -> int:
        """Set many elements, with as few system calls as this kernel can; returns how many."""
        from pybpf.maps.batch import update

        return update(self, items, flags)

    def delete_batch(self, keys: Iterable[bytes]) -> int:
        """Remove many elements, likewise; returns how many of them there were."""
        from pybpf.maps.batch import delete

        return delete(self, keys)

    def take_all(self) -> Iterator[tuple[bytes, bytes]]:
        """Look up and delete everything, element by element of what comes; new ones may be among it."""
        from pybpf.maps.batch import take

        return take(self)

    def close(self) -> None:
        """Close the descriptor; programs that use the map keep it alive."""
        self._fd.close()

    def __enter__(self) -> Map:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Map {self.name!r} type {self.type} fd {self.fd}>"
