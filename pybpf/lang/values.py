"""Passes about which register holds which value: webs, copies, repeated computations, dead code."""

from __future__ import annotations

from pybpf.lang import ir
from pybpf.lang.cfg import PURE, Liveness, has_loops, predecessors
from pybpf.lang.fold import fits_s32
from pybpf.lang.ir import Block, Core, Function, Imm, Ins, Slot
from pybpf.lang.registers import definitions, only_definitions

_COMMUTES = frozenset((ir.ADD, ir.MUL, ir.AND, ir.OR, ir.XOR))
_REPEATABLE = frozenset((
    ir.ADD, ir.SUB, ir.MUL, ir.DIV, ir.MOD, ir.AND, ir.OR, ir.XOR, ir.LSH, ir.RSH, ir.ARSH,
    ir.NEG, ir.ZEXT, ir.SEXT, ir.BSWAP, ir.LOAD, ir.FRAME, ir.MAP, ir.DATA, ir.CORE,
))  # fmt: skip
_Key = tuple[str, tuple[int, ...], object, object, object, int, int, int]
_COMPARED = _REPEATABLE | {ir.STORE}
COPIES, OPERANDS = 1, 2  # what eliminate_copies() changed
_WRITES_MEMORY = frozenset((ir.STORE, ir.ATOMIC, *ir.CALLS))


def split_webs(func: Function) -> bool:
    """Give a new register to every independent life of a register; returns whether there was one.

    Two writes belong together when some read may see either. What a Python
    variable held before and after an unrelated assignment then no longer
    competes for the same machine register.
    """
    counts = definitions(func)
    if max(counts, default=0) < 2:
        return False
    sites: list[int] = []  # the register each numbered write goes to
    of_vreg: dict[int, int] = {}  # the writes to a register, as a bit set
    numbers: dict[int, int] = {}  # id of instruction -> its write's number
    last_writes: dict[Block, dict[int, int]] = {}
    for block in func.blocks:
        last: dict[int, int] = {}
        for ins in block.ins:
            if ins.dst is not None and counts[ins.dst] > 1:
                numbers[id(ins)] = len(sites)
                of_vreg[ins.dst] = of_vreg.get(ins.dst, 0) | 1 << len(sites)
                last[ins.dst] = 1 << len(sites)
                sites.append(ins.dst)
        last_writes[block] = last
    reaching = _reaching(func, of_vreg, last_writes)
    parent = list(range(len(sites)))

    def find(site: int) -> int:
        while parent[site] != site:
            parent[site] = parent[parent[site]]
            site = parent[site]
        return site

    seen = {block: _seen(block, reaching[block], of_vreg, numbers) for block in func.blocks}
    for found in seen.values():
        for _, _, bits in found:
            low = bits & -bits
            if bits == low:
                continue
            first = find(low.bit_length() - 1)
            bits ^= low
            while bits:
                low = bits & -bits
                parent[find(low.bit_length() - 1)] = first
                first = find(first)
                bits ^= low
    webs: dict[int, int] = {}
    taken: set[int] = set()
    new: list[int] = []  # the register each write goes to from now on
    for site, vreg in enumerate(sites):
        root = find(site)
        if root not in webs:
            webs[root] = vreg if vreg not in taken else func.vreg(func.vregs[vreg])
            taken.add(vreg)
        new.append(webs[root])
    if new == sites:
        return False
    for block in func.blocks:
        renames: dict[int, tuple[Ins, dict[int, int]]] = {}
        for ins, vreg, bits in seen[block]:
            name = new[(bits & -bits).bit_length() - 1]
            if name != vreg:
                renames.setdefault(id(ins), (ins, {}))[1][vreg] = name
        for ins, names in renames.values():
            _rename_all(ins, names)
        for ins in block.ins:
            number = numbers.get(id(ins))
            if number is not None:
                ins.dst = new[number]
    return True


def _seen(block: Block, reaching: int, of_vreg: dict[int, int], numbers: dict[int, int]) -> list[tuple[Ins, int, int]]:
    """Instruction, register and the writes it may see, for every read of a register of interest."""
    found = []
    current: dict[int, int] = {}
    for ins in block.ins:
        for vreg in ins.reads:
            if vreg in of_vreg:
                found.append((ins, vreg, current.get(vreg, reaching & of_vreg[vreg])))
        dst = ins.dst
        if dst in of_vreg:
            assert dst is not None
            current[dst] = 1 << numbers[id(ins)]
    return found


