"""Which files are written to, by whom: every ten seconds the busiest, until Ctrl-C.

sudo python3 examples/written.py [SECONDS [FILTER...]]
"""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import bfer


def main(seconds: float, filters: list[str]) -> None:
    with bfer.Tracer("openat.flags=*O_WRONLY*,*O_RDWR*", "openat.retval>=0", *filters) as tracer:
        signal.signal(signal.SIGINT, lambda *_: tracer.stop())
        signal.signal(signal.SIGTERM, lambda *_: tracer.stop())
        counts: Counter[tuple[str, str]] = Counter()
        shown = time.monotonic()
        print("watching", flush=True)
        for event in tracer:
            counts[event.comm, str(event.args["pathname"])] += 1
            if time.monotonic() - shown >= seconds:
                show(counts)
                shown = time.monotonic()
        show(counts)


def show(counts: Counter[tuple[str, str]]) -> None:
    for (comm, path), count in counts.most_common(10):
        print(f"{count:6} {comm:16} {path}")
    print(flush=True)
    counts.clear()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10, sys.argv[2:])
