"""What tracing adds to a system call: traced, not selected, and an empty program on the same hook beside it.

    sudo python3 benchmarks/bench_overhead.py [ROUNDS [CALLS [alone|ratio]]]

A process makes calls at full speed on a processor of its own; what it is told to do is in load.c. Rows are
interleaved, round by round; a figure is the process's CPU time per call, less that of the same call
untraced: minimum and median of all rounds, in ns. "empty" is a program that does nothing, attached to
the hook that bfer uses: what the kernel itself takes. Other tracers have rows where installed, unless ``alone``.

The kernel puts a program elsewhere each time that it is loaded, which alone makes 20 ns, as much as there is between
the empty program and a call that is not selected. So only many loads tell: ``ratio`` leaves everything else out, so
that a hundred rounds take a minute. ``chrt -r 1`` before the command keeps others out of the figures. So measured, over
60 loads: 125 ns for the empty program, 148 for a call that is not selected (medians).
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.workload import Bfer, Workload, lost, processors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

KINDS = ("openat", "getppid")
BUFFER = "32M"
TRIES = 16
LOST: dict[str, int] = {}


@contextmanager
def untraced(pid: int) -> Iterator[None]:
    yield


@contextmanager
def empty(pid: int) -> Iterator[None]:
    """A program that returns at once, on BTF tracepoint sys_exit (else the raw one)."""
    from struct import pack

    from btf.errors import Error
    from pybpf.links import attach
    from pybpf.loader import Collection
    from pybpf.object.spec import ObjectSpec, ProgramSpec

    code = pack("=BBhi", 0xB7, 0, 0, 0) + pack("=BBhi", 0x95, 0, 0, 0)
    for hook in ("tp_btf/sys_exit", "raw_tp/sys_exit"):
        spec = ObjectSpec(sys.byteorder)
        spec.license = "GPL"
        spec.programs["empty"] = ProgramSpec("empty", hook, code)
        try:
            with Collection(spec, ["empty"]) as loaded:
                link = attach(loaded.programs["empty"])
                try:
                    yield
                finally:
                    link.close()
            return
        except Error:
            if hook.startswith("raw"):
                raise


def bfer(*words: str) -> Callable[[int], AbstractContextManager[None]]:
    """bfer, as JSON to /dev/null; with room for a whole run: a lost event costs less."""

    @contextmanager
    def run(pid: int) -> Iterator[None]:
        tracer = Bfer(f"pid={pid}", "--output", "json", "--buffer", BUFFER, *words)
        try:
            yield
        finally:
            for name, count in lost(tracer.stop()[1]).items():
                LOST[name] = LOST.get(name, 0) + count

    return run


def other(*command: str, wait: float = 1.0) -> Callable[[int], AbstractContextManager[None]]:
    """A rival, given time to attach."""

    @contextmanager
    def run(pid: int) -> Iterator[None]:
        _, cpus = processors()
        process = subprocess.Popen(
            [word.replace("PID", str(pid)) for word in command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )
        time.sleep(wait)
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()

    return run


def cases(what: str) -> dict[str, tuple[Callable[[int], AbstractContextManager[None]], int]]:
    """By name: what traces, and what its slowness divides the number of calls by."""
    found = {
        "untraced": (untraced, 1),
        "empty program": (empty, 1),
        "bfer openat, json": (bfer("event=openat"), 1),
        "bfer openat, another path": (bfer("event=openat", "openat.pathname=/somewhere/else"), 1),
        "bfer all calls, json": (bfer("set=syscalls"), 1),
    }
    if what == "ratio":
        return {name: found[name] for name in ("untraced", "empty program", "bfer openat, json")}
    if what == "alone":
        return found
    if shutil.which("perf"):
        found["perf trace -e openat"] = (other("perf", "trace", "-e", "openat", "-p", "PID"), 10)
    if shutil.which("bpftrace"):
        program = 'tracepoint:syscalls:sys_enter_openat /pid == PID/ { printf("%s\\n", str(args->filename)); }'
        found["bpftrace"] = (other("bpftrace", "-e", program, wait=3), 10)
    if shutil.which("strace"):
        found["strace -f -e openat"] = (other("strace", "-f", "-e", "openat", "-p", "PID"), 100)
    return found


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    calls = int(sys.argv[2]) if len(sys.argv) > 2 else 5_000
    what = sys.argv[3] if len(sys.argv) > 3 else ""
    kinds = KINDS[1:] if what == "ratio" else KINDS
    costs: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in kinds} for name in cases(what)}
    with Workload() as load:
        for _ in range(rounds):
            for name, (tracing, slowness) in cases(what).items():
                with tracing(load.pid):
                    for kind in kinds:
                        # Often and shortly, and the best one: a neighbour disturbs for milliseconds.
                        made = [load.run("call", kind, max(calls // slowness, 1)) for _ in range(TRIES)]
                        costs[name][kind].append(min(one.cpu / one.calls for one in made))
    print(f"{'ns a call':28} " + " ".join(f"{kind + ' min':>12} {'median':>8}" for kind in kinds))
    base = costs["untraced"]
    added: dict[str, tuple[float, float]] = {}
    for name, columns in costs.items():
        figures = ""
        for kind in kinds:
            least, middle = min(columns[kind]), statistics.median(columns[kind])
            if name != "untraced":
                least -= min(base[kind])
                middle = statistics.median([ours - bare for ours, bare in zip(columns[kind], base[kind])])
            added[name] = least, middle
            figures += f"{least:12.0f} {middle:8.0f} "
        print(f"{('' if name == 'untraced' else '+ ') + name:28} {figures}")
    print("lost by bfer: " + (", ".join(f"{name} {count}" for name, count in LOST.items()) or "nothing"))
    for name, figures in added.items():
        if name.startswith("bfer openat"):
            least, middle = [ours / bare for ours, bare in zip(figures, added["empty program"])]
            print(f"a call not selected, {name}: {least:.2f} (median {middle:.2f}) times the empty program")


if __name__ == "__main__":
    main()
