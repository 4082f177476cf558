"""bpf() commands that the start of a tracer does not need; ``pybpf.kernel`` has the others.

Every command raises a typed SyscallError whose one line names it and the object.
The Linux version in which a command came is in parentheses.
"""

from __future__ import annotations

import os
from errno import EACCES, EINVAL, ENOENT, ENOSPC, EOPNOTSUPP, EPERM
from struct import pack, pack_into, unpack_from

from pybpf import abi, attrs, kernel, syscalls
from pybpf.errors import LinkError, LoadError, MapError, SyscallError
from pybpf.kernel import Fd, address, buffer, failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# What a kernel says to a command that it lacks (EINVAL), or lacks for this type of object.
UNSUPPORTED = (EINVAL, EOPNOTSUPP, abi.ENOTSUPP)

# What BPF_ENABLE_STATS counts.
STATS_RUN_TIME = 0

# Streams that a program writes to (6.17).
STREAM_STDOUT = 1
STREAM_STDERR = 2


def _path(path: str | bytes) -> bytearray:
    return bytearray(os.fsencode(path) + b"\0")


# --- pinning ------------------------------------------------------------------


def obj_pin(path: str, fd: int, what: str = "object") -> None:
    """BPF_OBJ_PIN (4.4): a name in a bpf file system, which keeps the object alive. Raises SyscallError."""
    raw = _path(path)
    kernel.bpf(abi.OBJ_PIN, attrs.build("obj", "bpf_fd", pathname=raw, bpf_fd=fd), f"{what} at {path}")


def obj_get(path: str, flags: int = 0) -> Fd:
    """BPF_OBJ_GET (4.4): open a pinned object; ``flags`` may be abi.F_RDONLY or F_WRONLY. Raises SyscallError."""
    raw = _path(path)
    what = f"pinned {path}"
    return Fd(kernel.bpf(abi.OBJ_GET, attrs.build("obj", "bpf_fd", pathname=raw, file_flags=flags), what), what)


def check_kind(fd: Fd, wanted: str, noun: str) -> None:
    """Raise SyscallError unless the descriptor is a ``bpf-map``, ``bpf-prog``... as far as /proc tells."""
    try:
        kind = os.readlink(f"/proc/self/fd/{fd.fd}").partition("anon_inode:")[2].strip("[]")
    except OSError:
        return
    if kind.startswith("bpf") and kind != wanted:
        raise SyscallError(f"{fd.label} is no {noun} but a {kind}", EINVAL)


# --- maps ---------------------------------------------------------------------


def map_create(attr: bytearray, what: str) -> Fd:
    """BPF_MAP_CREATE with any field, built by ``attrs``; lifts the memory limit where that counts. Raises LoadError.

    A kernel that can is asked for its reasons when it refuses (7.2).
    """
    result = kernel.charged(lambda: syscalls.bpf(abi.MAP_CREATE, attr))
    if result == -EINVAL:
        result, reasons = explained(abi.MAP_CREATE, attr)
    else:
        reasons = ""
    if result < 0:
        names = ("map_type", "key_size", "value_size", "max_entries", "map_flags")
        type, key, value, entries, flags = [attrs.number("map_create", attr, name) for name in names]
        hint = f"type {type}, key {key}, value {value} bytes, max_entries {entries}, flags {flags:#x}"
        raise failure(LoadError, "BPF_MAP_CREATE", what, -result, f"{hint}: {reasons}" if reasons else hint)
    return Fd(result, what)


def map_lookup(fd: int, key: bytes, value: bytearray, flags: int, what: str = "map") -> bool:
    """BPF_MAP_LOOKUP_ELEM with flags (F_LOCK 5.1; F_CPU and a CPU in the upper half 7.0); False if absent."""
    raw = buffer(key)
    attr = attrs.build("element", map_fd=fd, key=raw if key else 0, value=value, flags=flags)
    result = syscalls.bpf(abi.MAP_LOOKUP_ELEM, attr)
    if result < 0:
        if result == -ENOENT:
            return False
        raise failure(MapError, "BPF_MAP_LOOKUP_ELEM", what, -result)
    return True


