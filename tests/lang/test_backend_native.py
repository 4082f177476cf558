"""Compiled functions in the kernel: random ones give the interpreter's result, typical ones pass the verifier."""

from __future__ import annotations

import errno
import os
import random
import struct

import bpf_native
import pytest
from ir_interp import IrMachine
from ir_random import Generator

from pybpf.lang import ir
from pybpf.lang.backend import generate
from pybpf.lang.ir import POINTER, Function, Imm, Ins, Slot

pytestmark = pytest.mark.native
M64 = (1 << 64) - 1
LOAD_BYTES = 26  # bpf_skb_load_bytes
CPU = 8  # bpf_get_smp_processor_id: a call that clobbers registers and does nothing else


class NativeGenerator(Generator):
    """Random functions of what needs no map, no relocation and no imaginary helper."""

    def statement(self, block):
        before = len(block.ins)
        super().statement(block)
        for ins in block.ins[before:]:
            if ins.op in (ir.CALL, ir.CALLSUB):
                ins.op, ins.imm, ins.ref = ir.CALL, CPU, None
                ins.set_operands(None)
                if ins.dst is not None:
                    dst, ins.dst = ins.dst, None
                    block.ins.append(Ins(ir.CONST, dst=dst, imm=self.constant()))
            elif ins.op in (ir.MAP, ir.DATA, ir.CORE):
                ins.op, ins.imm, ins.ref, ins.off = ir.CONST, self.constant(), None, 0
            elif ins.op == ir.LOAD:
                ins.ref = None

    def leave(self, block):
        super().leave(block)
        for ins in block.ins:
            if ins.op == ir.CALL and ins.args:
                # Instead of a call that logs: the value goes into a frame place that is read at the end.
                ins.op, ins.a, ins.off, ins.b, ins.args = ir.STORE, self.slots[0], 0, ins.args[0], ()
        result = self.func.vreg()
        block.ins.insert(-1, Ins(ir.LOAD, dst=result, a=self.slots[0]))
        block.ins[-1] = Ins(ir.RET, a=result)


def wrapper() -> Function:
    """A socket filter that calls f with two numbers from the packet and folds the result to 32 bits."""
    func = Function("main", "socket")
    block = func.block()
    ctx = func.vreg(POINTER)
    block.ins.append(Ins(ir.PARAM, dst=ctx, imm=0))
    values = []
    for i in range(2):
        slot, address, value = Slot(8), func.vreg(POINTER), func.vreg()
        block.ins += [
            Ins(ir.STORE, a=slot, b=Imm(0)),
            Ins(ir.FRAME, dst=address, ref=slot),
            Ins(ir.CALL, imm=LOAD_BYTES, args=(ctx, Imm(8 * i), address, Imm(8))),
            Ins(ir.LOAD, dst=value, a=slot),
        ]
        values.append(value)
    result, high, folded = func.vreg(), func.vreg(), func.vreg()
    block.ins += [
        Ins(ir.CALLSUB, dst=result, ref="f", args=tuple(values)),
        Ins(ir.RSH, dst=high, a=result, b=Imm(32)),
        Ins(ir.XOR, dst=folded, a=high, b=result),
        Ins(ir.RET, a=folded),
    ]
    return func


