"""Kinds of programs: their contexts, arguments and packets, in the model and in the kernel."""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
import shutil
import struct
import subprocess

import pytest
from lang_harness import World, lower, object_of

from pybpf import abi, ktypes
from pybpf.errors import CompileError, LoadError, VerifierError
from pybpf.lang import ir
from pybpf.lang.contexts import CONTEXTS
from pybpf.lang.types import ArrayType
from pybpf.loader import Collection
from pybpf.object.reader import read_object
from pybpf.sections import parse_section

PACKETS = """
class Eth(Struct, packed=True):
    dst: u8[6]
    src: u8[6]
    proto: be16
class Ip(Struct):
    ihl: Bits[u8, 4]
    version: Bits[u8, 4]
    tos: u8
    len: be16
    rest: u8[5]
    proto: u8
    sum: u16
    src: be32
    dst: be32
class Ports(Struct):
    src: be16
    dst: be16
@inline
def dport(ctx):
    eth = ctx.ptr(Eth)
    if not eth or eth.proto != 0x0800:
        return 1
    ip = ctx.ptr(Ip, 14)
    if not ip:
        return 2
    if ip.version != 4 or ip.proto not in (6, 17):
        return 3
    ports = ctx.ptr(Ports, 14 + ip.ihl * 4)
    if not ports:
        return 4
    return ports.dst
"""


def packet(options: int = 0, proto: int = 6, port: int = 443, cut: int = 0) -> bytes:
    head = struct.pack(">BBH5xBHII", 0x45 + options, 0, 40, proto, 0, 1, 2) + bytes(4 * options)
    data = bytes(12) + b"\x08\x00" + head + struct.pack(">HH", 999, port) + bytes(40)
    return data[:cut] if cut else data


CASES = [
    (packet(), 443),
    (packet(options=3, port=80), 80),
    (packet(cut=20), 2),
    (packet(options=10, cut=60), 4),
    (packet(proto=1), 3),
    (bytes(64), 1),
]


@pytest.mark.parametrize(("data", "expected"), CASES)
@pytest.mark.parametrize("kind", ["xdp", "tc"])
def test_packets(tmp_path, kind, data, expected):
    unit = lower(tmp_path, PACKETS + f"@{kind}\ndef f(ctx):\n    return dport(ctx)\n")
    start = 0x6000_0000
    context = bytearray(192)
    struct.pack_into("<II", context, 0 if kind == "xdp" else 76, start, start + len(data))
    w = World(unit, bytes(context))
    write = w.write

    def prepare(address, contents):
        write(address, contents)
        write(start, data)

    w.write = prepare
    assert w.run() == expected


@pytest.mark.native
@pytest.mark.parametrize("kind", ["xdp", "tc"])
def test_packets_in_the_kernel(tmp_path, kind):
    data = object_of(tmp_path, PACKETS + f"@{kind}\ndef f(ctx):\n    return dport(ctx)\n")
    with Collection(read_object(data), ("f",)) as loaded:
        for contents, expected in CASES:
            if len(contents) < 34:
                continue  # newer kernels make no test packet of less than an IP header
            assert loaded.programs["f"].test_run(data=contents).retval == expected


FLOW = """
class Flow(Struct):
    port: u32
    proto: u32
flows = LruHash(Flow, u64, 64)
@tc
def f(skb):
    key = Flow(port=dport(skb), proto=skb.protocol)
    flows[key] += skb.len
    skb.mark = 7
    p = skb.ptr(Eth)
    if p:
        p.src[0] = 5
        if p.src[0] == 5:
            return TC_ACT_SHOT if key.port == 443 else TC_ACT_OK
    return TC_ACT_UNSPEC
"""


@pytest.mark.native
def test_flows_and_writing(tmp_path):
    with Collection(read_object(object_of(tmp_path, PACKETS + FLOW)), ("f",)) as loaded:
        result = loaded.programs["f"].test_run(data=packet())
        assert (result.retval, result.data[6]) == (2, 5)
        # A test run names the packet IPv4 by its Ethernet header; the length is without that header.
        value = loaded.maps["flows"].lookup(struct.pack("<II", 443, 0x0008))
        assert value is not None
        assert struct.unpack("<Q", value)[0] in (len(packet()), len(packet()) - 14)


