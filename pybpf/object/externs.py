"""Externs that the kernel supplies: what an object's BTF says about ``.kconfig`` and ``.ksyms``.

clang describes them by DATASECs of sections that the file does not have, with
extern variables and functions in them, all of which the kernel refuses in BTF.
So the descriptions are rewritten in place, every type keeping its id and its
length: libbpf does the same for the same reason (bpf_object__collect_externs).
"""

from __future__ import annotations

from struct import pack_into, unpack_from

from btf.format import (
    INT_SIGNED,
    KIND_ARRAY,
    KIND_ENUM,
    KIND_ENUM64,
    KIND_FUNC,
    KIND_INT,
    KIND_STRUCT,
    KIND_TYPEDEF,
    KIND_VAR,
)
from pybpf.errors import ObjectError
from pybpf.object import elf
from pybpf.object.spec import KCONFIG, KSYMS, Extern

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btf.reader import Btf

_INT_BOOL = 4
_MAX_SETTINGS = 1 << 16
_HEADER = 12  # bytes of struct btf_type


def read_externs(file: elf.Elf, btf: Btf) -> dict[str, Extern]:
    """The externs of an object by name; those of .kconfig have their places. Raises ObjectError."""
    found: dict[str, Extern] = {}
    weak = {
        file.symbol_name(number): info >> 4 == elf.STB_WEAK
        for number, (name, info, _, shndx, _, _) in enumerate(file.symbols)
        if name and shndx == elf.SHN_UNDEF
    }
    settings = []
    for section in (KCONFIG, KSYMS):
        type_id = btf.datasecs().get(section)
        for member, _, _ in btf.vars(type_id) if type_id else ():
            name = btf.name(member)
            # A type without a symbol belongs to an extern that nothing uses any more.
            if name not in weak:
                continue
            kind = btf.kind(member)
            if name in found or kind not in (KIND_VAR, KIND_FUNC) or (kind == KIND_FUNC and section == KCONFIG):
                raise ObjectError(f"extern {name!r} in {section} is malformed or there twice")
            extern = found[name] = Extern(name, section, btf.resolve(btf.type(member)), weak[name])
            if kind == KIND_FUNC:
                extern.is_function = True
            elif section == KCONFIG:
                _classify(btf, extern)
                settings.append(extern)
    # By falling alignment, so that there are no gaps between numbers; libbpf's order.
    offset = 0
    for extern in sorted(settings, key=_order):
        align = _alignment(extern)
        extern.offset = offset = (offset + align - 1) // align * align
        offset += extern.size
    if offset > _MAX_SETTINGS:
        raise ObjectError(f"the externs in .kconfig take {offset} bytes, at most {_MAX_SETTINGS} are allowed")
    return found


def kconfig_size(externs: dict[str, Extern]) -> int:
    """Bytes that the .kconfig externs take together."""
    return max([extern.offset + extern.size for extern in externs.values() if extern.section == KCONFIG], default=0)


def _alignment(extern: Extern) -> int:
    return 1 if extern.kind == "string" else extern.size


def _order(extern: Extern) -> tuple[int, int, str]:
    return -_alignment(extern), extern.size, extern.name


def _classify(btf: Btf, extern: Extern) -> None:
    """Sets kind, size and sign from the C type (find_kcfg_type in libbpf.c)."""
    kind = btf.kind(extern.type_id)
    if kind == KIND_ARRAY:
        element, _, count = btf.array(extern.type_id)
        if count and _integer(btf, btf.resolve(element))[0] == "char":
            extern.kind, extern.size = "string", count
    elif kind in (KIND_ENUM, KIND_ENUM64):
        size = btf.size(extern.type_id)
        if btf.name(extern.type_id) == "libbpf_tristate" and size == (4 if kind == KIND_ENUM else 8):
            extern.kind, extern.size = "tristate", size
    elif kind == KIND_INT:
        extern.kind, extern.size, extern.signed = _integer(btf, extern.type_id)
    if not extern.kind:
        raise ObjectError(
            f"extern {extern.name!r} in .kconfig has a type that no setting has: "
            "use bool, enum libbpf_tristate, an integer or a char array with its size"
        )


def _integer(btf: Btf, type_id: int) -> tuple[str, int, bool]:
    if btf.kind(type_id) != KIND_INT:
        return "", 0, False
    size = btf.size(type_id)
    encoding = btf.int_encoding(type_id)
    if encoding & _INT_BOOL:
        return ("bool" if size == 1 else ""), size, False
    kind = "char" if size == 1 else "int" if size in (2, 4, 8) else ""
    return kind, size, bool(encoding & INT_SIGNED)


def describe_externs(raw: bytes, btf: Btf, externs: dict[str, Extern]) -> bytes:
    """``raw``, the bytes of ``btf``, with externs described as the kernel accepts them."""
    out = bytearray(raw)
    mark = "<" if btf.byteorder == "little" else ">"
    number = 0  # some 4-byte integer: what libbpf, too, makes of the kernel's variables
    for type_id in range(1, btf.type_count):
        if btf.kind(type_id) == KIND_INT and btf.size(type_id) == 4:
            number = type_id
            break

    def place(type_id: int) -> int:
        return btf.header.type_off + btf.locate(type_id)[1] * 4

    section = btf.datasecs().get(KCONFIG)
    if section:
        at = place(section)
        size = kconfig_size(externs)
        entries = []
        for member, _, length in btf.vars(section):
            pack_into(mark + "I", out, place(member) + _HEADER, 1)
            extern = externs.get(btf.name(member))
            if extern is None:  # optimised away: behind all others
                entries.append((size, member, length))
                size += length
            else:
                entries.append((extern.offset, member, extern.size))
        entries.sort()
        pack_into(mark + "I", out, at + 8, min(size, 0xFFFFFFFF))
        for index, (offset, member, length) in enumerate(entries):
            pack_into(mark + "III", out, at + _HEADER + index * 12, member, offset & 0xFFFFFFFF, length)
    section = btf.datasecs().get(KSYMS)
    if section and number:
        at = place(section)
        members = btf.vars(section)
        for index, (member, _, _) in enumerate(members):
            where = place(member)
            if btf.kind(member) == KIND_VAR:
                pack_into(mark + "II", out, where + 8, number, 1)
            else:
                # An extern FUNC is refused; a TYPEDEF has the same length and may name a prototype.
                pack_into(mark + "I", out, where + 4, KIND_TYPEDEF << 24)
            pack_into(mark + "III", out, at + _HEADER + index * 12, 0, number, index * 32 & 0xFFFFFFFF)
        # A DATASEC holds variables only; a struct's members have the length of its entries.
        (info,) = unpack_from(mark + "I", out, at + 4)
        pack_into(mark + "III", out, at, 0, info & 0xFFFFFF | KIND_STRUCT << 24, 4 * len(members))
    return bytes(out)
