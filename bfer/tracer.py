"""The programs in the kernel: loaded with their settings, given their maps, attached, detached."""

from __future__ import annotations

import os
from errno import EPERM
from struct import pack
from sys import byteorder
from time import CLOCK_MONOTONIC, clock_gettime_ns

from bfer.doorbell import Doorbell
from bfer.machine import is_small
from bfer.pushdown import prefix_key, suffix_key
from bfer.records import (
    BY,
    COMPAT,
    EXACT,
    EXACT_SET,
    EXACT_VERDICT,
    GROUPS_BY,
    HANDLER_BITS,
    HANDLER_BY_TABLE,
    HANDLER_EXEC,
    HANDLER_FIELDS,
    HANDLER_LAST,
    HANDLER_PATH,
    HANDLER_PLAIN,
    NUMBER_KEY,
    RANGE,
    VALUE_KEY,
)
from btf.errors import Error
from programs import OBJECT, STEADY, STEADY_FAMILY, open_object
from pybpf.errors import LoadError, VerifierError
from pybpf.inkernel import TASK_BTF, has_helper, preempts_raw_tracepoints, relocates
from pybpf.links import attach
from pybpf.loader import Collection
from pybpf.object.reader import read_object
from pybpf.ringbuf import RingBuffer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from bfer.containers import Groups
    from bfer.hooks import Hook, Hooks
    from bfer.pidns import OwnNumbers
    from bfer.pushdown import Plan
    from btf.reader import Btf
    from pybpf.links import Link
    from pybpf.maps import Map
    from pybpf.object.spec import ObjectSpec

# Every program exists for each of these kinds of hook; suffixes of their names, the better kind first.
FAMILIES = ("", "__raw_tp")
_HANDLERS = {
    "path": HANDLER_PATH,
    "plain": HANDLER_PLAIN,
    "fields": HANDLER_FIELDS,
    "exec": HANDLER_EXEC,
    "plain_enter": HANDLER_LAST,
}
_TREE_SIZE = 8192
_GROUPS = 4096
# Where memory is little: programs that are being started at the same time (12 KB each), and interpreters of programs.
_SMALL_SIZES = {"starting": 8, "interpreters": 128}
_FIRST_NAMESPACE = 0xEFFFFFFC  # of pids, include/linux/proc_ns.h
_COMM_SIZE = 16
_NODE_SIZE = 64


