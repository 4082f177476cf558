"""CPU seconds per million events of user space: rendering alone, and rendering with a write to /dev/null.

    python benchmarks/bench_render.py [EVENTS]

The records are made beforehand: 60 different blocks (processes, results,
flags), a few thousand paths, taken again and again so that they are as fresh in
the cache as records that have just been read. Best of many rounds, as CPU
time of this process.
"""

from __future__ import annotations

import os
import sys
import time
from struct import pack

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from bfer.flags import open_table

from bfer.catalogue import Catalogue
from bfer.output.json import Json
from bfer.output.table import Table
from bfer.policy import CONTAINS, Choice, EventFilter, Pattern
from bfer.records import BLOCK
from bfer.residual import Residual
from bfer.writer import write_all

BATCH = 256
BATCHES = 12

CATALOGUE = Catalogue("x86_64")
EVENTS = {event.number: event for event in CATALOGUE.events.values()}
TABLE = open_table("x86_64", CATALOGUE.table)


def records(count: int, path: bytes) -> list[bytes]:
    """``path`` gets the record's number in place of %d."""
    blocks = []
    for i in range(60):
        who = (10**12 + i, 4097, *(1000 + i,) * 2, 999, *(1000 + i,) * 2, 999, 1000, 4026531841, 4026531836, i % 2)
        scalars = ((1 << 64) - 100, 0o1101, 0o644, 0, 0)
        blocks.append(BLOCK.pack(*who, b"workload", b"board", 3, *scalars, 257, 0))
    return [pack("=Q", 10**15 + i * 1000) + blocks[i % 60] + path.replace(b"%d", b"%d" % i) for i in range(count)]


def measure(count: int, work) -> float:
    best = 1e9
    for _ in range(max(5, count // (BATCH * BATCHES))):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best / (BATCH * BATCHES) * 1e6


def batches(rows: list[bytes]) -> list[list[bytes]]:
    return [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    null = os.open("/dev/null", os.O_WRONLY)
    contains = EventFilter()
    choice = Choice()
    choice.wanted = [Pattern(CONTAINS, b"some")]
    contains.args["pathname"] = (EVENTS[257].args[1], choice)
    residual = Residual({257: contains}, TABLE)

    plain = batches(records(BATCH * BATCHES, b"/tmp/some/folder/file%d.txt"))
    odd = batches(records(BATCH * BATCHES, "/tmp/caf\u00e9/\u65e5\u672c%d".encode()))
    json, table = Json(EVENTS, TABLE), Table(EVENTS, TABLE)

    def render(renderer, rows):
        def work():
            for batch in rows:
                renderer.render(batch, 7)

        return work

    def write(renderer, rows):
        def work():
            for batch in rows:
                write_all(null, renderer.render(batch, 7), "null")

        return work

    for name, work in (
        ("json, render", render(json, plain)),
        ("json, render and write to /dev/null", write(json, plain)),
        ("json, non-ASCII paths", render(json, odd)),
        ("table, render", render(table, plain)),
        ("table, non-ASCII paths", render(table, odd)),
        ("filter in user space (contains)", lambda: [residual.keep(batch) for batch in plain]),
    ):
        print(f"{name:40} {measure(count, work):.3f} s per million events")


if __name__ == "__main__":
    main()
