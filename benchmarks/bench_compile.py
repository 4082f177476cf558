"""What compiling costs: ``python benchmarks/bench_compile.py [--profile]``. Prints; asserts nothing.

450 programs of about 30 lines, made from five bodies (a filter, a record with
strings, a parser, a histogram, a table of tests), each an object of its own, as
a device with one object for each event has them. Then what reading those 450
objects costs, and one object of 450 programs, best of some rounds: listed
(``ObjectFile``: programs with section, type and size, maps by name, which is all
that choosing among them needs); read (``read_object``: every program with its instructions and
relocations, variables with their values); with maps, which is that and every map with its sizes and types; and
whole, which is that and functions' types, lines and CO-RE relocations: both are taken from the
object's BTF when they are asked for, and loading one of many objects asks that one only. Compiling is
timed program by program; the sum is given, and what it would be if the 90 programs of each
body took what the quickest of them did: on a busy machine that is the nearest to the truth.
"""

from __future__ import annotations

import argparse
import cProfile
import importlib.util
import pstats
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pybpf.lang import compile_functions  # noqa: E402
from pybpf.lang.surface import PROGRAMS, Program  # noqa: E402
from pybpf.object.file import ObjectFile  # noqa: E402
from pybpf.object.reader import read_object  # noqa: E402
from pybpf.object.spec import ObjectSpec  # noqa: E402
from pybpf.sections import parse_section  # noqa: E402

COUNT = 450
ROUNDS = 25

HEAD = """from __future__ import annotations
from pybpf.lang import *
class Event(Struct):
    ts: u64
    pid: u32
    nr: u32
    args: u64[6]
    comm: char[16]
    path: char[256]
class Stat(Struct):
    count: u64
    total: u64
    worst: u64
class Buffer(Struct):
    length: u32
    data: u8[256]
class Config(ConfigBase):
    only_pid: u32 = 0
    min_uid: u32 = 0
    limit: u64 = 1000
config = Config()
events = RingBuf(256 * 1024)
start = Hash(u32, u64, 10240)
stats = Hash(u32, Stat, 1024)
buffers = PerCpuArray(Buffer, 1)
counts = PerCpuArray(u64, 64)
"""

BODIES = (
    """
@tracepoint("syscalls:sys_enter_openat")
def filter_{n}(ctx):
    if config.only_pid and pid() != config.only_pid:
        return 0
    if config.min_uid and uid() < config.min_uid:
        return 0
    if ctx.nr == {n} or ctx.nr == {n} + 7:
        return 0
    key: u32 = tid()
    seen = start.lookup(key)
    if seen:
        if ktime_get_ns() - seen[0] < config.limit:
            return 0
        seen[0] = ktime_get_ns()
    else:
        start[key] = ktime_get_ns()
    stat = stats.lookup({n})
    if not stat:
        stats[{n}] = Stat(count=1, total=ctx.args[0], worst=0)
        return 0
    stat.count += 1
    stat.total += ctx.args[0]
    if ctx.args[0] > stat.worst:
        stat.worst = ctx.args[0]
    flags = ctx.args[2]
    if flags & {n}:
        stat.total += 1
    elif flags & 0x40:
        stat.total += 2
    return 0
""",
    """
@tracepoint("syscalls:sys_enter_openat")
def record_{n}(ctx):
    if config.only_pid and pid() != config.only_pid:
        return 0
    with events.reserve(Event) as e:
        e.ts = ktime_get_ns()
        e.pid = pid()
        e.nr = {n}
        for i in unroll(range(6)):
            e.args[i] = ctx.args[i]
        comm(e.comm)
        n = read_user_str(e.path, ctx.args[1])
        if n <= 0:
            e.discard()
            return 0
        if e.path[0] == ord("/") and e.path[1] == ord("p"):
            e.discard()
            return 0
        if e.args[2] & {n}:
            e.args[2] = e.args[2] & 0xFFF
        if e.args[3] > 100:
            e.args[3] = 100
        count = counts.lookup({n} & 63)
        if count:
            count[0] += 1
        total = counts.lookup(0)
        if total:
            total[0] += n
    done = start.lookup(tid())
    if done:
        done[0] = 0
    return 0
""",
    """
@raw_tp("parse")
def parse_{n}(ctx):
    b = buffers.lookup(0)
    if not b:
        return 0
    off: u64 = {n} & 7
    value: u64 = 0
    state: u32 = 0
    for i in range(64):
        if off >= b.length or off > 250:
            break
        c = b.data[off]
        if c == 0:
            break
        if state == 0:
            if c >= ord("0") and c <= ord("9"):
                value = value * 10 + c - ord("0")
            elif c == ord("x"):
                state = 1
            else:
                state = 2
        elif state == 1:
            value = value << 4 | c & 15
        else:
            value ^= c
        off += 1
    if value == {n}:
        return 1
    if value > {n} and state:
        return 2
    return u32(value ^ value >> 32)
""",
    """
@raw_tp("histogram")
def histogram_{n}(ctx):
    key: u32 = tid()
    began = start.lookup(key)
    if not began:
        start[key] = ktime_get_ns()
        return 0
    v = (ktime_get_ns() - began[0]) // ({n} + 1)
    start.delete(key)
    n: u64 = 0
    if v >> 32:
        v >>= 32
        n += 32
    if v >> 16:
        v >>= 16
        n += 16
    if v >> 8:
        v >>= 8
        n += 8
    if v >> 4:
        v >>= 4
        n += 4
    if v >> 2:
        v >>= 2
        n += 2
    if v >> 1:
        n += 1
    slot = counts.lookup(n)
    if slot:
        slot[0] += 1
        return 1
    return 0
""",
    """
@raw_tp("table")
def table_{n}(ctx):
    nr = ctx.args[1]
    kind: u32 = 0
    if nr == {n}:
        kind = 1
    elif nr == {n} + 1 or nr == {n} + 5:
        kind = 2
    elif nr < 10:
        kind = 3
    elif nr in (20, 22, 24, 26):
        kind = 4
    elif nr & 0x40:
        kind = 5
    elif i64(ctx.args[2]) < 0:
        kind = 6
    else:
        kind = 7
    if kind == 7 and config.limit > nr:
        return 0
    total: u64 = 0
    for i in unroll(range(4)):
        count = counts.lookup(kind * 8 + i)
        if count:
            total += count[0]
            if i == 0:
                count[0] += 1
    stat = stats.lookup(kind)
    if stat:
        stat.total = total
        stat.count += 1
    return kind
""",
)


