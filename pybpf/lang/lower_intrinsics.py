"""Lowering of the language's own functions: addr, cast, copy, exists, read_user and so on."""

from __future__ import annotations

import ast

from pybpf.lang import ir
from pybpf.lang.helpers import Helper
from pybpf.lang.ir import Block, Core, Imm, Slot
from pybpf.lang.lower_calls import Calls
from pybpf.lang.lower_places import (
    ENUMVAL_EXISTS,
    ENUMVAL_VALUE,
    FIELD_BYTE_OFFSET,
    FIELD_BYTE_SIZE,
    FIELD_EXISTS,
    TYPE_EXISTS,
    TYPE_SIZE,
)
from pybpf.lang.maps import ProgArray
from pybpf.lang.operand import (
    BTF,
    CTX,
    KERN,
    MEM,
    PROBED,
    RODATA,
    USER,
    Const,
    Int,
    Place,
    Pointer,
    Settled,
    Value,
    Void,
    int_constant,
)
from pybpf.lang.surface import Intrinsic
from pybpf.lang.types import (
    ArrayType,
    BitsType,
    PtrType,
    Scalar,
    StructType,
    Type,
    bool_,
    field_at,
    find_type,
    i64,
    u32,
    u64,
)

TAIL_CALL, PID_TGID, UID_GID, COMM, CURRENT_TASK, CURRENT_TASK_BTF = 12, 14, 15, 16, 35, 158
# Intrinsics that are called as the helper that does the work.
_HELPERS_BEHIND = ("find_vma", "loop", "timer_set_callback", "tail_call")
READ_USER_STR, READ_KERNEL_STR = 114, 115


