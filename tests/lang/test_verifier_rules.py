"""What the compiler does for the verifier's sake, rule by rule.

Each rule has a program in the language that loads and, where a kernel still
refuses it, the same as a compiler without the rule would make it.
Where none does, or where the fault is a kernel's, the rule is seen in the code.
``tests/guests`` runs this file on other kernels too.
"""

from __future__ import annotations

import platform
import struct

import pytest
from lang_harness import lower, object_of

from pybpf.abi import LOG_STATS
from pybpf.asm.insn import decode
from pybpf.asm.opcodes import BPF_ALU64, BPF_AND, BPF_DW, BPF_JA, BPF_JMP, BPF_LDX, BPF_MEM, BPF_REG_FP, BPF_STX, EXIT
from pybpf.asmtool import assemble_object, disassemble_object
from pybpf.errors import CompileError, VerifierError
from pybpf.lang import ir, layout
from pybpf.lang.backend import generate
from pybpf.lang.ir import POINTER, Function, Imm, Ins
from pybpf.lang.mir import MOVE
from pybpf.loader import Collection
from pybpf.object.reader import read_object
from pybpf.vm import Vm

pytestmark = pytest.mark.in_guests

RELEASE = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
PACKET = struct.pack("<QQQQ", 40, 7, 1 << 40, 3) + bytes(32)
HEAD = """
class Value(Struct):
    n: u64
    table: u64[8]
    text: char[104]
class C(Struct):
    a: u64
    b: u64
    c: u64
    d: u64
values = Array(Value, 1)
ring = RingBuf(4096)
@tc
def f(skb):
    v = values.lookup(0)
    c = skb.ptr(C)
    if not v or not c:
        return 99
"""


def compiled(tmp_path, body: str) -> bytes:
    """A program around ``body``, which has a map's value in ``v`` and unknown numbers in ``c``."""
    lines = "\n".join("    " + line for line in body.strip("\n").splitlines())
    return object_of(tmp_path, f"{HEAD}{lines}\n")


def run(data: bytes) -> int:
    """Load the program and run it; pybpf.vm must agree with the kernel."""
    with Collection(read_object(data), ["f"]) as loaded:
        result = loaded.programs["f"].test_run(data=PACKET).retval
    vm = Vm(read_object(data))
    assert vm.run("f", packet=PACKET) & 0xFFFFFFFF == result
    return result


def code_of(data: bytes) -> list[str]:
    """The instructions as text."""
    return [line.split("\t", 1)[1] for line in disassemble_object(data) if line[8:10] == ":\t"]


def refused(code: str, functions: str = "", log_level: int = 0) -> str:
    """The verifier's objection to code that has an unknown number of 64 bits in r6 and a map's value in r7."""
    code = code.replace("; ", "\n    ")
    text = f"""
.map values, array, 4, 176, 1
.section "tc"
.globl f
f:
    *(u32 *)(r10 - 4) = 0
    r1 = values ll
    r2 = r10
    r2 += -4
    call 1
    r7 = r0
    call 5
    r6 = r0
    if r7 == 0 goto out
    {code}
out:
    r0 = 0
    exit
{functions}
"""
    spec = read_object(assemble_object(text))
    with pytest.raises(VerifierError) as info, Collection(spec, ["f"], log_level=log_level):
        pass
    return info.value.details or str(info.value)


# --- 1, 2: what is tested is what is used, all 64 bits of it


@pytest.mark.native
def test_bounds_are_of_all_64_bits(tmp_path):
    """With C's ``int n`` compilers test the low half of a register and use a copy of all of it."""
    body = "n = i32(c.a)\nif n <= 0:\n    return 1\nn = min(n, 100)\nv.text[n] = 7\nreturn ring.output(v, n) + n"
    assert run(compiled(tmp_path, body)) == 40
    halves = "r8 = r6; if w6 s> 100 goto out; if w6 s< 1 goto out; r7 += r8; *(u8 *)(r7 + 0) = 7"
    assert "out of bounds" in refused(halves) or "unbounded" in refused(halves)


@pytest.mark.native
def test_the_tested_register_is_the_one_used(tmp_path):
    body = "n = c.a\nm = n\nif m > 100:\n    return 1\nv.text[n] = 7\nreturn m"
    assert run(compiled(tmp_path, body)) == 40
    # The copy is older than the arithmetic: what is learnt of one says nothing of the other.
    copied = "r8 = r6; r8 &= 4095; r6 &= 4095; if r8 > 100 goto out; r7 += r6; *(u8 *)(r7 + 0) = 7"
    assert "invalid access to map value" in refused(copied)


