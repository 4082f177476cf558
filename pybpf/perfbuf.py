"""The perf event buffer's reader (4.4): a ring for each CPU, into which ``bpf_perf_event_output`` copies samples.

The older brother of the ring buffer (``pybpf.ringbuf``, 5.8), for kernels and programs
that have only this one. Each ring is a perf event of its own: one page of control, then the data,
where records (``struct perf_event_header``: u32 type, u16 misc, u16 size) wrap. What finds no
room is counted by the kernel, and told by a record when there is room again.
"""

from __future__ import annotations

import os
import sys
from errno import EBADF, EINVAL
from struct import unpack_from

from pybpf import abi, attrs, commands, kernel
from pybpf.errors import MapError
from pybpf.ringbuf import counter, make_barrier, strongly_ordered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap
    from types import TracebackType

    from pybpf.maps import Map

_RECORD_LOST, _RECORD_SAMPLE = 2, 9
_SOFTWARE, _BPF_OUTPUT = 1, 10  # PERF_TYPE_SOFTWARE, PERF_COUNT_SW_BPF_OUTPUT
_SAMPLE_RAW = 1 << 10
_WATERMARK = 14  # number of the bit in the word of flags
_BATCH = 1024


class PerfReader:
    """The protocol on one CPU's memory: ``control`` is the first page, ``data`` (a power of two) begins at ``base``.

    ``lost`` counts samples that the kernel had no room for. ``ordered`` tells whether the
    machine keeps loads in order, see ``ringbuf.strongly_ordered``.
    """

    __slots__ = ("_barrier", "_base", "_data", "_head", "_mask", "_tail", "lost", "size")

    def __init__(self, control: memoryview, data: mmap, base: int, size: int, ordered: bool) -> None:
        places = attrs.fields("perf_event_mmap_page")
        head, tail = places["data_head"][0], places["data_tail"][0]
        # u64 on every machine; a 32-bit process reads it in two halves, of which the lower one changes.
        self._head = counter(control[head : head + 8])
        self._tail = counter(control[tail : tail + 8])
        self._data = data
        self._base = base
        self.size = size
        self._mask = size - 1
        self._barrier: Callable[[], None] | None = None if ordered else make_barrier()
        self.lost = 0

    def available(self) -> int:
        """Bytes of unread records."""
        return int(self._head[0]) - int(self._tail[0])

    def read(self, limit: int = _BATCH) -> list[bytes]:
        """Take up to ``limit`` samples, oldest first; an empty list when there is none.

        The kernel pads samples to 4 bytes less than a multiple of 8: whoever knows their
        length cuts them. Two barriers a batch where the machine needs them: the counter is read before
        the data, and the data before room is given back (perf_output_put_handle() in
        kernel/events/ring_buffer.c has the other half).
        """
        begin = at = int(self._tail[0])
        head = int(self._head[0])
        while head != int(self._head[0]):  # torn by a machine without such loads
            head = int(self._head[0])
        records: list[bytes] = []
        if begin == head:
            return records
        if self._barrier is not None:
            self._barrier()
        while at < head and len(records) < limit:
            kind, _, size = unpack_from("=IHH", self._bytes(at, 8))
            if size < 8:
                raise MapError(f"perf buffer: a record of {size} bytes at {at}: the memory is damaged", EINVAL)
            if kind == _RECORD_SAMPLE:
                (length,) = unpack_from("=I", self._bytes(at + 8, 4))
                records.append(self._bytes(at + 12, min(length, size - 12)))
            elif kind == _RECORD_LOST:
                self.lost += unpack_from("=QQ", self._bytes(at + 8, 16))[1]
            at += size
        if self._barrier is not None:
            self._barrier()
        self._tail[0] = at
        return records

    def _bytes(self, at: int, length: int) -> bytes:
        start = at & self._mask
        end = start + length
        base = self._base
        if end <= self.size:
            return self._data[base + start : base + end]
        return self._data[base + start : base + self.size] + self._data[base : base + end - self.size]

    def release(self) -> None:
        """Let go of the memory."""
        self._head.release()
        self._tail.release()


