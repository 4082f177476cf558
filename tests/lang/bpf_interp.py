"""A small interpreter for machine code: arithmetic, jumps, a stack and calls that clobber r1 to r5.

It is strict where the verifier is: reading a register or a stack byte that was
never written is an error, and so is an access outside the 512-byte stack.
"""

from __future__ import annotations

import struct

M64 = (1 << 64) - 1
STACK_TOP = 0x20_0000


def to_signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


class Fault(Exception):
    pass


class BpfMachine:
    def __init__(self, code: bytes, params=(), helper=None, fuel=100000, calls_by_slot=None, memory=None):
        self.slots = list(struct.iter_unpack("<BBhi", code))
        self.helper = helper or (lambda number, args: 0)
        self.calls_by_slot = calls_by_slot or {}  # slot -> name of a subprogram
        self.arity = {}
        self.fuel = fuel
        self.calls: list = []
        self.memory: dict[int, int] = dict(memory or {})
        self.regs: list[int | None] = [None] * 11
        for i, value in enumerate(params):
            self.regs[i + 1] = value & M64
        self.regs[10] = STACK_TOP

    def get(self, number: int) -> int:
        value = self.regs[number]
        if value is None:
            raise Fault(f"r{number} was never written")
        return value

    def load(self, address: int, size: int) -> int:
        try:
            return int.from_bytes(bytes(self.memory[address + i] for i in range(size)), "little")
        except KeyError:
            raise Fault(f"read of unwritten memory at {address - STACK_TOP}") from None

    def store(self, address: int, size: int, value: int) -> None:
        if address in self.memory or STACK_TOP - 512 <= address <= STACK_TOP - size:
            for i in range(size):
                self.memory[address + i] = value >> (8 * i) & 0xFF
        else:
            raise Fault(f"write outside the stack at {address - STACK_TOP}")

    def run(self) -> int:
        pc = 0
        while True:
            self.fuel -= 1
            if self.fuel < 0:
                raise Fault("does not end")
            if not 0 <= pc < len(self.slots):
                raise Fault("runs off the code")
            op, regs, off, imm = self.slots[pc]
            dst, src = regs & 15, regs >> 4
            kind = op & 7
            here = pc
            pc += 1
            if op == 0x18:
                self.regs[dst] = (imm & 0xFFFFFFFF) | (self.slots[pc][3] & 0xFFFFFFFF) << 32
                pc += 1
            elif kind in (4, 7):
                self.alu(op, dst, src, imm, 64 if kind == 7 else 32)
            elif op == 0x95:
                return self.get(0)
            elif op == 0x85:
                self.call(here, src, imm)
            elif op == 0x05:
                pc += off
            elif kind in (5, 6):
                if self.test(op, dst, src, imm, 64 if kind == 5 else 32):
                    pc += off
            else:
                self.access(op, dst, src, off, imm)

    def call(self, here: int, src: int, imm: int) -> None:
        which = self.calls_by_slot[here] if src == 1 else imm
        args = []
        for number in range(1, self.arity[which] + 1):
            args.append(self.get(number))
        self.calls.append((which, tuple(args)))
        for number in range(6):
            self.regs[number] = None
        self.regs[0] = self.helper(which, tuple(args)) & M64

    def access(self, op: int, dst: int, src: int, off: int, imm: int) -> None:
        size = {0: 4, 8: 2, 16: 1, 24: 8}[op & 0x18]
        kind, mode = op & 7, op & 0xE0
        if kind == 1 and mode == 0x60:
            self.regs[dst] = self.load(self.get(src) + off, size)
        elif kind == 2 and mode == 0x60:
            self.store(self.get(dst) + off, size, imm)
        elif kind == 3 and mode == 0x60:
            self.store(self.get(dst) + off, size, self.get(src))
        elif kind == 3 and mode == 0xC0:
            address = self.get(dst) + off
            old, b = self.load(address, size), self.get(src)
            new = {0: old + b, 0x40: old | b, 0x50: old & b, 0xA0: old ^ b, 0xE0: b}[imm & ~1]
            self.store(address, size, new)
            if imm & 1:
                self.regs[src] = old
        else:
            raise Fault(f"opcode {op:#x}")

    def test(self, op: int, dst: int, src: int, imm: int, bits: int) -> bool:
        a = self.get(dst)
        b = self.get(src) if op & 8 else imm
        mask = (1 << bits) - 1
        ua, ub, sa, sb = a & mask, b & mask, to_signed(a, bits), to_signed(b, bits)
        return {
            0x10: ua == ub,
            0x50: ua != ub,
            0x20: ua > ub,
            0x30: ua >= ub,
            0xA0: ua < ub,
            0xB0: ua <= ub,
            0x60: sa > sb,
            0x70: sa >= sb,
            0xC0: sa < sb,
            0xD0: sa <= sb,
            0x40: bool(ua & ub),
        }[op & 0xF0]

    def alu(self, op: int, dst: int, src: int, imm: int, bits: int) -> None:
        mask = (1 << bits) - 1
        code = op & 0xF0
        if dst == 10:
            raise Fault("r10 is read-only")
        if code == 0xD0:
            low = self.get(dst) & ((1 << imm) - 1)
            self.regs[dst] = int.from_bytes(low.to_bytes(imm // 8, "little"), "big") if op & 8 else low
            return
        b = (self.get(src) if op & 8 else imm) & mask if code != 0x80 else 0
        a = self.get(dst) & mask if code != 0xB0 else 0
        shift = b % bits
        if code in (0x60, 0x70, 0xC0) and not op & 8 and not 0 <= imm < bits:
            raise Fault(f"invalid shift {imm}")
        if code in (0x30, 0x90) and not op & 8 and not imm:
            raise Fault("division by zero")
        self.regs[dst] = {
            0x00: lambda: a + b,
            0x10: lambda: a - b,
            0x20: lambda: a * b,
            0x30: lambda: a // b if b else 0,
            0x40: lambda: a | b,
            0x50: lambda: a & b,
            0x60: lambda: a << shift,
            0x70: lambda: a >> shift,
            0x80: lambda: -a,
            0x90: lambda: a % b if b else a,
            0xA0: lambda: a ^ b,
            0xB0: lambda: b,
            0xC0: lambda: to_signed(a, bits) >> shift,
        }[code]() & mask


def patch(unit, core, symbols):
    """Give relocations of a CodeUnit their values, as a loader does; returns code and the calls by slot."""
    code = bytearray(unit.code)
    calls = {}
    for slot, ref in unit.cores:
        value = core(ref)
        if code[8 * slot] & 7 == 1:
            struct.pack_into("<h", code, 8 * slot + 2, value)
        elif code[8 * slot] == 0x18:
            struct.pack_into("<I", code, 8 * slot + 4, value & 0xFFFFFFFF)
            struct.pack_into("<I", code, 8 * slot + 12, value >> 32 & 0xFFFFFFFF)
        else:
            assert code[8 * slot] & 15 == 7  # arithmetic with an immediate, 64 bits
            struct.pack_into("<i", code, 8 * slot + 4, value)
    for reloc in unit.relocs:
        if reloc.kind == "call":
            calls[reloc.index] = reloc.target
        else:
            assert code[8 * reloc.index] == 0x18
            value = symbols(reloc.kind, reloc.target) + reloc.addend
            struct.pack_into("<I", code, 8 * reloc.index + 4, value & 0xFFFFFFFF)
            struct.pack_into("<I", code, 8 * reloc.index + 12, value >> 32)
    return bytes(code), calls
