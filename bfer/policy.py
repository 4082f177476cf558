"""What the user asked for, as data: which events, whose, and with which values."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.catalogue import Arg, Event

EXACT, PREFIX, SUFFIX, CONTAINS = range(4)


class Pattern:
    """Bytes that must be all of a text, or its beginning, its end, or anywhere in it."""

    __slots__ = ("data", "kind")

    def __init__(self, kind: int, data: bytes) -> None:
        self.kind = kind
        self.data = data

    def matches(self, text: bytes) -> bool:
        if self.kind == EXACT:
            return text == self.data
        if self.kind == PREFIX:
            return text.startswith(self.data)
        if self.kind == SUFFIX:
            return text.endswith(self.data)
        return self.data in text

    def covers(self, other: Pattern) -> bool:
        """Does it match everything that ``other`` matches?"""
        if other.kind == EXACT:
            return self.matches(other.data)
        if self.kind == CONTAINS:
            return self.data in other.data
        return self.kind == other.kind != EXACT and self.matches(other.data)


class Numbers:
    """Tracee's filter on a number: an exact value decides at once, then the bounds, then the default.

    A number passes by default unless there are wanted values and no bounds.
    ``above`` and ``below`` are exclusive; None means no bound.
    """

    __slots__ = ("above", "below", "exact", "wanted")

    def __init__(self) -> None:
        self.exact: dict[int, bool] = {}
        self.wanted = False
        self.above: int | None = None
        self.below: int | None = None

    def add(self, op: str, value: int) -> None:
        """``op`` is one of = != < > <= >=."""
        if op in ("<", "<="):
            value += op == "<="
            self.below = value if self.below is None else min(self.below, value)
        elif op in (">", ">="):
            value -= op == ">="
            self.above = value if self.above is None else max(self.above, value)
        else:
            # A value both wanted and unwanted is unwanted.
            self.exact[value] = op == "=" and self.exact.get(value, True)
            self.wanted = self.wanted or op == "="

    @property
    def bounded(self) -> bool:
        return self.above is not None or self.below is not None

    @property
    def default(self) -> bool:
        return self.bounded or not self.wanted

    def matches(self, value: int) -> bool:
        verdict = self.exact.get(value)
        if verdict is not None:
            return verdict
        return self.default and self.within(value)

    def within(self, value: int) -> bool:
        """Do the bounds hold?"""
        return (self.above is None or value > self.above) and (self.below is None or value < self.below)

    def is_empty(self, low: int, high: int) -> bool:
        """Can none of the numbers from ``low`` to ``high`` match?"""
        if any(verdict and low <= value <= high for value, verdict in self.exact.items()):
            return False
        if not self.default:
            return True
        low = low if self.above is None else max(low, self.above + 1)
        high = high if self.below is None else min(high, self.below - 1)
        return high - low < len(self.exact) and all(value in self.exact for value in range(low, high + 1))


class Choice:
    """Values of one argument: none of ``unwanted``, any of ``wanted``; others pass where the bounds hold, if there
    are any, and where there are none only if nothing is wanted.

    An item is a Pattern, or the number that the argument must be equal to.
    """

    __slots__ = ("bounds", "unwanted", "wanted")

    def __init__(self) -> None:
        self.wanted: list[Pattern | int] = []
        self.unwanted: list[Pattern | int] = []
        self.bounds: Numbers | None = None

    def __bool__(self) -> bool:
        return bool(self.wanted or self.unwanted or self.bounds)

    def is_empty(self, low: int, high: int) -> bool:
        """Can nothing match? Numbers are from ``low`` to ``high``."""
        numbers = Numbers()
        for item in self.unwanted:
            if not isinstance(item, Pattern):
                numbers.add("!=", item)
        for item in self.wanted:
            if isinstance(item, Pattern):
                if not any(isinstance(other, Pattern) and other.covers(item) for other in self.unwanted):
                    return False
            else:
                numbers.add("=", item)
        numbers.wanted = bool(self.wanted)
        if self.bounds is not None:
            numbers.above, numbers.below = self.bounds.above, self.bounds.below
        return numbers.is_empty(low, high)


class Containers:
    """Control groups of containers: ``inside`` of any or of none, ``new`` ones or such as were there; None: no matter.

    ``ids`` holds prefixes of the ids of containers, wanted (True) or not.
    """

    __slots__ = ("ids", "inside", "new")

    def __init__(self) -> None:
        self.inside: bool | None = None
        self.new: bool | None = None
        self.ids: dict[str, bool] = {}

    def matches(self, id: str, new: bool) -> bool:
        """``id`` is empty outside of containers; ``new``: made while bfer ran."""
        if self.inside is not None and self.inside != bool(id):
            return False
        if self.new is not None and not (id and new == self.new):
            return False
        if any(id and id.startswith(prefix) for prefix, wanted in self.ids.items() if not wanted):
            return False
        wanted = [prefix for prefix, wanted in self.ids.items() if wanted]
        return not wanted or any(id.startswith(prefix) for prefix in wanted)

    def is_empty(self) -> bool:
        if self.inside is False and (self.new is not None or any(self.ids.values())):
            return True
        unwanted = [prefix for prefix, wanted in self.ids.items() if not wanted]
        wanted = [prefix for prefix, wanted in self.ids.items() if wanted]
        return bool(wanted) and all(any(id.startswith(prefix) for prefix in unwanted) for id in wanted)


class EventFilter:
    """Conditions on one event: its return value, its arguments (``args`` by name, the path included), and on who
    called (``scope`` by the name of a Block's field).
    """

    __slots__ = ("args", "result", "scope")

    def __init__(self) -> None:
        self.result: Numbers | None = None
        self.args: dict[str, tuple[Arg, Choice]] = {}
        self.scope: dict[str, Choice | Containers] = {}


# Filters on numbers of who is calling.
NUMBERS = ("uid", "pid", "tid", "mntns", "pidns")


class Policy:
    """A whole filter expression. ``comms``, ``nodes`` (host names) and ``tree`` tell wanted (True) from unwanted;
    ``numbers`` is by the names of NUMBERS.
    """

    __slots__ = (
        *("binary", "comms", "container", "events", "filters", "follow", "nodes", "notes", "numbers", "pid_new"),
        *("spelled", "tree", "writes_only"),
    )

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.filters: dict[str, EventFilter] = {}
        self.numbers: dict[str, Numbers] = {}
        self.pid_new: bool | None = None
        self.comms: dict[bytes, bool] = {}
        self.nodes: dict[bytes, bool] = {}
        self.tree: dict[int, bool] = {}
        self.container: Containers | None = None
        self.binary: Choice | None = None
        self.follow = False
        self.notes: list[str] = []
        self.spelled: set[str] = set()  # words that name events, as given
        # Events of which only the calls that open a file for writing are wanted.
        self.writes_only: set[str] = set()


def passes_by_default(verdicts: dict[bytes, bool] | dict[int, bool]) -> bool:
    """What becomes of one that is not listed: it passes unless some are wanted."""
    return not any(verdicts.values())
