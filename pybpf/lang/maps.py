"""Maps as the language declares them: plain descriptions, made at module level.

A map is called like the module-level variable that holds it; one that is made
inside a function needs ``name=``.
"""

from __future__ import annotations

import sys
from typing import Any

from pybpf import abi
from pybpf.errors import CompileError
from pybpf.lang.types import StructType, Type, as_type, u32


class Map:
    """Base of all maps. ``key`` and ``value`` are types, None where the kind has none of its own."""

    type = 0
    kind = "map"
    # What may be done with it in a program.
    keyed = True  # lookup, update, delete ...
    deletes = True
    per_cpu = False

    def __init__(
        self, key: Type | None, value: Type | None, max_entries: int, flags: int = 0, name: str | None = None
    ) -> None:
        if not isinstance(max_entries, int) or not 0 < max_entries < 1 << 32:
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
                if value is self:
                    self._name = name
                    break
            else:
                raise CompileError(f"a {self.kind} has no name: assign it to a module-level variable or give it name=")
        return self._name


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
