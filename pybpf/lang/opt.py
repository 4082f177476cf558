"""The order of the optimisations on the IR."""

from __future__ import annotations

from pybpf.lang.address import constants_last
from pybpf.lang.cfg import tidy
from pybpf.lang.demand import narrow
from pybpf.lang.facts import propagate
from pybpf.lang.frame import drop_dead_stores, promote
from pybpf.lang.idempotent import share_calls
from pybpf.lang.ir import Function
from pybpf.lang.limits import show_bounds
from pybpf.lang.loops import hoist_invariants
from pybpf.lang.simplify import fold_addresses, simplify
from pybpf.lang.values import eliminate_copies, hoist_constants, merge_tails, remove_dead, reuse_values, split_webs

_ROUNDS = 6  # threading a jump can show the way to thread another; each round sees at least one more branch gone


def optimise(func: Function) -> None:
    """Improve ``func`` in place; what it computes stays the same."""
    tidy(func)
    share_calls(func)
    _values(func)
    tidy(func)
    fold_addresses(func)
    remove_dead(func)
    if promote(func):
        _values(func)
        tidy(func)
        fold_addresses(func)
        remove_dead(func)
    drop_dead_stores(func)
    if narrow(func):
        eliminate_copies(func)
        remove_dead(func)
    if hoist_invariants(func):
        tidy(func)
    if merge_tails(func):
        tidy(func)
    if hoist_constants(func):
        tidy(func)
    show_bounds(func)  # last: to the others these masks would be without effect


def _values(func: Function) -> None:
    """What is known of values, until nothing new is learnt."""
    for turn in range(_ROUNDS):
        split_webs(func)
        eliminate_copies(func)
        changed = propagate(func)
        simplify(func)
        before = len(func.blocks)
        tidy(func)
        if not turn:
            constants_last(func)
        # An address found to be another's makes their loads the same, hence the second try.
        if reuse_values(func):
            eliminate_copies(func)
            if reuse_values(func):
                eliminate_copies(func)
            simplify(func)
        remove_dead(func)
        if not changed and len(func.blocks) == before:
            break
