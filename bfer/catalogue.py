"""The events, made from what bfer.syscalls states: names, numbers of this machine, arguments, the programs to use."""

from __future__ import annotations

from bfer.errors import UsageError
from bfer.records import (
    COMPAT,
    HOOKS,
    KIND_BUFFER,
    KIND_CHECKED,
    KIND_OUT,
    KIND_SIZED,
    KIND_SOCKADDR,
    KIND_SOCKADDR_REF,
    KIND_STRING,
    KIND_VECTOR,
    KIND_WORDS,
    SLOT_HASH,
    SLOT_SYSCALL,
)
from bfer.syscalls import TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from pybpf.links import Link
    from pybpf.object.spec import ObjectSpec
    from pybpf.program import Program

# Columns of numbers in the table.
X86_64, I386, GENERIC, ARM, S390X = range(5)

# Bits and sign of the types that are not 64 bits without one; all else is (pointers too), but for mode_t, of which
# the kernel takes 16.
_INTS = ("int", "pid_t", "mqd_t", "clockid_t", "key_t", "timer_t", "key_serial_t", "idtype_t")
_WORDS = ("unsigned int", "u32", "uid_t", "gid_t", "umode_t", "bool", "dev_t", "socklen_t")
_LONGS = ("long", "off_t", "loff_t", "ssize_t")

# The kind that a type implies.
_KINDS = {"const char*": "path", "mode_t": "mode"}

# The memory behind an argument, by kind.
_MEMORY = {
    "path": KIND_STRING,
    "outstr": KIND_STRING | KIND_OUT,
    "outbuf": KIND_BUFFER | KIND_OUT,
    "sized": KIND_SIZED,
    "sockaddr": KIND_SOCKADDR,
    "outsockaddr": KIND_SOCKADDR_REF | KIND_OUT,
    "pair": KIND_WORDS + 1 | KIND_OUT,
    "open_how": KIND_WORDS + 3 | KIND_CHECKED,
    "clone_args": KIND_WORDS + 8 | KIND_CHECKED,
    "argv": KIND_VECTOR,
    "envp": KIND_VECTOR,
    "strings": KIND_BUFFER,
    "hooked": KIND_BUFFER,
    "ip": KIND_BUFFER,
    "bytes": KIND_BUFFER,
    "cred": KIND_BUFFER,
    "helpers": KIND_BUFFER,
}

# Values that are no argument of the hook, by kind.
_SLOTS = {"syscall": SLOT_SYSCALL, "sha256": SLOT_HASH}

STACKS = "stack-addresses"
"""The output option with which every record has fields, for the stack is one of them."""

EXECUTABLE = "executable"
_IN_FIELDS = (STACKS, EXECUTABLE)

RESOLVE = "resolve-paths"
"""The output option with which records hold the folders that relative paths begin at."""

# The arguments of system calls that are names of files, not of anything else.
_PATHS = (
    *("pathname", "path", "filename", "oldpath", "newpath", "linkpath", "new_root", "put_old", "from_path", "to_path"),
    *("library",),
)
"""The output option with which every record holds the path of the running file, as one field more."""

STRUCTURES = "structures"
"""The output option with which structures are shown; without it there are their addresses."""

# Begins the first of an event's places where user space makes the event.
DERIVE = "derive."

# Calls that do not return, or have lost their arguments when they do: taken on entry.
_ON_ENTRY = ("exit", "exit_group", "rt_sigreturn", "sigreturn")
_EXECS = ("execve", "execveat")

DEFAULT = (
    *("open", "openat", "openat2", "creat", "execve", "execveat", "unlink", "unlinkat", "rename", "renameat"),
    *("renameat2", "link", "linkat", "symlink", "symlinkat", "chmod", "fchmod", "fchmodat", "fchmodat2", "chown"),
    *("fchown", "lchown", "fchownat", "mount", "umount2", "move_mount", "pivot_root", "chroot", "init_module"),
    *("finit_module", "delete_module", "ptrace", "process_vm_writev", "connect", "bind", "listen", "setuid"),
    *("setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setns", "unshare"),
    *("bpf", "memfd_create", "kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff"),
)
"""What is traced when nothing is said: what changes a device, or opens it to others."""

