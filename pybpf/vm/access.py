"""Loads, stores and atomic instructions: RFC 9669, sections 5.2 and 5.3, and those of Linux 6.15."""

from __future__ import annotations

from struct import Struct
from typing import Callable

from pybpf.asm.insn import Insn
from pybpf.asm.opcodes import (
    BPF_ADD,
    BPF_AND,
    BPF_ATOMIC,
    BPF_CMPXCHG,
    BPF_FETCH,
    BPF_LDX,
    BPF_LOAD_ACQ,
    BPF_MEMSX,
    BPF_OR,
    BPF_ST,
    BPF_STORE_REL,
    BPF_XCHG,
    BPF_XOR,
    SIZE_BYTES,
)
from pybpf.vm.arithmetic import Registers, Step
from pybpf.vm.memory import M32, M64, Memory

_LAYOUTS = {
    (size, order, signed): Struct(("<" if order == "little" else ">") + (letter.lower() if signed else letter))
    for size, letter in ((1, "B"), (2, "H"), (4, "I"), (8, "Q"))
    for order in ("little", "big")
    for signed in (False, True)
}


def _layout(size: int, byteorder: str, signed: bool = False) -> Struct:
    return _LAYOUTS[size, byteorder, signed]


def memory_step(insn: Insn, registers: Registers, memory: Memory) -> Step:
    """What executes a valid instruction of class BPF_LDX, BPF_ST or BPF_STX."""
    kind, mode, size = insn.op & 0x07, insn.op & 0xE0, SIZE_BYTES[insn.op & 0x18]
    if kind == BPF_LDX:
        return _load(insn, registers, memory, size, mode == BPF_MEMSX)
    if mode == BPF_ATOMIC:
        if insn.imm == BPF_LOAD_ACQ:
            return _load_acquire(insn, registers, memory, size)
        if insn.imm == BPF_STORE_REL:
            return _store_release(insn, registers, memory, size)
        return _atomic(insn, registers, memory, size)
    if kind == BPF_ST:
        return _store_immediate(insn, registers, memory, size)
    return _store(insn, registers, memory, size)


def _load(insn: Insn, r: Registers, memory: Memory, size: int, signed: bool) -> Step:
    d, s, off = insn.dst, insn.src, insn.off
    find, slow = memory.pages.get, memory.load
    unpack = _layout(size, memory.byteorder, signed).unpack_from
    sign = 1 << 8 * size - 1

    def step() -> None:
        address = r[s] + off
        region = find(address >> 32)
        if region is not None:
            at = address & M32
            end = at + size
            if end <= region.readable:
                init = region.init
                if init is None or (not at % size and init.find(0, at, end) < 0):
                    r[d] = unpack(region.data, at)[0] & M64 if signed else unpack(region.data, at)[0]
                    return
        value = slow(address & M64, size)
        r[d] = (value ^ sign) - sign & M64 if signed else value

    return step


def _store(insn: Insn, r: Registers, memory: Memory, size: int) -> Step:
    d, s, off = insn.dst, insn.src, insn.off
    find, slow = memory.pages.get, memory.store
    pack = _layout(size, memory.byteorder).pack_into
    mask = (1 << 8 * size) - 1
    ones = b"\1" * size

    def step() -> None:
        address = r[d] + off
        value = r[s] & mask
        region = find(address >> 32)
        if region is not None:
            at = address & M32
            end = at + size
            if end <= region.writable:
                init = region.init
                if init is None:
                    pack(region.data, at, value)
                    return
                if not at % size:
                    pack(region.data, at, value)
                    init[at:end] = ones
                    return
        slow(address & M64, size, value)

    return step


def _store_immediate(insn: Insn, r: Registers, memory: Memory, size: int) -> Step:
    d, off, slow = insn.dst, insn.off, memory.store
    value = insn.imm & (1 << 8 * size) - 1

    def step() -> None:
        slow(r[d] + off & M64, size, value)

    return step


def _load_acquire(insn: Insn, r: Registers, memory: Memory, size: int) -> Step:
    d, s, off, locate = insn.dst, insn.src, insn.off, memory.atomic
    unpack = _layout(size, memory.byteorder).unpack_from

    def step() -> None:
        region, at = locate(r[s] + off & M64, size, True, False)
        r[d] = unpack(region.data, at)[0]

    return step


def _store_release(insn: Insn, r: Registers, memory: Memory, size: int) -> Step:
    d, s, off, locate = insn.dst, insn.src, insn.off, memory.atomic
    pack = _layout(size, memory.byteorder).pack_into
    mask = (1 << 8 * size) - 1

    def step() -> None:
        value = r[s] & mask
        region, at = locate(r[d] + off & M64, size, False, True)
        pack(region.data, at, value)

    return step


_OPERATIONS: dict[int, Callable[[int, int], int]] = {
    BPF_ADD: lambda old, operand: old + operand,
    BPF_OR: lambda old, operand: old | operand,
    BPF_AND: lambda old, operand: old & operand,
    BPF_XOR: lambda old, operand: old ^ operand,
    BPF_XCHG & ~BPF_FETCH: lambda old, operand: operand,
}


def _atomic(insn: Insn, r: Registers, memory: Memory, size: int) -> Step:
    d, s, off, locate = insn.dst, insn.src, insn.off, memory.atomic
    layout = _layout(size, memory.byteorder)
    unpack, pack = layout.unpack_from, layout.pack_into
    mask = (1 << 8 * size) - 1

    def compare_and_exchange() -> None:
        expected = r[0] & mask
        value = r[s] & mask
        region, at = locate(r[d] + off & M64, size)
        old = unpack(region.data, at)[0]
        if old == expected:
            pack(region.data, at, value)
        r[0] = old

    if insn.imm == BPF_CMPXCHG:
        return compare_and_exchange
    operation = _OPERATIONS[insn.imm & ~BPF_FETCH]
    fetch = insn.imm & BPF_FETCH

    def step() -> None:
        operand = r[s] & mask
        region, at = locate(r[d] + off & M64, size)
        old = unpack(region.data, at)[0]
        pack(region.data, at, operation(old, operand) & mask)
        if fetch:
            r[s] = old

    return step
