"""Buffers in asyncio programs: ``async for record in records(ring): ...``."""

from __future__ import annotations

import asyncio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from pybpf.perfbuf import PerfBuffer
    from pybpf.ringbuf import RingBuffer

# How long to leave a record alone that its producer has not finished: the buffer counts as readable meanwhile.
_UNFINISHED = 0.001


async def batches(buffer: RingBuffer | PerfBuffer, *, interval: float | None = None) -> AsyncIterator[list[Any]]:
    """Lists of what ``buffer.read()`` gives, never empty, as they arrive; for ever.

    Waits for the buffer's descriptors, and reads every ``interval`` seconds even if nobody
    wakes us (producers that submit with BPF_RB_NO_WAKEUP). Other tasks run between two batches.
    """
    while True:
        found = buffer.read()
        if found:
            yield found
            await asyncio.sleep(0)
            continue
        if buffer.available():
            await asyncio.sleep(_UNFINISHED)
        else:
            await _readable(getattr(buffer, "fds", None) or [buffer.fd], interval)  # type: ignore[union-attr]


async def records(buffer: RingBuffer | PerfBuffer, *, interval: float | None = None) -> AsyncIterator[Any]:
    """What ``batches`` gives, one by one."""
    async for batch in batches(buffer, interval=interval):
        for record in batch:
            yield record


async def _readable(fds: list[int], interval: float | None) -> None:
    """Wait until one of the descriptors is readable, or ``interval`` seconds."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    # Watched only while we wait: a buffer that is being read would call us again and again.
    for fd in fds:
        loop.add_reader(fd, wake)
    timer = loop.call_later(interval, wake) if interval is not None else None
    try:
        await ready
    finally:
        if timer is not None:
            timer.cancel()
        for fd in fds:
            loop.remove_reader(fd)
