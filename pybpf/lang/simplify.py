"""Algebra on single instructions: cheaper forms, redundant extensions, address arithmetic into offsets."""

from __future__ import annotations

from collections.abc import Callable

from pybpf.lang import ir
from pybpf.lang.cfg import FLOW, VALUES, clone_ins
from pybpf.lang.fold import MASK64, extend, fits_s32, signed, swap
from pybpf.lang.ir import Function, Imm, Ins, Slot
from pybpf.lang.registers import Registers
from pybpf.lang.widths import Widths

_ACCESSES = frozenset((ir.LOAD, ir.STORE, ir.ATOMIC))
_SIGNED_OF_EXTENSION = frozenset(("eq", "ne", "sgt", "sge", "slt", "sle"))


def simplify(func: Function) -> int:
    """Rewrite every instruction to its cheapest equal form; returns what changed: VALUES, FLOW, both or nothing."""
    registers = Registers(func)
    only, reads = registers.only.copy(), registers.reads
    widths = Widths(func, registers.only)
    found: list[tuple[list[Ins], int, Ins]] = []  # put in their places at the end: the widths are those of the code now
    for block in func.blocks:
        for index, ins in enumerate(block.ins):
            improve = _IMPROVERS.get(ins.op)
            new = improve(ins, only, widths, reads) if improve is not None else None
            if new is not None:
                if new.loc is None:
                    new.loc = ins.loc
                found.append((block.ins, index, new))
                if new.dst is not None and new.dst in only:
                    only[new.dst] = new
    changed = 0
    for code, index, new in found:
        old = code[index]
        changed |= VALUES if new.then is old.then and new.els is old.els else FLOW
        code[index] = new
    return changed


# What changes nothing as the second operand, and what takes the place of an operation on a power of two.
_NEUTRAL = {
    **dict.fromkeys((ir.ADD, ir.SUB, ir.OR, ir.XOR, ir.LSH, ir.RSH, ir.ARSH, ir.MOD), 0),
    **dict.fromkeys((ir.MUL, ir.DIV), 1),
}
_OF_POWER = {ir.MUL: ir.LSH, ir.DIV: ir.RSH, ir.MOD: ir.AND}


def _copy(ins: Ins, source: object) -> Ins:
    assert type(source) is int
    return Ins(ir.MOV, dst=ins.dst, a=source)


def _arithmetic(ins: Ins, only: dict[int, Ins], widths: Widths, _: list[int]) -> Ins | None:
    op, wide = ins.op, ins.size == 8
    a = ins.a
    assert type(a) is int
    if wide and op in (ir.AND, ir.OR, ir.XOR):
        new = _with_word(ins, only, widths)
        if new is not None:
            return new
    if type(ins.b) is int:
        if ins.a == ins.b and wide:
            if op in (ir.SUB, ir.XOR):
                return Ins(ir.CONST, dst=ins.dst)
            if op in (ir.AND, ir.OR):
                return _copy(ins, a)
        return None
    assert isinstance(ins.b, Imm)
    value = ins.b.value & (MASK64 if wide else 0xFFFF_FFFF)
    if op in (ir.LSH, ir.RSH, ir.ARSH):
        value &= ins.size * 8 - 1
    if op == ir.DIV and value == 0:
        return Ins(ir.CONST, dst=ins.dst)
    if _NEUTRAL.get(op) == value or (op == ir.AND and value == (1 << ins.size * 8) - 1):
        return _copy(ins, a) if wide or widths.of(a) <= 32 else Ins(ir.ZEXT, dst=ins.dst, a=a, size=4)
    if value == 0 and op in (ir.MUL, ir.AND):
        return Ins(ir.CONST, dst=ins.dst)
    if op == ir.MOD and value == 1:
        return Ins(ir.CONST, dst=ins.dst)
    power = value.bit_length() - 1 if value & value - 1 == 0 else -1
    if power > 0:
        cheaper = _OF_POWER.get(op)
        if cheaper is not None:
            return Ins(cheaper, dst=ins.dst, a=a, b=Imm(value - 1 if op == ir.MOD else power), size=ins.size)
    if op == ir.SUB and fits_s32(-value if wide else signed(-value, 32)):
        return Ins(ir.ADD, dst=ins.dst, a=a, b=Imm(signed(-value, ins.size * 8)), size=ins.size)
    if op == ir.AND:
        return _masked(ins, a, value, widths)
    if op == ir.RSH and wide and value >= widths.of(a):
        return Ins(ir.CONST, dst=ins.dst)
    source = only.get(a)
    if source is None or not wide or source.size != 8 or not isinstance(source.b, Imm):
        return _address(ins, source, value) if wide and op == ir.ADD else None
    return _combined(ins, source, value, only)


