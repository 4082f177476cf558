"""A reference interpreter for the IR: what a function means, without any compilation."""

from __future__ import annotations

from pybpf.lang import ir
from pybpf.lang.ir import Function, Imm, Slot

M64 = (1 << 64) - 1


def to_signed(value: int, bits: int = 64) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


class OutOfFuel(Exception):
    pass


class IrMachine:
    """Runs a function; ``calls`` logs (helper or name, args), ``core`` gives relocations their values."""

    def __init__(self, func: Function, params=(), helper=None, symbols=None, core=None, fuel=20000):
        self.func = func
        self.params = params
        self.helper = helper or (lambda number, args: 0)
        self.symbols = symbols or (lambda kind, name: 0x7000_0000_0000)
        self.core = core or (lambda ref: 0)
        self.fuel = fuel
        self.calls: list = []
        self.regs: dict[int, int] = {}
        self.memory: dict[int, int] = {}
        self.slot_base: dict[Slot, int] = {}

    def slot_address(self, slot: Slot) -> int:
        return self.slot_base.setdefault(slot, 0x10_0000 + 0x1000 * len(self.slot_base))

    def value(self, operand) -> int:
        if isinstance(operand, Imm):
            return operand.value & M64
        return self.regs[operand]

    def load(self, address: int, size: int) -> int:
        return int.from_bytes(bytes(self.memory[address + i] for i in range(size)), "little")

    def store(self, address: int, size: int, value: int) -> None:
        for i in range(size):
            self.memory[address + i] = value >> (8 * i) & 0xFF

    def run(self) -> int:
        block = self.func.blocks[0]
        while True:
            for ins in block.ins:
                self.fuel -= 1
                if self.fuel < 0:
                    raise OutOfFuel
                if ins.op == ir.RET:
                    return self.value(ins.a)
                if ins.op == ir.JUMP:
                    block = ins.then
                elif ins.op == ir.BRANCH:
                    taken = self.compare(ins.cond, self.value(ins.a), self.value(ins.b), ins.size * 8)
                    block = ins.then if taken else ins.els
                else:
                    result = self.execute(ins)
                    if ins.dst is not None:
                        self.regs[ins.dst] = result & M64

    @staticmethod
    def compare(cond: str, a: int, b: int, bits: int) -> bool:
        mask = (1 << bits) - 1
        ua, ub, sa, sb = a & mask, b & mask, to_signed(a, bits), to_signed(b, bits)
        return {
            "eq": ua == ub,
            "ne": ua != ub,
            "gt": ua > ub,
            "ge": ua >= ub,
            "lt": ua < ub,
            "le": ua <= ub,
            "sgt": sa > sb,
            "sge": sa >= sb,
            "slt": sa < sb,
            "sle": sa <= sb,
            "set": bool(ua & ub),
        }[cond]

    def address(self, ins) -> int:
        base = self.slot_address(ins.a) if isinstance(ins.a, Slot) else self.value(ins.a)
        return base + (self.core(ins.ref) if ins.ref is not None else ins.off)

    def execute(self, ins) -> int:
        op = ins.op
        if op == ir.CONST:
            return ins.imm
        if op == ir.PARAM:
            return self.params[ins.imm]
        if op in (ir.MAP, ir.DATA):
            return self.symbols(op, ins.ref) + ins.off
        if op == ir.FRAME:
            return self.slot_address(ins.ref)
        if op == ir.CORE:
            return self.core(ins.ref)
        if op in (ir.CALL, ir.CALLSUB):
            args = tuple(self.value(arg) for arg in ins.args)
            which = ins.imm if op == ir.CALL else ins.ref
            self.calls.append((which, args))
            return self.helper(which, args)
        if op == ir.LOAD:
            value = self.load(self.address(ins), ins.size)
            return to_signed(value, ins.size * 8) if ins.imm else value
        if op == ir.STORE:
            self.store(self.address(ins), ins.size, self.value(ins.b))
            return 0
        if op == ir.ATOMIC:
            old = self.load(self.address(ins), ins.size)
            b = self.value(ins.b)
            if ins.imm == 0xF1:
                if old == self.value(ins.args[0]) & (1 << 8 * ins.size) - 1:
                    self.store(self.address(ins), ins.size, b)
                return old
            new = {0: old + b, 0x40: old | b, 0x50: old & b, 0xA0: old ^ b, 0xE0: b}[ins.imm & ~1]
            self.store(self.address(ins), ins.size, new)
            return old
        a = self.value(ins.a)
        if op == ir.MOV:
            return a
        if op == ir.NEG:
            return -a
        bits = ins.size * 8
        if op == ir.ZEXT:
            return a & ((1 << bits) - 1)
        if op == ir.SEXT:
            return to_signed(a, bits)
        if op == ir.BSWAP:
            low = a & ((1 << bits) - 1)
            return int.from_bytes(low.to_bytes(ins.size, "little"), "big") if ins.imm else low
        return self.binary(op, a, self.value(ins.b), bits)

    @staticmethod
    def binary(op: str, a: int, b: int, bits: int) -> int:
        mask = (1 << bits) - 1
        a, b = a & mask, b & mask
        shift = b % bits
        if op == ir.ADD:
            value = a + b
        elif op == ir.SUB:
            value = a - b
        elif op == ir.MUL:
            value = a * b
        elif op == ir.DIV:
            value = a // b if b else 0
        elif op == ir.MOD:
            value = a % b if b else a
        elif op == ir.AND:
            value = a & b
        elif op == ir.OR:
            value = a | b
        elif op == ir.XOR:
            value = a ^ b
        elif op == ir.LSH:
            value = a << shift
        elif op == ir.RSH:
            value = a >> shift
        elif op == ir.ARSH:
            value = to_signed(a, bits) >> shift
        else:
            raise AssertionError(f"no such operation: {op}")
        return value & mask
