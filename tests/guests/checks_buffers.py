"""Buffers between programs and this process: perf buffer, ring buffer by asyncio, user ring buffer."""

from __future__ import annotations

import os
import select
import struct
import time

from pybpf.errors import LoadError
from pybpf.loader import Collection
from pybpf.perfbuf import PerfBuffer
from pybpf.ringbuf import RingBuffer
from pybpf.userring import UserRingBuffer
from tests.guests.checks import check, equal, programs, skip
from tests.guests.mapkit import lacking, refused

SAMPLE = struct.Struct("=Q21s")


def loaded(*names):
    spec = programs("buffers")
    spec.set("pid", os.getpid())
    return Collection(spec, names)


def attached(collection, name):
    from pybpf import links

    return links.attach(collection.programs[name])


def numbers(samples):
    """The numbers in samples, whatever padding is behind them."""
    return [SAMPLE.unpack_from(data)[0] for _, data in samples]


@check
def check_perf_buffer():
    """Samples of this process, in order, none lost; the rings wrap; closing stops them."""
    with loaded("sample") as collection, PerfBuffer(collection.maps["samples"], pages=1) as buffer:
        got = []
        with attached(collection, "sample"):
            for _ in range(40):
                for _ in range(20):
                    os.getppid()
                got += buffer.read()
        got += buffer.read()
        found = sorted(numbers(got))
        equal(found, list(range(1, len(found) + 1)))
        assert len(found) >= 800, len(found)
        equal(sum(buffer.lost.values()), 0)
        for cpu in {cpu for cpu, _ in got}:
            own = numbers([item for item in got if item[0] == cpu])
            equal(own, sorted(own))
        equal(buffer.available(), 0)


@check
def check_perf_buffer_counts_what_is_lost():
    # On one processor: each has a ring, and tells of its own losses only.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with loaded("sample") as collection, PerfBuffer(collection.maps["samples"], pages=1) as buffer:
        with attached(collection, "sample"):
            for _ in range(3000):
                os.getppid()
        first = numbers(buffer.read(5000))
        assert 0 < len(first) < 3000, len(first)
        # The kernel tells of the loss with the next sample that it has room for.
        with attached(collection, "sample"):
            for _ in range(10):
                os.getppid()
            told = numbers(buffer.read(5000))
        sent = struct.unpack("=Q", collection.maps["sums"].lookup(bytes(4)))[0]
        rest = numbers(buffer.read(5000))
        equal(len(first) + len(told) + len(rest) + sum(buffer.lost.values()), sent)
        assert sum(buffer.lost.values()) > 0


@check
def check_perf_buffer_wakes_its_reader():
    """At each sample, or when a ring holds as many bytes as the watermark says."""
    with loaded("sample") as collection:
        for watermark in (0, 2048):
            with PerfBuffer(collection.maps["samples"], pages=1, watermark=watermark) as buffer:
                poll = select.poll()
                for fd in buffer.fds:
                    poll.register(fd, select.POLLIN)
                equal(poll.poll(0), [])
                with attached(collection, "sample"):
                    pass
                buffer.read()
                poll.poll(0)
                with attached(collection, "sample"):
                    os.getppid()
                waiting = len(buffer.read(1)) + (buffer.available() > 0)
                assert waiting, "there are samples"
                if watermark:
                    equal(poll.poll(0), [])
                    end = time.monotonic() + 20
                    with attached(collection, "sample"):
                        while not poll.poll(0):
                            assert time.monotonic() < end, "never woken"
                    assert buffer.available() >= watermark // 2, buffer.available()
                else:
                    assert poll.poll(0), "woken at the first"
        for pages in (0, 3):
            refused(lambda pages=pages: PerfBuffer(collection.maps["samples"], pages=pages), 22)
        refused(lambda: PerfBuffer(collection.maps["sums"]), 22)


@check
def check_asyncio():
    """Both kinds of buffer feed a coroutine while other coroutines run."""
    try:
        import asyncio

        from pybpf.aio import batches, records
    except ImportError as error:
        skip(f"no asyncio in this Python: {error}")

    async def first(buffer, count):
        found = []
        async for record in records(buffer, interval=0.5):
            found.append(record)
            if len(found) == count:
                break
        return found

    async def act(event):
        for _ in range(40):
            os.getppid()
            await asyncio.sleep(0.005)
            if event.is_set():
                return

    async def both(buffer):
        event = asyncio.Event()
        task = asyncio.create_task(act(event))
        found = await asyncio.wait_for(first(buffer, 5), 60)
        event.set()
        await task
        async for batch in batches(buffer, interval=0.01):
            assert batch
            break
        return found

    with loaded("ring", "sample") as collection:
        with RingBuffer(collection.maps["rings"]) as ring, attached(collection, "ring"):
            found = [struct.unpack("=Q", record)[0] for record in asyncio.run(both(ring))]
            equal(found, list(range(1, 6)))
        with PerfBuffer(collection.maps["samples"]) as buffer, attached(collection, "sample"):
            equal(len(asyncio.run(both(buffer))), 5)


@check
def check_user_ring_buffer():
    """A program takes what this process writes; a full buffer says so; it wraps."""
    try:
        collection = loaded("take_orders")
    except LoadError as error:
        lacking("user_ringbuf", error)
        raise
    with collection, UserRingBuffer(collection.maps["orders"]) as writer:
        take = collection.programs["take_orders"]
        sums = collection.maps["sums"].typed(int, int)
        equal(writer.room(), 4096)
        total = 0
        for turn in range(30):
            count = 0
            while writer.write(struct.pack("=II", 3, turn + 1) + bytes(turn)):
                count += 1
            total += count * (turn + 1)
            assert writer.room() < 64
            equal(take.test_run(ctx=bytes(8)).retval, count)
            equal(sums[3], total)
            equal(writer.room(), 4096)
        refused(lambda: writer.write(bytes(4096)), 7)
        equal(take.test_run(ctx=bytes(8)).retval, 0)
