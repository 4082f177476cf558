"""The same process as load.c makes, for systems without a C compiler: slower, so that added costs drown in its own."""

from __future__ import annotations

import os
import sys
import time

_names = iter(range(100_000_000))


def open_missing() -> None:
    try:
        os.open(f"no/such/folder/file{next(_names):08}", os.O_RDONLY, dir_fd=-1)
    except OSError:
        pass


def call(kind: str, count: int) -> int:
    for _ in range(count):
        if kind == "openat":
            open_missing()
        elif kind == "pair":
            os.close(os.open("/proc/self/status", os.O_RDONLY))
        else:
            os.getppid()
    return count


def pace(rate: int, seconds: float) -> int:
    start, made = time.monotonic(), 0
    for step in range(1, int(seconds * 1000) + 1):
        while made < rate * step // 1000:
            open_missing()
            made += 1
        time.sleep(max(0.0, start + step / 1000 - time.monotonic()))
    return made


def main() -> None:
    for line in sys.stdin:
        command, first, second = line.split()
        cpu, wall = time.process_time_ns(), time.monotonic_ns()
        made = call(first, int(second)) if command == "call" else pace(int(first), float(second))
        print(made, time.process_time_ns() - cpu, time.monotonic_ns() - wall, flush=True)


if __name__ == "__main__":
    main()
