"""Machine instructions before they have machine registers.

The shape of an instruction is that of its encoding (opcode, dst, src, off, imm),
but the register numbers 11 and up are virtual. Control flow stays in the
blocks: a block ends in a conditional jump, in an unconditional one or in exit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from pybpf.asm.opcodes import (
    BPF_ALU,
    BPF_ALU64,
    BPF_ATOMIC,
    BPF_CMPXCHG,
    BPF_END,
    BPF_FETCH,
    BPF_JMP,
    BPF_JMP32,
    BPF_LD,
    BPF_LDX,
    BPF_MOV,
    BPF_NEG,
    BPF_ST,
    BPF_STX,
    BPF_X,
    CALL,
)
from pybpf.lang.ir import Loc

FIRST_VIRTUAL = 11
_NOT_FRAME = ~(1 << 10)
FRAME_ADDRESS = 0x100  # pseudo opcode: dst = r10 + imm; two instructions in the end
MOVE = BPF_ALU64 | BPF_MOV | BPF_X
MOVE_IMM = BPF_ALU64 | BPF_MOV
MOVE32_IMM = BPF_ALU | BPF_MOV
ALLOCATABLE = 0x3FF  # r0 to r9
CLOBBERED = 0x3F  # by calls: r0 to r5

# What an instruction does with its registers.
READS_DST, WRITES_DST, READS_SRC, WRITES_SRC, CALLS = 1, 2, 4, 8, 16
EXCHANGES = 32  # reads and writes r0


def _flags_of(op: int) -> int:
    if op == FRAME_ADDRESS:
        return WRITES_DST
    kind = op & 0x07
    if kind in (BPF_ALU, BPF_ALU64):
        code = op & 0xF0
        if code == BPF_MOV:
            return WRITES_DST | (READS_SRC if op & BPF_X else 0)
        if code in (BPF_NEG, BPF_END):
            return READS_DST | WRITES_DST
        return READS_DST | WRITES_DST | (READS_SRC if op & BPF_X else 0)
    if kind == BPF_LD:
        return WRITES_DST
    if kind == BPF_LDX:
        return WRITES_DST | READS_SRC
    if kind == BPF_ST:
        return READS_DST
    if kind == BPF_STX:
        return READS_DST | READS_SRC
    if op == CALL:
        return CALLS
    assert kind in (BPF_JMP, BPF_JMP32)
    return READS_DST | (READS_SRC if op & BPF_X else 0)


_FLAGS = [_flags_of(op) for op in range(FRAME_ADDRESS + 1)]


def _atomic_flags(imm: int) -> int:
    """What an atomic operation does besides."""
    if imm == BPF_CMPXCHG:
        return EXCHANGES
    return WRITES_SRC if imm & BPF_FETCH else 0


class MIns:
    """One machine instruction; ``ref`` is a symbol to be relocated, ``nargs`` the argument registers a call reads."""

    __slots__ = ("dst", "flags", "imm", "loc", "nargs", "off", "op", "ref", "src")

    def __init__(
        self,
        op: int,
        dst: int = 0,
        src: int = 0,
        off: int = 0,
        imm: int = 0,
        ref: object = None,
        loc: Loc | None = None,
        nargs: int = 0,
    ) -> None:
        self.op = op
        self.dst = dst
        self.src = src
        self.off = off
        self.imm = imm
        self.ref = ref
        self.loc = loc
        self.nargs = nargs
        self.flags = _FLAGS[op]
        if op & 0xE7 == BPF_STX | BPF_ATOMIC:
            self.flags |= _atomic_flags(imm)

    def __repr__(self) -> str:
        return f"MIns({self.op:#x}, dst={self.dst}, src={self.src}, off={self.off}, imm={self.imm}, ref={self.ref!r})"

    def copy(self) -> MIns:
        """A new instruction with the same fields."""
        return MIns(self.op, self.dst, self.src, self.off, self.imm, self.ref, self.loc, self.nargs)

    def key(self) -> tuple[object, ...]:
        """Equal for instructions that encode the same."""
        ref = self.ref if self.ref is None or isinstance(self.ref, (str, tuple)) else id(self.ref)
        return self.op, self.dst, self.src, self.off, self.imm, ref, self.nargs

    @property
    def slots(self) -> int:
        """How many 8-byte slots it will take."""
        return 2 if self.op in (0x18, FRAME_ADDRESS) else 1

    def effects(self) -> tuple[int, int]:
        """The registers read and those written, as bit sets; r10 is left out."""
        flags = self.flags
        # Most instructions set a register, by another one, by none or by what it holds.
        if flags == WRITES_DST | READS_SRC:
            return 1 << self.src & _NOT_FRAME, 1 << self.dst
        if flags == WRITES_DST:
            return 0, 1 << self.dst
        if flags == WRITES_DST | READS_DST:
            return 1 << self.dst, 1 << self.dst
        if flags & CALLS:
            return (2 << self.nargs) - 2, CLOBBERED
        dst, src = 1 << self.dst, 1 << self.src
        reads = (dst if flags & READS_DST else 0) | (src if flags & READS_SRC else 0)
        writes = (dst if flags & WRITES_DST else 0) | (src if flags & WRITES_SRC else 0)
        if flags & EXCHANGES:
            return reads & _NOT_FRAME | 1, writes | 1
        return reads & _NOT_FRAME, writes

    def writes(self) -> int:
        """The registers written, as a bit set."""
        return self.effects()[1]


class MBlock:
    """A basic block: ``ins``, then ``test`` (a conditional jump to ``then``, else to ``els``) or a plain way out.

    Without a test: a jump to ``then``, or exit when that is None.
    """

    __slots__ = ("depth", "els", "exit_loc", "ins", "name", "test", "then")

    def __init__(self, name: str, depth: int = 0) -> None:
        self.name = name
        self.depth = depth
        self.ins: list[MIns] = []
        self.test: MIns | None = None
        self.then: MBlock | None = None
        self.els: MBlock | None = None
        self.exit_loc: Loc | None = None

    def successors(self) -> list[MBlock]:
        """The blocks control can go to, `then` first."""
        if self.then is None:
            return []
        return [self.then] if self.els is None else [self.then, self.els]


class MFunction:
    """A function in machine instructions. ``pointer`` and ``bounded`` are sets of virtual registers:

    those that hold pointers, and scalars that become part of an address or are a size, whose
    bounds the verifier must not lose. Both are for spilling, so ``classify`` is called for them when that comes up.
    ``frame`` is the depth of the frame used so far.
    """

    def __init__(self, classify: Callable[[], tuple[set[int], set[int]]]) -> None:
        self.blocks: list[MBlock] = []
        self.count = FIRST_VIRTUAL
        self.frame = 0
        self.spill_slots: dict[int, bool] = {}  # offset from r10 -> whether it holds pointers
        self._classify = classify

    @cached_property
    def _classes(self) -> tuple[set[int], set[int]]:
        return self._classify()

    @property
    def pointer(self) -> set[int]:
        """The registers that hold pointers."""
        return self._classes[0]

    @property
    def bounded(self) -> set[int]:
        """The registers that hold scalars whose bounds matter."""
        return self._classes[1]

    def new(self) -> int:
        """A new virtual register."""
        self.count += 1
        return self.count - 1


class MLiveness:
    """The registers live at the end of each block, before its test (whose registers are included).

    ``effects`` keeps what was asked of the instructions on the way: what each reads and
    writes, from a block's last one to its first.
    """

    __slots__ = ("at_end", "effects")

    def __init__(self, blocks: list[MBlock]) -> None:
        self.at_end: dict[MBlock, int] = {}
        self.effects: dict[MBlock, list[tuple[int, int]]] = {}
        at_end = self.at_end
        at_start: dict[MBlock, int] = {}
        reads: dict[MBlock, int] = {}
        passed: dict[MBlock, int] = {}  # what a block leaves alone
        loops = False
        # From the end, so that where blocks are in reverse post-order only loops need another turn.
        for block in reversed(blocks):
            read = written = 0
            effects = self.effects[block] = [ins.effects() for ins in reversed(block.ins)]
            for reading, writing in effects:
                written |= writing
                read = read & ~writing | reading
            reads[block], passed[block] = read, ~written
            if block.then is None:
                out = 1  # exit returns r0
            else:
                out = 0 if block.test is None else block.test.effects()[0]
                for target in (block.then, block.els):
                    if target in at_start:
                        out |= at_start[target]
                    elif target is not None:
                        loops = True
            at_end[block] = out
            at_start[block] = read | out & ~written
        while loops:
            loops = False
            for block in reversed(blocks):
                out = at_end[block]
                for target in block.successors():
                    out |= at_start[target]
                if out != at_end[block]:
                    at_end[block] = out
                    start = reads[block] | out & passed[block]
                    if start != at_start[block]:
                        at_start[block] = start
                        loops = True
