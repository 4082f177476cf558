"""What benchmarks of the tracer share: the process that they trace, tracers, and processors of their own for both."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}


def processors() -> tuple[set[int], set[int]]:
    """One for the workload, and the others, where there are any, for the tracer."""
    mine = sorted(os.sched_getaffinity(0))
    return {mine[-1]}, set(mine[:-1]) or {mine[-1]}


class Made:
    """What the workload did: calls, and ns in all."""

    def __init__(self, line: str) -> None:
        self.calls, self.cpu, self.wall = map(int, line.split())


class Workload:
    """A process that makes system calls when told to (load.c, or load.py where there is no C compiler)."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bfer-bench-")
        program = Path(self._folder.name, "bfer-load")
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler:
            subprocess.run([compiler, "-O2", "-o", program, HERE / "load.c"], check=True)
            command = [str(program)]
        else:
            print("no C compiler: the workload is Python, whose own cost hides small differences")
            command = [sys.executable, str(HERE / "load.py")]
        cpus, _ = processors()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )
        self.pid = self._process.pid

    def start(self, *words: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()

    def result(self) -> Made:
        assert self._process.stdout is not None
        return Made(self._process.stdout.readline())

    def run(self, *words: object) -> Made:
        self.start(*words)
        return self.result()

    def close(self) -> None:
        self._process.communicate()
        self._folder.cleanup()

    def __enter__(self) -> Workload:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Bfer:
    """A running tracer, attached. ``words`` are its arguments, ``output`` is where its standard output goes."""

    def __init__(self, *words: str, output: str = os.devnull) -> None:
        _, cpus = processors()
        with open(output, "wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-E", "-m", "bfer", "trace", "--explain", *words],
                stdout=file,
                stderr=subprocess.PIPE,
                cwd=ROOT,
                preexec_fn=lambda: os.sched_setaffinity(0, cpus),
            )
        self._ended = False
        self._errors = self._process.stderr
        assert self._errors is not None
        # What --explain prints comes when everything is attached; notes, and word of compiling a checkout, before.
        line = "bfer: note:"
        self._first = ""
        while line.startswith(("bfer: note:", "bfer: compiling")):
            line = self._errors.readline().decode()
            self._first += line
            if not line:
                sys.exit(f"bfer did not start: {self._first}")
        self.started = self.cpu()

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        fields = Path(f"/proc/{self._process.pid}/schedstat").read_text().split()
        return int(fields[0]) / 1e9

    def peak(self) -> int:
        """Peak of the resident memory so far, in KB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))

    def stop(self) -> tuple[float, str]:
        """End it; CPU seconds from being attached to its end, and what it said."""
        assert self._errors is not None
        self._process.send_signal(signal.SIGTERM)  # which, unlike SIGINT, a job in the background does not ignore
        said = self._first + self._errors.read().decode()
        self._errors.close()
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._process.returncode:
            sys.exit(f"bfer ended with status {self._process.returncode}: {said}")
        return usage.ru_utime + usage.ru_stime - self.started, said


def lost(said: str) -> dict[str, int]:
    """Lost events by name, from what bfer said at its end."""
    found: dict[str, int] = {}
    for line in said.splitlines():
        if line.startswith("bfer: lost ") and " so far " not in line:
            for part in line[line.index("(") + 1 : line.rindex(")")].split(", "):
                name, _, count = part.rpartition(" ")
                found[name] = int(count)
    return found
