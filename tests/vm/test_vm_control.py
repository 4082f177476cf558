"""Calls, tail calls, callbacks, may_goto, budgets, relocations: the interpreter alone, and beside the kernel."""

from __future__ import annotations

import sys
import time

import pytest
from vm_programs import Body, array, loaded_both, make_object, mov, movi, run_kernel, run_vm, unpack

from btf.builder import Builder
from btf.core import FIELD_BYTE_OFFSET, Relocator
from btf.reader import Btf
from pybpf import abi
from pybpf.asm.insn import Insn, alu32, alu64, call, encode, exit_, jmp, ld_imm64, ldx, st, stx
from pybpf.asm.opcodes import BPF_ADD, BPF_JEQ, BPF_JLT, BPF_LSH, BPF_MUL, BPF_OR, BPF_XOR
from pybpf.errors import Error, VerifierError
from pybpf.object.spec import RELOC_KFUNC, RELOC_KSYM, Extern, MapSpec
from pybpf.vm import ArrayMap, ProgArray, Vm, VmError

PROGS = MapSpec("progs", abi.MAP_TYPE_PROG_ARRAY, 4, 4, 4)


def both(spec) -> list[int]:
    """The result of the interpreter, once it is known to be the kernel's."""
    got = run_vm(spec)
    assert got == run_kernel(spec)
    return got


def store_result(body: Body, at: int = 0) -> Body:
    return body.data(1, "out", at).add(stx(8, 1, 0, 0))


def subprograms():
    main = Body().add(movi(6, 6), movi(7, 7), st(8, 10, -8, 1), movi(1, 20), movi(2, 3)).call("f")
    main.add(alu64(BPF_ADD, 0, 6), alu64(BPF_ADD, 0, 7), ldx(8, 1, 10, -8), alu64(BPF_ADD, 0, 1))
    store_result(main).end(0)
    # Its own frame and its own r6; calls on.
    f = Body("f", ".text").add(mov(6, 1), movi(7, 100), stx(8, 10, -8, 2), ldx(8, 1, 10, -8)).call("g")
    f.add(alu64(BPF_ADD, 0, 6), alu64(BPF_ADD, 0, 7)).end()
    g = Body("g", ".text").add(mov(0, 1), alu64(BPF_MUL, 0, imm=1000)).end()
    return make_object([main, f, g], [array("out", 8)])


def test_subprograms() -> None:
    assert run_vm(subprograms()) == [3000 + 20 + 100 + 13 + 1]


@pytest.mark.native
def test_subprograms_in_the_kernel() -> None:
    both(subprograms())


def callbacks(count: int, flags: int, stop: int):
    """bpf_loop and what the callback adds up by a pointer into the caller's frame."""
    main = Body().add(st(8, 10, -8, 0), movi(1, count)).function(2, "add")
    main.add(mov(3, 10), alu64(BPF_ADD, 3, imm=-8), movi(4, flags), call(181))
    store_result(main).add(ldx(8, 0, 10, -8))
    store_result(main, 8).end(0)
    add = Body("add", ".text").add(ldx(8, 3, 2, 0), alu64(BPF_ADD, 3, 1), stx(8, 2, 0, 3), movi(0, 1))
    add.add(jmp(BPF_JEQ, 1, 1, imm=stop), movi(0, 0)).end()
    return make_object([main, add], [array("out", 16)])


LOOPS = [(10, 0, 99), (10, 0, 4), (0, 0, 0), (10, 1, 0), ((8 << 20) + 1, 0, 0)]


def test_loop() -> None:
    assert run_vm(callbacks(10, 0, 99)) == [10, 45]
    assert run_vm(callbacks(10, 0, 4)) == [5, 10]


@pytest.mark.native
@pytest.mark.parametrize("case", LOOPS, ids=str)
def test_loop_in_the_kernel(case) -> None:
    both(callbacks(*case))


