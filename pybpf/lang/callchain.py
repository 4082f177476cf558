"""What functions that call each other need together: the kernel's stack and its frames are shared by a whole chain.

The rules are those of check_max_stack_depth() in kernel/bpf/verifier.c. Callbacks of helpers count as called by
the function that hands them over, but for those that run later, as timers' do: each of these begins a chain.
"""

from __future__ import annotations

from collections.abc import Sequence

from pybpf.asm.opcodes import MAX_BPF_STACK
from pybpf.errors import CompileError
from pybpf.lang.ir import Function
from pybpf.object.spec import RELOC_CALL, RELOC_FUNC
from pybpf.object.unit import CodeUnit

_FRAMES = 8  # MAX_CALL_FRAMES
_ROUNDED = 32  # newer kernels round to 16 where programs are translated, but Linux 5.10 does not


def check_chains(functions: Sequence[Function], units: Sequence[CodeUnit], later: set[str]) -> CompileError | None:
    """The error for a chain of calls that is too deep, or None; ``later``: callbacks that outlive their caller."""
    if len(units) < 2:
        return None
    callees = {
        unit.name: {r.target for r in unit.relocs if r.kind in (RELOC_CALL, RELOC_FUNC)} - later for unit in units
    }
    stacks = {unit.name: max(_ROUNDED, -(-unit.stack // _ROUNDED) * _ROUNDED) for unit in units}
    deepest: dict[str, list[str]] = {}

    def chain(name: str) -> list[str]:
        """The chain from ``name`` on that takes the most stack. There is no recursion."""
        if name not in deepest:
            tails = [chain(callee) for callee in sorted(callees.get(name, ()))]
            tail = max(tails, key=lambda names: sum(map(stacks.__getitem__, names)), default=[])
            deepest[name] = [name, *tail]
        return deepest[name]

    frames: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in frames:
            frames[name] = 1 + max(map(depth, callees.get(name, ())), default=0)
        return frames[name]

    called = set().union(*callees.values())
    for function in functions:
        if function.name in called:
            continue
        names = chain(function.name)
        total = sum(map(stacks.__getitem__, names))
        place = f"{function.loc.path}:{function.loc.line}:{function.loc.col}: " if function.loc is not None else ""
        if len(names) > 1 and total > MAX_BPF_STACK:
            parts = ", ".join(f"{name} {stacks[name]}" for name in names)
            return CompileError(
                f"{place}{function.name} and what it calls need {total} bytes of stack and have {MAX_BPF_STACK} "
                f"together ({parts}); keep big objects in a per-CPU array map or a ring buffer record"
            )
        if depth(function.name) > _FRAMES:
            return CompileError(
                f"{place}calls of subprograms from {function.name} on nest {depth(function.name)} deep, "
                f"and the kernel has {_FRAMES} frames: make some of them @inline"
            )
    return None