class PerfBuffer:
    """Readers of a perf event array, one for each CPU that is online; the map stays the caller's.

    ``pages`` is the size of each ring, a power of two of memory pages. Who waits for ``fds``
    is woken at each sample, or with ``watermark`` when a ring holds as many bytes.
    ``read`` gives ``(cpu, sample)``; ``lost`` counts by CPU. Raises MapError, or
    LinkError when perf events are refused; nothing is left open then.
    """

    def __init__(self, map: Map, pages: int = 8, watermark: int = 0) -> None:
        from pybpf.cpus import online

        if map.type != abi.MAP_TYPE_PERF_EVENT_ARRAY:
            raise MapError(f"{map} is no perf event array (type {map.type})", EINVAL)
        if pages < 1 or pages & pages - 1:
            raise MapError(f"{map}: {pages} pages: the number must be a power of two", EINVAL)
        self._map = map
        self._events: dict[int, kernel.Fd] = {}
        self._memory: dict[int, mmap] = {}
        self._readers: dict[int, PerfReader] = {}
        self._next = 0
        try:
            for cpu in online():
                if cpu < map.max_entries:
                    self._open(cpu, pages, watermark)
        except BaseException:
            self.close()
            raise

    def _open(self, cpu: int, pages: int, watermark: int) -> None:
        what = f"{self._map} on CPU {cpu}"
        flag = _WATERMARK if sys.byteorder == "little" else 63 - _WATERMARK  # bit-fields count from the other end
        event = self._events[cpu] = commands.perf_event(
            *(-1, cpu, what),
            type=_SOFTWARE,
            config=_BPF_OUTPUT,
            sample_type=_SAMPLE_RAW,
            sample_period=1,
            bits=1 << flag if watermark else 0,
            wakeup_events=watermark or 1,
        )
        page = kernel.page_size()
        memory = self._memory[cpu] = kernel.map_memory(event.fd, (1 + pages) * page, writable=True, what=what)
        ordered = strongly_ordered(os.uname().machine)
        self._readers[cpu] = PerfReader(memoryview(memory), memory, page, pages * page, ordered)
        self._map.update(cpu.to_bytes(4, sys.byteorder), event.fd.to_bytes(4, sys.byteorder))

    @property
    def fds(self) -> list[int]:
        """The descriptors to wait for, readable when their rings have something to tell."""
        return [event.fd for event in self._events.values()]

    @property
    def lost(self) -> dict[int, int]:
        """Samples that found no room, by CPU; as far as the records that tell of it have been read."""
        return {cpu: reader.lost for cpu, reader in self._readers.items()}

    def available(self) -> int:
        """Bytes of unread records, of all CPUs."""
        return sum([reader.available() for reader in self._readers.values()])

    def read(self, limit: int = _BATCH) -> list[tuple[int, bytes]]:
        """Take up to ``limit`` samples as ``(cpu, sample)``: in order for each CPU, CPU after CPU.

        Each call begins with the CPU after the one at which the last call stopped, so that a busy
        one does not starve the others.
        """
        if not self._readers:
            raise MapError("the perf buffer's reader is closed", EBADF)
        found: list[tuple[int, bytes]] = []
        cpus = list(self._readers)
        first = self._next
        for step in range(len(cpus)):
            self._next = (first + step + 1) % len(cpus)
            cpu = cpus[(first + step) % len(cpus)]
            found += [(cpu, record) for record in self._readers[cpu].read(limit - len(found))]
            if len(found) >= limit:
                break
        return found

    def close(self) -> None:
        """Stop the events and unmap the memory; a second call does nothing."""
        for reader in self._readers.values():
            reader.release()
        for event in self._events.values():
            event.close()  # the kernel empties the map's slot
        for memory in self._memory.values():
            memory.close()
        self._readers, self._events, self._memory = {}, {}, {}

    def __enter__(self) -> PerfBuffer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
