"""Flags of the calls that mount file systems, take them apart and swap."""

from __future__ import annotations

from bfer.names import CHOICE, CUSTOM, FLAGS, Kind, flags, hexadecimal, joined

# include/uapi/linux/mount.h; all of the upper half may be a number that old programs pass.
_MAGIC = 0xC0ED0000
_MOUNT = (
    ("MS_RDONLY", 1),
    ("MS_NOSUID", 2),
    ("MS_NODEV", 4),
    ("MS_NOEXEC", 8),
    ("MS_SYNCHRONOUS", 0x10),
    ("MS_REMOUNT", 0x20),
    ("MS_MANDLOCK", 0x40),
    ("MS_DIRSYNC", 0x80),
    ("MS_NOSYMFOLLOW", 0x100),
    ("MS_NOATIME", 0x400),
    ("MS_NODIRATIME", 0x800),
    ("MS_BIND", 0x1000),
    ("MS_MOVE", 0x2000),
    ("MS_REC", 0x4000),
    ("MS_SILENT", 0x8000),
    ("MS_POSIXACL", 0x10000),
    ("MS_UNBINDABLE", 0x20000),
    ("MS_PRIVATE", 0x40000),
    ("MS_SLAVE", 0x80000),
    ("MS_SHARED", 0x100000),
    ("MS_RELATIME", 0x200000),
    ("MS_KERNMOUNT", 0x400000),
    ("MS_I_VERSION", 0x800000),
    ("MS_STRICTATIME", 0x1000000),
    ("MS_LAZYTIME", 0x2000000),
    ("MS_SUBMOUNT", 0x4000000),
    ("MS_NOREMOTELOCK", 0x8000000),
    ("MS_NOSEC", 0x10000000),
    ("MS_BORN", 0x20000000),
    ("MS_ACTIVE", 0x40000000),
    ("MS_NOUSER", 0x80000000),
)


def _mount(value: int) -> str:
    if value & 0xFFFF0000 == _MAGIC:
        rest = value & ~0xFFFF0000
        return f"MS_MGC_VAL|{flags(rest, _MOUNT)}" if rest else "MS_MGC_VAL"
    return flags(value, _MOUNT)


_MOUNT_ATTR = (
    ("MOUNT_ATTR__ATIME", 0x70),
    ("MOUNT_ATTR_RDONLY", 1),
    ("MOUNT_ATTR_NOSUID", 2),
    ("MOUNT_ATTR_NODEV", 4),
    ("MOUNT_ATTR_NOEXEC", 8),
    ("MOUNT_ATTR_NOATIME", 0x10),
    ("MOUNT_ATTR_STRICTATIME", 0x20),
    ("MOUNT_ATTR_NODIRATIME", 0x80),
    ("MOUNT_ATTR_IDMAP", 0x100000),
    ("MOUNT_ATTR_NOSYMFOLLOW", 0x200000),
)

# include/linux/swap.h
_SWAP = (
    ("SWAP_FLAG_PREFER", 0x8000),
    ("SWAP_FLAG_DISCARD", 0x10000),
    ("SWAP_FLAG_DISCARD_ONCE", 0x20000),
    ("SWAP_FLAG_DISCARD_PAGES", 0x40000),
)

