"""Random IR functions: integer work over variables, frame places and calls, in arbitrary but ending control flow."""

from __future__ import annotations

from pybpf.lang import ir
from pybpf.lang.ir import POINTER, SCALAR, Block, Core, Function, Imm, Ins, Slot

BINARY = (ir.ADD, ir.SUB, ir.MUL, ir.DIV, ir.MOD, ir.AND, ir.OR, ir.XOR, ir.LSH, ir.RSH, ir.ARSH)
INTERESTING = (
    0, 1, 2, 3, 7, 8, 16, 31, 32, 63, 255, 256, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
    -1, -2, -128, -0x80000000, 1 << 32, 1 << 63, (1 << 64) - 1, 0x123456789ABCDEF0,
)  # fmt: skip
PARTS = ((0, 4), (4, 4), (8, 1), (10, 2), (12, 4), (16, 8))
ARITY = {1: 1, 2: 2, 3: 3, 5: 5, 9: 0, "sub": 4}


def helper(which, args):
    """A pure function of number and arguments."""
    value = 0x9E3779B97F4A7C15 if which == "sub" else which * 0x9E3779B97F4A7C15
    for arg in args:
        value = (value ^ arg) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1
        value ^= value >> 29
    return value if value % 5 else value % 3  # small results make branches on equality interesting


def core_value(ref):
    """What a relocation resolves to: never its local value."""
    return ref.type_id * 8


def symbol(kind, name):
    return 0x5000_0000_0000 + len(name) * 0x1_0000_0000 + (kind == "map") * 0x10000


