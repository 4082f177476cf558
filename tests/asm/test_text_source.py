"""Assembly text: spellings, labels, symbols, sections, far jumps, and what every mistake is told."""

from __future__ import annotations

import subprocess

import pytest
from asm_corpus import LLVM, MNEMONIC, tool
from test_asm_llvm import MC_VERSION, NEEDED, llvm_mc

from pybpf.asm import opcodes as op
from pybpf.asm.disasm import text
from pybpf.asm.insn import Insn, decode
from pybpf.asm.source import CALL, FUNC, MAP, Source, assemble
from pybpf.errors import AsmError

# The same instruction in uBPF's words and in LLVM's: an oracle for the mnemonics that is not our own table.
TWINS = [
    ("mov %r0, -5", "r0 = -5"),
    ("mov32 %r1, 3", "w1 = 3"),
    ("mov %r1, %r2", "r1 = r2"),
    ("add %r1, 0x10", "r1 += 16"),
    ("add64 %r1, 0x10", "r1 += 16"),
    ("sub32 %r1, %r9", "w1 -= w9"),
    ("mul %r1, 7", "r1 *= 7"),
    ("div %r1, %r2", "r1 /= r2"),
    ("sdiv %r1, %r2", "r1 s/= r2"),
    ("sdiv32 %r1, -3", "w1 s/= -3"),
    ("mod32 %r1, 9", "w1 %= 9"),
    ("smod %r1, 9", "r1 s%= 9"),
    ("or %r1, 9", "r1 |= 9"),
    ("and32 %r1, 0xffffffff", "w1 &= -1"),
    ("lsh %r1, 63", "r1 <<= 63"),
    ("rsh32 %r1, %r3", "w1 >>= w3"),
    ("arsh %r1, 4", "r1 s>>= 4"),
    ("xor %r1, %r1", "r1 ^= r1"),
    ("neg %r3", "r3 = -r3"),
    ("neg32 %r3", "w3 = -w3"),
    ("movsx864 %r1, %r2", "r1 = (s8)r2"),
    ("movsx1664 %r1, %r2", "r1 = (s16)r2"),
    ("movsx3264 %r1, %r2", "r1 = (s32)r2"),
    ("movsx832 %r1, %r2", "w1 = (s8)w2"),
    ("movsx1632 %r1, %r2", "w1 = (s16)w2"),
    ("le16 %r5", "r5 = le16 r5"),
    ("be16 %r5", "r5 = be16 r5"),
    ("be64 %r5", "r5 = be64 r5"),
    ("bswap64 %r5", "r5 = bswap64 r5"),
    ("swap16 %r5", "r5 = bswap16 r5"),
    ("addr_space_cast %r0, %r1, 0, 1", "r0 = addr_space_cast(r1, 0, 1)"),
    ("ldxw %r0, [%r1+4]", "r0 = *(u32 *)(r1 + 4)"),
    ("ldxb %r0, [%r1]", "r0 = *(u8 *)(r1 + 0)"),
    ("ldxdw %r0, [%r10-0x10]", "r0 = *(u64 *)(r10 - 16)"),
    ("ldxsw %r0, [%r1+4]", "r0 = *(s32 *)(r1 + 4)"),
    ("ldxsh %r0, [%r1-4]", "r0 = *(s16 *)(r1 - 4)"),
    ("stxh [%r1+2], %r3", "*(u16 *)(r1 + 2) = r3"),
    ("stdw [%r10-8], -1", "*(u64 *)(r10 - 8) = -1"),
    ("lock add [%r10-8], %r2", "lock *(u64 *)(r10 - 8) += r2"),
    ("lock add32 [%r10-8], %r2", "lock *(u32 *)(r10 - 8) += w2"),
    ("lock or [%r10-8], %r2", "lock *(u64 *)(r10 - 8) |= r2"),
    ("lock fetch add [%r10-8], %r2", "r2 = atomic_fetch_add((u64 *)(r10 - 8), r2)"),
    ("lock fetch_xor32 [%r10-8], %r2", "w2 = atomic_fetch_xor((u32 *)(r10 - 8), w2)"),
    ("lock xchg [%r10-8], %r2", "r2 = xchg_64(r10 - 8, r2)"),
    ("lock cmpxchg32 [%r10-8], %r2", "w0 = cmpxchg32_32(r10 - 8, w0, w2)"),
    ("lddw %r1, 0x1122334455667788", "r1 = 0x1122334455667788 ll"),
    ("lddw %r1, -1", "r1 = -1 ll"),
    ("lddw %r1, map_fd 5", "ld_pseudo r1, 1, 5"),
    ("lddw %r1, btf_id 5", "ld_pseudo r1, 3, 5"),
    ("ja +4", "goto +4"),
    ("ja32 -4", "gotol -4"),
    ("may_goto +1", "may_goto +1"),
    ("jsgt32 %r1, 3, +2", "if w1 s> 3 goto +2"),
    ("jeq %r1, %r2, -2", "if r1 == r2 goto -2"),
    ("jset %r1, 0x80000000, +0", "if r1 & -0x80000000 goto +0"),
    ("jlt32 %r1, %r2, +9", "if w1 < w2 goto +9"),
    ("jsle %r1, -1, +9", "if r1 s<= -1 goto +9"),
    ("call 5", "call 5"),
    ("call helper 5", "call 5"),
    ("callx %r3", "callx r3"),
    ("exit", "exit"),
    ("ldabsh 12", "r0 = *(u16 *)skb[12]"),
    ("ldindw %r2", "r0 = *(u32 *)skb[r2]"),
]


