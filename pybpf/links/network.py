"""Programs at network interfaces and namespaces: XDP, tcx, netkit, netfilter, sk_lookup, flow dissector."""

from __future__ import annotations

import os
from errno import EBUSY, EEXIST, EINVAL, ENOENT, EOPNOTSUPP, ESTALE
from functools import partial

from pybpf import abi, commands, kernel
from pybpf.errors import LinkError
from pybpf.links import netlink
from pybpf.links import order as orders
from pybpf.links.attachment import Attachment
from pybpf.links.base import UNSUPPORTED, Link, described
from pybpf.links.ways import first, ordered
from pybpf.sections import parse_section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pybpf.errors import SyscallError
    from pybpf.program import Program
    from pybpf.sections import Section

# Which XDP hook: of the network stack (every interface has it), of the driver, of the card.
XDP_MODES = {"": 0, "generic": 1 << 1, "driver": 1 << 2, "offload": 1 << 3}
_XDP_IF_NOEXIST = 1 << 0
# Families and hooks of netfilter (include/uapi/linux/netfilter.h).
FAMILIES = {"ipv4": 2, "ipv6": 10}
HOOKS = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}


def by_section(program: Program, section: Section, **options: Any) -> Link:
    """``xdp``, ``tcx/ingress``, ``netkit/peer``, ``netfilter``, ``sk_lookup``, ``flow_dissector``."""
    if section.kind == "xdp":
        return attach_xdp(program, **options)
    if section.kind == "tcx":
        return attach_tcx(program, direction=section.target, **options)
    if section.kind == "netkit":
        return attach_netkit(program, peer=section.target == "peer", **options)
    if section.kind == "netfilter":
        return attach_netfilter(program, **options)
    return attach_netns(program, attach_type=section.attach_type, **options)


# --- XDP ----------------------------------------------------------------------------


def attach_xdp(program: Program, interface: str | int, *, mode: str = "", order: Sequence[str] = orders.XDP) -> Link:
    """Run an XDP program for what ``interface`` (name or number) receives.

    ``mode`` is ``generic``, ``driver`` or ``offload``; else the driver's if it has one.
    By a link (5.9), else by netlink through pyroute2. Raises LinkError.
    """
    what = described(program, f"xdp on {interface}")
    if mode not in XDP_MODES:
        raise LinkError(f"{what}: mode {mode!r} is none of {', '.join(filter(None, XDP_MODES))}", EINVAL)
    index = netlink.interface_index(interface, what)
    flags = XDP_MODES[mode]
    ways: dict[str, Callable[[], Link]] = {
        "bpf link": lambda: Link(what, commands.link_create(program.fd, index, abi.XDP, flags, "", what)),
        "netlink": lambda: XdpAttachment(program, index, flags, what),
    }
    return first(what, ordered(ways, order, what), partial(_explain_xdp, what, mode))


class XdpAttachment(Attachment):
    """An XDP program set by netlink."""

    __slots__ = ("_flags", "_index")

    def __init__(self, program: Program, index: int, flags: int, what: str) -> None:
        super().__init__(what, mechanism="netlink")
        self._index = index
        self._flags = flags
        with netlink.pyroute2(what) as route:
            try:
                self._watch()
                xdp = {"attrs": [("IFLA_XDP_FD", program.fd), ("IFLA_XDP_FLAGS", flags | _XDP_IF_NOEXIST)]}
                route.link("set", index=index, xdp=xdp)
            except Exception as error:
                self._forget()
                raise netlink.refused(error, "RTM_SETLINK", what) from None

    def _undo(self) -> None:
        try:
            netlink.detach_xdp(self._index, self._flags)
        except OSError as error:
            if not netlink.gone(error):
                raise netlink.refused(error, "detach", self.name) from None


def _explain_xdp(what: str, mode: str, error: SyscallError) -> str:
    if error.errno in (EBUSY, EEXIST):
        return f"{what}: the interface has an XDP program already, and takes one only"
    if error.errno == EOPNOTSUPP and mode in ("driver", "offload"):
        return f"{what}: the interface's driver has no XDP hook in mode {mode!r}: try generic"
    return ""


# --- chains -------------------------------------------------------------------------


def attach_tcx(
    program: Program,
    interface: str | int,
    direction: str,
    *,
    before: Link | Program | None = None,
    after: Link | Program | None = None,
    revision: int = 0,
) -> Link:
    """Run a tc program for what ``interface`` receives (``ingress``) or sends (``egress``) (6.6).

    Several programs make a chain: ``before`` or ``after`` says which one this goes
    next to, by its link or itself; else it goes to the end. ``revision`` is that
    of the chain that was seen; ESTALE if it has changed. Raises LinkError.
    """
    types = {"ingress": abi.TCX_INGRESS, "egress": abi.TCX_EGRESS}
    what = described(program, f"tcx {direction} of {interface}")
    if direction not in types:
        raise LinkError(f"{what}: the direction is ingress or egress", EINVAL)
    return _chain(program, interface, types[direction], "tcx", what, before, after, revision)


