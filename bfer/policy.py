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


class Numbers:
    """Tracee's filter on a number: an exact value decides at once, then the bounds, then the default.

    A number passes by default unless there are wanted values and no bounds.
    ``above`` and ``below`` are exclusive; None means no bound.
    """

    __slots__ = ("above", "below", "exact")

    def __init__(self) -> None:
        self.exact: dict[int, bool] = {}
        self.above: int | None = None
        self.below: int | None = None

    def add(self, op: str, value: int) -> None:
        if op == "<":
            self.below = value if self.below is None else min(self.below, value)
        elif op == ">":
            self.above = value if self.above is None else max(self.above, value)
        else:
            # A value both wanted and unwanted is unwanted.
            self.exact[value] = op == "=" and self.exact.get(value, True)

    @property
    def default(self) -> bool:
        return self.above is not None or self.below is not None or not any(self.exact.values())

    def matches(self, value: int) -> bool:
        verdict = self.exact.get(value)
        if verdict is not None:
            return verdict
        if self.above is not None and value <= self.above:
            return False
        if self.below is not None and value >= self.below:
            return False
        return self.default


class Choice:
    """Wanted and unwanted values of one argument: any of the first (if there are any), none of the second.

    An item is a Pattern, or the number that the argument must be equal to.
    """

    __slots__ = ("unwanted", "wanted")

    def __init__(self) -> None:
        self.wanted: list[Pattern | int] = []
        self.unwanted: list[Pattern | int] = []


class EventFilter:
    """Conditions on one event's return value and arguments (``args`` by name, the path included)."""

    __slots__ = ("args", "result")

    def __init__(self) -> None:
        self.result: Numbers | None = None
        self.args: dict[str, tuple[Arg, Choice]] = {}


class Policy:
    """A whole filter expression. ``comms`` and ``tree`` tell wanted (True) from unwanted."""

    __slots__ = (
        "comms",
        "events",
        "filters",
        "follow",
        "notes",
        "pid",
        "pid_new",
        "spelled",
        "tree",
        "uid",
        "writes_only",
    )

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.filters: dict[str, EventFilter] = {}
        self.uid: Numbers | None = None
        self.pid: Numbers | None = None
        self.pid_new: bool | None = None
        self.comms: dict[bytes, bool] = {}
        self.tree: dict[int, bool] = {}
        self.follow = False
        self.notes: list[str] = []
        self.spelled: set[str] = set()  # words that name events, as given
        # Events of which only the calls that open a file for writing are wanted.
        self.writes_only: set[str] = set()


def passes_by_default(verdicts: dict[bytes, bool] | dict[int, bool]) -> bool:
    """What becomes of one that is not listed: it passes unless some are wanted."""
    return not any(verdicts.values())