WRITES = dict.fromkeys(("open", "openat", "security_file_open"), ("flags", 3))
"""Of these only calls with one of the bits in the argument belong to the set ``default``: files opened for writing."""


def tables_of(machine: str) -> tuple[int, int | None]:
    """The columns of numbers of a kernel (``machine`` as uname says), and of its 32-bit callers.

    Raises UsageError for an unknown machine.
    """
    if machine in ("x86_64", "amd64"):
        return X86_64, I386
    # armv8l is what an arm64 kernel tells a process that asked to see a 32-bit machine.
    if machine in ("aarch64", "arm64", "armv8l"):
        return GENERIC, ARM
    if machine in ("riscv64", "loongarch64"):
        return GENERIC, None
    if machine.startswith("arm"):
        return ARM, None
    if machine == "s390x":
        return S390X, None
    raise UsageError(f"no system call numbers are known for the machine {machine!r}")


class Arg:
    """An argument: its name, C type and kind; ``slot`` is its place. With an ``option`` it is there only if that is on.

    ``bits`` is the width of its value, ``signed`` whether it has a sign, and ``memory``
    (KIND_*) what of the caller's memory is in the record instead of the value, 0 for nothing; ``is_path`` tells whether
    a text names a file.
    """

    __slots__ = ("bits", "is_path", "kind", "memory", "name", "option", "signed", "slot", "type")

    def __init__(self, text: str, slot: int) -> None:
        text, _, self.option = text.partition("@")
        declaration, _, kind = text.partition(":")
        self.type, _, self.name = declaration.rpartition(" ")
        pointer = self.type.endswith(("*", "]"))
        self.kind = kind or _KINDS.get(self.type, "ptr" if pointer else "")
        self.memory = _MEMORY.get(self.kind, 0)
        self.slot = _SLOTS.get(self.kind, slot) if self.option else slot
        self.is_path = self.memory == KIND_STRING and self.name in _PATHS
        self.signed = self.type in _INTS or self.type in _LONGS
        self.bits = 16 if self.type == "mode_t" else 32 if self.type in _INTS or self.type in _WORDS else 64


