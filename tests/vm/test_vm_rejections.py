"""Everything that the interpreter refuses, with the message and the place; and the kernel refuses the same code."""

from __future__ import annotations

import pytest
from vm_programs import Body, array, make_object, mov, movi, run_kernel

from pybpf import abi
from pybpf.asm import insn as asm
from pybpf.asm.insn import Insn, alu32, alu64, atomic, call, encode, exit_, jmp, ld_imm64, ldx, st, stx
from pybpf.asm.opcodes import (
    BPF_ADD,
    BPF_ATOMIC,
    BPF_CMPXCHG,
    BPF_FETCH,
    BPF_JEQ,
    BPF_LOAD_ACQ,
    BPF_MOV,
    BPF_PSEUDO_CALL,
    BPF_STX,
    BPF_W,
    LD_IMM64,
)
from pybpf.errors import Error
from pybpf.object.spec import MapSpec
from pybpf.vm import Vm, VmError

ZERO = movi(0, 0)
GOTO = Insn(0x05, off=0)
CALL_LOCAL = Insn(0x85, 0, BPF_PSEUDO_CALL, 0, 1)

# Malformed code: refused before a single instruction runs. (name, code, message, index)
MALFORMED = [
    ("empty", [], "has no instructions", -1),
    ("falls off the end", [ZERO], "falls off the end", 0),
    ("falls off after a branch", [ZERO, jmp(BPF_JEQ, 0, -1, imm=1)], "falls off the end", 1),
    ("jump out", [ZERO, Insn(0x05, off=7), exit_()], "jumps to slot 9, out of the program", 1),
    ("jump before the start", [ZERO, jmp(BPF_JEQ, 0, -3, imm=0), exit_()], "jumps to slot -1, out of the program", 1),
    ("gotol out", [ZERO, Insn(0x06, imm=1 << 20), exit_()], "out of the program", 1),
    ("may_goto out", [ZERO, Insn(0xE5, off=9), exit_()], "out of the program", 1),
    ("jump into a 64-bit load", [ZERO, jmp(BPF_JEQ, 0, 1, imm=0), ld_imm64(1, 1), exit_()], "the middle of a 64", 1),
    ("jump into a function", [ZERO, CALL_LOCAL, GOTO, ZERO, exit_()], "jumps to slot 3, out of the function", 2),
    ("call out", [Insn(0x85, 0, BPF_PSEUDO_CALL, 0, 5), exit_()], "refers to a function at slot 6", 0),
    ("call into a 64-bit load", [Insn(0x85, 0, 1, 0, 1), ld_imm64(0, 1), exit_()], "function at slot 2", 0),
    ("unreachable", [ZERO, exit_(), ZERO, exit_()], "unreachable instruction", 2),
    ("function that falls", [CALL_LOCAL, exit_(), ZERO], "falls off the end", 2),
    ("opcode 0x8f", [Insn(0x8F), ZERO, exit_()], "unknown opcode", 0),
    ("alu code 0xe0", [Insn(0xE7), ZERO, exit_()], "unknown opcode", 0),
    ("neg by register", [ZERO, Insn(0x8F, 0), exit_()], "unknown opcode", 1),
    ("bswap of 8 bits", [ZERO, Insn(0xD7, 0, 0, 0, 8), exit_()], "unknown opcode", 1),
    ("bswap with a source bit", [ZERO, Insn(0xDF, 0, 0, 0, 16), exit_()], "unknown opcode", 1),
    ("movsx of 7 bits", [ZERO, Insn(0xBF, 0, 0, 7), exit_()], "unknown opcode", 1),
    ("32-bit movsx of 32 bits", [ZERO, Insn(0xBC, 0, 0, 32), exit_()], "unknown opcode", 1),
    ("jump code 0xf0", [ZERO, Insn(0xF5, 0), exit_()], "unknown opcode", 1),
    ("32-bit exit", [ZERO, Insn(0x96), exit_()], "unknown opcode", 1),
    ("32-bit call", [ZERO, Insn(0x86), exit_()], "unknown opcode", 1),
    ("callx", [ZERO, Insn(0x8D), exit_()], "unknown opcode", 1),
    ("call of kind 3", [ZERO, Insn(0x85, 0, 3), exit_()], "unknown opcode", 1),
    ("32-bit may_goto", [ZERO, Insn(0xE6), exit_()], "unknown opcode", 1),
    ("unknown jcond", [ZERO, Insn(0xE5, 0, 1), exit_()], "unknown opcode", 1),
    ("exit by register", [ZERO, Insn(0x9D)], "unknown opcode", 1),
    ("8-byte sign-extending load", [Insn(0x99, 0, 10, -8), exit_()], "unknown opcode", 0),
    ("load of mode 0xa0", [Insn(0xA1, 0, 10, -8), exit_()], "unknown opcode", 0),
    ("store of mode 0x80", [Insn(0x82, 10, 0, -8), ZERO, exit_()], "unknown opcode", 0),
    ("8-byte packet load", [Insn(0x38), exit_()], "unknown opcode", 0),
    ("ld of mode 0x60", [Insn(0x60), exit_()], "unknown opcode", 0),
    ("atomic of 2 bytes", [ZERO, Insn(0xCB, 10, 0, -8, BPF_ADD), exit_()], "unknown atomic operation", 1),
    ("atomic 0x10", [ZERO, st(8, 10, -8, 0), Insn(0xDB, 10, 0, -8, 0x10), exit_()], "unknown atomic operation", 2),
    ("64-bit load of kind 7", [Insn(LD_IMM64, 0, 7), exit_()], "unknown kind of 64-bit immediate", 0),
    ("shift of 64", [ZERO, alu64(0x60, 0, imm=64), exit_()], "shift by 64 of a 64-bit number", 1),
    ("shift of -1", [ZERO, alu32(0xC0, 0, imm=-1), exit_()], "shift by -1 of a 32-bit number", 1),
    ("division by 0", [ZERO, alu64(0x30, 0, imm=0), exit_()], "division by the constant 0", 1),
    ("write to r10", [ZERO, alu64(BPF_ADD, 10, imm=8), exit_()], "r10 is read-only", 1),
    ("load to r10", [ZERO, st(8, 10, -8, 0), ldx(8, 10, 10, -8), exit_()], "r10 is read-only", 2),
    ("64-bit load to r10", [ZERO, ld_imm64(10, 0), exit_()], "r10 is read-only", 1),
    ("fetch into r10", [ZERO, atomic(8, 10, -8, 10, BPF_ADD | BPF_FETCH), exit_()], "r10 is read-only", 1),
    ("acquire into r10", [ZERO, Insn(0xDB, 10, 10, -8, BPF_LOAD_ACQ), exit_()], "r10 is read-only", 1),
    *(
        (f"reserved field of {insn!r}", [ZERO, insn, exit_()], "does not use is not 0", 1)
        for insn in (
            *(Insn(0x07, 0, 1, 0, 1), Insn(0x07, 0, 0, 1, 1), Insn(0x0F, 0, 0, 0, 1), Insn(0x87, 0, 0, 1)),
            *(
                Insn(0xD7, 0, 1, 0, 16),
                Insn(0x85, 1, 0, 0, 5),
                Insn(0x85, 0, 0, 1, 5),
                Insn(0x05, 1),
                Insn(0x06, off=1),
            ),
            *(Insn(0x05, imm=1), Insn(0x15, 0, 1), Insn(0x1D, 0, 0, 0, 1), Insn(0xE5, 1), Insn(0xE5, imm=1)),
            *(
                Insn(0x61, 0, 10, -8, 1),
                Insn(0x62, 10, 1, -8),
                Insn(0x63, 10, 0, -8, 1),
                Insn(0x20, 1),
                Insn(0x20, 0, 1),
            ),
            *(Insn(0x20, 0, 0, 1), Insn(LD_IMM64, 0, 0, 1)),
        )
    ),
    ("reserved field of exit", [ZERO, Insn(0x95, imm=1)], "does not use is not 0", 1),
]
NOT_MODELLED = [
    ("kernel variable", [Insn(LD_IMM64, 0, 3), exit_()], "address of a kernel variable"),
    ("arena", [ZERO, Insn(0xBF, 0, 0, 1, 1), exit_()], "no arenas"),
    ("kfunc", [Insn(0x85, 0, 2, 0, 77), exit_()], "calls kfunc 77"),
    ("map", [Insn(LD_IMM64, 1, 1, 0, 5), ZERO, exit_()], "map number 5, but there are 0"),
]


