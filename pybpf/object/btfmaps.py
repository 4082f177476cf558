"""What an object's BTF says about maps and data sections.

Map definitions are structs in the ``.maps`` section whose members encode
numbers as array lengths behind a pointer (``__uint(type, N)`` of libbpf's
bpf_helpers.h), types as pointers (``__type(key, T)``) and 64-bit numbers as
enumerators (``__ulong(map_extra, N)``).
"""

from __future__ import annotations

from btf.format import (
    KIND_ARRAY,
    KIND_ENUM,
    KIND_ENUM64,
    KIND_MASK,
    KIND_PTR,
    KIND_SHIFT,
    KIND_STRUCT,
    KIND_VAR,
    VLEN_MASK,
)
from btf.reader import MAX_NAME, Btf
from pybpf.errors import ObjectError
from pybpf.object.spec import MapSpec

_U32_MAX = 0xFFFFFFFF
# There are ten sorts; each definition may be read by many maps of a hostile object.
_MAX_FIELDS = 64
_MAX_VALUE_FIELDS = 4096
# Fields that are numbers, by the names of libbpf and of MapSpec.
_NUMBERS = {
    "type": "type",
    "max_entries": "max_entries",
    "map_flags": "flags",
    "map_extra": "map_extra",
    "pinning": "pinning",
}
_OF_MAPS = (12, 13)  # BPF_MAP_TYPE_ARRAY_OF_MAPS, HASH_OF_MAPS


def read_maps(btf: Btf, symbols: set[str], wanted: set[str] | None = None) -> list[MapSpec]:
    """The maps of section ``.maps``, or those ``wanted``; ``symbols`` are the names that the ELF file has there."""
    type_id = btf.datasecs().get(".maps")
    if not type_id:
        raise ObjectError("section .maps has no BTF: compile with -g")
    maps = []
    names = set()
    fields: dict[int, str] = {}
    for var, _, _ in btf.vars(type_id):
        words, at = btf.locate(var)
        name = btf.string(words[at], MAX_NAME)
        if words[at + 1] >> KIND_SHIFT & KIND_MASK != KIND_VAR or name not in symbols:
            raise ObjectError(f"BTF type {var} in .maps is not a map that the symbol table knows")
        names.add(name)
        if wanted is None or name in wanted:
            maps.append(_read_map(btf, name, words[at + 2], fields))
    missing = symbols.difference(names)
    if missing:
        raise ObjectError(f"map {min(missing)!r} has no BTF definition: compile with -g")
    return maps


def _read_map(btf: Btf, name: str, type_id: int, fields: dict[int, str], inner: bool = False) -> MapSpec:
    """One map; ``fields`` are names that the maps before it had, by their offsets."""
    kind, words, at = btf.resolved(type_id)
    if kind != KIND_STRUCT:
        raise ObjectError(f"map {name!r} is not defined by a struct (arrays of maps definitions are not supported)")
    vlen = words[at + 1] & VLEN_MASK
    if vlen > _MAX_FIELDS:
        raise ObjectError(f"map {name!r} is defined by {vlen} fields: no map has as many")
    spec = MapSpec(name, 0, 0, 0, 0)
    members = words[at + 3 : at + 3 + 3 * vlen].tolist()
    for offset, member in zip(members[::3], members[1::3]):
        field = fields.get(offset)
        if field is None:
            field = fields[offset] = btf.string(offset, MAX_NAME)
        attribute = _NUMBERS.get(field)
        if attribute is not None:
            setattr(spec, attribute, _number(btf, member, name, field))
        elif field == "key":
            spec.key_type_id = target = _pointee(btf, member, name, field)
            _set_size(spec, field, btf.size(target), name, field)
        elif field == "value":
            spec.value_type_id = target = _pointee(btf, member, name, field)
            _set_size(spec, field, btf.size(target), name, field)
        elif field in ("key_size", "value_size"):
            _set_size(spec, field[:-5], _number(btf, member, name, field), name, field)
        elif field == "values":
            where = _where(name, field)
            if inner:
                raise ObjectError(f"{where}: maps of maps of maps are not supported")
            spec.inner = _read_map(btf, f"{name}.inner", _inner_definition(btf, member, where), fields, True)
            _set_size(spec, "value", 4, name, field)
        else:
            raise ObjectError(f"{_where(name, field)} is not supported")
    if not spec.type:
        raise ObjectError(f"map {name!r} has no type")
    if inner and not _has_kernel_fields(btf, spec.value_type_id):
        # From 5.15 to 6.1 a map with types is not like one without, which the maps to be put in will be.
        spec.key_type_id = spec.value_type_id = 0
    if (spec.type in _OF_MAPS) != (spec.inner is not None):
        wants = "does not say what maps it holds" if spec.inner is None else "holds no maps"
        raise ObjectError(f"map {name!r} is of type {spec.type} and {wants} (use __array(values, ...))")
    return spec


def _where(name: str, field: str) -> str:
    return f"map {name!r}, field {field!r}"


def _has_kernel_fields(btf: Btf, type_id: int) -> bool:
    """Whether a value holds something of the kernel's, such as a bpf_spin_lock, which it finds by the type only."""
    type_id = btf.resolve(type_id) if type_id else 0
    if not type_id or btf.kind(type_id) != KIND_STRUCT or btf.vlen(type_id) > _MAX_VALUE_FIELDS:
        return False
    kinds = [btf.resolve(member) for _, member, _, _ in btf.members(type_id)]
    return any(btf.kind(kind) == KIND_STRUCT and btf.name(kind).startswith("bpf_") for kind in kinds)


def _inner_definition(btf: Btf, type_id: int, where: str) -> int:
    """The struct that defines the maps in a map: ``__array(values, struct ...)`` is an array of pointers to it."""
    type_id = btf.resolve(type_id)
    if btf.kind(type_id) == KIND_ARRAY:
        element = btf.resolve(btf.array(type_id)[0])
        if btf.kind(element) == KIND_PTR:
            target = btf.resolve(btf.type(element))
            if btf.kind(target) == KIND_STRUCT:
                return target
            raise ObjectError(f"{where}: initial programs are not supported: fill the map after loading")
    raise ObjectError(f"{where} is not an array of pointers to map definitions (use __array)")


def _set_size(spec: MapSpec, part: str, size: int, name: str, field: str) -> None:
    known = spec.key_size if part == "key" else spec.value_size
    if known and known != size:
        raise ObjectError(f"{_where(name, field)} says {size} bytes, another field says {known}")
    if not 0 <= size <= _U32_MAX:
        raise ObjectError(f"{_where(name, field)} is too large: {size} bytes")
    if part == "key":
        spec.key_size = size
    else:
        spec.value_size = size


def _pointee(btf: Btf, type_id: int, name: str, field: str) -> int:
    kind, words, at = btf.resolved(type_id)
    if kind != KIND_PTR:
        raise ObjectError(f"{_where(name, field)} is not a pointer to the type it means (use __type)")
    return words[at + 2]


def _number(btf: Btf, type_id: int, name: str, field: str) -> int:
    kind, words, at = btf.resolved(type_id)
    if kind == KIND_PTR:
        kind, words, at = btf.resolved(words[at + 2])
        if kind == KIND_ARRAY:
            return words[at + 5]
    elif kind in (KIND_ENUM, KIND_ENUM64):
        values = btf.enumerators(btf.resolve(type_id))
        if len(values) == 1:
            return values[0][1]
    raise ObjectError(f"{_where(name, field)} is not a number (use __uint)")
