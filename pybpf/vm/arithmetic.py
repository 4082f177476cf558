"""Arithmetic and the tests of conditional jumps: RFC 9669, sections 4.1 to 4.3, as a table of expressions.

In an expression ``a`` is the destination register and ``b`` the source
register or the immediate, of which only the low 32 bits count in 32-bit forms.
Registers hold unsigned 64-bit numbers, or None while nothing was written to
them: every expression is such that None raises TypeError.
"""

from __future__ import annotations

from typing import Any, Callable

from pybpf.asm.insn import Insn
from pybpf.asm.opcodes import (
    BPF_ADD,
    BPF_ALU64,
    BPF_AND,
    BPF_ARSH,
    BPF_DIV,
    BPF_END,
    BPF_JEQ,
    BPF_JGE,
    BPF_JGT,
    BPF_JLE,
    BPF_JLT,
    BPF_JMP,
    BPF_JNE,
    BPF_JSET,
    BPF_JSGE,
    BPF_JSGT,
    BPF_JSLE,
    BPF_JSLT,
    BPF_LSH,
    BPF_MOD,
    BPF_MOV,
    BPF_MUL,
    BPF_NEG,
    BPF_OR,
    BPF_RSH,
    BPF_SUB,
    BPF_TO_BE,
    BPF_X,
    BPF_XOR,
)
from pybpf.vm.memory import M32, M64, Order

Registers = list[Any]  # of int | None, which the steps find out by themselves
Step = Callable[[], object]
Jump = Callable[[], int]

# (64 bits, 32 bits)
_BINARY = {
    BPF_ADD: ("{a} + {b} & M64", "{a} + {b} & M32"),
    BPF_SUB: ("{a} - {b} & M64", "{a} - {b} & M32"),
    BPF_MUL: ("{a} * {b} & M64", "{a} * {b} & M32"),
    # A divisor above every dividend gives what the standard wants of division by 0: quotient 0, the dividend as rest.
    BPF_DIV: ("{a} // ({b} + 0 or 1 << 64)", "({a} & M32) // ({b} & M32 or 1 << 32)"),
    BPF_MOD: ("{a} % ({b} + 0 or 1 << 64)", "({a} & M32) % ({b} & M32 or 1 << 32)"),
    BPF_OR: ("{a} | {b}", "({a} | {b}) & M32"),
    BPF_AND: ("{a} & {b}", "{a} & {b} & M32"),
    BPF_XOR: ("{a} ^ {b}", "({a} ^ {b}) & M32"),
    BPF_LSH: ("{a} << ({b} & 63) & M64", "{a} << ({b} & 31) & M32"),
    BPF_RSH: ("{a} >> ({b} & 63)", "({a} & M32) >> ({b} & 31)"),
    BPF_ARSH: ("({a} ^ S64) - S64 >> ({b} & 63) & M64", "({a} & M32 ^ S32) - S32 >> ({b} & 31) & M32"),
    BPF_NEG: ("-{a} & M64", "-{a} & M32"),
    BPF_MOV: ("{b} + 0", "{b} & M32"),
}
_SIGNED = {
    BPF_DIV: ("signed_div({a}, {b}, 64)", "signed_div({a}, {b}, 32)"),
    BPF_MOD: ("signed_mod({a}, {b}, 64)", "signed_mod({a}, {b}, 32)"),
}
# By the offset field; a 32-bit move of 32 bits does not exist.
_SIGN_EXTENDING = {
    8: ("({b} & 0xFF ^ 0x80) - 0x80 & M64", "({b} & 0xFF ^ 0x80) - 0x80 & M32"),
    16: ("({b} & 0xFFFF ^ 0x8000) - 0x8000 & M64", "({b} & 0xFFFF ^ 0x8000) - 0x8000 & M32"),
    32: ("({b} & M32 ^ S32) - S32 & M64", ""),
}
# Adding half the range turns the signed order into the unsigned one.
_TESTS = {
    BPF_JEQ: ("not {a} ^ {b}", "not ({a} ^ {b}) & M32"),
    BPF_JNE: ("{a} ^ {b}", "({a} ^ {b}) & M32"),
    BPF_JSET: ("{a} & {b}", "{a} & {b} & M32"),
    BPF_JGT: ("{a} > {b}", "{a} & M32 > {b} & M32"),
    BPF_JGE: ("{a} >= {b}", "{a} & M32 >= {b} & M32"),
    BPF_JLT: ("{a} < {b}", "{a} & M32 < {b} & M32"),
    BPF_JLE: ("{a} <= {b}", "{a} & M32 <= {b} & M32"),
    BPF_JSGT: ("{a} ^ S64 > {b} ^ S64", "{a} & M32 ^ S32 > {b} & M32 ^ S32"),
    BPF_JSGE: ("{a} ^ S64 >= {b} ^ S64", "{a} & M32 ^ S32 >= {b} & M32 ^ S32"),
    BPF_JSLT: ("{a} ^ S64 < {b} ^ S64", "{a} & M32 ^ S32 < {b} & M32 ^ S32"),
    BPF_JSLE: ("{a} ^ S64 <= {b} ^ S64", "{a} & M32 ^ S32 <= {b} & M32 ^ S32"),
}


