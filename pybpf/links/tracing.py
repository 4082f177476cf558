"""Tracepoints in their three forms, and functions through BTF: fentry, fexit, fmod_ret, LSM."""

from __future__ import annotations

from errno import E2BIG, EBUSY, EINVAL, ENOENT

from pybpf import abi, kernel
from pybpf.errors import LinkError, NotSupported
from pybpf.links.base import Link, described

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybpf.errors import SyscallError
    from pybpf.program import Program
    from pybpf.sections import Section

LSM_LIST = "/sys/kernel/security/lsm"
NO_TRAMPOLINES = (
    "this kernel cannot patch its functions for BPF on this machine "
    "(CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS; arm64 from 6.4 on)"
)


def attach_tracepoint(program: Program, category: str, name: str, *, cookie: int = 0) -> Link:
    """Run a tracepoint program at ``category/name``, on all CPUs and for all processes. Raises LinkError.

    ``cookie`` needs 5.15.
    """
    from pybpf import tracefs
    from pybpf.links.events import attach_event

    what = described(program, f"tp/{category}/{name}")
    # One CPU stands for all: the program runs before perf looks at the event's CPU (kernel/events/core.c).
    from pybpf.commands import perf_event_open

    event = perf_event_open(abi.PERF_TYPE_TRACEPOINT, tracefs.event_id(category, name), -1, 0, what)
    return attach_event(program, event, what, cookie, "tracepoint event")


def attach_raw_tracepoint(program: Program, name: str, *, cookie: int = 0) -> Link:
    """Run a raw_tp program at tracepoint ``name``, which has no category. ``cookie`` needs 6.10. Raises LinkError."""
    what = described(program, f"raw_tp/{name}")
    try:
        return Link(what, kernel.raw_tracepoint_open(name, program.fd, what, cookie), mechanism="raw tracepoint")
    except LinkError as error:
        if error.errno == ENOENT:
            line = f"{what}: this kernel has no raw tracepoint {name!r}"
        elif error.errno == EINVAL and cookie:
            line = f"{what}: cookies of raw tracepoints need Linux 6.10, which this kernel is older than"
        else:
            raise
        raise LinkError(line, error.errno, str(error)) from None


def attach_tracing(program: Program, section: Section, *, cookie: int = 0) -> Link:
    """Run a tp_btf, fentry, fexit, fmod_ret or LSM program at the hook that it was loaded for.

    ``cookie`` needs 5.19 (for tp_btf 6.10). Raises LinkError; NotSupported for an
    LSM program where BPF is not among the active security modules, since an
    older kernel attaches it there and never runs it.
    """
    what = described(program, section.name)
    mechanism = "raw tracepoint" if section.kind == "tp_btf" else "trampoline"
    if section.kind == "lsm":
        check_lsm(what)
    try:
        if cookie:
            from pybpf import commands

            # Target 0: the hook that it was loaded for.
            fd = commands.link_create(program.fd, 0, section.attach_type, 0, "tracing", what, cookie=cookie)
            return Link(what, fd, mechanism=mechanism)
        # BPF_LINK_CREATE does the same, but only since 5.19.
        return Link(what, kernel.raw_tracepoint_open("", program.fd, what), mechanism=mechanism)
    except LinkError as error:
        line = _reason(section, error, cookie)
        if not line:
            raise
        raise LinkError(f"{what}: {line}", error.errno, str(error)) from None


def _reason(section: Section, error: SyscallError, cookie: int) -> str:
    if error.errno == abi.ENOTSUPP:
        return f"{NO_TRAMPOLINES}: use kprobe/kretprobe"
    if error.errno == EBUSY:
        return "the function is being patched by somebody else (livepatch, or another tracer's fmod_ret)"
    if error.errno == E2BIG:
        return f"the function {section.target} has as many programs as the kernel allows (38)"
    if error.errno == EINVAL and cookie:
        return "cookies need Linux 5.19 (tp_btf: 6.10), which this kernel may be older than"
    return ""


def active_lsms(path: str = "") -> list[str] | None:
    """Names of the active security modules; None where securityfs does not tell."""
    try:
        with open(path or LSM_LIST) as file:
            return file.read().strip().split(",")
    except OSError:
        return None


def check_lsm(what: str) -> None:
    """Raises NotSupported if BPF programs are known not to run at security hooks."""
    active = active_lsms()
    if active is not None and "bpf" not in active:
        raise NotSupported(
            f"{what}: the BPF security module is not active, its programs would never run: boot with "
            f"lsm={','.join([*active, 'bpf'])}",
            ENOENT,
        )
