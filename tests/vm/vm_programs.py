"""Programs in specifications, to be run by the interpreter and by the kernel alike."""

from __future__ import annotations

import sys
from contextlib import contextmanager

from btf.builder import Builder
from pybpf import abi
from pybpf.asm.insn import Insn, alu64, encode, exit_, ld_imm64
from pybpf.asm.opcodes import BPF_CALL, BPF_JMP, BPF_MOV, BPF_PSEUDO_CALL
from pybpf.loader import Collection
from pybpf.object.spec import RELOC_CALL, RELOC_DATA, RELOC_FUNC, RELOC_MAP, MapSpec, ObjectSpec, ProgramSpec, Reloc
from pybpf.vm import Vm

ZERO_KEY = bytes(4)


def mov(dst: int, src: int) -> Insn:
    return alu64(BPF_MOV, dst, src)


def movi(dst: int, imm: int) -> Insn:
    return alu64(BPF_MOV, dst, imm=imm)


class Body:
    """Code with its references; ``place`` is where the next instruction goes."""

    def __init__(self, name: str = "main", section: str = "syscall") -> None:
        self.name = name
        self.section = section
        self.insns: list[Insn] = []
        self.relocs: list[Reloc] = []
        self.slots = 0

    def add(self, *insns: Insn) -> Body:
        for insn in insns:
            self.insns.append(insn)
            self.slots += insn.slots
        return self

    def reference(self, insn: Insn, kind: str, target: str, addend: int = 0) -> Body:
        self.relocs.append(Reloc(self.slots, kind, target, addend))
        return self.add(insn)

    def map(self, dst: int, name: str) -> Body:
        return self.reference(ld_imm64(dst, 0), RELOC_MAP, name)

    def data(self, dst: int, name: str, offset: int = 0) -> Body:
        return self.reference(ld_imm64(dst, 0), RELOC_DATA, name, offset)

    def function(self, dst: int, name: str) -> Body:
        return self.reference(ld_imm64(dst, 0), RELOC_FUNC, name)

    def call(self, name: str) -> Body:
        return self.reference(Insn(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, -1), RELOC_CALL, name)

    def end(self, result: int | None = None) -> Body:
        return self.add(*([] if result is None else [movi(0, result)]), exit_())


def array(name: str, value_size: int, entries: int = 1, contents: bytes | None = None) -> MapSpec:
    spec = MapSpec(name, abi.MAP_TYPE_ARRAY, 4, value_size, entries)
    if contents is not None:
        spec.contents = bytearray(contents)
    return spec


def make_object(bodies: list[Body], maps: list[MapSpec], byteorder: str = sys.byteorder) -> ObjectSpec:
    spec = ObjectSpec(byteorder)
    spec.license = "GPL"
    types = Builder(byteorder)
    proto = types.func_proto(types.int("int", 4, signed=True), [])
    for body in bodies:
        program = ProgramSpec(body.name, body.section, encode(body.insns, byteorder))
        program.relocs = body.relocs
        # Callbacks must be static functions, which only BTF can tell.
        program.func_info = [(0, types.func(body.name, proto, 0 if body.section == ".text" else 1))]
        spec.programs[body.name] = program
    for one in maps:
        spec.maps[one.name] = one
    spec.btf = types.to_bytes()
    return spec


def pack(values: list[int]) -> bytes:
    return b"".join(value.to_bytes(8, sys.byteorder) for value in values)


def unpack(raw: bytes, byteorder: str = sys.byteorder) -> list[int]:
    return [int.from_bytes(raw[at : at + 8], byteorder) for at in range(0, len(raw), 8)]


def run_vm(spec: ObjectSpec, out: str = "out") -> list[int]:
    """What the program ``main`` leaves in the map ``out``, as 64-bit numbers."""
    vm = Vm(spec)
    vm.run("main")
    return unpack(vm.maps[out].lookup(ZERO_KEY), spec.byteorder)


def run_kernel(spec: ObjectSpec, out: str = "out") -> list[int]:
    with Collection(spec, ["main"]) as loaded:
        loaded.programs["main"].test_run()
        return unpack(loaded.maps[out].lookup(ZERO_KEY))


@contextmanager
def loaded_both(spec: ObjectSpec, *programs: str, **options):
    """An interpreter and a kernel collection of the same object."""
    with Collection(spec, programs or ["main"]) as loaded:
        yield Vm(spec, **options), loaded
