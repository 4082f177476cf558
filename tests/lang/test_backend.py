"""The back end's output: exact code of small functions, references, line table, frame, refusals."""

from __future__ import annotations

import pytest

from pybpf.asm.disasm import text
from pybpf.asm.insn import decode
from pybpf.errors import CompileError
from pybpf.lang import ir
from pybpf.lang.backend import generate
from pybpf.lang.ir import POINTER, Core, Function, Imm, Ins, Loc, Slot


class Build:
    """A function in the making: ``b.new(...)`` adds an instruction to the current block and returns its register."""

    def __init__(self, nparams=1, section="xdp"):
        self.func = Function("f", section, nparams)
        self.block = self.func.block("entry")

    def at(self, block):
        self.block = block
        return self

    def add(self, op, **fields):
        self.block.ins.append(Ins(op, **fields))

    def new(self, op, kind=ir.SCALAR, **fields):
        dst = self.func.vreg(kind)
        self.add(op, dst=dst, **fields)
        return dst

    def lines(self):
        return listing(generate(self.func))


def listing(unit):
    return [text(insn) for insn in decode(unit.code)]


def test_diamond_of_constants_needs_no_jump():
    b = Build()
    one, zero, join = (b.func.block(name) for name in ("one", "zero", "join"))
    ctx = b.new(ir.PARAM, POINTER)
    value = b.new(ir.LOAD, a=ctx, size=4)
    flag = b.func.vreg()
    b.add(ir.BRANCH, cond="eq", a=value, b=Imm(5), then=one, els=zero)
    b.at(one).add(ir.CONST, dst=flag, imm=1)
    b.add(ir.JUMP, then=join)
    b.at(zero).add(ir.CONST, dst=flag, imm=0)
    b.add(ir.JUMP, then=join)
    b.at(join).add(ir.STORE, a=ctx, b=flag, off=8, size=4)
    b.add(ir.RET, a=Imm(0))
    assert b.lines() == [
        "w2 = *(u32 *)(r1 + 0x0)",
        "r0 = 0x0",
        "if r2 != 0x5 goto +0x1",
        "r0 = 0x1",
        "*(u32 *)(r1 + 0x8) = w0",
        "r0 = 0x0",
        "exit",
    ]


def test_short_circuit_threads_through_the_flag():
    b = Build(nparams=2)
    more, true, false, join, yes, no = (b.func.block() for _ in range(6))
    x, y = b.new(ir.PARAM, imm=0), b.new(ir.PARAM, imm=1)
    flag = b.func.vreg()
    b.add(ir.BRANCH, cond="lt", a=x, b=y, then=more, els=false)
    b.at(more).add(ir.BRANCH, cond="gt", a=x, b=Imm(3), then=true, els=false)
    b.at(true).add(ir.CONST, dst=flag, imm=1)
    b.add(ir.JUMP, then=join)
    b.at(false).add(ir.CONST, dst=flag, imm=0)
    b.add(ir.JUMP, then=join)
    b.at(join).add(ir.BRANCH, cond="ne", a=flag, b=Imm(0), then=yes, els=no)
    b.at(yes).add(ir.RET, a=Imm(1))
    b.at(no).add(ir.RET, a=Imm(2))
    assert sorted(b.lines()) == sorted(
        ["if r1 < r2 goto +0x2", "r0 = 0x2", "exit", "if r1 <= 0x3 goto -0x3", "r0 = 0x1", "exit"]
    )