PROBE = """
@{kind}
def f(ctx{params}):
    return {value}
"""
REGISTERS = {"0:7": 0x11, "0:6": 0x22, "0:3": 0x33}  # di, si, ax as ktypes declares them


@pytest.mark.parametrize(
    ("kind", "params", "value", "expected"),
    [
        ("kprobe('x')", "", "ctx.arg(0) * 256 + ctx.arg(1)", 0x1122),
        ("kprobe('x')", ", a: u64, b: i8", "b", 0x22),
        ("uprobe('/bin/sh', 'x')", ", a: Ptr[u32], b: u64", "b + u64(a)", 0x33),
        ("kretprobe('x')", "", "ctx.ret", 0x33),
        ("uretprobe('/bin/sh', 'x')", "", "ctx.ret + 1", 0x34),
    ],
)
def test_registers_of_each_machine(tmp_path, kind, params, value, expected):
    text = PROBE.format(kind=kind, params=params, value=value)
    unit = lower(tmp_path, text)
    offsets = {"0:7": 112, "0:6": 104, "0:3": 80}
    context = bytearray(200)
    for access, number in REGISTERS.items():
        struct.pack_into("<Q", context, offsets[access], number)
    w = World(unit, bytes(context), lambda ref: 0 if ref.kind == 2 else offsets[ref.access])
    assert w.run() == expected
    # arm64: x0.. from the start of the context; the result is x0.
    context = struct.pack("<31Q", 0x11 if "ret" not in kind else 0x33, 0x22, *[0] * 29)
    w = World(
        lower(tmp_path, text),
        context,
        lambda ref: 1 if ref.kind == 2 else 8 * int(ref.access.split(":")[2]),
    )
    assert w.run() == expected
    # riscv64: a0.. after epc and nine other registers; the result is a0.
    context = struct.pack("<36Q", *[0] * 10, 0x11 if "ret" not in kind else 0x33, 0x22, *[0] * 24)
    unit = lower(tmp_path, text)
    assert World(unit, context, riscv64(unit)).run() == expected


def riscv64(unit):
    """What that kernel says of the fields that ``unit`` asks for, pt_regs alone."""
    places = [80 + 8 * number for number in (0, 1, 2, 3, 4, 5, 7)] + [280]  # a0 to a5, a7, orig_a0
    own = unit.types.id(ktypes.pt_regs___riscv.layout)

    def value(ref):
        if ref.kind == 2:
            return int(ref.type_id == own)
        assert ref.type_id == own, ref
        return places[int(ref.access.split(":")[1])]

    return value


def test_arguments_of_system_calls(tmp_path):
    """They are in the process's registers, to which the probed function gets a pointer; the fourth is in r10."""
    text = "@ksyscall('x')\ndef f(ctx, a: u64, b: u64, c: u64, d: u64):\n    return d * 256 + ctx.arg(0)\n"
    regs, offsets = 0x6000_0000, {"0:7": 112, "0:10": 56}
    inner = bytearray(200)
    struct.pack_into("<Q", inner, 112, 0x11)
    struct.pack_into("<Q", inner, 56, 0x44)
    outer = bytearray(200)
    struct.pack_into("<Q", outer, 112, regs)
    w = World(lower(tmp_path, text), bytes(outer), lambda ref: 0 if ref.kind == 2 else offsets[ref.access])
    w.readable[regs] = bytes(inner)
    assert w.run() == 0x4411
    w = World(
        lower(tmp_path, text),
        struct.pack("<31Q", regs, *[0] * 30),
        lambda ref: 1 if ref.kind == 2 else 8 * int(ref.access.split(":")[2]),
    )
    w.readable[regs] = struct.pack("<31Q", 0x11, 0x22, 0x33, 0x44, *[0] * 27)
    assert w.run() == 0x4411
    # riscv64: the first one is in orig_a0, for a0 has a result already.
    unit = lower(tmp_path, text)
    w = World(unit, struct.pack("<36Q", *[0] * 10, regs, *[0] * 25), riscv64(unit))
    w.readable[regs] = struct.pack("<36Q", *[0] * 10, -38 & (1 << 64) - 1, 0x22, 0x33, 0x44, *[0] * 21, 0x11)
    assert w.run() == 0x4411


