"""What the optimisations on the IR do to code that shows them best; that they are right is the random tests' part."""

from __future__ import annotations

import pytest
from test_backend import Build, listing

from pybpf.lang import ir
from pybpf.lang.backend import generate
from pybpf.lang.ir import POINTER, Imm, Slot


def test_a_place_in_the_frame_becomes_a_register():
    """Parts of one word, one of them read with its sign."""
    b = Build(nparams=1)
    slot = Slot(8)
    x = b.new(ir.PARAM, imm=0)
    b.add(ir.STORE, a=slot, b=x)
    low = b.new(ir.LOAD, a=slot, size=4)
    high = b.new(ir.LOAD, a=slot, off=4, size=4, imm=1)
    b.add(ir.RET, a=b.new(ir.ADD, a=low, b=high))
    unit = generate(b.func)
    assert unit.stack == 0
    assert not any("r10" in line for line in listing(unit))


def test_a_place_whose_address_is_taken_stays_in_memory():
    b = Build(nparams=1)
    slot = Slot(8)
    x = b.new(ir.PARAM, imm=0)
    b.add(ir.STORE, a=slot, b=x)
    b.add(ir.CALL, imm=6, args=(b.new(ir.FRAME, POINTER, ref=slot), Imm(8)))
    b.add(ir.RET, a=b.new(ir.LOAD, a=slot))
    lines = listing(generate(b.func))
    assert "*(u64 *)(r10 - 0x8) = r1" in lines
    assert "r0 = *(u64 *)(r10 - 0x8)" in lines


def test_zeros_that_are_overwritten_are_not_stored_but_padding_is():
    b = Build(nparams=1)
    slot = Slot(16)
    x = b.new(ir.PARAM, imm=0)
    b.add(ir.STORE, a=slot, b=Imm(0))
    b.add(ir.STORE, a=slot, off=8, b=Imm(0))
    b.add(ir.STORE, a=slot, b=x, size=4)
    b.add(ir.STORE, a=slot, off=4, b=x, size=4)
    b.add(ir.STORE, a=slot, off=8, b=x, size=4)
    b.add(ir.CALL, imm=6, args=(b.new(ir.FRAME, POINTER, ref=slot), Imm(16)))
    b.add(ir.RET, a=Imm(0))
    stores = [line for line in listing(generate(b.func)) if line.startswith("*(")]
    assert stores == [
        "*(u64 *)(r10 - 0x8) = 0x0",
        "*(u32 *)(r10 - 0x10) = w1",
        "*(u32 *)(r10 - 0xc) = w1",
        "*(u32 *)(r10 - 0x8) = w1",
    ]


def test_results_that_are_cut_to_a_word_are_computed_as_words():
    b = Build(nparams=2)
    x, y = b.new(ir.PARAM, imm=0), b.new(ir.PARAM, imm=1)
    total = b.new(ir.ZEXT, a=b.new(ir.ADD, a=x, b=y), size=4)
    b.add(ir.RET, a=b.new(ir.RSH, a=total, b=Imm(3)))
    assert [line for line in b.lines() if line.startswith("w")] == ["w0 += w2"]


def test_a_compared_word_keeps_its_extension():
    """The verifier's bounds are those of the register that is compared."""
    b = Build(nparams=1)
    yes, no = b.func.block("yes"), b.func.block("no")
    x = b.new(ir.PARAM, imm=0)
    word = b.new(ir.ZEXT, a=x, size=4)
    b.add(ir.BRANCH, cond="lt", a=word, b=Imm(9), then=yes, els=no)
    b.at(yes).add(ir.RET, a=word)
    b.at(no).add(ir.RET, a=Imm(0))
    assert any(line.startswith("w") and line.endswith("= w1") for line in b.lines())


def test_wide_words_are_immediates_of_32_bit_operations():
    b = Build(nparams=1)
    x = b.new(ir.ZEXT, a=b.new(ir.PARAM, imm=0), size=4)
    b.add(ir.RET, a=b.new(ir.XOR, a=x, b=Imm(0xEDB88320)))
    assert any("^= -0x12477ce0" in line for line in b.lines())


def test_places_beside_each_other_share_their_address():
    b = Build(nparams=2)
    base, index = b.new(ir.PARAM, POINTER, imm=0), b.new(ir.PARAM, imm=1)
    total = index
    for constant in (2, 3, 4):
        place = b.new(ir.ADD, POINTER, a=base, b=b.new(ir.ADD, a=index, b=Imm(constant)))
        total = b.new(ir.OR, a=total, b=b.new(ir.LOAD, a=place, off=8, size=1))
    b.add(ir.RET, a=total)
    loads = [line.split("(")[-1] for line in b.lines() if "(u8 *)" in line]
    assert [load.split("+ ")[1] for load in loads] == ["0xa)", "0xb)", "0xc)"]
    assert len({load.split(" ")[0] for load in loads}) == 1


def test_a_quotient_gives_the_remainder():
    b = Build(nparams=1)
    x = b.new(ir.PARAM, imm=0)
    quotient, rest = b.new(ir.DIV, a=x, b=Imm(10)), b.new(ir.MOD, a=x, b=Imm(10))
    b.add(ir.RET, a=b.new(ir.XOR, a=quotient, b=rest))
    lines = b.lines()
    assert sum("/=" in line for line in lines) == 1
    assert not any("%=" in line for line in lines)


