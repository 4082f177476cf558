"""Keys and values as Python objects: what turns them into the kernel's bytes and back.

A type is given as

* ``bytes`` or None: bytes as they are; ``int``: an unsigned number of the map's size;
  ``str``: text with NULs behind it;
* a format of the ``struct`` module, ``"I"`` (a number) or ``"=IQ"`` (a tuple);
* a type of the language, ``u32``, ``char[16]``, ``u64[4]``, or a ``Struct``: a structure is
  a ``Record``, with an attribute for each field, and may be given as a dict or a sequence;
* a class made by the cstruct package: its objects;
* any object with ``size``, ``pack`` and ``unpack``, such as the ones here.

Numbers are in the machine's byte order unless the type says otherwise. A value
that does not fit raises MapError.
"""

from __future__ import annotations

import os
import sys
from errno import EINVAL
from struct import Struct
from struct import error as StructError

from pybpf.errors import MapError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Protocol

    class Codec(Protocol):
        """``size`` bytes to an object and back."""

        size: int

        def pack(self, value: Any) -> bytes:
            """The bytes of ``value``, exactly ``size``."""
            ...

        def unpack(self, raw: bytes) -> Any:
            """The value of ``size`` bytes."""
            ...


class Raw:
    """Bytes as they are."""

    def __init__(self, size: int) -> None:
        self.size = size

    def pack(self, value: Any) -> bytes:
        if not isinstance(value, (bytes, bytearray, memoryview)) or len(value) != self.size:
            raise MapError(f"{value!r} is not {self.size} bytes", EINVAL)
        return bytes(value)

    def unpack(self, raw: bytes) -> bytes:
        return raw


class Number:
    """An integer; booleans are ``truth``."""

    def __init__(self, size: int, signed: bool = False, byteorder: str = sys.byteorder, truth: bool = False) -> None:
        self.size = size
        self.signed = signed
        self.byteorder = byteorder
        self.truth = truth

    def pack(self, value: Any) -> bytes:
        try:
            return int(value).to_bytes(self.size, self.byteorder, signed=self.signed)  # type: ignore[arg-type]
        except (OverflowError, TypeError, ValueError):
            kind = "signed" if self.signed else "unsigned"
            raise MapError(f"{value!r} is not an {kind} number of {self.size} bytes", EINVAL) from None

    def unpack(self, raw: bytes) -> int:
        number = int.from_bytes(raw, self.byteorder, signed=self.signed)  # type: ignore[arg-type]
        return bool(number) if self.truth else number


class Text:
    """Text with NULs behind it; also takes bytes. What is not UTF-8 comes as the file system's names do."""

    def __init__(self, size: int) -> None:
        self.size = size

    def pack(self, value: Any) -> bytes:
        if not isinstance(value, (str, bytes)):
            raise MapError(f"{value!r} is not text", EINVAL)
        raw = os.fsencode(value)
        if len(raw) > self.size:
            raise MapError(f"{value!r} has {len(raw)} bytes, there is room for {self.size}", EINVAL)
        return raw.ljust(self.size, b"\0")

    def unpack(self, raw: bytes) -> str:
        return os.fsdecode(raw.partition(b"\0")[0])


class Format:
    """A format of the ``struct`` module: a tuple, or the value itself if it is only one."""

    def __init__(self, format: str) -> None:
        try:
            self._struct = Struct(format if format[:1] in "@=<>!" else "=" + format)
        except StructError as error:
            raise MapError(f"{format!r} is no format of the struct module: {error}", EINVAL) from None
        self.format = format
        self.size = self._struct.size
        self._single = len(self._struct.unpack(bytes(self.size))) == 1

    def pack(self, value: Any) -> bytes:
        try:
            return self._struct.pack(value) if self._single else self._struct.pack(*value)
        except (StructError, TypeError) as error:
            raise MapError(f"{value!r} does not fit the format {self.format!r}: {error}", EINVAL) from None

    def unpack(self, raw: bytes) -> Any:
        values = self._struct.unpack(raw)
        return values[0] if self._single else values


