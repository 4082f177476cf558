"""Events that the user names by hook: ``kprobe:vfs_unlink``, ``tp:sched:sched_switch``, ``uprobe:/bin/sh:main``.

Nothing declares them: their arguments come from the kernel's BTF, from tracefs or from a program's file
when they are asked for, and the programs that make them (programs/generic.py) are shipped compiled.
"""

from __future__ import annotations

from bfer.catalogue import EXECUTABLE, STACKS
from bfer.errors import UsageError
from bfer.generic.event import GenericEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from bfer.generic.kernel import Kernel
    from bfer.names import Names

ALIASES = {"tracepoint": "tp", "raw_tracepoint": "raw_tp"}
KINDS = (
    *("kprobe", "kretprobe", "fentry", "fexit", "tp", "raw_tp", "tp_btf", "lsm", "uprobe", "uretprobe", "usdt"),
    *ALIASES,
)
WILD_MAX = 256
"""Events that a pattern may stand for: each has a program of its own in the kernel."""

_LEFT_OUT = frozenset("\"'\\&<>\x7f")


def is_generic(name: str) -> bool:
    """Is this how an event of this kind is called?"""
    return ":" in name


def joined(words: list[str]) -> list[str]:
    """What was split at commas within brackets is put together again."""
    found: list[str] = []
    for word in words:
        if found and found[-1].count("(") > found[-1].count(")"):
            found[-1] += "," + word
        else:
            found.append(word)
    return found


def split_member(name: str) -> tuple[str, str]:
    """Event and argument of ``uprobe:libc.so.6:malloc.arg0``: what a hook is called may have dots in it."""
    event, _, member = name.rpartition(".")
    for group in ("scope", "data", "args"):
        if event.endswith(f".{group}"):
            return event[: -len(group) - 1], f"{group}.{member}"
    return event, member


class Generic:
    """Makes the events of one run. ``btf`` is the file with the kernel's types, empty for the kernel's own.

    ``options`` are those of output, ``notes`` tell what the user should know. Close it when all events are made:
    the types take memory.
    """

    def __init__(self, machine: str, names: Names, btf: str = "", options: Container[str] = ()) -> None:
        self.machine = machine
        self.names = names
        self.untyped: list[str] = []  # events at functions that BTF knows nothing of
        self._notes: list[str] = []
        self._btf_path = btf
        self._options = options
        self._made: dict[str, GenericEvent] = {}
        self._kernel: Kernel | None = None
        self._count = 0

    def event(self, name: str) -> GenericEvent:
        """The event of this name. Raises UsageError, or Error where the system does not tell what it is."""
        kind, target = split(name)
        if set(target.partition("(")[0]) & set("*?"):
            raise UsageError(f"{name!r} is a pattern: a filter is about one event")
        key = f"{kind}:{target.replace('/', ':', 1) if kind == 'tp' else target.partition('(')[0]}"
        event = self._made.get(key)
        if event is None:
            event = self._made[key] = self._maker(kind)(name, target)
            if STACKS in self._options or EXECUTABLE in self._options:  # they come behind the fields
                for one in (event, *event.twins):
                    one.program = "generic"
        return event

    def matching(self, pattern: str) -> list[GenericEvent]:
        """The events that a name with ``*`` or ``?`` stands for. Raises UsageError."""
        kind, target = split(pattern)
        found = self.kernel().matching(kind, target, pattern)
        if len(found) > WILD_MAX:
            raise UsageError(f"{pattern!r} stands for {len(found)} events, more than {WILD_MAX}: narrow it")
        head = pattern.partition(":")[0]
        events = [self.event(f"{head}:{one}") for one in found]
        if kind in ("kprobe", "kretprobe") and len(events) > 1:
            from bfer.generic.multi import group

            group(events, pattern)
        return events

    def note(self, text: str) -> None:
        """Something that the user should know."""
        self._notes.append(text)

    @property
    def notes(self) -> list[str]:
        """All that there is to say, a line each."""
        if not self.untyped:
            return self._notes
        what = "registers are shown as they are, because the kernel tells no types"
        return [*self._notes, f"{', '.join(self.untyped)}: {what}"]

    def number(self) -> int:
        """A number for the next event, from 0 on."""
        self._count += 1
        return self._count - 1

    def kernel(self) -> Kernel:
        if self._kernel is None:
            from bfer.generic.kernel import Kernel

            self._kernel = Kernel(self, self._btf_path)
        return self._kernel

    def _maker(self, kind: str) -> Callable[[str, str], GenericEvent]:
        if kind in ("uprobe", "uretprobe", "usdt"):
            from bfer.generic.binaries import Binaries

            return Binaries(self).maker(kind)
        return self.kernel().maker(kind)

    def close(self) -> None:
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None


def split(name: str) -> tuple[str, str]:
    """Kind and target of an event's name. Raises UsageError."""
    kind, _, target = name.partition(":")
    if kind not in KINDS:
        from bfer.suggest import nearest

        hint = nearest(kind, KINDS) or f": there are {', '.join(KINDS[: -len(ALIASES)])}"
        raise UsageError(f"unknown kind of event {kind!r} in {name!r}{hint}")
    if not target:
        raise UsageError(f"{name!r} names no hook, as in {EXAMPLES[ALIASES.get(kind, kind)]}")
    if not name.isprintable() or _LEFT_OUT & set(name):
        raise UsageError(f"{name!r} has letters that an event's name cannot have: a link may have a better name")
    return ALIASES.get(kind, kind), target


EXAMPLES = {
    **{kind: f"{kind}:vfs_unlink" for kind in ("kprobe", "kretprobe", "fentry", "fexit")},
    "tp": "tp:sched:sched_switch",
    **{kind: f"{kind}:sched_switch" for kind in ("raw_tp", "tp_btf")},
    "lsm": "lsm:file_open",
    **{kind: f"{kind}:libc.so.6:malloc" for kind in ("uprobe", "uretprobe")},
    "usdt": "usdt:libc.so.6:libc:memory_sbrk_more",
}
