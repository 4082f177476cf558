"""Lowering of atomic operations on numbers in memory."""

from __future__ import annotations

import ast

from pybpf.asm.opcodes import BPF_ADD, BPF_AND, BPF_CMPXCHG, BPF_FETCH, BPF_OR, BPF_XCHG, BPF_XOR
from pybpf.lang import ir
from pybpf.lang.lower_intrinsics import Intrinsics
from pybpf.lang.lower_places import native
from pybpf.lang.operand import MEM, Int, Place, Value, Void
from pybpf.lang.types import Scalar


class Atomics(Intrinsics):
    """``do_`` and the name of each. What gives the old value takes Linux 5.12."""

    def do_atomic_add(self, node: ast.Call) -> Value:
        """Add."""
        return self._change(node, BPF_ADD)

    def do_atomic_or(self, node: ast.Call) -> Value:
        """Set bits."""
        return self._change(node, BPF_OR)

    def do_atomic_and(self, node: ast.Call) -> Value:
        """Keep bits."""
        return self._change(node, BPF_AND)

    def do_atomic_xor(self, node: ast.Call) -> Value:
        """Flip bits."""
        return self._change(node, BPF_XOR)

    def do_atomic_fetch_add(self, node: ast.Call) -> Value:
        """Add; the value before."""
        return self._change(node, BPF_ADD | BPF_FETCH)

    def do_atomic_fetch_or(self, node: ast.Call) -> Value:
        """Set bits; the value before."""
        return self._change(node, BPF_OR | BPF_FETCH)

    def do_atomic_fetch_and(self, node: ast.Call) -> Value:
        """Keep bits; the value before."""
        return self._change(node, BPF_AND | BPF_FETCH)

    def do_atomic_fetch_xor(self, node: ast.Call) -> Value:
        """Flip bits; the value before."""
        return self._change(node, BPF_XOR | BPF_FETCH)

    def do_atomic_xchg(self, node: ast.Call) -> Value:
        """Put a number there; the value before."""
        return self._change(node, BPF_XCHG)

    def do_atomic_cmpxchg(self, node: ast.Call) -> Value:
        """Put a number there if the one there is the one expected; the value before."""
        args = self.arguments(node, ("place", "expected", "new"), 3, "atomic_cmpxchg()")
        to, type = self._atomic_place(args["place"], "atomic_cmpxchg()")
        expected, new = (self.operand(self.number(self.expr(args[name]), args[name])) for name in ("expected", "new"))
        old = self.scalar()
        self.emit(
            ir.ATOMIC, dst=old, a=to.reg, b=self.reg(new), off=to.off, size=type.size, imm=BPF_CMPXCHG, args=(expected,)
        )
        return self._old(old, type)

    def _change(self, node: ast.Call, operation: int) -> Value:
        assert isinstance(node.func, ast.Name)
        name = f"{node.func.id}()"
        args = self.arguments(node, ("place", "n"), 2, name)
        to, type = self._atomic_place(args["place"], name)
        change = self.reg(self.operand(self.number(self.expr(args["n"]), args["n"])))
        old = self.scalar() if operation & BPF_FETCH else None
        self.emit(ir.ATOMIC, dst=old, a=to.reg, b=change, off=to.off, size=type.size, imm=operation)
        return Void() if old is None else self._old(old, type)

    def _atomic_place(self, node: ast.expr, name: str) -> tuple[Place, Scalar]:
        to = self.destination(node)
        if not isinstance(to.type, Scalar) or to.type.size < 4 or to.type.big or to.space != MEM:
            raise self.error(node, f"{name} works on numbers of 4 or 8 bytes in memory, not {to.type}")
        if to.align < to.type.size or to.off % to.type.size:
            raise self.error(node, f"{name} wants an aligned number, which one of a packed Struct is not")
        return to, native(to.type)

    def _old(self, value: int, type: Scalar) -> Int:
        """The value before, which comes extended by zeros."""
        if type.signed and type.size < 8:
            wide = self.scalar()
            self.emit(ir.SEXT, dst=wide, a=value, size=type.size)
            value = wide
        return Int(type, value)
