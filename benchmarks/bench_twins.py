"""Our compiler against clang: ``python benchmarks/bench_twins.py [--quick] [NAME...]``, as root.

Every program of ``benchmarks/twins`` exists twice, in the language and in C,
written as a user of either would. Both objects are loaded by our loader and
given the same maps and contexts; their results must agree. A row shows
instructions, instructions the verifier processed and nanoseconds of one run,
ours / clang's, and the ratios; the last line has the geometric means. Time is
the kernel's own count over many runs (kernel.bpf_stats_enabled), rounds of
both sides in turn, each less what an empty program took just before, the median; programs
of less than 10 ns on both sides are shown and not counted.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pybpf.errors import Error  # noqa: E402
from pybpf.lang import compile_functions  # noqa: E402
from pybpf.lang.surface import PROGRAMS  # noqa: E402
from pybpf.loader import Collection  # noqa: E402
from pybpf.object.reader import read_object  # noqa: E402
from pybpf.program import Program, Request  # noqa: E402
from pybpf.sections import parse_section  # noqa: E402

TWINS = ROOT / "benchmarks" / "twins"
CLANG = "clang-19"
LEAST = 10  # nanoseconds: what takes less on both sides is within the error of the clock, and not counted
STATS = Path("/proc/sys/kernel/bpf_stats_enabled")

TEXT = b"/usr/share/doc/python3.11/README"
PACKET = bytes.fromhex("46000040123400004011000005060708c0a80001") + bytes.fromhex("0a000002") + bytes(8)
PACKET = struct.pack("<I2sH", 64, b"\x08\x00", 0) + PACKET[:20] + bytes(4) + bytes.fromhex("003511d7") + bytes(100)
TLVS = bytes.fromhex("01010204058c03030701080a0001e2400001e2410504aabb") * 2


def args(*values: int) -> bytes:
    """The context of a raw tracepoint."""
    return struct.pack("<12Q", *values, *[0] * (12 - len(values)))


def rows(count: int) -> bytes:
    """A sorted table for ``search``."""
    return struct.pack("<I", count) + b"".join(struct.pack("<III", i * 10, i * 10 + 7, i + 1) for i in range(128))


# name -> maps to fill (name, key, value) and contexts to run with, by program.
RUNS: dict[str, tuple[list[tuple[str, int, bytes]], dict[str, list[bytes]]]] = {
    "latency": ([], {"enter": [args()], "leave": [args()]}),
    "runqueue": ([], {}),
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
    "convert": ([], {"convert": [struct.pack("<qiIHBB4xQqii", 1700000000, 5, 0x13, 250, 3, 4, 0, 0, 0, 0)]}),
}


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
    machine = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip()
    command = [CLANG, "-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", f"-I/usr/include/{machine}-linux-gnu"]
    subprocess.run([*command, "-c", TWINS / f"{name}.bpf.c", "-o", out], check=True)
    return out.read_bytes()


def size_of(spec, name: str) -> int:
    """Instruction slots of a program and of the subprograms it calls."""
    seen: dict[str, None] = {name: None}
    total = 0
    for part in seen.copy():
        total += len(spec.programs[part].insns) // 8
    work = [name]
    while work:
        for reloc in spec.programs[work.pop()].relocs:
            if reloc.kind in ("call", "func") and reloc.target not in seen:
                seen[reloc.target] = None
                work.append(reloc.target)
                total += len(spec.programs[reloc.target].insns) // 8
    return total


class Side:
    """One compiler's object, loaded."""

    def __init__(self, data: bytes, name: str) -> None:
        spec = read_object(data)
        self.names = [n for n, program in spec.programs.items() if program.section != ".text"]
        self.sizes = {n: size_of(spec, n) for n in self.names}
        self.loaded = Collection(spec, self.names)
        self.verified = {n: p.info().verified_insns for n, p in self.loaded.programs.items()}
        self.fill(name)

    def fill(self, name: str) -> None:
        for map, key, value in RUNS.get(name, ([], {}))[0]:
            if map in self.loaded.maps:
                self.loaded.maps[map].update(struct.pack("<I", key), value)

    def results(self, program: str, contexts: list[bytes]) -> list[tuple[int, bytes]]:
        runs = [self.loaded.programs[program].test_run(ctx=context) for context in contexts]
        # A raw tracepoint's context is its arguments, which nobody writes.
        return [(run.retval, run.ctx) for run in runs]


