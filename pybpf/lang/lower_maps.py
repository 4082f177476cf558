"""Lowering of what programs do with maps and ring buffers."""

from __future__ import annotations

import ast

from pybpf.lang import ir
from pybpf.lang.helpers import HELPERS
from pybpf.lang.ir import Block, Imm, Slot
from pybpf.lang.lower_expr import Expressions
from pybpf.lang.lower_places import native
from pybpf.lang.maps import CgroupLocal, Map, OfMaps, PerfEventArray, RingBuf, Storage, UserRingBuf
from pybpf.lang.operand import BTF, CTX, MEM, Const, Int, Place, Pointer, Reservation, Value, Void, int_constant
from pybpf.lang.types import Scalar, StructType, Type, i64

LOOKUP, UPDATE, DELETE = 1, 2, 3
PERF_OUTPUT, MAP_PUSH, MAP_POP, MAP_PEEK = 25, 87, 88, 89
RINGBUF_OUTPUT, RINGBUF_RESERVE, RINGBUF_SUBMIT, RINGBUF_DISCARD = 130, 131, 132, 133
GET_LOCAL_STORAGE = 81
BPF_ANY, BPF_NOEXIST = 0, 1
_ANY = Imm(BPF_ANY)

_ATOMIC: dict[type[ast.operator], int] = {
    ast.Add: 0x00,
    ast.Sub: 0x00,
    ast.BitOr: 0x40,
    ast.BitAnd: 0x50,
    ast.BitXor: 0xA0,
}


