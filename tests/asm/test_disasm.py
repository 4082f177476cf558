"""Text of instructions: against fixed lines, and against llvm-objdump where it is installed."""

from __future__ import annotations

import shutil
import struct
import subprocess

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pybpf.asm import insn as asm
from pybpf.asm import opcodes as op
from pybpf.asm.disasm import UNKNOWN, disassemble, text
from pybpf.asm.insn import Insn, encode

LINES = [
    (asm.alu64(op.BPF_MOV, 0, imm=-5), "r0 = -0x5"),
    (asm.alu32(op.BPF_ARSH, 1, 2), "w1 s>>= w2"),
    (asm.alu64(op.BPF_MOD, 1, imm=5, off=1), "r1 s%= 0x5"),
    (asm.alu64(op.BPF_NEG, 3), "r3 = -r3"),
    (asm.alu32(op.BPF_MOV, 1, 2, off=16), "w1 = (s16)w2"),
    (asm.ldx(8, 1, 10, -8), "r1 = *(u64 *)(r10 - 0x8)"),
    (asm.ldx(1, 1, 2, 0), "w1 = *(u8 *)(r2 + 0x0)"),
    (asm.st(8, 1, 4, -5), "*(u64 *)(r1 + 0x4) = -0x5"),
    (asm.atomic(4, 1, 8, 2, op.BPF_ADD), "lock *(u32 *)(r1 + 0x8) += w2"),
    (asm.atomic(8, 1, 8, 2, op.BPF_XOR | op.BPF_FETCH), "r2 = atomic_fetch_xor((u64 *)(r1 + 0x8), r2)"),
    (asm.atomic(4, 1, 8, 2, op.BPF_XCHG), "w2 = xchg32_32(r1 + 0x8, w2)"),
    (asm.jmp(op.BPF_JSET, 1, 4, imm=8), "if r1 & 0x8 goto +0x4"),
    (asm.jmp32(op.BPF_JSLE, 1, -4, 2), "if w1 s<= w2 goto -0x4"),
    (asm.ld_imm64(1, 1 << 63), "r1 = -0x8000000000000000 ll"),
    (asm.ld_imm64(1, 0, op.BPF_PSEUDO_MAP_FD), "ld_pseudo\tr1, 0x1, 0x0"),
    (Insn(0x06, imm=-2), "gotol -0x2"),
    (Insn(0x8D, 3), "callx r3"),
    (Insn(0xFF), UNKNOWN),
]


@pytest.mark.parametrize(("insn", "line"), LINES, ids=[line for _, line in LINES])
def test_lines(insn, line):
    assert text(insn) == line


@given(st.integers(0, 255), st.integers(0, 10), st.integers(0, 10), st.integers(-99, 99), st.integers(-999, 999))
def test_never_fails(code, dst, src, off, imm):
    assert text(Insn(code, dst, src, off, imm), 5, "f")


def elf(code: bytes) -> bytes:
    """The smallest BPF object: one .text section and the section names."""
    names = b"\0.text\0.shstrtab\0"
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 1, 247, 1, 0, 0, 64, 0, 64, 0, 0, 64, 3, 2)
    text_at = 64 + 3 * 64
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 1, 1, 6, 0, text_at, len(code), 0, 0, 8, 0)
    sections += struct.pack("<IIQQQQIIQQ", 7, 3, 0, 0, text_at + len(code), len(names), 0, 0, 1, 0)
    return header + sections + code + names


def objdump(code: bytes, path) -> list[str]:
    path.write_bytes(elf(code))
    tool = next((name for name in ("llvm-objdump-19", "llvm-objdump-20", "llvm-objdump") if shutil.which(name)), None)
    if tool is None:
        pytest.skip("llvm-objdump is not installed")
    out = subprocess.run(
        [tool, "-d", "--no-show-raw-insn", "--mcpu=v4", str(path)], check=True, capture_output=True, text=True
    ).stdout
    return [line for line in out.splitlines() if line[8:9] == ":"]


@pytest.fixture(scope="module")
def object_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("objdump") / "code.o"
    if not objdump(asm.alu64(op.BPF_MOV, 1, imm=16).encode(), path)[0].endswith("r1 = 0x10"):
        pytest.skip("this llvm-objdump prints decimal immediates; LLVM 19 or newer is needed")
    return path


def registers():
    return st.integers(0, 10)


