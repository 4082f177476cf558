"""Random programs do the same in the interpreter and in the kernel."""

from __future__ import annotations

import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vm_programs import Body, array, loaded_both, make_object, mov, movi, pack, run_kernel, run_vm, unpack
from vm_vectors import IMMEDIATES, VALUES, allowed_immediate

from pybpf import abi
from pybpf.asm import insn as asm
from pybpf.asm.insn import Insn, ldx, stx
from pybpf.asm.opcodes import (
    BPF_ADD,
    BPF_ALU,
    BPF_ALU64,
    BPF_AND,
    BPF_ARSH,
    BPF_CMPXCHG,
    BPF_DIV,
    BPF_END,
    BPF_FETCH,
    BPF_JEQ,
    BPF_JGE,
    BPF_JGT,
    BPF_JLE,
    BPF_JLT,
    BPF_JNE,
    BPF_JSET,
    BPF_JSGE,
    BPF_JSGT,
    BPF_JSLE,
    BPF_JSLT,
    BPF_LDX,
    BPF_LSH,
    BPF_MEMSX,
    BPF_MOD,
    BPF_MOV,
    BPF_MUL,
    BPF_NEG,
    BPF_OR,
    BPF_RSH,
    BPF_SUB,
    BPF_X,
    BPF_XCHG,
    BPF_XOR,
    SIZES,
)
from pybpf.object.spec import MapSpec
from pybpf.vm import HELPERS, Vm, VmError

ALU = {
    "add": BPF_ADD,
    "sub": BPF_SUB,
    "mul": BPF_MUL,
    "div": BPF_DIV,
    "or": BPF_OR,
    "and": BPF_AND,
    "lsh": BPF_LSH,
    "rsh": BPF_RSH,
    "mod": BPF_MOD,
    "xor": BPF_XOR,
    "mov": BPF_MOV,
    "arsh": BPF_ARSH,
}
TESTS = [BPF_JEQ, BPF_JNE, BPF_JSET, BPF_JGT, BPF_JGE, BPF_JLT, BPF_JLE, BPF_JSGT, BPF_JSGE, BPF_JSLT, BPF_JSLE]
REGISTERS = st.integers(0, 5)
STACK = 32
SETTINGS = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

immediates = st.sampled_from(IMMEDIATES) | st.integers(-(1 << 31), (1 << 31) - 1)


@st.composite
def alu(draw) -> Insn:
    name = draw(st.sampled_from(sorted(ALU)))
    bits = draw(st.sampled_from((32, 64)))
    build = asm.alu64 if bits == 64 else asm.alu32
    off = draw(st.sampled_from((0, 1))) if name in ("div", "mod") else 0
    if draw(st.booleans()):
        if name == "mov":
            off = draw(st.sampled_from((0, 8, 16, 32) if bits == 64 else (0, 8, 16)))
        return build(ALU[name], draw(REGISTERS), draw(REGISTERS), off=off)
    imm = draw(immediates)
    if not allowed_immediate(name, bits, imm):
        imm = imm % (bits - 1) + 1
    return build(ALU[name], draw(REGISTERS), imm=imm, off=off)


@st.composite
def unary(draw) -> Insn:
    kind = draw(st.sampled_from((BPF_ALU, BPF_ALU64)))
    if draw(st.booleans()):
        return Insn(kind | BPF_NEG, draw(REGISTERS))
    order = draw(st.sampled_from((0, BPF_X))) if kind == BPF_ALU else 0
    return Insn(kind | BPF_END | order, draw(REGISTERS), 0, 0, draw(st.sampled_from((16, 32, 64))))


