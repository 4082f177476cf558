"""Flags of the calls that deal with files and mounts."""

from __future__ import annotations

from bfer.names import CHOICE, CUSTOM, FLAGS, OCTAL, Kind, flags, hexadecimal, joined, with_size

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
        ("O_EMPTYPATH", 0o400000000),
        ("FASYNC", 0o20000),
        ("OPENAT2_REGULAR", 1 << 32),
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

# include/linux/fs.h: the kernel's own, of files that it opens to execute them
_EXECUTED = ("__FMODE_EXEC", 0o40)

_TYPES = {
    0o140000: "S_IFSOCK",
    0o120000: "S_IFLNK",
    0o100000: "S_IFREG",
    0o060000: "S_IFBLK",
    0o040000: "S_IFDIR",
    0o020000: "S_IFCHR",
    0o010000: "S_IFIFO",
}


_SPECIAL = (("S_ISUID", 0o4000), ("S_ISGID", 0o2000), ("S_ISVTX", 0o1000))


def _inode_mode(value: int) -> str:
    type = value & 0o170000
    if type and type not in _TYPES:
        return f"0{value:o}"
    names = [_TYPES[type]] if type else []
    names += [name for name, bit in _SPECIAL if value & bit]
    rest = value & ~0o177000
    return "|".join([*names, f"0{rest:02o}"])


def _device(value: int) -> str:
    """As the kernel packs a device's numbers for user space (include/linux/kdev_t.h)."""
    major = value >> 8 & 0xFFF | value >> 32 & 0xFFFFF000
    minor = value & 0xFF | value >> 12 & 0xFFFFF00
    return f"makedev({hexadecimal(major)}, {hexadecimal(minor)})"


def _packed(parts: list[str]) -> int | None:
    both = joined(parts, (32, {}), (0, {}))
    if both is None:
        return None
    major, minor = both >> 32, both & 0xFFFFFFFF
    return minor & 0xFF | (major & 0xFFF) << 8 | (minor & ~0xFF) << 12 | (major & ~0xFFF) << 32


# include/uapi/linux/fcntl.h; what several calls have in common.
_AT = (
    ("AT_SYMLINK_NOFOLLOW", 0x100),
    ("AT_REMOVEDIR", 0x200),
    ("AT_SYMLINK_FOLLOW", 0x400),
    ("AT_NO_AUTOMOUNT", 0x800),
    ("AT_EMPTY_PATH", 0x1000),
    ("AT_RECURSIVE", 0x8000),
)
_MEMFD = (
    ("MFD_CLOEXEC", 1),
    ("MFD_ALLOW_SEALING", 2),
    ("MFD_HUGETLB", 4),
    ("MFD_NOEXEC_SEAL", 8),
    ("MFD_EXEC", 0x10),
)


def _memfd(value: int) -> str:
    return with_size(value, _MEMFD, "MFD_HUGE_SHIFT")


