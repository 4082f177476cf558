"""Lowering of what contexts offer: probe arguments by register, packets; slices, and memory of processes."""

from __future__ import annotations

import ast

from pybpf.lang import ir
from pybpf.lang.contexts import DATA
from pybpf.lang.ir import Core, Imm
from pybpf.lang.lower_places import FIELD_EXISTS
from pybpf.lang.lower_text import Texts
from pybpf.lang.operand import (
    CTX,
    KERN,
    MEM,
    PROBED,
    USER,
    Const,
    Group,
    Int,
    Place,
    Pointer,
    Value,
    int_constant,
)
from pybpf.lang.surface import AT_ENTRY, AT_RETURN
from pybpf.lang.types import ArrayType, BitsType, PtrType, Scalar, StructType, array_of, bool_, find_field, i64, u8, u64

_X86_ARGUMENTS = ("di", "si", "dx", "cx", "r8", "r9")
_MAX_OFFSET = 0x7FFF  # the verifier gives up on packet pointers that may lie further (MAX_PACKET_OFF)


class Contexts(Texts):
    """Contexts, packets, slices, user memory."""

    @property
    def registers_type(self) -> StructType:
        """The registers at a probe, as declared for x86-64."""
        from pybpf import ktypes

        return ktypes.pt_regs___x86.layout

    @property
    def sample_type(self) -> StructType:
        """A perf_event program's context."""
        from pybpf import ktypes

        return ktypes.bpf_perf_event_data.layout

    def context_method(self, context: Pointer, name: str, node: ast.Call) -> Value:
        """``ctx.arg(n)`` and ``ctx.ptr(T, off)``."""
        if name == "arg" and self.kind.name in AT_ENTRY:
            part = self.arguments(node, ("n",), 1, "ctx.arg()")["n"]
            number = int_constant(self.expr(part))
            if number is None:
                raise self.error(part, "the argument's number must be known when compiling")
            return self.register_argument(context, number, part)
        if name == "ptr" and isinstance(context.target, StructType) and context.target.name in DATA:
            return self._packet_pointer(context, node)
        methods = [] if self.kind.name not in AT_ENTRY else ["arg"]
        if isinstance(context.target, StructType) and context.target.name in DATA:
            methods.append("ptr")
        raise self.error(node, f"the context has no {name}() here (has: {', '.join(methods) or 'none'})")

    def field(self, value: Value, name: str, node: ast.AST) -> Place:
        """Also ``ctx.ret`` of a return probe."""
        if (
            name == "ret"
            and isinstance(value, Pointer)
            and value.space == CTX
            and value.target is self.registers_type
            and self.kind.name in AT_RETURN
        ):
            result = self._register(value, "ax", 0, node)
            slot = self.take_temporary(8, node)
            self.emit(ir.STORE, a=slot, b=result)
            return Place(i64, MEM, slot, 0, 8)
        return super().field(value, name, node)

    # --- registers

    def register_argument(self, context: Pointer, number: int, node: ast.AST) -> Int:
        """Argument ``number`` of the probed function, by the calling convention of the running machine."""
        if not 0 <= number < len(_X86_ARGUMENTS):
            raise self.error(node, f"argument {number}: the first {len(_X86_ARGUMENTS)} are in registers, from 0")
        if self.kind.name == "ksyscall":
            # The call's own function gets a pointer to the registers of the process (CONFIG_ARCH_HAS_SYSCALL_WRAPPER),
            # where the fourth argument is in r10: the syscall instruction overwrites rcx. riscv64 puts a result into a0
            # before it makes the call.
            inner = Pointer(self.registers_type, KERN, self._register(context, _X86_ARGUMENTS[0], 0, node))
            x86 = "r10" if number == 3 else _X86_ARGUMENTS[number]
            return Int(u64, self._register(inner, x86, number, node, riscv="orig_a0" if number == 0 else ""))
        return Int(u64, self._register(context, _X86_ARGUMENTS[number], number, node))

    def _register(self, registers: Pointer, x86: str, number: int, node: ast.AST, riscv: str = "") -> int:
        """A register: on x86-64 by name, on arm64 by number, on riscv64 by number among a0 to a7.

        The verifier sees only the one that exists.
        """
        from pybpf import ktypes

        out, done = self.scalar(), self.block("register")
        others = ((ktypes.pt_regs___arm64.layout, "regs"), (ktypes.pt_regs___riscv.layout, riscv or f"a{number}"))
        for layout, name in others:
            member = find_field(layout, name).path[0]
            exists = self.core(Core(FIELD_EXISTS, self.unit.types.id(layout), f"0:{member}"), 1)
            there, absent = self.block(layout.name), self.block("absent")
            self.branch("ne", exists, Imm(0), there, absent)
            self.start(there)
            self._copy_register(out, registers, layout, name, number, node)
            self.goto(done)
            self.start(absent)
        self._copy_register(out, registers, self.registers_type, x86, number, node)
        self.goto(done)
        self.start(done)
        return out

    def _copy_register(
        self, out: int, registers: Pointer, layout: StructType, name: str, number: int, node: ast.AST
    ) -> None:
        place = super().field(Pointer(layout, registers.space, registers.reg, 0, False, 8), name, node)
        if isinstance(place.type, ArrayType):
            path = (*place.path, number)
            place = Place(u64, place.space, place.reg, place.off + 8 * number, 8, place.root, path)
        self.move(out, self.load_number(place, node, u64).op)

    # --- packets

    def _packet_pointer(self, context: Pointer, node: ast.Call) -> Pointer:
        """``ctx.ptr(T, off)``: a T at that offset into the packet, or None if it does not reach that far."""
        args = self.arguments(node, ("type", "offset"), 1, "ctx.ptr()")
        target = self.type_expr(args["type"])
        if isinstance(target, StructType) and target.kernel:
            raise self.error(args["type"], f"{target} is laid out by the kernel: a packet cannot hold one")
        offset: Int | Const = Const(0)
        if "offset" in args:
            offset = self.number(self.expr(args["offset"]), args["offset"])
        number = int_constant(offset)
        if number is not None and not 0 <= number <= _MAX_OFFSET:
            raise self.error(args["offset"], f"offset {number} is outside of a packet")
        assert isinstance(context.target, StructType)
        start, end = (self._bound(context, name) for name in DATA[context.target.name])
        out = self.pointer()
        absent, done = self.block("absent"), self.block("packet")
        if number is not None:
            at = self.alu(ir.ADD, start, Imm(number), ir.POINTER) if number else start
        else:
            assert isinstance(offset, Int)
            if offset.type is not u8:
                near = self.block("near")
                self.branch("le", offset.op, Imm(_MAX_OFFSET), near, absent)
                self.start(near)
            at = self.alu(ir.ADD, start, offset.op, ir.POINTER)
        # What is compared with the end stems from the pointer that is used, which so gets its range.
        self.move(out, at)
        behind = self.alu(ir.ADD, at, Imm(target.size), ir.POINTER)
        self.branch("gt", behind, end, absent, done)
        self.start(absent)
        self.move(out, Imm(0))
        self.goto(done)
        self.start(done)
        # A packet is where it is: only the stack wants accesses aligned on the machines that have eBPF's JIT.
        return Pointer(target, MEM, out, 0, True, 8)

    def _bound(self, context: Pointer, name: str) -> int:
        field = find_field(context.target, name)
        dst = self.pointer()
        self.emit(ir.LOAD, dst=dst, a=context.reg, off=context.off + field.offset, size=field.type.size)
        return dst

    # --- parts of arrays

    def slice_of(self, value: Value, node: ast.Subscript, part: ast.Slice) -> Place:
        """``x[a:b]``: the elements from a on; their number must be known when compiling."""
        if isinstance(value, Place) and isinstance(value.type, PtrType):
            value = self.load(value, node.value)
        if isinstance(value, Pointer):
            value = self.deref(value, node.value)
        if part.step is not None:
            raise self.error(part.step, "a slice has no step")
        if not isinstance(value, Place) or not isinstance(value.type, ArrayType):
            raise self.error(node.value, f"{self.describe(value)} cannot be sliced: slices are parts of arrays")
        array = value.type
        first = self.number(self.expr(part.lower), part.lower) if part.lower is not None else Const(0)
        start = int_constant(first)
        count = self._slice_length(part, start, array, node)
        if start is not None and not 0 <= start <= array.count - count:
            raise self.error(node.slice, f"[{start}:{start + count}] is outside of {array}")
        if count > array.count:
            raise self.error(node.slice, f"{count} elements are more than {array} has")
        if start == 0:
            place = Place(array.element, value.space, value.reg, value.off, value.align, value.root, (*value.path, 0))
        else:
            place = self._array_element(value, array, first, node)
        return (
            Place(
                array_of(array.element, count),
                place.space,
                place.reg,
                place.off,
                place.align,
                place.root,
                place.path[:-1],
            )
            if value.root is None or place.root is None
            else self._kernel_slice(place, array, count)
        )

    def _kernel_slice(self, place: Place, array: ArrayType, count: int) -> Place:
        """A part of a kernel's array as plain memory at a computed address."""
        return Place(array_of(array.element, count), PROBED[0], self.address(place), 0, 1)

    def _slice_length(self, part: ast.Slice, start: int | None, array: ArrayType, node: ast.Subscript) -> int:
        upper = part.upper
        length = None
        if upper is None:
            length = array.count - start if start is not None else None
        elif _is_sum_with(upper, part.lower):
            assert isinstance(upper, ast.BinOp)
            length = int_constant(self.expr(upper.right))
        if length is None and start is not None and upper is not None:
            end = int_constant(self.expr(upper))
            length = end - start if end is not None else None
        if length is None:
            raise self.error(node.slice, "how many elements must be known when compiling: write x[a:a + N]")
        if length < 1:
            raise self.error(node.slice, f"a slice of {length} elements")
        return length

    # --- other memory

    def do_user(self, node: ast.Call) -> Value:
        """A pointer into the process's memory."""
        args = self.arguments(node, ("type", "address"), 2, "user()")
        target = self.type_expr(args["type"])
        if isinstance(target, StructType) and target.kernel:
            raise self.error(args["type"], f"{target} is a kernel type: declare what processes use as a Struct")
        value = self.rvalue(self.expr(args["address"]), args["address"])
        if isinstance(value, Pointer):
            if value.space not in PROBED:
                raise self.error(args["address"], f"{value.describe()} is not in the process's memory")
            return Pointer(target, USER, self.pointer_reg(value), 0, False, 1)
        number = self.number(value, args["address"])
        return Pointer(target, USER, self.reg(self.operand(number)), 0, False, 1)

    def do_try_read(self, node: ast.Call) -> Value:
        """Whether a place could be read, and what was there."""
        part = self.arguments(node, ("place",), 1, "try_read()")["place"]
        place = self.expr(part)
        if not isinstance(place, Place) or not isinstance(place.type, (Scalar, PtrType)):
            raise self.error(part, f"try_read() reads a number or pointer in memory, not {self.describe(place)}")
        if place.space not in PROBED or isinstance(place.type, BitsType):
            return Group([Const(True), self.load(place, part)])
        slot = self.take(8, node)
        failed = self.call(self.reader(place.space), self.slot_address(slot), Imm(place.type.size), self.address(place))
        copy = self.load(Place(place.type, MEM, slot, 0, 8), node)
        if isinstance(copy, Pointer):
            copy = Pointer(copy.target, place.space, copy.reg)
        self.give(slot)
        yes, no = self.block("read"), self.block("fault")
        self.branch("eq", failed, Imm(0), yes, no)
        ok = self.truth_value(yes, no, self.block("tried"))
        return Group([Int(bool_, ok.op), copy])


def _is_sum_with(node: ast.expr, first: ast.expr | None) -> bool:
    """Whether ``node`` is ``first + something``."""
    return (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Add)
        and first is not None
        and ast.dump(node.left) == ast.dump(first)
    )