class Generator:
    def __init__(self, rng, blocks=8, variables=6, length=6):
        self.rng = rng
        self.func = func = Function("f", "xdp", nparams=2)
        self.variables = [func.vreg() for _ in range(variables)]
        self.fuel = func.vreg()
        self.slots = [Slot(rng.choice((8, 16, 24)), 8, f"s{i}") for i in range(3)]
        self.record = Slot(24, 8, "record")  # always accessed in the same parts
        self.length = length
        self.pointers: list[tuple[int, Slot]] = []
        self.cores = 0
        self.build(blocks)

    def build(self, count):
        rng, func = self.rng, self.func
        blocks = [func.block(f"b{i}") for i in range(count)]
        entry = blocks[0]
        params = [func.vreg(), func.vreg()]
        entry.ins += [Ins(ir.PARAM, dst=vreg, imm=i) for i, vreg in enumerate(params)]
        for vreg in self.variables:
            if rng.random() < 0.4:
                entry.ins.append(Ins(ir.MOV, dst=vreg, a=rng.choice(params)))
            else:
                entry.ins.append(Ins(ir.CONST, dst=vreg, imm=self.constant()))
        entry.ins.append(Ins(ir.CONST, dst=self.fuel, imm=rng.randint(2, 40)))
        for slot in self.slots:
            for off in range(0, slot.size, 8):
                entry.ins.append(Ins(ir.STORE, a=slot, off=off, b=self.operand()))
        for off in (0, 8, 16):
            entry.ins.append(Ins(ir.STORE, a=self.record, off=off, b=self.operand()))
        for slot in self.slots:
            if rng.random() < 0.6:
                pointer = func.vreg(POINTER)
                entry.ins.append(Ins(ir.FRAME, dst=pointer, ref=slot))
                self.pointers.append((pointer, slot))
        for i, block in enumerate(blocks):
            self.temporaries: list[int] = []
            for _ in range(rng.randint(0, self.length)):
                self.statement(block)
            self.end(block, i, blocks)

    def constant(self):
        if self.rng.random() < 0.7:
            return self.rng.choice(INTERESTING)
        return self.rng.randint(-(1 << 63), (1 << 64) - 1)

    def reg(self):
        return self.rng.choice(
            self.variables + self.temporaries[-4:] if hasattr(self, "temporaries") else self.variables
        )

    def operand(self):
        return Imm(self.constant()) if self.rng.random() < 0.35 else self.reg()

    def target(self):
        """Where a result goes: a variable or a new temporary."""
        if self.rng.random() < 0.5:
            return self.rng.choice(self.variables)
        return self.func.vreg(SCALAR)

    def place(self, size):
        slot = self.rng.choice(self.slots)
        off = self.rng.randrange(0, slot.size - size + 1, size)
        for pointer, of in self.pointers:
            if of is slot and self.rng.random() < 0.5:
                return pointer, off, slot
        return slot, off, slot

    def statement(self, block: Block):
        rng, func = self.rng, self.func
        what = rng.random()
        dst = self.target()
        if what < 0.04:
            off, size = rng.choice(PARTS)
            if rng.random() < 0.5:
                block.ins.append(Ins(ir.STORE, a=self.record, off=off, size=size, b=self.operand()))
                return
            ins = Ins(ir.LOAD, dst=dst, a=self.record, off=off, size=size, imm=rng.randint(0, 1))
        elif what < 0.07 and any(slot.size >= 16 for _, slot in self.pointers):
            pointer = rng.choice([pointer for pointer, slot in self.pointers if slot.size >= 16])
            small, index, place = func.vreg(), func.vreg(), func.vreg(POINTER)
            block.ins.append(Ins(ir.AND, dst=small, a=self.reg(), b=Imm(7)))
            block.ins.append(Ins(ir.ADD, dst=index, a=small, b=Imm(rng.randint(0, 8))))
            block.ins.append(Ins(ir.ADD, dst=place, a=pointer, b=index))
            if rng.random() < 0.2:
                self.temporaries.append(index)
            if rng.random() < 0.4:
                block.ins.append(Ins(ir.STORE, a=place, size=1, b=self.operand()))
                return
            ins = Ins(ir.LOAD, dst=dst, a=place, size=1)
        elif what < 0.45:
            ins = Ins(rng.choice(BINARY), dst=dst, a=self.reg(), b=self.operand(), size=rng.choice((8, 8, 8, 4)))
        elif what < 0.55:
            op = rng.choice((ir.ZEXT, ir.SEXT))
            ins = Ins(op, dst=dst, a=self.reg(), size=rng.choice((1, 2, 4, 4)))
        elif what < 0.60:
            ins = rng.choice((
                Ins(ir.NEG, dst=dst, a=self.reg()),
                Ins(ir.BSWAP, dst=dst, a=self.reg(), size=rng.choice((2, 4, 8)), imm=rng.randint(0, 1)),
            ))  # fmt: skip
        elif what < 0.68:
            ins = Ins(ir.MOV, dst=dst, a=self.reg())
        elif what < 0.71:
            ins = Ins(ir.CONST, dst=dst, imm=self.constant())
        elif what < 0.78:
            size = rng.choice((1, 2, 4, 8))
            a, off, slot = self.place(size)
            if rng.random() < 0.3 and type(a) is int:
                sum_ = func.vreg(POINTER)
                block.ins.append(Ins(ir.ADD, dst=sum_, a=a, b=Imm(off)))
                a, off = sum_, 0
            ins = Ins(ir.LOAD, dst=dst, a=a, off=off, size=size, imm=rng.randint(0, 1))
            if rng.random() < 0.2 and slot.size >= 24 and a is not slot and off:
                ins = Ins(ir.LOAD, dst=dst, a=a, off=off, size=8, ref=Core(0, 1, "0"))
                ins.off = 16
        elif what < 0.86:
            size = rng.choice((1, 2, 4, 8))
            a, off, _ = self.place(size)
            block.ins.append(Ins(ir.STORE, a=a, off=off, size=size, b=self.operand()))
            return
        elif what < 0.89:
            size = rng.choice((4, 8))
            a, off, _ = self.place(size)
            code = rng.choice((0, 1, 0x40, 0x41, 0x50, 0x51, 0xA0, 0xA1, 0xE1))
            ins = Ins(ir.ATOMIC, dst=dst if code & 1 else None, a=a, off=off, size=size, imm=code, b=self.operand())
            if not code & 1:
                block.ins.append(ins)
                return
        elif what < 0.93:
            ins = rng.choice((
                Ins(ir.MAP, dst=dst, ref=rng.choice(("m", "events"))),
                Ins(ir.DATA, dst=dst, ref=".rodata", off=rng.choice((0, 8, 40))),
                Ins(ir.CORE, dst=dst, ref=Core(0, rng.randint(0, 7), "0:1"), imm=rng.choice((3, 1 << 33))),
            ))  # fmt: skip
        else:
            which = rng.choice(tuple(ARITY))
            args = tuple(self.operand() for _ in range(ARITY[which]))
            ins = Ins(ir.CALLSUB, ref="sub", args=args) if which == "sub" else Ins(ir.CALL, imm=which, args=args)
            if rng.random() < 0.85:
                ins.dst = dst
        block.ins.append(ins)
        if ins.dst is not None and ins.dst not in self.variables and func.vregs[ins.dst] == SCALAR:
            self.temporaries.append(ins.dst)

    def end(self, block, index, blocks):
        rng, func = self.rng, self.func
        what = rng.random()
        if index + 1 == len(blocks) or what < 0.06:
            self.leave(block)
        elif what < 0.3:
            block.ins.append(Ins(ir.JUMP, then=blocks[rng.randint(index + 1, len(blocks) - 1)]))
        elif what < 0.8:
            then, els = (blocks[rng.randint(index + 1, len(blocks) - 1)] for _ in range(2))
            self.branch(block, then, els)
        else:
            out = blocks[rng.randint(index + 1, len(blocks) - 1)]
            back = blocks[rng.randint(1, index)] if index else out
            check = func.block(f"fuel{index}")
            check.ins.append(Ins(ir.SUB, dst=self.fuel, a=self.fuel, b=Imm(1)))
            check.ins.append(Ins(ir.BRANCH, cond="sgt", a=self.fuel, b=Imm(0), then=back, els=out))
            if rng.random() < 0.5:
                self.branch(block, check, out)
            else:
                block.ins.append(Ins(ir.JUMP, then=check))

    def leave(self, block):
        """Return; often all variables count, so that many values are live at once."""
        if self.rng.random() < 0.6:
            for start in range(0, len(self.variables), 5):
                some = self.variables[start : start + 5]
                total = self.func.vreg()
                block.ins.append(Ins(ir.MOV, dst=total, a=some[0]))
                for vreg in some[1:]:
                    block.ins.append(Ins(ir.MUL, dst=total, a=total, b=Imm(31)))
                    block.ins.append(Ins(ir.ADD, dst=total, a=total, b=vreg))
                block.ins.append(Ins(ir.CALL, imm=1, args=(total,)))
        block.ins.append(Ins(ir.RET, a=self.operand()))

    def branch(self, block, then, els):
        rng = self.rng
        cond = rng.choice(ir.CONDITIONS)
        size = rng.choice((8, 8, 4))
        block.ins.append(Ins(ir.BRANCH, cond=cond, a=self.reg(), b=self.operand(), size=size, then=then, els=els))