_IOCTLS = (
    ("TCGETS", 0x5401),
    ("TCSETS", 0x5402),
    ("TCSETSW", 0x5403),
    ("TCSETSF", 0x5404),
    ("TCGETA", 0x5405),
    ("TCSETA", 0x5406),
    ("TCSETAW", 0x5407),
    ("TCSETAF", 0x5408),
    ("TCSBRK", 0x5409),
    ("TCXONC", 0x540A),
    ("TCFLSH", 0x540B),
    ("TIOCEXCL", 0x540C),
    ("TIOCNXCL", 0x540D),
    ("TIOCSCTTY", 0x540E),
    ("TIOCGPGRP", 0x540F),
    ("TIOCSPGRP", 0x5410),
    ("TIOCOUTQ", 0x5411),
    ("TIOCSTI", 0x5412),
    ("TIOCGWINSZ", 0x5413),
    ("TIOCSWINSZ", 0x5414),
    ("TIOCMGET", 0x5415),
    ("TIOCMBIS", 0x5416),
    ("TIOCMBIC", 0x5417),
    ("TIOCMSET", 0x5418),
    ("TIOCGSOFTCAR", 0x5419),
    ("TIOCSSOFTCAR", 0x541A),
    ("FIONREAD", 0x541B),
    ("TIOCLINUX", 0x541C),
    ("TIOCCONS", 0x541D),
    ("TIOCGSERIAL", 0x541E),
    ("TIOCSSERIAL", 0x541F),
    ("TIOCPKT", 0x5420),
    ("FIONBIO", 0x5421),
    ("TIOCNOTTY", 0x5422),
    ("TIOCSETD", 0x5423),
    ("TIOCGETD", 0x5424),
    ("TCSBRKP", 0x5425),
    ("TIOCSBRK", 0x5427),
    ("TIOCCBRK", 0x5428),
    ("TIOCGSID", 0x5429),
    ("TIOCGRS485", 0x542E),
    ("TIOCSRS485", 0x542F),
    ("TCGETX", 0x5432),
    ("TCSETX", 0x5433),
    ("TCSETXF", 0x5434),
    ("TCSETXW", 0x5435),
    ("TIOCVHANGUP", 0x5437),
    ("FIONCLEX", 0x5450),
    ("FIOCLEX", 0x5451),
    ("FIOASYNC", 0x5452),
    ("TIOCSERCONFIG", 0x5453),
    ("TIOCSERGWILD", 0x5454),
    ("TIOCSERSWILD", 0x5455),
    ("TIOCGLCKTRMIOS", 0x5456),
    ("TIOCSLCKTRMIOS", 0x5457),
    ("TIOCSERGSTRUCT", 0x5458),
    ("TIOCSERGETLSR", 0x5459),
    ("TIOCSERGETMULTI", 0x545A),
    ("TIOCSERSETMULTI", 0x545B),
    ("TIOCMIWAIT", 0x545C),
    ("TIOCGICOUNT", 0x545D),
    ("FIOQSIZE", 0x5460),
)
_DIRECTIONS = ("_IOC_NONE", "_IOC_WRITE", "_IOC_READ", "_IOC_READ|_IOC_WRITE")


def _ioctl(value: int) -> str:
    """A request by name, or by the parts of which its number is made (include/uapi/asm-generic/ioctl.h)."""
    for name, number in _IOCTLS:
        if number == value:
            return name
    parts = [hexadecimal(part) for part in (value >> 8 & 0xFF, value & 0xFF, value >> 16 & 0x3FFF)]
    return f"_IOC({_DIRECTIONS[value >> 30 & 3]}, {', '.join(parts)})"


