"""Between which bounds the numbers in virtual registers lie, at every place of a function in machine instructions.

An interval each for the value as an unsigned and as a signed number, as the
verifier has them. Spilling asks: kernels before 6.8 learn nothing about the number
in the frame when its copy in a register is compared.
"""

from __future__ import annotations

from pybpf.asm.opcodes import (
    BPF_ADD,
    BPF_ALU,
    BPF_ALU64,
    BPF_AND,
    BPF_ARSH,
    BPF_JEQ,
    BPF_JGE,
    BPF_JGT,
    BPF_JLE,
    BPF_JLT,
    BPF_JMP,
    BPF_JNE,
    BPF_JSGE,
    BPF_JSGT,
    BPF_JSLE,
    BPF_JSLT,
    BPF_LDX,
    BPF_LSH,
    BPF_MEM,
    BPF_MOV,
    BPF_RSH,
    BPF_SUB,
    BPF_X,
    LD_IMM64,
    OPPOSITE,
    SIZE_BYTES,
)
from pybpf.lang.fold import MASK64, signed
from pybpf.lang.mir import MBlock, MFunction, MIns

_TOP = 1 << 63
_WORD = 0xFFFF_FFFF
_WIDEN = 6  # visits to a block, after which what still moves is taken for unbounded

Range = tuple[int, int, int, int]  # least and greatest as an unsigned number, the same as a signed one
ANY: Range = (0, MASK64, -_TOP, _TOP - 1)
State = dict[int, Range]  # registers of which something is known


def entry_ranges(func: MFunction, known_unequal: bool = True) -> dict[MBlock, State]:
    """What is known at the start of each block that can be reached.

    Without ``known_unequal`` only what all verifiers know: from ``!=`` they learn since 6.8.
    """
    order = {block: i for i, block in enumerate(func.blocks)}
    entries: dict[MBlock, State] = {func.blocks[0]: {}}
    visits = dict.fromkeys(func.blocks, 0)
    work = {0}
    while work:
        index = min(work)
        work.discard(index)
        block = func.blocks[index]
        visits[block] += 1
        state = dict(entries[block])
        for ins in block.ins:
            step(state, ins)
        for taken, target in enumerate(reversed(block.successors())):
            there = state
            if block.test is not None:
                there = _learn(state, block.test, bool(taken), known_unequal)
            old = entries.get(target)
            new = there if old is None else _meet(old, there, visits[target] > _WIDEN)
            if new != old:
                entries[target] = new
                work.add(order[target])
    return entries


def _meet(a: State, b: State, widen: bool) -> State:
    found = {}
    for register, one in a.items():
        other = b.get(register)
        if other is None:
            continue
        both = min(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), max(one[3], other[3])
        if widen and both != one:
            continue
        if both != ANY:
            found[register] = both
    return found


def step(state: State, ins: MIns) -> None:
    """Bring ``state`` from before an instruction to behind it."""
    writes = ins.writes()
    if not writes:
        return
    result = _result(state, ins)
    while writes:
        low = writes & -writes
        state.pop(low.bit_length() - 1, None)
        writes ^= low
    if result is not None and result != ANY:
        state[ins.dst] = result


def _result(state: State, ins: MIns) -> Range | None:
    """The range of what an instruction puts into its ``dst``."""
    kind = ins.op & 0x07
    if kind == BPF_LDX:
        size = SIZE_BYTES[ins.op & 0x18]
        return _within(0, (1 << 8 * size) - 1) if ins.op & 0xE0 == BPF_MEM and size < 8 else None
    if ins.ref is not None or (kind not in (BPF_ALU, BPF_ALU64) and ins.op != LD_IMM64):
        return None
    if ins.op == LD_IMM64:
        return _exactly(ins.imm)
    result = _arithmetic(state, ins)
    if kind == BPF_ALU and (result is None or result[1] > _WORD):
        return _within(0, _WORD)
    return result


def _arithmetic(state: State, ins: MIns) -> Range | None:
    op = ins.op & 0xF0
    narrow = ins.op & 0x07 == BPF_ALU
    if ins.op & BPF_X:
        value = state.get(ins.src)
        if op == BPF_MOV:
            return value
        if op == BPF_AND and value is not None:
            return _within(0, min(value[1], state.get(ins.dst, ANY)[1]))
        return None
    imm = ins.imm & (_WORD if narrow else MASK64)
    if op == BPF_MOV:
        return _exactly(imm)
    low, high, least, most = state.get(ins.dst, ANY)
    if op == BPF_AND:
        return _within(0, min(high, imm))
    if narrow and high > _WORD:
        low, high = 0, _WORD
    if op == BPF_RSH:
        return _within(low >> imm, high >> imm)
    if op == BPF_LSH and high << imm <= MASK64:
        return _within(low << imm, high << imm)
    if op == BPF_ARSH and not narrow:
        return _signed_within(least >> imm, most >> imm)
    if op in (BPF_ADD, BPF_SUB):
        change = ins.imm if op == BPF_ADD else -ins.imm
        if low + change >= 0 and high + change <= MASK64:
            return _within(low + change, high + change)
        if not narrow and least + change >= -_TOP and most + change < _TOP:
            return _signed_within(least + change, most + change)
    return None


def _exactly(value: int) -> Range:
    value &= MASK64
    return value, value, signed(value), signed(value)


def _within(low: int, high: int) -> Range:
    """The range of unsigned bounds."""
    return (low, high, low, high) if high < _TOP else (low, high, -_TOP, _TOP - 1)


def _signed_within(least: int, most: int) -> Range:
    """The range of signed bounds."""
    return (least, most, least, most) if least >= 0 else (0, MASK64, least, most)


def _learn(state: State, test: MIns, taken: bool, known_unequal: bool) -> State:
    """What is known when ``test`` went one way."""
    if test.op & BPF_X:
        return state
    op = test.op & 0xF0
    if not taken:
        opposite = OPPOSITE.get(op)
        if opposite is None:
            return state
        op = opposite
    before = state.get(test.dst, ANY)
    bits = 64 if test.op & 0x07 == BPF_JMP else 32
    if bits == 32 and before[1] >= _TOP >> 32:
        return state  # a comparison of the low half says nothing of the whole, or its sign is another
    low, high, least, most = before
    unsigned, number = test.imm & (1 << bits) - 1, signed(test.imm, bits)
    if op == BPF_JEQ:
        low, high, least, most = max(low, unsigned), min(high, unsigned), max(least, number), min(most, number)
    elif op == BPF_JNE:
        low += known_unequal and low == unsigned
    elif op in (BPF_JGT, BPF_JGE):
        low = max(low, unsigned + (op == BPF_JGT))
    elif op in (BPF_JLT, BPF_JLE):
        high = min(high, unsigned - (op == BPF_JLT))
    elif op in (BPF_JSGT, BPF_JSGE):
        least = max(least, number + (op == BPF_JSGT))
    elif op in (BPF_JSLT, BPF_JSLE):
        most = min(most, number - (op == BPF_JSLT))
    if least >= 0:
        low, high = max(low, least), min(high, most)
    if high < _TOP:
        least, most = max(least, low), min(most, high)
    if low > high or least > most:
        return state  # never happens: nothing to gain
    return {**state, test.dst: (low, high, least, most)}
