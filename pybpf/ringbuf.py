"""The ring buffer's reader (kernel/bpf/ringbuf.c, since 5.8).

The kernel shares two counters of bytes, the consumer's (ours to write) and the
producer's, and the data, mapped twice in a row so that no record ever wraps. A
record is 8 bytes of header (u32 length with a busy and a discard bit, u32 page
offset) and its data, padded to a multiple of 8.
"""

from __future__ import annotations

import os
from errno import EBADF, EINVAL
from struct import Struct, calcsize
from time import monotonic

from pybpf import abi, kernel
from pybpf.errors import MapError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap
    from types import TracebackType
    from typing import Any

    from pybpf.maps import Map

BUSY = abi.RINGBUF_BUSY_BIT
DISCARD = abi.RINGBUF_DISCARD_BIT
LENGTH = DISCARD - 1
_NATIVE = calcsize("L")
# Records taken by one call: bounds the memory that a full, large buffer would take at once.
BATCH = 1024
# Records whose layout is known are looked at _LOOK_MIN at a time, and more as long as all are equal.
_STEPS = (64, 16, 4, 1)
_LOOK_MIN, _LOOK_MAX = 8, 256
# A large buffer is mapped in parts of so many bytes, one at a time: every mapped page counts as resident memory.
_PART = 64 * 1024
# When so many parts (4 MiB of records) have come within a second, a buffer of up to _WHOLE_MAX is mapped whole from
# then on: mapping a part, and first reading its pages, takes longer than taking its records out. The memory is the
# kernel's in any case; that it counts as this process's, too, is all that it costs.
_MOVES = 64
_WHOLE_MAX = 16 << 20
# Bytes that are mapped behind a part's end, or the buffer's: longer than nearly every record.
_WINDOW = 16 * 1024


def strongly_ordered(machine: str) -> bool:
    """True where loads are not reordered with loads, nor stores with earlier loads: x86 and s390x."""
    return machine in ("x86_64", "amd64") or machine.startswith("s390") or (machine[:1] == "i" and machine[2:] == "86")


def long_size(machine: str) -> int:
    """Bytes of the kernel's ``unsigned long``; this process's own may be shorter (32-bit user space)."""
    return 8 if "64" in machine or machine == "s390x" or machine.startswith("armv8") else 4


def counter(raw: memoryview) -> memoryview:
    """A view of the 4 or 8 bytes ``raw`` as one number, read and written by one native access where possible."""
    if len(raw) == 4:
        return raw.cast("I")
    return raw.cast("L") if _NATIVE == 8 else raw.cast("Q")


def _closed(limit: int = 0) -> list[bytes]:
    raise MapError("the ring buffer's reader is closed", EBADF)


def make_barrier() -> Callable[[], None]:
    """A full memory barrier in plain Python.

    CPython offers none, but a lock's release is a store-release and its acquire
    a load-acquire, and no access may pass the two in this order (arm64: STLR
    before LDAR are ordered; RISC-V: both RCsc; elsewhere the C library has full
    barriers in them). It costs less than a system call.
    """
    from _thread import allocate_lock

    lock = allocate_lock()
    lock.acquire()
    release, acquire = lock.release, lock.acquire

    def barrier() -> None:
        release()
        acquire()

    return barrier


class Layout:
    """How to take records apart. ``format`` is struct's (``=`` is understood) of a record of ``size`` bytes.

    ``other`` gives the same fields of one of any size.
    """

    __slots__ = ("other", "size", "steps", "stride")

    def __init__(self, format: str, size: int, other: Callable[[bytes], tuple[Any, ...]]) -> None:
        self.size = size
        self.stride = size + 15 & -8
        self.other = other
        one = f"8x{format}{self.stride - 8 - calcsize('=' + format)}x"
        # What takes so many records apart that stand in a row.
        self.steps = [(count, Struct("=" + one * count).unpack_from) for count in _STEPS]


