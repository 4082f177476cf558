"""Flags of the calls that deal with files."""

from __future__ import annotations

from bfer.names import CUSTOM, FLAGS, OCTAL, Kind, flags

_ACCESS = (("O_RDONLY", 0), ("O_WRONLY", 1), ("O_RDWR", 2), ("O_ACCMODE", 3))


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


def _open_kind(table: tuple[tuple[str, int], ...]) -> Kind:
    def text(value: int) -> str:
        access = _ACCESS[value & 3][0]
        rest = value & ~3
        return f"{access}|{flags(rest, table)}" if rest else access

    return Kind(CUSTOM, _ACCESS + table, text)


_GENERIC = _open_table(direct=0o40000, largefile=0o100000, directory=0o200000, nofollow=0o400000)
# arch/arm/include/uapi/asm/fcntl.h and the same of arm64
_ARM = _open_table(direct=0o200000, largefile=0o400000, directory=0o40000, nofollow=0o100000)

KINDS = {
    "open": _open_kind(_GENERIC),
    "open_arm": _open_kind(_ARM),
    "unlinkat": Kind(FLAGS, (("AT_REMOVEDIR", 0x200),)),
    "resolve": Kind(
        FLAGS,
        (
            ("RESOLVE_NO_XDEV", 0x01),
            ("RESOLVE_NO_MAGICLINKS", 0x02),
            ("RESOLVE_NO_SYMLINKS", 0x04),
            ("RESOLVE_BENEATH", 0x08),
            ("RESOLVE_IN_ROOT", 0x10),
            ("RESOLVE_CACHED", 0x20),
        ),
    ),
    "mode": Kind(OCTAL),
}