# --- a mask stays where only the compiler can prove it redundant

MASKS = (
    "((c.a & 3) | (c.b & 5)) & 7",  # OR and XOR of unknown numbers: nothing known before 6.8
    "((c.a & 3) ^ (c.b & 5)) & 7",
    "((c.a & 1) * (c.b & 7)) & 7",  # nor of products
    "((c.a & 7) >> (c.b & 63)) & 7",  # nor, to this day, of a shift by an unknown number
    "((c.a & 7) % (c.b | 1)) & 7",  # or of a remainder
    "u8(c.a) // (u8(c.b) | 32) & 7",
    "bool(c.a > c.b) & 7",
)


@pytest.mark.native
@pytest.mark.parametrize("index", MASKS)
def test_masks_that_prove_an_access_stay(tmp_path, index):
    data = compiled(tmp_path, f"v.table[{index}] = 5\nreturn v.table[{index}]")
    assert run(data) == 5


@pytest.mark.native
def test_an_index_without_its_mask_is_refused():
    shifted = "r8 = r6; r8 &= 63; r6 &= 7; r6 >>= r8; r6 <<= 3; r7 += r6; r1 = *(u64 *)(r7 + 8)"
    assert "unbounded" in refused(shifted)


@pytest.mark.native
def test_a_bit_field_is_an_index(tmp_path):
    text = """
class F(Struct):
    one: Bits[u32, 1]
    three: Bits[u32, 3]
    table: u64[8]
fields = Array(F, 1)
@tc
def f(skb):
    c = skb.ptr(C)
    p = fields.lookup(0)
    s = F(one=1)
    s.table[1] = 4
    if not p or not c:
        return 99
    p.three = c.b
    p.table[p.three & 7] = 3
    return s.table[s.one & 1] + p.table[p.three]
"""
    assert run(object_of(tmp_path, HEAD.split("@tc")[0] + text)) == 7


def test_a_mask_of_what_no_access_depends_on_goes(tmp_path):
    kept = code_of(compiled(tmp_path, "return v.table[((c.a & 3) | (c.b & 5)) & 7]"))
    gone = code_of(compiled(tmp_path, "return ((c.a & 3) | (c.b & 5)) & 7"))
    assert any(line.endswith("&= 0x7") for line in kept)
    assert not any(line.endswith("&= 0x7") for line in gone)


# --- 3: bounds of spilled numbers

# More sizes than r6 to r9 hold, each tested once and used after calls.
SIZES = "\n".join(
    [f"n{i} = c.a + {i}\nif n{i} < 2 or n{i} > {90 + i}:\n    return 1" for i in range(6)]
    + [f"k{i} = min(c.b, {3 + i})" for i in range(3)]
    + ["ring.output(v, 8)"]
    + [f"v.text[n{i}] = {i}\nring.output(v, n{i})" for i in range(6)]
    + [f"v.table[k{i}] = n{i}\nring.output(v, 8)" for i in range(3)]
    + ["return n0 + n5 + v.text[40] + k0 + k2"]
)


@pytest.mark.native
def test_spilled_bounds_are_shown_again(tmp_path):
    """Before 6.8 a number in the frame did not learn what a test of its copy in a register said."""
    data = compiled(tmp_path, SIZES)
    reloads = [line for line in code_of(data) if "= *(u64 *)(r10 -" in line]
    assert len(reloads) > 6
    assert run(data) == 40 + 45 + 0 + 3 + 5
    late = "*(u64 *)(r10 - 16) = r6; call 5; r1 = *(u64 *)(r10 - 16); if r1 > 100 goto out; r6 = *(u64 *)(r10 - 16)"
    if RELEASE < (6, 8):
        assert "unbounded" in refused(f"{late}; r7 += r6; *(u8 *)(r7 + 0) = 7")


# --- 4, 5: what is in the frame


@pytest.mark.native
def test_records_survive_pressure(tmp_path):
    """Before 5.10.10 a ring buffer record in the frame lost its size: it stays in a register if any value does."""
    lines = [f"n{i} = c.a * {i + 3}" for i in range(7)]
    lines += ["with ring.reserve(Value) as e:", "    ring.output(v, 8)", "    e.n = 1", "    e.table[7] = 0"]
    lines += [f"    e.table[{i}] = n{i}" for i in range(7)] + ["    copy(e.text, v.text)", "return n0 + n6"]
    data = compiled(tmp_path, "\n".join(lines))
    code = code_of(data)
    assert any("= *(u64 *)(r10 -" in line for line in code), "nothing was spilled"
    place = next(i for i, line in enumerate(code) if line == "call 0x83")
    assert not any(line.startswith("*(u64 *)(r10 -") and line.endswith("= r0") for line in code[place : place + 4])
    assert run(data) == 40 * 3 + 40 * 9


