"""Programs at sockets: those in a sockmap, filters of one, and groups that share a port."""

from __future__ import annotations

import os
from errno import EINVAL, ENOENT
from functools import partial
from struct import pack

from pybpf import commands, kernel
from pybpf.errors import LinkError
from pybpf.links import order as orders
from pybpf.links.attachment import Attachment
from pybpf.links.base import Link, described
from pybpf.links.ways import first, ordered
from pybpf.sections import parse_section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from socket import socket as Socket
    from typing import Any

    from pybpf.maps import Map
    from pybpf.program import Program
    from pybpf.sections import Section

_SO_ATTACH_BPF, _SO_DETACH_BPF, _SO_ATTACH_REUSEPORT_EBPF, _SO_DETACH_REUSEPORT_BPF = 50, 27, 52, 68


def by_section(program: Program, section: Section, **options: Any) -> Link:
    """``sk_skb/stream_verdict``, ``sk_msg``, ``socket``, ``sk_reuseport``; map or socket are options."""
    if section.kind == "socket":
        return attach_socket(program, **options)
    if section.kind == "sk_reuseport":
        return attach_reuseport(program, **options)
    options.setdefault("attach_type", section.attach_type)
    return attach_sockmap(program, **options)


class SockmapAttachment(Attachment):
    """A program attached to a sockmap the old way: it stays until this detaches it, or the map is freed."""

    __slots__ = ("_program", "_type")

    def __init__(self, name: str, map: kernel.Fd, program: kernel.Fd, attach_type: int) -> None:
        super().__init__(name, map, program, mechanism="attach")
        self._program = program
        self._type = attach_type

    def _undo(self) -> None:
        try:
            commands.prog_detach(self.fd, self._program.fd, self._type, what=self.name)
        except LinkError as error:
            if error.errno != ENOENT:
                raise


def attach_sockmap(
    program: Program, map: Map, *, attach_type: int | None = None, order: Sequence[str] = orders.SOCKMAP
) -> Link:
    """Run an sk_skb or sk_msg program for all sockets in ``map`` (a sockmap or sockhash).

    By a link (6.10), else by BPF_PROG_ATTACH. Raises LinkError.
    """
    if attach_type is None:
        attach_type = parse_section(program.section).attach_type
    what = described(program, f"{program.section} of {map}")
    ways: dict[str, Callable[[], Link]] = {
        "bpf link": lambda: Link(what, kernel.link_create(program.fd, map.fd, attach_type, what)),
        "attach": partial(_attach, program, map, attach_type, what),
    }
    return first(what, ordered(ways, order, what))


def _attach(program: Program, map: Map, attach_type: int, what: str) -> Link:
    commands.prog_attach(map.fd, program.fd, attach_type, what=what)
    own = kernel.Fd(os.dup(program.fd), f"program of {what}")
    return SockmapAttachment(what, kernel.Fd(os.dup(map.fd), f"map of {what}"), own, attach_type)


class SocketAttachment(Attachment):
    """A program on a socket, which need not be open any more when this is closed."""

    __slots__ = ("_option", "_socket")

    def __init__(self, name: str, socket: Socket, option: int) -> None:
        super().__init__(name, mechanism="setsockopt")
        self._socket: Socket | None = socket
        self._option = option

    def _undo(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None and socket.fileno() >= 0:
            from socket import SOL_SOCKET

            try:
                socket.setsockopt(SOL_SOCKET, self._option, 0)
            except OSError as error:
                if error.errno != ENOENT:
                    raise LinkError(f"{self.name}: detach: {error.strerror}", error.errno or EINVAL) from None


def attach_socket(program: Program, socket: Socket) -> Link:
    """Filter what ``socket`` receives by a socket filter (SO_ATTACH_BPF, 3.19). Raises LinkError."""
    return _option(program, socket, _SO_ATTACH_BPF, _SO_DETACH_BPF, "socket filter")


def attach_reuseport(program: Program, socket: Socket) -> Link:
    """Let a program choose among the sockets that share ``socket``'s port (SO_ATTACH_REUSEPORT_EBPF, 4.5).

    Detaching needs 5.3. Raises LinkError.
    """
    return _option(program, socket, _SO_ATTACH_REUSEPORT_EBPF, _SO_DETACH_REUSEPORT_BPF, "reuseport group")


def _option(program: Program, socket: Socket, attach: int, detach: int, where: str) -> Link:
    from socket import SOL_SOCKET

    what = described(program, where)
    try:
        socket.setsockopt(SOL_SOCKET, attach, pack("=i", program.fd))
    except OSError as error:
        raise kernel.failure(LinkError, "setsockopt", what, error.errno or EINVAL) from None
    return SocketAttachment(what, socket, detach)
