"""Control flow of IR functions: order, clean-up, liveness, and a copy to work on."""

from __future__ import annotations

from pybpf.lang import ir
from pybpf.lang.ir import Block, Function, Ins

# Instructions without effect other than their result: a dead one can go. A load is
# one too: what it reads is not changed by reading.
PURE = frozenset(
    (
        ir.CONST, ir.MOV, ir.ADD, ir.SUB, ir.MUL, ir.DIV, ir.MOD, ir.AND, ir.OR, ir.XOR, ir.LSH, ir.RSH, ir.ARSH,
        ir.NEG, ir.ZEXT, ir.SEXT, ir.BSWAP, ir.LOAD, ir.FRAME, ir.MAP, ir.DATA, ir.CORE,
        ir.FUNC, ir.KSYM,
    )
)  # fmt: skip


VALUES, FLOW = 1, 2  # what a pass changed: what is computed, where control goes


def clone_ins(ins: Ins) -> Ins:
    """A copy of one instruction (jump targets still the same blocks)."""
    # Past __init__, whose keywords cost more than all else here.
    new = Ins.__new__(Ins)
    new.op, new.dst, new.a, new.b, new.args, new.reads = ins.op, ins.dst, ins.a, ins.b, ins.args, ins.reads
    new.imm, new.off, new.size, new.ref, new.loc = ins.imm, ins.off, ins.size, ins.ref, ins.loc
    new.cond, new.then, new.els = ins.cond, ins.then, ins.els
    return new


def clone(func: Function) -> Function:
    """A copy the passes may change; the front end keeps its own."""
    copy = Function(func.name, func.section, func.nparams)
    copy.vregs = list(func.vregs)
    copy.loc = func.loc
    twins = {block: Block(block.name) for block in func.blocks}
    for block in func.blocks:
        twin = twins[block]
        twin.ins = [clone_ins(ins) for ins in block.ins]
        last = twin.ins[-1]
        if last.then is not None:
            last.then = twins[last.then]
        if last.els is not None:
            last.els = twins[last.els]
        copy.blocks.append(twin)
    return copy


def successors(block: Block) -> list[Block]:
    """Where a block can go: `then` before `els`."""
    last = block.ins[-1]
    if last.op == ir.BRANCH:
        assert last.then is not None
        assert last.els is not None
        return [last.then, last.els]
    return [last.then] if last.then is not None else []


def predecessors(func: Function) -> dict[Block, list[Block]]:
    """The blocks that go to each block; one that can go there both ways is listed once."""
    result: dict[Block, list[Block]] = {block: [] for block in func.blocks}
    for block in func.blocks:
        last = block.ins[-1]
        then, els = last.then, last.els
        if then is not None:
            result[then].append(block)
        if els is not None and els is not then:
            result[els].append(block)
    return result


def postorder(entry: Block) -> list[Block]:
    """Reachable blocks, every block after those it goes to (but for loops)."""
    done: list[Block] = []
    seen = {entry}
    stack = [entry]
    while stack:
        block = stack[-1]
        last = block.ins[-1]
        child = last.then
        if child is None or child in seen:
            child = last.els
            if child is None or child in seen:
                done.append(block)
                stack.pop()
                continue
        seen.add(child)
        stack.append(child)
    return done


def retarget(block: Block, old: Block, new: Block) -> None:
    """Make the block's terminator go to ``new`` wherever it went to ``old``."""
    last = block.ins[-1]
    if last.then is old:
        last.then = new
    if last.els is old:
        last.els = new