def phases(count: int, pairs: int) -> Function:
    """In each phase pointers and numbers from the context live across a call, then the numbers go where these lead."""
    func = Function("f", "xdp")
    block, ctx = func.block(), func.vreg(POINTER)
    block.ins.append(Ins(ir.PARAM, dst=ctx, imm=0))
    for phase in range(count):
        both = [(func.vreg(POINTER), func.vreg()) for _ in range(pairs)]
        for number, (pointer, value) in enumerate(both):
            place = (phase * pairs + number) * 16
            block.ins += [Ins(ir.LOAD, dst=pointer, a=ctx, off=place), Ins(ir.LOAD, dst=value, a=ctx, off=place + 8)]
        block.ins.append(Ins(ir.CALL, imm=8))
        block.ins += [Ins(ir.STORE, a=pointer, b=value) for pointer, value in both]
    block.ins.append(Ins(ir.RET, a=Imm(0)))
    return func


def test_a_slot_holds_pointers_or_numbers():
    """One slot that held both in turn crashed kernels of 6.19; values of one kind share where the frame is short."""
    unit = generate(phases(3, 16))
    assert unit.stack <= 256, "96 values, 32 at a time"
    held: dict[int, int] = {}  # register -> offset in the context of what it holds
    slots: dict[int, set[int]] = {}
    contents: dict[int, int] = {}
    pairs = []
    for insn in decode(unit.code):
        if insn.op == BPF_LDX | BPF_MEM | BPF_DW and insn.src == BPF_REG_FP:
            held[insn.dst] = contents[insn.off]
        elif insn.op == BPF_LDX | BPF_MEM | BPF_DW:
            held[insn.dst] = insn.off
        elif insn.op == BPF_STX | BPF_MEM | BPF_DW and insn.dst == BPF_REG_FP:
            contents[insn.off] = held[insn.src]
            slots.setdefault(insn.off, set()).add(held[insn.src])
        elif insn.op == BPF_STX | BPF_MEM | BPF_DW:
            pairs.append((held[insn.dst], held[insn.src]))
        elif insn.op == MOVE:
            held[insn.dst] = held.get(insn.src, -1)
    assert pairs == [(16 * i, 16 * i + 8) for i in range(48)]
    assert any(len(values) > 1 for values in slots.values())
    assert all(len({value % 16 for value in values}) == 1 for values in slots.values())
    own = generate(phases(1, 12))
    assert own.stack == 8 * (24 - 4), "each its own while there is room, but for what stays in r6 to r9"


# --- 6: pointers are only added to


def test_no_arithmetic_on_pointers_but_addition(tmp_path):
    for operation in ("v >> 3", "v * 2", "v & 7", "-v", "~v"):
        with pytest.raises(CompileError):
            compiled(tmp_path, f"return {operation}")


@pytest.mark.native
def test_a_shifted_pointer_is_refused():
    assert "prohibited" in refused("r7 >>= 3")


# --- 7: base + index, tested just before


@pytest.mark.native
def test_a_packet_pointer_that_was_tested_is_used(tmp_path):
    body = """
n = c.b & 15
p = skb.ptr(u32, n)
q = skb.ptr(u32, n + 8)
if not p or not q:
    return 1
return p[0] + q[0]
"""
    expected = sum(int.from_bytes(PACKET[n : n + 4], "little") for n in (7, 15))
    assert run(compiled(tmp_path, body)) == expected


@pytest.mark.native
def test_an_access_has_a_constant_size(tmp_path):
    body = "n = min(c.b, 90)\ncopy(v.text[n:n + 8], c)\nreturn v.text[n]"
    assert run(compiled(tmp_path, body)) == 40


# --- 8: no byte that a kernel reads is left unset


@pytest.mark.native
def test_keys_and_records_have_no_unset_bytes(tmp_path):
    """Newer kernels, and 5.10 as distributions have it, let root read what the stack held; pybpf.vm does not."""
    text = """
class K(Struct):
    a: u8
    b: u64
    c: u16
keys = Hash(K, K, 8)
@tc
def f(skb):
    k = K(a=1)
    k.b = skb.len
    k.c = 3
    keys[k] = K(a=9)
    ring.output(k)
    got = keys.lookup(K(a=1, b=skb.len, c=3))
    return got.a if got else 0
"""
    assert run(object_of(tmp_path, HEAD.split("@tc")[0] + text)) == 9


