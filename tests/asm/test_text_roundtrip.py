"""Text and back: random valid code, random bytes, and garbage for the parser."""

from __future__ import annotations

import pytest
from asm_corpus import FORMS, LLVM, MNEMONIC, build, everything, operands
from hypothesis import given, settings
from hypothesis import strategies as st

from pybpf.asm.disasm import exact, source
from pybpf.asm.insn import Insn, Word, decode_any, encode
from pybpf.asm.opcodes import LD_IMM64
from pybpf.asm.source import Source, assemble
from pybpf.asmtool import disassemble_raw
from pybpf.errors import AsmError

RANGES = {
    "dst": st.integers(0, 10),
    "src": st.integers(0, 10),
    "off": st.integers(-0x8000, 0x7FFF),
    "imm_high": st.integers(0, 0xFFFF),
    "imm_low": st.integers(0, 0xFFFF),
    "imm_first": st.integers(-(1 << 31), (1 << 31) - 1),
    "imm_second": st.integers(-(1 << 31), (1 << 31) - 1),
}


def instruction(form):
    fields = {
        field: RANGES.get(field, st.integers(0, (1 << 64) - 1) if form.op == LD_IMM64 else RANGES["imm_first"])
        for field, _ in operands(form)
    }
    if "{jump:" in form.mnemonic:
        # Distances that often lead to an instruction, so that labels come up.
        field = "imm" if ":imm}" in form.mnemonic.rpartition("{jump")[2] else "off"
        fields[field] = st.one_of(st.integers(-20, 20), RANGES["off"])
    return st.builds(lambda **given: build(form, given), **fields)


valid = st.sampled_from(FORMS).flatmap(instruction)
dialects = st.sampled_from((LLVM, MNEMONIC))
orders = st.sampled_from(("little", "big"))


@settings(max_examples=300, deadline=None)
@given(st.lists(valid, min_size=1, max_size=40), dialects, orders)
def test_random_programs(code, dialect, byteorder):
    raw = encode(code, byteorder)
    assert decode_any(raw, byteorder) == code
    assert assemble(source(code, dialect, byteorder), dialect, byteorder) == raw
    # Also without labels, and as the listing that the command prints.
    assert assemble("\n".join(exact(insn, dialect, byteorder) for insn in code), dialect, byteorder) == raw
    assert assemble("\n".join(disassemble_raw(raw, dialect, byteorder)), dialect, byteorder) == raw


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(min_size=8, max_size=8), max_size=20).map(b"".join), dialects, orders)
def test_random_bytes(raw, dialect, byteorder):
    code = decode_any(raw, byteorder)
    assert encode(code, byteorder) == raw
    assert assemble(source(code, dialect, byteorder), dialect, byteorder) == raw


def test_slots_that_are_no_instruction():
    raw = bytes.fromhex("18bb0000010000001801000000000000b7bb000000000000ff00000000000000")
    code = decode_any(raw)
    assert [type(insn) for insn in code] == [Word, Word, Word, Insn]
    text = source(code)
    assert text.count(".8byte") == 4
    assert assemble(text) == raw


WORDS = sorted({word for form in FORMS for template in form.templates(LLVM) for word in template.split()} | {
    word for form in FORMS for template in form.templates(MNEMONIC) for word in template.split()
})  # fmt: skip
pieces = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(
        ("r1", "w2", "%r3", "%", "r11", "r999999999", "+", "-", "(", ")", "[", "]", ",", ":", "<", ">", ";", "\n", "#")
    ),
    st.sampled_from((".map", ".section", ".globl", ".type", ".8byte", ".license", '"', "/*", "*/", "1b", "1f", "1:")),
    st.integers(-(1 << 66), 1 << 66).map(str),
    st.integers(0, 1 << 66).map(hex),
    st.text(max_size=6),
)


@settings(max_examples=600, deadline=None)
@given(st.lists(pieces, max_size=25).map(" ".join), dialects)
def test_garbage_is_refused_in_one_line(text, dialect):
    check_refusal(text, dialect)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80), dialects)
def test_any_text(text, dialect):
    check_refusal(text, dialect)


LINES = {
    dialect: [exact(insn, dialect) for _, insn in everything()[:: 97 if dialect == LLVM else 89]]
    for dialect in (LLVM, MNEMONIC)
}


@settings(max_examples=400, deadline=None)
@given(st.data(), dialects)
def test_mutated_lines(data, dialect):
    line = data.draw(st.sampled_from(LINES[dialect]))
    at = data.draw(st.integers(0, len(line)))
    cut = data.draw(st.integers(0, 3))
    new = data.draw(st.text("rw%+-*()[], 0123456789xabcdefgs.:#;\n<>=!&|^/", max_size=3))
    check_refusal(line[:at] + new + line[at + cut :], dialect)


def check_refusal(text, dialect):
    message = refusal(text, dialect)
    if message:
        where, line, column, what = message.split(":", 3)
        assert (where, len(message.splitlines())) == ("f", 1)
        assert 1 <= int(line) <= text.count("\n") + 1
        assert 1 <= int(column) <= max(map(len, text.split("\n"))) + 1
        assert what.strip()


def refusal(text, dialect):
    try:
        for code in Source(text, dialect, "f").assemble(relocatable=True):
            encode(code.insns)
    except AsmError as error:
        return str(error)
    return ""


def test_deep_and_long_input():
    with pytest.raises(AsmError):
        assemble("(" * 100_000)
    with pytest.raises(AsmError):
        assemble("r1 = " + "-" * 50_000 + "r2")
    with pytest.raises(AsmError):
        assemble("r1 = " + "9" * 5000)
    assert assemble("r1 = " + "-" * 50_000 + "2") == assemble("r1 = 2")
