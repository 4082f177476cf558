"""When a local and a target type are the same for CO-RE.

Three relations of growing strictness, as libbpf defines them (relo_core.c):
``fields_compat`` for a field's type, ``types_compat`` for a root type whose
existence, size or id is asked for, ``types_match`` for TYPE_MATCHES.
"""

from __future__ import annotations

from btf.errors import CoreError
from btf.format import (
    COMPOSITES,
    ENUMS,
    INT_SIGNED,
    KIND_ARRAY,
    KIND_FLOAT,
    KIND_FUNC_PROTO,
    KIND_FWD,
    KIND_INT,
    KIND_PTR,
    KIND_STRUCT,
    KIND_UNION,
    KIND_VOID,
    essential_name,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btf.reader import Btf

_MAX_DEPTH = 32
_MAX_WORK = 100_000


def kinds_compat(local: int, target: int) -> bool:
    """Equal kinds, or both one of the two enums."""
    return local == target or (local in ENUMS and target in ENUMS)


class Work:
    """What all relocations of an object may cost together, in types and members looked at.

    Only malformed or hostile BTF gets near the limit: structs that contain
    each other in a few hundred bytes can describe a tree of 2**32 members. The
    limit stands for about a second.
    """

    __slots__ = ("_left",)

    def __init__(self, limit: int = _MAX_WORK) -> None:
        self._left = limit

    def spend(self, units: int = 1) -> None:
        """Account for some work; CoreError when there was too much."""
        self._left -= units
        if self._left < 0:
            raise CoreError("comparing the types takes too long; is the BTF malformed?")


class Matcher:
    """Compares types of ``local`` with types of ``target``."""

    __slots__ = ("_local", "_target", "_work")

    def __init__(self, local: Btf, target: Btf, work: Work) -> None:
        self._local = local
        self._target = target
        self._work = work

    def _same_essence(self, local_id: int, target_id: int) -> bool:
        return essential_name(self._local.name(local_id)) == essential_name(self._target.name(target_id))

    def _plain_ints(self, local_id: int, target_id: int) -> bool:
        return self._local.int_bits(local_id)[0] == 0 == self._target.int_bits(target_id)[0]

    def fields_compat(self, local_id: int, target_id: int) -> bool:
        """Whether a field of the one type can be read as the other: sizes and signs may differ."""
        local, target = self._local, self._target
        for _ in range(_MAX_DEPTH):
            local_id, target_id = local.resolve(local_id), target.resolve(target_id)
            kind, target_kind = local.kind(local_id), target.kind(target_id)
            if kind in COMPOSITES and target_kind in COMPOSITES:
                return True
            if not kinds_compat(kind, target_kind):
                return False
            if kind in (KIND_PTR, KIND_FLOAT):
                return True
            if kind == KIND_FWD or kind in ENUMS:
                anonymous = not local.name(local_id) or not target.name(target_id)
                return anonymous or self._same_essence(local_id, target_id)
            if kind == KIND_INT:
                return self._plain_ints(local_id, target_id)
            if kind != KIND_ARRAY:
                return False
            local_id, target_id = local.array(local_id)[0], target.array(target_id)[0]
        raise CoreError("arrays are nested too deep")

    def types_compat(self, local_id: int, target_id: int, level: int = _MAX_DEPTH) -> bool:
        """Whether two types of one essential name are of the same sort: members do not count."""
        local, target = self._local, self._target
        if not kinds_compat(local.kind(local_id), target.kind(target_id)):
            return False
        for _ in range(_MAX_DEPTH):
            self._work.spend()
            local_id, target_id = local.resolve(local_id), target.resolve(target_id)
            kind = local.kind(local_id)
            if not kinds_compat(kind, target.kind(target_id)):
                return False
            if kind in COMPOSITES or kind in ENUMS or kind in (KIND_VOID, KIND_FWD):
                return True
            if kind == KIND_INT:
                return self._plain_ints(local_id, target_id)
            if kind == KIND_PTR:
                local_id, target_id = local.type(local_id), target.type(target_id)
            elif kind == KIND_ARRAY:
                local_id, target_id = local.array(local_id)[0], target.array(target_id)[0]
            elif kind == KIND_FUNC_PROTO:
                if not self._params_compat(local_id, target_id, level):
                    return False
                local_id, target_id = local.resolve(local.type(local_id)), target.resolve(target.type(target_id))
            else:
                return False
        raise CoreError("types are nested too deep")

    def _params_compat(self, local_id: int, target_id: int, level: int) -> bool:
        local, target = self._local, self._target
        if local.vlen(local_id) != target.vlen(target_id):
            return False
        self._work.spend(local.vlen(local_id))
        if level <= 0:
            raise CoreError("functions are nested too deep")
        return all(
            self.types_compat(local.resolve(mine[1]), target.resolve(other[1]), level - 1)
            for mine, other in zip(local.params(local_id), target.params(target_id))
        )

    def types_match(self, local_id: int, target_id: int, behind_ptr: bool = False, level: int = _MAX_DEPTH) -> bool:
        """Whether the target has all that the local type has: members, sizes, signs, signatures."""
        local, target = self._local, self._target
        if level <= 0:
            raise CoreError("types are nested too deep")
        for _ in range(_MAX_DEPTH):
            self._work.spend()
            local_id, target_id = local.resolve(local_id), target.resolve(target_id)
            if not self._same_essence(local_id, target_id):
                return False
            kind, target_kind = local.kind(local_id), target.kind(target_id)
            if kind in COMPOSITES or kind == KIND_FWD:
                return self._composites_match(local_id, target_id, behind_ptr, level)
            if kind in ENUMS:
                return target_kind in ENUMS and self._enums_match(local_id, target_id)
            if kind != target_kind:
                return False
            if kind == KIND_VOID:
                return True
            if kind == KIND_INT:
                signs = local.int_encoding(local_id) ^ target.int_encoding(target_id)
                return local.size(local_id) == target.size(target_id) and not signs & INT_SIGNED
            if kind == KIND_PTR:
                behind_ptr = True
                local_id, target_id = local.type(local_id), target.type(target_id)
            elif kind == KIND_ARRAY:
                (local_id, _, mine), (target_id, _, other) = local.array(local_id), target.array(target_id)
                if mine != other:
                    return False
            elif kind == KIND_FUNC_PROTO:
                if local.vlen(local_id) != target.vlen(target_id):
                    return False
                self._work.spend(local.vlen(local_id))
                for (_, a), (_, b) in zip(local.params(local_id), target.params(target_id)):
                    if not self.types_match(a, b, behind_ptr, level - 1):
                        return False
                local_id, target_id = local.type(local_id), target.type(target_id)
            else:
                return False
        raise CoreError("types are nested too deep")

    def _composites_match(self, local_id: int, target_id: int, behind_ptr: bool, level: int) -> bool:
        local, target = self._local, self._target
        kind, target_kind = local.kind(local_id), target.kind(target_id)
        if kind == KIND_FWD:
            if kind == target_kind:
                return local.kflag(local_id) == target.kflag(target_id)
            return behind_ptr and target_kind == (KIND_UNION if local.kflag(local_id) else KIND_STRUCT)
        if behind_ptr:
            if kind == target_kind:
                return True
            return target_kind == KIND_FWD and target.kflag(target_id) == (kind == KIND_UNION)
        if kind != target_kind or local.vlen(local_id) > target.vlen(target_id):
            return False
        self._work.spend(target.vlen(target_id) + local.vlen(local_id))
        others: dict[str, list[int]] = {}
        for name, type, _, _ in target.members(target_id):
            others.setdefault(essential_name(name), []).append(type)
        return all(
            any(self.types_match(type, other, False, level - 1) for other in others.get(essential_name(name), ()))
            for name, type, _, _ in local.members(local_id)
        )

    def _enums_match(self, local_id: int, target_id: int) -> bool:
        local, target = self._local, self._target
        if local.size(local_id) != target.size(target_id) or local.vlen(local_id) > target.vlen(target_id):
            return False
        self._work.spend(target.vlen(target_id) + local.vlen(local_id))
        names = {essential_name(name) for name, _ in target.enumerators(target_id)}
        return all(essential_name(name) in names for name, _ in local.enumerators(local_id))
