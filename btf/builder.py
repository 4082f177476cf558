"""Writing BTF: a builder that gives equal types one id.

Types may only refer to types that exist, except through declare_struct(),
which reserves an id for a struct whose members come later. That makes every
other type immutable, and so two equal requests can share an id.
"""

from __future__ import annotations

from btf.errors import BtfError
from btf.format import (
    INT_BOOL,
    INT_CHAR,
    INT_SIGNED,
    KFLAG,
    KIND_ARRAY,
    KIND_CONST,
    KIND_DATASEC,
    KIND_DECL_TAG,
    KIND_ENUM,
    KIND_ENUM64,
    KIND_FLOAT,
    KIND_FUNC,
    KIND_FUNC_PROTO,
    KIND_FWD,
    KIND_INT,
    KIND_PTR,
    KIND_RESTRICT,
    KIND_SHIFT,
    KIND_STRUCT,
    KIND_TYPE_TAG,
    KIND_TYPEDEF,
    KIND_UNION,
    KIND_VAR,
    KIND_VOLATILE,
    MAX_NAME_OFFSET,
    MAX_VLEN,
    kind_name,
)
from btf.writer import blob, pack_records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Union

    from btf.table import Table

    Int = int  # Builder.int() takes the name inside the class
    # (name, type id, offset in bits[, size in bits of a bit-field])
    Member = Union[tuple[str, int, int], tuple[str, int, int, int]]

_U32 = 0xFFFFFFFF


