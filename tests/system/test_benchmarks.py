"""The benchmarks of the tracer run, with sizes so small that their figures mean nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            ("bench_overhead.py", "1", "200", "alone"),
            ["+ empty program", "+ bfer all calls, json", "a call not selected"],
        ),
        (("bench_events.py", "1", "20000", "4000"), ["json ", "table ", "xml ", " lines, all as they must be"]),
        (("bench_loss.py", "20000", "0.2"), ["openat   made      4000", "exactly", " a second for "]),
        (("bench_start.py", "1"), ["bfer, all system calls", "modules: "]),
        (("bench_render.py", "2"), ["read and render json", "read and filter by text"]),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_runs(command: tuple[str, ...], expected: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / command[0]), *command[1:]],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for text in expected:
        assert text in done.stdout
