"""BTF for a kernel that does not know all of it: what it would refuse is replaced by what it takes.

Ids stay as they are, so that func_info, line_info and maps still fit. The
replacements are those of libbpf (bpf_object__sanitize_btf()), and say less, but
nothing wrong about sizes. What a kernel takes is for the caller to find out.
"""

from __future__ import annotations

from btf.errors import BtfError
from btf.format import (
    ENUMS,
    KFLAG,
    KIND_CONST,
    KIND_DATASEC,
    KIND_DECL_TAG,
    KIND_ENUM,
    KIND_ENUM64,
    KIND_FLOAT,
    KIND_FUNC,
    KIND_FUNC_PROTO,
    KIND_INT,
    KIND_SHIFT,
    KIND_STRUCT,
    KIND_TYPE_TAG,
    KIND_TYPEDEF,
    KIND_UNION,
    KIND_VAR,
    LINKAGE_GLOBAL,
    LINKAGE_STATIC,
    MAX_VLEN,
    VLEN_MASK,
)
from btf.table import Table, is_known, kind_of
from btf.writer import blob, pack_records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    Record = list[int]

# What kernels learned, in order, and since when.
FUNC = "func"  # FUNC and FUNC_PROTO; Linux 5.0
DATASEC = "datasec"  # VAR and DATASEC; 5.2
FUNC_GLOBAL = "func_global"  # linkage of functions; 5.6
FLOAT = "float"  # 5.13
DECL_TAG = "decl_tag"  # 5.16
TYPE_TAG = "type_tag"  # 5.17
ENUM64 = "enum64"  # and the sign of enums; 6.0
QUESTION_MARK = "question_mark"  # DATASEC names that start with one; 6.9
ATTRIBUTES = "attributes"  # tags that are any attribute; 6.15
LAYOUT = "layout"  # headers with a layout section; 7.1
LONG_VLEN = "long_vlen"  # more than 65,535 entries; 7.2
EVERYTHING = frozenset(
    (FUNC, DATASEC, FUNC_GLOBAL, FLOAT, DECL_TAG, TYPE_TAG, ENUM64, QUESTION_MARK, ATTRIBUTES, LAYOUT, LONG_VLEN)
)

_BYTE = 8  # the INT word of a plain integer of 8 bits
_PLACEHOLDER = "enum64_placeholder"


def sanitise(data: bytes, accepted: Collection[str], base: Table | None = None) -> bytes:
    """``data`` (raw BTF, standing on ``base`` if it is split) as a kernel takes it that knows ``accepted``.

    Equal to ``data`` when there is nothing to replace. Kinds that are unknown here become integers of a byte.
    Raises BtfError for what has no replacement: a function with more than 65,535 parameters.
    """
    table = Table(data, base)
    return _Sanitiser(table, frozenset(accepted)).run()


