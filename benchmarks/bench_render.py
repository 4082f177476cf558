"""What user space does with an event, step by step, without a kernel: CPU ns, minimum and median of the rounds.

    python3 benchmarks/bench_render.py [ROUNDS]

Records of openat lie in memory as in the kernel's ring buffer. They are read, and then rendered, or filtered: from 60
processes under names that all differ (as good as always found in the cache), with names that need
escaping, and with results that all differ, so that the cache never helps. What writing and waiting for events add is
in bench_events.py.
"""

from __future__ import annotations

import mmap
import statistics
import sys
import time
from pathlib import Path
from struct import pack

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bfer.catalogue import Catalogue
from bfer.names import Names
from bfer.output.json import Json
from bfer.output.table import Table
from bfer.policy import CONTAINS, Choice, EventFilter, Pattern
from bfer.records import BLOCK, RECORD_SIZE, ROW_FORMAT, split
from bfer.residual import Residual
from pybpf.ringbuf import Layout, Reader, counter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

COUNT = 4096
BATCH = 256
STRIDE = 256
PAGE = mmap.PAGESIZE

CATALOGUE = Catalogue("x86_64")
EVENTS = {event.number: event for event in CATALOGUE.events.values()}
NAMES = Names("x86_64")
NAMES.read_node = lambda key: b"board"
OPENAT = CATALOGUE.events["openat"]


class Ring:
    """Records as the kernel would show them, again and again."""

    def __init__(self, path: str, results: Callable[[int], int] = lambda number: 3) -> None:
        self._consumer = mmap.mmap(-1, PAGE)
        data = mmap.mmap(-1, PAGE + 2 * COUNT * STRIDE)
        for number in range(COUNT):
            raw = self._record(number, path.replace("%d", f"{number:08}").encode(), results(number))
            for at in (number * STRIDE, (COUNT + number) * STRIDE):
                data[PAGE + at : PAGE + at + 8 + len(raw)] = pack("=II", len(raw), 0) + raw
        self._producer = counter(memoryview(data)[:8])
        positions = counter(memoryview(self._consumer)[:8]), self._producer
        self._reader = Reader(*positions, data, PAGE, COUNT * STRIDE, True)
        self._layout = Layout(ROW_FORMAT, RECORD_SIZE, split)

    @staticmethod
    def _record(number: int, path: bytes, result: int) -> bytes:
        pid = 1000 + number % 60
        who = (10**12 + pid, 4097, *(pid, pid, 999) * 2, 1000, 4026531841, 4026531836, number % 2, 4026531838, 7)
        args = ((1 << 64) - 100, 0, 0o1101, 0o644, 0, 0)
        block = BLOCK.pack(*who, b"workload", result, *args, OPENAT.number, 0)
        return pack("=Q", 10**18 + number * 1000) + block + bytes([len(path)]) + path.ljust(96, b"\0")

    def each_batch(self, act: Callable[[list[Any]], object]) -> None:
        self._producer[0] += COUNT * STRIDE
        while rows := self._reader.rows(self._layout, BATCH):
            act(rows)


def steps() -> dict[str, Callable[[], None]]:
    plain = Ring("/tmp/some/folder/file%d.txt")
    odd = Ring('/tmp/"quoted"\t/file%d.txt')
    new = Ring("/tmp/some/folder/file%d.txt", lambda number: number)
    choice = Choice()
    choice.wanted = [Pattern(CONTAINS, b"some")]
    contains = EventFilter()
    contains.args["pathname"] = (OPENAT.args[1], choice)
    residual = Residual({OPENAT.number: contains}, EVENTS, NAMES)
    found: dict[str, Callable[[], None]] = {"read": lambda: plain.each_batch(len)}
    for name, make in (("json", Json), ("table", Table)):
        lines = make(EVENTS, NAMES).lines
        for what, ring in (("", plain), (", names that need escaping", odd), (", nothing in the cache", new)):
            found[f"read and render {name}{what}"] = lambda ring=ring, lines=lines: ring.each_batch(
                lambda rows: lines(rows, 7)
            )
    found["read and filter by text"] = lambda: plain.each_batch(residual.keep)
    return found


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    costs: dict[str, list[float]] = {}
    all_steps = steps()
    for _ in range(rounds):
        for name, step in all_steps.items():
            start = time.process_time_ns()
            step()
            costs.setdefault(name, []).append((time.process_time_ns() - start) / COUNT)
    print(f"{'ns an event':50} {'min':>6} {'median':>7}")
    for name, figures in costs.items():
        print(f"{name:50} {min(figures):6.0f} {statistics.median(figures):7.0f}")


if __name__ == "__main__":
    main()
