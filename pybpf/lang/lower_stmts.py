"""Lowering of statements, and of whole functions."""

from __future__ import annotations

import ast
from types import ModuleType

from pybpf.errors import CompileError
from pybpf.lang import ir
from pybpf.lang.diagnostics import LocatedError
from pybpf.lang.flow import Frame
from pybpf.lang.ir import Imm
from pybpf.lang.lower_contexts import Contexts
from pybpf.lang.lower_maps import LOOKUP, RINGBUF_DISCARD
from pybpf.lang.maps import Map, PerCpuArray, RingBuf
from pybpf.lang.operand import (
    MEM,
    PROBED,
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
    sign_of,
)
from pybpf.lang.syntax import nodes
from pybpf.lang.types import PtrType, Scalar, StructMeta, StructType, bool_, i64, u64


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
        elif not any(isinstance(part, ast.Call) for part in nodes([target])):
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
            return Pointer(value.target, value.space, dst, 0, value.nullable, value.steadiness)
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
            place = var.value
        elif self.fits(layout.size or 1):
            slot = self.take(layout.size or 1, node, target.id)
            place = Place(layout, MEM, slot, 0, 8)
            var = self.frame.vars[target.id] = Var(target.id, place)
            self.frame.slots.append((slot, var))
        else:
            place = self.scratch(layout, target.id, node)
            var = self.frame.vars[target.id] = Var(target.id, place)
        self.construct(layout, node, place)
        self.flow[var] = False
        return True

    def scratch(self, layout: StructType, name: str, node: ast.Call) -> Place:
        """Memory for a local Struct that does not fit the stack: the value of a per-CPU map made for it.

        The entry always exists, but the verifier wants to see that tested. A
        program that interrupts this one on its CPU must not run the same code.
        """
        self.unit.scratches += 1
        map = PerCpuArray(layout, 1, name=f"scratch{self.unit.scratches}_{name}"[:15])
        slots: list[ir.Slot] = []
        key = self.part(map, "key", Const(0), node, slots)
        found = self.call(LOOKUP, self.map_register(map), key, pointer=True)
        self.release(slots)
        there, absent = self.block("scratch"), self.block("noscratch")
        self.branch("ne", found, Imm(0), there, absent)
        self.start(absent)
        frame: Frame | None = self.frame
        while frame is not None:
            for held in reversed(frame.withs):
                if self.flow.get(held):
                    self.emit(ir.CALL, imm=RINGBUF_DISCARD, args=(held.reg, Imm(0)))
            frame = frame.parent
        self.emit(ir.RET, a=Imm(0))
        self.cur = None
        self.start(there)
        return Place(layout, MEM, found, 0, 8)

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
            var = self.frame.vars[name] = Var(name, Pointer(value.target, value.space, dst, 0, False, value.steadiness))
        slot = var.value
        if not isinstance(slot, Pointer) or slot.target != value.target or slot.space != value.space:
            raise self.error(
                node, f"variable {name!r} is {self._kind_of(var)} already and cannot become {self.describe(value)}"
            )
        slot.align = min(slot.align, value.steadiness)
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
                value = Pointer(value.target, value.space, self.pointer_reg(value), 0, value.nullable, value.steadiness)
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
            if not self.frame.called_back:
                raise self.error(node, "nothing is returned here, but the result is tested")
            self._unwind(0, node)
            self.goto(targets[1])
            return
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


def _variable_type(value: Int | Const) -> Scalar:
    """The type of a variable without annotation."""
    if _is_boolean(value):
        return bool_
    if isinstance(value, Const):
        return u64 if sign_of(value) == UNSIGNED else i64
    return i64 if value.type.signed else u64


def _is_boolean(value: Int | Const) -> bool:
    return isinstance(value.value, bool) if isinstance(value, Const) else value.type is bool_
