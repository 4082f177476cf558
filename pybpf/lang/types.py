"""The types of the language, and C layout.

A type is an object: ``u32``, ``u32[4]``, ``Ptr[task_struct]``. Structures are
Python classes whose annotations are the fields; ``Struct`` is laid out as C
does on a 64-bit machine, ``KStruct`` names a kernel type of which only the
declared fields matter (their real places come from CO-RE). The same classes
serve on the host: ``X.size``, ``X.offset("field")``, ``X.fields``, ``X.format()``.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from pybpf.errors import CompileError

POINTER_SIZE = 8


class Type:
    """Base of all types: ``name`` as written in the language, ``size`` and ``align`` in bytes."""

    __slots__ = ("align", "name", "size")

    def __init__(self, name: str, size: int, align: int) -> None:
        self.name = name
        self.size = size
        self.align = align

    def __getitem__(self, count: int) -> ArrayType:
        return array_of(self, count)

    def __repr__(self) -> str:
        return self.name


class Scalar(Type):
    """A number in memory. ``big`` says that memory holds it big-endian, registers natively.

    ``code`` is the letter of the ``struct`` module, ``c_name`` what BTF calls the type.
    """

    __slots__ = ("big", "c_name", "code", "signed")

    def __init__(self, name: str, size: int, signed: bool, code: str, c_name: str, big: bool = False) -> None:
        super().__init__(name, size, size)
        self.signed = signed
        self.code = code
        self.c_name = c_name
        self.big = big

    @property
    def small(self) -> bool:
        """Whether every value fits i64 as well as u64, so that it mixes with both."""
        return not self.signed and self.size < 8

    @property
    def range(self) -> tuple[int, int]:
        """The least and the greatest value."""
        if self is bool_:
            return 0, 1
        bits = self.size * 8
        return (-(1 << bits - 1), (1 << bits - 1) - 1) if self.signed else (0, (1 << bits) - 1)

    def wrap(self, value: int) -> int:
        """``value`` as this type holds it: modulo 2**bits, or its truth for bool."""
        if self is bool_:
            return int(value != 0)
        value &= (1 << self.size * 8) - 1
        return value - (1 << self.size * 8) if self.signed and value >> self.size * 8 - 1 else value


u8 = Scalar("u8", 1, False, "B", "unsigned char")
u16 = Scalar("u16", 2, False, "H", "unsigned short")
u32 = Scalar("u32", 4, False, "I", "unsigned int")
u64 = Scalar("u64", 8, False, "Q", "unsigned long long")
i8 = Scalar("i8", 1, True, "b", "signed char")
i16 = Scalar("i16", 2, True, "h", "short")
i32 = Scalar("i32", 4, True, "i", "int")
i64 = Scalar("i64", 8, True, "q", "long long")
char = Scalar("char", 1, False, "B", "char")
bool_ = Scalar("bool", 1, False, "?", "_Bool")
be16 = Scalar("be16", 2, False, "H", "unsigned short", big=True)
be32 = Scalar("be32", 4, False, "I", "unsigned int", big=True)
be64 = Scalar("be64", 8, False, "Q", "unsigned long long", big=True)


void = Type("void", 0, 1)
"""What a pointer to anything points to: ``Ptr[void]``."""


class BitsType(Scalar):
    """A bit-field: the ``width`` low bits of a ``base``. Only a member of a structure can be one."""

    __slots__ = ("base", "width")

    def __init__(self, base: Scalar, width: int) -> None:
        super().__init__(f"Bits[{base.name}, {width}]", base.size, base.signed, base.code, base.c_name)
        self.base = base
        self.width = width

    @property
    def range(self) -> tuple[int, int]:
        """The least and the greatest value."""
        return (-(1 << self.width - 1), (1 << self.width - 1) - 1) if self.signed else (0, (1 << self.width) - 1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BitsType) and (other.base, other.width) == (self.base, self.width)

    def __hash__(self) -> int:
        return hash((self.base, self.width))


class Bits:
    """``Bits[u32, 3]``: a bit-field of 3 bits, placed as C does for ``unsigned x : 3``."""

    def __class_getitem__(cls, what: Any) -> BitsType:
        base, width = what if isinstance(what, tuple) and len(what) == 2 else (None, None)
        if not isinstance(base, Scalar) or base.big or isinstance(base, BitsType) or not isinstance(width, int):
            raise CompileError(f"Bits[{what!r}]: write Bits[u32, 3], a number type and how many bits")
        if not 0 < width <= base.size * 8:
            raise CompileError(f"Bits[{base}, {width}]: a {base} has 1 to {base.size * 8} bits")
        return BitsType(base, width)


class AnonType(Type):
    """A structure or union without a name of its own in its owner, whose members count as the owner's."""

    __slots__ = ("inner",)

    def __init__(self, inner: StructType) -> None:
        super().__init__(inner.name, inner.size, inner.align)
        self.inner = inner


