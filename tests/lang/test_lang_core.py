"""Kernel memory: pointer spaces and CO-RE relocations."""

from __future__ import annotations

import pytest
from lang_harness import KERNEL, World, lower

from pybpf.lang import ir

TYPES = """
class leaf(KStruct):
    x: u32
    y: i32
class kid_t(KStruct, typedef=True):
    val: u32
class thing(KStruct):
    flags: u64
    kid: kid_t
    leaf: leaf
    name: char[21]
    next: Ptr[thing]
    rows: leaf[4]
    more: leaf[1]
    nums: u16[8]
    text: Ptr[char]
class thing___old(KStruct):
    gone: u8
class Out(Struct):
    name: char[16]
    part: char[7]
    n: u64
"""
SECTIONS = {"btf": "tp_btf/x", "kern": "raw_tp/x"}


def unit_of(tmp_path, space, body):
    lines = "\n".join("    " + line for line in body.strip().splitlines())
    return lower(tmp_path, f"{TYPES}\n@hook('{SECTIONS[space]}')\ndef f(ctx, t: Ptr[thing], n: i32):\n{lines}\n")


def relocations(function):
    """(operation, kind, access) of every relocation in order."""
    return [
        (ins.op, ins.ref.kind, ins.ref.access)
        for block in function.blocks
        for ins in block.ins
        if isinstance(ins.ref, ir.Core)
    ]


def calls(function):
    return [ins.imm for block in function.blocks for ins in block.ins if ins.op == ir.CALL]


@pytest.mark.parametrize(
    ("expression", "access", "size", "signed"),
    [
        ("t.flags", ["0:0"], 8, 0),
        ("t.kid.val", ["0:1:0"], 4, 0),
        ("t.leaf.y", ["0:2:1"], 4, 1),
        ("t.name[3]", ["0:3:3"], 1, 0),
        ("t.next.next.leaf.x", ["0:4", "0:4", "0:2:0"], 4, 0),
        ("t.rows[2].y", ["0:5:2:1"], 4, 1),
        ("t[1].flags", ["1:0"], 8, 0),
    ],
)
def test_direct_and_probed_reads(tmp_path, expression, access, size, signed):
    direct = unit_of(tmp_path, "btf", f"return {expression}").functions[0]
    assert relocations(direct) == [("load", 0, a) for a in access]
    last = [ins for block in direct.blocks for ins in block.ins if ins.ref is not None][-1]
    assert (last.size, last.imm) == (size, signed)
    assert calls(direct) == []
    probed = unit_of(tmp_path, "kern", f"return {expression}").functions[0]
    assert relocations(probed) == [("core", 0, a) for a in access]
    assert calls(probed) == [113] * len(access)


def test_nominal_offsets(tmp_path):
    """libbpf checks that the instruction holds the offset by the local types."""
    function = unit_of(tmp_path, "btf", "return t.rows[2].y").functions[0]
    load = next(ins for block in function.blocks for ins in block.ins if isinstance(ins.ref, ir.Core))
    assert load.off == 56 + 2 * 8 + 4


def test_flavours_keep_the_space(tmp_path):
    body = "old = cast(Ptr[thing___old], t)\nif exists(old.gone):\n    return old.gone\nreturn t.flags"
    function = unit_of(tmp_path, "btf", body).functions[0]
    assert relocations(function) == [("core", 2, "0:0"), ("load", 0, "0:0"), ("load", 0, "0:0")]
    other = "x = cast(Ptr[leaf], t)\nreturn x.y"
    assert calls(unit_of(tmp_path, "btf", other).functions[0]) == [113]


def test_exists_computes_nothing(tmp_path):
    function = unit_of(tmp_path, "kern", "return exists(t.next.next.kid.val)").functions[0]
    assert relocations(function) == [("core", 2, "0:1:0")]
    assert calls(function) == []


def test_types_and_sizes(tmp_path):
    body = "if exists(thing___old):\n    return 1\nreturn sizeof(thing) + sizeof(t.nums) + offsetof(thing, 'leaf.y')"
    function = unit_of(tmp_path, "btf", body).functions[0]
    assert relocations(function) == [("core", 8, "0"), ("core", 9, "0"), ("core", 1, "0:7"), ("core", 0, "0:2:1")]


