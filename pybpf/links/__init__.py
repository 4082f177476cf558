"""Attaching programs: links, and what a section's name says about where to.

``attach(program)`` does what the section says; the ``attach_*`` functions take
what a section cannot say (a process, an interface, a cookie). Each returns a
``Link``; closing it detaches. docs/links.md tells which mechanisms there are.
"""

from __future__ import annotations

from pybpf.links.base import Attempt, Link
from pybpf.links.dispatch import attach
from pybpf.links.tracing import attach_raw_tracepoint, attach_tracepoint, attach_tracing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pybpf.links.cgroup import attach_cgroup
    from pybpf.links.freplace import attach_freplace
    from pybpf.links.info import LinkInfo, open_by_id, open_pinned
    from pybpf.links.iterators import IterLink, attach_iter
    from pybpf.links.kprobes import attach_kprobe, attach_kprobe_multi, attach_ksyscall
    from pybpf.links.network import attach_netfilter, attach_netkit, attach_netns, attach_tcx, attach_xdp
    from pybpf.links.perf import attach_perf_event
    from pybpf.links.several import attach_all, attach_first
    from pybpf.links.sockets import attach_reuseport, attach_socket, attach_sockmap
    from pybpf.links.traffic import attach_tc
    from pybpf.links.uprobes import attach_uprobe, attach_uprobe_multi
    from pybpf.links.usdt import attach_usdt
    from pybpf.links.ways import LinkGroup

# Where the rest lives: imported when it is asked for, so that a tracer that needs one kind pays for one.
_LAZY = {
    "IterLink": "iterators",
    "LinkGroup": "ways",
    "LinkInfo": "info",
    "attach_all": "several",
    "attach_cgroup": "cgroup",
    "attach_first": "several",
    "attach_freplace": "freplace",
    "attach_iter": "iterators",
    "attach_kprobe": "kprobes",
    "attach_kprobe_multi": "kprobes",
    "attach_ksyscall": "kprobes",
    "attach_netfilter": "network",
    "attach_netkit": "network",
    "attach_netns": "network",
    "attach_perf_event": "perf",
    "attach_reuseport": "sockets",
    "attach_socket": "sockets",
    "attach_sockmap": "sockets",
    "attach_tc": "traffic",
    "attach_tcx": "network",
    "attach_uprobe": "uprobes",
    "attach_uprobe_multi": "uprobes",
    "attach_usdt": "usdt",
    "attach_xdp": "network",
    "open_by_id": "info",
    "open_pinned": "info",
}

__all__ = [
    "Attempt",
    "IterLink",
    "Link",
    "LinkGroup",
    "LinkInfo",
    "attach",
    "attach_all",
    "attach_cgroup",
    "attach_first",
    "attach_freplace",
    "attach_iter",
    "attach_kprobe",
    "attach_kprobe_multi",
    "attach_ksyscall",
    "attach_netfilter",
    "attach_netkit",
    "attach_netns",
    "attach_perf_event",
    "attach_raw_tracepoint",
    "attach_reuseport",
    "attach_socket",
    "attach_sockmap",
    "attach_tc",
    "attach_tcx",
    "attach_tracepoint",
    "attach_tracing",
    "attach_uprobe",
    "attach_uprobe_multi",
    "attach_usdt",
    "attach_xdp",
    "open_by_id",
    "open_pinned",
]


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{module}"), name)
