"""Encoding of instructions: golden bytes, round trips, refusals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybpf.asm import insn as asm
from pybpf.asm import opcodes as op
from pybpf.asm.insn import Insn, decode, encode
from pybpf.errors import AsmError

# Bytes as an independent assembler (llvm-mc 19) gives them.
GOLDEN = [
    ("r0 = 5", asm.alu64(op.BPF_MOV, 0, imm=5), "b700000005000000"),
    ("w1 = w2", asm.alu32(op.BPF_MOV, 1, 2), "bc21000000000000"),
    ("r1 += -8", asm.alu64(op.BPF_ADD, 1, imm=-8), "07010000f8ffffff"),
    ("r1 s/= r2", asm.alu64(op.BPF_DIV, 1, 2, off=1), "3f21010000000000"),
    ("r1 = (s8)r2", asm.alu64(op.BPF_MOV, 1, 2, off=8), "bf21080000000000"),
    ("r1 = bswap64 r1", asm.alu64(op.BPF_END, 1, imm=64), "d701000040000000"),
    ("r1 = be16 r1", Insn(op.BPF_ALU | op.BPF_END | op.BPF_TO_BE, 1, imm=16), "dc01000010000000"),
    ("r0 = addr_space_cast(r1, 0, 1)", Insn(0xBF, 0, 1, op.BPF_ADDR_SPACE_CAST, 1), "bf10010001000000"),
    ("r0 = *(s8 *)(r1 + 3)", Insn(op.BPF_LDX | op.BPF_MEMSX | op.BPF_B, 0, 1, 3), "9110030000000000"),
    ("r1 = *(u64 *)(r10 - 8)", asm.ldx(8, 1, 10, -8), "79a1f8ff00000000"),
    ("*(u32 *)(r10 - 4) = r1", asm.stx(4, 10, -4, 1), "631afcff00000000"),
    ("*(u8 *)(r1 + 2) = 7", asm.st(1, 1, 2, 7), "7201020007000000"),
    ("lock *(u64 *)(r10 - 8) += r2", asm.atomic(8, 10, -8, 2, op.BPF_ADD), "db2af8ff00000000"),
    ("r0 = cmpxchg_64(r1 + 8, r0, r3)", asm.atomic(8, 1, 8, 3, op.BPF_CMPXCHG), "db310800f1000000"),
    ("if r1 == 0 goto +3", asm.jmp(op.BPF_JEQ, 1, 3), "1501030000000000"),
    ("if w1 s< w2 goto -2", asm.jmp32(op.BPF_JSLT, 1, -2, 2), "ce21feff00000000"),
    ("gotol +4", Insn(op.BPF_JMP32 | op.BPF_JA, imm=4), "0600000004000000"),
    ("may_goto +1", Insn(op.BPF_JMP | op.BPF_JCOND, off=1), "e500010000000000"),
    ("call 5", asm.call(5), "8500000005000000"),
    ("exit", asm.exit_(), "9500000000000000"),
    ("r1 = 0x1122334455667788 ll", asm.ld_imm64(1, 0x1122334455667788), "18010000887766550000000044332211"),
    ("map", asm.ld_imm64(1, 3, op.BPF_PSEUDO_MAP_FD), "18110000030000000000000000000000"),
    ("r0 = *(u16 *)skb[2]", Insn(op.BPF_LD | op.BPF_ABS | op.BPF_H, imm=2), "2800000002000000"),
]


@pytest.mark.parametrize(("text", "insn", "raw"), GOLDEN, ids=[row[0] for row in GOLDEN])
def test_golden(text, insn, raw):
    assert insn.encode().hex() == raw
    assert decode(bytes.fromhex(raw)) == [insn]


def test_big_endian_has_the_registers_swapped():
    assert asm.ldx(8, 1, 10, -8).encode("big").hex() == "791afff800000000"
    assert asm.ld_imm64(2, 0x1122334455667788).encode("big").hex() == "18200000556677880000000011223344"


insns = st.one_of(
    st.builds(
        Insn,
        st.integers(0, 255).filter(lambda code: code != op.LD_IMM64),
        st.integers(0, 10),
        st.integers(0, 10),
        st.integers(-0x8000, 0x7FFF),
        st.integers(-(1 << 31), (1 << 31) - 1),
    ),
    st.builds(asm.ld_imm64, st.integers(0, 10), st.integers(-(1 << 63), (1 << 64) - 1), st.integers(0, 6)),
)


@given(st.lists(insns, max_size=20), st.sampled_from(["little", "big"]))
def test_round_trip(code, byteorder):
    raw = encode(code, byteorder)
    assert len(raw) == 8 * sum(insn.slots for insn in code)
    assert decode(raw, byteorder) == code


@given(st.binary(max_size=80), st.sampled_from(["little", "big"]))
def test_decode_refuses_or_round_trips(raw, byteorder):
    try:
        code = decode(raw, byteorder)
    except AsmError:
        return
    assert encode(code, byteorder) == raw


@pytest.mark.parametrize(
    "insn",
    [
        Insn(256),
        Insn(0xB7, 11),
        Insn(0xB7, 0, 16),
        Insn(0x79, 0, 0, 0x8000),
        Insn(0x79, 0, 0, -0x8001),
        Insn(0xB7, imm=1 << 31),
        Insn(0xB7, imm=-(1 << 31) - 1),
        Insn(0x18, imm=-(1 << 63) - 1),
    ],
)
def test_fields_out_of_range(insn):
    with pytest.raises(AsmError):
        insn.encode()


@pytest.mark.parametrize("raw", ["00", "1801000000000000", "1801000000000000b700000000000000", "bc0b000000000000"])
def test_malformed_code(raw):
    with pytest.raises(AsmError):
        decode(bytes.fromhex(raw))


def test_properties():
    assert asm.jmp(op.BPF_JEQ, 1, 3).is_jump
    assert not asm.call(1).is_jump
    assert not asm.exit_().is_jump
    assert not asm.exit_().falls_through
    assert not Insn(op.JA).falls_through
    assert asm.call(1).falls_through
    assert Insn(0x06).is_gotol
    assert not Insn(0x06).falls_through
    assert asm.exit_().copy() == asm.exit_()
    assert len({asm.exit_(), asm.exit_(), asm.call(1)}) == 2
