"""Memory on the host: bytes, and the objects in them as the language's types lay them out.

Reading a record's bytes that were never set is an error here, as the kernel's answer would be chance.
"""

from __future__ import annotations

import builtins

from tests.fuzz.numbers import Num, Type, as_type, bool_
from tests.fuzz.rules import Invalid

SCOPE: dict = {"module": {}}
"""What a program's text may name; ``module`` is what it has defined itself, for the types of fields."""


class Memory(bytearray):
    """Bytes; ``unset`` holds the places in a record that nobody wrote yet."""

    unset = frozenset()


class Ref:
    """An object in memory: of a struct, an array, or, as what a pointer leads to, a number."""

    __slots__ = ("_m", "_o", "_t")

    def __init__(self, type, memory, offset=0):
        object.__setattr__(self, "_t", type)
        object.__setattr__(self, "_m", memory)
        object.__setattr__(self, "_o", offset)

    def _field(self, name):
        field = self._t.fields.get(name)
        if field is None:
            raise Invalid(f"{self._t.name} has no field {name}")
        return Ref(field[1], self._m, self._o + field[0])

    def _item(self, index):
        number = int(index)
        if self._t.kind == "array":
            if not 0 <= number < self._t.count:
                raise Invalid(f"index {number} is outside of {self._t.name}")
            return Ref(self._t.element, self._m, self._o + number * self._t.element.size)
        return Ref(self._t, self._m, self._o + number * self._t.size)

    def _slice(self, part):
        first = int(part.start or 0)
        count = (self._t.count if part.stop is None else int(part.stop)) - first
        if first < 0 or first + count > self._t.count:
            raise Invalid(f"[{first}:{first + count}] is outside of {self._t.name}")
        return Ref(self._t.element[count], self._m, self._o + first * self._t.element.size)

    def _raw(self):
        end = self._o + self._t.size
        if self._o < 0 or end > len(self._m):
            raise Invalid("access outside of the object")
        if self._m.unset and not self._m.unset.isdisjoint(builtins.range(self._o, end)):
            raise Invalid("a record's bytes are read before they are set")
        return bytes(self._m[self._o : end])

    def _put(self, raw):
        end = self._o + len(raw)
        if self._o < 0 or end > len(self._m):
            raise Invalid("access outside of the object")
        self._m[self._o : end] = raw
        if self._m.unset:
            self._m.unset -= set(builtins.range(self._o, end))

    def _load(self):
        """The value: a number for numbers, else the place itself."""
        if self._t.kind != "num":
            return self
        native = self._t.native
        if self._t.width:
            number = int.from_bytes(self._raw(), "little") >> self._t.shift & (1 << self._t.width) - 1
            negative = self._t.signed and number >> self._t.width - 1
            return Num(number - (1 << self._t.width) if negative else number, native)
        raw = self._raw()
        return Num(native.wrap(int.from_bytes(raw, "big" if self._t.big else "little")), native)

    def _store(self, value):
        if self._t.width:
            mask = (1 << self._t.width) - 1 << self._t.shift
            kept = int.from_bytes(self._raw(), "little") & ~mask
            number = int(value) << self._t.shift & mask | kept
            self._put(number.to_bytes(self._t.size, "little"))
        elif self._t.kind == "num":
            number = int(value)
            bits = self._t.size * 8
            if not isinstance(value, Num) and not -(1 << bits - 1) <= number < 1 << bits:
                raise Invalid(f"{number} does not fit {self._t.name}")
            number = self._t.wrap(number) & (1 << bits) - 1
            self._put(number.to_bytes(self._t.size, "big" if self._t.big else "little"))
        elif isinstance(value, (str, bytes)):
            raw = value.encode() if isinstance(value, str) else value
            if len(raw) > self._t.size:
                raise Invalid("the string is too long")
            self._put(raw.ljust(self._t.size, b"\0"))
        elif isinstance(value, Ref) and value._t.size == self._t.size:
            self._put(value._raw())
        else:
            raise Invalid(f"{value!r} cannot be stored as {self._t.name}")

    def __getattr__(self, name):
        if name == "discard":
            return self._m.discard
        return self._field(name)._load()

    def __setattr__(self, name, value):
        self._field(name)._store(value)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self._slice(index)
        return self._item(index)._load()

    def __setitem__(self, index, value):
        self._item(index)._store(value)

    def __len__(self):
        return self._t.count

    def __bool__(self):
        return True

    def __eq__(self, other):
        if isinstance(other, (str, bytes)):
            raw = other.encode() if isinstance(other, str) else other
            if len(raw) > self._t.size:
                raise Invalid("the string is too long")
            raw += b"\0" if len(raw) < self._t.size else b""
            return Num(int(self._raw()[: len(raw)] == raw), bool_)
        return NotImplemented

    def __ne__(self, other):
        equal = self == other
        return Num(int(not equal), bool_) if isinstance(equal, Num) else equal

    __hash__ = None


class Anon:
    """A member without a name: its own members count as its owner's."""

    def __class_getitem__(cls, target):
        target = as_type(target)
        return Type(target.name, target.size, target.align, "anon", fields=target.fields)


class StructMeta(type):
    union = False

    def __new__(meta, name, bases, space, packed=False):
        cls = super().__new__(meta, name, bases, space)
        fields, offset, bits, align, size = {}, 0, 0, 1, 0
        scope = {**SCOPE, **SCOPE["module"]}
        for field, note in space.get("__annotations__", {}).items():
            type = as_type(eval(note, scope) if isinstance(note, str) else note)
            wanted = 1 if packed else type.align
            if type.width:  # as C places it: in the unit that it begins in, or in the next one
                unit = type.size * 8
                if bits // unit != (bits + type.width - 1) // unit:
                    bits = -(-bits // unit) * unit
                fields[field] = (bits // unit * type.size, type.at(bits % unit))
                bits += type.width
                offset, align = -(-bits // 8), builtins.max(align, wanted)
                continue
            offset = 0 if meta.union else -(-offset // wanted) * wanted
            members = type.fields if type.kind == "anon" else {field: (0, type)}
            fields.update({member: (offset + at, inner) for member, (at, inner) in members.items()})
            offset += type.size
            size = builtins.max(size, offset)
            bits = offset * 8
            align = builtins.max(align, wanted)
        size = size if meta.union else offset
        cls.layout = Type(name, -(-size // align) * align, align, "struct", fields=fields)
        return cls

    def __init__(cls, name, bases, space, packed=False):
        super().__init__(name, bases, space)

    def __call__(cls, **values):
        made = Ref(cls.layout, Memory(cls.layout.size))
        for name, value in values.items():
            setattr(made, name, value)
        return made

    def __getitem__(cls, count):
        return cls.layout[count]


class UnionMeta(StructMeta):
    union = True


def used_bytes(type, offset=0):
    """The places in an object that are not padding."""
    if type.kind == "struct":
        for at, field in type.fields.values():
            yield from used_bytes(field, offset + at)
    elif type.kind == "array":
        for i in builtins.range(type.count):
            yield from used_bytes(type.element, offset + i * type.element.size)
    else:
        yield from builtins.range(offset, offset + type.size)
