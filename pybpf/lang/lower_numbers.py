"""Lowering of numbers: arithmetic modulo 2**64, conversions and comparisons."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable

from pybpf.lang import ir
from pybpf.lang.flow import Flow
from pybpf.lang.ir import Block, Imm
from pybpf.lang.lower_places import Places, native
from pybpf.lang.operand import (
    SIGNED,
    UNSIGNED,
    Const,
    Int,
    Place,
    Pointer,
    Value,
    int_constant,
    is_narrow,
    sign_of,
    type_of,
)
from pybpf.lang.types import Scalar, bool_, i64, u32, u64

Number = "Int | Const"

_PYTHON: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.LShift: operator.lshift, ast.RShift: operator.rshift, ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_, ast.BitXor: operator.xor, ast.Pow: operator.pow,
}  # fmt: skip
_OPS: dict[type[ast.operator], str] = {
    ast.Add: ir.ADD, ast.Sub: ir.SUB, ast.Mult: ir.MUL, ast.FloorDiv: ir.DIV, ast.Mod: ir.MOD,
    ast.LShift: ir.LSH, ast.RShift: ir.RSH, ast.BitAnd: ir.AND, ast.BitOr: ir.OR, ast.BitXor: ir.XOR,
}  # fmt: skip
_COMMUTES = (ir.ADD, ir.MUL, ir.AND, ir.OR, ir.XOR)

# Comparison: condition for signed, for unsigned, Python's own, and the one with sides exchanged.
COMPARISONS: dict[type[ast.cmpop], tuple[str, str, Callable[[int, int], bool], type[ast.cmpop]]] = {
    ast.Eq: ("eq", "eq", operator.eq, ast.Eq),
    ast.NotEq: ("ne", "ne", operator.ne, ast.NotEq),
    ast.Lt: ("slt", "lt", operator.lt, ast.Gt),
    ast.LtE: ("sle", "le", operator.le, ast.GtE),
    ast.Gt: ("sgt", "gt", operator.gt, ast.Lt),
    ast.GtE: ("sge", "ge", operator.ge, ast.LtE),
}


class Numbers(Places):
    """Arithmetic."""

    def number(self, value: Value, node: ast.AST) -> Int | Const:
        """``value`` as a number, read from memory if need be. Constants stay constants, checked to fit 64 bits."""
        value = self.rvalue(value, node)
        if isinstance(value, Const) and isinstance(value.value, int):
            if not -(1 << 63) <= value.value < 1 << 64:
                raise self.error(node, f"{value.value} does not fit in 64 bits")
            return value
        if isinstance(value, Int):
            return value
        raise self.error(node, f"a number is wanted here, not {self.describe(value)}")

    def operand(self, value: Int | Const) -> int | Imm:
        """The register or immediate of a number."""
        if isinstance(value, Int):
            return value.op
        assert isinstance(value.value, int)
        return Imm(int(value.value) if value.value < 1 << 63 else int(value.value) - (1 << 64))

    def convert(self, value: Int | Const, type: Scalar) -> Int:
        """A number as ``type`` holds it: cut off and extended as needed; for bool, its truth."""
        type = native(type)
        number = int_constant(value)
        if number is not None:
            return Int(type, Imm(type.wrap(number)))
        assert isinstance(value, Int)
        assert isinstance(value.op, int)
        low, high = value.type.range
        if type is bool_:
            return value if value.type is bool_ else self.materialise(value)
        if type.size == 8 or (type.range[0] <= low and high <= type.range[1]):
            return Int(type, value.op)
        dst = self.scalar()
        self.emit(ir.SEXT if type.signed else ir.ZEXT, dst=dst, a=value.op, size=type.size)
        return Int(type, dst)

    def materialise(self, value: Int) -> Int:
        """The truth of a number as 0 or 1."""
        yes, no, out = self.block("true"), self.block("false"), self.block("bool")
        self.branch("ne", value.op, Imm(0), yes, no)
        return self.truth_value(yes, no, out)

    def truth_value(self, yes: Block, no: Block, out: Block) -> Int:
        """1 on the way through ``yes``, 0 through ``no``; goes on at ``out``."""
        dst = self.scalar()
        for block, number in ((yes, 1), (no, 0)):
            if self.start(block):
                self.emit(ir.CONST, dst=dst, imm=number)
                self.goto(out)
        self.start(out)
        return Int(bool_, dst)

    # --- arithmetic

    def binary(self, op: ast.operator, left: Int | Const, right: Int | Const, node: ast.AST) -> Int | Const:
        """``left <op> right``."""
        kind = type(op)
        if kind is ast.Div:
            raise self.error(node, "'/' would give a fraction: use '//'")
        if kind is ast.MatMult:
            raise self.error(node, "'@' is not part of the language")
        a, b = int_constant(left), int_constant(right)
        if a is not None and b is not None:
            return self._fold(kind, a, b, node)
        if kind is ast.Pow:
            raise self.error(node, "'**' works on constants only")
        code = _OPS[kind]
        if kind in (ast.LShift, ast.RShift):
            return self._shift(code, left, right, node)
        if kind in (ast.FloorDiv, ast.Mod):
            return self._divide(kind, left, right, node)
        if a is not None and code in _COMMUTES:
            left, right = right, left
        result = self._result(kind, left, right)
        return Int(result, self.alu(code, self.operand(left), self.operand(right)))

    def _fold(self, kind: type[ast.operator], a: int, b: int, node: ast.AST) -> Const:
        try:
            if kind in (ast.LShift, ast.Pow) and b > 4096:
                raise OverflowError("the result is too large")
            value = _PYTHON[kind](a, b)
        except (ArithmeticError, ValueError) as error:
            raise self.error(node, f"constant expression: {error}") from None
        if not isinstance(value, int):
            raise self.error(node, "constant expression: the result is not an integer")
        return Const(value)

    def _result(self, kind: type[ast.operator], left: Int | Const, right: Int | Const) -> Scalar:
        """The type of a sum, product or bit operation."""
        signs = (sign_of(left), sign_of(right))
        if kind is ast.BitAnd and (is_narrow(left) or is_narrow(right)):
            return u32
        if kind in (ast.BitOr, ast.BitXor) and is_narrow(left) and is_narrow(right):
            return u32
        if UNSIGNED in signs:
            return u64
        return i64 if SIGNED in signs else u64

    def _shift(self, code: str, left: Int | Const, right: Int | Const, node: ast.AST) -> Int:
        count = int_constant(right)
        if count is not None and not 0 <= count < 64:
            raise self.error(node, f"shift by {count}: the count must be in 0..63")
        # A count in a register counts modulo 64 everywhere, but older interpreters leave that to the machine.
        by = Imm(count) if count is not None else self.alu(ir.AND, self.operand(right), Imm(63))
        sign = sign_of(left)
        if code == ir.RSH and sign == SIGNED:
            return Int(i64, self.alu(ir.ARSH, self.operand(left), by))
        result = u32 if code == ir.RSH and is_narrow(left) else i64 if sign == SIGNED else u64
        return Int(result, self.alu(code, self.operand(left), by))

    def _divide(self, kind: type[ast.operator], left: Int | Const, right: Int | Const, node: ast.AST) -> Int:
        """Python's floor division; x // 0 is 0 and x % 0 is x, as the instruction set has it."""
        signs = (sign_of(left), sign_of(right))
        if SIGNED in signs and UNSIGNED in signs:
            raise self.error(node, f"division of {self._mixed(left, right)}")
        a, b = self.operand(left), self.operand(right)
        if SIGNED not in signs:
            return Int(u32 if is_narrow(left) else u64, self.alu(_OPS[kind], a, b))
        divisor = int_constant(right)
        if divisor is not None and divisor > 0 and divisor & divisor - 1 == 0:
            if kind is ast.FloorDiv:
                return Int(i64, self.alu(ir.ARSH, a, Imm(divisor.bit_length() - 1)))
            return Int(i64, self.alu(ir.AND, a, Imm(divisor - 1)))
        return self._divide_signed(kind, self.reg(a), b)

    def _divide_signed(self, kind: type[ast.operator], a: int, b: int | Imm) -> Int:
        """Unsigned division of the magnitudes, then the signs: there is no signed division before cpu v4."""
        top, bottom = self._magnitude(a), self._magnitude(self.reg(b))
        rest = self.alu(ir.MOD, top, bottom)
        differ = self.alu(ir.XOR, a, b)
        out = self.scalar()
        done = self.block("divided")
        unlike, like, exact = self.block("unlike"), self.block("like"), self.block("exact")
        if kind is ast.FloorDiv:
            quotient = self.alu(ir.DIV, top, bottom)
            self.move(out, quotient)
            self.branch("slt", differ, Imm(0), unlike, done)
            self.start(unlike)
            self.emit(ir.NEG, dst=out, a=quotient)
            nonzero = self.block("divisor")
            self.branch("ne", rest, Imm(0), nonzero, done)
            self.start(nonzero)
            self.branch("ne", b, Imm(0), like, done)
            self.start(like)
            self.emit(ir.SUB, dst=out, a=out, b=Imm(1))
            self.goto(done)
        else:
            self.move(out, rest)
            self.branch("ne", rest, Imm(0), exact, done)
            self.start(exact)
            self.branch("slt", differ, Imm(0), unlike, like)
            self.start(unlike)
            self.emit(ir.SUB, dst=out, a=bottom, b=rest)
            self.goto(like)
            self.start(like)
            negative = self.block("negative")
            self.branch("slt", b, Imm(0), negative, done)
            self.start(negative)
            self.emit(ir.NEG, dst=out, a=out)
            self.goto(done)
        self.start(done)
        return Int(i64, out)

    def _magnitude(self, value: int) -> int:
        out = self.scalar()
        negative, done = self.block("negative"), self.block("magnitude")
        self.move(out, value)
        self.branch("slt", value, Imm(0), negative, done)
        self.start(negative)
        self.emit(ir.NEG, dst=out, a=value)
        self.goto(done)
        self.start(done)
        return out

    def unary(self, op: ast.unaryop, value: Int | Const, node: ast.AST) -> Int | Const:
        """``-x``, ``~x``, ``+x``."""
        number = int_constant(value)
        if number is not None:
            return Const(-number if isinstance(op, ast.USub) else ~number if isinstance(op, ast.Invert) else number)
        assert isinstance(value, Int)
        if isinstance(op, ast.UAdd):
            return value
        result = u64 if sign_of(value) == UNSIGNED else i64
        if isinstance(op, ast.Invert):
            return Int(result, self.alu(ir.XOR, value.op, Imm(-1)))
        dst = self.scalar()
        self.emit(ir.NEG, dst=dst, a=self.reg(value.op))
        return Int(result, dst)

    def least(self, values: list[tuple[Int | Const, ast.AST]], greatest: bool) -> Int | Const:
        """min() or max(): a copy that is compared and replaced in place, so that the verifier sees its bounds."""
        best, _ = values[0]
        for value, node in values[1:]:
            a, b = int_constant(best), int_constant(value)
            if a is not None and b is not None:
                best = Const(max(a, b) if greatest else min(a, b))
                continue
            if a is not None:
                best, value = value, best
            signed = self._signed_order(best, value, node)
            out = self.scalar()
            self.move(out, self.operand(best))
            take, done = self.block("take"), self.block("least")
            cond = ("s" if signed else "") + ("lt" if greatest else "gt")
            self.branch(cond, out, self.operand(value), take, done)
            self.start(take)
            self.move(out, self.operand(value))
            self.goto(done)
            self.start(done)
            narrow = (is_narrow(best) and is_narrow(value)) or (
                not greatest and not signed and (is_narrow(best) or is_narrow(value))
            )
            best = Int(u32 if narrow else i64 if signed else u64, out)
        return best

    # --- comparisons

    def _signed_order(self, left: Int | Const, right: Int | Const, node: ast.AST) -> bool:
        """Whether to compare as signed. Raises CompileError when neither way is right for both."""
        signs = (sign_of(left), sign_of(right))
        if SIGNED in signs and UNSIGNED in signs:
            for value in (left, right):
                number = int_constant(value)
                if number is not None:
                    raise self.error(
                        node, f"comparison of {number} with a u64, which is never negative: annotate or cast"
                    )
            raise self.error(node, f"comparison of {self._mixed(left, right)}")
        return SIGNED in signs

    def _mixed(self, left: Int | Const, right: Int | Const) -> str:
        return f"{type_of(left)} with {type_of(right)}: cast one side (i64(x) or u64(x))"

    def compare_numbers(
        self, op: type[ast.cmpop], left: Int | Const, right: Int | Const, node: ast.AST, then: Block, els: Block
    ) -> None:
        """Branch on ``left <op> right``."""
        signed_cond, cond, python, swapped = COMPARISONS[op]
        a, b = int_constant(left), int_constant(right)
        if a is not None and b is not None:
            self.goto(then if python(a, b) else els)
            return
        if a is not None:
            left, right, a, b = right, left, b, a
            signed_cond, cond, _, _ = COMPARISONS[swapped]
        if op in (ast.Eq, ast.NotEq):
            if {sign_of(left), sign_of(right)} == {SIGNED, UNSIGNED}:
                if b is not None and b < 0:
                    raise self.error(
                        node, f"comparison of {b} with a u64, which is never negative: write i64(x) or u64({b})"
                    )
                raise self.error(node, f"comparison of {self._mixed(left, right)}")
        else:
            if b == 0 and sign_of(left) == UNSIGNED and cond in ("lt", "ge"):
                raise self.error(node, "a u64 is never below 0: cast with i64(x) if it holds a negative number")
            if self._signed_order(left, right, node):
                cond = signed_cond
        self.branch(cond, self.operand(left), self.operand(right), then, els)

    def test(
        self,
        value: Value,
        then: Block,
        els: Block,
        node: ast.AST,
        then_flow: Flow | None = None,
        els_flow: Flow | None = None,
    ) -> None:
        """Branch on the truth of a value."""
        value = self.rvalue(value, node)
        if isinstance(value, Const):
            if not isinstance(value.value, (int, str, bytes, tuple, type(None))):
                raise self.error(node, f"{self.describe(value)} is always true: call it, or test a number or pointer")
            self.goto(then if value.value else els)
        elif isinstance(value, Int):
            if isinstance(value.op, Imm):
                self.goto(then if value.op.value else els)
            else:
                self.branch("ne", value.op, Imm(0), then, els)
        elif isinstance(value, Pointer):
            self.branch("ne", self.pointer_reg(value), Imm(0), then, els, then_flow, els_flow)
        elif isinstance(value, Place):
            raise self.error(node, f"{value.type} is neither true nor false: test one of its fields")
        else:
            raise self.error(node, f"{self.describe(value)} is neither true nor false")
