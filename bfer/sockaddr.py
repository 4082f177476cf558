"""struct sockaddr by family: members as Tracee names them, all of them text."""

from __future__ import annotations

from struct import unpack_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.names import Names

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_ALG, AF_VSOCK = 1, 2, 10, 16, 17, 38, 40


_UNIX_PATH = 108


def decode(data: bytes, names: Names) -> dict[str, str | bytes]:
    """The members of the address; what is too short for its family has the family alone."""
    if len(data) < 2:
        return {}
    (family,) = unpack_from("=H", data)
    members: dict[str, str | bytes] = {"sa_family": names.text("af", family) or str(family)}
    make = _FAMILIES.get(family)
    if make is not None and len(data) >= make[0]:
        members.update(make[1](data))
    return members


def _inet(data: bytes) -> dict[str, str | bytes]:
    (port,) = unpack_from(">H", data, 2)
    return {"sin_addr": address4(data, 4), "sin_port": str(port)}


def _inet6(data: bytes) -> dict[str, str | bytes]:
    port, flow = unpack_from(">HI", data, 2)
    (scope,) = unpack_from("=I", data, 24)
    return {
        "sin6_addr": address6(data, 8),
        "sin6_port": str(port),
        "sin6_flowinfo": str(flow),
        "sin6_scopeid": str(scope),
    }


def address4(data: bytes, at: int = 0) -> str:
    """The IPv4 address that begins at ``at``."""
    return ".".join(map(str, data[at : at + 4]))


def address6(data: bytes, at: int = 0) -> str:
    """The IPv6 address that begins at ``at``, as RFC 5952 writes it."""
    data = data[at : at + 16]
    if data[:12] == b"\0" * 10 + b"\xff\xff":
        return "::ffff:" + ".".join(map(str, data[12:]))
    groups = [f"{group:x}" for group in unpack_from(">8H", data)]
    best = (0, 0)
    for start in range(8):
        end = start
        while end < 8 and groups[end] == "0":
            end += 1
        if end - start > max(best[1] - best[0], 1):
            best = (start, end)
    if best == (0, 0):
        return ":".join(groups)
    return ":".join(groups[: best[0]]) + "::" + ":".join(groups[best[1] :])


def short(data: bytes) -> str:
    """Address and port of an Internet address, in one word; any other in hex."""
    family = unpack_from("=H", data)[0] if len(data) >= 2 else 0
    if family == AF_INET and len(data) >= 8:
        return f"{address4(data, 4)}:{unpack_from('>H', data, 2)[0]}"
    if family == AF_INET6 and len(data) >= 24:
        return f"[{address6(data, 8)}]:{unpack_from('>H', data, 2)[0]}"
    return f"0x{data.hex()}"


def _unix(data: bytes) -> dict[str, str | bytes]:
    path = data[2 : 2 + _UNIX_PATH]
    if path[:1] == b"\0":  # the abstract name space: all bytes count
        return {"sun_path": b"@" + path[1:]}
    return {"sun_path": path.partition(b"\0")[0]}


def _netlink(data: bytes) -> dict[str, str | bytes]:
    pid, groups = unpack_from("=II", data, 4)
    return {"nl_pid": str(pid), "nl_groups": f"{groups:#x}"}


def _packet(data: bytes) -> dict[str, str | bytes]:
    (protocol,) = unpack_from(">H", data, 2)
    (index,) = unpack_from("=i", data, 4)
    return {"sll_protocol": f"{protocol:#x}", "sll_ifindex": str(index), "sll_addr": data[12 : 12 + data[11]].hex(":")}


def _alg(data: bytes) -> dict[str, str | bytes]:
    return {"salg_type": data[2:16].partition(b"\0")[0], "salg_name": data[24:88].partition(b"\0")[0]}


def _vsock(data: bytes) -> dict[str, str | bytes]:
    port, cid = unpack_from("=II", data, 4)
    return {"svm_cid": str(cid), "svm_port": str(port)}


# Bytes that there must be, and what to make of them.
_FAMILIES = {
    AF_UNIX: (2, _unix),
    AF_INET: (8, _inet),
    AF_INET6: (28, _inet6),
    AF_NETLINK: (12, _netlink),
    AF_PACKET: (12, _packet),
    AF_ALG: (88, _alg),
    AF_VSOCK: (12, _vsock),
}
