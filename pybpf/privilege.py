"""Why the kernel said EPERM: used only after a failure, reads what the system says about itself."""

from __future__ import annotations

import os
from errno import EACCES, EINVAL
from sys import byteorder

_CAP_SYS_ADMIN = 21
_CAP_SYS_RESOURCE = 24
_CAP_PERFMON = 38
_CAP_BPF = 39


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def status(name: str) -> str:
    for line in _read("/proc/self/status").split("\n"):
        if line.startswith(name + ":"):
            return line[len(name) + 1 :].strip()
    return ""


def _effective() -> int:
    try:
        return int(status("CapEff"), 16)
    except ValueError:
        return 0


def held() -> list[str]:
    """Names of the effective capabilities that bpf() asks for somewhere."""
    known = {12: "CAP_NET_ADMIN", _CAP_SYS_ADMIN: "CAP_SYS_ADMIN", _CAP_SYS_RESOURCE: "CAP_SYS_RESOURCE"}
    known.update({_CAP_PERFMON: "CAP_PERFMON", _CAP_BPF: "CAP_BPF"})
    bits = _effective()
    return [name for bit, name in known.items() if _has(bits, bit)]


def in_user_namespace() -> bool:
    """True when uid 0 here is not the machine's root: bpf() asks for capabilities of the first namespace."""
    fields = _read("/proc/self/uid_map").split()
    return bool(fields) and fields != ["0", "0", "4294967295"]


def kernel_version() -> tuple[int, int]:
    """``(major, minor)`` of the running kernel; (0, 0) when its release is not a version."""
    parts = os.uname().release.split(".")
    minor = parts[1] if len(parts) > 1 else "0"
    digits = minor[: len(minor) - len(minor.lstrip("0123456789"))]
    try:
        return int(parts[0]), int(digits or "0")
    except ValueError:
        return 0, 0


def charges_memlock() -> bool:
    """True on kernels that charge maps and programs to RLIMIT_MEMLOCK (before 5.11, where nothing was backported).

    Told by a helper that came with the accounting that replaced it; by the version where no program can be loaded.
    """
    from pybpf import abi, commands

    # r0 = ktime_get_coarse_ns(); exit
    code = b"\x85\0\0\0" + (160).to_bytes(4, byteorder) + b"\x95" + bytes(7)
    result = commands.prog_load_once(abi.PROG_TYPE_SOCKET_FILTER, code)
    if result >= 0:
        os.close(result)
        return False
    return result in (-EINVAL, -EACCES) or kernel_version() < (5, 11)


def raise_memlock() -> bool:
    """Lift RLIMIT_MEMLOCK as far as allowed; True if it is higher than before.

    Never fails: without CAP_SYS_RESOURCE only the soft limit can grow.
    """
    import resource

    limit = resource.RLIMIT_MEMLOCK
    unlimited = resource.RLIM_INFINITY
    soft, hard = resource.getrlimit(limit)
    if soft == unlimited:
        return False
    for wanted in ((unlimited, unlimited), (hard, hard)):
        if wanted[0] == soft:
            continue
        try:
            resource.setrlimit(limit, wanted)
        except (ValueError, OSError):
            continue
        return True
    return False


def _memlock() -> str:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    names = ["unlimited" if value == resource.RLIM_INFINITY else f"{value // 1024} KiB" for value in (soft, hard)]
    return f"{names[0]} (hard limit {names[1]})"


def _has(capabilities: int, bit: int) -> bool:
    return bool(capabilities >> bit & 1)


def _facts(capabilities: int, locked: str, seccomp: str) -> list[str]:
    held = ((_CAP_BPF, "CAP_BPF"), (_CAP_PERFMON, "CAP_PERFMON"), (_CAP_SYS_ADMIN, "CAP_SYS_ADMIN"))
    names = [name for bit, name in (*held, (_CAP_SYS_RESOURCE, "CAP_SYS_RESOURCE")) if _has(capabilities, bit)]
    unprivileged = _read("/proc/sys/kernel/unprivileged_bpf_disabled") or "unknown"
    return [
        f"effective uid: {os.geteuid()}",
        f"effective capabilities: {capabilities:#x} ({', '.join(names) or 'none that bpf() asks for'})",
        f"user namespace: {'not the first one' if in_user_namespace() else 'the first one'}",
        f"kernel.unprivileged_bpf_disabled: {unprivileged}",
        f"kernel.perf_event_paranoid: {_read('/proc/sys/kernel/perf_event_paranoid') or 'unknown'}",
        f"lockdown: {locked or 'not reported (securityfs not mounted, or not built in)'}",
        f"seccomp mode: {seccomp or 'unknown'}",
        f"locked-memory limit: {_memlock()}{', counts on this kernel' if charges_memlock() else ''}",
        f"kernel: {os.uname().release}",
    ]


def lockdown() -> str:
    """The active lockdown mode: the bracketed word, or the empty string."""
    text = _read("/sys/kernel/security/lockdown")
    start, end = text.find("["), text.find("]")
    return text[start + 1 : end] if 0 <= start < end else ""


def explain(what: str) -> tuple[str, str]:
    """One line that says what to do first about EPERM on ``what``, and the facts behind it."""
    capabilities = _effective()
    locked = lockdown()
    seccomp = status("Seccomp")
    uid = os.geteuid()
    admin = _has(capabilities, _CAP_SYS_ADMIN)
    able = admin or (_has(capabilities, _CAP_BPF) and _has(capabilities, _CAP_PERFMON))
    if not able and uid != 0:
        line = f"bpf() needs root or CAP_BPF+CAP_PERFMON (running as uid {uid} without them): run it with sudo"
    elif not able:
        line = "running as root but without CAP_BPF+CAP_PERFMON: run the container with --privileged or with both added"
    elif in_user_namespace():
        line = "running as root of a user namespace only: run it as root of the machine itself"
    elif charges_memlock() and "unlimited (" not in _memlock():
        line = "the locked-memory limit is used up: run `ulimit -l unlimited` first, or as root with CAP_SYS_RESOURCE"
    elif locked not in ("", "none"):
        line = f"{what} is forbidden by kernel lockdown ({locked}): boot with lockdown=none or do without it"
    elif seccomp not in ("", "0"):
        line = f"{what} is forbidden by a seccomp filter: run it outside the sandbox or container"
    else:
        line = f"{what} is forbidden by a security policy (lockdown, LSM or seccomp), in spite of full privileges"
        if not locked:
            line += "; `mount -t securityfs securityfs /sys/kernel/security` may tell which"
    return f"not permitted: {line}", "\n".join([what, *_facts(capabilities, locked, seccomp)])
