"""What a loop computes again on every turn though it never changes: before the loop, once.

Wide constants take two slots each time and are simply made again where registers
run short. Loads move when the loop's first block does them and nothing in the
loop writes memory.
"""

from __future__ import annotations

from pybpf.lang import ir
from pybpf.lang.cfg import Liveness, predecessors, successors
from pybpf.lang.fold import fits_s32
from pybpf.lang.ir import Block, Function, Ins
from pybpf.lang.registers import definitions

_FREE = 6  # registers that may be busy at the loop's head for one more value to fit


def hoist_invariants(func: Function) -> bool:
    """Move invariant constants and loads out of loops without calls, whose values would compete for r6 to r9."""
    counts = definitions(func)
    preds = predecessors(func)
    order = {block: i for i, block in enumerate(func.blocks)}
    live: Liveness | None = None
    changed = False
    for head in func.blocks:
        tails = [pred for pred in preds[head] if order[pred] >= order[head]]
        before = [pred for pred in preds[head] if order[pred] < order[head]]
        if not tails or len(before) != 1:
            continue
        body = _body(head, tails, preds)
        if func.blocks[0] in body:
            continue  # another way into the loop leads around its head
        if any(ins.op in ir.CALLS for block in body for ins in block.ins):
            continue
        writes = any(ins.op in (ir.STORE, ir.ATOMIC) for block in body for ins in block.ins)
        written = {ins.dst for block in body for ins in block.ins if ins.dst is not None}
        if live is None:
            live = Liveness(func)
        busy = _pressure(body, live)
        moved: list[Ins] = []
        for block in body:
            kept: list[Ins] = []
            for ins in block.ins:
                if (
                    busy + len(moved) < _FREE + 2
                    and ins.dst is not None
                    and counts[ins.dst] == 1
                    and (
                        (ins.op == ir.CONST and not fits_s32(ins.imm) and ins.imm >> 32)
                        or (
                            ins.op == ir.LOAD
                            and block is head
                            and not writes
                            and ins.ref is None
                            and ins.a not in written
                            and busy + len(moved) < _FREE
                        )
                    )
                ):
                    moved.append(ins)
                else:
                    kept.append(ins)
            block.ins = kept
        if moved:
            changed = True
            _place(func, before[0], head, moved, preds)
            live = None
            preds = predecessors(func)
            order = {block: i for i, block in enumerate(func.blocks)}
    return changed


def _body(head: Block, tails: list[Block], preds: dict[Block, list[Block]]) -> list[Block]:
    found = {head: None}
    work = list(tails)
    while work:
        block = work.pop()
        if block not in found:
            found[block] = None
            work += preds[block]
    return list(found)


def _pressure(body: list[Block], live: Liveness) -> int:
    return max(max(bin(live.at_start[block]).count("1"), bin(live.at_end[block]).count("1")) for block in body)


def _place(func: Function, before: Block, head: Block, moved: list[Ins], preds: dict[Block, list[Block]]) -> None:
    """Put the instructions on the way from ``before`` into the loop."""
    if len(successors(before)) == 1:
        before.ins[-1:-1] = moved
        return
    entry = Block(f"{head.name}.before")
    entry.ins = [*moved, Ins(ir.JUMP, then=head, loc=moved[0].loc)]
    last = before.ins[-1]
    if last.then is head:
        last.then = entry
    if last.els is head:
        last.els = entry
    func.blocks.insert(func.blocks.index(head), entry)
