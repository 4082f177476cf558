"""bpf() commands as typed functions, and the owner of file descriptors.

Everything that the toolkit asks of the kernel goes through here. A failure is
a ``SyscallError`` whose message names the command, the object and the errno.
"""

from __future__ import annotations

import os
from _warnings import warn
from errno import EAGAIN, EINTR, EINVAL, ENOENT, ENOSPC, ENOSYS, EPERM, errorcode
from struct import error as StructError
from struct import pack, unpack_from

from pybpf import abi, syscalls
from pybpf.errors import LinkError, LoadError, MapError, NotSupported, SyscallError
from pybpf.syscalls import address
from pybpf.syscalls import set_hook as set_syscall_hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap
    from types import TracebackType

__all__ = ["Fd", "address", "open_fds", "set_syscall_hook"]

# The verifier gives up with EAGAIN when a signal is pending; libbpf tries as often.
_LOAD_ATTEMPTS = 5
_JIT_ENABLED = "/proc/sys/net/core/bpf_jit_enable"

_open: dict[int, str] = {}


class Fd:
    """Owner of one file descriptor; closes it exactly once.

    ``label`` says what it is, for ``open_fds`` and for the warning that an
    owner collected while open gives.
    """

    __slots__ = ("__weakref__", "fd", "label")

    def __init__(self, fd: int, label: str) -> None:
        self.fd = fd
        self.label = label
        _open[fd] = label

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        fd = self.disown()
        if fd >= 0:
            os.close(fd)

    def disown(self) -> int:
        """Give the descriptor to the caller, who closes it from now on; -1 if it was closed."""
        fd = self.fd
        self.fd = -1
        if fd >= 0:
            _open.pop(fd, None)
        return fd

    def __enter__(self) -> Fd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:
            warn(f"unclosed {self!r}", ResourceWarning, source=self)
            self.close()

    def __repr__(self) -> str:
        return f"<Fd {self.fd} {self.label}>" if self.fd >= 0 else f"<Fd closed {self.label}>"


def open_fds() -> list[str]:
    """What the open ``Fd`` objects of this process are, as ``"NUMBER LABEL"``."""
    return [f"{fd} {label}" for fd, label in sorted(_open.items())]


def errno_text(error: int) -> str:
    """``"EINVAL (Invalid argument)"``; knows ENOTSUPP, which is private to the kernel."""
    if error == abi.ENOTSUPP:
        return "ENOTSUPP (not supported on this kernel or architecture)"
    return f"{errorcode.get(error, f'errno {error}')} ({os.strerror(error)})"


def failure(kind: type[SyscallError], command: str, what: str, error: int, hint: str = "") -> SyscallError:
    """The exception for ``error`` of ``command`` on ``what``; EPERM and ENOSYS are explained."""
    if error == ENOSYS:
        return NotSupported(f"{command} of {what}: this kernel has no such system call (CONFIG_BPF_SYSCALL)", error)
    if error == EPERM and kind is not MapError:
        from pybpf.privilege import explain

        line, details = explain(f"{command} of {what}")
        return kind(line, error, details)
    return kind(f"{command} of {what}: {errno_text(error)}{': ' if hint else ''}{hint}", error)


def bpf(command: int, attr: bytearray, what: str, kind: type[SyscallError] = SyscallError) -> int:
    """Run ``command`` and return its result; raises ``kind`` on failure."""
    result = syscalls.bpf(command, attr)
    if result < 0:
        raise failure(kind, abi.COMMAND_NAMES[command], what, -result)
    return result


def charged(create: Callable[[], int]) -> int:
    """Run ``create``; before 5.11 EPERM may mean that RLIMIT_MEMLOCK is used up: lift it and try again."""
    result = create()
    if result == -EPERM:
        from pybpf import privilege

        if privilege.charges_memlock() and privilege.raise_memlock():
            result = create()
    return result


def object_name(name: str) -> bytes:
    """``name`` as the kernel accepts it: at most 15 of ``[A-Za-z0-9_.]`` (kernel/bpf/syscall.c, bpf_obj_name_cpy)."""
    kept = [c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in name[: abi.OBJ_NAME_LEN - 1]]
    return "".join(kept).encode()


