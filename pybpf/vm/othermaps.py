"""Models of the other maps: tries, queues, stacks, program arrays, ring and perf buffers; and what makes any map."""

from __future__ import annotations

from collections.abc import Iterator
from errno import E2BIG, EAGAIN, EEXIST, EINVAL, ENOENT, ENOSPC

from pybpf import abi
from pybpf.object.spec import MapSpec
from pybpf.vm.errors import VmError
from pybpf.vm.maps import ArrayMap, HashMap, MapModel
from pybpf.vm.memory import Order, Region

_HEADER = abi.RINGBUF_HDR_SZ
_WAKEUP_FLAGS = 3  # BPF_RB_NO_WAKEUP, BPF_RB_FORCE_WAKEUP
_PAGE = 4096


class LpmTrie(MapModel):
    """BPF_MAP_TYPE_LPM_TRIE. A key is a u32 number of bits in the machine's byte order, and the bits."""

    def __init__(self, spec: MapSpec, byteorder: Order = "little", cpus: int = 1) -> None:
        super().__init__(spec, byteorder, cpus)
        if not 5 <= spec.key_size <= 260 or not spec.value_size or not spec.max_entries:
            raise VmError(f"{self}: a trie's key has 5 to 260 bytes (kernel/bpf/lpm_trie.c)")
        if not spec.flags & abi.F_NO_PREALLOC:
            raise VmError(f"{self}: a trie needs the flag BPF_F_NO_PREALLOC")
        self._bits = (spec.key_size - 4) * 8
        # (number of bits, those bits): the key as it was given, the value.
        self._nodes: dict[tuple[int, int], tuple[bytes, Region]] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def _parse(self, key: bytes) -> tuple[int, int]:
        length = int.from_bytes(key[:4], self.byteorder)
        return length, int.from_bytes(key[4:], "big") >> max(self._bits - length, 0)

    def _find(self, key: bytes) -> tuple[bytes, Region] | None:
        length, bits = self._parse(key)
        if length > self._bits:
            return None
        for cut in range(length + 1):
            node = self._nodes.get((length - cut, bits >> cut))
            if node is not None:
                return node
        return None

    def prog_lookup(self, key: bytes, cpu: int) -> Region | None:
        node = self._find(key)
        return None if node is None else node[1]

    def prog_update(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        place = self._parse(key)
        if flags > abi.EXIST or place[0] > self._bits:
            return -EINVAL
        known = place in self._nodes
        if known and flags == abi.NOEXIST:
            return -EEXIST
        if not known and flags == abi.EXIST:
            return -ENOENT
        if not known and len(self._nodes) >= self.max_entries:
            return -ENOSPC
        self._nodes[place] = (bytes(key), self.value_region(bytearray(value)))
        return 0

    def prog_delete(self, key: bytes) -> int:
        place = self._parse(key)
        if place[0] > self._bits:
            return -EINVAL
        return 0 if self._nodes.pop(place, None) is not None else -ENOENT

    def lookup(self, key: bytes) -> bytes | None:
        """The value of the longest entry that is a prefix of ``key``."""
        self.check_key(key)
        node = self._find(key)
        return None if node is None else bytes(node[1].data)

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        self.check_key(key)
        self.check_write()
        error = self.prog_update(key, self.split(value)[0], flags, 0)
        if error:
            raise self.failure(error)

    def delete(self, key: bytes) -> bool:
        self.check_key(key)
        self.check_write()
        error = self.prog_delete(key)
        if error == -EINVAL:
            raise self.failure(error)
        return not error

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        for key, region in list(self._nodes.values()):
            yield key, bytes(region.data)


class QueueMap(MapModel):
    """BPF_MAP_TYPE_QUEUE and STACK: values without keys."""

    def __init__(self, spec: MapSpec, byteorder: Order = "little", cpus: int = 1) -> None:
        super().__init__(spec, byteorder, cpus)
        if spec.key_size or not spec.value_size or not spec.max_entries:
            raise VmError(f"{self}: a queue or stack has no key, but values and room for them")
        self.values: list[bytes] = []

    def __len__(self) -> int:
        return len(self.values)

    def prog_push(self, value: bytes, flags: int) -> int:
        if flags not in (abi.ANY, abi.EXIST):
            return -EINVAL
        if len(self.values) >= self.max_entries:
            if flags != abi.EXIST:
                return -E2BIG
            del self.values[0]  # the oldest makes room
        self.values.append(bytes(value))
        return 0

    def prog_take(self, remove: bool) -> bytes | None:
        if not self.values:
            return None
        at = 0 if self.type == abi.MAP_TYPE_QUEUE else -1
        return self.values.pop(at) if remove else self.values[at]

    def prog_update(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        return -EINVAL

    def prog_delete(self, key: bytes) -> int:
        return -EINVAL

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """Push; the key is empty."""
        self.check_key(key)
        error = self.prog_push(self.split(value)[0], flags)
        if error:
            raise self.failure(error)

    def lookup(self, key: bytes = b"") -> bytes | None:
        """Peek."""
        self.check_key(key)
        return self.prog_take(False)

    def take(self, key: bytes = b"") -> bytes | None:
        """Pop."""
        self.check_key(key)
        return self.prog_take(True)


class ProgArray(MapModel):
    """BPF_MAP_TYPE_PROG_ARRAY: names of programs of the interpreter that runs the tail call."""

    def __init__(self, spec: MapSpec, byteorder: Order = "little", cpus: int = 1) -> None:
        super().__init__(spec, byteorder, cpus)
        if spec.key_size != 4 or spec.value_size != 4 or not spec.max_entries:
            raise VmError(f"{self}: a program array has keys and values of 4 bytes, and elements")
        self.programs: dict[int, str] = {}

    def set(self, index: int, program: str | None) -> None:
        """Put the program of that name into a slot, or empty it. Raises MapError."""
        if not 0 <= index < self.max_entries:
            raise self.failure(-E2BIG)
        if program is None:
            self.programs.pop(index, None)
        else:
            self.programs[index] = program

    def delete(self, key: bytes) -> bool:
        self.check_key(key)
        return self.programs.pop(int.from_bytes(key, self.byteorder), None) is not None


class MapOfMaps(MapModel):
    """BPF_MAP_TYPE_ARRAY_OF_MAPS and HASH_OF_MAPS: ``maps`` are the models that entries hold, by key."""

    def __init__(self, spec: MapSpec, byteorder: Order = "little", cpus: int = 1) -> None:
        super().__init__(spec, byteorder, cpus)
        if spec.inner is None or spec.value_size != 4 or not spec.max_entries:
            raise VmError(f"{self}: a map of maps says what maps it holds, and has values of 4 bytes")
        self.inner = spec.inner
        self.maps: dict[bytes, MapModel] = {}

    def set(self, key: bytes, map: MapModel | None) -> None:
        """Put a map like the inner one into an entry, or empty it. Raises MapError."""
        self.check_key(key)
        if map is None:
            self.maps.pop(key, None)
            return
        if self.type == abi.MAP_TYPE_ARRAY_OF_MAPS and int.from_bytes(key, self.byteorder) >= self.max_entries:
            raise self.failure(-E2BIG)
        wanted = (self.inner.type, self.inner.key_size, self.inner.value_size)
        if (map.type, map.key_size, map.value_size) != wanted:
            raise self.failure(-EINVAL)
        if key not in self.maps and len(self.maps) >= self.max_entries:
            raise self.failure(-E2BIG)
        self.maps[key] = map


class _Entry:
    """A record in a ring buffer; ``state`` is busy, done or discarded, ``span`` what it takes with its header."""

    __slots__ = ("data", "region", "span", "state", "wakeup")

    def __init__(self, data: bytearray, region: Region | None, span: int) -> None:
        self.data = data
        self.region = region
        self.span = span
        self.state = "busy"
        self.wakeup = 0


class RingBufMap(MapModel):
    """BPF_MAP_TYPE_RINGBUF: ``records`` are the finished ones, in order; ``drain`` takes them and gives room back.

    A record that is reserved reads as zeros.
    """

    def __init__(self, spec: MapSpec, byteorder: Order = "little", cpus: int = 1) -> None:
        super().__init__(spec, byteorder, cpus)
        size = spec.max_entries
        if spec.key_size or spec.value_size or size < _PAGE or size & size - 1:
            raise VmError(f"{self}: a ring buffer has no key, no value and a power of two of bytes, {_PAGE} at least")
        self._entries: list[_Entry] = []
        self.producer = 0
        self.consumer = 0

    @property
    def records(self) -> list[bytes]:
        """What was submitted and not drained yet, whether or not an unfinished record is in front of it."""
        return [bytes(entry.data) for entry in self._entries if entry.state == "done"]

    @property
    def wakeups(self) -> list[int]:
        """The flags that each of ``records`` was submitted with: 1 BPF_RB_NO_WAKEUP, 2 BPF_RB_FORCE_WAKEUP."""
        return [entry.wakeup for entry in self._entries if entry.state == "done"]

    def drain(self) -> list[bytes]:
        """Take the finished records, up to the first unfinished one."""
        taken = []
        while self._entries and self._entries[0].state != "busy":
            entry = self._entries.pop(0)
            self.consumer += entry.span
            if entry.state == "done":
                taken.append(bytes(entry.data))
        return taken

    def reserve(self, size: int) -> Region | None:
        """Memory for a record; None when there is no room (kernel/bpf/ringbuf.c, __bpf_ringbuf_reserve)."""
        span = size + _HEADER + 7 & ~7
        if span > self.max_entries or self.producer + span - self.consumer > self.max_entries - 1:
            return None
        region = Region(bytearray(size), f"a record of ring buffer {self.name!r}")
        self._entries.append(_Entry(region.data, region, span))
        self.producer += span
        return region

    def finish(self, region: Region, submit: bool, flags: int) -> bool:
        """Submit or discard a reserved record; False if it is none of this buffer's unfinished ones."""
        for entry in reversed(self._entries):
            if entry.region is region and entry.state == "busy":
                entry.state = "done" if submit else "discarded"
                entry.wakeup = flags
                entry.region = None
                return True
        return False

    def output(self, data: bytes, flags: int) -> int:
        """bpf_ringbuf_output: 0 or a negative error number."""
        if flags & ~_WAKEUP_FLAGS:
            return -EINVAL
        region = self.reserve(len(data))
        if region is None:
            return -EAGAIN
        region.data[:] = data
        self.finish(region, True, flags)
        return 0

    def query(self, what: int) -> int:
        """bpf_ringbuf_query: bytes not consumed, size, the two positions."""
        values = (self.producer - self.consumer, self.max_entries, self.consumer, self.producer)
        return values[what] if what < len(values) else 0


class PerfEventArray(MapModel):
    """BPF_MAP_TYPE_PERF_EVENT_ARRAY with an event on every CPU: ``records`` are (CPU, bytes)."""

    def __init__(self, spec: MapSpec, byteorder: Order = "little", cpus: int = 1) -> None:
        super().__init__(spec, byteorder, cpus)
        self.max_entries = spec.max_entries or cpus
        self.records: list[tuple[int, bytes]] = []

    def drain(self) -> list[tuple[int, bytes]]:
        """Take all records."""
        taken, self.records = self.records, []
        return taken


_MODELS: dict[int, type[MapModel]] = {
    abi.MAP_TYPE_HASH: HashMap,
    abi.MAP_TYPE_ARRAY: ArrayMap,
    abi.MAP_TYPE_PROG_ARRAY: ProgArray,
    abi.MAP_TYPE_PERF_EVENT_ARRAY: PerfEventArray,
    abi.MAP_TYPE_PERCPU_HASH: HashMap,
    abi.MAP_TYPE_PERCPU_ARRAY: ArrayMap,
    abi.MAP_TYPE_LRU_HASH: HashMap,
    abi.MAP_TYPE_LRU_PERCPU_HASH: HashMap,
    abi.MAP_TYPE_LPM_TRIE: LpmTrie,
    abi.MAP_TYPE_ARRAY_OF_MAPS: MapOfMaps,
    abi.MAP_TYPE_HASH_OF_MAPS: MapOfMaps,
    abi.MAP_TYPE_QUEUE: QueueMap,
    abi.MAP_TYPE_STACK: QueueMap,
    abi.MAP_TYPE_RINGBUF: RingBufMap,
}


def has_model(spec: MapSpec) -> bool:
    """Whether make_map knows the type."""
    return spec.type in _MODELS


def make_map(spec: MapSpec, byteorder: Order = "little", cpus: int = 1) -> MapModel:
    """The model of the map that ``spec`` describes. Raises VmError for a type without one, or impossible sizes."""
    model = _MODELS.get(spec.type)
    if model is None:
        raise VmError(f"map {spec.name!r}: maps of type {spec.type} are not modelled")
    return model(spec, byteorder, cpus)
