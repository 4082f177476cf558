"""The common helpers: their results, and that the kernel's are the same."""

from __future__ import annotations

import pytest
from vm_programs import Body, array, make_object, mov, movi, run_kernel, run_vm, unpack

from pybpf import abi
from pybpf.asm.insn import Insn, alu64, call, exit_, ld_imm64, ldx, st, stx
from pybpf.asm.opcodes import BPF_ADD
from pybpf.object.spec import MapSpec
from pybpf.vm import HELPERS, Vm, VmError
from pybpf.vm.helpers import helper_names

KERNEL = 0xFFFF_8000_0000_1000
USER = 0x7000_0000_1000


def below_fp(register: int, distance: int) -> tuple[Insn, Insn]:
    return mov(register, 10), alu64(BPF_ADD, register, imm=-distance)


def errno(value: int) -> int:
    return value & (1 << 64) - 1


# --- strings -------------------------------------------------------------------------

FORMATS = [
    ("plain", []),
    ("100%% of %d", [7]),
    ("%d %i %u %x %X", [-1, -2, -3, -1, 0xABCDEF]),
    ("%ld %li %lu %lx %lX", [-1, -2, 3, -1, 0xABCDEF]),
    ("%lld %lli %llu %llx", [-1, 1 << 63, -1, -1]),
    ("[%5d] [%-5d] [%05d] [%+d] [% d]", [42, 42, 42, 42, 42]),
    ("[%8x] [%08x] [%-8x] [%+x] [%2x]", [255, 255, 255, 255, 0x12345]),
    ("[%20lld] [%-20lld] [%020lld]", [-5, -5, -5]),
    ("%c%c[%3c][%-3c]", [72, 105, 33, 63]),
    ("[%px] [%20px]", [0x1234, 0xFFFF888012345678]),
    ("%d", [1, 2]),
    ("%d %d", [1]),
    ("%o", [8]),
    ("%y", [8]),
    ("%", [8]),
    ("%l", [8]),
    ("%lz", [8]),
    ("%pz", [8]),
    ("%.3d", [8]),
    ("%hd", [8]),
    ("a\x01b", []),
    ("tab\tand\nline", []),
    ("long: " + "x" * 80, []),
]
STRING_FORMATS = ["%s", "[%10s] ", "[%-10s]", "%pks", "[%12pks]"]


def snprintf(body: Body, at: int, fmt: int, args: list[int], size: int = 64) -> None:
    """Format into the place ``at + 8`` of ``out``, the result into ``at``."""
    for number, value in enumerate(args):
        body.add(ld_imm64(1, value & (1 << 64) - 1), stx(8, 10, 8 * number - 64, 1))
    body.data(1, "out", at + 8).add(movi(2, size)).data(3, ".rodata", fmt).add(*below_fp(4, 64), movi(5, 8 * len(args)))
    if not args:
        body.add(movi(4, 0))
    body.add(call(165)).data(1, "out", at).add(stx(8, 1, 0, 0))


def formats_object():
    texts, body, at = b"", Body(), 0
    for text, args in FORMATS:
        snprintf(body, at, len(texts), args)
        texts += text.encode() + b"\0"
        at += 80
    rodata = array(".rodata", len(texts), contents=texts)
    rodata.frozen = True
    return make_object([body.end(0)], [rodata, array("out", at)])


def test_snprintf() -> None:
    out = b"".join(value.to_bytes(8, "little") for value in run_vm(formats_object()))
    shown = {}
    for number, (text, _) in enumerate(FORMATS):
        result, raw = unpack(out[80 * number : 80 * number + 8])[0], out[80 * number + 8 : 80 * number + 72]
        shown[text] = (result, raw.partition(b"\0")[0].decode())
    assert shown["100%% of %d"] == (10, "100% of 7")
    assert shown["%d %i %u %x %X"] == (33, "-1 -2 4294967293 ffffffff ABCDEF")
    assert shown["[%5d] [%-5d] [%05d] [%+d] [% d]"][1] == "[   42] [42   ] [00042] [+42] [ 42]"
    assert shown["[%px] [%20px]"][1] == "[0000000000001234] [    ffff888012345678]"
    assert shown["%d %d"] == (errno(-22), "")
    assert shown["%o"] == (errno(-22), "")
    assert shown["long: " + "x" * 80] == (87, "long: " + "x" * 57)