@pytest.mark.skipif(MC_VERSION < NEEDED, reason=f"llvm-mc {NEEDED} or newer is not installed")
def test_mnemonics_against_llvm_mc(tmp_path):
    code, refused = llvm_mc([llvm for _, llvm in TWINS], tmp_path / "twins.o")
    assert not refused
    assert assemble("\n".join(mnemonic for mnemonic, _ in TWINS), MNEMONIC) == code
    assert assemble("\n".join(llvm for _, llvm in TWINS)) == code


# The kernel's spelling (kernel/bpf/disasm.c), or another that is taken, and LLVM's, which is printed.
SPELLINGS = [
    ("r1 = *(u32 *)(r2 +4)", "w1 = *(u32 *)(r2 + 0x4)"),
    ("r1=*(u8*)(r2)", "w1 = *(u8 *)(r2 + 0x0)"),
    ("*(u16 *)(r10 -2) = r1", "*(u16 *)(r10 - 0x2) = w1"),
    ("lock *(u32 *)(r1 +0) += r2", "lock *(u32 *)(r1 + 0x0) += w2"),
    ("r2 = atomic64_fetch_add((u64 *)(r1 +0), r2)", "r2 = atomic_fetch_add((u64 *)(r1 + 0x0), r2)"),
    ("r2 = atomic_fetch_or((u32 *)(r1 +0), r2)", "w2 = atomic_fetch_or((u32 *)(r1 + 0x0), w2)"),
    ("r2 = atomic64_xchg((u64 *)(r1 +8), r2)", "r2 = xchg_64(r1 + 0x8, r2)"),
    ("r2 = atomic_xchg((u32 *)(r1 +8), r2)", "w2 = xchg32_32(r1 + 0x8, w2)"),
    ("r0 = atomic64_cmpxchg((u64 *)(r1 +8), r0, r2)", "r0 = cmpxchg_64(r1 + 0x8, r0, r2)"),
    ("r0 = atomic_cmpxchg((u32 *)(r1 +8), r0, r2)", "w0 = cmpxchg32_32(r1 + 0x8, w0, w2)"),
    ("r1 = load_acquire((u32 *)(r2 +0))", "w1 = load_acquire((u32 *)(r2 + 0x0))"),
    ("store_release((u8 *)(r2 +1), r1)", "store_release((u8 *)(r2 + 0x1), w1)"),
    ("if r1 == 0x0 goto pc+3", "if r1 == 0x0 goto +0x3"),
    ("if w1 s< w2 goto pc-3", "if w1 s< w2 goto -0x3"),
    ("goto pc+0 <main+0x8>", "goto +0x0"),
    ("gotol pc-70000", "gotol -0x11170"),
    ("may_goto pc+2", "may_goto +0x2"),
    ("gotox r3", "gotox r3"),
    ("call bpf_map_lookup_elem#1", "call 0x1"),
    ("call unknown#5 # a comment", "call 0x5"),
    ("R1 = R2; ", "r1 = r2"),
    ("r1 = +7 // decimal", "r1 = 0x7"),
    ("r1 = 0b101 /* binary */", "r1 = 0x5"),
    ("r1 = 4294967295", "r1 = -0x1"),
    ("if r1>-5 goto+1", "if r1 > -0x5 goto +0x1"),
    ("r1\ts>>=\tr2", "r1 s>>= r2"),
]