def buffer(data: bytes | bytearray) -> bytearray:
    """A writable copy of ``data`` that is never empty, so that it has an address."""
    return bytearray(data) if data else bytearray(1)


# --- maps ---------------------------------------------------------------------


def map_create(
    type: int,
    key_size: int,
    value_size: int,
    max_entries: int,
    *,
    name: str = "",
    flags: int = 0,
    inner_fd: int = 0,
    btf_fd: int = 0,
    key_type_id: int = 0,
    value_type_id: int = 0,
    map_extra: int = 0,
) -> Fd:
    """BPF_MAP_CREATE. Sizes in bytes; ``max_entries`` is bytes for ring buffers. Raises LoadError."""
    what = f"map {name!r}"
    hint = f"type {type}, key {key_size}, value {value_size} bytes, max_entries {max_entries}, flags {flags:#x}"
    try:
        attr = bytearray(pack("=IIIIIiI", type, key_size, value_size, max_entries, flags, inner_fd, 0))
    except StructError:
        raise LoadError(f"{what}: a number does not fit into 32 bits: {hint}", EINVAL) from None
    attr += object_name(name).ljust(abi.OBJ_NAME_LEN, b"\0")
    if btf_fd or map_extra:
        attr += pack("=IIIII", 0, btf_fd, key_type_id, value_type_id, 0)
    if map_extra:
        attr += pack("=Q", map_extra)
    result = charged(lambda: syscalls.bpf(abi.MAP_CREATE, attr))
    if result < 0:
        raise failure(LoadError, "BPF_MAP_CREATE", what, -result, hint)
    return Fd(result, what)


def element(command: int, fd: int, key: int, value: int, flags: int) -> int:
    return syscalls.bpf(command, bytearray(pack("=iIQQQ", fd, 0, key, value, flags)))


def map_lookup(fd: int, key: bytes, value: bytearray, what: str = "map") -> bool:
    """BPF_MAP_LOOKUP_ELEM into ``value``, which must have the map's (per-CPU: whole) size; False if absent."""
    raw = buffer(key)
    # Queues, stacks and bloom filters have no key and want a null pointer there.
    result = element(abi.MAP_LOOKUP_ELEM, fd, address(raw) if key else 0, address(value), 0)
    if result < 0:
        if result == -ENOENT:
            return False
        raise failure(MapError, "BPF_MAP_LOOKUP_ELEM", what, -result)
    return True


def map_update(fd: int, key: bytes, value: bytes | bytearray, flags: int = 0, what: str = "map") -> None:
    """BPF_MAP_UPDATE_ELEM. ``flags``: abi.ANY, NOEXIST or EXIST. Raises MapError."""
    raw_key = buffer(key)
    raw_value = buffer(value)
    result = element(abi.MAP_UPDATE_ELEM, fd, address(raw_key) if key else 0, address(raw_value), flags)
    if result < 0:
        hint = "the map is frozen or read-only for user space" if result == -EPERM else ""
        raise failure(MapError, "BPF_MAP_UPDATE_ELEM", what, -result, hint)


def map_delete(fd: int, key: bytes, what: str = "map") -> bool:
    """BPF_MAP_DELETE_ELEM; False if there was no such key."""
    raw = buffer(key)
    result = element(abi.MAP_DELETE_ELEM, fd, address(raw), 0, 0)
    if result < 0:
        if result == -ENOENT:
            return False
        raise failure(MapError, "BPF_MAP_DELETE_ELEM", what, -result)
    return True


def map_freeze(fd: int, what: str = "map") -> None:
    """BPF_MAP_FREEZE (5.2): no more writes from user space. Raises MapError."""
    bpf(abi.MAP_FREEZE, bytearray(pack("=i", fd)), what, MapError)


# --- programs and BTF ---------------------------------------------------------