def walk(kind: int, flags: int, filled: int):
    body = Body()
    for key in range(filled):
        body.add(st(4, 10, -16, key), st(8, 10, -8, 100 * key + 1)).map(1, "m").add(mov(2, 10), mov(3, 10))
        body.add(alu64(BPF_ADD, 2, imm=-16), alu64(BPF_ADD, 3, imm=-8), movi(4, 0), call(2))
    body.add(st(8, 10, -24, 0)).map(1, "m").function(2, "each").add(mov(3, 10), alu64(BPF_ADD, 3, imm=-24))
    body.add(movi(4, flags), call(164))
    store_result(body).add(ldx(8, 0, 10, -24))
    store_result(body, 8).end(0)
    each = Body("each", ".text").add(ldx(4, 5, 2, 0), alu64(BPF_MUL, 5, imm=7), ldx(8, 1, 3, 0), alu64(BPF_XOR, 5, 1))
    each.add(ldx(8, 1, 4, 0), alu64(BPF_ADD, 1, 5), stx(8, 4, 0, 1)).end(0)
    return make_object([body, each], [MapSpec("m", kind, 4, 8, 5), array("out", 16)])


@pytest.mark.native
@pytest.mark.parametrize(
    "kind", [abi.MAP_TYPE_HASH, abi.MAP_TYPE_ARRAY, abi.MAP_TYPE_PERCPU_ARRAY, abi.MAP_TYPE_LRU_HASH]
)
@pytest.mark.parametrize(("flags", "filled"), [(0, 3), (1, 3), (0, 0)])
def test_map_walk(kind, flags, filled) -> None:
    both(walk(kind, flags, filled))


def tail_calls():
    """A program that calls itself until it may no more; counts in the map."""
    main = (
        Body(section="xdp")
        .add(mov(6, 1))
        .data(1, "out")
        .add(ldx(8, 0, 1, 0), alu64(BPF_ADD, 0, imm=1), stx(8, 1, 0, 0))
    )
    main.add(mov(1, 6)).map(2, "progs").add(movi(3, 1), call(12))
    # Only the call that failed gets here, or the first one in an interpreter that is wrong.
    main.data(1, "out", 8).add(ldx(8, 0, 1, 0), alu64(BPF_ADD, 0, imm=1), stx(8, 1, 0, 0)).end(77)
    return make_object([main], [PROGS, array("out", 16)])


def test_tail_call_limit() -> None:
    vm = Vm(tail_calls())
    assert vm.run(packet=bytes(64)) == 77  # nothing in the array: falls through
    vm.maps["progs"].set(1, "main")
    assert vm.run(packet=bytes(64)) == 77
    assert unpack(vm.maps["out"].lookup(bytes(4))) == [1 + 34, 2]


@pytest.mark.native
def test_tail_call_limit_in_the_kernel() -> None:
    with loaded_both(tail_calls()) as (vm, kernel):
        vm.maps["progs"].set(1, "main")
        kernel.maps["progs"].update(
            (1).to_bytes(4, sys.byteorder), kernel.programs["main"].fd.to_bytes(4, sys.byteorder)
        )
        assert vm.run(packet=bytes(64)) == kernel.programs["main"].test_run(bytes(64)).retval == 77
        assert vm.maps["out"].lookup(bytes(4)) == kernel.maps["out"].lookup(bytes(4))
        kernel.maps["progs"].delete((1).to_bytes(4, sys.byteorder))


def test_tail_call_in_a_subprogram_returns_to_the_caller() -> None:
    main = Body().add(mov(6, 1), movi(7, 5)).call("sub").add(alu64(BPF_ADD, 0, 7)).end()
    sub = Body("sub", ".text").map(2, "progs").add(movi(3, 0), call(12)).end(1)
    other = Body("other").add(mov(6, 10), st(8, 6, -8, 1)).end(1000)
    vm = Vm(make_object([main, sub, other], [PROGS]))
    assert vm.run("main") == 6
    vm.maps["progs"].set(0, "other")
    assert vm.run("main") == 1005
    with pytest.raises(Error, match="no room for another element"):
        vm.maps["progs"].set(9, "other")
    vm.maps["progs"].set(0, "absent")
    with pytest.raises(VmError, match="there is no program 'absent'"):
        vm.run("main")


def may_goto(limit: int):
    # r0 += 1 while may_goto lets it and r0 < limit.
    body = Body().add(movi(0, 0), Insn(0xE5, off=2), alu64(BPF_ADD, 0, imm=1), jmp(BPF_JLT, 0, -3, imm=limit))
    return make_object([store_result(body).end(0)], [array("out", 8)])


