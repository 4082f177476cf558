"""Lowering of memory: places, pointers, loads and stores, each in the way of its pointer space."""

from __future__ import annotations

import ast

from pybpf.errors import CompileError
from pybpf.lang import ir
from pybpf.lang.emitter import Emitter
from pybpf.lang.ir import Core, Imm, Slot
from pybpf.lang.operand import (
    BTF,
    CTX,
    KERN,
    MEM,
    PROBED,
    RODATA,
    SPACE_NAMES,
    USER,
    Const,
    Int,
    Place,
    Pointer,
    Settled,
    Value,
    int_constant,
)
from pybpf.lang.types import (
    ArrayType,
    BitsType,
    PtrType,
    Scalar,
    StructType,
    Type,
    bool_,
    char,
    find_field,
    u8,
    u16,
    u32,
    u64,
)

# btf.core's constants, by the numbers of enum bpf_core_relo_kind.
FIELD_BYTE_OFFSET, FIELD_BYTE_SIZE, FIELD_EXISTS, FIELD_LSHIFT_U64, FIELD_RSHIFT_U64 = 0, 1, 2, 4, 5
TYPE_EXISTS, TYPE_SIZE, ENUMVAL_EXISTS, ENUMVAL_VALUE = 8, 9, 10, 11

_PROBE_READ_USER, _PROBE_READ_KERNEL, _COPY_FROM_USER = 112, 113, 148

_UNSIGNED = {1: u8, 2: u16, 4: u32, 8: u64}
_NATIVE = {"char": u8, "be16": u16, "be32": u32, "be64": u64}


def native(type: Scalar) -> Scalar:
    """The type a value has once it is in a register."""
    if isinstance(type, BitsType):
        return type.base
    return _NATIVE.get(type.name, type)


