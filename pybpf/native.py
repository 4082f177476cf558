"""The raw system call, made from Python: libc's ``syscall()``, or a few bytes of machine code.

Only ``_ctypes`` is imported: the ``ctypes`` package on top of it costs
milliseconds and hundreds of kilobytes that nothing here needs.
"""

from __future__ import annotations

import _ctypes
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap
    from typing import Any


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "l"


class _Char(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "c"


class _Libc(_ctypes.CFuncPtr):
    """``long syscall(long number, ...)``; it leaves the reason of a failure in errno."""

    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Long
    _argtypes_ = (_Long,) * 7


class _Direct(_ctypes.CFuncPtr):
    """Machine code with the same arguments, whose result is the kernel's own (-errno on failure)."""

    _flags_ = _ctypes.FUNCFLAG_CDECL
    _restype_ = _Long
    _argtypes_ = (_Long,) * 7


# Move the arguments one place down, the first into the number register, and trap.
_CODE = {
    "x86_64": (
        "4889f8 4889f7 4889d6 4889ca 4d89c2 4d89c8"  # mov rax,rdi; rdi,rsi; rsi,rdx; rdx,rcx; r10,r8; r8,r9
        "4c8b4c2408 0f05 c3"  # mov r9,[rsp+8]; syscall; ret
    ),
    "aarch64": (
        "e80300aa e00301aa e10302aa e20303aa e30304aa e40305aa e50306aa"  # mov x8,x0; x0,x1; ... x5,x6
        "010000d4 c0035fd6"  # svc #0; ret
    ),
}


def address(buffer: bytearray | mmap) -> int:
    """Address of a writable buffer's first byte; valid while the buffer lives and keeps its size."""
    return _ctypes.addressof(_Char.from_buffer(buffer))


def by_libc() -> Callable[..., int]:
    """The system call through the C library. Raises OSError in a Python that cannot look up symbols."""
    everything: Any = None  # dlopen(NULL): all that is linked in
    function = _Libc(_ctypes.dlsym(_ctypes.dlopen(everything, 0), "syscall"))
    get_errno = _ctypes.get_errno

    def syscall(number: int, a: int, b: int, c: int, d: int = 0, e: int = 0, f: int = 0) -> int:
        result: int = function(number, a, b, c, d, e, f)
        return result if result != -1 else -get_errno()

    return syscall


def by_machine_code() -> Callable[..., int]:
    """The system call without a C library's help, for a statically linked Python.

    Raises OSError for a machine without such code, or where the system forbids
    executable anonymous memory.
    """
    import mmap

    code = _CODE.get(os.uname().machine) if sys.maxsize > 1 << 32 else None
    if code is None:
        raise OSError(f"no system call code for {os.uname().machine}")
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    raw = bytes.fromhex(code)
    page[: len(raw)] = raw
    function = _Direct(address(page))

    def syscall(number: int, a: int, b: int, c: int, d: int = 0, e: int = 0, f: int = 0, page: mmap.mmap = page) -> int:
        result: int = function(number, a, b, c, d, e, f)
        return result

    return syscall