def refusal(code, message, **options) -> VmError:
    run = {name: options.pop(name) for name in ("ctx", "args", "packet", "kind", "budget") if name in options}
    with pytest.raises(VmError, match=message) as caught:
        Vm(code, **options).run(**run)
    return caught.value


@pytest.mark.parametrize(("name", "code", "message", "index"), MALFORMED, ids=[one[0] for one in MALFORMED])
def test_malformed(name, code, message, index) -> None:
    error = refusal(code, message)
    assert error.index == index
    if index >= 0:
        assert f"instruction {index} (" in str(error)
        assert "\n" not in str(error)


@pytest.mark.parametrize(("name", "code", "message"), NOT_MODELLED, ids=[one[0] for one in NOT_MODELLED])
def test_not_modelled(name, code, message) -> None:
    refusal(code, message)


@pytest.mark.native
@pytest.mark.parametrize("code", [one[1] for one in MALFORMED if one[1]], ids=[one[0] for one in MALFORMED if one[1]])
def test_kernel_refuses_malformed_code_too(code) -> None:
    body = Body()
    body.insns = code
    with pytest.raises(Error):
        run_kernel(make_object([body], []))


def test_code_that_cannot_be_decoded() -> None:
    refusal(b"\x95\0\0\0\0\0\0", "whole number of 8-byte")
    refusal(b"\xb7\x0b\0\0\0\0\0\0", "register above r10")
    refusal(encode([ld_imm64(0, 1)])[:8], "lacks its second half")
    refusal([Insn(0xB7, 11)], "no such register")
    refusal([movi(0, 1 << 40)], "does not fit 32 bits")