def test_user_pointers_of_uprobes(tmp_path):
    text = "class P(Struct):\n    a: u32\n    q: Ptr[P]\n"
    text += "@uprobe('/lib/x', 'y')\ndef f(ctx, p: Ptr[P]):\n    return p.q.a\n"
    function = lower(tmp_path, text).functions[0]
    assert [i.imm for b in function.blocks for i in b.ins if i.op == ir.CALL] == [112, 112]
    assert function.section == "uprobe//lib/x:y"


def test_iterators(tmp_path):
    text = """
from pybpf.ktypes import task_struct
class bpf_iter_meta(KStruct):
    seq_num: u64
@bpf_iter('task')
def f(ctx, meta: Ptr[bpf_iter_meta], task: Ptr[task_struct]):
    if not task:
        return 0
    return task.pid + meta.seq_num
"""
    function = lower(tmp_path, text).functions[0]
    assert [i.off for b in function.blocks for i in b.ins if i.op == ir.LOAD][:2] == [0, 8]
    with pytest.raises(CompileError, match="pointer may be None here"):
        lower(tmp_path, text.replace("if not task:", "if not meta:"))


SECTIONS = {
    "fentry('x')": "fentry/x",
    "fentry('x', sleepable=True)": "fentry.s/x",
    "fexit('x')": "fexit/x",
    "fmod_ret('x')": "fmod_ret/x",
    "lsm('file_open')": "lsm/file_open",
    "cgroup('inet_sock_create')": "cgroup/sock_create",
    "cgroup('connect4')": "cgroup/connect4",
    "cgroup('skb/egress')": "cgroup_skb/egress",
    "socket_filter": "socket",
    "perf_event": "perf_event",
    "sk_lookup": "sk_lookup",
    "sockops(name='g')": "sockops",
    "xdp()": "xdp",
}


@pytest.mark.parametrize("decorator", SECTIONS)
def test_sections(tmp_path, decorator):
    assert lower(tmp_path, f"@{decorator}\ndef f(ctx):\n    return 0\n").functions[0].section == SECTIONS[decorator]


