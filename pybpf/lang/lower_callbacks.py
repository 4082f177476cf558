"""Lowering of functions that the kernel calls back: bpf_loop, for_each_map_elem, timers, find_vma.

The user's function is an ``@inline`` one. Each call site gets a static function
of its own, so that constants, maps and types stay known in it; what is known at
run time only travels through a row of 8-byte words on the caller's stack, whose
address the kernel hands on. Numbers go by value, Structs and arrays by place.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from copy import copy

from pybpf.lang import ir
from pybpf.lang.flow import Frame
from pybpf.lang.ir import Core, Function, Imm, Slot
from pybpf.lang.lower_places import ENUMVAL_EXISTS
from pybpf.lang.lower_stmts import Statements
from pybpf.lang.maps import Map
from pybpf.lang.operand import (
    BTF,
    MEM,
    RODATA,
    SIGNED,
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
from pybpf.lang.surface import Inline
from pybpf.lang.types import Dynptr, StructType, Timer, Type, i32, i64, u64

MAX_PASSES = 1 << 23  # as bpf_loop has it (BPF_MAX_LOOPS)
LOOP, FOR_EACH, TIMER_SET_CALLBACK, FIND_VMA, USER_RINGBUF_DRAIN = 181, 164, 170, 180, 209


class Callbacks(Statements):
    """Callbacks."""

    def inline_argument(self, node: ast.expr, what: str) -> Inline:
        """The function to be called back."""
        callee = self.expr(node)
        if not (isinstance(callee, Const) and isinstance(callee.value, Inline)):
            raise self.error(node, f"{what} calls an @inline function, not {self.describe(callee)}")
        return callee.value

    def further_arguments(self, nodes: list[ast.expr]) -> list[Value]:
        """Arguments that are handed on to each call: evaluated once."""
        return [self._settled(self._argument(part)) for part in nodes]

    # --- making a callback

    def callback(
        self,
        inline: Inline,
        given: list[Callable[[int], Value] | None],
        more: list[Value],
        node: ast.Call,
        limit: int | Imm | None = None,
        slots: list[Slot] | None = None,
    ) -> tuple[int, int | Imm]:
        """Compile ``inline`` as a function to be called back; registers with its address and with its data.

        ``given`` are the parameters that the kernel hands over, before the data;
        ``more`` the further arguments. With ``limit`` the first parameter is below it,
        which the verifier is told. ``slots`` takes the frame slots to be given back
        after the call; None where the function outlives it, and takes no data.
        """
        routine = self.unit.sources.routine(inline.function)
        params = [*routine.node.args.posonlyargs, *routine.node.args.args]
        wanted = sum(one is not None for one in given) + len(more)
        if not len(params) - len(routine.node.args.defaults) <= wanted <= len(params):
            raise self.error(node, f"{inline.name}() has {len(params)} parameters, but is called with {wanted}")
        words: list[int] = []
        packed = [self._pack(value, words) for value in more]
        place = self._limit_word(limit, words)
        if slots is None and words:
            raise self.error(node, f"{inline.name}() runs later: it cannot take values of this moment")
        data: int | Imm = Imm(0)
        if words:
            assert slots is not None
            slot = self.take(8 * len(words), node)
            slots.append(slot)
            for index, word in enumerate(words):
                self.emit(ir.STORE, a=slot, b=word, off=8 * index)
            data = self.slot_address(slot)
        kinds = [self.func.vregs[word] for word in words]
        name = self.unit.callback(inline, routine)
        if slots is None:
            self.unit.later.add(name)
        func = Function(name, ".text", len(given) + (slots is not None))
        other = type(self)(self.unit, func, self.kind, self.section, Frame(routine))
        try:
            other.called_back(given, packed, kinds, limit if place is None else place, slots is not None)
        finally:
            self.unit.callback_done(inline)
        params_of: list[tuple[str, Type | None]] = [(f"arg{number}", None) for number in range(func.nparams)]
        if limit is not None:
            params_of[0] = "index", u64
        self.unit.declare(name, params_of, i32)
        self.unit.functions.append(func)
        address = self.pointer()
        self.emit(ir.FUNC, dst=address, ref=name)
        return address, data

    def _limit_word(self, limit: int | Imm | None, words: list[int]) -> int | None:
        """The number of the word that holds a limit in a register."""
        if limit is None or isinstance(limit, Imm):
            return None
        words.append(limit)
        return len(words) - 1

    def _pack(self, value: Value, words: list[int]) -> Callable[[list[int]], Value]:
        """Note what of ``value`` must travel; how to have it again from the registers that it was read into."""
        number = len(words)
        if isinstance(value, Int) and isinstance(value.op, int):
            kind = value.type
            words.append(value.op)
            return lambda registers: Int(kind, registers[number])
        if isinstance(value, Pointer):
            pointer = value
            words.append(self.pointer_reg(value))
            return lambda registers: Pointer(
                pointer.target, pointer.space, registers[number], 0, pointer.nullable, pointer.steadiness
            )
        if isinstance(value, Place):
            place = value
            words.append(self.base(value.reg))
            return lambda registers: Place(
                place.type, place.space, registers[number], place.off, place.align, place.root, place.path, place.bit
            )
        if isinstance(value, Group):
            items = [self._pack(item, words) for item in value.items]
            return lambda registers: Group([item(registers) for item in items])
        if isinstance(value, Const) and isinstance(value.value, Map) and value.value.register is not None:
            found = value.value
            words.append(value.value.register)

            def map_again(registers: list[int]) -> Value:
                again = copy(found)
                again.register = registers[number]
                return Const(again)

            return map_again
        return lambda _: value

    def called_back(
        self,
        given: list[Callable[[int], Value] | None],
        packed: list[Callable[[list[int]], Value]],
        kinds: list[str],
        limit: int | Imm | None,
        has_data: bool,
    ) -> None:
        """Lower the body of a callback: its result is 1 to stop and 0 to go on."""
        routine = self.root.routine
        node = routine.node
        self._begin(node)
        registers = []
        for index in range(len(given) + has_data):
            # The first is a number in a loop, a map or task (which is not used) elsewhere.
            dst = self.scalar() if limit is not None and not index else self.pointer()
            self.emit(ir.PARAM, dst=dst, imm=index)
            registers.append(dst)
        words = []
        for index, kind in enumerate(kinds):
            dst = self.func.vreg(kind)
            self.emit(ir.LOAD, dst=dst, a=registers[-1], off=8 * index)
            words.append(dst)
        stop, on = self.block("stop"), self.block("on")
        if limit is not None:
            inside = self.block("pass")
            self.branch("lt", registers[0], limit if isinstance(limit, Imm) else words[limit], inside, stop)
            self.start(inside)
        values = [make(register) for make, register in zip(given, registers) if make is not None]
        values += [make(words) for make in packed]
        params = [*node.args.posonlyargs, *node.args.args]
        for param, value in zip(params, values):
            self._enter_param(param, value, param)
        defaults = routine.function.__defaults__ or ()
        for param, default in zip(params[len(values) :], defaults[len(defaults) - (len(params) - len(values)) :]):
            self._enter_param(param, self._constant(default, param.arg, param), param)
        self.enter_result(node.returns)
        self.root.targets = (stop, on)
        self.root.called_back = True
        self.body(node.body)
        self.goto(on)
        for block, result in ((stop, 1 if has_data else 0), (on, 0)):
            if self.start(block):
                self.emit(ir.RET, a=Imm(result))
                self.cur = None

    # --- loop()

    def do_loop(self, node: ast.Call) -> Value:
        """``loop(n, fn, args...)``: bpf_loop where the kernel has it, else a counted loop around the function."""
        if node.keywords or len(node.args) < 2:
            raise self.error(node, "loop() takes the number of passes, an @inline function and its further arguments")
        inline = self.inline_argument(node.args[1], "loop()")
        count = self.number(self.expr(node.args[0]), node.args[0])
        if sign_of(count) == SIGNED:
            raise self.error(node.args[0], "the number of passes is unsigned: cast it with u64(n)")
        number = int_constant(count)
        if number is not None and number > MAX_PASSES:
            raise self.error(node.args[0], f"{number} passes are more than the kernel makes ({MAX_PASSES})")
        if number is None:
            count = self.least([(count, node), (Const(MAX_PASSES), node)], False)
        settled = self._settled(count)
        assert isinstance(settled, (Int, Const))
        limit = self.operand(settled)
        more = self.further_arguments(node.args[2:])
        passes = self.scalar()
        core = Core(ENUMVAL_EXISTS, self.unit.types.enum("bpf_func_id", "BPF_FUNC_loop"), "0")
        has, hasnt, done = self.block("bpf_loop"), self.block("noloop"), self.block("looped")
        self.branch("ne", self.core(core, 1), Imm(0), has, hasnt)
        # The plain loop comes first: its errors show where the function is called.
        self.start(hasnt)
        self._plain_loop(inline, limit, passes, more, node)
        self.goto(done)
        self.start(has)
        if not number:
            # Since 6.7 the verifier follows a callback only if there can be a pass. One that it never followed
            # is removed as dead code; the call that it refers to is not, and names no function any more.
            call = self.block("passes")
            self.move(passes, Imm(0))
            self.branch("eq", limit, Imm(0), done, call)
            self.start(call)
        slots: list[Slot] = []
        address, data = self.callback(inline, [lambda r: Int(u64, r)], more, node, limit, slots)
        self.move(passes, self.call(LOOP, limit, address, data, Imm(0)))
        self.release(slots)
        self.goto(done)
        self.start(done)
        return Int(u64, passes)

    def _plain_loop(self, inline: Inline, limit: int | Imm, counter: int, more: list[Value], node: ast.Call) -> None:
        index = self.scalar()
        self.move(counter, Imm(0))
        names = [f"pass {counter}", *(f"argument {counter} {n}" for n in range(len(more)))]
        call = ast.Call(func=node.args[1], args=[ast.Name(id=name, ctx=ast.Load()) for name in names], keywords=[])
        for part in (call, *call.args):
            ast.copy_location(part, node)
        head, inside, out = self.block("loop"), self.block("body"), self.block("endloop")
        self.goto(head)
        self.start(head)
        self.branch("lt", counter, limit, inside, out)
        self.start(inside)
        self.move(index, counter)
        self.emit(ir.ADD, dst=counter, a=counter, b=Imm(1))
        hidden = []
        for name, value in zip(names, [Int(u64, index), *more]):
            var = self.frame.vars[name] = Var(name, value, bound=True)
            self.flow[var] = isinstance(value, Pointer) and value.nullable
            hidden.append(var)
        result = self.call_expr(call)
        if isinstance(result, Void):
            self.goto(head)
        elif self.cur is not None:
            again = self.block("again")
            self.test(result, out, again, node)
            if self.start(again):
                self.goto(head)
        self.drop_incoming(head)
        self.start(out)
        for var in hidden:
            del self.frame.vars[var.name]
            self.flow.pop(var, None)

    # --- elements of maps

    def for_each(self, map: Map, node: ast.Call, what: str) -> Value:
        """``m.for_each(fn, args...)``: ``fn(key, value, args...)`` for each entry until it is true; the calls made."""
        if node.keywords or not node.args:
            raise self.error(node, f"{what} takes an @inline function and its further arguments")
        inline = self.inline_argument(node.args[0], what)
        more = self.further_arguments(node.args[1:])
        slots: list[Slot] = []
        address, data = self.callback(inline, self._entry(map), more, node, None, slots)
        register = self.map_register(map)
        result = self.call(FOR_EACH, register, address, data, Imm(0))
        self.release(slots)
        return Int(i64, result)

    def _entry(self, map: Map) -> list[Callable[[int], Value] | None]:
        """What a callback on a map's entry gets: the map, its key, its value."""
        key, value = map.key, map.value
        assert key is not None
        assert value is not None
        return [
            None,
            lambda register: Pointer(key, RODATA, register, 0, False, max(4, key.align)),
            lambda register: Pointer(value, MEM, register, 0, False, max(8, value.align)),
        ]

    def drain(self, map: Map, node: ast.Call, what: str) -> Value:
        """``m.drain(fn, args...)``: ``fn(record, args...)`` for each record from user space; how many, or negative."""
        if node.keywords or not node.args:
            raise self.error(node, f"{what} takes an @inline function and its further arguments")
        inline = self.inline_argument(node.args[0], what)
        more = self.further_arguments(node.args[1:])
        slots: list[Slot] = []
        given: list[Callable[[int], Value] | None] = [lambda register: Pointer(Dynptr.layout, MEM, register)]
        address, data = self.callback(inline, given, more, node, None, slots)
        result = self.call(USER_RINGBUF_DRAIN, self.map_register(map), address, data, Imm(0))
        self.release(slots)
        return Int(i64, result)

    # --- timers

    def do_timer_set_callback(self, node: ast.Call) -> Value:
        """``timer_set_callback(v.timer, m, fn)``: ``fn(key, value)`` when the time is up (5.15)."""
        args = self.arguments(node, ("timer", "map", "function"), 3, "timer_set_callback()")
        timer = self.embedded(self.expr(args["timer"]), Timer.layout, args["timer"])
        found = self.expr(args["map"])
        if not (isinstance(found, Const) and isinstance(found.value, Map) and found.value.keyed):
            raise self.error(args["map"], f"the map that holds the timer is wanted here, not {self.describe(found)}")
        if found.value.register is None:
            self.unit.use_map(found.value)
        inline = self.inline_argument(args["function"], "timer_set_callback()")
        address, _ = self.callback(inline, self._entry(found.value), [], node)
        return Int(i64, self.call(TIMER_SET_CALLBACK, timer, address))

    # --- memory areas

    def do_find_vma(self, node: ast.Call) -> Value:
        """``find_vma(task, address, fn, args...)``: ``fn(task, vma, args...)`` for the area there (5.17)."""
        if node.keywords or len(node.args) < 3:
            raise self.error(node, "find_vma() takes a task, an address, an @inline function and its further arguments")
        task = self._plain_argument("task", self.expr(node.args[0]), node.args[0])
        address = self.operand(self.number(self.expr(node.args[1]), node.args[1]))
        inline = self.inline_argument(node.args[2], "find_vma()")
        more = self.further_arguments(node.args[3:])
        area = _area_type()
        slots: list[Slot] = []
        given: list[Callable[[int], Value] | None] = [
            lambda register: Pointer(self.unit.task_struct, BTF, register),
            lambda register: Pointer(area, BTF, register),
        ]
        function, data = self.callback(inline, given, more, node, None, slots)
        result = self.call(FIND_VMA, task, address, function, data, Imm(0))
        self.release(slots)
        return Int(i64, result)

    # --- from the parts built on this

    def _begin(self, node: ast.FunctionDef) -> None:
        """Start a function's entry block."""
        raise NotImplementedError


def _area_type() -> StructType:
    """The kernel's vm_area_struct, as ``pybpf.ktypes`` declares it; cast() makes another view of it."""
    from pybpf import ktypes

    layout = ktypes.vm_area_struct.layout
    assert isinstance(layout, StructType)
    return layout