@pytest.mark.parametrize(("line", "printed"), SPELLINGS, ids=[line for line, _ in SPELLINGS])
def test_spellings(line, printed):
    (insn,) = decode(assemble(line))
    assert text(insn) == printed


def test_what_llvm_cannot_say():
    code = """
        r0 = *(u32 *)skb[r1 + 4]
        call pc+5
        call kfunc 0x1234
        call kfunc 77, 2
        ld_pseudo r1, 2, 0x500000003
        .8byte 0xff
    """
    assert decode(assemble(code))[:5] == [
        Insn(0x40, 0, 1, 0, 4),
        Insn(op.CALL, 0, 1, 0, 5),
        Insn(op.CALL, 0, 2, 0, 0x1234),
        Insn(op.CALL, 0, 2, 2, 77),
        Insn(op.LD_IMM64, 1, 2, 0, 0x500000003),
    ]
    code = """
        ldindw %r1, 4
        call local +5
        call kfunc 0x1234
        call kfunc 77, 2
        lddw %r1, map_value 3, 5
        .quad 255
    """
    assert assemble(code, MNEMONIC) == assemble(
        "r0 = *(u32 *)skb[r1 + 4]; call pc+5; call kfunc 0x1234; call kfunc 77, 2;"
        "ld_pseudo r1, 2, 0x500000003; .8byte 255"
    )


def test_labels():
    code = """
start:  r1 = 5 ll
        if r1 == 0 goto end     # over two instructions, one of two slots
        r2 = 7 ll
loop:   r1 += -1
1:      if r1 > 3 goto loop
        if r1 > 2 goto 1b
        if r1 > 1 goto 1f
        goto start
1:      may_goto 2f
2:
end:    exit
"""
    insns = decode(assemble(code))
    assert [insn.off for insn in insns if insn.is_jump] == [8, -2, -2, 1, -10, 0]


def test_calls_and_addresses_of_functions():
    for dialect, code in (
        (LLVM, "main: r2 = f ll; call f; exit\nf: call main; exit"),
        (MNEMONIC, "main: lddw %r2, f; call local f; exit\nf: call local main; exit"),
        (MNEMONIC, "main: lddw %r2, func f; call f; exit\nf: call local main; exit"),
    ):
        insns = decode(assemble(code, dialect))
        assert insns[0] == Insn(op.LD_IMM64, 2, op.BPF_PSEUDO_FUNC, 0, 3)
        assert insns[1] == Insn(op.CALL, 0, op.BPF_PSEUDO_CALL, 0, 1)
        assert insns[3] == Insn(op.CALL, 0, op.BPF_PSEUDO_CALL, 0, -5)


def test_address_of_a_function_before():
    (insn, *_) = decode(assemble("f: exit\ng: r1 = f ll; exit"))[1:]
    assert insn == Insn(op.LD_IMM64, 1, op.BPF_PSEUDO_FUNC, 0, 0xFFFFFFFE)


