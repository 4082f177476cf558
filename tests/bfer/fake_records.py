"""Records as the programs would write them."""

from __future__ import annotations

from struct import pack
from zlib import crc32

from bfer.catalogue import Catalogue
from bfer.names import Names
from bfer.records import (
    ARGS,
    BLOCK,
    FIELD,
    FORM_BYTES,
    FORM_POINTER,
    FORM_STRING,
    LONG,
    NODE_KEY,
    POINTER,
    SHORT,
    split,
)

CATALOGUE = Catalogue("x86_64")
NAMES = Names("x86_64")
EVENTS = {event.number: event for named in CATALOGUE.events.values() for event in named.both()}
NODES: dict[bytes, bytes] = {}  # what the programs' map of nodenames holds
NAMES.read_node = NODES.get
UTS_NS = 4026531838
AT_FDCWD = (1 << 64) - 100


def field(slot: int, value: bytes | int, form: int = 0) -> bytes:
    """One field: a string, a pointer, or bytes of the given ``form``."""
    data = POINTER.pack(value) if isinstance(value, int) else value
    form = form or (FORM_POINTER if isinstance(value, int) else FORM_STRING)
    return FIELD.pack(slot, form, len(data)) + data + bytes(-len(data) % 8)


def record(
    name: str = "openat",
    path: bytes = b"/tmp/login.txt",
    scalars: tuple[int, ...] = (AT_FDCWD, 0o1101, 0o644),
    *,
    fields: bytes = b"",
    stack: bytes = b"",
    result: int = 3,
    status: int = 0,
    time: int = 1_000_000_000,
    comm: bytes = b"cat",
    node: bytes = b"board",
    pid: int = 42,
    pointer: int | None = None,
    cgroup_id: int = 88,
    compat: bool = False,
    catalogue: Catalogue = CATALOGUE,
) -> bytes:
    """``scalars`` are the arguments that are numbers, in their order; ``fields`` is what follows the block
    of an event that is more than a path.
    """
    event = catalogue.events[name]
    if compat:
        assert event.compat is not None
        event = event.compat
    args = [0] * 6
    for arg, value in zip([arg for arg in event.args if not arg.memory and arg.slot < ARGS], scalars):
        args[arg.slot] = value & ((1 << 64) - 1)
    block = BLOCK.pack(
        *(777, cgroup_id, 142, 143, 141, pid, pid + 1, 41),
        *(1000, 4026531841, 4026531836, 1, UTS_NS, _node(node), comm),
        *(result, *args, event.number, status),
    )
    data = b""
    if event.program == "path":
        data = path if pointer is None else POINTER.pack(pointer)
    elif event.program in ("fields", "exec") or event.hooks:
        data = fields
    data += stack
    if len(data) > SHORT:
        return pack("=Q", time) + block + bytes([LONG]) + data
    # As the program's memory: what was written there before follows.
    return pack("=Q", time) + block + bytes([len(data)]) + data + _REMAINS[len(data) :]


_REMAINS = b'/of/a "record\x01\xff'.ljust(SHORT, b"!")


def _node(name: bytes) -> int:
    """The number that stands for a nodename."""
    number = crc32(name)
    NODES[NODE_KEY.pack(UTS_NS, number)] = name.ljust(64, b"\0")
    return number


def rows(records: list[bytes]) -> list[object]:
    """What the reader of the buffer gives of these records."""
    return [field for record in records for field in split(record)]


def openat2(path: bytes, how: tuple[int, int, int] | int, scalars: tuple[int, ...] = (AT_FDCWD, 24)) -> bytes:
    """An openat2; ``how`` is the structure, or its address where it could not be read."""
    second = field(2, how) if isinstance(how, int) else field(2, pack("=QQQ", *how), FORM_BYTES)
    return record("openat2", scalars=scalars, fields=field(1, path) + second)
