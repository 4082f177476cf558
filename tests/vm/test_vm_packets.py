"""Contexts with packets: xdp, tc and socket programs, direct access and the legacy loads, beside the kernel."""

from __future__ import annotations

import pytest
from vm_programs import Body, array, loaded_both, make_object, mov, movi

from pybpf.asm.insn import Insn, alu64, atomic, call, encode, exit_, jmp, ldx, st, stx
from pybpf.asm.opcodes import BPF_ADD, BPF_JGT
from pybpf.vm import Vm, VmError

FRAME = bytes.fromhex("020000000001020000000002") + b"\x08\x00" + bytes(range(0x40, 0x80))
OFFSETS = [0, 1, 2, 13, 14, 40, 49, 50, 60, 61, 62, 63, 64, 74, 77, 78, 100, 0x7FFFFFFF, -1, -0x80000000]
NET, LINK = -0x100000, -0x200000


def compare(body: Body, frame: bytes = FRAME, maps=()) -> int:
    """Run in both; results, and packets afterwards, must be the same."""
    with loaded_both(make_object([body], list(maps))) as (vm, kernel):
        got = vm.run(packet=frame)
        wanted = kernel.programs["main"].test_run(frame)
        assert got & 0xFFFFFFFF == wanted.retval
        if body.section != "socket":
            assert vm.packet == wanted.data
        for spec in maps:
            assert vm.maps[spec.name].lookup(bytes(4)) == kernel.maps[spec.name].lookup(bytes(4))
        return got


@pytest.mark.native
@pytest.mark.parametrize("section", ["socket", "tc"])
def test_legacy_loads(section) -> None:
    """Every size, absolute and indirect, in and out of the packet: out of it the program ends with 0."""
    for size in (0x20, 0x28, 0x30):
        for offset in [*OFFSETS, NET, NET + 5, NET + 63, NET + 64, LINK, LINK + 12, LINK + 77, LINK + 78]:
            body = Body(section=section).add(mov(6, 1), Insn(size, imm=offset), alu64(BPF_ADD, 0, imm=1)).end()
            compare(body)
            if offset > -0x10000:
                body = Body(section=section).add(mov(6, 1), movi(7, offset), Insn(size ^ 0x60, 0, 7, imm=1))
                compare(body.add(alu64(BPF_ADD, 0, imm=1)).end())


def test_legacy_load_by_hand() -> None:
    code = [mov(6, 1), Insn(0x28, imm=12), exit_()]
    assert Vm(code).run(packet=FRAME, kind="tc") == 0x0800
    assert Vm(code).run(packet=FRAME, kind="socket") == 0x4C4D
    assert Vm(code).run(packet=FRAME[:20], kind="socket") == 0
    with pytest.raises(VmError, match="not of an xdp program"):
        Vm(code).run(packet=FRAME, kind="xdp")
    with pytest.raises(VmError, match="r1 was never written"):
        Vm([mov(6, 1), Insn(0x28, imm=12), mov(0, 1), exit_()]).run(packet=FRAME)
    # In a subprogram it ends that one only.
    code = [mov(6, 1), Insn(0x85, 0, 1, 0, 2), alu64(BPF_ADD, 0, imm=5), exit_()]
    code += [mov(6, 1), Insn(0x28, imm=500), alu64(BPF_ADD, 0, imm=1), exit_()]
    assert Vm(code).run(packet=FRAME) == 5


def direct(section: str, at: int, size: int) -> Body:
    """Read ``size`` bytes at ``at`` if they are there."""
    data, end = (0, 4) if section == "xdp" else (76, 80)
    body = Body(section=section).add(ldx(4, 2, 1, data), ldx(4, 3, 1, end), movi(0, 99), mov(4, 2))
    body.add(alu64(BPF_ADD, 4, imm=at + size), jmp(BPF_JGT, 4, 2, 3), ldx(size, 0, 2, at), st(1, 2, at, 0x55))
    return body.add(exit_())


@pytest.mark.native
@pytest.mark.parametrize("section", ["xdp", "tc"])
@pytest.mark.parametrize(("at", "size"), [(0, 1), (12, 2), (70, 8), (71, 8), (77, 1), (78, 1)])
def test_direct_access(section, at, size) -> None:
    compare(direct(section, at, size))


def test_direct_access_without_a_check() -> None:
    code = [ldx(4, 2, 1, 0), ldx(1, 0, 2, 78), exit_()]
    with pytest.raises(VmError, match="offset 78 of the packet: outside its 78 bytes"):
        Vm(code).run(packet=FRAME, kind="xdp")
    with pytest.raises(VmError, match="offset -1 of the packet: below its first byte"):
        Vm([ldx(4, 2, 1, 0), ldx(1, 0, 2, -1), exit_()]).run(packet=FRAME, kind="xdp")
    with pytest.raises(VmError, match="not allowed there"):
        Vm([ldx(4, 2, 1, 0), movi(0, 1), atomic(8, 2, 0, 0, 0), exit_()]).run(packet=FRAME, kind="xdp")


@pytest.mark.native
def test_fields_of_the_socket_buffer() -> None:
    fields = [0, 16, 48, 52, 8, 32]  # len, protocol, cb, mark, priority
    body = Body(section="tc").add(st(4, 1, 52, 7), st(4, 1, 8, 9), st(4, 1, 32, 3), mov(6, 1))
    for number, at in enumerate(fields):
        body.add(ldx(4, 0, 6, at)).data(1, "out", 8 * number).add(stx(8, 1, 0, 0))
    compare(body.end(0), maps=[array("out", 8 * len(fields))])
    body = Body(section="socket").add(ldx(4, 0, 1, 0), ldx(4, 2, 1, 16), alu64(BPF_ADD, 0, 2)).end()
    compare(body)


