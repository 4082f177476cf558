"""The perf buffer's protocol on plain memory, against a producer written here after kernel/events/ring_buffer.c."""

from __future__ import annotations

import mmap
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybpf import attrs
from pybpf.errors import MapError
from pybpf.perfbuf import PerfReader

PAGE = 4096
HEAD = attrs.fields("perf_event_mmap_page")["data_head"][0]
TAIL = attrs.fields("perf_event_mmap_page")["data_tail"][0]


class Ring:
    """Producer side and memory; what finds no room is counted, and told before the next record."""

    def __init__(self, size: int = PAGE, ordered: bool = True, start: int = 0) -> None:
        self.size = size
        self.memory = mmap.mmap(-1, PAGE + size)
        self.head = start
        self.unsaid = 0
        self._counter(HEAD, start)
        self._counter(TAIL, start)
        self.reader = PerfReader(memoryview(self.memory), self.memory, PAGE, size, ordered)

    def _counter(self, at: int, value: int) -> None:
        self.memory[at : at + 8] = struct.pack("=Q", value)

    @property
    def tail(self) -> int:
        return struct.unpack_from("=Q", self.memory, TAIL)[0]

    def _put(self, raw: bytes) -> bool:
        if self.head + len(raw) - self.tail > self.size:
            return False
        for index, byte in enumerate(raw):
            self.memory[PAGE + (self.head + index) % self.size] = byte
        self.head += len(raw)
        self._counter(HEAD, self.head)
        return True

    def output(self, data: bytes) -> bool:
        if self.unsaid:
            lost = struct.pack("=IHHQQ", 2, 0, 24, 1, self.unsaid)
            if not self._put(lost):
                self.unsaid += 1
                return False
            self.unsaid = 0
        padded = data.ljust(-(-(len(data) + 4) // 8) * 8 - 4, b"\0")
        if self._put(struct.pack("=IHHI", 9, 0, 12 + len(padded), len(padded)) + padded):
            return True
        self.unsaid += 1
        return False

    def close(self) -> None:
        self.reader.release()
        self.memory.close()


@pytest.mark.parametrize("ordered", [True, False])
@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.binary(min_size=1, max_size=600), st.integers(0, 20)), max_size=80), st.integers(0, 511))
def test_all_that_is_sent_comes_or_is_counted(ordered, steps, start):
    ring = Ring(ordered=ordered, start=start * 8)
    sent, got, refused = [], [], 0
    for step in steps:
        if isinstance(step, bytes):
            if ring.output(step):
                sent.append(step)
            else:
                refused += 1
        else:
            got += ring.reader.read(step)
    while ring.reader.available():
        got += ring.reader.read()
    assert [data[: len(wanted)] for data, wanted in zip(got, sent)] == sent
    assert len(got) == len(sent)
    assert all(not any(data[len(wanted) :]) and len(data) - len(wanted) < 8 for data, wanted in zip(got, sent))
    assert ring.reader.lost == refused - ring.unsaid
    assert ring.tail == ring.head
    ring.close()


def test_other_records_are_passed_over():
    ring = Ring()
    ring._put(struct.pack("=IHHQ", 5, 0, 16, 0))  # PERF_RECORD_THROTTLE, cut short
    ring.output(b"data")
    assert ring.reader.read() == [b"data"]
    assert ring.reader.read() == []
    ring.close()


def test_damaged_memory_is_an_error_not_a_hang():
    ring = Ring()
    ring._put(bytes(8))
    with pytest.raises(MapError, match="a record of 0 bytes"):
        ring.reader.read()
    ring.close()
