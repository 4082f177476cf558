"""The binary layout of BTF: constants, header, and how long a type record is.

Source: Documentation/bpf/btf.rst and include/uapi/linux/btf.h. Everything
after the header is made of 32-bit words, so data of the other byte order is
turned round once, word by word, and read natively from then on.
"""

from __future__ import annotations

import sys
from struct import Struct

from btf.errors import BtfError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

    from typing_extensions import Buffer

    Bytes = Union[bytes, bytearray, memoryview]

NATIVE = sys.byteorder

MAGIC = 0xEB9F
VERSION = 1

KIND_VOID = 0
KIND_INT = 1
KIND_PTR = 2
KIND_ARRAY = 3
KIND_STRUCT = 4
KIND_UNION = 5
KIND_ENUM = 6
KIND_FWD = 7
KIND_TYPEDEF = 8
KIND_VOLATILE = 9
KIND_CONST = 10
KIND_RESTRICT = 11
KIND_FUNC = 12
KIND_FUNC_PROTO = 13
KIND_VAR = 14
KIND_DATASEC = 15
KIND_FLOAT = 16
KIND_DECL_TAG = 17
KIND_TYPE_TAG = 18
KIND_ENUM64 = 19
KIND_MAX = 19

KIND_NAMES = (
    "void",
    "int",
    "ptr",
    "array",
    "struct",
    "union",
    "enum",
    "fwd",
    "typedef",
    "volatile",
    "const",
    "restrict",
    "func",
    "func_proto",
    "var",
    "datasec",
    "float",
    "decl_tag",
    "type_tag",
    "enum64",
)

# Encoding bits of an INT.
INT_SIGNED = 1
INT_CHAR = 2
INT_BOOL = 4

# Linkage of FUNC and VAR.
LINKAGE_STATIC = 0
LINKAGE_GLOBAL = 1
LINKAGE_EXTERN = 2

# info: vlen took 16 bits and kind 5 before 7.2; the bits between had to be zero.
VLEN_MASK = 0xFFFFFF
KIND_SHIFT = 24
KIND_MASK = 0x7F
KFLAG = 0x80000000

# Limits of the running kernels (include/linux/btf.h): what a builder may emit.
MAX_VLEN = 0xFFFF
MAX_NAME_OFFSET = 0xFFFFFF

MODIFIERS = (KIND_TYPEDEF, KIND_CONST, KIND_VOLATILE, KIND_RESTRICT, KIND_TYPE_TAG)
COMPOSITES = (KIND_STRUCT, KIND_UNION)
ENUMS = (KIND_ENUM, KIND_ENUM64)

# Words after the three of struct btf_type: once, and for each of vlen entries.
_EXTRA = {KIND_INT: 1, KIND_ARRAY: 3, KIND_VAR: 1, KIND_DECL_TAG: 1}
_ENTRY = {
    KIND_STRUCT: 3,
    KIND_UNION: 3,
    KIND_ENUM: 2,
    KIND_FUNC_PROTO: 2,
    KIND_DATASEC: 3,
    KIND_ENUM64: 3,
}

_HEADER_MIN = 24
_HEADER_LAYOUT = 32
_HEADER_MAX = 4096
_FIELDS = {"little": Struct("<5I"), "big": Struct(">5I")}  # of the header, from its length on
_LAYOUT = {"little": Struct("<2I"), "big": Struct(">2I")}


