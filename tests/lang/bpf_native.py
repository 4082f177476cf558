"""The few bpf() commands the back end's tests need, by ctypes; nothing of the product is involved."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

BPF_MAP_CREATE, BPF_MAP_LOOKUP_ELEM, BPF_PROG_LOAD, BPF_PROG_TEST_RUN = 0, 1, 5, 10
SOCKET_FILTER, XDP = 1, 6
ARRAY = 2
_NUMBER = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351}[platform.machine()]
_libc = ctypes.CDLL(None, use_errno=True)


def bpf(command: int, attr: bytearray) -> int:
    buffer = (ctypes.c_char * len(attr)).from_buffer(attr)
    result = _libc.syscall(_NUMBER, command, ctypes.byref(buffer), len(attr))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def array_map(value_size: int, entries: int) -> int:
    return bpf(BPF_MAP_CREATE, bytearray(struct.pack("<IIIII", ARRAY, 4, value_size, entries, 0)))


def array_value(fd: int, index: int, size: int) -> bytes:
    key, value = ctypes.c_uint32(index), ctypes.create_string_buffer(size)
    bpf(
        BPF_MAP_LOOKUP_ELEM,
        bytearray(struct.pack("<IxxxxQQQ", fd, ctypes.addressof(key), ctypes.addressof(value), 0)),
    )
    return value.raw


def load(code: bytes, kind: int = SOCKET_FILTER) -> int:
    """Load a program; the verifier's log becomes the message of the OSError."""
    license_ = ctypes.create_string_buffer(b"GPL")
    insns = ctypes.create_string_buffer(code, len(code))
    log = ctypes.create_string_buffer(1 << 20)
    attr = bytearray(120)
    places = ctypes.addressof(insns), ctypes.addressof(license_)
    struct.pack_into("<IIQQIIQ", attr, 0, kind, len(code) // 8, *places, 0, 0, 0)
    try:
        return bpf(BPF_PROG_LOAD, bytearray(attr))
    except OSError:
        struct.pack_into("<IIQ", attr, 24, 1, len(log), ctypes.addressof(log))
        try:
            return bpf(BPF_PROG_LOAD, bytearray(attr))
        except OSError as error:
            raise OSError(error.errno, log.value.decode()[-3000:]) from None


def test_run(fd: int, data: bytes) -> int:
    """Run once on a packet; returns the program's 32-bit result."""
    packet = ctypes.create_string_buffer(data, len(data))
    attr = bytearray(80)
    struct.pack_into("<IIIIQQ", attr, 0, fd, 0, len(data), 0, ctypes.addressof(packet), 0)
    bpf(BPF_PROG_TEST_RUN, attr)
    return struct.unpack_from("<I", attr, 4)[0]


test_run.__test__ = False  # type: ignore[attr-defined]
