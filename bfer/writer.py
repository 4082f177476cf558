"""Writing to a file descriptor until everything is out."""

from __future__ import annotations

import os
from errno import EAGAIN, EPIPE

from bfer.errors import OutputClosed, OutputError

STDOUT, STDERR = 1, 2
_messages = STDERR


def write_all(fd: int, data: bytes, name: str) -> None:
    """Write all of ``data``. Raises OutputClosed when nobody reads it any more, OutputError for any other failure."""
    done = 0
    while True:
        try:
            done += os.write(fd, data[done:] if done else data)
            if done >= len(data):
                return
        except OSError as error:
            if error.errno == EAGAIN:
                _wait(fd)
            elif error.errno == EPIPE:
                raise OutputClosed(f"{name}: closed") from None
            else:
                raise OutputError(f"{name}: {error.strerror}", data.count(b"\n", 0, done)) from None


def _wait(fd: int) -> None:
    """Sleep until a descriptor that somebody made non-blocking takes more."""
    from select import POLLOUT, poll

    waiter = poll()
    waiter.register(fd, POLLOUT)
    waiter.poll()


def divert(fd: int) -> None:
    """What ``say`` says goes to this descriptor from now on."""
    global _messages
    _messages = fd


def say(text: str) -> None:
    """One line on stderr, or wherever it was diverted to; nobody there to read it is no reason to fail."""
    try:
        write_all(_messages, f"bfer: {text}\n".encode(errors="surrogateescape"), "stderr")
    except (OutputClosed, OutputError):
        pass
