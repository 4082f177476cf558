"""freplace: a program in the place of a global function of another program."""

from __future__ import annotations

from errno import EBUSY, EINVAL
from functools import partial

from pybpf import abi, commands, kernel
from pybpf.links import order as orders
from pybpf.links.base import Link, described
from pybpf.links.tracing import NO_TRAMPOLINES
from pybpf.links.ways import first, ordered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pybpf.errors import SyscallError
    from pybpf.program import Program
    from pybpf.sections import Section


def by_section(program: Program, section: Section, **options: Any) -> Link:
    """``freplace/FUNCTION``: the target program was given at the load."""
    return attach_freplace(program, **options)


def attach_freplace(
    program: Program,
    target: Program | None = None,
    type_id: int = 0,
    *,
    order: Sequence[str] = orders.FREPLACE,
) -> Link:
    """Let ``program`` replace the function that it was loaded for.

    Or, since 5.10, the one with BTF id ``type_id`` of ``target``. Raises LinkError.
    """
    what = described(program)

    def link() -> Link:
        if target is None:
            return Link(what, kernel.link_create(program.fd, 0, 0, what))
        return Link(what, commands.link_create(program.fd, target.fd, 0, 0, "tracing", what, target_btf_id=type_id))

    ways: dict[str, Callable[[], Link]] = {
        "bpf link": link,
        "trampoline": lambda: Link(what, kernel.raw_tracepoint_open("", program.fd, what), mechanism="trampoline"),
    }
    if target is not None:
        order = [mechanism for mechanism in order if mechanism == "bpf link"]
    return first(what, ordered(ways, order, what), partial(_explain, what))


def _explain(what: str, error: SyscallError) -> str:
    if error.errno == abi.ENOTSUPP:
        return f"{what}: {NO_TRAMPOLINES}"
    if error.errno == EBUSY:
        return f"{what}: the function has been replaced already, or its program is in a table of tail calls"
    if error.errno == EINVAL:
        return f"{what}: the target does not fit: it must be a global function with BTF of the same signature"
    return ""
