"""Bounds of numbers that loops are tested against, shown to verifiers that do not see them.

``for i in range(n % 10)`` ends after nine passes at most. The verifier takes a remainder, a quotient and
what was shifted by an unknown count for any number and follows the loop until it gives up; a mask tells
it where to stop.

A counter keeps the bounds that it has: since 6.8 verifiers learn from ``if w & 255`` what the low bits are, and where
that contradicts the bounds, on a way that is never taken, they forget both and follow the loop with any number.
"""

from __future__ import annotations

from pybpf.lang import ir
from pybpf.lang.cfg import loop_depths
from pybpf.lang.ir import Function, Imm, Ins
from pybpf.lang.widths import forgotten_results, is_forgotten, true_widths

_ORDERS = frozenset(("gt", "ge", "lt", "le", "sgt", "sge", "slt", "sle"))
_MOST = 13  # bits: after 8192 jumps in a row verifiers give up (BPF_COMPLEXITY_LIMIT_JMP_SEQ)


def show_bounds(func: Function) -> None:
    """Mask what the tests of loops depend on and verifiers do not follow."""
    _spare_counters(func)
    if not forgotten_results(func):
        return
    tested = _tested_in_loops(func)
    if not tested:
        return
    widths = true_widths(func)
    for block in func.blocks:
        code: list[Ins] = []
        for ins in block.ins:
            code.append(ins)
            dst = ins.dst
            if dst in tested and widths[dst] <= _MOST and is_forgotten(ins):
                code.append(Ins(ir.AND, dst=dst, a=dst, b=Imm((1 << widths[dst]) - 1), loc=ins.loc))
        block.ins = code


def _spare_counters(func: Function) -> None:
    """Test the bits of a loop's counter in a copy."""
    tests = [block.ins[-1] for block in func.blocks if block.ins[-1].op == ir.BRANCH]
    bits = [test for test in tests if test.cond == "set" and isinstance(test.b, Imm)]
    if not bits:
        return
    depths = loop_depths(func.blocks)
    tests = [block.ins[-1] for block in func.blocks if depths[block] and block.ins[-1].op == ir.BRANCH]
    counters = {vreg for test in tests if test.cond in _ORDERS for vreg in test.reads}
    for block in func.blocks:
        test = block.ins[-1]
        if depths[block] and test in bits and test.a in counters:
            copy = func.vreg()
            block.ins.insert(-1, Ins(ir.AND, dst=copy, a=test.a, b=test.b, size=test.size, loc=test.loc))
            test.set_operands(copy, Imm(0))
            test.cond, test.size = "ne", 8


def _tested_in_loops(func: Function) -> set[int]:
    """The registers that branches in loops compare, and what those are made of."""
    depths = loop_depths(func.blocks)
    work = [vreg for block in func.blocks if depths[block] for vreg in block.ins[-1].reads]
    found = set(work)
    feeds: dict[int, list[int]] = {}
    for block in func.blocks:
        for ins in block.ins:
            if ins.dst is not None and ins.op != ir.LOAD and ins.op not in ir.CALLS:
                feeds.setdefault(ins.dst, []).extend(ins.reads)
    while work:
        for vreg in feeds.get(work.pop(), ()):
            if vreg not in found:
                found.add(vreg)
                work.append(vreg)
    return found
