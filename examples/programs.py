"""Every program that starts, as JSON lines, beside other work of the same asyncio program.

    sudo python3 examples/programs.py [FILTER...]

Ends with Ctrl-C, and after each ten programs tells how many there were.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import bfer


async def watch(tracer: bfer.Tracer, news: asyncio.Queue[int]) -> None:
    started = 0
    async for event in tracer:
        argv = event.args["argv"]
        line = {"time": event.timestamp, "pid": event.host_pid, "parent": event.host_parent_pid, "uid": event.uid}
        print(json.dumps({**line, "path": event.args["pathname"], "argv": argv}), flush=True)
        started += 1
        if started % 10 == 0:
            news.put_nowait(started)


async def tell(news: asyncio.Queue[int]) -> None:
    while True:
        print(f"{await news.get()} programs so far", file=sys.stderr)


async def main(filters: list[str]) -> None:
    news: asyncio.Queue[int] = asyncio.Queue()
    with bfer.Tracer("event=execve,execveat", "execve.retval=0", "execveat.retval=0", *filters) as tracer:
        for signum in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signum, tracer.stop)
        print("watching", file=sys.stderr, flush=True)
        other = asyncio.create_task(tell(news))
        await watch(tracer, news)
        other.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
