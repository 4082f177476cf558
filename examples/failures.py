"""What goes wrong in a command: its failing system calls, counted by call, error and what they were about.

sudo python3 examples/failures.py ls /nothing
"""

from __future__ import annotations

import errno
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import bfer


def main(command: list[str]) -> int:
    if not command:
        print(f"usage: {sys.argv[0]} COMMAND ARG...", file=sys.stderr)
        return 2
    counts: Counter[tuple[str, str, str]] = Counter()
    calls = 0
    with bfer.Tracer("set=syscalls", command=command, buffer=1 << 23) as tracer:
        for event in tracer:
            calls += 1
            if -4096 < event.result < 0:
                error = errno.errorcode.get(-event.result, str(event.result))
                subject = next((value for value in event.args.values() if isinstance(value, str)), "")
                counts[event.name, error, subject] += 1
    print(f"{sum(counts.values())} of {calls} calls failed")
    for (name, error, subject), count in counts.most_common(20):
        print(f"{count:7} {name:16} {error:12} {subject}")
    for name, count in tracer.lost.items():
        print(f"{count} events of {name} were lost", file=sys.stderr)
    return tracer.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
