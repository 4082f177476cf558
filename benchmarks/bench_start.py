"""What starting costs: time from exec to attached, peak RSS, modules imported, size of the wheel.

    sudo python3 benchmarks/bench_start.py [ROUNDS]

"Attached" is when the table's header arrives, which bfer writes after the last
program is attached. Three interpreters' ways of starting are shown: as users
type it, without the site module (-S -E), and the bare interpreter for comparison.
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
TRACE = ["-m", "bfer", "trace", "event=openat", "openat.pathname=/no/such/file/anywhere"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def attached(flags: list[str]) -> tuple[float, int]:
    """Milliseconds from exec until the header comes, and peak RSS in KB."""
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *flags, *TRACE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        header = process.stdout.readline()
        took = (time.perf_counter() - started) * 1e3
        if not header.startswith(b"TIME"):
            assert process.stderr is not None
            sys.exit(process.stderr.read().decode())
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        process.terminate()
        process.communicate()
    return took, peak


def bare(flags: list[str]) -> tuple[float, int]:
    """The same for an interpreter that does nothing."""
    started = time.perf_counter()
    pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, *flags, "-c", "pass"])
    _, _, usage = os.wait4(pid, 0)
    return (time.perf_counter() - started) * 1e3, usage.ru_maxrss


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
        "bare, -S -E": lambda: bare(["-S", "-E"]),
        "bare": lambda: bare([]),
    }
    attached([])  # compiled and in the page cache
    results: dict[str, list[tuple[float, int]]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, run in cases.items():
            results[name].append(run())
    print(f"{'':14} {'min ms':>8} {'median':>8} {'max':>8} {'peak RSS KB':>12}")
    for name, rows in results.items():
        times = [row[0] for row in rows]
        peak = int(statistics.median(row[1] for row in rows))
        print(f"{name:14} {min(times):8.1f} {statistics.median(times):8.1f} {max(times):8.1f} {peak:12}")
    names = modules()
    own = [name for name in names if name.split(".")[0] in ("bfer", "btf", "pybpf", "programs")]
    print(f"modules: {len(names)}, of them {len(own)} our own; others: {' '.join(n for n in names if n not in own)}")
    print(wheel_size())
    print(f"children's CPU: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime:.1f} s")


if __name__ == "__main__":
    main()