class Anon:
    """``_: Anon[T]``: T's members as if they stood here, as C's anonymous struct or union; the name is not used."""

    def __class_getitem__(cls, what: Any) -> AnonType:
        inner = as_type(what)
        if not isinstance(inner, StructType):
            raise CompileError(f"Anon[{inner}]: only a Struct or Union can be anonymous")
        return AnonType(inner)


class ArrayType(Type):
    """``count`` elements in a row."""

    __slots__ = ("count", "element")

    def __init__(self, element: Type, count: int) -> None:
        super().__init__(f"{element.name}[{count}]", element.size * count, element.align)
        self.element = element
        self.count = count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArrayType) and other.count == self.count and other.element == self.element

    def __hash__(self) -> int:
        return hash((self.element, self.count))


class PtrType(Type):
    """A pointer. Its target may be a name that is looked up when it is first needed."""

    __slots__ = ("_target", "scope")

    def __init__(self, target: Type | str) -> None:
        label = target if isinstance(target, str) else target.name
        super().__init__(f"Ptr[{label}]", POINTER_SIZE, POINTER_SIZE)
        self._target = target
        self.scope: Mapping[str, Any] | None = None

    @property
    def target(self) -> Type:
        """What it points to. Raises CompileError when a quoted name means nothing."""
        if isinstance(self._target, str):
            self._target = as_type(_Later(self._target) if self.scope is None else self.scope[self._target])
        return self._target

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PtrType) and other.target == self.target

    def __hash__(self) -> int:
        return hash(("ptr", self.target.name))


class Ptr:
    """``Ptr[T]``: the type of a pointer to T, which a Struct's field may name before it is defined."""

    def __class_getitem__(cls, target: Any) -> PtrType:
        if isinstance(target, _Later):
            target = target.name
        return PtrType(target if isinstance(target, str) else as_type(target))


class Field:
    """A member of a structure; ``offset`` is in bytes.

    ``path`` leads to it through the structure's members by number (one number,
    unless it is in an anonymous member). A bit-field starts at bit ``bit`` of the
    byte at ``offset``; ``packed`` says that its structure may end with its last
    byte. ``name`` is empty for an anonymous member.
    """

    __slots__ = ("bit", "name", "offset", "packed", "path", "type")

    def __init__(
        self, name: str, type: Type, offset: int, path: tuple[int, ...], bit: int = 0, packed: bool = False
    ) -> None:
        self.name = name
        self.type = type
        self.offset = offset
        self.path = path
        self.bit = bit
        self.packed = packed

    def __repr__(self) -> str:
        return f"{self.name}: {self.type} @{self.offset}"


