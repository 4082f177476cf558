"""From a policy to what the kernel checks (settings and maps) and what is left to user space.

Each event has one bit for the paths it wants and one for those it does not
want; the maps of exact paths, prefixes and suffixes give the bits that a path
meets, and the event's rule says what it makes of them.
"""

from __future__ import annotations

from bfer.catalogue import EXECUTABLE, RESOLVE, STACKS, WRITES
from bfer.errors import UsageError
from bfer.policy import EXACT, PREFIX, SUFFIX, EventFilter, Numbers, Pattern, passes_by_default
from bfer.records import (
    ARGS,
    CHECK_RESULT,
    EXTRA,
    EXTRA_ENV,
    EXTRA_SYSCALL,
    KIND_STRING,
    PATH_BITS,
    PATH_KEY_SIZE,
    PATHS,
    SHAPE,
    SLOT_SYSCALL,
    SUFFIX_KEY,
    SUFFIX_SIZE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from bfer.catalogue import Arg, Event
    from bfer.policy import Choice, Containers, Policy

_BITS = 64
_SUFFIX_LENGTHS = 8


class Shape:
    """What the programs must know of one event (programs.records.Shape)."""

    __slots__ = (
        *("above", "below", "bits", "checked", "kinds", "masked", "narrow", "passing", "path", "ranged", "rule"),
        "used",
    )

    def __init__(self, event: Event, options: Container[str] = ()) -> None:
        """``options`` of output: exec-env reads the environment of a program that starts, too."""
        self.rule = (0, 0)
        self.above, self.below = -(1 << 63), (1 << 63) - 1
        self.bits = self.masked = self.checked = self.passing = self.ranged = 0
        self.used = (1 << min(len(event.args), ARGS)) - 1
        self.narrow = sum([1 << arg.slot for arg in event.args if arg.bits == 32 and arg.slot < ARGS])
        self.path = next((arg.slot for arg in event.args if arg.memory == KIND_STRING), 0)
        kinds = bytearray(8)
        for arg in event.args:
            if not event.hooks and (arg.kind != "envp" or "exec-env" in options):  # an address will do
                kinds[arg.slot] = arg.memory
            elif arg.slot == SLOT_SYSCALL:
                kinds[EXTRA] |= EXTRA_SYSCALL
            elif arg.option == "exec-env":
                kinds[EXTRA] |= EXTRA_ENV
        if RESOLVE in options and not event.hooks:
            for arg in event.args:
                if arg.is_path:
                    kinds[PATHS] |= 1 << arg.slot
                    kinds[EXTRA] |= (event.folder(arg) is not None) << arg.slot
        self.kinds = bytes(kinds)

    def pack(self) -> bytes:
        bounds = (self.above, self.below, self.bits, self.masked)
        masks = (self.used, self.narrow, self.checked, self.passing, self.path, self.ranged, 1)
        return SHAPE.pack(*self.rule, *bounds, *masks, self.kinds)


class Plan:
    """Everything that the programs need to know, and the filters that they cannot apply.

    ``config`` holds the settings that differ from the programs' defaults, by
    name. ``hooks`` are the events that are no system calls, ``calls`` (the others' programs) and ``shapes``
    are by event number, ``prefixes`` and ``suffixes`` are bits by path, the trie's exact paths ending in NUL,
    ``verdicts`` is by (event number, slot, value), ``ranges`` (both bounds included, and the sign bit) by (event
    number, slot). ``numbers`` is by (field, number); ``binary`` and ``container`` are for what user
    space judges. ``residual`` is by event number.
    """

    __slots__ = (
        *("binary", "calls", "comms", "config", "container", "derived", "hooks", "names", "nodes", "numbers"),
        *("prefixes", "ranges", "residual", "shapes", "suffixes", "tree", "verdicts"),
    )

    def __init__(self) -> None:
        self.config: dict[str, int] = {}
        self.calls: dict[int, str] = {}
        self.hooks: list[Event] = []
        self.derived: list[Event] = []
        self.names: dict[int, str] = {}
        self.numbers: dict[tuple[str, int], bool] = {}
        self.nodes: dict[bytes, bool] = {}
        self.binary: Choice | None = None
        self.container: Containers | None = None
        self.comms: dict[bytes, bool] = {}
        self.tree: dict[int, bool] = {}
        self.shapes: dict[int, Shape] = {}
        self.verdicts: dict[tuple[int, int, int], bool] = {}
        self.ranges: dict[tuple[int, int], tuple[int, int, int]] = {}
        self.prefixes: dict[bytes, int] = {}
        self.suffixes: dict[bytes, int] = {}
        self.residual: dict[int, EventFilter] = {}

    @property
    def follows_processes(self) -> bool:
        """Must the programs at a process's beginning and end run?"""
        return bool(self.config.get("tree_on") or self.config.get("follow") or self.binary)

    def suffix_lengths(self) -> list[int]:
        return sorted({len(suffix) for suffix in self.suffixes})


def push_down(policy: Policy, command: bool = False, options: Container[str] = ()) -> Plan:
    """Plan ``policy``; ``command``: only the tree of a command that is yet to run is traced.

    ``options`` are those of output that want something of the programs: exec-env, stack-addresses, detect-syscall.
    """
    plan = Plan()
    config = plan.config
    for field, numbers in policy.numbers.items():
        _add_numbers(plan, field, numbers)
    if policy.pid_new is not None:
        config["pid_new"] = 1 if policy.pid_new else 2
    if policy.comms:
        plan.comms = policy.comms
        config["comm_on"] = 1
        config["comm_default"] = int(passes_by_default(policy.comms))
    if policy.nodes:
        plan.nodes = policy.nodes
        config["uts_on"] = 1
        config["uts_default"] = int(passes_by_default(policy.nodes))
    if policy.tree or command:
        plan.tree = policy.tree
        config["tree_on"] = 1
        config["tree_default"] = int(not command and passes_by_default(policy.tree))
    if policy.container is not None:
        plan.container = policy.container
        config["container_on"] = 1
    if policy.follow:
        config["follow"] = 1
    events = _Events(plan, options)
    if policy.binary is not None:
        events.add_binary(policy.binary)
    if config:
        config["who_on"] = 1
    if any(name == "pid_new" or not name.startswith("pid_") for name in config.keys() - {"who_on", "follow"}):
        config["others_on"] = 1
    if STACKS in options:
        config["stacks"] = 1
    if RESOLVE in options:
        config["resolve"] = 1
    if EXECUTABLE in options:
        config["executable"] = 1
    if "detect-syscall" in options:
        config["detect_syscall"] = 1
    events.add(policy)
    return plan


def _add_numbers(plan: Plan, field: str, numbers: Numbers) -> None:
    config = plan.config
    config[f"{field}_on"] = 1
    config[f"{field}_default"] = int(numbers.default)
    if numbers.above is not None:
        config[f"{field}_above"] = numbers.above
    if numbers.below is not None:
        config[f"{field}_below"] = numbers.below
    for number, verdict in numbers.exact.items():
        plan.numbers[field, number] = verdict


class _Events:
    """Fills a plan's shapes with what the kernel checks, and keeps the filters that stay in user space."""

    def __init__(self, plan: Plan, options: Container[str]) -> None:
        self.plan = plan
        self.options = options
        self.entries: dict[bytes, int] = {}
        self.next_bit = 1
        # What became of an argument's patterns, by event and argument: the 32-bit call shares it.
        self.paths: dict[tuple[str, str], tuple[tuple[int, int], Choice]] = {}

    def add(self, policy: Policy) -> None:
        plan = self.plan
        for named in policy.events:
            filter = policy.filters.get(named.name)
            for event in named.both():
                if event.derive:
                    plan.derived.append(event)
                if event.hooks:
                    plan.hooks.append(event)
                else:
                    plan.calls[event.number] = event.program
                plan.names[event.number] = event.name
                shape = plan.shapes[event.number] = Shape(event, self.options)
                if event.name in policy.writes_only:
                    name, shape.bits = WRITES[event.name]
                    arg = event.arg(name)
                    assert arg is not None
                    shape.masked = arg.slot
                if filter is None:
                    continue
                if event.derive:  # the programs do not see what it is in the end
                    plan.residual[event.number] = filter
                else:
                    self.add_filter(event, shape, filter)
        self.enter_prefixes()

    def enter_prefixes(self) -> None:
        plan = self.plan
        # A lookup gives only the longest entry that matches: it must know what the shorter ones say.
        for key in self.entries:
            plan.prefixes[key] = 0
            for other, mask in self.entries.items():
                if key.startswith(other):
                    plan.prefixes[key] |= mask
        if plan.prefixes:
            plan.config["prefixes_on"] = 1

    def add_binary(self, choice: Choice) -> None:
        (wanted, unwanted), rest = self.add_path(choice)
        if rest:
            raise UsageError(f"'binary' takes endings (*NAME) of at most {_SUFFIX_LENGTHS} different lengths")
        plan = self.plan
        plan.binary = choice
        plan.config.update(
            binary_on=1, binary_default=int(not choice.wanted), binary_wanted=wanted, binary_unwanted=unwanted
        )

    def add_filter(self, event: Event, shape: Shape, filter: EventFilter) -> None:
        if filter.result is not None:
            self.add_result(event, shape, filter.result)
        rest = EventFilter()
        path_taken = False
        for name, (_, choice) in filter.args.items():
            arg = event.arg(name)
            if arg is None:  # the 32-bit call may have other arguments
                continue
            # A record of a started program begins with its path; elsewhere any one string will do.
            if arg.memory == KIND_STRING and not path_taken and (event.program != "exec" or arg.slot == shape.path):
                path_taken = True
                shape.path = arg.slot
                if (event.name, name) not in self.paths:
                    self.paths[event.name, name] = self.add_path(choice)
                shape.rule, choice = self.paths[event.name, name]
            elif (
                not arg.memory
                and arg.slot < ARGS
                and arg.bits >= 32  # the programs compare 32 or 64
                and all(isinstance(item, int) for item in choice.wanted + choice.unwanted)
            ):
                self.add_values(event, shape, arg, choice)
                continue
            if choice:
                rest.args[name] = (arg, choice)
        rest.scope = filter.scope
        if rest.args or rest.scope:
            self.plan.residual[event.number] = rest

    def add_result(self, event: Event, shape: Shape, numbers: Numbers) -> None:
        if numbers.above is not None or numbers.below is not None:
            self.plan.config["bounds_on"] = 1
            shape.above = -(1 << 63) if numbers.above is None else max(numbers.above, -(1 << 63))
            shape.below = (1 << 63) - 1 if numbers.below is None else min(numbers.below, (1 << 63) - 1)
        if numbers.exact:
            self.add_verdicts(event, shape, CHECK_RESULT, numbers.exact, numbers.default)

    def add_values(self, event: Event, shape: Shape, arg: Arg, choice: Choice) -> None:
        verdicts = {}
        for item in (*choice.wanted, *choice.unwanted):
            assert isinstance(item, int)
            verdicts[item & ((1 << arg.bits) - 1)] = item not in choice.unwanted
        self.add_verdicts(event, shape, arg.slot, verdicts, not choice.wanted or choice.bounds is not None)
        if choice.bounds is not None:
            self.add_range(event, shape, arg, choice.bounds)

    def add_range(self, event: Event, shape: Shape, arg: Arg, bounds: Numbers) -> None:
        self.plan.config["ranges_on"] = 1
        shape.ranged |= 1 << arg.slot
        lowest, highest = (-(1 << arg.bits - 1), (1 << arg.bits - 1) - 1) if arg.signed else (0, (1 << arg.bits) - 1)
        low = lowest if bounds.above is None else max(lowest, bounds.above + 1)
        high = highest if bounds.below is None else min(highest, bounds.below - 1)
        # Moved up so that the lowest is 0: for a signed number the same as to flip its sign bit.
        flip = 1 << arg.bits - 1 if arg.signed else 0
        # A 32-bit call may have no such number at all.
        self.plan.ranges[event.number, arg.slot] = (low + flip, high + flip, flip) if low <= high else (1, 0, 0)

    def add_verdicts(self, event: Event, shape: Shape, slot: int, verdicts: dict[int, bool], default: bool) -> None:
        self.plan.config["values_on"] = 1
        shape.checked |= 1 << slot
        shape.passing |= default << slot
        for value, verdict in verdicts.items():
            self.plan.verdicts[event.number, slot, value & ((1 << 64) - 1)] = verdict

    def add_path(self, choice: Choice) -> tuple[tuple[int, int], Choice]:
        """Take over what the kernel can check; returns wanted and unwanted bits, and the rest."""
        rest = type(choice)()
        wanted = self.bit() if choice.wanted and self.all_fit(choice.wanted) else 0
        if wanted:
            self.enter(choice.wanted, wanted)
        else:
            rest.wanted = choice.wanted
        unwanted = 0
        for item in choice.unwanted:
            # The path must meet none of these, so each one can be taken by itself.
            if self.all_fit([item]) and (unwanted or self.bit_left()):
                unwanted = unwanted or self.bit()
                self.enter([item], unwanted)
            else:
                rest.unwanted.append(item)
        return (wanted, unwanted), rest

    def bit_left(self) -> bool:
        return self.next_bit < 1 << _BITS

    def bit(self) -> int:
        """A bit that nothing uses; 0 when all are taken."""
        if not self.bit_left():
            return 0
        bit = self.next_bit
        self.next_bit <<= 1
        return bit

    def all_fit(self, items: list[Pattern | int]) -> bool:
        lengths = set(self.plan.suffix_lengths())
        for item in items:
            assert isinstance(item, Pattern)
            if item.kind == SUFFIX and len(item.data) <= SUFFIX_SIZE:
                lengths.add(len(item.data))
            elif item.kind not in (EXACT, PREFIX) or len(item.data) >= PATH_KEY_SIZE:
                return False
        return len(lengths) <= _SUFFIX_LENGTHS

    def enter(self, items: list[Pattern | int], bit: int) -> None:
        for item in items:
            assert isinstance(item, Pattern)
            if item.kind == SUFFIX:
                self.plan.suffixes[item.data] = self.plan.suffixes.get(item.data, 0) | bit
            else:
                key = item.data + b"\0" if item.kind == EXACT else item.data
                self.entries[key] = self.entries.get(key, 0) | bit


def prefix_key(path: bytes) -> bytes:
    """Key of the trie ``path_prefixes``: every byte of ``path`` counts."""
    return PATH_BITS.pack(len(path) * 8) + path.ljust(PATH_KEY_SIZE, b"\0")


def suffix_key(suffix: bytes) -> bytes:
    """Key of the hash ``path_suffixes``."""
    return SUFFIX_KEY.pack(len(suffix), suffix)
