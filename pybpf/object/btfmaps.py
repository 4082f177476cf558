"""What an object's BTF says about maps and data sections.

Map definitions are structs in the ``.maps`` section whose members encode
numbers as array lengths behind a pointer (``__uint(type, N)`` of libbpf's
bpf_helpers.h), types as pointers (``__type(key, T)``) and 64-bit numbers as
enumerators (``__ulong(map_extra, N)``).
"""

from __future__ import annotations

from btf.format import KIND_ARRAY, KIND_DATASEC, KIND_ENUM, KIND_ENUM64, KIND_PTR, KIND_STRUCT, KIND_VAR
from btf.reader import Btf
from pybpf.errors import ObjectError
from pybpf.object.spec import MapSpec

_U32_MAX = 0xFFFFFFFF
# There are ten sorts; each definition may be read by many maps of a hostile object.
_MAX_FIELDS = 64
_MAX_VALUE_FIELDS = 4096
_OF_MAPS = (12, 13)  # BPF_MAP_TYPE_ARRAY_OF_MAPS, HASH_OF_MAPS


def datasec(btf: Btf, name: str) -> int:
    """The type id of DATASEC ``name``, 0 when there is none."""
    ids = btf.find(name, (KIND_DATASEC,))
    return ids[0] if ids else 0


def read_maps(btf: Btf, symbols: set[str], wanted: set[str] | None = None) -> list[MapSpec]:
    """The maps of section ``.maps``, or those ``wanted``; ``symbols`` are the names that the ELF file has there."""
    type_id = datasec(btf, ".maps")
    if not type_id:
        raise ObjectError("section .maps has no BTF: compile with -g")
    maps = []
    names = set()
    for var, _, _ in btf.vars(type_id):
        if btf.kind(var) != KIND_VAR or btf.name(var) not in symbols:
            raise ObjectError(f"BTF type {var} in .maps is not a map that the symbol table knows")
        name = btf.name(var)
        names.add(name)
        if wanted is None or name in wanted:
            maps.append(_read_map(btf, name, btf.type(var)))
    missing = symbols.difference(names)
    if missing:
        raise ObjectError(f"map {min(missing)!r} has no BTF definition: compile with -g")
    return maps


def _read_map(btf: Btf, name: str, type_id: int, inner: bool = False) -> MapSpec:
    type_id = btf.resolve(type_id)
    if btf.kind(type_id) != KIND_STRUCT:
        raise ObjectError(f"map {name!r} is not defined by a struct (arrays of maps definitions are not supported)")
    if btf.vlen(type_id) > _MAX_FIELDS:
        raise ObjectError(f"map {name!r} is defined by {btf.vlen(type_id)} fields: no map has as many")
    spec = MapSpec(name, 0, 0, 0, 0)
    for field, member, _, _ in btf.members(type_id):
        where = f"map {name!r}, field {field!r}"
        if field in ("key", "value"):
            target = _pointee(btf, member, where)
            _set_size(spec, field, btf.size(target), where)
            if field == "key":
                spec.key_type_id = target
            else:
                spec.value_type_id = target
        elif field in ("key_size", "value_size"):
            _set_size(spec, field[:-5], _number(btf, member, where), where)
        elif field == "type":
            spec.type = _number(btf, member, where)
        elif field == "max_entries":
            spec.max_entries = _number(btf, member, where)
        elif field == "map_flags":
            spec.flags = _number(btf, member, where)
        elif field == "map_extra":
            spec.map_extra = _number(btf, member, where)
        elif field == "pinning":
            spec.pinning = _number(btf, member, where)
        elif field == "values":
            if inner:
                raise ObjectError(f"{where}: maps of maps of maps are not supported")
            spec.inner = _read_map(btf, f"{name}.inner", _inner_definition(btf, member, where), True)
            _set_size(spec, "value", 4, where)
        else:
            raise ObjectError(f"{where} is not supported")
    if not spec.type:
        raise ObjectError(f"map {name!r} has no type")
    if inner and not _has_kernel_fields(btf, spec.value_type_id):
        # From 5.15 to 6.1 a map with types is not like one without, which the maps to be put in will be.
        spec.key_type_id = spec.value_type_id = 0
    if (spec.type in _OF_MAPS) != (spec.inner is not None):
        wants = "does not say what maps it holds" if spec.inner is None else "holds no maps"
        raise ObjectError(f"map {name!r} is of type {spec.type} and {wants} (use __array(values, ...))")
    return spec


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


def _set_size(spec: MapSpec, part: str, size: int, where: str) -> None:
    known = spec.key_size if part == "key" else spec.value_size
    if known and known != size:
        raise ObjectError(f"{where} says {size} bytes, another field says {known}")
    if not 0 <= size <= _U32_MAX:
        raise ObjectError(f"{where} is too large: {size} bytes")
    if part == "key":
        spec.key_size = size
    else:
        spec.value_size = size


def _pointee(btf: Btf, type_id: int, where: str) -> int:
    type_id = btf.resolve(type_id)
    if btf.kind(type_id) != KIND_PTR:
        raise ObjectError(f"{where} is not a pointer to the type it means (use __type)")
    return btf.type(type_id)


def _number(btf: Btf, type_id: int, where: str) -> int:
    type_id = btf.resolve(type_id)
    kind = btf.kind(type_id)
    if kind in (KIND_ENUM, KIND_ENUM64):
        values = btf.enumerators(type_id)
        if len(values) == 1:
            return values[0][1]
    elif kind == KIND_PTR:
        target = btf.resolve(btf.type(type_id))
        if btf.kind(target) == KIND_ARRAY:
            return btf.array(target)[2]
    raise ObjectError(f"{where} is not a number (use __uint)")