class Builder:
    """Builds one BTF blob. Every method that makes a type returns its id.

    With ``base`` it is split BTF, as a module has: ids and strings go on where
    the base's end, and what the base has may be referred to. Arguments that the kernel would refuse
    (members out of order, values that do not fit, ids that do not exist) raise BtfError.
    """

    def __init__(self, byteorder: str = "little", base: Table | None = None) -> None:
        if byteorder not in ("little", "big"):
            raise BtfError(f"byte order '{byteorder}' is neither little nor big")
        if base is not None and base.byteorder != byteorder:
            raise BtfError(f"BTF is {byteorder}-endian, its base is {base.byteorder}-endian")
        self.byteorder = byteorder
        self._base = base
        self._first = 1 if base is None else base.type_count
        self._string_base = 0 if base is None else base.string_size
        self._types: list[tuple[Int, ...] | None] = []
        self._ids: dict[tuple[Int, ...], Int] = {}
        self._declared: dict[Int, tuple[Int, str]] = {}
        self._strings: dict[str, Int] = {"": 0}
        self._text = bytearray(1 if base is None else 0)

    # ---- strings ------------------------------------------------------------------

    def string(self, s: str) -> Int:
        """Offset of a string in the string section; the same for the same string."""
        offset = self._strings.get(s)
        if offset is None:
            raw = s.encode("utf-8", "backslashreplace")
            if b"\0" in raw:
                raise BtfError(f"BTF string {s!r} contains a NUL")
            offset = self._base.string_offset(s) if self._base is not None else None
            if offset is None:
                offset = self._string_base + len(self._text)
                if offset > MAX_NAME_OFFSET:
                    raise BtfError("BTF string section is full (16 MB)")
                self._text += raw + b"\0"
            self._strings[s] = offset
        return offset

    # ---- types --------------------------------------------------------------------

    @property
    def type_count(self) -> Int:
        """Number of ids given so far, void and the base's included."""
        return self._first + len(self._types)

    def int(self, name: str, size: Int, *, signed: bool = False, char: bool = False, bool_: bool = False) -> Int:
        """An integer of 1, 2, 4, 8 or 16 bytes."""
        if size not in (1, 2, 4, 8, 16) or not name:
            raise BtfError(f"BTF int '{name}' of {size} bytes: it needs a name and a size of 1, 2, 4, 8 or 16")
        encoding = (INT_SIGNED if signed else 0) | (INT_CHAR if char else 0) | (INT_BOOL if bool_ else 0)
        return self._add(KIND_INT, name, size, (encoding << 24 | size * 8,))

    def float_(self, name: str, size: Int) -> Int:
        """A floating-point type of 2, 4, 8, 12 or 16 bytes (Linux 5.13)."""
        if size not in (2, 4, 8, 12, 16) or not name:
            raise BtfError(f"BTF float '{name}' of {size} bytes: it needs a name and a size of 2, 4, 8, 12 or 16")
        return self._add(KIND_FLOAT, name, size)

    def ptr(self, t: Int) -> Int:
        """A pointer to ``t`` (0: void)."""
        return self._add(KIND_PTR, "", self._ref(t))

    def const(self, t: Int) -> Int:
        """``const t``."""
        return self._add(KIND_CONST, "", self._ref(t))

    def volatile(self, t: Int) -> Int:
        """``volatile t``."""
        return self._add(KIND_VOLATILE, "", self._ref(t))

    def restrict(self, t: Int) -> Int:
        """``t restrict``."""
        return self._add(KIND_RESTRICT, "", self._ref(t))

    def typedef(self, name: str, t: Int) -> Int:
        """``typedef t name``."""
        return self._add(KIND_TYPEDEF, self._named(name, "typedef"), self._ref(t))

    def array(self, elem: Int, nelems: Int) -> Int:
        """``elem[nelems]``; 0 elements make a flexible array."""
        if not 0 <= nelems <= _U32:
            raise BtfError(f"BTF array of {nelems} elements")
        # Some integer has to stand for the index type.
        index = self.int("__ARRAY_SIZE_TYPE__", 4)
        return self._add(KIND_ARRAY, "", 0, (self._ref(elem), index, nelems))

    def struct(self, name: str, size: Int, members: Sequence[Member]) -> Int:
        """A struct of ``size`` bytes; members in ascending order of offset, name may be empty."""
        return self._composite(KIND_STRUCT, name, size, members)

    def union(self, name: str, size: Int, members: Sequence[Member]) -> Int:
        """A union of ``size`` bytes; all offsets are 0."""
        return self._composite(KIND_UNION, name, size, members)

    def declare_struct(self, name: str, union: bool = False) -> Int:
        """Reserve the id of a struct (or union) that refers to itself; define_struct() must follow."""
        id = self.type_count
        self._types.append(None)
        self._declared[id] = (KIND_UNION if union else KIND_STRUCT, name)
        return id

    def define_struct(self, id: Int, size: Int, members: Sequence[Member]) -> None:
        """Give a declared struct its size and members."""
        if id not in self._declared:
            raise BtfError(f"BTF type [{id}] was not declared, or is already defined")
        kind, name = self._declared[id]
        flag, words = self._members(kind, name, size, members)
        self._types[id - self._first] = self._record(kind, name, size, words, len(members), flag)
        del self._declared[id]

    def fwd(self, name: str, union: bool = False) -> Int:
        """A forward declaration: a struct or union that is known by name only."""
        return self._add(KIND_FWD, self._named(name, "fwd"), 0, flag=union)

    def enum(self, name: str, size: Int, values: Iterable[tuple[str, Int]], signed: bool = False) -> Int:
        """An enum of 1, 2, 4 or 8 bytes with values of at most 32 bits."""
        words, count = self._enumerators(name, size, values, signed, 32)
        return self._add(KIND_ENUM, name, size, words, count, signed)

    def enum64(self, name: str, size: Int, values: Iterable[tuple[str, Int]], signed: bool = False) -> Int:
        """An enum with 64-bit values (Linux 6.0)."""
        words, count = self._enumerators(name, size, values, signed, 64)
        return self._add(KIND_ENUM64, name, size, words, count, signed)

    def func_proto(self, ret: Int, params: Sequence[tuple[str, Int]]) -> Int:
        """A function's type; ``("", 0)`` as the last parameter stands for ``...``."""
        words: list[Int] = []
        for name, type in params:
            words += (self.string(name), self._ref(type))
        return self._add(KIND_FUNC_PROTO, "", self._ref(ret), words, len(params))

    def func(self, name: str, proto: Int, linkage: Int) -> Int:
        """A function: linkage 0 static, 1 global, 2 extern."""
        if self._kind(proto) != KIND_FUNC_PROTO:
            raise BtfError(f"BTF func '{name}': type [{proto}] is not a func_proto")
        return self._add(KIND_FUNC, self._named(name, "func"), proto, count=self._linkage(name, linkage))

    def var(self, name: str, type: Int, linkage: Int) -> Int:
        """A global variable: linkage 0 static, 1 global, 2 extern."""
        return self._add(KIND_VAR, self._named(name, "var"), self._ref(type), (self._linkage(name, linkage),))

    def datasec(self, name: str, size: Int, entries: Iterable[tuple[Int, Int, Int]]) -> Int:
        """A data section of ``(var or func id, offset, size)`` in bytes; sorted by offset here."""
        words: list[Int] = []
        count = 0
        for id, offset, length in sorted(entries, key=lambda entry: entry[1]):
            if self._kind(id) not in (KIND_VAR, KIND_FUNC):
                raise BtfError(f"BTF datasec '{name}': type [{id}] is not a variable")
            if not (0 <= offset <= _U32 and 0 <= length <= _U32):
                raise BtfError(f"BTF datasec '{name}': type [{id}] is at {offset}, size {length}")
            words += (id, offset, length)
            count += 1
        return self._add(KIND_DATASEC, self._named(name, "datasec"), size, words, count)

    def decl_tag(self, value: str, type: Int, component_idx: Int = -1, attribute: bool = False) -> Int:
        """A tag on a declaration, or on its member or parameter ``component_idx`` (Linux 5.16).

        ``attribute``: ``value`` is any attribute, not that of btf_decl_tag (Linux 6.15).
        """
        if not -1 <= component_idx <= MAX_VLEN:
            raise BtfError(f"BTF decl_tag '{value}': component {component_idx}")
        words = (component_idx & _U32,)
        return self._add(KIND_DECL_TAG, self._named(value, "decl_tag"), self._ref(type), words, flag=attribute)

    def type_tag(self, value: str, type: Int, attribute: bool = False) -> Int:
        """A tag on a pointed-to type, such as ``user`` or ``rcu`` (Linux 5.17); ``attribute`` as in decl_tag()."""
        return self._add(KIND_TYPE_TAG, self._named(value, "type_tag"), self._ref(type), flag=attribute)

    # ---- output -------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """The blob: 24-byte header, types, strings."""
        for id, (kind, name) in self._declared.items():
            raise BtfError(f"BTF type [{id}] {kind_name(kind)} {name or '<anon>'} was declared but never defined")
        types = pack_records((record for record in self._types if record), self.byteorder)
        return blob(types, self._text, self.byteorder)

    # ---- checks -------------------------------------------------------------------

    def _named(self, name: str, what: str) -> str:
        if not name:
            raise BtfError(f"BTF {what} needs a name")
        return name

    def _ref(self, id: Int) -> Int:
        if not 0 <= id < self.type_count:
            raise BtfError(f"there is no BTF type [{id}], the last is [{self.type_count - 1}]")
        return id

    def _kind(self, id: Int) -> Int:
        if self._base is not None and 0 < id < self._first:
            return self._base.kind(id)
        record = self._types[self._ref(id) - self._first] if id else None
        if record is None:
            return self._declared[id][0] if id in self._declared else 0
        return record[1] >> KIND_SHIFT & 0x7F

    def _linkage(self, name: str, linkage: Int) -> Int:
        if linkage not in (0, 1, 2):
            raise BtfError(f"BTF linkage {linkage} of '{name}' is not 0, 1 or 2")
        return linkage

    def _composite(self, kind: Int, name: str, size: Int, members: Sequence[Member]) -> Int:
        flag, words = self._members(kind, name, size, members)
        return self._add(kind, name, size, words, len(members), flag)

    def _members(self, kind: Int, name: str, size: Int, members: Sequence[Member]) -> tuple[bool, list[Int]]:
        flag = any(len(member) > 3 and member[3] for member in members)
        last = 0
        words: list[Int] = []
        for member in members:
            field, type, offset = member[:3]
            bits = member[3] if len(member) > 3 else 0
            where = f"BTF {kind_name(kind)} '{name}': member '{field}'"
            if offset < last:
                raise BtfError(f"{where} at bit {offset} comes after one at bit {last}")
            if offset and kind == KIND_UNION:
                raise BtfError(f"{where} of a union is at bit {offset}")
            if offset + bits > size * 8 or offset > (0xFFFFFF if flag else _U32):
                raise BtfError(f"{where} at bit {offset} is outside of {size} bytes")
            if not 0 <= bits <= 0xFF:
                raise BtfError(f"{where} is a bit-field of {bits} bits")
            if not bits and offset % 8:
                raise BtfError(f"{where} at bit {offset} is no bit-field and not on a byte")
            last = offset
            words += (self.string(field), self._ref(type), bits << 24 | offset)
        return flag, words

    def _enumerators(
        self, name: str, size: Int, values: Iterable[tuple[str, Int]], signed: bool, bits: Int
    ) -> tuple[list[Int], Int]:
        if size not in (1, 2, 4, 8):
            raise BtfError(f"BTF enum '{name}' of {size} bytes")
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        words: list[Int] = []
        count = 0
        for field, value in values:
            if not low <= value <= high:
                hint = "; use enum64" if bits == 32 else ""
                raise BtfError(f"BTF enum '{name}': {field} = {value} is not in {low}..{high}{hint}")
            words += (self.string(field), value & _U32)
            if bits == 64:
                words.append(value >> 32 & _U32)
            count += 1
        return words, count

    def _record(
        self, kind: Int, name: str, value: Int, words: Sequence[Int], count: Int, flag: bool
    ) -> tuple[Int, ...]:
        if count > MAX_VLEN:
            raise BtfError(f"BTF {kind_name(kind)} '{name}' has {count} entries, the kernel takes {MAX_VLEN}")
        if not 0 <= value <= _U32:
            raise BtfError(f"BTF {kind_name(kind)} '{name}': size {value}")
        return (self.string(name) if name else 0, kind << KIND_SHIFT | count | (KFLAG if flag else 0), value, *words)

    def _add(
        self, kind: Int, name: str, value: Int, words: Sequence[Int] = (), count: Int = 0, flag: bool = False
    ) -> Int:
        record = self._record(kind, name, value, words, count, flag)
        id = self._ids.get(record)
        if id is None:
            id = self._ids[record] = self.type_count
            self._types.append(record)
        return id