class Maps(Expressions):
    """Map operations."""

    def arguments(self, node: ast.Call, names: tuple[str, ...], required: int, what: str) -> dict[str, ast.expr]:
        """The argument expressions of a call by name. Raises CompileError for wrong ones."""
        if len(node.args) > len(names):
            wants = f"{required} to {len(names)}" if required < len(names) else str(required)
            raise self.error(node.args[len(names)], f"{what} takes {wants} arguments, not {len(node.args)}")
        found = dict(zip(names, node.args))
        for keyword in node.keywords:
            name = str(keyword.arg)
            if name not in names:
                raise self.error(keyword.value, f"{what} has no argument {name!r} (has: {', '.join(names) or 'none'})")
            if name in found:
                raise self.error(keyword.value, f"{what} got argument {name!r} twice")
            found[name] = keyword.value
        for name in names[:required]:
            if name not in found:
                raise self.error(node, f"{what} needs argument {name!r}")
        return found

    def map_register(self, map: Map) -> int:
        """The map in a register."""
        return map.register if map.register is not None else self.map_pointer(self.unit.use_map(map))

    def map_method(self, map: Map, name: str, node: ast.Call) -> Value:
        """``m.name(...)``."""
        what = f"{map.name}.{name}()"
        if isinstance(map, RingBuf):
            if name == "output":
                return self._output(map, node, what)
            if name == "reserve":
                raise self.error(
                    node, f"a record is reserved by 'with {map.name}.reserve(T) as e:', so that it is always submitted"
                )
            raise self.error(node, f"{map.kind} {map.name} has no {name}() (has: output, reserve)")
        if map.methods:
            return self._other_method(map, name, node, what)
        known = ["lookup", "update", "delete", "get", "get_or_init", "for_each"]
        if isinstance(map, OfMaps):
            known = ["lookup"]
        for present, method in ((map.deletes, "delete"), (map.deletes, "get_or_init"), (map.walks, "for_each")):
            if not present and method in known:
                known.remove(method)
        if not map.keyed:
            where = "tail_call()" if map.kind == "ProgArray" else "the helpers that take it"
            raise self.error(node, f"{map.kind} {map.name} has no {name}(): see {where}")
        if name not in known:
            raise self.error(node, f"{map.kind} {map.name} has no {name}() (has: {', '.join(known)})")
        if name == "lookup":
            args = self.arguments(node, ("key",), 1, what)
            return self.lookup(map, self.expr(args["key"]), args["key"])
        if name == "delete":
            args = self.arguments(node, ("key",), 1, what)
            return self.delete(map, self.expr(args["key"]), args["key"])
        if name == "get":
            return self._get(map, node, what)
        if name == "get_or_init":
            return self._get_or_init(map, node, what)
        if name == "for_each":
            return self.for_each(map, node, what)
        args = self.arguments(node, ("key", "value", "flags"), 2, what)
        key, value = self.expr(args["key"]), self.expr(args["value"])
        flags: int | Imm = Imm(BPF_ANY)
        if "flags" in args:
            flags = self.operand(self.number(self.expr(args["flags"]), args["flags"]))
        return self.update(map, (key, args["key"]), (value, args["value"]), flags)

    def _other_method(self, map: Map, name: str, node: ast.Call, what: str) -> Value:
        """Methods of maps without entries of their own."""
        if name not in map.methods:
            raise self.error(node, f"{map.kind} {map.name} has no {name}() (has: {', '.join(map.methods)})")
        if isinstance(map, PerfEventArray):
            args = self.arguments(node, ("ctx", "record", "size"), 2, what)
            context = self.expr(args["ctx"])
            if not isinstance(context, Pointer) or context.space != CTX:
                raise self.error(args["ctx"], f"the program's context is wanted here, not {self.describe(context)}")
            address, whole = self.memory(self.expr(args["record"]), args["record"])
            size = self._size(args.get("size"), whole)
            register = self.map_register(map)
            current = Imm(0xFFFFFFFF)
            return Int(i64, self.call(PERF_OUTPUT, self.pointer_reg(context), register, current, address, size))
        if isinstance(map, Storage):
            return self._storage(map, name, node, what)
        if isinstance(map, UserRingBuf):
            return self.drain(map, node, what)
        if isinstance(map, CgroupLocal):
            self.arguments(node, (), 0, what)
            held = self.call(GET_LOCAL_STORAGE, self.map_register(map), Imm(0), pointer=True)
            assert map.value is not None
            return Pointer(map.value, MEM, held, 0, False, max(8, map.value.align))
        if name == "push" or map.kind == "BloomFilter":
            args = self.arguments(node, ("value", "flags"), 1, what) if name == "push" else {}
            args = args or self.arguments(node, ("value",), 1, what)
            slots: list[Slot] = []
            value = self.part(map, "value", self.expr(args["value"]), args["value"], slots)
            more = [self.operand(self.number(self.expr(args["flags"]), args["flags"]))] if "flags" in args else [Imm(0)]
            register = self.map_register(map)
            number, rest = (MAP_PUSH, more) if name == "push" else (MAP_PEEK, [])
            result = self.call(number, register, value, *rest)
            self.release(slots)
            return Int(i64, result)
        args = self.arguments(node, ("to",), 1, what)
        to = self.expr(args["to"])
        if isinstance(to, Pointer):
            to = self.deref(to, args["to"])
        if not isinstance(to, Place) or to.type != map.value or to.space != MEM:
            raise self.error(args["to"], f"a place of type {map.value} is wanted here, not {self.describe(to)}")
        number = MAP_POP if name == "pop" else MAP_PEEK
        return Int(i64, self.call(number, self.map_register(map), self.address(to)))

    def _storage(self, map: Storage, name: str, node: ast.Call, what: str) -> Value:
        names = ("owner", "flags") if name == "get" else ("owner",)
        args = self.arguments(node, names, 1, what)
        owner = self.expr(args["owner"])
        owner = self.rvalue(owner, args["owner"])
        if not isinstance(owner, Pointer) or owner.space not in (BTF, CTX):
            raise self.error(
                args["owner"], f"an object that the verifier knows is wanted here, not {self.describe(owner)}"
            )
        if owner.nullable:
            raise self.error(args["owner"], "pointer may be None here: test it with 'if' first")
        register = self.map_register(map)
        if name == "delete":
            return Int(i64, self.call(HELPERS[f"{map.helpers}_delete"].number, register, self.pointer_reg(owner)))
        flags: int | Imm = Imm(0)
        if "flags" in args:
            flags = self.operand(self.number(self.expr(args["flags"]), args["flags"]))
        number = HELPERS[f"{map.helpers}_get"].number
        found = self.call(number, register, self.pointer_reg(owner), Imm(0), flags, pointer=True)
        return self.value_pointer(map, found)

    def for_each(self, map: Map, node: ast.Call, what: str) -> Value:
        """``m.for_each(fn, args...)``, from the part about callbacks."""
        raise NotImplementedError

    def drain(self, map: Map, node: ast.Call, what: str) -> Value:
        """``m.drain(fn, args...)``, from the part about callbacks."""
        raise NotImplementedError

    def _size(self, node: ast.expr | None, whole: int) -> int | Imm:
        """The size argument of an output, by default the whole."""
        if node is None:
            return Imm(whole)
        size = self.operand(self.number(self.expr(node), node))
        if isinstance(size, Imm) and not 0 < size.value <= whole:
            raise self.error(node, f"size {size.value} is outside of the record's {whole} bytes")
        return size

    # --- entries

    def part(self, map: Map, what: str, value: Value, node: ast.AST, slots: list[Slot]) -> int:
        """The address of a key or value; numbers and strings go through a frame slot, noted in ``slots``."""
        type = map.key if what == "key" else map.value
        if type is None:
            raise self.error(node, f"{map.kind} {map.name} has no {what}s")
        return self.spilled(type, f"{what} of {map.name}", value, node, slots)

    def spilled(self, type: Type, what: str, value: Value, node: ast.AST, slots: list[Slot]) -> int:
        """The address of memory that holds ``value`` as ``type``."""
        if isinstance(value, Pointer) and value.target == type and value.space == MEM:
            return self.address(self.deref(value, node))
        if isinstance(value, Place) and value.type == type and value.space == MEM:
            return self.address(value)
        text = isinstance(value, Const) and isinstance(value.value, (str, bytes))
        if isinstance(type, Scalar) or text or (isinstance(value, Place) and value.type == type):
            if isinstance(type, Scalar):
                value = self.rvalue(value, node)
                if not isinstance(value, Int) and int_constant(value) is None:
                    raise self.error(node, f"the {what} is a {type}, not {self.describe(value)}")
            slot = self.take(type.size, node)
            slots.append(slot)
            self.store(Place(type, MEM, slot, 0, 8), value, node)
            return self.slot_address(slot)
        raise self.error(node, f"the {what} is a {type}, not {self.describe(value)}")

    def release(self, slots: list[Slot]) -> None:
        """Give slots of keys and values back after the call."""
        for slot in slots:
            self.give(slot)

    def value_pointer(self, map: Map, register: int) -> Pointer:
        """What a lookup gave."""
        if isinstance(map, OfMaps):
            return Pointer(map.entry, MEM, register, 0, True)
        assert map.value is not None
        # Values start at multiples of 8 in every kind of map (round_up(key_size, 8) in hash tables).
        return Pointer(map.value, MEM, register, 0, True, max(8, map.value.align))

    def lookup(self, map: Map, key: Value, node: ast.AST) -> Pointer:
        """``m.lookup(k)``: pointer to the value, or None."""
        slots: list[Slot] = []
        address = self.part(map, "key", key, node, slots)
        found = self.call(LOOKUP, self.map_register(map), address, pointer=True)
        self.release(slots)
        return self.value_pointer(map, found)

    def update(
        self, map: Map, key: tuple[Value, ast.AST], value: tuple[Value, ast.AST], flags: int | Imm = _ANY
    ) -> Int:
        """``m.update(k, v, flags)``: 0 or negative."""
        slots: list[Slot] = []
        key_address = self.part(map, "key", *key, slots)
        value_address = self.part(map, "value", *value, slots)
        result = self.call(UPDATE, self.map_register(map), key_address, value_address, flags)
        self.release(slots)
        return Int(i64, result)

    def delete(self, map: Map, key: Value, node: ast.AST) -> Int:
        """``m.delete(k)``: 0 or negative."""
        slots: list[Slot] = []
        address = self.part(map, "key", key, node, slots)
        result = self.call(DELETE, self.map_register(map), address)
        self.release(slots)
        return Int(i64, result)

    def map_contains(self, map: Map, key: Value, key_node: ast.expr, node: ast.expr, yes: Block, no: Block) -> None:
        """``key in map``."""
        if not map.keyed:
            raise self.error(node, f"'in' does not look into {map.kind} {map.name}")
        found = self.lookup(map, key, key_node)
        self.branch("ne", self.pointer_reg(found), Imm(0), yes, no)

    def _get(self, map: Map, node: ast.Call, what: str) -> Value:
        """``m.get(k, default)``: a number."""
        args = self.arguments(node, ("key", "default"), 2, what)
        kind = map.value
        if not isinstance(kind, Scalar):
            raise self.error(node, f"{what} gives numbers; the values of {map.name} are {kind}: use lookup()")
        default = self.number(self.expr(args["default"]), args["default"])
        found = self.lookup(map, self.expr(args["key"]), args["key"])
        there, absent = self.block("there"), self.block("absent")
        self.branch("ne", self.pointer_reg(found), Imm(0), there, absent)
        arms = []
        self.start(there)
        place = Place(kind, MEM, found.reg, 0, found.align)
        arms.append(self.arm(self.load(place, node), node))
        self.start(absent)
        arms.append(self.arm(default, args["default"]))
        return self.join([arm for arm in arms if arm is not None], node, f"the result of {what}")

    def _get_or_init(self, map: Map, node: ast.Call, what: str) -> Pointer:
        """``m.get_or_init(k, v)``: pointer to the value, ``v`` where there was none; None where there is no room."""
        args = self.arguments(node, ("key", "value"), 2, what)
        slots: list[Slot] = []
        key = self.rvalue(self.expr(args["key"]), args["key"])
        address = self.part(map, "key", key, args["key"], slots)
        found = self.pointer()
        self.move(found, self.call(LOOKUP, self.map_register(map), address, pointer=True))
        absent, done = self.block("absent"), self.block("done")
        self.branch("ne", found, Imm(0), done, absent)
        self.start(absent)
        value = self.part(map, "value", self.expr(args["value"]), args["value"], slots)
        self.call(UPDATE, self.map_register(map), address, value, Imm(BPF_NOEXIST))
        # Whoever was first: another CPU may have made the entry meanwhile.
        self.move(found, self.call(LOOKUP, self.map_register(map), address, pointer=True))
        self.goto(done)
        self.start(done)
        self.release(slots)
        return self.value_pointer(map, found)

    # --- statements

    def set_entry(self, map: Map, target: ast.Subscript, value: Value, node: ast.AST) -> None:
        """``m[k] = v``."""
        self._needs_entries(map, target, "set")
        self.update(map, (self.expr(target.slice), target.slice), (value, node))

    def delete_entry(self, map: Map, target: ast.Subscript) -> None:
        """``del m[k]``."""
        self._needs_entries(map, target, "deleted")
        if not map.deletes:
            raise self.error(target, f"an entry of {map.kind} {map.name} always exists and cannot be deleted")
        self.delete(map, self.expr(target.slice), target.slice)

    def _needs_entries(self, map: Map, node: ast.AST, what: str) -> None:
        if not map.keyed or isinstance(map, OfMaps):
            raise self.error(node, f"entries of {map.kind} {map.name} cannot be {what} by a program")

    def change_entry(self, map: Map, node: ast.AugAssign, target: ast.Subscript) -> None:
        """``m[k] += n``: atomic unless per CPU; an absent entry counts as 0."""
        self._needs_entries(map, target, "changed")
        kind = map.value
        operation = type(node.op)
        if not isinstance(kind, Scalar) or kind.big:
            raise self.error(node, f"the values of {map.name} are {kind}, not numbers: use lookup()")
        if not map.per_cpu and (operation not in _ATOMIC or kind.size < 4):
            raise self.error(node, "there is no atomic operation for this: use lookup() and change the value")
        change = self.number(self.expr(node.value), node.value)
        if operation is ast.Sub and not map.per_cpu:
            change = self.unary(ast.USub(), change, node)
        key = self.rvalue(self.expr(target.slice), target.slice)
        slots: list[Slot] = []
        address = self.part(map, "key", key, target.slice, slots)
        found = self.call(LOOKUP, self.map_register(map), address, pointer=True)
        there, absent, done = self.block("there"), self.block("absent"), self.block("done")
        self.branch("ne", found, Imm(0), there, absent if map.deletes else done)
        self.start(there)
        place = Place(kind, MEM, found, 0, 8)
        if map.per_cpu:
            self.store(place, self.binary(node.op, self.number(place, node), change, node), node)
        else:
            self.emit(ir.ATOMIC, a=found, b=self.reg(self.operand(change)), size=kind.size, imm=_ATOMIC[operation])
        self.goto(done)
        if self.start(absent):
            fresh = self.binary(node.op, Int(native(kind), Imm(0)), change, node) if map.per_cpu else change
            if not map.per_cpu and operation is ast.BitAnd:
                fresh = Const(0)
            value = self.part(map, "value", fresh, node, slots)
            self.call(UPDATE, self.map_register(map), address, value, Imm(BPF_NOEXIST))
            self.goto(done)
        self.start(done)
        self.release(slots)

    # --- ring buffers

    def _output(self, ring: RingBuf, node: ast.Call, what: str) -> Int:
        """``ring.output(record, size, flags)``: 0 or negative."""
        args = self.arguments(node, ("record", "size", "flags"), 1, what)
        address, whole = self.memory(self.expr(args["record"]), args["record"])
        size = self._size(args.get("size"), whole)
        flags: int | Imm = Imm(0)
        if "flags" in args:
            flags = self.operand(self.number(self.expr(args["flags"]), args["flags"]))
        return Int(i64, self.call(RINGBUF_OUTPUT, self.map_register(ring), address, size, flags))

    def reserve(self, ring: RingBuf, layout: Type, node: ast.AST, name: str, full: Block) -> Reservation:
        """Reserve a record; goes to ``full`` when there is no room. Padding is cleared, fields are the program's."""
        if not isinstance(layout, StructType) or layout.kernel:
            raise self.error(node, f"a record is a Struct, not {layout}")
        register = self.call(RINGBUF_RESERVE, self.map_register(ring), Imm(layout.size), Imm(0), pointer=True)
        got = self.block("reserved")
        self.branch("ne", register, Imm(0), got, full)
        self.start(got)
        record = Place(layout, MEM, register, 0, 8)
        for offset, size in layout.holes():
            self.store_bytes(record, bytes(size), node, offset)
        return Reservation(name, register)

    def finish_reservation(self, reservation: Reservation, node: ast.AST) -> None:
        """Submit a record on the way out of its ``with``, unless it was discarded."""
        held = self.flow.pop(reservation, None) if self.cur is not None else False
        if self.cur is None or held is False:
            return
        if held is None:
            raise self.error(
                node, f"record {reservation.name!r} is discarded on one path only: return right after discard()"
            )
        self.emit(ir.CALL, imm=RINGBUF_SUBMIT, args=(reservation.reg, Imm(0)))

    def discard(self, reservation: Reservation, node: ast.Call) -> Void:
        """``e.discard()``."""
        self.arguments(node, (), 0, f"{reservation.name}.discard()")
        self.emit(ir.CALL, imm=RINGBUF_DISCARD, args=(reservation.reg, Imm(0)))
        self.flow = {**self.flow, reservation: False}
        return Void()
