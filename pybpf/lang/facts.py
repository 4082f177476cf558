"""Constant propagation over branches, and jump threading with what it learns.

A fact about a virtual register is its value, or that it is not zero. Facts flow
forward through the graph; a branch on equality teaches one to each side. They
fold operations and branches, and let an edge skip a branch whose outcome is
known on that edge (``found = 0 ... if found``).
"""

from __future__ import annotations

from pybpf.lang import ir
from pybpf.lang.cfg import FLOW, VALUES, clone_ins, has_loops, tidy
from pybpf.lang.fold import MASK64, MIRRORED, binary, compare, extend, fits_s32, swap
from pybpf.lang.ir import Block, Function, Imm, Ins

NONZERO = -1  # constants are kept unsigned, so no constant looks like this
Facts = dict[int, int]

_COMMUTES = frozenset((ir.ADD, ir.MUL, ir.AND, ir.OR, ir.XOR))
# What may be folded to a constant.
_FOLDED = ir.BINARY | {ir.MOV, ir.NEG, ir.ZEXT, ir.SEXT, ir.BSWAP}
# What may be known not to be zero without knowing anything of the operand that comes first.
_NONZERO = frozenset((ir.FRAME, ir.MAP, ir.DATA, ir.FUNC, ir.OR))
_TELLS = _FOLDED | _NONZERO | {ir.CONST}
_THREAD_LIMIT = 2  # instructions worth repeating to get rid of a branch


def propagate(func: Function) -> int:
    """Fold what is constant and thread jumps; returns what changed: VALUES, FLOW, both or nothing."""
    # Without loops a block comes behind all that lead to it, and one walk both learns and folds.
    loops = has_loops(func)
    entries = _solve(func) if loops else {func.blocks[0]: {}}
    exits: dict[Block, Facts] = {}
    changed = 0
    for block in func.blocks:
        if block not in entries:
            continue
        facts = dict(entries[block])
        last = block.ins[-1]
        for index, ins in enumerate(block.ins):
            # Where no operand is known only a branch may turn out to be decided: r == r.
            if ins.a in facts or ins.b in facts or ins.args or (ins.op == ir.BRANCH and ins.a == ins.b):
                new = _rewrite(ins, facts, func)
                if new is not ins:
                    changed |= FLOW if new.op == ir.JUMP else VALUES
                    block.ins[index] = ins = new
            if ins.op in _TELLS or ins.dst in facts:
                _apply(ins, facts, func)
        exits[block] = facts
        if not loops:
            for target, there in _edges(last, facts):
                entries[target] = _meet(entries[target], there) if target in entries else there
    if _thread(func, exits):
        changed |= FLOW
    if changed & FLOW:
        tidy(func)
    return changed


def _solve(func: Function) -> dict[Block, Facts]:
    """The facts at the start of every block that can be reached."""
    order = {block: i for i, block in enumerate(func.blocks)}
    entries: dict[Block, Facts] = {func.blocks[0]: {}}
    work = {0}
    while work:
        index = min(work)
        work.discard(index)
        block = func.blocks[index]
        facts = dict(entries[block])
        for ins in block.ins:
            if ins.op in _TELLS or ins.dst in facts:
                _apply(ins, facts, func)
        work.update([order[target] for target in _pass_on(block.ins[-1], facts, entries)])
    return entries


def _pass_on(last: Ins, facts: Facts, entries: dict[Block, Facts]) -> list[Block]:
    """Tell the blocks that ``last`` leads to what is known before it; returns those to whom it is news."""
    told = []
    for target, there in _edges(last, facts):
        old = entries.get(target)
        new = there if old is None else _meet(old, there)
        if old is None or len(new) != len(old) or new != old:
            entries[target] = new
            told.append(target)
    return told


def _meet(a: Facts, b: Facts) -> Facts:
    result = {}
    for vreg, fact in a.items():
        other = b.get(vreg)
        if other is None:
            continue
        if other == fact:
            result[vreg] = fact
        elif fact and other:
            result[vreg] = NONZERO
    return result


def _edges(last: Ins, facts: Facts) -> list[tuple[Block, Facts]]:
    """The blocks that ``last`` leads to when ``facts`` are known, with what is known on the way there."""
    then, els = last.then, last.els
    if then is None:
        return []
    if els is None:
        return [(then, facts)]
    outcome = _outcome(last, facts)
    if outcome is None and (last.size != 8 or last.cond not in ("eq", "ne")):
        return [(then, facts), (els, facts)]  # nothing is learnt
    result = []
    if outcome is not False:
        result.append((then, _learn(last, facts, True)))
    if outcome is not True:
        result.append((els, _learn(last, facts, False)))
    return result


def _learn(branch: Ins, facts: Facts, taken: bool) -> Facts:
    """The facts after ``branch`` went one way."""
    if branch.size != 8 or branch.cond not in ("eq", "ne") or type(branch.a) is not int:
        return facts
    value = _value(branch.b, facts)
    if value is None or value == NONZERO:
        return facts
    if taken == (branch.cond == "eq"):
        return {**facts, branch.a: value}
    if value == 0 and facts.get(branch.a) is None:
        return {**facts, branch.a: NONZERO}
    return facts


def _value(operand: object, facts: Facts) -> int | None:
    if type(operand) is int:
        return facts.get(operand)
    return operand.value & MASK64 if isinstance(operand, Imm) else None