def test_a_wide_constant_is_made_before_the_loop():
    b = Build(nparams=1)
    head, out = b.func.block("head"), b.func.block("out")
    total = b.new(ir.PARAM, imm=0)
    i = b.new(ir.CONST, imm=0)
    b.add(ir.JUMP, then=head)
    wide = b.at(head).new(ir.CONST, imm=0x100000001B3)
    b.add(ir.MUL, dst=total, a=total, b=wide)
    b.add(ir.ADD, dst=i, a=i, b=Imm(1))
    b.add(ir.BRANCH, cond="lt", a=i, b=Imm(9), then=head, els=out)
    b.at(out).add(ir.RET, a=total)
    lines = b.lines()
    assert [line for line in lines if line.startswith("if")] == ["if r2 < 0x9 goto -0x3"]


def test_nothing_moves_before_a_loop_with_a_second_entry():
    b = Build(nparams=1)
    head, other, out = (b.func.block(name) for name in ("head", "other", "out"))
    total = b.new(ir.PARAM, imm=0)
    wide = b.new(ir.CONST, imm=0x100000001B3)
    b.add(ir.BRANCH, cond="eq", a=total, b=Imm(1), then=head, els=other)
    b.at(head).add(ir.ADD, dst=total, a=total, b=Imm(1))
    b.add(ir.JUMP, then=other)
    b.at(other).add(ir.MUL, dst=total, a=total, b=wide)
    b.add(ir.BRANCH, cond="lt", a=total, b=Imm(9), then=head, els=out)
    b.at(out).add(ir.RET, a=total)
    assert "ll" in b.lines()[0]


def test_a_stored_key_lies_in_the_upper_half_of_its_word():
    """There the verifier does not remember the number, so it checks what follows once for all of them."""
    b = Build(nparams=1)
    key = Slot(8)
    x = b.new(ir.PARAM, imm=0)
    b.add(ir.STORE, a=key, b=x, size=4)
    b.add(ir.CALL, imm=1, args=(b.new(ir.MAP, POINTER, ref="m"), b.new(ir.FRAME, POINTER, ref=key)))
    b.add(ir.RET, a=Imm(0))
    lines = listing(generate(b.func))
    assert "*(u32 *)(r10 - 0x4) = w1" in lines
    assert "r2 += -0x4" in lines


def test_a_mask_that_was_dropped_does_not_stand_in_for_an_extension():
    b = Build(nparams=1)
    x = b.new(ir.SEXT, a=b.new(ir.PARAM, imm=0), size=1)
    masked = b.new(ir.AND, a=x, b=Imm(0x7FFF_FFFF_FFFF_FFFF))
    b.add(ir.RET, a=b.new(ir.ZEXT, a=masked, size=4))
    assert any(line.startswith("w") for line in listing(generate(b.func)))


def test_a_helper_with_one_answer_is_called_once():
    b = Build(nparams=1)
    x = b.new(ir.PARAM, imm=0)
    then, out = b.func.block("then"), b.func.block("out")
    pid = b.new(ir.RSH, a=b.new(ir.CALL, imm=14), b=Imm(32))
    time = b.new(ir.CALL, imm=5)
    b.add(ir.BRANCH, cond="eq", a=pid, b=Imm(1), then=then, els=out)
    b.at(then).add(ir.CALL, dst=pid, imm=14)  # on one path only: what comes after may not use it
    b.add(ir.CALL, dst=x, imm=15)
    b.add(ir.JUMP, then=out)
    tid = b.at(out).new(ir.ZEXT, a=b.new(ir.CALL, imm=14), size=4)
    total = b.new(ir.ADD, a=tid, b=b.new(ir.CALL, imm=15))
    for value in (pid, time, x, b.new(ir.CALL, imm=5)):
        total = b.new(ir.ADD, a=total, b=value)
    b.add(ir.RET, a=total)
    calls = [line for line in b.lines() if line.startswith("call")]
    assert sorted(calls) == ["call 0x5", "call 0x5", "call 0xe", "call 0xf", "call 0xf"]


@pytest.mark.parametrize(
    ("size", "value", "test"),
    [
        (2, 0x0800, "if r0 == 0x8 goto"),
        (4, 0x7F000001, "if w0 == 0x100007f goto"),
        (4, 0x01020384, "if w0 == -0x7bfcfdff"),
    ],
)
def test_a_constant_is_swapped_and_not_what_it_is_compared_with(size, value, test):
    b = Build(nparams=1)
    x = b.new(ir.LOAD, a=b.new(ir.PARAM, POINTER, imm=0), size=size)
    there, other = b.func.block("there"), b.func.block("other")
    b.add(ir.BRANCH, cond="eq", a=b.new(ir.BSWAP, a=x, size=size, imm=1), b=Imm(value), then=there, els=other)
    for block, result in ((there, 7), (other, 8)):
        b.block = block
        b.add(ir.RET, a=Imm(result))
    lines = listing(generate(b.func))
    assert any(test.replace("==", sign) in line for line in lines for sign in ("==", "!=")), lines
    assert not any("be" in line for line in lines)