# --- what is found out while it runs -------------------------------------------------------

LOOP_ARGUMENTS = (movi(1, 1), movi(3, 0), movi(4, 0))
REGISTER = "was never written, or was cleared by a call"
RUNNING = [
    ("r0 unset at exit", [exit_()], f"r0 {REGISTER}", 0),
    ("mov of an unset register", [mov(0, 3), exit_()], f"r3 {REGISTER}", 0),
    ("32-bit mov", [alu32(BPF_MOV, 0, 3), exit_()], f"r3 {REGISTER}", 0),
    ("add to an unset register", [alu64(BPF_ADD, 4, imm=1), ZERO, exit_()], f"r4 {REGISTER}", 0),
    ("neg", [Insn(0x87, 4), ZERO, exit_()], f"r4 {REGISTER}", 0),
    ("bswap", [Insn(0xD7, 4, 0, 0, 32), ZERO, exit_()], f"r4 {REGISTER}", 0),
    ("division by an unset register", [ZERO, alu64(0x30, 0, 5), exit_()], f"r5 {REGISTER}", 1),
    ("division of an unset register", [movi(5, 0), alu64(0x30, 0, 5), exit_()], f"r0 {REGISTER}", 1),
    *(
        (
            f"jump {code:#x} {bits}",
            [ZERO, build(code, 0, 0, 7), exit_()],
            f"r{7} {REGISTER}",
            1,
        )
        for code in (0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xA0, 0xB0, 0xC0, 0xD0)
        for bits, build in ((64, asm.jmp), (32, asm.jmp32))
    ),
    ("load through an unset register", [ldx(8, 0, 7, 0), exit_()], f"r7 {REGISTER}", 0),
    ("store of an unset register", [stx(8, 10, -8, 7), ZERO, exit_()], f"r7 {REGISTER}", 0),
    ("atomic of an unset register", [st(8, 10, -8, 0), atomic(8, 10, -8, 7, 0), ZERO, exit_()], f"r7 {REGISTER}", 1),
    ("cmpxchg without r0", [st(8, 10, -8, 0), atomic(8, 10, -8, 1, BPF_CMPXCHG), exit_()], f"r0 {REGISTER}", 1),
    ("register cleared by a helper", [call(5), mov(0, 1), exit_()], f"r1 {REGISTER}", 1),
    ("argument of a helper", [call(1), exit_()], f"map_lookup_elem: r2 {REGISTER}", 0),
    ("packet load without r6", [Insn(0x20), exit_()], f"r6 {REGISTER}", 0),
    ("stack beyond its top", [ZERO, stx(8, 10, 0, 0), exit_()], r"writes 8 bytes at fp\+0 .* outside its 512 bytes", 1),
    ("stack across its top", [ZERO, stx(8, 10, -4, 0), exit_()], r"fp-4 .* outside its 512 bytes", 1),
    ("stack below its end", [ZERO, stx(8, 10, -520, 0), exit_()], r"fp-520 .* below its first byte", 1),
    ("stack at its end", [ZERO, stx(8, 10, -512, 0), exit_()], None, None),
    ("stack read before a write", [ldx(8, 0, 10, -8), exit_()], r"fp-8 of .* was never written", 0),
    ("half-written stack", [st(4, 10, -8, 1), ldx(8, 0, 10, -8), exit_()], r"fp-4 of .* was never written", 1),
    ("misaligned stack read", [st(8, 10, -8, 1), ldx(4, 0, 10, -7), exit_()], "misaligned stack access", 1),
    ("misaligned stack write", [ZERO, stx(4, 10, -7, 0), exit_()], "misaligned stack access", 1),
    ("unset stack, atomic", [movi(1, 1), atomic(8, 10, -8, 1, 0), ZERO, exit_()], "was never written", 1),
    ("null pointer", [movi(1, 0), ldx(8, 0, 1, 8), exit_()], "reads 8 bytes at address 0x8: a null pointer", 1),
    ("wild pointer", [movi(1, -4096), ldx(1, 0, 1, 0), exit_()], "no memory there", 1),
    ("pointer cut to 32 bits", [mov(1, 10), alu32(BPF_MOV, 1, 1), ldx(8, 0, 1, -8), exit_()], "at address 0x1f8", 2),
    ("address that wraps", [movi(1, -1), ldx(8, 0, 1, 8), exit_()], "address 0x7: a null pointer", 1),
    ("context read beyond", [ldx(8, 0, 1, 4), exit_()], "offset 4 of the context: outside its 8 bytes", 0),
    ("context below", [ldx(8, 0, 1, -8), exit_()], "offset -8 of the context: below its first byte", 0),
    ("context write", [st(8, 1, 0, 0), ZERO, exit_()], "offset 0 of the context, which is read-only", 0),
    ("atomic on the context", [movi(2, 1), atomic(8, 1, 0, 2, 0), ZERO, exit_()], "which is not allowed there", 1),
    ("unknown helper", [call(9999), exit_()], "calls helper 9999", 0),
    ("poisoned", [call(0xBAD2310), exit_()], "CO-RE poisoned", 0),
    ("helper wants a map", [mov(2, 10), call(1), exit_()], "is no map", 1),
    (
        "callback wants a function",
        [movi(2, 8), *LOOP_ARGUMENTS, call(181), exit_()],
        "is no function",
        4,
    ),
    ("packet load without a packet", [mov(6, 1), Insn(0x20), exit_()], "needs the context of a packet", 1),
    ("endless", [ZERO, Insn(0x05, off=-1)], "instruction budget is used up", 1),
    ("huge size", [mov(1, 10), movi(2, -1), movi(3, 0), call(113), exit_()], "negative or beyond all bounds", 3),
    (
        "helper writes too far",
        [mov(1, 10), movi(2, 8), movi(3, 0), call(113), exit_()],
        "outside its 512 bytes",
        3,
    ),
    ("unlock", [mov(1, 10), call(94), exit_()], "which it does not hold", 1),
    ("submit of nothing", [mov(1, 10), movi(2, 0), call(132), ZERO, exit_()], "is no record", 2),
]


