"""What the back end demands of the IR it is given.

A violation is a fault of the front end, not of the user's program; it is
reported as a CompileError that names function and block.
"""

from __future__ import annotations

from itertools import product, takewhile

from pybpf.asm.opcodes import BPF_CMPXCHG
from pybpf.errors import CompileError
from pybpf.lang import ir
from pybpf.lang.cfg import live_at_start, postorder
from pybpf.lang.ir import Block, Core, Function, Imm, Ins, Slot

# op: (dst, a, b); each "" (must be absent), "r" register, "i" register or Imm, "m" register or Slot, "?" optional
_SHAPES = {
    ir.CONST: ("r", "", ""),
    ir.MOV: ("r", "r", ""),
    ir.NEG: ("r", "r", ""),
    ir.ZEXT: ("r", "r", ""),
    ir.SEXT: ("r", "r", ""),
    ir.BSWAP: ("r", "r", ""),
    ir.LOAD: ("r", "m", ""),
    ir.STORE: ("", "m", "i"),
    ir.ATOMIC: ("?", "m", "i"),
    ir.FRAME: ("r", "", ""),
    ir.MAP: ("r", "", ""),
    ir.DATA: ("r", "", ""),
    ir.FUNC: ("r", "", ""),
    ir.KSYM: ("r", "", ""),
    ir.CORE: ("r", "", ""),
    ir.CALL: ("?", "", ""),
    ir.CALLSUB: ("?", "", ""),
    ir.CALLK: ("?", "", ""),
    ir.PARAM: ("r", "", ""),
    ir.JUMP: ("", "", ""),
    ir.BRANCH: ("", "r", "i"),
    ir.RET: ("", "i", ""),
    **dict.fromkeys(ir.BINARY, ("r", "r", "i")),
}
_SIZES = {
    ir.ZEXT: (1, 2, 4),
    ir.SEXT: (1, 2, 4),
    ir.BSWAP: (2, 4, 8),
    ir.LOAD: (1, 2, 4, 8),
    ir.STORE: (1, 2, 4, 8),
    ir.ATOMIC: (4, 8),
    ir.BRANCH: (4, 8),
    **dict.fromkeys(ir.BINARY, (4, 8)),
}
_REFS: dict[str, type] = {
    ir.FRAME: Slot,
    ir.CORE: Core,
    **dict.fromkeys((ir.MAP, ir.DATA, ir.FUNC, ir.KSYM, ir.CALLSUB, ir.CALLK), str),
}
# The types that operands have by these shapes, and what of an instruction is right by operation, types and size
# (which is 8 where the operation does not look at it).
_TYPES = {"": (type(None),), "r": (int,), "i": (int, Imm), "m": (int, Slot), "?": (int, type(None))}
_RIGHT = frozenset(
    (op, *types, size)
    for op, shape in _SHAPES.items()
    for types in product(*[_TYPES[want] for want in shape])
    for size in _SIZES.get(op, (8,))
)
# Operations of which more fields are looked at.
_SPECIAL = frozenset((*ir.TERMINATORS, *ir.CALLS, *_REFS, ir.LOAD, ir.PARAM, ir.ATOMIC))
_STRAY = "a jump target is missing or not a block of this function"
_ATOMICS = (0x00, 0x01, 0x40, 0x41, 0x50, 0x51, 0xA0, 0xA1, 0xE1, BPF_CMPXCHG)


def check(func: Function) -> None:
    """Raise CompileError for the first thing that is wrong with ``func``."""
    if not func.blocks:
        raise CompileError(f"internal error in {func.name}: a function without blocks")
    known = set(func.blocks)
    params = list(takewhile(lambda ins: ins.op == ir.PARAM, func.blocks[0].ins))
    bits = {vreg: 1 << vreg for vreg in range(len(func.vregs))}
    reads: dict[Block, int] = {}
    passed: dict[Block, int] = {}  # what a block leaves alone
    for block in func.blocks:
        last = block.ins[-1] if block.ins else None
        if last is None or last.op not in ir.TERMINATORS:
            raise _fault(func, block, None, "the block does not end in a jump, branch or return")
        read, passing = 0, -1
        for ins in block.ins:
            op, dst, a, b = ins.op, ins.dst, ins.a, ins.b
            right = (op, type(dst), type(a), type(b), ins.size) in _RIGHT
            if type(a) is not int and a is not None:
                right = right and _is_sound(a)
            if type(b) is not int and b is not None:
                right = right and _is_sound(b)
            try:
                for vreg in ins.reads:
                    read |= bits[vreg] & passing
                if dst is not None:
                    passing &= ~bits[dst]
            except KeyError:
                right = False
            if not right:
                raise _fault(func, block, ins, _misfit(func, ins))
            if op in _SPECIAL:
                problem = _problem(func, ins, known, params, last)
                if problem:
                    raise _fault(func, block, ins, problem)
            elif ins.then is not None or ins.els is not None:
                raise _fault(func, block, ins, _STRAY)
        reads[block], passed[block] = read, passing
    _check_defined(func, live_at_start(func.blocks, reads, passed))


