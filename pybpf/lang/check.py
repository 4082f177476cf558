"""What the back end demands of the IR it is given.

A violation is a fault of the front end, not of the user's program; it is
reported as a CompileError that names function and block.
"""

from __future__ import annotations

from pybpf.asm.opcodes import BPF_CMPXCHG
from pybpf.errors import CompileError
from pybpf.lang import ir
from pybpf.lang.cfg import Liveness, postorder, uses
from pybpf.lang.ir import Block, Core, Function, Imm, Ins, Slot

BINARY = frozenset((ir.ADD, ir.SUB, ir.MUL, ir.DIV, ir.MOD, ir.AND, ir.OR, ir.XOR, ir.LSH, ir.RSH, ir.ARSH))

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
    **dict.fromkeys(BINARY, ("r", "r", "i")),
}
_SIZES = {
    ir.ZEXT: (1, 2, 4),
    ir.SEXT: (1, 2, 4),
    ir.BSWAP: (2, 4, 8),
    ir.LOAD: (1, 2, 4, 8),
    ir.STORE: (1, 2, 4, 8),
    ir.ATOMIC: (4, 8),
    ir.BRANCH: (4, 8),
    **dict.fromkeys(BINARY, (4, 8)),
}
_REFS: dict[str, type] = {
    ir.FRAME: Slot,
    ir.CORE: Core,
    **dict.fromkeys((ir.MAP, ir.DATA, ir.FUNC, ir.KSYM, ir.CALLSUB, ir.CALLK), str),
}
_SPECIAL = frozenset((ir.LOAD, ir.PARAM, ir.ATOMIC))
_STRAY = "a jump target is missing or not a block of this function"
_ATOMICS = (0x00, 0x01, 0x40, 0x41, 0x50, 0x51, 0xA0, 0xA1, 0xE1, BPF_CMPXCHG)


def check(func: Function) -> None:
    """Raise CompileError for the first thing that is wrong with ``func``."""
    if not func.blocks:
        raise CompileError(f"internal error in {func.name}: a function without blocks")
    known = set(func.blocks)
    for block in func.blocks:
        if not block.ins or block.ins[-1].op not in ir.TERMINATORS:
            raise _fault(func, block, None, "the block does not end in a jump, branch or return")
        params_allowed = block is func.blocks[0]
        for ins in block.ins[:-1]:
            if ins.op in ir.TERMINATORS:
                raise _fault(func, block, ins, "instructions follow a terminator")
            if ins.op == ir.PARAM and not params_allowed:
                raise _fault(func, block, ins, "parameters are taken at the entry's start only")
            params_allowed = params_allowed and ins.op == ir.PARAM
        for ins in block.ins:
            problem = _problem(func, ins, known)
            if problem:
                raise _fault(func, block, ins, problem)
    _check_defined(func)


def _fault(func: Function, block: Block, ins: Ins | None, what: str) -> CompileError:
    loc = (ins.loc if ins is not None else None) or func.loc
    place = f"{loc.path}:{loc.line}:{loc.col}: " if loc is not None else ""
    shown = f" ({ins.op})" if ins is not None else ""
    return CompileError(f"{place}internal error in {func.name}, block {block.name}{shown}: {what}; please report it")


def _problem(func: Function, ins: Ins, known: set[Block]) -> str:
    op, dst, a, b = ins.op, ins.dst, ins.a, ins.b
    shape = _SHAPES.get(op)
    if shape is None:
        return f"there is no operation {op!r}"
    vregs = len(func.vregs)
    wants_dst, wants_a, wants_b = shape
    # A register where one is wanted, and nothing where nothing is, are nearly all there is.
    right = 0 <= dst < vregs if type(dst) is int and wants_dst else not wants_dst and dst is None
    if not right and not _fits(dst, wants_dst, vregs):
        return f"operand dst is {dst!r}"
    right = 0 <= a < vregs if type(a) is int and wants_a else not wants_a and a is None
    if not right and not _fits(a, wants_a, vregs):
        return f"operand a is {a!r}"
    right = 0 <= b < vregs if type(b) is int and wants_b else not wants_b and b is None
    if not right and not _fits(b, wants_b, vregs):
        return f"operand b is {b!r}"
    sizes = _SIZES.get(op)
    if sizes is not None and ins.size not in sizes:
        return f"size {ins.size} is not one of {sizes}"
    if op == ir.BRANCH:
        if ins.cond not in ir.CONDITIONS:
            return f"there is no condition {ins.cond!r}"
        if ins.then not in known or ins.els not in known:
            return _STRAY
    elif op == ir.JUMP:
        if ins.then not in known or ins.els is not None:
            return _STRAY
    elif ins.then is not None or ins.els is not None:
        return _STRAY
    elif op in _REFS and not isinstance(ins.ref, _REFS[op]):
        return f"ref is {ins.ref!r}"
    if ins.args or op in _SPECIAL:
        return _special_problem(func, ins)
    return ""


def _special_problem(func: Function, ins: Ins) -> str:
    """What is wrong with the fields that few operations have."""
    op = ins.op
    if op == ir.LOAD and not (ins.ref is None or isinstance(ins.ref, Core)):
        return f"ref is {ins.ref!r}"
    if op in ir.CALLS and (len(ins.args) > 5 or not all(_fits(arg, "i", len(func.vregs)) for arg in ins.args)):
        return f"arguments are {ins.args!r}"
    if op == ir.PARAM and not 0 <= ins.imm < min(func.nparams, 5):
        return f"there is no parameter {ins.imm}"
    if op == ir.ATOMIC and ins.imm not in _ATOMICS:
        return f"there is no atomic operation {ins.imm:#x}"
    if op == ir.ATOMIC and not (
        len(ins.args) == (ins.imm == BPF_CMPXCHG) and all(_fits(arg, "i", len(func.vregs)) for arg in ins.args)
    ):
        return f"arguments are {ins.args!r}"
    return ""


def _fits(value: object, want: str, vregs: int) -> bool:
    if value is None:
        return want in ("", "?")
    if isinstance(value, Imm):
        return want == "i" and -(1 << 63) <= value.value < 1 << 64
    if isinstance(value, Slot):
        return want == "m" and value.size > 0
    return want != "" and type(value) is int and 0 <= value < vregs


def _check_defined(func: Function) -> None:
    """Every register read must have been written on every path that leads there."""
    missing = Liveness(func).at_start[func.blocks[0]]
    if not missing:
        return
    vreg = (missing & -missing).bit_length() - 1
    for block in postorder(func.blocks[0])[::-1]:
        for ins in block.ins:
            if vreg in uses(ins):
                raise _fault(func, block, ins, f"v{vreg} may be read before it is written")