def prog_load(
    type: int,
    insns: bytes | bytearray,
    license: str,
    *,
    name: str = "",
    flags: int = 0,
    expected_attach_type: int = 0,
    attach_btf_id: int = 0,
    attach_prog_fd: int = 0,
    btf_fd: int = 0,
    func_info: bytes = b"",
    line_info: bytes = b"",
    fd_array: bytes = b"",
    core_relos: bytes = b"",
    log_level: int = 0,
    log: bytearray | None = None,
    log_sizes: list[int] | None = None,
) -> int:
    """BPF_PROG_LOAD: a file descriptor, or ``-errno``; the verifier writes into ``log``.

    The room that the log would have taken is appended to ``log_sizes``; 0 before 6.4.

    ``insns`` is code in machine byte order; ``func_info`` and ``line_info`` are
    arrays of the kernel's 8- and 16-byte records and need ``btf_fd``; ``fd_array``
    is one of descriptors (32 bits each) that instructions refer to (5.14), and
    ``core_relos`` one of the 16-byte records of .BTF.ext, with offsets from the start
    of ``insns``, which the kernel applies if there is ``func_info`` (5.17). The
    caller makes the ``Fd`` and the error, for only it knows about a second
    attempt with a log.
    """
    code, raw_license = buffer(insns), buffer(license.encode() + b"\0")
    functions, lines = buffer(func_info), buffer(line_info)
    attr = bytearray(
        pack(
            "=IIQQIIQII16sIIIIQIIQIII",
            type,
            len(insns) // 8,
            address(code),
            address(raw_license),
            log_level,
            len(log) if log is not None else 0,
            address(log) if log is not None else 0,
            0,
            flags,
            object_name(name),
            0,
            expected_attach_type,
            btf_fd,
            8 if func_info else 0,
            address(functions) if func_info else 0,
            len(func_info) // 8,
            16 if line_info else 0,
            address(lines) if line_info else 0,
            len(line_info) // 16,
            attach_btf_id,
            attach_prog_fd,
        )
    )
    descriptors, relocations = buffer(fd_array), buffer(core_relos)
    if fd_array or core_relos:
        attr += pack("=IQ", len(core_relos) // 16, address(descriptors) if fd_array else 0)
    if core_relos:
        attr += pack("=QI", address(relocations), 16)
    if log_sizes is not None:
        attr += bytes(144 - len(attr))  # to the end of log_true_size
    result = charged(lambda: syscalls.bpf(abi.PROG_LOAD, attr))
    for _ in range(_LOAD_ATTEMPTS - 1):
        if result != -EAGAIN:
            break
        result = syscalls.bpf(abi.PROG_LOAD, attr)
    if log_sizes is not None:
        log_sizes.append(unpack_from("=I", attr, 140)[0])
    return result


def btf_load(data: bytes, log: bytearray | None = None) -> Fd:
    """BPF_BTF_LOAD (4.18). Raises LoadError."""
    raw = buffer(data)
    where = address(log) if log is not None else 0
    size = len(log) if log is not None else 0
    attr = bytearray(pack("=QQIII", address(raw), where, len(data), size, 1 if log is not None else 0))
    return Fd(bpf(abi.BTF_LOAD, attr, "BTF", LoadError), "BTF")


def prog_test_run(
    fd: int,
    data: bytes = b"",
    data_out: bytearray | None = None,
    ctx: bytearray | None = None,
    ctx_out: bytearray | None = None,
    *,
    repeat: int = 0,
    flags: int = 0,
    cpu: int = 0,
    batch_size: int = 0,
    what: str = "program",
) -> tuple[int, int, int, int]:
    """BPF_PROG_TEST_RUN: ``(return value, ns per run, bytes in data_out, bytes in ctx_out)``.

    A SYSCALL program's context is updated in ``ctx`` itself. Tried again when a signal
    ends it. Raises SyscallError, which says how much room was wanting.
    """
    raw = buffer(data)
    attr = bytearray(
        pack(
            "=iIIIQQIIIIQQ",
            fd,
            0,
            len(data),
            len(data_out) if data_out else 0,
            address(raw) if data else 0,
            address(data_out) if data_out else 0,
            repeat,
            0,
            len(ctx) if ctx else 0,
            len(ctx_out) if ctx_out else 0,
            address(ctx) if ctx else 0,
            address(ctx_out) if ctx_out else 0,
        )
    )
    if flags or cpu or batch_size:
        attr += pack("=II", flags, cpu)
    if batch_size:
        attr += pack("=I", batch_size)
    result = syscalls.bpf(abi.PROG_TEST_RUN, attr)
    while result == -EINTR:
        result = syscalls.bpf(abi.PROG_TEST_RUN, attr)
    names = (4, 36, 12, 44)  # return value, duration, bytes of data and of context written
    retval, duration, data_size, ctx_size = [unpack_from("=I", attr, at)[0] for at in names]
    if result < 0:
        hint = f"{data_size} bytes of data came out: give more room" if result == -ENOSPC else ""
        raise failure(SyscallError, "BPF_PROG_TEST_RUN", what, -result, hint)
    return retval, duration, data_size, ctx_size


# --- attaching ----------------------------------------------------------------


def raw_tracepoint_open(name: str, prog_fd: int, what: str = "program", cookie: int = 0) -> Fd:
    """BPF_RAW_TRACEPOINT_OPEN (4.17); an empty ``name`` attaches a TRACING or LSM program (5.5).

    ``cookie`` is what the program gets from bpf_get_attach_cookie (6.10). Raises LinkError.
    """
    raw = buffer(name.encode() + b"\0")
    attr = bytearray(pack("=Qi", address(raw) if name else 0, prog_fd))
    if cookie:
        attr += pack("=IQ", 0, cookie)
    return Fd(bpf(abi.RAW_TRACEPOINT_OPEN, attr, what, LinkError), f"link of {what}")


def link_create(prog_fd: int, target_fd: int, attach_type: int, what: str = "program") -> Fd:
    """BPF_LINK_CREATE (5.7; of perf events 5.15). Raises LinkError."""
    attr = bytearray(pack("=iiII", prog_fd, target_fd, attach_type, 0))
    return Fd(bpf(abi.LINK_CREATE, attr, what, LinkError), f"link of {what}")


# --- objects that exist already ------------------------------------------------


def obj_get_info(fd: int, size: int, what: str = "object") -> bytearray:
    """BPF_OBJ_GET_INFO_BY_FD: up to ``size`` bytes of the object's info structure, zeros beyond what the kernel has."""
    info = bytearray(size)
    bpf(abi.OBJ_GET_INFO_BY_FD, bytearray(pack("=iIQ", fd, size, address(info))), what)
    return info


# --- memory and CPUs ----------------------------------------------------------


def page_size() -> int:
    """Bytes of a memory page."""
    return os.sysconf("SC_PAGESIZE")


def map_memory(fd: int, length: int, offset: int = 0, writable: bool = False, what: str = "map") -> mmap:
    """mmap() ``length`` bytes of a descriptor, shared. Raises MapError."""
    import mmap as mmap_module

    protection = mmap_module.PROT_READ | (mmap_module.PROT_WRITE if writable else 0)
    try:
        return mmap_module.mmap(fd, length, mmap_module.MAP_SHARED, protection, offset=offset)
    except OSError as error:
        raise failure(MapError, "mmap", what, error.errno or 0) from None


def parse_cpus(text: str) -> list[int]:
    """CPU numbers of a kernel list such as ``0-3,5``. Raises SyscallError when it is none."""
    cpus: list[int] = []
    try:
        for part in text.strip().split(","):
            first, dash, last = part.partition("-")
            cpus.extend(range(int(first), int(last if dash else first) + 1))
    except ValueError:
        raise SyscallError(f"{text!r} is not a list of CPUs", 0) from None
    return cpus


_possible_cpus = 0


def possible_cpus() -> int:
    """How many values a per-CPU element has: one for each possible CPU. Raises SyscallError."""
    global _possible_cpus
    if not _possible_cpus:
        path = "/sys/devices/system/cpu/possible"
        try:
            with open(path) as file:
                text = file.read()
        except OSError as error:
            raise SyscallError(
                f"per-CPU maps need {path}, which cannot be read: mount sysfs (mount -t sysfs sysfs /sys)",
                error.errno or 0,
            ) from None
        _possible_cpus = len(parse_cpus(text))
    return _possible_cpus


def is_interpreting() -> bool:
    """Whether the kernel interprets the programs that are loaded now; False where nothing tells."""
    try:
        with open(_JIT_ENABLED) as file:
            return file.read().strip() == "0"
    except OSError:
        return False
