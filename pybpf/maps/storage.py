"""Local storage: values that belong to tasks, sockets, inodes or cgroups, and go with them."""

from __future__ import annotations

import os
from errno import EINVAL, ENOENT
from struct import pack

from pybpf import abi, kernel
from pybpf.errors import MapError
from pybpf.maps.codec import codec
from pybpf.maps.objects import descriptor, open_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pybpf.maps.base import Map


class Storage:
    """A value for each task, socket, inode or cgroup (5.11, 5.2, 5.10, 6.2).

    Keys are descriptors of the objects: of sockets and files as they are; a task is
    given by its pid, a cgroup by its path. A value is gone with its object.
    """

    types = (
        abi.MAP_TYPE_SK_STORAGE,
        abi.MAP_TYPE_INODE_STORAGE,
        abi.MAP_TYPE_TASK_STORAGE,
        abi.MAP_TYPE_CGRP_STORAGE,
    )

    def __init__(self, map: Map, value: Any = None) -> None:
        if map.type not in self.types:
            raise MapError(f"{map} is no local storage (type {map.type})", EINVAL)
        self.map = map
        self._value = codec(value, map.value_size)

    def _owner(self, thing: Any) -> kernel.Fd:
        """What to close afterwards, with the descriptor that the kernel takes for the object."""
        if self.map.type == abi.MAP_TYPE_TASK_STORAGE and isinstance(thing, int):
            return _pidfd(thing)
        if self.map.type != abi.MAP_TYPE_SK_STORAGE and isinstance(thing, (str, bytes)):
            return open_path(os.fsdecode(thing), "cgroup" if self.map.type == abi.MAP_TYPE_CGRP_STORAGE else "file")
        return kernel.Fd(os.dup(descriptor(thing)), "a copy of the object's descriptor")

    def get(self, thing: Any, default: Any = None) -> Any:
        """The value of an object, ``default`` if it has none. Raises MapError."""
        with self._owner(thing) as owner:
            raw = self.map.lookup(pack("=i", owner.fd))
        return default if raw is None else self._value.unpack(raw)

    def __setitem__(self, thing: Any, value: Any) -> None:
        self.set(thing, value)

    def set(self, thing: Any, value: Any, flags: int = 0) -> None:
        """Give an object a value. Raises MapError."""
        raw = self._value.pack(value)
        with self._owner(thing) as owner:
            self.map.update(pack("=i", owner.fd), raw, flags)

    def __delitem__(self, thing: Any) -> None:
        with self._owner(thing) as owner:
            found = self.map.delete(pack("=i", owner.fd))
        if not found:
            raise KeyError(thing)


def _pidfd(pid: int) -> kernel.Fd:
    try:
        return kernel.Fd(os.pidfd_open(pid), f"process {pid}")
    except AttributeError:
        raise MapError("this Python has no os.pidfd_open, which task storage needs", ENOENT) from None
    except OSError as error:
        raise MapError(f"process {pid}: {error.strerror}", error.errno or ENOENT) from None