KINDS = {
    "open": _open_kind(_GENERIC),
    "open_arm": _open_kind(_ARM),
    "opened": _open_kind((*_GENERIC, _EXECUTED)),
    "opened_arm": _open_kind((*_ARM, _EXECUTED)),
    "open_only": Kind(FLAGS, _GENERIC),
    "open_only_arm": Kind(FLAGS, _ARM),
    "mq_flags": Kind(FLAGS, (("O_NONBLOCK", 0o4000),)),
    "mode": Kind(OCTAL),
    "fd_flags": Kind(FLAGS, (("FD_CLOEXEC", 1),)),
    "lease": Kind(CHOICE, (("F_RDLCK", 0), ("F_WRLCK", 1), ("F_UNLCK", 2))),
    "seals": Kind(
        FLAGS,
        (
            ("F_SEAL_SEAL", 0x1),
            ("F_SEAL_SHRINK", 0x2),
            ("F_SEAL_GROW", 0x4),
            ("F_SEAL_WRITE", 0x8),
            ("F_SEAL_FUTURE_WRITE", 0x10),
            ("F_SEAL_EXEC", 0x20),
        ),
    ),
    "inode_mode": Kind(CUSTOM, (*[(name, value) for value, name in _TYPES.items()], *_SPECIAL), _inode_mode),
    "dev": Kind(CUSTOM, (), _device, _packed),
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
    "whence": Kind(
        CHOICE,
        (
            ("SEEK_SET", 0),
            ("SEEK_CUR", 1),
            ("SEEK_END", 2),
            ("SEEK_DATA", 3),
            ("SEEK_HOLE", 4),
        ),
    ),
    "rwf": Kind(
        FLAGS,
        (
            ("RWF_HIPRI", 1),
            ("RWF_DSYNC", 2),
            ("RWF_SYNC", 4),
            ("RWF_NOWAIT", 8),
            ("RWF_APPEND", 0x10),
            ("RWF_NOAPPEND", 0x20),
            ("RWF_ATOMIC", 0x40),
            ("RWF_DONTCACHE", 0x80),
            ("RWF_NOSIGNAL", 0x100),
        ),
    ),
    "fallocate": Kind(
        FLAGS,
        (
            ("FALLOC_FL_KEEP_SIZE", 1),
            ("FALLOC_FL_PUNCH_HOLE", 2),
            ("FALLOC_FL_NO_HIDE_STALE", 4),
            ("FALLOC_FL_COLLAPSE_RANGE", 8),
            ("FALLOC_FL_ZERO_RANGE", 0x10),
            ("FALLOC_FL_INSERT_RANGE", 0x20),
            ("FALLOC_FL_UNSHARE_RANGE", 0x40),
            ("FALLOC_FL_WRITE_ZEROES", 0x80),
        ),
    ),
    "at": Kind(FLAGS, _AT),
    "at_statx": Kind(FLAGS, (*_AT, ("AT_STATX_FORCE_SYNC", 0x2000), ("AT_STATX_DONT_SYNC", 0x4000))),
    "at_handle": Kind(
        FLAGS,
        (
            ("AT_HANDLE_MNT_ID_UNIQUE", 1),
            ("AT_HANDLE_CONNECTABLE", 2),
            ("AT_HANDLE_FID", 0x200),
            ("AT_SYMLINK_FOLLOW", 0x400),
            ("AT_EMPTY_PATH", 0x1000),
        ),
    ),
    "at_eaccess": Kind(
        FLAGS,
        (
            ("AT_SYMLINK_NOFOLLOW", 0x100),
            ("AT_EACCESS", 0x200),
            ("AT_SYMLINK_FOLLOW", 0x400),
            ("AT_NO_AUTOMOUNT", 0x800),
            ("AT_EMPTY_PATH", 0x1000),
        ),
    ),
    "rename": Kind(
        FLAGS,
        (
            ("RENAME_NOREPLACE", 1),
            ("RENAME_EXCHANGE", 2),
            ("RENAME_WHITEOUT", 4),
        ),
    ),
    "memfd": Kind(CUSTOM, _MEMFD, _memfd),
    "close_range": Kind(
        FLAGS,
        (
            ("CLOSE_RANGE_UNSHARE", 2),
            ("CLOSE_RANGE_CLOEXEC", 4),
        ),
    ),
    "access": Kind(
        FLAGS,
        (
            ("F_OK", 0),
            ("X_OK", 1),
            ("W_OK", 2),
            ("R_OK", 4),
        ),
    ),
    "statx": Kind(
        FLAGS,
        (
            ("STATX_ALL", 0xFFF),
            ("STATX_BASIC_STATS", 0x7FF),
            ("STATX_TYPE", 1),
            ("STATX_MODE", 2),
            ("STATX_NLINK", 4),
            ("STATX_UID", 8),
            ("STATX_GID", 0x10),
            ("STATX_ATIME", 0x20),
            ("STATX_MTIME", 0x40),
            ("STATX_CTIME", 0x80),
            ("STATX_INO", 0x100),
            ("STATX_SIZE", 0x200),
            ("STATX_BLOCKS", 0x400),
            ("STATX_BTIME", 0x800),
            ("STATX_MNT_ID", 0x1000),
            ("STATX_DIOALIGN", 0x2000),
            ("STATX_MNT_ID_UNIQUE", 0x4000),
            ("STATX_SUBVOL", 0x8000),
            ("STATX_WRITE_ATOMIC", 0x10000),
            ("STATX_DIO_READ_ALIGN", 0x20000),
        ),
    ),
    "xattr": Kind(
        FLAGS,
        (
            ("XATTR_CREATE", 1),
            ("XATTR_REPLACE", 2),
        ),
    ),
    "sync_file_range": Kind(
        FLAGS,
        (
            ("SYNC_FILE_RANGE_WAIT_BEFORE", 1),
            ("SYNC_FILE_RANGE_WRITE", 2),
            ("SYNC_FILE_RANGE_WAIT_AFTER", 4),
        ),
    ),
    "fadvise": Kind(
        CHOICE,
        (
            ("POSIX_FADV_NORMAL", 0),
            ("POSIX_FADV_RANDOM", 1),
            ("POSIX_FADV_SEQUENTIAL", 2),
            ("POSIX_FADV_WILLNEED", 3),
            ("POSIX_FADV_DONTNEED", 4),
            ("POSIX_FADV_NOREUSE", 5),
        ),
    ),
    "splice": Kind(
        FLAGS,
        (
            ("SPLICE_F_MOVE", 1),
            ("SPLICE_F_NONBLOCK", 2),
            ("SPLICE_F_MORE", 4),
            ("SPLICE_F_GIFT", 8),
        ),
    ),
    "flock": Kind(
        FLAGS,
        (
            ("LOCK_RW", 0xC0),
            ("LOCK_SH", 1),
            ("LOCK_EX", 2),
            ("LOCK_NB", 4),
            ("LOCK_UN", 8),
            ("LOCK_MAND", 0x20),
            ("LOCK_READ", 0x40),
            ("LOCK_WRITE", 0x80),
        ),
    ),
    "fcntl": Kind(
        CHOICE,
        (
            ("F_DUPFD", 0),
            ("F_GETFD", 1),
            ("F_SETFD", 2),
            ("F_GETFL", 3),
            ("F_SETFL", 4),
            ("F_GETLK", 5),
            ("F_SETLK", 6),
            ("F_SETLKW", 7),
            ("F_SETOWN", 8),
            ("F_GETOWN", 9),
            ("F_SETSIG", 10),
            ("F_GETSIG", 11),
            ("F_GETLK64", 12),
            ("F_SETLK64", 13),
            ("F_SETLKW64", 14),
            ("F_SETOWN_EX", 15),
            ("F_GETOWN_EX", 16),
            ("F_GETOWNER_UIDS", 17),
            ("F_OFD_GETLK", 36),
            ("F_OFD_SETLK", 37),
            ("F_OFD_SETLKW", 38),
            ("F_SETLEASE", 1024),
            ("F_GETLEASE", 1025),
            ("F_NOTIFY", 1026),
            ("F_DUPFD_QUERY", 1027),
            ("F_CREATED_QUERY", 1028),
            ("F_CANCELLK", 1029),
            ("F_DUPFD_CLOEXEC", 1030),
            ("F_SETPIPE_SZ", 1031),
            ("F_GETPIPE_SZ", 1032),
            ("F_ADD_SEALS", 1033),
            ("F_GET_SEALS", 1034),
            ("F_GET_RW_HINT", 1035),
            ("F_SET_RW_HINT", 1036),
            ("F_GET_FILE_RW_HINT", 1037),
            ("F_SET_FILE_RW_HINT", 1038),
            ("F_GETDELEG", 1039),
            ("F_SETDELEG", 1040),
        ),
    ),
    "ioctl": Kind(
        CUSTOM,
        _IOCTLS,
        _ioctl,
        lambda parts: joined(
            parts, (30, {name: number for number, name in enumerate(_DIRECTIONS)}), (8, {}), (0, {}), (16, {})
        ),
    ),
}