def test_counted_loop_tests_at_the_bottom():
    b = Build()
    head, body, out = (b.func.block(name) for name in ("head", "body", "out"))
    ctx = b.new(ir.PARAM, POINTER)
    i, total = b.new(ir.CONST, imm=0), b.new(ir.CONST, imm=0)
    b.add(ir.JUMP, then=head)
    b.at(head).add(ir.BRANCH, cond="lt", a=i, b=Imm(10), then=body, els=out)
    offset = b.at(body).new(ir.LSH, a=i, b=Imm(3))
    place = b.new(ir.ADD, POINTER, a=ctx, b=offset)
    value = b.new(ir.LOAD, a=place)
    b.add(ir.ADD, dst=total, a=total, b=value)
    following = b.new(ir.ADD, a=i, b=Imm(1))
    b.add(ir.MOV, dst=i, a=following)
    b.add(ir.JUMP, then=head)
    b.at(out).add(ir.RET, a=total)
    assert b.lines() == [
        "r3 = 0x0",
        "r0 = 0x0",
        "r2 = r3",
        "r2 <<= 0x3",
        "r2 += r1",
        "r2 = *(u64 *)(r2 + 0x0)",
        "r0 += r2",
        "r3 += 0x1",
        "if r3 < 0xa goto -0x7",
        "exit",
    ]


def test_map_lookup_and_update():
    b = Build(section="tracepoint/x")
    found, missing = b.func.block("found"), b.func.block("missing")
    key = Slot(4, 4, "key")
    who = b.new(ir.CALL, imm=14)
    pid = b.new(ir.RSH, a=who, b=Imm(32))
    b.add(ir.STORE, a=key, b=pid, size=4)
    map_ = b.new(ir.MAP, POINTER, ref="counts")
    address = b.new(ir.FRAME, POINTER, ref=key)
    value = b.new(ir.CALL, POINTER, imm=1, args=(map_, address))
    b.add(ir.BRANCH, cond="ne", a=value, b=Imm(0), then=found, els=missing)
    b.at(missing).add(ir.RET, a=Imm(0))
    b.at(found).add(ir.ATOMIC, a=value, b=Imm(1), imm=0)
    b.add(ir.RET, a=Imm(0))
    unit = generate(b.func)
    assert listing(unit) == [
        "call 0xe",
        "r0 >>= 0x20",
        "*(u32 *)(r10 - 0x8) = w0",
        "ld_pseudo\tr1, 0x1, 0x0",
        "r2 = r10",
        "r2 += -0x8",
        "call 0x1",
        "if r0 == 0x0 goto +0x2",
        "r1 = 0x1",
        "lock *(u64 *)(r0 + 0x0) += r1",
        "r0 = 0x0",
        "exit",
    ]
    assert [(r.index, r.kind, r.target) for r in unit.relocs] == [(3, "map", "counts")]
    assert unit.stack == 8


def test_null_result_is_the_zero_to_return():
    b = Build()
    found, missing = b.func.block("found"), b.func.block("missing")
    value = b.new(ir.CALL, POINTER, imm=1, args=(Imm(1), Imm(2)))
    b.add(ir.BRANCH, cond="eq", a=value, b=Imm(0), then=missing, els=found)
    b.at(missing).add(ir.RET, a=Imm(0))
    b.at(found).add(ir.RET, a=Imm(1))
    assert b.lines()[3:] == ["if r0 == 0x0 goto +0x1", "r0 = 0x1", "exit"]


def test_error_of_32_bits_is_tested_in_32_bits():
    b = Build()
    bad, good = b.func.block(), b.func.block()
    result = b.new(ir.CALL, imm=4)
    number = b.new(ir.SEXT, a=result, size=4)
    b.add(ir.BRANCH, cond="slt", a=number, b=Imm(0), then=bad, els=good)
    b.at(bad).add(ir.RET, a=Imm(7))
    b.at(good).add(ir.RET, a=Imm(0))
    assert "if w0 s< 0x0 goto" in b.lines()[1]


def test_the_register_that_was_tested_is_used():
    b = Build(nparams=2)
    bad, good = b.func.block(), b.func.block()
    base = b.new(ir.PARAM, POINTER, imm=0)
    size = b.new(ir.LOAD, a=base, size=4)
    wide = b.new(ir.ZEXT, a=size, size=4)
    copy = b.new(ir.MOV, a=wide)
    b.add(ir.BRANCH, cond="gt", a=copy, b=Imm(64), then=bad, els=good)
    b.at(bad).add(ir.RET, a=Imm(0))
    b.at(good).add(ir.CALL, imm=4, args=(base, size))
    b.add(ir.RET, a=Imm(0))
    assert b.lines()[:2] == ["w2 = *(u32 *)(r1 + 0x0)", "if r2 > 0x40 goto +0x1"]


