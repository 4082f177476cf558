"""CO-RE: making a program compiled against one kernel's types fit another's.

The rules are libbpf's (relo_core.c), so that an object means the same to both
loaders: which target types are candidates, when they match, what is computed,
and that an instruction whose field does not exist is *poisoned*, replaced by a
call that the verifier removes if it is dead and otherwise refuses. Where libbpf
goes wrong silently it is not followed: a value that does not fit into the 32
bits of an ALU instruction is an error here and cut short there, and a negative
number in an access string is none. Whether a load may change its size is decided
by an array's element, as in libbpf since 1.6 and the kernel since 6.15.
"""

from __future__ import annotations

from btf.core_match import kinds_compat
from btf.core_patch import POISON_HELPER, Resolution, patch, relocate
from btf.core_spec import (
    ENUMVAL_EXISTS,
    ENUMVAL_VALUE,
    FIELD_BYTE_OFFSET,
    FIELD_BYTE_SIZE,
    FIELD_EXISTS,
    FIELD_KINDS,
    FIELD_LSHIFT_U64,
    FIELD_RSHIFT_U64,
    FIELD_SIGNED,
    KIND_LABELS,
    TYPE_EXISTS,
    TYPE_ID_LOCAL,
    TYPE_ID_TARGET,
    TYPE_KINDS,
    TYPE_MATCHES,
    TYPE_SIZE,
    Spec,
    SpecReader,
)
from btf.errors import BtfError, CoreError
from btf.format import (
    ENUMS,
    INT_SIGNED,
    KIND_ARRAY,
    KIND_ENUM,
    KIND_INT,
    KIND_PTR,
    essential_name,
    printable,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from btf.reader import Btf

__all__ = [
    "ENUMVAL_EXISTS",
    "ENUMVAL_VALUE",
    "FIELD_BYTE_OFFSET",
    "FIELD_BYTE_SIZE",
    "FIELD_EXISTS",
    "FIELD_LSHIFT_U64",
    "FIELD_RSHIFT_U64",
    "FIELD_SIGNED",
    "POISON_HELPER",
    "TYPE_EXISTS",
    "TYPE_ID_LOCAL",
    "TYPE_ID_TARGET",
    "TYPE_MATCHES",
    "TYPE_SIZE",
    "Relocator",
    "Resolution",
    "patch",
]

_WORK = 1000  # types and members that one more relocation may look at, see core_match.Work
_U32 = 0xFFFFFFFF
_U64 = 0xFFFFFFFFFFFFFFFF


class Relocator:
    """Resolves relocations of ``local`` (an object's BTF) against ``targets`` (a kernel's).

    ``modules``, when given, is called with a name to get the BTF of modules that
    may have a type of that name, but only if ``targets`` has none.
    """

    def __init__(self, local: Btf, targets: Btf, modules: Callable[[str], Iterable[Btf]] | None = None) -> None:
        self._local = local
        # BPF pointers have 8 bytes whatever the machine's C compiler says.
        local.pointer_size = 8
        self._target = targets
        self._modules = modules
        self._reader = SpecReader(local)
        self._candidates: dict[int, list[tuple[Btf, int]]] = {}
        self._resolved: dict[tuple[int, str, int], Resolution] = {}

    def relocate(
        self,
        insns: bytearray,
        relos: Iterable[tuple[int, int, str, int]],
        program: str,
        byteorder: str = "little",
    ) -> None:
        """Patch ``insns`` in place.

        ``relos`` are ``(instruction slot, local type id, access string,
        kind)``. Raises CoreError, naming program, relocation and instruction.
        """
        relocate(insns, relos, program, byteorder, self.resolve, self.describe)

    def describe(self, type_id: int, access: str, kind: int) -> str:
        """A relocation in words, as libbpf prints it: for messages about poisoned instructions."""
        try:
            return str(self._reader.parse(type_id, access, kind))
        except (BtfError, IndexError):
            label = KIND_LABELS[kind] if 0 <= kind < len(KIND_LABELS) else f"kind {kind}"
            return f"<{label}> [{type_id}] + '{printable(access[:80])}'"

    def resolve(self, type_id: int, access: str, kind: int) -> Resolution:
        """Compute one relocation; raises CoreError or BtfError."""
        key = (type_id, access, kind)
        found = self._resolved.get(key)
        if found is None:
            if len(self._resolved) >= 4096:
                self._resolved.clear()
            self._reader.allow(_WORK)
            found = self._resolved[key] = self._resolve(type_id, access, kind)
        return found

    def _resolve(self, type_id: int, access: str, kind: int) -> Resolution:
        if not 0 <= kind < len(KIND_LABELS):
            raise CoreError(f"unknown kind {kind} of CO-RE relocation; a newer toolkit may know it")
        local = self._reader.parse(type_id, access, kind)
        if kind == TYPE_ID_LOCAL:
            return Resolution(type_id, type_id, validate=False)
        candidates = self._find_candidates(type_id)
        result: Resolution | None = None
        matching = []
        for candidate in candidates:
            spec = self._reader.match(local, *candidate)
            if spec is None:
                continue
            other = self._calculate(local, spec)
            if result is None:
                result = other
            else:
                self._check_agreement(result, other)
            matching.append(candidate)
        if result is None:
            return self._calculate(local, None)
        # As in libbpf: a candidate that lacks a field which another has is out for good.
        self._candidates[type_id] = matching
        return result

    def _find_candidates(self, type_id: int) -> list[tuple[Btf, int]]:
        found = self._candidates.get(type_id)
        if found is None:
            name = self._local.name(type_id)
            if not name:
                raise CoreError(f"{self._local.label(type_id)} has no name to look for in the kernel")
            kind = self._local.kind(type_id)
            kinds = ENUMS if kinds_compat(kind, KIND_ENUM) else (kind,)
            name = essential_name(name)
            found = [(self._target, id) for id in self._target.find_flavours(name, kinds)]
            if not found and self._modules is not None:
                for module in self._modules(name):
                    found += [(module, id) for id in module.find_flavours(name, kinds, own=True)]
            self._candidates[type_id] = found
        return found

    @staticmethod
    def _check_agreement(one: Resolution, other: Resolution) -> None:
        a, b = one.target, other.target
        if a is None or b is None:
            return
        if a.bit_offset != b.bit_offset or one.poison != other.poison or one.new != other.new:
            raise CoreError(f"ambiguous: the kernel has {a} with value {one.new} and {b} with value {other.new}")

    def _calculate(self, local: Spec, target: Spec | None) -> Resolution:
        kind = local.kind
        if kind in FIELD_KINDS:
            result = self._field(local, target)
        elif kind in TYPE_KINDS:
            old = _type_value(local)
            result = Resolution(old, 0 if target is None else _type_value(target), kind != TYPE_ID_TARGET)
        elif kind == ENUMVAL_EXISTS:
            result = Resolution(1, int(target is not None))
        elif target is None:
            result = Resolution(_enum_value(local), 0, poison=True)
        else:
            result = Resolution(_enum_value(local), _enum_value(target))
        result.target = target
        return result

    def _field(self, local: Spec, target: Spec | None) -> Resolution:
        if local.kind == FIELD_EXISTS:
            return Resolution(1, int(target is not None))
        big = self._local.byteorder == "big"
        old, old_size, old_type, validate = _field_value(local, big)
        if target is None:
            return Resolution(old, 0, validate, poison=True)
        new, new_size, new_type, _ = _field_value(target, big)
        result = Resolution(old, new, validate)
        result.old_size, result.new_size = old_size, new_size
        if old_size != new_size:
            result.bad_size = not _resizable(local.btf, old_type, target.btf, new_type)
        return result


# ---- values -----------------------------------------------------------------------


def _type_value(spec: Spec) -> int:
    if spec.kind == TYPE_SIZE:
        return spec.btf.size(spec.root)
    return spec.root if spec.kind == TYPE_ID_TARGET else 1


def _enum_value(spec: Spec) -> int:
    """Value of an enumerator as 64 bits; one of 32 bits is sign-extended whatever its enum says."""
    value = spec.value
    if spec.btf.kind(spec.accessors[0][0]) == KIND_ENUM:
        value = (value & 0xFFFFFFFF ^ 0x80000000) - 0x80000000
    return value & _U64


def _element_size(btf: Btf, id: int) -> int:
    """Size of what a load of the type would move: of an array, one element."""
    id = btf.resolve(id)
    for _ in range(64):
        if btf.kind(id) != KIND_ARRAY:
            return btf.size(id)
        id = btf.resolve(btf.array(id)[0])
    raise CoreError("arrays are nested too deep")


def _field_value(spec: Spec, big: bool) -> tuple[int, int, int, bool]:
    """``(value, bytes to load, type loaded, whether to check the instruction's value)``."""
    btf, kind = spec.btf, spec.kind
    owner, _, name = spec.accessors[-1]
    if name is None:
        if kind == FIELD_BYTE_OFFSET:
            return spec.bit_offset // 8, _element_size(btf, owner), owner, True
        if kind == FIELD_BYTE_SIZE:
            return btf.size(owner), 0, 0, True
        raise CoreError(f"<{KIND_LABELS[kind]}> cannot be had of an array's element")
    type, bits = btf.resolve(spec.leaf), spec.leaf_bits
    offset = spec.bit_offset
    bitfield = bits > 0
    if bitfield:
        start, size = _bitfield_place(offset, bits, btf.size(type))
    else:
        size = btf.size(type)
        start, bits = offset // 8, size * 8
    if kind == FIELD_BYTE_OFFSET:
        if bitfield:
            return start, 0, 0, False
        return start, _element_size(btf, type), type, True
    if kind == FIELD_BYTE_SIZE:
        return size, 0, 0, not bitfield
    if kind == FIELD_SIGNED:
        return _is_signed(btf, type), 0, 0, True
    if kind == FIELD_RSHIFT_U64:
        return (64 - bits) & _U32, 0, 0, True
    # Of fields wider than 64 bits the shifts make no sense; libbpf computes them in 32 bits.
    shift = (8 - size) * 8 + (offset - start * 8) if big else 64 - (offset + bits - start * 8)
    return shift & _U32, 0, 0, not bitfield


def _bitfield_place(offset: int, bits: int, size: int) -> tuple[int, int]:
    """Smallest aligned ``(offset, size)`` in bytes, from ``size`` up, that holds the whole bit-field."""
    if not size:
        raise CoreError("a bit-field's type has no size")
    start = offset // 8 // size * size
    while offset + bits - start * 8 > size * 8:
        if size >= 8:
            raise CoreError("the bit-field cannot be read with one 64-bit load")
        size *= 2
        start = offset // 8 // size * size
    return start, size


def _is_signed(btf: Btf, id: int) -> int:
    kind = btf.kind(id)
    if kind in ENUMS:
        return int(btf.kflag(id))
    return btf.int_encoding(id) & INT_SIGNED if kind == KIND_INT else 0


def _resizable(local: Btf, old: int, target: Btf, new: int) -> bool:
    """Whether a load of another size yields the same value: pointers, and integers that are not signed."""
    kind = local.kind(old)
    if kind != target.kind(new):
        return False
    if kind == KIND_PTR:
        return True
    # As in libbpf only "signed" alone counts: a signed char keeps its size anyway.
    return kind == KIND_INT and local.int_encoding(old) != INT_SIGNED != target.int_encoding(new)
