"""Bounds of quotients and remainders, shown to verifiers, which know nothing of either.

``for i in range(n % 10)`` ends after nine passes at most. The verifier takes the remainder for
any number and follows the loop until it gives up; a mask tells it where to stop.
"""

from __future__ import annotations

from pybpf.lang import ir
from pybpf.lang.cfg import loop_depths, uses
from pybpf.lang.ir import Function, Imm, Ins
from pybpf.lang.widths import Widths

_UNFOLLOWED = (ir.DIV, ir.MOD)
_MOST = 13  # bits: after 8192 jumps in a row verifiers give up (BPF_COMPLEXITY_LIMIT_JMP_SEQ)


def show_bounds(func: Function) -> None:
    """Mask the quotients and remainders that the tests of loops depend on."""
    if not any(ins.op in _UNFOLLOWED for block in func.blocks for ins in block.ins):
        return
    tested = _tested_in_loops(func)
    if not tested:
        return
    widths = Widths(func).true
    for block in func.blocks:
        code: list[Ins] = []
        for ins in block.ins:
            code.append(ins)
            dst = ins.dst
            if ins.op in _UNFOLLOWED and dst in tested and widths[dst] <= _MOST:
                code.append(Ins(ir.AND, dst=dst, a=dst, b=Imm((1 << widths[dst]) - 1), loc=ins.loc))
        block.ins = code


def _tested_in_loops(func: Function) -> set[int]:
    """The registers that branches in loops compare, and what those are made of."""
    depths = loop_depths(func.blocks)
    work = [vreg for block in func.blocks if depths[block] for vreg in uses(block.ins[-1])]
    found = set(work)
    feeds: dict[int, list[int]] = {}
    for block in func.blocks:
        for ins in block.ins:
            if ins.dst is not None and ins.op != ir.LOAD and ins.op not in ir.CALLS:
                feeds.setdefault(ins.dst, []).extend(uses(ins))
    while work:
        for vreg in feeds.get(work.pop(), ()):
            if vreg not in found:
                found.add(vreg)
                work.append(vreg)
    return found
