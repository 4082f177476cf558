"""How many running calls of a function are kept in mind, so that each is seen to return."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pybpf.links import Link
    from pybpf.links.probe_events import Guard
    from pybpf.program import Program

_THREADS_MAX = "/proc/sys/kernel/threads-max"
# The kernel takes no more (KRETPROBE_MAXACTIVE_MAX). A call is 64 bytes.
_MOST = 4096


def most_calls(path: str = _THREADS_MAX) -> int:
    """As many calls of one function as there can be at once: one in each thread that the machine has memory for."""
    try:
        with open(path) as file:
            return max(1, min(int(file.read()), _MOST))
    except (OSError, ValueError):
        return _MOST // 4


def attach_all(program: Program, **options: Any) -> Link:
    """Attach a program; a kretprobe so that it misses no return while other calls sleep. Raises LinkError."""
    from pybpf.links import attach

    if _is_return(program):
        options.update(maxactive=most_calls(), fork=_may_fork())
    return attach(program, **options)


def guard(programs: Iterable[Program]) -> Guard | None:
    """What stands by to remove what these programs leave if this process is killed; None if that is nothing."""
    if not any(map(_is_return, programs)):
        return None
    from pybpf.errors import LinkError
    from pybpf.links.probe_events import Guard

    try:
        return Guard(_may_fork())
    except LinkError:  # no tracefs: then they do not leave anything
        return None


def _is_return(program: Program) -> bool:
    return program.section.startswith("kretprobe/")


def _may_fork() -> bool:
    """May a copy of this process stand by, if there is no shell that can?"""
    from bfer.machine import is_small

    # Where memory is little, what a killed run leaves (64 bytes for each thread) is left to the next one then.
    return not is_small()