def _rename_all(ins: Ins, new: dict[int, int]) -> None:
    if type(ins.a) is int:
        ins.a = new.get(ins.a, ins.a)
    if type(ins.b) is int:
        ins.b = new.get(ins.b, ins.b)
    if ins.args:
        ins.args = tuple([new.get(arg, arg) if type(arg) is int else arg for arg in ins.args])
    ins.reads = tuple([new.get(vreg, vreg) for vreg in ins.reads])


def _reaching(func: Function, of_vreg: dict[int, int], last_writes: dict[Block, dict[int, int]]) -> dict[Block, int]:
    """The writes that can be seen at the start of each block."""
    start = dict.fromkeys(func.blocks, 0)
    end: dict[Block, int] = {}
    preds = predecessors(func)
    kill: dict[Block, int] = {}
    gen: dict[Block, int] = {}
    for block in func.blocks:
        kill[block] = gen[block] = 0
        for vreg, bit in last_writes[block].items():
            kill[block] |= of_vreg[vreg]
            gen[block] |= bit
        end[block] = gen[block]
    loops = has_loops(func)
    changed = True
    while changed:
        changed = False
        for block in func.blocks:
            bits = 0
            for pred in preds[block]:
                bits |= end[pred]
            if bits != start[block]:
                start[block] = bits
                out = gen[block] | bits & ~kill[block]
                if out != end[block]:
                    end[block] = out
                    changed = loops
    return start


def eliminate_copies(func: Function) -> int:
    """Replace a copy by its source where the two hold the same value for the copy's whole life.

    A copy is either removed altogether, from comparisons and other reads alike,
    or left alone: were it replaced in a comparison only, the verifier would know
    the bounds of one register and see the other used. Returns what changed: nothing, COPIES
    that are gone, or also OPERANDS of what reuse_values() compares.
    """
    only = only_definitions(func)
    changed = 0
    while True:
        copies = [ins for ins in only.values() if ins.op == ir.MOV and ins.a != ins.dst]
        if not copies:
            return changed
        renames: dict[int, int] = {}
        unsure: dict[int, list[int]] = {}  # source -> copies of it that need a look at its other writes
        for ins in copies:
            vreg, source = ins.dst, ins.a
            assert vreg is not None
            assert type(source) is int
            if source in only:
                renames[vreg] = source
            else:
                unsure.setdefault(source, []).append(vreg)
        # Copies of copies are followed only where every link holds without a look at lifetimes.
        if unsure and not renames:
            clobbered = _written_while_live(func, unsure)
            for source, vregs in unsure.items():
                for vreg in vregs:
                    if vreg not in clobbered:
                        renames[vreg] = source
        if not renames:
            return changed
        changed |= COPIES
        for vreg in renames:
            source = renames[vreg]
            while source in renames:
                source = renames[source]
            renames[vreg] = source
        for block in func.blocks:
            block.ins = [ins for ins in block.ins if ins.dst not in renames]
            for ins in block.ins:
                for vreg in ins.reads:
                    if vreg in renames:
                        _rename_all(ins, renames)
                        if ins.op in _COMPARED:
                            changed |= OPERANDS
                        break
        for vreg in renames:
            del only[vreg]


def _written_while_live(func: Function, watched: dict[int, list[int]]) -> set[int]:
    """The copies whose source is written while they are live."""
    result: set[int] = set()
    live = Liveness(func)
    for block in func.blocks:
        alive = live.at_end[block]
        for ins in reversed(block.ins):
            if ins.dst is not None:
                if ins.dst in watched:
                    result.update(vreg for vreg in watched[ins.dst] if alive >> vreg & 1)
                alive &= ~(1 << ins.dst)
            for vreg in ins.reads:
                alive |= 1 << vreg
    return result


def reuse_values(func: Function) -> bool:
    """Turn a computation whose result some register still holds into a copy.

    Results are remembered along all paths from their computation up to the next
    call (beyond it they would have to be kept in scarce registers), loads up to
    the next write to memory. A loop begins with nothing remembered.
    """
    preds = predecessors(func)
    counts = definitions(func)
    ends: dict[Block, dict[_Key, int]] = {}
    changed = False
    for block in func.blocks:
        known: dict[_Key, int] = {}
        before = [ends.get(pred) for pred in preds[block]]
        if before and None not in before:
            known = _common(before)  # type: ignore[arg-type]
        changed |= _reuse_in(func, block, known, counts)
        ends[block] = known
    return changed


def _common(ends: list[dict[_Key, int]]) -> dict[_Key, int]:
    """What is remembered on every way."""
    known, *rest = sorted(ends, key=len)
    if not rest:
        return known.copy()
    for end in rest:
        known = {key: vreg for key, vreg in known.items() if end.get(key) == vreg}
    return known


