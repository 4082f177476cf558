"""Lowering of what the kernel supplies: calls of its functions, its variables and settings, and whether it has them."""

from __future__ import annotations

import ast

from pybpf.lang import ir
from pybpf.lang.contexts import known_context
from pybpf.lang.externs import Extern, Kfunc, KSym
from pybpf.lang.flow import Frame
from pybpf.lang.ir import Block, Imm
from pybpf.lang.lower_callbacks import Callbacks
from pybpf.lang.lower_places import native
from pybpf.lang.operand import BTF, CTX, KERN, MEM, RODATA, Const, Int, Place, Pointer, Value, Void
from pybpf.lang.types import PtrType, Scalar, StructType, Type, void


class ExternPlace(Place):
    """A variable or setting of the kernel's."""

    __slots__ = ("extern",)

    extern: Extern


class Externs(Callbacks):
    """Externs."""

    def extern_place(self, extern: Extern) -> Place:
        """Where a variable or setting is."""
        kind = extern.type
        typed = isinstance(kind, StructType)
        register = self.scalar() if kind is None else self.pointer()
        self.emit(ir.KSYM, dst=register, ref=self.unit.use_extern(extern))
        if kind is None:
            place = ExternPlace(void, KERN, register, 0, 1)
        elif typed:
            assert isinstance(kind, StructType)
            place = ExternPlace(kind, BTF, register, 0, 1, kind, (0,))
        else:
            place = ExternPlace(kind, RODATA, register)
        place.extern = extern
        return place

    # --- whether it is there

    def do_exists(self, node: ast.Call) -> Value:
        """Also of a kernel function or variable."""
        name = self._asked(node)
        if name is None:
            return super().do_exists(node)
        yes, no = self.block("known"), self.block("unknown")
        self._test_symbol(name, yes, no)
        return self.truth_value(yes, no, self.block("asked"))

    def test_exists(self, node: ast.Call, then: Block, els: Block) -> None:
        """The same as a condition."""
        name = self._asked(node)
        if name is None:
            self.test(super().do_exists(node), then, els, node)
        else:
            self._test_symbol(name, then, els)

    def _asked(self, node: ast.Call) -> str | None:
        """The symbol that exists() asks for, which may be absent from now on; None if it asks for something else."""
        part = self.arguments(node, ("field",), 1, "exists()")["field"]
        value = self.without_code(part)
        if isinstance(value, Const) and isinstance(value.value, Kfunc):
            name = self._declared(value.value)[0]
        elif isinstance(value, ExternPlace) and isinstance(value.extern, KSym):
            name = self.unit.use_extern(value.extern)
        else:
            return None
        self.unit.may_lack(name, self.func)
        return name

    def _test_symbol(self, name: str, then: Block, els: Block) -> None:
        register = self.scalar()
        self.emit(ir.KSYM, dst=register, ref=name)
        self.branch("ne", register, Imm(0), then, els)

    # --- calls of kernel functions

    def _declared(self, kfunc: Kfunc) -> tuple[str, list[tuple[str, Type | None]], Type | None]:
        """Name, parameters (None for the context) and result (None for nothing), taken into the object."""
        found = self.unit.kfuncs.get(kfunc)
        if found is None:
            routine = self.unit.sources.declaration(kfunc.function)
            outer, self.frame = self.frame, Frame(routine)
            try:
                params, result = self._signature(routine.node)
            finally:
                self.frame = outer
            context = known_context(self.section)
            found = self.unit.add_kfunc(kfunc, params, result, None if context is None else PtrType(context))
        return found

    def _signature(self, node: ast.FunctionDef) -> tuple[list[tuple[str, Type | None]], Type | None]:
        params: list[tuple[str, Type | None]] = []
        for index, param in enumerate([*node.args.posonlyargs, *node.args.args]):
            if param.annotation is None:
                if param.arg != "ctx" or index:
                    raise self.error(param, f"parameter {param.arg!r} needs a type (ctx, the first, does not)")
                params.append((param.arg, None))
                continue
            kind = self.type_expr(param.annotation)
            if not isinstance(kind, (Scalar, PtrType)):
                raise self.error(param, f"a kernel function takes numbers and pointers, not {kind}: write Ptr[{kind}]")
            params.append((param.arg, kind))
        if len(params) > 5:
            raise self.error(node.args.args[5], "a kernel function takes at most 5 arguments")
        if node.args.defaults:
            raise self.error(node.args.defaults[0], "a kernel function has no default arguments")
        result = node.returns
        if result is None or (isinstance(result, ast.Constant) and result.value is None):
            return params, None
        kind = self.type_expr(result)
        if not isinstance(kind, (Scalar, PtrType)):
            raise self.error(result, f"a kernel function returns a number or a pointer, not {kind}")
        return params, kind

    def call_kfunc(self, kfunc: Kfunc, node: ast.Call) -> Value:
        """Call a kernel function."""
        name, params, result = self._declared(kfunc)
        names = tuple(param for param, _ in params)
        nodes = self.arguments(node, names, len(names), f"{kfunc.name}()")
        args = [self._kfunc_argument(param, kind, nodes[param]) for param, kind in params]
        if result is None:
            self.emit(ir.CALLK, ref=name, args=tuple(args))
            return Void()
        if isinstance(result, PtrType):
            target = result.target
            kernel = isinstance(target, StructType) and target.kernel
            dst = self.pointer()
            self.emit(ir.CALLK, dst=dst, ref=name, args=tuple(args))
            return Pointer(target, BTF if kernel else MEM, dst, 0, True)
        assert isinstance(result, Scalar)
        dst = self.scalar()
        self.emit(ir.CALLK, dst=dst, ref=name, args=tuple(args))
        # The C function fills the register only as far as its type goes.
        kind = native(result)
        if kind.size < 8:
            narrow = self.scalar()
            self.emit(ir.SEXT if kind.signed else ir.ZEXT, dst=narrow, a=dst, size=kind.size)
            dst = narrow
        return Int(kind, dst)

    def _kfunc_argument(self, name: str, kind: Type | None, node: ast.expr) -> int | Imm:
        value = self.expr(node)
        if kind is None:
            return self._plain_argument("ctx", value, node)
        if isinstance(kind, Scalar):
            value = self.coerce(value, kind, node, f"argument {name!r}")
            assert isinstance(value, Int)
            return value.op
        assert isinstance(kind, PtrType)
        if isinstance(value, Const) and value.value is None:
            return Imm(0)
        if isinstance(value, ExternPlace) and value.space == BTF:
            value = Pointer(value.type, BTF, value.reg)
        elif isinstance(value, Place) and not isinstance(value.type, PtrType):
            if value.space == BTF and value.root is not None:
                raise self.error(node, f"argument {name!r}: a part of a kernel structure has no address of its type")
            value = Pointer(value.type, value.space, value.reg, value.off, False, value.align)
        value = self.rvalue(value, node)
        if not isinstance(value, Pointer):
            raise self.error(node, f"argument {name!r} is a {kind}, not {self.describe(value)}")
        if value.nullable:
            raise self.error(node, "pointer may be None here: test it with 'if' first")
        target = kind.target
        if isinstance(target, StructType) and target.kernel:
            if value.space != BTF:
                raise self.error(
                    node, f"argument {name!r} is a {kind} that the verifier knows the type of, not {value.describe()}"
                )
        elif target is not void and (value.target != target or value.space not in (MEM, RODATA, CTX)):
            raise self.error(node, f"argument {name!r} is a {kind} to memory, not {value.describe()}")
        return self.pointer_reg(value)