def linked(func: Function) -> bytes:
    main, sub = generate(wrapper()), generate(func)
    (call,) = main.relocs
    code = bytearray(main.code + sub.code)
    struct.pack_into("<i", code, 8 * call.index + 4, len(main.code) // 8 - call.index - 1)
    return bytes(code)


def run(fd: int, a: int, b: int) -> int:
    return bpf_native.test_run(fd, bytes(14) + struct.pack("<QQ", a, b) + bytes(32))


@pytest.mark.parametrize("seed", range(60))
def test_random_functions(seed):
    rng = random.Random(seed)
    many = seed % 3 == 0
    variables = rng.randint(10, 16) if many else rng.randint(2, 6)
    func = NativeGenerator(rng, blocks=rng.randint(1, 10), variables=variables, length=10 if many else 6).func
    try:
        fd = bpf_native.load(linked(func))
    except OSError as error:
        if error.errno == errno.E2BIG or "too large" in str(error) or "too many" in str(error):
            pytest.skip("the verifier gave up on this many paths")
        raise
    try:
        for a, b in ((0, 0), (1, M64), (0x123456789ABCDEF, 77)):
            want = IrMachine(func, (a, b)).run()
            assert run(fd, a, b) == (want ^ want >> 32) & 0xFFFFFFFF, func.dump()
    finally:
        os.close(fd)


def map_program(body) -> tuple[Function, int]:
    """A filter around ``body(func, block, ctx, value)`` with value the first element of an array map of 64 bytes."""
    func = Function("prog", "socket")
    entry, found, missing = func.block("entry"), func.block("found"), func.block("missing")
    ctx, map_, key, value = func.vreg(POINTER), func.vreg(POINTER), func.vreg(POINTER), func.vreg(POINTER)
    slot = Slot(4, 4, "key")
    entry.ins = [
        Ins(ir.PARAM, dst=ctx, imm=0),
        Ins(ir.STORE, a=slot, b=Imm(0), size=4),
        Ins(ir.MAP, dst=map_, ref="m"),
        Ins(ir.FRAME, dst=key, ref=slot),
        Ins(ir.CALL, dst=value, imm=1, args=(map_, key)),
        Ins(ir.BRANCH, cond="eq", a=value, b=Imm(0), then=missing, els=found),
    ]
    missing.ins = [Ins(ir.RET, a=Imm(0))]
    body(func, found, ctx, value)
    return func


def run_map_program(func: Function) -> tuple[int, bytes]:
    unit = generate(func)
    map_fd = bpf_native.array_map(64, 1)
    code = bytearray(unit.code)
    for reloc in unit.relocs:
        struct.pack_into("<i", code, 8 * reloc.index + 4, map_fd)
    try:
        fd = bpf_native.load(bytes(code))
        try:
            result = bpf_native.test_run(fd, bytes(range(64)))
            return result, bpf_native.array_value(map_fd, 0, 64)
        finally:
            os.close(fd)
    finally:
        os.close(map_fd)


def test_map_value_through_a_null_check():
    def body(func, block, ctx, value):
        one = func.vreg()
        block.ins = [
            Ins(ir.CONST, dst=one, imm=1),
            Ins(ir.ATOMIC, a=value, b=one, off=8, imm=0),
            Ins(ir.STORE, a=value, b=Imm(0x1122334455667788), off=16),
            Ins(ir.RET, a=Imm(7)),
        ]

    result, stored = run_map_program(map_program(body))
    assert result == 7
    assert struct.unpack("<QQQ", stored[:24]) == (0, 1, 0x1122334455667788)


def test_variable_offset_after_a_clamp():
    """n = min(n, 31); value[n] = 5, with other values live and a call in between."""

    def body(func, block, ctx, value):
        length, small, big, join = func.vreg(), func.block("small"), func.block("big"), func.block("join")
        index, place = func.vreg(), func.vreg(POINTER)
        block.ins = [
            Ins(ir.LOAD, dst=length, a=ctx, off=0, size=4),  # skb->len
            Ins(ir.MOV, dst=index, a=length),
            Ins(ir.BRANCH, cond="gt", a=index, b=Imm(31), then=big, els=small),
        ]
        big.ins = [Ins(ir.CONST, dst=index, imm=31), Ins(ir.JUMP, then=join)]
        small.ins = [Ins(ir.JUMP, then=join)]
        join.ins = [
            Ins(ir.CALL, imm=CPU),
            Ins(ir.ADD, dst=place, a=value, b=index),
            Ins(ir.STORE, a=place, b=Imm(5), size=1),
            Ins(ir.RET, a=length),
        ]

    result, stored = run_map_program(map_program(body))
    assert result == 64 - 14  # the Ethernet header is pulled before a socket filter
    assert stored == bytes(31) + b"\5" + bytes(32)


def test_bounded_size_argument():
    """bpf_skb_load_bytes(skb, 0, value, n) with 1 <= n <= 16 tested on the register that is used."""

    def body(func, block, ctx, value):
        length, low, size, good, bad = func.vreg(), func.vreg(), func.vreg(), func.block(), func.block()
        upper = func.block()
        block.ins = [
            Ins(ir.LOAD, dst=length, a=ctx, off=0, size=4),
            Ins(ir.RSH, dst=low, a=length, b=Imm(2)),
            Ins(ir.MOV, dst=size, a=low),
            Ins(ir.BRANCH, cond="eq", a=size, b=Imm(0), then=bad, els=upper),
        ]
        upper.ins = [Ins(ir.BRANCH, cond="gt", a=size, b=Imm(16), then=bad, els=good)]
        bad.ins = [Ins(ir.RET, a=Imm(1))]
        good.ins = [
            Ins(ir.CALL, imm=LOAD_BYTES, args=(ctx, Imm(0), value, size)),
            Ins(ir.RET, a=low),
        ]

    result, stored = run_map_program(map_program(body))
    assert result == 12
    assert stored == bytes(range(14, 26)) + bytes(52)


def test_pressure_spills_pass_the_verifier():
    """Pointers and scalars live across calls, more than r6 to r9 hold."""

    def body(func, block, ctx, value):
        loads = [func.vreg() for _ in range(7)]
        for i, vreg in enumerate(loads):
            block.ins += [Ins(ir.LOAD, dst=vreg, a=ctx, off=4 * (i % 3), size=4), Ins(ir.CALL, imm=CPU)]
        for i, vreg in enumerate(loads):
            block.ins.append(Ins(ir.STORE, a=value, b=vreg, off=8 * i))
        again = func.vreg()
        block.ins += [Ins(ir.LOAD, dst=again, a=ctx, off=0, size=4), Ins(ir.RET, a=again)]

    result, stored = run_map_program(map_program(body))
    assert result == 50
    assert struct.unpack("<Q", stored[:8])[0] == 50
