"""The intermediate representation between the DSL front end and the back end.

A function is a control-flow graph of basic blocks over virtual registers. A
virtual register is a plain ``int`` (an index into ``Function.vregs``) and holds
64 bits. It may be assigned more than once: there is one virtual register per
Python variable plus temporaries, so this is not SSA. Integers always live in
64-bit registers (the verifier loses bounds across 32-bit copies); narrower
values are what ``ZEXT``/``SEXT`` made of them.

Instructions have the fields ``op dst a b imm off size ref loc``; which of them
mean something depends on ``op``, as the table below says. An operand ``b`` is
either a virtual register (int) or an ``Imm``; an address operand ``a`` of LOAD,
STORE and ATOMIC is a virtual register or a ``Slot`` (a place in the frame).
"""

from __future__ import annotations

from pybpf.object.unit import Core as Core
from pybpf.object.unit import Loc as Loc

# --- operations -------------------------------------------------------------
# op        fields                          meaning
CONST = "const"  # dst imm                  dst = imm (any 64-bit value, signed or unsigned)
MOV = "mov"  # dst a                        dst = a
# Binary ALU, 64 bit: dst = a <op> b. `size` is 8, or 4 for the 32-bit form that
# zero-extends its result. div and mod are unsigned, as in the ISA (x/0 = 0, x%0 = x).
ADD, SUB, MUL, DIV, MOD = "add", "sub", "mul", "div", "mod"
AND, OR, XOR, LSH, RSH, ARSH = "and", "or", "xor", "lsh", "rsh", "arsh"
NEG = "neg"  # dst a                        dst = -a
ZEXT = "zext"  # dst a size                 dst = the low `size` bytes of a, zero-extended (size 1, 2, 4)
SEXT = "sext"  # dst a size                 the same, sign-extended
BSWAP = "bswap"  # dst a size imm           host <-> big endian (imm=1) or little endian (imm=0); size 2, 4, 8
LOAD = "load"  # dst a off size ref         dst = *(u{size*8} *)(a + off), zero-extended; imm=1 sign-extends.
#                                           ref: None, or a Core field relocation of kind BYTE_OFFSET for `off`
STORE = "store"  # a b off size ref         *(u{size*8} *)(a + off) = b
ATOMIC = "atomic"  # a b off size imm [dst] atomic op `imm` (0 add, 0x40 or, 0x50 and, 0xa0 xor, |1 fetch; 0xe1 xchg,
#                                           0xf1 cmpxchg: args is the expected value). With a fetch dst receives the old
#                                           value, zero-extended
FRAME = "frame"  # dst ref                  dst = address of Slot ref
MAP = "map"  # dst ref                      dst = map pointer; ref is the map's name (ld_imm64, src 1)
DATA = "data"  # dst ref off                dst = address of byte `off` of data section `ref` (ld_imm64, src 2)
FUNC = "func"  # dst ref                  dst = address of the subprogram named ref, to be called back (ld_imm64, src 4)
KSYM = "ksym"  # dst ref                  dst = address of the kernel's variable ref, 0 if absent (ld_imm64, src 3 or 0)
CORE = "core"  # dst ref                    dst = value of the Core relocation ref (mov imm, patched at load time)
CALL = "call"  # dst imm args               dst (or None) = helper number imm (args: up to 5 vregs or Imm)
CALLSUB = "callsub"  # dst ref args         dst = call of the subprogram named ref
CALLK = "callk"  # dst ref args             dst (or None) = call of the kernel's function ref (call, src 2)
PARAM = "param"  # dst imm                  dst = argument number imm (0-based); only at the entry block's start
# Terminators: the last instruction of every block, and only there.
JUMP = "jump"  # then                       go to block `then`
BRANCH = "branch"  # cond a b size then els if a <cond> b go to `then`, else to `els`; size 8 or 4 (low halves)
RET = "ret"  # a                            return a (vreg or Imm)

TERMINATORS = frozenset((JUMP, BRANCH, RET))
CALLS = frozenset((CALL, CALLSUB, CALLK))
BINARY = frozenset((ADD, SUB, MUL, DIV, MOD, AND, OR, XOR, LSH, RSH, ARSH))
CONDITIONS = ("eq", "ne", "gt", "ge", "lt", "le", "sgt", "sge", "slt", "sle", "set")

# Kinds of virtual registers: a spill slot never holds both sorts.
SCALAR, POINTER = "scalar", "pointer"


class Imm:
    """A constant operand. The back end materialises it when it does not fit 32 bits."""

    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"#{self.value}"