def test_equal_ends_are_shared():
    b = Build()
    rest, more, drop1, drop2 = (b.func.block() for _ in range(4))
    record = b.new(ir.CALL, POINTER, imm=131, args=(Imm(1), Imm(64), Imm(0)))
    who = b.new(ir.CALL, imm=14)
    b.add(ir.BRANCH, cond="eq", a=who, b=Imm(7), then=drop1, els=rest)
    b.at(drop1).add(ir.CALL, imm=133, args=(record, Imm(0)))
    b.add(ir.RET, a=Imm(0))
    uid = b.at(rest).new(ir.CALL, imm=15)
    b.add(ir.BRANCH, cond="eq", a=uid, b=Imm(0), then=drop2, els=more)
    b.at(drop2).add(ir.CALL, imm=133, args=(record, Imm(0)))
    b.add(ir.RET, a=Imm(0))
    b.at(more).add(ir.CALL, imm=132, args=(record, Imm(0)))
    b.add(ir.RET, a=Imm(0))
    lines = b.lines()
    assert lines.count("call 0x85") == 1
    assert lines.count("exit") == 1


def test_stores_of_constants():
    b = Build()
    ctx = b.new(ir.PARAM, POINTER)
    other = b.new(ir.CALL, POINTER, imm=1, args=(Imm(1), Imm(2)))
    for size, value in ((1, 255), (2, -1), (4, 0xFFFFFFFF), (8, -1), (8, 1 << 40)):
        b.add(ir.STORE, a=other, b=Imm(value), size=size)
    b.add(ir.STORE, a=ctx, b=Imm(3), size=4)
    b.add(ir.RET, a=Imm(0))
    assert [line for line in b.lines() if "=" in line and "*(" in line] == [
        "*(u8 *)(r0 + 0x0) = 0xff",
        "*(u16 *)(r0 + 0x0) = 0xffff",
        "*(u32 *)(r0 + 0x0) = -0x1",
        "*(u64 *)(r0 + 0x0) = -0x1",
        "*(u64 *)(r0 + 0x0) = r1",
        "*(u32 *)(r6 + 0x0) = w0",  # the context takes no immediates before Linux 6.4
    ]


def test_signed_loads_and_wide_offsets():
    b = Build()
    ctx = b.new(ir.PARAM, POINTER)
    value = b.new(ir.LOAD, a=ctx, off=40000, size=4, imm=1)
    b.add(ir.RET, a=value)
    assert b.lines() == ["r1 += 0x9c40", "w0 = *(u32 *)(r1 + 0x0)", "r0 <<= 0x20", "r0 s>>= 0x20", "exit"]


def test_constants_of_all_widths():
    b = Build()
    for value in (1, -1, 0x80000000, 0xFFFFFFFF, 0x100000000, -(1 << 31) - 1):
        b.add(ir.CALL, imm=1, args=(Imm(value),))
    b.add(ir.RET, a=Imm((1 << 64) - 1))
    assert b.lines()[::2] == [
        "r1 = 0x1",
        "r1 = -0x1",
        "w1 = -0x80000000",
        "w1 = -0x1",
        "r1 = 0x100000000 ll",
        "r1 = -0x80000001 ll",
        "r0 = -0x1",
    ]


def test_field_offsets_are_relocated_in_place():
    b = Build()
    task = b.new(ir.CALL, imm=35)
    offset, place = Core(0, 5, "0:3"), Core(0, 5, "0:4")
    step = b.new(ir.CORE, ref=offset, imm=0x568)
    address = b.new(ir.ADD, POINTER, a=task, b=step)
    value = b.new(ir.LOAD, a=address, off=16, ref=place)
    b.add(ir.RET, a=value)
    unit = generate(b.func)
    assert listing(unit) == ["call 0x23", "r0 += 0x568", "r0 = *(u64 *)(r0 + 0x10)", "exit"]
    assert unit.cores == [(1, offset), (2, place)]