def _fault(func: Function, block: Block, ins: Ins | None, what: str) -> CompileError:
    loc = (ins.loc if ins is not None else None) or func.loc
    place = f"{loc.path}:{loc.line}:{loc.col}: " if loc is not None else ""
    shown = f" ({ins.op})" if ins is not None else ""
    return CompileError(f"{place}internal error in {func.name}, block {block.name}{shown}: {what}; please report it")


def _misfit(func: Function, ins: Ins) -> str:
    """What is wrong with the operation, its operands or their size."""
    shape = _SHAPES.get(ins.op)
    if shape is None:
        return f"there is no operation {ins.op!r}"
    for name, want in zip(("dst", "a", "b"), shape):
        value = getattr(ins, name)
        right = 0 <= value < len(func.vregs) if type(value) is int else value is None or _is_sound(value)
        if type(value) not in _TYPES[want] or not right:
            return f"operand {name} is {value!r}"
    if ins.op in _SIZES and ins.size not in _SIZES[ins.op]:
        return f"size {ins.size} is not one of {_SIZES[ins.op]}"
    return f"arguments are {ins.args!r}" if ins.args else f"size is {ins.size}"


def _problem(func: Function, ins: Ins, known: set[Block], params: list[Ins], last: Ins) -> str:
    """What is wrong with the fields that few operations have."""
    op = ins.op
    if op in ir.TERMINATORS:
        if ins is not last:
            return "instructions follow a terminator"
        if op == ir.BRANCH and ins.cond not in ir.CONDITIONS:
            return f"there is no condition {ins.cond!r}"
        if op == ir.RET:
            stray = ins.then is not None or ins.els is not None
        else:
            stray = ins.then not in known or (ins.els not in known if op == ir.BRANCH else ins.els is not None)
        return _STRAY if stray else ""
    if ins.then is not None or ins.els is not None:
        return _STRAY
    if op in _REFS and not isinstance(ins.ref, _REFS[op]):
        return f"ref is {ins.ref!r}"
    if op == ir.LOAD and not (ins.ref is None or isinstance(ins.ref, Core)):
        return f"ref is {ins.ref!r}"
    if op == ir.PARAM and not 0 <= ins.imm < min(func.nparams, 5):
        return f"there is no parameter {ins.imm}"
    if op == ir.PARAM and ins not in params:
        return "parameters are taken at the entry's start only"
    if op == ir.ATOMIC and ins.imm not in _ATOMICS:
        return f"there is no atomic operation {ins.imm:#x}"
    count = len(ins.args)
    right = count <= 5 if op in ir.CALLS else count == (op == ir.ATOMIC and ins.imm == BPF_CMPXCHG)
    if not right or not all(type(arg) is int or _is_sound(arg) for arg in ins.args):
        return f"arguments are {ins.args!r}"
    return ""


def _is_sound(value: object) -> bool:
    """Whether a constant fits 64 bits, or a place has a size."""
    if isinstance(value, Slot):
        return value.size > 0
    return isinstance(value, Imm) and -(1 << 63) <= value.value < 1 << 64


def _check_defined(func: Function, live: dict[Block, int]) -> None:
    """Every register read must have been written on every path that leads there."""
    missing = live[func.blocks[0]]
    if not missing:
        return
    vreg = (missing & -missing).bit_length() - 1
    for block in postorder(func.blocks[0])[::-1]:
        for ins in block.ins:
            if vreg in ins.reads:
                raise _fault(func, block, ins, f"v{vreg} may be read before it is written")
