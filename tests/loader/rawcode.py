"""Bytecode by hand, for tests of the loader that must not depend on the assembler or the compiler."""

from __future__ import annotations

import os
import struct
import sys

from pybpf import abi
from pybpf.object.spec import RELOC_CALL, RELOC_DATA, RELOC_FUNC, RELOC_MAP, MapSpec, ObjectSpec, ProgramSpec, Reloc

LITTLE = sys.byteorder == "little"

# Helper numbers (include/uapi/linux/bpf.h).
MAP_LOOKUP_ELEM = 1
MAP_UPDATE_ELEM = 2
GET_CURRENT_PID_TGID = 14
TAIL_CALL = 12
RINGBUF_OUTPUT = 130
RINGBUF_RESERVE = 131
RINGBUF_SUBMIT = 132
RINGBUF_DISCARD = 133


def insn(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    registers = src << 4 | dst if LITTLE else dst << 4 | src
    return struct.pack("=BBhi", code, registers, off, imm)


def mov(dst: int, imm: int) -> bytes:
    return insn(0xB7, dst, imm=imm)


def movr(dst: int, src: int) -> bytes:
    return insn(0xBF, dst, src)


def addi(dst: int, imm: int) -> bytes:
    return insn(0x07, dst, imm=imm)


def rshi(dst: int, imm: int) -> bytes:
    return insn(0x77, dst, imm=imm)


def load(size: int, dst: int, src: int, off: int) -> bytes:
    return insn({8: 0x79, 4: 0x61, 2: 0x69, 1: 0x71}[size], dst, src, off)


def store(size: int, dst: int, src: int, off: int) -> bytes:
    return insn({8: 0x7B, 4: 0x63, 2: 0x6B, 1: 0x73}[size], dst, src, off)


def storei(size: int, dst: int, off: int, imm: int) -> bytes:
    return insn({8: 0x7A, 4: 0x62, 2: 0x6A, 1: 0x72}[size], dst, 0, off, imm)


def ld64(dst: int, value: int = 0) -> bytes:
    return insn(0x18, dst, imm=value) + insn(0)


def jmp(off: int) -> bytes:
    return insn(0x05, off=off)


def jeqi(dst: int, imm: int, off: int) -> bytes:
    return insn(0x15, dst, 0, off, imm)


def jner(dst: int, src: int, off: int) -> bytes:
    return insn(0x5D, dst, src, off)


def call(helper: int) -> bytes:
    return insn(0x85, imm=helper)


def callsub() -> bytes:
    return insn(0x85, src=1, imm=-1)


EXIT = insn(0x95)


class Code:
    """Collects instructions and the relocations among them."""

    def __init__(self) -> None:
        self.raw = b""
        self.relocs: list[Reloc] = []

    def add(self, *parts: bytes) -> Code:
        self.raw += b"".join(parts)
        return self

    def map(self, dst: int, name: str) -> Code:
        self.relocs.append(Reloc(len(self.raw) // 8, RELOC_MAP, name))
        return self.add(ld64(dst))

    def data(self, dst: int, section: str, offset: int) -> Code:
        self.relocs.append(Reloc(len(self.raw) // 8, RELOC_DATA, section, offset))
        return self.add(ld64(dst))

    def sub(self, name: str) -> Code:
        self.relocs.append(Reloc(len(self.raw) // 8, RELOC_CALL, name))
        return self.add(callsub())

    def func(self, dst: int, name: str) -> Code:
        self.relocs.append(Reloc(len(self.raw) // 8, RELOC_FUNC, name))
        return self.add(ld64(dst))

    def program(self, name: str, section: str) -> ProgramSpec:
        spec = ProgramSpec(name, section, self.raw)
        spec.relocs = self.relocs
        return spec


def obj(*programs: ProgramSpec, maps: tuple[MapSpec, ...] = ()) -> ObjectSpec:
    spec = ObjectSpec(sys.byteorder)
    spec.license = "GPL"
    spec.programs = {program.name: program for program in programs}
    spec.maps = {map.name: map for map in maps}
    return spec


def rodata(contents: bytes, name: str = ".rodata") -> MapSpec:
    spec = MapSpec(name, abi.MAP_TYPE_ARRAY, 4, len(contents), 1)
    spec.contents = bytearray(contents)
    spec.frozen = True
    return spec


def ringbuf(name: str = "events", size: int = 65536) -> MapSpec:
    return MapSpec(name, abi.MAP_TYPE_RINGBUF, 0, 0, size)


def u32(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)


def own_pid_rodata() -> MapSpec:
    """A config section whose first 4 bytes are this process's id."""
    return rodata(u32(os.getpid()))


def emit_own(name: str, section: str, tag: int) -> ProgramSpec:
    """If the process is the one in .rodata, output ``tag`` (u64) to the ring buffer ``events``."""
    head = Code().add(call(GET_CURRENT_PID_TGID), rshi(0, 32), movr(6, 0)).data(1, ".rodata", 0)
    head.add(load(4, 1, 1, 0))
    body = Code().add(storei(8, 10, -8, tag)).map(1, "events")
    body.add(movr(2, 10), addi(2, -8), mov(3, 8), mov(4, 0), call(RINGBUF_OUTPUT))
    head.add(jner(6, 1, len(body.raw) // 8))
    base = len(head.raw) // 8
    for reloc in body.relocs:
        reloc.index += base
    head.relocs += body.relocs
    return head.add(body.raw, mov(0, 0), EXIT).program(name, section)
