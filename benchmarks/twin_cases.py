"""The twins' inputs, and both their objects: what bench_twins.py measures and tests/system/test_twins.py compares.

A twin is a pair of programs of ``benchmarks/twins``, one in the language and
one in C, written as a user of either would.
"""

from __future__ import annotations

import importlib.util
import os
import struct
import subprocess
import sys
from pathlib import Path

from pybpf.lang import compile_functions
from pybpf.lang.surface import PROGRAMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pybpf.maps import Map
    from pybpf.program import Program

TWINS = Path(__file__).resolve().parent / "twins"
CLANG = "clang-19"

TEXT = b"/usr/share/doc/python3.11/README"
PACKET = bytes.fromhex("46000040123400004011000005060708c0a80001") + bytes.fromhex("0a000002") + bytes(8)
PACKET = struct.pack("<I2sH", 64, b"\x08\x00", 0) + PACKET[:20] + bytes(4) + bytes.fromhex("003511d7") + bytes(100)
TLVS = bytes.fromhex("01010204058c03030701080a0001e2400001e2410504aabb") * 2
# Of the link layer: an echo request, the same at the end of its time to live, and what is not IPv4.
PING = bytes.fromhex("02000000000102000000000208004500005412344000400100000a0000010a0000020800beef00010002") + bytes(
    range(56)
)
LAST_HOP = PING[:22] + b"\x01" + PING[23:]
ARP = PING[:12] + b"\x08\x06" + bytes(46)


def args(*values: int) -> bytes:
    """The context of a raw tracepoint."""
    return struct.pack("<12Q", *values, *[0] * (12 - len(values)))


def rows(count: int) -> bytes:
    """A sorted table for ``search``."""
    return struct.pack("<I", count) + b"".join(struct.pack("<III", i * 10, i * 10 + 7, i + 1) for i in range(128))


# name -> maps to fill (name, key, value), and by program what to run with: contexts, packets for xdp and tc.
RUNS: dict[str, tuple[list[tuple[str, int, bytes]], dict[str, list[bytes]]]] = {
    "latency": ([], {"enter": [args()], "leave": [args()]}),
    "runqueue": ([], {"wakeup": [args(0)], "switched": [args(0, 0, 0)]}),
    "syscount": ([], {"count": [args(0, 5), args(0, 600)]}),
    "fnv": ([("buffers", 0, struct.pack("<I", 200) + bytes(range(256)))], {"fnv": [args()]}),
    "crc": (
        [("buffers", 0, bytes(range(7, 71))), *[("table", i, struct.pack("<I", i * 0xDB7104)) for i in range(256)]],
        {"bitwise": [args()], "tabled": [args()]},
    ),
    "packet": ([("packets", 0, PACKET[:136])], {"packet": [args()]}),
    "tlv": ([("buffers", 0, struct.pack("<I", len(TLVS)) + TLVS.ljust(512, b"\0"))], {"tlv": [args()]}),
    "strings": (
        [("texts", 0, b"/usr/share/doc/*".ljust(64, b"\0")), ("texts", 1, TEXT.ljust(64, b"\0"))],
        {"match": [args()], "basename": [args()]},
    ),
    "ratelimit": ([], {"limit": [args()]}),
    "search": ([("tables", 0, rows(120))], {"search": [args(773), args(5), args(9), args(5000)]}),
    "mix": ([], {"jhash": [args(1, 2, 3), args(1 << 40, 0xFFFFFFFF, 9)], "murmur": [args(5), args(1 << 63)]}),
    "bitmap": ([("sets", 0, bytes(range(128)))], {"mark": [args(77), args(999), args(1024)], "weight": [args()]}),
    "classify": ([], {"classify": [args(0, -n & 0xFFFFFFFFFFFFFFFF) for n in (0, 2, 13, 115, 23, 22, 90)]}),
    "namespaces": ([], {"seen__raw_tp": [args()]}),
    "dispatch": ([], {"dispatch": [args(0, 3), args(0, 100)], "two_paths": [args(0, 3)]}),
    "statistics": ([], {"feed": [args(40, 5000)]}),
    "numbers": (
        [("texts", 0, b"3141592653 or so".ljust(32, b"\0"))],
        {"parse": [args()], "hexadecimal": [args(0x0123456789ABCDEF)]},
    ),
    "median": (
        [("rings", 0, struct.pack("<9I", 3, 50, 4, 90, 17, 17, 1, 60, 33))],
        {"median": [args(20)]},
    ),
    "packets": ([], {"echo": [PING, PING[:40], ARP], "hop": [PING, LAST_HOP, ARP]}),
    "convert": ([], {"convert": [struct.pack("<qiIHBB4xQqii", 1700000000, 5, 0x13, 250, 3, 4, 0, 0, 0, 0)]}),
}


# Bytes of map values and records that only a clock decides, so that no two runs share them: (start, end) by map.
CLOCKED: dict[str, dict[str, tuple[int, int]]] = {
    "latency": {"start": (0, 8), "hist": (0, 8)},
    "ratelimit": {"buckets": (8, 16)},
    "namespaces": {"events": (0, 8)},
}


def run(program: Program, given: bytes) -> tuple[int, bytes]:
    """Result, and context or packet afterwards, of one run by PROG_TEST_RUN with an input of RUNS."""
    if program.section in ("xdp", "tc"):
        done = program.test_run(data=given)
        return done.retval, done.data
    done = program.test_run(ctx=given)
    return done.retval, done.ctx


def fill(name: str, maps: Mapping[str, Map]) -> None:
    """Give the maps of a twin the contents that its runs expect."""
    for map, key, value in RUNS.get(name, ([], {}))[0]:
        if map in maps:
            maps[map].update(struct.pack("<I", key), value)


def names() -> list[str]:
    """Every twin."""
    return sorted(path.stem for path in TWINS.glob("*.py"))


def ours(name: str) -> bytes:
    """The object of the DSL text."""
    spec = importlib.util.spec_from_file_location(f"twin_{name}", TWINS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return compile_functions(PROGRAMS[module.__name__].values(), f"{name}.o")


def theirs(name: str, folder: Path) -> bytes:
    """The object of the C text."""
    out = folder / f"{name}.o"
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    command = [CLANG, "-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", include]
    subprocess.run([*command, "-c", TWINS / f"{name}.bpf.c", "-o", out], check=True)
    return out.read_bytes()
