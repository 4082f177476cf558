"""Opens files in every way that can go wrong, by raw system calls, for comparison with strace.

Run as ``open_workload.py FOLDER``. The C library is by-passed so that the calls
are exactly those written here, in this order, in two threads and a child.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading

NUMBERS = {
    "x86_64": {"open": 2, "creat": 85, "openat": 257, "openat2": 437},
    "aarch64": {"openat": 56, "openat2": 437},
}[platform.machine()]
AT_FDCWD = -100

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


class OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def call(name: str, *args: object) -> int:
    """One system call; a descriptor that it gives is closed at once."""
    if name not in NUMBERS:
        return -1
    fd = libc.syscall(ctypes.c_long(NUMBERS[name]), *(ctypes.c_long(a) if isinstance(a, int) else a for a in args))
    if fd >= 0:
        os.close(fd)
    return int(fd)


FLAGS = (
    os.O_RDONLY,
    os.O_WRONLY,
    os.O_RDWR,
    os.O_RDONLY | os.O_CLOEXEC,
    os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW,
    os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC,
    os.O_WRONLY | os.O_APPEND | os.O_SYNC | os.O_NOATIME,
    os.O_PATH | os.O_CLOEXEC,
    os.O_TMPFILE | os.O_RDWR,
    os.O_DSYNC | os.O_NOCTTY | os.O_DIRECT,
    3,
)
MODES = (0o644, 0o600, 0o7777, 0)


def names(folder: bytes) -> list[bytes]:
    """Paths of many lengths and spellings."""
    deep = b"/".join([b"d" * 200] * 21)
    return [
        b"",
        b".",
        b"..",
        b"/",
        b"relative",
        b"./relative",
        b"no/such/dir/file",
        folder + b"/plain",
        folder + b"/with space",
        folder + b'/tab\tnewline\nquote"back\\slash',
        folder + b"/bell\x07escape\x1b[31mred",
        folder + b"/caf\xc3\xa9",
        folder + b"/\xe6\x97\xa5\xe6\x9c\xac",
        folder + b"/invalid\xff\xfeutf8",
        folder + b"/truncated\xe6\x97",
        folder + b"/del\x7f",
        folder + b"/octal\x011",
        folder + b"/%s%n%p",
        folder + b"/" + b"n" * 255,
        folder + b"/" + b"n" * 256,
        (folder + b"/" + deep)[:1000],
        (folder + b"/" + deep)[:2048],
        (folder + b"/" + deep)[:4094],
        (folder + b"/" + deep)[:4095],
        (b"/" + deep)[:4090],
        b"/dev/null",
        b"/proc/self/nothing",
    ]


def openings(folder: bytes, dirfd: int) -> None:
    """At least 200 calls."""
    for i, name in enumerate(names(folder)):
        path = ctypes.create_string_buffer(name)
        for j in range(4):
            flags = FLAGS[(i + 3 * j) % len(FLAGS)]
            mode = MODES[(i + j) % len(MODES)]
            call("openat", (AT_FDCWD, dirfd, -1, 12345)[j], path, flags, mode)
        call("open", path, FLAGS[i % len(FLAGS)], MODES[i % len(MODES)])
        if i % 2:
            call("creat", path, MODES[i % len(MODES)])
        else:
            how = OpenHow(os.O_RDONLY | os.O_CLOEXEC, 0, (i % 6) * 4)
            call("openat2", AT_FDCWD, path, ctypes.byref(how), 24)
    for pointer in (0, 1, 8, 0xFFF, 0x7FFFFFFFF000, -1, -4096, 1 << 63):
        call("openat", AT_FDCWD, pointer, os.O_RDONLY, 0)
        call("open", pointer, os.O_WRONLY | os.O_CREAT, 0o640)
        call("openat2", AT_FDCWD, b"x", pointer, 24)
        call("openat2", AT_FDCWD, b"y", ctypes.byref(OpenHow(os.O_WRONLY | os.O_CREAT, 0o640, 0)), pointer & 0xFFFF)
    for flags in (1 << 30, 0x7FFFFFFF, 0o100 | 1 << 29):
        call("openat", AT_FDCWD, b"/dev/null", flags, 0o644)
    call("openat2", AT_FDCWD, b"z", ctypes.byref(OpenHow(os.O_CREAT | os.O_RDWR, 0o600, 0x3F)), 24)
    call("openat2", AT_FDCWD, b"z", ctypes.byref(OpenHow(1 << 40, 0, 0)), 24)


def main() -> None:
    folder = os.fsencode(sys.argv[1])
    os.chdir(folder)
    dirfd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for name in ("plain", "relative", "with space"):
        with open(name, "w"):
            pass
    worker = threading.Thread(target=openings, args=(folder, dirfd))
    worker.start()
    worker.join()  # one after the other: otherwise descriptor numbers depend on luck
    openings(folder, dirfd)
    child = os.fork()
    if child == 0:
        openings(folder, dirfd)
        os._exit(0)
    os.waitpid(child, 0)


if __name__ == "__main__":
    main()