class Header:
    """Where the sections of a BTF blob are; offsets are bytes from the blob's start.

    ``layout`` gives ``(info bytes, bytes per vlen entry)`` of each kind for
    blobs that describe themselves (Linux 7.1), and is empty for the others.
    ``extended`` says that the header holds fields not understood here: the
    blob can be read but must not be rewritten.
    """

    __slots__ = (
        *("byteorder", "extended", "flags", "length"),
        *("layout", "layout_len", "layout_off", "str_len", "str_off", "type_len", "type_off"),
    )
    str_len: int
    str_off: int
    type_len: int
    type_off: int

    def __init__(self, data: Buffer, total: int = 0) -> None:
        """Parse and check the header of ``total`` bytes of BTF (0: what ``data`` has); raises BtfError."""
        head = bytes(memoryview(data)[:_HEADER_MAX])
        total = total or memoryview(data).nbytes
        if len(head) < _HEADER_MIN:
            raise BtfError(f"not BTF: {len(head)} bytes, a header has {_HEADER_MIN}")
        if head[0:2] == b"\x9f\xeb":
            order = "little"
        elif head[0:2] == b"\xeb\x9f":
            order = "big"
        elif head[0:4] == b"\x7fELF":
            raise BtfError("not BTF but an ELF file: give the contents of its .BTF section")
        else:
            raise BtfError(f"not BTF: magic is {head[0:2].hex()}, expected 9feb or eb9f")
        if head[2] != VERSION:
            raise BtfError(f"BTF version {head[2]} is not supported, only {VERSION}")
        self.byteorder = order
        self.flags = head[3]
        length, type_off, self.type_len, str_off, self.str_len = _FIELDS[order].unpack_from(head, 4)
        self.length = length
        if not _HEADER_MIN <= length <= min(total, _HEADER_MAX) or length % 4:
            raise BtfError(f"BTF header length {length} is wrong in {total} bytes")
        self.type_off, self.str_off = length + type_off, length + str_off
        if self.type_off % 4 or self.type_len % 4:
            raise BtfError("BTF type section is not aligned to 4 bytes")
        if self.type_off + self.type_len > self.str_off:
            raise BtfError("BTF type section overlaps the string section")
        if self.str_off + self.str_len > total:
            raise BtfError(f"BTF string section ends at {self.str_off + self.str_len}, past the data ({total} bytes)")
        self.layout: list[tuple[int, int]] = []
        self.layout_off = self.layout_len = 0
        if length >= _HEADER_LAYOUT:
            off, size = _LAYOUT[order].unpack_from(head, 24)
            if size:
                self.layout_off, self.layout_len = length + off, size
                self._read_layout(data, self.layout_off, size)
        self.extended = any(head[_HEADER_LAYOUT:length])

    def _read_layout(self, data: Buffer, off: int, size: int) -> None:
        if off % 4 or size % 4 or off < self.type_off + self.type_len or off + size > self.str_off:
            raise BtfError("BTF layout section is not between types and strings")
        # Kinds have 7 bits: whatever is past that can never be looked up.
        raw = bytes(memoryview(data)[off : off + min(size, 4 * (KIND_MASK + 1))])
        self.layout = [(raw[i], raw[i + 1]) for i in range(0, len(raw), 4)]


class Lengths(dict[int, int]):
    """Length of a type record in words, by its ``info`` word.

    A kernel's 126,000 types have some 300 different info words, so this is a
    plain dict look-up on the path that matters.
    """

    __slots__ = ("layout",)

    def __init__(self, layout: list[tuple[int, int]]) -> None:
        self.layout = layout

    def __missing__(self, info: int) -> int:
        kind = info >> KIND_SHIFT & KIND_MASK
        vlen = info & VLEN_MASK
        if 1 <= kind <= KIND_MAX:
            words = 3 + _EXTRA.get(kind, 0) + vlen * _ENTRY.get(kind, 0)
        elif 0 < kind < len(self.layout):
            once, each = self.layout[kind]
            if once % 4 or each % 4:
                raise BtfError(f"BTF layout of kind {kind} is not a multiple of 4 bytes")
            words = 3 + once // 4 + vlen * (each // 4)
        else:
            raise BtfError(f"unknown BTF kind {kind} (info {info:#010x})")
        # A hostile blob may have as many info words as types.
        if len(self) > 4096:
            self.clear()
        self[info] = words
        return words


def native_words(data: Buffer, byteorder: str) -> bytearray:
    """A copy of ``data`` (a multiple of 4 bytes) with each 32-bit word in native order."""
    words = bytearray(data)
    if byteorder != NATIVE:
        for low in (0, 1):
            part = words[low::4]
            words[low::4] = words[3 - low :: 4]
            words[3 - low :: 4] = part
    return words


def kind_name(kind: int) -> str:
    """Lower-case name of a kind, as bpftool spells it."""
    return KIND_NAMES[kind] if 0 <= kind <= KIND_MAX else f"kind {kind}"


def printable(name: str) -> str:
    """``name`` for a one-line message: a malformed blob may put a newline or an escape into it."""
    return name if name.isprintable() else ascii(name)[1:-1]


def essential_name(name: str) -> str:
    """``name`` without its flavour: ``task_struct___old`` is a flavour of ``task_struct``.

    The cut is at the last ``___`` with something other than an underscore on
    both sides (bpf_core_essential_name_len() of libbpf).
    """
    at = name.rfind("___")
    while at > 0:
        if name[at - 1] != "_" and at + 3 < len(name) and name[at + 3] != "_":
            return name[:at]
        at = name.rfind("___", 0, at + 2)
    return name
