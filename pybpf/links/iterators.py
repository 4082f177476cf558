"""Iterators: a program is run for each task, map element, socket ..., and what it prints is read as a file."""

from __future__ import annotations

import os
from errno import E2BIG, EAGAIN, EINTR, EINVAL
from struct import pack

from pybpf import abi, commands, kernel
from pybpf.errors import LinkError
from pybpf.links.base import Link, described

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pybpf.maps import Map
    from pybpf.program import Program
    from pybpf.sections import Section

_CHUNK = 1 << 16
_ORDERS = {"self": 1, "descendants": 2, "post-order": 3, "ancestors": 4}


class IterLink(Link):
    """An iterator program with its target. Each ``open``, ``read`` or walk of ``lines`` runs it anew."""

    __slots__ = ()

    def open(self) -> kernel.Fd:
        """A descriptor to read one walk from; the caller closes it. Raises LinkError."""
        return commands.iter_create(self._link_fd("read"), self.name)

    def chunks(self) -> Iterator[bytes]:
        """One walk, in pieces as they come. Raises LinkError."""
        with self.open() as fd:
            while True:
                try:
                    piece = os.read(fd.fd, _CHUNK)
                except OSError as error:
                    # The kernel stops a long walk that found nothing to show, to be asked again.
                    if error.errno in (EAGAIN, EINTR):
                        continue
                    raise LinkError(f"{self.name}: read: {error.strerror}", error.errno or EINVAL) from None
                if not piece:
                    return
                yield piece

    def read(self) -> bytes:
        """One whole walk. Raises LinkError."""
        return b"".join(self.chunks())

    def lines(self) -> Iterator[str]:
        """One walk, line by line. Raises LinkError."""
        rest = b""
        for piece in self.chunks():
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")
        if rest:
            yield rest.decode(errors="replace")


def by_section(program: Program, section: Section, **options: Any) -> Link:
    """``iter/TARGET``: the target is known since the load."""
    return attach_iter(program, **options)


def attach_iter(
    program: Program,
    *,
    map: Map | None = None,
    tid: int = 0,
    pid: int = 0,
    pidfd: int = -1,
    cgroup: str = "",
    walk: str = "descendants",
) -> IterLink:
    """Make an iterator of ``program``, over everything or over what is given.

    ``map`` is the map to go through (``bpf_map_elem``; 5.8); ``tid``, ``pid`` or ``pidfd``
    limit ``task`` iterators to a thread or a process (6.1); ``cgroup`` is a control
    group's path, whose ``walk`` is ``self``, ``descendants``, ``post-order`` or
    ``ancestors`` (6.1). Raises LinkError.
    """
    what = described(program)
    if sum((map is not None, bool(tid), bool(pid), pidfd >= 0, bool(cgroup))) > 1:
        raise LinkError(f"{what}: give one of map, tid, pid, pidfd and cgroup", EINVAL)
    group: kernel.Fd | None = None
    info = b""
    try:
        if map is not None:
            info = pack("=i", map.fd)
        elif tid or pid or pidfd >= 0:
            info = pack("=III", tid, pid, max(pidfd, 0))
        elif cgroup:
            from pybpf.links.cgroup import open_cgroup

            if walk not in _ORDERS:
                raise LinkError(f"{what}: walk {walk!r} is none of {', '.join(_ORDERS)}", EINVAL)
            group = open_cgroup(cgroup, what)
            info = pack("=IIQ", _ORDERS[walk], group.fd, 0)
        raw = kernel.buffer(info)
        try:
            fd = commands.link_create(
                program.fd, 0, abi.TRACE_ITER, 0, "iter", what, iter_info=raw if info else 0, iter_info_len=len(info)
            )
        except LinkError as error:
            # E2BIG: the kernel knows less of a target than was said.
            if error.errno in (EINVAL, E2BIG) and info:
                reason = "this iterator takes no such target, or this kernel is older than 6.1"
            elif error.errno == EINVAL:
                reason = "the iterator may need a target (map=, cgroup=)"
            else:
                raise
            raise LinkError(f"{what}: {reason}", EINVAL, str(error)) from None
        return IterLink(what, fd)
    finally:
        if group is not None:
            group.close()
