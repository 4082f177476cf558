"""Writing: partial writes, readers that are gone or slow, full disks."""

from __future__ import annotations

import os
import threading

import pytest

from bfer.errors import OutputClosed, OutputError
from bfer.writer import say, write_all


def test_more_than_a_pipe_holds() -> None:
    read, write = os.pipe()
    data = os.urandom(1 << 20)
    got = bytearray()

    def reader() -> None:
        while chunk := os.read(read, 7777):
            got.extend(chunk)

    for blocking in (True, False):
        os.set_blocking(write, blocking)
        got.clear()
        thread = threading.Thread(target=reader)
        thread.start()
        write_all(write, data, "pipe")
        if not blocking:
            os.close(write)
            thread.join()
        else:
            while len(got) < len(data):
                pass
            # Let this reader end without closing the pipe for the next one.
            os.close(write)
            thread.join()
            os.close(read)
            read, write = os.pipe()
        assert got == data
    os.close(read)


def test_partial_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def write(fd: int, data: bytes) -> int:
        written.append(data[:3])
        return len(data[:3])

    monkeypatch.setattr(os, "write", write)
    write_all(1, b"0123456789", "x")
    assert b"".join(written) == b"0123456789"


def test_closed_pipe() -> None:
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(OutputClosed):
        write_all(write, b"x", "pipe")
    os.close(write)


def test_full_disk() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OutputError) as error:
        write_all(fd, b"a\nb\n", "/dev/full")
    assert str(error.value) == "/dev/full: No space left on device"
    assert error.value.written == 0
    os.close(fd)


def test_disk_that_fills_up(monkeypatch: pytest.MonkeyPatch) -> None:
    results = iter([5, OSError(28, "No space left on device")])

    def write(fd: int, data: bytes) -> int:
        result = next(results)
        if isinstance(result, OSError):
            raise result
        return result

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OutputError) as error:
        write_all(1, b"a\nbb\ncc\n", "x")
    assert error.value.written == 2


def test_say(capfd: pytest.CaptureFixture[str]) -> None:
    say("caf\u00e9")
    assert capfd.readouterr().err == "bfer: caf\u00e9\n"