# include/uapi/linux/quota.h and dqblk_xfs.h, and what went before them
_QUOTA = {
    0x100: "Q_V1_QUOTAON",
    0x200: "Q_V1_QUOTAOFF",
    0x300: "Q_V1_GETQUOTA",
    0x400: "Q_V1_SETQUOTA",
    0x500: "Q_V1_SETUSE",
    0x600: "Q_V1_SYNC",
    0x700: "Q_SETQLIM",
    0x800: "Q_V1_GETSTATS",
    0x1000: "Q_V1_RSQUASH",
    0x800001: "Q_SYNC",
    0x800002: "Q_QUOTAON",
    0x800003: "Q_QUOTAOFF",
    0x800004: "Q_GETFMT",
    0x800005: "Q_GETINFO",
    0x800006: "Q_SETINFO",
    0x800007: "Q_GETQUOTA",
    0x800008: "Q_SETQUOTA",
    0x800009: "Q_GETNEXTQUOTA",
    0x5801: "Q_XQUOTAON",
    0x5802: "Q_XQUOTAOFF",
    0x5803: "Q_XGETQUOTA",
    0x5804: "Q_XSETQLIM",
    0x5805: "Q_XGETQSTAT",
    0x5806: "Q_XQUOTARM",
    0x5807: "Q_XQUOTASYNC",
    0x5808: "Q_XGETQSTATV",
    0x5809: "Q_XGETNEXTQUOTA",
}
_QUOTA_TYPES = ("USRQUOTA", "GRPQUOTA", "PRJQUOTA")


def _swap(value: int) -> str:
    """The low bits are a priority."""
    names = flags(value & ~0x7FFF, _SWAP)
    return f"{names}|{value & 0x7FFF}" if value & 0x8000 or value & 0x7FFF else names


def _quota(value: int) -> str:
    """A command, and below it whose quota is meant."""
    command, type = value >> 8, value & 0xFF
    kind = _QUOTA_TYPES[type] if type < len(_QUOTA_TYPES) else hexadecimal(type)
    return f"QCMD({_QUOTA.get(command) or hexadecimal(command)}, {kind})"


