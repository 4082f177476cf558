"""The back end: from the IR of a function to its machine code."""

from __future__ import annotations

from pybpf.asm.opcodes import MAX_BPF_STACK
from pybpf.lang.cfg import clone
from pybpf.lang.check import check
from pybpf.lang.extensions import drop_extensions
from pybpf.lang.ir import Function
from pybpf.lang.isel import frame_layout, lower, over_full
from pybpf.lang.layout import emit
from pybpf.lang.opt import optimise
from pybpf.lang.peephole import clean
from pybpf.lang.regalloc import allocate
from pybpf.object.unit import CodeUnit


def generate(func: Function, *, keep: bool = True) -> CodeUnit:
    """Compile ``func``, which is left as it is unless ``keep`` is false.

    The code is for cpu v3 as Linux 5.10 takes it, little-endian. References stay
    open: ``relocs`` lists map and data loads (the 64-bit immediate holds the
    offset into the data section, 0 for maps) and calls of subprograms (imm -1),
    ``cores`` the instructions to be patched by CO-RE, where ``off`` of a load or
    the immediate of a move or of other arithmetic holds the local value.

    Raises CompileError when the frame needs more than 512 bytes, and for IR that
    breaks the rules in ``check``.
    """
    check(func)
    work = clone(func) if keep else func
    optimise(work)
    for tight in (False, True):
        offsets, depth = frame_layout(work, tight)
        if depth > MAX_BPF_STACK:
            continue
        machine = lower(work, offsets, depth)
        drop_extensions(machine)
        allocate(machine)
        depth = machine.frame
        if depth <= MAX_BPF_STACK:
            clean(machine)
            return emit(func, machine)
    raise over_full(work, offsets, depth)
