"""Events that user space works out: from what it finds in the kernel's memory and files, or from records.

Read only when such an event is asked for. A module here is one Source: it looks at the system when the run
starts, whenever a module has been loaded, and now and then; or it makes its event out of what the event's own
programs saw. What a source remembers is bounded, and it tells of a thing once.
"""

from __future__ import annotations

from sys import byteorder
from time import CLOCK_BOOTTIME, clock_gettime_ns, monotonic

from bfer.catalogue import Event
from bfer.derive.fields import block_of
from bfer.pushdown import Shape
from bfer.records import CALL, HOOKS, ROW, WHO_SIZE
from btf.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from bfer.derive.kernel import Kernel
    from bfer.derive.source import Source
    from bfer.pushdown import Plan

OBJECT = "integrity.bpf.o"
PROGRAMS = ("peek", "layout", "begun")
"""What Kernel needs of it."""
SETTLED = HOOKS + 198
"""Number of the records that say: a module has been loaded."""
STARTED = HOOKS + 199
"""Number of the record that says: everything is attached; who it is about is the tracer."""

# Where a block has its event's number, which status and padding follow.
_EVENT, _EVENT_END = WHO_SIZE + CALL.size - 7, WHO_SIZE + CALL.size - 3


def prepare(plan: Plan) -> None:
    """Add to the plan what the sources of its derived events need in the kernel."""
    trigger = Event(
        "module_settled",
        0,
        SETTLED,
        (),
        "unsigned long module",
        "fexit,kretprobe+enter__kprobe,early,early__raw_tp",
        OBJECT,
    )
    plan.hooks.append(trigger)
    for number, name in ((SETTLED, "module_settled"), (STARTED, "started")):
        plan.shapes[number] = Shape(trigger)
        plan.names[number] = name


class Derivation:
    """One run's sources. ``missing`` tells by event why its source cannot work here."""

    def __init__(self, plan: Plan, kernel: Kernel) -> None:
        self.kernel = kernel
        self.missing: dict[str, str] = {}
        self._sources: list[Source] = []
        self._converts: dict[int, Source] = {}
        self._who = b""
        modules = {event.derive for event in plan.derived}
        for name in sorted(modules):
            events = [event for event in plan.derived if event.derive == name]
            module = __import__(f"bfer.derive.{name}", fromlist=["SOURCE"])
            try:
                source: Source = module.SOURCE(events, kernel, plan)
            except Error as error:
                self.missing.update({event.name: str(error) for event in events})
                continue
            self._sources.append(source)
            self._converts.update({event.number: source for event in events if event.places()})
        numbers = (SETTLED, STARTED, *self._converts)
        self._ours = {number.to_bytes(4, byteorder) for number in numbers}
        intervals = [source.interval for source in self._sources if source.interval]
        self._interval = min(intervals, default=0.0)
        self._next = 0.0

    def begin(self) -> None:
        """Have the kernel say that everything is attached; what there is to tell comes once that is read."""
        self.kernel.started()

    def feed(self, rows: list[Any]) -> list[Any]:
        """The rows (time, block and data of each record) for the outputs in place of these: others' as they are."""
        ours = self._ours
        if ours.isdisjoint([block[_EVENT:_EVENT_END] for block in rows[1::ROW]]):
            return rows
        kept: list[Any] = []
        for at in range(0, len(rows), ROW):
            time, block, data = rows[at : at + ROW]
            number = int.from_bytes(block[_EVENT:_EVENT_END], byteorder)
            source = self._converts.get(number)
            if source is not None:
                for made in source.convert(block, data):
                    kept += (time, *made)
            elif number in (SETTLED, STARTED):
                who = block[:WHO_SIZE]
                if number == STARTED:
                    self._who = who
                kept += self._look(who)
            else:
                kept += (time, block, data)
        return kept

    def due(self) -> float | None:
        """Seconds until it is time to look again; None for never."""
        return max(0.0, self._next - monotonic()) if self._interval and self._who else None

    def tick(self) -> list[Any]:
        """Rows of what is to tell now, if it is time to look again."""
        if self.due() != 0.0:
            return []
        return self._look(self._who)

    def _look(self, who: bytes) -> list[Any]:
        self._next = monotonic() + self._interval
        now = clock_gettime_ns(CLOCK_BOOTTIME)
        rows: list[Any] = []
        for source in self._sources:
            for event, data in source.look():
                rows += (now, block_of(event, who), data)
        return rows
