"""What a CO-RE relocation refers to, in one BTF: a type, a field's path, an enumerator."""

from __future__ import annotations

from btf.core_match import Matcher, Work
from btf.errors import CoreError
from btf.format import COMPOSITES, ENUMS, KIND_ARRAY, essential_name, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from btf.reader import Btf

    # (type id, index, name); a name of None stands for an index into an array
    Accessor = tuple[int, int, Optional[str]]

FIELD_BYTE_OFFSET = 0
FIELD_BYTE_SIZE = 1
FIELD_EXISTS = 2
FIELD_SIGNED = 3
FIELD_LSHIFT_U64 = 4
FIELD_RSHIFT_U64 = 5
TYPE_ID_LOCAL = 6
TYPE_ID_TARGET = 7
TYPE_EXISTS = 8
TYPE_SIZE = 9
ENUMVAL_EXISTS = 10
ENUMVAL_VALUE = 11
TYPE_MATCHES = 12

KIND_LABELS = (
    "byte_off",
    "byte_sz",
    "field_exists",
    "signed",
    "lshift_u64",
    "rshift_u64",
    "local_type_id",
    "target_type_id",
    "type_exists",
    "type_size",
    "enumval_exists",
    "enumval_value",
    "type_matches",
)
FIELD_KINDS = range(FIELD_BYTE_OFFSET, FIELD_RSHIFT_U64 + 1)
TYPE_KINDS = (TYPE_ID_LOCAL, TYPE_ID_TARGET, TYPE_EXISTS, TYPE_SIZE, TYPE_MATCHES)
ENUMVAL_KINDS = (ENUMVAL_EXISTS, ENUMVAL_VALUE)

_MAX_SPEC = 64

# Outcomes of a member search that found no type.
_ABSENT = -1
_UNLIKE = -2


class Spec:
    """A path through ``btf`` from the type ``root``.

    ``accessors`` are the named members and array indexes that a programmer
    writes, ``raw`` every step, anonymous members too. ``bit_offset`` is where
    the path leads; ``leaf`` and ``leaf_bits`` are type and bit-field size of
    the last member, ``value`` is that of the enumerator.
    """

    __slots__ = ("accessors", "bit_offset", "btf", "kind", "leaf", "leaf_bits", "raw", "root", "value")

    def __init__(self, btf: Btf, root: int, kind: int) -> None:
        self.btf = btf
        self.root = root
        self.kind = kind
        self.accessors: list[Accessor] = []
        self.raw: list[int] = []
        self.bit_offset = 0
        self.leaf = 0
        self.leaf_bits = 0
        self.value = 0

    def step(self, owner: int, index: int, row: tuple[str, int, int, int]) -> None:
        """Append a named member of ``owner``."""
        name, self.leaf, offset, self.leaf_bits = row
        self.bit_offset += offset
        self.raw.append(index)
        self.accessors.append((owner, index, name))

    def __str__(self) -> str:
        """Like libbpf's: ``<byte_off> [5] struct task_struct.pid (0:74 @ offset 2336)``."""
        text = f"<{KIND_LABELS[self.kind]}> {self.btf.label(self.root)}"
        if self.kind in ENUMVAL_KINDS and self.accessors:
            return f"{text}::{printable(self.accessors[0][2] or '')} = {self.value}"
        if self.kind not in FIELD_KINDS:
            return text
        for number, (_, index, member) in enumerate(self.accessors):
            if member is not None:
                text += f".{printable(member)}"
            elif number or index:
                text += f"[{index}]"
        byte, bit = divmod(self.bit_offset, 8)
        where = f"{byte}.{bit}" if bit else f"{byte}"
        return f"{text} ({':'.join(map(str, self.raw))} @ offset {where})"


def parse_access(access: str) -> list[int]:
    """``"0:1:2"`` as numbers; CoreError when it is anything else."""
    parts = access.split(":")
    if len(parts) > _MAX_SPEC:
        raise CoreError(f"access string has {len(parts)} steps, at most {_MAX_SPEC} are allowed")
    for part in parts:
        if not (part.isascii() and part.isdigit() and len(part) < 11):
            raise CoreError(f"access string '{printable(access[:80])}' is not numbers joined by colons")
    return [int(part) for part in parts]


class Members:
    """Members of a struct or union, by name; ``anonymous`` are the indexes of those without."""

    __slots__ = ("anonymous", "by_name", "rows")

    def __init__(self, btf: Btf, id: int) -> None:
        self.rows = btf.members(id)
        self.by_name: dict[str, int] = {}
        self.anonymous: list[int] = []
        for index, row in enumerate(self.rows):
            if row[0]:
                self.by_name.setdefault(row[0], index)
            else:
                self.anonymous.append(index)


