"""Maps as the language declares them: plain descriptions, made at module level.

A map is called like the module-level variable that holds it; one that is made
inside a function needs ``name=``.
"""

from __future__ import annotations

import sys
from typing import Any

from pybpf import abi
from pybpf.errors import CompileError
from pybpf.lang.types import StructType, Type, as_type, i32, u32, u64


class Map:
    """Base of all maps. ``key`` and ``value`` are types, None where the kind has none of its own."""

    type = 0
    kind = "map"
    # What may be done with it in a program.
    keyed = True  # lookup, update, delete ...
    deletes = True
    per_cpu = False
    walks = True  # for_each; arrays and hash tables, if keyed
    sized = False  # whether 0 entries are right
    methods: tuple[str, ...] = ()  # instead of lookup, update ...
    sizes: tuple[int, int] | None = None  # of key and value in bytes where there are no types
    register: int | None = None  # of a map that was found in another one, while a function is compiled

    def __init__(
        self, key: Type | None, value: Type | None, max_entries: int, flags: int = 0, name: str | None = None
    ) -> None:
        if not isinstance(max_entries, int) or not (0 < max_entries < 1 << 32 or (self.sized and not max_entries)):
            raise CompileError(f"{self.kind}: {max_entries!r} is not a number of entries (1 to 2**32-1)")
        for what, type in (("key", key), ("value", value)):
            if isinstance(type, StructType) and type.kernel:
                raise CompileError(f"{self.kind}: {type} cannot be a {what}, its layout is known only at load time")
        self.key = key
        self.value = value
        self.max_entries = max_entries
        self.flags = flags
        self._name = name
        self._home: dict[str, Any] = sys._getframe(2).f_globals

    def __repr__(self) -> str:
        return f"{self.kind} {self._name or ''}".rstrip()

    @property
    def name(self) -> str:
        """The map's name. Raises CompileError for a map that no module-level variable holds."""
        if self._name is None:
            for name, value in self._home.items():
                # One look names all that are at home there.
                if isinstance(value, Map) and value._name is None and value._home is self._home:
                    value._name = name
        if self._name is None:
            raise CompileError(f"a {self.kind} has no name: assign it to a module-level variable or give it name=")
        return self._name

    def call_it(self, model: Map) -> None:
        """Take the name of the map that this is a copy of; that may have none."""
        if self._name is None:
            self._name = next((name for name, value in self._home.items() if value is model), "that was found")


class Hash(Map):
    """``Hash(K, V, entries)``: hash table, room allocated in advance."""

    type = abi.MAP_TYPE_HASH
    kind = "Hash"

    def __init__(self, key: Any, value: Any, max_entries: int, *, flags: int = 0, name: str | None = None) -> None:
        super().__init__(as_type(key), as_type(value), max_entries, flags, name)


class LruHash(Map):
    """``LruHash(K, V, entries)``: hash table that drops the least recently used entry when full (4.10)."""

    type = abi.MAP_TYPE_LRU_HASH
    kind = "LruHash"

    def __init__(self, key: Any, value: Any, max_entries: int, *, flags: int = 0, name: str | None = None) -> None:
        super().__init__(as_type(key), as_type(value), max_entries, flags, name)


class PerCpuHash(Map):
    """``PerCpuHash(K, V, entries)``: hash table with a value for each CPU."""

    type = abi.MAP_TYPE_PERCPU_HASH
    kind = "PerCpuHash"
    per_cpu = True

    def __init__(self, key: Any, value: Any, max_entries: int, *, flags: int = 0, name: str | None = None) -> None:
        super().__init__(as_type(key), as_type(value), max_entries, flags, name)


class LruPerCpuHash(PerCpuHash):
    """``LruPerCpuHash(K, V, entries)``: LruHash with a value for each CPU (4.10)."""

    type = abi.MAP_TYPE_LRU_PERCPU_HASH
    kind = "LruPerCpuHash"