@pytest.mark.parametrize(("name", "code", "message", "index"), RUNNING, ids=[one[0] for one in RUNNING])
def test_running(name, code, message, index) -> None:
    vm = Vm(code, budget=1000)
    if message is None:
        assert vm.run(ctx=bytes(8)) == 0 or index is None
        return
    with pytest.raises(VmError, match=message) as caught:
        vm.run(ctx=bytes(8))
    error = caught.value
    assert (error.program, error.function, error.index) == ("main", "main", index)
    assert error.insn
    assert str(error).startswith(f"program 'main', instruction {index} ({error.insn}): ")
    assert "r10 = " in error.details


def test_registers_after_a_call() -> None:
    code = [movi(2, 1), Insn(0x85, 0, BPF_PSEUDO_CALL, 0, 2), mov(0, 2), exit_(), ZERO, exit_()]
    refusal(code, f"r2 {REGISTER}")
    # The callee sees neither r0 nor the caller's r6.
    for register in (0, 6):
        code = [movi(0, 1), movi(6, 1), Insn(0x85, 0, 1, 0, 1), exit_(), mov(0, register), exit_()]
        assert refusal(code, f"r{register} {REGISTER}").index == 4


def test_calls_nest_eight_deep() -> None:
    def chain(levels: int) -> list[Insn]:
        code = []
        for _ in range(levels - 1):
            code += [Insn(0x85, 0, BPF_PSEUDO_CALL, 0, 1), exit_()]
        return [*code, ZERO, exit_()]

    assert Vm(chain(8)).run() == 0
    error = refusal(chain(9), "nested deeper than 8 frames")
    assert error.index == 14
    recursive = [Insn(0x85, 0, BPF_PSEUDO_CALL, 0, -1), exit_()]
    refusal(recursive, "nested deeper than 8 frames")


