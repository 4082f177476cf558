"""The kernel's structures behind arguments (option:structures): a decoder for each kind, members by their C names.

A member is ``NAME`` or ``NAME:KIND`` where its number has names (bfer.names; ``ptr`` is an address). Layouts are those
of 64-bit callers; where machines differ, ``names`` tells which one it is.
"""

from __future__ import annotations

from struct import unpack_from

from bfer.records import (
    KIND_CHECKED,
    KIND_EVENTS,
    KIND_EVENTS_PACKED,
    KIND_INT,
    KIND_ITEMS_8,
    KIND_ITEMS_16,
    KIND_OUT,
    KIND_WORDS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bfer.names import Names

    # Bytes, all numbers of the call, the machine's names -> a value of bfer.memory.
    Decode = Callable[[bytes, Sequence[int], Names], object]

OUT = "out"
"""Begins the kinds of what the kernel wrote: there is something only where the call succeeded."""

_NSIG = 64

# The structures, with how much of the caller's memory they are.
_MEMORY = {
    "int": KIND_INT,
    "id": KIND_INT,
    "uint": KIND_INT,
    "wstatus": KIND_INT | KIND_CHECKED,
    "stat": KIND_WORDS + 18,
    "statx": KIND_WORDS + 18,
    "statfs": KIND_WORDS + 15,
    "timespec": KIND_WORDS + 2,
    "timespecs": KIND_WORDS + 4,
    "timeval": KIND_WORDS + 2,
    "timevals": KIND_WORDS + 4,
    "itimerval": KIND_WORDS + 4,
    "itimerspec": KIND_WORDS + 4,
    "rlimit": KIND_WORDS + 2,
    "rusage": KIND_WORDS + 5,
    "tms": KIND_WORDS + 4,
    "timezone": KIND_WORDS + 1,
    "utimbuf": KIND_WORDS + 2,
    "mq_attr": KIND_WORDS + 4,
    "sched_attr": KIND_WORDS + 6,
    "cap_header": KIND_WORDS + 1,
    "cap_data": KIND_WORDS + 3,
    "mount_attrs": KIND_WORDS + 4 | KIND_CHECKED,
    "landlock_attr": KIND_WORDS + 1 | KIND_CHECKED,
    "sysinfo": KIND_WORDS + 14,
    "utsname": KIND_WORDS + 41,
    "sigset": KIND_WORDS + 1,
    "sigaction": KIND_WORDS + 4,
    "sigstack": KIND_WORDS + 3,
    "msghdr": KIND_WORDS + 7,
    "pollfds": KIND_ITEMS_8,
    "iovecs": KIND_ITEMS_16,
    "remote_iovecs": KIND_ITEMS_16,
    "epoll_event": KIND_WORDS + 2,
    "epoll_events": KIND_EVENTS,
}
# The machines whose layouts are known. On x86-64 some differ from include/uapi/asm-generic.
_GENERIC = ("aarch64", "riscv64", "loongarch64")
_ONLY_X86 = {"epoll_events": KIND_EVENTS_PACKED}
_ONLY_GENERIC = {"stat": KIND_WORDS + 16}
# What 32-bit callers have the same of.
_SAME_IN_32_BITS = ("int", "id", "uint", "wstatus", "sigset", "pollfds")


def memory(kind: str, machine: str, compat: bool) -> int:
    """What of the caller's memory is read (KIND_*); 0 for what is no structure, or is laid out in an unknown way."""
    name = base(kind)
    generic = machine in _GENERIC
    if name not in _MEMORY or not (generic or machine == "x86_64") or (compat and name not in _SAME_IN_32_BITS):
        return 0
    found = (_ONLY_GENERIC if generic else _ONLY_X86).get(name, _MEMORY[name])
    return found | KIND_OUT if kind.startswith(OUT) else found


def decode(kind: str, data: bytes, args: Sequence[int], names: Names) -> object:
    """The value of the structure (or the list of them) in ``data``."""
    return _DECODERS[base(kind)](data, args, names)


def base(kind: str) -> str:
    """The kind without what tells who wrote it."""
    return kind[len(OUT) :] if kind.startswith(OUT) else kind


def _members(layout: str, *members: str) -> Decode:
    """A structure of numbers; a member without a name is left out."""

    def made(data: bytes, args: Sequence[int], names: Names) -> object:
        return {name: value for name, value in zip(members, unpack_from(layout, data)) if name}

    return made


def _int(data: bytes, args: Sequence[int], names: Names) -> object:
    return [unpack_from("=i", data)[0]]


def _uint(data: bytes, args: Sequence[int], names: Names) -> object:
    return [unpack_from("=I", data)[0]]


def _id(data: bytes, args: Sequence[int], names: Names) -> object:
    """Of a user or a group; -1 is none."""
    (value,) = unpack_from("=I", data)
    return [-1 if value == 0xFFFFFFFF else value]


def _stat(data: bytes, args: Sequence[int], names: Names) -> object:
    if names.machine == "x86_64":
        _, ino, links, mode, uid, gid, _, _, size, _, _, _, _, mtime = unpack_from("=QQQIIIIQqqqqqq", data)
    else:  # include/uapi/asm-generic/stat.h
        _, ino, mode, links, uid, gid, _, _, size, _, _, _, _, _, mtime = unpack_from("=QQIIIIQQqiiqqqq", data)
    return {
        "st_ino": ino,
        "st_mode:inode_mode": mode,
        "st_nlink": links,
        "st_uid": uid,
        "st_gid": gid,
        "st_size": size,
        "st_mtime": mtime,
    }


_STATX = _members(
    "=IIQIIIH2xQQQQ",
    *("stx_mask:statx", "", "", "stx_nlink", "stx_uid", "stx_gid", "stx_mode:inode_mode", "stx_ino", "stx_size"),
)


def _timespecs(data: bytes, args: Sequence[int], names: Names) -> object:
    """Two, for access and change."""
    return [_TIMESPEC(data[at : at + 16], args, names) for at in (0, 16)]


def _timevals(data: bytes, args: Sequence[int], names: Names) -> object:
    return [_TIMEVAL(data[at : at + 16], args, names) for at in (0, 16)]


_TIMESPEC = _members("=qq", "tv_sec", "tv_nsec")
_TIMEVAL = _members("=qq", "tv_sec", "tv_usec")


def _pair_of_times(one: Decode) -> Decode:
    def made(data: bytes, args: Sequence[int], names: Names) -> object:
        return {"it_interval": one(data, args, names), "it_value": one(data[16:], args, names)}

    return made


def _usage(data: bytes, args: Sequence[int], names: Names) -> object:
    (most,) = unpack_from("=q", data, 32)
    return {
        "ru_utime": _TIMEVAL(data, args, names),
        "ru_stime": _TIMEVAL(data[16:], args, names),
        "ru_maxrss": most,
    }


def _system(data: bytes, args: Sequence[int], names: Names) -> object:
    seconds, *loads = unpack_from("=q3Q", data)
    memory = unpack_from("=6QH", data, 32)
    members = ("totalram", "freeram", "sharedram", "bufferram", "totalswap", "freeswap", "procs")
    return {"uptime": seconds, "loads": loads, **dict(zip(members, memory))}


def _names_of_system(data: bytes, args: Sequence[int], names: Names) -> object:
    fields = ("sysname", "nodename", "release", "version", "machine")
    return {name: data[65 * at : 65 * at + 65].partition(b"\0")[0] for at, name in enumerate(fields)}


def _signals(mask: int, names: Names) -> str:
    """As strace writes a set: ``[INT TERM]``, or ``~[KILL]`` where most are in it."""
    inverted = mask.bit_count() >= _NSIG * 2 // 3 if hasattr(int, "bit_count") else bin(mask).count("1") >= 42
    if inverted:
        mask ^= (1 << _NSIG) - 1
    found = [names.text("signal", n + 1) or str(n + 1) for n in range(_NSIG) if mask >> n & 1]
    return f"{'~' if inverted else ''}[{' '.join([name[3:] if name[:3] == 'SIG' else name for name in found])}]"


def _sigset(data: bytes, args: Sequence[int], names: Names) -> object:
    return _signals(unpack_from("=Q", data)[0], names)


def _sigaction(data: bytes, args: Sequence[int], names: Names) -> object:
    handler, flags, restorer, mask = unpack_from("=4Q", data)
    known = {0: "SIG_DFL", 1: "SIG_IGN", (1 << 64) - 1: "SIG_ERR"}.get(handler)
    members: dict[str, object] = {"sa_handler:ptr": handler} if known is None else {"sa_handler": known}
    members["sa_mask"] = _signals(mask, names)
    members["sa_flags:sa_flags"] = flags
    if flags & 0x4000000:  # SA_RESTORER
        members["sa_restorer:ptr"] = restorer
    return members


def _wait_status(data: bytes, args: Sequence[int], names: Names) -> object:
    (status,) = unpack_from("=I", data)
    if status == 0xFFFF:
        return {"continued": 1}
    if status & 0xFF == 0x7F:
        return {"stopped:signal": status >> 8 & 0xFF}
    if status & 0x7F:
        return {"killed:signal": status & 0x7F, "core": status >> 7 & 1}
    return {"exited": status >> 8 & 0xFF}


def _items(layout: str, size: int, count: int | None, *members: str) -> Decode:
    """An array, of which argument ``count`` tells the length; None: the bytes do."""
    one = _members(layout, *members)

    def made(data: bytes, args: Sequence[int], names: Names) -> object:
        from bfer.values import MORE

        items: list[object] = [one(data[at : at + size], args, names) for at in range(0, len(data) - size + 1, size)]
        if count is not None and args[count] & 0xFFFFFFFF > len(items):
            items.append(MORE)
        return items

    return made


_EVENT = ("events:epoll", "data")


def _epoll_event(data: bytes, args: Sequence[int], names: Names) -> object:
    return _members("=IQ" if names.machine == "x86_64" else "=I4xQ", *_EVENT)(data, args, names)


def _epoll_events(data: bytes, args: Sequence[int], names: Names) -> object:
    packed = names.machine == "x86_64"
    return _items("=IQ" if packed else "=I4xQ", 12 if packed else 16, None, *_EVENT)(data, args, names)


def _capabilities(data: bytes, args: Sequence[int], names: Names) -> object:
    """As versions 2 and 3 have them, lower and upper halves apart."""
    words = unpack_from("=6I", data)
    members = ("effective:capabilities", "permitted:capabilities", "inheritable:capabilities")
    return {name: words[at] | words[at + 3] << 32 for at, name in enumerate(members)}


_DECODERS: dict[str, Decode] = {
    "timezone": _members("=ii", "tz_minuteswest", "tz_dsttime"),
    "utimbuf": _members("=qq", "actime", "modtime"),
    "mq_attr": _members("=Qqqq", "mq_flags:mq_flags", "mq_maxmsg", "mq_msgsize", "mq_curmsgs"),
    "sched_attr": _members(
        "=IIQiIQQQ",
        *("size", "sched_policy:sched_policy", "sched_flags:sched_flags", "sched_nice", "sched_priority"),
        *("sched_runtime", "sched_deadline", "sched_period"),
    ),
    "cap_header": _members("=Ii", "version:cap_version", "pid"),
    "cap_data": _capabilities,
    "mount_attrs": _members("=QQQQ", "attr_set:mount_attrs", "attr_clr:mount_attrs", "propagation:mount", "userns_fd"),
    "landlock_attr": _members("=Q", "handled_access_fs:landlock_fs"),
    "id": _id,
    "uint": _uint,
    "int": _int,
    "stat": _stat,
    "statx": _STATX,
    "statfs": _members(
        "=QqQQQQQ", "f_type:filesystem", "f_bsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree"
    ),
    "timespec": _TIMESPEC,
    "timespecs": _timespecs,
    "timeval": _TIMEVAL,
    "timevals": _timevals,
    "itimerval": _pair_of_times(_TIMEVAL),
    "itimerspec": _pair_of_times(_TIMESPEC),
    "rlimit": _members("=QQ", "rlim_cur:rlim", "rlim_max:rlim"),
    "rusage": _usage,
    "tms": _members("=4q", "tms_utime", "tms_stime", "tms_cutime", "tms_cstime"),
    "sysinfo": _system,
    "utsname": _names_of_system,
    "sigset": _sigset,
    "sigaction": _sigaction,
    "sigstack": _members("=QI4xQ", "ss_sp:ptr", "ss_flags:sigstack", "ss_size"),
    "wstatus": _wait_status,
    "msghdr": _members(
        "=Qi4xQQQQI",
        *("msg_name:ptr", "msg_namelen", "msg_iov:ptr", "msg_iovlen", "msg_control:ptr", "msg_controllen"),
        "msg_flags:msg",
    ),
    "pollfds": _items("=iHH", 8, 1, "fd", "events:poll", "revents:poll"),
    "iovecs": _items("=QQ", 16, 2, "iov_base:ptr", "iov_len"),
    "remote_iovecs": _items("=QQ", 16, 4, "iov_base:ptr", "iov_len"),
    "epoll_event": _epoll_event,
    "epoll_events": _epoll_events,
}
