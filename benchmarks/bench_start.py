"""What starting costs: time from exec to attached, CPU time of that, peak RSS, modules imported, size of the wheel.

    sudo python3 benchmarks/bench_start.py [ROUNDS]

"Attached" is when the table's header arrives, which bfer writes after the last
program is attached. It is shown as users type it and without the site module (-S -E), for one event and for all
system calls of a process, with the bare interpreter beside it. On a busy machine CPU time says more than the clock.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRACE = ["-m", "bfer", "trace", f"pid={os.getpid()}"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def attached(flags: list[str], events: str = "event=openat") -> tuple[float, float, int]:
    """Milliseconds from exec until the header comes, of the clock and of CPU, and peak RSS in KB."""
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *flags, *TRACE, events],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout is not None
        header = process.stdout.readline()
        took = (time.perf_counter() - started) * 1e3
        cpu = int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]) / 1e6
        if not header.startswith(b"TIME"):
            assert process.stderr is not None
            sys.exit(process.stderr.read().decode())
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        process.terminate()
        process.communicate()
    return took, cpu, peak


def bare(flags: list[str]) -> tuple[float, float, int]:
    """The same for an interpreter that does nothing else."""
    code = "print(*[open(f'/proc/self/{name}').read() for name in ('schedstat', 'status')])"
    started = time.perf_counter()
    said = subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, check=True).stdout
    took = (time.perf_counter() - started) * 1e3
    return took, int(said.split()[0]) / 1e6, int(said.partition("VmHWM:")[2].split()[0])


def modules() -> list[str]:
    """Modules that a trace has imported when it is attached, beyond those of a bare interpreter."""
    code = (
        "import sys; before = set(sys.modules); sys.argv[1:] = ['trace', '--duration', '10ms', '--output', 'none',"
        " 'event=openat', 'openat.pathname=/no/such/file/anywhere']; from bfer.__main__ import main; main();"
        "print(*sorted(set(sys.modules) - before))"
    )
    return subprocess.run(
        [sys.executable, "-S", "-E", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()


def wheel_size() -> str:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, str(ROOT)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        sizes = [f"{path.name}: {path.stat().st_size} bytes" for path in Path(folder).glob("*.whl")]
        return sizes[0] if sizes else f"not built: {done.stderr.strip().splitlines()[-1:]}"


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    cases = {
        "bfer, -S -E": lambda: attached(["-S", "-E"]),
        "bfer": lambda: attached([]),
        "bfer, all system calls": lambda: attached([], "set=syscalls"),
        "bare, -S -E": lambda: bare(["-S", "-E"]),
        "bare": lambda: bare([]),
    }
    attached([])  # compiled and in the page cache
    results: dict[str, list[tuple[float, float, int]]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, run in cases.items():
            results[name].append(run())
    print(f"{'':24} {'min ms':>8} {'median':>8} {'max':>8} {'CPU min':>8} {'median':>8} {'peak RSS KB':>12}")
    for name, rows in results.items():
        times, cpus, peaks = zip(*rows)
        print(
            f"{name:24} {min(times):8.1f} {statistics.median(times):8.1f} {max(times):8.1f} {min(cpus):8.1f} "
            f"{statistics.median(cpus):8.1f} {statistics.median_low(peaks):12}"
        )
    names = modules()
    own = [name for name in names if name.split(".")[0] in ("bfer", "btf", "pybpf", "programs")]
    print(f"modules: {len(names)}, of them {len(own)} our own; others: {' '.join(n for n in names if n not in own)}")
    if rounds > 1:
        print(wheel_size())
    print(f"children's CPU: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime:.1f} s")


if __name__ == "__main__":
    main()
