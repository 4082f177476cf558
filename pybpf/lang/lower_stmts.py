"""Lowering of statements, and of whole functions."""

from __future__ import annotations

import ast
from types import ModuleType

from pybpf.errors import CompileError
from pybpf.lang import ir
from pybpf.lang.diagnostics import LocatedError
from pybpf.lang.flow import Loop
from pybpf.lang.ir import Imm
from pybpf.lang.lower_contexts import Contexts
from pybpf.lang.maps import Map, RingBuf
from pybpf.lang.operand import (
    MEM,
    PROBED,
    SIGNED,
    UNSIGNED,
    Const,
    Group,
    Int,
    Place,
    Pointer,
    Value,
    Var,
    Void,
    int_constant,
    is_narrow,
    sign_of,
)
from pybpf.lang.source import assigned_names
from pybpf.lang.surface import INTRINSICS
from pybpf.lang.types import PtrType, Scalar, StructMeta, StructType, bool_, i64, u32, u64

MAX_UNROLL = 1024


class Statements(Contexts):
    """Statements."""

    def body(self, statements: list[ast.stmt]) -> None:
        """Lower statements; those that no path leads to are left out."""
        for statement in statements:
            if self.cur is None:
                return
            self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:
        self.at(node)
        outer, self.temps = self.temps, []
        try:
            method = getattr(self, f"_{type(node).__name__}", None)
            if method is None:
                raise self.error(node, f"{type(node).__name__} is not part of the language")
            method(node)
        except LocatedError:
            raise
        except CompileError as error:
            raise self.error(node, str(error)) from None
        for slot in self.temps:
            self.give(slot)
            self.passing.discard(slot)
        self.temps = outer

    def _Pass(self, node: ast.Pass) -> None:
        pass

    def _Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return  # a docstring
        if not isinstance(node.value, ast.Call):
            raise self.error(node, "this has no effect: assign the value, or call something")
        self.expr(node.value)

    def _Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            assert isinstance(target, ast.Subscript)
            owner = self.expr(target.value)
            if not (isinstance(owner, Const) and isinstance(owner.value, Map)):
                raise self.error(target, "only an entry of a map can be deleted: del m[k]")
            self.delete_entry(owner.value, target)

    # --- assignment

    def _Assign(self, node: ast.Assign) -> None:
        first = node.targets[0]
        if len(node.targets) == 1 and isinstance(first, ast.Name) and self._construct_into(first, node.value):
            return
        value = self._for_target(first, node.value)
        if len(node.targets) > 1 or isinstance(first, ast.Tuple):
            value = self._settled(self.rvalue(value, node.value))
        for target in node.targets:
            self.assign(target, value, node.value)

    def _for_target(self, target: ast.expr, node: ast.expr) -> Value:
        """The value to be assigned; a number in memory is read the way the target's type wants it."""
        value = self.expr(node)
        if isinstance(target, ast.Name):
            var = self.frame.vars.get(target.id)
            if (
                isinstance(value, Place)
                and isinstance(value.type, Scalar)
                and var is not None
                and isinstance(var.value, Int)
            ):
                return self.load(value, node, var.value.type)
        elif not any(isinstance(part, ast.Call) for part in ast.walk(target)):
            return value  # finding the target changes nothing, so storing may read the value
        return self.rvalue(value, node)

    def _settled(self, value: Value) -> Value:
        """A value that assignments to variables do not change any more."""
        if isinstance(value, Int) and isinstance(value.op, int):
            dst = self.scalar()
            self.move(dst, value.op)
            return Int(value.type, dst)
        if isinstance(value, Pointer):
            register = self.pointer_reg(value)
            dst = self.func.vreg(self.func.vregs[register])
            self.move(dst, register)
            return Pointer(value.target, value.space, dst, 0, value.nullable, value.align)
        if isinstance(value, Group):
            return Group([self._settled(item) for item in value.items])
        return value

    def _AnnAssign(self, node: ast.AnnAssign) -> None:
        assert isinstance(node.target, ast.Name)
        assert node.value is not None
        name = node.target.id
        wanted = self.type_expr(node.annotation)
        if isinstance(wanted, StructType):
            if not self._construct_into(node.target, node.value, wanted):
                raise self.error(
                    node.value, f"a variable of type {wanted} starts as {wanted}(): copy() into it afterwards"
                )
            return
        value = self.expr(node.value)
        if not isinstance(wanted, (Scalar, PtrType)):
            raise self.error(node.annotation, f"a variable cannot be a {wanted}: put it into a Struct")
        value = self.coerce(value, wanted, node.value, f"variable {name!r}")
        var = self.frame.vars.get(name)
        if isinstance(wanted, Scalar):
            assert isinstance(value, Int)
            if var is None or var.bound:
                var = self.frame.vars[name] = Var(name, Int(value.type, self.scalar()))
            elif not isinstance(var.value, Int) or var.value.type is not value.type:
                raise self.error(node, f"variable {name!r} is {self._kind_of(var)} already and cannot become {wanted}")
        self.assign_name(name, value, node)

    def _construct_into(self, target: ast.Name, node: ast.expr, wanted: StructType | None = None) -> bool:
        """``name = X(...)``: a Struct on the stack that the variable owns."""
        if not isinstance(node, ast.Call):
            return False
        layout = self._struct_named(node.func)
        if layout is None:
            return False
        if wanted is not None and layout is not wanted:
            raise self.error(node, f"{layout} is not {wanted}")
        var = self.frame.vars.get(target.id)
        if var is not None and not var.bound:
            if not isinstance(var.value, Place) or var.value.type is not layout:
                raise self.error(
                    target, f"variable {target.id!r} is {self._kind_of(var)} already and cannot become a {layout}"
                )
            slot = var.value.reg
        else:
            slot = self.take(layout.size or 1, node, target.id)
            var = self.frame.vars[target.id] = Var(target.id, Place(layout, MEM, slot, 0, 8))
            self.frame.slots.append((slot, var))
        assert isinstance(slot, ir.Slot)
        self.construct(layout, node, slot)
        self.flow[var] = False
        return True

    def _struct_named(self, node: ast.expr) -> StructType | None:
        """The structure that ``X`` or ``module.X`` names."""
        if not isinstance(node, (ast.Name, ast.Attribute)) or not self._is_static(node):
            return None
        if isinstance(node, ast.Attribute):
            owner = self.expr(node.value)
            if not (isinstance(owner, Const) and isinstance(owner.value, ModuleType)):
                return None
        found = self.expr(node)
        return found.value.layout if isinstance(found, Const) and isinstance(found.value, StructMeta) else None

    def _is_static(self, node: ast.expr) -> bool:
        """Whether a dotted name leads to something at module level."""
        while isinstance(node, ast.Attribute):
            node = node.value
        return (
            isinstance(node, ast.Name) and node.id not in self.frame.vars and node.id not in self.frame.routine.assigned
        )

    def _kind_of(self, var: Var) -> str:
        value = var.value
        if isinstance(value, Const):
            return f"the constant {value.value!r}"
        return str(value.type) if isinstance(value, (Int, Place)) else self.describe(value)

    def assign(self, target: ast.expr, value: Value, node: ast.AST) -> None:
        """Assign to a variable, a place, an entry of a map, or several of them."""
        if isinstance(target, ast.Name):
            self.assign_name(target.id, value, node)
        elif isinstance(target, ast.Tuple):
            self._assign_several(target, value, node)
        elif isinstance(target, (ast.Attribute, ast.Subscript)):
            if isinstance(target, ast.Subscript):
                owner = self.expr(target.value)
                if isinstance(owner, Const) and isinstance(owner.value, Map):
                    self.set_entry(owner.value, target, value, node)
                    return
            place = self.expr(target)
            if not isinstance(place, Place):
                raise self.error(target, f"{self.describe(place)} cannot be assigned to")
            if isinstance(value, Void):
                raise self.error(node, "this has no value")
            self.store(place, value, node)

    def _assign_several(self, target: ast.Tuple, value: Value, node: ast.AST) -> None:
        if isinstance(value, Const) and isinstance(value.value, tuple):
            items: list[Value] = [Const(item) for item in value.value]
        elif isinstance(value, Group):
            items = [self._settled(self.rvalue(item, node)) for item in value.items]
        else:
            raise self.error(node, f"{self.describe(value)} cannot be taken apart")
        if len(items) != len(target.elts):
            raise self.error(node, f"{len(items)} values for {len(target.elts)} targets")
        for element, item in zip(target.elts, items):
            self.assign(element, item, node)

    def assign_name(self, name: str, value: Value, node: ast.AST) -> None:
        """Give a local variable a value; its type is that of its first one."""
        var = self.frame.vars.get(name)
        if var is not None and var.bound:
            var = None  # a compile-time value gives way to any other
        if var is not None and isinstance(var.value, Pointer) and isinstance(value, Const) and value.value is None:
            value = Pointer(var.value.target, var.value.space, self.null(), 0, True)
        if isinstance(value, Int) or int_constant(value) is not None:
            self._assign_number(name, var, self.number(value, node), node)
        elif isinstance(value, Pointer):
            self._assign_pointer(name, var, value, node)
        elif isinstance(value, Void):
            raise self.error(node, "this has no value")
        elif isinstance(value, Place):
            raise self.error(
                node,
                f"a {value.type} is not copied into a variable: use addr() for a pointer, or copy() into a Struct",
            )
        elif isinstance(value, Const) and value.value is not None:
            if var is not None:
                raise self.error(
                    node, f"variable {name!r} is {self._kind_of(var)} already and cannot become {self.describe(value)}"
                )
            self._bind_constant(name, value)
        elif isinstance(value, Const):
            raise self.error(node, f"the type of {name!r} is not known: annotate it, '{name}: Ptr[T] = None'")
        else:
            raise self.error(node, f"{self.describe(value)} cannot be kept in a variable: take it apart")

    def _bind_constant(self, name: str, value: Value) -> None:
        var = self.frame.vars[name] = Var(name, value, bound=True)
        self.flow[var] = False

    def _assign_number(self, name: str, var: Var | None, value: Int | Const, node: ast.AST) -> None:
        if var is None:
            var = self.frame.vars[name] = Var(name, Int(_variable_type(value), self.scalar()))
        slot = var.value
        if not isinstance(slot, Int):
            raise self.error(node, f"variable {name!r} is {self._kind_of(var)} already and cannot become a number")
        if slot.type is bool_ and not _is_boolean(value):
            raise self.error(
                node, f"variable {name!r} is a bool: write bool(...), or annotate it where it is first assigned"
            )
        assert isinstance(slot.op, int)
        self.move(slot.op, self.convert(value, slot.type).op)
        self.flow[var] = False

    def _assign_pointer(self, name: str, var: Var | None, value: Pointer, node: ast.AST) -> None:
        register = self.pointer_reg(value)
        if var is None:
            dst = self.scalar() if value.space in PROBED else self.pointer()
            var = self.frame.vars[name] = Var(name, Pointer(value.target, value.space, dst, 0, False, value.align))
        slot = var.value
        if not isinstance(slot, Pointer) or slot.target != value.target or slot.space != value.space:
            raise self.error(
                node, f"variable {name!r} is {self._kind_of(var)} already and cannot become {self.describe(value)}"
            )
        if value.align < slot.align:
            slot.align = value.align
        assert isinstance(slot.reg, int)
        self.move(slot.reg, register)
        self.flow[var] = value.nullable

    def _AugAssign(self, node: ast.AugAssign) -> None:
        target = node.target
        if isinstance(target, ast.Name):
            left = self.number(self.name(target), target)
            var = self.frame.vars[target.id]
            if var.bound:
                raise self.error(
                    target, f"{target.id!r} is a compile-time value here: assign it to another variable first"
                )
            right = self.number(self.expr(node.value), node.value)
            self.assign_name(target.id, self.binary(node.op, left, right, node), node)
            return
        if isinstance(target, ast.Subscript):
            owner = self.expr(target.value)
            if isinstance(owner, Const) and isinstance(owner.value, Map):
                self.change_entry(owner.value, node, target)
                return
        place = self.expr(target)
        if not isinstance(place, Place):
            raise self.error(target, f"{self.describe(place)} cannot be assigned to")
        self.writable(place, target)
        left = self.number(place, target)
        right = self.number(self.expr(node.value), node.value)
        self.store(place, self.binary(node.op, left, right, node), node)

    # --- control flow

    def _If(self, node: ast.If) -> None:
        then, els, out = self.block("then"), self.block("else"), self.block("endif")
        self.cond(node.test, then, els)
        for block, body in ((then, node.body), (els, node.orelse)):
            if self.start(block):
                self.body(body)
                self.goto(out)
        self.start(out)

    def _Return(self, node: ast.Return) -> None:
        frame = self.frame
        if frame.nothing and node.value is not None:
            raise self.error(node.value, "this function is annotated to return None")
        if frame.targets is not None:
            self._return_truth(node)
            return
        value: Value = Void()
        if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
            value = self.rvalue(self.expr(node.value), node.value)
            if isinstance(value, (Place, Group)):
                raise self.error(node.value, f"{self.describe(value)} cannot be returned: return numbers or pointers")
            if frame.result is not None:
                value = self.coerce(value, frame.result, node.value, "the result")
            if isinstance(value, Pointer) and isinstance(value.reg, ir.Slot):
                if value.reg in self.passing or any(slot is value.reg for slot, _ in frame.slots):
                    raise self.error(
                        node.value, "this variable ends with the function: a pointer to it cannot be returned"
                    )
                value = Pointer(value.target, value.space, self.pointer_reg(value), 0, value.nullable, value.align)
        self._unwind(0, node)
        if frame.parent is not None:
            arm = self.arm(value, node)
            if arm is not None:
                frame.arms.append(arm)
            return
        self.finish(value, node)

    def _return_truth(self, node: ast.Return) -> None:
        targets = self.frame.targets
        assert targets is not None
        if node.value is None:
            raise self.error(node, "nothing is returned here, but the result is tested")
        if not self.frame.withs and self.frame.result is None:
            self.cond(node.value, *targets)
            return
        value = self.rvalue(self.expr(node.value), node.value)
        if self.frame.result is not None:
            value = self.coerce(value, self.frame.result, node.value, "the result")
        self._unwind(0, node)
        if self.cur is not None:
            self.test(value, *targets, node)

    def finish(self, value: Value, node: ast.AST) -> None:
        """Return from the program or subprogram."""
        wanted = self.root.result
        if isinstance(value, Void):
            if wanted is not None:
                raise self.error(node, f"a result of type {wanted} must be returned here")
            self.emit(ir.RET, a=Imm(0))
        else:
            if isinstance(value, Pointer):
                raise self.error(node, "a pointer cannot be returned to the kernel")
            self.emit(ir.RET, a=self.operand(self.number(value, node)))
        self.cur = None

    def _unwind(self, depth: int, node: ast.AST) -> None:
        """Leave ``with`` blocks, all but the outer ``depth``."""
        for reservation in reversed(self.frame.withs[depth:]):
            self.finish_reservation(reservation, node)

    def _With(self, node: ast.With) -> None:
        item = node.items[0]
        call = item.context_expr
        target = item.optional_vars
        assert isinstance(target, ast.Name)
        ring = None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "reserve":
            owner = self.expr(call.func.value)
            ring = owner.value if isinstance(owner, Const) else None
        if not isinstance(ring, RingBuf):
            raise self.error(call, "'with' is for ring buffer records: with ring.reserve(T) as e")
        assert isinstance(call, ast.Call)
        part = self.arguments(call, ("type",), 1, f"{ring.name}.reserve()")["type"]
        layout = self.type_expr(part)
        full = self.block("full")
        held = self.reserve(ring, layout, part, target.id, full)
        previous = self.frame.vars.pop(target.id, None)
        if previous is not None and not previous.bound:
            raise self.error(
                target, f"variable {target.id!r} is {self._kind_of(previous)} already and cannot become a record"
            )
        var = self.frame.vars[target.id] = Var(target.id, Pointer(layout, MEM, held.reg, 0, False, 8), bound=True)
        var.holds = held
        self.flow[var] = False
        self.flow[held] = True
        self.frame.withs.append(held)
        self.body(node.body)
        self.at(node)
        self.finish_reservation(held, node)
        self.frame.withs.pop()
        self.goto(full)
        self.start(full)

    def _Break(self, node: ast.Break) -> None:
        self._leave(node, False)

    def _Continue(self, node: ast.Continue) -> None:
        self._leave(node, True)

    def _leave(self, node: ast.AST, again: bool) -> None:
        loop = self.frame.loops[-1]
        self._unwind(loop.depth, node)
        self.goto(loop.again if again else loop.out)

    # --- loops

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
            raise self.error(
                where, f"a loop goes over range(...) or a tuple of constants, not {self.describe(sequence)}"
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

    def _forget(self, node: ast.For) -> None:
        """At a loop's head, what an earlier pass may have changed is not known any more."""
        for name in assigned_names([node]):
            var = self.frame.vars.get(name)
            if var is None or var not in self.flow:
                continue
            if var.bound:
                del self.flow[var]
            elif isinstance(var.value, Pointer) and var.value.space == MEM:
                self.flow[var] = True


def _variable_type(value: Int | Const) -> Scalar:
    """The type of a variable without annotation."""
    if _is_boolean(value):
        return bool_
    if isinstance(value, Const):
        return u64 if sign_of(value) == UNSIGNED else i64
    return i64 if value.type.signed else u64


def _is_boolean(value: Int | Const) -> bool:
    return isinstance(value.value, bool) if isinstance(value, Const) else value.type is bool_
