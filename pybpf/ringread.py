"""Records of a ring buffer as they are, taken in the two ways that processors' order of loads makes safe.

What has a layout is read by ``Reader.rows`` instead; nobody needs both.
"""

from __future__ import annotations

from itertools import repeat
from struct import Struct

from pybpf.ringbuf import BATCH, BUSY, DISCARD, LENGTH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap

    from pybpf.ringbuf import Reader

# After so many records of one length the next ones are taken _RUN at a time, if they are as long.
_STREAK = 4
_RUN = 32
_UNPACKERS = 64


def read_ordered(reader: Reader, limit: int = BATCH) -> list[bytes]:
    """Take up to ``limit`` finished records, oldest first; an empty list when there is none.

    Stops at a record that its producer has not finished. Discarded records
    are passed over and do not count. The room is given back to the kernel
    once, at the end.
    """
    consumer = reader._consumer
    begin = consumer[0]
    if begin & reader._parts != reader._part:
        reader._move(begin)
    span = reader._producer[0] - begin & reader._wrap
    records: list[bytes] = []
    if not span:
        return records
    heads = reader._heads
    data = reader._data
    append = records.append
    # From here on offsets into the doubled data. A batch that could leave it ends at the turn.
    first = at = reader._base + (begin & reader._mask)
    stop = at + span
    turn = stop > reader._end_at
    if turn:
        stop = reader._turn
    head = last = -1
    size = stride = streak = 0
    while at < stop:
        for _ in repeat(None, limit - len(records)):
            head = heads[at >> 2]
            if head == last:
                append(data[at + 8 : at + size])
                at += stride
                streak += 1
                if streak == _STREAK:
                    break
            elif head < DISCARD:
                last = head
                size = head + 8
                stride = head + 15 & -8
                streak = 0
                append(data[at + 8 : at + size])
                at += stride
            elif head < BUSY:
                at += (head & LENGTH) + 15 & -8
            else:
                stop = at
            if at >= stop:
                break
        else:
            if len(records) >= limit:
                break
        if streak == _STREAK:
            # Records of one size tend to come in runs: check and copy them many at once, in C.
            streak = 0
            step = stride * _RUN
            unpack = _unpacker(reader, last)
            while at + step <= stop and len(records) + _RUN <= limit:
                if heads[at >> 2 : at + step >> 2 : stride >> 2].tolist().count(last) != _RUN:
                    break
                records += unpack(data, at)
                at += step
    if at > reader._end_at and head < DISCARD:
        records[-1] = reader._whole(at - (head + 15 & -8) + 8, head)
    consumer[0] = begin + at - first & reader._wrap
    if turn and at >= reader._turn and len(records) < limit:
        records += read_ordered(reader, limit - len(records))
    return records


def read_weak(reader: Reader, limit: int = BATCH) -> list[bytes]:
    """The same where the processor may reorder loads (arm, RISC-V, POWER, MIPS, LoongArch).

    Three barriers a batch: after the counter (else a header may be older
    than it), after the headers (else data may be older than its header's
    clear busy bit), and before room is given back (else data may be read
    after the kernel has written over it).
    """
    consumer = reader._consumer
    begin = consumer[0]
    if begin & reader._parts != reader._part:
        reader._move(begin)
    span = reader._end() - begin & reader._wrap
    if not span:
        return []
    barrier = reader._barrier
    barrier()
    heads = reader._heads
    first = at = reader._base + (begin & reader._mask)
    stop = at + span
    turn = stop > reader._end_at
    if turn:
        stop = reader._turn
    # What to copy after the barrier: spans, then runs as (what cuts one, where).
    spans: list[tuple[int, int]] = []
    runs: list[tuple[Callable[[mmap, int], tuple[bytes, ...]], int]] = []
    plan = [(spans, runs)]
    count = streak = 0
    head = last = -1
    while at < stop and count < limit:
        head = heads[at >> 2]
        if head >= BUSY:
            break
        if head >= DISCARD:
            at += (head & LENGTH) + 15 & -8
            continue
        at += 8
        spans.append((at, at + head))
        at += head + 7 & -8
        count += 1
        streak = streak + 1 if head == last else 0
        last = head
        if streak == _STREAK:
            streak = 0
            stride = head + 15 & -8
            step = stride * _RUN
            while at + step <= stop and count + _RUN <= limit:
                if heads[at >> 2 : at + step >> 2 : stride >> 2].tolist().count(head) != _RUN:
                    break
                runs.append((_unpacker(reader, head), at))
                at += step
                count += _RUN
            if runs:
                spans, runs = [], []
                plan.append((spans, runs))
    barrier()
    data = reader._data
    records: list[bytes] = []
    for spans, runs in plan:
        records += [data[start:end] for start, end in spans]
        for unpack, start in runs:
            records += unpack(data, start)
    if at > reader._end_at and head < DISCARD:
        records[-1] = reader._whole(at - (head + 7 & -8), head)
    barrier()
    consumer[0] = begin + at - first & reader._wrap
    if turn and at >= reader._turn and count < limit:
        records += read_weak(reader, limit - count)
    return records


def _unpacker(reader: Reader, length: int) -> Callable[[mmap, int], tuple[bytes, ...]]:
    """What cuts ``_RUN`` records of ``length`` bytes out of the data; remembered."""
    known = reader._unpackers.get(length)
    if known is None:
        if len(reader._unpackers) >= _UNPACKERS:
            reader._unpackers.clear()
        known = Struct("=" + f"8x{length}s{-length & 7}x" * _RUN).unpack_from
        reader._unpackers[length] = known
    return known
