"""Clean-up of allocated machine code: repeated loads of registers, equal block ends, empty blocks."""

from __future__ import annotations

from pybpf.asm.opcodes import (
    BPF_ALU,
    BPF_DW,
    BPF_JEQ,
    BPF_JMP,
    BPF_JNE,
    BPF_LDX,
    BPF_MEM,
    BPF_REG_FP,
    BPF_ST,
    BPF_STX,
    CALL,
    LD_IMM64,
)
from pybpf.lang.fold import MASK64
from pybpf.lang.mir import (
    CALLS,
    FRAME_ADDRESS,
    MOVE,
    MOVE32_IMM,
    MOVE_IMM,
    MBlock,
    MFunction,
    MIns,
    MLiveness,
)

_SPILL_LOAD = BPF_LDX | BPF_MEM | BPF_DW
_SPILL_STORE = BPF_STX | BPF_MEM | BPF_DW
# What gives a register a value that may be somewhere already.
_PLAIN = frozenset((MOVE, MOVE_IMM, MOVE32_IMM, LD_IMM64, FRAME_ADDRESS, _SPILL_LOAD))


def clean(func: MFunction) -> None:
    """Improve the code in place."""
    _tidy(func)
    for block in func.blocks:
        block.ins = _without_repeats(block.ins, func.spill_slots)
    _remove_dead(func)
    changed = _tidy(func)
    changed |= _merge_tails(func)
    changed |= _drop_known_zero(func)
    if changed:
        _tidy(func)
    _fall_into_exit(func)


# --- control flow ---


def _tidy(func: MFunction) -> bool:
    """Skip empty blocks, join blocks that only follow each other, drop what is unreachable; whether there was any."""
    before = len(func.blocks)
    changed = False
    for block in func.blocks:
        then, els = block.then, block.els
        if then is not None and not then.ins:
            block.then = _destination(then)
        if els is not None:
            if not els.ins:
                block.els = _destination(els)
            if block.els is block.then:
                block.test, block.els = None, None
        target = block.then
        if block.test is None and target is not None and _is_exit(target):
            block.then, block.exit_loc = None, target.exit_loc
        changed |= block.then is not then or block.els is not els
    _drop_unreachable(func)
    counts = _entry_counts(func)
    joined: set[MBlock] = set()
    for block in func.blocks:
        while block.test is None and block.then is not None and block.then is not block:
            target = block.then
            if counts[target] != 1 or target is func.blocks[0]:
                break
            block.ins += target.ins
            block.test, block.then, block.els, block.exit_loc = target.test, target.then, target.els, target.exit_loc
            target.ins, target.test, target.then, target.els = [], None, None, None
            joined.add(target)
    if joined:
        func.blocks = [block for block in func.blocks if block not in joined]
    return changed or len(func.blocks) < before


def _is_exit(block: MBlock) -> bool:
    return not block.ins and block.test is None and block.then is None


def _fall_into_exit(func: MFunction) -> None:
    """Where branches go to a lone exit, let one block that returns run into it instead of having its own."""
    lone = next((block for block in func.blocks if _is_exit(block)), None)
    if lone is None or lone is func.blocks[0]:
        return
    for block in reversed(func.blocks):
        if block is not lone and block.test is None and block.then is None:
            block.then = lone
            return


def _destination(block: MBlock) -> MBlock:
    seen = {block}
    while not block.ins and block.test is None and block.then is not None and block.then not in seen:
        block = block.then
        seen.add(block)
    return block


def _drop_unreachable(func: MFunction) -> None:
    reached = {func.blocks[0]}
    work = [func.blocks[0]]
    for block in work:
        for target in (block.then, block.els):
            if target is not None and target not in reached:
                reached.add(target)
                work.append(target)
    if len(work) == len(func.blocks):
        return
    func.blocks = [block for block in func.blocks if block in reached]


def _entry_counts(func: MFunction) -> dict[MBlock, int]:
    counts = dict.fromkeys(func.blocks, 0)
    for block in func.blocks:
        if block.then is not None:
            counts[block.then] += 1
            if block.els is not None:
                counts[block.els] += 1
    return counts


