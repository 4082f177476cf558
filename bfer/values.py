"""Values of arguments: what they are besides text; numbers as their C type holds them, as text, and read from text."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from bfer.catalogue import Arg
    from bfer.names import Names

AT_FDCWD = -100

# Kinds of arguments whose meaning another argument of the same call tells: its place, the kinds by its
# value, and the kind for any other value ("" for a plain number).
_BY_ANOTHER = {
    "sockopt": (
        1,
        {
            1: "sockopt",
            0: "ip_option",
            41: "ipv6_option",
            6: "tcp_option",
            17: "udp_option",
            263: "packet_option",
            270: "netlink_option",
            40: "vsock_option",
            283: "xdp_option",
        },
        "",
    ),
    "ipproto": (0, {2: "ipproto", 10: "ipproto", 16: "netlink", 17: "ethernet", 33: "af"}, ""),
    # F_DUPFD and others take numbers, F_SETFD flags ...; most of the rest addresses of locks.
    "fcntl_arg": (
        1,
        {
            **dict.fromkeys((1, 3, 9, 11, 1025, 1031, 1032, 1034), ""),
            **dict.fromkeys((0, 8, 1030), "int"),
            2: "fd_flags",
            4: "open",
            10: "signal",
            1024: "lease",
            1026: "notify",
            1033: "seals",
        },
        "ptr",
    ),
    "prctl_arg2": (
        0,
        {
            **dict.fromkeys((8, 29, 36, 38, 41, 57, 67), ""),
            1: "signal",
            4: "dumpable",
            22: "seccomp_mode",
            23: "capability",
            24: "capability",
            26: "tsc",
            28: "securebits",
            33: "mce_kill",
            35: "mm_field",
            47: "cap_ambient",
            52: "speculation",
            53: "speculation",
            55: "tagged",
            59: "dispatch",
            62: "sched_core",
            65: "mdwe",
            0x53564D41: "vma",
            0x59616D61: "ptracer",
        },
        "ptr",
    ),
    "prctl_arg3": (0, {47: "capability", 53: "speculation_flags", 62: ""}, "ptr"),
    "ptrace_addr": (0, {0x4204: "regset", 0x4205: "regset"}, "ptr"),
    "ptrace_data": (
        0,
        {**dict.fromkeys((7, 9, 17, 24, 31, 32), "signal"), 0x4200: "ptrace_options", 0x4206: "ptrace_options"},
        "ptr",
    ),
    # Nearly all commands begin with a key; some have another one, or a user, behind it.
    "keyctl_arg2": (
        0,
        {
            **dict.fromkeys((*range(14), 15, 16, 17, *range(19, 22), 24, 29, 30, 32), "keyring"),
            1: "ptr",
            14: "reqkey",
            22: "int",
        },
        "ptr",
    ),
    "keyctl_arg3": (
        0,
        {**dict.fromkeys((8, 9, 22, 30), "keyring"), 0: "int", 4: "int", 5: "key_perms", 13: "", 15: "", 19: ""},
        "ptr",
    ),
}

# Unsigned, but of which all bits together mean none: so -1 is shown.
_IDS = ("uid_t", "gid_t")


class Cut(bytes):
    """A string of which the end is missing."""


class Blob(bytes):
    """Bytes that are no text."""


class Named(bytes):
    """A number and what it stands for."""


class Relative(bytes):
    """A path, and as ``whole`` the same from the root."""

    whole = b""


class Pointer(int):
    """An address instead of what is there."""


class More:
    """Stands at the end of a list that goes on."""


MORE = More()


def number(arg: Arg, raw: int) -> int:
    """The value of ``arg``, of which the register held ``raw``."""
    value = raw & ((1 << arg.bits) - 1)
    return value - (1 << arg.bits) if arg.signed and value >> arg.bits - 1 else value


def plain(arg: Arg, raw: int, args: Sequence[int] = ()) -> int:
    """The value of ``arg`` as outputs show it where it has no name."""
    value = number(arg, raw)
    if value == 0xFFFFFFFF and (arg.type in _IDS or arg.kind == "id"):
        return -1
    if arg.kind in _BY_ANOTHER and args and _meant(arg.kind, args) == "int":
        return (value & 0xFFFFFFFF) - (value << 1 & 1 << 32)
    return value


def _meant(kind: str, args: Sequence[int]) -> str:
    """The kind that another argument decides about."""
    place, kinds, other = _BY_ANOTHER[kind]
    return kinds.get(args[place] & 0xFFFFFFFF, other)


def named(arg: Arg, raw: int, names: Names, args: Sequence[int] = ()) -> str | None:
    """The value of ``arg`` by name: flags, modes, addresses; None for a plain number.

    ``args`` are all numbers of the call, where they decide what this one means.
    """
    kind = arg.kind
    if kind in _BY_ANOTHER and args:
        kind = _meant(kind, args)
    if kind == "ptr" or arg.type.endswith(("*", "]")):
        value = raw & ((1 << arg.bits) - 1)
        return f"{value:#x}" if value else "NULL"
    if not kind:
        return None
    return names.text(kind, raw & ((1 << arg.bits) - 1))


def text(arg: Arg, raw: int, names: Names, args: Sequence[int] = ()) -> str:
    """The value of ``arg`` for people."""
    name = named(arg, raw, names, args)
    return str(plain(arg, raw, args)) if name is None else name


def parse(arg: Arg, word: str, names: Names) -> int | None:
    """The number that ``word`` stands for where ``arg`` is meant; None when it is neither number nor name."""
    if arg.kind == "dirfd" and word == "AT_FDCWD":
        return AT_FDCWD
    if arg.type in ("uid_t", "gid_t", "bool") and word.isidentifier():
        return _truth(word) if arg.type == "bool" else account(word, arg.type == "gid_t")
    value = names.parse(arg.kind, word) if arg.kind and not word.lstrip("-").isdigit() else None
    if value is None:
        octal = arg.kind == "mode" and word[:1] == "0" and word.isdigit()
        value = parse_number("0o" + word if octal else word)
    return value


def _truth(word: str) -> int | None:
    return {"true": 1, "false": 0}.get(word)


def account(word: str, group: bool = False) -> int | None:
    """The number of a user or a group, by name; None where there is none of this name."""
    try:
        if group:
            from grp import getgrnam

            return getgrnam(word).gr_gid
        from pwd import getpwnam

        return getpwnam(word).pw_uid
    except (ImportError, KeyError):
        return None


def parse_number(word: str) -> int | None:
    """A decimal, 0x or 0o number with an optional minus; None for anything else."""
    digits = word[1:] if word[:1] == "-" else word
    # int() alone would take blanks, underscores and digits of other scripts too.
    if not digits.isascii() or not digits.isalnum():
        return None
    try:
        return int(word, 0)
    except ValueError:
        return int(word) if digits.isdigit() else None