def test_may_goto() -> None:
    assert run_vm(may_goto(1000)) == [1000]
    # Without a condition it goes on as often as the frame may; each frame has its own count.
    code = [movi(6, 0), Insn(0x85, 0, 1, 0, 5), Insn(0xE5, off=2), alu64(BPF_ADD, 6, imm=1), Insn(0x05, off=-3)]
    code += [mov(0, 6), exit_(), Insn(0xE5, off=1), Insn(0x05, off=-2), movi(0, 0), exit_()]
    vm = Vm(code, max_loops=10)
    assert vm.run() == vm.run() == 10


@pytest.mark.native
def test_may_goto_in_the_kernel() -> None:
    try:
        both(may_goto(1000))
    except VerifierError as error:
        if "unknown opcode" in error.details:
            pytest.skip("this kernel has no may_goto")
        raise


def test_budget_and_count() -> None:
    code = [movi(0, 0), alu64(BPF_ADD, 0, imm=1), jmp(BPF_JLT, 0, -2, imm=10), exit_()]
    vm = Vm(code)
    assert vm.run() == 10
    assert vm.executed == 22
    assert vm.run(budget=22) == 10
    with pytest.raises(VmError, match="budget"):
        vm.run(budget=21)
    assert vm.run() == 10


def test_arguments_and_context() -> None:
    code = [mov(0, 1), alu64(BPF_LSH, 0, imm=8), alu64(BPF_OR, 0, 5), exit_()]
    assert Vm(code).run(args=[1, 2, 3, 4, 5]) == 0x105
    assert Vm(code).run(args=[-1, 0, 0, 0, 0]) == 0xFFFFFFFFFFFFFF00
    ctx = bytearray(8)
    writer = [st(4, 1, 4, 7), ldx(8, 0, 1, 0), exit_()]
    assert Vm(writer).run(ctx=ctx) == 7 << 32
    assert ctx == bytes([0, 0, 0, 0, 7, 0, 0, 0])
    assert Vm(encode(writer, "big"), byteorder="big").run(ctx=ctx) == 7


def test_raw_code_with_maps_in_order() -> None:
    spec = array("first", 8), array("second", 8)
    # Kind 1 and 5 give maps, 2 and 6 places in their values.
    code = [
        *(ld_imm64(1, 1 | 4 << 32, 2), st(4, 1, 0, 9), ld_imm64(1, 0, 6), st(4, 1, 0, 8)),
        *(ld_imm64(1, 1, 5), ld_imm64(2, 1, 1), mov(0, 1), alu64(BPF_XOR, 0, 2), exit_()),
    ]
    vm = Vm(code, maps=spec)
    assert vm.run() == 0
    assert vm.maps["second"].lookup(bytes(4)) == bytes(4) + b"\x09\0\0\0"
    assert vm.maps["first"].lookup(bytes(4)) == b"\x08" + bytes(7)


def test_maps_shared_by_two_interpreters() -> None:
    code = [ld_imm64(1, 0, 2), ldx(8, 0, 1, 0), alu64(BPF_ADD, 0, imm=1), stx(8, 1, 0, 0), exit_()]
    one = Vm(code, maps=[array("m", 8)])
    other = Vm(code, maps=one.maps)
    assert [one.run(), other.run(), one.run()] == [1, 2, 3]
    assert isinstance(one.maps["m"], ArrayMap)


def test_programs_by_name() -> None:
    progs = {"a": [ld_imm64(2, 0, 1), movi(3, 2), call(12), movi(0, 1), exit_()], "b": [movi(0, 2), exit_()]}
    vm = Vm(progs, maps=[PROGS])
    assert isinstance(vm.maps["progs"], ProgArray)
    vm.maps["progs"].set(2, "b")
    assert vm.programs == ["a", "b"]
    assert vm.run("a") == 2
    assert vm.maps["progs"].delete((2).to_bytes(4, "little"))
    assert vm.run("a") == 1


