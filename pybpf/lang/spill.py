"""Values that find no register: made again where they are needed, or kept in the frame.

A constant or an address is computed again at each use. Any other value gets a
slot of 8 bytes, whole words being what the verifier tracks, of its own as long as the
frame is not half full; then values of one kind that are never needed at the same
time share. Pointers and numbers never do: kernels have stumbled over slots that held both.

Numbers whose bounds prove an access safe are spilled last of all. One that is gets its
bounds again with each reload: before Linux 6.8 the number in the frame does not learn what
a test of its copy in a register says, and 5.8 keeps no bounds in the frame at all.
"""

from __future__ import annotations

from pybpf.asm.opcodes import (
    BPF_ADD,
    BPF_ALU64,
    BPF_AND,
    BPF_DW,
    BPF_JLE,
    BPF_JMP,
    BPF_LDX,
    BPF_MEM,
    BPF_REG_FP,
    BPF_STX,
    LD_IMM64,
    MAX_BPF_STACK,
)
from pybpf.lang.ir import Loc
from pybpf.lang.mir import (
    FIRST_VIRTUAL,
    FRAME_ADDRESS,
    MOVE,
    MOVE32_IMM,
    MOVE_IMM,
    READS_DST,
    READS_SRC,
    WRITES_DST,
    WRITES_SRC,
    MBlock,
    MFunction,
    MIns,
)
from pybpf.lang.ranges import ANY, Range, entry_ranges, step

_CONSTANTS = frozenset((MOVE_IMM, MOVE32_IMM, LD_IMM64, FRAME_ADDRESS))
_LOAD = BPF_LDX | BPF_MEM | BPF_DW
_STORE = BPF_STX | BPF_MEM | BPF_DW
_HALF = MAX_BPF_STACK // 2  # a frame over this shares slots: a caller and what it calls must fit together
_GREATEST = 0x7FFF_FFFF  # what is not below proves no access


def constants(func: MFunction) -> dict[int, MIns]:
    """The virtual registers that always hold the same constant or address, with an instruction that makes it."""
    found: dict[int, MIns] = {}
    refused: set[int] = set()
    for block in func.blocks:
        for ins in block.ins:
            writes = ins.writes() >> FIRST_VIRTUAL << FIRST_VIRTUAL
            if not writes:
                continue
            register = writes.bit_length() - 1
            first = found.get(register)
            if ins.op not in _CONSTANTS or (first is not None and first.key() != ins.key()):
                refused.add(register)
            else:
                found[register] = ins
    return {register: ins for register, ins in found.items() if register not in refused}


def join(func: MFunction, groups: dict[int, list[int]]) -> None:
    """Carry out the coalescing of what is about to be spilled, so that moves do not become copies in memory."""
    alias = {member: register for register, members in groups.items() for member in members}
    if not alias:
        return
    for register, members in groups.items():
        for kinds in (func.pointer, func.bounded):
            if not kinds.isdisjoint(members):
                kinds.add(register)
    for block in func.blocks:
        kept = []
        for ins in block.ins:
            ins.dst, ins.src = alias.get(ins.dst, ins.dst), alias.get(ins.src, ins.src)
            if ins.op != MOVE or ins.dst != ins.src:
                kept.append(ins)
        block.ins = kept
        test = block.test
        if test is not None:
            test.dst, test.src = alias.get(test.dst, test.dst), alias.get(test.src, test.src)


def spill(func: MFunction, registers: list[int], temporary: set[int]) -> None:
    """Give every use of the registers a register of its own, filled right before and saved right after."""
    _Spilling(func, registers, temporary).run()