class SpecReader:
    """Parses local specs and finds their counterparts in candidates; keeps the members it has seen."""

    def __init__(self, local: Btf) -> None:
        self._local = local
        self._work = Work()
        self._members: dict[tuple[Btf, int], Members] = {}
        # Composites that lack a member, with the levels looked through: anonymous
        # members that share types would otherwise be searched once for each path.
        self._lacking: dict[tuple[Btf, int, str], int] = {}

    def allow(self, units: int) -> None:
        """Let all that is still to come cost so much more."""
        self._work.spend(-units)

    def members(self, btf: Btf, id: int) -> Members:
        found = self._members.get((btf, id))
        if found is None:
            if len(self._members) >= 256:
                self._members.clear()
            self._work.spend(btf.vlen(id))
            found = self._members[btf, id] = Members(btf, id)
        return found

    def parse(self, root: int, access: str, kind: int) -> Spec:
        """The local spec of a relocation; CoreError if it makes no sense."""
        btf = self._local
        spec = Spec(btf, root, kind)
        btf.locate(root)
        if kind in TYPE_KINDS:
            if access != "0":
                raise CoreError(f"access string '{printable(access[:80])}' of a type relocation is not '0'")
            return spec
        raw = parse_access(access)
        id = btf.resolve(root)
        if kind in ENUMVAL_KINDS:
            if btf.kind(id) not in ENUMS or len(raw) > 1 or raw[0] >= btf.vlen(id):
                raise CoreError(f"access string '{access}' does not name a value of {btf.label(id)}")
            self._work.spend(btf.vlen(id))
            name, spec.value = btf.enumerators(id)[raw[0]]
            spec.raw = raw
            spec.accessors.append((id, raw[0], name))
            return spec
        spec.raw.append(raw[0])
        spec.accessors.append((id, raw[0], None))
        spec.bit_offset = raw[0] * btf.size(id) * 8
        for index in raw[1:]:
            id = self._enter(spec, id, index)
        return spec

    def _enter(self, spec: Spec, id: int, index: int) -> int:
        """One more step of a local spec; returns the type it leads to."""
        btf = spec.btf
        id = btf.resolve(id)
        kind = btf.kind(id)
        if kind in COMPOSITES:
            rows = self.members(btf, id).rows
            if index >= len(rows):
                raise CoreError(f"{btf.label(id)} has {len(rows)} members, there is no index {index}")
            row = rows[index]
            if row[0]:
                spec.step(id, index, row)
            else:
                spec.raw.append(index)
                spec.bit_offset += row[2]
            return row[1]
        if kind == KIND_ARRAY:
            if not self._index_fits(spec, id, index):
                raise CoreError(f"index {index} is past the end of an array of {btf.array(id)[2]}")
            id = btf.resolve(btf.array(id)[0])
            spec.raw.append(index)
            spec.accessors.append((id, index, None))
            spec.bit_offset += index * btf.size(id) * 8
            return id
        raise CoreError(f"{btf.label(id)} has neither members nor elements")

    @staticmethod
    def _index_fits(spec: Spec, array: int, index: int) -> bool:
        """Whether the index is in bounds, or the array a flexible one: 0 elements, last in its struct."""
        nelems = spec.btf.array(array)[2]
        if index < nelems:
            return True
        owner, member, name = spec.accessors[-1]
        return not nelems and name is not None and member == spec.btf.vlen(owner) - 1

    def match(self, local: Spec, btf: Btf, id: int) -> Spec | None:
        """The spec of candidate ``id`` that means what ``local`` means, or None."""
        self._work.spend()
        matcher = Matcher(self._local, btf, self._work)
        spec = Spec(btf, id, local.kind)
        if local.kind in TYPE_KINDS:
            same = matcher.types_match if local.kind == TYPE_MATCHES else matcher.types_compat
            return spec if same(local.root, id) else None
        if local.kind in ENUMVAL_KINDS:
            return self._match_enumerator(local, spec)
        for number, (owner, index, name) in enumerate(local.accessors):
            if name is not None:
                member = self.members(self._local, owner).rows[index]
                id = self._find_member(matcher, member, spec, id)
                if id < 0:
                    return None
                continue
            id = btf.resolve(id)
            if number:
                if btf.kind(id) != KIND_ARRAY or not self._index_fits(spec, id, index):
                    return None
                id = btf.resolve(btf.array(id)[0])
            if len(spec.raw) >= _MAX_SPEC:
                raise CoreError(f"{btf.label(spec.root)} is nested too deep")
            spec.raw.append(index)
            spec.accessors.append((id, index, None))
            spec.bit_offset += index * btf.size(id) * 8
        return spec

    def _match_enumerator(self, local: Spec, spec: Spec) -> Spec | None:
        btf = spec.btf
        id = btf.resolve(spec.root)
        if btf.kind(id) not in ENUMS:
            return None
        wanted = essential_name(local.accessors[0][2] or "")
        self._work.spend(btf.vlen(id))
        for index, (name, value) in enumerate(btf.enumerators(id)):
            if essential_name(name) == wanted:
                spec.value = value
                spec.raw.append(index)
                spec.accessors.append((id, index, name))
                return spec
        return None

    def _find_member(self, matcher: Matcher, member: tuple[str, int, int, int], spec: Spec, id: int) -> int:
        """Append the member of that name to ``spec``, through anonymous ones; returns its type.

        _ABSENT if there is none; _UNLIKE if it has another sort of type, which
        ends the search.
        """
        self._work.spend()
        btf = spec.btf
        id = btf.resolve(id)
        if btf.kind(id) not in COMPOSITES:
            return _ABSENT
        levels = self._lacking.get((btf, id, member[0]), 0)
        members = self.members(btf, id)
        if members.rows and len(spec.raw) + max(levels - 1, 0) >= _MAX_SPEC:
            raise CoreError(f"{btf.label(spec.root)} is nested too deep")
        if levels:
            return _ABSENT
        here = members.by_name.get(member[0], -1)
        for index in members.anonymous:
            if 0 <= here < index:
                break
            _, type, offset, _ = members.rows[index]
            spec.raw.append(index)
            spec.bit_offset += offset
            found = self._find_member(matcher, member, spec, type)
            if found != _ABSENT:
                return found
            spec.raw.pop()
            spec.bit_offset -= offset
            levels = max(levels, self._lacking.get((btf, btf.resolve(type), member[0]), 0))
        if here < 0:
            if len(self._lacking) >= 4096:
                self._lacking.clear()
            self._lacking[btf, id, member[0]] = levels + 1 if members.rows else 0
            return _ABSENT
        row = members.rows[here]
        spec.step(id, here, row)
        return row[1] if matcher.fields_compat(member[1], row[1]) else _UNLIKE