# --- 9: what does not fit the stack


@pytest.mark.native
def test_big_objects_leave_the_stack(tmp_path):
    text = """
class Big(Struct):
    a: u64
    text: char[2000]
@tc
def f(skb):
    b = Big(a=skb.len)
    b.text[skb.len & 1023] = 5
    return b.a + b.text[skb.len & 1023]
"""
    data = object_of(tmp_path, text)
    assert run(data) == len(PACKET) + 5 - 0
    assert len(read_object(data).maps) == 1


# --- 10: loops


@pytest.mark.native
def test_long_loops_are_walked_once_a_pass(tmp_path):
    body = "n: u64 = 0\nfor i in range(20000):\n    n += i\nreturn n"
    assert run(compiled(tmp_path, body)) == sum(range(20000)) & 0xFFFFFFFF


def back_edges(code: bytes) -> list[int]:
    """Where check_cfg() of Linux 5.10 objects: what but a jump leads to where the search is coming from."""
    insns, at = {}, 0
    for insn in decode(code):
        insns[at] = insn
        at += insn.slots

    def ways(slot):
        insn = insns[slot]
        if insn.op == EXIT:
            return []
        if insn.op == BPF_JMP | BPF_JA:
            return [slot + 1 + insn.off]
        return [slot + insn.slots] + ([slot + 1 + insn.off] if insn.is_jump else [])

    found = []
    seen, path = {0}, {0}
    stack = [(0, iter(ways(0)))]
    while stack:
        slot, left = stack[-1]
        for target in left:
            if target in path and not insns[slot].is_jump:
                found.append(slot)
            if target not in seen:
                seen.add(target)
                path.add(target)
                stack.append((target, iter(ways(target))))
                break
        else:
            path.discard(slot)
            stack.pop()
    return found


LOOPS = (
    "total: u64 = 0\nfor i in range(i16(c.a)):\n    total += i\nreturn total",
    "d = i16(c.b)\nfor i in range(d & 3):\n    d += i16(c.c)\n    if d == -48 or c.a > 8:\n        d ^= 5\nreturn d",
    "n: u64 = 0\ni = c.b & 7\nwhile atmost(20) and i * i < c.a:\n    n += i\n    i += 1\nreturn n",
)


def test_a_loop_goes_back_by_a_jump(tmp_path, monkeypatch):
    """Before 6.7 what came before a loop's head could not be the loop's last instruction but for a jump."""
    functions = [
        lower(tmp_path, HEAD + "\n".join(f"    {line}" for line in body.splitlines()) + "\n").functions[-1]
        for body in LOOPS
    ]
    assert [back_edges(generate(func).code) for func in functions] == [[], [], []]
    monkeypatch.setattr(layout, "_falls_back", lambda order: set())
    assert any(back_edges(generate(func).code) for func in functions), "no function has such a loop"


@pytest.mark.native
@pytest.mark.parametrize("body", LOOPS[1:])
def test_loops_load(tmp_path, body):
    run(compiled(tmp_path, body))


@pytest.mark.native
def test_a_loop_that_falls_into_its_head_is_refused():
    if RELEASE >= (5, 11):
        pytest.skip(f"Linux {RELEASE[0]}.{RELEASE[1]} may take it")
    assert "back-edge" in refused("r1 = 0; goto test; body:; r1 += 1; test:; if r1 < 10 goto body")


# --- what a test has shown about the counter of a loop is not masked away

COUNTERS = (
    ("n: u8 = c.d\nwhile n <= 9:\n    n += 2\n    v.n += c.b\nreturn n", 11),
    ("n: i8 = c.a\nwhile n > 0:\n    n -= 3\n    v.n += c.b\nreturn n + 10", 8),
    ("n: u32 = c.d\nwhile n < 9:\n    n += 1\n    v.n += c.b\nreturn n", 9),
    ("n: i32 = c.d & 63\nwhile n > -5:\n    n -= 1\n    v.n += c.b\nreturn n + 5", 0),
)


@pytest.mark.native
@pytest.mark.parametrize(("body", "result"), COUNTERS)
def test_a_counter_that_was_compared_needs_no_extension(tmp_path, body, result):
    assert run(compiled(tmp_path, body)) == result


@pytest.mark.native
def test_a_counter_that_is_cut_in_each_pass_is_refused():
    """The verifier takes the bounds of what is masked from the mask: each pass looks like the one before it."""
    text = refused("r6 &= 255; goto test; body:; r6 += 2; r6 &= 255; goto test; test:; if r6 <= 9 goto body")
    assert "infinite loop" in text or "back-edge" in text


