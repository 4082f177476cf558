"""Programs on samples: timers and counters of perf, on each CPU or for one process."""

from __future__ import annotations

from errno import EINVAL, ENODEV, ENOENT, EOPNOTSUPP
from functools import partial
from sys import byteorder

from pybpf import commands, cpus
from pybpf.errors import LinkError
from pybpf.links.base import Link, described
from pybpf.links.events import attach_event
from pybpf.links.ways import group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pybpf.program import Program
    from pybpf.sections import Section

# Names of events: perf's type and config (include/uapi/linux/perf_event.h).
EVENTS = {
    "cycles": (0, 0),
    "instructions": (0, 1),
    "cache-references": (0, 2),
    "cache-misses": (0, 3),
    "branches": (0, 4),
    "branch-misses": (0, 5),
    "bus-cycles": (0, 6),
    "cpu-clock": (1, 0),
    "task-clock": (1, 1),
    "page-faults": (1, 2),
    "context-switches": (1, 3),
    "cpu-migrations": (1, 4),
    "minor-faults": (1, 5),
    "major-faults": (1, 6),
    "alignment-faults": (1, 7),
    "emulation-faults": (1, 8),
}


def by_section(program: Program, section: Section, **options: Any) -> Link:
    """``perf_event``: which event, and how often, is in the options alone."""
    return attach_perf_event(program, **options)


def attach_perf_event(
    program: Program,
    event: str | tuple[int, int] = "cpu-clock",
    *,
    frequency: int = 0,
    period: int = 0,
    pid: int = -1,
    on: Sequence[int] | None = None,
    cookie: int = 0,
) -> Link:
    """Run a perf_event program ``frequency`` times a second, or each ``period`` occurrences (nanoseconds of a clock).

    ``event`` is a name of ``EVENTS``, or perf's type and config. For all processes
    (``pid`` -1) it is opened on the CPUs ``on`` (None: those that are on now),
    for one process on all CPUs. ``cookie`` needs 5.15. Raises LinkError.
    """
    what = described(program, f"perf event {event}")
    if isinstance(event, str):
        if event not in EVENTS:
            raise LinkError(f"{what}: no event has that name; there are {', '.join(EVENTS)}", EINVAL)
        event = EVENTS[event]
    if bool(frequency) == bool(period):
        raise LinkError(f"{what}: give a frequency or a period", EINVAL)

    # The flags are bit fields: "freq" is the eleventh from the lowest bit, or from the highest on big-endian machines.
    bits = 1 << (10 if byteorder == "little" else 53) if frequency else 0

    def one(type: int, config: int, cpu: int) -> Link:
        try:
            perf = commands.perf_event(
                pid, cpu, what, type=type, config=config, sample_period=frequency or period, bits=bits, wakeup_events=1
            )
        except LinkError as error:
            if error.errno in (ENOENT, ENODEV, EOPNOTSUPP):
                line = f"{what}: this machine cannot count that (a virtual machine often has no hardware counters)"
                raise LinkError(line, error.errno, str(error)) from None
            raise
        return attach_event(program, perf, what, cookie)

    where = [-1] if pid >= 0 and on is None else cpus.online() if on is None else on
    return group(what, [partial(one, *event, cpu) for cpu in where])