class Array(Map):
    """``Array(V, entries)``: indexed by u32, zeroed, entries always exist."""

    type = abi.MAP_TYPE_ARRAY
    kind = "Array"
    deletes = False

    def __init__(self, value: Any, max_entries: int, *, flags: int = 0, name: str | None = None) -> None:
        super().__init__(u32, as_type(value), max_entries, flags, name)


class PerCpuArray(Map):
    """``PerCpuArray(V, entries)``: an Array with a value for each CPU."""

    type = abi.MAP_TYPE_PERCPU_ARRAY
    kind = "PerCpuArray"
    deletes = False
    per_cpu = True

    def __init__(self, value: Any, max_entries: int, *, flags: int = 0, name: str | None = None) -> None:
        super().__init__(u32, as_type(value), max_entries, flags, name)


class LpmTrie(Map):
    """``LpmTrie(K, V, entries)``: longest prefix match; K starts with a u32, the prefix length in bits (4.11)."""

    type = abi.MAP_TYPE_LPM_TRIE
    kind = "LpmTrie"
    walks = False

    def __init__(self, key: Any, value: Any, max_entries: int, *, flags: int = 0, name: str | None = None) -> None:
        layout = as_type(key)
        if not isinstance(layout, StructType) or not layout.fields or layout.fields[0].type is not u32:
            raise CompileError(
                f"LpmTrie: the key {layout} must be a Struct whose first field is a u32 (bits that count)"
            )
        # The kernel makes no trie without BPF_F_NO_PREALLOC (kernel/bpf/lpm_trie.c).
        super().__init__(layout, as_type(value), max_entries, flags | abi.F_NO_PREALLOC, name)


class ProgArray(Map):
    """``ProgArray(entries)``: programs to go on with, by number; see ``tail_call``."""

    type = abi.MAP_TYPE_PROG_ARRAY
    kind = "ProgArray"
    keyed = False
    sizes = (4, 4)

    def __init__(self, max_entries: int, *, flags: int = 0, name: str | None = None) -> None:
        super().__init__(None, None, max_entries, flags, name)


class RingBuf(Map):
    """``RingBuf(bytes)``: records for user space in one queue for all CPUs (5.8).

    The size must be a power of two and a multiple of the page size.
    """

    type = abi.MAP_TYPE_RINGBUF
    kind = "RingBuf"
    keyed = False

    def __init__(self, size: int, *, flags: int = 0, name: str | None = None) -> None:
        if not isinstance(size, int) or size < 4096 or size & size - 1:
            raise CompileError(f"RingBuf: {size!r} bytes is not a power of two of at least 4096")
        super().__init__(None, None, size, flags, name)


class _Values(Map):
    """Base of maps that hold values without keys."""

    keyed = False
    methods: tuple[str, ...] = ("push", "pop", "peek")

    def __init__(self, value: Any, max_entries: int, *, flags: int = 0, name: str | None = None) -> None:
        super().__init__(None, as_type(value), max_entries, flags, name)


class Queue(_Values):
    """``Queue(V, entries)``: first in, first out (4.20)."""

    type = abi.MAP_TYPE_QUEUE
    kind = "Queue"


class Stack(_Values):
    """``Stack(V, entries)``: last in, first out (4.20)."""

    type = abi.MAP_TYPE_STACK
    kind = "Stack"


class BloomFilter(_Values):
    """``BloomFilter(V, entries)``: ``peek(v)`` is 0 if v may have been pushed, negative if surely not (5.16)."""

    type = abi.MAP_TYPE_BLOOM_FILTER
    kind = "BloomFilter"
    methods = ("push", "peek")


class _Objects(Map):
    """Base of arrays that hold objects of the kernel's, put there by user space."""

    keyed = False
    sizes = (4, 4)

    def __init__(self, max_entries: int, *, flags: int = 0, name: str | None = None) -> None:
        super().__init__(u32, None, max_entries, flags, name)