class StructType(Type):
    """The layout behind a structure class. ``kernel`` types are accessed through CO-RE.

    ``typedef`` says that the kernel knows the name only as a typedef of a nameless struct.
    """

    __slots__ = ("_bits", "by_name", "fields", "kernel", "typedef", "union")

    def __init__(self, name: str, kernel: bool = False, typedef: bool = False, union: bool = False) -> None:
        super().__init__(name, 0, 1)
        self.kernel = kernel
        self.typedef = typedef
        self.union = union
        self.fields: list[Field] = []
        self.by_name: dict[str, Field] = {}
        self._bits = 0  # where the next member may start, in bits

    def add(self, name: str, type: Type, packed: bool = False) -> None:
        """Append a member where C would put it."""
        align = 1 if packed else type.align
        at = 0 if self.union else self._bits
        if isinstance(type, BitsType):
            unit = type.size * 8
            if not packed and at % unit + type.width > unit:
                at = -(-at // unit) * unit
            width = type.width
        else:
            at = -(-at // (align * 8)) * align * 8
            width = type.size * 8
        number = len(self.fields)
        field = Field(name, type, at // 8, (number,), at % 8, packed)
        if isinstance(type, AnonType):
            field = Field("", type.inner, at // 8, (number,))
            for inner, member in type.inner.by_name.items():
                if inner in self.by_name:
                    raise CompileError(f"{self.name} has two fields {inner!r}")
                self.by_name[inner] = Field(
                    inner, member.type, field.offset + member.offset, (number, *member.path), member.bit, member.packed
                )
        else:
            self.by_name[name] = field
        self.fields.append(field)
        self._bits = max(self._bits, at + width)
        self.size = -(-self._bits // 8)
        self.align = max(self.align, align)

    def finish(self) -> None:
        """Round the size up to the alignment."""
        self.size = -(-self.size // self.align) * self.align

    def essential(self) -> str:
        """The name without the flavour after three underscores, as CO-RE compares names."""
        return self.name.split("___")[0]

    def holes(self) -> Iterator[tuple[int, int]]:
        """``(offset, size)`` of the padding, nested padding included; not what a union's smaller members leave."""
        end = 0
        for field in self.fields:
            size = -(-(field.bit + field.type.width) // 8) if isinstance(field.type, BitsType) else field.type.size
            if field.offset > end:
                yield end, field.offset - end
            if not self.union:
                for at, length in _holes(field.type):
                    yield field.offset + at, length
            end = max(end, field.offset + size)
        if self.size > end:
            yield end, self.size - end


def _holes(type: Type) -> Iterator[tuple[int, int]]:
    if isinstance(type, StructType):
        yield from type.holes()
    elif isinstance(type, ArrayType):
        inner = list(_holes(type.element))
        for i in range(type.count if inner else 0):
            for at, size in inner:
                yield i * type.element.size + at, size


def array_of(element: Type, count: object) -> ArrayType:
    """The type ``element[count]``. Raises CompileError unless count is a positive integer."""
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise CompileError(
            f"array {element.name}[{count!r}]: the length must be a positive integer known when compiling"
        )
    return ArrayType(element, count)


def as_type(value: object) -> Type:
    """The type that a Python object stands for. Raises CompileError for anything else."""
    found = find_type(value)
    if isinstance(value, _Later):
        raise CompileError(f"type {value.name!r} is not defined here")
    if found is None:
        raise CompileError(f"{value!r} is not a type: use u8..u64, i8..i64, bool, char, T[N], Ptr[T] or a Struct")
    return found


def find_type(value: object) -> Type | None:
    """The type that a Python object stands for, or None."""
    if isinstance(value, Type):
        return value
    if isinstance(value, StructMeta):
        return value.layout
    return bool_ if value is builtins.bool else None


def _evaluate(text: str, scope: Mapping[str, Any]) -> object:
    try:
        return eval(text, {"__builtins__": builtins}, scope)
    except (TypeError, SyntaxError, AttributeError) as error:
        raise CompileError(f"type {text!r}: {error}") from None


class _Later:
    """A name that an annotation uses before it is defined; only Ptr[] can take it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"{self.name}, which is not defined yet,"

    def __getitem__(self, count: object) -> _Later:
        return self


class _Scope(Mapping[str, Any]):
    """Names as a class body sees them, looked up late so that later definitions count."""

    __slots__ = ("_globals", "_locals")

    def __init__(self, local: Mapping[str, Any], outer: dict[str, Any]) -> None:
        self._locals = local
        self._globals = outer

    def __getitem__(self, name: str) -> Any:
        for names in (self._locals, self._globals, vars(builtins)):
            if name in names:
                return names[name]
        return _Later(name)

    def __iter__(self) -> Iterator[str]:
        return iter({**self._globals, **self._locals})

    def __len__(self) -> int:
        return len({**self._globals, **self._locals})


def read_annotations(cls: type, depth: int) -> list[tuple[str, Type]]:
    """The annotated fields of ``cls`` in order; ``depth`` counts frames up to the class statement."""
    notes = vars(cls).get("__annotations__")
    if notes is None and sys.version_info >= (3, 14):
        notes = cls.__annotations__
    frame = sys._getframe(depth + 1)
    local = {} if frame.f_locals is frame.f_globals else dict(frame.f_locals)
    scope = _Scope(local, frame.f_globals)
    fields = []
    private = f"_{cls.__name__.lstrip('_')}__"
    for name, note in (notes or {}).items():
        if name.startswith(private):
            name = name[len(private) - 2 :]  # Python has changed a kernel's __state to _task_struct__state
        try:
            found = as_type(_evaluate(note, scope) if isinstance(note, str) else note)
        except CompileError as error:
            raise CompileError(f"{cls.__name__}.{name}: {error}") from None
        _bind(found, scope)
        fields.append((name, found))
    return fields


def _bind(type: Type, scope: Mapping[str, Any]) -> None:
    """Tell a pointer whose target is a name where that is to be looked up."""
    if isinstance(type, ArrayType):
        _bind(type.element, scope)
    elif isinstance(type, PtrType) and type.scope is None:
        type.scope = scope


class StructMeta(type):
    """Metaclass of structures: computes the layout and answers questions about it."""

    layout: StructType

    def __new__(
        meta,
        class_name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        /,
        *,
        name: str | None = None,
        typedef: bool = False,
        packed: bool = False,
    ) -> StructMeta:
        cls = super().__new__(meta, class_name, bases, namespace)
        kernel = any(getattr(base, "_kernel", False) for base in bases)
        layout = StructType(name or class_name, kernel, typedef, getattr(cls, "_union", False))
        for base in bases:
            if isinstance(base, StructMeta):
                for field in base.layout.fields:
                    anonymous = not field.name and isinstance(field.type, StructType)
                    layout.add(
                        field.name,
                        AnonType(field.type) if anonymous and isinstance(field.type, StructType) else field.type,
                        packed,
                    )
        for field_name, field_type in read_annotations(cls, 1):
            held = field_type.inner if isinstance(field_type, AnonType) else field_type
            if isinstance(held, StructType) and held.kernel and not kernel:
                raise CompileError(f"{class_name}.{field_name}: a Struct cannot hold a kernel type, its size varies")
            if field_name in layout.by_name:
                raise CompileError(f"{class_name} has two fields {field_name!r}")
            layout.add(field_name, field_type, packed)
        layout.finish()
        cls.layout = layout
        return cls

    def __init__(
        cls, class_name: str, bases: tuple[type, ...], namespace: dict[str, Any], /, **options: object
    ) -> None:
        super().__init__(class_name, bases, namespace)

    def __getitem__(cls, count: int) -> ArrayType:
        return array_of(cls.layout, count)

    @property
    def size(cls) -> int:
        """Size in bytes."""
        return cls.layout.size

    @property
    def fields(cls) -> tuple[Field, ...]:
        """The members in order, each with ``name``, ``type`` and ``offset``."""
        return tuple(cls.layout.fields)

    def offset(cls, path: str) -> int:
        """Offset in bytes of a member; ``a.b`` names one of an embedded structure."""
        return field_at(cls.layout, path)[0]

    def format(cls) -> str:
        """The layout for the ``struct`` module: native byte order, padding spelled out, one item per scalar.

        ``char[N]`` is one item of N bytes, so are a union and a run of bit-fields;
        big-endian members are read as they stand in memory.
        """
        return "=" + _format(cls.layout)


class Struct(metaclass=StructMeta):
    """Base of structures in the programs' own memory: map keys and values, records."""

    _kernel = False


class KStruct(metaclass=StructMeta):
    """Base of kernel types. ``class x(KStruct, name="y", typedef=True)``; ``y___flavour`` is matched as ``y``."""

    _kernel = True


class Union(metaclass=StructMeta):
    """Base of unions in the programs' own memory: all members start at 0."""

    _kernel = False
    _union = True


class KUnion(metaclass=StructMeta):
    """Base of the kernel's unions."""

    _kernel = True
    _union = True


class SpinLock(Struct, name="bpf_spin_lock"):
    """A lock in a map's value, for ``spin_lock(v.lock)`` ... ``spin_unlock(v.lock)`` (5.1)."""

    val: u32  # type: ignore[valid-type]


class Timer(Struct, name="bpf_timer"):
    """A timer in a map's value, for ``timer_init``, ``timer_set_callback``, ``timer_start`` (5.15)."""

    opaque: u64[2]  # type: ignore[valid-type]


class Dynptr(Struct, name="bpf_dynptr"):
    """Memory whose size is known at run time only, for ``dynptr_read`` and its like (5.19)."""

    opaque: u64[2]  # type: ignore[valid-type]


def field_at(layout: Type, path: str) -> tuple[int, Type]:
    """Offset and type of the member ``path`` (dots between names). Raises CompileError if there is none."""
    offset = 0
    for name in path.split("."):
        field = find_field(layout, name)
        offset += field.offset
        layout = field.type
    return offset, layout


def find_field(layout: Type, name: str) -> Field:
    """The member ``name`` of a structure. Raises CompileError, naming those there are."""
    if not isinstance(layout, StructType):
        raise CompileError(f"{layout.name} has no fields")
    field = layout.by_name.get(name)
    if field is None:
        raise CompileError(f"struct {layout.name} has no field {name!r} (has: {', '.join(layout.by_name) or 'none'})")
    return field


def _format(type: Type) -> str:
    if isinstance(type, Scalar):
        return type.code
    if isinstance(type, ArrayType):
        if type.element is char:
            return f"{type.count}s"
        return _format(type.element) * type.count
    if isinstance(type, StructType):
        return f"{type.size}s" if type.union else _format_members(type)
    return "Q"


def _format_members(layout: StructType) -> str:
    parts = []
    end = 0
    bits = 0  # bytes of a run of bit-fields that are not written out yet
    for field in layout.fields:
        if isinstance(field.type, BitsType):
            last = field.offset + -(-(field.bit + field.type.width) // 8)
            if not bits and field.offset > end:
                parts.append(f"{field.offset - end}x")
                end = field.offset
            bits = max(bits, last - end)
            continue
        if bits:
            parts.append(f"{bits}s")
            end += bits
            bits = 0
        if field.offset > end:
            parts.append(f"{field.offset - end}x")
        parts.append(_format(field.type))
        end = field.offset + field.type.size
    if bits:
        parts.append(f"{bits}s")
        end += bits
    if layout.size > end:
        parts.append(f"{layout.size - end}x")
    return "".join(parts)


class ConfigMeta(type):
    """Metaclass of ConfigBase: collects the settings and their defaults."""

    settings: list[tuple[str, Type, object]]

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> None:
        super().__init__(name, bases, namespace)
        cls.settings = []
        for field, type in read_annotations(cls, 1):
            element = type.element if isinstance(type, ArrayType) else type
            if not isinstance(element, Scalar) or isinstance(element, BitsType):
                raise CompileError(f"{name}.{field}: a setting is a number or an array of numbers, not {type}")
            default = namespace.get(field, 0)
            _encode_default(f"{name}.{field}", type, element, default)
            cls.settings.append((field, type, default))


class ConfigBase(metaclass=ConfigMeta):
    """Base of settings: each field becomes a read-only variable that is given its value before load.

    Defaults stand after the annotation; arrays take a tuple, ``char[N]`` also a string.
    """

    @classmethod
    def encoded(cls) -> list[tuple[str, Type, bytes]]:
        """Name, type and default value in memory (little-endian) of every setting."""
        out = []
        for name, type, default in cls.settings:
            element = type.element if isinstance(type, ArrayType) else type
            assert isinstance(element, Scalar)
            out.append((name, type, _encode_default(f"{cls.__name__}.{name}", type, element, default)))
        return out


def _encode_default(where: str, type: Type, element: Scalar, default: object) -> bytes:
    if isinstance(default, str):
        default = default.encode()
    if not isinstance(type, ArrayType):
        values: tuple[object, ...] = (default,)
    elif isinstance(default, (tuple, list, bytes)):
        values = tuple(default)
    elif default == 0:
        values = ()
    else:
        raise CompileError(f"{where}: the default of an array is a tuple")
    out = bytearray()
    low, high = element.range
    for value in values:
        if not isinstance(value, int) or not low <= value <= high:
            raise CompileError(f"{where}: {value!r} is not a value of {element}")
        out += (value & (1 << element.size * 8) - 1).to_bytes(element.size, "big" if element.big else "little")
    if len(out) > type.size:
        raise CompileError(f"{where}: {len(values)} values do not fit {type}")
    return bytes(out.ljust(type.size, b"\0"))