class Tracer:
    """What one run has in the kernel. Everything is gone once it is closed, or this process has ended."""

    def __init__(self, plan: Plan, buffer_size: int, btf_path: str = "") -> None:
        """Load everything and fill the maps; nothing runs yet. Raises Error."""
        self.plan = plan
        self.family = ""
        self.links: list[Link] = []
        self._missed: dict[str, int] = {}
        self.refused: list[tuple[str, str, str]] = []  # programs, hooks, why: what was tried in vain
        self._enters, self._exits = _slots(plan)
        names = ["sys_exit"] if self._exits else []
        names += ["sys_enter"] if self._enters else []
        names += sorted({*self._enters.values(), *self._exits.values()})
        names += _keepers(plan)
        self._programs = names
        self.maps: dict[str, Map] = {}
        self._collection: Collection | None = None
        self.hooks: Hooks | None = None
        self.looking: Collection | None = None  # what bfer.derive runs itself
        self.groups: Groups | None = None
        self.own: OwnNumbers | None = None
        self._settings = {"self_pid": os.getpid()}
        controller = version_1_controller()
        if controller:
            self._settings["cgroup_v1"] = GROUPS_BY.index(controller) + 1
            if plan.container is not None:
                from bfer.containers import hierarchy_number

                self._settings["hierarchy"] = hierarchy_number(controller)
        self._task_btf = has_helper(TASK_BTF)
        self._preempted = preempts_raw_tracepoints()
        self._buffer_size = buffer_size
        self._btf_path = btf_path
        try:
            namespace = pid_namespace()
            if namespace:
                self._with_target(lambda btf: self._know_numbers(namespace, btf))
            self._with_target(self._load)
            self._fill()
            self.ring = RingBuffer(self.maps["events"])
            self.doorbell = Doorbell(self.maps["doorbell"])
        except BaseException:
            self._close_programs()
            raise

    def _with_target(self, act: Callable[[Btf | None], None]) -> None:
        """Call ``act`` with the kernel's BTF from the user's file, or None: then the loader finds it."""
        if not self._btf_path:
            act(None)
            return
        from btf.releases import open_for

        btf = open_for(self._btf_path)
        try:
            act(btf)
        finally:
            btf.close()

    def _know_numbers(self, namespace: int, btf: Btf | None) -> None:
        """The programs see other numbers than this process and its users do."""
        from bfer.pidns import OwnNumbers

        try:
            self.own = OwnNumbers(open_object, btf)
        except Error as error:
            raise Error(f"bfer cannot tell which process it is itself, in a pid namespace: {error}") from None
        self._settings.update(self_pid=self.own.host(os.getpid()), level=self.own.level, level_ns=namespace)

    def _load(self, btf: Btf | None) -> None:
        if self._programs:
            self._collection = self._load_family(self._buffer_size, btf)
            self.maps.update(self._collection.maps)
        if self.plan.hooks:
            self._load_hooks(btf)

    def _load_hooks(self, btf: Btf | None) -> None:
        from bfer.hooks import Hooks, known_calls

        calls = known_calls(os.uname().machine)

        def prepare(spec: ObjectSpec) -> None:
            configure(spec, self.plan, self._buffer_size, self._settings)
            for name, numbers in calls.items():
                spec.set(name, numbers)

        self.hooks = Hooks(self.plan.hooks, self.maps, prepare, self._task_btf, self._preempted)
        types = self._types_once(btf)
        try:
            self.hooks.load(open_object, types)
            if self.plan.derived:
                from bfer.derive import OBJECT, PROGRAMS

                self.looking = self.hooks.add(open_object(OBJECT), [*PROGRAMS], types)
        finally:
            if types is not None and types is not btf:
                types.close()
        self._check(lambda hook: bool(hook.programs))

    def _types_once(self, btf: Btf | None) -> Btf | None:
        """The kernel's types where it does not relocate: else they are walked for each event, a second on a device."""
        assert self.hooks is not None
        if btf is not None or len(self.hooks.hooks) < 2 or relocates():
            return btf
        from btf.reader import Btf

        try:
            return Btf.kernel()
        except Error:  # each event says so
            return None

    def _check(self, works: Callable[[Hook], bool]) -> None:
        """Raises Error when nothing that was asked for can be seen."""
        assert self.hooks is not None
        plan = self.plan
        if plan.calls or any(not event.places() for event in plan.derived):
            return
        hooks = [hook for hook in self.hooks.hooks if hook.event.id]  # without a number: the run's own
        if not any(works(hook) for hook in hooks):
            raise self._nothing(hooks)

    def _nothing(self, hooks: list[Hook]) -> Error:
        tried = [str(attempt) for hook in hooks for attempt in hook.tried]
        return Error(f"none of the events can be traced here: {tried[-1]}", "\n".join(tried))

    def _load_family(self, buffer_size: int, btf: Btf | None) -> Collection:
        """The first family of programs that this kernel takes."""
        failure: Error | None = None
        families = FAMILIES if self._task_btf else FAMILIES[1:]
        if self._preempted and _has_records():
            # Where a program of the others can be preempted, it misses what others do meanwhile.
            families = (STEADY_FAMILY, *families)
        for family in families:
            names = [name + family for name in self._programs]
            file = STEADY if family == STEADY_FAMILY else OBJECT
            spec = read_object(open_object(file), names, lines=False)
            configure(spec, self.plan, buffer_size, self._settings)
            try:
                # No folding: what a kernel lacks, the next family does without.
                collection = Collection(
                    spec,
                    names,
                    btf=btf,
                    fold=False,
                    again=lambda file=file, names=names: read_object(open_object(file), names),
                )
            except Error as error:
                if isinstance(error, LoadError) and error.errno == EPERM:
                    raise
                self.refused.append((" ".join(names[:2]), family.lstrip("_") or "tp_btf", str(error)))
                if failure is None or _progress(error) > _progress(failure):
                    failure = error
                continue
            self.family = family
            return collection
        assert failure is not None
        raise failure

    def _fill(self) -> None:
        plan, maps = self.plan, self.maps
        for name, slots in (("calls", self._exits), ("enter_calls", self._enters)):
            for handler, program in slots.items():
                assert self._collection is not None
                fd = self._collection.programs[program + self.family].fd
                maps[name + self.family].update(_u32(handler), _u32(fd))
        _, mapped = split_numbers(plan)
        for (field, number), verdict in mapped.items():
            self._enter("numbers", NUMBER_KEY.pack(BY[field], number), _u32(verdict))
        for comm, verdict in plan.comms.items():
            self._enter("comms", comm.ljust(_COMM_SIZE, b"\0"), _u32(verdict))
        for node, verdict in plan.nodes.items():
            self._enter("nodes", node.ljust(_NODE_SIZE, b"\0"), _u32(verdict))
        for number, shape in plan.shapes.items():
            self._enter("shapes", _u32(number), shape.pack())
        for key, verdict in plan.verdicts.items():
            self._enter("verdicts", VALUE_KEY.pack(*key), _u32(verdict))
        for (number, slot), bounds in plan.ranges.items():
            self._enter("ranges", VALUE_KEY.pack(number, slot, 0), RANGE.pack(*bounds))
        for path, mask in plan.prefixes.items():
            self._enter("path_prefixes", prefix_key(path), pack("=Q", mask))
        for path, mask in plan.suffixes.items():
            self._enter("path_suffixes", suffix_key(path), pack("=Q", mask))
        if plan.container is not None and "cgroups" in maps:
            from bfer.containers import SHOWN, Groups

            self.groups = Groups(plan.container, maps["cgroups"], SHOWN)

    def _enter(self, name: str, key: bytes, value: bytes) -> None:
        if name in self.maps:  # else no program asks for it
            self.maps[name].update(key, value)

    def start(self, command_pid: int = 0) -> None:
        """Attach. ``command_pid`` is the process whose tree is traced, 0 for none. Raises Error."""
        programs = self._collection.programs if self._collection is not None else {}
        # First, so that what an event's program asks for is known by then.
        for name in _keepers(self.plan):
            self.links.append(attach(programs[name + self.family]))
        if self.hooks is not None:
            hooks = self.hooks
            self._with_target(lambda btf: hooks.attach(open_object, btf))
            self._check(lambda hook: bool(hook.links))
        if command_pid:
            if self.own is not None:
                self.own.refresh()
                command_pid = self.own.host(command_pid)
            self.maps["tree"].update(_u32(command_pid), _u64(1))
        elif self.plan.tree:
            from bfer.processes import seed

            seed(self.maps["tree"], self.plan.tree, self.own)
        if self.plan.binary is not None:
            from bfer.processes import seed_binaries

            seed_binaries(self.maps["binaries"], self.plan.binary, self.own)
        if self.groups is not None:
            self.groups.scan()
        for name in self._programs[:2]:
            if name in ("sys_exit", "sys_enter"):
                self.links.append(attach(programs[name + self.family]))

    def missed(self, everything: bool = True) -> dict[str, int]:
        """What the kernel did not show us because a program, or a call of bpf(), was at work on that CPU already.

        By event; which system calls they were is not known. Without ``everything`` those alone are looked at anew.
        """
        misses = {"not known": 0}
        programs = self._collection.programs if self._collection is not None else {}
        for name in ("sys_exit", "sys_enter"):
            if name in self._programs:
                misses["not known"] += programs[name + self.family].info().recursion_misses
        if everything:
            keepers = sum(programs[name + self.family].info().recursion_misses for name in _keepers(self.plan))
            self._missed = {"processes to follow": keepers}
            if self.hooks is not None:
                self._missed.update(self.hooks.missed())
        return {**misses, **self._missed}

    def detach(self) -> None:
        """No program runs any more, but what is in the buffer can still be read."""
        for link in self.links:
            link.close()
        self.links = []
        if self.hooks is not None:
            self.hooks.detach()

    def close(self) -> None:
        self.detach()
        self.ring.close()
        self.doorbell.close()
        self._close_programs()

    def _close_programs(self) -> None:
        if self.own is not None:
            self.own.close()
        if self.hooks is not None:
            self.hooks.close()
        if self._collection is not None:
            self._collection.close()


