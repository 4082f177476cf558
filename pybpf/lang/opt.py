"""The order of the optimisations on the IR."""

from __future__ import annotations

from pybpf.lang.cfg import tidy
from pybpf.lang.facts import propagate
from pybpf.lang.ir import Function
from pybpf.lang.simplify import fold_addresses, simplify
from pybpf.lang.values import eliminate_copies, hoist_constants, merge_tails, remove_dead, reuse_values, split_webs

_ROUNDS = 6  # threading a jump can show the way to thread another; each round sees at least one more branch gone


def optimise(func: Function) -> None:
    """Improve ``func`` in place; what it computes stays the same."""
    tidy(func)
    for _ in range(_ROUNDS):
        split_webs(func)
        eliminate_copies(func)
        changed = propagate(func)
        simplify(func)
        before = len(func.blocks)
        tidy(func)
        changed |= reuse_values(func)
        eliminate_copies(func)
        simplify(func)
        remove_dead(func)
        if not changed and len(func.blocks) == before:
            break
    tidy(func)
    fold_addresses(func)
    remove_dead(func)
    if merge_tails(func):
        tidy(func)
    if hoist_constants(func):
        tidy(func)
