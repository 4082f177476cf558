"""System V IPC and message queues."""

from __future__ import annotations

from bfer.names import CHOICE, CUSTOM, FLAGS, Kind, flags, hexadecimal, with_size

_GET = (("IPC_CREAT", 0o1000), ("IPC_EXCL", 0o2000), ("IPC_NOWAIT", 0o4000))
_SHMGET = (("IPC_CREAT", 0o1000), ("IPC_EXCL", 0o2000), ("SHM_HUGETLB", 0o4000), ("SHM_NORESERVE", 0o10000))


def _with_mode(table: tuple[tuple[str, int], ...], shift: str = "") -> Kind:
    def text(value: int) -> str:
        mode = f"0{value & 0o777:02o}"
        rest = value & ~0o777
        names = with_size(rest, table, shift) if shift else flags(rest, table)
        return f"{names}|{mode}" if rest else mode

    return Kind(CUSTOM, table, text)


def _command(table: tuple[tuple[str, int], ...]) -> Kind:
    """A command, with a flag that C libraries add where the kernel has an older form, too."""
    names = {value: name for name, value in table}

    def text(value: int) -> str:
        command = value & ~0x100
        name = names.get(command) or hexadecimal(command)
        return f"IPC_64|{name}" if value & 0x100 else name

    return Kind(CUSTOM, (*table, ("IPC_64", 0x100)), text)


# include/uapi/linux/futex.h
_FUTEX = (
    *("WAIT", "WAKE", "FD", "REQUEUE", "CMP_REQUEUE", "WAKE_OP", "LOCK_PI", "UNLOCK_PI", "TRYLOCK_PI", "WAIT_BITSET"),
    *("WAKE_BITSET", "WAIT_REQUEUE_PI", "CMP_REQUEUE_PI", "LOCK_PI2"),
)


_OPERATIONS = (
    *[(f"FUTEX_{name}", number) for number, name in enumerate(_FUTEX)],
    *[(f"FUTEX_{name}_PRIVATE", number | 0x80) for number, name in enumerate(_FUTEX)],
    ("FUTEX_PRIVATE_FLAG", 0x80),
    ("FUTEX_CLOCK_REALTIME", 0x100),
)
_SIZES = ("FUTEX2_SIZE_U8", "FUTEX2_SIZE_U16", "FUTEX2_SIZE_U32", "FUTEX2_SIZE_U64")
_FUTEX2 = (("FUTEX2_NUMA", 4), ("FUTEX2_MPOL", 8), ("FUTEX2_PRIVATE", 128))


def _futex(value: int) -> str:
    operation = value & 0x7F
    if operation >= len(_FUTEX):
        return flags(value, (("FUTEX_PRIVATE_FLAG", 0x80), ("FUTEX_CLOCK_REALTIME", 0x100)))
    name = f"FUTEX_{_FUTEX[operation]}"
    if value & 0x80:
        name += "_PRIVATE"
    if value & 0x100:
        name += "|FUTEX_CLOCK_REALTIME"
    return f"{name}|{value & ~0x1FF:#x}" if value & ~0x1FF else name


def _futex2(value: int) -> str:
    size = _SIZES[value & 3]
    rest = value & ~3
    return f"{size}|{flags(rest, _FUTEX2)}" if rest else size


KINDS = {
    "ipcget": _with_mode(_GET),
    "shmget": _with_mode(_SHMGET, "SHM_HUGE_SHIFT"),
    "futex": Kind(CUSTOM, _OPERATIONS, _futex),
    "futex2": Kind(CUSTOM, (*zip(_SIZES, range(4)), *_FUTEX2), _futex2),
    "shmctl_cmd": _command(
        (
            ("IPC_RMID", 0),
            ("IPC_SET", 1),
            ("IPC_STAT", 2),
            ("IPC_INFO", 3),
            ("SHM_LOCK", 11),
            ("SHM_UNLOCK", 12),
            ("SHM_STAT", 13),
            ("SHM_INFO", 14),
            ("SHM_STAT_ANY", 15),
        ),
    ),
    "msgctl_cmd": _command(
        (
            ("IPC_RMID", 0),
            ("IPC_SET", 1),
            ("IPC_STAT", 2),
            ("IPC_INFO", 3),
            ("MSG_STAT", 11),
            ("MSG_INFO", 12),
            ("MSG_STAT_ANY", 13),
        ),
    ),
    "semctl": _command(
        (
            ("IPC_RMID", 0),
            ("IPC_SET", 1),
            ("IPC_STAT", 2),
            ("IPC_INFO", 3),
            ("GETPID", 11),
            ("GETVAL", 12),
            ("GETALL", 13),
            ("GETNCNT", 14),
            ("GETZCNT", 15),
            ("SETVAL", 16),
            ("SETALL", 17),
            ("SEM_STAT", 18),
            ("SEM_INFO", 19),
            ("SEM_STAT_ANY", 20),
        ),
    ),
    "key": Kind(
        CHOICE,
        (("IPC_PRIVATE", 0),),
    ),
    "shmat": Kind(
        FLAGS,
        (
            ("SHM_RDONLY", 0x1000),
            ("SHM_RND", 0x2000),
            ("SHM_REMAP", 0x4000),
            ("SHM_EXEC", 0x8000),
        ),
    ),
    "msgflg": Kind(
        FLAGS,
        (
            ("IPC_NOWAIT", 0x800),
            ("MSG_NOERROR", 0x1000),
            ("MSG_EXCEPT", 0x2000),
            ("MSG_COPY", 0x4000),
        ),
    ),
}