CONTEXT = [
    ("xdp", [ldx(8, 0, 1, 0)], "data can only be read, as 4 bytes"),
    ("xdp", [ldx(2, 0, 1, 4)], "data_end can only be read, as 4 bytes"),
    ("xdp", [ldx(4, 0, 1, 2)], "data can only be read, as 4 bytes"),
    ("xdp", [st(4, 1, 0, 0)], "data can only be read"),
    ("xdp", [st(4, 1, 12, 0)], "xdp programs cannot write this field"),
    ("xdp", [ldx(4, 0, 1, 20)], "xdp programs cannot read this field"),
    ("xdp", [ldx(4, 0, 1, 24)], "outside its 24 bytes"),
    ("xdp", [ldx(4, 0, 1, 13)], "misaligned access of the context"),
    ("socket", [ldx(4, 0, 1, 76)], "socket programs cannot read this field"),
    ("socket", [st(4, 1, 8, 0)], "socket programs cannot write this field"),
    ("tc", [st(4, 1, 0, 0)], "tc programs cannot write this field"),
    ("tc", [st(4, 1, 190, 0)], "outside its 192 bytes"),
]


@pytest.mark.parametrize(("kind", "code", "message"), CONTEXT, ids=str)
def test_context_fields_that_are_refused(kind, code, message) -> None:
    with pytest.raises(VmError, match=message):
        Vm([*code, movi(0, 0), exit_()]).run(packet=FRAME, kind=kind)


@pytest.mark.native
@pytest.mark.parametrize(("kind", "code"), [one[:2] for one in CONTEXT], ids=str)
def test_kernel_refuses_them_too(kind, code) -> None:
    body = Body(section=kind).add(*code).end(0)
    with pytest.raises(Exception, match="verifier rejected"), loaded_both(make_object([body], [])):
        pass


@pytest.mark.native
@pytest.mark.parametrize("section", ["tc", "socket"])
@pytest.mark.parametrize(("at", "size"), [(0, 8), (56, 8), (57, 8), (70, 8), (71, 8), (-1, 4)])
def test_load_bytes(section, at, size) -> None:
    body = Body(section=section).add(movi(2, at), mov(3, 10), alu64(BPF_ADD, 3, imm=-8), movi(4, size), call(26))
    body.data(1, "out").add(stx(8, 1, 0, 0), ldx(size, 2, 10, -8), stx(8, 1, 8, 2)).end(0)
    compare(body, maps=[array("out", 16)])


@pytest.mark.native
@pytest.mark.parametrize(("at", "size", "flags"), [(0, 4, 0), (70, 8, 0), (71, 8, 0), (10, 2, 4), (20, 1, 2)])
def test_store_bytes(at, size, flags) -> None:
    body = Body(section="tc").add(st(8, 10, -8, 0x11223344), movi(2, at), mov(3, 10), alu64(BPF_ADD, 3, imm=-8))
    body.add(movi(4, size), movi(5, flags), call(9)).data(1, "out").add(stx(8, 1, 0, 0)).end(0)
    compare(body, maps=[array("out", 8)])


@pytest.mark.native
@pytest.mark.parametrize("delta", [0, 4, 64, 65, 78, 100, -8, -216, -217, -300])
def test_adjust_head(delta) -> None:
    body = Body(section="xdp").add(mov(6, 1), movi(2, delta), call(44)).data(1, "out").add(stx(8, 1, 0, 0))
    body.add(ldx(4, 2, 6, 0), ldx(4, 3, 6, 4), mov(0, 3), alu64(0x10, 0, 2))
    # What the head grew by is not defined: write it.
    if delta in (-8, -216):
        body.add(mov(4, 2), alu64(BPF_ADD, 4, imm=-delta), jmp(BPF_JGT, 4, -delta // 8, 3))
        body.add(*(st(8, 2, at, 0x77) for at in range(0, -delta, 8)))
    compare(body.end(), maps=[array("out", 8)])


@pytest.mark.native
@pytest.mark.parametrize("delta", [0, -4, -64, -65, 4, 100, 3442, 3443])
def test_adjust_tail(delta) -> None:
    body = Body(section="xdp").add(mov(6, 1), movi(2, delta), call(65)).data(1, "out").add(stx(8, 1, 0, 0))
    body.add(ldx(4, 2, 6, 0), ldx(4, 3, 6, 4), mov(0, 3), alu64(0x10, 0, 2)).end()
    with loaded_both(make_object([body], [array("out", 8)])) as (vm, kernel):
        wanted = kernel.programs["main"].test_run(FRAME, room=4096)
        assert vm.run(packet=FRAME) == wanted.retval
        assert vm.packet == wanted.data
        assert vm.maps["out"].lookup(bytes(4)) == kernel.maps["out"].lookup(bytes(4))


def test_old_packet_pointers_are_bad_after_a_change() -> None:
    code = [mov(6, 1), ldx(4, 7, 1, 0), movi(2, 2), call(44), ldx(1, 0, 7, 0), exit_()]
    with pytest.raises(VmError, match="the packet is there no more"):
        Vm(code).run(packet=FRAME, kind="xdp")
    with pytest.raises(VmError, match="wants the context of a packet"):
        Vm([movi(2, 2), call(44), exit_()]).run(packet=FRAME, kind="tc")


def test_big_endian_context() -> None:
    code = encode([ldx(4, 2, 1, 76), ldx(2, 0, 2, 12), ldx(4, 3, 1, 16), alu64(BPF_ADD, 0, 3), exit_()], "big")
    assert Vm(code, byteorder="big").run(packet=FRAME, kind="tc") == 0x0800 + 0x0800
