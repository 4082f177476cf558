"""What the system says of itself: privileges, locks, configuration, file systems. Reads files; needs no privileges."""

from __future__ import annotations

import os

from pybpf import privilege
from pybpf.errors import Error
from pybpf.features.probes import NO, UNKNOWN, YES, Finding, settings

_NET = "/proc/sys/net/core"
_KERNEL = "/proc/sys/kernel"


def findings() -> list[Finding]:
    """Every fact that decides what bpf() may do: YES is in order, NO stands in the way or is missing."""
    return [
        _privileges(),
        _user_namespace(),
        _unprivileged(),
        _lockdown(),
        _seccomp(),
        _security_modules(),
        _configuration(),
        _jit(),
        _hardening(),
        _btf(),
        *_file_systems(),
        _perf_events(),
        _locked_memory(),
    ]


def _read(path: str) -> str | None:
    try:
        with open(path, errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def _privileges() -> Finding:
    held = privilege.held()
    needed = "CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_ADMIN"
    missing = [name for name in needed.split(", ") if name not in held]
    if "CAP_SYS_ADMIN" in held or not missing[:2]:
        without = [name for name in missing if name in ("CAP_NET_ADMIN", "CAP_SYS_ADMIN")]
        note = f"without {', '.join(without)}: no programs for the network, no objects of others" if without else ""
        return Finding("privileges", YES, reason=note)
    who = "root without capabilities" if os.geteuid() == 0 else f"uid {os.geteuid()}"
    return Finding("privileges", NO, reason=f"{who}: {', '.join(missing)} missing", remedy="run as root")


def _user_namespace() -> Finding:
    if privilege.in_user_namespace():
        reason, remedy = "root of a user namespace only", "run it as root of the machine itself"
        return Finding("first user namespace", NO, reason=reason, remedy=remedy)
    return Finding("first user namespace", YES)


def _unprivileged() -> Finding:
    value = _read(f"{_KERNEL}/unprivileged_bpf_disabled")
    meaning = {"0": "anybody may load some programs", "1": "until reboot", "2": "root can change it"}
    if value is None:
        return Finding("unprivileged bpf() is off", UNKNOWN, reason=f"{_KERNEL}/unprivileged_bpf_disabled is missing")
    note = f"kernel.unprivileged_bpf_disabled = {value}: {meaning.get(value, '')}"
    return Finding("unprivileged bpf() is off", NO if value == "0" else YES, reason=note)


def _lockdown() -> Finding:
    mode = privilege.lockdown()
    if not mode:
        if os.path.ismount("/sys/kernel/security"):
            return Finding("no lockdown", YES, reason="not built in")
        return Finding("no lockdown", UNKNOWN, reason="securityfs tells, if mounted", remedy=_mount("securityfs"))
    if mode == "none":
        return Finding("no lockdown", YES)
    what = "no writes to user memory" if mode == "integrity" else "no reading of kernel memory, no kprobes"
    return Finding("no lockdown", NO, reason=f"mode {mode}: {what}", remedy="boot with lockdown=none")


def _seccomp() -> Finding:
    mode = privilege.status("Seccomp")
    if not mode:
        return Finding(
            "no seccomp filter", UNKNOWN, reason="/proc/self/status does not tell: CONFIG_SECCOMP is not set"
        )
    if mode == "0":
        return Finding("no seccomp filter", YES)
    return Finding("no seccomp filter", NO, reason="a filter may refuse bpf()", remedy="run outside the container")


def _security_modules() -> Finding:
    active = _read("/sys/kernel/security/lsm")
    if active is None:
        reason = "/sys/kernel/security/lsm cannot be read"
        return Finding("bpf among security modules", UNKNOWN, reason=reason, remedy=_mount("securityfs"))
    if "bpf" in active.split(","):
        return Finding("bpf among security modules", YES, reason=active)
    return Finding("bpf among security modules", NO, reason=f"active: {active}", remedy=f"boot with lsm={active},bpf")


def _configuration() -> Finding:
    known = settings()
    if known is None:
        reason = f"neither /boot/config-{os.uname().release} nor /proc/config.gz can be read"
        return Finding("configuration known", NO, reason=reason, remedy="a kernel with CONFIG_IKCONFIG_PROC")
    return Finding("configuration known", YES, reason=f"{len(known)} of the options that matter are set")


def _jit() -> Finding:
    value = _read(f"{_NET}/bpf_jit_enable")
    if value is None:
        return Finding("JIT compiler", UNKNOWN, reason=f"{_NET}/bpf_jit_enable cannot be read")
    if value == "0":
        return Finding("JIT compiler", NO, reason="programs are interpreted", remedy="sysctl net.core.bpf_jit_enable=1")
    return Finding("JIT compiler", YES)


def _hardening() -> Finding:
    value = _read(f"{_NET}/bpf_jit_harden")
    if value is None:
        return Finding("JIT not hardened", UNKNOWN, reason=f"{_NET}/bpf_jit_harden cannot be read")
    if value == "0":
        return Finding("JIT not hardened", YES)
    who = "of all users" if value == "2" else "of others than root"
    return Finding("JIT not hardened", NO, reason=f"constants in programs {who} are blinded, which makes them slower")


def _btf() -> Finding:
    path = "/sys/kernel/btf/vmlinux"
    try:
        size = os.stat(path).st_size
    except OSError:
        remedy = "a kernel with CONFIG_DEBUG_INFO_BTF, or BTF from a file (--btf)"
        return Finding("BTF of the kernel", NO, "5.4", f"there is no {path}", remedy)
    return Finding("BTF of the kernel", YES, "5.4", f"{size} bytes")


def _mount(kind: str) -> str:
    places = {
        "tracefs": "/sys/kernel/tracing",
        "securityfs": "/sys/kernel/security",
        "bpf": "/sys/fs/bpf",
        "cgroup2": "/sys/fs/cgroup",
    }
    return f"mount -t {kind} {kind} {places[kind]}"


def _file_systems() -> list[Finding]:
    uses = {
        "tracefs": "tracepoints and kprobes by name",
        "bpf": "pinned objects",
        "cgroup2": "programs for cgroups",
        "securityfs": "what it tells of lockdown and security modules",
    }
    mounted: dict[str, str] = {}
    for line in (_read("/proc/self/mounts") or "").split("\n"):
        words = line.split()
        if len(words) > 2:
            mounted.setdefault(words[2], words[1])
    found = []
    for kind, use in uses.items():
        if kind in mounted:
            found.append(Finding(f"{kind} mounted", YES, reason=mounted[kind]))
        elif kind == "tracefs" and "debugfs" in mounted and os.path.isdir(mounted["debugfs"] + "/tracing/events"):
            found.append(Finding("tracefs mounted", YES, reason=mounted["debugfs"] + "/tracing"))
        else:
            found.append(Finding(f"{kind} mounted", NO, reason=f"needed for {use}", remedy=_mount(kind)))
    return found


def _perf_events() -> Finding:
    value = _read(f"{_KERNEL}/perf_event_paranoid")
    if value is None:
        remedy = "a kernel with CONFIG_PERF_EVENTS"
        return Finding("perf events", NO, reason=f"{_KERNEL}/perf_event_paranoid is missing", remedy=remedy)
    return Finding("perf events", YES, reason=f"kernel.perf_event_paranoid = {value}")


def _locked_memory() -> Finding:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    try:
        charged = privilege.charges_memlock()
    except Error as error:
        return Finding("locked memory is no limit", UNKNOWN, reason=str(error))
    if not charged:
        return Finding("locked memory is no limit", YES, "5.11", "maps and programs count as the cgroup's memory")
    text = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft // 1024} KiB"
    note = f"maps and programs count against RLIMIT_MEMLOCK: {text}"
    if soft == resource.RLIM_INFINITY or "CAP_SYS_RESOURCE" in privilege.held():
        return Finding("locked memory is no limit", YES, "5.11", f"{note}; raised when needed")
    return Finding("locked memory is no limit", NO, "5.11", note, "ulimit -l unlimited, as root")
