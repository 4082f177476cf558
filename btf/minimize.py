"""The few types of a kernel's BTF that the CO-RE relocations of some objects need: KBs instead of MBs.

For kernels built without BTF: where a full one exists (from another machine, from
pahole), the small one is made and shipped, and relocates to the same values.
Members that nobody asks for are left out, of a type behind a pointer or in a
member only kind, name and size stay. Ids of types are other ones: TYPE_ID_TARGET
means nothing to a kernel that has no BTF.
"""

from __future__ import annotations

from btf.core import Relocator
from btf.core_spec import ENUMVAL_KINDS, FIELD_KINDS, TYPE_MATCHES
from btf.errors import CoreError
from btf.format import (
    COMPOSITES,
    ENUMS,
    KIND_ARRAY,
    KIND_ENUM64,
    KIND_FLOAT,
    KIND_FUNC_PROTO,
    KIND_FWD,
    KIND_INT,
    KIND_MASK,
    KIND_PTR,
    KIND_SHIFT,
    MODIFIERS,
    VLEN_MASK,
)
from btf.writer import blob, pack_records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from btf.core_patch import Resolution
    from btf.core_spec import Spec
    from btf.reader import Btf

_PLAIN = (KIND_INT, KIND_FLOAT, KIND_FWD, KIND_PTR, KIND_FUNC_PROTO)
_SIGNED_LONG = 1 << 24


class _Recorder(Relocator):
    """A Relocator that tells which candidates matched, and how."""

    def __init__(self, local: Btf, full: Btf, keep: Minimizer) -> None:
        super().__init__(local, full)
        self._keep = keep

    def _calculate(self, local: Spec, target: Spec | None) -> Resolution:
        if target is not None:
            self._keep.spec(local, target)
        return super()._calculate(local, target)


