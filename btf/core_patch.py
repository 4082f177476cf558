"""Patching instructions with what CO-RE relocations come to; needs no BTF."""

from __future__ import annotations

from struct import pack_into, unpack_from

from btf.errors import BtfError, CoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from btf.core_spec import Spec

# Helper number in a poisoned instruction; the verifier says "invalid func unknown#195896080".
POISON_HELPER = 0xBAD2310

_U64 = 0xFFFFFFFFFFFFFFFF
_MAX_OFFSET = 0x7FFF

_CLASS_LD = 0x00
_CLASS_LDX = 0x01
_CLASS_ST = 0x02
_CLASS_STX = 0x03
_CLASS_ALU = 0x04
_CLASS_ALU64 = 0x07
_SRC_X = 0x08
_LDIMM64 = 0x18
_CALL = 0x85
_SIZE_CODES = {4: 0x00, 2: 0x08, 1: 0x10, 8: 0x18}
_CODE_SIZES = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}


class Resolution:
    """What a relocation comes to.

    ``old`` is the value that the instruction must hold (checked if
    ``validate``), ``new`` the one to put there. ``poison``: there is no such
    field or enumerator. For a field's offset ``old_size`` and ``new_size`` are
    the bytes to load or store, 0 if unknown, and ``bad_size`` says that the
    two may not replace each other. Field values of a target that was not found
    are 0. ``target`` tells where the value comes from, or is None.
    """

    __slots__ = ("bad_size", "new", "new_size", "old", "old_size", "poison", "target", "validate")

    def __init__(self, old: int, new: int, validate: bool = True, poison: bool = False) -> None:
        self.old = old
        self.new = new
        self.validate = validate
        self.poison = poison
        self.old_size = 0
        self.new_size = 0
        self.bad_size = False
        self.target: Spec | None = None


def relocate(
    insns: bytearray,
    relos: Iterable[tuple[int, int, str, int]],
    program: str,
    byteorder: str,
    resolve: Callable[[int, str, int], Resolution],
    describe: Callable[[int, str, int], str],
) -> None:
    """Patch ``insns`` in place.

    ``relos`` are ``(instruction slot, local type id, access string, kind)``;
    ``resolve`` says what one comes to, ``describe`` what it is. Raises
    CoreError, naming program, relocation and instruction.
    """
    for number, (index, type_id, access, kind) in enumerate(relos):
        try:
            patch(insns, index, resolve(type_id, access, kind), byteorder)
        except BtfError as error:
            raise CoreError(
                f"program {program}: CO-RE relocation #{number} at instruction {index}: "
                f"{describe(type_id, access, kind)}: {error}",
                error.details,
            ) from None


def patch(insns: bytearray, index: int, what: Resolution, byteorder: str = "little") -> None:
    """Apply a resolution to the instruction in slot ``index``; raises CoreError."""
    mark = "<" if byteorder == "little" else ">"
    at = index * 8
    if not 0 <= at <= len(insns) - 8:
        raise CoreError(f"there is no instruction {index}, the program has {len(insns) // 8}")
    code = insns[at]
    wide = code == _LDIMM64
    if wide and at + 16 > len(insns):
        raise CoreError("the second half of a 64-bit load is missing")
    group = code & 7
    if what.poison:
        _poison(insns, at, wide, mark)
    elif group in (_CLASS_ALU, _CLASS_ALU64):
        _patch_alu(insns, at, what, mark)
    elif group in (_CLASS_LDX, _CLASS_ST, _CLASS_STX):
        _patch_memory(insns, at, what, mark)
    elif group == _CLASS_LD:
        _patch_wide(insns, at, what, byteorder)
    else:
        raise CoreError(f"an instruction with code {code:#04x} cannot be relocated")


def _poison(insns: bytearray, at: int, wide: bool, mark: str) -> None:
    # Both halves: an orphaned second one would get a misleading message from the verifier.
    for place in (at, at + 8) if wide else (at,):
        pack_into(f"{mark}BBhi", insns, place, _CALL, 0, 0, POISON_HELPER)


def _expect(what: Resolution, value: int) -> None:
    if what.validate and value & _U64 != what.old:
        raise CoreError(f"the instruction holds {value}, but {what.old} is the local value; is it the right BTF?")


def _patch_alu(insns: bytearray, at: int, what: Resolution, mark: str) -> None:
    if insns[at] & _SRC_X:
        raise CoreError("the instruction takes its operand from a register")
    _expect(what, unpack_from(f"{mark}i", insns, at + 4)[0])
    new = what.new
    if not (new <= 0xFFFFFFFF or new >= (1 << 64) - (1 << 31)):
        raise CoreError(f"value {new} does not fit into the 32 bits of the instruction")
    pack_into(f"{mark}I", insns, at + 4, new & 0xFFFFFFFF)


def _patch_memory(insns: bytearray, at: int, what: Resolution, mark: str) -> None:
    _expect(what, unpack_from(f"{mark}h", insns, at + 2)[0])
    if what.new > _MAX_OFFSET:
        raise CoreError(f"offset {what.new} does not fit into a load or store (at most {_MAX_OFFSET})")
    if what.bad_size:
        _poison(insns, at, False, mark)
        return
    code = insns[at]
    if what.old_size != what.new_size:
        size = _CODE_SIZES[code & 0x18]
        if size != what.old_size:
            raise CoreError(f"the instruction moves {size} bytes, but the local field has {what.old_size}")
        if what.new_size not in _SIZE_CODES:
            raise CoreError(f"the kernel's field has {what.new_size} bytes, which no instruction moves")
        insns[at] = code & ~0x18 | _SIZE_CODES[what.new_size]
    pack_into(f"{mark}h", insns, at + 2, what.new)


def _patch_wide(insns: bytearray, at: int, what: Resolution, byteorder: str) -> None:
    mark = "<" if byteorder == "little" else ">"
    source = insns[at + 1] >> 4 if byteorder == "little" else insns[at + 1] & 0xF
    if insns[at] != _LDIMM64 or source or any(insns[at + 2 : at + 4]) or any(insns[at + 8 : at + 12]):
        raise CoreError("only a plain 64-bit immediate load of class LD can be relocated")
    low, high = unpack_from(f"{mark}I", insns, at + 4)[0], unpack_from(f"{mark}I", insns, at + 12)[0]
    _expect(what, low | high << 32)
    pack_into(f"{mark}I", insns, at + 4, what.new & 0xFFFFFFFF)
    pack_into(f"{mark}I", insns, at + 12, what.new >> 32 & 0xFFFFFFFF)