def modules(folder: Path) -> list[list[Program]]:
    """The programs of every module, defined and not yet compiled."""
    found = []
    for n in range(COUNT):
        found.append(module(folder, f"bench_program_{n}", HEAD + body(n)))
    return found


def body(n: int) -> str:
    """The text of program number ``n``."""
    return BODIES[n % len(BODIES)].replace("{n}", str(n))


def module(folder: Path, name: str, text: str) -> list[Program]:
    """The programs that a module with this text defines."""
    path = folder / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)
    return list(PROGRAMS[name].values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--profile", action="store_true", help="where the compiler spends its time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        programs = modules(Path(folder))
        print(f"{COUNT} modules written and imported: {time.perf_counter() - start:.2f} s")
        profile = cProfile.Profile()
        if options.profile:
            profile.enable()
        took, times = 0.0, []
        objects = []
        for some in programs:
            start, used = time.perf_counter(), time.process_time()
            objects.append(compile_functions(some))
            took += time.perf_counter() - start
            times.append(time.process_time() - used)
        if options.profile:
            profile.disable()
        one = compile_functions(module(Path(folder), "bench_programs", HEAD + "".join(map(body, range(COUNT)))))
        if options.profile:
            pstats.Stats(profile).sort_stats("tottime").print_stats(45)
    size = sum(map(len, objects))
    cpu, kinds = sum(times), len(BODIES)
    quiet = sum(min(times[kind::kinds]) for kind in range(kinds)) * COUNT / kinds
    print(
        f"{COUNT} programs compiled: {took:.2f} s, {cpu:.2f} s of CPU ({cpu / COUNT * 1000:.1f} ms each), "
        f"at each body's quickest: {quiet:.2f} s; {size / 1024:.0f} KB of objects"
    )
    ways = (("listed", listed), ("read", read_object), ("read with maps", read_maps), ("read whole", read_whole))
    for what, data in ((f"{COUNT} objects", objects), (f"one object of {COUNT} programs", [one])):
        for how, work in ways:
            rounds = sorted(timed(work, data) for _ in range(ROUNDS))
            print(f"{what} {how}: {rounds[0]:.1f} ms, median {rounds[ROUNDS // 2]:.1f} ms")


def listed(data: bytes) -> tuple[list[tuple[str, str, int, int]], list[str]]:
    """Name, section, type and instructions of every program; the maps."""
    file = ObjectFile(data)
    programs = [
        (name, function.section, parse_section(function.section).type, function.size // 8)
        for name, function in file.functions.items()
        if function.section != ".text"
    ]
    return programs, [*file.map_names.values()]


def read_maps(data: bytes) -> ObjectSpec:
    """What read_object() gives, and the maps."""
    spec = read_object(data)
    _ = spec.maps
    return spec


def read_whole(data: bytes) -> None:
    """All that an object says."""
    for function in read_maps(data).programs.values():
        _ = function.func_info, function.line_info, function.core_relos


def timed(work: Callable[[bytes], object], objects: list[bytes]) -> float:
    """Milliseconds of ``work`` on all objects."""
    start = time.perf_counter()
    for data in objects:
        work(data)
    return (time.perf_counter() - start) * 1000


if __name__ == "__main__":
    main()