def test_pointer_into_a_dead_frame() -> None:
    code = [Insn(0x85, 0, 1, 0, 2), ldx(8, 0, 0, -8), exit_(), st(8, 10, -8, 1), mov(0, 10), exit_()]
    assert refusal(code, "the stack frame of a subprogram is there no more").index == 1


def test_function_is_named() -> None:
    main = Body().call("callee").end()
    callee = Body("callee", ".text").add(movi(1, 0), ldx(8, 0, 1, 0)).end()
    with pytest.raises(VmError) as caught:
        Vm(make_object([main, callee], [])).run("main")
    assert (caught.value.function, caught.value.index) == ("callee", 1)
    assert str(caught.value).startswith("program 'main', function 'callee', instruction 1 (r0 = *(u64 *)(r1 + 0x0)): ")


def with_maps(body: Body, *maps: MapSpec, message: str) -> VmError:
    with pytest.raises(VmError, match=message) as caught:
        Vm(make_object([body], list(maps))).run("main")
    return caught.value


def test_maps() -> None:
    rodata = array("ro", 8, contents=bytes(8))
    rodata.frozen = True
    with_maps(Body().data(1, "ro").add(st(8, 1, 0, 1)).end(0), rodata, message="value of map 'ro', which is read-only")
    with_maps(Body().data(1, "m").add(ldx(8, 0, 1, 4)).end(), array("m", 8), message="outside its 8 bytes")
    with_maps(Body().data(1, "m", 8).end(0), array("m", 8), message="offset 8 is outside the 8 bytes")
    with_maps(Body().data(1, "m").end(0), array("m", 8, 2), message="no directly addressed value")
    with_maps(Body().map(1, "m").add(ldx(8, 0, 1, 0)).end(), array("m", 8), message="'m' itself, which has no bytes")
    unset = Body().map(1, "m").add(mov(2, 10), alu64(BPF_ADD, 2, imm=-4), call(1)).end(0)
    with_maps(unset, array("m", 8), message="lets a helper read 4 bytes .* was never written")
    absent = Body().map(1, "m").add(st(4, 10, -4, 9), mov(2, 10), alu64(BPF_ADD, 2, imm=-4), call(1))
    absent.add(ldx(8, 0, 0, 0)).end()
    with_maps(absent, array("m", 8), message="a null pointer")
    odd = MapSpec("odd", 9999, 4, 4, 1)
    with_maps(Body().map(1, "odd").end(0), odd, message="of which there is no model")
    with pytest.raises(VmError, match="offset"):
        Vm([Insn(LD_IMM64, 1, 1, 0, 1 << 32), ZERO, exit_()], maps=[array("m", 8)]).run()


@pytest.mark.parametrize(
    ("flag", "helper", "message"),
    [(abi.F_RDONLY_PROG, 2, "is read-only for programs"), (abi.F_WRONLY_PROG, 1, "is write-only for programs")],
)
def test_map_permissions(flag, helper, message) -> None:
    spec = MapSpec("m", abi.MAP_TYPE_HASH, 4, 4, 1, flag)
    body = Body().map(1, "m").add(st(8, 10, -8, 0), mov(2, 10), alu64(BPF_ADD, 2, imm=-8), mov(3, 2), movi(4, 0))
    with_maps(body.add(call(helper)).end(0), spec, message=message)


