"""Programs of events that are no system calls: each event for itself, by the first kind of hook that can be had.

One that cannot be had costs its own event; the rest runs.
"""

from __future__ import annotations

from errno import EINVAL
from struct import pack

from bfer.catalogue import Catalogue
from bfer.machine import tidy
from btf.errors import Error
from programs import GENERIC, STEADY_FAMILY
from pybpf.errors import LinkError, NotSupported
from pybpf.inkernel import TASK_BTF
from pybpf.linker import functions_of
from pybpf.loader import Collection
from pybpf.object.reader import read_object
from pybpf.sections import parse_section
from pybpf.target import Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Union

    from bfer.catalogue import Event
    from btf.reader import Btf
    from pybpf.links import Link
    from pybpf.links.probe_events import Guard
    from pybpf.maps import Map
    from pybpf.object.elf import FileBytes
    from pybpf.object.spec import ObjectSpec
    from pybpf.program import Program

    # An object of programs, by the name of its file.
    Load = Callable[[str], Union[bytes, FileBytes]]


_CALL_TASK_BTF = pack("=BBhI", 0x85, 0, 0, TASK_BTF)


# The calls whose first argument is a path that they open, execute or enter, and those whose second is.
_OPENS = {"opens_first": ("open", "creat", "execve", "chdir"), "opens_second": ("openat", "openat2", "execveat")}


def known_calls(machine: str) -> dict[str, bytes]:
    """System calls that the programs must know, to find the path or file that a process gave: numbers, by setting."""
    catalogue = Catalogue(machine)
    settings = {}
    for setting, names in _OPENS.items():
        found = [catalogue.event(name) for name in names]
        numbers = [event.number for named in found if named is not None for event in named.both()]
        settings[setting] = pack("=8I", *numbers, *[0xFFFFFFFF] * (8 - len(numbers)))
    loads_module = catalogue.event("finit_module")
    if loads_module is not None:
        settings["finit_module"] = pack("=I", loads_module.number)
    return settings


def _attached(event: Event, program: Program) -> list[Link]:
    """The links of a program: one, or more where the kernel has several functions of the name. Raises LinkError."""
    try:
        return [event.attach(program)]
    except LinkError:
        kind, _, function = program.section.partition("/")
        if kind not in ("kprobe", "kretprobe"):
            raise
        from bfer.returning import attach_all
        from pybpf import kallsyms

        addresses = [symbol.address for symbol in kallsyms.find([function]).get(function, [])]
        if len(addresses) < 2:
            raise
        links: list[Link] = []
        try:
            for address in addresses:
                links.append(attach_all(program, function=address))
        except BaseException:
            for link in links:
                link.close()
            raise
        return links


class Trial:
    """What became of one kind of hook: the outcome is ``attached`` or the error."""

    __slots__ = ("outcome", "program")

    def __init__(self, program: str, outcome: str) -> None:
        self.program = program
        self.outcome = outcome

    def __str__(self) -> str:
        return self.outcome if self.program in self.outcome else f"{self.program}: {self.outcome}"


class Hook:
    """One place where an event is seen: the programs that hang there, their links, and what was tried."""

    __slots__ = ("_left", "event", "links", "programs", "tried")

    def __init__(self, event: Event, alternatives: list[list[str]]) -> None:
        self.event = event
        self._left = list(alternatives)
        self.programs: list[Program] = []
        self.links: list[Link] = []
        self.tried: list[Trial] = []

    def prefer(self, suffix: str) -> None:
        """Try the programs of this suffix first."""
        self._left.sort(key=lambda names: not names[0].endswith(suffix))

    def detach(self) -> None:
        for link in self.links:
            link.close()
        self.links = []