class Minimizer:
    """Collects what relocations need of ``full``; ``to_bytes`` writes it."""

    def __init__(self, full: Btf) -> None:
        self._full = full
        self._kept: set[int] = set()
        self._members: dict[int, set[int]] = {}  # of composites, and enumerators of enums
        self._followed: set[int] = set()  # pointers to something that matters, and functions
        self._matched: set[tuple[int, bool]] = set()

    def add(self, local: Btf, relos: Iterable[tuple[int, str, int]]) -> None:
        """Keep what the relocations ``(type id, access string, kind)`` of an object's BTF refer to.

        Raises CoreError for one that cannot be applied to this kernel.
        """
        recorder = _Recorder(local, self._full, self)
        for type_id, access, kind in relos:
            try:
                recorder.resolve(type_id, access, kind)
            except CoreError as error:
                raise CoreError(f"{recorder.describe(type_id, access, kind)}: {error}", error.details) from None

    def spec(self, local: Spec, target: Spec) -> None:
        """Keep what one relocation goes through."""
        # What a typedef is called matters for the root alone: types are compared without.
        id = target.root
        while self._kind(id) in MODIFIERS:
            self._kept.add(id)
            id = self._full.type(id)
        if local.kind in FIELD_KINDS:
            self._path(id, target)
        elif local.kind in ENUMVAL_KINDS:
            self._shell(id)
            self._members[id].add(target.raw[-1])
        elif local.kind == TYPE_MATCHES:
            self._whole(id, False, 0)
        else:
            self._shell(id, follow=True)

    def _kind(self, id: int) -> int:
        return self._full.kind(id)

    def _path(self, id: int, target: Spec) -> None:
        full = self._full
        for index in target.raw[1:]:
            owner = full.resolve(id)
            self._shell(owner)
            if self._kind(owner) == KIND_ARRAY:
                id = full.array(owner)[0]
                continue
            id = self._member(owner, index)
            plain = full.resolve(id)
            if index + 1 < full.vlen(owner) and self._kind(plain) == KIND_ARRAY and not full.array(plain)[2]:
                # Were it the last member, it would be taken for a flexible array.
                self._member(owner, index + 1)
        self._shell(id)

    def _member(self, owner: int, index: int) -> int:
        """Keep a member and the shell of its type; returns that type."""
        self._members[owner].add(index)
        type = self._full.members(owner)[index][1]
        self._shell(type)
        return type

    def _shell(self, id: int, follow: bool = False, depth: int = 0) -> None:
        """Keep a type's kind, name and size; behind pointers and in functions only if ``follow``."""
        full = self._full
        id = full.resolve(id)
        if not id or (id in self._kept and not follow):
            return
        if depth > 64:
            raise CoreError("types are nested too deep")
        self._kept.add(id)
        kind = self._kind(id)
        if kind in COMPOSITES or kind in ENUMS:
            self._members.setdefault(id, set())
        elif kind == KIND_ARRAY:
            self._shell(full.array(id)[0], follow, depth + 1)
        elif kind == KIND_PTR and follow and id not in self._followed:
            self._followed.add(id)
            self._shell(full.type(id), follow, depth + 1)
        elif kind == KIND_FUNC_PROTO and id not in self._followed:
            self._followed.add(id)
            for type in (full.type(id), *(type for _, type in full.params(id))):
                self._shell(type, follow, depth + 1)
        elif kind not in _PLAIN:
            raise CoreError(f"{full.label(id)} cannot be the type of a member")

    def _whole(self, id: int, behind_pointer: bool, depth: int) -> None:
        """Keep all that TYPE_MATCHES looks at."""
        full = self._full
        id = full.resolve(id)
        if not id or (id, behind_pointer) in self._matched:
            return
        if depth > 64:
            raise CoreError("types are nested too deep")
        kind = self._kind(id)
        self._shell(id)
        self._matched.add((id, behind_pointer))
        if kind in ENUMS:
            self._members[id].update(range(full.vlen(id)))
        elif kind == KIND_ARRAY:
            self._whole(full.array(id)[0], behind_pointer, depth + 1)
        elif kind == KIND_PTR:
            self._followed.add(id)
            self._whole(full.type(id), True, depth + 1)
        elif kind == KIND_FUNC_PROTO:
            for type in (full.type(id), *(type for _, type in full.params(id))):
                self._whole(type, behind_pointer, depth + 1)
        elif kind in COMPOSITES and not behind_pointer:
            self._members[id].update(range(full.vlen(id)))
            for _, type, _, _ in full.members(id):
                self._whole(type, False, depth + 1)

    # ---- output ---------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """The blob, in the byte order of the full one; the same for the same relocations."""
        full = self._full
        strings = _Strings()
        # Its size tells a reader how large pointers are.
        size = full.pointer_size
        records = [[strings.add("long"), KIND_INT << KIND_SHIFT, size, _SIGNED_LONG | size * 8]]
        order = sorted(self._kept)
        ids = {id: at for at, id in enumerate(order, 2)}
        ids[0] = 0
        for id in order:
            records.append(self._record(id, strings, ids))
        return blob(pack_records(records, full.byteorder), bytes(strings.text), full.byteorder)

    def _record(self, id: int, strings: _Strings, ids: dict[int, int]) -> list[int]:
        full = self._full
        words, at = full.locate(id)
        kind = words[at + 1] >> KIND_SHIFT & KIND_MASK
        info, value, vlen = words[at + 1], words[at + 2], words[at + 1] & VLEN_MASK

        def new(type: int) -> int:
            return ids[full.resolve(type)]

        entries: list[int] = []
        if kind in COMPOSITES or kind in ENUMS:
            each = 3 if kind in COMPOSITES or kind == KIND_ENUM64 else 2
            chosen = sorted(self._members[id])
            for index in chosen:
                row = words[at + 3 + each * index : at + 3 + each * (index + 1)].tolist()
                row[0] = strings.add(full.string(row[0]))
                if kind in COMPOSITES:
                    row[1] = new(row[1])
                entries += row
            info = info & ~VLEN_MASK | len(chosen)
        elif kind == KIND_PTR:
            value = new(value) if id in self._followed else 0
        elif kind in MODIFIERS:
            # The root's own chain is kept link by link.
            value = ids[value] if value in ids else new(value)
        elif kind == KIND_ARRAY:
            entries = [new(words[at + 3]), 1, words[at + 5]]
        elif kind == KIND_FUNC_PROTO:
            value = new(value)
            for index in range(vlen):
                entries += [0, new(words[at + 4 + 2 * index])]
        elif kind == KIND_INT:
            entries = [words[at + 3]]
        return [strings.add(full.string(words[at])), info, value, *entries]


class _Strings:
    """A string section, every string once."""

    def __init__(self) -> None:
        self.text = bytearray(1)
        self._offsets = {"": 0}

    def add(self, text: str) -> int:
        offset = self._offsets.get(text)
        if offset is None:
            offset = self._offsets[text] = len(self.text)
            self.text += text.encode("utf-8", "backslashreplace") + b"\0"
        return offset
