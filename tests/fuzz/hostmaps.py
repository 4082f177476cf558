"""Maps and ring buffers on the host."""

from __future__ import annotations

import builtins

from tests.fuzz.memory import Memory, Ref, used_bytes
from tests.fuzz.numbers import RESULT, Num, as_type, i64, kind, u32
from tests.fuzz.rules import KINDS, Invalid, joined

EEXIST, ENOENT, E2BIG = 17, 2, 7


class Map:
    per_cpu = False
    array = False

    def __init__(self, key, value, entries):
        self.key, self.value, self.entries = as_type(key), as_type(value), entries
        self.clear()

    def clear(self):
        self.data = {}

    def raw(self, type, value):
        """A key or value as bytes."""
        if isinstance(value, Ref) and value._t is type:
            return value._raw()
        place = Ref(type, Memory(type.size))
        place._store(value)
        return place._raw()

    def find(self, key):
        return self.data.get(key)

    def set(self, key, value, flags=0):
        there = key in self.data
        if there and flags == 1:
            return -EEXIST
        if not there and flags == 2:
            return -ENOENT
        if not there and len(self.data) >= self.entries:
            return -E2BIG
        if there and self.per_cpu:
            self.data[key][:] = value
        else:
            self.data[key] = Memory(value)
        return 0

    def lookup(self, key):
        found = self.find(self.raw(self.key, key))
        return None if found is None else Ref(self.value, found)

    def get_or_init(self, key, value):
        """``value`` is computed although nobody needs it: the generated ones have no side effects."""
        if self.lookup(key) is None:
            self.update(key, value, 1)
        return self.lookup(key)

    def get(self, key, default):
        place = self.lookup(key)
        value = place._load() if place is not None else default
        kind_ = joined(KINDS[self.value.native.name], kind(default))
        return Num(RESULT[kind_].wrap(int(value)), RESULT[kind_])

    def update(self, key, value, flags=0):
        return Num(self.set(self.raw(self.key, key), self.raw(self.value, value), int(flags)), i64)

    def delete(self, key):
        return Num(0 if self.data.pop(self.raw(self.key, key), None) is not None else -ENOENT, i64)

    def __getitem__(self, key):
        """For ``m[k] += n`` only: an absent entry counts as 0."""
        place = self.lookup(key)
        return Num(0, self.value.native) if place is None else place._load()

    def __setitem__(self, key, value):
        self.set(self.raw(self.key, key), self.raw(self.value, value))

    def change(self, key, value):
        """The second half of ``m[k] += n``: in place where there is an entry."""
        raw = self.raw(self.key, key)
        found = self.find(raw)
        if found is not None:
            Ref(self.value, found)._store(value)
        elif not self.array:
            self.set(raw, self.raw(self.value, value))

    def __delitem__(self, key):
        self.delete(key)

    def __contains__(self, key):
        return self.lookup(key) is not None

    def contents(self):
        return {key: bytes(value) for key, value in self.data.items()}


class Hash(Map):
    pass


class PerCpuHash(Map):
    per_cpu = True


class Array(Map):
    array = True

    def __init__(self, value, entries):
        super().__init__(u32, value, entries)

    def clear(self):
        self.data = {i.to_bytes(4, "little"): Memory(self.value.size) for i in builtins.range(self.entries)}

    def set(self, key, value, flags=0):
        if int.from_bytes(key, "little") >= self.entries:
            return -E2BIG
        if flags == 1:
            return -EEXIST
        self.data[key][:] = value
        return 0


class PerCpuArray(Array):
    per_cpu = True


class RingBuf:
    def __init__(self, size):
        self.records = []

    def clear(self):
        self.records = []

    def output(self, record, size=None, flags=0):
        raw = record._raw()
        self.records.append(raw if size is None else raw[: int(size)])
        return Num(0, i64)

    def reserve(self, layout):
        return _Reservation(self, layout.layout)


class _Reservation:
    def __init__(self, ring, type):
        self.ring = ring
        self.memory = Memory(type.size)
        self.memory.unset = set(used_bytes(type))
        self.memory.discard = self.discard
        self.type = type
        self.alive = True

    def discard(self):
        self.alive = False

    def __enter__(self):
        return Ref(self.type, self.memory)

    def __exit__(self, kind_, value, trace):
        if kind_ is None and self.alive:
            if self.memory.unset:
                raise Invalid("a record is submitted before all of it is set")
            self.ring.records.append(bytes(self.memory))
        self.memory.discard = None