def _reuse_in(func: Function, block: Block, known: dict[_Key, int], counts: list[int], start: int = 0) -> bool:
    changed = False
    for index in range(start, len(block.ins)):
        ins = block.ins[index]
        op = ins.op
        key = _key(ins) if op in _REPEATABLE else None
        if key in known:
            assert key is not None
            block.ins[index] = ins = Ins(ir.MOV, dst=ins.dst, a=known[key], loc=ins.loc)
            key = None
            changed = True
        elif op == ir.MOD and ins.size == 8:
            assert key is not None
            quotient = known.get((ir.DIV, *key[1:]))
            if quotient is not None and ins.dst is not None:
                # The remainder by multiplication: x - (x / y) * y, also for y = 0.
                product = func.vreg()
                block.ins[index] = Ins(ir.MUL, dst=product, a=quotient, b=ins.b, loc=ins.loc)
                ins = Ins(ir.SUB, dst=ins.dst, a=ins.a, b=product, loc=ins.loc)
                block.ins.insert(index + 1, ins)
                return _reuse_in(func, block, known, counts, index + 1) or True
        elif op in ir.CALLS:
            known.clear()
        elif op in _WRITES_MEMORY:
            for old in [old for old in known if old[0] == ir.LOAD and not _apart(old, ins)]:
                del known[old]
            if ins.op == ir.STORE and ins.size == 8 and ins.ref is None and type(ins.b) is int:
                known[_key(Ins(ir.LOAD, a=ins.a, off=ins.off))] = ins.b
        dst = ins.dst
        if dst is not None:
            # What is remembered cannot speak of a register before its only write: a loop begins anew.
            if counts[dst] > 1:
                for old in [old for old, vreg in known.items() if vreg == dst or dst in old[1]]:
                    del known[old]
            if key is not None and dst not in key[1]:
                known[key] = dst
    return changed


def _apart(load: _Key, store: Ins) -> bool:
    """Whether a remembered load reads other bytes than ``store`` writes: beside them from the same base."""
    if store.ref is not None or load[4] is not None:
        return False
    base = ("slot", id(store.a)) if isinstance(store.a, Slot) else store.a
    off, size = load[6], load[7]
    return load[2] == base and (off + size <= store.off or store.off + store.size <= off)


def _key(ins: Ins) -> _Key:
    """What makes two computations equal; the second element is the registers read."""
    op = ins.op
    a: object = ins.a
    b: object = ins.b
    reads: tuple[int, ...] = ()
    if type(a) is int:
        if type(b) is int:
            reads = (a, b) if a <= b else (b, a)
            if b < a and op in _COMMUTES:
                a, b = b, a
        else:
            reads = (a,)
    elif isinstance(a, Slot):
        a = ("slot", id(a))
    if type(b) is not int and isinstance(b, Imm):
        b = ("imm", b.value & 0xFFFF_FFFF_FFFF_FFFF)
    return op, reads, a, b, None if ins.ref is None else _ref_key(ins.ref), ins.imm, ins.off, ins.size


def remove_dead(func: Function) -> bool:
    """Remove what has no effect: results nobody reads, and cycles that only feed themselves.

    Returns whether that was all; else what is gone now may have been the only reader of something.
    """
    needed: set[int] = set()
    feeds: dict[int, list[int]] = {}
    work: list[int] = []
    written: set[int] = set()
    several: set[int] = set()  # registers that are written more than once
    for block in func.blocks:
        for ins in block.ins:
            dst = ins.dst
            into = work
            if dst is not None:
                if dst in written:
                    several.add(dst)
                written.add(dst)
                if ins.op in PURE:
                    into = feeds.setdefault(dst, [])
            into += ins.reads
    while work:
        vreg = work.pop()
        if vreg not in needed:
            needed.add(vreg)
            work += feeds.get(vreg, ())
    # The only value that a register ever has is read if any is.
    if several:
        return _remove_unread(func, needed, several)
    if len(needed) < len(written):
        for block in func.blocks:
            block.ins = [ins for ins in block.ins if ins.dst is None or ins.dst in needed or not _is_dropped(ins)]
    return True


def _is_dropped(ins: Ins) -> bool:
    """Whether an instruction whose result is not read can go; of others only the result does."""
    if ins.op in PURE or ins.op == ir.PARAM:
        return True
    ins.dst = None
    return False