def empty_program() -> Program:
    """A program that does nothing: what it takes is the kernel's own part of a run."""
    code = bytes.fromhex("b7000000000000009500000000000000")
    return Request("empty", parse_section("raw_tp/x"), code).load()


def nanoseconds(target: Program, contexts: list[bytes], repeat: int) -> float:
    """The kernel's own time of one run, the mean of some."""
    before = target.info()
    for _ in range(repeat):
        for context in contexts:
            target.test_run(ctx=context)
    after = target.info()
    return (after.run_time - before.run_time) / max(1, after.run_count - before.run_count)


def ratio(a: float, b: float) -> str:
    return f"{a / b:5.2f}" if a > 0 and b > 0 else "    -"


def mean(pairs: list[tuple[float, float]]) -> float:
    """Geometric mean of the ratios."""
    found = [math.log(a / b) for a, b in pairs if a > 0 and b > 0]
    return math.exp(sum(found) / len(found)) if found else math.nan


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--quick", action="store_true", help="no timing")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--repeat", type=int, default=60)
    parser.add_argument("--keep", type=Path, help="write both objects there")
    options = parser.parse_args()
    if shutil.which(CLANG) is None:
        print(f"skipped: {CLANG} is not installed")
        return 0
    names = options.names or sorted(path.stem for path in TWINS.glob("*.py"))
    saved = STATS.read_text()
    STATS.write_text("1")
    failures = 0
    size: list[tuple[float, float]] = []
    verified: list[tuple[float, float]] = []
    times: list[tuple[float, float]] = []
    try:
        empty = empty_program()
        print(f"{'program':28} {'insns':>11} ratio {'verified':>13} ratio {'ns':>13} ratio  result")
        with tempfile.TemporaryDirectory() as folder:
            for name in names:
                mine, other = ours(name), theirs(name, Path(folder))
                if options.keep:
                    (options.keep / f"{name}.ours.o").write_bytes(mine)
                    (options.keep / f"{name}.clang.o").write_bytes(other)
                try:
                    sides = [Side(mine, name), Side(other, name)]
                except Error as error:
                    print(f"{name:28} not loaded: {error}")
                    failures += 1
                    continue
                runs = RUNS.get(name, ([], {}))[1]
                for program in sides[1].names:
                    a, b = (side.sizes[program] for side in sides)
                    v, w = (side.verified[program] for side in sides)
                    size.append((a, b))
                    verified.append((v, w))
                    verdict = ""
                    took = [0.0, 0.0]
                    contexts = runs.get(program, [])
                    if contexts:
                        same = sides[0].results(program, contexts) == sides[1].results(program, contexts)
                        verdict = "same" if same else "DIFFERENT"
                        failures += not same
                    if contexts and not options.quick:
                        found: list[list[float]] = [[], []]
                        pair = [side.loaded.programs[program] for side in sides]
                        for turn in range(options.rounds):
                            base = nanoseconds(empty, [args()], options.repeat)
                            for which in ((0, 1), (1, 0))[turn % 2]:
                                found[which].append(nanoseconds(pair[which], contexts, options.repeat) - base)
                        took = [max(0.1, statistics.median(values)) for values in found]
                        if max(took) >= LEAST:
                            times.append((took[0], took[1]))
                    print(
                        f"{name + '.' + program:28} {a:5} {b:5} {ratio(a, b)} {v:6} {w:6} {ratio(v, w)} "
                        f"{took[0]:6.1f} {took[1]:6.1f} {ratio(*took)}  {verdict}"
                    )
                for side in sides:
                    side.loaded.close()
    finally:
        STATS.write_text(saved)
    usual = [pair for pair in size if 0.5 <= pair[0] / pair[1] <= 2]
    print(
        f"geometric mean of {len(size)} programs: instructions {mean(size):.3f} "
        f"({mean(usual):.3f} without the {len(size) - len(usual)} beyond a factor of 2), verifier {mean(verified):.3f}"
        + (f", time {mean(times):.3f} ({len(times)} programs; the rest takes too little)" if times else "")
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