@st.composite
def memory(draw) -> Insn:
    size = draw(st.sampled_from((1, 2, 4, 8)))
    at = -size * draw(st.integers(1, STACK // size))
    register = draw(REGISTERS)
    kind = draw(st.integers(0, 4))
    if kind == 0:
        return ldx(size, register, 10, at)
    if kind == 1 and size < 8:
        return Insn(BPF_LDX | BPF_MEMSX | SIZES[size], register, 10, at)
    if kind == 2:
        return asm.st(size, 10, at, draw(immediates))
    if kind == 3 and size >= 4:
        operations = [BPF_ADD, BPF_OR, BPF_AND, BPF_XOR]
        codes = [*operations, *(code | BPF_FETCH for code in operations), BPF_XCHG, BPF_CMPXCHG]
        return asm.atomic(size, 10, at, register, draw(st.sampled_from(codes)))
    return stx(size, 10, at, register)


@st.composite
def branch(draw) -> tuple[Insn, int]:
    """A conditional jump and how many instructions, not slots, it goes over."""
    build = draw(st.sampled_from((asm.jmp, asm.jmp32)))
    code, skipped = draw(st.sampled_from(TESTS)), draw(st.integers(1, 6))
    if draw(st.booleans()):
        return build(code, draw(REGISTERS), 0, draw(REGISTERS)), skipped
    return build(code, draw(REGISTERS), 0, imm=draw(immediates)), skipped


constant = st.builds(
    lambda dst, value: asm.ld_imm64(dst, value), REGISTERS, st.sampled_from(VALUES) | st.integers(0, (1 << 64) - 1)
)
instruction = st.one_of(alu(), alu(), alu(), unary(), memory(), memory(), constant)
programs = st.lists(st.one_of(instruction, instruction, instruction, instruction, branch()), min_size=1, max_size=60)
inputs = st.lists(st.sampled_from(VALUES) | st.integers(0, (1 << 64) - 1), min_size=6, max_size=6)


def build(code, values):
    body = Body().data(6, "in").data(7, "out")
    for at in range(0, STACK, 8):
        body.add(ldx(8, 0, 6, at), stx(8, 10, at - STACK, 0))
    for register in range(6):
        body.add(ldx(8, register, 6, 8 * register))
    sizes = [1 if isinstance(one, tuple) else one.slots for one in code]
    branches = 0
    for number, one in enumerate(code):
        if not isinstance(one, tuple):
            body.add(one)
            continue
        # Few of them: the verifier follows both ways.
        branches += 1
        jump, skipped = one
        jump = jump.copy()
        jump.off = sum(sizes[number + 1 : number + 1 + skipped]) if branches <= 8 else 0
        body.add(jump)
    for register in range(6):
        body.add(stx(8, 7, 8 * register, register))
    for at in range(0, STACK, 8):
        body.add(ldx(8, 0, 10, at - STACK), stx(8, 7, 48 + at, 0))
    return make_object([body.end(0)], [array("in", 48, contents=pack(values)), array("out", 48 + STACK)])


@pytest.mark.native
@SETTINGS
@given(programs, inputs)
def test_arithmetic_branches_and_stack(code, values) -> None:
    spec = build(code, values)
    assert run_vm(spec) == run_kernel(spec)


# --- maps ----------------------------------------------------------------------------

MAPS = {
    "array": (abi.MAP_TYPE_ARRAY, 4, 0),
    "percpu_array": (abi.MAP_TYPE_PERCPU_ARRAY, 4, 0),
    "hash": (abi.MAP_TYPE_HASH, 8, 0),
    "sparse_hash": (abi.MAP_TYPE_HASH, 8, abi.F_NO_PREALLOC),
    "percpu_hash": (abi.MAP_TYPE_PERCPU_HASH, 8, 0),
    "lpm": (abi.MAP_TYPE_LPM_TRIE, 8, abi.F_NO_PREALLOC),
}
QUEUES = {"queue": abi.MAP_TYPE_QUEUE, "stack": abi.MAP_TYPE_STACK}
KEYS = [0, 1, 2, 3, 4, -1]
PREFIXES = [(0, 0), (8, 10), (16, 10), (16, 10 | 1 << 8), (24, 10), (32, 10), (32, 10 | 1 << 24), (9, 10), (33, 10)]

map_steps = st.tuples(
    st.sampled_from(sorted(MAPS)),
    st.sampled_from(("lookup", "update", "update", "delete")),
    st.integers(0, 8),
    st.integers(0, 1 << 30),
    st.sampled_from((0, 0, 0, 1, 2, 3)),
)
queue_steps = st.tuples(
    st.sampled_from(sorted(QUEUES)),
    st.sampled_from(("push", "push", "pop", "peek")),
    st.just(0),
    st.integers(0, 1 << 30),
    st.sampled_from((0, 0, 1, 2, 3)),
)
HELPER = {"lookup": 1, "update": 2, "delete": 3, "push": 87, "pop": 88, "peek": 89}


def emit_map_step(body: Body, at: int, step) -> None:
    name, operation, key, value, flags = step
    if name == "lpm":
        length, address = PREFIXES[key]
        body.add(asm.st(4, 10, -16, length), asm.st(4, 10, -12, address))
    else:
        body.add(asm.st(4, 10, -16, KEYS[key % len(KEYS)]), asm.st(4, 10, -12, 0))
    body.add(asm.st(8, 10, -8, value))
    body.map(1, name).add(mov(2, 10), asm.alu64(BPF_ADD, 2, imm=-8 if name in QUEUES else -16))
    if operation == "update":
        body.add(mov(3, 10), asm.alu64(BPF_ADD, 3, imm=-8), movi(4, flags))
    if operation == "push":
        body.add(movi(3, flags))
    body.add(asm.call(HELPER[operation]))
    if operation == "lookup":
        body.add(asm.jmp(BPF_JEQ, 0, 1, imm=0), ldx(8, 0, 0, 0))
    body.add(stx(8, 7, at, 0), ldx(8, 0, 10, -8), stx(8, 7, at + 8, 0))


@pytest.mark.native
@settings(SETTINGS, max_examples=80)
@given(st.lists(st.one_of(map_steps, map_steps, queue_steps), min_size=1, max_size=30))
def test_map_operations(steps) -> None:
    body = Body(section="xdp").data(7, "out")
    for number, step in enumerate(steps):
        emit_map_step(body, 16 * number, step)
    maps = [MapSpec(name, type, size, 8, 3, flags) for name, (type, size, flags) in MAPS.items()]
    maps += [MapSpec(name, type, 0, 8, 3) for name, type in QUEUES.items()]
    spec = make_object([body.end(2)], [*maps, array("out", 16 * len(steps))])
    packet = bytes(64)
    with loaded_both(spec) as (vm, kernel):
        assert vm.run(packet=packet) == kernel.programs["main"].test_run(packet).retval == 2
        out = [unpack(side.maps["out"].lookup(bytes(4)), sys.byteorder) for side in (vm, kernel)]
        assert out[0] == out[1]
        used = {name for name, *_ in steps}
        for name in used & {"array", "hash", "sparse_hash", "lpm"}:
            assert sorted(vm.maps[name].items()) == sorted(kernel.maps[name].items())
        for name in used & set(QUEUES):
            while (value := vm.maps[name].take()) is not None:
                assert kernel.maps[name].take() == value
            assert kernel.maps[name].take() is None


# --- robustness --------------------------------------------------------------------------

fields = st.builds(
    Insn,
    st.integers(0, 255),
    st.integers(0, 10),
    st.integers(0, 10),
    st.integers(-16, 16) | st.integers(-0x8000, 0x7FFF),
    st.integers(-64, 200) | immediates,
)
helper_calls = st.sampled_from(sorted(HELPERS)).map(asm.call)
moves = st.builds(lambda dst, src: mov(dst, src), st.integers(0, 9), st.integers(0, 10))
pointers = st.builds(lambda dst, off: asm.alu64(BPF_ADD, dst, imm=-off), st.integers(1, 5), st.integers(0, 64))
references = st.builds(
    lambda dst, kind, low: asm.ld_imm64(dst, low, kind), st.integers(1, 5), st.integers(1, 6), st.integers(0, 3)
)
wild = st.lists(
    st.one_of(instruction, memory(), helper_calls, moves, moves, pointers, references, branch().map(lambda b: b[0])),
    max_size=25,
)


def maps_for_fuzzing():
    kinds = [*MAPS.values(), *((type, 0, 0) for type in QUEUES.values()), (abi.MAP_TYPE_PROG_ARRAY, 4, 0)]
    maps = [
        MapSpec(f"m{n}", kind, size, 4 if kind == 3 else 8, 1, flags) for n, (kind, size, flags) in enumerate(kinds)
    ]
    return [maps[0], maps[2], MapSpec("ring", abi.MAP_TYPE_RINGBUF, 0, 0, 4096), *maps[1:2], *maps[3:]]


@settings(SETTINGS, max_examples=400)
@given(st.binary(max_size=80).map(lambda raw: raw[: len(raw) & ~7]) | st.lists(fields, max_size=10))
def test_random_code_is_refused_cleanly(code) -> None:
    run_wild(code)


@settings(SETTINGS, max_examples=600)
@given(wild)
def test_programs_without_sense_fail_cleanly(code) -> None:
    start = [movi(register, register) for register in (0, 6, 7, 8, 9)]
    for register in range(2, 6):
        start += [mov(register, 10), asm.alu64(BPF_ADD, register, imm=-64)]
    run_wild([*start, *(asm.st(8, 10, -at, at) for at in range(8, 65, 8)), *code, movi(0, 0), asm.exit_()])


def run_wild(code) -> None:
    for options in ({"ctx": bytes(16)}, {"packet": bytes(64), "kind": "tc"}, {"packet": bytes(64), "kind": "xdp"}):
        vm = Vm(code, maps=maps_for_fuzzing(), budget=500)
        error = None
        try:
            assert 0 <= vm.run(**options) < 1 << 64
        except VmError as caught:
            error = caught
        assert error is None or (error.reason and "\n" not in str(error))
