"""tc programs: by tcx where the kernel has it, else as a filter of the clsact qdisc, through pyroute2."""

from __future__ import annotations

from errno import EEXIST, EINVAL, ENOENT, EOPNOTSUPP
from functools import partial

from pybpf.errors import LinkError
from pybpf.links import netlink
from pybpf.links import order as orders
from pybpf.links.attachment import Attachment
from pybpf.links.base import Link, described
from pybpf.links.network import attach_tcx
from pybpf.links.ways import first, ordered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pybpf.errors import SyscallError
    from pybpf.program import Program
    from pybpf.sections import Section

_FIRST_PRIORITY = 49152  # the kernel counts down from here when it chooses one


def by_section(program: Program, section: Section, **options: Any) -> Link:
    """``tc``: interface and direction are options."""
    return attach_tc(program, **options)


def attach_tc(
    program: Program,
    interface: str | int,
    direction: str = "ingress",
    *,
    priority: int = 0,
    order: Sequence[str] = orders.TC,
) -> Link:
    """Run a tc program (direct action: its result is the packet's fate) at ``interface``.

    By tcx (6.6), else by clsact, where ``priority`` (1 to 65535; 0: after all others) is
    the filter's. A given priority asks for clsact at once. Raises LinkError.
    """
    what = described(program, f"tc {direction} of {interface}")
    if direction not in netlink.PARENTS:
        raise LinkError(f"{what}: the direction is ingress or egress", EINVAL)
    index = netlink.interface_index(interface, what)
    if priority:
        order = [mechanism for mechanism in order if mechanism == "clsact"]
    ways: dict[str, Callable[[], Link]] = {
        "tcx": lambda: attach_tcx(program, index, direction),
        "clsact": lambda: ClsactFilter(program, index, direction, priority, what),
    }
    return first(what, ordered(ways, order, what), partial(_explain, what))


class ClsactFilter(Attachment):
    """A bpf filter of a clsact qdisc.

    ``handle`` and ``priority`` tell it from other filters. The qdisc goes with the
    last filter, if it was made for this one.
    """

    __slots__ = ("_index", "_made", "_parent", "_program_id", "handle", "priority")

    def __init__(self, program: Program, index: int, direction: str, priority: int, what: str) -> None:
        super().__init__(what, mechanism="clsact")
        self._index = index
        self._parent = netlink.PARENTS[direction]
        self._program_id = program.info().id
        with netlink.pyroute2(what) as route:
            self._made = self._make_qdisc(route)
            self.handle = 1
            self.priority = priority or self._free_priority()
            try:
                self._watch()
                self._add(route, program)
            except BaseException:
                self.close()
                raise

    def _make_qdisc(self, route: Any) -> bool:
        try:
            route.tc("add", "clsact", self._index)
        except Exception as error:
            if getattr(error, "code", None) == EEXIST:
                return False
            raise netlink.refused(error, "RTM_NEWQDISC clsact", self.name) from None
        return True

    def _free_priority(self) -> int:
        """A number that no filter has, lower ones going first: behind the others where there is room."""
        taken = {priority for _, priority, _ in netlink.filters(self._index, self._parent)}
        highest = max(taken, default=0)
        if highest < _FIRST_PRIORITY:
            return max(highest + 1, 1)
        return next(number for number in range(_FIRST_PRIORITY, 0, -1) if number not in taken)

    def _add(self, route: Any, program: Program) -> None:
        try:
            route.tc(
                "add-filter",
                "bpf",
                self._index,
                self.handle,
                fd=program.fd,
                name=program.name,
                parent=self._parent,
                prio=self.priority,
                direct_action=True,
            )
        except Exception as error:
            raise netlink.refused(error, "RTM_NEWTFILTER bpf", self.name) from None

    def _undo(self) -> None:
        """Remove the filter, if it is still ours, and the qdisc, if it was made for it and has no other."""
        try:
            ours = (self.handle, self.priority, self._program_id)
            if ours in netlink.filters(self._index, self._parent):
                netlink.delete_filter(self._index, self._parent, self.handle, self.priority)
            if self._made and not any(netlink.filters(self._index, parent) for parent in netlink.PARENTS.values()):
                netlink.delete_clsact(self._index)
        except OSError as error:
            if not netlink.gone(error) and error.errno != EINVAL:  # EINVAL: the qdisc is gone
                raise netlink.refused(error, "detach", self.name) from None


def _explain(what: str, error: SyscallError) -> str:
    if error.errno == EEXIST:
        return f"{what}: there is a filter of that priority already"
    if error.errno in (ENOENT, EOPNOTSUPP) and "RTM_NEW" in str(error):
        return f"{what}: this kernel has neither tcx (6.6) nor clsact with bpf filters (modules sch_ingress, cls_bpf)"
    return ""