def _with_word(ins: Ins, only: dict[int, Ins], widths: Widths) -> Ins | None:
    """A 32-bit operation, whose immediate can be any word, where a word is all that is combined."""
    for a, b in ((ins.a, ins.b), (ins.b, ins.a)):
        source = only.get(b) if type(b) is int else None
        if isinstance(b, Imm):
            value = b.value & MASK64
        elif source is not None and source.op == ir.CONST:
            value = source.imm & MASK64
        else:
            continue
        if type(a) is not int or not 0x8000_0000 <= value < 0xFFFF_FFFF + (ins.op != ir.AND):
            continue
        if ins.op == ir.AND or widths.of(a) <= 32:
            return Ins(ins.op, dst=ins.dst, a=a, b=Imm(signed(value, 32)), size=4)
    return None


def _masked(ins: Ins, a: int, value: int, widths: Widths) -> Ins | None:
    if (
        value == (1 << value.bit_length()) - 1
        and widths.of(a) <= value.bit_length()
        and (ins.size == 8 or widths.of(a) <= 32)
    ):
        return _copy(ins, a)
    if value == 0xFFFF_FFFF:
        return Ins(ir.ZEXT, dst=ins.dst, a=a, size=4)
    return None


def _address(ins: Ins, source: Ins | None, value: int) -> Ins | None:
    """Adding a constant to a place known by name gives another such place."""
    if source is None or source.op not in (ir.FRAME, ir.DATA):
        return None
    off = source.off + signed(value)
    if not 0 <= off <= 0x7FFF_FFFF:
        return None
    return Ins(source.op, dst=ins.dst, ref=source.ref, off=off)


