"""Kernel functions, variables and settings: in the interpreter, in the kernel, in libbpf's hands."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess

import pytest
from lang_harness import lower, object_of

from btf.format import KIND_FUNC
from btf.reader import Btf
from pybpf import kernel
from pybpf.errors import CompileError, NotSupported
from pybpf.loader import Collection
from pybpf.object.reader import read_object
from pybpf.object.spec import KSYMS
from pybpf.vm import Vm

HEAD = """
from pybpf.ktypes import task_struct
@kfunc
def bpf_task_from_pid(pid: i32) -> Ptr[task_struct]: ...
@kfunc
def bpf_task_release(task: Ptr[task_struct]): ...
@kfunc
def bpf_rcu_read_lock() -> None:
    "A declaration may say what it is."
@kfunc
def bpf_rcu_read_unlock(): ...
@kfunc
def no_such_kfunc(x: u64, p: Ptr[void], n: i32) -> i32: ...
class Out(Struct):
    a: u64
    b: u64
    c: u64
    d: u64
"""
TASKS = (
    HEAD
    + """
@syscall
def f(ctx: Ptr[Out]):
    task = bpf_task_from_pid(ctx.a)
    if task:
        ctx.b = task.tgid
        bpf_task_release(task)
    if exists(no_such_kfunc):
        ctx.c = no_such_kfunc(1, None, 3)
    else:
        ctx.c = 77
    if exists(bpf_rcu_read_lock):
        bpf_rcu_read_lock()
        bpf_rcu_read_unlock()
        ctx.d = 5 + exists(bpf_rcu_read_unlock)
    return 0
"""
)


def needs(*names: str) -> None:
    try:
        with Btf.kernel() as btf:
            missing = [name for name in names if not btf.find(name, (KIND_FUNC,))]
    except OSError as error:
        pytest.skip(str(error))
    if missing:
        pytest.skip(f"this kernel has no kfunc {missing[0]}")


def run(data: bytes, *values: int, **options) -> tuple[int, ...]:
    with Collection(read_object(data), ("f",), **options) as loaded:
        assert loaded.btf_error is None
        words = struct.pack("<4Q", *values, *[0] * (4 - len(values)))
        return struct.unpack("<4Q", loaded.programs["f"].test_run(ctx=words).ctx)


def test_objects_name_them(tmp_path):
    spec = read_object(object_of(tmp_path, TASKS))
    assert {(e.name, e.weak, e.is_function) for e in spec.externs.values()} == {
        ("bpf_task_from_pid", True, True),
        ("bpf_task_release", True, True),
        ("bpf_rcu_read_lock", True, True),
        ("bpf_rcu_read_unlock", True, True),
        ("no_such_kfunc", True, True),
    }
    assert {e.section for e in spec.externs.values()} == {KSYMS}


@pytest.mark.native
@pytest.mark.parametrize("fold", [None, True, False])
def test_kfuncs_of_this_kernel(tmp_path, fold):
    needs("bpf_task_from_pid", "bpf_task_release", "bpf_rcu_read_lock")
    got = run(object_of(tmp_path, TASKS), os.getpid(), fold=fold)
    assert got == (os.getpid(), os.getpid(), 77, 6)
    assert run(object_of(tmp_path, TASKS), 0x7FFFFFFF, fold=fold)[1] == 0
    assert kernel.open_fds() == []


def test_kfuncs_in_the_interpreter(tmp_path):
    calls = []
    text = (
        HEAD
        + """
@syscall
def f(ctx: Ptr[Out]):
    ctx.b = u64(no_such_kfunc(ctx.a, addr(ctx.d), -2) < 0)
    bpf_rcu_read_lock()
    return 0
"""
    )
    ctx = bytearray(struct.pack("<4Q", 9, 0, 0, 0))
    vm = Vm(
        read_object(object_of(tmp_path, text)),
        # An i32 result leaves the upper half of the register undefined.
        kfuncs={
            "no_such_kfunc": lambda vm, x, p, n: calls.append((x, n)) or 0x1234_FFFF_FFFF,
            "bpf_rcu_read_lock": lambda vm: None,
        },
    )
    assert vm.run("f", ctx=ctx) == 0
    assert calls == [(9, (1 << 64) - 2)]
    assert struct.unpack_from("<Q", ctx, 8)[0] == 1


SYMBOLS = """
class rq(KStruct):
    nr_running: u32
runqueues = KSym(rq)
schedule = KSym()
no_such_symbol = KSym()
no_such_variable = KSym(u64)
LINUX_KERNEL_VERSION = KConfig(u32)
CONFIG_HZ = KConfig(u32)
hostname = KConfig(char[8], name="CONFIG_DEFAULT_HOSTNAME")
CONFIG_NO_SUCH = KConfig(bool)
class Out(Struct):
    a: u64
    b: u64
    c: u64
    d: u64
"""
VALUES = (
    SYMBOLS
    + """
