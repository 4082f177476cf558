"""Which processors there are, and which are on."""

from __future__ import annotations

import os

from pybpf import kernel
from pybpf.errors import SyscallError


def online() -> list[int]:
    """Numbers of the processors that are on. Without sysfs: as many as the C library counts. Raises SyscallError."""
    try:
        with open("/sys/devices/system/cpu/online") as file:
            return kernel.parse_cpus(file.read())
    except OSError:
        count = os.cpu_count()
        if not count:
            raise SyscallError("the number of processors is unknown: mount -t sysfs sysfs /sys", 0) from None
        return list(range(count))
