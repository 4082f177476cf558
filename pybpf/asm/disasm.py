"""Instructions as text, in the pseudo-C that ``llvm-objdump -d`` (LLVM 19) prints for BPF."""

from __future__ import annotations

from pybpf.asm.insn import Insn
from pybpf.asm.opcodes import (
    BPF_ABS,
    BPF_ADD,
    BPF_ADDR_SPACE_CAST,
    BPF_ALU,
    BPF_ALU64,
    BPF_AND,
    BPF_ARSH,
    BPF_ATOMIC,
    BPF_B,
    BPF_CALL,
    BPF_CMPXCHG,
    BPF_DIV,
    BPF_DW,
    BPF_END,
    BPF_EXIT,
    BPF_FETCH,
    BPF_H,
    BPF_IND,
    BPF_JA,
    BPF_JCOND,
    BPF_JEQ,
    BPF_JGE,
    BPF_JGT,
    BPF_JLE,
    BPF_JLT,
    BPF_JMP,
    BPF_JMP32,
    BPF_JNE,
    BPF_JSET,
    BPF_JSGE,
    BPF_JSGT,
    BPF_JSLE,
    BPF_JSLT,
    BPF_LD,
    BPF_LDX,
    BPF_LOAD_ACQ,
    BPF_LSH,
    BPF_MEM,
    BPF_MEMSX,
    BPF_MOD,
    BPF_MOV,
    BPF_MUL,
    BPF_NEG,
    BPF_OR,
    BPF_RSH,
    BPF_ST,
    BPF_STORE_REL,
    BPF_STX,
    BPF_SUB,
    BPF_W,
    BPF_X,
    BPF_XCHG,
    BPF_XOR,
    LD_IMM64,
    SIZE_BYTES,
)

UNKNOWN = "<unknown>"

_ALU = {
    BPF_ADD: "+=",
    BPF_SUB: "-=",
    BPF_MUL: "*=",
    BPF_DIV: "/=",
    BPF_OR: "|=",
    BPF_AND: "&=",
    BPF_LSH: "<<=",
    BPF_RSH: ">>=",
    BPF_MOD: "%=",
    BPF_XOR: "^=",
    BPF_ARSH: "s>>=",
}
_JMP = {
    BPF_JEQ: "==",
    BPF_JNE: "!=",
    BPF_JGT: ">",
    BPF_JGE: ">=",
    BPF_JLT: "<",
    BPF_JLE: "<=",
    BPF_JSET: "&",
    BPF_JSGT: "s>",
    BPF_JSGE: "s>=",
    BPF_JSLT: "s<",
    BPF_JSLE: "s<=",
}
_TYPES = {BPF_B: "u8", BPF_H: "u16", BPF_W: "u32", BPF_DW: "u64"}
_ATOMIC_SIGNS = {BPF_ADD: "+=", BPF_OR: "|=", BPF_AND: "&=", BPF_XOR: "^="}
_ATOMIC_NAMES = {BPF_ADD: "add", BPF_OR: "or", BPF_AND: "and", BPF_XOR: "xor"}


def text(insn: Insn, here: int = 0, label: str = "") -> str:
    """The instruction as one line of text.

    With ``label`` (the name of the enclosing section or function) jump targets
    also get their place relative to it, ``<label+0x10>``; ``here`` is then the
    instruction's slot. What cannot be named prints as ``<unknown>``, as LLVM does.
    """
    kind = insn.op & 0x07
    if kind in (BPF_ALU, BPF_ALU64):
        return _alu(insn)
    if kind in (BPF_JMP, BPF_JMP32):
        return _jump(insn, here, label)
    if kind == BPF_LD:
        return _ld(insn)
    return _memory(insn)


def disassemble(insns: list[Insn], label: str = "") -> list[str]:
    """One line per instruction: slot number, a colon and the text, laid out as llvm-objdump does."""
    lines = []
    slot = 0
    for insn in insns:
        lines.append(f"{slot:8d}:\t{text(insn, slot, label)}")
        slot += insn.slots
    return lines


def _hex(value: int) -> str:
    return f"-{-value:#x}" if value < 0 else f"{value:#x}"


def _at(reg: int, off: int) -> str:
    return f"r{reg} - {-off:#x}" if off < 0 else f"r{reg} + {off:#x}"


def _reg(letter: str, number: int) -> str:
    return f"{letter}{number}"


def _alu(insn: Insn) -> str:
    wide = insn.op & 0x07 == BPF_ALU64
    letter = "r" if wide else "w"
    dst, src = _reg(letter, insn.dst), _reg(letter, insn.src)
    code = insn.op & 0xF0
    by_register = bool(insn.op & BPF_X)
    if code == BPF_END:
        if insn.imm not in (16, 32, 64) or (wide and by_register):
            return UNKNOWN
        name = "bswap" if wide else "be" if by_register else "le"
        return f"r{insn.dst} = {name}{insn.imm} r{insn.dst}"
    if code == BPF_NEG:
        return UNKNOWN if by_register else f"{dst} = -{dst}"
    if code == BPF_MOV:
        return _mov(insn, dst, src, wide, by_register)
    sign = _ALU.get(code)
    if sign is None:
        return UNKNOWN
    if insn.off:
        if insn.off != 1 or code not in (BPF_DIV, BPF_MOD):
            return UNKNOWN
        sign = f"s{sign}"
    return f"{dst} {sign} {src if by_register else _hex(insn.imm)}"


