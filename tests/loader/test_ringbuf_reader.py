"""The ring buffer protocol on plain memory, against a producer written here after kernel/bpf/ringbuf.c."""

from __future__ import annotations

import mmap
import os
import struct
import sys
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybpf import abi, kernel, ringbuf
from pybpf.ringbuf import Layout, Reader, counter, long_size, strongly_ordered

BASE = 4096
BUSY, DISCARD = 1 << 31, 1 << 30


class Ring:
    """Producer side and memory; data is written to both places, as the kernel's double mapping shows it."""

    WINDOW = 1 << 20  # bytes of the second copy

    def __init__(self, size: int, ordered: bool, width: int = 8, start: int = 0) -> None:
        self.size, self.width = size, width
        self.mask = (1 << 8 * width) - 1
        self.consumer = mmap.mmap(-1, 4096)
        self.window = min(size, Ring.WINDOW)
        self.data = mmap.mmap(-1, BASE + size + self.window)
        self.position = start
        self.consumer[:width] = start.to_bytes(width, sys.byteorder)
        self._publish()
        self.reader = Reader(
            counter(memoryview(self.consumer)[:width]),
            counter(memoryview(self.data)[:width]),
            self.data,
            BASE,
            size,
            ordered,
            self.window,
        )

    def _publish(self) -> None:
        self.data[: self.width] = self.position.to_bytes(self.width, sys.byteorder)

    def _write(self, position: int, raw: bytes) -> None:
        for index, byte in enumerate(raw):
            at = (position + index) % self.size
            self.data[BASE + at] = byte
            if at < self.window:
                self.data[BASE + self.size + at] = byte

    @property
    def used(self) -> int:
        return self.position - int.from_bytes(self.consumer[: self.width], sys.byteorder) & self.mask

    def reserve(self, length: int) -> int | None:
        need = length + 15 & ~7
        if self.used + need > self.size - 1:
            return None
        at = self.position
        self._write(at, struct.pack("=II", length | BUSY, 0))
        self.position = self.position + need & self.mask
        self._publish()
        return at

    def commit(self, at: int, data: bytes, discard: bool = False) -> None:
        self._write(at + 8, data)
        self._write(at, struct.pack("=I", len(data) | (DISCARD if discard else 0)))

    def output(self, data: bytes, discard: bool = False) -> bool:
        at = self.reserve(len(data))
        if at is not None:
            self.commit(at, data, discard)
        return at is not None


@pytest.fixture(params=[1 << 20, 8, 64, 4096], scope="module", autouse=True)
def second_copy(request):
    """All of the buffer twice, or only its beginning: records are then put together from two pieces."""
    Ring.WINDOW = request.param
    yield
    Ring.WINDOW = 1 << 20


@pytest.fixture(params=[True, False], ids=["ordered", "weak"])
def ordered(request):
    return request.param


def test_empty(ordered):
    ring = Ring(4096, ordered)
    assert ring.reader.read() == []
    assert ring.reader.drain([]) == 0
    assert ring.reader.available() == 0


def test_records_in_order_and_room_given_back(ordered):
    ring = Ring(4096, ordered)
    sent = [bytes([n]) * n for n in range(40)]
    for data in sent:
        assert ring.output(data)
    assert ring.reader.available() == ring.used > 0
    assert ring.reader.read() == sent
    assert ring.used == 0


def test_busy_record_stops_and_discarded_is_skipped(ordered):
    ring = Ring(4096, ordered)
    ring.output(b"one")
    ring.output(b"never", discard=True)
    at = ring.reserve(5)
    ring.output(b"three")
    assert ring.reader.read() == [b"one"]
    assert ring.reader.read() == []
    assert ring.reader.available() > 0
    assert at is not None
    ring.commit(at, b"two..")
    assert ring.reader.read() == [b"two..", b"three"]


def test_limit(ordered):
    ring = Ring(1 << 16, ordered)
    sent = [n.to_bytes(8, "little") for n in range(1000)]
    for data in sent:
        ring.output(data)
    assert ring.reader.read(1) == sent[:1]
    assert ring.reader.read(100) == sent[1:101]
    assert ring.reader.read(33) == sent[101:134]
    got: list[bytes] = []
    assert ring.reader.drain(got.append) == 866
    assert got == sent[134:]
    assert ring.reader.read(0) == []


