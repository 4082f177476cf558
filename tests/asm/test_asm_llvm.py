"""The generated corpus against LLVM: bytes as llvm-mc assembles them, text as llvm-objdump prints them."""

from __future__ import annotations

import re
import subprocess

import pytest
from asm_corpus import FORMS, LLVM, MNEMONIC, everything, of_form, tool
from test_disasm import elf

from pybpf.asm import opcodes as op
from pybpf.asm.disasm import UNKNOWN, disassemble, exact
from pybpf.asm.forms import LATER
from pybpf.asm.insn import Insn, encode
from pybpf.asm.source import assemble
from pybpf.object.elf import Elf

MC, MC_VERSION = tool("llvm-mc")
OBJDUMP, OBJDUMP_VERSION = tool("llvm-objdump")
# Since 19, cpu v4 is whole and numbers print as hexadecimal.
NEEDED = 19
EVERYTHING = everything()


def template(form):
    return form.template(LLVM)


# Instructions that llvm-mc has no spelling for: it takes local calls and kfuncs by symbol only. The kernel's
# spelling of a local call is a symbol named pc to it, so this one it does not refuse.
LOCAL_CALL = "call {pc:imm}"
OWN_SPELLING = {LOCAL_CALL, "call kfunc {i:imm}", "call kfunc {i:imm}, {s16:off}"}


def is_known(form, version):
    """Whether LLVM of that version knows the instruction at all; which forms are not is asserted below."""
    return form.cpu != LATER or version >= (22 if "gotox" in form.llvm else 21)


def mc_can_say(insn):
    """Whether llvm-mc can be given these operands."""
    if insn.is_gotol and not -0x8000 <= insn.imm <= 0x7FFF:
        return False  # a distance in numbers has 16 bits, longer ones are labels
    if insn.op & 0xE7 == op.BPF_LD | op.BPF_IND and insn.imm:
        return False  # no offset behind the register
    # The second slot of a load with a source register cannot be given.
    return not (insn.op == op.LD_IMM64 and insn.src and insn.imm >> 32)


def llvm_mc(lines, path, triple="bpfel"):
    """Code of the lines, and line numbers (from 0) of what llvm-mc refused."""
    done = subprocess.run(
        [MC, "-triple", triple, "-mcpu=v4", "-filetype=obj", "-o", str(path)],
        input="\n".join(lines),
        capture_output=True,
        text=True,
    )
    refused = {int(number) - 1 for number in re.findall(r"^<stdin>:(\d+):\d+: error", done.stderr, re.MULTILINE)}
    if refused:
        return b"", refused
    assert done.returncode == 0, done.stderr[-2000:]
    file = Elf(path.read_bytes())
    return file.bytes(next(section for section in file.sections if section.name == ".text")), refused


needs_mc = pytest.mark.skipif(MC_VERSION < NEEDED, reason=f"llvm-mc {NEEDED} or newer is not installed")
needs_objdump = pytest.mark.skipif(OBJDUMP_VERSION < NEEDED, reason=f"llvm-objdump {NEEDED} or newer is not installed")


def test_corpus_covers_every_opcode():
    """The corpus has each opcode byte of RFC 9669 and of Linux, and each field's use."""
    opcodes = {insn.op for _, insn in EVERYTHING}
    alu = [code << 4 for code in range(14)]
    expected = {kind | code | bit for kind in (op.BPF_ALU, op.BPF_ALU64) for code in alu for bit in (0, op.BPF_X)}
    expected -= {kind | op.BPF_NEG | op.BPF_X for kind in (op.BPF_ALU, op.BPF_ALU64)} | {op.BPF_ALU64 | op.BPF_END | 8}
    conditions = [code << 4 for code in (*range(1, 8), *range(10, 14))]
    expected |= {kind | code | bit for kind in (op.BPF_JMP, op.BPF_JMP32) for code in conditions for bit in (0, 8)}
    expected |= {op.JA, op.JA | 8, 0x06, 0xE5, op.CALL, op.CALL | 8, op.EXIT, op.LD_IMM64}
    for size in (op.BPF_B, op.BPF_H, op.BPF_W, op.BPF_DW):
        expected |= {op.BPF_LDX | op.BPF_MEM | size, op.BPF_ST | op.BPF_MEM | size, op.BPF_STX | op.BPF_MEM | size}
        expected |= {op.BPF_STX | op.BPF_ATOMIC | size}
        if size != op.BPF_DW:
            expected |= {op.BPF_LDX | op.BPF_MEMSX | size, op.BPF_ABS | size, op.BPF_IND | size}
    assert opcodes == expected
    assert {insn.src for _, insn in EVERYTHING if insn.op == op.LD_IMM64} == set(range(7))
    assert {insn.src for _, insn in EVERYTHING if insn.op == op.CALL} == {0, 1, 2}
    assert {insn.imm for _, insn in EVERYTHING if insn.op == op.BPF_STX | op.BPF_ATOMIC | op.BPF_DW} == {
        0, 1, 0x40, 0x41, 0x50, 0x51, 0xA0, 0xA1, 0xE1, 0xF1, 0x100, 0x110,
    }  # fmt: skip


