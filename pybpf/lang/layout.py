"""From allocated blocks to code: clean-up of machine code, block order, jumps, relocations and line table."""

from __future__ import annotations

from pybpf.asm.assembler import Assembler, Label
from pybpf.asm.insn import Insn
from pybpf.asm.opcodes import (
    BPF_ADD,
    BPF_ALU64,
    BPF_MOV,
    BPF_REG_FP,
    BPF_X,
    EXIT,
    OPPOSITE,
)
from pybpf.lang.ir import Core, Function, Loc
from pybpf.lang.mir import FRAME_ADDRESS, MBlock, MFunction, MIns
from pybpf.object.spec import RELOC_CALL, RELOC_DATA, RELOC_FUNC, RELOC_KFUNC, RELOC_KSYM, RELOC_MAP, Reloc
from pybpf.object.unit import CodeUnit

_KINDS = {
    "map": RELOC_MAP,
    "data": RELOC_DATA,
    "call": RELOC_CALL,
    "func": RELOC_FUNC,
    "ksym": RELOC_KSYM,
    "kfunc": RELOC_KFUNC,
}


def order_blocks(func: MFunction) -> list[MBlock]:
    """The blocks in the order to lay them out.

    Chains of blocks that fall into each other are formed first, plain jumps before
    branches (a jump saved is an instruction saved, a branch needs one of its two
    ways to be next), inner loops first; the chains follow each other in reverse
    post-order.
    """
    blocks = func.blocks
    edges: list[tuple[int, int, int, MBlock, MBlock]] = []
    for index, block in enumerate(blocks):
        if block.els is None:
            if block.then is not None:
                edges.append((0, -min(block.depth, block.then.depth), index, block, block.then))
        else:
            assert block.then is not None
            edges.append((1, -block.depth, 2 * index, block, block.els))
            edges.append((1, -block.depth, 2 * index + 1, block, block.then))
    edges.sort(key=lambda edge: edge[:3])
    after: dict[MBlock, MBlock] = {}
    head = {block: block for block in blocks}  # of the chain a block is the last of
    tail = {block: block for block in blocks}  # of the chain a block is the first of
    entered = {blocks[0]}
    for _, _, _, source, target in edges:
        if source in after or target in entered or head[source] is target:
            continue
        after[source] = target
        entered.add(target)
        first, last = head[source], tail[target]
        head[last], tail[first] = first, last
    result: list[MBlock] = []
    for block in blocks:
        if block is blocks[0] or block not in entered:
            walk: MBlock | None = block
            while walk is not None:
                result.append(walk)
                walk = after.get(walk)
    return result


def emit(source: Function, func: MFunction) -> CodeUnit:
    """Encode ``func`` and collect its relocations and line table."""
    writer = _Writer()
    order = order_blocks(func)
    rising = _falls_back(order)
    labels = {block: Label(block.name) for block in order}
    for index, block in enumerate(order):
        following = order[index + 1] if index + 1 < len(order) else None
        writer.asm.place(labels[block])
        for ins in block.ins:
            writer.write(ins)
        _leave(writer, block, None if block in rising else following, labels)
    unit = CodeUnit(source.name, source.section, writer.asm.code(), func.frame)
    for number, ref, off in writer.refs:
        slot = writer.asm.slot(number)
        if isinstance(ref, Core):
            unit.cores.append((slot, ref))
        else:
            assert isinstance(ref, tuple)
            unit.relocs.append(Reloc(slot, _KINDS[ref[0]], ref[1], off))
    unit.lines = _line_table(writer, source.loc)
    return unit