class Event:
    """An event that this machine has; ``id`` is Tracee's number for it where it has one.

    ``number`` is what its records carry, ``program`` makes them. ``compat`` is the same call made by
    a 32-bit caller, None where there is no such thing; of that one ``is_compat`` is true. ``hooks`` tells of an
    event that is no system call where it is seen, as the table has it, and ``object`` is the file of its programs;
    ``returns`` is the type of its result where that is not a system call's.
    """

    __slots__ = (
        *("args", "compat", "hooks", "id", "is_compat", "name", "number", "object", "program", "returns", "sets"),
    )

    def __init__(
        self,
        name: str,
        id: int,
        number: int,
        sets: tuple[str, ...],
        args: str,
        hooks: str = "",
        object: str = "",
        options: Container[str] = (),
        machine: str = "",
    ) -> None:
        self.hooks = hooks
        self.object = object
        self.name = name
        self.id = id
        self.number = number
        self.sets = sets
        declared = [Arg(text, slot) for slot, text in enumerate(args.split(", ") if args else ())]
        self.args = tuple([arg for arg in declared if not arg.option or arg.option in options])
        self.compat: Event | None = None
        self.returns: Arg | None = None
        self.is_compat = COMPAT <= number < HOOKS
        if self.is_compat:  # all registers have 32 bits
            for arg in self.args:
                arg.bits = min(arg.bits, 32)
        if not hooks:
            self._find_structures(machine if STRUCTURES in options else "")
        self.program = self._program()
        resolved = RESOLVE in options and any(arg.is_path for arg in self.args)
        if self.program in ("plain", "path") and (resolved or any(name in options for name in _IN_FIELDS)):
            self.program = "fields"

    def folder(self, arg: Arg) -> int | None:
        """The place of the descriptor that a path begins at; None for the current folder."""
        before = self.args[arg.slot - 1] if 0 < arg.slot <= len(self.args) else None
        return before.slot if before is not None and before.kind == "dirfd" else None

    def _find_structures(self, machine: str) -> None:
        """What is read of the structures behind arguments; their addresses will do where ``machine`` is empty."""
        for arg in self.args:
            if arg.kind and not arg.memory and arg.type.endswith("*"):
                if machine:
                    from bfer.structures import memory

                    arg.memory = memory(arg.kind, machine, self.is_compat)
                if not arg.memory:
                    arg.kind = "ptr"

    def _program(self) -> str:
        if self.hooks:
            return self.name
        if self.name in _EXECS:
            return "exec"
        if self.name in _ON_ENTRY:
            return "plain_enter"
        memory = [arg.memory for arg in self.args if arg.memory]
        if memory == [KIND_STRING]:
            return "path"
        return "fields" if memory else "plain"

    def arg(self, name: str) -> Arg | None:
        for arg in self.args:
            if arg.name == name:
                return arg
        return None

    def places(self) -> list[list[list[str]]]:
        """Where an event that is no system call is seen: the names of the programs for each way, best first."""
        places = [
            [[f"{self.name}__{word}" for word in way.split("+")] for way in place.split(",")]
            for place in self.hooks.split(";")
            if not place.startswith(DERIVE)
        ]
        if places:
            places[0][0][0] = self.name
        return places

    def prepare(self, spec: ObjectSpec, program: str) -> None:
        """Put into ``spec`` what the program must know of this event alone."""

    def attach(self, program: Program) -> Link:
        from bfer.returning import attach_all

        return attach_all(program)

    @property
    def members(self) -> list[Event]:
        """The events that a program makes together which stands for all of them; each can be made alone."""
        return []

    @property
    def derive(self) -> str:
        """The module of bfer.derive that makes the event, from what the programs at its places saw if it has any."""
        place = self.hooks.partition(";")[0]
        return place[len(DERIVE) :] if place.startswith(DERIVE) else ""

    def both(self) -> list[Event]:
        """The event, and that of 32-bit callers where there is one."""
        return [self] if self.compat is None else [self, self.compat]


