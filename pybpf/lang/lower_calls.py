"""Lowering of calls: helpers, inline functions, subprograms, conversions, constructors."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable
from types import BuiltinFunctionType, BuiltinMethodType, FunctionType, MethodType
from typing import Any

from pybpf.errors import CompileError
from pybpf.lang import ir
from pybpf.lang.contexts import CONTEXTS
from pybpf.lang.externs import Kfunc
from pybpf.lang.flow import Frame
from pybpf.lang.helpers import MAPS_OF, Helper
from pybpf.lang.ir import Block, Imm, Slot
from pybpf.lang.lower_maps import Maps
from pybpf.lang.lower_places import native
from pybpf.lang.maps import Map, MapType
from pybpf.lang.operand import (
    BTF,
    CTX,
    KERN,
    MEM,
    RODATA,
    Const,
    Group,
    Int,
    Place,
    Pointer,
    Value,
    Var,
    Void,
    int_constant,
)
from pybpf.lang.surface import Compiled, Inline, Intrinsic, Subprog
from pybpf.lang.types import (
    ArrayType,
    BitsType,
    Dynptr,
    PtrType,
    Scalar,
    SpinLock,
    StructMeta,
    StructType,
    Timer,
    Type,
    bool_,
    find_field,
    i64,
    u8,
    u32,
    u64,
)

MAX_INLINE_DEPTH = 32
_RUN_WHEN_COMPILING = (FunctionType, BuiltinFunctionType, BuiltinMethodType, MethodType)
_CONSTANT_BUILTINS = (
    abs,
    bytes,
    divmod,
    enumerate,
    int,
    len,
    max,
    min,
    ord,
    pow,
    range,
    reversed,
    sorted,
    str,
    sum,
    tuple,
    zip,
)


class Calls(Maps):
    """Calls."""

    def call_expr(self, node: ast.Call) -> Value:
        """A call as a value."""
        return self._call(node, None)

    def call_cond(self, node: ast.Call, then: Block, els: Block) -> None:
        """A call as a condition; an inline function then returns straight to ``then`` or ``els``."""
        value = self._call(node, (then, els))
        if self.cur is not None:
            self.test(value, then, els, node)

    def _call(self, node: ast.Call, targets: tuple[Block, Block] | None) -> Value:
        self.at(node)
        if isinstance(node.func, ast.Attribute):
            owner = self.find_var(node.func.value)
            if owner is not None and owner.holds is not None and node.func.attr == "discard":
                self.expr(node.func.value)  # refuses a record that is gone
                return self.discard(owner.holds, node)
            base = self.expr(node.func.value)
            if isinstance(base, Const) and isinstance(base.value, Map):
                return self.map_method(base.value, node.func.attr, node)
            if isinstance(base, Pointer) and base.space == CTX:
                return self.context_method(base, node.func.attr, node)
            if isinstance(base, Pointer) and isinstance(base.target, MapType):
                raise self.error(node.func.value, "pointer may be None here: test it with 'if' first")
            if not isinstance(base, Const):
                raise self.error(node, f"{self.describe(base)} has no methods")
        callee = self.expr(node.func)
        if not isinstance(callee, Const):
            raise self.error(node.func, f"{self.describe(callee)} cannot be called")
        thing = callee.value
        if isinstance(thing, Intrinsic):
            direct = getattr(self, f"test_{thing.name}", None)
            if targets is not None and direct is not None:
                direct(node, *targets)
                return Void()
            method: Callable[[ast.Call], Value] = getattr(self, f"do_{thing.name}")
            return method(node)
        if isinstance(thing, Helper):
            return self._helper(thing, node)
        if isinstance(thing, Inline):
            return self._inline(thing, node, targets)
        if isinstance(thing, Subprog):
            return self._subprog(thing, node)
        if isinstance(thing, Kfunc):
            return self.call_kfunc(thing, node)
        if isinstance(thing, Compiled):
            raise self.error(node, f"{thing.name} is a {thing.what}: it cannot be called")
        if isinstance(thing, Scalar) or thing is builtins.bool:
            return self._conversion(bool_ if thing is builtins.bool else thing, node)
        if isinstance(thing, StructMeta):
            layout = thing.layout
            if layout.kernel or self.fits(layout.size or 1):
                place = Place(layout, MEM, self.take_temporary(layout.size or 1, node, layout.name), 0, 8)
            else:
                place = self.scratch(layout, layout.name, node)
            return self.construct(layout, node, place)
        return self._python(thing, node)

    # --- Python's own functions

    def _python(self, thing: Any, node: ast.Call) -> Value:
        """A call that is made while compiling, or one of the built-in functions that have a run-time meaning."""
        values = [self.rvalue(self.expr(argument), argument) for argument in node.args]
        constant = all(isinstance(value, Const) for value in values)
        if thing in (builtins.min, builtins.max) and not constant:
            if node.keywords or len(values) < 2:
                raise self.error(node, f"{thing.__name__}() takes two or more numbers")
            numbers: list[tuple[Int | Const, ast.AST]] = [
                (self.number(value, part), part) for value, part in zip(values, node.args)
            ]
            return self.least(numbers, thing is builtins.max)
        if thing is builtins.len and len(values) == 1 and isinstance(values[0], Place):
            if isinstance(values[0].type, ArrayType):
                return Const(values[0].type.count)
            raise self.error(node, f"{values[0].type} has no length: use sizeof()")
        name = getattr(thing, "__name__", repr(thing))
        if not isinstance(thing, _RUN_WHEN_COMPILING) and thing not in _CONSTANT_BUILTINS:
            raise self.error(node.func, f"{name} cannot be called in compiled code")
        if not constant:
            raise self.error(
                node,
                "print() is not part of the language: use trace_printk(format, ...), or send a record through a map"
                if thing is print
                else f"{name}() is a Python function: it can be called with constants only, or made @inline",
            )
        keywords = {}
        for keyword in node.keywords:
            value = self.expr(keyword.value)
            if not isinstance(value, Const):
                raise self.error(keyword.value, f"{name}() is a Python function: it can be called with constants only")
            keywords[str(keyword.arg)] = value.value
        try:
            result = thing(*(value.value for value in values if isinstance(value, Const)), **keywords)
            if isinstance(result, (enumerate, zip, list, reversed)):
                result = tuple(result)
        except CompileError:
            raise
        except Exception as error:  # whatever a function of the user's may raise
            raise self.error(node, f"{name}() failed while compiling: {type(error).__name__}: {error}") from None
        return self._constant(result, f"the result of {name}()", node)

    def _conversion(self, type: Scalar, node: ast.Call) -> Value:
        if node.keywords or len(node.args) != 1:
            raise self.error(node, f"{type}(x) takes one argument")
        argument = node.args[0]
        if type is bool_:
            yes, no = self.block("true"), self.block("false")
            self.cond(argument, yes, no)
            return self.truth_value(yes, no, self.block("bool"))
        value = self.expr(argument)
        if isinstance(value, Place) and type_is_plain(value.type):
            return self.convert(self.load_number(value, argument, type), type)
        value = self.rvalue(value, argument)
        if isinstance(value, Pointer):
            if type.size != 8:
                raise self.error(node, f"a pointer does not fit {type}: use u64(p)")
            return Int(native(type), self.untyped(value.reg) if value.space == BTF else self.pointer_reg(value))
        return self.convert(self.number(value, argument), type)

    # --- structures on the stack

    def construct(self, layout: StructType, node: ast.Call, place: Place) -> Place:
        """``X(field=value)`` in ``place``, everything else zero, padding too."""
        if layout.kernel:
            raise self.error(node, f"{layout} is a kernel type: programs cannot make one")
        if node.args:
            raise self.error(node.args[0], f"name the fields: {layout}(field=value)")
        values = []
        for keyword in node.keywords:
            field = find_field(layout, str(keyword.arg))
            values.append((field, self.rvalue(self.expr(keyword.value), keyword.value), keyword.value))
        if layout.size:
            self.zero(place, layout.size, node)
        for field, value, where in values:
            align = 1 if field.packed and isinstance(field.type, BitsType) else 8
            self.store(Place(field.type, MEM, place.reg, field.offset, align, bit=field.bit), value, where)
        return place

    # --- helpers

    def _helper(self, helper: Helper, node: ast.Call) -> Value:
        what = f"{helper.name}()"
        total = len(helper.params)
        if len(node.args) > total:
            wants = f"{helper.required} to {total}" if helper.required < total else str(total)
            raise self.error(node.args[total], f"{what} takes {wants} arguments, not {len(node.args)}")
        named: dict[int, ast.expr] = {}
        for keyword in node.keywords:
            if keyword.arg not in ("size", "flags") or keyword.arg not in helper.params:
                raise self.error(
                    keyword.value, f"{what} has no argument {keyword.arg!r}: the kernel's arguments have no names"
                )
            named[helper.params.index(keyword.arg)] = keyword.value
        nodes: list[ast.expr | None] = [*node.args, *[None] * (total - len(node.args))]
        for index, part in named.items():
            if nodes[index] is not None:
                raise self.error(part, f"{what} got argument {helper.params[index]!r} twice")
            nodes[index] = part
        missing = next((i for i in range(helper.required) if nodes[i] is None), None)
        if missing is not None:
            raise self.error(
                node, f"{what} needs {helper.required} arguments ({', '.join(helper.params)}), not {len(node.args)}"
            )
        while nodes and nodes[-1] is None and helper.params[len(nodes) - 1] not in ("size", "flags"):
            nodes.pop()
        return self._emit_helper(helper, nodes, node)

    def _emit_helper(self, helper: Helper, nodes: list[ast.expr | None], node: ast.Call) -> Value:
        args: list[int | Imm] = []
        slots: list[Slot] = []
        map: Map | None = None
        variable: Place | None = None
        whole = 0
        for kind, part in zip(helper.params, nodes):
            if part is None:
                args.append(Imm(whole if kind == "size" else 0))
                continue
            value = self.expr(part)
            if kind in ("mem", "out"):
                if isinstance(value, Pointer) and value.target == u8 and value.space == KERN:
                    raise self.error(part, "memory is wanted here, not an address")
                register, whole = self.memory(value, part, kind == "out")
                args.append(register)
            elif kind == "fmt":
                register, whole = self.memory(value, part)
                args += [register, Imm(whole)]
            elif kind == "text":
                args.append(self._read_only_text(value, part))
            elif kind == "dynptr":
                if isinstance(value, Pointer):
                    value = self.deref(value, part)
                if not isinstance(value, Place) or value.type is not Dynptr.layout:
                    raise self.error(part, f"a Dynptr is wanted here, not {self.describe(value)}")
                args.append(self.address(value))
            elif kind == "percpu":
                if not isinstance(value, Place) or value.space not in (BTF, RODATA) or value.relocated:
                    raise self.error(part, f"a KSym with a type is wanted here, not {self.describe(value)}")
                variable = value
                args.append(self.base(value.reg))
            elif kind in ("lock", "timer"):
                args.append(self.embedded(value, (SpinLock if kind == "lock" else Timer).layout, part))
            elif kind == "map":
                if not (isinstance(value, Const) and isinstance(value.value, Map)):
                    raise self.error(part, f"a map is wanted here, not {self.describe(value)}")
                map = value.value
                kinds = MAPS_OF.get(helper.name, [map.kind] if map.keyed else [])
                if map.kind not in kinds:
                    wants = f"a {' or '.join(kinds)}" if kinds else "a map with entries"
                    raise self.error(part, f"{helper.name}() takes {wants}, not {map.kind} {map.name}")
                args.append(self.map_register(map))
            elif kind in ("key", "value"):
                assert map is not None
                args.append(self.part(map, kind, value, part, slots))
            else:
                argument = self._plain_argument(kind, value, part)
                if kind == "size" and isinstance(argument, Imm) and not 0 <= argument.value <= whole:
                    raise self.error(part, f"size {argument.value} is outside of the memory's {whole} bytes")
                args.append(argument)
        pointer = helper.result in ("value", "mem", "task", "held", "sock", "object", "same", "same?")
        if helper.result == "void":
            self.emit(ir.CALL, imm=helper.number, args=tuple(args))
            result: Value = Void()
        else:
            register = self.call(helper.number, *args, pointer=pointer)
            if variable is not None:
                result = Pointer(variable.type, variable.space, register, 0, helper.result == "same?")
            else:
                result = self._helper_result(helper, register, map)
        self.release(slots)
        return result

    def embedded(self, value: Value, layout: StructType, node: ast.expr) -> int:
        """The address of a lock or timer, which the kernel finds in map values only."""
        name = "SpinLock" if layout is SpinLock.layout else "Timer"
        if isinstance(value, Pointer):
            value = self.deref(value, node)
        if not isinstance(value, Place) or value.type is not layout:
            raise self.error(node, f"a {name} in a map's value is wanted here, not {self.describe(value)}")
        if isinstance(value.reg, Slot):
            raise self.error(node, f"a {name} on the stack is of no use to anybody: keep it in a map's value")
        return self.address(value)

    def _read_only_text(self, value: Value, node: ast.expr) -> int:
        if not (isinstance(value, Const) and isinstance(value.value, (str, bytes))):
            raise self.error(node, f"a constant string is wanted here, not {self.describe(value)}")
        raw = value.value.encode() if isinstance(value.value, str) else value.value
        dst = self.pointer()
        self.emit(ir.DATA, dst=dst, ref=".rodata", off=self.unit.text(raw + b"\0"))
        return dst

    def _plain_argument(self, kind: str, value: Value, node: ast.expr) -> int | Imm:
        value = self.rvalue(value, node)
        if kind == "ctx":
            if not isinstance(value, Pointer) or value.space != CTX:
                raise self.error(node, f"the program's context is wanted here, not {self.describe(value)}")
            return self.pointer_reg(value)
        if kind == "task":
            if not isinstance(value, Pointer) or value.space != BTF:
                raise self.error(node, "a task that the verifier knows the type of is wanted here: see current_task()")
            return self.pointer_reg(value)
        if kind == "any" and isinstance(value, Pointer):
            return self.pointer_reg(value)
        if kind == "any" and isinstance(value, Place):
            return self.address(value)
        return self.operand(self.number(value, node))

    def _helper_result(self, helper: Helper, register: int, map: Map | None) -> Value:
        if helper.result == "value":
            assert map is not None
            return self.value_pointer(map, register)
        if helper.result == "held":
            assert map is not None
            held = self.value_pointer(map, register)
            return Pointer(held.target, MEM, register, 0, False, held.align)
        if helper.result == "sock":
            return Pointer(CONTEXTS["bpf_sock"], CTX, register, 0, True, 8)
        if helper.result == "object":
            return Pointer(u8, CTX, register, 0, True, 8)
        if helper.result == "mem":
            return Pointer(u8, MEM, register, 0, True, 8)
        if helper.result == "task":
            return Pointer(self.unit.task_struct, BTF, register)
        # Helpers return 64 bits (BPF_CALL_x): negative errors come sign-extended.
        return Int({"u64": u64, "u32": u32}.get(helper.result, i64), register)

    # --- inline functions

    def _inline(self, inline: Inline, node: ast.Call, targets: tuple[Block, Block] | None) -> Value:
        routine = self.unit.sources.routine(inline.function)
        depth = 0
        outer: Frame | None = self.frame
        while outer is not None:
            depth += 1
            if outer.routine is routine:
                raise self.error(node, f"{inline.name} calls itself: the kernel has no recursion")
            outer = outer.parent
        if depth > MAX_INLINE_DEPTH:
            raise self.error(node, f"inline functions are nested more than {MAX_INLINE_DEPTH} deep")
        nodes = self._bind(inline, routine.node.args, node)
        values = {name: (self._argument(part), part) for name, part in nodes.items() if part is not None}
        caller, loc = self.frame, self.loc
        frame = Frame(routine, caller, node)
        frame.targets = targets
        self.frame = frame
        defaults = dict(
            zip([a.arg for a in _params(routine.node.args)][::-1], (inline.function.__defaults__ or ())[::-1])
        )
        for param in _params(routine.node.args):
            if param.arg in values:
                self._enter_param(param, *values[param.arg])
            else:
                self._enter_param(param, self._constant(defaults[param.arg], param.arg, param), param)
        self.enter_result(routine.node.returns)
        self.body(routine.node.body)
        if targets is not None and self.cur is not None:
            raise self.error(routine.node, f"{inline.name} returns nothing at its end, but its result is tested")
        if self.cur is not None and frame.result is not None:
            raise self.error(routine.node, f"{inline.name} returns nothing at its end, but is annotated {frame.result}")
        end = self.arm(Void(), routine.node)
        if end is not None:
            frame.arms.append(end)
        result = self.join(frame.arms, node, f"the result of {inline.name}")
        self.frame = caller
        self.loc = loc
        for slot, var in frame.slots:
            if not var.pinned:
                self.give(slot)
            else:
                caller.slots.append((slot, var))
        return result

    def _bind(self, inline: Compiled, args: ast.arguments, node: ast.Call) -> dict[str, ast.expr | None]:
        names = tuple(arg.arg for arg in _params(args))
        found = self.arguments(node, names, len(names) - len(args.defaults), f"{inline.name}()")
        return {name: found.get(name) for name in names}

    def _argument(self, node: ast.expr) -> Value:
        """An argument of an inline function: numbers and pointers by value, structures and arrays by place."""
        value = self.rvalue(self.expr(node), node)
        if isinstance(value, Void):
            raise self.error(node, "this has no value")
        if isinstance(value, Group):
            value = Group([self.rvalue(item, node) for item in value.items])
        return value

    def _enter_param(self, param: ast.arg, value: Value, node: ast.AST) -> None:
        if param.annotation is not None:
            value = self.coerce(value, self.type_expr(param.annotation), node, f"argument {param.arg!r}")
        if param.arg in self.frame.routine.assigned:
            if param.annotation is not None and isinstance(value, Int):
                # Its type is the annotated one, as a local's is, not what a first assignment gives it.
                self.frame.vars[param.arg] = Var(param.arg, Int(value.type, self.scalar()))
            self.assign_name(param.arg, value, param)
            return
        var = Var(param.arg, value, bound=True)
        if isinstance(node, ast.Name) and self.frame.parent is not None:
            # A record stays a record under its new name.
            origin = self.frame.parent.vars.get(node.id)
            if origin is not None and origin.holds is not None:
                var.holds = origin.holds
        self.frame.vars[param.arg] = var
        self.flow[var] = isinstance(value, Pointer) and value.nullable

    def enter_result(self, node: ast.expr | None) -> None:
        """Note the annotation of the result."""
        if isinstance(node, ast.Constant) and node.value is None:
            self.frame.nothing = True
        elif node is not None:
            self.frame.result = self.type_expr(node)

    def coerce(self, value: Value, type: Type, node: ast.AST, what: str) -> Value:
        """``value`` as annotated ``type``. Raises CompileError when it cannot be that."""
        if isinstance(type, Scalar):
            if isinstance(value, Place) and isinstance(value.type, Scalar):
                value = self.load_number(value, node, type)
            if isinstance(value, Int) or int_constant(value) is not None:
                return self.convert(self.number(value, node), type)
        elif isinstance(type, PtrType):
            value = self.rvalue(value, node)
            if isinstance(value, Pointer) and value.target == type.target:
                return value
            if isinstance(value, Const) and value.value is None:
                return Pointer(type.target, MEM, self.null(), 0, True)
        elif isinstance(value, (Place, Pointer)) and type == (value.type if isinstance(value, Place) else value.target):
            return value
        raise self.error(node, f"{what} is annotated {type} and cannot be {self.describe(value)}")

    def null(self) -> int:
        """None as a pointer."""
        dst = self.pointer()
        self.emit(ir.CONST, dst=dst, imm=0)
        return dst

    # --- subprograms

    def _subprog(self, subprog: Subprog, node: ast.Call) -> Value:
        name, params, result = self.unit.use_subprog(subprog, self.kind, self.section)
        routine = self.unit.sources.routine(subprog.function)
        nodes = self._bind(subprog, routine.node.args, node)
        args: list[int | Imm] = []
        for param, type in params:
            part = nodes[param]
            if part is None:
                raise self.error(node, f"{subprog.name}() needs argument {param!r}")
            value = self.expr(part)
            if type is None:
                args.append(self._plain_argument("ctx", value, part))
                continue
            if isinstance(type, PtrType) and isinstance(value, Place):
                value = Pointer(value.type, value.space, value.reg, value.off, False, value.align)
            value = self.coerce(value, type, part, f"argument {param!r}")
            if isinstance(value, Pointer):
                wanted = KERN if isinstance(type, PtrType) and _is_kernel(type.target) else MEM
                if value.nullable:
                    raise self.error(part, "pointer may be None here: test it with 'if' first")
                args.append(
                    self.untyped(value.reg) if value.space == BTF and wanted == KERN else self.pointer_reg(value)
                )
                if value.space not in ((BTF, KERN) if wanted == KERN else (MEM,)):
                    raise self.error(part, f"argument {param!r} points to {wanted} memory, not {value.describe()}")
            else:
                assert isinstance(value, (Int, Const))
                args.append(self.operand(value))
        dst = self.scalar()
        self.emit(ir.CALLSUB, dst=dst, ref=name, args=tuple(args))
        return Int(native(result), dst)

    # --- from the parts built on this

    def call_kfunc(self, kfunc: Kfunc, node: ast.Call) -> Value:
        """A call of a kernel function."""
        raise NotImplementedError

    def context_method(self, context: Pointer, name: str, node: ast.Call) -> Value:
        """``ctx.name(...)``."""
        raise NotImplementedError

    def body(self, statements: list[ast.stmt]) -> None:
        """Lower statements."""
        raise NotImplementedError

    def assign_name(self, name: str, value: Value, node: ast.AST) -> None:
        """Give a local variable a value."""
        raise NotImplementedError


def type_is_plain(type: Type) -> bool:
    """Whether a place of this type can be read with another sign."""
    return isinstance(type, Scalar) and not type.big and not isinstance(type, BitsType)


def _params(args: ast.arguments) -> list[ast.arg]:
    return [*args.posonlyargs, *args.args]


def _is_kernel(type: Type) -> bool:
    return isinstance(type, StructType) and type.kernel
