"""Records as the programs would write them."""

from __future__ import annotations

from struct import pack

from bfer.catalogue import Catalogue
from bfer.flags import open_table
from bfer.records import BLOCK, POINTER

CATALOGUE = Catalogue("x86_64")
TABLE = open_table("x86_64", CATALOGUE.table)
EVENTS = {event.number: event for event in CATALOGUE.events.values()}
AT_FDCWD = (1 << 64) - 100


def record(
    name: str = "openat",
    path: bytes = b"/tmp/login.txt",
    scalars: tuple[int, ...] = (AT_FDCWD, 0o1101, 0o644),
    *,
    result: int = 3,
    status: int = 0,
    time: int = 1_000_000_000,
    comm: bytes = b"cat",
    node: bytes = b"board",
    pid: int = 42,
    pointer: int | None = None,
) -> bytes:
    event = CATALOGUE.events[name].number
    block = BLOCK.pack(
        *(777, 88, 142, 143, 141, pid, pid + 1, 41),
        *(1000, 4026531841, 4026531836, 1, comm, node),
        *(result, *(tuple(scalars) + (0,) * 5)[:5], event, status),
    )
    return pack("=Q", time) + block + (path if pointer is None else POINTER.pack(pointer))
