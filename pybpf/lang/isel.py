"""From IR to machine instructions over virtual registers: two-address form, calling convention, frame places."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pybpf.asm.opcodes import (
    BPF_ADD,
    BPF_ALU,
    BPF_ALU64,
    BPF_AND,
    BPF_ARSH,
    BPF_ATOMIC,
    BPF_CMPXCHG,
    BPF_DIV,
    BPF_END,
    BPF_FETCH,
    BPF_JEQ,
    BPF_JGE,
    BPF_JGT,
    BPF_JLE,
    BPF_JLT,
    BPF_JMP,
    BPF_JMP32,
    BPF_JNE,
    BPF_JSET,
    BPF_JSGE,
    BPF_JSGT,
    BPF_JSLE,
    BPF_JSLT,
    BPF_LDX,
    BPF_LSH,
    BPF_MEM,
    BPF_MOD,
    BPF_MOV,
    BPF_MUL,
    BPF_NEG,
    BPF_OR,
    BPF_PSEUDO_CALL,
    BPF_PSEUDO_FUNC,
    BPF_PSEUDO_KFUNC_CALL,
    BPF_PSEUDO_MAP_FD,
    BPF_PSEUDO_MAP_VALUE,
    BPF_REG_FP,
    BPF_RSH,
    BPF_ST,
    BPF_STX,
    BPF_SUB,
    BPF_TO_BE,
    BPF_X,
    BPF_XCHG,
    BPF_XOR,
    CALL,
    LD_IMM64,
    MAX_BPF_STACK,
    SIZES,
)
from pybpf.errors import CompileError
from pybpf.lang import ir
from pybpf.lang.cfg import Liveness, loop_depths
from pybpf.lang.fold import MASK64, fits_s32, signed
from pybpf.lang.ir import Block, Core, Function, Imm, Ins, Loc, Slot
from pybpf.lang.mir import FIRST_VIRTUAL, FRAME_ADDRESS, MOVE, MOVE32_IMM, MOVE_IMM, MBlock, MFunction, MIns
from pybpf.lang.registers import Registers
from pybpf.lang.widths import bounded

ALU = {
    ir.ADD: BPF_ADD,
    ir.SUB: BPF_SUB,
    ir.MUL: BPF_MUL,
    ir.DIV: BPF_DIV,
    ir.MOD: BPF_MOD,
    ir.AND: BPF_AND,
    ir.OR: BPF_OR,
    ir.XOR: BPF_XOR,
    ir.LSH: BPF_LSH,
    ir.RSH: BPF_RSH,
    ir.ARSH: BPF_ARSH,
}
JUMPS = {
    "eq": BPF_JEQ,
    "ne": BPF_JNE,
    "gt": BPF_JGT,
    "ge": BPF_JGE,
    "lt": BPF_JLT,
    "le": BPF_JLE,
    "sgt": BPF_JSGT,
    "sge": BPF_JSGE,
    "slt": BPF_JSLT,
    "sle": BPF_JSLE,
    "set": BPF_JSET,
}
_MAP_ACCESS = frozenset((1, 2, 3))  # bpf_map_lookup_elem, update_elem, delete_elem: they read keys and values
_COMMUTES = frozenset((ir.ADD, ir.MUL, ir.AND, ir.OR, ir.XOR))
# A relocated operand of a division could be zero before the relocation, which the verifier refuses.
_TAKES_CORE = frozenset((ir.ADD, ir.SUB, ir.MUL, ir.AND, ir.OR, ir.XOR, ir.LSH, ir.RSH, ir.ARSH))


def frame_layout(func: Function, tight: bool) -> tuple[dict[Slot, int], int]:
    """Offsets from r10 of the slots in use, and the frame's depth (a multiple of 8).

    Normally every slot begins at a multiple of 8: the verifier follows whole
    8-byte words best. Keys and other small slots that only helpers read come to
    lie in the upper half of their word: there the verifier does not remember what
    number was stored, and checks the code behind once, not for each number again.
    Constants stay in the lower half, where newer kernels see that an index is in
    bounds. ``tight`` packs by the slots' own alignment instead.
    """
    slots: dict[Slot, None] = {}
    users: list[Ins] = []
    for block in func.blocks:
        for ins in block.ins:
            if type(ins.a) is Slot:
                slots[ins.a] = None
                users.append(ins)
            elif ins.op == ir.FRAME:
                assert isinstance(ins.ref, Slot)
                slots[ins.ref] = None
                users.append(ins)
    upper = _word_keys(func, users) if slots and not tight else set()
    order = sorted(slots, key=lambda slot: -slot.align) if tight else list(slots)
    offsets: dict[Slot, int] = {}
    depth = 0
    for slot in order:
        align = slot.align if tight else max(8, slot.align)
        depth = -(-(depth + slot.size) // align) * align
        offsets[slot] = -depth + 4 if slot in upper else -depth
    return offsets, -(-depth // 8) * 8


def _word_keys(func: Function, users: list[Ins]) -> set[Slot]:
    """Slots of which only 4 bytes are used, as a map's key or value that was stored from a register.

    ``users`` are the instructions that refer to slots.
    """
    stored: set[Slot] = set()
    refused: set[Slot] = set()
    holders: dict[int, Slot] = {}
    for ins in users:
        if type(ins.a) is Slot:
            if ins.op != ir.STORE or ins.size != 4 or ins.off or ins.a.size != 8:
                refused.add(ins.a)
            elif type(ins.b) is int:
                stored.add(ins.a)
        else:
            assert isinstance(ins.ref, Slot)
            assert ins.dst is not None
            if holders.setdefault(ins.dst, ins.ref) is not ins.ref or ins.off:
                refused |= {ins.ref, holders[ins.dst]}
    if stored <= refused:
        return set()
    for block in func.blocks:
        for ins in block.ins:
            if ins.op == ir.CALL and ins.imm in _MAP_ACCESS and ins.args[:1] and ins.args[0] not in holders:
                continue
            if ins.dst in holders and ins.op != ir.FRAME:
                refused.add(holders[ins.dst])
            for vreg in ins.reads:
                if vreg in holders:
                    refused.add(holders[vreg])
    return stored - refused


def over_full(func: Function, offsets: dict[Slot, int], depth: int) -> CompileError:
    """The error for a frame that does not fit, naming what fills it."""
    place = f"{func.loc.path}:{func.loc.line}:{func.loc.col}: " if func.loc is not None else ""
    biggest = sorted(offsets, key=lambda slot: -slot.size)[:3]
    names = ", ".join(f"{slot.name or 'a temporary'} ({slot.size} bytes)" for slot in biggest)
    why = f"the biggest places are {names}" if names else "the values that do not fit in registers fill it"
    return CompileError(
        f"{place}{func.name} needs {depth} bytes of stack and has {MAX_BPF_STACK}; {why}; "
        "keep big objects in a per-CPU array map or a ring buffer record"
    )


def lower(func: Function, offsets: dict[Slot, int], depth: int) -> MFunction:
    """The machine instructions of ``func``."""
    return _Lowering(func, offsets, depth).run()


class _Lowering:
    def __init__(self, func: Function, offsets: dict[Slot, int], depth: int) -> None:
        self.func = func
        self.offsets = offsets
        self.out = MFunction(partial(_classes, func))
        self.out.frame = depth
        self.out.count = FIRST_VIRTUAL + len(func.vregs)
        registers = Registers(func)
        self.only, self.reads = registers.only, registers.reads
        self.source = func.blocks[0]  # that is being read
        self.block = MBlock("")  # that is being written
        self.ins = self.block.ins
        self.loc: Loc | None = None
        self.index = 0  # of the current instruction in its block
        self.loops = False
        self.live: Liveness | None = None
        self.afters: tuple[Block, list[int]] | None = None  # what is live behind each instruction of a block

    def run(self) -> MFunction:
        func = self.func
        depths = loop_depths(func.blocks)
        self.loops = any(depths.values())
        twins = {block: MBlock(block.name, depths[block]) for block in func.blocks}
        in_registers = self._core_in_registers()
        for block in func.blocks:
            twin = twins[block]
            self.source, self.block, self.ins = block, twin, twin.ins
            for self.index, ins in enumerate(block.ins):
                self.loc = ins.loc
                if ins.op == ir.CORE and ins.dst in self.only and ins.dst not in in_registers:
                    continue  # every reader has it as its immediate
                _LOWERINGS[ins.op](self, ins)
            last = block.ins[-1]
            if last.then is not None:
                twin.then = twins[last.then]
            if last.els is not None:
                twin.els = twins[last.els]
            self.out.blocks.append(twin)
        return self.out

    def _after(self) -> int:
        """What is live behind the current instruction, as a bit set."""
        block = self.source
        if self.afters is None or self.afters[0] is not block:
            self.afters = (block, self._afters(block))
        return self.afters[1][self.index]

    def _afters(self, block: Block) -> list[int]:
        """What is live behind each instruction."""
        if self.live is None:
            self.live = Liveness(self.func)
        bits, alive = self.live.bits, self.live.at_end[block]
        afters = []
        for ins in reversed(block.ins):
            afters.append(alive)
            dst = ins.dst
            if dst is not None:
                alive &= ~bits[dst]
            for vreg in ins.reads:
                alive |= bits[vreg]
        return afters[::-1]

    # --- small helpers ---

    def _reg(self, vreg: object) -> int:
        assert type(vreg) is int
        return FIRST_VIRTUAL + vreg

    def _emit(self, op: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0, ref: object = None) -> MIns:
        ins = MIns(op, dst, src, off, imm, ref, self.loc)
        self.ins.append(ins)
        return ins

    def _move(self, dst: int, src: int) -> None:
        if dst != src:
            self._emit(MOVE, dst, src)

    def _constant(self, dst: int, value: int) -> None:
        value &= MASK64
        if fits_s32(value):
            self._emit(MOVE_IMM, dst, imm=signed(value))
        elif value < 1 << 32:
            self._emit(MOVE32_IMM, dst, imm=signed(value, 32))
        else:
            self._emit(LD_IMM64, dst, imm=value)

    def _operand(self, operand: object) -> int:
        """A register that holds the operand."""
        if isinstance(operand, Imm):
            register = self.out.new()
            self._constant(register, operand.value)
            return register
        return self._reg(operand)

    def _address(self, ins: Ins) -> tuple[int, int]:
        """Base register and offset of a memory access."""
        if isinstance(ins.a, Slot):
            place = self.offsets[ins.a] + ins.off
            if ins.ref is None and -0x8000 <= place <= 0x7FFF:
                return BPF_REG_FP, place
            base = self.out.new()
            self._emit(FRAME_ADDRESS, base, imm=self.offsets[ins.a])
        else:
            base = self._reg(ins.a)
        if -0x8000 <= ins.off <= 0x7FFF:
            return base, ins.off
        sum_ = self.out.new()
        self._move(sum_, base)
        self._add(sum_, ins.off, ins.ref)
        return sum_, 0

    def _add(self, dst: int, value: int, ref: object = None) -> None:
        if fits_s32(value):
            self._emit(BPF_ALU64 | BPF_ADD, dst, imm=signed(value), ref=ref)
        else:
            self._emit(BPF_ALU64 | BPF_ADD | BPF_X, dst, self._operand(Imm(value)))

    def _core_of(self, operand: object) -> Ins | None:
        """The CORE instruction that gives a register its value, if an immediate can take its place."""
        source = self.only.get(operand) if type(operand) is int else None
        if source is None or source.op != ir.CORE or not fits_s32(source.imm):
            return None
        return source

    def _core_operand(self, ins: Ins) -> Ins | None:
        if ins.op not in _TAKES_CORE or ins.size != 8 or type(ins.b) is not int:
            return None
        return self._core_of(ins.b) or (self._core_of(ins.a) if ins.op in _COMMUTES else None)

    def _core_in_registers(self) -> set[int]:
        """The registers whose CORE value some instruction needs in a register."""
        needed: set[int] = set()
        if not any(source.op == ir.CORE for source in self.only.values()):
            return needed
        for block in self.func.blocks:
            for ins in block.ins:
                reads = list(ins.reads)
                core = self._core_operand(ins)
                if core is not None:
                    reads.remove(core.dst)  # type: ignore[arg-type]
                needed.update(reads)
        return needed

    # --- instructions ---

    def _const(self, ins: Ins) -> None:
        self._constant(self._reg(ins.dst), ins.imm)

    def _mov(self, ins: Ins) -> None:
        self._move(self._reg(ins.dst), self._reg(ins.a))

    def _param(self, ins: Ins) -> None:
        self._move(self._reg(ins.dst), ins.imm + 1)

    def _ret(self, ins: Ins) -> None:
        if isinstance(ins.a, Imm):
            self._constant(0, ins.a.value)
        else:
            self._move(0, self._reg(ins.a))
        self.block.exit_loc = ins.loc

    def _jump(self, ins: Ins) -> None:
        self.block.exit_loc = ins.loc

    def _symbol(self, ins: Ins) -> None:
        dst = self._reg(ins.dst)
        if ins.op == ir.FRAME:
            assert isinstance(ins.ref, Slot)
            self._emit(FRAME_ADDRESS, dst, imm=self.offsets[ins.ref] + ins.off)
        elif ins.op == ir.MAP:
            self._emit(LD_IMM64, dst, BPF_PSEUDO_MAP_FD, ref=("map", ins.ref))
        elif ins.op == ir.DATA:
            self._emit(LD_IMM64, dst, BPF_PSEUDO_MAP_VALUE, imm=ins.off, ref=("data", ins.ref))
        elif ins.op == ir.FUNC:
            self._emit(LD_IMM64, dst, BPF_PSEUDO_FUNC, ref=("func", ins.ref))
        elif ins.op == ir.KSYM:
            self._emit(LD_IMM64, dst, ref=("ksym", ins.ref))
        elif fits_s32(ins.imm):
            self._emit(MOVE_IMM, dst, imm=signed(ins.imm), ref=ins.ref)
        else:
            self._emit(LD_IMM64, dst, imm=ins.imm & MASK64, ref=ins.ref)

    def _unary(self, ins: Ins) -> None:
        dst, a, size = self._reg(ins.dst), self._reg(ins.a), ins.size
        if ins.op == ir.ZEXT and size == 4:
            self._emit(BPF_ALU | BPF_MOV | BPF_X, dst, a)
            return
        self._move(dst, a)
        if ins.op == ir.NEG:
            self._emit(BPF_ALU64 | BPF_NEG, dst)
        elif ins.op == ir.ZEXT:
            self._emit(BPF_ALU64 | BPF_AND, dst, imm=(1 << size * 8) - 1)
        elif ins.op == ir.SEXT:
            self._sign_extend(dst, size)
        else:
            self._emit(BPF_ALU | BPF_END | (BPF_TO_BE if ins.imm else 0), dst, imm=size * 8)

    def _sign_extend(self, dst: int, size: int) -> None:
        self._emit(BPF_ALU64 | BPF_LSH, dst, imm=64 - size * 8)
        self._emit(BPF_ALU64 | BPF_ARSH, dst, imm=64 - size * 8)

    def _binary(self, ins: Ins) -> None:
        kind = (BPF_ALU64 if ins.size == 8 else BPF_ALU) | ALU[ins.op]
        dst = self._reg(ins.dst)
        core = self._core_operand(ins)
        if core is not None:
            self._move(dst, self._reg(ins.a if core.dst == ins.b else ins.b))
            self._emit(kind, dst, imm=signed(core.imm), ref=core.ref)
            return
        if isinstance(ins.b, Imm):
            value = signed(ins.b.value, ins.size * 8)
            if ins.op in (ir.LSH, ir.RSH, ir.ARSH):
                value &= ins.size * 8 - 1  # the ISA masks the count, the verifier refuses what needs it
            if fits_s32(value) and not (value == 0 and ins.op in (ir.DIV, ir.MOD)):
                self._move(dst, self._reg(ins.a))
                self._emit(kind, dst, imm=value)
                return
        a, b = self._reg(ins.a), self._operand(ins.b)
        if ins.op in _COMMUTES and (
            dst == b or (dst != a and type(ins.a) is int and type(ins.b) is int and self._dies(ins.b, ins.a))
        ):
            a, b = b, a
        if dst == b and dst != a:
            result = self.out.new()
            self._move(result, a)
            self._emit(kind | BPF_X, result, b)
            self._move(dst, result)
            return
        self._move(dst, a)
        self._emit(kind | BPF_X, dst, b)

    def _dies(self, first: int, second: int) -> bool:
        """Whether ``first`` is not read any more after this instruction and ``second`` is."""
        if self.reads[second] == 1 and not self.loops:
            return False  # this is the one that reads it
        after = self._after()
        return not after >> first & 1 and bool(after >> second & 1)

    def _memory(self, ins: Ins) -> None:
        base, off = self._address(ins)
        size = SIZES[ins.size]
        if ins.op == ir.LOAD:
            dst = self._reg(ins.dst)
            ref = ins.ref if off == ins.off else None
            self._emit(BPF_LDX | BPF_MEM | size, dst, base, off, ref=ref)
            if ins.imm and ins.size < 8:
                self._sign_extend(dst, ins.size)
            return
        if ins.op == ir.ATOMIC:
            self._atomic(ins, base, off)
            return
        if isinstance(ins.b, Imm) and not self._is_parameter(ins.a):
            value = ins.b.value & (1 << ins.size * 8) - 1
            value = value if ins.size < 4 else signed(value, ins.size * 8)
            if fits_s32(value):
                self._emit(BPF_ST | BPF_MEM | size, base, off=off, imm=value)
                return
        self._emit(BPF_STX | BPF_MEM | size, base, self._operand(ins.b), off)

    def _is_parameter(self, base: object) -> bool:
        """Whether an address may be the context, into which old verifiers take no immediate stores."""
        source = self.only.get(base) if type(base) is int else None
        return source is not None and source.op == ir.PARAM

    def _atomic(self, ins: Ins, base: int, off: int) -> None:
        code = ins.imm
        if ins.dst is None and code not in (BPF_XCHG, BPF_CMPXCHG):
            code &= ~BPF_FETCH  # nobody wants the old value, and the plain form is older
        op = BPF_STX | BPF_ATOMIC | SIZES[ins.size]
        if not code & BPF_FETCH:
            self._emit(op, base, self._operand(ins.b), off, code)
            return
        if code == BPF_CMPXCHG:
            new = self._operand(ins.b)
            (expected,) = ins.args
            if isinstance(expected, Imm):
                self._constant(0, expected.value)
            else:
                self._move(0, self._reg(expected))
            self._emit(op, base, new, off, code)
            if ins.dst is not None:
                self._move(self._reg(ins.dst), 0)
            return
        value = self.out.new()
        if isinstance(ins.b, Imm):
            self._constant(value, ins.b.value)
        else:
            self._move(value, self._reg(ins.b))
        self._emit(op, base, value, off, code)
        if ins.dst is not None:
            self._move(self._reg(ins.dst), value)

    def _call(self, ins: Ins) -> None:
        # Constants last: they need no register of their own while the others find their places.
        for number, arg in enumerate(ins.args, 1):
            if not isinstance(arg, Imm):
                self._move(number, self._reg(arg))
        for number, arg in enumerate(ins.args, 1):
            if isinstance(arg, Imm):
                self._constant(number, arg.value)
        if ins.op == ir.CALL:
            call = self._emit(CALL, imm=ins.imm)
        elif ins.op == ir.CALLSUB:
            call = self._emit(CALL, src=BPF_PSEUDO_CALL, imm=-1, ref=("call", ins.ref))
        else:
            call = self._emit(CALL, src=BPF_PSEUDO_KFUNC_CALL, imm=-1, ref=("kfunc", ins.ref))
        call.nargs = len(ins.args)
        if ins.dst is not None:
            self._move(self._reg(ins.dst), 0)

    def _branch(self, ins: Ins) -> None:
        kind = (BPF_JMP if ins.size == 8 else BPF_JMP32) | JUMPS[ins.cond]
        if isinstance(ins.b, Imm):
            value = signed(ins.b.value, ins.size * 8)
            if fits_s32(value):
                self.block.test = MIns(kind, self._reg(ins.a), imm=value, loc=ins.loc)
                return
        right = self._operand(ins.b)
        self.block.test = MIns(kind | BPF_X, self._reg(ins.a), right, loc=ins.loc)


def _classes(func: Function) -> tuple[set[int], set[int]]:
    """What spilling must know: the pointers, and the scalars whose bounds prove accesses safe."""
    parts = bounded(func)
    kinds = list(enumerate(func.vregs))
    return (
        {FIRST_VIRTUAL + vreg for vreg, kind in kinds if kind == ir.POINTER},
        {FIRST_VIRTUAL + vreg for vreg, kind in kinds if kind != ir.POINTER and vreg in parts},
    )


_LOWERINGS: dict[str, Callable[[_Lowering, Ins], None]] = {
    **dict.fromkeys(ALU, _Lowering._binary),
    **dict.fromkeys((ir.NEG, ir.ZEXT, ir.SEXT, ir.BSWAP), _Lowering._unary),
    **dict.fromkeys((ir.LOAD, ir.STORE, ir.ATOMIC), _Lowering._memory),
    **dict.fromkeys((ir.FRAME, ir.MAP, ir.DATA, ir.FUNC, ir.KSYM, ir.CORE), _Lowering._symbol),
    **dict.fromkeys(ir.CALLS, _Lowering._call),
    ir.CONST: _Lowering._const,
    ir.MOV: _Lowering._mov,
    ir.PARAM: _Lowering._param,
    ir.BRANCH: _Lowering._branch,
    ir.JUMP: _Lowering._jump,
    ir.RET: _Lowering._ret,
}

__all__ = ["Core", "frame_layout", "lower", "over_full"]