class _Sanitiser:
    def __init__(self, table: Table, accepted: frozenset[str]) -> None:
        self._table = table
        self._lacks = EVERYTHING - accepted
        self._strings = bytearray(table.strings)
        self._names: dict[str, int] = {}
        self._placeholder = 0
        self._changed = False

    def run(self) -> bytes:
        table = self._table
        records = [self._record(id, record) for id, record in zip(table.ids, table.records())]
        if self._placeholder:
            records.append([self._name(_PLACEHOLDER), KIND_INT << KIND_SHIFT, 1, _BYTE])
        head = table.header
        layout = b""
        if LAYOUT in self._lacks:
            self._changed = self._changed or head.layout_len > 0 or head.extended
        else:
            layout = table.layout
        if not self._changed:
            return table.data
        return blob(pack_records(records, table.byteorder), self._strings, table.byteorder, layout, head.flags)

    def _name(self, name: str) -> int:
        """Offset of a string that is added."""
        offset = self._names.get(name)
        if offset is None:
            offset = self._names[name] = self._table.string_base + len(self._strings)
            self._strings += name.encode() + b"\0"
        return offset

    def _record(self, id: int, record: Record) -> Record:
        if not is_known(record):
            if LAYOUT in self._lacks:
                self._changed = True
                return self._byte(record)
            return record
        if record[1] & VLEN_MASK > MAX_VLEN and LONG_VLEN in self._lacks:
            record = self._cut(id, record)
        change = _CHANGES.get(kind_of(record))
        found = change(self, record.copy()) if change is not None else record
        self._changed = self._changed or found != record
        return found

    def _byte(self, record: Record) -> Record:
        name = record[0] or self._name("unknown")
        return [name, KIND_INT << KIND_SHIFT, 1, _BYTE]

    def _cut(self, id: int, record: Record) -> Record:
        """The first 65,535 entries of a struct, enum or section."""
        count = record[1] & VLEN_MASK
        if kind_of(record) == KIND_FUNC_PROTO:
            raise BtfError(f"BTF type [{id}] has {count} parameters, this kernel takes {MAX_VLEN}")
        self._changed = True
        each = (len(record) - 3) // count
        return [record[0], record[1] & ~VLEN_MASK | MAX_VLEN, record[2], *record[3 : 3 + each * MAX_VLEN]]

    # ---- kinds: each takes a copy of the record and returns it, or another ---------------------

    def var(self, record: Record) -> Record:
        # Of one byte: it must not be larger than what the variable had in its section.
        return self._byte(record) if DATASEC in self._lacks else record

    def datasec(self, record: Record) -> Record:
        name = self._table.names[record[0]]
        if DATASEC in self._lacks:
            names = [self._own_name(id) for id in record[3::3]]
            members = [
                word
                for row in zip(names, record[3::3], [offset * 8 & 0xFFFFFFFF for offset in record[4::3]])
                for word in row
            ]
            plain = name.replace(".", "_").replace("?", "_")
            return [self._name(plain), KIND_STRUCT << KIND_SHIFT | record[1] & VLEN_MASK, record[2], *members]
        if QUESTION_MARK in self._lacks and name.startswith("?"):
            record[0] = self._name("_" + name[1:])
        return record

    def _own_name(self, id: int) -> int:
        words, at = self._table.locate(id)
        return words[at]

    def func(self, record: Record) -> Record:
        if FUNC in self._lacks:
            record[1] = KIND_TYPEDEF << KIND_SHIFT
        elif FUNC_GLOBAL in self._lacks and record[1] & VLEN_MASK == LINKAGE_GLOBAL:
            record[1] = KIND_FUNC << KIND_SHIFT | LINKAGE_STATIC
        return record

    def func_proto(self, record: Record) -> Record:
        if FUNC in self._lacks:
            # Parameters have the shape of enumerators; those need names.
            names = [name or self._name(f"anon_{index}") for index, name in enumerate(record[3::2])]
            record[0:3] = [0, KIND_ENUM << KIND_SHIFT | record[1] & VLEN_MASK, 4]
            record[3::2] = names
        return record

    def float_(self, record: Record) -> Record:
        return [0, KIND_STRUCT << KIND_SHIFT, record[2]] if FLOAT in self._lacks else record

    def decl_tag(self, record: Record) -> Record:
        if DECL_TAG in self._lacks or (ATTRIBUTES in self._lacks and record[1] & KFLAG):
            return self._byte([self._name("tag")])
        return record

    def type_tag(self, record: Record) -> Record:
        if TYPE_TAG in self._lacks or (ATTRIBUTES in self._lacks and record[1] & KFLAG):
            return [0, KIND_CONST << KIND_SHIFT, record[2]]
        return record

    def enum(self, record: Record) -> Record:
        if ENUM64 in self._lacks:
            record[1] &= ~KFLAG
        return record

    def enum64(self, record: Record) -> Record:
        if ENUM64 not in self._lacks:
            return record
        self._placeholder = self._placeholder or self._table.type_count
        count = record[1] & VLEN_MASK
        members = [word for name in record[3::3] for word in (name, self._placeholder, 0)]
        return [record[0], KIND_UNION << KIND_SHIFT | count, record[2], *members]


_CHANGES: dict[int, Callable[[_Sanitiser, Record], Record]] = {
    KIND_VAR: _Sanitiser.var,
    KIND_DATASEC: _Sanitiser.datasec,
    KIND_FUNC: _Sanitiser.func,
    KIND_FUNC_PROTO: _Sanitiser.func_proto,
    KIND_FLOAT: _Sanitiser.float_,
    KIND_DECL_TAG: _Sanitiser.decl_tag,
    KIND_TYPE_TAG: _Sanitiser.type_tag,
    KIND_ENUM: _Sanitiser.enum,
    KIND_ENUM64: _Sanitiser.enum64,
}
assert set(ENUMS) <= _CHANGES.keys()
