"""Attaching several programs: all of them, or one that can be."""

from __future__ import annotations

from errno import EINVAL

from pybpf.errors import LinkError, SyscallError
from pybpf.links.base import Attempt, Link
from pybpf.links.dispatch import attach
from pybpf.links.order import ALIKE
from pybpf.links.ways import LinkGroup
from pybpf.sections import parse_section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pybpf.loader import Collection
    from pybpf.program import Program


def attach_all(collection: Collection, names: Iterable[str] | None = None) -> LinkGroup:
    """Attach the programs of ``collection`` (or those named) by their sections: all of them or none.

    Programs are attached in the order of their loading, and detached the other
    way round. Raises what ``attach`` raises.
    """
    links: list[Link] = []
    try:
        for name in collection.programs if names is None else names:
            links.append(attach(collection.programs[name]))
    except BaseException:
        for link in reversed(links):
            link.close()
        raise
    return LinkGroup("programs " + ", ".join(link.name for link in links), links)


def _rank(program: Program) -> int:
    kind = parse_section(program.section).kind
    return next((kinds.index(kind) for kinds in ALIKE if kind in kinds), 0)


def attach_first(programs: Iterable[Program]) -> Link:
    """Attach one of several programs that do the same by different hooks: the best that can be (``order.ALIKE``).

    Programs of one kind, or of kinds that are not alike, are tried as they are given. The link
    remembers what was tried before. Raises LinkError when none can be attached; its ``details`` say why.
    """
    tried: list[Attempt] = []
    for program in sorted(programs, key=_rank):
        try:
            link = attach(program)
        except SyscallError as error:
            tried.append(Attempt(program.section, error))
            continue
        link.attempts = (*tried, *link.attempts)
        return link
    if not tried:
        raise LinkError("there is no program to attach", EINVAL)
    last = tried[-1].error
    assert last is not None
    raise LinkError(str(last), last.errno, "\n".join(map(str, tried)))