class PerfEventArray(_Objects):
    """``PerfEventArray(entries)``: perf buffers, one a CPU; ``output(ctx, record)`` writes to this CPU's (4.3)."""

    type = abi.MAP_TYPE_PERF_EVENT_ARRAY
    kind = "PerfEventArray"
    methods = ("output",)


class CgroupArray(_Objects):
    """``CgroupArray(entries)``: control groups, for ``current_task_under_cgroup(m, i)`` (4.8)."""

    type = abi.MAP_TYPE_CGROUP_ARRAY
    kind = "CgroupArray"


class DevMap(_Objects):
    """``DevMap(entries)``: network devices, for ``redirect_map(m, i, flags)`` (4.14)."""

    type = abi.MAP_TYPE_DEVMAP
    kind = "DevMap"


class CpuMap(_Objects):
    """``CpuMap(entries)``: CPUs, for ``redirect_map(m, i, flags)`` (4.15)."""

    type = abi.MAP_TYPE_CPUMAP
    kind = "CpuMap"


class XskMap(_Objects):
    """``XskMap(entries)``: AF_XDP sockets, for ``redirect_map(m, i, flags)`` (4.18)."""

    type = abi.MAP_TYPE_XSKMAP
    kind = "XskMap"


class SockMap(_Objects):
    """``SockMap(entries)``: sockets by number, for ``sk_redirect_map`` and its like (4.14)."""

    type = abi.MAP_TYPE_SOCKMAP
    kind = "SockMap"


class SockHash(Map):
    """``SockHash(K, entries)``: sockets by a key, for ``sk_redirect_hash`` and its like (4.18)."""

    type = abi.MAP_TYPE_SOCKHASH
    kind = "SockHash"
    keyed = False

    def __init__(self, key: Any, max_entries: int, *, flags: int = 0, name: str | None = None) -> None:
        super().__init__(as_type(key), u32, max_entries, flags, name)


class DevMapHash(_Objects):
    """``DevMapHash(entries)``: network devices by any number, for ``redirect_map(m, i, flags)`` (5.4)."""

    type = abi.MAP_TYPE_DEVMAP_HASH
    kind = "DevMapHash"


class ReuseportArray(_Objects):
    """``ReuseportArray(entries)``: sockets that share a port, for ``sk_select_reuseport(ctx, m, i)`` (4.19)."""

    type = abi.MAP_TYPE_REUSEPORT_SOCKARRAY
    kind = "ReuseportArray"


class MapType(Type):
    """What an entry of a map of maps is: a map like ``map``."""

    __slots__ = ("map",)

    def __init__(self, map: Map) -> None:
        super().__init__(map.kind, 4, 4)
        self.map = map


class OfMaps(Map):
    """Base of maps whose entries are maps, put there by user space; programs can only look them up (4.12).

    ``inner`` is a map like those: of its kind, with its key and value (and, but
    for hash tables and plain arrays from 5.10 on, its number of entries).
    """

    walks = False

    def __init__(self, key: Type, inner: Map, max_entries: int, flags: int, name: str | None) -> None:
        super().__init__(key, None, max_entries, flags, name)
        self._home = sys._getframe(2).f_globals
        if not isinstance(inner, Map) or isinstance(inner, (OfMaps, ProgArray)) or inner.sized:
            raise CompileError(f"{self.kind}: {inner!r} cannot be in a map: give a map like those that will be")
        self.inner = inner
        self.entry = MapType(inner)


class ArrayOfMaps(OfMaps):
    """``ArrayOfMaps(inner, entries)``: maps by number; ``m.lookup(i)`` is a map like ``inner``, or None (4.12)."""

    type = abi.MAP_TYPE_ARRAY_OF_MAPS
    kind = "ArrayOfMaps"
    deletes = False

    def __init__(self, inner: Map, max_entries: int, *, flags: int = 0, name: str | None = None) -> None:
        super().__init__(u32, inner, max_entries, flags, name)


