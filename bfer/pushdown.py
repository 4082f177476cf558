"""From a policy to what the kernel checks (settings and maps) and what is left to user space.

Each event has one bit for the paths it wants and one for those it does not
want; the maps of exact paths, prefixes and suffixes give the bits that a path
meets, and the event's rule says what it makes of them.
"""

from __future__ import annotations

from bfer.catalogue import PATH
from bfer.policy import EXACT, PREFIX, SUFFIX, EventFilter, Pattern, passes_by_default
from bfer.records import PATH_BITS, PATH_KEY_SIZE, SUFFIX_KEY, SUFFIX_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.catalogue import Event
    from bfer.policy import Choice, Numbers, Policy

_BITS = 64
_SUFFIX_LENGTHS = 8


class Plan:
    """Everything that the programs need to know, and the filters that they cannot apply.

    ``config`` holds the settings that differ from the programs' defaults, by
    name. ``rules`` is (wanted bits, unwanted bits) by system call number,
    ``prefixes`` and ``suffixes`` are bits by path, the trie's exact paths
    ending in NUL. ``residual`` is by system call number.
    """

    __slots__ = (
        *("calls", "comms", "config", "names", "pids", "prefixes", "residual"),
        *("rules", "suffixes", "tree", "uids"),
    )

    def __init__(self) -> None:
        self.config: dict[str, int] = {}
        self.calls: dict[int, str] = {}
        self.names: dict[int, str] = {}
        self.uids: dict[int, bool] = {}
        self.pids: dict[int, bool] = {}
        self.comms: dict[bytes, bool] = {}
        self.tree: dict[int, bool] = {}
        self.rules: dict[int, tuple[int, int]] = {}
        self.prefixes: dict[bytes, int] = {}
        self.suffixes: dict[bytes, int] = {}
        self.residual: dict[int, EventFilter] = {}

    @property
    def follows_processes(self) -> bool:
        """Must the programs at fork and exit run?"""
        return bool(self.config.get("tree_on") or self.config.get("follow"))

    def suffix_lengths(self) -> list[int]:
        return sorted({len(suffix) for suffix in self.suffixes})


def push_down(policy: Policy, command: bool = False) -> Plan:
    """Plan ``policy``; ``command``: only the tree of a command that is yet to run is traced."""
    plan = Plan()
    config = plan.config
    for event in policy.events:
        plan.calls[event.number] = event.program
        plan.names[event.number] = event.name
    plan.uids = _numbers(config, "uid", policy.uid)
    plan.pids = _numbers(config, "pid", policy.pid)
    if policy.pid_new is not None:
        config["pid_new"] = 1 if policy.pid_new else 2
    if policy.comms:
        plan.comms = policy.comms
        config["comm_on"] = 1
        config["comm_default"] = int(passes_by_default(policy.comms))
    if policy.tree or command:
        plan.tree = policy.tree
        config["tree_on"] = 1
        config["tree_default"] = int(not command and passes_by_default(policy.tree))
    if policy.follow:
        config["follow"] = 1
    _Paths(plan).add(policy)
    return plan


def _numbers(config: dict[str, int], field: str, numbers: Numbers | None) -> dict[int, bool]:
    if numbers is None:
        return {}
    config[f"{field}_on"] = 1
    config[f"{field}_default"] = int(numbers.default)
    if numbers.above is not None:
        config[f"{field}_above"] = numbers.above
    if numbers.below is not None:
        config[f"{field}_below"] = numbers.below
    return numbers.exact


class _Paths:
    """Fills a plan's path rules and the filters that stay in user space."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.entries: dict[bytes, int] = {}
        self.next_bit = 1

    def add(self, policy: Policy) -> None:
        for event in policy.events:
            filter = policy.filters.get(event.name)
            if filter is not None:
                self.add_event(event, filter)
        plan = self.plan
        # A lookup gives only the longest entry that matches: it must know what the shorter ones say.
        for key in self.entries:
            plan.prefixes[key] = 0
            for other, mask in self.entries.items():
                if key.startswith(other):
                    plan.prefixes[key] |= mask
        if plan.prefixes:
            plan.config["prefixes_on"] = 1

    def add_event(self, event: Event, filter: EventFilter) -> None:
        rest = EventFilter()
        rest.result = filter.result
        for name, (arg, choice) in filter.args.items():
            if arg.kind == PATH:
                choice = self.add_path(event, choice)
            if choice.wanted or choice.unwanted:
                rest.args[name] = (arg, choice)
        if rest.result is not None or rest.args:
            self.plan.residual[event.number] = rest

    def add_path(self, event: Event, choice: Choice) -> Choice:
        """Take over what the kernel can check; returns the rest."""
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
        if wanted or unwanted:
            self.plan.rules[event.number] = (wanted, unwanted)
        return rest

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