def test_core_value_in_a_branch():
    b = Build()
    yes, no = b.func.block(), b.func.block()
    exists = b.new(ir.CORE, ref=Core(2, 5, "0:3"), imm=1)
    b.add(ir.BRANCH, cond="ne", a=exists, b=Imm(0), then=yes, els=no)
    b.at(yes).add(ir.RET, a=Imm(1))
    b.at(no).add(ir.RET, a=Imm(2))
    unit = generate(b.func)
    assert len(unit.cores) == 1
    assert listing(unit)[unit.cores[0][0]] == "r1 = 0x1" or listing(unit)[unit.cores[0][0]] == "r0 = 0x1"
    assert "exit" in listing(unit)
    assert any(line.startswith("if r") for line in listing(unit))


def test_data_and_subprogram_references():
    b = Build()
    table = b.new(ir.DATA, POINTER, ref=".rodata", off=8)
    entry = b.new(ir.ADD, POINTER, a=table, b=Imm(24))
    value = b.new(ir.CALLSUB, ref="helper", args=(entry, Imm(3)))
    b.add(ir.RET, a=value)
    unit = generate(b.func)
    assert listing(unit) == ["ld_pseudo\tr1, 0x2, 0x20", "r2 = 0x3", "call -0x1", "exit"]
    assert [(r.index, r.kind, r.target, r.addend) for r in unit.relocs] == [
        (0, "data", ".rodata", 32),
        (3, "call", "helper", 0),
    ]


def test_line_table_lists_runs():
    b = Build()
    places = [Loc("p.py", line, 4, "") for line in (2, 2, 3, 9)]
    b.func.loc = Loc("p.py", 1, 0, "def f(ctx):")
    for i in range(4):
        b.add(ir.CALL, imm=i + 1, loc=places[i])
    b.add(ir.RET, a=Imm(0), loc=places[3])
    assert [(slot, loc.line) for slot, loc in generate(b.func).lines] == [(0, 2), (2, 3), (3, 9)]
    b.func.blocks[0].ins[0].loc = None
    assert [(slot, loc.line) for slot, loc in generate(b.func).lines] == [(0, 1), (1, 2), (2, 3), (3, 9)]


def test_unread_results_disappear_and_effects_stay():
    b = Build()
    ctx = b.new(ir.PARAM, POINTER)
    b.new(ir.LOAD, a=ctx)
    b.new(ir.CORE, ref=Core(0, 1, "0"))
    b.new(ir.CALL, imm=5)
    slot = Slot(8)
    b.add(ir.STORE, a=slot, b=Imm(1))
    b.add(ir.CALL, imm=6, args=(b.new(ir.FRAME, POINTER, ref=slot),))
    b.add(ir.STORE, a=Slot(8), b=Imm(1))  # nobody can see that one
    b.add(ir.RET, a=Imm(0))
    unit = generate(b.func)
    assert listing(unit) == [
        "call 0x5",
        "*(u64 *)(r10 - 0x8) = 0x1",
        "r1 = r10",
        "r1 += -0x8",
        "call 0x6",
        "r0 = 0x0",
        "exit",
    ]
    assert unit.cores == []


def test_the_input_is_left_alone_and_the_output_is_the_same_again():
    b = Build(nparams=3)
    values = [b.new(ir.PARAM, imm=i) for i in range(3)]
    for i in range(20):
        values.append(b.new(ir.MUL, a=values[-1], b=values[i]))
    b.add(ir.CALL, imm=1, args=tuple(values[-5:]))
    for value in values:
        b.add(ir.CALL, imm=1, args=(value,))
    b.add(ir.RET, a=Imm(0))
    before = b.func.dump()
    first = generate(b.func)
    assert b.func.dump() == before
    assert generate(b.func).code == first.code
    assert first.stack % 8 == 0
    assert first.stack > 0


