"""The little of rtnetlink that detaching needs; it runs where no package can be imported any more.

Attaching by netlink goes through pyroute2. What is here is used by a process that
cleans up after another, and by ``close``, which must not fail for want of a package.
Formats: include/uapi/linux/{netlink,rtnetlink,pkt_sched,if_link}.h.
"""

from __future__ import annotations

import socket
from errno import ENODEV, ENOENT
from struct import pack, unpack_from

from pybpf import kernel
from pybpf.errors import LinkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_REQUEST, _ACK, _DUMP = 1, 4, 0x300
_ERROR, _DONE = 2, 3
_RTM_SETLINK, _RTM_DELQDISC = 19, 37
_RTM_NEWTFILTER, _RTM_DELTFILTER, _RTM_GETTFILTER = 44, 45, 46
_IFLA_XDP, _IFLA_XDP_FD, _IFLA_XDP_FLAGS, _NESTED = 43, 1, 3, 0x8000
_TCA_KIND, _TCA_OPTIONS, _TCA_BPF_ID = 1, 2, 11
_ETH_P_ALL = 3

CLSACT = 0xFFFF0000
PARENTS = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
_CLSACT_PARENT = 0xFFFFFFF1


def attribute(kind: int, data: bytes) -> bytes:
    return pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """Attributes of one level by kind."""
    found = {}
    at = 0
    while at + 4 <= len(data):
        size, kind = unpack_from("=HH", data, at)
        if size < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + size]
        at += size + 3 & ~3
    return found


def request(type: int, body: bytes, flags: int = _ACK) -> list[tuple[int, bytes]]:
    """Send one message; ``(type, body)`` of the answers. Raises OSError with what the kernel answered."""
    answers: list[tuple[int, bytes]] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as netlink:
        netlink.sendto(pack("=IHHII", 16 + len(body), type, flags | _REQUEST, 1, 0) + body, (0, 0))
        while True:
            data = netlink.recv(1 << 16)
            at = 0
            while at + 16 <= len(data):
                size, kind = unpack_from("=IH", data, at)
                part = data[at + 16 : at + size]
                if kind == _ERROR:
                    (error,) = unpack_from("=i", part)
                    if error:
                        raise OSError(-error, "netlink")
                    return answers
                if kind == _DONE:
                    return answers
                answers.append((kind, part))
                at += size + 3 & ~3


def _tcmsg(index: int, handle: int, parent: int, info: int) -> bytes:
    return pack("=BxxxiIII", 0, index, handle, parent, info)


def filters(index: int, parent: int) -> list[tuple[int, int, int]]:
    """bpf filters of an interface's hook: ``(handle, priority, program id)``; other filters have program id 0."""
    found = []
    for kind, body in request(_RTM_GETTFILTER, _tcmsg(index, 0, parent, 0), _DUMP):
        if kind != _RTM_NEWTFILTER:
            continue
        _, handle, _, info = unpack_from("=iIII", body, 4)
        options = attributes(attributes(body[20:]).get(_TCA_OPTIONS, b""))
        # Each chain of filters also has a head without options.
        if handle:
            number = options.get(_TCA_BPF_ID, b"")
            found.append((handle, info >> 16, unpack_from("=I", number)[0] if len(number) == 4 else 0))
    return found


def delete_filter(index: int, parent: int, handle: int, priority: int) -> None:
    """Remove a bpf filter. Raises OSError."""
    info = priority << 16 | socket.htons(_ETH_P_ALL)
    request(_RTM_DELTFILTER, _tcmsg(index, handle, parent, info) + attribute(_TCA_KIND, b"bpf\0"))


def delete_clsact(index: int) -> None:
    """Remove the clsact qdisc with all its filters. Raises OSError."""
    request(_RTM_DELQDISC, _tcmsg(index, CLSACT, _CLSACT_PARENT, 0) + attribute(_TCA_KIND, b"clsact\0"))


def detach_xdp(index: int, flags: int) -> None:
    """Take the XDP program off an interface. Raises OSError."""
    xdp = attribute(_IFLA_XDP_FD, pack("=i", -1)) + attribute(_IFLA_XDP_FLAGS, pack("=I", flags))
    request(_RTM_SETLINK, pack("=BxHiII", 0, 0, index, 0, 0) + attribute(_IFLA_XDP | _NESTED, xdp))


def gone(error: OSError) -> bool:
    """Whether what was to be removed was not there any more, or the interface itself."""
    return error.errno in (ENOENT, ENODEV)


def interface_index(interface: str | int, what: str) -> int:
    """The number of an interface in this network namespace. Raises LinkError."""
    if isinstance(interface, int):
        return interface
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        raise LinkError(f"{what}: there is no network interface {interface!r}", ENODEV) from None


def pyroute2(what: str) -> Any:
    """An open ``pyroute2.IPRoute``; LinkError that says how to get the package if it is missing."""
    try:
        from pyroute2 import IPRoute
    except ImportError as error:
        remedy = "pip install pyroute2" if error.name == "pyroute2" else f"which this Python cannot import: {error}"
        raise LinkError(f"{what}: this way of attaching needs the package pyroute2: {remedy}", ENOENT) from None
    return IPRoute()


def refused(error: Exception, command: str, what: str) -> LinkError:
    """The LinkError for what pyroute2 raised (its NetlinkError has the errno as ``code``)."""
    code = getattr(error, "code", None) or getattr(error, "errno", None)
    if not isinstance(code, int):
        raise error
    failure = kernel.failure(LinkError, command, what, abs(code))
    assert isinstance(failure, LinkError)
    return failure