def _has_records() -> bool:
    """Whether programs can run on the records of system calls: that needs tracefs."""
    from pybpf import tracefs

    try:
        return tracefs.event_id("raw_syscalls", "sys_exit") > 0
    except Error:
        return False


def pid_namespace() -> int:
    """Inode number of this process's pid namespace; 0 for the first one, or where /proc does not tell."""
    try:
        inode = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0
    return 0 if inode == _FIRST_NAMESPACE else inode


def version_1_controller(top: str = "/sys/fs/cgroup") -> str:
    """The controller of version 1 by whose hierarchy control groups are told apart; "" where version 2 is in use."""
    if os.path.exists(f"{top}/cgroup.controllers"):
        return ""
    return next((name for name in GROUPS_BY if os.path.exists(f"{top}/{name}/cgroup.procs")), "")


def handlers(calls: dict[int, str]) -> bytes:
    """By number: what the native call and that of 32-bit processes are handed over to, each by its program."""
    table = bytearray(COMPAT)
    for number, program in calls.items():
        if number < COMPAT:
            table[number] = _HANDLERS[program]
    for number, program in calls.items():
        native, handler = table[number % COMPAT], _HANDLERS[program]
        if number >= COMPAT and native != handler:
            table[number % COMPAT] = HANDLER_BY_TABLE | native | handler << HANDLER_BITS
    return bytes(table)


