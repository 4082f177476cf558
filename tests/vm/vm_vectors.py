"""Test vectors of RFC 9669: every instruction with every pair of edge values, and what the text says comes out.

The expected results are written from the standard, with exact integers and
fractions, and share nothing with the interpreter.
"""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from math import trunc
from typing import Callable

from vm_programs import Body, array, make_object, mov, movi, pack

from pybpf.asm.insn import Insn, alu32, alu64, atomic, jmp, jmp32, ld_imm64, ldx, st, stx
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
    BPF_JA,
    BPF_JEQ,
    BPF_JGE,
    BPF_JGT,
    BPF_JLE,
    BPF_JLT,
    BPF_JMP32,
    BPF_JNE,
    BPF_JSET,
    BPF_JSGE,
    BPF_JSGT,
    BPF_JSLE,
    BPF_JSLT,
    BPF_LDX,
    BPF_LOAD_ACQ,
    BPF_LSH,
    BPF_MEMSX,
    BPF_MOD,
    BPF_MOV,
    BPF_MUL,
    BPF_NEG,
    BPF_OR,
    BPF_RSH,
    BPF_STORE_REL,
    BPF_STX,
    BPF_SUB,
    BPF_TO_BE,
    BPF_TO_LE,
    BPF_X,
    BPF_XCHG,
    BPF_XOR,
    SIZES,
)
from pybpf.object.spec import ObjectSpec

M64 = (1 << 64) - 1
EXCHANGED = 0x0123456789ABCDEF  # what the compare-and-exchange cases store

VALUES = [
    *(0, 1, 2, 3, 7, 10, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256),
    *(0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFF, 0x100000000, 0x180000000),
    *(0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0x8000000000000001, 0xFFFFFFFF00000000, 0xFFFFFFFF80000000),
    *(M64, M64 - 1, M64 - 127, 0x0123456789ABCDEF, 0xFEDCBA9876543210, 0xDEADBEEF00000001),
]
IMMEDIATES = [
    *(0, 1, 2, 3, 7, 10, 31, 32, 33, 63, 64, 127, 128, 255, 0x7FFF, 0x8000, 0x7FFFFFFF),
    *(-1, -2, -7, -128, -0x8000, -0x7FFFFFFF, -0x80000000),
]


def unsigned(value: int, bits: int) -> int:
    return value % 2**bits


def signed(value: int, bits: int) -> int:
    value %= 2**bits
    return value - 2**bits if value >= 2 ** (bits - 1) else value


# --- arithmetic ----------------------------------------------------------------------

ALU_CODES = {
    "add": (BPF_ADD, 0),
    "sub": (BPF_SUB, 0),
    "mul": (BPF_MUL, 0),
    "div": (BPF_DIV, 0),
    "sdiv": (BPF_DIV, 1),
    "or": (BPF_OR, 0),
    "and": (BPF_AND, 0),
    "lsh": (BPF_LSH, 0),
    "rsh": (BPF_RSH, 0),
    "mod": (BPF_MOD, 0),
    "smod": (BPF_MOD, 1),
    "xor": (BPF_XOR, 0),
    "mov": (BPF_MOV, 0),
    "arsh": (BPF_ARSH, 0),
}


def alu_result(name: str, bits: int, a: int, b: int) -> int:
    """The register after ``a name= b``, by RFC 9669 table 7 and the text below it."""
    ua, ub, sa, sb = unsigned(a, bits), unsigned(b, bits), signed(a, bits), signed(b, bits)
    shift = ub % bits
    result = {
        "add": lambda: ua + ub,
        "sub": lambda: ua - ub,
        "mul": lambda: ua * ub,
        "div": lambda: trunc(Fraction(ua, ub)) if ub else 0,
        "sdiv": lambda: trunc(Fraction(sa, sb)) if sb else 0,
        "or": lambda: ua | ub,
        "and": lambda: ua & ub,
        "lsh": lambda: ua * 2**shift,
        "rsh": lambda: ua // 2**shift,
        "mod": lambda: ua - ub * trunc(Fraction(ua, ub)) if ub else ua,
        "smod": lambda: sa - sb * trunc(Fraction(sa, sb)) if sb else sa,
        "xor": lambda: ua ^ ub,
        "mov": lambda: ub,
        "arsh": lambda: sa // 2**shift,
    }[name]()
    return unsigned(result, bits)  # a 32-bit result is zero-extended


class Case:
    """One instruction form: an object whose program ``main`` fills ``out``, and what must be there."""

    def __init__(self, name: str, spec: ObjectSpec, expected: list[int]) -> None:
        self.name = name
        self.spec = spec
        self.expected = expected

    def __repr__(self) -> str:
        return self.name