KINDS = {
    "filesystem": Kind(
        CHOICE,
        (
            ("ADFS_SUPER_MAGIC", 0xADF5),
            ("ANON_INODE_FS_MAGIC", 0x9041934),
            ("AUTOFS_SUPER_MAGIC", 0x187),
            ("BDEVFS_MAGIC", 0x62646576),
            ("BINFMTFS_MAGIC", 0x42494E4D),
            ("BPF_FS_MAGIC", 0xCAFE4A11),
            ("BTRFS_SUPER_MAGIC", 0x9123683E),
            ("CGROUP2_SUPER_MAGIC", 0x63677270),
            ("CGROUP_SUPER_MAGIC", 0x27E0EB),
            ("CRAMFS_MAGIC", 0x28CD3D45),
            ("DEBUGFS_MAGIC", 0x64626720),
            ("DEVPTS_SUPER_MAGIC", 0x1CD1),
            ("EFIVARFS_MAGIC", 0xDE5E81E4),
            ("EROFS_SUPER_MAGIC_V1", 0xE0F5E1E2),
            ("EXFAT_SUPER_MAGIC", 0x2011BAB0),
            ("EXT2_SUPER_MAGIC", 0xEF53),
            ("F2FS_SUPER_MAGIC", 0xF2F52010),
            ("FUSE_SUPER_MAGIC", 0x65735546),
            ("HUGETLBFS_MAGIC", 0x958458F6),
            ("ISOFS_SUPER_MAGIC", 0x9660),
            ("JFFS2_SUPER_MAGIC", 0x72B6),
            ("MSDOS_SUPER_MAGIC", 0x4D44),
            ("NFS_SUPER_MAGIC", 0x6969),
            ("NSFS_MAGIC", 0x6E736673),
            ("OVERLAYFS_SUPER_MAGIC", 0x794C7630),
            ("PIPEFS_MAGIC", 0x50495045),
            ("PROC_SUPER_MAGIC", 0x9FA0),
            ("PSTOREFS_MAGIC", 0x6165676C),
            ("RAMFS_MAGIC", 0x858458F6),
            ("SECURITYFS_MAGIC", 0x73636673),
            ("SELINUX_MAGIC", 0xF97CFF8C),
            ("SOCKFS_MAGIC", 0x534F434B),
            ("SQUASHFS_MAGIC", 0x73717368),
            ("SYSFS_MAGIC", 0x62656572),
            ("TMPFS_MAGIC", 0x1021994),
            ("TRACEFS_MAGIC", 0x74726163),
            ("UBIFS_SUPER_MAGIC", 0x24051905),
            ("V9FS_MAGIC", 0x1021997),
            ("XFS_SUPER_MAGIC", 0x58465342),
        ),
    ),
    "mount": Kind(CUSTOM, (("MS_MGC_VAL", _MAGIC), *_MOUNT), _mount),
    "umount": Kind(
        FLAGS,
        (
            ("MNT_FORCE", 1),
            ("MNT_DETACH", 2),
            ("MNT_EXPIRE", 4),
            ("UMOUNT_NOFOLLOW", 8),
        ),
    ),
    "open_tree": Kind(
        FLAGS,
        (
            ("OPEN_TREE_CLONE", 1),
            ("OPEN_TREE_NAMESPACE", 2),
            ("AT_SYMLINK_NOFOLLOW", 0x100),
            ("AT_NO_AUTOMOUNT", 0x800),
            ("AT_EMPTY_PATH", 0x1000),
            ("AT_RECURSIVE", 0x8000),
            ("OPEN_TREE_CLOEXEC", 0x80000),
        ),
    ),
    "move_mount": Kind(
        FLAGS,
        (
            ("MOVE_MOUNT_F_SYMLINKS", 1),
            ("MOVE_MOUNT_F_AUTOMOUNTS", 2),
            ("MOVE_MOUNT_F_EMPTY_PATH", 4),
            ("MOVE_MOUNT_T_SYMLINKS", 0x10),
            ("MOVE_MOUNT_T_AUTOMOUNTS", 0x20),
            ("MOVE_MOUNT_T_EMPTY_PATH", 0x40),
            ("MOVE_MOUNT_SET_GROUP", 0x100),
            ("MOVE_MOUNT_BENEATH", 0x200),
        ),
    ),
    "fsopen": Kind(
        FLAGS,
        (("FSOPEN_CLOEXEC", 1),),
    ),
    "fsconfig": Kind(
        CHOICE,
        (
            ("FSCONFIG_SET_FLAG", 0),
            ("FSCONFIG_SET_STRING", 1),
            ("FSCONFIG_SET_BINARY", 2),
            ("FSCONFIG_SET_PATH", 3),
            ("FSCONFIG_SET_PATH_EMPTY", 4),
            ("FSCONFIG_SET_FD", 5),
            ("FSCONFIG_CMD_CREATE", 6),
            ("FSCONFIG_CMD_RECONFIGURE", 7),
            ("FSCONFIG_CMD_CREATE_EXCL", 8),
        ),
    ),
    "fsmount": Kind(
        FLAGS,
        (("FSMOUNT_CLOEXEC", 1), ("FSMOUNT_NAMESPACE", 2)),
    ),
    "mount_attr": Kind(FLAGS, (("MOUNT_ATTR_RELATIME", 0), *_MOUNT_ATTR)),
    "mount_attrs": Kind(FLAGS, _MOUNT_ATTR),
    "fspick": Kind(
        FLAGS,
        (
            ("FSPICK_CLOEXEC", 1),
            ("FSPICK_SYMLINK_NOFOLLOW", 2),
            ("FSPICK_NO_AUTOMOUNT", 4),
            ("FSPICK_EMPTY_PATH", 8),
        ),
    ),
    "swap": Kind(CUSTOM, _SWAP, _swap),
    "quota": Kind(
        CUSTOM,
        (),
        _quota,
        lambda parts: joined(
            parts,
            (8, {name: number for number, name in _QUOTA.items()}),
            (0, {name: number for number, name in enumerate(_QUOTA_TYPES)}),
        ),
    ),
    "statmount": Kind(
        FLAGS,
        (("STATMOUNT_BY_FD", 1),),
    ),
    "listmount": Kind(
        FLAGS,
        (("LISTMOUNT_REVERSE", 1),),
    ),
}