def test_helpers_and_kfuncs_of_the_test() -> None:
    seen = []

    def helper(vm, pointer, value):
        seen.append(vm.read(pointer, 4))
        return -value

    code = [st(4, 10, -4, 0x01020304), mov(1, 10), alu64(BPF_ADD, 1, imm=-4), movi(2, 5), call(999)]
    code += [mov(6, 0), Insn(0x85, 0, 2, 0, 42), alu64(BPF_ADD, 0, 6), exit_()]
    vm = Vm(code, helpers={999: helper}, kfuncs={42: lambda vm: 100})
    assert vm.run() == 95
    assert seen == [b"\x04\x03\x02\x01"]
    vm = Vm([call(14), exit_()])
    vm.add_helper(14, lambda vm: 5)
    assert vm.run() == 5


def test_externs() -> None:
    body = Body().reference(ld_imm64(6, 0), RELOC_KSYM, "jiffies").reference(ld_imm64(7, 0), RELOC_KSYM, "absent")
    body.reference(Insn(0x85, 0, 2), RELOC_KFUNC, "bpf_seven").add(ldx(8, 6, 6, 0), alu64(BPF_ADD, 0, 6))
    body.add(jmp(BPF_JEQ, 7, 1, imm=0)).reference(Insn(0x85, 0, 2), RELOC_KFUNC, "bpf_absent").end()
    spec = make_object([body], [])
    spec.externs["absent"] = Extern("absent", ".ksyms", 0, weak=True)
    spec.externs["bpf_absent"] = Extern("bpf_absent", ".ksyms", 0, weak=True)
    given = {"kfuncs": {"bpf_seven": lambda vm: 7}, "ksyms": {"jiffies": 0xFFFF_8000_0000_0000}}
    vm = Vm(spec, **given)
    vm.memory.place((100).to_bytes(8, sys.byteorder), 0xFFFF_8000_0000_0000)
    assert vm.run() == 107
    with pytest.raises(VmError, match="uses the kernel's 'bpf_seven': give it in kfuncs= or ksyms="):
        Vm(spec, ksyms=given["ksyms"]).run()
    given["ksyms"]["absent"] = 1
    vm = Vm(spec, **given)
    vm.memory.place(bytes(8), 0xFFFF_8000_0000_0000)
    with pytest.raises(VmError, match="a kfunc that is missing"):
        vm.run()


def test_void_helper_leaves_r0_unset() -> None:
    with pytest.raises(VmError, match="r0 was never written"):
        Vm([call(900), exit_()], helpers={900: lambda vm: None}).run()


def structure(pad: int) -> tuple[bytes, int]:
    builder = Builder()
    number = builder.int("unsigned int", 4)
    names = [f"pad{n}" for n in range(pad)]
    id = builder.struct("task", 4 * pad + 4, [(name, number, 32 * at) for at, name in enumerate([*names, "pid"])])
    return builder.to_bytes(), id


def test_core_relocations() -> None:
    (local, id), (target, _) = structure(0), structure(3)
    spec = make_object([Body().add(ldx(4, 0, 1, 0)).end()], [], "little")
    spec.programs["main"].core_relos = [(0, id, "0:0", FIELD_BYTE_OFFSET)]
    spec.btf = local
    ctx = bytes([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0])
    assert Vm(spec).run(ctx=ctx) == 1  # the object's own offsets
    assert Vm(spec, core=Btf(target)).run(ctx=ctx) == 4
    assert Vm(spec, core=Relocator(Btf(local), Btf(target))).run(ctx=ctx) == 4


def test_speed() -> None:
    """A million ALU instructions a second even on a slow machine; measured, the bar is a third of what is usual."""
    body = [alu64(BPF_ADD, 0, 1), alu32(BPF_MUL, 0, imm=7), alu64(BPF_XOR, 0, imm=0x55), alu64(BPF_ADD, 1, imm=1)]
    code = [movi(0, 0), movi(1, 0), *body, jmp(BPF_JLT, 1, -len(body) - 1, imm=60000), exit_()]
    vm = Vm(code)
    best = 1e9
    for _ in range(3):
        start = time.perf_counter()
        vm.run()
        best = min(best, time.perf_counter() - start)
    assert vm.executed / best > 1_000_000