ALU_CODES = (
    op.BPF_ADD, op.BPF_SUB, op.BPF_MUL, op.BPF_DIV, op.BPF_OR, op.BPF_AND,
    op.BPF_LSH, op.BPF_RSH, op.BPF_MOD, op.BPF_XOR, op.BPF_MOV, op.BPF_ARSH,
)  # fmt: skip
JUMP_CODES = (
    op.BPF_JEQ, op.BPF_JGT, op.BPF_JGE, op.BPF_JSET, op.BPF_JNE,
    op.BPF_JSGT, op.BPF_JSGE, op.BPF_JLT, op.BPF_JLE, op.BPF_JSLT, op.BPF_JSLE,
)  # fmt: skip
S32 = st.integers(-(1 << 31), (1 << 31) - 1)
S16 = st.integers(-0x8000, 0x7FFF)
NEAR = st.integers(-3, 3)
SIZES = st.sampled_from((1, 2, 4, 8))
emitted = st.one_of(
    st.builds(asm.alu64, st.sampled_from(ALU_CODES), registers(), registers()),
    st.builds(lambda code, dst, imm: asm.alu64(code, dst, imm=imm), st.sampled_from(ALU_CODES), registers(), S32),
    st.builds(asm.alu32, st.sampled_from(ALU_CODES), registers(), registers()),
    st.builds(lambda code, dst, imm: asm.alu32(code, dst, imm=imm), st.sampled_from(ALU_CODES), registers(), S32),
    st.builds(lambda dst: asm.alu64(op.BPF_NEG, dst), registers()),
    st.builds(
        lambda dst, big, size: Insn(op.BPF_ALU | op.BPF_END | big, dst, imm=size),
        registers(),
        st.sampled_from((0, 8)),
        st.sampled_from((16, 32, 64)),
    ),
    st.builds(asm.ldx, SIZES, registers(), registers(), S16),
    st.builds(asm.stx, SIZES, registers(), S16, registers()),
    st.builds(asm.st, SIZES, registers(), S16, S32),
    st.builds(
        asm.atomic,
        st.sampled_from((4, 8)),
        registers(),
        S16,
        registers(),
        st.sampled_from((0, 1, 0x40, 0x41, 0x50, 0x51, 0xA0, 0xA1, 0xE1, 0xF1)),
    ),
    st.builds(asm.jmp, st.sampled_from(JUMP_CODES), registers(), NEAR, registers()),
    st.builds(
        lambda code, dst, off, imm: asm.jmp(code, dst, off, imm=imm),
        st.sampled_from(JUMP_CODES),
        registers(),
        NEAR,
        S32,
    ),
    st.builds(asm.jmp32, st.sampled_from(JUMP_CODES), registers(), NEAR, registers()),
    st.builds(
        lambda code, dst, off, imm: asm.jmp32(code, dst, off, imm=imm),
        st.sampled_from(JUMP_CODES),
        registers(),
        NEAR,
        S32,
    ),
    st.builds(asm.ld_imm64, registers(), st.integers(0, (1 << 64) - 1)),
    # LLVM leaves the upper half of these out.
    st.builds(asm.ld_imm64, registers(), st.integers(0, (1 << 32) - 1), st.sampled_from((1, 2, 4))),
    st.builds(lambda off: Insn(op.JA, off=off), NEAR),
    st.builds(asm.call, st.integers(0, 211)),
    st.just(asm.exit_()),
    # cpu v4
    st.builds(
        lambda code, dst, src: asm.alu64(code, dst, src, off=1),
        st.sampled_from((op.BPF_DIV, op.BPF_MOD)),
        registers(),
        registers(),
    ),
    st.builds(
        lambda dst, src, off: asm.alu64(op.BPF_MOV, dst, src, off=off),
        registers(),
        registers(),
        st.sampled_from((8, 16, 32)),
    ),
    st.builds(lambda dst, size: asm.alu64(op.BPF_END, dst, imm=size), registers(), st.sampled_from((16, 32, 64))),
    st.builds(
        lambda size, dst, src, off: Insn(op.BPF_LDX | op.BPF_MEMSX | size, dst, src, off),
        st.sampled_from((op.BPF_B, op.BPF_H, op.BPF_W)),
        registers(),
        registers(),
        S16,
    ),
)


# Every example starts a process, so a failure is not worth shrinking: the message shows the one line.
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(st.lists(emitted, min_size=100, max_size=400))
def test_same_as_llvm(object_path, code):
    pad = [asm.exit_()] * 4
    code = [*pad, *code, *pad]
    ours = disassemble(code, ".text")
    theirs = objdump(encode(code), object_path)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs):
        number, words = other.split(":", 1)
        assert mine == f"{int(number):8d}:\t{words.strip()}"
