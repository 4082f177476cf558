"""System call numbers by machine, the call itself, and the place where tests put a fake kernel."""

from __future__ import annotations

import os
import sys
from errno import ENOSYS

from pybpf.errors import NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap

_NAMES = ("bpf", "perf_event_open")

# arch/*/kernel/syscalls/*.tbl and include/uapi/asm-generic/unistd.h
NUMBERS = {
    "x86_64": (321, 298),
    "i386": (357, 336),
    "generic": (280, 241),
    "arm": (386, 364),
    "s390": (351, 331),
    "ppc": (361, 319),
    "sparc": (349, 327),
    "mips": (4355, 4333),
    "mips64": (5315, 5292),
    "mipsn32": (6319, 6296),
}
_GENERIC = ("aarch64", "arm64", "riscv", "loongarch", "arc", "csky", "hexagon", "nios2", "openrisc")


def abi(machine: str, wide: bool) -> str:
    """Key of NUMBERS for what uname calls ``machine``, in a process of 64 (``wide``) or 32 bits.

    A 32-bit process under a 64-bit kernel uses the numbers of the 32-bit
    machine. Raises NotSupported for an unknown machine.
    """
    if machine in ("x86_64", "amd64") or (len(machine) == 4 and machine[0] == "i" and machine[2:] == "86"):
        return "x86_64" if wide else "i386"
    if machine.startswith(("arm", "aarch64")) and not wide:
        return "arm"
    if machine.startswith(_GENERIC):
        return "generic"
    if machine.startswith("mips"):
        if wide:
            return "mips64"
        # n32 has 64-bit registers and the compiler's own triplet says so.
        return "mipsn32" if "abin32" in getattr(sys.implementation, "_multiarch", "") else "mips"
    for prefix in ("s390", "ppc", "sparc"):
        if machine.startswith(prefix):
            return prefix
    raise NotSupported(
        f"bpf() has no known system call number on machine {machine!r}: add it to pybpf.syscalls", ENOSYS
    )


_hook: Callable[..., int | None] | None = None
_raw: Callable[..., int] | None = None
_address: Callable[[bytearray | mmap], int] | None = None
_numbers: dict[str, int] = {}


def set_hook(hook: Callable[..., int | None] | None) -> None:
    """Put ``hook`` before the kernel (a fake for tests), or take it away with None.

    It is called as ``hook("bpf", command, attr)`` with ``attr`` the bytearray
    that the kernel would get (and ``common`` as fourth argument if there is one), or
    ``hook("perf_event_open", attr, pid, cpu, group, flags)``.
    It returns the result, ``-errno``, or None to let the real kernel do it.
    """
    global _hook
    _hook = hook


def address(buffer: bytearray | mmap) -> int:
    """Address of a writable, non-empty buffer; keep the buffer alive while it is used."""
    return (_address or _find_address())(buffer)


def _find_address() -> Callable[[bytearray | mmap], int]:
    global _address
    try:
        from pybpf import native
    except ImportError as error:
        raise _no_ctypes(error) from None
    _address = native.address
    return native.address


def _no_ctypes(error: ImportError) -> NotSupported:
    return NotSupported(
        "this Python has no _ctypes module, so it cannot call bpf(): install it (OpenWrt: python3-ctypes)",
        ENOSYS,
        str(error),
    )


def _resolve() -> Callable[..., int]:
    """Find the way to make system calls, once."""
    global _raw
    _numbers.update(zip(_NAMES, NUMBERS[abi(os.uname().machine, sys.maxsize > 1 << 32)]))
    try:
        from pybpf import native
    except ImportError as error:
        raise _no_ctypes(error) from None
    try:
        _raw = native.by_libc()
    except OSError as libc_error:
        try:
            _raw = native.by_machine_code()
        except OSError as error:
            raise NotSupported(
                "this Python is statically linked and offers no way to call bpf(): use one with a dynamic C library",
                ENOSYS,
                f"{libc_error}; {error}",
            ) from None
    return _raw


def bpf(command: int, attr: bytearray, common: bytearray | None = None) -> int:
    """bpf(2): the result, or ``-errno``. ``attr`` is updated in place with the kernel's answers.

    ``common`` is a bpf_common_attr, for a command with abi.COMMON_ATTRS (7.2).
    """
    if _hook is not None:
        answer = _hook("bpf", command, attr) if common is None else _hook("bpf", command, attr, common)
        if answer is not None:
            return answer
    call = _raw or _resolve()
    if common is None:
        return call(_numbers["bpf"], command, address(attr), len(attr))
    return call(_numbers["bpf"], command, address(attr), len(attr), address(common), len(common))


def perf_event_open(attr: bytearray, pid: int, cpu: int, group: int, flags: int) -> int:
    """perf_event_open(2): a file descriptor, or ``-errno``."""
    if _hook is not None:
        answer = _hook("perf_event_open", attr, pid, cpu, group, flags)
        if answer is not None:
            return answer
    return (_raw or _resolve())(_numbers["perf_event_open"], address(attr), pid, cpu, group, flags)
