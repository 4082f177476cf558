"""One BPF instruction, and its encoding as RFC 9669 section 3 gives it.

An instruction takes one slot of 8 bytes, or two when it is the 64-bit
immediate load. In both byte orders the opcode comes first; the register byte
holds dst in the low half on little-endian machines and in the high half on
big-endian ones; off and imm follow in the machine's order.
"""

from __future__ import annotations

import struct

from pybpf.asm.opcodes import (
    BPF_ALU,
    BPF_ALU64,
    BPF_ATOMIC,
    BPF_CALL,
    BPF_EXIT,
    BPF_JA,
    BPF_JMP,
    BPF_JMP32,
    BPF_MEM,
    BPF_ST,
    BPF_STX,
    BPF_X,
    LD_IMM64,
    MAX_BPF_REG,
    SIZES,
)
from pybpf.errors import AsmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

MASK64 = 0xFFFF_FFFF_FFFF_FFFF

_SLOT = {"little": struct.Struct("<BBhi"), "big": struct.Struct(">BBhi")}
_PACK = {order: slot.pack for order, slot in _SLOT.items()}


class Insn:
    """One instruction.

    ``op`` is the opcode byte, ``dst`` and ``src`` register numbers, ``off`` a
    signed 16-bit and ``imm`` a signed 32-bit number; of a 64-bit immediate load
    (``op`` 0x18) ``imm`` is the whole 64-bit value, kept unsigned: the low half
    is the first slot's imm and the high half the second's. Numbers are checked
    when the instruction is encoded.
    """

    __slots__ = ("dst", "imm", "off", "op", "src")

    def __init__(self, op: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> None:
        self.op = op
        self.dst = dst
        self.src = src
        self.off = off
        self.imm = imm & MASK64 if op == LD_IMM64 and imm >= -(1 << 63) else imm

    def __repr__(self) -> str:
        return f"Insn(op={self.op:#04x}, dst={self.dst}, src={self.src}, off={self.off}, imm={self.imm})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Insn):
            return NotImplemented
        return self.key() == other.key()

    def __hash__(self) -> int:
        return hash(self.key())

    def key(self) -> tuple[int, int, int, int, int]:
        """The fields as a tuple: op, dst, src, off, imm."""
        return self.op, self.dst, self.src, self.off, self.imm

    def copy(self) -> Insn:
        """A new instruction with the same fields."""
        return Insn(self.op, self.dst, self.src, self.off, self.imm)

    @property
    def slots(self) -> int:
        """How many 8-byte slots it takes: 2 for the 64-bit immediate load, else 1."""
        return 2 if self.op == LD_IMM64 else 1

    @property
    def is_jump(self) -> bool:
        """Whether it goes to another instruction of the same function (not call, not exit)."""
        kind = self.op & 0x07
        return kind in (BPF_JMP, BPF_JMP32) and self.op & 0xF0 not in (BPF_CALL, BPF_EXIT)

    @property
    def is_gotol(self) -> bool:
        """Whether it is the long jump, whose offset is ``imm`` instead of ``off``."""
        return self.op & 0xF7 == BPF_JMP32 | BPF_JA

    @property
    def is_gotox(self) -> bool:
        """Whether it is the indirect jump, whose target is in a register."""
        return self.op == BPF_JMP | BPF_JA | BPF_X

    @property
    def is_call(self) -> bool:
        """Whether it calls a function that ``imm`` names (not one in a register)."""
        return self.op == BPF_JMP | BPF_CALL

    @property
    def falls_through(self) -> bool:
        """Whether the next instruction can run after it."""
        kind, code = self.op & 0x07, self.op & 0xF0
        return not (kind in (BPF_JMP, BPF_JMP32) and code == BPF_JA) and not (kind == BPF_JMP and code == BPF_EXIT)

    def encode(self, byteorder: str = "little") -> bytes:
        """The 8 or 16 bytes of the instruction. Raises AsmError for a field out of range."""
        op, dst, src, imm = self.op, self.dst, self.src, self.imm
        # The fields have 4 bits, but 11 to 15 mean nothing in code that is given to a kernel.
        if not 0 <= dst < MAX_BPF_REG or not 0 <= src < MAX_BPF_REG:
            raise AsmError(f"no such register in {self!r}: registers are r0 to r10")
        regs = dst << 4 | src if byteorder == "big" else src << 4 | dst
        pack = _PACK[byteorder]
        try:
            if op != LD_IMM64:
                return pack(op, regs, self.off, imm)
            if not 0 <= imm <= MASK64:
                raise AsmError(f"immediate {imm} does not fit 64 bits")
            return pack(op, regs, self.off, _s32(imm)) + pack(0, 0, 0, _s32(imm >> 32))
        except struct.error:
            pass
        if not 0 <= op <= 0xFF:
            raise AsmError(f"opcode {op:#x} does not fit 8 bits")
        if not -0x8000 <= self.off <= 0x7FFF:
            raise AsmError(f"offset {self.off} of {self!r} does not fit 16 bits")
        raise AsmError(f"immediate {imm} of {self!r} does not fit 32 bits (signed)")


class Word(Insn):
    """A slot that is no instruction this module could name: ``value`` is its 64 bits as the byte order reads them."""

    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        super().__init__(0)
        self.value = value

    def __repr__(self) -> str:
        return f"Word({self.value:#018x})"

    def key(self) -> tuple[int, int, int, int, int]:
        """Fields to compare by."""
        return -1, 0, 0, 0, self.value

    def copy(self) -> Word:
        """A new slot with the same value."""
        return Word(self.value)

    @property
    def slots(self) -> int:
        """One."""
        return 1

    def encode(self, byteorder: str = "little") -> bytes:
        """The 8 bytes. Raises AsmError for a value of more than 64 bits."""
        if not 0 <= self.value <= MASK64:
            raise AsmError(f"{self.value:#x} does not fit 64 bits")
        return self.value.to_bytes(8, "big" if byteorder == "big" else "little")


def _s32(value: int) -> int:
    value &= 0xFFFF_FFFF
    return value - (1 << 32) if value & 0x8000_0000 else value


def encode(insns: list[Insn], byteorder: str = "little") -> bytes:
    """The code of all instructions in a row."""
    return b"".join([insn.encode(byteorder) for insn in insns])


def decode(code: bytes, byteorder: str = "little") -> list[Insn]:
    """The instructions of ``code``.

    Accepts every opcode byte; a loader may know more of them than this module.
    Raises AsmError when the length is no multiple of 8, a register is above r10
    or a 64-bit immediate load is cut or followed by something that is not its
    second half.
    """
    if len(code) % 8:
        raise AsmError(f"code of {len(code)} bytes is not a whole number of 8-byte instruction slots")
    big = byteorder == "big"
    slots = list(_SLOT[byteorder].iter_unpack(code))
    insns = []
    index = 0
    while index < len(slots):
        op, regs, off, imm = slots[index]
        dst, src = (regs >> 4, regs & 15) if big else (regs & 15, regs >> 4)
        if dst >= MAX_BPF_REG or src >= MAX_BPF_REG:
            raise AsmError(f"instruction slot {index} names a register above r10")
        if op == LD_IMM64:
            index += 1
            if index == len(slots) or slots[index][:3] != (0, 0, 0):
                raise AsmError(f"64-bit immediate load at slot {index - 1} lacks its second half")
            imm = (slots[index][3] & 0xFFFF_FFFF) << 32 | imm & 0xFFFF_FFFF
        insns.append(Insn(op, dst, src, off, imm))
        index += 1
    return insns


def decode_any(code: bytes, byteorder: str = "little") -> list[Insn]:
    """``decode`` for code that may hold anything: slots that are no instruction come out as Word.

    Raises AsmError only when the length is no multiple of 8.
    """
    if len(code) % 8:
        raise AsmError(f"code of {len(code)} bytes is not a whole number of 8-byte instruction slots")
    order: Literal["big", "little"] = "big" if byteorder == "big" else "little"
    insns: list[Insn] = []
    at = 0
    while at < len(code):
        size = 16 if code[at] == LD_IMM64 else 8
        try:
            insns += decode(code[at : at + size], byteorder)
        except AsmError:
            size = 8
            insns.append(Word(int.from_bytes(code[at : at + 8], order)))
        at += size
    return insns


# --- builders: the sorts of instructions by what they need ------------------


def alu64(code: int, dst: int, src: int | None = None, imm: int = 0, off: int = 0) -> Insn:
    """64-bit arithmetic ``code`` (BPF_ADD, BPF_MOV ...) with a register, or ``imm`` when src is None."""
    return Insn(BPF_ALU64 | code, dst, 0, off, imm) if src is None else Insn(BPF_ALU64 | code | BPF_X, dst, src, off)


def alu32(code: int, dst: int, src: int | None = None, imm: int = 0, off: int = 0) -> Insn:
    """32-bit arithmetic, as alu64; the result is zero-extended."""
    return Insn(BPF_ALU | code, dst, 0, off, imm) if src is None else Insn(BPF_ALU | code | BPF_X, dst, src, off)


def jmp(code: int, dst: int, off: int, src: int | None = None, imm: int = 0) -> Insn:
    """A conditional 64-bit jump over ``off`` slots."""
    return Insn(BPF_JMP | code, dst, 0, off, imm) if src is None else Insn(BPF_JMP | code | BPF_X, dst, src, off)


def jmp32(code: int, dst: int, off: int, src: int | None = None, imm: int = 0) -> Insn:
    """A conditional jump that compares the low 32 bits."""
    return Insn(BPF_JMP32 | code, dst, 0, off, imm) if src is None else Insn(BPF_JMP32 | code | BPF_X, dst, src, off)


def ld_imm64(dst: int, imm: int, src: int = 0) -> Insn:
    """A 64-bit immediate load; ``src`` is 0 or a BPF_PSEUDO_ number."""
    return Insn(LD_IMM64, dst, src, 0, imm)


def ldx(size: int, dst: int, src: int, off: int) -> Insn:
    """``dst = *(u{size * 8} *)(src + off)``."""
    return Insn(0x01 | BPF_MEM | SIZES[size], dst, src, off)


def stx(size: int, dst: int, off: int, src: int) -> Insn:
    """``*(u{size * 8} *)(dst + off) = src``."""
    return Insn(BPF_STX | BPF_MEM | SIZES[size], dst, src, off)


def st(size: int, dst: int, off: int, imm: int) -> Insn:
    """``*(u{size * 8} *)(dst + off) = imm``, sign-extended to the size."""
    return Insn(BPF_ST | BPF_MEM | SIZES[size], dst, 0, off, imm)


def atomic(size: int, dst: int, off: int, src: int, code: int) -> Insn:
    """Atomic operation ``code`` (an imm such as BPF_ADD | BPF_FETCH) on 4 or 8 bytes at dst + off."""
    return Insn(BPF_STX | BPF_ATOMIC | SIZES[size], dst, src, off, code)


def call(helper: int) -> Insn:
    """A call of the helper with that number."""
    return Insn(BPF_JMP | BPF_CALL, 0, 0, 0, helper)


def exit_() -> Insn:
    """Return r0."""
    return Insn(BPF_JMP | BPF_EXIT)
