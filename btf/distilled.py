"""Moving a module's BTF from its distilled base (``.BTF.base``, Linux 6.11) to the BTF of a kernel.

A distilled base holds what a module's types need of the kernel that it was
built for: integers and floats whole, structs, unions and enums as empty shells
with a size, and forward declarations where only a pointer is involved. Each is
found again in the running kernel by name, kind and size; ids and string offsets
of the module are then renumbered. The rules are those of kernel/bpf/btf_relocate.c.
"""

from __future__ import annotations

from btf.errors import BtfError
from btf.format import (
    COMPOSITES,
    ENUMS,
    KIND_ENUM,
    KIND_FLOAT,
    KIND_FWD,
    KIND_INT,
    KIND_STRUCT,
    KIND_UNION,
)
from btf.table import is_known, kind_of, name_slots, type_slots
from btf.writer import blob, pack_records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btf.table import Table


def relocate(module: Table, base: Table) -> bytes:
    """The blob of ``module`` (which stands on its distilled base) as split BTF on ``base``.

    Raises BtfError when a type is missing from ``base``, has another size
    there, or cannot be told from others: the module was built for a kernel too different.
    """
    distilled = module.base
    if distilled is None:
        raise BtfError("BTF has no base to be moved from")
    ids = {0: 0}
    for id in distilled.ids:
        ids[id] = _match(distilled, id, base)
    shift = base.type_count - distilled.type_count
    strings = _Strings(module, base)
    records = []
    for record in module.records():
        if not is_known(record):
            raise BtfError(f"BTF kind {kind_of(record)} is unknown: its type ids cannot be renumbered")
        for slot in type_slots(record):
            record[slot] = ids[record[slot]] if record[slot] in ids else record[slot] + shift
        for slot in name_slots(record):
            record[slot] = strings.move(record[slot])
        records.append(record)
    return blob(pack_records(records, module.byteorder), strings.own + bytes(strings.added), module.byteorder)


class _Strings:
    """String offsets: own strings move with the base's size, the distilled base's are looked up or added."""

    def __init__(self, module: Table, base: Table) -> None:
        distilled = module.base
        assert distilled is not None
        self.old, self.new = module.string_base, base.string_size
        self.own = module.strings
        self.added = bytearray()
        self.names = distilled.names
        self.base = base
        self.moved: dict[int, int] = {0: 0}

    def move(self, offset: int) -> int:
        if offset >= self.old:
            return offset - self.old + self.new
        found = self.moved.get(offset)
        if found is None:
            name = self.names[offset]
            found = self.base.string_offset(name)
            if found is None:
                found = self.new + len(self.own) + len(self.added)
                self.added += name.encode("utf-8", "backslashreplace") + b"\0"
            self.moved[offset] = found
        return found


def _match(distilled: Table, id: int, base: Table) -> int:
    """The type of ``base`` that shell ``id`` stands for."""
    kind = distilled.kind(id)
    name = distilled.name(id)
    if kind in (KIND_INT, KIND_FLOAT):
        wanted = distilled.record(id)[1:]
        ids = [found for found in base.find(name, (kind,)) if _own_words(base, found) == wanted]
    elif kind == KIND_FWD:
        composite = KIND_UNION if distilled.kflag(id) else KIND_STRUCT
        # Only pointers lead to it: any type of that name will do, best a whole one.
        ids = base.find(name, (composite,))[:1] or base.find(name, (KIND_FWD,))[:1]
    elif kind in COMPOSITES or kind in ENUMS:
        # A shell of an enum does not tell whether it has 64-bit values.
        kinds = (kind,) if kind in COMPOSITES else ENUMS
        ids = [found for found in base.find(name, kinds) if base.size(found) == distilled.size(id)]
        if len(ids) > 1 and kind == KIND_ENUM:
            ids = ids[:1]
    else:
        raise BtfError(f"BTF type {distilled.label(id)} cannot stand in a distilled base")
    if not ids:
        raise BtfError(f"base has no type like {distilled.label(id)} of the module's own base")
    if len(ids) > 1:
        raise BtfError(f"base has {len(ids)} types like {distilled.label(id)} of the module's own base")
    return ids[0]


def _own_words(base: Table, id: int) -> list[int]:
    """Words of a type but its name, be it in ``base`` or below."""
    table = base
    while id < table.first_id and table.base is not None:
        table = table.base
    return table.record(id)[1:]
