"""The kernel's file systems that tests attach and pin through, where the machine has not mounted them.

They are mounted in a mount namespace that this process and its children alone see, and go away with them.
"""

from __future__ import annotations

import ctypes
import os

WANTED = (("tracefs", "/sys/kernel/tracing"), ("bpf", "/sys/fs/bpf"), ("securityfs", "/sys/kernel/security"))

_CLONE_NEWNS = 0x20000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18


def provide() -> None:
    """Mount what is missing; without the privilege the tests that want it say so."""
    missing = [(kind, place) for kind, place in WANTED if os.path.isdir(place) and not os.path.ismount(place)]
    if not missing or os.geteuid():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) or libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None):
        return
    for kind, place in missing:
        libc.mount(kind.encode(), place.encode(), kind.encode(), ctypes.c_ulong(0), None)
