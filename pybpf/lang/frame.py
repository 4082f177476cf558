"""Places in the frame: those that need not be memory at all, and stores that nobody can see.

A slot whose address is taken (by a helper's argument, say) stays in memory; the
parts of any other become registers.
"""

from __future__ import annotations

from pybpf.lang import ir
from pybpf.lang.cfg import Liveness
from pybpf.lang.ir import Function, Imm, Ins, Slot

_MOST_PARTS = 12  # of all slots together: more would only be spilled again
_Part = tuple[int, int]  # offset and size


def escaped(func: Function) -> set[Slot]:
    """The slots whose address is in some register."""
    found = set()
    for block in func.blocks:
        for ins in block.ins:
            if ins.op == ir.FRAME:
                assert isinstance(ins.ref, Slot)
                found.add(ins.ref)
            elif type(ins.a) is Slot and (ins.op == ir.ATOMIC or ins.ref is not None):
                found.add(ins.a)
    return found


def promote(func: Function) -> bool:
    """Keep in registers what is only ever loaded from and stored to the frame by fixed places."""
    accesses: dict[Slot, list[Ins]] = {}
    for block in func.blocks:
        for ins in block.ins:
            if type(ins.a) is Slot:
                accesses.setdefault(ins.a, []).append(ins)
    if not accesses:
        return False
    fixed = escaped(func)
    places: dict[tuple[Slot, _Part], int] = {}
    parts: dict[Slot, list[_Part]] = {}
    for slot, group in accesses.items():
        if slot in fixed:
            continue
        found = _parts(group)
        if found is None or len(places) + len(found) > _MOST_PARTS:
            continue
        kinds = {func.vregs[ins.b] for ins in group if ins.op == ir.STORE and type(ins.b) is int}
        kinds |= {ir.SCALAR for ins in group if ins.op == ir.STORE and isinstance(ins.b, Imm)}
        kinds |= {func.vregs[ins.dst] for ins in group if ins.op == ir.LOAD and ins.dst is not None}
        if len(kinds) > 1:
            continue
        parts[slot] = found
        for part in found:
            places[slot, part] = func.vreg(next(iter(kinds), ir.SCALAR))
    if not parts:
        return False
    for block in func.blocks:
        out: list[Ins] = []
        for ins in block.ins:
            if not isinstance(ins.a, Slot) or ins.a not in parts:
                out.append(ins)
            elif ins.op == ir.LOAD:
                place = places[ins.a, (ins.off, ins.size)]
                if ins.imm and ins.size < 8:
                    out.append(Ins(ir.SEXT, dst=ins.dst, a=place, size=ins.size, loc=ins.loc))
                else:
                    out.append(Ins(ir.MOV, dst=ins.dst, a=place, loc=ins.loc))
            else:
                _store(func, ins, parts[ins.a], places, out)
        block.ins = out
    # What some path leaves unset is read as 0: the verifier would have refused the memory.
    entry = func.blocks[0]
    unset = Liveness(func).at_start[entry]
    after = next(i for i, ins in enumerate(entry.ins) if ins.op != ir.PARAM)
    entry.ins[after:after] = [Ins(ir.CONST, dst=place) for place in places.values() if unset >> place & 1]
    return True


def _parts(group: list[Ins]) -> list[_Part] | None:
    """The parts that are loaded, if they do not overlap and every store sets whole parts."""
    loads = sorted({(ins.off, ins.size) for ins in group if ins.op == ir.LOAD})
    for (off, size), (following, _) in zip(loads, loads[1:]):
        if off + size > following:
            return None
    for ins in group:
        if ins.op == ir.STORE:
            for off, size in loads:
                inside = ins.off <= off and off + size <= ins.off + ins.size
                if not inside and ins.off < off + size and off < ins.off + ins.size:
                    return None
    return loads


def _store(func: Function, ins: Ins, parts: list[_Part], places: dict[tuple[Slot, _Part], int], out: list[Ins]) -> None:
    assert isinstance(ins.a, Slot)
    for off, size in parts:
        if not ins.off <= off < ins.off + ins.size:
            continue
        place = places[ins.a, (off, size)]
        shift = (off - ins.off) * 8
        if isinstance(ins.b, Imm):
            value = ins.b.value >> shift & (1 << size * 8) - 1
            out.append(Ins(ir.CONST, dst=place, imm=value, loc=ins.loc))
            continue
        source = ins.b
        if shift:
            moved = func.vreg()
            out.append(Ins(ir.RSH, dst=moved, a=source, b=Imm(shift), loc=ins.loc))
            source = moved
        if size < 8:
            out.append(Ins(ir.ZEXT, dst=place, a=source, size=size, loc=ins.loc))
        else:
            out.append(Ins(ir.MOV, dst=place, a=source, loc=ins.loc))


def drop_dead_stores(func: Function) -> bool:
    """Remove stores to the frame that later ones in the block overwrite before anything can read them.

    A zeroed object keeps the zeros of its padding and of what is set on some paths only.
    """
    fixed: set[Slot] | None = None
    changed = False
    for block in func.blocks:
        stores = [ins.a for ins in block.ins if ins.op == ir.STORE and type(ins.a) is Slot]
        if len(stores) == len(set(stores)):
            continue
        if fixed is None:
            fixed = escaped(func)
        covered: dict[Slot, int] = {}  # bytes that will be overwritten, as bit sets
        kept: list[Ins] = []
        for ins in reversed(block.ins):
            if ins.op == ir.RET:
                covered = {}
            elif isinstance(ins.a, Slot):
                mask = (1 << ins.size) - 1 << ins.off if ins.off >= 0 else 0
                if ins.op == ir.STORE and ins.ref is None and mask:
                    already = covered.get(ins.a, 0)
                    if already & mask == mask:
                        changed = True
                        continue
                    covered[ins.a] = already | mask
                elif ins.a in covered:
                    if ins.op == ir.LOAD and ins.ref is None and mask:
                        covered[ins.a] &= ~mask
                    else:
                        del covered[ins.a]
            elif ins.op in (ir.LOAD, ir.ATOMIC, *ir.CALLS):
                for slot in [slot for slot in covered if slot in fixed]:
                    del covered[slot]
            kept.append(ins)
        block.ins = kept[::-1]
    return changed