def test_maps_by_descriptor():
    insns = decode(assemble("r1 = stats ll; r2 = stats+8 ll; r3 = stats - 8 ll; exit", maps={"stats": 7}))
    assert insns[0] == Insn(op.LD_IMM64, 1, op.BPF_PSEUDO_MAP_FD, 0, 7)
    assert insns[1] == Insn(op.LD_IMM64, 2, op.BPF_PSEUDO_MAP_VALUE, 0, 8 << 32 | 7)
    assert insns[2] == Insn(op.LD_IMM64, 3, op.BPF_PSEUDO_MAP_VALUE, 0, 0xFFFFFFF8 << 32 | 7)
    assert assemble("lddw %r1, stats+8", MNEMONIC, maps={"stats": 7}) == insns[1].encode()[:1] + bytes.fromhex(
        "210000070000000000000008000000"
    )


def test_references_for_a_loader():
    code = """
.license "Dual MIT/GPL"
.map stats, hash, 4, 8, 1024, 1
.map events, 27, 0, 0, 4096
.section "tp/x", "ax", @progbits
.globl prog
.type prog, @function
prog:
    r1 = 9 ll
    r1 = stats ll
    r2 = back ll
    call f
    exit
back:
    exit
.size prog, .-prog
.text
f:  r1 = events+4 ll
    exit
"""
    source = Source(code)
    assert source.license == "Dual MIT/GPL"
    line = source.maps["stats"]
    assert (line.type, line.key_size, line.value_size, line.max_entries, line.flags) == ("hash", 4, 8, 1024, 1)
    assert source.maps["events"].type == "27"
    codes = {code.name: code for code in source.assemble(relocatable=True)}
    assert list(codes) == [".text", "tp/x"]
    assert [(r.slot, r.kind, r.name, r.addend) for r in codes["tp/x"].references] == [
        (2, MAP, "stats", 0),
        (4, FUNC, "back", 0),
        (6, CALL, "f", 0),
    ]
    assert codes["tp/x"].functions == {"prog": 0, "back": 8}
    assert [(r.slot, r.kind, r.name, r.addend) for r in codes[".text"].references] == [(0, MAP, "events", 4)]
    assert codes["tp/x"].lines == [(0, 9), (2, 10), (4, 11), (6, 12), (7, 13), (8, 15)]


@pytest.mark.parametrize("dialect", [LLVM, MNEMONIC])
@pytest.mark.parametrize("long_jumps", [False, True])
def test_far_labels(dialect, long_jumps):
    """A jump over 40,000 slots, and one with its distance in numbers that lies around the island."""
    if dialect == LLVM:
        first, filling, last = "if r1 == 0 goto far; if r2 == 0 goto +30000", "r3 = 1", "far: r0 = 42; goto start; exit"
    else:
        first, filling, last = "jeq %r1, 0, far; jeq %r2, 0, +30000", "mov %r3, 1", "far: mov %r0, 42; ja start; exit"
    code = decode(assemble("\n".join(["start:", first, *[filling] * 40_000, last]), dialect, long_jumps=long_jumps))
    slot_of_far = next(index for index, insn in enumerate(code) if insn == Insn(0xB7, 0, imm=42))

    def follow(index):
        while code[index].op in (op.JA, 0x06):
            index += 1 + (code[index].imm if code[index].is_gotol else code[index].off)
        return index

    assert follow(1 + code[0].off) == slot_of_far
    second = next(index for index, insn in enumerate(code) if insn.is_jump and insn.dst == 2)
    passed = [insn for insn in code[second + 1 : follow(second + 1 + code[second].off)] if insn.op == 0xB7]
    assert len(passed) == 30_000
    assert follow(slot_of_far + 1) == 0
    assert any(insn.is_gotol for insn in code) == long_jumps