class Items:
    """An array of equal elements: a list."""

    def __init__(self, element: Codec, count: int) -> None:
        self.element = element
        self.count = count
        self.size = element.size * count

    def pack(self, value: Any) -> bytes:
        try:
            items = list(value)
        except TypeError:
            raise MapError(f"{value!r} is not a list of {self.count}", EINVAL) from None
        if len(items) > self.count:
            raise MapError(f"{len(items)} elements given for an array of {self.count}", EINVAL)
        return b"".join([self.element.pack(item) for item in items]).ljust(self.size, b"\0")

    def unpack(self, raw: bytes) -> list[Any]:
        size = self.element.size
        return [self.element.unpack(raw[at : at + size]) for at in range(0, self.size, size)]


class Record:
    """A structure's value: an attribute for each field, in the order of ``_fields``; fields not given are zero."""

    _fields: tuple[str, ...] = ()
    _codec: Layout

    def __init__(self, *values: Any, **named: Any) -> None:
        given = dict(zip(self._fields, values))
        if len(values) > len(self._fields) or given.keys() & named.keys() or named.keys() - set(self._fields):
            known = ", ".join(self._fields)
            raise MapError(f"{type(self).__name__} has the fields {known}, each to be given once", EINVAL)
        given.update(named)
        empty = None if len(given) == len(self._fields) else self._codec.values(bytes(self._codec.size))
        for name in self._fields:
            setattr(self, name, given[name] if name in given or empty is None else empty[name])

    def __iter__(self) -> Iterator[Any]:
        return iter([getattr(self, name) for name in self._fields])

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Record):
            return self._fields == other._fields and list(self) == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._fields)})"


class Layout:
    """A structure, by the places of its fields; ``record`` makes its values."""

    def __init__(self, name: str, size: int, fields: list[tuple[str, int, Codec]]) -> None:
        self.name = name
        self.size = size
        self.fields = fields
        names = tuple([name for name, _, _ in fields])
        self._steps = [(name, at, at + codec.size, codec.unpack) for name, at, codec in fields]
        self.record: type[Record] = type(name, (Record,), {"__slots__": names, "_fields": names, "_codec": self})

    def pack(self, value: Any) -> bytes:
        if isinstance(value, (bytes, bytearray)):
            return Raw(self.size).pack(value)
        if isinstance(value, dict):
            value = self.record(**value)
        elif not isinstance(value, Record):
            try:
                value = self.record(*value)
            except TypeError:
                raise MapError(f"{value!r} is no value of structure {self.name}", EINVAL) from None
        raw = bytearray(self.size)
        for (name, offset, codec), field in zip(self.fields, value):
            try:
                part = codec.pack(field)
            except MapError as error:
                raise MapError(f"{self.name}.{name}: {error}", error.errno) from None
            if isinstance(codec, BitField):
                part = codec.merged(raw[offset : offset + codec.size], part)
            elif not any(part):
                continue  # a union's other members may stand there
            raw[offset : offset + codec.size] = part
        return bytes(raw)

    def values(self, raw: bytes) -> dict[str, Any]:
        """The fields by name."""
        return {name: unpack(raw[start:end]) for name, start, end, unpack in self._steps}

    def unpack(self, raw: bytes) -> Record:
        # Past __init__, which sorts out what a caller gave: here is one value for each field.
        found = object.__new__(self.record)
        for name, start, end, unpack in self._steps:
            setattr(found, name, unpack(raw[start:end]))
        return found


