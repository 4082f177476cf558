"""What a user without privileges reads."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pybpf import abi, kernel, privilege

pytestmark = pytest.mark.in_guests

ROOT = Path(__file__).parents[2]

CHILD = """
import os, sys
os.setgid(65534); os.setuid(65534)
from pybpf import kernel
from pybpf.errors import LoadError
try:
    kernel.map_create(1, 4, 4, 1, name="events")
except LoadError as error:
    print(error.errno)
    print(error)
    print(error.details)
"""


@pytest.mark.native
def test_one_line_for_an_ordinary_user():
    if os.geteuid():
        pytest.skip("needs root to become an ordinary user")
    preload = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pybpf.kernel, pybpf.native, pybpf.privilege, resource\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", preload + CHILD], capture_output=True, text=True, timeout=60, check=True
    )
    number, message, *details = run.stdout.splitlines()
    assert number == "1"
    assert message == (
        "not permitted: bpf() needs root or CAP_BPF+CAP_PERFMON (running as uid 65534 without them): run it with sudo"
    )
    assert details[0] == "BPF_MAP_CREATE of map 'events'"
    assert "effective uid: 65534" in details


class System:
    """Replaces what privilege.py reads."""

    def __init__(self, monkeypatch, uid=0, capabilities=(1 << 41) - 1, **files):
        self.files = {
            "/proc/self/status": f"CapEff:\t{capabilities:x}\nSeccomp:\t{files.pop('seccomp', 0)}\n",
            "/proc/self/uid_map": files.pop("uid_map", "         0          0 4294967295"),
            "/sys/kernel/security/lockdown": files.pop("lockdown", ""),
        }
        monkeypatch.setattr(privilege, "_read", lambda path: self.files.get(path, ""))
        monkeypatch.setattr("os.geteuid", lambda: uid)
        monkeypatch.setattr(privilege, "charges_memlock", lambda: files.get("version", (6, 1)) < (5, 11))
        monkeypatch.setattr(privilege, "_memlock", lambda: files.get("memlock", "64 KiB (hard limit 64 KiB)"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"uid": 7, "capabilities": 0}, "running as uid 7 without them): run it with sudo"),
        ({"uid": 7, "capabilities": 1 << 39}, "run it with sudo"),
        ({"capabilities": 0}, "running as root but without CAP_BPF"),
        ({"uid_map": "0 1000 1"}, "root of a user namespace"),
        ({"version": (5, 10)}, "ulimit -l unlimited"),
        ({"version": (5, 10), "memlock": "unlimited (hard limit unlimited)"}, "security policy"),
        ({"lockdown": "none integrity [confidentiality]"}, "kernel lockdown (confidentiality)"),
        ({"lockdown": "[none] integrity confidentiality", "seccomp": 2}, "seccomp filter"),
        ({}, "forbidden by a security policy (lockdown, LSM or seccomp)"),
        ({"uid": 7, "capabilities": 1 << 39 | 1 << 38}, "security policy"),
    ],
)
def test_explanations(monkeypatch, arguments, words):
    System(monkeypatch, **arguments)
    line, details = privilege.explain("BPF_PROG_LOAD of program 'x'")
    assert line.startswith("not permitted: ")
    assert words in line
    assert "\n" not in line
    assert "effective capabilities" in details


def test_memlock_is_raised_as_far_as_allowed(monkeypatch):
    import resource

    calls = []

    def setrlimit(which, limits):
        calls.append(limits)
        if limits[1] == resource.RLIM_INFINITY:
            raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (65536, 1 << 20))
    assert privilege.raise_memlock()
    assert calls == [(resource.RLIM_INFINITY,) * 2, (1 << 20, 1 << 20)]
    monkeypatch.setattr(resource, "getrlimit", lambda which: (65536, 65536))
    assert not privilege.raise_memlock()
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY,) * 2)
    assert not privilege.raise_memlock()


@pytest.mark.parametrize(
    ("release", "version"),
    [("5.10.0-32-cloud-amd64", (5, 10)), ("6.18.44", (6, 18)), ("7.2-rc1", (7, 2)), ("weird", (0, 0)), ("6", (6, 0))],
)
def test_kernel_version(monkeypatch, release, version):
    monkeypatch.setattr("os.uname", lambda: os.uname_result(("Linux", "host", release, "#1", "x86_64")))
    assert privilege.kernel_version() == version


@pytest.mark.parametrize(
    ("result", "version", "charges"),
    [
        (-errno.EINVAL, (4, 18), True),
        (-errno.EINVAL, (6, 1), True),
        (-errno.EPERM, (5, 10), True),
        (-errno.EPERM, (6, 1), False),
        (None, (4, 18), False),
    ],
)
def test_locked_memory_is_found_out_by_a_helper(monkeypatch, result, version, charges):
    """The helper came with what replaced the limit; where nothing can be loaded the version tells."""
    calls = []

    def hook(name, command, attr):
        calls.append(command)
        return os.open("/dev/null", os.O_RDONLY) if result is None else result

    monkeypatch.setattr(privilege, "kernel_version", lambda: version)
    kernel.set_syscall_hook(hook)
    try:
        assert privilege.charges_memlock() is charges
    finally:
        kernel.set_syscall_hook(None)
    assert calls == [abi.PROG_LOAD]
