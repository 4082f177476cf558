"""Which bits of a value anybody reads, and what need not be computed because nobody reads the rest.

An extension of bits that are cut off again is a copy, and arithmetic whose result
is cut to 32 bits is done in 32 bits, which zero-extend by themselves.
"""

from __future__ import annotations

from pybpf.lang import ir
from pybpf.lang.fold import MASK64, signed
from pybpf.lang.ir import Function, Imm, Ins
from pybpf.lang.registers import Registers

# The low bits of the result depend on as many low bits of the operands.
_LOW = frozenset((ir.ADD, ir.SUB, ir.MUL, ir.AND, ir.OR, ir.XOR))
_NARROWS = _LOW | {ir.LSH}


def narrow(func: Function) -> bool:
    """Drop extensions and masks without effect, and let 32-bit arithmetic extend its own results.

    Only what is not compared, called with or made part of an address loses its
    extension: those read all 64 bits, so the verifier's bounds stay.
    """
    wanted = _demand(func)
    registers: Registers | None = None
    changed = False
    for block in func.blocks:
        for index, ins in enumerate(block.ins):
            if ins.dst is None or type(ins.a) is not int:
                continue
            if ins.op in (ir.ZEXT, ir.SEXT):
                useless = 0 < wanted[ins.dst] <= ins.size * 8
                if not useless and ins.op == ir.ZEXT and ins.size == 4:
                    if registers is None:
                        registers = Registers(func)
                    if registers.reads[ins.a] == 1 and _narrowed(registers.only.get(ins.a)):
                        useless = True
                        wanted[ins.a] = wanted[ins.dst]  # its zeros above the word are needed from now on
            elif ins.op == ir.AND and isinstance(ins.b, Imm):
                low = (1 << wanted[ins.dst]) - 1
                useless = low > 0 and ins.b.value & low == low and (ins.size == 8 or wanted[ins.dst] <= 32)
            else:
                continue
            if useless:
                block.ins[index] = Ins(ir.MOV, dst=ins.dst, a=ins.a, loc=ins.loc)
                # What was taken out can no longer be narrowed in place of an extension further on.
                if registers is not None:
                    registers.only.pop(ins.dst, None)
                changed = True
    return changed


def _narrowed(maker: Ins | None) -> bool:
    """Make ``maker`` a 32-bit operation, if it can be one."""
    if maker is None or maker.op not in _NARROWS:
        return False
    if isinstance(maker.b, Imm):
        if maker.op == ir.LSH and maker.b.value & 63 >= 32:
            return False
        if maker.size == 8:
            maker.b = Imm(signed(maker.b.value & 0xFFFF_FFFF, 32))
    elif maker.op == ir.LSH:
        return maker.size == 4  # the counts are masked differently
    maker.size = 4
    return True


def _demand(func: Function) -> list[int]:
    """How many low bits of each register somebody reads."""
    wanted = [0] * len(func.vregs)
    # From the end most of what reads a register is seen before what writes it. Where not, another look is needed.
    again = True
    while again:
        again = False
        made: set[int | None] = set()
        for block in reversed(func.blocks):
            for ins in reversed(block.ins):
                made.add(ins.dst)
                if not ins.reads:
                    continue
                a, b = ins.a, ins.b
                if type(a) is int or type(b) is int:
                    left, right = _operands(ins, wanted)
                    if type(a) is int and left > wanted[a]:
                        wanted[a] = left
                        again |= a in made
                    if type(b) is int and right > wanted[b]:
                        wanted[b] = right
                        again |= b in made
                for arg in ins.args:
                    if type(arg) is int and wanted[arg] < 64:
                        wanted[arg] = 64
                        again |= arg in made
    return wanted


def _operands(ins: Ins, wanted: list[int]) -> tuple[int, int]:
    """How many low bits an instruction reads of its operands."""
    op, size = ins.op, ins.size * 8
    if op == ir.STORE:
        return 64, size
    if op == ir.BRANCH:
        return size, size
    if ins.dst is None or op in (ir.LOAD, ir.ATOMIC, *ir.CALLS):
        return 64, 64
    result = wanted[ins.dst]
    if op == ir.MOV or op == ir.NEG:
        return result, 0
    if op in (ir.ZEXT, ir.SEXT):
        return min(result, size), 0
    if op == ir.BSWAP:
        return size, 0
    if op == ir.AND and isinstance(ins.b, Imm):
        return min(result, size, (ins.b.value & MASK64).bit_length()), 0
    if op in _LOW:
        return min(result, size), min(result, size)
    if op in (ir.LSH, ir.RSH) and isinstance(ins.b, Imm):
        count = ins.b.value & size - 1
        return (min(result, size) if op == ir.LSH else min(size, result + count if result else 0)), 0
    return (size, size) if op in (ir.DIV, ir.MOD, ir.LSH, ir.RSH, ir.ARSH) else (64, 64)