@pytest.mark.parametrize(
    ("type", "helper", "message"),
    [
        (abi.MAP_TYPE_QUEUE, 1, "a program cannot look up an element"),
        (abi.MAP_TYPE_PROG_ARRAY, 2, "a program cannot update an element"),
        (abi.MAP_TYPE_PROG_ARRAY, 3, "a program cannot delete an element"),
        (abi.MAP_TYPE_HASH, 87, "a program cannot push"),
        (abi.MAP_TYPE_HASH, 88, "a program cannot pop or peek"),
        (abi.MAP_TYPE_HASH, 131, "is no ring buffer"),
        (abi.MAP_TYPE_HASH, 195, "is not a per-CPU map"),
        (abi.MAP_TYPE_HASH, 12, "is no program array"),
        (abi.MAP_TYPE_HASH, 25, "is no perf event array"),
    ],
)
def test_wrong_kind_of_map(type, helper, message) -> None:
    sizes = (0, 4) if type == abi.MAP_TYPE_QUEUE else (4, 4)
    spec = MapSpec("m", type, *sizes, 4)
    body = Body().add(mov(6, 1), st(8, 10, -8, 0))
    if helper in (12, 25):
        body.add(mov(1, 6)).map(2, "m").add(movi(3, 0), mov(4, 10), alu64(BPF_ADD, 4, imm=-8), movi(5, 4))
    else:
        body.map(1, "m").add(mov(2, 10), alu64(BPF_ADD, 2, imm=-8), mov(3, 2), movi(4, 0))
    with_maps(body.add(call(helper)).end(0), spec, message=message)


def test_map_walk_of_a_kind_without_one() -> None:
    body = Body().map(1, "m").function(2, "f").add(movi(3, 0), movi(4, 0), call(164)).end(0)
    callback = Body("f", ".text").end(0)
    with pytest.raises(VmError, match="cannot walk over the elements"):
        Vm(make_object([body, callback], [MapSpec("m", abi.MAP_TYPE_QUEUE, 0, 4, 4)])).run("main")


def test_callback_must_return_0_or_1() -> None:
    body = Body().add(movi(1, 3)).function(2, "f").add(movi(3, 0), movi(4, 0), call(181)).end()
    with pytest.raises(VmError, match="the callback returned 0x2"):
        Vm(make_object([body, Body("f", ".text").end(2)], [])).run("main")


def ring_body(*after: Insn) -> Body:
    return Body().map(1, "ring").add(movi(2, 8), movi(3, 0), call(131), mov(6, 0), *after)


RING = MapSpec("ring", abi.MAP_TYPE_RINGBUF, 0, 0, 4096)
SUBMIT = (mov(1, 6), movi(2, 0), call(132))


def test_ring_buffer_records() -> None:
    with_maps(ring_body().end(0), RING, message="neither submitted nor discarded")
    with_maps(ring_body(*SUBMIT, *SUBMIT).end(0), RING, message="is no record .* still open")
    with_maps(ring_body(*SUBMIT, st(8, 6, 0, 1)).end(0), RING, message="of ring buffer 'ring' is there no more")
    with_maps(ring_body(st(8, 6, 8, 1)).end(0), RING, message="outside its 8 bytes")
    with_maps(ring_body(alu64(BPF_ADD, 6, imm=4), *SUBMIT).end(0), RING, message="is no record")


def test_spin_locks() -> None:
    lock = (mov(1, 6), call(93))
    with_maps(Body().data(6, "m").add(*lock, *lock).end(0), array("m", 8), message="while it holds the one")
    with_maps(Body().data(6, "m").add(*lock).end(0), array("m", 8), message="exits with the spin lock")