class Filler:
    """Makes a Case of single results: ``add`` appends code that leaves one in r0, which goes to ``out``.

    r6 points to the input, ``VALUES`` behind one another, of which the verifier knows nothing.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.body = Body().data(6, "in").data(7, "out")
        self.expected: list[int] = []

    def load(self, register: int, value: int) -> Insn:
        return ldx(8, register, 6, 8 * VALUES.index(value))

    def add(self, expected: int, *insns: Insn) -> None:
        # An r0 full of ones beforehand shows what an instruction leaves of it.
        self.body.add(movi(0, -1), *insns, stx(8, 7, 8 * len(self.expected), 0))
        self.expected.append(expected)

    def case(self) -> Case:
        return _case(self.name, self.body, self.expected)


class Sweep:
    """Makes a Case of results for every value, or pair of values: a loop around the code that ``add`` was given.

    That code finds the values in r1 and r2, may change r1 to r5 and leaves its
    result in r0; ``expected`` says from the values what that must be.
    """

    def __init__(self, name: str, pairs: bool) -> None:
        self.name = name
        self.pairs = pairs
        self.outputs: list[tuple[list[Insn], Callable[[int, int], int]]] = []

    def add(self, expected: Callable[[int, int], int], *insns: Insn) -> None:
        self.outputs.append((list(insns), expected))

    def case(self) -> Case:
        body = Body().data(7, "out").add(movi(8, 0))
        outer = body.slots
        body.add(movi(9, 0))
        inner = body.slots
        for number, (insns, _) in enumerate(self.outputs):
            for register, counter in ((1, 8), (2, 9)):
                if register == 1 or self.pairs:
                    body.data(6, "in").add(mov(0, counter), alu64(BPF_LSH, 0, imm=3), alu64(BPF_ADD, 6, 0))
                    body.add(ldx(8, register, 6, 0))
            body.add(movi(0, -1), *insns, stx(8, 7, 8 * number, 0))
        body.add(alu64(BPF_ADD, 7, imm=8 * len(self.outputs)))
        if self.pairs:
            body.add(alu64(BPF_ADD, 9, imm=1), jmp(BPF_JLT, 9, inner - body.slots - 2, imm=len(VALUES)))
        body.add(alu64(BPF_ADD, 8, imm=1), jmp(BPF_JLT, 8, outer - body.slots - 2, imm=len(VALUES)))
        expected = [f(a, b) for a in VALUES for b in (VALUES if self.pairs else [0]) for _, f in self.outputs]
        return _case(self.name, body, expected)


def _case(name: str, body: Body, expected: list[int]) -> Case:
    maps = [array("in", 8 * len(VALUES), contents=pack(VALUES)), array("out", 8 * len(expected))]
    return Case(name, make_object([body.end(0)], maps), expected)


def alu_cases() -> list[Case]:
    cases = []
    for name, (code, off) in ALU_CODES.items():
        for bits, build in ((64, alu64), (32, alu32)):
            result = partial(alu_result, name, bits)
            sweep = Sweep(f"{name}{bits}-reg", True)
            sweep.add(result, mov(0, 1), build(code, 0, 2, off=off))
            cases.append(sweep.case())
            sweep = Sweep(f"{name}{bits}-imm", False)
            for imm in IMMEDIATES:
                if allowed_immediate(name, bits, imm):
                    sweep.add(lambda a, b, r=result, imm=imm: r(a, imm), mov(0, 1), build(code, 0, imm=imm, off=off))
            sweep.add(lambda a, b, r=result: r(a, a), mov(0, 1), build(code, 0, 0, off=off))
            cases.append(sweep.case())
    return cases


def allowed_immediate(name: str, bits: int, imm: int) -> bool:
    """Whether the kernel takes it: no constant division by 0, no constant shift that is too wide."""
    if name in ("lsh", "rsh", "arsh"):
        return 0 <= imm < bits
    return imm != 0 or name not in ("div", "sdiv", "mod", "smod")


def unary_cases(byteorder: str) -> list[Case]:
    cases = []
    for bits, kind in ((64, BPF_ALU64), (32, BPF_ALU)):
        sweep = Sweep(f"neg{bits}", False)
        sweep.add(lambda a, b, bits=bits: unsigned(-a, bits), mov(0, 1), Insn(kind | BPF_NEG, 0))
        cases.append(sweep.case())
        for width in (8, 16, 32):
            if width == 32 and bits == 32:
                continue
            sweep = Sweep(f"movsx{width}to{bits}", False)
            sweep.add(
                lambda a, b, bits=bits, width=width: unsigned(signed(a, width), bits),
                Insn(kind | BPF_MOV | BPF_X, 0, 1, width),
            )
            cases.append(sweep.case())
    for width in (16, 32, 64):
        for name, op in (
            ("le", BPF_ALU | BPF_END | BPF_TO_LE),
            ("be", BPF_ALU | BPF_END | BPF_TO_BE),
            ("bswap", BPF_ALU64 | BPF_END),
        ):
            kept = (name == "le" and byteorder == "little") or (name == "be" and byteorder == "big")

            def swapped(a: int, b: int, width: int = width, kept: bool = kept) -> int:
                low = unsigned(a, width)
                return low if kept else int.from_bytes(low.to_bytes(width // 8, "big"), "little")

            sweep = Sweep(f"{name}{width}", False)
            sweep.add(swapped, mov(0, 1), Insn(op, 0, 0, 0, width))
            cases.append(sweep.case())
    filler = Filler("lddw")
    for a in VALUES:
        filler.add(a, ld_imm64(0, a))
    cases.append(filler.case())
    return cases


# --- jumps ------------------------------------------------------------------------------

JUMPS = {
    "jeq": (BPF_JEQ, lambda ua, ub, sa, sb: ua == ub),
    "jne": (BPF_JNE, lambda ua, ub, sa, sb: ua != ub),
    "jset": (BPF_JSET, lambda ua, ub, sa, sb: ua & ub != 0),
    "jgt": (BPF_JGT, lambda ua, ub, sa, sb: ua > ub),
    "jge": (BPF_JGE, lambda ua, ub, sa, sb: ua >= ub),
    "jlt": (BPF_JLT, lambda ua, ub, sa, sb: ua < ub),
    "jle": (BPF_JLE, lambda ua, ub, sa, sb: ua <= ub),
    "jsgt": (BPF_JSGT, lambda ua, ub, sa, sb: sa > sb),
    "jsge": (BPF_JSGE, lambda ua, ub, sa, sb: sa >= sb),
    "jslt": (BPF_JSLT, lambda ua, ub, sa, sb: sa < sb),
    "jsle": (BPF_JSLE, lambda ua, ub, sa, sb: sa <= sb),
}


def jump_cases() -> list[Case]:
    cases = []
    for name, (code, test) in JUMPS.items():
        for bits, build in ((64, jmp), (32, jmp32)):

            def taken(a: int, b: int, bits: int = bits, test=test) -> int:
                return int(test(unsigned(a, bits), unsigned(b, bits), signed(a, bits), signed(b, bits)))

            sweep = Sweep(f"{name}{bits}-reg", True)
            sweep.add(taken, movi(0, 1), build(code, 1, 1, 2), movi(0, 0))
            cases.append(sweep.case())
            sweep = Sweep(f"{name}{bits}-imm", False)
            for imm in IMMEDIATES:
                sweep.add(lambda a, b, t=taken, imm=imm: t(a, imm), movi(0, 1), build(code, 1, 1, imm=imm), movi(0, 0))
            sweep.add(lambda a, b, t=taken: t(a, a), movi(0, 1), build(code, 1, 1, 1), movi(0, 0))
            cases.append(sweep.case())
    for name, op in (("ja", Insn(0x05, off=1)), ("gotol", Insn(BPF_JMP32 | BPF_JA, imm=1))):
        filler = Filler(name)
        # Reached by a branch, so that nothing is unreachable.
        filler.add(5, filler.load(1, 0), movi(0, 5), jmp(BPF_JNE, 1, 1, imm=0), op, movi(0, 6))
        filler.add(6, filler.load(1, 1), movi(0, 5), jmp(BPF_JNE, 1, 1, imm=0), op, movi(0, 6))
        # Backwards: over the loop's end and to its start, three times round.
        filler.add(
            3,
            *(filler.load(1, 3), movi(0, 0)),
            *(jmp(BPF_JGE, 0, 2, imm=3), alu64(BPF_ADD, 0, imm=1)),
            Insn(op.op, off=-3 if op.off else 0, imm=-3 if op.imm else 0),
        )
        cases.append(filler.case())
    return cases


# --- memory -------------------------------------------------------------------------------


def memory_cases(byteorder: str) -> list[Case]:
    cases = []
    image = [byte for value in VALUES for byte in value.to_bytes(8, byteorder)]
    for size in (1, 2, 4, 8):
        for sx in (False, True):
            if sx and size == 8:
                continue
            filler = Filler(f"ldx{'sx' if sx else ''}{8 * size}")
            for at in range(0, len(image) - size + 1, 1 if size < 4 else size):
                raw = int.from_bytes(bytes(image[at : at + size]), byteorder)
                load = Insn(BPF_LDX | BPF_MEMSX | SIZES[size], 0, 6, at) if sx else ldx(size, 0, 6, at)
                filler.add(unsigned(signed(raw, 8 * size), 64) if sx else raw, load)
            cases.append(filler.case())
        stored, immediate = Sweep(f"stx{8 * size}", False), Filler(f"st{8 * size}")
        # Into the stack over eight bytes that are all ones, with neighbours seen by a load of the whole.
        for place in range(0, 8, size):

            def whole(value: int, b: int = 0, size: int = size, place: int = place) -> int:
                expected = bytearray(b"\xff" * 8)
                expected[place : place + size] = unsigned(value, 8 * size).to_bytes(size, byteorder)
                return int.from_bytes(expected, byteorder)

            stored.add(whole, st(8, 10, -8, -1), stx(size, 10, place - 8, 1), ldx(8, 0, 10, -8))
            for imm in IMMEDIATES:
                immediate.add(whole(imm), st(8, 10, -8, -1), st(size, 10, place - 8, imm), ldx(8, 0, 10, -8))
        cases += [stored.case(), immediate.case()]
    return cases


ATOMICS = {
    "add": (BPF_ADD, lambda old, operand: old + operand),
    "or": (BPF_OR, lambda old, operand: old | operand),
    "and": (BPF_AND, lambda old, operand: old & operand),
    "xor": (BPF_XOR, lambda old, operand: old ^ operand),
}


def atomic_cases(byteorder: str) -> list[Case]:
    """Every atomic instruction on a stack slot of 8 bytes that holds the first value; the second is the operand."""
    cases = []
    for size in (4, 8):
        bits = 8 * size

        def part(value: int, size: int = size) -> int:
            return int.from_bytes(value.to_bytes(8, byteorder)[:size], byteorder)

        def memory(old: int, new: int, size: int = size, bits: int = bits) -> int:
            raw = bytearray(old.to_bytes(8, byteorder))
            raw[:size] = unsigned(new, bits).to_bytes(size, byteorder)
            return int.from_bytes(raw, byteorder)

        forms = [(name, code, f) for name, (code, f) in ATOMICS.items()]
        forms += [(f"{name}_fetch", code | BPF_FETCH, f) for name, (code, f) in ATOMICS.items()]
        forms.append(("xchg", BPF_XCHG, lambda old, operand: operand))
        for name, code, operation in forms:
            sweep = Sweep(f"atomic_{name}{bits}", True)
            run = (stx(8, 10, -8, 1), atomic(size, 10, -8, 2, code))
            sweep.add(lambda a, b, m=memory, p=part, f=operation: m(a, f(p(a), b)), *run, ldx(8, 0, 10, -8))
            sweep.add(lambda a, b, p=part, code=code: p(a) if code & BPF_FETCH else b, *run, mov(0, 2))
            cases.append(sweep.case())
        # Compare with the second value; a third one goes in.
        run = (stx(8, 10, -8, 1), ld_imm64(3, EXCHANGED), mov(0, 2), atomic(size, 10, -8, 3, BPF_CMPXCHG))

        def exchanged(a: int, b: int, bits: int = bits, part=part, memory=memory) -> int:
            return memory(a, EXCHANGED) if unsigned(b, bits) == part(a) else a

        sweep = Sweep(f"atomic_cmpxchg{bits}", True)
        sweep.add(lambda a, b, p=part: p(a), *run)
        sweep.add(exchanged, *run, ldx(8, 0, 10, -8))
        sweep.add(lambda a, b: EXCHANGED, *run, mov(0, 3))
        cases.append(sweep.case())
    for size in (1, 2, 4, 8):
        op = BPF_STX | BPF_ATOMIC | SIZES[size]
        sweep = Sweep(f"load_acquire{8 * size}", False)
        sweep.add(
            lambda a, b, size=size: int.from_bytes(a.to_bytes(8, byteorder)[:size], byteorder),
            *(stx(8, 10, -8, 1), mov(2, 10), Insn(op, 0, 2, -8, BPF_LOAD_ACQ)),
        )
        cases.append(sweep.case())
        sweep = Sweep(f"store_release{8 * size}", False)
        sweep.add(
            lambda a, b, size=size: int.from_bytes(
                unsigned(a, 8 * size).to_bytes(size, byteorder) + b"\xff" * (8 - size), byteorder
            ),
            *(st(8, 10, -8, -1), Insn(op, 10, 1, -8, BPF_STORE_REL), ldx(8, 0, 10, -8)),
        )
        cases.append(sweep.case())
    return cases


def all_cases(byteorder: str) -> list[Case]:
    return [
        *(alu_cases() + unary_cases(byteorder)),
        *(jump_cases() + memory_cases(byteorder) + atomic_cases(byteorder)),
    ]
