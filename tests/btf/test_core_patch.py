"""Patching instructions: forms, poison, resized loads, what is refused, and how the culprit is named."""

from __future__ import annotations

import struct

import pytest
from core_sides import Side

from btf.core import POISON_HELPER, Relocator, Resolution, patch
from btf.errors import CoreError
from btf.reader import Btf


def insn(code: int, regs: int, off: int, imm: int, order: str = "little") -> bytes:
    return struct.pack("<BBhi" if order == "little" else ">BBhi", code, regs, off, imm)


POISONED = insn(0x85, 0, 0, POISON_HELPER)


@pytest.mark.parametrize("order", ["little", "big"])
def test_patch_forms(order: str) -> None:
    code = bytearray(
        insn(0x79, 0x12, 8, 0, order)  # ldx dw
        + insn(0xB7, 0x01, 0, 8, order)  # mov imm
        + insn(0x07, 0x01, 0, 8, order)  # add imm
        + insn(0x18, 0x01 if order == "little" else 0x10, 0, 8, order)
        + insn(0, 0, 0, 0, order)
        + insn(0x7B, 0x12, 8, 0, order)  # stx dw
        + insn(0x7A, 0x12, 8, 5, order)  # st dw
    )
    for index in (0, 1, 2, 5, 6):
        patch(code, index, Resolution(8, 24), order)
    patch(code, 3, Resolution(8, 0x1_0000_0018), order)
    assert bytes(code) == (
        insn(0x79, 0x12, 24, 0, order)
        + insn(0xB7, 0x01, 0, 24, order)
        + insn(0x07, 0x01, 0, 24, order)
        + insn(0x18, 0x01 if order == "little" else 0x10, 0, 24, order)
        + insn(0, 0, 0, 1, order)
        + insn(0x7B, 0x12, 24, 0, order)
        + insn(0x7A, 0x12, 24, 5, order)
    )


def test_patch_poison() -> None:
    code = bytearray(insn(0x18, 0x01, 0, 8) + insn(0, 0, 0, 0) + insn(0x79, 0x12, 8, 0) + insn(0x95, 0, 0, 0))
    patch(code, 0, Resolution(8, 0, poison=True))
    patch(code, 2, Resolution(8, 0, poison=True))
    assert bytes(code) == POISONED * 3 + insn(0x95, 0, 0, 0)


@pytest.mark.parametrize(("old", "new", "code"), [(4, 8, 0x79), (4, 2, 0x69), (4, 1, 0x71)])
def test_patch_resizes_loads(old: int, new: int, code: int) -> None:
    what = Resolution(0, 16)
    what.old_size, what.new_size = old, new
    insns = bytearray(insn(0x61, 0x12, 0, 0))
    patch(insns, 0, what)
    assert bytes(insns) == insn(code, 0x12, 16, 0)
    # Only a load or store has a size; an offset in an ALU instruction has not.
    what.bad_size = True
    insns = bytearray(insn(0xB7, 0x01, 0, 0))
    patch(insns, 0, what)
    assert bytes(insns) == insn(0xB7, 0x01, 0, 16)
    insns = bytearray(insn(0x61, 0x12, 0, 0))
    patch(insns, 0, what)
    assert bytes(insns) == POISONED


@pytest.mark.parametrize(
    ("code", "what", "message"),
    [
        (insn(0x79, 0x12, 8, 0), Resolution(4, 0), "holds 8"),
        (insn(0xB7, 0x12, 8, 9), Resolution(4, 0), "holds 9"),
        (insn(0x18, 0, 0, 4) + insn(0, 0, 0, 1), Resolution(4, 0), "holds 4294967300"),
        (insn(0x79, 0x12, 8, 0), Resolution(8, 32768), "does not fit"),
        (insn(0xB7, 0x12, 0, 0), Resolution(0, 1 << 33), "does not fit"),
        (insn(0x0F, 0x12, 0, 0), Resolution(0, 0), "register"),
        (insn(0x05, 0, 1, 0), Resolution(0, 0), "cannot be relocated"),
        (insn(0x20, 0, 0, 0), Resolution(0, 0), "plain 64-bit"),
        (insn(0x18, 0x11, 0, 0) + insn(0, 0, 0, 0), Resolution(0, 0), "plain 64-bit"),
        (insn(0x18, 0, 0, 0) + insn(1, 0, 0, 0), Resolution(0, 0), "plain 64-bit"),
        (insn(0x18, 0, 0, 0), Resolution(0, 0), "second half"),
        (b"", Resolution(0, 0), "no instruction 0"),
    ],
)
def test_patch_refuses(code: bytes, what: Resolution, message: str) -> None:
    insns = bytearray(code)
    with pytest.raises(CoreError, match=message):
        patch(insns, 0, what)
    assert bytes(insns) == code


def test_patch_without_validation() -> None:
    insns = bytearray(insn(0x79, 0x12, 99, 0))
    patch(insns, 0, Resolution(4, 8, validate=False))
    assert bytes(insns) == insn(0x79, 0x12, 8, 0)


def test_patch_size_mismatch() -> None:
    what = Resolution(0, 0)
    what.old_size, what.new_size = 8, 4
    with pytest.raises(CoreError, match="moves 4 bytes"):
        patch(bytearray(insn(0x61, 0x12, 0, 0)), 0, what)
    what.old_size, what.new_size = 4, 16
    with pytest.raises(CoreError, match="16 bytes"):
        patch(bytearray(insn(0x61, 0x12, 0, 0)), 0, what)


def test_relocate_names_the_culprit(local: Side, target: Side) -> None:
    s = local.struct("task", 8, [("a", local.u32, 0), ("pid", local.u32, 32)])
    target.struct("task", 8, [("a", target.u32, 0), ("pid", target.u32, 32)])
    relocator = Relocator(Btf(local.to_bytes()), Btf(target.to_bytes()))
    insns = bytearray(insn(0x61, 0x12, 4, 0) + insn(0x61, 0x12, 8, 0))
    with pytest.raises(CoreError) as error:
        relocator.relocate(insns, [(0, s, "0:1", 0), (1, s, "0:1", 0)], "on_exit")
    assert str(error.value).startswith(
        f"program on_exit: CO-RE relocation #1 at instruction 1: <byte_off> [{s}] struct task.pid (0:1 @ offset 4): "
    )
    with pytest.raises(CoreError, match=r"relocation #0 at instruction 7.*no instruction 7"):
        relocator.relocate(insns, [(7, s, "0:1", 0)], "p")
    with pytest.raises(CoreError, match=r"<kind 77> \[12345\]"):
        relocator.relocate(insns, [(0, 12345, "0:1", 77)], "p")


def test_big_endian_relocation() -> None:
    local, target = Side("big"), Side("big")
    s = local.struct("task", 8, [("pid", local.u32, 0)])
    target.struct("task", 16, [("x", target.u64, 0), ("pid", target.u32, 64)])
    insns = bytearray(insn(0x61, 0x21, 0, 0, "big"))
    Relocator(Btf(local.to_bytes()), Btf(target.to_bytes())).relocate(insns, [(0, s, "0:0", 0)], "p", "big")
    assert bytes(insns) == insn(0x61, 0x21, 8, 0, "big")