class Places(Emitter):
    """Memory access."""

    # --- ways to a place

    def deref(self, pointer: Pointer, node: ast.AST) -> Place:
        """The place a pointer points to."""
        if pointer.nullable:
            raise self.error(node, "pointer may be None here: test it with 'if' first")
        target = pointer.target
        if isinstance(target, StructType) and target.kernel and pointer.space in (BTF, KERN, CTX):
            return Place(target, pointer.space, pointer.reg, pointer.off, pointer.align, target, (0,))
        return Place(target, pointer.space, pointer.reg, pointer.off, pointer.align)

    def inside(self, value: Value, node: ast.AST) -> Place:
        """The place that an access to a part of ``value`` starts from: itself, or what it points to."""
        if isinstance(value, Place) and isinstance(value.type, PtrType):
            value = self.load(value, node)
        if isinstance(value, Pointer):
            return self.deref(value, node)
        if isinstance(value, Place):
            return value
        raise self.error(node, f"{self.describe(value)} has no fields or elements")

    def field(self, value: Value, name: str, node: ast.AST) -> Place:
        """Member ``name`` of a structure."""
        place = self.inside(value, node)
        field = find_field(place.type, name)
        offset = place.off + field.offset
        if place.root is not None:
            path = (*place.path, *field.path)
            return Place(field.type, place.space, place.reg, offset, 1, place.root, path, field.bit)
        align = 1 if field.packed and isinstance(field.type, BitsType) else place.align
        return Place(field.type, place.space, place.reg, offset, align, bit=field.bit)

    def element(self, value: Value, index: Value, node: ast.Subscript) -> Place:
        """``value[index]``: of an array, or counted from where a pointer points."""
        if isinstance(value, Place) and isinstance(value.type, ArrayType):
            return self._array_element(value, value.type, index, node)
        if isinstance(value, Place) and isinstance(value.type, PtrType):
            value = self.load(value, node.value)
        if not isinstance(value, Pointer):
            packet = isinstance(value, Place) and value.space == CTX and getattr(node.value, "attr", "") == "data"
            hint = ": a part of the packet is ctx.ptr(T, offset)" if packet else ""
            raise self.error(node.value, f"{self.describe(value)} has no elements{hint}")
        start = self.deref(value, node.value)
        number = int_constant(index)
        if number == 0:
            return start
        if number is None:
            return self._step(start, start.type, index, node)
        if start.root is not None:
            if number < 0:
                raise self.error(node.slice, "a kernel structure cannot be indexed with a negative number")
            nominal = start.off + number * start.type.size
            return Place(start.type, start.space, start.reg, nominal, 1, start.root, (number,))
        return Place(start.type, start.space, start.reg, start.off + number * start.type.size, start.align)

    def _array_element(self, place: Place, type: ArrayType, index: Value, node: ast.Subscript) -> Place:
        number = int_constant(index)
        if number is None:
            return self._step(place, type.element, index, node)
        if number >= type.count == 1 and place.root is not None:
            # Declared [1], in the kernel longer: CO-RE paths stop at the declared end.
            return self._step(place, type.element, Int(u64, Imm(number)), node)
        if not 0 <= number < type.count:
            raise self.error(node.slice, f"index {number} is outside of {type}")
        offset = place.off + number * type.element.size
        path = (*place.path, number) if place.root is not None else ()
        return Place(type.element, place.space, place.reg, offset, place.align, place.root, path)

    def _step(self, start: Place, element: Type, index: Value, node: ast.Subscript) -> Place:
        """The place at a run-time index from ``start``."""
        if not isinstance(index, Int):
            raise self.error(node.slice, f"an index is an integer, not {self.describe(index)}")
        if start.space == CTX:
            raise self.error(node.slice, "the context can be read at constant offsets only: use a constant index")
        if start.root is None and start.space in (MEM, RODATA):
            scaled = self._scaled(index, element.size)
            base = self.alu(ir.ADD, self.base(start.reg), scaled, ir.POINTER)
            return Place(element, start.space, base, start.off, min(start.align, element.size & -element.size))
        if isinstance(index, Settled) and start.space == BTF and start.root is not None:
            base = self.alu(ir.ADD, self.base(start.reg), self._scaled(index, element.size), ir.POINTER)
            return Place(element, BTF, base, start.off, 1, start.root, (*start.path, 0))
        # The verifier checks offsets into typed pointers; one that is computed makes a plain address of it.
        address = self.address(start)
        if isinstance(element, StructType) and element.kernel:
            core = Core(TYPE_SIZE, self.unit.types.id(element), "0")
            step = self.alu(ir.MUL, self.reg(index.op), self.core(core, element.size))
            return Place(element, KERN, self.alu(ir.ADD, address, step), 0, 1, element, (0,))
        base = self.alu(ir.ADD, address, self._scaled(index, element.size))
        return Place(element, USER if start.space == USER else KERN, base, 0, 1)

    def _scaled(self, index: Int, size: int) -> int | Imm:
        if size == 1:
            return index.op
        if size & size - 1:
            return self.alu(ir.MUL, index.op, Imm(size))
        return self.alu(ir.LSH, index.op, Imm(size.bit_length() - 1))

    # --- addresses

    def base(self, reg: int | Slot) -> int:
        """A base register, also for a frame slot."""
        return self.slot_address(reg) if isinstance(reg, Slot) else reg

    def offset_core(self, place: Place, tail: tuple[int, ...] = ()) -> Core | None:
        """The relocation of a place's offset, None if it needs none; ``tail`` goes further into it."""
        path = (*place.path, *tail)
        if place.root is None or (len(path) == 1 and path[0] == 0):
            return None
        return Core(FIELD_BYTE_OFFSET, self.unit.types.id(place.root), ":".join(map(str, path)))

    def address(self, place: Place) -> int:
        """The address of a place in a register; a plain number in the kernel spaces."""
        if place.space in (MEM, RODATA, CTX):
            if isinstance(place.reg, Slot):
                return self.slot_address(place.reg, place.off)
            core = self.offset_core(place)
            if core is not None:
                return self.alu(ir.ADD, place.reg, self.core(core, place.off), ir.POINTER)
            return self.alu(ir.ADD, place.reg, Imm(place.off), ir.POINTER) if place.off else place.reg
        base = self.untyped(place.reg) if place.space == BTF else self.base(place.reg)
        core = self.offset_core(place)
        if core is not None:
            return self.alu(ir.ADD, base, self.core(core, place.off))
        return self.alu(ir.ADD, base, Imm(place.off)) if place.off else base

    def untyped(self, reg: int | Slot) -> int:
        """A typed kernel pointer as a plain number.

        The verifier bounds arithmetic on pointers it knows the type of, and
        forgets the type when the register is negated: doing so twice gives the
        number back.
        """
        return self._negated(self._negated(self.base(reg)))

    def _negated(self, reg: int) -> int:
        dst = self.scalar()
        self.emit(ir.NEG, dst=dst, a=reg)
        return dst

    def pointer_reg(self, pointer: Pointer) -> int:
        """A pointer's value in a register."""
        if isinstance(pointer.reg, Slot):
            return self.slot_address(pointer.reg, pointer.off)
        if not pointer.off:
            return pointer.reg
        kind = ir.SCALAR if pointer.space in PROBED else ir.POINTER
        return self.alu(ir.ADD, pointer.reg, Imm(pointer.off), kind)

    # --- values

    def rvalue(self, value: Value, node: ast.AST) -> Value:
        """``value``, read from memory if it is a place that fits a register."""
        if isinstance(value, Place) and isinstance(value.type, (Scalar, PtrType)):
            return self.load(value, node)
        return value

    def load(self, place: Place, node: ast.AST, want: Scalar | None = None) -> Int | Pointer:
        """Read a number or pointer. ``want`` of the same size says how to extend it."""
        type = place.type
        if isinstance(type, PtrType):
            return self._load_pointer(place, type, node)
        if not isinstance(type, Scalar):
            raise self.error(node, f"{type} is no value to compute with: use its fields or elements, or addr() of it")
        if isinstance(type, BitsType):
            return self._load_bits(place, type, node)
        shown = native(type)
        if want is not None and want.size == type.size and bool_ not in (want, shown):
            shown = native(want)
        if place.space in PROBED:
            dst = self._probe(place, type.size, shown.signed, ir.SCALAR, node)
        elif _is_apart(place, type.size):
            dst = self._load_parts(place, type.size, shown.signed)
        else:
            dst = self.scalar()
            self._direct(dst, place, type.size, shown.signed and type.size < 8)
        if type.big:
            swapped = self.scalar()
            self.emit(ir.BSWAP, dst=swapped, a=dst, size=type.size, imm=1)
            dst = swapped
        return Int(shown, dst)

    def load_number(self, place: Place, node: ast.AST, want: Scalar) -> Int:
        """Read a number that becomes ``want``."""
        value = self.load(place, node, want)
        assert isinstance(value, Int)
        return value

    def _load_pointer(self, place: Place, type: PtrType, node: ast.AST) -> Pointer:
        # What the verifier knows the type of stays typed, as long as structures are pointed to.
        typed = place.space == BTF and isinstance(type.target, StructType)
        if place.space == CTX and isinstance(type.target, StructType) and not type.target.kernel:
            socket = self.pointer()
            self._direct(socket, place, type.size, False)
            return Pointer(type.target, CTX, socket, 0, True, 8)
        if place.space in PROBED:
            return Pointer(type.target, place.space, self._probe(place, type.size, False, ir.SCALAR, node))
        if _is_apart(place, type.size):
            return Pointer(type.target, KERN, self._load_parts(place, type.size, False))
        dst = self.pointer() if typed else self.scalar()
        self._direct(dst, place, type.size, False)
        return Pointer(type.target, BTF if typed else KERN, dst)

    def _load_parts(self, place: Place, size: int, signed: bool) -> int:
        """Read a number of which the alignment is not known, as in a packed structure: in parts that are aligned."""
        at = whole = 0
        for width in chunks(size, place.off, place.align):
            part = self.scalar()
            self.emit(ir.LOAD, dst=part, a=place.reg, off=place.off + at, size=width)
            whole = self.alu(ir.OR, whole, self.alu(ir.LSH, part, Imm(8 * at))) if at else part
            at += width
        if signed and size < 8:
            whole = self.alu(ir.ARSH, self.alu(ir.LSH, whole, Imm(64 - size * 8)), Imm(64 - size * 8))
        return whole

    def _store_whole(self, place: Place, size: int, value: int | Imm) -> None:
        """Write ``size`` bytes, in parts where their alignment is not known."""
        at = 0
        for width in chunks(size, place.off, place.align) if _is_apart(place, size) else (size,):
            part = value
            if isinstance(value, Imm):
                part = Imm(_signed(value.value >> 8 * at, width))
            elif at:
                part = self.alu(ir.RSH, value, Imm(8 * at))
            self.emit(ir.STORE, a=place.reg, b=part, off=place.off + at, size=width)
            at += width

    def _direct(
        self, dst: int, place: Place, size: int, signed: bool, extra: int = 0, tail: tuple[int, ...] = ()
    ) -> None:
        core = self.offset_core(place, tail)
        self.emit(ir.LOAD, dst=dst, a=place.reg, off=place.off + extra, size=size, imm=int(signed), ref=core)

    def reader(self, space: str) -> int:
        """The helper that reads from a space. A program that may sleep waits for a page that is not there (5.10)."""
        if space == KERN:
            return _PROBE_READ_KERNEL
        return _COPY_FROM_USER if self.kind.sleepable else _PROBE_READ_USER

    def _probe(self, place: Place, size: int, signed: bool, kind: str, node: ast.AST) -> int:
        """Read kernel memory through the helper; what cannot be read is 0."""
        slot = self.take(size, node)
        self.call(self.reader(place.space), self.slot_address(slot), Imm(size), self.address(place))
        dst = self.func.vreg(kind)
        self.emit(ir.LOAD, dst=dst, a=slot, size=size, imm=int(signed and size < 8))
        self.give(slot)
        return dst

    # --- bit-fields

    def _load_bits(self, place: Place, type: BitsType, node: ast.AST) -> Int:
        """Read a bit-field: shifted up to the top of 64 bits, then down, which extends it."""
        down = ir.ARSH if type.signed else ir.RSH
        shown = native(type)
        if not type.signed and type.width < shown.size * 8 and type.width <= 32:
            shown = next(kind for kind in (u8, u16, u32) if type.width <= kind.size * 8)
        if place.root is None:
            off, size, bit = _access(place, type)
            where = Place(type, place.space, place.reg, off, place.align)
            if place.space in PROBED:
                dst = self._probe(where, size, False, ir.SCALAR, node)
            elif _is_apart(where, size):
                dst = self._load_parts(where, size, False)
            else:
                dst = self.scalar()
                self.emit(ir.LOAD, dst=dst, a=place.reg, off=off, size=size)
            if bit + type.width < size * 8 or type.signed:
                dst = self.alu(ir.LSH, dst, Imm(64 - bit - type.width))
                dst = self.alu(down, dst, Imm(64 - type.width))
            elif bit:
                dst = self.alu(ir.RSH, dst, Imm(bit))
            return Int(shown, dst)
        raw = self._raw_bits(place, type, node)
        assert place.root is not None
        root, path = self.unit.types.id(place.root), ":".join(map(str, place.path))
        up = self.core(
            Core(FIELD_LSHIFT_U64, root, path), 64 - type.width - (place.off * 8 + place.bit) % (type.size * 8)
        )
        raised = self.alu(ir.LSH, raw, up)
        return Int(shown, self.alu(down, raised, self.core(Core(FIELD_RSHIFT_U64, root, path), 64 - type.width)))

    def _raw_bits(self, place: Place, type: BitsType, node: ast.AST) -> int:
        """The word around a kernel's bit-field; how wide to read is known at load time only."""
        assert place.root is not None
        root, path = self.unit.types.id(place.root), ":".join(map(str, place.path))
        unit = place.off // type.size * type.size
        start = Place(type, place.space, place.reg, unit, 1, place.root, place.path)
        width = self.core(Core(FIELD_BYTE_SIZE, root, path), type.size)
        if place.space in PROBED:
            slot = self.take(8, node)
            self.store_bytes(Place(u64, MEM, slot, 0, 8), bytes(8), node)
            self.call(self.reader(place.space), self.slot_address(slot), width, self.address(start))
            raw = self.scalar()
            self.emit(ir.LOAD, dst=raw, a=slot)
            self.give(slot)
            return raw
        raw = self.scalar()
        done = self.block("bits")
        for size in (1, 2, 4):
            this, other = self.block(f"bits{size}"), self.block("wider")
            self.branch("eq", width, Imm(size), this, other)
            self.start(this)
            self._direct(raw, start, size, False)
            self.goto(done)
            self.start(other)
        self._direct(raw, start, 8, False)
        self.goto(done)
        self.start(done)
        return raw

    def _store_bits(self, place: Place, type: BitsType, value: Int | Const, node: ast.AST) -> None:
        """Replace a bit-field's bits in the word that holds them."""
        off, size, bit = _access(place, type)
        mask = (1 << type.width) - 1
        number = int_constant(value)
        if number is not None:
            if not type.range[0] <= number <= max(type.range[1], mask):
                raise self.error(node, f"{number} does not fit {type}")
            new: int | Imm = Imm(_signed((number & mask) << bit, 8))
        else:
            assert isinstance(value, Int)
            cut = self.alu(ir.AND, value.op, Imm(_signed(mask, 8))) if type.width < 64 else self.reg(value.op)
            new = self.alu(ir.LSH, cut, Imm(bit)) if bit else cut
        where = Place(type, place.space, place.reg, off, place.align)
        if type.width == size * 8:
            self._store_whole(where, size, new)
            return
        if _is_apart(where, size):
            old = self._load_parts(where, size, False)
        else:
            old = self.scalar()
            self.emit(ir.LOAD, dst=old, a=place.reg, off=off, size=size)
        kept = self.alu(ir.AND, old, Imm(_signed(~(mask << bit), 8)))
        self._store_whole(where, size, self.alu(ir.OR, kept, new))

    # --- stores

    def writable(self, place: Place, node: ast.AST) -> None:
        """Raise CompileError for a place that programs may not write."""
        if place.space == MEM or (place.space == CTX and self.kind.writable):
            return
        raise self.error(node, f"{SPACE_NAMES[place.space]} cannot be written")

    def store(self, place: Place, value: Value, node: ast.AST) -> None:
        """Write ``value`` to a place."""
        self.writable(place, node)
        type = place.type
        if isinstance(type, BitsType):
            self._store_bits(place, type, self.number(value, node), node)
        elif isinstance(type, Scalar):
            plain = isinstance(value, Place) and not isinstance(value.type, BitsType)
            if plain and isinstance(value, Place) and isinstance(value.type, Scalar) and value.type.size >= type.size:
                # Only the low bytes count: no sign to extend.
                value = self.load(value, node, _UNSIGNED[value.type.size])
            self._store_number(place, type, self.number(value, node), node)
        elif isinstance(type, PtrType):
            pointer = self.rvalue(value, node)
            if not isinstance(pointer, Pointer) or pointer.target != type.target:
                raise self.error(node, f"{self.describe(value)} cannot be stored as {type}")
            register = self.pointer_reg(pointer)
            if _is_apart(place, type.size) and self.func.vregs[register] == ir.POINTER:
                raise self.error(node, "the verifier wants pointers kept at multiples of 8: this place is not at one")
            self._store_whole(place, type.size, register)
        elif isinstance(value, Const) and isinstance(value.value, (bytes, str)):
            self.store_bytes(place, self.text_for(type, value.value, node), node)
        elif isinstance(value, Place) and value.type == type:
            self.copy_bytes(place, value, type.size, node)
        else:
            raise self.error(node, f"{self.describe(value)} cannot be stored as {type}")

    def _store_number(self, place: Place, type: Scalar, value: Int | Const, node: ast.AST) -> None:
        number = int_constant(value)
        bits = type.size * 8
        if number is not None:
            if not (0 if type is bool_ else -(1 << bits - 1)) <= number < (2 if type is bool_ else 1 << bits):
                raise self.error(node, f"{number} does not fit {type}")
            if type.big:
                number = int.from_bytes((number & (1 << bits) - 1).to_bytes(type.size, "big"), "little")
            self._store_whole(place, type.size, Imm(_signed(number, type.size)))
            return
        assert isinstance(value, Int)
        op = self.reg(self.convert(value, type).op if type is bool_ else value.op)
        if type.big:
            swapped = self.scalar()
            self.emit(ir.BSWAP, dst=swapped, a=op, size=type.size, imm=1)
            op = swapped
        self._store_whole(place, type.size, op)

    def text_for(self, type: Type, text: bytes | str, node: ast.AST) -> bytes:
        """A string constant as ``char[N]`` holds it, NUL-padded."""
        raw = text.encode() if isinstance(text, str) else text
        if not isinstance(type, ArrayType) or type.element not in (char, u8):
            raise self.error(node, f"a string cannot be stored as {type}")
        if len(raw) > type.count:
            raise self.error(node, f"the string has {len(raw)} bytes and does not fit {type}")
        return raw.ljust(type.count, b"\0")

    def store_bytes(self, place: Place, data: bytes, node: ast.AST, start: int = 0) -> None:
        """Write constant bytes, in the widest aligned stores; ``start`` is where ``data`` begins in the place."""
        self.writable(place, node)
        at = 0
        for size in chunks(len(data), place.off + start, place.align):
            value = int.from_bytes(data[at : at + size], "little")
            self.emit(ir.STORE, a=place.reg, b=Imm(_signed(value, size)), off=place.off + start + at, size=size)
            at += size

    def zero(self, place: Place, size: int, node: ast.AST) -> None:
        """Clear a Struct's memory, which starts at a multiple of 8; big ones in a loop."""
        if isinstance(place.reg, Slot) or size <= 256:
            self.store_bytes(Place(char[size], MEM, place.reg, 0, 8), bytes(size), node)
            return
        words = size // 8
        index = self.scalar()
        head, inside, done = self.block("clear"), self.block("word"), self.block("cleared")
        self.move(index, Imm(0))
        self.goto(head)
        self.start(head)
        self.branch("lt", index, Imm(words * 8), inside, done)
        self.start(inside)
        self.emit(ir.STORE, a=self.alu(ir.ADD, place.reg, index, ir.POINTER), b=Imm(0))
        self.emit(ir.ADD, dst=index, a=index, b=Imm(8))
        self.goto(head)
        self.drop_incoming(head)
        self.start(done)
        if size % 8:
            self.store_bytes(Place(char[size], MEM, place.reg, 0, 8), bytes(size % 8), node, words * 8)

    # --- copies

    def copy_bytes(self, to: Place, source: Place, size: int, node: ast.AST) -> None:
        """Copy ``size`` bytes between places, reading in the way of the source's space."""
        self.writable(to, node)
        if source.space in PROBED:
            self.call(self.reader(source.space), self.address(to), Imm(size), self.address(source))
            return
        if source.space == BTF:
            self._copy_typed(to, source, size, node)
            return
        at = 0
        for chunk in chunks(size, to.off, to.align, source.off, source.align):
            dst = self.scalar()
            self.emit(ir.LOAD, dst=dst, a=source.reg, off=source.off + at, size=chunk)
            self.emit(ir.STORE, a=to.reg, b=dst, off=to.off + at, size=chunk)
            at += chunk

    def _copy_typed(self, to: Place, source: Place, size: int, node: ast.AST) -> None:
        """Direct loads of a typed kernel array, each with its own relocation; the verifier knows the offsets."""
        type = source.type
        element = type.element if isinstance(type, ArrayType) else None
        if not isinstance(element, Scalar):
            raise self.error(node, f"{type} in kernel memory cannot be copied as a whole: copy its fields")
        at = 0
        for chunk in chunks(size, to.off, to.align):
            width = max(chunk, element.size)
            if at % element.size or width != chunk:
                raise self.error(node, f"{size} bytes of {type} cannot be copied to a place of alignment {to.align}")
            dst = self.scalar()
            self._direct(dst, source, chunk, False, at, (at // element.size,))
            self.emit(ir.STORE, a=to.reg, b=dst, off=to.off + at, size=chunk)
            at += chunk

    # --- what helpers take

    def memory(self, value: Value, node: ast.AST, write: bool = False) -> tuple[int, int]:
        """Address in a register and size of the memory that an argument names."""
        if isinstance(value, Const) and isinstance(value.value, (str, bytes)):
            raw = value.value.encode() + b"\0" if isinstance(value.value, str) else value.value
            slot = self.take_temporary(len(raw) or 1, node)
            self.store_bytes(Place(char[len(raw) or 1], MEM, slot, 0, 8), raw, node)
            return self.slot_address(slot), len(raw)
        if isinstance(value, Pointer):
            value = self.deref(value, node)
        if not isinstance(value, Place):
            raise self.error(
                node, f"memory is wanted here, not {self.describe(value)}: give a Struct, an array or addr(x)"
            )
        if write:
            self.writable(value, node)
        elif value.space in (BTF, KERN, USER):
            raise self.error(
                node, f"{SPACE_NAMES[value.space]} cannot be handed to a helper: copy() it into a Struct first"
            )
        return self.address(value), value.type.size

    # --- numbers, from lower_numbers

    def number(self, value: Value, node: ast.AST) -> Int | Const:
        """``value`` as a number."""
        raise NotImplementedError

    def convert(self, value: Int | Const, type: Scalar) -> Int:
        """A number as ``type`` holds it."""
        raise NotImplementedError

    def describe(self, value: Value) -> str:
        """A value's kind, for messages."""
        if isinstance(value, Int):
            return str(value.type)
        if isinstance(value, Const):
            return repr(value.value)
        if isinstance(value, Pointer):
            return value.describe()
        if isinstance(value, Place):
            return f"a place of type {value.type}"
        return "a tuple" if type(value).__name__ == "Group" else "nothing (no value is returned)"


def chunks(size: int, off: int, align: int, other_off: int | None = None, other_align: int = 8) -> list[int]:
    """Sizes of the widest accesses that cover ``size`` bytes, each aligned on both sides."""
    out = []
    at = 0
    while at < size:
        width = 8
        while (
            width > size - at
            or width > align
            or (off + at) % width
            or (other_off is not None and (width > other_align or (other_off + at) % width))
        ):
            width //= 2
        out.append(width)
        at += width
    return out


def _is_apart(place: Place, size: int) -> bool:
    """Whether an access must be made in parts: its alignment is not known, and the stack wants it (verifier.c)."""
    return place.space in (MEM, RODATA) and (
        size > place.align or bool(place.off & (size - 1)) or bool(size & size - 1)
    )


def _access(place: Place, type: BitsType) -> tuple[int, int, int]:
    """Offset and size of the narrowest aligned access that holds a bit-field, and the bit where it starts there.

    In a packed structure there may be none: then just the bytes that it is in.
    """
    at = place.off * 8 + place.bit
    for size in (1, 2, 4, 8) if place.align >= type.align or place.space not in (MEM, RODATA) else ():
        bits = size * 8
        if at % bits + type.width <= bits:
            return at // bits * size, size, at % bits
    size = -(-(place.bit + type.width) // 8)
    if size > 8:
        raise CompileError(f"{type} lies across two words: give it a place of its own")
    return place.off, size, place.bit


def _signed(value: int, size: int) -> int:
    """The same ``size`` bytes as a signed number: small negative ones fit an instruction."""
    bits = size * 8
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value
