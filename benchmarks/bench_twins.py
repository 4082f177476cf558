"""Our compiler against clang: ``python benchmarks/bench_twins.py [--quick] [NAME...]``, as root.

Every program of ``benchmarks/twins`` exists twice, in the language and in C,
written as a user of either would. Both objects are loaded by our loader and
given the same maps and contexts; their results must agree. A row shows
instructions, instructions the verifier processed and nanoseconds of one run,
ours / clang's, and the ratios; the last line has the geometric means. Time is
the kernel's own count over many runs (kernel.bpf_stats_enabled), the least of
many short rounds of both sides in turn, less that of an empty program; programs
of less than 10 ns on both sides are shown and not counted.
"""

from __future__ import annotations

import argparse
import itertools
import math
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.twin_cases import CLANG, RUNS, args, fill, names, ours, run, theirs  # noqa: E402
from pybpf.errors import Error  # noqa: E402
from pybpf.loader import Collection  # noqa: E402
from pybpf.object.reader import read_object  # noqa: E402
from pybpf.program import Program, Request  # noqa: E402
from pybpf.sections import parse_section  # noqa: E402

LEAST = 10  # nanoseconds: what takes less on both sides is within the error of the clock, and not counted
STATS = Path("/proc/sys/kernel/bpf_stats_enabled")


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
        fill(name, self.loaded.maps)

    def results(self, program: str, inputs: list[bytes]) -> list[tuple[int, bytes]]:
        return [run(self.loaded.programs[program], given) for given in inputs]


def empty_program() -> Program:
    """A program that does nothing: what it takes is the kernel's own part of a run."""
    code = bytes.fromhex("b7000000000000009500000000000000")
    return Request("empty", parse_section("raw_tp/x"), code).load()


def nanoseconds(target: Program, inputs: list[bytes], repeat: int) -> float:
    """The kernel's own time of one run, the mean of some, after one that warms the caches."""
    for given in inputs:
        run(target, given)
    before = target.info()
    for _ in range(repeat):
        for given in inputs:
            run(target, given)
    after = target.info()
    return (after.run_time - before.run_time) / max(1, after.run_count - before.run_count)


_ORDERS = list(itertools.permutations(range(3)))


def measure(pair: list[Program], empty: Program, inputs: list[bytes], rounds: int, repeat: int) -> list[float]:
    """What each of two programs takes, less what an empty one does: the least of many short rounds, in turn.

    Whatever else happens on the machine can only add to a round; one of some tens of microseconds often escapes it.
    """
    turns = [(empty, [args()]), (pair[0], inputs), (pair[1], inputs)]
    least = [math.inf] * 3
    for turn in range(rounds):
        # Each comes after each other one equally often: a program that runs twice in a row is the quicker for it.
        for which in _ORDERS[turn % len(_ORDERS)]:
            program, given = turns[which]
            least[which] = min(least[which], nanoseconds(program, given, repeat))
    return [max(0.1, took - least[0]) for took in least[1:]]


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
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--repeat", type=int, default=8)
    parser.add_argument("--keep", type=Path, help="write both objects there")
    options = parser.parse_args()
    if shutil.which(CLANG) is None:
        print(f"skipped: {CLANG} is not installed")
        return 0
    chosen = options.names or names()
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
            for name in chosen:
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
                        pair = [side.loaded.programs[program] for side in sides]
                        took = measure(pair, empty, contexts, options.rounds, options.repeat)
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