# Every kind of program that has a decorator: what libbpf must take it for, and a body that uses its context.
BODIES = {
    "tracepoint('syscalls:sys_enter_openat')": "return ctx.args[1] == 0",
    "raw_tp('sys_enter')": "return ctx.args[1] > 5",
    "tp_btf('sys_enter')": "return ctx.args[1] > 5",
    "cgroup('sock_create')": "return ctx.family == 2 or ctx.mark == get_current_uid_gid()",
    "cgroup('sock_release')": "return 1 + 0 * ctx.family",
    "cgroup('post_bind4')": "return ctx.src_ip4 != 1",
    "cgroup('connect4')": "ctx.user_port = 80\nreturn ctx.user_ip4 != 1",
    "cgroup('bind6')": "return ctx.user_ip6[0] != 1",
    "cgroup('sendmsg4')": "return ctx.msg_src_ip4 != 1",
    "cgroup('recvmsg6')": "return 1 + 0 * ctx.user_port",
    "cgroup('getpeername4')": "return 1 + 0 * ctx.user_port",
    "cgroup('skb/ingress')": "sk = ctx.sk\nif not sk:\n    return 1\nreturn sk.family == 10",
    "cgroup('skb/egress')": "return ctx.len > 20",
    "cgroup('dev')": "return ctx.major == 1 and ctx.minor == 3",
    "cgroup('sysctl')": "return not ctx.write",
    "cgroup('getsockopt')": "p = ctx.ptr(u32)\nif p:\n    return p[0] > ctx.optname\nreturn 1",
    "cgroup('setsockopt')": "return ctx.level == 1",
    "sockops": "return ctx.op + ctx.args[1] + ctx.family > ctx.bytes_acked",
    "sk_lookup": "return SK_PASS if ctx.local_port == 80 and ctx.remote_port != 1 else SK_DROP",
    "sk_msg": "p = ctx.ptr(u32)\nif p and p[0] == 7:\n    return SK_DROP\nreturn SK_PASS",
    "sk_reuseport": "return SK_PASS if ctx.hash & 1 else SK_DROP",
    "sk_skb('verdict')": "return SK_PASS if ctx.len else SK_DROP",
    "sk_skb('stream_parser')": "return ctx.len",
    "sk_skb('stream_verdict')": "return SK_DROP if ctx.remote_port else SK_PASS",
    "socket_filter": "return ctx.len if ctx.protocol else 0",
    "kprobe('do_unlinkat')": "return ctx.arg(1) + ctx.arg(5)",
    "kprobe('do_unlink*', multi=True)": "return ctx.arg(1) + ctx.arg(5)",
    "kretprobe('do_unlinkat')": "return ctx.ret",
    "ksyscall('unlinkat')": "return ctx.arg(3)",
    "kretsyscall('unlinkat')": "return ctx.ret",
    "uprobe('/bin/sh', 'main')": "p = user(u64, ctx.arg(1))\nreturn p[0]",
    "uprobe('/bin/sh', 'main', sleepable=True)": "p = user(u64, ctx.arg(1))\nreturn p[0]",
    "uprobe('/bin/sh', 'm*', multi=True)": "return ctx.arg(1)",
    "uretprobe('/bin/sh', 'main')": "return ctx.ret",
    "perf_event": "return ctx.sample_period + ctx.addr",
    "syscall": "return 7",
    "fentry('do_unlinkat')": "x = ctx_arg\nreturn 0 if x else 0",
    "fexit('do_unlinkat')": "x = ctx_arg\nreturn 0 if x else 0",
    "fmod_ret('security_file_open')": "return 0",
    "lsm('file_open')": "return 0",
    "lsm('bprm_committed_creds', sleepable=True)": "return 0",
    "bpf_iter('task')": "return 0",
    "xdp": "return XDP_PASS if ctx.ingress_ifindex else XDP_DROP",
    "hook('xdp.frags')": "return XDP_PASS if ctx.ptr(u32) else XDP_DROP",
    "tc": "return ctx.cb[2] + ctx.tstamp + ctx.gso_size + ctx.wire_len",
    "hook('tcx/ingress')": "return ctx.mark",
    "hook('netkit/peer')": "return ctx.mark",
    "hook('lwt_in')": "return ctx.mark",
    "hook('lwt_seg6local')": "return ctx.len",
    "hook('raw_tp.w/sys_enter')": "return ctx.args[1] > 5",
    "flow_dissector": "return ctx.data_end > ctx.data",
    "netfilter": "return NF_ACCEPT",
    "hook('lirc_mode2')": "return 0",
}
# What may be refused here: by a kernel built without it, or locked down.
REFUSALS = {errno.EPERM, errno.EACCES, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT, abi.ENOTSUPP}


def program_text(decorator: str) -> str:
    body = BODIES[decorator]
    argument = ""
    if "ctx_arg" in body:
        argument, body = ", fd: i32", body.replace("ctx_arg", "fd + 0")
    elif decorator.startswith("tp_btf"):
        argument, body = ", regs: Ptr[pt_regs], nr: i64", "return nr + regs.orig_ax"
    lines = "\n".join("    " + line for line in body.splitlines())
    return f"from pybpf.ktypes import pt_regs\n@{decorator}\ndef f(ctx{argument}):\n{lines}\n"


