"""``python -m tests.fuzz``: thousands of random programs, each run by CPython, pybpf.vm and the kernel."""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import os
import platform
import sys
import time

from tests.fuzz import runner
from tests.fuzz.shrink import shrink

BATCH = 20


def work(task):
    kind, seed, count, kernel, xdp, cpu = task
    if kernel:  # per-CPU maps are compared as one CPU sees them
        os.sched_setaffinity(0, {cpu})
    counts = runner.Counts()
    runner.batch(kind, seed, count, kernel, counts, xdp)
    failures = []
    for failure, (schema, name, text), at, number in counts.failures:
        failures.append((failure.what, report(kind, failure, schema, name, text, at, number, kernel)))
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
    parser.add_argument("--xdp", action="store_true", help="programs on packets, which kernels before 5.14 run too")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: CPUs)")
    args = parser.parse_args()
    kinds = [args.kind] if args.kind else ["integer", "memory"]
    cpus = sorted(os.sched_getaffinity(0))
    tasks, left, seed = [], args.programs, args.seed
    while left > 0:
        count = min(BATCH, left)
        kind = kinds[len(tasks) % len(kinds)]
        tasks.append((kind, seed, count, args.kernel, args.xdp, cpus[len(tasks) % len(cpus)]))
        left -= count
        seed += 1
    total, start = runner.Counts(), time.monotonic()
    for counts in results(tasks, args.jobs):
        total.add(counts)
        for _, text in counts.failures:
            print(text, flush=True)
    print(summary(total, args, time.monotonic() - start))
    return 1 if total.failures else 0


def results(tasks, jobs):
    """What comes of each task; in this process if it is to be the only one."""
    if jobs == 1:
        yield from map(work, tasks)
        return
    with multiprocessing.Pool(jobs) as pool:
        yield from pool.imap_unordered(work, tasks)


def summary(total, args, seconds):
    """The last lines: what was run, what failed, what was refused and why."""
    kinds = collections.Counter(what for what, _ in total.failures)
    mismatches = sum(count for what, count in kinds.items() if what.startswith("mismatch"))
    ways = f"pybpf.vm and kernel {platform.release()}" if args.kernel else "pybpf.vm; the kernel was not asked"
    first = f"{total.programs} programs{' on packets' if args.xdp else ''}, {total.runs} runs compared with CPython's"
    refused = f"{total.rejected} refused ({100 * total.rejected / max(total.programs, 1):.2f}%)"
    others = len(total.failures) - mismatches
    lines = [f"{first} ({ways}), {mismatches} mismatches, {others} other failures, {refused}, {seconds:.0f} s"]
    lines += [f"  {count} x {what}" for what, count in kinds.most_common()]
    lines += [f"  refused {count} x {why}" for why, count in sorted(total.reasons.items(), key=lambda item: -item[1])]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