class Slot:
    """A place of ``size`` bytes in the 512-byte frame; the back end gives it its address."""

    __slots__ = ("align", "name", "size")

    def __init__(self, size: int, align: int = 8, name: str = "") -> None:
        self.size = size
        self.align = align
        self.name = name

    def __repr__(self) -> str:
        return f"slot({self.name or hex(id(self))}:{self.size})"


class Ins:
    """One instruction; see the table at the top for the fields an ``op`` uses.

    ``reads`` are the registers among its operands ``a``, ``b`` and ``args``, in this order. So these are
    set together: when it is made, or by set_operands().
    """

    __slots__ = ("a", "args", "b", "cond", "dst", "els", "imm", "loc", "off", "op", "reads", "ref", "size", "then")

    def __init__(
        self,
        op: str,
        dst: int | None = None,
        a: int | Slot | Imm | None = None,
        b: int | Imm | None = None,
        imm: int = 0,
        off: int = 0,
        size: int = 8,
        ref: object = None,
        args: tuple[int | Imm, ...] = (),
        *,
        cond: str = "",
        then: Block | None = None,
        els: Block | None = None,
        loc: Loc | None = None,
    ) -> None:
        self.op = op
        self.dst = dst
        self.a = a
        self.b = b
        self.args = args
        # As set_operands() has it, without a call: so many are made.
        if args:
            self.reads = _registers(a, b, *args)
        elif type(a) is int:
            self.reads = (a, b) if type(b) is int else (a,)
        else:
            self.reads = (b,) if type(b) is int else ()
        self.imm = imm
        self.off = off
        self.size = size
        self.ref = ref
        self.cond = cond
        self.then = then
        self.els = els
        self.loc = loc

    def set_operands(
        self, a: int | Slot | Imm | None, b: int | Imm | None = None, args: tuple[int | Imm, ...] = ()
    ) -> None:
        """Give it other operands."""
        self.a, self.b, self.args = a, b, args
        self.reads = _registers(a, b, *args)


def _registers(*operands: object) -> tuple[int, ...]:
    return tuple([operand for operand in operands if type(operand) is int])


class Block:
    """Instructions that run in a row; the last is the terminator."""

    __slots__ = ("ins", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.ins: list[Ins] = []


class Function:
    """A program or subprogram.

    ``section`` is the ELF section (``tp_btf/sys_exit``, ``.text`` for
    subprograms); ``nparams`` is 1 (the context) for programs. ``vregs[i]`` is the
    kind of virtual register i (SCALAR or POINTER).
    """

    def __init__(self, name: str, section: str, nparams: int = 1) -> None:
        self.name = name
        self.section = section
        self.nparams = nparams
        self.vregs: list[str] = []
        self.blocks: list[Block] = []  # blocks[0] is the entry
        self.loc: Loc | None = None  # where the function starts

    def vreg(self, kind: str = SCALAR) -> int:
        """A new virtual register."""
        self.vregs.append(kind)
        return len(self.vregs) - 1

    def block(self, name: str = "") -> Block:
        """A new empty block, appended."""
        block = Block(name or f"b{len(self.blocks)}")
        self.blocks.append(block)
        return block

    def dump(self) -> str:
        """The function as text, for tests and for people."""
        lines = [f"function {self.name} [{self.section}] params={self.nparams}"]
        for block in self.blocks:
            lines.append(f"{block.name}:")
            lines += [f"    {_show(ins)}" for ins in block.ins]
        return "\n".join(lines)


def _show(ins: Ins) -> str:
    words = [ins.op]
    if ins.cond:
        words.append(ins.cond)
    if ins.dst is not None:
        words.append(f"v{ins.dst} =")
    for operand in (ins.a, ins.b, *ins.args):
        if operand is not None:
            words.append(f"v{operand}" if isinstance(operand, int) else repr(operand))
    if ins.op in (CONST, CALL, PARAM, ATOMIC, BSWAP) or (ins.op == LOAD and ins.imm):
        words.append(f"imm={ins.imm:#x}")
    if ins.op in (LOAD, STORE, ATOMIC, DATA):
        words.append(f"off={ins.off}")
    if ins.size != 8:
        words.append(f"size={ins.size}")
    if ins.ref is not None:
        words.append(repr(ins.ref))
    if ins.then is not None:
        words.append(f"-> {ins.then.name}")
    if ins.els is not None:
        words.append(f"else {ins.els.name}")
    return " ".join(words)