class Catalogue:
    """The events of one machine; ``options`` of output decide about some arguments."""

    __slots__ = ("_all", "_compat", "_sets", "machine", "options", "table")

    def __init__(self, machine: str, options: Container[str] = ()) -> None:
        self.machine = machine
        self.options = options
        self.table, self._compat = tables_of(machine)
        self._all: dict[str, Event] | None = None
        self._sets: dict[str, list[str]] | None = None

    def event(self, name: str) -> Event | None:
        """The event of this name, None if there is none on this machine."""
        if self._all is not None:
            return self._all.get(name)
        native = compat = None
        lines = _lines_of(TABLE, name)
        if not lines:
            return self._kernel_event(name)
        for at in lines:
            numbers, args = _split_line(TABLE, at)
            native = native or self._made(name, numbers, self.table, 0, at, args)
            if self._compat is not None:
                compat = compat or self._made(name, numbers, self._compat, COMPAT, at, args)
        if native is not None:
            native.compat = compat
        return native or compat

    def _kernel_event(self, name: str) -> Event | None:
        """One that is no system call."""
        table = _kernel_table()
        for at in _lines_of(table, name):
            (place, id, hooks), args = _split_line(table, at)
            object = _header(table, at, "(", ")") + ".bpf.o"
            return Event(name, int(id), HOOKS + int(place), _sets(table, at), args, hooks, object, self.options)
        return None

    def _made(self, name: str, numbers: list[str], table: int, base: int, at: int, args: str) -> Event | None:
        if numbers[table] == "-":
            return None
        # A call that x86-64 lacks has no number of Tracee's; ours must not be one of another call.
        id = int(numbers[X86_64]) if numbers[X86_64] != "-" else 1000 + int(numbers[table])
        sets = _sets(TABLE, at)
        if name in DEFAULT:
            sets = ("default", *sets)
        number = base + int(numbers[table])
        return Event(name, id, number, ("syscalls", *sets), args, "", "", self.options, self.machine)

    def starting(self, start: str) -> list[Event]:
        """The events whose names begin so, in the table's order."""
        if self._all is not None:
            return [event for name, event in self._all.items() if name.startswith(start)]
        found = [self.event(name) for name in _names(start)]
        return [event for event in found if event is not None]

    def members(self, group: str) -> list[Event]:
        """The events of a set, in the table's order; none if there is no such set."""
        if self._all is not None:
            return [self._all[name] for name in self.sets.get(group, ())]
        names = [*DEFAULT] if group == "default" else _of_set(TABLE, group)
        found = [self.event(name) for name in dict.fromkeys([*names, *_of_set(_kernel_table(), group)])]
        return [event for event in found if event is not None]

    def is_absent(self, name: str) -> bool:
        """Is this the name of an event that only other machines have?"""
        return bool(_lines_of(TABLE, name)) and self.event(name) is None

    @property
    def events(self) -> dict[str, Event]:
        """All events by name; takes a few milliseconds the first time."""
        if self._all is None:
            events = {}
            for name in _names():
                event = self.event(name)
                if event is not None:
                    events[name] = event
            self._all = events
        return self._all

    @property
    def absent(self) -> list[str]:
        """Names of the events that only other machines have."""
        return [name for name in _names() if name not in self.events]

    @property
    def sets(self) -> dict[str, list[str]]:
        """Names of events by set."""
        if self._sets is None:
            self._sets = {}
            for event in self.events.values():
                for member in event.sets:
                    self._sets.setdefault(member, []).append(event.name)
        return self._sets


def _kernel_table() -> str:
    """The events that are no system calls, imported for those who ask for one."""
    from bfer.kernel_events import TABLE as table

    return table


def _lines_of(table: str, name: str) -> list[int]:
    """Where the lines of an event start."""
    found = []
    if name and name.isidentifier():
        at = table.find(f"\n{name} ")
        while at >= 0:
            found.append(at + 1)
            at = table.find(f"\n{name} ", at + 1)
    return found


def _of_set(table: str, group: str) -> Iterator[str]:
    """The names of events below the headers that name this set."""
    for part in table.split("\n[")[1:]:
        header, _, lines = part.partition("]")
        if group in header.split() or (group == "syscalls" and table is TABLE):
            for line in lines.split("\n"):
                name = line.partition(" ")[0]
                if name.isidentifier():
                    yield name


def _split_line(table: str, at: int) -> tuple[list[str], str]:
    """What follows the name, and the arguments, of the line that starts at ``at``."""
    head, _, args = table[at : table.index("\n", at)].partition(":")
    return head.split()[1:], args.strip()


def _sets(table: str, at: int) -> tuple[str, ...]:
    """The sets of the event whose line starts at ``at``."""
    return tuple(_header(table, at, "[", "]").split())


def _header(table: str, at: int, opening: str, closing: str) -> str:
    """What the last header of a kind above a line says."""
    header = table.rfind("\n" + opening, 0, at)
    return table[header + 2 : table.index(closing, header)]


def _names(start: str = "") -> Iterator[str]:
    """The names of all events, or of those that begin so, in the tables' order, each once."""
    last = ""
    for table in (TABLE, _kernel_table()):
        at = table.find("\n" + start)
        while 0 <= at < len(table) - 1:
            end = min(table.find(" ", at), table.find("\n", at + 1))
            name = table[at + 1 : end]
            if name and name[0] not in "[(" and name != last and name.startswith(start):
                yield name
                last = name
            at = table.find("\n" + start, at + 1)
