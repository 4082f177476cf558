"""Lowering of expressions: names, attributes, subscripts, conditions and joins of values."""

from __future__ import annotations

import ast
import enum
from collections.abc import Callable
from copy import copy
from types import BuiltinFunctionType, FunctionType, ModuleType

from pybpf.errors import CompileError
from pybpf.lang import ir
from pybpf.lang.diagnostics import LocatedError
from pybpf.lang.externs import Extern
from pybpf.lang.flow import Arm, Flow
from pybpf.lang.helpers import HELPERS, Helper
from pybpf.lang.ir import Block, Imm
from pybpf.lang.lower_numbers import Numbers
from pybpf.lang.maps import Map, MapType
from pybpf.lang.operand import (
    PROBED,
    RODATA,
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
from pybpf.lang.surface import CONSTANTS, INTRINSICS, Compiled, Intrinsic
from pybpf.lang.types import (
    AnonType,
    ArrayType,
    BitsType,
    ConfigBase,
    Ptr,
    PtrType,
    Scalar,
    Type,
    bool_,
    char,
    find_type,
    i64,
    u8,
    u32,
    u64,
)

_CONSTANTS = (
    int, str, bytes, tuple, range, type(None), Map, ConfigBase, Extern, Type, Helper, Intrinsic, Compiled,
    ModuleType, FunctionType, BuiltinFunctionType, type,
)  # fmt: skip

# The method for each kind of expression; some are those of later parts of the lowering.
_LOWERINGS: dict[type[ast.expr], str] = {
    ast.Constant: "_constant_expr",
    ast.Name: "name",
    ast.Attribute: "_attribute",
    ast.Subscript: "_subscript",
    ast.Call: "call_expr",
    ast.BinOp: "_bin_op",
    ast.UnaryOp: "_unary_op",
    ast.Compare: "_truth",
    ast.BoolOp: "_bool_op",
    ast.IfExp: "_if_exp",
    ast.NamedExpr: "_named_expr",
    ast.Tuple: "_tuple",
}


class Expressions(Numbers):
    """Expressions."""

    def expr(self, node: ast.expr) -> Value:
        """The value of an expression; a place stays a place."""
        name = _LOWERINGS.get(type(node))
        if name is None:
            raise self.error(node, f"{type(node).__name__} is not part of the language")
        lower: Callable[[ast.expr], Value] = getattr(self, name)
        try:
            return lower(node)
        except LocatedError:
            raise
        except CompileError as error:
            raise self.error(node, str(error)) from None

    def _constant_expr(self, node: ast.Constant) -> Const:
        return Const(node.value)

    def _bin_op(self, node: ast.BinOp) -> Int | Const:
        left = self.number(self.expr(node.left), node.left)
        return self.binary(node.op, left, self.number(self.expr(node.right), node.right), node)

    def _unary_op(self, node: ast.UnaryOp) -> Int | Const:
        if isinstance(node.op, ast.Not):
            return self._truth(node)
        return self.unary(node.op, self.number(self.expr(node.operand), node.operand), node)

    def _named_expr(self, node: ast.NamedExpr) -> Value:
        assert isinstance(node.target, ast.Name)
        self.assign_name(node.target.id, self.rvalue(self.expr(node.value), node.value), node.value)
        return self.name(node.target)

    def _tuple(self, node: ast.Tuple) -> Const | Group:
        items = [self.expr(item) for item in node.elts]
        if all(isinstance(item, Const) for item in items):
            return Const(tuple(item.value for item in items if isinstance(item, Const)))
        return Group(items)

    # --- names and parts

    def find_var(self, node: ast.AST) -> Var | None:
        """The local variable that a node names, if it has a value here."""
        if isinstance(node, ast.Name):
            var = self.frame.vars.get(node.id)
            if var is not None and var in self.flow:
                return var
        return None

    def name(self, node: ast.Name) -> Value:
        """The value of a name: local, closure, module, builtins, intrinsics."""
        name = node.id
        routine = self.frame.routine
        if name in self.frame.vars or name in routine.assigned:
            var = self.find_var(node)
            if var is None:
                if name in self.frame.vars:
                    raise self.error(
                        node, f"variable {name!r} has no value on some path to here: assign it before the 'if' or loop"
                    )
                raise self.error(node, f"variable {name!r} has no value yet")
            if var.holds is not None and self.flow.get(var.holds, True) is not True:
                raise self.error(node, f"record {name!r} was discarded on some path to here")
            value = var.value
            if isinstance(value, Pointer):
                nullable = bool(self.flow[var])
                if isinstance(value.target, MapType) and not nullable:
                    return Const(self._found_map(value.target.map, value))
                return Pointer(value.target, value.space, value.reg, value.off, nullable, value.align)
            return value
        try:
            found = routine.lookup(name)
        except KeyError:
            for table in (INTRINSICS, HELPERS, CONSTANTS):
                if name in table:
                    return Const(table[name])
            raise self.error(node, f"name {name!r} is not defined{self._like(name)}") from None
        if isinstance(found, Extern):
            return self.extern_place(found)
        return self._constant(found, name, node)

    def _like(self, name: str) -> str:
        """A hint at a name that exists and differs little."""
        from difflib import get_close_matches

        known = {*INTRINSICS, *HELPERS, *CONSTANTS, *self.frame.vars, *self.frame.routine.known_names()}
        close = get_close_matches(name, sorted(known), 1, 0.7)
        return f": did you mean {close[0]!r}?" if close else ""

    def _found_map(self, model: Map, pointer: Pointer) -> Map:
        """A map that was found in another one: as its model, but in a register."""
        found = copy(model)
        found.call_it(model)
        found.register = self.pointer()
        self.move(found.register, self.pointer_reg(pointer))
        return found

    def _constant(self, value: object, name: str, node: ast.AST) -> Const:
        if isinstance(value, enum.IntEnum):
            return Const(int(value))
        if not isinstance(value, _CONSTANTS):
            raise self.error(
                node,
                f"{name} is a {type(value).__name__}: compiled code knows integers, strings, tuples, types and maps",
            )
        return Const(value)

    def _attribute(self, node: ast.Attribute) -> Value:
        value = self.expr(node.value)
        if not isinstance(value, Const):
            return self.field(value, node.attr, node)
        thing = value.value
        if isinstance(thing, ConfigBase):
            return self._setting(thing, node)
        if isinstance(thing, (ModuleType, type, str, bytes, int, tuple)) and hasattr(thing, node.attr):
            found = getattr(thing, node.attr)
            return self.extern_place(found) if isinstance(found, Extern) else self._constant(found, node.attr, node)
        raise self.error(node, f"{self.describe(value)} has no attribute {node.attr!r}")

    def _setting(self, config: ConfigBase, node: ast.Attribute) -> Place:
        offset, kind = self.unit.setting(config, node.attr)
        dst = self.pointer()
        self.emit(ir.DATA, dst=dst, ref=".rodata", off=offset)
        return Place(kind, RODATA, dst)

    def _subscript(self, node: ast.Subscript) -> Value:
        value = self.expr(node.value)
        if isinstance(node.slice, ast.Slice) and not (isinstance(value, Const) and not isinstance(value.value, Map)):
            return self.slice_of(value, node, node.slice)
        if isinstance(value, Const) and isinstance(value.value, Map):
            raise self.error(
                node, "an entry may be absent: use m.lookup(k), which gives a pointer or None, or m.get(k, default)"
            )
        if isinstance(node.slice, ast.Slice):
            return self._constant_slice(value, node.slice, node)
        index = self.rvalue(self.expr(node.slice), node.slice)
        if isinstance(value, Const):
            return self._constant_item(value, index, node)
        if not isinstance(index, Int) and int_constant(index) is None:
            raise self.error(node.slice, f"an index is an integer, not {self.describe(index)}")
        return self.element(value, index, node)

    def _constant_slice(self, value: Value, part: ast.Slice, node: ast.Subscript) -> Const:
        bounds: list[int | None] = []
        for bound in (part.lower, part.upper, part.step):
            number = int_constant(self.expr(bound)) if bound is not None else None
            if bound is not None and number is None:
                raise self.error(bound, f"the bounds of a slice of {self.describe(value)} must be known when compiling")
            bounds.append(number)
        if not isinstance(value, Const) or not isinstance(value.value, (tuple, str, bytes, range)):
            raise self.error(node.value, f"{self.describe(value)} cannot be sliced")
        return self._constant(value.value[slice(*bounds)], "it", node)

    def _constant_item(self, value: Const, index: Value, node: ast.Subscript) -> Const:
        if not isinstance(index, Const):
            raise self.error(node.slice, f"an index into {self.describe(value)} must be known when compiling")
        thing = value.value
        if thing is not Ptr and find_type(thing) is None and not isinstance(thing, (tuple, str, bytes, range)):
            raise self.error(node.value, f"{self.describe(value)} cannot be indexed")
        if thing is Ptr and isinstance(index.value, str):
            return Const(PtrType(self.type_named(index.value, node.slice)))
        try:
            found = thing[index.value]  # type: ignore[index]
        except (IndexError, KeyError, TypeError) as error:
            raise self.error(node.slice, f"{self.describe(index)}: {error}") from None
        return self._constant(found, "it", node)

    def type_named(self, name: str, node: ast.AST) -> Type:
        """The type that a quoted name stands for."""
        try:
            found = find_type(self.frame.routine.lookup(name))
        except KeyError:
            found = None
        if found is None:
            raise self.error(node, f"{name!r} is not a type")
        return found

    def type_expr(self, node: ast.expr) -> Type:
        """The type that an annotation or argument spells."""
        value = self.expr(node)
        if isinstance(value, Const):
            if isinstance(value.value, str):
                return self.type_named(value.value, node)
            found = find_type(value.value)
            if isinstance(found, (BitsType, AnonType)):
                raise self.error(node, f"{found} can only be a member of a Struct")
            if found is not None:
                return found
        python = isinstance(value, Const) and value.value in (int, float, str, bytes)
        hint = ": use u8..u64, i8..i64, bool, char, T[N], Ptr[T] or a Struct" if python else ""
        raise self.error(node, f"a type is wanted here, not {self.describe(value)}{hint}")

    # --- conditions

    def _truth(self, node: ast.expr) -> Int | Const:
        """A condition as a value."""
        yes, no, out = self.block("true"), self.block("false"), self.block("bool")
        before = self.cur
        self.cond(node, yes, no)
        known = [block for block in (yes, no) if self.leads_to(block)]
        if before is not None and len(known) == 1:
            self.start(known[0])
            return Const(known[0] is yes)
        return self.truth_value(yes, no, out)

    def cond(self, node: ast.expr, then: Block, els: Block) -> None:
        """Go to ``then`` or ``els``, as the truth of an expression says; pointers known not to be None are noted."""
        try:
            self._cond(node, then, els)
        except LocatedError:
            raise
        except CompileError as error:
            raise self.error(node, str(error)) from None

    def _cond(self, node: ast.expr, then: Block, els: Block) -> None:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self.cond(node.operand, els, then)
        elif isinstance(node, ast.BoolOp):
            both = isinstance(node.op, ast.And)
            for part in node.values[:-1]:
                following = self.block("and" if both else "or")
                self.cond(part, following if both else then, els if both else following)
                if not self.start(following):
                    return
            self.cond(node.values[-1], then, els)
        elif isinstance(node, ast.Compare):
            self._compare(node, then, els)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd):
            left = self.number(self.expr(node.left), node.left)
            right = self.number(self.expr(node.right), node.right)
            if int_constant(left) is not None:
                left, right = right, left
            if int_constant(left) is not None:
                self.test(self.binary(node.op, left, right, node), then, els, node)
            else:
                self.branch("set", self.operand(left), self.operand(right), then, els)
        elif isinstance(node, ast.Call):
            self.call_cond(node, then, els)
        else:
            value = self.expr(node)
            then_flow = self._refined(node)
            self.test(value, then, els, node, then_flow)

    def _refined(self, node: ast.AST) -> Flow | None:
        """What is known where the pointer that ``node`` names is not None."""
        if isinstance(node, ast.NamedExpr):
            node = node.target
        var = self.find_var(node)
        if var is None or not self.flow[var]:
            return None
        return {**self.flow, var: False}

    def _compare(self, node: ast.Compare, then: Block, els: Block) -> None:
        left_node: ast.expr = node.left
        left = self.rvalue(self.expr(left_node), left_node)
        for position, (op, right_node) in enumerate(zip(node.ops, node.comparators)):
            last = position == len(node.ops) - 1
            target = then if last else self.block("chain")
            right: Value = Void()
            if isinstance(op, (ast.In, ast.NotIn)):
                if len(node.ops) > 1:
                    raise self.error(node, "'in' cannot be part of a chain of comparisons")
                yes, no = (then, els) if isinstance(op, ast.In) else (els, then)
                self._contains(left, left_node, right_node, yes, no)
                return
            right = self.rvalue(self.expr(right_node), right_node)
            self._compare_two(op, left, right, (left_node, right_node, node), target, els)
            if not last and not self.start(target):
                return
            left, left_node = right, right_node

    def _compare_two(
        self,
        op: ast.cmpop,
        left: Value,
        right: Value,
        nodes: tuple[ast.expr, ast.expr, ast.Compare],
        then: Block,
        els: Block,
    ) -> None:
        left_node, right_node, node = nodes
        same: type[ast.cmpop] = type(op)
        if isinstance(op, (ast.Is, ast.IsNot)):
            if not any(isinstance(side, Const) and side.value is None for side in (left, right)):
                raise self.error(node, "'is' compares with None only: use '=='")
            same = ast.Eq if isinstance(op, ast.Is) else ast.NotEq
        if is_text(left) and _is_string(right):
            self._compare_text(same, left, right, node, then, els)
            return
        if is_text(right) and _is_string(left):
            self._compare_text(same, right, left, node, then, els)
            return
        if isinstance(left, Pointer) or isinstance(right, Pointer):
            self._compare_pointers(same, left, right, nodes, then, els)
            return
        if (
            isinstance(left, Const)
            and isinstance(right, Const)
            and not (isinstance(left.value, int) and isinstance(right.value, int))
        ):
            if same not in (ast.Eq, ast.NotEq):
                raise self.error(node, f"{self.describe(left)} and {self.describe(right)} have no order")
            self.goto(then if (left.value == right.value) == (same is ast.Eq) else els)
            return
        self.compare_numbers(same, self.number(left, left_node), self.number(right, right_node), node, then, els)

    def _compare_text(
        self, op: type[ast.cmpop], place: Value, text: Value, node: ast.expr, then: Block, els: Block
    ) -> None:
        if op not in (ast.Eq, ast.NotEq):
            raise self.error(node, "strings are compared with == and != only")
        yes, no = (then, els) if op is ast.Eq else (els, then)
        self.text_equals(place, text, node, yes, no)

    def _compare_pointers(
        self,
        op: type[ast.cmpop],
        left: Value,
        right: Value,
        nodes: tuple[ast.expr, ast.expr, ast.Compare],
        then: Block,
        els: Block,
    ) -> None:
        left_node, right_node, node = nodes
        if op not in (ast.Eq, ast.NotEq):
            raise self.error(node, "pointers have no order: compare with == or !=")
        if isinstance(left, Const):
            left, right, left_node = right, left, right_node
        assert isinstance(left, Pointer)
        yes, no = (then, els) if op is ast.Eq else (els, then)
        if isinstance(right, Const) and right.value is None:
            self.test(left, no, yes, node, self._refined(left_node))
        elif isinstance(right, Pointer):
            self.branch("eq", self.pointer_reg(left), self.pointer_reg(right), yes, no)
        else:
            raise self.error(node, f"comparison of {self.describe(left)} with {self.describe(right)}")

    def _contains(self, left: Value, left_node: ast.expr, node: ast.expr, yes: Block, no: Block) -> None:
        """``left in node``: a map, a tuple of numbers, a range."""
        right = self.expr(node)
        if isinstance(right, Const) and isinstance(right.value, Map):
            self.map_contains(right.value, left, left_node, node, yes, no)
            return
        items: list[Value] | None = None
        if isinstance(right, Group):
            items = right.items
        elif isinstance(right, Const) and isinstance(right.value, (tuple, range)):
            items = (
                [Const(item) for item in right.value]
                if isinstance(right.value, tuple) or len(right.value) <= 16
                else None
            )
            if items is None and isinstance(right.value, range) and right.value.step == 1:
                self._in_range(self.number(left, left_node), right.value, node, yes, no)
                return
        if items is None:
            raise self.error(node, f"'in' looks into a map, a tuple or a range, not {self.describe(right)}")
        strings = is_text(left) and all(_is_string(item) for item in items)
        number = Const(0) if strings else self.number(left, left_node)
        for item in items:
            other = self.block("other")
            if strings:
                self.text_equals(left, item, node, yes, other)
            else:
                self.compare_numbers(ast.Eq, number, self.number(item, node), node, yes, other)
            if not self.start(other):
                return
        self.goto(no)

    def _in_range(self, number: Int | Const, range_: range, node: ast.expr, yes: Block, no: Block) -> None:
        above = self.block("above")
        if range_.start == 0 and sign_of(number) != SIGNED:
            self.goto(above)
        else:
            self.compare_numbers(ast.GtE, number, Const(range_.start), node, above, no)
        if self.start(above):
            self.compare_numbers(ast.Lt, number, Const(range_.stop), node, yes, no)

    # --- joins

    def arm(self, value: Value, node: ast.AST) -> Arm | None:
        """The end of one way to a join; nothing leads on from here."""
        if self.cur is None:
            return None
        arm = Arm(self.cur, self.flow, value, node)
        self.cur = None
        return arm

    def join(self, arms: list[Arm], node: ast.AST, what: str) -> Value:
        """Go on where all arms meet; their value, in one register."""
        if not arms:
            self.cur = None
            return Void()
        if len(arms) == 1:
            self.cur, self.flow = arms[0].block, arms[0].flow
            return arms[0].value
        out = self.block("join")
        values = [arm.value for arm in arms]
        result: Value
        if all(isinstance(value, Void) for value in values) or _same_constants(values):
            result = values[0]
            moves: list[tuple[Arm, int | None]] = [(arm, None) for arm in arms]
        elif any(isinstance(value, Pointer) for value in values):
            pointer = self._join_pointers(arms, node, what)
            assert isinstance(pointer.reg, int)
            result, moves = pointer, [(arm, pointer.reg) for arm in arms]
        else:
            kind = self._join_numbers(arms, node, what)
            dst = self.scalar()
            result, moves = Int(kind, dst), [(arm, dst) for arm in arms]
        for arm, register in moves:
            self.cur, self.flow = arm.block, arm.flow
            if register is not None:
                self._set(register, arm.value)
            self.goto(out)
        self.start(out)
        return result

    def _set(self, register: int, value: Value) -> None:
        if isinstance(value, Pointer):
            self.move(register, self.pointer_reg(value))
        elif isinstance(value, Const) and value.value is None:
            self.move(register, Imm(0))
        elif isinstance(value, (Int, Const)):
            self.move(register, self.operand(value))

    def _join_numbers(self, arms: list[Arm], node: ast.AST, what: str) -> Scalar:
        kinds: list[Int | Const] = []
        for arm in arms:
            value = arm.value
            if not (isinstance(value, Int) or int_constant(value) is not None):
                other = next(
                    (a.value for a in arms if isinstance(a.value, Int)),
                    arms[0].value if arms[0] is not arm else arms[1].value,
                )
                raise self.error(
                    arm.node, f"{what} is {self.describe(value)} here and {self.describe(other)} elsewhere"
                )
            assert isinstance(value, (Int, Const))
            kinds.append(value)
        if all(_is_bool(value) for value in kinds):
            return bool_
        if all(is_narrow(value) for value in kinds):
            return u32
        signs = {sign_of(value) for value in kinds}
        if SIGNED in signs and UNSIGNED in signs:
            raise self.error(node, f"{what} is signed on one path and u64 on another: cast one side (i64(x) or u64(x))")
        return i64 if SIGNED in signs else u64

    def _join_pointers(self, arms: list[Arm], node: ast.AST, what: str) -> Pointer:
        model = next(arm.value for arm in arms if isinstance(arm.value, Pointer))
        nullable = False
        for arm in arms:
            value = arm.value
            if isinstance(value, Const) and value.value is None:
                nullable = True
            elif isinstance(value, Pointer) and value.target == model.target and value.space == model.space:
                nullable = nullable or value.nullable
            else:
                raise self.error(
                    arm.node, f"{what} is {self.describe(value)} here and {self.describe(model)} elsewhere"
                )
        # A plain address that is 0 reads as 0; only memory faults.
        nullable = nullable and model.space not in PROBED
        dst = self.scalar() if model.space in PROBED else self.pointer()
        align = min([arm.value.steadiness for arm in arms if isinstance(arm.value, Pointer)])
        return Pointer(model.target, model.space, dst, 0, nullable, align)

    def _if_exp(self, node: ast.IfExp) -> Value:
        then, els = self.block("then"), self.block("else")
        self.cond(node.test, then, els)
        arms = []
        for block, part in ((then, node.body), (els, node.orelse)):
            if self.start(block):
                value = self.rvalue(self.expr(part), part)
                arms.append(self.arm(value, part))
        return self.join([arm for arm in arms if arm is not None], node, "the value")

    def _bool_op(self, node: ast.BoolOp) -> Value:
        """``a and b`` as a value is ``a`` or ``b``, as in Python."""
        if all(_is_condition(part) for part in node.values):
            return self._truth(node)
        both = isinstance(node.op, ast.And)
        arms: list[Arm | None] = []
        for part in node.values[:-1]:
            value = self.rvalue(self.expr(part), part)
            stop, following = self.block("stop"), self.block("and" if both else "or")
            yes, no = (following, stop) if both else (stop, following)
            self.test(value, yes, no, part, self._refined(part))
            if self.start(stop):
                if isinstance(value, Pointer) and not both:
                    value = Pointer(value.target, value.space, value.reg, value.off, False, value.align)
                arms.append(self.arm(value, part))
            if not self.start(following):
                break
        else:
            last = node.values[-1]
            arms.append(self.arm(self.rvalue(self.expr(last), last), last))
        return self.join([arm for arm in arms if arm is not None], node, "the value")

    # --- from the parts built on this

    def extern_place(self, extern: Extern) -> Place:
        """A variable or setting of the kernel's."""
        raise NotImplementedError

    def text_equals(self, place: Value, text: Value, node: ast.AST, then: Block, els: Block) -> None:
        """Branch on whether a string in memory is a constant."""
        raise NotImplementedError

    def slice_of(self, value: Value, node: ast.Subscript, part: ast.Slice) -> Value:
        """``value[a:b]``."""
        raise NotImplementedError

    def assign_name(self, name: str, value: Value, node: ast.AST) -> None:
        """Give a local variable a value."""
        raise NotImplementedError

    def call_expr(self, node: ast.Call) -> Value:
        """A call as a value."""
        raise NotImplementedError

    def call_cond(self, node: ast.Call, then: Block, els: Block) -> None:
        """A call as a condition."""
        raise NotImplementedError

    def map_contains(self, map: Map, key: Value, key_node: ast.expr, node: ast.expr, yes: Block, no: Block) -> None:
        """``key in map``."""
        raise NotImplementedError


def is_text(value: Value) -> bool:
    """Whether a place holds a string: an array of char or u8."""
    return isinstance(value, Place) and isinstance(value.type, ArrayType) and value.type.element in (char, u8)


def _is_string(value: Value) -> bool:
    return isinstance(value, Const) and isinstance(value.value, (str, bytes))


def _is_bool(value: Int | Const) -> bool:
    return isinstance(value.value, bool) if isinstance(value, Const) else value.type is bool_


def _is_condition(node: ast.expr) -> bool:
    """Whether an expression can only be True or False."""
    if isinstance(node, ast.BoolOp):
        return all(_is_condition(part) for part in node.values)
    return isinstance(node, ast.Compare) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not))


def _same_constants(values: list[Value]) -> bool:
    first = values[0]
    return isinstance(first, Const) and all(
        isinstance(other, Const) and type(other.value) is type(first.value) and other.value == first.value
        for other in values
    )
