"""Starts bfer as a user would, waits until it traces, and looks at what is left afterwards."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
BFER = (sys.executable, "-m", "bfer")


def need(*programs: str) -> None:
    """Skip the test where a program that it compares with is missing."""
    for program in programs:
        if shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
            pytest.skip(f"{program} is not installed")


def bfer(*arguments: str, timeout: float = 60, **kwargs: object) -> subprocess.CompletedProcess[str]:
    """Run to the end and give what it printed."""
    options = {"capture_output": True, "text": True, "env": ENVIRONMENT, "timeout": timeout, "cwd": "/", **kwargs}
    return subprocess.run([*BFER, *arguments], check=False, **options)  # type: ignore[call-overload]


def as_user(*command: str) -> list[str]:
    """The command line that runs ``command`` as the ordinary user 1000."""
    need("setpriv")
    return ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", *command]


class Tracer:
    """A bfer that runs until ``stop``; the table's header tells that it traces."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*BFER, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, cwd="/"
        )
        self.output = b""
        self.wait_for(b"TIME")

    def wait_for(self, text: bytes, seconds: float = 20) -> None:
        """Read standard output until ``text`` has come."""
        assert self.process.stdout is not None
        end = time.monotonic() + seconds
        while text not in self.output:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))
            chunk = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not chunk:
                self.process.kill()
                _, errors = self.process.communicate()
                pytest.fail(f"{text!r} did not come: {self.output!r} {errors!r}")
            self.output += chunk

    def stop(self, signum: int = signal.SIGINT) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        self.process.send_signal(signum)
        output, errors = self.process.communicate(timeout=20)
        return self.process.returncode, (self.output + output).decode(), errors.decode()


def events(output: str) -> list[list[str]]:
    """The table's events, split into at most eight columns."""
    rows = [line.split(None, 7) for line in output.splitlines()]
    return [row for row in rows if len(row) == 8 and row[0].count(":") == 3]


def summary(output: str) -> tuple[int, int]:
    """The numbers in the table's last line: events and lost."""
    words = output.splitlines()[-1].split()
    assert words[0] == "Events:", output
    assert words[2] == "Lost:", output
    return int(words[1]), int(words[3])