@pytest.mark.native
@pytest.mark.parametrize(("text", "args"), FORMATS, ids=[text[:20] for text, _ in FORMATS])
def test_snprintf_in_the_kernel(text, args) -> None:
    """One by one: the verifier refuses by itself a constant format that is wrong."""
    raw = text.encode() + b"\0"
    rodata = array(".rodata", len(raw), contents=raw)
    rodata.frozen = True
    body = Body()
    snprintf(body, 0, 0, args)
    spec = make_object([body.end(0)], [rodata, array("out", 80)])
    ours = run_vm(spec)
    if ours[0] == errno(-22):
        with pytest.raises(Exception, match=r"Invalid format string"):
            run_kernel(spec)
    else:
        assert ours == run_kernel(spec)


@pytest.mark.native
@pytest.mark.parametrize(
    ("text", "size"),
    # The kernel does not count what %pks prints once the buffer is full (lib/vsprintf.c, bstr_printf); here it counts.
    [(text, size) for text in STRING_FORMATS for size in (64, 8, 1) if size > 1 or "pks" not in text],
)
def test_strings_by_snprintf_in_the_kernel(text, size) -> None:
    raw = text.encode().ljust(16, b"\0") + b"a string\0"
    rodata = array(".rodata", 64, contents=raw)
    rodata.frozen = True
    # The address of the string as a number, which is what %s takes.
    body = Body().data(1, ".rodata", 16).add(stx(8, 10, -64, 1))
    body.data(1, "out", 8).add(movi(2, size)).data(3, ".rodata").add(*below_fp(4, 64), movi(5, 8), call(165))
    body.data(1, "out").add(stx(8, 1, 0, 0)).end(0)
    spec = make_object([body], [rodata, array("out", 80)])
    assert run_vm(spec) == run_kernel(spec)


