"""What the checks of maps share: making one, and what a kernel may refuse."""

from __future__ import annotations

from pybpf import abi
from pybpf.errors import LoadError, MapError, SyscallError
from pybpf.features import types
from pybpf.maps.create import create
from pybpf.privilege import kernel_version
from tests.guests.checks import skip

UNSUPPORTED = (abi.ENOTSUPP, 22, 95)


def options(names):
    """Those of the configuration's options that are known to be off here."""
    from pybpf.errors import NotSupported
    from pybpf.externs import config_lines

    try:
        found = config_lines({f"CONFIG_{name}" for name in names})
    except NotSupported:
        return []
    return [f"CONFIG_{name}" for name in names if f"CONFIG_{name}" not in found]


def make(kind, *args, **named):
    """Create a map; a kernel that lacks the type may do so only if it is older than the type, or configured without."""
    try:
        return create(kind, *args, **named)
    except LoadError as error:
        lacking(kind, error)
        needs_cx16(error)
        raise


def lacks_cx16():
    """Some maps allocate without locks (7.0), which takes an instruction that an emulated processor may lack."""
    with open("/proc/cpuinfo") as file:
        flags = next((line.split() for line in file if line.startswith("flags")), ["cx16"])
    return "cx16" not in flags


def needs_cx16(error):
    """Skip if the error is that lack."""
    if error.errno == 12 and lacks_cx16():
        skip(f"this processor has no cx16, without which the kernel finds no memory for this: {error}")


def put(store, thing, value):
    try:
        store[thing] = value
    except MapError as error:
        needs_cx16(error)
        raise


def lacking(kind, error):
    since, wanted = types.MAPS[kind]
    off = options(wanted)
    if off:
        skip(f"{off[0]} is not set: {error}")
    if kernel_version() < tuple(map(int, since.split("."))):
        skip(f"{kind} maps came with {since}: {error}")


def refused(call, *errors):
    """The error that a call must give."""
    try:
        call()
    except SyscallError as error:
        if error.errno not in errors:
            raise
        return error
    raise AssertionError("nothing was refused")


def cgroup2():
    """Where version 2 of cgroups is mounted, or the skip."""
    with open("/proc/self/mounts") as file:
        for line in file:
            _, place, kind = line.split()[:3]
            if kind == "cgroup2":
                return place
    return skip("no cgroup2 file system is mounted")
