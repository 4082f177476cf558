"""``python -m tests.fuzz``: thousands of random programs, each run by CPython, pybpf.vm and the kernel."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time

from tests.fuzz import runner
from tests.fuzz.shrink import shrink

BATCH = 20


def work(task):
    kind, seed, count, kernel, cpu = task
    if kernel:
        os.sched_setaffinity(0, {cpu})
    counts = runner.Counts()
    runner.batch(kind, seed, count, kernel, counts)
    failures = []
    for failure, (schema, name, text), at, number in counts.failures:
        failures.append(report(kind, failure, schema, name, text, at, number, kernel))
    counts.failures = failures
    return counts


def report(kind, failure, schema, name, text, seed, number, kernel):
    """The failing program, shrunk, as text to print."""

    def still_fails(smaller):
        try:
            runner.run_text(schema, {name: smaller}, seed, kernel, None, failure.inputs)
        except runner.Failure as other:
            same = other.what == failure.what
            if failure.what == "compile error":
                return same and message(other) == message(failure)
            return same
        except Exception:
            return False
        return False

    small = shrink(text, still_fails)
    where = f"{kind} seed {seed} program {number}"
    values = ""
    if failure.inputs is not None:
        context, presets = failure.inputs
        values = f"\n  context {context.hex()}\n  maps {presets}"
    return f"{where}: {failure.what}: {failure.details}{values}\n{small}"


def message(failure):
    """A compile error without its place, which moves as the program shrinks."""
    return failure.details.splitlines()[0].split(": ", 1)[-1]


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--programs", type=int, default=5000, help="how many programs (default 5000)")
    parser.add_argument("--seed", type=int, default=0, help="the first seed; each batch has its own (default 0)")
    parser.add_argument("--kind", choices=("integer", "memory"), help="one kind only (default: half of each)")
    parser.add_argument("--kernel", action=argparse.BooleanOptionalAction, default=os.geteuid() == 0)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: CPUs)")
    args = parser.parse_args()
    kinds = [args.kind] if args.kind else ["integer", "memory"]
    cpus = sorted(os.sched_getaffinity(0))
    tasks, left, seed = [], args.programs, args.seed
    while left > 0:
        count = min(BATCH, left)
        kind = kinds[len(tasks) % len(kinds)]
        tasks.append((kind, seed, count, args.kernel, cpus[len(tasks) % len(cpus)]))
        left -= count
        seed += 1
    total, start = runner.Counts(), time.monotonic()
    with multiprocessing.Pool(args.jobs) as pool:
        for counts in pool.imap_unordered(work, tasks):
            total.add(counts)
            for text in counts.failures:
                print(text, flush=True)
    seconds = time.monotonic() - start
    accepted = total.programs - total.rejected
    print(
        f"{total.programs} programs, {total.runs} comparisons, {len(total.failures)} failures, "
        f"{total.rejected} rejected by the verifier ({100 * accepted / max(total.programs, 1):.2f}% accepted)"
        f"{'' if args.kernel else ' (kernel not asked)'}, {seconds:.0f} s"
    )
    for reason, count in sorted(total.reasons.items(), key=lambda item: -item[1])[:10]:
        print(f"  {count} x {reason}")
    return 1 if total.failures else 0


if __name__ == "__main__":
    sys.exit(main())