NUMBERS = [
    *("0", "7", "-7", " 42", "\t-42x", "0x1F", "0X1f", "0x", "0xg", "017", "08", "x", "", "-", "+5", "--5"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809"),
    *("18446744073709551615", "18446744073709551616", "99999999999999999999999", "12 34", "ff", "777"),
]


def numbers_object(helper: int):
    cases = [(text, base) for text in NUMBERS for base in (0, 8, 10, 16, 3)]
    texts, body = b"", Body()
    for number, (text, base) in enumerate(cases):
        body.data(1, "texts", len(texts)).add(movi(2, len(text) + 1), movi(3, base)).data(4, "out", 16 * number + 8)
        body.add(call(helper)).data(1, "out", 16 * number).add(stx(8, 1, 0, 0))
        texts += text.encode() + b"\0"
    return make_object([body.end(0)], [array("texts", len(texts), contents=texts), array("out", 16 * len(cases))])


@pytest.mark.native
@pytest.mark.parametrize("helper", [105, 106], ids=["strtol", "strtoul"])
def test_numbers_in_the_kernel(helper) -> None:
    spec = numbers_object(helper)
    assert run_vm(spec) == run_kernel(spec)


def test_numbers() -> None:
    got = run_vm(numbers_object(105))
    assert got[0:2] == [1, 0]
    at = 10 * NUMBERS.index("\t-42x")
    assert got[at : at + 2] == [4, errno(-42)]


def strncmp_object():
    texts = b"abc\0abd\0ab\0abc\0\0\xffz\0".ljust(32, b"\0")
    rodata = array(".rodata", len(texts), contents=texts)
    rodata.frozen = True
    places = [0, 4, 8, 11, 15, 16]
    body, at = Body(), 0
    for one in places:
        for other in places:
            for size in (1, 2, 3, 4):
                body.data(1, ".rodata", one).add(movi(2, size)).data(3, ".rodata", other).add(call(182))
                # Only the sign counts.
                body.add(alu64(0xC0, 0, imm=31), stx(8, 10, -8, 0), ldx(8, 1, 10, -8))
                body.data(2, "out", at).add(stx(8, 2, 0, 1))
                at += 8
    return make_object([body.end(0)], [rodata, array("out", at)])


@pytest.mark.native
def test_strncmp_in_the_kernel() -> None:
    spec = strncmp_object()
    assert run_vm(spec) == run_kernel(spec)


def test_strncmp() -> None:
    code = [ld_imm64(1, 0, 2), movi(2, 4), ld_imm64(3, 4 << 32, 2), call(182), exit_()]
    for texts, result in ((b"abc\0abc\0", 0), (b"abc\0abd\0", errno(-1)), (b"abd\0abc\0", 1), (b"a\0xxa\0yy", 0)):
        assert Vm(code, maps=[array("m", 8, contents=texts)]).run() == result


@pytest.mark.parametrize(("size", "result", "shown"), [(14, 14, ["a 5 b -2 text"]), (13, errno(-22), [])])
def test_trace_printk(size, result, shown) -> None:
    """The size has to include the NUL."""
    text = b"a %d b %ld %s\0".ljust(16, b"\0") + b"text\0"
    body = Body().data(1, "fmt").add(movi(2, size), movi(3, 5), ld_imm64(4, -2)).data(5, "fmt", 16).add(call(6)).end()
    vm = Vm(make_object([body], [array("fmt", 24, contents=text)]))
    assert vm.run() == result
    assert vm.trace == shown


def test_addresses_in_formats() -> None:
    address = bytes([127, 0, 0, 1]) + bytes(range(12))
    text = b"%pI4 %pi4 %pI6 %pi6 %pB %p %pus|%pks\0"
    data = Body().data(6, "fmt", 64).add(*(stx(8, 10, -64 + 8 * n, 6) for n in range(4)), movi(1, 0x10))
    data.add(stx(8, 10, -32, 1), stx(8, 10, -24, 1), ld_imm64(1, USER), stx(8, 10, -16, 1), stx(8, 10, -8, 1))
    data.data(1, "out").add(movi(2, 256)).data(3, "fmt").add(*below_fp(4, 64), movi(5, 64), call(165)).end()
    vm = Vm(make_object([data], [array("fmt", 80, contents=text.ljust(64, b"\0") + address), array("out", 256)]))
    vm.memory.place(b"user\0", USER, user=True)
    vm.run()
    shown = vm.maps["out"].lookup(bytes(4)).partition(b"\0")[0].decode()
    six = "7f00:0001:0001:0203:0405:0607:0809:0a0b"
    assert shown == f"127.0.0.1 127.000.000.001 {six} {six.replace(':', '')} 0x10 {'10':0>16} user|"
    vm.maps["fmt"].update(bytes(4), b"%pI5\0".ljust(80, b"\0"))
    assert vm.run() == errno(-22)


# --- memory ----------------------------------------------------------------------------


def probe(helper: int, size: int, address: int):
    code = [st(8, 10, -8, -1), *below_fp(1, 8), movi(2, size), ld_imm64(3, address), call(helper)]
    return [*code, ldx(8, 1, 10, -8), stx(8, 10, -16, 1), mov(6, 0), ldx(8, 0, 10, -16), exit_()], [*code, exit_()]


def run_probe(helper: int, size: int, address: int) -> tuple[int, bytes]:
    results = []
    for code in probe(helper, size, address):
        vm = Vm(code)
        vm.memory.place(b"kernel memory", KERNEL)
        vm.memory.place(b"user\0more", USER, user=True)
        results.append(vm.run())
    return results[1], results[0].to_bytes(8, "little")


ONES = b"\xff"


def test_probe_read() -> None:
    assert run_probe(113, 8, KERNEL) == (0, b"kernel m")
    assert run_probe(113, 4, KERNEL + 7) == (0, b"memo" + ONES * 4)
    assert run_probe(113, 0, KERNEL) == (0, ONES * 8)
    assert run_probe(113, 8, KERNEL + 7) == (errno(-14), bytes(8))  # past the end
    assert run_probe(113, 8, 0) == (errno(-34), bytes(8))
    assert run_probe(113, 4, USER) == (errno(-34), bytes(4) + ONES * 4)
    assert run_probe(112, 4, USER) == (0, b"user" + ONES * 4)
    assert run_probe(112, 4, KERNEL) == (errno(-14), bytes(4) + ONES * 4)
    assert run_probe(148, 4, USER) == (0, b"user" + ONES * 4)
    assert run_probe(4, 4, USER) == (0, b"user" + ONES * 4)
    assert run_probe(4, 4, KERNEL) == (0, b"kern" + ONES * 4)


def test_probe_read_str() -> None:
    assert run_probe(114, 8, USER) == (5, b"user\0" + ONES * 3)
    assert run_probe(114, 3, USER) == (3, b"us\0" + ONES * 5)
    assert run_probe(114, 1, USER) == (1, b"\0" + ONES * 7)
    assert run_probe(114, 0, USER) == (0, ONES * 8)
    assert run_probe(45, 8, USER) == (5, b"user\0" + ONES * 3)
    assert run_probe(45, 4, KERNEL) == (4, b"ker\0" + ONES * 4)
    assert run_probe(115, 8, KERNEL + 7) == (errno(-14), bytes(8))  # no NUL before the end
    assert run_probe(115, 8, USER) == (errno(-34), bytes(8))


@pytest.mark.native
@pytest.mark.parametrize("size", [0, 1, 3, 6, 7, 8])
def test_kernel_string_in_the_kernel(size) -> None:
    body = Body().data(6, "out").add(st(8, 6, 8, -1), st(8, 6, 16, -1), mov(1, 6), alu64(BPF_ADD, 1, imm=8))
    body.add(movi(2, size)).data(3, "text").add(call(115), stx(8, 6, 0, 0), mov(1, 6), alu64(BPF_ADD, 1, imm=16))
    body.add(movi(2, size), movi(3, 0), call(113), stx(8, 6, 24, 0)).end(0)
    spec = make_object([body], [array("text", 8, contents=b"string\0x"), array("out", 32)])
    assert run_vm(spec) == run_kernel(spec)


def test_probe_mem_reads_zero() -> None:
    code = [ld_imm64(1, 0), ldx(8, 0, 1, 16), alu64(BPF_ADD, 0, imm=1), exit_()]
    assert Vm(code, probe_mem=True).run() == 1
    vm = Vm([ld_imm64(1, KERNEL), ldx(4, 0, 1, 4), exit_()])
    placed = vm.memory.place(b"abcdefgh", KERNEL)
    assert vm.run() == int.from_bytes(b"efgh", "little")
    vm.memory.remove(placed)
    with pytest.raises(VmError, match="no memory there"):
        vm.run()


# --- process, time ------------------------------------------------------------------------


def test_process_and_time() -> None:
    def value(number: int) -> int:
        vm = Vm([call(number), exit_()])
        vm.environment.pid, vm.environment.tgid, vm.environment.uid, vm.environment.gid = 11, 10, 1000, 100
        vm.environment.task, vm.environment.cpu, vm.environment.cgroup_id = 0x1234, 3, 77
        return vm.run()

    assert value(14) == 10 << 32 | 11
    assert value(15) == 100 << 32 | 1000
    assert (value(35), value(158), value(8), value(80), value(42)) == (0x1234, 0x1234, 3, 77, 0)
    for number in (5, 125, 160, 208):
        assert value(number) == 1_000_001_000
    assert value(118) == 250
    assert value(7) == value(7) < 1 << 32
    vm = Vm([call(5), mov(6, 0), call(5), alu64(0x10, 0, 6), exit_()])
    assert vm.run() == 1000
    comm = [*below_fp(1, 8), movi(2, 8), call(16), ldx(8, 0, 10, -8), exit_()]
    vm = Vm(comm)
    vm.environment.comm = b"a-long-name"
    assert vm.run().to_bytes(8, "little") == b"a-long-\0"
    for number in (46, 173, 174):
        vm = Vm([call(number), exit_()])
        vm.environment.socket_cookie = vm.environment.func_ip = vm.environment.attach_cookie = 99
        assert vm.run() == 99


# --- buffers --------------------------------------------------------------------------------


def test_ring_buffer() -> None:
    ring = MapSpec("ring", abi.MAP_TYPE_RINGBUF, 0, 0, 4096)
    body = Body().map(1, "ring").add(movi(2, 16), movi(3, 0), call(131), Insn(0x55, 0, 0, 2), movi(0, 1), exit_())
    body.add(st(8, 0, 0, 7), mov(1, 0), movi(2, 2), call(132))
    body.add(st(8, 10, -8, 9)).map(1, "ring").add(*below_fp(2, 8), movi(3, 5), movi(4, 1), call(130), mov(6, 0))
    body.map(1, "ring").add(movi(2, 8), movi(3, 0), call(131), Insn(0x15, 0, 0, 3), mov(1, 0), movi(2, 0), call(133))
    body.map(1, "ring").add(movi(2, 0), call(134), alu64(BPF_ADD, 0, 6)).end()
    vm = Vm(make_object([body], [ring]))
    buffer = vm.maps["ring"]
    assert vm.run() == 24 + 16 + 16
    assert buffer.records == [b"\7".ljust(16, b"\0"), b"\x09\0\0\0\0"]
    assert buffer.wakeups == [2, 1]
    assert buffer.drain() == [b"\7".ljust(16, b"\0"), b"\x09\0\0\0\0"]
    assert (buffer.records, buffer.drain(), buffer.consumer) == ([], [], 56)
    while vm.run() != 1:
        pass
    assert buffer.producer - buffer.consumer <= 4095
    assert buffer.reserve(5000) is None
    assert buffer.output(b"x", 8) == -22
    assert buffer.output(bytes(4096), 0) == -11
    assert [buffer.query(what) for what in range(5)][1] == 4096


def test_ring_buffer_reserve_with_flags_fails() -> None:
    body = Body().map(1, "ring").add(movi(2, 8), movi(3, 1), call(131)).end()
    assert Vm(make_object([body], [MapSpec("ring", abi.MAP_TYPE_RINGBUF, 0, 0, 4096)])).run() == 0


@pytest.mark.native
def test_ring_buffer_fills_as_in_the_kernel() -> None:
    """How many records of which sizes go in, and what query says then."""
    sizes = [1, 8, 9, 100, 1000, 2000, 900, 30, 8, 1, 1, 4096, 4088]
    body, at = Body(), 0
    for size in sizes:
        body.map(1, "ring").data(2, "data").add(movi(3, size), movi(4, 1), call(130))
        body.data(1, "out", at).add(stx(8, 1, 0, 0)).map(1, "ring").add(movi(2, 0), call(134))
        body.data(1, "out", at + 8).add(stx(8, 1, 0, 0))
        at += 16
    maps = [MapSpec("ring", abi.MAP_TYPE_RINGBUF, 0, 0, 4096), array("data", 4096), array("out", at)]
    spec = make_object([body.end(0)], maps)
    assert run_vm(spec) == run_kernel(spec)


def test_perf_event_output() -> None:
    body = Body(section="xdp").add(st(8, 10, -8, 5), mov(6, 1))

    def output(flags: int) -> None:
        body.add(mov(1, 6)).map(2, "events").add(ld_imm64(3, flags), *below_fp(4, 8), movi(5, 4), call(25))

    output(0xFFFFFFFF)
    output(1)
    output(3 << 32 | 0xFFFFFFFF)
    output(9)
    body.add(stx(8, 10, -16, 0))
    output(65 << 32)
    body.add(ldx(8, 1, 10, -16), alu64(BPF_ADD, 0, 1)).end()
    vm = Vm(make_object([body], [MapSpec("events", abi.MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 0)]), cpus=4)
    vm.environment.cpu = 2
    assert vm.run(packet=bytes(range(64))) == errno(-7 - 14)
    five = b"\5\0\0\0"
    assert vm.maps["events"].drain() == [(2, five), (1, five), (2, five + b"\0\1\2")]
    assert vm.maps["events"].records == []


def test_spin_lock() -> None:
    body = Body().data(6, "m").add(mov(1, 6), call(93), st(4, 6, 4, 1), mov(1, 6), call(94)).end(0)
    assert Vm(make_object([body], [array("m", 8)])).run() == 0


def test_every_helper_is_named() -> None:
    names = dict(helper_names())
    assert names[1] == "map_lookup_elem"
    assert names[12] == "tail_call"
    assert set(names) == {*HELPERS, 12}
