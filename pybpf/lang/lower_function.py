"""Lowering of whole functions: programs with their context and arguments, and subprograms."""

from __future__ import annotations

import ast

from pybpf.lang import ir
from pybpf.lang.contexts import known_context
from pybpf.lang.lower_loops import Loops
from pybpf.lang.operand import BTF, CTX, KERN, MEM, Int, Pointer, Value, Var, Void
from pybpf.lang.surface import AT_ENTRY, WITH_REGISTERS
from pybpf.lang.syntax import nodes
from pybpf.lang.types import PtrType, Scalar, StructType, Type, array_of, u64


class Lowering(Loops):
    """Lowering of one function."""

    def program(self) -> None:
        """Lower a program: the context, its arguments, the body."""
        node = self.root.routine.node
        params = [*node.args.posonlyargs, *node.args.args]
        if not params:
            raise self.error(node, f"program {node.name} takes the context as its first parameter")
        if node.args.defaults:
            raise self.error(node.args.defaults[0], "a program has no default arguments: the kernel gives them")
        self._begin(node)
        context = self.pointer()
        self.emit(ir.PARAM, dst=context, imm=0)
        layout = self._context_type(params[0])
        self.context = Pointer(layout, CTX, context, 0, False, 8)
        self._enter(params[0].arg, self.context, params[0])
        if len(params) > 1 and not self.kind.arguments:
            raise self.error(params[1], f"a {self.kind.name} program has no arguments besides the context")
        used = {name.id for name in nodes(node.body) if isinstance(name, ast.Name)} if len(params) > 1 else frozenset()
        for index, param in enumerate(params[1:]):
            if param.annotation is None:
                raise self.error(param, f"argument {param.arg!r} needs a type: {param.arg}: Ptr[T] or i64")
            kind = self.type_expr(param.annotation)
            if param.arg in used:
                self._enter(param.arg, self._argument_value(kind, index, context, param), param)
        self.enter_result(node.returns)
        if self.root.result is not None and not isinstance(self.root.result, Scalar):
            assert node.returns is not None
            raise self.error(node.returns, f"a program returns a number, not {self.root.result}")
        self._end(node)

    def _begin(self, node: ast.FunctionDef) -> None:
        self.at(node)
        self.func.loc = self.loc
        entry = self.block("entry")
        self.func.blocks.append(entry)
        self.cur = entry

    def _end(self, node: ast.FunctionDef) -> None:
        self.body(node.body)
        if self.cur is not None:
            self.at(node.body[-1])
            self.finish(Void(), node.body[-1])

    def _enter(self, name: str, value: Value, node: ast.AST) -> None:
        if name in self.frame.routine.assigned:
            if isinstance(value, Int):
                # Its type is the annotated one, as a local's is, not what a first assignment gives it.
                self.frame.vars[name] = Var(name, Int(value.type, self.scalar()))
            self.assign_name(name, value, node)
            return
        var = self.frame.vars[name] = Var(name, value, bound=True)
        self.flow[var] = isinstance(value, Pointer) and value.nullable

    def _context_type(self, param: ast.arg) -> Type:
        if param.annotation is not None:
            kind = self.type_expr(param.annotation)
            if isinstance(kind, PtrType):
                kind = kind.target
            if not isinstance(kind, StructType):
                raise self.error(param.annotation, f"the context is described by a Struct, not {kind}")
            return kind
        if self.kind.name in WITH_REGISTERS:
            return self.registers_type
        if self.kind.name == "perf_event":
            return self.sample_type
        known = known_context(self.section)
        if known is not None:
            return known
        layout = StructType("context")
        if self.kind.name == "raw_tp":
            layout.add("args", array_of(u64, 12))
            layout.finish()
        return layout

    def _argument_value(self, kind: Type, index: int, context: int, param: ast.arg) -> Value:
        """Argument ``index`` of a program whose context is a row of 64-bit values."""
        if self.kind.name in AT_ENTRY:
            number = self.register_argument(Pointer(self.registers_type, CTX, context, 0, False, 8), index, param)
            if isinstance(kind, PtrType):
                return Pointer(kind.target, self.kind.space, self.reg(number.op), 0, False, 1)
            if not isinstance(kind, Scalar) or kind.big:
                raise self.error(param, f"an argument is a number or a pointer, not {kind}")
            return self.convert(number, kind)
        if isinstance(kind, PtrType):
            # Pointers to anything but structures are plain numbers to the verifier.
            typed = self.kind.space == BTF and isinstance(kind.target, StructType)
            dst = self.pointer() if typed else self.scalar()
            self.emit(ir.LOAD, dst=dst, a=context, off=8 * index)
            # An iterator's last call has no object.
            absent = typed and self.kind.name.startswith("iter") and index > 0
            return Pointer(kind.target, BTF if typed else KERN, dst, 0, absent)
        if not isinstance(kind, Scalar) or kind.big:
            raise self.error(param, f"an argument is a number or a pointer, not {kind}")
        dst = self.scalar()
        self.emit(ir.LOAD, dst=dst, a=context, off=8 * index)
        # The upper bits of a narrow argument are not defined.
        if kind.size < 8:
            narrow = self.scalar()
            self.emit(ir.SEXT if kind.signed else ir.ZEXT, dst=narrow, a=dst, size=kind.size)
            dst = narrow
        return Int(kind, dst)

    def subprogram(self, params: list[tuple[str, Type | None]], result: Type, nullable: bool = False) -> None:
        """Lower a subprogram with these parameters; None stands for the context.

        ``nullable`` says that pointers may be None, as the verifier takes them to be in a global function.
        """
        node = self.root.routine.node
        self.root.result = result
        self._begin(node)
        registers = []
        for index, (_, kind) in enumerate(params):
            dst = self.scalar() if isinstance(kind, Scalar) else self.pointer()
            self.emit(ir.PARAM, dst=dst, imm=index)
            registers.append(dst)
        for (name, kind), register, param in zip(params, registers, [*node.args.posonlyargs, *node.args.args]):
            value: Value
            if kind is None:
                value = Pointer(self._context_type(ast.arg(param.arg, None)), CTX, register, 0, False, 8)
            elif isinstance(kind, PtrType):
                target = kind.target
                kernel = isinstance(target, StructType) and target.kernel
                value = Pointer(target, KERN if kernel else MEM, register, 0, nullable and not kernel)
            else:
                assert isinstance(kind, Scalar)
                value = Int(kind, register)
            self._enter(name, value, param)
        self._end(node)