def test_islands_refuse_distances_that_lead_nowhere():
    lines = ["goto -5", "if r1 == 0 goto far", *["r3 = 1"] * 40_000, "far: exit"]
    with pytest.raises(AsmError, match=r"^x:1:1: distance -5 does not lead to an instruction"):
        assemble("\n".join(lines), file="x")


MISTAKES = [
    (LLVM, "r11 = 5", "1:1: there is no register 'r11': registers are r0 to r10"),
    (LLVM, "exit\n  r1 = w2", "2:8: unexpected 'w2': expected"),
    (LLVM, "mov %r1, 3", "1:1: unknown instruction 'mov' in dialect llvm"),
    (LLVM, "r0 = *(u8 *)(r1 + 0x8000)", "1:17: offset 32768 does not fit 16 bits (signed)"),
    (LLVM, "r1 = 0x100000000", "1:6: 0x100000000 does not fit 32 bits: 'r1 = NUMBER ll' loads 64 bits"),
    (LLVM, "r1 = -0x80000001", "1:6: -0x80000001 does not fit 32 bits"),
    (LLVM, "r1 = 0x10000000000000000 ll", "1:6: 0x10000000000000000 does not fit 64 bits"),
    (LLVM, "r1 += 5 6", "1:9: unexpected '6' after the instruction"),
    (LLVM, "exit exit", "1:6: unexpected 'exit' after the instruction"),
    (LLVM, "if r1 > 5", "1:10: instruction ends too early: 'goto' is missing"),
    (LLVM, "goto nowhere", "1:6: label 'nowhere' is not defined"),
    (LLVM, "here: goto hre; exit", "1:12: label 'hre' is not defined: did you mean here?"),
    (LLVM, "a: exit\na: exit", "2:1: label 'a' is defined on line 1 already"),
    (LLVM, "goto 1f", "1:6: there is no label 1 after this line"),
    (LLVM, "exit; goto 1b", "1:12: there is no label 1 before this line"),
    (LLVM, "goto end\nend:", "1:6: no instruction follows label 'end'"),
    (LLVM, "goto +32768", "1:7: distance +32768 does not fit 16 bits: jump to a label"),
    (LLVM, "r1 = -r2", "1:1: the register on both sides must be the same"),
    (LLVM, "r1 = be16 r2", "1:1: the register on both sides must be the same"),
    (LLVM, "r1 = (s24)r2", "1:7: unexpected 's24': expected"),
    (LLVM, "r1 = addr_space_cast(r2, 0, 65536)", "1:29: 65536 is out of range: 0 to 65535"),
    (LLVM, "r1 = 017", "1:6: number 017 starts with 0"),
    (LLVM, "r1 = 12ab", "1:6: '12ab' is neither a number nor a name"),
    (LLVM, "r1 = 5 ` 3", "1:8: character '`' does not belong here"),
    (LLVM, "exit /* and so on", "1:6: comment /* has no end"),
    (LLVM, "/* one\ntwo */ foo", "2:8: unknown instruction 'foo' in dialect llvm"),
    (LLVM, "r1 = stats ll", "1:6: symbol 'stats' is neither a map nor a function"),
    (LLVM, ".map stats, hash, 4, 8, 1\nr1 = stats ll", "2:6: map 'stats' has no file descriptor here"),
    (LLVM, "f: exit\nr1 = f+8 ll", "2:6: 'f' is a function: an offset into it has no meaning"),
    (LLVM, "call bpf_task_acquire#71234", "1:6: 71234 is no helper's number: write 'call kfunc 71234'"),
    (LLVM, "a: exit\n.section x\ngoto a", "3:6: label 'a' is in section '.text': a jump stays in its own"),
    (LLVM, "f: exit\n.section x\ng: exit", "3:4: code is in sections '.text' and 'x'"),
    (LLVM, "f: exit\n.section x\ncall f", "3:6: function 'f' is in another section"),
    (LLVM, ".globl f", "1:8: 'f' has no label"),
    (LLVM, ".foo", "1:1: unknown directive '.foo'"),
    (LLVM, ".license GPL", "1:10: unexpected 'GPL': .license needs a string"),
    (LLVM, '.license "GPL', "1:10: string has no end on its line"),
    (LLVM, ".map a, hash, 4", "1:16: .map needs NAME, type"),
    (LLVM, ".map a, hash, 4, 8, 0x100000000", "1:21: 4294967296 does not fit 32 bits"),
    (LLVM, ".map a, hash, 4, 8, 1, 0, 5", "1:25: unexpected ',' after the directive"),
    (LLVM, ".map a, hash, 4, 8, 1\n.map a, hash, 4, 8, 1", "2:6: 'a' is defined already"),
    (LLVM, ".8byte 0x10000000000000000", "1:8: 0x10000000000000000 does not fit 64 bits"),
    (LLVM, ".section", "1:9: .section needs a name"),
    (MNEMONIC, "mvo %r1, 3", "1:1: unknown instruction 'mvo' in dialect mnemonic: did you mean mov?"),
    (MNEMONIC, "lock xchng [%r1], %r2", "1:6: unknown instruction 'xchng' in dialect mnemonic: did you mean xchg?"),
    (MNEMONIC, "mov %r11, 3", "1:6: there is no register 'r11': registers are r0 to r10"),
    (MNEMONIC, "mov r1, 3", "1:5: unexpected 'r1': expected a register %r0 to %r10"),
    (MNEMONIC, "mov %r1 3", "1:9: unexpected '3': expected ','"),
    (MNEMONIC, "mov %r1, 0x100000000", "1:10: 0x100000000 does not fit 32 bits: lddw loads 64 bits"),
    (MNEMONIC, "ldxw %r1, [%r2+40000]", "1:15: offset 40000 does not fit 16 bits (signed)"),
    (MNEMONIC, "ldxw %r1, [%r2", "1:15: instruction ends too early: "),
    (MNEMONIC, "jeq %r1, 3, nowhere", "1:13: label 'nowhere' is not defined"),
    (MNEMONIC, "call local nowhere", "1:12: label 'nowhere' is not defined"),
    (MNEMONIC, "exit %r1", "1:6: unexpected '%' after the instruction"),
    (MNEMONIC, "call local 0x80000000", "1:12: distance +2147483648 does not fit 32 bits"),
]