class Reader:
    """The protocol on three pieces of memory; what maps them is ``RingBuffer``.

    ``consumer`` and ``producer`` are views of one of the kernel's ``unsigned long``
    each (4 bytes on 32-bit kernels, where the counters wrap at 2**32). ``data``
    holds, from ``base`` on, the buffer and its first ``window`` bytes again (all of them
    if it is the ``size``), so that few records have to be put together from two pieces.
    ``ordered`` tells whether the machine keeps loads in order.
    """

    __slots__ = (
        "_barrier",
        "_base",
        "_consumer",
        "_data",
        "_end_at",
        "_heads",
        "_mask",
        "_ordered",
        "_part",
        "_parts",
        "_producer",
        "_turn",
        "_unpackers",
        "_wrap",
        "read",
        "size",
    )

    def __init__(
        self,
        consumer: memoryview,
        producer: memoryview,
        data: mmap,
        base: int,
        size: int,
        ordered: bool,
        window: int = 0,
    ) -> None:
        self.size = size
        self._turn = base + size
        self._end_at = base + size + (window or size)
        self._base = base
        self._consumer = consumer
        self._producer = producer
        self._data = data
        self._heads = memoryview(data).cast("I")
        self._mask = size - 1
        # What is mapped may be a part of the buffer: the bits of a position that tell which one, and their value.
        self._parts = self._part = 0
        self._wrap = (1 << 8 * consumer.itemsize) - 1
        self._barrier = make_barrier()
        self._unpackers: dict[int, Callable[[mmap, int], tuple[bytes, ...]]] = {}
        self._ordered = ordered
        # One attribute instead of a test in each call: this is the event path.
        self.read: Callable[..., list[bytes]] = self._read_first

    def available(self) -> int:
        """Bytes between the two counters: unread records, headers and unfinished ones included."""
        return self._end() - self._consumer[0] & self._wrap

    def _end(self) -> int:
        """The producer's counter.

        It is one aligned native load on x86 and arm64. A compiler for a machine
        without unaligned loads may copy byte by byte, so that a concurrent
        update tears: read until two agree.
        """
        producer = self._producer
        end = producer[0]
        while end != producer[0]:
            end = producer[0]
        return int(end)

    def _read_first(self, limit: int = BATCH) -> list[bytes]:
        """``read`` as long as nobody has called it: not all who have a reader want records as they are."""
        from pybpf.ringread import read_ordered, read_weak

        read = read_ordered if self._ordered else read_weak
        self.read = lambda limit=BATCH: read(self, limit)
        return read(self, limit)

    def _move(self, begin: int) -> None:
        """Map the part of the buffer where ``begin`` is."""
        raise NotImplementedError

    def _whole(self, at: int, length: int) -> bytes:
        """A record at an offset of the data whose end lies past the repeated part."""
        head = self._data[at : self._turn]
        # An offset past the turn: only the record's header came before it.
        start = self._base + max(at - self._turn, 0)
        return head + self._data[start : start + length - len(head)]

    def rows(self, layout: Layout, limit: int = BATCH) -> list[Any]:
        """As ``read``, but the fields of all records in one list, one record's after the other's.

        Several times as fast as ``read`` and taking apart, where most records have the layout's size.
        """
        consumer = self._consumer
        begin = consumer[0]
        if begin & self._parts != self._part:
            self._move(begin)
        span = self._end() - begin & self._wrap
        if not span:
            return []
        barrier = self._barrier
        barrier()  # see ringread.read_weak
        heads = self._heads
        size, stride = layout.size, layout.stride
        first = at = self._base + (begin & self._mask)
        stop = at + span
        turn = stop > self._end_at
        if turn:
            stop = self._turn
        plan: list[tuple[int, int]] = []  # where, and how many of the layout's size; 0: one of another
        count = 0
        look = _LOOK_MIN
        while at < stop and count < limit:
            head = heads[at >> 2]
            if head == size:
                run = min(limit - count, (stop - at + stride - 1) // stride, look)
                found = heads[at >> 2 : at + run * stride >> 2 : stride >> 2].tolist()
                if found.count(size) == run:
                    look = min(look * 2, _LOOK_MAX)
                else:
                    run = [head == size for head in found].index(False)
                    look = _LOOK_MIN
                plan.append((at, run))
                at += run * stride
                count += run
            elif head < DISCARD:
                plan.append((at, 0))
                at += head + 15 & -8
                count += 1
            elif head < BUSY:
                at += (head & LENGTH) + 15 & -8
            else:
                break
        barrier()
        rows: list[Any] = []
        for place, run in plan:
            self._add_rows(rows, layout, place, run)
        barrier()
        consumer[0] = begin + at - first & self._wrap
        if turn and at >= self._turn and count < limit:
            rows += self.rows(layout, limit - count)
        return rows

    def _add_rows(self, rows: list[Any], layout: Layout, at: int, run: int) -> None:
        """The fields of ``run`` records in a row, or of one of another size."""
        if not run:
            rows += layout.other(self._record(at))
            return
        broken = at + run * layout.stride > self._end_at  # the last one ends past the repeated part
        run -= broken
        for step, unpack in layout.steps:
            while run >= step:
                rows += unpack(self._data, at)
                at += step * layout.stride
                run -= step
        if broken:
            rows += layout.other(self._record(at))

    def _record(self, at: int) -> bytes:
        """The record whose header is at an offset of the data."""
        length = self._heads[at >> 2]
        if at + (length + 15 & -8) > self._end_at:
            return self._whole(at + 8, length)
        return self._data[at + 8 : at + 8 + length]

    def drain(self, out: list[bytes] | Callable[[bytes], object]) -> int:
        """Hand over every record, those that arrive meanwhile included: append to a list, or call. Returns how many.

        Ends when the buffer is empty or the next record is unfinished.
        """
        total = 0
        while True:
            records = self.read()
            if not records:
                return total
            total += len(records)
            if isinstance(out, list):
                out += records
            else:
                for record in records:
                    out(record)

    def release(self) -> None:
        """Let go of the memory; later reads raise MapError."""
        self.read = _closed  # also ends the cycle that the bound method made
        self._heads.release()
        self._consumer.release()
        self._producer.release()


class RingBuffer(Reader):
    """Reader of a ring buffer map; the map stays the caller's.

    Of a large buffer 64 KiB are mapped at a time, until records come so fast that moving on is a burden: all
    of it counts as resident memory of this process. ``read(limit)`` gives a list of records, ``drain`` takes all,
    ``available`` counts bytes. ``fd`` is the map's, for epoll: readable when the producer
    wakes its reader. Raises MapError when ``map`` is of another type.
    """

    __slots__ = ("_map", "_mappings", "_moves", "_since", "_window")

    def __init__(self, map: Map) -> None:
        if map.type != abi.MAP_TYPE_RINGBUF:
            raise MapError(f"{map} is not a ring buffer (type {map.type})", EINVAL)
        page = kernel.page_size()
        size = map.max_entries
        self._map = map
        self._mappings: list[mmap] = []
        what = str(map)
        try:
            # Consumer page, writable; then producer page, data, and data again, which user space may only read.
            # Of the data a part, and behind it what most records need that begin in it and go on.
            part = min(size, _PART)
            self._window = max(page, min(part, _WINDOW))
            self._mappings.append(kernel.map_memory(map.fd, page, writable=True, what=what))
            self._mappings.append(kernel.map_memory(map.fd, page, page, what=what))
            self._mappings.append(kernel.map_memory(map.fd, part + self._window, 2 * page, what=what))
        except BaseException:
            self._unmap()
            raise
        consumer, producer, data = self._mappings
        machine = os.uname().machine
        width = long_size(machine)
        super().__init__(
            counter(memoryview(consumer)[:width]),
            counter(memoryview(producer)[:width]),
            data,
            0,
            part,
            strongly_ordered(machine),
            self._window,
        )
        self.size = size
        self._parts = size - part
        self._moves, self._since = 0, monotonic()

    @property
    def fd(self) -> int:
        """The map's file descriptor, for epoll; -1 once the map is closed."""
        return self._map.fd

    def _move(self, begin: int) -> None:
        self._moves += 1
        if self._moves == _MOVES:
            now = monotonic()
            if now - self._since < 1 and self.size <= _WHOLE_MAX:
                self._turn, self._end_at, self._mask = self.size, self.size + self._window, self.size - 1
                self._parts = 0
            self._moves, self._since = 0, now
        self._part = begin & self._parts
        self._heads.release()
        self._mappings.pop().close()
        offset = 2 * kernel.page_size() + self._part
        self._data = kernel.map_memory(self._map.fd, self._end_at, offset, what=str(self._map))
        self._mappings.append(self._data)
        self._heads = memoryview(self._data).cast("I")

    def _whole(self, at: int, length: int) -> bytes:
        page = kernel.page_size()
        start = self._part + at
        before = start % page
        with kernel.map_memory(self._map.fd, before + length, 2 * page + start - before, what=str(self._map)) as data:
            return data[before : before + length]

    def _unmap(self) -> None:
        for mapping in self._mappings:
            mapping.close()
        self._mappings = []

    def close(self) -> None:
        """Unmap the memory; a second call does nothing."""
        if self._mappings:
            self.release()
            self._unmap()

    def __enter__(self) -> RingBuffer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