def _outcome(branch: Ins, facts: Facts) -> bool | None:
    """Which way a branch goes, or None when that is not known."""
    a, b = _value(branch.a, facts), _value(branch.b, facts)
    if a is None or b is None:
        return compare(branch.cond, 0, 0, 8) if branch.a == branch.b and branch.cond != "set" else None
    if a == NONZERO or b == NONZERO:
        if branch.size == 8 and branch.cond in ("eq", "ne") and 0 in (a, b):
            return branch.cond == "ne"
        return None
    return compare(branch.cond, a, b, branch.size)


def _apply(ins: Ins, facts: Facts, func: Function) -> None:
    """Update the facts for what ``ins`` writes."""
    dst = ins.dst
    if dst is None:
        return
    op = ins.op
    if op == ir.CONST:
        facts[dst] = ins.imm & MASK64
        return
    fact = _result(ins, facts, func) if op in _NONZERO or (op in _FOLDED and ins.a in facts) else None
    if fact is not None:
        facts[dst] = fact
    elif dst in facts:
        del facts[dst]


def _result(ins: Ins, facts: Facts, func: Function) -> int | None:
    op = ins.op
    if op == ir.CONST:
        return ins.imm & MASK64
    if op in (ir.FRAME, ir.MAP, ir.DATA, ir.FUNC):
        return NONZERO
    a = _value(ins.a, facts)
    if op == ir.MOV:
        return a
    if op in ir.BINARY:
        b = _value(ins.b, facts)
        if op == ir.ADD and a == NONZERO and type(ins.a) is int and func.vregs[ins.a] == ir.POINTER:
            return NONZERO  # a valid pointer plus an offset inside the object
        if op == ir.OR and ins.size == 8 and (a or b):
            return NONZERO if a is None or b is None or NONZERO in (a, b) else a | b
        if a is None or b is None or NONZERO in (a, b):
            return None
        return binary(op, a, b, ins.size)
    if a is None or a == NONZERO:
        return None
    if op == ir.NEG:
        return -a & MASK64
    if op in (ir.ZEXT, ir.SEXT):
        return extend(op, a, ins.size)
    if op == ir.BSWAP:
        return swap(a, ins.size, bool(ins.imm))
    return None


def _rewrite(ins: Ins, facts: Facts, func: Function) -> Ins:
    """``ins`` with known operands as immediates, or folded altogether."""
    if ins.op == ir.BRANCH:
        outcome = _outcome(ins, facts)
        if outcome is not None:
            return Ins(ir.JUMP, then=ins.then if outcome else ins.els, loc=ins.loc)
    elif ins.dst is not None and ins.op in _FOLDED:
        fact = _result(ins, facts, func)
        if fact is not None and fact != NONZERO:
            return Ins(ir.CONST, dst=ins.dst, imm=fact, loc=ins.loc)
    swapped = (ins.op in _COMMUTES or ins.op == ir.BRANCH) and type(ins.b) is int and _known(ins.a, facts) is not None
    if swapped:
        ins = clone_ins(ins)
        ins.set_operands(ins.b, _known(ins.a, facts))
        if ins.op == ir.BRANCH:
            ins.cond = MIRRORED[ins.cond]
    b = _known(ins.b, facts)
    a = _known(ins.a, facts) if ins.op == ir.RET else None
    args = ins.args
    if args:
        args = tuple([_known(arg, facts) or arg for arg in args])
    if b is None and a is None and args == ins.args:
        return ins
    ins = clone_ins(ins)
    ins.set_operands(ins.a if a is None else a, ins.b if b is None else b, args)
    return ins


def _known(operand: object, facts: Facts) -> Imm | None:
    """The immediate to use for a register of known value; wide ones stay where they are, to be loaded once."""
    if type(operand) is not int:
        return None
    value = facts.get(operand)
    if value is None or value == NONZERO or not fits_s32(value):
        return None
    return Imm(value)


def _thread(func: Function, exits: dict[Block, Facts]) -> bool:
    short = {block for block in func.blocks if len(block.ins) <= 1 + _THREAD_LIMIT and block.ins[-1].op == ir.BRANCH}
    changed = False
    for block in list(func.blocks):
        last = block.ins[-1]
        if block not in exits or (last.then not in short and last.els not in short):
            continue
        for target, facts in _edges(last, exits[block]):
            if target not in short:
                continue
            way = _way_through(target, facts, func)
            if way is None:
                continue
            if len(target.ins) == 1:
                goal = way
            else:
                goal = Block(f"{target.name}.{block.name}")
                goal.ins = [clone_ins(ins) for ins in target.ins[:-1]]
                goal.ins.append(Ins(ir.JUMP, then=way, loc=target.ins[-1].loc))
                func.blocks.append(goal)
            # Only the edge with these facts: both may lead to the same block.
            if last.op != ir.BRANCH or last.then is not last.els:
                if last.then is target:
                    last.then = goal
                else:
                    last.els = goal
                changed = True
    return changed


def _way_through(block: Block, facts: Facts, func: Function) -> Block | None:
    """Where control goes after ``block``, which ends in a branch, if that is known from ``facts`` at its start."""
    last = block.ins[-1]
    if len(block.ins) > 1:
        facts = dict(facts)
        for ins in block.ins[:-1]:
            if ins.op not in (ir.CONST, ir.MOV, ir.ZEXT, ir.SEXT) and ins.op not in ir.BINARY:
                return None
            _apply(ins, facts, func)
    outcome = _outcome(last, facts)
    if outcome is None:
        return None
    target = last.then if outcome else last.els
    return target if target is not block else None
