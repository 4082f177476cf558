"""The order of the optimisations on the IR."""

from __future__ import annotations

from pybpf.lang.address import constants_last
from pybpf.lang.cfg import FLOW, has_loops, is_untidy, tidy
from pybpf.lang.demand import narrow
from pybpf.lang.facts import propagate
from pybpf.lang.frame import drop_dead_stores, promote
from pybpf.lang.idempotent import share_calls
from pybpf.lang.ir import Function
from pybpf.lang.limits import show_bounds
from pybpf.lang.loops import hoist_invariants
from pybpf.lang.simplify import fold_addresses, simplify
from pybpf.lang.values import (
    OPERANDS,
    eliminate_copies,
    hoist_constants,
    merge_tails,
    remove_dead,
    reuse_values,
    split_webs,
)

_ROUNDS = 6  # threading a jump can show the way to thread another; each round sees at least one more branch gone


def optimise(func: Function) -> None:
    """Improve ``func`` in place; what it computes stays the same."""
    tidy(func)
    share_calls(func)
    _values(func)
    if promote(func):
        _values(func)
    drop_dead_stores(func)
    if narrow(func):
        eliminate_copies(func)
        remove_dead(func)
    loops = has_loops(func)
    if loops and hoist_invariants(func):
        tidy(func)
    if merge_tails(func):
        tidy(func)
    if hoist_constants(func):
        tidy(func)
    if loops:
        show_bounds(func)  # last: to the others these masks would be without effect


def _values(func: Function) -> None:
    """What is known of values, until nothing new is learnt; then memory by way of what its addresses are made of."""
    settled = False  # whether another round needs news to find anything
    moved = False  # whether control goes elsewhere since the last tidy()
    for turn in range(_ROUNDS):
        news = split_webs(func) | eliminate_copies(func)
        found = propagate(func)
        simpler = simplify(func)
        before = len(func.blocks)
        if moved or simpler & FLOW or is_untidy(func):
            tidy(func)
            moved = False
        if settled and not (news or found or simpler) and len(func.blocks) == before:
            break
        if not turn:
            constants_last(func)
        settled = not reuse_values(func)
        if not settled:
            # An address found to be another's makes their loads the same, hence the second try.
            again = eliminate_copies(func) & OPERANDS and reuse_values(func)
            if again:
                eliminate_copies(func)
            simpler = simplify(func)
            settled = not (again or simpler)
            moved = bool(simpler & FLOW)
        clean = remove_dead(func)
        settled &= clean
        if not found & FLOW and len(func.blocks) == before:
            break
    decided = (moved or is_untidy(func)) and tidy(func)
    if fold_addresses(func) or decided or not clean:
        remove_dead(func)