@syscall
def f(ctx: Ptr[Out]):
    ctx.a = u64(addr(schedule))
    ctx.b = exists(no_such_symbol) * 2 + exists(no_such_variable)
    if exists(no_such_variable):
        ctx.b = no_such_variable
    ctx.c = LINUX_KERNEL_VERSION
    if hostname == "":
        ctx.d = 1000000
    ctx.d += CONFIG_HZ
    if CONFIG_NO_SUCH:
        ctx.d = 1
    return 0
"""
)


@pytest.mark.native
def test_symbols_and_settings_of_this_kernel(tmp_path):
    from pybpf import externs

    try:
        lines = externs.config_lines({"CONFIG_HZ", "CONFIG_DEFAULT_HOSTNAME"})
        address = externs.addresses({"schedule"})["schedule"]
    except NotSupported as error:
        pytest.skip(str(error))
    empty = lines.get("CONFIG_DEFAULT_HOSTNAME", '""') == '""'
    expected = (address, 0, externs.kernel_code(), int(lines["CONFIG_HZ"]) + 1000000 * empty)
    assert run(object_of(tmp_path, VALUES)) == expected


PERCPU = (
    SYMBOLS
    + """
@tp_btf('sys_enter')
def f(ctx, regs: u64, nr: i64):
    mine = this_cpu_ptr(runqueues)
    other = per_cpu_ptr(runqueues, 0)
    if other:
        return mine.nr_running + other.nr_running
    return 0
"""
)


@pytest.mark.native
def test_variables_of_each_cpu(tmp_path):
    from pybpf import externs

    try:
        if "runqueues" not in externs.addresses({"runqueues"}):
            pytest.skip("this kernel has no address of 'runqueues' (CONFIG_KALLSYMS_ALL)")
    except NotSupported as error:
        pytest.skip(str(error))
    Collection(read_object(object_of(tmp_path, PERCPU)), ("f",)).close()


def test_variables_compile(tmp_path):
    spec = read_object(object_of(tmp_path, PERCPU))
    assert [(e.name, e.is_function, e.weak) for e in spec.externs.values()] == [("runqueues", False, False)]
    assert spec.programs["f"].core_relos


PACKETS = """
class bpf_dynptr(KStruct):
    pass
@kfunc
def bpf_skb_get_xfrm_info(ctx, to: Ptr[void]) -> i32: ...
@tc
def f(skb):
    return 0 if exists(bpf_skb_get_xfrm_info) else 1
"""


@pytest.mark.native
@pytest.mark.skipif(shutil.which("bpftool") is None, reason="bpftool is not installed")
@pytest.mark.parametrize(("name", "text"), [("tasks", TASKS), ("values", VALUES), ("packets", PACKETS)])
def test_libbpf_resolves_them(tmp_path, name, text):
    needs("bpf_task_from_pid", "bpf_task_release", "bpf_rcu_read_lock")
    if not os.path.ismount("/sys/fs/bpf"):
        pytest.skip("no bpffs is mounted at /sys/fs/bpf")
    path, where = tmp_path / "x.o", f"/sys/fs/bpf/pybpf_externs_{name}_{os.getpid()}"
    path.write_bytes(object_of(tmp_path, text))
    try:
        done = subprocess.run(["bpftool", "prog", "load", path, where], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    finally:
        if os.path.exists(where):
            os.unlink(where)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("bpf_task_release(None)\nbpf_task_release()", "bpf_task_release() needs argument 'task'"),
        ("bpf_task_release(bpf_task_from_pid(1))", "pointer may be None here"),
        ("bpf_task_release(ctx)", "argument 'task' is a Ptr[task_struct] that the verifier knows the type of"),
        ("bpf_task_from_pid(ctx)", "argument 'pid' is annotated i32 and cannot be"),
        ("x = bpf_rcu_read_lock()", "this has no value"),
        ("exists(ctx.a)", "exists() asks for a field of a kernel type"),
        ("bpf_bad(1)", "the body of a kernel function's declaration is '...'"),
        ("bpf_worse(1)", "parameter 'x' needs a type"),
    ],
)
def test_wrong_uses(tmp_path, body, message):
    more = "@kfunc\ndef bpf_bad(x: i32):\n    return 1\n@kfunc\ndef bpf_worse(x): ...\n"
    lines = "\n".join("    " + line for line in body.splitlines())
    with pytest.raises(CompileError) as error:
        lower(tmp_path, HEAD + more + f"@syscall\ndef f(ctx: Ptr[Out]):\n{lines}\n    return 0\n")
    assert message in str(error.value)


def test_wrong_declarations(tmp_path):
    for text, message in (
        ("class A(Struct):\n    a: u32\nx = KSym(A)\n", "declare a structure of the kernel's as a KStruct"),
        ("x = KConfig(be16)\n", "a setting is a bool, a number or a char"),
        (
            "a = KConfig(u32, name='C')\nb = KConfig(u32, name='C')\n@syscall\ndef f(ctx):\n    return a + b\n",
            "two decl",
        ),
    ):
        with pytest.raises(CompileError, match=message):
            lower(tmp_path, text)