def test_tail_call_wants_the_context() -> None:
    body = Body().add(mov(1, 10)).map(2, "progs").add(movi(3, 0), call(12)).end(0)
    with_maps(body, MapSpec("progs", abi.MAP_TYPE_PROG_ARRAY, 4, 4, 1), message="which is not the program's")
    body = Body().map(2, "progs").add(movi(3, 0), call(12)).end()
    with_maps(body, MapSpec("progs", abi.MAP_TYPE_PROG_ARRAY, 4, 4, 1), message=f"r0 {REGISTER}")
    body = Body().map(2, "progs").add(call(12)).end(0)
    with_maps(body, MapSpec("progs", abi.MAP_TYPE_PROG_ARRAY, 4, 4, 1), message=f"r3 {REGISTER}")


def test_user_memory() -> None:
    vm = Vm([ldx(8, 0, 1, 0), exit_()])
    vm.memory.place(bytes(8), 0x10000, user=True)
    with pytest.raises(VmError, match="which is user space"):
        vm.run(args=[0x10000])


def test_perf_output_wants_the_context() -> None:
    body = Body().add(st(8, 10, -8, 0), mov(1, 10)).map(2, "events")
    body.add(movi(3, -1), mov(4, 10), alu64(BPF_ADD, 4, imm=-8), movi(5, 8), call(25)).end(0)
    with_maps(body, MapSpec("events", abi.MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 1), message="which is not the program's")


def test_printing_wants_its_arguments() -> None:
    fmt = array("fmt", 8, contents=b"%d\0")
    body = Body().data(1, "fmt").add(movi(2, 3), call(6)).end(0)
    with_maps(body, fmt, message="formats a register that was never written")
    body = Body().data(1, "fmt").add(movi(2, 0), call(6)).end(0)
    with_maps(body, fmt, message="format of 0 bytes")


def test_misaligned_atomics() -> None:
    body = Body().data(1, "m").add(movi(2, 1), atomic(4, 1, 2, 2, 0)).end(0)
    with_maps(body, array("m", 16), message="a misaligned atomic access")
    release = Insn(BPF_STX | BPF_ATOMIC | BPF_W, 1, 2, 1, 0x110)
    with_maps(Body().data(1, "m").add(movi(2, 1), release).end(0), array("m", 16), message="a misaligned atomic access")
    acquire = Insn(BPF_STX | BPF_ATOMIC | BPF_W, 0, 1, 1, BPF_LOAD_ACQ)
    with_maps(Body().data(1, "m").add(acquire).end(0), array("m", 16), message="reads 4 bytes .* misaligned atomic")
    readonly = array("m", 16, contents=bytes(16))
    readonly.frozen = True
    with_maps(Body().data(1, "m").add(movi(2, 1), atomic(4, 1, 0, 2, 0)).end(0), readonly, message="read-only")


# --- wrong use ----------------------------------------------------------------------------


def test_wrong_use() -> None:
    two = {"a": [ZERO, exit_()], "b": [ZERO, exit_()]}
    with pytest.raises(VmError, match="say which program to run; there are: a, b"):
        Vm(two).run()
    with pytest.raises(VmError, match="there is no program 'c'"):
        Vm(two).run("c")
    with pytest.raises(VmError, match="5 arguments at most"):
        Vm(two).run("a", args=range(6))
    with pytest.raises(VmError, match="does not say how many"):
        Vm(two, helpers={1: lambda vm, *args: 0})
    with pytest.raises(VmError, match="up to 5 registers"):
        Vm(two, helpers={1: lambda: 0})
    with pytest.raises(VmError, match="14 bytes at least"):
        Vm(two).run("a", packet=b"short")
    with pytest.raises(VmError, match="no packet context for 'lsm'"):
        Vm(two).run("a", packet=bytes(64), kind="lsm")
    with pytest.raises(VmError, match="is little-endian, the program big-endian"):
        Vm(two, byteorder="big", maps=Vm(two, maps=[array("m", 8)]).maps)
    with pytest.raises(VmError, match="are not modelled"):
        Vm(two, maps=[MapSpec("m", 9999, 4, 4, 1)])
    vm = Vm(two)
    vm.memory.place(bytes(16), 0x10000)
    for address in (0, 0x0FFF8, 0x1000F, (1 << 64) - 8):
        with pytest.raises(VmError, match="cannot be placed"):
            vm.memory.place(bytes(16), address)


def test_mistake_in_a_helper_is_not_hidden() -> None:
    def broken(vm):
        return 1 + None

    with pytest.raises(TypeError):
        Vm([call(500), exit_()], helpers={500: broken}).run()