class BitField:
    """``width`` bits of ``size`` bytes, behind ``first`` others: counted from the lowest on little-endian machines."""

    def __init__(self, first: int, width: int, signed: bool) -> None:
        self.size = (first + width + 7) // 8
        self._shift = first if sys.byteorder == "little" else self.size * 8 - first - width
        self._width = width
        self._signed = signed

    def pack(self, value: Any) -> bytes:
        lowest, bits = (-(1 << self._width - 1), self._width - 1) if self._signed else (0, self._width)
        if not isinstance(value, int) or not lowest <= value < 1 << bits:
            raise MapError(f"{value!r} does not fit {self._width} bits", EINVAL)
        return ((value & (1 << self._width) - 1) << self._shift).to_bytes(self.size, sys.byteorder)

    def merged(self, old: bytes | bytearray, new: bytes) -> bytes:
        """``new`` beside the bits of other fields in ``old``."""
        mask = ((1 << self._width) - 1) << self._shift
        kept = int.from_bytes(old, sys.byteorder) & ~mask
        return (kept | int.from_bytes(new, sys.byteorder)).to_bytes(self.size, sys.byteorder)

    def unpack(self, raw: bytes) -> int:
        value = int.from_bytes(raw, sys.byteorder) >> self._shift & (1 << self._width) - 1
        return value - (1 << self._width) if self._signed and value >> self._width - 1 else value


class CStruct:
    """Objects of a class made by the cstruct package; keyword arguments may come as a dict."""

    def __init__(self, cls: Any) -> None:
        self.cls = cls
        self.size: int = cls.sizeof()

    def pack(self, value: Any) -> bytes:
        if isinstance(value, dict):
            value = self.cls(**value)
        if not isinstance(value, self.cls):
            raise MapError(f"{value!r} is not a {self.cls.__name__}", EINVAL)
        return bytes(value.pack())[: self.size]

    def unpack(self, raw: bytes) -> Any:
        found = self.cls()
        found.unpack(raw)
        return found


def codec(type: Any, size: int | None = None) -> Codec:
    """What packs and unpacks ``type``; ``size`` is the map's, in bytes, None if there is no map yet.

    Raises MapError for a type that is none, that has another size, or that needs one.
    """
    found = _codec(type, size)
    if size is not None and found.size != size:
        raise MapError(f"{_described(type)} has {found.size} bytes, the map has {size}", EINVAL)
    return found


def _codec(type: Any, size: int | None) -> Codec:
    if type is None or type is bytes or type is int or type is str:
        if size is None:
            raise MapError(f"{_described(type)} has no size of its own: give one, as u32, char[16] or 'I'", EINVAL)
        return Number(size) if type is int else Text(size) if type is str else Raw(size)
    if type is bool:
        return Number(1, truth=True)
    if isinstance(type, str):
        return Format(type)
    if hasattr(type, "__fields_types__"):
        return CStruct(type)
    if hasattr(type, "pack") and hasattr(type, "unpack") and hasattr(type, "size"):
        known: Codec = type
        return known
    found = _of_language(getattr(type, "layout", type))
    if found is None:
        raise MapError(f"{_described(type)} is not a type of keys or values", EINVAL)
    return found


def _described(type: Any) -> str:
    return getattr(type, "__name__", None) or repr(type)


def _of_language(type: Any) -> Codec | None:
    """For a type of ``pybpf.lang.types``, known by its attributes: the compiler must not be needed here."""
    if hasattr(type, "element"):
        if getattr(type.element, "name", "") == "char":
            return Text(type.size)
        element = _of_language(type.element)
        return None if element is None else Items(element, type.count)
    if hasattr(type, "fields"):
        return _layout(type)
    if hasattr(type, "code"):
        order = "big" if type.big else sys.byteorder
        return Number(type.size, type.signed, order, type.code == "?")
    return Number(type.size) if hasattr(type, "target") else None


def _layout(type: Any) -> Codec | None:
    fields: list[tuple[str, int, Codec]] = []
    for name, field in type.by_name.items():
        width = getattr(field.type, "width", None)
        found = _of_language(field.type) if width is None else BitField(field.bit, width, field.type.signed)
        if found is None:
            return None
        fields.append((name, field.offset, found))
    return Layout(type.name, type.size, fields)
