"""Addresses: constants last, so that places near each other share one computation."""

from __future__ import annotations

from pybpf.lang import ir
from pybpf.lang.fold import MASK64, signed
from pybpf.lang.ir import Function, Imm, Ins
from pybpf.lang.registers import Registers


def constants_last(func: Function) -> bool:
    """Turn ``base + (x + c)`` into ``(base + x) + c``, whose c the access takes as its offset.

    Only where nothing else reads ``x + c``: were it compared, its bounds would be
    those that prove the access, not x's.
    """
    if not any(_indexes(ins, func) for block in func.blocks for ins in block.ins if ins.op == ir.ADD):
        return False
    reads: list[int] | None = None
    changed = False
    for block in func.blocks:
        sums: dict[int, tuple[int, int]] = {}
        out: list[Ins] = []
        for ins in block.ins:
            if ins.op == ir.ADD and ins.size == 8 and type(ins.b) is int and ins.dst is not None:
                base, index = ins.a, ins.b
                assert type(base) is int
                if func.vregs[base] != ir.POINTER:
                    base, index = index, base
                if func.vregs[ins.dst] == func.vregs[base] == ir.POINTER and index in sums:
                    x, constant = sums[index]
                    place = func.vreg(ir.POINTER)
                    out.append(Ins(ir.ADD, dst=place, a=base, b=x, loc=ins.loc))
                    ins = Ins(ir.ADD, dst=ins.dst, a=place, b=Imm(constant), loc=ins.loc)
                    changed = True
            out.append(ins)
            dst = ins.dst
            if dst is None:
                continue
            if sums:
                for index in [index for index, (x, _) in sums.items() if dst in (index, x)]:
                    del sums[index]
            if ins.op == ir.ADD and ins.size == 8 and isinstance(ins.b, Imm) and type(ins.a) is int and ins.a != dst:
                constant = signed(ins.b.value & MASK64)
                if func.vregs[dst] == ir.SCALAR and -0x4000 <= constant <= 0x4000:
                    if reads is None:
                        reads = Registers(func).reads
                    if reads[dst] == 1:
                        sums[dst] = (ins.a, constant)
        block.ins = out
    return changed


def _indexes(ins: Ins, func: Function) -> bool:
    """Whether an addition makes an address of a base and a register."""
    return type(ins.b) is int and ins.dst is not None and func.vregs[ins.dst] == ir.POINTER