class _Spilling:
    def __init__(self, func: MFunction, registers: list[int], temporary: set[int]) -> None:
        self.func = func
        self.temporary = temporary
        self.wanted = set(registers)
        self.known = constants(func)
        self.slots: dict[int, int] = {}
        for register in registers:
            if register not in self.known:
                func.frame += 8
                self.slots[register] = -func.frame
                func.spill_slots[-func.frame] = register in func.pointer
        self.clamped = {register for register in self.slots if register in func.bounded}
        self.blocks: list[MBlock] = []
        self.out: list[MIns] = []

    def run(self) -> None:
        entries = entry_ranges(self.func) if self.clamped else {}
        for block in self.func.blocks:
            code, test, then, els, exit_loc = block.ins, block.test, block.then, block.els, block.exit_loc
            state = dict(entries.get(block, {}))
            self._begin(block)
            for ins in code:
                if ins.dst in self.wanted and ins.dst in self.known and ins.flags == WRITES_DST:
                    continue  # made anew where it is used
                ranges = {register: state.get(register, ANY) for register in (ins.dst, ins.src)}
                if self.clamped:
                    step(state, ins)
                self._rewrite(ins, ranges)
            last = self.blocks[-1]
            if test is not None:
                self._rewrite(test, {})
                last.ins.pop()
            last.test, last.then, last.els, last.exit_loc = test, then, els, exit_loc
        self.func.blocks = self.blocks

    def _begin(self, block: MBlock) -> None:
        block.ins = self.out = []
        self.blocks.append(block)

    def _rewrite(self, ins: MIns, ranges: dict[int, Range]) -> None:
        func, flags = self.func, ins.flags
        after: list[MIns] = []
        fresh: dict[int, int] = {}
        filled: set[int] = set()
        for old, reads, writes in (
            (ins.dst, flags & READS_DST, flags & WRITES_DST),
            (ins.src, flags & READS_SRC, flags & WRITES_SRC),
        ):
            if not (reads or writes) or old not in self.wanted:
                continue
            new = fresh.get(old)
            if new is None:
                new = fresh[old] = func.new()
                self.temporary.add(new)
                if old in func.pointer:
                    func.pointer.add(new)
            if reads and new not in filled:
                filled.add(new)
                self._fill(old, new, ranges.get(old, ANY), ins.loc)
            if writes and old in self.slots:
                after.append(MIns(_STORE, BPF_REG_FP, new, self.slots[old], loc=ins.loc))
        if flags & (READS_DST | WRITES_DST):
            ins.dst = fresh.get(ins.dst, ins.dst)
        if flags & (READS_SRC | WRITES_SRC):
            ins.src = fresh.get(ins.src, ins.src)
        self.out.append(ins)
        self.out += after

    def _fill(self, old: int, new: int, bounds: Range, loc: Loc | None) -> None:
        """Bring a spilled value into register ``new``."""
        if old in self.known:
            made = self.known[old].copy()
            made.dst, made.loc = new, loc
            self.out.append(made)
            return
        self.out.append(MIns(_LOAD, new, BPF_REG_FP, self.slots[old], loc=loc))
        low, high = bounds[:2]
        if old in self.clamped and high <= _GREATEST:
            self._clamp(new, low, high, loc)

    def _clamp(self, register: int, low: int, high: int, loc: Loc | None) -> None:
        """Show the verifier that a number lies between ``low`` and ``high``, as it does."""
        if low:
            self.out.append(MIns(BPF_ALU64 | BPF_ADD, register, imm=-low, loc=loc))
        span = high - low
        if span & span + 1 == 0:
            self.out.append(MIns(BPF_ALU64 | BPF_AND, register, imm=span, loc=loc))
        else:
            block = self.blocks[-1]
            fix, rest = (MBlock(f"{block.name}.{what}", block.depth) for what in ("over", "bounded"))
            block.test = MIns(BPF_JMP | BPF_JLE, register, imm=span, loc=loc)
            block.then, block.els, block.exit_loc = rest, fix, None
            self._begin(fix)
            fix.then, fix.exit_loc = rest, loc
            self.out.append(MIns(MOVE_IMM, register, imm=span, loc=loc))
            self._begin(rest)
        if low:
            self.out.append(MIns(BPF_ALU64 | BPF_ADD, register, imm=low, loc=loc))


def share_slots(func: MFunction) -> None:
    """Let spilled values of one kind that are never alive together share a slot, in a frame that is half full."""
    if func.frame <= _HALF or len(func.spill_slots) < 2:
        return
    offsets = sorted(func.spill_slots, reverse=True)
    adjacent = _conflicts(func, {off: index for index, off in enumerate(offsets)})
    places: list[tuple[bool, int]] = []  # whether of pointers, and the values in it as a bit set
    place_of: dict[int, int] = {}
    for index, off in enumerate(offsets):
        pointer = func.spill_slots[off]
        for number, (kind, members) in enumerate(places):
            if kind == pointer and not members & adjacent[index]:
                places[number] = kind, members | 1 << index
                place_of[off] = number
                break
        else:
            place_of[off] = len(places)
            places.append((pointer, 1 << index))
    base = func.frame - 8 * len(offsets)
    for block in func.blocks:
        for ins in block.ins:
            if _slot(ins) in place_of:
                ins.off = -base - 8 * (place_of[ins.off] + 1)
    func.frame = base + 8 * len(places)
    func.spill_slots = {-base - 8 * (number + 1): kind for number, (kind, _) in enumerate(places)}


def _conflicts(func: MFunction, numbers: dict[int, int]) -> list[int]:
    """For each numbered slot those that hold something when it is written, as bit sets."""
    adjacent = [0] * len(numbers)
    starts = dict.fromkeys(func.blocks, 0)
    changed = True
    while changed:
        changed = False
        for block in reversed(func.blocks):
            live = 0
            for target in block.successors():
                live |= starts[target]
            for ins in reversed(block.ins):
                number = numbers.get(_slot(ins), -1)
                if number < 0:
                    continue
                if ins.op == _STORE:
                    live &= ~(1 << number)
                    adjacent[number] |= live
                else:
                    live |= 1 << number
            if live != starts[block]:
                starts[block] = live
                changed = True
    for number, others in enumerate(adjacent):
        while others:
            low = others & -others
            adjacent[low.bit_length() - 1] |= 1 << number
            others ^= low
    return adjacent


def _slot(ins: MIns) -> int:
    """Where in the frame a whole word is stored or loaded; 0 for other instructions."""
    if (ins.op == _LOAD and ins.src == BPF_REG_FP) or (ins.op == _STORE and ins.dst == BPF_REG_FP):
        return ins.off
    return 0
