"""From checked code to closures: each instruction becomes a step, those that run in a row become a block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from btf.core_patch import POISON_HELPER
from pybpf.asm import disasm
from pybpf.asm.insn import Insn
from pybpf.asm.opcodes import (
    BPF_ALU,
    BPF_ALU64,
    BPF_CALL,
    BPF_EXIT,
    BPF_IND,
    BPF_JA,
    BPF_JCOND,
    BPF_JMP,
    BPF_LD,
    BPF_PSEUDO_CALL,
    BPF_PSEUDO_FUNC,
    BPF_PSEUDO_KFUNC_CALL,
    BPF_PSEUDO_MAP_FD,
    BPF_PSEUDO_MAP_IDX,
    LD_IMM64,
    SIZE_BYTES,
)
from pybpf.vm.access import memory_step
from pybpf.vm.arithmetic import Jump, Step, alu_step, jump_step
from pybpf.vm.code import Code, function_reference, jump_distance
from pybpf.vm.context import PacketContext
from pybpf.vm.errors import VmError
from pybpf.vm.helpers import TAIL_CALL, Helper
from pybpf.vm.memory import M32, M64, Region

if TYPE_CHECKING:
    from pybpf.vm.machine import Vm

CALLER_SAVED = [None] * 5


class Block(NamedTuple):
    """Instructions that run in a row, and the one that says where to go on (a slot, negative to stop)."""

    size: int
    body: tuple[Step, ...]
    last: Jump
    slots: tuple[int, ...]


class Decoder:
    """Makes the blocks of programs, with steps that work on the registers, memory and maps of one Vm."""

    __slots__ = ("_vm",)

    def __init__(self, vm: Vm) -> None:
        self._vm = vm

    def blocks(self, base: int, code: Code) -> list[Block | None]:
        slots = code.slots
        blocks: list[Block | None] = [None] * len(slots)
        leaders = code.leaders()
        start = 0
        body: list[Step] = []
        places: list[int] = []
        for at, insn in enumerate(slots):
            if insn is None:
                continue
            if not body:
                start = at
            following = at + insn.slots
            places.append(base + at)
            try:
                jump = self._jump(insn, base + at)
                if jump is None:
                    body.append(self._step(insn, base + at))
            except VmError as error:
                text = disasm.text(insn)
                raise error.locate(code.name, code.name, at, text) from None
            if jump is None and following not in leaders:
                continue
            last = _goto(base + following) if jump is None else jump
            blocks[start] = Block(len(places), tuple(body), last, tuple(places))
            body, places = [], []
            leaders.add(following)
        return blocks

    def _jump(self, insn: Insn, at: int) -> Jump | None:
        """What executes an instruction after which not always the next one follows; None for all others."""
        kind, code = insn.op & 0x07, insn.op & 0xF0
        if kind == BPF_LD and insn.op != LD_IMM64:
            return self._packet_load(insn, at)
        if not insn.is_jump:
            if insn.op == BPF_JMP | BPF_EXIT:
                return self._vm.exit
            if insn.op == BPF_JMP | BPF_CALL and insn.src == BPF_PSEUDO_CALL:
                return self._call(at + 1 + insn.imm, at + 1)
            if insn.op == BPF_JMP | BPF_CALL and not insn.src and insn.imm == TAIL_CALL:
                return lambda: self._vm.tail_call(at + 1)
            return None
        target = at + 1 + jump_distance(insn)
        if code == BPF_JA:
            return _goto(target)
        if code == BPF_JCOND:
            return self._may_goto(target, at + 1)
        return jump_step(insn, self._vm.registers, target, at + 1)

    def _call(self, target: int, following: int) -> Jump:
        def call() -> int:
            self._vm.push(following, "a subprogram")
            self._vm.registers[0] = None
            return target

        return call

    def _may_goto(self, target: int, following: int) -> Jump:
        loops = self._vm.loops

        def may_goto() -> int:
            if not loops[-1]:
                return target
            loops[-1] -= 1
            return following

        return may_goto

    def _packet_load(self, insn: Insn, at: int) -> Jump:
        r = self._vm.registers
        size, indirect = SIZE_BYTES[insn.op & 0x18], insn.op & 0xE0 == BPF_IND

        def load() -> int:
            context = self._vm.context
            if r[6] + 0 != (context.base if isinstance(context, PacketContext) and context.kind != "xdp" else -1):
                raise VmError("a packet load needs the context of a packet (not of an xdp program) in r6")
            assert isinstance(context, PacketContext)
            offset = insn.imm + (r[insn.src] if indirect else 0) & M32
            value = context.classic(offset - (1 << 32) if offset >> 31 else offset, size)
            r[0:6] = [value] + [None] * 5
            if value is None:
                # Beyond the packet the program ends with 0, whichever of its functions this is.
                r[0] = 0
                return self._vm.exit()
            return at + 1

        return load

    def _step(self, insn: Insn, at: int) -> Step:
        kind = insn.op & 0x07
        if insn.op == LD_IMM64:
            return _set(self._vm.registers, insn.dst, self._immediate(insn, at))
        if kind == BPF_JMP:
            return self._helper_call(insn)
        if kind in (BPF_ALU, BPF_ALU64):
            return alu_step(insn, self._vm.registers, self._vm.byteorder)
        return memory_step(insn, self._vm.registers, self._vm.memory)

    def _immediate(self, insn: Insn, at: int) -> int:
        if not insn.src:
            return insn.imm
        low, high = insn.imm & M32, insn.imm >> 32
        if insn.src == BPF_PSEUDO_FUNC:
            distance = function_reference(insn)
            assert distance is not None
            return self._function_address(at + 1 + distance)
        if low >= len(self._vm.map_order):
            raise VmError(f"loads map number {low}, but there are {len(self._vm.map_order)} maps")
        model = self._vm.map_order[low]
        if insn.src in (BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_IDX):
            if high:
                raise VmError("a map's address has an offset")
            return model.handle.base
        region = model.direct()
        if high >= len(region.data):
            raise VmError(f"offset {high} is outside the {len(region.data)} bytes of the value of {model}")
        return self._vm.memory.map(region, permanent=True) + high

    def _function_address(self, slot: int) -> int:
        region = self._vm.function_regions.get(slot)
        if region is None:
            region = self._vm.function_regions[slot] = Region(bytearray(), "the code of a function")
            self._vm.functions[self._vm.memory.map(region, permanent=True)] = slot
        return region.base

    def _helper_call(self, insn: Insn) -> Step:
        number = insn.imm
        if insn.src == BPF_PSEUDO_KFUNC_CALL:
            if number not in self._vm.kfuncs:
                raise VmError(f"calls kfunc {number}, which the interpreter was not given")
            return _helper_step(self._vm, self._vm.kfuncs[number])
        helper = self._vm.helpers.get(number)
        if helper is not None:
            return _helper_step(self._vm, helper)

        def unknown() -> None:
            if number == POISON_HELPER:
                raise VmError(
                    "reached what the target lacks: an instruction that CO-RE poisoned, or a kfunc that is missing"
                )
            raise VmError(f"calls helper {number}, which the interpreter does not know: give it in helpers=")

        # The verifier accepts an unknown helper in code that is never reached, so this is an error only when it runs.
        return unknown


def _goto(slot: int) -> Jump:
    return lambda: slot


def _set(registers: list[Any], number: int, value: int) -> Step:
    def step() -> None:
        registers[number] = value

    return step


def _helper_step(vm: Vm, helper: Helper) -> Step:
    r, function, end = vm.registers, helper.function, 1 + helper.params

    def step() -> None:
        args = r[1:end]
        if None in args:
            raise VmError(f"{helper.name}: r{args.index(None) + 1} was never written, or was cleared by a call")
        result = function(vm, *args)
        r[0] = None if result is None else result & M64
        r[1:6] = CALLER_SAVED

    return step