def split_numbers(plan: Plan) -> tuple[dict[str, bytes], dict[tuple[str, int], bool]]:
    """Numbers with verdicts of their own: as settings the kinds that have few, for the map the others."""
    settings: dict[str, bytes] = {}
    mapped: dict[tuple[str, int], bool] = {}
    for kind in BY:
        numbers = {key: verdict for key, verdict in plan.numbers.items() if key[0] == kind}
        if len(numbers) > EXACT:
            mapped.update(numbers)
            settings[f"{kind}_mapped"] = _u32(1)
        elif numbers:
            words = [number | EXACT_SET | verdict << EXACT_VERDICT for (_, number), verdict in numbers.items()]
            settings[f"{kind}_exact"] = b"".join(map(_u64, words))
    return settings, mapped


def configure(spec: ObjectSpec, plan: Plan, buffer_size: int, settings: dict[str, int]) -> None:
    """Put the plan's settings into the object, and make its maps no larger than they must be.

    ``settings`` are further ones, about this process.
    """
    for name, value in settings.items():
        spec.set(name, value)
    spec.set("started", clock_gettime_ns(CLOCK_MONOTONIC))
    spec.set("watermark", buffer_size // 2)
    for name, value in plan.config.items():
        spec.set(name, value)
    spec.set("handlers", handlers(plan.calls))
    exact, mapped = split_numbers(plan)
    for name, words in exact.items():
        spec.set(name, words)
    lengths = plan.suffix_lengths()
    if lengths:
        spec.set("suffix_lengths", b"".join(_u32(length) for length in lengths))
    sizes = {
        "events": buffer_size,
        "numbers": len(mapped),
        "comms": len(plan.comms),
        "nodes": len(plan.nodes),
        "ranges": len(plan.ranges),
        "path_prefixes": len(plan.prefixes),
        "path_suffixes": len(plan.suffixes),
        "tree": _TREE_SIZE if plan.config.get("tree_on") else 0,
        "binaries": _TREE_SIZE if plan.binary else 0,
        "cgroups": _GROUPS if plan.container else 0,
        "followed": _TREE_SIZE if plan.config.get("follow") else 0,
        "shapes": max(plan.shapes, default=0) + 1,
        "lost": max(plan.shapes, default=0) + 1,
        "verdicts": len(plan.verdicts),
    }
    if is_small():
        sizes.update(_SMALL_SIZES)
    else:
        keeping = [name for name in ("running", "entered") if name in spec.maps]
        if keeping:
            from bfer.returning import most_calls

            most = most_calls()
            sizes.update((name, max(spec.maps[name].max_entries, most)) for name in keeping)
    for name, size in sizes.items():
        if name in spec.maps:
            spec.maps[name].max_entries = max(size, 1)


def _keepers(plan: Plan) -> list[str]:
    """The programs that keep what is known of processes and control groups."""
    names = ["fork", "free"] if plan.follows_processes else []
    names += ["exec"] if plan.binary is not None else []
    return names + (["new_cgroup"] if plan.container is not None else [])


def _slots(plan: Plan) -> tuple[dict[int, str], dict[int, str]]:
    """The programs that are handed over to: when a call begins, and when it returns."""
    enters, exits = {}, {}
    for program in sorted(set(plan.calls.values())):
        handler = _HANDLERS[program]
        if program == "exec":
            enters[handler], exits[handler] = "exec_enter", "exec_exit"
        elif program == "plain_enter":
            enters[handler] = program
        else:
            exits[handler] = program
    return enters, exits


def _progress(error: Error) -> int:
    """How far a load came before it failed: verified, tried, or not even tried."""
    return 2 if isinstance(error, VerifierError) else 1 if isinstance(error, LoadError) else 0


def _u32(value: int) -> bytes:
    return value.to_bytes(4, byteorder)


def _u64(value: int) -> bytes:
    return value.to_bytes(8, byteorder)