@pytest.mark.parametrize(("dialect", "code", "message"), MISTAKES, ids=[code[:40] for _, code, _ in MISTAKES])
def test_mistakes(dialect, code, message):
    with pytest.raises(AsmError) as caught:
        assemble(code, dialect, file="file.s")
    assert str(caught.value).startswith(f"file.s:{message}")
    assert "\n" not in str(caught.value)


def test_unknown_dialect():
    with pytest.raises(AsmError, match="there is no dialect 'intel'"):
        assemble("exit", "intel")


def test_empty():
    assert assemble("") == b""
    assert assemble(" # nothing\n\n;;\n") == b""


@pytest.mark.skipif(tool("llvm-mc")[1] < NEEDED, reason=f"llvm-mc {NEEDED} or newer is not installed")
def test_labels_against_llvm_mc(tmp_path):
    """Text with labels, both ways of jumping, assembled by both."""
    code = """
        .text
start:  r1 = 5 ll
        if r1 == 0 goto end
loop:   r1 += -1
1:      if w1 > 3 goto loop
        if r1 s> 2 goto 1b
        goto 1f
        gotol start
1:      may_goto end
        r2 = 1; r3 = 2 // two on a line
end:    exit
"""
    path = tmp_path / "labels.s"
    path.write_text(code)
    theirs, refused = llvm_mc(code.splitlines(), tmp_path / "labels.o")
    assert not refused
    assert assemble(code) == theirs
    command = [tool("llvm-mc")[0], "-triple", "bpfel", "-mcpu=v4", str(path)]
    assert subprocess.run(command, capture_output=True).returncode == 0
