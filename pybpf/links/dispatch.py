"""From a section's name to the function that attaches."""

from __future__ import annotations

from errno import EINVAL

from pybpf.errors import LinkError
from pybpf.links import tracing
from pybpf.links.base import described
from pybpf.sections import parse_section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pybpf.links.base import Link
    from pybpf.program import Program
    from pybpf.sections import Section

# Kind of section: module whose by_section() attaches it.
_MODULES = {
    "kprobe": "kprobes",
    "kretprobe": "kprobes",
    "kprobe.multi": "kprobes",
    "kretprobe.multi": "kprobes",
    "kprobe.session": "kprobes",
    "ksyscall": "kprobes",
    "kretsyscall": "kprobes",
    "uprobe": "uprobes",
    "uretprobe": "uprobes",
    "uprobe.multi": "uprobes",
    "uretprobe.multi": "uprobes",
    "uprobe.session": "uprobes",
    "usdt": "usdt",
    "iter": "iterators",
    "perf_event": "perf",
    "xdp": "network",
    "tcx": "network",
    "netkit": "network",
    "netfilter": "network",
    "sk_lookup": "network",
    "flow_dissector": "network",
    "tc": "traffic",
    "cgroup": "cgroup",
    "sockops": "cgroup",
    "lsm_cgroup": "cgroup",
    "sk_msg": "sockets",
    "sk_skb": "sockets",
    "socket": "sockets",
    "sk_reuseport": "sockets",
    "freplace": "freplace",
}


def attach(program: Program, section: str | None = None, **options: Any) -> Link:
    """Attach ``program`` to the hook that ``section`` (default: its own) names.

    ``options`` are what the section cannot say, by the names that the
    ``attach_*`` function of its kind gives them (``pid``, ``interface``, ``cookie``
    ...). ``tp_btf``, ``fentry``, ``fexit``, ``fmod_ret`` and ``lsm`` programs know
    their hook since they were loaded; other programs can be attached anywhere,
    and more than once. Raises LinkError (NotSupported for a security module that is
    not active), or ObjectError for a section that is none.
    """
    parsed = parse_section(section if section is not None else program.section)
    try:
        if parsed.kind == "tp":
            return _tracepoint(program, parsed, options)
        if parsed.kind == "raw_tp":
            if not parsed.target:
                raise _misnamed(program, parsed, "a tracepoint, as in raw_tp/NAME")
            return tracing.attach_raw_tracepoint(program, parsed.target, **options)
        if parsed.btf is not None and parsed.kind not in _MODULES:
            return tracing.attach_tracing(program, parsed, **options)
        module = _MODULES.get(parsed.kind)
        if module is None:
            what = described(program, parsed.name)
            raise LinkError(f"{what}: programs of this kind cannot be attached by their section", EINVAL)
        from importlib import import_module

        link: Link = import_module(f"pybpf.links.{module}").by_section(program, parsed, **options)
        return link
    except TypeError as error:
        # A wrong name among the options, or a missing one: Python's words say which.
        if "argument" not in str(error):
            raise
        raise LinkError(f"{described(program, parsed.name)}: {error}", EINVAL) from None


def _tracepoint(program: Program, section: Section, options: dict[str, Any]) -> Link:
    category, _, name = section.target.partition("/")
    if not category or not name or "/" in name or ".." in section.target:
        raise _misnamed(program, section, "a tracepoint, as in tp/CATEGORY/NAME")
    return tracing.attach_tracepoint(program, category, name, **options)


def _misnamed(program: Program, section: Section, what: str) -> LinkError:
    return LinkError(f"{described(program, section.name)}: the section must name {what}", EINVAL)
