"""Helpers that give the same answer all through one run of a program, called once.

``pid()`` and ``tid()`` are halves of one helper's result, and filters and records
both want them. Who is running cannot change under a program: it runs for its
task, and on its CPU (bpf programs do not migrate). Clocks and random numbers are
not of this kind, nor is what another CPU may change (the task's cgroup).
"""

from __future__ import annotations

from pybpf.lang import ir
from pybpf.lang.cfg import has_loops, predecessors
from pybpf.lang.ir import Block, Function, Ins
from pybpf.lang.registers import only_definitions

# get_smp_processor_id, current_pid_tgid, current_uid_gid, current_task, numa_node_id, current_task_btf
_SAME = frozenset((8, 14, 15, 35, 42, 158))
_Known = dict[int, int]  # helper -> register with its result


def share_calls(func: Function) -> bool:
    """Replace a call by the result of the same one made before on all paths; returns whether any was."""
    numbers = [ins.imm for block in func.blocks for ins in block.ins if ins.op == ir.CALL and ins.imm in _SAME]
    if len(numbers) == len(set(numbers)):
        return False
    only = only_definitions(func)
    entries = _solve(func, only)
    changed = False
    for block in func.blocks:
        known = dict(entries.get(block, {}))
        for index, ins in enumerate(block.ins):
            if ins.op != ir.CALL or ins.imm not in _SAME or ins.dst is None:
                continue
            before = known.get(ins.imm)
            if before is not None:
                block.ins[index] = Ins(ir.MOV, dst=ins.dst, a=before, loc=ins.loc)
                changed = True
            elif ins.dst in only:
                known[ins.imm] = ins.dst
    return changed


def _solve(func: Function, only: dict[int, Ins]) -> dict[Block, _Known]:
    """What is known at the start of each block, on all paths to it."""
    preds = predecessors(func)
    made = {
        block: [(ins.imm, ins.dst) for ins in block.ins if ins.op == ir.CALL and ins.imm in _SAME and ins.dst in only]
        for block in func.blocks
    }
    entries: dict[Block, _Known] = {}
    ends: dict[Block, _Known] = {}
    loops = has_loops(func)
    changed = True
    while changed:
        changed = False
        for block in func.blocks:
            known: _Known = {}
            # A block not seen yet takes nothing away: what leads back to a loop's head has passed it.
            before = [ends[pred] for pred in preds[block] if pred in ends]
            if before and block is not func.blocks[0]:
                first, *rest = before
                known = {number: vreg for number, vreg in first.items() if all(end.get(number) == vreg for end in rest)}
            entries[block] = dict(known)
            for number, vreg in made[block]:
                assert vreg is not None
                known.setdefault(number, vreg)
            if ends.get(block) != known:
                ends[block] = known
                changed = loops
    return entries