@pytest.mark.parametrize("space", ["btf", "kern"])
def test_index_at_run_time(tmp_path, space):
    """Base plus index times the running kernel's element size, then the field in the element; read by the helper."""
    unit = unit_of(tmp_path, space, "return t.rows[n].y + t.nums[n]")
    offsets = {"0:5": 1000, "0": 12, "0:1": 8, "0:7": 2000}
    w = World(unit, KERNEL.to_bytes(8, "little") + (3).to_bytes(8, "little"), lambda ref: offsets[ref.access])
    w.readable = {
        KERNEL + 1000 + 3 * 12 + 8: (7).to_bytes(4, "little"),
        KERNEL + 2000 + 6: (5).to_bytes(2, "little"),
    }
    assert w.run() == 12
    assert calls(unit.functions[0]) == [113, 113]


def test_index_beyond_a_flexible_array(tmp_path):
    unit = unit_of(tmp_path, "btf", "return t.more[0].x + t.more[2].x")
    assert relocations(unit.functions[0])[0] == ("load", 0, "0:6:0:0")
    assert calls(unit.functions[0]) == [113]


def test_values_through_the_probe(tmp_path):
    unit = unit_of(tmp_path, "kern", "return t.next.leaf.y")
    offsets = {"0:4": 64, "0:2:1": 20}
    w = World(unit, KERNEL.to_bytes(8, "little") + bytes(8), lambda ref: offsets[ref.access])
    w.readable = {KERNEL + 64: (0x7777).to_bytes(8, "little"), 0x7777 + 20: b"\xfe\xff\xff\xff"}
    assert w.run() == -2
    w.readable = {}
    assert w.run() == 0  # what cannot be read is 0


def test_copying_a_typed_array(tmp_path):
    unit = unit_of(tmp_path, "btf", "o = Out()\ncopy(o.name, t.name)\ncopy(o.part, t.name)\nreturn 0")
    # 16 bytes as two words, then 7 at an even place: 4, 2, 1. Each load carries its own relocation.
    assert [a for _, _, a in relocations(unit.functions[0])] == ["0:3:0", "0:3:8", "0:3:0", "0:3:4", "0:3:6"]
    unit = unit_of(tmp_path, "kern", "o = Out()\ncopy(o.name, t.name)\nreturn 0")
    assert relocations(unit.functions[0]) == [("core", 0, "0:3")]
    assert calls(unit.functions[0]) == [113]


def test_pointers_to_numbers_are_plain_addresses(tmp_path):
    unit = unit_of(tmp_path, "btf", "return t.text[2] + read_kernel(u8, t.text) + u64(t)")
    assert calls(unit.functions[0]) == [113, 113]


def test_current_task(tmp_path):
    assert calls(unit_of(tmp_path, "btf", "return current_task().pid").functions[0]) == [158]
    assert calls(unit_of(tmp_path, "kern", "return current_task().pid").functions[0]) == [35, 113]


def test_arguments_are_cut_to_their_type(tmp_path):
    unit = unit_of(tmp_path, "btf", "return n")
    w = World(unit, bytes(8) + (0xAAAAAAAA_FFFFFFFE).to_bytes(8, "little"))
    assert w.run() == -2


def test_unused_arguments_cost_nothing(tmp_path):
    assert [ins.op for ins in unit_of(tmp_path, "btf", "return 0").functions[0].blocks[0].ins] == ["param", "ret"]


def test_tracepoint_context(tmp_path):
    text = "@tracepoint('syscalls:sys_enter_openat')\ndef f(ctx):\n    return ctx.args[1] + ctx.nr\n"
    function = lower(tmp_path, text).functions[0]
    assert function.section == "tracepoint/syscalls/sys_enter_openat"
    assert [ins.off for ins in function.blocks[0].ins if ins.op == ir.LOAD] == [24, 8]
    text = "@tracepoint('syscalls', 'sys_exit_openat')\ndef f(ctx):\n    return ctx.ret\n"
    assert [ins.off for ins in lower(tmp_path, text).functions[0].blocks[0].ins if ins.op == ir.LOAD] == [16]
    text = "class E(Struct):\n    common: char[8]\n    x: u32\n@tracepoint('a:b')\ndef f(ctx: E):\n    return ctx.x\n"
    assert [ins.off for ins in lower(tmp_path, text).functions[0].blocks[0].ins if ins.op == ir.LOAD] == [8]


def test_alternatives(tmp_path):
    text = "@hook('tp_btf/x', 'raw_tp/x', 'raw_tp/y')\ndef f(ctx):\n    return 0\n"
    assert [(f.name, f.section.lstrip("?")) for f in lower(tmp_path, text).functions] == [
        ("f", "tp_btf/x"),
        ("f__raw_tp", "raw_tp/x"),
        ("f__raw_tp2", "raw_tp/y"),
    ]