@pytest.mark.parametrize("dialect", [LLVM, MNEMONIC])
def test_text_assembles_to_the_same(dialect):
    """No corpus instruction is ambiguous in our text, nor does one need a raw number."""
    insns = [insn for _, insn in EVERYTHING]
    lines = [exact(insn, dialect) for insn in insns]
    assert not [line for line in lines if ".8byte" in line]
    assert assemble("\n".join(lines), dialect) == encode(insns)


@needs_mc
def test_forms_that_llvm_mc_knows(tmp_path):
    """One instruction of each form: what llvm-mc refuses is exactly what is listed."""
    chosen = [(form, next(filter(mc_can_say, of_form(form)), None)) for form in FORMS]
    lines = [(form, exact(insn, LLVM)) for form, insn in chosen if insn is not None and template(form) != LOCAL_CALL]
    _, refused = llvm_mc([line for _, line in lines], tmp_path / "forms.o")
    got = {template(lines[index][0]) for index in refused}
    assert got | {LOCAL_CALL} == OWN_SPELLING | {template(form) for form in FORMS if not is_known(form, MC_VERSION)}


@needs_mc
@pytest.mark.parametrize(("triple", "byteorder"), [("bpfel", "little"), ("bpfeb", "big")])
def test_bytes_equal_llvm_mc(tmp_path, triple, byteorder):
    """All of the corpus that LLVM has words for, in one file."""
    insns = [
        insn
        for form, insn in EVERYTHING
        if template(form) not in OWN_SPELLING and is_known(form, MC_VERSION) and mc_can_say(insn)
    ]
    assert len(insns) > 0.9 * len(EVERYTHING)
    lines = [exact(insn, LLVM) for insn in insns]
    code, refused = llvm_mc(lines, tmp_path / "corpus.o", triple)
    assert not refused, [lines[index] for index in sorted(refused)[:5]]
    assert code == encode(insns, byteorder)
    assert assemble("\n".join(lines), LLVM, byteorder) == code


@needs_objdump
@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_text_equals_llvm_objdump(tmp_path, byteorder):
    """All of the corpus, with no form left out: what this LLVM does not know, it must show as unknown or as something
    that its decoder, which skips bits, takes it for."""
    newer = [insn for form, insn in EVERYTHING if not is_known(form, OBJDUMP_VERSION)]
    insns = [insn for form, insn in EVERYTHING if is_known(form, OBJDUMP_VERSION)]
    code = encode(insns + newer, byteorder)
    path = tmp_path / "corpus.o"
    path.write_bytes(elf(code) if byteorder == "little" else big_elf(code))
    shown = objdump(path)
    ours = disassemble(insns + newer, ".text")
    # Where it gives up on an instruction of two slots it prints two lines, but all of those are known.
    assert len(shown) == len(ours)
    known = len(insns)
    assert [text_of(line) for line in ours[:known]] == [text_of(line) for line in shown[:known]]
    for insn, mine, other in zip(newer, ours[known:], shown[known:]):
        if insn.op & 0xE7 == op.BPF_STX | op.BPF_ATOMIC and UNKNOWN not in other:
            assert "lock" in other
        else:
            assert UNKNOWN in other
        assert UNKNOWN not in mine


def text_of(line):
    number, words = line.split(":", 1)
    return f"{int(number)}:{words.strip()}"


def objdump(path):
    done = subprocess.run(
        [OBJDUMP, "-d", "--no-show-raw-insn", "--mcpu=v4", str(path)], check=True, capture_output=True, text=True
    )
    return [line for line in done.stdout.splitlines() if line[8:9] == ":"]


def big_elf(code):
    """The same smallest object, for a big-endian machine."""
    import struct

    names = b"\0.text\0.shstrtab\0"
    header = struct.pack(">16sHHIQQQIHHHHHH", b"\x7fELF\2\2\1", 1, 247, 1, 0, 0, 64, 0, 64, 0, 0, 64, 3, 2)
    at = 64 + 3 * 64
    sections = bytes(64)
    sections += struct.pack(">IIQQQQIIQQ", 1, 1, 6, 0, at, len(code), 0, 0, 8, 0)
    sections += struct.pack(">IIQQQQIIQQ", 7, 3, 0, 0, at + len(code), len(names), 0, 0, 1, 0)
    return header + sections + code + names


@needs_objdump
def test_text_of_every_opcode_byte(tmp_path):
    """All 256 opcode bytes with fields that belong and fields that do not: LLVM's text, unknown ones included."""
    insns = [Insn(op.EXIT)] * 4
    for code in range(256):
        if code == op.LD_IMM64:
            continue
        for off in (0, 1, 3, 8, 16, 32):
            for imm in (0, 1, 16, 32, 64, 0x40, 0x41, 0xE1, 0xF1, 0x7F):
                insns += [Insn(code, 1, src, off, imm) for src in (0, 1, 2)]
    insns += [Insn(op.EXIT)] * 4
    path = tmp_path / "bytes.o"
    path.write_bytes(elf(encode(insns)))
    ours = [text_of(line) for line in disassemble(insns, ".text")]
    theirs = [text_of(line) for line in objdump(path)]
    assert len(ours) == len(theirs)
    different = {insn.op for insn, mine, other in zip(insns, ours, theirs) if mine != other}
    assert different == (set() if OBJDUMP_VERSION >= 22 else {op.JA | op.BPF_X})