@pytest.mark.native
@pytest.mark.parametrize("decorator", BODIES)
def test_the_verifier_takes_them(tmp_path, decorator):
    spec = read_object(object_of(tmp_path, program_text(decorator)))
    try:
        Collection(spec, ("f",)).close()
    except LoadError as error:
        # A kernel may lack the type, the attach type or the hook, or forbid tracing: never the code.
        if isinstance(error, VerifierError) or error.errno not in REFUSALS:
            raise
        pytest.skip(f"this kernel refuses {spec.programs['f'].section}: {error}")


@pytest.mark.parametrize("decorator", BODIES)
def test_libbpf_sees_the_same(tmp_path, decorator):
    """Type and expected attach type that libbpf derives from the object's section."""
    path = ctypes.util.find_library("bpf")
    if path is None:
        pytest.skip("libbpf.so is not installed")
    data = object_of(tmp_path, program_text(decorator))
    section = parse_section(read_object(data).programs["f"].section)
    lib = ctypes.CDLL(path)
    lib.libbpf_set_print(None)
    for name in ("bpf_object__open_mem", "bpf_object__next_program"):
        getattr(lib, name).restype = ctypes.c_void_p
    opened = lib.bpf_object__open_mem(data, ctypes.c_size_t(len(data)), None)
    assert opened
    try:
        program = ctypes.c_void_p(lib.bpf_object__next_program(ctypes.c_void_p(opened), None))
        if not lib.bpf_program__type(program):
            pytest.skip(f"this libbpf does not know section {section.name}")
        assert lib.bpf_program__type(program) == section.type
        assert lib.bpf_program__expected_attach_type(program) == section.attach_type
    finally:
        lib.bpf_object__close(ctypes.c_void_p(opened))


RELOCATED = """
class trace_event_raw_sched_switch(KStruct):
    prev_prio: i32
    prev_pid: i32
    next_comm: char[16]
class seen(KUnion):
    a: u32
class task_struct(KStruct):
    sched_reset_on_fork: Bits[u32, 1]
    sched_contributes_to_load: Bits[u32, 1]
    _: Anon[seen]
    pid: i32
h = Hash(u32, u64, 4)
q = Queue(u32, 4)
traces = StackTrace(16)
perf = PerfEventArray(8)
@tracepoint('sched:sched_switch')
def switch(ctx: Ptr[trace_event_raw_sched_switch]):
    task = cast(Ptr[task_struct], u64(current_task()))
    bits = task.sched_reset_on_fork + kenum('bpf_func_id', 'BPF_FUNC_ringbuf_output')
    if has(ringbuf_query) and ctx.prev_prio >= 0:
        h[ctx.prev_pid] += bits
        q.push(task.pid)
        perf.output(ctx, b'ab')
    return get_stackid(ctx, traces, 0)
"""