def map_take(fd: int, key: bytes, value: bytearray, flags: int, what: str = "map") -> bool:
    """BPF_MAP_LOOKUP_AND_DELETE_ELEM with flags (5.14); False if absent."""
    raw = buffer(key)
    attr = attrs.build("element", map_fd=fd, key=raw if key else 0, value=value, flags=flags)
    result = syscalls.bpf(abi.MAP_LOOKUP_AND_DELETE_ELEM, attr)
    if result < 0:
        if result == -ENOENT:
            return False
        raise failure(MapError, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", what, -result)
    return True


def map_batch(
    command: int,
    fd: int,
    count: int,
    *,
    position: bytearray | None = None,
    following: bytearray | None = None,
    keys: bytearray | None = None,
    values: bytearray | None = None,
    elem_flags: int = 0,
) -> tuple[int, int]:
    """One of the batch commands (5.6): ``(errno or 0, elements done)``.

    Keys and values lie one behind the other in the buffers. Lookups go from ``position``
    (None: the beginning) and leave the next one in ``following``, see ``commands.map_lookup_batch``.
    """
    attr = attrs.build(
        "batch",
        "flags",
        in_batch=position if position is not None else 0,
        out_batch=following if following is not None else 0,
        keys=keys if keys is not None else 0,
        values=values if values is not None else 0,
        count=count,
        map_fd=fd,
        elem_flags=elem_flags,
    )
    result = syscalls.bpf(command, attr)
    # A kernel without the command, or without it for this map type, leaves the count as it was.
    done = attrs.number("batch", attr, "count")
    return -min(result, 0), 0 if -result in UNSUPPORTED and done == count else done


# --- programs -----------------------------------------------------------------


def prog_attach(
    target_fd: int,
    prog_fd: int,
    attach_type: int,
    *,
    flags: int = 0,
    replace_fd: int = 0,
    relative: int = 0,
    revision: int = 0,
    what: str = "program",
) -> None:
    """BPF_PROG_ATTACH (4.10): without a link, so it stays when we end. ``relative`` is an fd or id (6.6).

    Raises LinkError.
    """
    attr = attrs.build(
        "prog_attach",
        "attach_flags",
        target_fd=target_fd,
        attach_bpf_fd=prog_fd,
        attach_type=attach_type,
        attach_flags=flags,
        replace_bpf_fd=replace_fd,
        relative_fd=relative,
        expected_revision=revision,
    )
    kernel.bpf(abi.PROG_ATTACH, attr, what, LinkError)


def prog_detach(
    target_fd: int,
    prog_fd: int,
    attach_type: int,
    *,
    flags: int = 0,
    relative: int = 0,
    revision: int = 0,
    what: str = "program",
) -> None:
    """BPF_PROG_DETACH (4.10). Raises LinkError."""
    attr = attrs.build(
        "prog_attach",
        "attach_type",
        target_fd=target_fd,
        attach_bpf_fd=prog_fd,
        attach_type=attach_type,
        attach_flags=flags,
        relative_fd=relative,
        expected_revision=revision,
    )
    kernel.bpf(abi.PROG_DETACH, attr, what, LinkError)


def prog_query(target_fd: int, attach_type: int, query_flags: int = 0, what: str = "target") -> tuple[list[int], int]:
    """BPF_PROG_QUERY (4.15): ``(ids of the programs attached, attach flags)``. Raises LinkError."""
    room = 16
    for _ in range(8):  # more may be attached between two calls
        ids = bytearray(4 * room)
        attr = attrs.build(
            "query",
            "prog_cnt",
            target_fd=target_fd,
            attach_type=attach_type,
            query_flags=query_flags,
            prog_ids=ids,
            prog_cnt=room,
        )
        result = syscalls.bpf(abi.PROG_QUERY, attr)
        count = attrs.number("query", attr, "prog_cnt")
        if result != -ENOSPC or count <= room:
            break
        room = count
    if result < 0:
        raise failure(LinkError, "BPF_PROG_QUERY", what, -result)
    return memoryview(ids).cast("I").tolist()[:count], attrs.number("query", attr, "attach_flags")


def prog_bind_map(prog_fd: int, map_fd: int, what: str = "program") -> None:
    """BPF_PROG_BIND_MAP (5.10): the program keeps a map alive that it does not use. Raises SyscallError."""
    kernel.bpf(abi.PROG_BIND_MAP, attrs.build("prog_bind_map", "flags", prog_fd=prog_fd, map_fd=map_fd), what)


def prog_stream_read(prog_fd: int, stream: int, room: int = 4096, what: str = "program") -> bytes:
    """BPF_PROG_STREAM_READ_BY_FD (6.17): what the program wrote to a stream, b"" at its end. Raises SyscallError."""
    raw = bytearray(room)
    attr = attrs.build(
        "prog_stream_read", "prog_fd", stream_buf=raw, stream_buf_len=room, stream_id=stream, prog_fd=prog_fd
    )
    return bytes(raw[: kernel.bpf(abi.PROG_STREAM_READ_BY_FD, attr, what)])


def prog_assoc_struct_ops(prog_fd: int, map_fd: int, what: str = "program") -> None:
    """BPF_PROG_ASSOC_STRUCT_OPS (7.0): the operations that the program's kfuncs refer to. Raises SyscallError."""
    attr = attrs.build("prog_assoc_struct_ops", "flags", map_fd=map_fd, prog_fd=prog_fd)
    kernel.bpf(abi.PROG_ASSOC_STRUCT_OPS, attr, what)


def enable_stats(type: int = STATS_RUN_TIME) -> Fd:
    """BPF_ENABLE_STATS (5.8): programs' run times are counted until the descriptor is closed. Raises SyscallError."""
    attr = attrs.build("enable_stats", "type", type=type)
    return Fd(kernel.bpf(abi.ENABLE_STATS, attr, "run-time statistics"), "run-time statistics")


def task_fd_query(pid: int, fd: int, room: int = 256) -> tuple[int, int, str, int, int]:
    """BPF_TASK_FD_QUERY (4.18): what a process's perf event or raw tracepoint descriptor is attached to.

    ``(program id, kind, name, offset, address)``; kinds are enum bpf_task_fd_type. Raises SyscallError.
    """
    what = f"descriptor {fd} of process {pid}"
    for _ in range(2):
        name = bytearray(room)
        attr = attrs.build("task_fd_query", "probe_addr", pid=pid, fd=fd, buf=name, buf_len=room)
        result = syscalls.bpf(abi.TASK_FD_QUERY, attr)
        if result != -ENOSPC:
            break
        room = attrs.number("task_fd_query", attr, "buf_len") + 1  # what the name has, without its NUL
    if result < 0:
        raise failure(SyscallError, "BPF_TASK_FD_QUERY", what, -result)
    prog, kind, offset, where = [
        attrs.number("task_fd_query", attr, field) for field in ("prog_id", "fd_type", "probe_offset", "probe_addr")
    ]
    return prog, kind, name.partition(b"\0")[0].decode(errors="replace"), offset, where


# --- links --------------------------------------------------------------------


def link_create(
    prog_fd: int,
    target: int,
    attach_type: int,
    flags: int = 0,
    variant: str = "",
    what: str = "program",
    /,
    **fields: int | bytearray,
) -> Fd:
    """BPF_LINK_CREATE (5.7) with the fields of a variant: ``kprobe_multi``, ``tracing``... Raises LinkError.

    ``flags`` by position are the link's; a variant may have a field of that name.
    The variants and their fields are the ``link_create_*`` structures of ``attrs.LAYOUTS``;
    all of a variant's fields are sent, for some kernels want them.
    """
    attr = attrs.build("link_create", "flags", prog_fd=prog_fd, target_fd=target, attach_type=attach_type, flags=flags)
    if variant:
        attr += attrs.build(f"link_create_{variant}", **fields)
    return Fd(kernel.bpf(abi.LINK_CREATE, attr, what, LinkError), f"link of {what}")


def link_update(fd: int, new_fd: int, *, flags: int = 0, old_fd: int = 0, what: str = "link") -> None:
    """BPF_LINK_UPDATE (5.7): another program (6.4: struct_ops map); F_REPLACE with ``old_fd``. Raises LinkError."""
    attr = attrs.build("link_update", "flags", link_fd=fd, new_prog_fd=new_fd, flags=flags, old_prog_fd=old_fd)
    kernel.bpf(abi.LINK_UPDATE, attr, what, LinkError)


def iter_create(link_fd: int, what: str = "link") -> Fd:
    """BPF_ITER_CREATE (5.8): a descriptor to read one run of an iterator from. Raises LinkError."""
    attr = attrs.build("iter_create", "flags", link_fd=link_fd)
    return Fd(kernel.bpf(abi.ITER_CREATE, attr, what, LinkError), f"iterator of {what}")


# --- tokens, logs -------------------------------------------------------------


def token_create(bpffs_fd: int, what: str = "bpf file system") -> Fd:
    """BPF_TOKEN_CREATE (6.9): the rights that a bpf file system's mount delegates. Raises SyscallError."""
    attr = attrs.build("token_create", "bpffs_fd", bpffs_fd=bpffs_fd)
    return Fd(kernel.bpf(abi.TOKEN_CREATE, attr, what), f"token of {what}")


def explained(command: int, attr: bytearray, room: int = 4096) -> tuple[int, str]:
    """Run a command that gives its reasons (7.2: MAP_CREATE, PROG_LOAD, BTF_LOAD): ``(result or -errno, log)``.

    The reasons come by ``struct bpf_common_attr``. An older kernel knows no such command
    (EINVAL): then it is run as it is, and the log is empty.
    """
    log = bytearray(room)
    common = attrs.build("bpf_common_attr", "log_true_size", log_buf=log, log_size=room, log_level=1)
    common += bytes(-len(common) % 8)
    first = bytes(attr)
    result = syscalls.bpf(command | abi.COMMON_ATTRS, attr, common)
    if result == -EINVAL and not log[0]:
        attr[:] = first
        return syscalls.bpf(command, attr), ""
    return result, log.partition(b"\0")[0].decode(errors="replace").strip()


# --- perf events, ids --------------------------------------------------------------


def perf_event(
    pid: int, cpu: int, what: str, *, group: int = -1, flags: int = abi.PERF_FLAG_FD_CLOEXEC, **fields: int
) -> Fd:
    """perf_event_open(2) with any fields of ``struct perf_event_attr``. Raises LinkError.

    The structure is sent as long as its last field asks for, version 0 (64 bytes) at least.
    """
    attr = attrs.build("perf_event_attr", "config1", **fields)
    if len(attr) % 8:
        attr += bytes(4)
    pack_into("=I", attr, 4, len(attr))
    result = syscalls.perf_event_open(attr, pid, cpu, group, flags)
    if result < 0:
        # perf_event_paranoid refuses with EACCES what a capability allows.
        raise failure(LinkError, "perf_event_open", what, EPERM if result == -EACCES else -result)
    return Fd(result, f"perf event of {what}")


def ids(following: Callable[[int], int | None], start: int = 0) -> list[int]:
    """All ids above ``start``; ``following`` is ``prog_get_next_id`` or one of its like. Raises SyscallError."""
    found = []
    number = following(start)
    while number is not None:
        found.append(number)
        number = following(number)
    return found


# --- maps, by key and in batches ------------------------------------------------


def map_lookup_and_delete(fd: int, key: bytes, value: bytearray, what: str = "map") -> bool:
    """BPF_MAP_LOOKUP_AND_DELETE_ELEM (queues and stacks 4.20, hashes 5.14); False if absent."""
    raw = buffer(key)
    result = kernel.element(abi.MAP_LOOKUP_AND_DELETE_ELEM, fd, address(raw) if key else 0, address(value), 0)
    if result < 0:
        if result == -ENOENT:
            return False
        raise failure(MapError, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", what, -result)
    return True


def map_get_next_key(fd: int, key: bytes | None, key_size: int, what: str = "map") -> bytes | None:
    """BPF_MAP_GET_NEXT_KEY: the key after ``key`` (None: the first); None at the end.

    A ``key`` that is not in a hash map gives the first key again.
    """
    raw = buffer(key or b"")
    following = bytearray(key_size)
    result = kernel.element(abi.MAP_GET_NEXT_KEY, fd, 0 if key is None else address(raw), address(following), 0)
    if result < 0:
        if result == -ENOENT:
            return None
        raise failure(MapError, "BPF_MAP_GET_NEXT_KEY", what, -result)
    return bytes(following)


def map_lookup_batch(
    fd: int, position: bytearray | None, following: bytearray, keys: bytearray, values: bytearray, count: int
) -> tuple[int, int]:
    """BPF_MAP_LOOKUP_BATCH (5.6): ``(errno or 0, elements read)``.

    Reads up to ``count`` elements into ``keys`` and ``values``, starting at the
    opaque ``position`` (None: the beginning) and leaving the next one in
    ``following``. ENOENT says that the map's end was reached; ENOSPC that one
    hash bucket holds more than ``count``.
    """
    start = address(position) if position is not None else 0
    attr = bytearray(pack("=QQQQIiQQ", start, address(following), address(keys), address(values), count, fd, 0, 0))
    result = syscalls.bpf(abi.MAP_LOOKUP_BATCH, attr)
    return -min(result, 0), unpack_from("=I", attr, 32)[0]


# --- attaching ------------------------------------------------------------------


def link_detach(fd: int, what: str = "link") -> None:
    """BPF_LINK_DETACH (5.9). Raises LinkError; EOPNOTSUPP for links that only closing detaches."""
    kernel.bpf(abi.LINK_DETACH, bytearray(pack("=i", fd)), what, LinkError)


def perf_event_open(type: int, config: int, pid: int, cpu: int, what: str) -> Fd:
    """perf_event_open(2) of a counting event, one sample an occurrence. Raises LinkError."""
    attr = bytearray(abi.PERF_ATTR_SIZE_VER0)
    # type, size, config, sample_period; wakeup_events at 48.
    pack_into("=IIQQ", attr, 0, type, len(attr), config, 1)
    pack_into("=I", attr, 48, 1)
    result = syscalls.perf_event_open(attr, pid, cpu, -1, abi.PERF_FLAG_FD_CLOEXEC)
    if result < 0:
        # perf_event_paranoid refuses with EACCES what a capability allows.
        raise failure(LinkError, "perf_event_open", what, EPERM if result == -EACCES else -result)
    return Fd(result, f"perf event of {what}")


def perf_event_set_bpf(fd: int, prog_fd: int, what: str) -> None:
    """Attach a program to a perf event the old way (before 5.15). Raises LinkError."""
    _perf_ioctl(fd, 8, 4, prog_fd, what)


def perf_event_enable(fd: int, what: str) -> None:
    """Let a perf event count. Raises LinkError."""
    _perf_ioctl(fd, 0, 0, 0, what)


def _perf_ioctl(fd: int, number: int, size: int, argument: int, what: str) -> None:
    import fcntl

    machine = os.uname().machine
    if machine.startswith(("mips", "ppc", "sparc", "alpha")):
        # Three direction bits: 1 none, 2 read, 4 write (arch/*/include/uapi/asm/ioctl.h).
        direction = 4 << 29 if size else 1 << 29
    else:
        direction = 1 << 30 if size else 0
    try:
        fcntl.ioctl(fd, direction | size << 16 | ord("$") << 8 | number, argument)
    except OSError as error:
        raise failure(
            LinkError, "PERF_EVENT_IOC_SET_BPF" if number else "PERF_EVENT_IOC_ENABLE", what, error.errno or 0
        ) from None


# --- objects that exist already -------------------------------------------------


def obj_get_info_into(fd: int, info: bytearray, what: str = "object") -> None:
    """BPF_OBJ_GET_INFO_BY_FD with addresses and lengths of arrays that the kernel fills in. Raises SyscallError."""
    kernel.bpf(abi.OBJ_GET_INFO_BY_FD, bytearray(pack("=iIQ", fd, len(info), address(info))), what)


def _next_id(command: int, start: int) -> int | None:
    attr = bytearray(pack("=II", start, 0))
    result = syscalls.bpf(command, attr)
    if result == -ENOENT:
        return None
    if result < 0:
        raise failure(SyscallError, abi.COMMAND_NAMES[command], f"id {start}", -result)
    following: int = unpack_from("=I", attr, 4)[0]
    return following


def prog_get_next_id(start: int) -> int | None:
    """Smallest program id above ``start``; None at the end. Needs CAP_SYS_ADMIN."""
    return _next_id(abi.PROG_GET_NEXT_ID, start)


def map_get_next_id(start: int) -> int | None:
    """Smallest map id above ``start``; None at the end. Needs CAP_SYS_ADMIN."""
    return _next_id(abi.MAP_GET_NEXT_ID, start)


def btf_get_next_id(start: int) -> int | None:
    """Smallest BTF id above ``start``; None at the end. Needs CAP_SYS_ADMIN."""
    return _next_id(abi.BTF_GET_NEXT_ID, start)


def link_get_next_id(start: int) -> int | None:
    """Smallest link id above ``start``; None at the end (5.8). Needs CAP_SYS_ADMIN."""
    return _next_id(abi.LINK_GET_NEXT_ID, start)


def _fd_by_id(command: int, id: int, noun: str) -> Fd:
    what = f"{noun} id {id}"
    return Fd(kernel.bpf(command, bytearray(pack("=III", id, 0, 0)), what), what)


def prog_get_fd_by_id(id: int) -> Fd:
    """Open a loaded program. Needs CAP_SYS_ADMIN; raises SyscallError (ENOENT: gone)."""
    return _fd_by_id(abi.PROG_GET_FD_BY_ID, id, "program")


def map_get_fd_by_id(id: int) -> Fd:
    """Open a map. Needs CAP_SYS_ADMIN; raises SyscallError (ENOENT: gone)."""
    return _fd_by_id(abi.MAP_GET_FD_BY_ID, id, "map")


def btf_get_fd_by_id(id: int) -> Fd:
    """Open loaded BTF. Needs CAP_SYS_ADMIN; raises SyscallError (ENOENT: gone)."""
    return _fd_by_id(abi.BTF_GET_FD_BY_ID, id, "BTF")


def link_get_fd_by_id(id: int) -> Fd:
    """Open a link (5.8). Needs CAP_SYS_ADMIN; raises SyscallError (ENOENT: gone)."""
    return _fd_by_id(abi.LINK_GET_FD_BY_ID, id, "link")


# --- probes ---------------------------------------------------------------------


def prog_load_once(type: int, insns: bytes) -> int:
    """One BPF_PROG_LOAD with nothing around it, for probes: a file descriptor, or ``-errno``."""
    code, license = buffer(insns), buffer(b"GPL\0")
    return syscalls.bpf(abi.PROG_LOAD, bytearray(pack("=IIQQ", type, len(insns) // 8, address(code), address(license))))