def attach_netkit(
    program: Program,
    interface: str | int,
    *,
    peer: bool = False,
    before: Link | Program | None = None,
    after: Link | Program | None = None,
    revision: int = 0,
) -> Link:
    """Run a tc program at a netkit device, or at its ``peer`` (6.7); the rest as for ``attach_tcx``."""
    what = described(program, f"netkit {'peer' if peer else 'primary'} {interface}")
    attach_type = abi.NETKIT_PEER if peer else abi.NETKIT_PRIMARY
    return _chain(program, interface, attach_type, "netkit", what, before, after, revision)


def _chain(
    program: Program,
    interface: str | int,
    attach_type: int,
    variant: str,
    what: str,
    before: Link | Program | None,
    after: Link | Program | None,
    revision: int,
) -> Link:
    if before is not None and after is not None:
        raise LinkError(f"{what}: give before or after", EINVAL)
    index = netlink.interface_index(interface, what)
    flags, relative = 0, 0
    anchor = before or after
    if anchor is not None:
        flags = abi.F_BEFORE if before is not None else abi.F_AFTER
        flags |= abi.F_LINK if isinstance(anchor, Link) else 0
        relative = anchor.fd
    try:
        fd = commands.link_create(
            program.fd, index, attach_type, flags, variant, what, relative_fd=relative, expected_revision=revision
        )
    except LinkError as error:
        raise _chain_error(error, variant, what) from None
    return Link(what, fd, mechanism=variant)


def _chain_error(error: LinkError, variant: str, what: str) -> LinkError:
    if error.errno == ESTALE:
        line = "the chain of programs has changed meanwhile: look again"
    elif error.errno == ENOENT:
        line = "the program to go before or after is not in this chain"
    elif error.errno == EEXIST:
        line = "the program is in this chain already"
    elif error.errno in UNSUPPORTED and variant == "tcx":
        line = "this kernel has no tcx (Linux 6.6)"
    elif error.errno in UNSUPPORTED:
        line = "this is no netkit device, or this kernel has none (Linux 6.7)"
    else:
        return error
    return LinkError(f"{what}: {line}", error.errno, str(error))


# --- namespaces and netfilter ---------------------------------------------------------


def attach_netns(
    program: Program, namespace: str | int = "/proc/self/ns/net", *, attach_type: int | None = None
) -> Link:
    """Run an sk_lookup (5.9) or flow_dissector (5.8) program for a network namespace (path or descriptor).

    Raises LinkError.
    """
    if attach_type is None:
        attach_type = parse_section(program.section).attach_type
    what = described(program, f"{program.section} of {namespace}")
    if isinstance(namespace, int):
        return Link(what, commands.link_create(program.fd, namespace, attach_type, 0, "", what))
    try:
        fd = kernel.Fd(os.open(namespace, os.O_RDONLY | os.O_CLOEXEC), f"network namespace {namespace}")
    except OSError as error:
        raise LinkError(f"{what}: {namespace}: {error.strerror}", error.errno or ENOENT) from None
    with fd:
        try:
            return Link(what, commands.link_create(program.fd, fd.fd, attach_type, 0, "", what))
        except LinkError as error:
            if error.errno != EEXIST:
                raise
            line = f"{what}: the namespace has one already, which was not attached by a link"
            raise LinkError(line, EEXIST, str(error)) from None


def attach_netfilter(
    program: Program,
    family: str = "ipv4",
    hook: str = "input",
    *,
    priority: int = 0,
    defragment: bool = False,
) -> Link:
    """Run a netfilter program at a hook of this network namespace (6.4); lower priorities come first.

    ``defragment`` (6.6) puts packets together first, for which the priority must be
    above -400. Raises LinkError.
    """
    what = described(program, f"netfilter {family} {hook}")
    if family not in FAMILIES or hook not in HOOKS:
        raise LinkError(f"{what}: families are {', '.join(FAMILIES)}, hooks {', '.join(HOOKS)}", EINVAL)
    try:
        fd = commands.link_create(
            program.fd,
            0,
            abi.NETFILTER,
            0,
            "netfilter",
            what,
            pf=FAMILIES[family],
            hooknum=HOOKS[hook],
            priority=priority,
            flags=abi.F_NETFILTER_IP_DEFRAG if defragment else 0,
        )
    except LinkError as error:
        if error.errno in (EBUSY, EEXIST):
            line = f"another program has priority {priority} already"
        elif error.errno in UNSUPPORTED:
            line = "this kernel has no netfilter links (Linux 6.4, CONFIG_NETFILTER_BPF_LINK), or not this priority"
        else:
            raise
        raise LinkError(f"{what}: {line}", error.errno, str(error)) from None
    return Link(what, fd, mechanism="netfilter")
