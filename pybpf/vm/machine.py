"""The interpreter itself: programs in, 64-bit r0 out.

Instructions are decoded once, each into a closure that works on the one list
of registers; those that run one after the other form a block, whose last one
gives the slot to go on at. All programs of a Vm lie in one space of slots, so
that calls, tail calls and callbacks are jumps with a frame.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, NamedTuple, Union

from btf.core import Relocator
from btf.reader import Btf
from pybpf import linker
from pybpf.asm import disasm
from pybpf.asm.insn import Insn, decode, encode
from pybpf.asm.opcodes import (
    MAX_BPF_STACK,
)
from pybpf.errors import AsmError
from pybpf.object.spec import MapSpec, ObjectSpec, ProgramSpec
from pybpf.vm import timers
from pybpf.vm.arithmetic import Step
from pybpf.vm.blocks import CALLER_SAVED, Block, Decoder
from pybpf.vm.code import Code, reads
from pybpf.vm.context import LAYOUTS, PacketContext
from pybpf.vm.environment import Environment
from pybpf.vm.errors import VmError
from pybpf.vm.helpers import HELPERS, Helper
from pybpf.vm.maps import MapModel
from pybpf.vm.memory import M32, M64, Memory, Order, Region, StackFrame
from pybpf.vm.othermaps import ProgArray, RingBufMap, has_model, make_map

MAX_CALL_FRAMES = 8
MAX_TAIL_CALL_CNT = 33
BPF_MAX_LOOPS = 8 * 1024 * 1024  # kernel/bpf/verifier.c; newer kernels measure time instead
DEFAULT_BUDGET = 10_000_000
_KFUNC_IDS = 1 << 24  # made-up BTF ids of kfuncs that have a name

RawCode = Union[bytes, bytearray, Sequence[Insn]]
Maps = Union[Mapping[str, Union[MapModel, MapSpec]], Iterable[Union[MapModel, MapSpec]]]


class _Frame(NamedTuple):
    """What a call leaves to be restored; ``slot`` is where to go on, negative in the bottom frame and of callbacks."""

    slot: int
    saved: tuple[Any, ...]
    stack: Region


class _Unit(NamedTuple):
    """A loaded program: ``base`` is the slot of its first instruction in the space of all programs."""

    base: int
    code: Code
    linked: linker.Linked | None
    kind: str


class Vm:
    """An interpreter with its programs, maps and memory.

    ``program`` is an ObjectSpec, the code of one program (bytes, or Insn
    objects), or a mapping of names to codes. ``maps``: models or specifications
    to use, by name, or in a row; in raw code a map's descriptor is its position
    in there. With an ObjectSpec they take the place of the object's own ones.
    ``helpers`` adds or replaces helpers by number: ``f(vm, r1, r2 ...)`` with as
    many arguments as the helper has, which gives r0, or None for a helper that
    returns nothing; ``kfuncs`` the same by name, or BTF id in raw code; ``ksyms``
    addresses of the kernel's variables by name. ``core`` applies CO-RE
    relocations: a Relocator, or the Btf of the kernel to pretend; without it the
    object's own offsets stay. ``byteorder`` is for raw code; an object has its
    own. ``cpus`` is how many CPUs per-CPU maps have values for. ``budget`` limits
    the instructions of one run, ``max_loops`` how often may_goto goes on in one
    frame. ``probe_mem``: see Memory.

    ``maps`` maps names to models, ``memory`` is what programs can reach,
    ``environment`` what helpers tell of process, time and machine. After a run
    ``executed`` is the number of instructions, ``trace`` what bpf_trace_printk
    wrote so far, ``packet`` the packet as the program left it.

    Raises VmError, at construction for what the arguments lack, at the first
    run of a program for code that is malformed. Not thread-safe.
    """

    def __init__(
        self,
        program: ObjectSpec | RawCode | Mapping[str, RawCode],
        *,
        maps: Maps = (),
        helpers: Mapping[int, Callable[..., int | None]] | None = None,
        kfuncs: Mapping[int | str, Callable[..., int | None]] | None = None,
        ksyms: Mapping[str, int] | None = None,
        core: Relocator | Btf | None = None,
        byteorder: Order = "little",
        cpus: int = 1,
        budget: int = DEFAULT_BUDGET,
        max_loops: int = BPF_MAX_LOOPS,
        probe_mem: bool = False,
    ) -> None:
        self.spec = program if isinstance(program, ObjectSpec) else None
        if self.spec is not None:
            byteorder = "big" if self.spec.byteorder == "big" else "little"
        self.byteorder: Order = byteorder
        self.cpus = cpus
        self.budget = budget
        self.max_loops = max_loops
        self.environment: Environment = Environment()
        self.memory = Memory(byteorder, probe_mem)
        self.trace: list[str] = []
        self.packet = b""
        self.executed = 0
        self.context: Region | None = None
        self.registers: list[Any] = [None] * 11
        self.reserved: dict[int, RingBufMap] = {}
        self.locked: int | None = None
        self.timers: dict[int, timers.Timer] = {}  # by address
        self.timer_running: timers.Timer | None = None
        self._raw: dict[str, RawCode] = {}
        if isinstance(program, Mapping):
            self._raw = dict(program)
        elif not isinstance(program, ObjectSpec):
            self._raw = {"main": program}
        self.helpers = dict(HELPERS)
        for number, function in (helpers or {}).items():
            self.add_helper(number, function)
        self.kfuncs: dict[int, Helper] = {}
        self._symbols = {name: linker.Symbol("address", value) for name, value in (ksyms or {}).items()}
        for number, (id, function) in enumerate((kfuncs or {}).items()):
            if isinstance(id, str):
                self._symbols[id] = linker.Symbol("btf", _KFUNC_IDS + number)
                self.kfuncs[_KFUNC_IDS + number] = _as_helper(function, id)
            else:
                self.kfuncs[id] = _as_helper(function, f"kfunc {id}")
        self._relocator: Relocator | None = None
        self._core = core
        self.maps: dict[str, MapModel] = {}
        self.map_order: list[MapModel] = []
        self._handles: dict[int, MapModel] = {}
        self._add_maps(maps)
        self._decoder = Decoder(self)
        self._left = [0]
        self._tail_calls = 0
        self._frames: list[_Frame] = []
        self.loops: list[int] = []
        self._blocks: list[Block | None] = []
        self._units: list[_Unit] = []
        self._by_name: dict[str, _Unit] = {}
        # Addresses that stand for functions, and the slots these begin at; and the other way round.
        self.functions: dict[int, int] = {}
        self.function_regions: dict[int, Region] = {}

    # --- set-up -----------------------------------------------------------------------

    def _add_maps(self, given: Maps) -> None:
        named = given.items() if isinstance(given, Mapping) else [(one.name, one) for one in given]
        for name, one in named:
            self._add_map(name, make_map(one, self.byteorder, self.cpus) if isinstance(one, MapSpec) else one)
        for name, spec in (self.spec.maps if self.spec is not None else {}).items():
            # A map of a type without a model hurts only if a program uses it.
            if name not in self.maps and has_model(spec):
                self._add_map(name, make_map(spec, self.byteorder, self.cpus))

    def _add_map(self, name: str, model: MapModel) -> None:
        if model.byteorder != self.byteorder:
            raise VmError(f"{model} is {model.byteorder}-endian, the program {self.byteorder}-endian")
        self.maps[name] = model
        self.map_order.append(model)
        self.map_address(model)

    def add_helper(self, number: int, function: Callable[..., int | None], name: str = "") -> None:
        """Add or replace the helper of that number; see the class for what ``function`` is."""
        known = self.helpers.get(number)
        self.helpers[number] = _as_helper(function, name or (known.name if known is not None else f"helper {number}"))

    @property
    def programs(self) -> list[str]:
        """Names of the programs that can be run, subprograms included."""
        return list(self.spec.programs if self.spec is not None else self._raw)

    # --- running ------------------------------------------------------------------------

    def run(
        self,
        program: str = "",
        *,
        ctx: bytes | bytearray | None = None,
        packet: bytes | None = None,
        args: Sequence[int] | None = None,
        kind: str = "",
        budget: int | None = None,
    ) -> int:
        """Run a program and return r0, 64 bits, unsigned.

        r1 points to ``ctx``, which programs may write if it is a bytearray (that
        then shows it); or to the context of ``packet``, a frame from its Ethernet
        header on, as the program's section wants it (``kind``: xdp, tc, action or
        socket, says so for raw code); or r1 to r5 are ``args``. ``program`` may be
        left out when there is but one. Raises VmError.
        """
        unit = self._unit(program)
        self.memory.reset()
        self._reset(self.budget if budget is None else budget)
        r = self.registers
        r[:] = [None] * 11
        for number, value in enumerate(args or ()):
            if number == 5:
                raise VmError("a program takes 5 arguments at most")
            r[number + 1] = value & M64
        if packet is not None:
            self.context = PacketContext(self.memory, kind or unit.kind, packet)
            r[1] = self.memory.map_computed(self.context)
        elif args is None:
            raw = ctx if isinstance(ctx, bytearray) else bytearray(ctx or b"")
            self.context = Region(raw, "the context", writable=isinstance(ctx, bytearray), atomic=False)
            r[1] = self.memory.map(self.context)
        try:
            self.push(-1, unit.code.name)
            self._execute(unit.base)
        finally:
            self.executed = (self.budget if budget is None else budget) - max(self._left[0], 0)
            if isinstance(self.context, PacketContext):
                self.packet = self.context.skipped + bytes(self.context.packet.data)
        return int(r[0])

    def run_timers(self, nsecs: int, *, budget: int | None = None) -> int:
        """Let ``nsecs`` pass, and call back the timers whose time is up then; how many calls. Raises VmError."""
        self.memory.reset()
        self._reset(self.budget if budget is None else budget)
        self.environment.time += nsecs
        return timers.run_due(self)

    def _reset(self, budget: int) -> None:
        self._left[0] = budget
        self._tail_calls = 0
        self._frames.clear()
        self.loops.clear()
        self.reserved.clear()
        self.locked = None
        self.context = None

    def _execute(self, slot: int) -> None:
        """Run from a slot until the frame that was pushed last is gone."""
        blocks, left = self._blocks, self._left
        step: Step = int
        block = None
        try:
            while slot >= 0:
                block = blocks[slot]
                assert block is not None
                left[0] -= block.size
                if left[0] < 0:
                    step = block.last
                    raise VmError(
                        "the instruction budget is used up: the program does not end, or give a larger budget"
                    )
                for step in block.body:
                    step()
                step = block.last
                slot = block.last()
        except VmError as error:
            assert block is not None
            raise self._located(error, block, step) from None
        except TypeError:
            assert block is not None
            at = self._slot_of(block, step)
            unit = self._unit_at(at)
            insn = unit.code.slots[at - unit.base]
            assert insn is not None
            for register in reads(insn):
                if self.registers[register] is None:
                    unset = VmError(f"r{register} was never written, or was cleared by a call")
                    raise self._located(unset, block, step) from None
            raise  # a mistake in a helper of the caller's

    def _slot_of(self, block: Block, step: Step) -> int:
        for at, one in zip(block.slots, block.body):
            if one is step:
                return at
        return block.slots[-1]

    def _unit_at(self, slot: int) -> _Unit:
        return next(unit for unit in reversed(self._units) if unit.base <= slot)

    def _located(self, error: VmError, block: Block, step: Step) -> VmError:
        if error.index >= 0:
            return error
        slot = self._slot_of(block, step)
        unit = self._unit_at(slot)
        at = slot - unit.base
        insn = unit.code.slots[at]
        function, inside = unit.code.name, at
        if unit.linked is not None:
            part, inside = unit.linked.function_at(at)
            function = part.name
        shown = [f"r{n} = {'unset' if v is None else hex(v)}" for n, v in enumerate(self.registers)]
        error.details = error.details or "\n".join(shown)
        return error.locate(unit.code.name, function, inside, "" if insn is None else disasm.text(insn))

    # --- for helpers ----------------------------------------------------------------------

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the program's memory. Raises VmError."""
        return self.memory.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Write into the program's memory. Raises VmError."""
        self.memory.write(address, data)

    def map_address(self, model: MapModel) -> int:
        """The address that stands for a map, also for one that only an entry of another holds."""
        address = self.memory.map(model.handle, permanent=True)
        self._handles[address] = model
        return address

    def map_at(self, address: int) -> MapModel:
        """The map that an address stands for. Raises VmError."""
        model = self._handles.get(address)
        if model is None:
            raise VmError(f"{address:#x} is no map: the helper wants the address that a 64-bit load of a map gives")
        return model

    def call(self, function: int, *args: int) -> int:
        """Call back the program's function at an address that a 64-bit load of a function gave; its r0."""
        slot = self.functions.get(function)
        if slot is None:
            raise VmError(f"{function:#x} is no function: the helper wants the address that a 64-bit load of one gives")
        r = self.registers
        before = r[1:6]
        self.push(-1, "a callback")
        r[1:6] = [value & M64 for value in args] + [None] * (5 - len(args))
        r[0] = None
        self._execute(slot)
        r[1:6] = before
        return int(r[0])

    # --- frames -----------------------------------------------------------------------------

    def push(self, back: int, name: str) -> None:
        if len(self._frames) >= MAX_CALL_FRAMES:
            raise VmError(f"calls are nested deeper than {MAX_CALL_FRAMES} frames")
        r = self.registers
        stack = StackFrame(MAX_BPF_STACK, f"the stack frame of {name}")
        self._frames.append(_Frame(back, tuple(r[6:11]), stack))
        self.loops.append(self.max_loops)
        r[6:10] = [None] * 4
        r[10] = self.memory.map(stack) + MAX_BPF_STACK

    def exit(self) -> int:
        r, frames = self.registers, self._frames
        if frames[-1].slot < 0:
            r[0] + 0  # raises TypeError while r0 is unset; only a subprogram may leave it so
            if len(frames) == 1:
                self._check_released()
        frame = frames.pop()
        self.loops.pop()
        self.memory.unmap(frame.stack)
        r[1:6] = CALLER_SAVED
        r[6:11] = frame.saved
        return frame.slot

    def _check_released(self) -> None:
        for address, ring in self.reserved.items():
            raise VmError(f"exits with a record of {ring} at {address:#x} neither submitted nor discarded")
        if self.locked is not None:
            raise VmError(f"exits with the spin lock at {self.locked:#x} held")

    def tail_call(self, following: int) -> int:
        r = self.registers
        if r[1] is None or r[2] is None or r[3] is None:
            raise VmError(f"r{next(n for n in (1, 2, 3) if r[n] is None)} was never written, or was cleared by a call")
        context, array, index = r[1], self.map_at(r[2]), r[3] & M32
        if not isinstance(array, ProgArray):
            raise VmError(f"tail call into {array}, which is no program array")
        if self.context is None or context != self.context.base:
            raise VmError(f"tail call with {context:#x} as context, which is not the program's")
        name = array.programs.get(index)
        r[0:6] = [None] * 6  # a call that fails says nothing in r0: what is there depends on the JIT
        if name is None or index >= array.max_entries or self._tail_calls >= MAX_TAIL_CALL_CNT:
            return following
        self._tail_calls += 1
        unit = self._unit(name)
        frame = self._frames.pop()
        self.loops.pop()
        self.memory.unmap(frame.stack)
        r[6:11] = frame.saved
        self.push(frame.slot, unit.code.name)
        r[1] = context
        return unit.base

    # --- loading ------------------------------------------------------------------------------

    def _unit(self, name: str) -> _Unit:
        if not name:
            names = self.programs
            if self.spec is not None:
                names = [one for one, spec in self.spec.programs.items() if not spec.section.startswith(".text")]
            if len(names) != 1:
                raise VmError(f"say which program to run; there are: {', '.join(names) or 'none'}")
            name = names[0]
        unit = self._by_name.get(name)
        if unit is None:
            unit = self._by_name[name] = self._load(name)
        return unit

    def _load(self, name: str) -> _Unit:
        if name not in self.programs:
            raise VmError(f"there is no program {name!r}; there are: {', '.join(self.programs) or 'none'}")
        linked = None
        kind = "socket"
        if self.spec is not None:
            linked = linker.Linked(linker.functions_of(self.spec, name), self._relocated, self.byteorder)
            missing = sorted(linker.maps_of([part for _, part in linked.parts]) - self.maps.keys())
            if missing:
                raise VmError(f"program {name!r} uses {missing[0]!r}, of which there is no model: give one in maps=")
            fds = {map: self.map_order.index(model) for map, model in self.maps.items()}
            linked.bind(fds, self._externs(name, [part for _, part in linked.parts]))
            raw = bytes(linked.insns)
            kind = self.spec.programs[name].section.lstrip("?").partition("/")[0]
            kind = kind if kind in LAYOUTS else "tc" if kind == "classifier" else "socket"
        else:
            source = self._raw[name]
            try:
                raw = bytes(source) if isinstance(source, (bytes, bytearray)) else encode(list(source), self.byteorder)
            except AsmError as error:
                raise VmError(f"program {name!r}: {error}") from None
        try:
            code = Code(name, decode(raw, self.byteorder))
        except AsmError as error:
            raise VmError(f"program {name!r}: {error}") from None
        unit = _Unit(len(self._blocks), code, linked, kind)
        blocks = self._decoder.blocks(unit.base, code)  # all or nothing: an error leaves no half of it
        self._units.append(unit)
        self._blocks += blocks
        return unit

    def _externs(self, program: str, parts: list[ProgramSpec]) -> dict[str, linker.Symbol]:
        assert self.spec is not None
        found = {}
        for name in sorted(linker.externs_of(parts)):
            extern = self.spec.externs.get(name)
            if name in self._symbols:
                found[name] = self._symbols[name]
            elif extern is not None and extern.weak:
                found[name] = linker.Symbol("missing")
            else:
                raise VmError(f"program {program!r} uses the kernel's {name!r}: give it in kfuncs= or ksyms=")
        return found

    def _relocated(self, function: ProgramSpec) -> bytes:
        if not function.core_relos or self._core is None:
            return bytes(function.insns)
        if self._relocator is None:
            if isinstance(self._core, Relocator):
                self._relocator = self._core
            else:
                assert self.spec is not None
                self._relocator = Relocator(Btf(self.spec.btf), self._core)
        raw = bytearray(function.insns)
        self._relocator.relocate(raw, function.core_relos, function.name, self.byteorder)
        return bytes(raw)


def _as_helper(function: Callable[..., int | None], name: str) -> Helper:
    """Find out how many registers ``function`` takes, apart from the Vm."""
    params = 0
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            params += 1
        elif parameter.kind is parameter.VAR_POSITIONAL:
            raise VmError(f"{name}: a helper names its arguments; *{parameter.name} does not say how many it has")
    if not 1 <= params <= 6:
        raise VmError(
            f"{name}: a helper is a function of the Vm and up to 5 registers; this one has {params} arguments"
        )
    return Helper(name, params - 1, function)
