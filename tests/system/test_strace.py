"""bfer and strace, asked about the same workload, must tell the same story."""

from __future__ import annotations

import base64
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import strace_log

pytestmark = pytest.mark.native

ROOT = Path(__file__).parents[2]
WORKLOAD = Path(__file__).with_name("open_workload.py")
CALLS = "open,openat,openat2,creat"


def fresh(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def value(arg: dict) -> object:
    """An argument of bfer's JSON (option parse-arguments) in the form strace_log gives."""
    name, got = arg["name"], arg["value"]
    if arg["type"] == "void*":
        return int(got, 16)
    if name == "pathname":
        assert "truncated" not in arg
        return base64.b64decode(arg["valueBytes"]) if "valueBytes" in arg else got.encode()
    if name == "flags":
        return strace_log.flags(got)
    if name == "mode":
        return int(got, 8)
    if name == "how":
        resolve = got["resolve"]
        return (
            strace_log.flags(got["flags"]),
            int(got["mode"], 8),
            frozenset() if resolve in ("0", 0) else frozenset(resolve.split("|")),
        )
    return got


def read_json(path: Path) -> list[list[tuple[str, dict[str, object], int, str]]]:
    threads: dict[int, list] = {}
    last: dict[int, int] = {}
    for line in path.read_bytes().splitlines():
        event = json.loads(line.decode("utf-8"))
        tid = event["hostThreadId"]
        assert event["timestamp"] >= last.get(tid, 0), "a thread's events are out of order"
        last[tid] = event["timestamp"]
        result = event["returnValue"]
        arguments = {arg["name"]: value(arg) for arg in event["args"]}
        assert event["argsNum"] == len(event["args"])
        error = errno.errorcode[-result] if result < 0 else ""
        threads.setdefault(tid, []).append((event["eventName"], arguments, -1 if result < 0 else result, error))
    return [threads[tid] for tid in sorted(threads)]


def comparable(call: tuple[str, dict, int, str], other: tuple[str, dict, int, str]) -> tuple:
    """Leaves out a mode that strace does not show because the call ignores it."""
    name, arguments, result, error = call
    if "mode" not in other[1]:
        arguments = {k: v for k, v in arguments.items() if k != "mode"}
    return name, arguments, result, error


def test_same_calls_arguments_and_results_as_strace(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    folder = tmp_path / "w"
    interpreter = os.path.realpath(sys.executable)
    # No address randomisation: pointers must be equal in both runs.
    workload = ["setarch", "-R", interpreter, "-S", "-E", "-B", str(WORKLOAD), str(folder)]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}

    fresh(folder)
    log = tmp_path / "strace"
    subprocess.run(
        ["strace", "-ff", "-xx", "-s", "5000", "-e", "signal=none", "-e", f"trace={CALLS}", "-o", log, *workload],
        check=True,
        env=environment,
        timeout=120,
    )
    expected = strace_log.read(log)

    fresh(folder)
    out = tmp_path / "events.json"
    subprocess.run(
        [
            *(sys.executable, "-m", "bfer", "trace", f"event={CALLS}", "--output", f"json:{out}"),
            *("--output", "option:parse-arguments", "--", *workload),
        ],
        check=True,
        env={**environment, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    got = read_json(out)

    assert [len(thread) for thread in got] == [len(thread) for thread in expected]
    assert sum(len(thread) for thread in expected) > 600
    for mine, theirs in zip(got, expected):
        for number, (a, b) in enumerate(zip(mine, theirs)):
            assert comparable(a, b) == b, f"call {number} differs"