def test_extensions_that_are_no_copies_stay():
    """A number that may have become longer is cut; and so is one of which only ``!=`` is known, which came with 6.8."""
    for cond, bound, step, kept in (("lt", 255, 1, 0), ("lt", 255, 2, 1), ("ne", 0, -1, 1)):
        func = Function("f", "tc")
        context, n, sum_ = func.vreg(POINTER), func.vreg(), func.vreg()
        entry, head, body, end = (func.block(name) for name in ("entry", "head", "body", "end"))
        entry.ins = [
            Ins(ir.PARAM, dst=context, imm=0),
            Ins(ir.LOAD, dst=n, a=context, size=1),
            Ins(ir.JUMP, then=head),
        ]
        head.ins = [Ins(ir.BRANCH, a=n, b=Imm(bound), cond=cond, then=body, els=end)]
        body.ins = [
            Ins(ir.ADD, dst=sum_, a=n, b=Imm(step)),
            Ins(ir.ZEXT, dst=n, a=sum_, size=1),
            Ins(ir.JUMP, then=head),
        ]
        end.ins = [Ins(ir.RET, a=n)]
        masks = [insn for insn in decode(generate(func).code) if insn.op == BPF_ALU64 | BPF_AND]
        assert len(masks) == kept, (cond, bound, step)


@pytest.mark.native
def test_the_bits_of_a_counter_are_tested_in_a_copy(tmp_path):
    """Since 6.8 a way that is never taken, on which its low bits are zero, makes verifiers forget its bounds."""
    body = """
first: u8 = c.a
kind: u8 = first
n: i64 = first
while n > -1 and i16(c.b):
    n -= 2
    if kind not in (1, 7, 200):
        pass
    elif n & 255:
        pass
    else:
        kind = first
return n + 2
"""
    assert run(compiled(tmp_path, body)) == 0


# --- what bounds a loop is shown, where verifiers do not see it

LIMITS = (
    ("for i in range(c.b % 10):\n    v.n += i\nreturn v.n", 21),
    ("n: u8 = c.a\nfor i in range(n // 3):\n    v.n += i\nreturn v.n", 78),
    ("n: u8 = c.a\nfor i in range(n // (c.b | 1)):\n    v.n += i\nreturn v.n", 10),
    ("n: u8 = c.a\nfor i in range(n >> (c.b & 3)):\n    v.n += i\nreturn v.n", 10),
)


@pytest.mark.native
@pytest.mark.parametrize(("body", "result"), LIMITS)
def test_what_is_narrow_bounds_a_loop(tmp_path, body, result):
    assert run(compiled(tmp_path, "v.n = 0\n" + body)) == result


@pytest.mark.native
def test_a_remainder_without_a_mask_is_no_bound():
    if RELEASE > (6, 18):
        pytest.skip(f"Linux {RELEASE[0]}.{RELEASE[1]} may take it")
    code = "r6 %= 10; r8 = 0; goto test; body:; r8 += 1; goto test; test:; if r8 < r6 goto body"
    text = refused(code, log_level=LOG_STATS)  # a line for each of the steps would take its time
    assert any(part in text for part in ("too complex", "too large", "infinite loop"))


# --- a callback that no pass calls is not referred to

CALLBACKS = """
class Settings(ConfigBase):
    none: u64 = 0
class Total(Struct):
    n: u64
settings = Settings()
@inline
def add(i, total):
    total.n += i
@inline
def never(i, total):
    total.n += 1 << 20
@tc
def f(skb):
    total = Total()
    first = loop({}, {}, total)
    return first + loop({}, {}, total) + total.n
"""


@pytest.mark.native
@pytest.mark.parametrize("order", [("4", "add", "settings.none", "never"), ("settings.none", "never", "4", "add")])
def test_a_loop_may_have_no_pass(tmp_path, order):
    """Since 6.7 a kernel removes the callback, and then misses it where the call refers to it."""
    assert run(object_of(tmp_path, CALLBACKS.format(*order))) == 4 + 0 + 1 + 2 + 3


@pytest.mark.native
def test_a_call_of_bpf_loop_without_a_pass_is_refused():
    if not (6, 7) <= RELEASE <= (6, 18):
        pytest.skip(f"Linux {RELEASE[0]}.{RELEASE[1]} may take it")
    call = "r1 = {}; r2 = {} ll; r3 = 0; r4 = 0; call 181; "
    functions = "".join(f'.section ".text"\n{name}:\n    r0 = 0\n    exit\n' for name in ("add", "never"))
    assert "No program to jit" in refused(call.format(4, "add") + call.format(0, "never"), functions)