def _combined(ins: Ins, source: Ins, value: int, only: dict[int, Ins]) -> Ins | None:
    """(x + 1) + 2 and its like; x must still have its value, which one write guarantees."""
    x = source.a
    assert isinstance(source.b, Imm)
    if type(x) is not int or x not in only:
        return None
    inner = source.b.value & MASK64
    if ins.op == source.op and ins.op in (ir.ADD, ir.AND, ir.OR, ir.XOR):
        both = {ir.ADD: inner + value, ir.AND: inner & value, ir.OR: inner | value, ir.XOR: inner ^ value}[
            ins.op
        ] & MASK64
        if fits_s32(both):
            return Ins(ins.op, dst=ins.dst, a=x, b=Imm(both))
    if ins.op == source.op and ins.op in (ir.LSH, ir.RSH) and inner + value < 64:
        return Ins(ins.op, dst=ins.dst, a=x, b=Imm(inner + value))
    if source.op == ir.LSH and inner == value and 64 - value in (8, 16, 32):
        if ins.op == ir.RSH:
            return Ins(ir.ZEXT, dst=ins.dst, a=x, size=8 - value // 8)
        if ins.op == ir.ARSH:
            return Ins(ir.SEXT, dst=ins.dst, a=x, size=8 - value // 8)
    return None


def _extension(ins: Ins, only: dict[int, Ins], widths: Widths, _: list[int]) -> Ins | None:
    a = ins.a
    assert type(a) is int
    bits = ins.size * 8
    if widths.of(a) <= (bits if ins.op == ir.ZEXT else bits - 1):
        return _copy(ins, a)
    source = only.get(a)
    if source is None:
        return None
    if ins.op == ir.SEXT and source.op == ir.LOAD and source.imm and source.size <= ins.size:
        return _copy(ins, a)
    if source.op in (ir.ZEXT, ir.SEXT) and type(source.a) is int and source.a in only:
        if source.size >= ins.size:
            return Ins(ins.op, dst=ins.dst, a=source.a, size=ins.size)
        if ins.op == source.op == ir.SEXT:
            return _copy(ins, a)
    return None


def _stored(ins: Ins, only: dict[int, Ins], _widths: Widths, _reads: list[int]) -> Ins | None:
    """A store keeps the low bytes only, so it need not wait for an extension of them."""
    if type(ins.b) is not int:
        return None
    source = only.get(ins.b)
    if source is None or type(source.a) is not int or source.a not in only:
        return None
    narrowing = source.op in (ir.ZEXT, ir.SEXT) and source.size >= ins.size
    if source.op == ir.AND and isinstance(source.b, Imm):
        low = (1 << ins.size * 8) - 1
        narrowing = source.b.value & low == low
    if not narrowing or (ins.size == 8):
        return None
    new = clone_ins(ins)
    new.set_operands(ins.a, source.a)
    return new


def _branch(ins: Ins, only: dict[int, Ins], widths: Widths, reads: list[int]) -> Ins | None:
    a = ins.a
    assert type(a) is int
    if not isinstance(ins.b, Imm):
        return None
    cond, bits = ins.cond, ins.size * 8
    value = ins.b.value & (1 << bits) - 1
    width = min(widths.of(a), bits)
    everything = (1 << width) - 1
    if cond == "set" and value & everything == everything:
        cond, value = "ne", 0
    # Unsigned tests next to zero, and signed ones of what is never negative.
    if width < bits and cond in ("sgt", "sge", "slt", "sle"):
        if value >> bits - 1:
            return Ins(ir.JUMP, then=ins.then if cond in ("sgt", "sge") else ins.els)
        cond = cond[1:]
    if value > everything and cond[0] != "s":
        return Ins(ir.JUMP, then=ins.then if cond in ("lt", "le", "ne") else ins.els)
    if cond not in ("eq", "ne"):
        if (cond, value) in (("ge", 0), ("le", everything)):
            return Ins(ir.JUMP, then=ins.then)
        if (cond, value) in (("lt", 0), ("gt", everything), ("set", 0)):
            return Ins(ir.JUMP, then=ins.els)
        if (cond, value) in (("gt", 0), ("ge", 1)):
            cond, value = "ne", 0
        elif (cond, value) in (("lt", 1), ("le", 0)):
            cond, value = "eq", 0
    source = only.get(a)
    if source is not None and ins.size == 8 and reads[a] == 1:
        new = _branch_on_source(ins, source, cond, value, only, widths)
        if new is not None:
            return new
    if cond == ins.cond and value == ins.b.value & (1 << bits) - 1:
        return None
    new = clone_ins(ins)
    new.cond = cond
    new.set_operands(a, Imm(signed(value, bits)))
    return new


def _branch_on_source(ins: Ins, source: Ins, cond: str, value: int, only: dict[int, Ins], widths: Widths) -> Ins | None:
    """Test the operand of an AND, a swap of bytes or an extension directly, when nothing else reads the result."""
    x = source.a
    if type(x) is not int or x not in only:
        return None
    new = clone_ins(ins)
    if source.op == ir.AND and isinstance(source.b, Imm) and source.size == 8 and value == 0 and cond in ("eq", "ne"):
        if not fits_s32(source.b.value):
            return None
        new.cond = "set"
        new.set_operands(x, source.b)
        if cond == "eq":
            new.then, new.els = ins.els, ins.then
        return new
    if source.op == ir.BSWAP and source.size < 8 and cond in ("eq", "ne") and widths.of(x) <= source.size * 8:
        # The constant is swapped instead.
        new.cond = cond
        new.set_operands(x, Imm(signed(swap(value, source.size, bool(source.imm)), 32)))
        if source.size == 4:
            new.size = 4
        return new
    if source.op not in (ir.ZEXT, ir.SEXT) or source.size != 4:
        return None
    if extend(source.op, value, 4) != value:
        return None
    if source.op == ir.SEXT:
        allowed = cond in _SIGNED_OF_EXTENSION
    else:
        allowed = cond in ("eq", "ne", "gt", "ge", "lt", "le", "set")
    if not allowed:
        return None
    new.cond, new.size = cond, 4
    new.set_operands(x, Imm(signed(value, 32)))
    return new


# What finds a better instruction, or None to keep the one at hand.
_IMPROVERS: dict[str, Callable[[Ins, dict[int, Ins], Widths, list[int]], Ins | None]] = {
    **dict.fromkeys(ir.BINARY, _arithmetic),
    ir.ZEXT: _extension,
    ir.SEXT: _extension,
    ir.STORE: _stored,
    ir.BRANCH: _branch,
}


def fold_addresses(func: Function) -> bool:
    """Access memory by frame place or by base and offset instead of by a computed address; whether any is now."""
    addresses: dict[int, int] = {}  # register -> reads as the address of an access that could take an offset
    computed: set[int | None] = set()
    for block in func.blocks:
        for ins in block.ins:
            op = ins.op
            if op in _ACCESSES:
                if ins.ref is None and type(ins.a) is int:
                    addresses[ins.a] = addresses.get(ins.a, 0) + 1
            elif op == ir.ADD or op == ir.FRAME:
                computed.add(ins.dst)
    if computed.isdisjoint(addresses):
        return False
    changed = False
    registers = Registers(func)
    only, reads = registers.only, registers.reads
    for block in func.blocks:
        for index, ins in enumerate(block.ins):
            if ins.op not in _ACCESSES or ins.ref is not None:
                continue
            while type(ins.a) is int:
                source = only.get(ins.a)
                if source is None:
                    break
                new = _with_offset(ins, source, only, addresses[ins.a] == reads[ins.a])
                if new is None:
                    break
                if type(new.a) is int:
                    addresses[new.a] = addresses.get(new.a, 0) + 1
                    reads[new.a] += 1
                block.ins[index] = ins = new
                changed = True
    return changed


def _with_offset(ins: Ins, source: Ins, only: dict[int, Ins], only_addresses: bool) -> Ins | None:
    if source.op == ir.FRAME:
        assert isinstance(source.ref, Slot)
        new = clone_ins(ins)
        new.off = ins.off + source.off
        new.set_operands(source.ref, ins.b, ins.args)
        return new
    if source.op != ir.ADD or source.size != 8 or not isinstance(source.b, Imm) or not only_addresses:
        return None
    base = source.a
    off = ins.off + signed(source.b.value)
    if type(base) is not int or base not in only or not -0x8000 <= off <= 0x7FFF:
        return None
    new = clone_ins(ins)
    new.off = off
    new.set_operands(base, ins.b, ins.args)
    return new
