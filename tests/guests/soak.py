"""``python -m tests.guests.soak [KERNEL [SECONDS [MB]]]``: ``checks_soak`` for ten minutes, in the small guest."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.guests import project, qemu
from tests.guests.checks_soak import RSS_MAX, SCRIPT, Soak
from tests.guests.fetch import say
from tests.guests.matrix import GUESTS, Unavailable


def main(name: str, seconds: int, memory: int) -> int:
    """The exit status: 1 if the bar was not met, 77 if the guest cannot be had."""
    chunks: list[bytes] = []

    def output(data: bytes) -> None:
        chunks.append(data)
        os.write(1, data)

    tracer = ("/tmp", str(seconds), "", "python3", "-m", "bfer", "trace", "-o", "json")
    command = shlex.join(["sh", "-c", SCRIPT, "sh", *tracer])
    try:
        machine = qemu.Machine(replace(GUESTS[name], memory=memory or GUESTS[name].memory))
        with tempfile.TemporaryDirectory() as folder:
            archive = project.make_archive(Path(folder) / "bfer.pyz")
            status, log = machine.run(command, output, archive=archive, timeout=2 * seconds + 300)
    except Unavailable as error:
        say(f"{name}: NOT AVAILABLE: {error}")
        return 77
    try:
        assert status == 0, f"the guest ended with status {status}: {log[-3000:]}"
        Soak(b"".join(chunks).decode()).judge(seconds, RSS_MAX)
    except AssertionError as error:
        say(f"{name}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    kernel, duration, megabytes = [*sys.argv[1:], *("5.10-musl", "600", "0")[len(sys.argv) - 1 :]]
    sys.exit(main(kernel, int(duration), int(megabytes)))