def test_more_discarded_than_one_batch(ordered):
    ring = Ring(1 << 17, ordered)
    for _ in range(3000):
        ring.output(b"dropped", discard=True)
    ring.output(b"kept")
    out: list[bytes] = []
    assert ring.reader.drain(out) == 1
    assert out == [b"kept"]
    assert ring.used == 0


def test_run_is_broken_by_busy_and_discarded_records(ordered):
    ring = Ring(1 << 16, ordered)
    sent = [n.to_bytes(4, "little") * 3 for n in range(200)]
    for number, data in enumerate(sent[:150]):
        ring.output(data, discard=number == 77)
    at = ring.reserve(12)
    for data in sent[151:]:
        ring.output(data)
    assert ring.reader.read() == sent[:77] + sent[78:150]
    assert at is not None
    ring.commit(at, sent[150])
    assert ring.reader.read() == sent[150:]


@pytest.mark.parametrize("width", [4, 8])
def test_position_wraps(ordered, width):
    """The counters overflow while records are read; only 32-bit kernels live to see that."""
    ring = Ring(4096, ordered, width, start=(1 << 8 * width) - 4096)
    for round in range(5):
        sent = [bytes([round, n]) * 16 for n in range(60)]
        for data in sent:
            assert ring.output(data)
        assert ring.reader.available() == ring.used
        assert ring.reader.read() == sent
        assert ring.used == 0
    assert ring.position < 1 << 16


def test_many_lengths_forget_old_unpackers(ordered):
    ring = Ring(1 << 16, ordered)
    for length in range(1, 100):
        sent = [bytes([length]) * length] * 40
        for data in sent:
            assert ring.output(data)
        assert ring.reader.read() == sent
    assert len(ring.reader._unpackers) <= 64


USUAL = 44
LAYOUT = Layout("I40s", USUAL, lambda record: (int.from_bytes(record[:4], sys.byteorder), record[4:]))
LENGTHS = st.one_of(st.just(USUAL - 4), st.integers(0, 300))


def test_rows_are_the_fields_of_records(ordered):
    ring = Ring(1 << 16, ordered)
    sent = [struct.pack("=I", n) + bytes([n % 256]) * (40 if n % 100 else 33 + n // 10) for n in range(700)]
    for data in sent:
        assert ring.output(data)
    fields = [field for data in sent for field in LAYOUT.other(data)]
    assert ring.reader.rows(LAYOUT, 1) == fields[:2]
    assert ring.reader.rows(LAYOUT, 0) == []
    assert ring.reader.rows(LAYOUT, 300) == fields[2:602]
    assert ring.reader.rows(LAYOUT) == fields[602:]
    assert ring.reader.rows(LAYOUT) == []
    assert ring.used == 0


def test_a_run_of_rows_ends_at_busy_and_discarded_records(ordered):
    ring = Ring(1 << 16, ordered)
    sent = [struct.pack("=I", n) + bytes(40) for n in range(200)]
    for number, data in enumerate(sent[:150]):
        ring.output(data, discard=number == 77)
    at = ring.reserve(USUAL)
    for data in sent[151:]:
        ring.output(data)
    numbers = list(range(200))
    assert ring.reader.rows(LAYOUT)[::2] == numbers[:77] + numbers[78:150]
    assert at is not None
    ring.commit(at, sent[150])
    assert ring.reader.rows(LAYOUT)[::2] == numbers[150:]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("output"), LENGTHS, st.integers(1, 80), st.booleans()),
        st.tuples(st.just("reserve"), LENGTHS),
        st.tuples(st.just("commit"), st.booleans()),
        st.tuples(st.sampled_from(["read", "rows"]), st.integers(1, 200)),
    ),
    max_size=40,
)