class Intrinsics(Calls):
    """One method for each intrinsic, called ``do_`` and its name."""

    # --- pointers

    def do_addr(self, node: ast.Call) -> Value:
        """A pointer to a place. To one in kernel memory: a plain address."""
        part = self.arguments(node, ("place",), 1, "addr()")["place"]
        value = self.expr(part)
        if not isinstance(value, Place):
            raise self.error(part, f"addr() takes a variable, field or element, not {self.describe(value)}")
        if isinstance(value.type, BitsType):
            raise self.error(part, "a bit-field has no address")
        if value.reg in self.passing and isinstance(part, ast.Call):
            raise self.error(part, "this ends with the statement: assign it to a variable, then take its address")
        self._pin(part)
        if value.space in (BTF, KERN):
            return Pointer(value.type, KERN, self.address(value), 0, False, 1)
        return Pointer(value.type, value.space, value.reg, value.off, False, value.align)

    def _pin(self, node: ast.expr) -> None:
        """The address of a local Struct may live on: its slot must not be given to something else."""
        while isinstance(node, (ast.Attribute, ast.Subscript)):
            node = node.value
        var = self.find_var(node)
        if var is not None:
            var.pinned = True

    def do_cast(self, node: ast.Call) -> Value:
        """A pointer of another type."""
        args = self.arguments(node, ("type", "value"), 2, "cast()")
        wanted = self.type_expr(args["type"])
        if not isinstance(wanted, PtrType):
            raise self.error(
                args["type"], f"cast() makes pointers: write cast(Ptr[{wanted}], x), or {wanted}(x) for numbers"
            )
        target = wanted.target
        value = self.rvalue(self.expr(args["value"]), args["value"])
        if not isinstance(value, Pointer):
            number = self.number(value, args["value"])
            return Pointer(target, KERN, self.reg(self.operand(number)), 0, False, 1)
        if value.space in (MEM, RODATA, CTX):
            if isinstance(target, StructType) and target.kernel:
                raise self.error(node, f"{target} is laid out by the kernel: {value.describe()} cannot hold one")
            align = value.align
            return Pointer(target, value.space, value.reg, value.off, value.nullable, align)
        if value.space == BTF and not _same_struct(target, value.target):
            return Pointer(target, KERN, self.untyped(value.reg), 0, False, 1)
        return Pointer(target, value.space, value.reg, value.off, value.nullable, 1)

    def do_copy(self, node: ast.Call) -> Value:
        """Copy between places."""
        args = self.arguments(node, ("to", "source"), 2, "copy()")
        to = self.destination(args["to"])
        source = self.expr(args["source"])
        if isinstance(source, Pointer):
            source = self.deref(source, args["source"])
        if isinstance(source, Const) and isinstance(source.value, (str, bytes)):
            self.store(to, source, args["source"])
            return Void()
        if not isinstance(source, Place):
            raise self.error(args["source"], f"copy() takes places, not {self.describe(source)}")
        if isinstance(source.type, StructType) and source.type.kernel:
            raise self.error(args["source"], f"{source.type} is laid out by the kernel: copy its fields")
        size = min(to.type.size, source.type.size)
        if source.space == BTF and isinstance(source.type, (Scalar, PtrType)):
            self.store(to, source, node)
        else:
            self.copy_bytes(to, source, size, node)
        return Void()

    def destination(self, node: ast.expr) -> Place:
        """The place that an argument names or points to, to be written."""
        value = self.expr(node)
        if isinstance(value, Pointer):
            value = self.deref(value, node)
        if not isinstance(value, Place):
            raise self.error(node, f"a place to write to is wanted here, not {self.describe(value)}")
        self.writable(value, node)
        return value

    # --- reading memory

    def do_read_user(self, node: ast.Call) -> Value:
        """Read user memory."""
        return self._read(node, self.reader(USER), "read_user()", True)

    def do_read_kernel(self, node: ast.Call) -> Value:
        """Read kernel memory at any address."""
        return self._read(node, self.reader(KERN), "read_kernel()", True)

    def do_read_user_str(self, node: ast.Call) -> Value:
        """Read a string in user memory."""
        return self._read(node, READ_USER_STR, "read_user_str()", False)

    def do_read_kernel_str(self, node: ast.Call) -> Value:
        """Read a string in kernel memory."""
        return self._read(node, READ_KERNEL_STR, "read_kernel_str()", False)

    def _read(self, node: ast.Call, helper: int, what: str, values: bool) -> Value:
        args = self.arguments(node, ("to", "address", "size"), 2, what)
        first = self.expr(args["to"])
        kind = find_type(first.value) if isinstance(first, Const) else None
        if kind is not None:
            if not values or "size" in args or not isinstance(kind, (Scalar, PtrType)):
                raise self.error(args["to"], f"{what} gives numbers and pointers, not {kind}: give a place to read to")
            return self._read_value(kind, helper, args["address"], node)
        to = self.destination(args["to"])
        size: int | Imm = Imm(to.type.size)
        if "size" in args:
            size = self.operand(self.number(self.expr(args["size"]), args["size"]))
            if isinstance(size, Imm) and not 0 < size.value <= to.type.size:
                raise self.error(args["size"], f"size {size.value} is outside of the {to.type.size} bytes of {to.type}")
        source = self._source(args["address"])
        return Int(i64, self.call(helper, self.address(to), size, source))

    def _read_value(self, kind: Type, helper: int, address: ast.expr, node: ast.Call) -> Value:
        slot = self.take(8, node)
        source = self._source(address)
        self.call(helper, self.slot_address(slot), Imm(kind.size), source)
        value = self.load(Place(kind, MEM, slot, 0, 8), node)
        self.give(slot)
        return value

    def _source(self, node: ast.expr) -> int | Imm:
        """An address to read from."""
        value = self.rvalue(self.expr(node), node)
        if isinstance(value, Pointer):
            return self.pointer_reg(value)
        if isinstance(value, Place):
            raise self.error(node, f"an address is wanted here: write addr() around the {value.type}")
        return self.operand(self.number(value, node))

    # --- questions to the kernel's types

    def do_exists(self, node: ast.Call) -> Value:
        """Whether a field or type exists in the running kernel."""
        part = self.arguments(node, ("field",), 1, "exists()")["field"]
        value = self.without_code(part)
        if isinstance(value, Const):
            kind = find_type(value.value)
            if isinstance(kind, StructType) and kind.kernel:
                return Int(bool_, self.core(Core(TYPE_EXISTS, self.unit.types.id(kind), "0"), 1))
        if not isinstance(value, Place) or value.root is None or len(value.path) < 2:
            raise self.error(part, "exists() asks for a field of a kernel type: exists(p.field) or exists(T)")
        return Int(bool_, self.core(self._field_core(value, FIELD_EXISTS), 1))

    def do_is_typed(self, node: ast.Call) -> Value:
        """Whether what a pointer points to is read by plain loads, in this of a function's programs."""
        part = self.arguments(node, ("pointer",), 1, "is_typed()")["pointer"]
        value = self.without_code(part)
        if not isinstance(value, (Pointer, Place)):
            raise self.error(part, f"is_typed() asks about a pointer, not {self.describe(value)}")
        return Const(value.space not in PROBED)

    def without_code(self, node: ast.expr) -> Value:
        """What an expression is, without computing it."""
        cur, flow, frame = self.cur, dict(self.flow), self.frame
        blocks = len(self.func.blocks)
        self.cur = Block("unused")
        value = self.expr(node)
        del self.func.blocks[blocks:]
        self.cur, self.flow, self.frame = cur, flow, frame
        return value

    def _field_core(self, place: Place, kind: int) -> Core:
        assert place.root is not None
        return Core(kind, self.unit.types.id(place.root), ":".join(map(str, place.path)))

    def do_sizeof(self, node: ast.Call) -> Value:
        """Size in bytes; of kernel types and fields the running kernel's."""
        part = self.arguments(node, ("what",), 1, "sizeof()")["what"]
        value = self.without_code(part)
        if isinstance(value, Place):
            if value.root is not None and len(value.path) > 1:
                return Int(u32, self.core(self._field_core(value, FIELD_BYTE_SIZE), value.type.size))
            return Const(value.type.size)
        kind = find_type(value.value) if isinstance(value, Const) else None
        if kind is None:
            raise self.error(part, f"sizeof() takes a type or a place, not {self.describe(value)}")
        if isinstance(kind, StructType) and kind.kernel:
            return Int(u32, self.core(Core(TYPE_SIZE, self.unit.types.id(kind), "0"), kind.size))
        return Const(kind.size)

    def do_offsetof(self, node: ast.Call) -> Value:
        """Offset of a field in bytes; of kernel types the running kernel's."""
        args = self.arguments(node, ("type", "field"), 2, "offsetof()")
        layout = self.type_expr(args["type"])
        name = self.expr(args["field"])
        if not (isinstance(name, Const) and isinstance(name.value, str)):
            raise self.error(args["field"], "the field is written as a string: offsetof(T, 'field')")
        offset, _ = field_at(layout, name.value)
        if not (isinstance(layout, StructType) and layout.kernel):
            return Const(offset)
        place = self._member(layout, name.value, args["field"])
        return Int(u32, self.core(self._field_core(place, FIELD_BYTE_OFFSET), offset))

    def do_kenum(self, node: ast.Call) -> Value:
        """A value of an enum in the running kernel."""
        return Settled(i64, self.core(self._enum_core(node, ENUMVAL_VALUE, "kenum()"), 0))

    def do_kenum64(self, node: ast.Call) -> Value:
        """The same of an enum whose values have 64 bits."""
        core = self._enum_core(node, ENUMVAL_VALUE, "kenum64()", True)
        return Int(u64, self.core(core, self.unit.types.WIDE))

    def do_kenum_exists(self, node: ast.Call) -> Value:
        """Whether the running kernel's enum has that value."""
        return Int(bool_, self.core(self._enum_core(node, ENUMVAL_EXISTS, "kenum_exists()"), 1))

    def _enum_core(self, node: ast.Call, kind: int, what: str, wide: bool = False) -> Core:
        args = self.arguments(node, ("enum", "value"), 2, what)
        names = []
        for part in (args["enum"], args["value"]):
            name = self.expr(part)
            if not (isinstance(name, Const) and isinstance(name.value, str) and name.value.isidentifier()):
                raise self.error(part, f"names are written as strings: {what[:-2]}('bpf_func_id', 'BPF_FUNC_loop')")
            names.append(name.value)
        return Core(kind, self.unit.types.enum(names[0], names[1], wide), "0")

    def do_has(self, node: ast.Call) -> Value:
        """Whether the running kernel has a helper."""
        part = self.arguments(node, ("helper",), 1, "has()")["helper"]
        value = self.expr(part)
        name = value.value if isinstance(value, Const) else None
        if isinstance(name, Helper) or (isinstance(name, Intrinsic) and name.name in _HELPERS_BEHIND):
            name = name.name
        if not (isinstance(name, str) and name.isidentifier()):
            raise self.error(part, f"has() asks for a helper by name, not {self.describe(value)}")
        core = Core(ENUMVAL_EXISTS, self.unit.types.enum("bpf_func_id", f"BPF_FUNC_{name}"), "0")
        return Int(bool_, self.core(core, 1))

    def do_container_of(self, node: ast.Call) -> Value:
        """The structure around a member that a pointer points to."""
        args = self.arguments(node, ("pointer", "type", "field"), 3, "container_of()")
        layout = self.type_expr(args["type"])
        name = self.expr(args["field"])
        if not (isinstance(name, Const) and isinstance(name.value, str)):
            raise self.error(args["field"], "the field is written as a string: container_of(p, T, 'field')")
        value = self.rvalue(self.expr(args["pointer"]), args["pointer"])
        if not isinstance(value, Pointer):
            raise self.error(args["pointer"], f"container_of() starts from a pointer, not {self.describe(value)}")
        if value.nullable:
            raise self.error(args["pointer"], "pointer may be None here: test it with 'if' first")
        offset, _ = field_at(layout, name.value)
        if isinstance(layout, StructType) and layout.kernel:
            if value.space not in (BTF, KERN):
                raise self.error(
                    args["pointer"], f"{layout} is laid out by the kernel: {value.describe()} is not in one"
                )
            base = self.untyped(value.reg) if value.space == BTF else self.pointer_reg(value)
            core = self._field_core(self._member(layout, name.value, args["field"]), FIELD_BYTE_OFFSET)
            return Pointer(layout, KERN, self.alu(ir.SUB, base, self.core(core, offset)), 0, False, 1)
        off = value.off - offset
        if isinstance(value.reg, Slot) or (value.align >= layout.align and off % layout.align == 0):
            return Pointer(layout, value.space, value.reg, off, False, value.align)
        # A member's address says little of its alignment, the structure's own is known.
        around = self.alu(ir.ADD, value.reg, Imm(off), ir.POINTER)
        return Pointer(layout, value.space, around, 0, False, layout.align)

    def _member(self, layout: StructType, names: str, node: ast.AST) -> Place:
        """A member of a kernel type, for asking about it."""
        place = Place(layout, KERN, 0, 0, 1, layout, (0,))
        for part in names.split("."):
            place = self.field(place, part, node)
        return place

    # --- who is running

    def do_pid(self, node: ast.Call) -> Value:
        """Number of the process."""
        self.arguments(node, (), 0, "pid()")
        return Int(u32, self.alu(ir.RSH, self.call(PID_TGID), Imm(32)))

    def do_tid(self, node: ast.Call) -> Value:
        """Number of the thread."""
        self.arguments(node, (), 0, "tid()")
        return self.convert(Int(u64, self.call(PID_TGID)), u32)

    def do_uid(self, node: ast.Call) -> Value:
        """Number of the user."""
        self.arguments(node, (), 0, "uid()")
        return self.convert(Int(u64, self.call(UID_GID)), u32)

    def do_comm(self, node: ast.Call) -> Value:
        """Name of the task."""
        to = self.destination(self.arguments(node, ("to",), 1, "comm()")["to"])
        if not isinstance(to.type, ArrayType) or to.type.element.size != 1:
            raise self.error(node.args[0], f"comm() writes to a char[16], not {to.type}")
        return Int(i64, self.call(COMM, self.address(to), Imm(to.type.size)))

    def do_current_task(self, node: ast.Call) -> Value:
        """The current task, typed where the program kind has typed pointers."""
        self.arguments(node, (), 0, "current_task()")
        if self.kind.typed_task:
            return Pointer(self.unit.task_struct, BTF, self.call(CURRENT_TASK_BTF, pointer=True))
        return Pointer(self.unit.task_struct, KERN, self.call(CURRENT_TASK))

    def do_context(self, node: ast.Call) -> Value:
        """The program's context, in whatever it inlines."""
        self.arguments(node, (), 0, "context()")
        if self.context is None:
            raise self.error(node, "a subprogram has no context but the one it is given as its first parameter, ctx")
        return self.context

    def do_tail_call(self, node: ast.Call) -> Value:
        """Go on with another program."""
        args = self.arguments(node, ("ctx", "programs", "index"), 3, "tail_call()")
        if self.func.section == ".text":
            raise self.error(node, "a subprogram cannot make tail calls on every kernel: call it from the program")
        context = self._plain_argument("ctx", self.expr(args["ctx"]), args["ctx"])
        programs = self.expr(args["programs"])
        if not (isinstance(programs, Const) and isinstance(programs.value, ProgArray)):
            raise self.error(args["programs"], f"a ProgArray is wanted here, not {self.describe(programs)}")
        index = self.number(self.expr(args["index"]), args["index"])
        number = int_constant(index)
        if number is not None and not 0 <= number < programs.value.max_entries:
            raise self.error(args["index"], f"index {number} is outside of {programs.value.name}")
        register = self.map_register(programs.value)
        return Int(i64, self.call(TAIL_CALL, context, register, self.operand(index)))

    def do_unroll(self, node: ast.Call) -> Value:
        """Only as what a 'for' goes through."""
        raise self.error(node, "unroll() stands in 'for x in unroll(...)' only")


def _same_struct(one: Type, other: Type) -> bool:
    """Whether two kernel types are flavours of one."""
    return (
        isinstance(one, StructType)
        and isinstance(other, StructType)
        and one.kernel
        and other.kernel
        and one.essential() == other.essential()
    )