def tidy(func: Function) -> bool:
    """Thread jumps through empty blocks, merge blocks that only follow each other, drop unreachable ones.

    Leaves the blocks in reverse post-order; blocks[0] stays the entry and has no
    predecessors (one is put before it when a loop begins there). Returns whether a
    branch went, whose operands nobody may read any more.
    """
    decided = False
    for block in func.blocks:
        last = block.ins[-1]
        then, els = last.then, last.els
        if then is not None and len(then.ins) == 1:
            last.then = _destination(then)
        if els is not None:
            if len(els.ins) == 1:
                last.els = _destination(els)
            if last.then is last.els:
                block.ins[-1] = Ins(ir.JUMP, then=last.then, loc=last.loc)
                decided = True
    func.blocks = postorder(func.blocks[0])[::-1]
    # From how many blocks each is entered. Where one takes in the next, those behind keep their number.
    entered = dict.fromkeys(func.blocks, 0)
    for block in func.blocks:
        last = block.ins[-1]
        if last.then is not None:
            entered[last.then] += 1
        if last.els is not None:
            entered[last.els] += 1
    gone: set[Block] = set()
    for block in func.blocks:
        if block in gone:
            continue
        last = block.ins[-1]
        while last.op == ir.JUMP:
            target = last.then
            assert target is not None
            if target is block or entered[target] != 1 or target is func.blocks[0]:
                break
            block.ins[-1:] = target.ins
            gone.add(target)
            last = block.ins[-1]
    if gone:
        func.blocks = [block for block in func.blocks if block not in gone]
    if entered[func.blocks[0]]:
        entry = Block(f"{func.blocks[0].name}.entry")
        params = [ins for ins in func.blocks[0].ins if ins.op == ir.PARAM]
        func.blocks[0].ins = [ins for ins in func.blocks[0].ins if ins.op != ir.PARAM]
        entry.ins = [*params, Ins(ir.JUMP, then=func.blocks[0], loc=func.blocks[0].ins[0].loc)]
        func.blocks.insert(0, entry)
    return decided


def is_untidy(func: Function) -> bool:
    """Whether a block does nothing but jump on, as tidy() leaves none and other passes may."""
    return any(len(block.ins) == 1 and block.ins[0].op == ir.JUMP for block in func.blocks)


def _destination(block: Block) -> Block:
    """Where a jump to ``block`` ends up, skipping blocks that only jump on."""
    seen = {block}
    while len(block.ins) == 1 and block.ins[0].op == ir.JUMP:
        target = block.ins[0].then
        assert target is not None
        if target in seen:
            break  # an endless empty loop
        seen.add(target)
        block = target
    return block


class Liveness:
    """Live virtual registers as bit sets: at each block's start and end; ``bits`` has every register's bit."""

    def __init__(self, func: Function) -> None:
        reads: dict[Block, int] = {}
        passed: dict[Block, int] = {}
        bits = self.bits = [1 << vreg for vreg in range(len(func.vregs))]
        for block in func.blocks:
            read = written = 0
            for ins in reversed(block.ins):
                dst = ins.dst
                if dst is not None:
                    written |= bits[dst]
                    read &= ~bits[dst]
                for vreg in ins.reads:
                    read |= bits[vreg]
            reads[block], passed[block] = read, ~written
        at_start = self.at_start = live_at_start(func.blocks, reads, passed)
        at_end = self.at_end = dict.fromkeys(func.blocks, 0)
        for block in func.blocks:
            for target in successors(block):
                at_end[block] |= at_start[target]


def live_at_start(blocks: list[Block], reads: dict[Block, int], passed: dict[Block, int]) -> dict[Block, int]:
    """What is live at each block's start, from what it reads before it writes that, and what it leaves alone."""
    found: dict[Block, int] = {}
    again = True
    while again:
        again = False
        # From the end, so that where blocks are in reverse post-order only loops need another turn.
        for block in reversed(blocks):
            last = block.ins[-1]
            out = 0
            for target in (last.then, last.els):
                if target in found:
                    out |= found[target]
                elif target is not None:
                    again = True
            start = reads[block] | out & passed[block]
            if start != found.get(block, start):
                again = True
            found[block] = start
    return found


def has_loops(func: Function) -> bool:
    """Whether a block leads to itself or to one that stands before it."""
    passed: set[Block] = set()
    for block in func.blocks:
        passed.add(block)
        last = block.ins[-1]
        if last.then in passed or last.els in passed:
            return True
    return False


def loop_depths(blocks: list[Block]) -> dict[Block, int]:
    """How many loops each block is in; a loop is what reaches a back edge without its head."""
    depth = dict.fromkeys(blocks, 0)
    back: dict[Block, list[Block]] = {}
    passed: set[Block] = set()
    for block in blocks:
        passed.add(block)
        for target in successors(block):
            if target in passed:
                back.setdefault(target, []).append(block)
    if not back:
        return depth
    preds: dict[Block, list[Block]] = {block: [] for block in blocks}
    for block in blocks:
        for target in successors(block):
            preds[target].append(block)
    for head, tails in back.items():
        body = {head}
        work = list(tails)
        while work:
            block = work.pop()
            if block not in body:
                body.add(block)
                work += preds[block]
        for block in body:
            depth[block] += 1
    return depth