class HashOfMaps(OfMaps):
    """``HashOfMaps(K, inner, entries)``: maps by a key (4.12)."""

    type = abi.MAP_TYPE_HASH_OF_MAPS
    kind = "HashOfMaps"

    def __init__(self, key: Any, inner: Map, max_entries: int, *, flags: int = 0, name: str | None = None) -> None:
        super().__init__(as_type(key), inner, max_entries, flags, name)


class UserRingBuf(Map):
    """``UserRingBuf(bytes)``: records from user space; ``drain(fn, ...)`` calls ``fn(record, ...)`` for each (6.1).

    The size must be a power of two and a multiple of the page size.
    """

    type = abi.MAP_TYPE_USER_RINGBUF
    kind = "UserRingBuf"
    keyed = False
    methods = ("drain",)

    def __init__(self, size: int, *, flags: int = 0, name: str | None = None) -> None:
        if not isinstance(size, int) or size < 4096 or size & size - 1:
            raise CompileError(f"UserRingBuf: {size!r} bytes is not a power of two of at least 4096")
        super().__init__(None, None, size, flags, name)


class CgroupLocal(Map):
    """``CgroupLocal(V)``: a V for each control group that the cgroup program is attached to: ``m.get()`` (4.19)."""

    type = abi.MAP_TYPE_CGROUP_STORAGE
    kind = "CgroupLocal"
    keyed = False
    sized = True
    methods = ("get",)

    def __init__(self, value: Any, *, name: str | None = None) -> None:
        # The key may be a cgroup's number alone (5.9): all attach types then share the value.
        super().__init__(u64, as_type(value), 0, 0, name)


class PerCpuCgroupLocal(CgroupLocal):
    """``PerCpuCgroupLocal(V)``: the same with a value for each CPU (4.20)."""

    type = abi.MAP_TYPE_PERCPU_CGROUP_STORAGE
    kind = "PerCpuCgroupLocal"
    per_cpu = True


class StackTrace(Map):
    """``StackTrace(entries, depth=127)``: call stacks by the id that ``get_stackid(ctx, m, flags)`` gives (4.6)."""

    type = abi.MAP_TYPE_STACK_TRACE
    kind = "StackTrace"
    keyed = False

    def __init__(self, max_entries: int, depth: int = 127, *, flags: int = 0, name: str | None = None) -> None:
        if not isinstance(depth, int) or not 0 < depth <= 127:
            raise CompileError(f"StackTrace: a depth of {depth!r} is not in 1..127 (kernel.perf_event_max_stack)")
        self.sizes = (4, depth * 8)
        super().__init__(None, None, max_entries, flags, name)


class Storage(Map):
    """Base of storage that is part of an object and goes with it."""

    keyed = False
    sized = True
    helpers = ""
    methods = ("get", "delete")

    def __init__(self, value: Any, *, name: str | None = None) -> None:
        # The kernel wants an int key, no size and no preallocation (kernel/bpf/bpf_local_storage.c).
        super().__init__(i32, as_type(value), 0, abi.F_NO_PREALLOC, name)


class SkStorage(Storage):
    """``SkStorage(V)``: a V in each socket: ``m.get(sk)`` (None if absent), ``m.get(sk, 1)`` makes it (5.2)."""

    type = abi.MAP_TYPE_SK_STORAGE
    kind = "SkStorage"
    helpers = "sk_storage"


class InodeStorage(Storage):
    """``InodeStorage(V)``: a V in each inode, for lsm programs (5.10)."""

    type = abi.MAP_TYPE_INODE_STORAGE
    kind = "InodeStorage"
    helpers = "inode_storage"


class TaskStorage(Storage):
    """``TaskStorage(V)``: a V in each task: ``m.get(current_task(), 1)`` (5.11)."""

    type = abi.MAP_TYPE_TASK_STORAGE
    kind = "TaskStorage"
    helpers = "task_storage"


class CgroupStorage(Storage):
    """``CgroupStorage(V)``: a V in each control group (6.2)."""

    type = abi.MAP_TYPE_CGRP_STORAGE
    kind = "CgroupStorage"
    helpers = "cgrp_storage"
