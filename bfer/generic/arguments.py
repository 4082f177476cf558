"""From a type in the kernel's BTF to an argument: its C type, its value, and what is shown of what it points at."""

from __future__ import annotations

from struct import unpack_from
from sys import byteorder

from bfer.generic.event import VIEW, GenericArg
from bfer.generic.pieces import along, behind, bytes_size, fits, piece
from bfer.generic.views import LENGTHS, SOCKADDRS, SOCKETS, VIEWS
from bfer.names import CHOICE, Kind
from bfer.records import (
    ARGS,
    FORM_CUT,
    FORM_NUMBER,
    FORM_POINTER,
    FORM_STRING,
    KIND_SIZED,
    KIND_SOCKADDR,
    KIND_STRING,
    KIND_WORDS,
    PIECE_BYTES,
    PIECE_CONSTANT,
    PIECE_DENTRY,
    PIECE_KEPT,
    PIECE_NUMBER,
    PIECE_PATH,
    PIECE_RESULT,
    PIECE_SIGNED_RESULT,
    PIECE_STRING,
)
from bfer.values import Pointer
from btf.cdecl import Declarator, spelled
from btf.format import (
    COMPOSITES,
    ENUMS,
    INT_BOOL,
    INT_SIGNED,
    KIND_ARRAY,
    KIND_CONST,
    KIND_FWD,
    KIND_INT,
    KIND_PTR,
    MODIFIERS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.names import Names
    from btf.reader import Btf

    Way = tuple[int, ...]

_SOCKADDR_MAX = 128


class Types:
    """Makes arguments of the types of ``btf``; enums get their names in ``names``."""

    def __init__(self, btf: Btf, names: Names) -> None:
        self.btf = btf
        self.names = names
        self._c = Declarator(btf, lambda base, _: spelled(btf, base))

    def text(self, id: int) -> str:
        """A type as C writes it."""
        return self._c.declare(id, "")

    def size(self, id: int) -> int:
        return self.btf.size(id)

    # --- arguments ----------------------------------------------------------------------

    def argument(self, name: str, id: int, slot: int, ways: list[Way], following: str = "") -> GenericArg:
        """One; ``ways`` lead to it, or to each of the two words that it is in. ``following`` names the next."""
        arg = GenericArg(name or f"arg{slot}", self.text(id), slot)
        base = self.btf.resolve(id)
        kind = self.btf.kind(base)
        if kind == KIND_PTR:
            self._pointer(arg, base, ways[0], following)
        elif kind in COMPOSITES:
            self._structure(arg, base, ways)
        else:
            self._number(arg, base, ways[0])
        if arg.memory:
            # What cannot be read is told by its address.
            arg.bits = 64
        return arg

    def result(self, id: int, way: Way) -> tuple[GenericArg | None, list[bytes]]:
        """What a function returns: its type (None for void), and the pieces that bring it into the record."""
        base = self.btf.resolve(id)
        if not base:
            return None, []
        arg = GenericArg("retval", self.text(id), ARGS)
        kind = self.btf.kind(base)
        if kind == KIND_PTR:
            arg.kind = "ptr"
            return arg, [piece(PIECE_RESULT, 0, way, 8)]
        if kind in COMPOSITES:
            inner = self._only_member(base)
            if not inner:
                arg.kind = "hex"
                return arg, [piece(PIECE_RESULT, 0, way, min(self.size(base), 8))]
            base = inner
        self._integer(arg, base)
        made = PIECE_SIGNED_RESULT if arg.signed else PIECE_RESULT
        return arg, [piece(made, 0, way, arg.bits // 8)]

    def _integer(self, arg: GenericArg, id: int) -> None:
        btf = self.btf
        arg.bits = min(btf.size(id), 8) * 8
        if btf.kind(id) in ENUMS:
            members = btf.enumerators(id)
            arg.signed = btf.kflag(id) or any(value < 0 for _, value in members)
            name = btf.name(id)
            arg.kind = f"enum {name}" if name else f"enum [{id}]"
            mask = (1 << arg.bits) - 1
            self.names.add(arg.kind, Kind(CHOICE, [(name, value & mask) for name, value in members]))
        else:
            encoding = btf.int_encoding(id) if btf.kind(id) == KIND_INT else 0
            arg.signed = bool(encoding & INT_SIGNED) and not encoding & INT_BOOL

    def _number(self, arg: GenericArg, id: int, way: Way) -> None:
        self._integer(arg, id)
        arg.pieces = [piece(PIECE_NUMBER, arg.slot, way, arg.bits // 8)]

    def _structure(self, arg: GenericArg, id: int, ways: list[Way]) -> None:
        """A structure by value: its only number, or its bytes."""
        if not ways:  # it has none
            arg.pieces = [piece(PIECE_CONSTANT, arg.slot, (0,), 8)]
            return
        inner = self._only_member(id)
        if inner and len(ways) == 1:
            if self.btf.kind(inner) == KIND_PTR:
                self._pointer(arg, inner, ways[0], "")
            else:
                self._number(arg, inner, ways[0])
            return
        arg.kind = VIEW
        arg.memory = KIND_WORDS
        size = self.size(id)
        if len(ways) == 1:
            arg.pieces = [piece(PIECE_BYTES, arg.slot, ways[0], bytes_size(size))]
        else:
            arg.pieces = [piece(PIECE_KEPT, arg.slot, way, 8) for way in ways]
        arg.decode = lambda fields, names: "0x" + b"".join([data for _, data in fields])[:size].hex()

    def _only_member(self, id: int) -> int:
        """The number or pointer that a structure is made of alone; 0 for any other structure."""
        for _ in range(8):
            members = self.btf.members(id)
            if len(members) != 1 or members[0][3]:
                return 0
            id = self.btf.resolve(members[0][1])
            kind = self.btf.kind(id)
            if kind not in COMPOSITES:
                return id if kind in (KIND_INT, KIND_PTR, *ENUMS) else 0
        return 0

    # --- pointers -------------------------------------------------------------------------

    def _pointer(self, arg: GenericArg, id: int, way: Way, following: str) -> None:
        btf = self.btf
        target, const = btf.type(id), False
        while btf.kind(target) in MODIFIERS:
            const = const or btf.kind(target) == KIND_CONST
            target = btf.type(target)
        kind = btf.kind(target)
        name = btf.name(target) if kind in (*COMPOSITES, KIND_FWD) else ""
        sized = following in LENGTHS
        if name in SOCKADDRS:
            self._address(arg, way, arg.slot + 1 if sized else ARGS)
        elif name in SOCKETS:
            self._socket(arg, target, way, SOCKETS[name])
        elif name in VIEWS and kind != KIND_FWD and self._view(arg, target, way, VIEWS[name]):
            pass
        elif const and sized and arg.slot + 1 < ARGS and (not target or (kind == KIND_INT and btf.size(target) == 1)):
            arg.kind, arg.memory = VIEW, KIND_SIZED
            arg.pieces = [piece(PIECE_BYTES, arg.slot, behind(way), bytes_size(256), arg.slot + 1)]
            arg.decode = lambda fields, names: _bytes(fields[0])
        elif const and kind == KIND_INT and btf.size(target) == 1 and btf.name(target) == "char":
            arg.kind, arg.memory = "text", KIND_STRING
            arg.pieces = [piece(PIECE_STRING, arg.slot, behind(way))]
        if not arg.pieces:
            arg.kind, arg.memory, arg.decode = "ptr", 0, None
            arg.pieces = [piece(PIECE_NUMBER, arg.slot, way, 8)]

    def _address(self, arg: GenericArg, way: Way, length: int) -> None:
        arg.kind, arg.memory = "sockaddr", KIND_SOCKADDR
        # Without a length the largest usual one is read; where that fails, the address is shown.
        arg.pieces = [piece(PIECE_BYTES, arg.slot, behind(way), _SOCKADDR_MAX if length < ARGS else 28, length)]

    def _socket(self, arg: GenericArg, id: int, way: Way, to: str) -> None:
        found = self._member(id, f"{to}.__sk_common" if to else "__sk_common", behind(way))
        if found is None:
            return
        common, type = found
        offsets = {}
        for name in ("skc_family", "skc_rcv_saddr", "skc_num", "skc_daddr", "skc_dport", *_IPV6):
            member = self._member(type, name, (0,))
            if member is not None:
                offsets[name] = member[0][0]
        size = max(offsets.values(), default=0) + 16
        if "skc_family" not in offsets or not fits(common) or size > bytes_size(size):
            return
        arg.kind, arg.memory = VIEW, KIND_WORDS
        arg.pieces = [piece(PIECE_BYTES, arg.slot, common, size)]
        arg.decode = lambda fields, names: _socket(fields[0], offsets, names)

    def _view(self, arg: GenericArg, id: int, way: Way, wanted: tuple[str, ...]) -> bool:
        """Show some members of what a pointer leads to; False where this kernel has none of them."""
        members = []
        for name in wanted:
            found = self._member(id, name, behind(way)) if name else (behind(way), id)
            made = self._shown(arg.slot, *found, first=not members) if found is not None else None
            if made is not None:
                members.append((name, *made))
        if not members:
            return False
        arg.pieces = [raw for _, raw, _ in members]
        if members[0][2] is None:
            arg.kind, arg.memory = "path", KIND_STRING
            del arg.pieces[1:]
            return True
        arg.kind = VIEW
        # A filter compares the first member.
        number = members[0][2]
        arg.bits, arg.signed = number.bits, number.signed
        shown = [(name.removesuffix(".val").rpartition(".")[2], number) for name, _, number in members]
        arg.decode = lambda fields, names: _members(fields, shown)
        return True

    def _shown(self, slot: int, way: Way, id: int, first: bool) -> tuple[bytes, GenericArg | None] | None:
        """A member as a piece, and its type as a number; None instead for a text. None where it is neither."""
        btf = self.btf
        base = btf.resolve(id)
        kind = btf.kind(base)
        if kind == KIND_PTR:
            target = btf.resolve(btf.type(base))
            if btf.kind(target) == KIND_INT and btf.size(target) == 1:
                way = behind(way)
                return (piece(PIECE_STRING, slot, way), None) if fits(way) else None
            return None
        if not fits(way):
            return None
        if kind in COMPOSITES:
            known = {"path": PIECE_PATH, "dentry": PIECE_DENTRY}.get(btf.name(base))
            return None if known is None else (piece(known, slot, way), None)
        if kind == KIND_ARRAY:
            element, _, count = btf.array(base)
            if btf.size(element) != 1:
                return None
            return piece(PIECE_STRING, slot, way, count), None
        number = GenericArg("", "", ARGS)
        self._integer(number, base)
        return piece(PIECE_KEPT, slot, way, number.bits // 8), number

    def _member(self, id: int, path: str, way: Way) -> tuple[Way, int] | None:
        """The way to a member, and its type; pointers on the way are followed. None where there is no such member."""
        btf = self.btf
        for part in path.split("."):
            base = btf.resolve(id)
            if btf.kind(base) == KIND_PTR:
                base = btf.resolve(btf.type(base))
                way = behind(way)
            while btf.kind(base) == KIND_ARRAY:
                base = btf.resolve(btf.array(base)[0])
            found = self._find(base, part)
            if found is None:
                return None
            offset, id = found
            way = along(way, offset)
        return way, id

    def _find(self, id: int, name: str) -> tuple[int, int] | None:
        """Offset in bytes and type of a member, also of an anonymous part; bit-fields are none."""
        btf = self.btf
        if btf.kind(id) not in COMPOSITES:
            return None
        for member, type, offset, bits in btf.members(id):
            if member == name:
                return None if bits else (offset // 8, type)
            if not member and not bits:
                found = self._find(btf.resolve(type), name)
                if found is not None:
                    return offset // 8 + found[0], found[1]
        return None


_IPV6 = ("skc_v6_rcv_saddr", "skc_v6_daddr")


def _pointer_of(field: tuple[int, bytes]) -> Pointer | None:
    form, data = field
    return Pointer(int.from_bytes(data, byteorder)) if form == FORM_POINTER else None


def _bytes(field: tuple[int, bytes]) -> object:
    pointer = _pointer_of(field)
    return field[1] if pointer is None else pointer


def _members(fields: list[tuple[int, bytes]], shown: list[tuple[str, GenericArg | None]]) -> object:
    """Members by name; the pointer alone where it leads nowhere."""
    pointer = _pointer_of(fields[0])
    if pointer is not None:
        return pointer
    members: dict[str, object] = {}
    for (name, number), (form, data) in zip(shown, fields):
        if form == FORM_NUMBER and number is not None:
            value = int.from_bytes(data, byteorder)
            if number.signed and value >> number.bits - 1:
                value -= 1 << number.bits
            members[name] = value
        elif form in (FORM_STRING, FORM_CUT):
            members[name] = data
        else:
            members[name] = _bytes((form, data))
    return members


def _socket(field: tuple[int, bytes], offsets: dict[str, int], names: Names) -> object:
    """A socket's family, and its addresses and ports."""
    pointer = _pointer_of(field)
    if pointer is not None:
        return pointer
    data = field[1]
    (family,) = unpack_from("=H", data, offsets["skc_family"])
    members: dict[str, object] = {"sa_family": names.text("af", family) or str(family)}
    ends = {}
    if family == _AF_INET and "skc_daddr" in offsets and "skc_rcv_saddr" in offsets:
        from bfer.sockaddr import address4

        ends = {name: address4(data, offsets[field]) for name, field in zip(_ENDS, ("skc_rcv_saddr", "skc_daddr"))}
    elif family == _AF_INET6 and offsets.keys() >= set(_IPV6):
        from bfer.sockaddr import address6

        ends = {name: address6(data, offsets[field]) for name, field in zip(_ENDS, _IPV6)}
    if ends and "skc_num" in offsets and "skc_dport" in offsets:
        (local,) = unpack_from("=H", data, offsets["skc_num"])
        (remote,) = unpack_from(">H", data, offsets["skc_dport"])
        members.update({"local_addr": ends["local"], "local_port": local})
        members.update({"remote_addr": ends["remote"], "remote_port": remote})
    return members


_AF_INET, _AF_INET6 = 2, 10
_ENDS = ("local", "remote")