def _remove_unread(func: Function, needed: set[int], several: set[int]) -> bool:
    """Remove what writes a register that is not ``needed``, or one of ``several`` values that is not read."""
    live = Liveness(func)
    every = True  # what is left is live without what is removed
    bits = live.bits
    for block in func.blocks:
        alive = live.at_end[block]
        kept: list[Ins] = []
        for ins in reversed(block.ins):
            dst = ins.dst
            if dst is not None:
                bit = bits[dst]
                dead = dst not in needed or not alive & bit or (ins.a == dst and ins.op == ir.MOV)
                if dead:
                    every = every and dst not in needed and several.isdisjoint(ins.reads)
                    if _is_dropped(ins):
                        continue
                alive &= ~bit
            for vreg in ins.reads:
                alive |= bits[vreg]
            kept.append(ins)
        if len(kept) != len(block.ins):
            block.ins = kept[::-1]
    return every


def hoist_constants(func: Function) -> bool:
    """Set a constant before a branch instead of in a block of its own behind one side of it.

    ``x = 1 if a else 0`` becomes ``x = 0; if a: x = 1``, which needs no jump around
    the other side.
    """
    changed = False
    sides = {block for block in func.blocks if len(block.ins) == 2 and _sets_constant(block)}
    if not sides:
        return False
    preds = predecessors(func)
    live: Liveness | None = None
    for block in func.blocks:
        last = block.ins[-1]
        if last.op != ir.BRANCH:
            continue
        for side, other in ((last.els, last.then), (last.then, last.els)):
            assert side is not None
            assert other is not None
            if side is other or side not in sides or len(preds[side]) != 1:
                continue
            ins = side.ins[0]
            assert ins.dst is not None
            if live is None:
                live = Liveness(func)
            if ins.dst in last.reads or live.at_start[other] >> ins.dst & 1:
                continue
            block.ins.insert(-1, side.ins.pop(0))
            sides.discard(side)
            changed = True
            break
    return changed


def _sets_constant(block: Block) -> bool:
    """Whether a block of two instructions only sets a small constant and goes on."""
    ins, last = block.ins
    return ins.op == ir.CONST and last.op == ir.JUMP and ins.dst is not None and fits_s32(ins.imm)


def merge_tails(func: Function) -> bool:
    """Let blocks that end alike share their ends.

    Works on virtual registers, so the same code has the same meaning to the
    verifier too: an access through the same register is one through the same
    kind of pointer.
    """
    ways = [(block.ins[-1].op, block.ins[-1].then, block.ins[-1].els) for block in func.blocks]
    seen: set[object] = set()
    common: set[object] = set()
    for way in ways:
        (common if way in seen else seen).add(way)
    groups: dict[object, list[Block]] = {}
    for block, way in zip(func.blocks, ways):
        if way in common:
            groups.setdefault(_ins_key(block.ins[-1]), []).append(block)
    changed = False
    for group in groups.values():
        while len(group) > 1:
            best: tuple[int, list[Block]] = (0, [])
            by_two: dict[object, list[Block]] = {}
            for block in group:
                if len(block.ins) > 1:
                    by_two.setdefault(_ins_key(block.ins[-2]), []).append(block)
            for alike in by_two.values():
                if len(alike) > 1:
                    length = _common_tail(alike)
                    best = max(best, (length, alike), key=lambda found: found[0] * (len(found[1]) - 1))
            length, alike = best
            if length < 2:
                break
            changed = True
            tail = next((block for block in alike if len(block.ins) == length and block is not func.blocks[0]), None)
            if tail is None:
                tail = Block(f"{alike[0].name}.tail")
                tail.ins = alike[0].ins[-length:]
                func.blocks.append(tail)
            for block in alike:
                if block is not tail:
                    block.ins[-length:] = [Ins(ir.JUMP, then=tail, loc=block.ins[-1].loc)]
            group = [block for block in group if block not in alike] + [tail]
    return changed


def _common_tail(blocks: list[Block]) -> int:
    length = 0
    shortest = min(len(block.ins) for block in blocks)
    while length < shortest:
        keys = {_ins_key(block.ins[-1 - length]) for block in blocks}
        if len(keys) > 1 or blocks[0].ins[-1 - length].op == ir.PARAM:
            break
        length += 1
    return length


def _ins_key(ins: Ins) -> object:
    """Equal for instructions that do the same."""
    return (
        ins.op, ins.dst, _operand_key(ins.a), _operand_key(ins.b), ins.imm, ins.off, ins.size,
        _ref_key(ins.ref), tuple([_operand_key(arg) for arg in ins.args]),
        ins.cond, id(ins.then), id(ins.els),
    )  # fmt: skip


def _ref_key(ref: object) -> object:
    if isinstance(ref, Core):
        return ref.kind, ref.type_id, ref.access
    return ref if isinstance(ref, str) else id(ref)


def _operand_key(operand: object) -> object:
    if isinstance(operand, Imm):
        return ("imm", operand.value & 0xFFFF_FFFF_FFFF_FFFF)
    return operand if type(operand) is int else id(operand)