def _mov(insn: Insn, dst: str, src: str, wide: bool, by_register: bool) -> str:
    if not by_register:
        return f"{dst} = {_hex(insn.imm)}" if not insn.off else UNKNOWN
    if not insn.off:
        return f"{dst} = {src}"
    if insn.off in (8, 16) or (insn.off == 32 and wide):
        return f"{dst} = (s{insn.off}){src}"
    if insn.off == BPF_ADDR_SPACE_CAST and wide:
        to, of = insn.imm >> 16 & 0xFFFF, insn.imm & 0xFFFF
        return f"{dst} = addr_space_cast({src}, {to:#x}, {of:#x})"
    return UNKNOWN


def _jump(insn: Insn, here: int, label: str) -> str:
    code = insn.op & 0xF0
    wide = insn.op & 0x07 == BPF_JMP
    if wide and code == BPF_EXIT:
        return "exit"
    if wide and code == BPF_CALL:
        if insn.op & BPF_X:
            return f"callx r{insn.dst}"
        return f"call {_hex(insn.imm)}"
    if code == BPF_JA:
        distance = insn.off if wide else insn.imm
        return f"{'goto' if wide else 'gotol'} {_target(distance, here, label)}"
    if code == BPF_JCOND:
        return f"may_goto {_target(insn.off, here, label)}" if wide else UNKNOWN
    sign = _JMP.get(code)
    if sign is None:
        return UNKNOWN
    letter = "r" if wide else "w"
    other = _reg(letter, insn.src) if insn.op & BPF_X else _hex(insn.imm)
    return f"if {_reg(letter, insn.dst)} {sign} {other} goto {_target(insn.off, here, label)}"


def _target(distance: int, here: int, label: str) -> str:
    shown = f"+{distance:#x}" if distance >= 0 else f"-{-distance:#x}"
    if not label:
        return shown
    place = (here + 1 + distance) * 8
    return f"{shown} <{label}+{place:#x}>" if place else f"{shown} <{label}>"


def _ld(insn: Insn) -> str:
    if insn.op == LD_IMM64:
        value = _hex(insn.imm - (1 << 64) if insn.imm >> 63 else insn.imm)
        return f"ld_pseudo\tr{insn.dst}, {insn.src:#x}, {value}" if insn.src else f"r{insn.dst} = {value} ll"
    mode, size = insn.op & 0xE0, insn.op & 0x18
    if size == BPF_DW or mode not in (BPF_ABS, BPF_IND):
        return UNKNOWN
    place = _hex(insn.imm) if mode == BPF_ABS else f"r{insn.src}"
    return f"r0 = *({_TYPES[size]} *)skb[{place}]"


def _memory(insn: Insn) -> str:
    kind, mode, size = insn.op & 0x07, insn.op & 0xE0, insn.op & 0x18
    # Registers of accesses below 8 bytes print as their 32-bit halves.
    letter = "r" if size == BPF_DW else "w"
    if kind == BPF_LDX and mode == BPF_MEM:
        return f"{letter}{insn.dst} = *({_TYPES[size]} *)({_at(insn.src, insn.off)})"
    if kind == BPF_LDX and mode == BPF_MEMSX and size != BPF_DW:
        return f"r{insn.dst} = *(s{SIZE_BYTES[size] * 8} *)({_at(insn.src, insn.off)})"
    if kind == BPF_STX and mode == BPF_MEM:
        return f"*({_TYPES[size]} *)({_at(insn.dst, insn.off)}) = {letter}{insn.src}"
    if kind == BPF_ST and mode == BPF_MEM:
        return f"*({_TYPES[size]} *)({_at(insn.dst, insn.off)}) = {_hex(insn.imm)}"
    if kind == BPF_STX and mode == BPF_ATOMIC:
        return _atomic(insn, letter, size)
    return UNKNOWN


def _atomic(insn: Insn, letter: str, size: int) -> str:
    place = _at(insn.dst, insn.off)
    register = f"{letter}{insn.src}"
    if insn.imm == BPF_LOAD_ACQ:
        return f"{letter}{insn.dst} = load_acquire(({_TYPES[size]} *)({_at(insn.src, insn.off)}))"
    if insn.imm == BPF_STORE_REL:
        return f"store_release(({_TYPES[size]} *)({place}), {register})"
    if size not in (BPF_W, BPF_DW):
        return UNKNOWN
    suffix = "_64" if size == BPF_DW else "32_32"
    if insn.imm == BPF_XCHG:
        return f"{register} = xchg{suffix}({place}, {register})"
    if insn.imm == BPF_CMPXCHG:
        return f"{letter}0 = cmpxchg{suffix}({place}, {letter}0, {register})"
    operation = insn.imm & ~BPF_FETCH
    if operation not in _ATOMIC_SIGNS:
        return UNKNOWN
    if insn.imm & BPF_FETCH:
        return f"{register} = atomic_fetch_{_ATOMIC_NAMES[operation]}(({_TYPES[size]} *)({place}), {register})"
    return f"lock *({_TYPES[size]} *)({place}) {_ATOMIC_SIGNS[operation]} {register}"
