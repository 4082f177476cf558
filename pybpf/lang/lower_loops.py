"""Lowering of loops: unrolled, counted, bounded ``while``, and ``loop()``."""

from __future__ import annotations

import ast

from pybpf.lang import ir
from pybpf.lang.flow import Loop
from pybpf.lang.ir import Imm
from pybpf.lang.lower_callbacks import MAX_PASSES
from pybpf.lang.lower_externs import Externs
from pybpf.lang.maps import Map
from pybpf.lang.operand import (
    MEM,
    SIGNED,
    UNSIGNED,
    Const,
    Group,
    Int,
    Pointer,
    Value,
    Var,
    int_constant,
    is_narrow,
    sign_of,
)
from pybpf.lang.source import assigned_names
from pybpf.lang.surface import INTRINSICS
from pybpf.lang.syntax import nodes
from pybpf.lang.types import Scalar, i64, u32, u64

MAX_UNROLL = 1024


class Loops(Externs):
    """Loops."""

    def _For(self, node: ast.For) -> None:
        call = node.iter
        name = None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and self._is_static(call.func):
            callee = self.expr(call.func)
            name = callee.value if isinstance(callee, Const) else None
        if name is INTRINSICS["unroll"]:
            assert isinstance(call, ast.Call)
            part = self.arguments(call, ("sequence",), 1, "unroll()")["sequence"]
            self._unrolled(node, self.expr(part), part)
        elif name is range:
            assert isinstance(call, ast.Call)
            self._counted(node, call)
        else:
            self._unrolled(node, self.expr(call), call)

    def _unrolled(self, node: ast.For, sequence: Value, where: ast.expr) -> None:
        if isinstance(sequence, Group):
            raise self.error(where, "the elements must be known when compiling")
        if not (isinstance(sequence, Const) and isinstance(sequence.value, (tuple, range))):
            of_map = isinstance(sequence, Const) and isinstance(sequence.value, Map) and sequence.value.walks
            hint = ": use m.for_each(fn, ...)" if of_map else ""
            raise self.error(
                where, f"a loop goes over range(...) or a tuple of constants, not {self.describe(sequence)}{hint}"
            )
        if len(sequence.value) > MAX_UNROLL:
            raise self.error(where, f"{len(sequence.value)} copies of the body are too many: loop over a range()")
        out = self.block("unrolled")
        for item in sequence.value:
            if self.cur is None:
                break
            again = self.block("next")
            self._bind_target(node.target, self._constant(item, "the element", where))
            self.frame.loops.append(Loop(again, out, len(self.frame.withs)))
            self.body(node.body)
            self.frame.loops.pop()
            self.goto(again)
            self.start(again)
        self.goto(out)
        self.start(out)

    def _bind_target(self, target: ast.expr, value: Const) -> None:
        if isinstance(target, ast.Tuple):
            if not isinstance(value.value, tuple) or len(value.value) != len(target.elts):
                raise self.error(target, f"{value.value!r} cannot be taken apart into {len(target.elts)}")
            for element, item in zip(target.elts, value.value):
                self._bind_target(element, Const(item))
        elif isinstance(target, ast.Name):
            self._bind_constant(target.id, value)
        else:
            raise self.error(target, "the variable of an unrolled loop is a plain name")

    def _counted(self, node: ast.For, call: ast.Call) -> None:
        """A loop at run time: a counter that only the loop changes, so that the verifier can follow it."""
        if not isinstance(node.target, ast.Name):
            raise self.error(node.target, "the variable of a counted loop is a plain name")
        if call.keywords or not 1 <= len(call.args) <= 3:
            raise self.error(call, "range() takes one to three numbers")
        bounds = [self.number(self.expr(argument), argument) for argument in call.args]
        step = int_constant(bounds[2]) if len(bounds) == 3 else 1
        if not step:
            raise self.error(call.args[2], "the step must be a constant, and not 0")
        first: Int | Const = bounds[0] if len(bounds) > 1 else Const(0)
        last = bounds[1] if len(bounds) > 1 else bounds[0]
        name = node.target.id
        kind = self._counter_type(first, last, step, call)
        limit = self.operand(last) if int_constant(last) is not None else self._settled(last)
        limit = limit.op if isinstance(limit, Int) else limit
        counter = self.scalar()
        self.move(counter, self.operand(first))
        head, inside, again, out = self.block("loop"), self.block("body"), self.block("step"), self.block("endloop")
        trips = None
        a, b = int_constant(first), int_constant(last)
        if a is not None and b is not None:
            trips = len(range(a, b, step))
            if not trips:
                return
        self._forget(node)
        before = {key for key in self.flow if not isinstance(key, Var)}
        self.goto(head)
        self.start(head)
        sign = "s" if kind.signed else ""
        assert not isinstance(limit, Value)
        self.branch(sign + ("lt" if step > 0 else "gt"), counter, limit, inside, out)
        self.start(inside)
        self._assign_counter(name, kind, counter, node)
        self.frame.loops.append(Loop(again, out, len(self.frame.withs)))
        self.body(node.body)
        self.frame.loops.pop()
        self.goto(again)
        self.at(node)
        if self.start(again):
            if {key for key in self.flow if not isinstance(key, Var)} != before:
                raise self.error(node, "a record is reserved or discarded inside of the loop only on some passes")
            ended = self.flow
            self.emit(ir.ADD, dst=counter, a=counter, b=Imm(step))
            self.goto(head)
            self.drop_incoming(head)
        else:
            ended = None
        self.start(out)
        if trips and ended is not None:
            # The body ran at least once.
            var = self.frame.vars.get(name)
            if var is not None and not var.bound:
                self.flow.setdefault(var, False)

    def _While(self, node: ast.While) -> None:
        """A loop that is bounded by ``atmost(n)``, or by a variable that each pass moves towards a fixed limit."""
        limit, test = self._atmost(node.test)
        if limit is None and not self._is_counting(node):
            raise self.error(
                node,
                "'while' has no bound that the verifier could see: write 'while atmost(n) and ...', "
                "or 'for ... in range(n)' and break",
            )
        counter = self.scalar()
        if limit is not None:
            self.move(counter, Imm(0))
        head, inside, again, out = self.block("while"), self.block("body"), self.block("again"), self.block("endwhile")
        self._forget(node)
        before = {key for key in self.flow if not isinstance(key, Var)}
        self.goto(head)
        self.start(head)
        if limit is not None:
            checked = self.block("checked") if test else inside
            self.branch("lt", counter, Imm(limit), checked, out)
            if test:
                self.start(checked)
                self.emit(ir.ADD, dst=counter, a=counter, b=Imm(1))
        for index, part in enumerate(test):
            following = inside if index == len(test) - 1 else self.block("and")
            self.cond(part, following, out)
            if following is not inside:
                self.start(following)
        if self.start(inside):
            if limit is not None and not test:
                self.emit(ir.ADD, dst=counter, a=counter, b=Imm(1))
            self.frame.loops.append(Loop(again, out, len(self.frame.withs)))
            self.body(node.body)
            self.frame.loops.pop()
            self.goto(again)
            self.at(node)
            if self.start(again):
                if {key for key in self.flow if not isinstance(key, Var)} != before:
                    raise self.error(node, "a record is reserved or discarded inside of the loop only on some passes")
                self.goto(head)
        self.drop_incoming(head)
        self.start(out)

    def _atmost(self, test: ast.expr) -> tuple[int | None, list[ast.expr]]:
        """The bound that a condition states, and what else has to be true."""
        parts = list(test.values) if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else [test]
        first = parts[0]
        if not (isinstance(first, ast.Call) and isinstance(first.func, ast.Name) and self._is_static(first.func)):
            return None, [test]
        callee = self.expr(first.func)
        if not (isinstance(callee, Const) and callee.value is INTRINSICS["atmost"]):
            return None, [test]
        part = self.arguments(first, ("n",), 1, "atmost()")["n"]
        number = int_constant(self.expr(part))
        if number is None or not 0 < number <= MAX_PASSES:
            raise self.error(part, f"how many passes at most must be known when compiling, from 1 to {MAX_PASSES}")
        return number, parts[1:]

    def _is_counting(self, node: ast.While) -> bool:
        """Whether each pass moves a variable by a constant towards a limit that the loop does not change."""
        test = node.test.values[0] if isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.And) else None
        compare = test or node.test
        if not isinstance(compare, ast.Compare) or len(compare.ops) != 1 or not isinstance(compare.left, ast.Name):
            return False
        name, limit = compare.left.id, compare.comparators[0]
        changed = assigned_names(node.body)
        if any(isinstance(part, ast.Call) for part in nodes([limit])) or changed & {
            part.id for part in nodes([limit]) if isinstance(part, ast.Name)
        }:
            return False
        if not (isinstance(limit, ast.Constant) or int_constant(self.expr(limit)) is not None):
            return False  # a limit in a register the verifier has to bound itself
        up = isinstance(compare.ops[0], (ast.Lt, ast.LtE))
        if not up and not isinstance(compare.ops[0], (ast.Gt, ast.GtE)):
            return False
        steps: list[tuple[int, ast.stmt]] = []
        for index, statement in enumerate(node.body):
            if any(isinstance(part, ast.Continue) for part in nodes([statement])) and not steps:
                return False
            if name in assigned_names([statement]):
                steps.append((index, statement))
        if len(steps) != 1 or not isinstance(steps[0][1], ast.AugAssign):
            return False
        step = steps[0][1]
        number = int_constant(self.expr(step.value)) if isinstance(step.op, (ast.Add, ast.Sub)) else None
        return number is not None and (number > 0) == (isinstance(step.op, ast.Add) is up) and number != 0

    def do_atmost(self, node: ast.Call) -> Value:
        """Only as the first part of a 'while'."""
        raise self.error(node, "atmost() stands first in the condition of a 'while' only")

    def _counter_type(self, first: Int | Const, last: Int | Const, step: int, node: ast.Call) -> Scalar:
        signs = {sign_of(first), sign_of(last)}
        if SIGNED in signs and UNSIGNED in signs:
            raise self.error(node, "the bounds of the range are signed and u64: cast one side (i64(x) or u64(x))")
        # Counting down passes below 0.
        if SIGNED in signs or step < 0:
            return i64
        return u32 if is_narrow(first) and is_narrow(last) else u64

    def _assign_counter(self, name: str, kind: Scalar, counter: int, node: ast.For) -> None:
        var = self.frame.vars.get(name)
        if (var is None or var.bound) and kind is u32 and name not in assigned_names(node.body):
            var = self.frame.vars[name] = Var(name, Int(u32, self.scalar()))
        if var is not None and not var.bound and isinstance(var.value, Int) and isinstance(var.value.op, int):
            self.move(var.value.op, self.convert(Int(kind, counter), var.value.type).op)
            self.flow[var] = False
            return
        self.assign_name(name, Int(kind, counter), node.target)

    def _forget(self, node: ast.For | ast.While) -> None:
        """At a loop's head, what an earlier pass may have changed is not known any more."""
        for name in assigned_names([node]):
            var = self.frame.vars.get(name)
            if var is None or var not in self.flow:
                continue
            if var.bound:
                del self.flow[var]
            elif isinstance(var.value, Pointer) and var.value.space == MEM:
                self.flow[var] = True