def _falls_back(order: list[MBlock]) -> set[MBlock]:
    """The blocks that end a loop by running into its head, without a jump.

    Kernels before 6.7 take a way back for a loop only if it is a jump: of any other
    instruction check_cfg() in kernel/bpf/verifier.c says "back-edge". What is a way
    back depends on the order of its search, which is followed here: what comes next
    before what is jumped to. A jump by 0 will do, and is removed once verified.
    """
    if not any(block.depth for block in order):
        return set()  # no loops
    after = dict(zip(order, order[1:]))
    if not any(block.test is None and block.then is after.get(block) and block.then is not None for block in order):
        return set()
    found: set[MBlock] = set()
    open_blocks = {order[0]}
    seen = {order[0]}
    stack = [(order[0], iter(_ways(order[0], after)))]
    while stack:
        block, ways = stack[-1]
        for target in ways:
            if target in open_blocks and block.test is None and after.get(block) is target:
                found.add(block)
            if target not in seen:
                seen.add(target)
                open_blocks.add(target)
                stack.append((target, iter(_ways(target, after))))
                break
        else:
            open_blocks.discard(block)
            stack.pop()
    return found


def _ways(block: MBlock, after: dict[MBlock, MBlock]) -> list[MBlock]:
    """Where a block leads, what it falls into first."""
    ways = block.successors()
    if len(ways) == 2 and ways[0] is not after.get(block):
        ways.reverse()
    return ways


def _leave(writer: _Writer, block: MBlock, following: MBlock | None, labels: dict[MBlock, Label]) -> None:
    """The jumps at the end of a block, none towards the block that follows."""
    test = block.test
    if test is None:
        if block.then is None:
            writer.line(block.exit_loc)
            writer.asm.emit(Insn(EXIT))
        elif block.then is not following:
            writer.line(block.exit_loc)
            writer.asm.goto(labels[block.then])
        return
    assert block.then is not None
    assert block.els is not None
    op, then, els = test.op, block.then, block.els
    opposite = OPPOSITE.get(op & 0xF0)
    if then is following and opposite is not None:
        op, then, els = op & 0x0F | opposite, els, then
    writer.line(test.loc)
    writer.asm.jump(Insn(op, test.dst, test.src, 0, test.imm), labels[then])
    if els is not following:
        writer.asm.goto(labels[els])


class _Writer:
    """An assembler that also remembers which instruction refers to what and comes from where."""

    def __init__(self) -> None:
        self.asm = Assembler()
        self.refs: list[tuple[int, object, int]] = []
        self.lines: list[tuple[int, Loc]] = []
        self.loc: Loc | None = None  # the last of these

    def line(self, loc: Loc | None) -> None:
        """The next instruction comes from ``loc``."""
        last = self.loc
        if loc is None or loc is last:
            return
        if last is not None:
            if (last.line, last.col, last.path) == (loc.line, loc.col, loc.path):
                return
            if self.lines[-1][0] == len(self.asm):
                self.lines.pop()
        self.lines.append((len(self.asm), loc))
        self.loc = loc

    def write(self, ins: MIns) -> None:
        """Append one instruction."""
        if ins.loc is not self.loc:
            self.line(ins.loc)
        if ins.op == FRAME_ADDRESS:
            self.asm.emit(Insn(BPF_ALU64 | BPF_MOV | BPF_X, ins.dst, BPF_REG_FP))
            self.asm.emit(Insn(BPF_ALU64 | BPF_ADD, ins.dst, imm=ins.imm))
            return
        if ins.ref is not None:
            # Of a reference into data the immediate is the offset, and what the loader adds.
            self.refs.append(
                (len(self.asm), ins.ref, ins.imm if isinstance(ins.ref, tuple) and ins.ref[0] == "data" else 0)
            )
        self.asm.emit(Insn(ins.op, ins.dst, ins.src, ins.off, ins.imm))


def _line_table(writer: _Writer, start: Loc | None) -> list[tuple[int, Loc]]:
    """Slots and places; the kernel wants the first slot to have one."""
    lines = [(writer.asm.slot(number), loc) for number, loc in writer.lines]
    if (not lines or lines[0][0] > 0) and (start is not None or lines):
        first = start if start is not None else lines[0][1]
        if lines and first is lines[0][1]:
            lines[0] = (0, first)
        else:
            lines.insert(0, (0, first))
    return lines
