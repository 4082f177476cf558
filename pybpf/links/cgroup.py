"""Programs at control groups: packets, sockets, devices, settings of all processes in them."""

from __future__ import annotations

import os
from errno import EBADF, EINVAL, ENOENT
from functools import partial

from pybpf import abi, cgroups, commands, kernel
from pybpf.errors import LinkError
from pybpf.links import order as orders
from pybpf.links.attachment import Attachment
from pybpf.links.base import Link, described
from pybpf.links.ways import first, ordered
from pybpf.sections import parse_section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pybpf.errors import SyscallError
    from pybpf.program import Program
    from pybpf.sections import Section


def by_section(program: Program, section: Section, **options: Any) -> Link:
    """``cgroup_skb/ingress``, ``cgroup/connect4`` and the like; the control group is an option."""
    options.setdefault("attach_type", section.attach_type)
    return attach_cgroup(program, **options)


def open_cgroup(path: str, what: str) -> kernel.Fd:
    """A descriptor of a control group's folder. Raises LinkError."""
    try:
        return kernel.Fd(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), f"control group {path}")
    except OSError as error:
        raise LinkError(f"{what}: control group {path}: {error.strerror}", error.errno or ENOENT) from None


class CgroupAttachment(Attachment):
    """A program attached to a control group the old way. It owns the descriptors, in any case."""

    __slots__ = ("_program", "_type")

    def __init__(self, name: str, group: kernel.Fd, program: kernel.Fd, attach_type: int, flags: int) -> None:
        super().__init__(name, group, program, mechanism="attach")
        self._program = program
        self._type = attach_type
        try:
            self._watch()
            commands.prog_attach(group.fd, program.fd, attach_type, flags=flags, what=name)
        except BaseException:
            self._forget()
            raise

    def _undo(self) -> None:
        try:
            commands.prog_detach(self.fd, self._program.fd, self._type, what=self.name)
        except LinkError as error:
            if error.errno != ENOENT:  # somebody else has done it
                raise


def attach_cgroup(
    program: Program,
    path: str = "",
    *,
    attach_type: int | None = None,
    flags: int = 0,
    order: Sequence[str] = orders.CGROUP,
) -> Link:
    """Run ``program`` for the control group at ``path`` (default: the top one) and those below it.

    By a link (5.7), which lets others attach too; else by BPF_PROG_ATTACH with
    ``flags`` (``abi.F_ALLOW_MULTI``, ``F_ALLOW_OVERRIDE``), which ``flags`` ask for
    at once. ``attach_type`` is that of the section. Raises LinkError.
    """
    if attach_type is None:
        attach_type = parse_section(program.section).attach_type
    where = path or cgroups.root()
    what = described(program, f"{program.section} of {where}")
    if flags & (abi.F_ALLOW_MULTI | abi.F_ALLOW_OVERRIDE):
        order = [mechanism for mechanism in order if mechanism == "attach"]
    target = open_cgroup(where, what)
    try:
        ways: dict[str, Callable[[], Link]] = {
            "bpf link": partial(_link, program, target, attach_type, flags, what),
            "attach": partial(_attach, program, where, attach_type, flags, what),
        }
        return first(what, ordered(ways, order, what), partial(_explain, what, where))
    finally:
        target.close()


def _link(program: Program, target: kernel.Fd, attach_type: int, flags: int, what: str) -> Link:
    return Link(what, commands.link_create(program.fd, target.fd, attach_type, flags, "", what))


def _attach(program: Program, path: str, attach_type: int, flags: int, what: str) -> Link:
    # Detaching needs both again, whatever the caller has closed by then.
    target = open_cgroup(path, what)
    own = kernel.Fd(os.dup(program.fd), f"program of {what}")
    return CgroupAttachment(what, target, own, attach_type, flags or abi.F_ALLOW_MULTI)


def _explain(what: str, path: str, error: SyscallError) -> str:
    if error.errno in (EBADF, EINVAL):
        version = next((mount.version for mount in cgroups.mounts() if _inside(path, mount.path)), 0)
        if version == 1:
            return f"{what}: {path} belongs to a version 1 hierarchy: programs attach to version 2 (cgroup2) only"
        if not os.path.exists(path + "/cgroup.procs"):
            return f"{what}: {path} is no control group"
        return f"{what}: this kernel has no such hook for control groups"
    return ""


def _inside(path: str, top: str) -> bool:
    return os.path.realpath(path).startswith(os.path.realpath(top) + "/") or os.path.realpath(path) == top
