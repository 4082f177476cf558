"""BTF for the types that an object's programs, maps and settings use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybpf.errors import CompileError
from pybpf.lang.maps import Map, OfMaps
from pybpf.lang.types import ArrayType, BitsType, Field, PtrType, Scalar, StructType, Type, bool_, char, void

if TYPE_CHECKING:
    from btf.builder import Builder

_LINKAGE_GLOBAL, _LINKAGE_EXTERN = 1, 2


class TypeTable:
    """Ids of types in one object's BTF, made when first asked for."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self._ids: dict[Type, int] = {}
        self._plain: int | None = None  # int, as C has it

    def id(self, type: Type) -> int:
        """The BTF id of ``type``. Structures pull in what they refer to."""
        found = self._ids.get(type)
        if found is None:
            found = self._ids[type] = self._made(type)
        return found

    def _made(self, type: Type) -> int:
        build = self.builder
        if type is void:
            return 0
        if isinstance(type, BitsType):
            type = type.base
        if isinstance(type, Scalar):
            number = build.int(type.c_name, type.size, signed=type.signed, char=type is char, bool_=type is bool_)
            return build.typedef(f"__{type.name}", number) if type.big else number
        if isinstance(type, ArrayType):
            return build.array(self.id(type.element), type.count)
        if isinstance(type, PtrType):
            return build.ptr(self.id(type.target))
        if isinstance(type, StructType):
            return self._struct(type)
        raise CompileError(f"internal error: type {type} has no BTF form; please report it")

    def _struct(self, type: StructType) -> int:
        build = self.builder
        if type.typedef:
            inner = build.declare_struct("", type.union)
            found = self._ids[type] = build.typedef(type.name, inner)
        else:
            inner = found = self._ids[type] = build.declare_struct(type.name, type.union)
        build.define_struct(inner, type.size, [self._member(field) for field in type.fields])
        return found

    def _member(self, field: Field) -> tuple[str, int, int] | tuple[str, int, int, int]:
        if isinstance(field.type, BitsType):
            return field.name, self.id(field.type), field.offset * 8 + field.bit, field.type.width
        if field.name or not isinstance(field.type, StructType):
            return field.name, self.id(field.type), field.offset * 8
        return "", self._anonymous(field.type), field.offset * 8

    def _anonymous(self, type: StructType) -> int:
        """``type`` under no name, as a member without a name has it."""
        make = self.builder.union if type.union else self.builder.struct
        return make("", type.size, [self._member(field) for field in type.fields])

    WIDE = 1 << 32
    """What a 64-bit value nominally is, so that the instruction has room for what it really is."""

    def enum(self, name: str, value: str, wide: bool = False) -> int:
        """An enum with one value, for asking the running kernel what it is."""
        if wide:
            return self.builder.enum64(name, 8, [(value, self.WIDE)])
        return self.builder.enum(name, 4, [(value, 0)])

    def map_definition(self, map: Map) -> tuple[int, int]:
        """VAR id and size in bytes of the structure that defines ``map``, as libbpf reads it from ``.maps``."""
        layout, size = self._map_layout(map)
        return self.builder.var(map.name, layout, _LINKAGE_GLOBAL), size

    def _map_layout(self, map: Map) -> tuple[int, int]:
        """Struct id and size in bytes of a map's definition."""
        members: list[tuple[str, int, int]] = []

        def add(name: str, type_id: int) -> None:
            members.append((name, self.builder.ptr(type_id), len(members) * 64))

        add("type", self._number(map.type))
        if map.key is not None and map.value is not None:
            add("key", self.id(map.key))
            add("value", self.id(map.value))
        elif isinstance(map, OfMaps) and map.key is not None:
            add("key", self.id(map.key))
        elif map.value is not None:
            add("value", self.id(map.value))
        elif map.sizes is not None:
            add("key_size", self._number(map.sizes[0]))
            add("value_size", self._number(map.sizes[1]))
        if map.max_entries:
            add("max_entries", self._number(map.max_entries))
        if map.flags:
            add("map_flags", self._number(map.flags))
        size = len(members) * 8
        if isinstance(map, OfMaps):
            # __array(values, struct {...}) of bpf_helpers.h: no elements, and last.
            inner, _ = self._map_layout(map.inner)
            members.append(("values", self.builder.array(self.builder.ptr(inner), 0), size * 8))
        return self.builder.struct("", size, members), size

    def _number(self, value: int) -> int:
        """A type that spells a number: an array of that many ints (__uint in bpf_helpers.h)."""
        if self._plain is None:
            self._plain = self.builder.int("int", 4, signed=True)
        return self.builder.array(self._plain, value)

    def setting(self, name: str, type: Type) -> int:
        """VAR id of a read-only variable."""
        element = type.element if isinstance(type, ArrayType) else type
        constant = self.builder.const(self.id(element))
        if isinstance(type, ArrayType):
            constant = self.builder.array(constant, type.count)
        return self.builder.var(name, constant, _LINKAGE_GLOBAL)

    def kernel_function(self, name: str, params: list[tuple[str, Type | None]], result: Type | None) -> int:
        """FUNC id of a function that the kernel has; None stands for no result."""
        arguments = [(arg, self.builder.ptr(0) if type is None else self.id(type)) for arg, type in params]
        proto = self.builder.func_proto(0 if result is None else self.id(result), arguments)
        return self.builder.func(name, proto, _LINKAGE_EXTERN)

    def kernel_variable(self, name: str, type: Type | None) -> int:
        """VAR id of a variable or setting that the kernel has."""
        return self.builder.var(name, 0 if type is None else self.id(type), _LINKAGE_EXTERN)

    def function(self, name: str, params: list[tuple[str, Type | None]], result: Type, linkage: int) -> int:
        """FUNC id; a parameter of type None is the context."""
        arguments = [(arg, self.builder.ptr(0) if type is None else self.id(type)) for arg, type in params]
        return self.builder.func(name, self.builder.func_proto(self.id(result), arguments), linkage)
