"""A fake kernel for tests: maps in dictionaries, programs that load, and any errno on demand."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from pybpf import abi


def memory(address: int, length: int) -> bytes:
    return ctypes.string_at(address, length)


def put(address: int, data: bytes) -> None:
    ctypes.memmove(address, data, len(data))


class FakeKernel:
    """Answers bpf() and perf_event_open. ``fail[command]`` is an errno, or a list of results for successive calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, bytes]] = []
        self.fail: dict[object, object] = {}
        self.maps: dict[int, dict] = {}
        self.log = b""
        self.batches = False

    def __call__(self, name: str, *args: object) -> int:
        if name != "bpf":
            return self._outcome(name) or self._fd()
        command, attr = args[:2]
        assert isinstance(command, int)
        assert isinstance(attr, bytearray)
        self.calls.append((command, bytes(attr)))
        return self._outcome(command) or self._command(command, attr)

    def commands(self) -> list[int]:
        return [command for command, _ in self.calls]

    def _outcome(self, key: object) -> int:
        wanted = self.fail.get(key)
        if isinstance(wanted, list):
            wanted = wanted.pop(0) if wanted else 0
        return -int(wanted or 0)  # type: ignore[call-overload]

    def _fd(self) -> int:
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def _command(self, command: int, attr: bytearray) -> int:
        if command == abi.MAP_CREATE:
            type, key, value, entries, flags = struct.unpack_from("=IIIII", attr)
            fd = self._fd()
            self.maps[fd] = {"type": type, "key": key, "value": value, "entries": entries, "flags": flags, "data": {}}
            return fd
        if command in (abi.MAP_LOOKUP_ELEM, abi.MAP_UPDATE_ELEM, abi.MAP_DELETE_ELEM, abi.MAP_GET_NEXT_KEY):
            return self._element(command, *struct.unpack("=IIQQQ", attr))
        if command == abi.MAP_FREEZE:
            self.maps[struct.unpack("=I", attr)[0]]["frozen"] = True
            return 0
        if command in (abi.PROG_LOAD, abi.BTF_LOAD, abi.RAW_TRACEPOINT_OPEN, abi.LINK_CREATE, abi.MAP_GET_FD_BY_ID):
            return self._fd()
        return -errno.EINVAL

    def _element(self, command: int, fd: int, _: int, key_at: int, value_at: int, flags: int) -> int:
        table = self.maps[fd]
        data = table["data"]
        key = memory(key_at, table["key"]) if key_at else None
        if command == abi.MAP_GET_NEXT_KEY:
            keys = list(data)
            following = keys[keys.index(key) + 1 :] if key in data else keys
            if not following:
                return -errno.ENOENT
            put(value_at, following[0])
            return 0
        if command == abi.MAP_UPDATE_ELEM:
            if table.get("frozen"):
                return -errno.EPERM
            if flags == abi.NOEXIST and key in data:
                return -errno.EEXIST
            if flags == abi.EXIST and key not in data:
                return -errno.ENOENT
            if key not in data and len(data) >= table["entries"]:
                return -errno.E2BIG
            data[key] = memory(value_at, table["value"])
            return 0
        if key not in data:
            return -errno.ENOENT
        if command == abi.MAP_DELETE_ELEM:
            del data[key]
        else:
            put(value_at, data[key])
        return 0
