"""Instruction encoding constants, spelt as ``linux/bpf.h`` and ``linux/bpf_common.h`` spell them.

The layout is that of RFC 9669: an opcode byte is class | size | mode for loads
and stores, and class | source | operation for arithmetic and jumps.
"""

from __future__ import annotations

# Classes: opcode & 0x07.
BPF_LD = 0x00
BPF_LDX = 0x01
BPF_ST = 0x02
BPF_STX = 0x03
BPF_ALU = 0x04
BPF_JMP = 0x05
BPF_JMP32 = 0x06  # Linux 5.1
BPF_ALU64 = 0x07

# Sizes of loads and stores: opcode & 0x18.
BPF_W = 0x00
BPF_H = 0x08
BPF_B = 0x10
BPF_DW = 0x18

# Modes of loads and stores: opcode & 0xe0.
BPF_IMM = 0x00
BPF_ABS = 0x20
BPF_IND = 0x40
BPF_MEM = 0x60
BPF_MEMSX = 0x80  # Linux 6.6 (cpu v4)
BPF_ATOMIC = 0xC0  # until 5.12 only BPF_ADD, under the name BPF_XADD

# Operand source of arithmetic and jumps: opcode & 0x08.
BPF_K = 0x00
BPF_X = 0x08

# Arithmetic: opcode & 0xf0.
BPF_ADD = 0x00
BPF_SUB = 0x10
BPF_MUL = 0x20
BPF_DIV = 0x30  # off 1: signed, Linux 6.6
BPF_OR = 0x40
BPF_AND = 0x50
BPF_LSH = 0x60
BPF_RSH = 0x70
BPF_NEG = 0x80
BPF_MOD = 0x90  # off 1: signed, Linux 6.6
BPF_XOR = 0xA0
BPF_MOV = 0xB0  # off 8, 16, 32: sign-extending, Linux 6.6; off 1: address space cast, Linux 6.9
BPF_ARSH = 0xC0
BPF_END = 0xD0

# Byte swaps: the source bit of BPF_END.
BPF_TO_LE = 0x00
BPF_TO_BE = 0x08

# Jumps: opcode & 0xf0.
BPF_JA = 0x00  # class BPF_JMP32: gotol, a 32-bit offset in imm, Linux 6.6
BPF_JEQ = 0x10
BPF_JGT = 0x20
BPF_JGE = 0x30
BPF_JSET = 0x40
BPF_JNE = 0x50
BPF_JSGT = 0x60
BPF_JSGE = 0x70
BPF_CALL = 0x80
BPF_EXIT = 0x90
BPF_JLT = 0xA0  # this and the next three: Linux 4.14 (cpu v2)
BPF_JLE = 0xB0
BPF_JSLT = 0xC0
BPF_JSLE = 0xD0
BPF_JCOND = 0xE0  # may_goto, Linux 6.9

# Atomic operations: imm of BPF_STX | BPF_ATOMIC. All but a plain BPF_ADD: Linux 5.12.
BPF_FETCH = 0x01
BPF_XCHG = 0xE0 | BPF_FETCH
BPF_CMPXCHG = 0xF0 | BPF_FETCH
BPF_LOAD_ACQ = 0x100  # Linux 6.15
BPF_STORE_REL = 0x110  # Linux 6.15

# src_reg of BPF_LD | BPF_IMM | BPF_DW.
BPF_PSEUDO_MAP_FD = 1
BPF_PSEUDO_MAP_VALUE = 2
BPF_PSEUDO_BTF_ID = 3
BPF_PSEUDO_FUNC = 4
BPF_PSEUDO_MAP_IDX = 5
BPF_PSEUDO_MAP_IDX_VALUE = 6

# src_reg of BPF_JMP | BPF_CALL; 0 is a helper.
BPF_PSEUDO_CALL = 1
BPF_PSEUDO_KFUNC_CALL = 2

# src_reg of BPF_JMP | BPF_JCOND.
BPF_MAY_GOTO = 0

BPF_ADDR_SPACE_CAST = 1  # off of BPF_ALU64 | BPF_MOV | BPF_X

MAX_BPF_REG = 11  # r0 to r10; r10 is the read-only frame pointer
BPF_REG_FP = 10
MAX_BPF_STACK = 512

LD_IMM64 = BPF_LD | BPF_IMM | BPF_DW  # the one instruction of two slots
EXIT = BPF_JMP | BPF_EXIT
JA = BPF_JMP | BPF_JA
CALL = BPF_JMP | BPF_CALL

SIZES = {1: BPF_B, 2: BPF_H, 4: BPF_W, 8: BPF_DW}
SIZE_BYTES = {BPF_B: 1, BPF_H: 2, BPF_W: 4, BPF_DW: 8}

# The same test with the outcome reversed; BPF_JSET has no opposite.
OPPOSITE = {
    BPF_JEQ: BPF_JNE,
    BPF_JNE: BPF_JEQ,
    BPF_JGT: BPF_JLE,
    BPF_JLE: BPF_JGT,
    BPF_JGE: BPF_JLT,
    BPF_JLT: BPF_JGE,
    BPF_JSGT: BPF_JSLE,
    BPF_JSLE: BPF_JSGT,
    BPF_JSGE: BPF_JSLT,
    BPF_JSLT: BPF_JSGE,
}


def opcode_class(op: int) -> int:
    """The class of an opcode byte."""
    return op & 0x07


def is_jump_class(op: int) -> bool:
    """Whether the opcode is of class BPF_JMP or BPF_JMP32."""
    return op & 0x07 in (BPF_JMP, BPF_JMP32)