class Hooks:
    """All of a run. ``maps`` holds the maps by name; those that a program brings are added to it.

    ``task_btf`` tells whether the kernel has the helper TASK_BTF: a program that calls it without is not even tried,
    for to have it refused costs as much as to load another. ``preempted`` tells that programs on raw tracepoints can be
    preempted, which makes them miss events: those that cannot come first.
    """

    def __init__(
        self,
        events: list[Event],
        maps: dict[str, Map],
        configure: Callable[[ObjectSpec], None],
        task_btf: bool = True,
        preempted: bool = False,
    ) -> None:
        if any(event.object == GENERIC for event in events):
            from bfer.generic.multi import combined

            events = combined(events)
        # By object, so that each is read once. What has the most arguments is the verifier's heaviest work, and
        # comes while there is the most memory left for it.
        weights: dict[str, int] = {}
        for event in events:
            weights[event.object] = max(weights.get(event.object, 0), len(event.args))
        order = sorted(events, key=lambda event: (-weights[event.object], event.object, -len(event.args)))
        self.hooks = [Hook(event, place) for event in order for place in event.places()]
        if preempted:
            for hook in self.hooks:
                hook.prefer(STEADY_FAMILY)
        self._maps = maps
        self._configure = configure
        self._collections: list[Collection] = []
        self._task_btf = task_btf
        # What the last object's types are here: its programs are loaded one by one, and many are alike.
        self._target: Target | None = None
        self._guard: Guard | None = None

    def load(self, load: Load, btf: Btf | None) -> None:
        """Load what the kernel takes of each event."""
        name = ""
        data: bytes | FileBytes = b""
        try:
            for hook in self.hooks:  # which may become more
                if hook.event.object != name:
                    tidy()
                    name, data = hook.event.object, load(hook.event.object)
                self._load_next(hook, data, btf)
                if not hook.programs:
                    self.hooks += _alone(hook)
        finally:
            self._forget_target()
        self.hooks = [hook for hook in self.hooks if hook.programs or not hook.event.members]

    def _target_of(self, types: bytes, btf: Btf | None) -> Target:
        if self._target is None or not self._target.sees(types):
            self._forget_target()
            self._target = Target(types, btf)
        return self._target

    def _forget_target(self) -> None:
        if self._target is not None:
            self._target.close()
            self._target = None

    def _load_next(self, hook: Hook, data: bytes | FileBytes, btf: Btf | None) -> None:
        hook.programs = []
        while hook._left and not hook.programs:
            names = hook._left.pop(0)
            try:
                collection = self.add(data, names, btf, hook.event)
            except Error as error:
                hook.tried.append(Trial(names[0], str(error)))
                continue
            hook.programs = [collection.programs[name] for name in names]

    def add(self, data: bytes | FileBytes, names: list[str], btf: Btf | None, event: Event | None = None) -> Collection:
        """Load programs of an object, for an event or to be run by user space; closed with the rest. Raises Error."""
        spec = read_object(data, names, lines=False)
        if not self._task_btf and _needs_task_btf(spec, names):
            raise NotSupported(f"program {names[0]!r} calls helper {TASK_BTF} (get_current_task_btf, 5.11)", EINVAL)
        self._configure(spec)
        if event is not None:
            event.prepare(spec, names[0])
        collection = Collection(
            spec,
            names,
            maps=self._shared(spec),
            target=self._target_of(spec.btf, btf),
            again=lambda: read_object(data, names),
        )
        self._collections.append(collection)
        for name, map in collection.maps.items():
            self._maps.setdefault(name, map)
        return collection

    def _shared(self, spec: ObjectSpec) -> dict[str, Map]:
        # What the object gives contents is the program's own.
        return {
            name: map
            for name, map in self._maps.items()
            if name in spec.maps and not name.startswith(".") and spec.maps[name].contents is None
        }

    def attach(self, load: Load, btf: Btf | None) -> None:
        """Let them run; where that fails, load and attach the next kind of hook."""
        from bfer.returning import guard

        # First, so that they do not see how it is started.
        self._guard = guard(program for hook in self.hooks for program in hook.programs)
        try:
            self._attach(load, btf)
        finally:
            self._forget_target()
        self.hooks = [hook for hook in self.hooks if hook.links or not hook.event.members]

    def _attach(self, load: Load, btf: Btf | None) -> None:
        for hook in self.hooks:  # which may become more
            while hook.programs:
                name = hook.programs[0].name
                try:
                    for program in hook.programs:
                        name = program.name
                        hook.links += _attached(hook.event, program)
                    hook.tried.append(Trial(name, "attached"))
                    break
                except Error as error:
                    hook.detach()
                    hook.tried.append(Trial(name, str(error)))
                    self._load_next(hook, load(hook.event.object) if hook._left else b"", btf)
            if not hook.links:
                for one in _alone(hook):
                    self._load_next(one, load(one.event.object), btf)
                    self.hooks.append(one)

    def missing(self) -> list[Hook]:
        """Where nothing could be attached."""
        return [hook for hook in self.hooks if not hook.links]

    def missed(self) -> dict[str, int]:
        """By event: how often the kernel left out one of its programs (counted since 5.12, for kprobes since 6.7)."""
        misses: dict[str, int] = {}
        for hook in self.hooks:
            count = sum(program.info().recursion_misses for program in hook.programs)
            if count:
                misses[hook.event.name] = misses.get(hook.event.name, 0) + count
        return misses

    def detach(self) -> None:
        for hook in self.hooks:
            hook.detach()
        if self._guard is not None:
            self._guard.close()

    def close(self) -> None:
        self.detach()
        self._forget_target()
        for collection in self._collections:
            collection.close()
        self._collections = []


def _alone(hook: Hook) -> list[Hook]:
    """A hook for each of the events that one program cannot make together here; none for any other event."""
    return [Hook(event, place) for event in hook.event.members for place in event.places()]


def _needs_task_btf(spec: ObjectSpec, names: list[str]) -> bool:
    """Whether a program hangs on a type of the kernel and calls TASK_BTF; in others the call is behind a guard."""
    for name in names:
        if parse_section(spec.programs[name].section).btf is None:
            continue
        for function in functions_of(spec, name):
            at = function.insns.find(_CALL_TASK_BTF)
            while at >= 0:
                if at % 8 == 0:
                    return True
                at = function.insns.find(_CALL_TASK_BTF, at + 1)
    return False
