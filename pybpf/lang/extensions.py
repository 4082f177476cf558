"""Extensions that the ranges of numbers show to change nothing.

``w: u16``, ``while w < 10: w += 1`` cuts what it adds up to 16 bits in each pass. The verifier takes
the bounds of a masked number from the mask alone, so that every pass would look like the one before it:
a loop without an end. What a test has shown needs no mask, and without one each pass is seen to come nearer the end.

Only what kernels since 5.10 see for themselves is left out, so what proves an access stays proved.
"""

from __future__ import annotations

from pybpf.asm.opcodes import BPF_ALU, BPF_ALU64, BPF_AND, BPF_ARSH, BPF_LSH, BPF_MOV, BPF_X
from pybpf.lang.mir import MOVE, MFunction, MIns
from pybpf.lang.ranges import ANY, State, entry_ranges, step

_MASK = BPF_ALU64 | BPF_AND
_LOW_WORD = BPF_ALU | BPF_MOV | BPF_X
_UP, _DOWN = BPF_ALU64 | BPF_LSH, BPF_ALU64 | BPF_ARSH
_WIDTHS = (0xFF, 0xFFFF)  # masks that are extensions
_WORD = 0xFFFF_FFFF


def drop_extensions(func: MFunction) -> None:
    """Leave out the extensions in loops that change nothing."""
    loops = [block for block in func.blocks if block.depth]
    if not any(_extends(ins) for block in loops for ins in block.ins):
        return
    entries = entry_ranges(func, known_unequal=False)
    for block in loops:
        state = entries.get(block)
        if state is not None:
            block.ins = _kept(block.ins, dict(state))


def _extends(ins: MIns) -> bool:
    if ins.op == _MASK:
        return ins.imm in _WIDTHS and ins.ref is None
    return ins.op in (_LOW_WORD, _DOWN) and ins.ref is None


def _kept(code: list[MIns], state: State) -> list[MIns]:
    """``code`` without what changes nothing, given what is known before it."""
    kept: list[MIns] = []
    before = ANY  # of the register that the last instruction shifted up
    for ins in code:
        source = ins.src if ins.op == _LOW_WORD else ins.dst
        known = state.get(source, ANY)
        if _extends(ins) and _is_idle(ins, known[1]):
            if ins.op == _LOW_WORD:
                ins = MIns(MOVE, ins.dst, ins.src, loc=ins.loc)
            else:
                continue
        elif ins.op == _DOWN and kept and _is_pair(kept[-1], ins):
            half = 1 << 63 - ins.imm
            if -half <= before[2] and before[3] < half:
                kept.pop()
                state[ins.dst], before = before, ANY
                continue
        before = known
        step(state, ins)
        kept.append(ins)
    return kept


def _is_idle(ins: MIns, greatest: int) -> bool:
    """Whether a zero extension of a number up to ``greatest`` changes nothing."""
    if ins.op == _LOW_WORD:
        return greatest <= _WORD
    return ins.op == _MASK and greatest <= ins.imm


def _is_pair(first: MIns, second: MIns) -> bool:
    """Whether two shifts are a sign extension."""
    return first.op == _UP and first.dst == second.dst and first.imm == second.imm and first.ref is second.ref is None
