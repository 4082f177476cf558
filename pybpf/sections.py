"""What a section's name says about its program: type, attach type, hook (libbpf's spelling)."""

from __future__ import annotations

from pybpf import abi
from pybpf.errors import ObjectError

# How the hook's name becomes a BTF type of the kernel: a prefix, and whether it is a typedef (else a function).
_TRACEPOINT_BTF = ("btf_trace_", True)
_FUNCTION_BTF = ("", False)
_LSM_BTF = ("bpf_lsm_", False)


class Section:
    """A program section's meaning.

    ``type`` and ``attach_type`` are the kernel's numbers, ``flags`` load flags,
    ``kind`` the canonical first part (``tp`` for ``tracepoint``), ``target`` what
    follows it, ``btf`` how to look ``target`` up in the kernel's BTF or None.
    """

    __slots__ = ("attach_type", "btf", "flags", "kind", "name", "target", "type")

    def __init__(
        self, name: str, kind: str, type: int, attach_type: int, flags: int, btf: tuple[str, bool] | None, target: str
    ) -> None:
        self.name = name
        self.kind = kind
        self.type = type
        self.attach_type = attach_type
        self.flags = flags
        self.btf = btf
        self.target = target


# first part: (canonical kind, program type, expected attach type, load flags, BTF lookup of the rest)
_TABLE: dict[str, tuple[str, int, int, int, tuple[str, bool] | None]] = {
    "tp_btf": ("tp_btf", abi.PROG_TYPE_TRACING, abi.TRACE_RAW_TP, 0, _TRACEPOINT_BTF),
    "fentry": ("fentry", abi.PROG_TYPE_TRACING, abi.TRACE_FENTRY, 0, _FUNCTION_BTF),
    "fexit": ("fexit", abi.PROG_TYPE_TRACING, abi.TRACE_FEXIT, 0, _FUNCTION_BTF),
    "fmod_ret": ("fmod_ret", abi.PROG_TYPE_TRACING, abi.MODIFY_RETURN, 0, _FUNCTION_BTF),
    "fentry.s": ("fentry", abi.PROG_TYPE_TRACING, abi.TRACE_FENTRY, abi.F_SLEEPABLE, _FUNCTION_BTF),
    "fexit.s": ("fexit", abi.PROG_TYPE_TRACING, abi.TRACE_FEXIT, abi.F_SLEEPABLE, _FUNCTION_BTF),
    "fmod_ret.s": ("fmod_ret", abi.PROG_TYPE_TRACING, abi.MODIFY_RETURN, abi.F_SLEEPABLE, _FUNCTION_BTF),
    "lsm": ("lsm", abi.PROG_TYPE_LSM, abi.LSM_MAC, 0, _LSM_BTF),
    "lsm.s": ("lsm", abi.PROG_TYPE_LSM, abi.LSM_MAC, abi.F_SLEEPABLE, _LSM_BTF),
    "raw_tp": ("raw_tp", abi.PROG_TYPE_RAW_TRACEPOINT, 0, 0, None),
    "raw_tracepoint": ("raw_tp", abi.PROG_TYPE_RAW_TRACEPOINT, 0, 0, None),
    "tp": ("tp", abi.PROG_TYPE_TRACEPOINT, 0, 0, None),
    "tracepoint": ("tp", abi.PROG_TYPE_TRACEPOINT, 0, 0, None),
    "kprobe": ("kprobe", abi.PROG_TYPE_KPROBE, 0, 0, None),
    "kretprobe": ("kretprobe", abi.PROG_TYPE_KPROBE, 0, 0, None),
    "perf_event": ("perf_event", abi.PROG_TYPE_PERF_EVENT, 0, 0, None),
    "socket": ("socket", abi.PROG_TYPE_SOCKET_FILTER, 0, 0, None),
    "xdp": ("xdp", abi.PROG_TYPE_XDP, 0, 0, None),
    "tc": ("tc", abi.PROG_TYPE_SCHED_CLS, 0, 0, None),
    "classifier": ("tc", abi.PROG_TYPE_SCHED_CLS, 0, 0, None),
    "action": ("action", abi.PROG_TYPE_SCHED_ACT, 0, 0, None),
    "syscall": ("syscall", abi.PROG_TYPE_SYSCALL, 0, abi.F_SLEEPABLE, None),
}


def parse_section(name: str) -> Section:
    """The meaning of section ``name`` such as ``tp_btf/sys_exit``; a leading ``?`` (optional program) is allowed.

    Raises ObjectError for a section that is not known or lacks its hook.
    """
    first, _, target = name.lstrip("?").partition("/")
    entry = _TABLE.get(first)
    if entry is None:
        raise ObjectError(f"section {name!r} is no known kind of program; known are: {', '.join(sorted(_TABLE))}")
    kind, type, attach_type, flags, btf = entry
    if btf is not None and not target:
        raise ObjectError(f"section {name!r} must name its hook, as in {first}/NAME")
    return Section(name, kind, type, attach_type, flags, btf, target)
