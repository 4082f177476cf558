"""Labels, fix-up and relaxation."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybpf.asm import insn as asm
from pybpf.asm import opcodes as op
from pybpf.asm.assembler import Assembler, Label
from pybpf.asm.insn import Insn
from pybpf.errors import AsmError


def nop():
    return asm.alu64(op.BPF_MOV, 0, 0)


def test_offsets_count_slots():
    a = Assembler()
    start, end = Label("start"), Label("end")
    a.place(start)
    a.jump(asm.jmp(op.BPF_JEQ, 1, 0), end)
    number = a.emit(asm.ld_imm64(1, 7))
    a.goto(start)
    a.place(end)
    last = a.emit(asm.exit_())
    code = a.finish()
    assert [insn.off for insn in code] == [3, 0, -4, 0]
    assert (a.slot(number), a.slot(last)) == (1, 4)


def test_calls_are_fixed_up_in_imm():
    a = Assembler()
    function = Label("function")
    a.jump(Insn(op.CALL, src=op.BPF_PSEUDO_CALL), function)
    a.emit(asm.exit_())
    a.place(function)
    a.emit(asm.exit_())
    assert a.finish()[0].imm == 1


def test_refusals():
    a = Assembler()
    a.goto(Label("nowhere"))
    with pytest.raises(AsmError, match="nowhere"):
        a.finish()
    a = Assembler()
    label = Label("twice")
    a.place(label)
    with pytest.raises(AsmError, match="placed twice"):
        a.place(label)
    a = Assembler()
    end = Label("end")
    a.goto(end)
    a.place(end)
    with pytest.raises(AsmError, match="end"):
        a.finish()


def follow(code, slots_of, start):
    """The instruction a jump at ``start`` leads to, through islands."""
    by_slot = {slot: i for i, slot in enumerate(slots_of)}
    index = start
    while True:
        insn = code[index]
        distance = insn.imm if insn.is_gotol else insn.off
        index = by_slot[slots_of[index] + 1 + distance]
        if code[index].op not in (op.JA, 0x06):
            return index


@pytest.mark.parametrize("long_jumps", [False, True])
@pytest.mark.parametrize("distance", [10, 0x7FFF, 0x8000, 0x8001, 70000, 100001])
@pytest.mark.parametrize("backwards", [False, True])
def test_far_jumps(distance, backwards, long_jumps):
    a = Assembler(long_jumps)
    far = Label("far")
    a.emit(asm.exit_())
    if backwards:
        a.place(far)
        goal = a.emit(asm.alu64(op.BPF_MOV, 0, imm=42))
    else:
        jumps = [a.jump(asm.jmp(op.BPF_JSET, 1, 0, imm=1), far), a.goto(far)]
    fill = [a.emit(nop()) for _ in range(distance)]
    if backwards:
        jumps = [a.jump(asm.jmp(op.BPF_JSET, 1, 0, imm=1), far), a.goto(far)]
    else:
        a.place(far)
        goal = a.emit(asm.alu64(op.BPF_MOV, 0, imm=42))
    a.emit(asm.exit_())
    code = a.finish()
    slots_of = []
    at = 0
    for insn in code:
        slots_of.append(at)
        at += insn.slots
    asm.encode(code)
    index_of = {slot: i for i, slot in enumerate(slots_of)}
    for jump in jumps:
        reached = follow(code, slots_of, index_of[a.slot(jump)])
        assert code[reached].imm == 42
        assert slots_of[reached] == a.slot(goal)
    # The straight way through the filling is unchanged: islands are jumped around.
    index = index_of[a.slot(fill[0])]
    passed = 0
    while passed < distance:
        if code[index].op == op.JA:
            index = index_of[slots_of[index] + 1 + code[index].off]
            continue
        assert code[index] == nop()
        passed += 1
        index += 1


@settings(max_examples=6, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=30))
def test_many_far_jumps(pairs):
    a = Assembler()
    labels = [Label(str(i)) for i in range(41)]
    jumps = []
    for i in range(41):
        a.place(labels[i])
        a.emit(asm.alu64(op.BPF_MOV, 1, imm=i))
        for source, target in pairs:
            if source == i:
                jumps.append((a.jump(asm.jmp(op.BPF_JEQ, 1, 0, imm=target), labels[target]), target))
        for _ in range(2000):
            a.emit(nop())
    a.emit(asm.exit_())
    code = a.finish()
    asm.encode(code)
    slots_of = list(range(len(code)))
    for jump, target in jumps:
        reached = follow(code, slots_of, a.slot(jump))
        assert code[reached] == asm.alu64(op.BPF_MOV, 1, imm=target)
