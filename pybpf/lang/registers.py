"""Which instructions write a register, and how many read it."""

from __future__ import annotations

from pybpf.lang.ir import Function, Ins


def definitions(func: Function) -> list[int]:
    """How many instructions write each virtual register."""
    counts = [0] * len(func.vregs)
    for block in func.blocks:
        for ins in block.ins:
            if ins.dst is not None:
                counts[ins.dst] += 1
    return counts


def only_definitions(func: Function) -> dict[int, Ins]:
    """The instruction that writes each virtual register that is written once.

    Every read is dominated by it (reads of unwritten registers are refused), so
    such a register may be reasoned about as if the code were in SSA form.
    """
    found: dict[int, Ins] = {}
    several: set[int] = set()
    for block in func.blocks:
        for ins in block.ins:
            dst = ins.dst
            if dst is not None:
                if dst in found:
                    several.add(dst)
                else:
                    found[dst] = ins
    for vreg in several:
        del found[vreg]
    return found


class Registers:
    """Writes and reads from one look at the function: ``only`` is what only_definitions() gives.

    ``reads`` says how many operands each register is.
    """

    __slots__ = ("only", "reads", "several")

    def __init__(self, func: Function) -> None:
        self.only: dict[int, Ins] = {}
        self.reads = [0] * len(func.vregs)
        self.several: set[int] = set()  # registers that are written more than once
        only, reads, several = self.only, self.reads, self.several
        for block in func.blocks:
            for ins in block.ins:
                dst = ins.dst
                if dst is not None:
                    if dst in only:
                        several.add(dst)
                    else:
                        only[dst] = ins
                for vreg in ins.reads:
                    reads[vreg] += 1
        for vreg in several:
            del only[vreg]