@settings(max_examples=120, deadline=None)
@given(steps=STEPS, ordered=st.booleans(), width=st.sampled_from([4, 8]))
def test_any_history(steps, ordered, width):
    """Whatever is produced comes out once, in order, up to the first unfinished record."""
    ring = Ring(4096, ordered, width, start=(1 << 32) - 8192)
    queue: deque[list] = deque()  # [data or None for discarded, finished]
    pending: deque[tuple[int, list]] = deque()
    serial = 0
    for step in steps:
        if step[0] == "output":
            for _ in range(step[2]):
                serial += 1
                data = serial.to_bytes(4, "little") * (step[1] // 4 + 1)
                if ring.output(data, step[3]):
                    queue.append([None if step[3] else data, True])
        elif step[0] == "reserve":
            serial += 1
            data = serial.to_bytes(4, "little") * (step[1] // 4 + 1)
            at = ring.reserve(len(data))
            if at is not None:
                entry = [data, False]
                queue.append(entry)
                pending.append((at, entry))
        elif step[0] == "commit" and pending:
            at, entry = pending.popleft()
            ring.commit(at, entry[0], step[1])
            entry[1] = True
            if step[1]:
                entry[0] = None
        elif step[0] in ("read", "rows"):
            wanted = []
            while queue and queue[0][1] and len(wanted) < step[1]:
                data = queue.popleft()[0]
                if data is not None:
                    wanted.append(data)
            if step[0] == "read":
                assert ring.reader.read(step[1]) == wanted
            else:
                assert ring.reader.rows(LAYOUT, step[1]) == [field for data in wanted for field in LAYOUT.other(data)]
            # Discarded records behind the last one taken may have been passed over already, or not.
            while queue and queue[0][0] is None:
                queue.popleft()


class FileRing(Ring):
    """The same memory in a file, for the reader that maps it in parts: consumer, producer, data, and data again."""

    type = abi.MAP_TYPE_RINGBUF

    def __init__(self, size: int) -> None:
        self.size = self.max_entries = self.window = size
        self.width, self.mask, self.position = 8, (1 << 64) - 1, 0
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * BASE + 2 * size)
        self.consumer = mmap.mmap(self.fd, BASE)
        self.data = mmap.mmap(self.fd, BASE + 2 * size, offset=BASE)
        self.reader = ringbuf.RingBuffer(self)

    def close(self) -> None:
        self.reader.close()
        os.close(self.fd)


@pytest.mark.skipif(mmap.PAGESIZE != BASE, reason="written for pages of 4096 bytes")
@pytest.mark.parametrize("moves", [5, 1 << 30])  # in a hurry: whole from then on; never
@pytest.mark.parametrize("part", [4096, 8192, 1 << 16])
def test_a_buffer_in_parts(part, moves, monkeypatch):
    monkeypatch.setattr(ringbuf, "_PART", part)
    monkeypatch.setattr(ringbuf, "_WINDOW", 4096)
    monkeypatch.setattr(ringbuf, "_MOVES", moves)
    mapped = []
    real = kernel.map_memory

    def map_memory(fd, length, offset=0, **rest):
        mapped.append(length)
        return real(fd, length, offset, **rest)

    monkeypatch.setattr(kernel, "map_memory", map_memory)
    ring = FileRing(1 << 16)
    try:
        serial, sent, got, rows = 0, [], [], []
        for turn in range(60):
            while True:
                # Some reach over a part's end, and some of these past what is mapped behind it.
                length = 9000 if serial % 41 == 40 else USUAL if serial % 3 else serial % 700 + 4
                data = struct.pack("=I", serial) + bytes([serial % 256]) * (length - 4)
                if not ring.output(data):
                    break
                sent.append(data)
                serial += 1
            limit = 7 + turn * 13 % 500
            if turn % 2:
                got += ring.reader.read(limit)
            else:
                rows = ring.reader.rows(LAYOUT, limit)
                got += [struct.pack("=I", number) + rest for number, rest in zip(rows[::2], rows[1::2])]
            assert ring.reader.available() == ring.used
        ring.reader.drain(got)
        assert got == sent
        assert serial > 2000
        assert ring.reader.size == 1 << 16
        # Behind consumer and producer, and without what single records need.
        parts = [length for length in mapped[2:] if not length % BASE]
        if part == 1 << 16:
            assert parts == [part + 4096]
        elif moves == 5:
            assert parts == [part + 4096] * 5 + [(1 << 16) + 4096]
        else:
            assert len(parts) > 30
            assert set(parts) == {part + 4096}
    finally:
        ring.close()


def test_machines():
    assert strongly_ordered("x86_64")
    assert strongly_ordered("i686")
    assert not strongly_ordered("aarch64")
    assert not strongly_ordered("riscv64")
    assert [long_size(m) for m in ("x86_64", "i686", "armv7l", "armv8l", "aarch64", "s390x", "riscv32", "mips")] == [
        8,
        4,
        4,
        8,
        8,
        8,
        4,
        4,
    ]
