"""Maps whose values are kernel objects: programs, maps, cgroups, devices, CPUs, sockets.

User space stores a descriptor (or a device's or queue's number) and reads back an id,
where the kernel lets it read at all.
"""

from __future__ import annotations

import os
import sys
from errno import EINVAL, ENOENT
from struct import pack, unpack_from

from pybpf import abi, kernel
from pybpf.errors import MapError, NotSupported, SyscallError
from pybpf.maps.base import Map
from pybpf.maps.codec import codec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


def descriptor(thing: Any) -> int:
    """The descriptor of a Map, Program, socket or file, or the number itself. Raises MapError."""
    if isinstance(thing, int):
        return thing
    found = getattr(thing, "fd", None)
    if found is None:
        try:
            found = thing.fileno()
        except AttributeError:
            raise MapError(f"{thing!r} has no file descriptor", EINVAL) from None
    if not isinstance(found, int) or found < 0:
        raise MapError(f"{thing!r} is closed", EINVAL)
    return found


class Objects:
    """A map of any type with objects for values; the key's type as in ``pybpf.maps.codec``.

    ``table[key] = object`` takes a Map, a Program, a socket or a descriptor, ``del table[key]``
    empties the slot. ``id(key)`` is what the kernel tells: the program's or map's id, a
    socket's cookie where the map's values have 8 bytes; None for an empty slot.
    """

    types: tuple[int, ...] = ()

    def __init__(self, map: Map, key: Any = int) -> None:
        if self.types and map.type not in self.types:
            raise MapError(f"{map} is no {type(self).__name__} (type {map.type})", EINVAL)
        self.map = map
        self._key = codec(key, map.key_size)

    def __setitem__(self, key: Any, thing: Any) -> None:
        self.set(key, thing)

    def set(self, key: Any, thing: Any, flags: int = 0) -> None:
        """Store an object with ``flags``: ``abi.NOEXIST``, ``EXIST``. Raises MapError."""
        raw = descriptor(thing).to_bytes(self.map.value_size, sys.byteorder)
        self.map.update(self._key.pack(key), raw, flags)

    def __delitem__(self, key: Any) -> None:
        if not self.map.delete(self._key.pack(key)):
            raise KeyError(key)

    def id(self, key: Any) -> int | None:
        """What the kernel tells of the slot. Raises MapError where it tells nothing (cgroup and perf event arrays).

        Raises NotSupported on a 32-bit kernel, which tells of another slot (see ``misread``).
        """
        if misread(self.map.type):
            raise _refusal(self.map)
        raw = self.map.lookup(self._key.pack(key))
        return None if raw is None else int.from_bytes(raw, sys.byteorder)

    def ids(self) -> Iterator[tuple[Any, int]]:
        """Every slot that is taken, with its id. Raises what ``id`` raises."""
        if misread(self.map.type):
            raise _refusal(self.map)
        for key, raw in self.map.items():
            yield self._key.unpack(key), int.from_bytes(raw, sys.byteorder)


def misread(type: int, machine: str = "") -> bool:
    """Whether this kernel reads back another slot of such a map than it was asked for.

    bpf_fd_array_map_lookup_elem() and array_of_map_lookup_elem() (kernel/bpf/arraymap.c) go by 8
    bytes a slot, bpf_fd_array_map_update_elem() by the size of a pointer: with 4 bytes slot 2 stands
    for slot 1. Tail calls find theirs.
    """
    from pybpf.ringbuf import long_size

    arrays = (abi.MAP_TYPE_PROG_ARRAY, abi.MAP_TYPE_ARRAY_OF_MAPS)
    return type in arrays and long_size(machine or os.uname().machine) == 4


def _refusal(map: Map) -> NotSupported:
    return NotSupported(
        f"{map}: a 32-bit kernel tells of other slots than those asked for: remember what you set", EINVAL
    )


class ProgArray(Objects):
    """Programs to tail-call, by index; all must be of one type."""

    types = (abi.MAP_TYPE_PROG_ARRAY,)


class SockMap(Objects):
    """Sockets, by index or key (sockmap 4.14, sockhash 4.18, reuseport_sockarray 4.19)."""

    types = (abi.MAP_TYPE_SOCKMAP, abi.MAP_TYPE_SOCKHASH, abi.MAP_TYPE_REUSEPORT_SOCKARRAY)


class XskMap(Objects):
    """AF_XDP sockets by receive queue (4.18)."""

    types = (abi.MAP_TYPE_XSKMAP,)


class CgroupArray(Objects):
    """Cgroups (version 2) by index (4.8); ``table[0] = "/sys/fs/cgroup/name"`` takes a path too."""

    types = (abi.MAP_TYPE_CGROUP_ARRAY,)

    def set(self, key: Any, thing: Any, flags: int = 0) -> None:
        if not isinstance(thing, (str, bytes)):
            super().set(key, thing, flags)
            return
        with open_path(os.fsdecode(thing), "cgroup") as folder:
            super().set(key, folder.fd, flags)


class MapOfMaps(Objects):
    """Maps by index or key (4.12); ``open(key)`` gives the map in a slot, a new owner of it."""

    types = (abi.MAP_TYPE_ARRAY_OF_MAPS, abi.MAP_TYPE_HASH_OF_MAPS)

    def set(self, key: Any, thing: Any, flags: int = 0) -> None:
        super().set(key, getattr(thing, "map", thing), flags)

    def open(self, key: Any) -> Map | None:
        """The inner map of a slot, None if it is empty; the caller closes it. Needs CAP_SYS_ADMIN."""
        for _ in range(8):
            id = self.id(key)
            if id is None:
                return None
            try:
                return Map.by_id(id)
            except SyscallError as error:
                # Replaced and freed between the two calls: look again.
                if error.errno != ENOENT:
                    raise
        return None


class DevMap(Objects):
    """Devices by index or key (4.14, hash 5.4): ``table[0] = ifindex``, or ``(ifindex, program)`` (5.8)."""

    types: tuple[int, ...] = (abi.MAP_TYPE_DEVMAP, abi.MAP_TYPE_DEVMAP_HASH)

    def set(self, key: Any, thing: Any, flags: int = 0) -> None:
        self.map.update(self._key.pack(key), _with_program(self.map, thing), flags)

    def get(self, key: Any) -> tuple[int, int] | None:
        """``(ifindex, program id or 0)``, None for an empty slot."""
        return _pair(self.map.lookup(self._key.pack(key)))


class CpuMap(DevMap):
    """CPUs (4.15): ``table[cpu] = queue size``, or ``(queue size, program)`` (5.9)."""

    types = (abi.MAP_TYPE_CPUMAP,)


def _with_program(map: Map, thing: Any) -> bytes:
    number, program = thing if isinstance(thing, tuple) else (thing, None)
    if not isinstance(number, int):
        raise MapError(f"{map}: {number!r} is not a number", EINVAL)
    if map.value_size == 4:
        if program is not None:
            raise MapError(f"{map}: values of 4 bytes hold no program: make the map with 8", EINVAL)
        return pack("=I", number)
    return pack("=Ii", number, descriptor(program) if program is not None else 0)


def _pair(raw: bytes | None) -> tuple[int, int] | None:
    if raw is None:
        return None
    number, program = unpack_from("=II", raw.ljust(8, b"\0"))
    return (number, program) if number else None


def open_path(path: str, noun: str) -> kernel.Fd:
    """A descriptor of a file or folder, such as a cgroup's. Raises MapError."""
    try:
        return kernel.Fd(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), f"{noun} {path}")
    except OSError as error:
        raise MapError(f"{noun} {path}: {error.strerror}", error.errno or ENOENT) from None