def _signed(value: int, bits: int) -> int:
    sign = 1 << bits - 1
    return (value & (sign << 1) - 1 ^ sign) - sign


def _signed_div(a: int, b: int, bits: int) -> int:
    """Rounds to zero; the smallest number by -1 is itself."""
    x, y = _signed(a, bits), _signed(b, bits)
    if not y:
        return 0
    result = abs(x) // abs(y)
    return (-result if (x < 0) != (y < 0) else result) & (1 << bits) - 1


def _signed_mod(a: int, b: int, bits: int) -> int:
    """Has the dividend's sign."""
    x, y = _signed(a, bits), _signed(b, bits)
    result = abs(x) % abs(y) if y else abs(x)
    return (-result if x < 0 else result) & (1 << bits) - 1


def swap(value: int, width: int) -> int:
    """The low ``width`` bits of ``value`` with the order of their bytes reversed."""
    return int.from_bytes((value & (1 << width) - 1).to_bytes(width // 8, "little"), "big")


_NAMES = {
    "M32": M32,
    "M64": M64,
    "S32": 1 << 31,
    "S64": 1 << 63,
    "signed_div": _signed_div,
    "signed_mod": _signed_mod,
    "swap": swap,
}
# The expressions become closures: decoding is done once, and a step is one call.
_MAKERS: dict[tuple[int, int, str], Callable[..., Callable[[], int]]] = {}
_STEP = "def make(r, d, s, k):\n def step():\n  r[d] = {}\n return step"
_JUMP = "def make(r, d, s, k, taken, other):\n def jump():\n  return taken if {} else other\n return jump"


def _make(key: tuple[int, int, str], frame: str, expression: str) -> Callable[..., Callable[[], int]]:
    names: dict[str, Any] = dict(_NAMES)
    exec(frame.format(expression.format(a="r[d]", b="r[s]" if key[0] & BPF_X else "k")), names)
    maker: Callable[..., Callable[[], int]] = names["make"]
    _MAKERS[key] = maker
    return maker


def _expression(insn: Insn, byteorder: Order) -> str:
    code, wide = insn.op & 0xF0, insn.op & 0x07 == BPF_ALU64
    if code == BPF_END:
        if not wide and (byteorder == "big") == (insn.op & 0x08 == BPF_TO_BE):
            return f"{{a}} & {(1 << insn.imm) - 1:#x}"  # it is in that order already: only cut
        return f"swap({{a}}, {insn.imm})"
    if code == BPF_MOV and insn.off:
        return _SIGN_EXTENDING[insn.off][not wide]
    return (_SIGNED if insn.off else _BINARY)[code][not wide]


def alu_step(insn: Insn, registers: Registers, byteorder: Order) -> Step:
    """What executes a valid instruction of class BPF_ALU or BPF_ALU64."""
    width = insn.imm if insn.op & 0xF0 == BPF_END else 0
    key = (insn.op, insn.off | width << 8, byteorder)
    make = _MAKERS.get(key) or _make(key, _STEP, _expression(insn, byteorder))
    return make(registers, insn.dst, insn.src, insn.imm & M64)


def jump_step(insn: Insn, registers: Registers, taken: int, other: int) -> Jump:
    """What executes a valid conditional jump: gives one of the two places."""
    key = (insn.op, 0, "")
    make = _MAKERS.get(key)
    if make is None:
        make = _make(key, _JUMP, _TESTS[insn.op & 0xF0][insn.op & 0x07 != BPF_JMP])
    return make(registers, insn.dst, insn.src, insn.imm & M64, taken, other)
