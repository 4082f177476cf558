"""Flags and modes as text, with strace's names and order."""

from __future__ import annotations

from bfer.catalogue import ARM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_ACCESS = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE")


def _open_table(direct: int, largefile: int, directory: int, nofollow: int) -> tuple[tuple[str, int], ...]:
    """O_* beyond the access mode (include/uapi/asm-generic/fcntl.h); names of several bits stand before their parts."""
    return (
        ("O_CREAT", 0o100),
        ("O_EXCL", 0o200),
        ("O_NOCTTY", 0o400),
        ("O_TRUNC", 0o1000),
        ("O_APPEND", 0o2000),
        ("O_NONBLOCK", 0o4000),
        ("O_SYNC", 0o4010000),
        ("O_DSYNC", 0o10000),
        ("__O_SYNC", 0o4000000),
        ("O_DIRECT", direct),
        ("O_LARGEFILE", largefile),
        ("O_NOFOLLOW", nofollow),
        ("O_NOATIME", 0o1000000),
        ("O_CLOEXEC", 0o2000000),
        ("O_PATH", 0o10000000),
        ("O_TMPFILE", 0o20000000 | directory),
        ("__O_TMPFILE", 0o20000000),
        ("O_DIRECTORY", directory),
        ("FASYNC", 0o20000),
    )


_GENERIC = _open_table(direct=0o40000, largefile=0o100000, directory=0o200000, nofollow=0o400000)
# arch/arm/include/uapi/asm/fcntl.h and the same of arm64
_ARM = _open_table(direct=0o200000, largefile=0o400000, directory=0o40000, nofollow=0o100000)

_UNLINK = (("AT_REMOVEDIR", 0x200),)
_RESOLVE = (
    ("RESOLVE_NO_XDEV", 0x01),
    ("RESOLVE_NO_MAGICLINKS", 0x02),
    ("RESOLVE_NO_SYMLINKS", 0x04),
    ("RESOLVE_BENEATH", 0x08),
    ("RESOLVE_IN_ROOT", 0x10),
    ("RESOLVE_CACHED", 0x20),
)


def open_table(machine: str, table: int) -> tuple[tuple[str, int], ...]:
    """The O_* of the machine's kernel; ``table`` is the catalogue's."""
    return _ARM if table == ARM or machine in ("aarch64", "arm64", "armv8l") else _GENERIC


def _names(value: int, table: Sequence[tuple[str, int]], names: list[str]) -> str:
    for name, bits in table:
        if value & bits == bits:
            names.append(name)
            value &= ~bits
    if value:
        names.append(f"{value:#x}")
    return "|".join(names) or "0"


def open_flags(value: int, table: Sequence[tuple[str, int]]) -> str:
    """``O_WRONLY|O_CREAT``; unknown bits in hex, never empty. ``value`` is unsigned."""
    return _names(value & ~3, table, [_ACCESS[value & 3]])


def unlink_flags(value: int) -> str:
    return _names(value, _UNLINK, [])


def resolve(value: int) -> str:
    """The ``resolve`` of struct open_how; 0 is ``0``."""
    return _names(value, _RESOLVE, [])


def mode(value: int) -> str:
    """Octal with its leading zero; 0 is ``0``."""
    return f"0{value:o}" if value else "0"


def parse(text: str, table: Sequence[tuple[str, int]], access: bool) -> int | None:
    """The value of ``O_WRONLY|O_CREAT``; None when a name is unknown. ``access``: O_RDONLY and the like count."""
    known = dict(table)
    if access:
        known.update(zip(_ACCESS, range(4)))
    value = 0
    for name in text.split("|"):
        if name not in known:
            return None
        value |= known[name]
    return value


def parse_unlink(text: str) -> int | None:
    return parse(text, _UNLINK, False)
