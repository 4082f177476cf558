"""What every test gets: tests that need a kernel are skipped with the reason seen, and no test leaks a descriptor."""

from __future__ import annotations

import gc
import os
import signal

import pytest
from hypothesis import settings

from tests import kernelfs

# How long an example takes depends on what else the machine does.
settings.register_profile("any speed", deadline=None)
settings.load_profile("any speed")

# No test reads or leaves answers of this kernel in the user's cache folder.
os.environ["BFER_CACHE"] = ""

_reason: str | None = None


def _native_reason() -> str:
    """Why BPF does not work here, by trying to make a map; the empty string if it does."""
    global _reason
    if _reason is None:
        from pybpf import abi, kernel
        from pybpf.errors import SyscallError

        try:
            kernel.map_create(abi.MAP_TYPE_ARRAY, 4, 4, 1, name="probe").close()
            _reason = ""
        except SyscallError as error:
            _reason = f"BPF_MAP_CREATE gave {kernel.errno_text(error.errno)}: {error}"
    return _reason


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "in_guests: runs in guests too, by tests/guests/test_in_guests.py")
    kernelfs.provide()
    # A shell without job control starts what is in the background with SIGINT ignored, and bfer leaves that so.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("native") is not None and _native_reason():
        pytest.skip(_native_reason())


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the directory's own descriptor, closed by now
            pass
    return found


@pytest.fixture(autouse=True)
def no_leaked_descriptors():
    """Fail a test that leaves a file descriptor open."""
    before = _descriptors()
    yield
    after = _descriptors()
    if after != before:
        gc.collect()
        after = _descriptors()
    leaked = [f"{fd} {target}" for fd, target in sorted(after.items()) if before.get(fd) != target]
    assert not leaked, f"leaked file descriptors: {', '.join(leaked)}"
