"""Whom the processes of this machine talk to: each new pair of program and address, once.

sudo python3 examples/connections.py [SECONDS [FILTER...]]
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import bfer

MEMBERS = (("sin_addr", "sin_port"), ("sin6_addr", "sin6_port"))


def main(seconds: float | None, filters: list[str]) -> None:
    seen = set()
    with bfer.Tracer("event=connect,sendto", *filters, duration=seconds) as tracer:
        signal.signal(signal.SIGINT, lambda *_: tracer.stop())
        print("watching", flush=True)
        for event in tracer:
            where = event.args["addr" if event.name == "connect" else "dest_addr"]
            if not isinstance(where, dict):  # NULL, or what the kernel could not read either
                continue
            for address, port in MEMBERS:
                if address in where and (event.comm, where[address], where[port]) not in seen:
                    seen.add((event.comm, where[address], where[port]))
                    print(f"{event.comm}[{event.pid}] {where[address]} port {where[port]}", flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else None, sys.argv[2:])
