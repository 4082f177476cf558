"""The events, as data: names, numbers by machine, arguments, the program that catches them."""

from __future__ import annotations

from bfer.errors import UsageError

# Kinds of arguments: how the value is read, printed and compared.
PATH, DIRFD, OPEN_FLAGS, UNLINK_FLAGS, MODE, SIZE, HOW = range(7)

_PATHNAME = ("pathname", "const char*", PATH)
_DIRFD = ("dirfd", "int", DIRFD)
_FLAGS = ("flags", "int", OPEN_FLAGS)
_MODE = ("mode", "mode_t", MODE)

# Name, program of programs/files.py (its arguments but the path fill the record's
# scalars in order), arguments, sets, and the system call's number on x86-64 (which
# is Tracee's event id everywhere), on machines with the generic table, arm and s390x.
_EVENTS = (
    ("open", "path_int_int", (_PATHNAME, _FLAGS, _MODE), ("fs", "fs_file_ops"), (2, None, 5, 5)),
    ("openat", "fd_path_int_int", (_DIRFD, _PATHNAME, _FLAGS, _MODE), ("fs", "fs_file_ops"), (257, 56, 322, 288)),
    (
        "openat2",
        "fd_path_how",
        (_DIRFD, _PATHNAME, ("how", "struct open_how*", HOW), ("size", "size_t", SIZE)),
        ("fs", "fs_file_ops"),
        (437, 437, 437, 437),
    ),
    ("creat", "path_int", (_PATHNAME, _MODE), ("fs", "fs_file_ops"), (85, None, 8, 8)),
    ("unlink", "path_only", (_PATHNAME,), ("fs", "fs_link_ops"), (87, None, 10, 10)),
    (
        "unlinkat",
        "fd_path_int",
        (_DIRFD, _PATHNAME, ("flags", "int", UNLINK_FLAGS)),
        ("fs", "fs_link_ops"),
        (263, 35, 328, 294),
    ),
)
# Sets that hold every event.
_ALL = ("default", "syscalls")

X86_64, GENERIC, ARM, S390X = range(4)


def table_of(machine: str) -> int:
    """Which column of numbers the kernel of ``machine`` (as uname says) uses. Raises UsageError for an unknown one."""
    if machine in ("x86_64", "amd64"):
        return X86_64
    # armv8l is what an arm64 kernel tells a process that asked to see a 32-bit machine.
    if machine in ("aarch64", "arm64", "armv8l", "riscv64", "loongarch64"):
        return GENERIC
    if machine.startswith("arm"):
        return ARM
    if machine == "s390x":
        return S390X
    raise UsageError(f"no system call numbers are known for the machine {machine!r}")


class Arg:
    """An argument: its name, C type and kind; ``slot`` is its place among the scalars (of the first, for HOW)."""

    __slots__ = ("kind", "name", "slot", "type")

    def __init__(self, name: str, type: str, kind: int, slot: int) -> None:
        self.name = name
        self.type = type
        self.kind = kind
        self.slot = slot


class Event:
    """An event that this machine has; ``number`` is its system call's, ``id`` the one on x86-64."""

    __slots__ = ("args", "id", "name", "number", "program", "sets")

    def __init__(
        self, name: str, id: int, number: int, program: str, args: tuple[Arg, ...], sets: tuple[str, ...]
    ) -> None:
        self.name = name
        self.id = id
        self.number = number
        self.program = program
        self.args = args
        self.sets = sets

    def arg(self, name: str) -> Arg | None:
        for arg in self.args:
            if arg.name == name:
                return arg
        return None


def _args(rows: tuple[tuple[str, str, int], ...]) -> tuple[Arg, ...]:
    args = []
    slot = 0
    for name, type, kind in rows:
        if kind == PATH:
            args.append(Arg(name, type, kind, -1))
            continue
        args.append(Arg(name, type, kind, slot))
        slot += 3 if kind == HOW else 1
    return tuple(args)


class Catalogue:
    """The events of one machine: ``events`` by name, ``absent`` the names that it lacks, ``sets`` name to names."""

    __slots__ = ("absent", "events", "machine", "sets", "table")

    def __init__(self, machine: str) -> None:
        self.machine = machine
        self.table = table_of(machine)
        self.events: dict[str, Event] = {}
        self.absent: list[str] = []
        self.sets: dict[str, list[str]] = {}
        for name, program, args, sets, numbers in _EVENTS:
            number = numbers[self.table]
            if number is None:
                self.absent.append(name)
                continue
            event = Event(name, numbers[X86_64] or 0, number, program, _args(args), (*_ALL, *sets))
            self.events[name] = event
            for member in event.sets:
                self.sets.setdefault(member, []).append(name)