# --- within a block ---


def _without_repeats(block: list[MIns], spill_slots: dict[int, bool]) -> list[MIns]:
    """The instructions but those that give a register what it holds already.

    Works within a block only: across a branch the verifier may know more about one
    register than about another with the same value.
    """
    held: dict[int, object] = {}  # register -> token of its value
    slots: dict[int, object] = {}  # spill slot -> the same
    kept: list[MIns] = []
    serial = 0
    for ins in block:
        token = _value_token(ins, held, slots, spill_slots) if ins.op in _PLAIN else None
        if token is not None:
            if held.get(ins.dst) == token:
                continue
            if ins.slots == 2 or ins.op == _SPILL_LOAD:
                holder = next((register for register in sorted(held) if held[register] == token), None)
                if holder is not None:
                    ins = MIns(MOVE, ins.dst, holder, loc=ins.loc)
            held[ins.dst] = token
        else:
            writes = ins.writes()
            if writes:
                serial += 1
                while writes:
                    register = writes.bit_length() - 1
                    held[register] = (serial, register)
                    writes ^= 1 << register
            if ins.op == _SPILL_STORE and ins.dst == BPF_REG_FP and ins.off in spill_slots:
                slots[ins.off] = _token_of(ins.src, held)
        kept.append(ins)
    return kept


def _token_of(register: int, held: dict[int, object]) -> object:
    return held.setdefault(register, ("initial", register))


def _value_token(
    ins: MIns, held: dict[int, object], slots: dict[int, object], spill_slots: dict[int, bool]
) -> object | None:
    """What names the value that a plain move, constant or reload gives its destination."""
    if ins.op == MOVE and ins.src != BPF_REG_FP:
        return _token_of(ins.src, held)
    if ins.op in (MOVE_IMM, MOVE32_IMM, LD_IMM64) and ins.ref is None:
        return ("constant", ins.imm & (MASK64 if ins.op != MOVE32_IMM else 0xFFFF_FFFF))
    if ins.op == LD_IMM64:
        return ("symbol", ins.key()[2:])
    if ins.op == FRAME_ADDRESS:
        return ("frame", ins.imm)
    if ins.op == _SPILL_LOAD and ins.src == BPF_REG_FP and ins.off in spill_slots:
        return slots.setdefault(ins.off, ("spilled", ins.off))
    return None


def _remove_dead(func: MFunction) -> None:
    """Remove results that no instruction reads any more."""
    liveness = MLiveness(func.blocks)
    for block in func.blocks:
        live = liveness.at_end[block]
        kept = []
        for ins, (reads, writes) in zip(reversed(block.ins), liveness.effects[block]):
            kind = ins.op & 0x07
            pure = ins.op == FRAME_ADDRESS or kind in (0x00, 0x01, 0x04, 0x07)
            if pure and writes and not writes & live:
                continue
            live = live & ~writes | reads
            kept.append(ins)
        block.ins = kept[::-1]


# --- equal ends ---


def _merge_tails(func: MFunction) -> bool:
    """Let blocks that end alike share their ends; returns whether any do now."""
    merged = False
    groups: dict[object, list[MBlock]] = {}
    for block in func.blocks:
        way = (block.test.key() if block.test is not None else None, id(block.then), id(block.els))
        groups.setdefault(way, []).append(block)
    for group in list(groups.values()):
        while len(group) > 1:
            by_last: dict[object, list[MBlock]] = {}
            for block in group:
                if block.ins:
                    by_last.setdefault(block.ins[-1].key(), []).append(block)
            best: tuple[int, list[MBlock]] = (0, [])
            for alike in by_last.values():
                if len(alike) > 1:
                    best = max(best, (_common_length(alike), alike), key=lambda found: found[0] * (len(found[1]) - 1))
            length, alike = best
            if not length:
                break
            tail = _share(func, alike, length)
            group = [block for block in group if block not in alike] + [tail]
            merged = True
    return merged


