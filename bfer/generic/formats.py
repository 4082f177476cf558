"""Tracepoints as tracefs describes them: the fields of their records, and what their print formats say of these."""

from __future__ import annotations

from struct import unpack

from bfer.generic.event import VIEW, GenericArg
from bfer.generic.pieces import behind, bytes_size, piece
from bfer.generic.printed import Printed
from bfer.names import CHOICE, FLAGS, Kind
from bfer.records import (
    BYTES_MAX,
    FORM_POINTER,
    KIND_STRING,
    KIND_WORDS,
    PIECE_BYTES,
    PIECE_FROM_HERE,
    PIECE_FROM_START,
    PIECE_NUMBER,
    PIECE_STRING,
)
from bfer.values import MORE, Pointer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from bfer.names import Names
    from pybpf.tracefs import Field

_COMMON = 8  # bytes of the fields that all records have
_INTS = {"int": True, "unsigned int": False, "unsigned": False, "u32": False, "s32": True, "uint32_t": False}
_INTS.update({"pid_t": True, "uid_t": False, "gid_t": False, "clockid_t": True, "mqd_t": True, "key_serial_t": True})
_INTS.update({"umode_t": False, "__u32": False, "__s32": True, "qid_t": False, "key_t": True, "rwf_t": True})
_LONGS = ("long", "off_t", "loff_t", "ssize_t", "long long")
_CODES = {(1, False): "B", (1, True): "b", (2, False): "H", (2, True): "h", (4, False): "I", (4, True): "i"}
_CODES.update({(8, False): "Q", (8, True): "q"})


def arguments(category: str, fields: list[Field], printed: str, names: Names) -> list[GenericArg]:
    """The arguments of tracepoint ``category``; ``printed`` is its print format."""
    shown = Printed(printed)
    own = [field for field in fields if not field.name.startswith("common_")]
    return [_argument(category, slot, field, shown, names) for slot, field in enumerate(own)]


def _argument(category: str, slot: int, field: Field, shown: Printed, names: Names) -> GenericArg:
    arg = GenericArg(field.name, field.type, slot)
    element, bracket, bounds = field.type.partition("[")
    element = element.removeprefix("const ").strip()
    size = field.size
    located = 0
    if field.dynamic:
        located = PIECE_FROM_HERE if field.relative else PIECE_FROM_START
        size = BYTES_MAX
    if field.type.endswith("*"):
        _pointer(arg, field)
    elif element == "char" and bracket:
        arg.kind, arg.memory = "text", KIND_STRING
        arg.pieces = [piece(PIECE_STRING | located, slot, (field.offset,), 4096 if located else size)]
    elif bracket or field.dynamic or size not in (1, 2, 4, 8):
        _array(arg, field, element, bounds, located, size, shown)
    else:
        _number(arg, category, field, shown, names)
    return arg


def _pointer(arg: GenericArg, field: Field) -> None:
    if field.type == "const char *":
        arg.kind, arg.memory = "text", KIND_STRING
        arg.pieces = [piece(PIECE_STRING, arg.slot, behind((field.offset,)))]
    else:
        arg.kind = "ptr"
        arg.pieces = [piece(PIECE_NUMBER, arg.slot, (field.offset,), 8)]


def _number(arg: GenericArg, category: str, field: Field, shown: Printed, names: Names) -> None:
    arg.bits, arg.signed = field.size * 8, field.signed
    if category == "syscalls" and field.size == 8:  # where the type that the call declares is in a register's place
        type = field.type.removeprefix("const ")
        if type in _INTS:
            arg.bits, arg.signed = 32, _INTS[type]
        elif type in _LONGS:
            arg.signed = True
    known = shown.names.get(field.name)
    if known is not None:
        flags, pairs = known
        mask = (1 << arg.bits) - 1
        arg.kind = f"{'flags' if flags else 'symbol'} {id(pairs)}"
        names.add(arg.kind, Kind(FLAGS if flags else CHOICE, [(name, value & mask) for name, value in pairs]))
    elif field.name in shown.hexadecimal:
        arg.kind = "hex"
    arg.pieces = [piece(PIECE_NUMBER, arg.slot, (field.offset,), arg.bits // 8)]


def _array(arg: GenericArg, field: Field, element: str, bounds: str, located: int, size: int, shown: Printed) -> None:
    arg.kind, arg.memory = VIEW, KIND_WORDS
    arg.pieces = [piece(PIECE_BYTES | located, arg.slot, (field.offset,), bytes_size(size))]
    count = bounds.rstrip("]")
    width = size // int(count) if count.isdigit() and int(count) and size % int(count) == 0 else _width(element)
    code = _CODES.get((width, field.signed))
    make = shown.addresses.get(field.name)
    if make is None:
        if code is None or (width == 1 and located):
            make = bytes if width == 1 else _hex
        else:
            make = _numbers(code, size if not located else 0)
    arg.decode = lambda fields, names: _decoded(fields[0], make)


def _width(element: str) -> int:
    """Bytes of an integer type by its name; 0 for what is none."""
    words = element.removeprefix("unsigned ").removeprefix("signed ")
    digits = words.strip("_usintx").removesuffix("_t")
    if digits in ("8", "16", "32", "64"):
        return int(digits) // 8
    return {"char": 1, "short": 2, "int": 4, "unsigned": 4, "long": 8, "long long": 8, "bool": 1}.get(words, 0)


def _hex(data: bytes) -> object:
    return f"0x{data.hex()}"


def _numbers(code: str, size: int) -> Callable[[bytes], object]:
    def numbers(data: bytes) -> object:
        count = len(data) // {"b": 1, "h": 2, "i": 4, "q": 8}[code.lower()]
        found: list[object] = [*unpack(f"={count}{code}", data[: count * len(data) // max(count, 1)])]
        if size > len(data) or (not size and len(data) == BYTES_MAX):
            found.append(MORE)
        return found

    return numbers


def _decoded(field: tuple[int, bytes], make: Callable[[bytes], object]) -> object:
    from sys import byteorder

    form, data = field
    if form == FORM_POINTER:
        return Pointer(int.from_bytes(data, byteorder))
    return make(data)
