"""The examples of the library, run as their own texts say."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from running import ROOT

pytestmark = pytest.mark.native

EXAMPLES = ROOT / "examples"


@contextmanager
def example(name: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """One that says when it watches."""
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / name), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[str]) -> tuple[str, str]:
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out, err


def test_failures() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "failures.py"), "sh", "-c", "cat /nothing/here 2>/dev/null; exit 3"],
        capture_output=True,
        text=True,
        cwd="/",
        env={**os.environ, "LC_ALL": "C"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert any(line.split()[1:] == ["openat", "ENOENT", "/nothing/here"] for line in done.stdout.splitlines())


def test_written(tmp_path: Path) -> None:
    with example("written.py", "60", f"tree={os.getpid()}") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "watching\n"
        for _ in range(3):
            subprocess.run(["sh", "-c", f"echo x >{tmp_path}/f; cat {tmp_path}/f"], check=True, capture_output=True)
        out, err = end(process)
    assert err == ""
    assert f"     3 sh               {tmp_path}/f\n" in out


def test_programs() -> None:
    with example("programs.py", f"tree={os.getpid()}") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "watching\n"
        for number in range(10):
            subprocess.run(["/bin/echo", str(number), "a b"], check=True, capture_output=True)
        assert process.stderr.readline() == "10 programs so far\n"
        out, _ = end(process)
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["argv"] for line in lines] == [["/bin/echo", str(number), "a b"] for number in range(10)]
    assert {line["parent"] for line in lines} == {os.getpid()}


def test_connections() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, example("connections.py", "60", "comm=bfer-conn") as process:
        port = server.getsockname()[1]
        assert process.stdout is not None
        assert process.stdout.readline() == "watching\n"
        client = (
            "import ctypes, socket; ctypes.CDLL(None).prctl(15, b'bfer-conn')\n"
            f"for _ in range(3): socket.create_connection(('127.0.0.1', {port})).close()\n"
            f"socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))"
        )
        subprocess.run([sys.executable, "-c", client], check=True)
        line = process.stdout.readline()
        out, err = end(process)
    assert err == ""
    assert line.endswith(f"] 127.0.0.1 port {port}\n")
    assert line.startswith("bfer-conn[")
    assert out == ""