def test_small_slots_are_packed_only_when_the_frame_is_full():
    b = Build()
    slots = [Slot(1, 1, f"c{i}") for i in range(100)]
    for slot in slots[:3]:
        b.add(ir.CALL, imm=6, args=(b.new(ir.FRAME, POINTER, ref=slot),))
    b.add(ir.RET, a=Imm(0))
    assert generate(b.func).stack == 24
    b.block.ins.pop()
    for slot in slots[3:]:
        b.add(ir.CALL, imm=6, args=(b.new(ir.FRAME, POINTER, ref=slot),))
    b.add(ir.RET, a=Imm(0))
    assert generate(b.func).stack == 104


def test_over_full_frame_names_the_biggest():
    b = Build()
    b.func.loc = Loc("p.py", 3, 0, "def f(ctx):")
    for name, size in (("small", 8), ("path", 256), ("args", 300)):
        b.add(ir.CALL, imm=6, args=(b.new(ir.FRAME, POINTER, ref=Slot(size, 8, name)),))
    b.add(ir.RET, a=Imm(0))
    with pytest.raises(CompileError, match=r"^p.py:3:0: f needs 568 bytes.*args \(300 bytes\), path \(256 bytes\)"):
        generate(b.func)


def test_entry_may_be_a_loop():
    b = Build()
    entry, out = b.block, b.func.block("out")
    ctx = b.new(ir.PARAM, POINTER)
    value = b.new(ir.CALL, imm=7)
    b.add(ir.STORE, a=ctx, b=value, size=4)
    b.add(ir.BRANCH, cond="eq", a=value, b=Imm(0), then=entry, els=out)
    b.at(out).add(ir.RET, a=Imm(0))
    lines = b.lines()
    assert lines[0] == "r6 = r1"
    assert "if r0 == 0x0 goto -0x3" in lines


def test_endless_loop_and_unreachable_code():
    b = Build()
    loop, dead = b.func.block("loop"), b.func.block("dead")
    b.add(ir.JUMP, then=loop)
    b.at(loop).add(ir.CALL, imm=5)
    b.add(ir.JUMP, then=loop)
    b.at(dead).add(ir.RET, a=Imm(0))
    assert b.lines() == ["call 0x5", "goto -0x2"]


@pytest.mark.parametrize(
    ("ins", "what"),
    [
        (Ins("frobnicate"), "no operation"),
        (Ins(ir.MOV, dst=0), "operand a"),
        (Ins(ir.MOV, dst=99, a=0), "operand dst"),
        (Ins(ir.ADD, dst=0, a=0, b=Imm(1), size=2), "size 2"),
        (Ins(ir.ADD, dst=0, a=0, b=Imm(1 << 64)), "operand b"),
        (Ins(ir.FRAME, dst=0, ref="slot"), "ref"),
        (Ins(ir.CALL, dst=0, imm=1, args=(0,) * 6), "arguments"),
        (Ins(ir.PARAM, dst=0, imm=1), "parameter"),
        (Ins(ir.ATOMIC, a=0, b=0, imm=0x33), "atomic"),
        (Ins(ir.RET, a=0), "terminator"),
        (Ins(ir.MOV, dst=0, a=1), "v1 may be read before it is written"),
    ],
)
def test_faulty_ir_is_reported(ins, what):
    func = Function("f", "xdp")
    func.vreg()
    func.vreg()
    block = func.block("entry")
    first = [] if ins.op == ir.PARAM else [Ins(ir.CONST, dst=0)]
    block.ins = [*first, ins, Ins(ir.RET, a=Imm(0))]
    with pytest.raises(CompileError, match=f"internal error in f, block entry.*{what}"):
        generate(func)


def test_blocks_without_an_end():
    func = Function("f", "xdp")
    with pytest.raises(CompileError, match="without blocks"):
        generate(func)
    block = func.block("entry")
    with pytest.raises(CompileError, match="does not end"):
        generate(func)
    other = Function("g", "xdp").block("elsewhere")
    block.ins = [Ins(ir.JUMP, then=other)]
    with pytest.raises(CompileError, match="jump target"):
        generate(func)