def _common_length(blocks: list[MBlock]) -> int:
    """How many instructions at the blocks' ends are equal and mean the same to the verifier."""
    length = 0
    shortest = min(len(block.ins) for block in blocks)
    while length < shortest and len({block.ins[-1 - length].key() for block in blocks}) == 1:
        length += 1
    while length and not _self_contained(blocks[0].ins[-length:]):
        length -= 1
    return length


def _self_contained(code: list[MIns]) -> bool:
    """Whether memory is accessed only through the frame pointer and through pointers made in ``code`` itself.

    The verifier refuses an instruction that accesses the context on one path and
    other memory on another, and treats a call worse whose map differs by path.
    """
    known = 1 << BPF_REG_FP
    for ins in code:
        kind = ins.op & 0x07
        reads, writes = ins.effects()
        if kind == BPF_LDX:
            if not known >> ins.src & 1:
                return False
            known &= ~writes
        elif kind in (BPF_ST, BPF_STX) and ins.op != FRAME_ADDRESS:
            if not known >> ins.dst & 1:
                return False
            known &= ~writes
        elif ins.flags & CALLS:
            if ins.nargs and ins.op == CALL and ins.src == 0 and not known >> 1 & 1:
                return False
            known = known & ~writes | 1
        elif reads & ~known:
            known &= ~writes
        else:
            known |= writes
    return True


def _share(func: MFunction, alike: list[MBlock], length: int) -> MBlock:
    tail = next((block for block in alike if len(block.ins) == length and block is not func.blocks[0]), None)
    first = alike[0]
    if tail is None:
        tail = MBlock(f"{first.name}.tail", min(block.depth for block in alike))
        tail.ins = first.ins[-length:]
        tail.test, tail.then, tail.els, tail.exit_loc = first.test, first.then, first.els, first.exit_loc
        # Right behind one of its users: the block order falls through where it can.
        func.blocks.insert(max(func.blocks.index(block) for block in alike) + 1, tail)
    for block in alike:
        if block is not tail:
            del block.ins[-length:]
            block.test, block.then, block.els = None, tail, None
            block.exit_loc = tail.ins[0].loc
    return tail


# --- what a branch already established ---


def _drop_known_zero(func: MFunction) -> bool:
    """Remove ``r = constant`` at a block's start where every way there leaves just that in r.

    As after ``if r0 == 0 goto out; ... out: r0 = 0; exit``. Returns whether any was removed.
    """
    dropped = False
    entries: dict[MBlock, list[tuple[MBlock, bool]]] = {block: [] for block in func.blocks}
    for block in func.blocks:
        if block.test is None:
            if block.then is not None:
                entries[block.then].append((block, True))
        else:
            assert block.then is not None
            assert block.els is not None
            entries[block.then].append((block, True))
            entries[block.els].append((block, False))
    for block in func.blocks[1:]:
        while block.ins and block.ins[0].op == MOVE_IMM and block.ins[0].ref is None and entries[block]:
            ins = block.ins[0]
            if not all(_establishes(pred, taken, ins) for pred, taken in entries[block]):
                break
            del block.ins[0]
            dropped = True
    return dropped


def _establishes(block: MBlock, taken: bool, want: MIns) -> bool:
    test = block.test
    last = next((ins for ins in reversed(block.ins) if ins.writes() >> want.dst & 1), None)
    if last is None:
        return False
    if last.op == MOVE_IMM and last.ref is None and last.imm == want.imm:
        return True
    if test is None or test.op != BPF_JMP | (BPF_JEQ if taken else BPF_JNE):
        return False
    # Old verifiers do not make a zero of every pointer that was found to be NULL; of a
    # call's result and of plain numbers they do.
    plain = last.op == CALL or (last.op & 0x07 == BPF_LDX and last.op & 0x18 != BPF_DW) or last.op & 0x07 == BPF_ALU
    return plain and test.dst == want.dst and test.imm == want.imm
