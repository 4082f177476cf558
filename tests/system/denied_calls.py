"""Makes the system calls of a plan, none of which takes place: seccomp answers them.

``denied_calls.py PLAN`` maps the plan's memory where the plan wants it, and has a filter answer whatever comes through
the C library's syscall(), by EPERM at first and by 0 for the calls after. All else that the interpreter does goes on.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from array import array

PR_SET_NAME, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 15, 22, 38
COMM = b"denied_calls"
HEADER = 4
WORDS = 7

_MAP = 0x100032  # MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS|MAP_FIXED_NOREPLACE
_FUNCTION = 128  # bytes from syscall() on that hold its instruction
_LOAD, _EQUAL, _GREATER, _RETURN = 0x20, 0x15, 0x25, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_POINTER = 8  # offsetof(struct seccomp_data, instruction_pointer)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def answer(libc: ctypes.CDLL, error: int) -> None:
    """From now on calls through syscall() fail with ``error``, or give 0."""
    first = ctypes.cast(libc.syscall, ctypes.c_void_p).value
    assert first is not None
    last = first + _FUNCTION
    high = first >> 32
    assert last >> 32 == high
    words = array("Q")
    for code, true, false, value in (
        (_LOAD, 0, 0, _POINTER + 4),
        (_EQUAL, 0, 4, high),
        (_LOAD, 0, 0, _POINTER),
        (_GREATER, 0, 2, first & 0xFFFFFFFF),
        (_GREATER, 1, 0, last & 0xFFFFFFFF),
        (_RETURN, 0, 0, _ERRNO | error),
        (_RETURN, 0, 0, _ALLOW),
    ):
        words.append(code | true << 16 | false << 24 | value << 32)
    program = _Program(len(words), words.buffer_info()[0])
    assert libc.prctl(PR_SET_SECCOMP, 2, ctypes.byref(program), 0, 0) == 0


def main(path: str) -> None:
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    libc.syscall.argtypes = (ctypes.c_ulong,) * WORDS
    with open(path, "rb") as file:
        header = array("Q", file.read(8 * HEADER))
        base, size, failing, count = header
        calls = array("Q", file.read(8 * WORDS * count))
        memory = file.read(size)
    assert libc.mmap(base, size, 3, _MAP, -1, 0) == base
    ctypes.memmove(base, memory, size)
    rows = [tuple(calls[at : at + WORDS]) for at in range(0, len(calls), WORDS)]
    call = libc.syscall
    gc.disable()
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(PR_SET_NAME, COMM, 0, 0, 0) == 0
    answer(libc, 1)
    for row in rows[:failing]:
        call(*row)
    answer(libc, 0)
    for row in rows[failing:]:
        call(*row)


if __name__ == "__main__":
    main(sys.argv[1])