@pytest.mark.native
def test_relocations_through_both_loaders(tmp_path):
    """Bit-fields, enums, unions and a context by CO-RE: ours and libbpf's."""
    data = object_of(tmp_path, RELOCATED)
    Collection(read_object(data), ("switch",)).close()
    if shutil.which("bpftool") is None or not os.path.ismount("/sys/fs/bpf"):
        pytest.skip("bpftool with a bpffs at /sys/fs/bpf is wanted")
    path, where = tmp_path / "x.o", f"/sys/fs/bpf/pybpf_kinds_{os.getpid()}"
    path.write_bytes(data)
    try:
        done = subprocess.run(["bpftool", "prog", "load", path, where], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    finally:
        if os.path.exists(where):
            os.unlink(where)


@pytest.mark.native
@pytest.mark.skipif(shutil.which("clang-19") is None, reason="clang-19 is not installed")
def test_contexts_are_those_of_the_kernel_headers(tmp_path):
    """Offsets of every field by the C compiler. Headers may be older than the fields at a structure's end."""
    with open("/usr/include/linux/bpf.h") as file:
        header = file.read()
    lines = []
    for name, layout in CONTEXTS.items():
        body = header.partition(f"struct {name} {{")[2].partition("\n};")[0]
        for field in layout.fields:
            if not field.name.endswith("_") and f"{field.name}" in body:
                lines.append(f'_Static_assert(__builtin_offsetof(struct {name}, {field.name}) == {field.offset}, "");')
                size = field.type.size
                lines.append(f'_Static_assert(sizeof(((struct {name} *)0)->{field.name}) == {size}, "");')
    assert len(lines) > 200
    path = tmp_path / "offsets.c"
    path.write_text("#include <linux/bpf.h>\n" + "\n".join(lines))
    done = subprocess.run(
        ["clang-19", "-target", "bpf", "-I/usr/include/x86_64-linux-gnu", "-fsyntax-only", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[:2000]


@pytest.mark.parametrize(
    ("decorator", "body", "line", "col", "message"),
    [
        ("kprobe('x')", "return ctx.arg(6)", 1, 20, "argument 6: the first 6 are in registers, from 0"),
        ("kprobe('x')", "return ctx.arg(ctx.arg(0))", 1, 20, "the argument's number must be known when compiling"),
        ("kprobe('x')", "return ctx.ptr(u8)", 1, 12, "the context has no ptr() here (has: arg)"),
        ("xdp", "return ctx.arg(0)", 1, 12, "the context has no arg() here (has: ptr)"),
        ("xdp", "p = ctx.ptr(u8, 1)\nreturn p[0]", 2, 12, "pointer may be None here: test it with 'if' first"),
        (
            "xdp",
            "return ctx.data[12]",
            1,
            12,
            "a place of type u32 has no elements: a part of the packet is ctx.ptr(T, offset)",
        ),
        ("xdp", "p = ctx.ptr(u8, -1)", 1, 21, "offset -1 is outside of a packet"),
        (
            "xdp",
            "return ctx.mark",
            1,
            12,
            (
                "struct xdp_md has no field 'mark' (has: data, data_end, data_meta, ingress_ifindex, rx_queue_index, "
                "egress_ifindex)"
            ),
        ),
        ("kprobe('x')", "ctx.ax = 1", 1, 14, "the context cannot be written"),
        ("socket_filter", "return ctx.sk.mark", 1, 12, "pointer may be None here: test it with 'if' first"),
    ],
)
def test_wrong_uses(tmp_path, decorator, body, line, col, message):
    lines = "\n".join("    " + text for text in body.splitlines())
    with pytest.raises(CompileError) as error:
        lower(tmp_path, f"@{decorator}\ndef f(ctx):\n{lines}\n")
    where, _, text = str(error.value).splitlines()[0].partition(": ")
    assert text == message
    assert where.split(":")[1:] == [str(4 + line), str(col)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@cgroup('nothing')\ndef f(ctx):\n    return 0\n", "cgroup hook 'nothing' is not known"),
        ("@kretprobe('x')\ndef f(ctx, a: u64):\n    return 0\n", "a kretprobe program has no arguments"),
        ("@tracepoint\ndef f(ctx):\n    return 0\n", "takes a name: @tracepoint('syscalls:sys_enter_openat')"),
        ("@kprobe\ndef f(ctx):\n    return 0\n", "@kprobe takes a name: @kprobe('do_unlinkat')"),
        ("@raw_tp('')\ndef f(ctx):\n    return 0\n", "@raw_tp takes a name: @raw_tp('sys_enter')"),
        ("@lsm\ndef f(ctx):\n    return 0\n", "@lsm takes a name: @lsm('file_open')"),
        (
            "@fentry(f)\ndef f(ctx):\n    return 0\n".replace("(f)", "(3)"),
            "@fentry takes a name: @fentry('do_unlinkat')",
        ),
    ],
)
def test_wrong_kinds(tmp_path, text, message):
    with pytest.raises(CompileError, match=message.replace("(", "\\(").replace(")", "\\)")):
        lower(tmp_path, text)


def test_layouts_have_no_holes_but_known_ones():
    for layout in CONTEXTS.values():
        assert all(isinstance(f.type, ArrayType) or f.offset % f.type.size == 0 for f in layout.fields)
    assert abi.PROG_TYPE_XDP == 6
