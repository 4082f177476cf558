"""Damaged objects that the reader lets pass: loading them raises our errors only, and leaks nothing.

A fixed slice runs here; ``PYBPF_MUTATIONS=10000`` asks for more. No kernel is asked to load any of them.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time

import fakekernel
import pytest

from btf.errors import BtfNotFound, Error
from btf.reader import Btf
from pybpf import externs, kernel
from pybpf.errors import ObjectError
from pybpf.loader import Collection
from pybpf.object.reader import read_object

COUNT = int(os.environ.get("PYBPF_MUTATIONS", "400"))

SOURCE = """
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name
typedef unsigned int u32; typedef unsigned long long u64;
struct task_struct { int tgid; struct task_struct *real_parent; char comm[16]; } __attribute__((preserve_access_index));
enum bpf_func_id { BPF_FUNC_loop = 181 };
static void *(*lookup)(void *, const void *) = (void *)1;
static struct task_struct *(*get_task)(void) = (void *)158;
struct { __uint(type, 1); __uint(max_entries, 4); __type(key, u32); __type(value, u64); } counts SEC(".maps");
extern int LINUX_KERNEL_VERSION SEC(".kconfig");
extern int CONFIG_HZ SEC(".kconfig") __attribute__((weak));
extern char CONFIG_LOCALVERSION[20] SEC(".kconfig") __attribute__((weak));
extern const void schedule SEC(".ksyms");
extern int some_kfunc(u64 x, int n) SEC(".ksyms") __attribute__((weak));
const volatile u32 limit = 3;
u64 seen = 5;
static __attribute__((noinline)) int twice(int x) { return x * limit; }
SEC("raw_tp/x") int f(void *ctx)
{
    struct task_struct *task = get_task();
    u32 key = LINUX_KERNEL_VERSION + CONFIG_HZ + CONFIG_LOCALVERSION[1];
    u64 *value = lookup(&counts, &key);
    if (value && limit > 2)
        seen += *value + (u64)&schedule;
    if (some_kfunc)
        seen += some_kfunc(1, 2);
    if (__builtin_preserve_field_info(task->comm, 2))
        seen += task->comm[3];
    if (__builtin_preserve_enum_value(*(enum bpf_func_id *)BPF_FUNC_loop, 0))
        seen += __builtin_preserve_type_info(*(struct task_struct *)0, 1);
    return twice(task->real_parent->tgid) + twice(seen);
}
char _license[] SEC("license") = "GPL";
"""


@pytest.fixture(scope="module")
def target():
    try:
        btf = Btf.kernel()
    except BtfNotFound as error:
        pytest.skip(str(error))
    with btf:
        yield btf


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> bytes:
    compiler = next((path for name in ("clang", "clang-19", "clang-16") if (path := shutil.which(name))), None)
    if compiler is None:
        pytest.skip("no clang to make the object with")
    source = tmp_path_factory.mktemp("hostile") / "f.c"
    source.write_text(SOURCE)
    which = "bpfel" if sys.byteorder == "little" else "bpfeb"
    command = [compiler, "-target", which, "-O2", "-g", "-mcpu=v3", "-Wno-everything", "-c", str(source), "-o", "-"]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def mutate(data: bytes, rng: random.Random) -> bytes:
    raw = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        # .BTF and .BTF.ext begin with this; instructions stand at the file's start.
        at = raw.find(b"\x9f\xeb\x01") if rng.random() < 0.6 else 64
        at = min(at + rng.randrange(3000), len(raw) - 1)
        if rng.random() < 0.5:
            raw[at] ^= 1 << rng.randrange(8)
        else:
            raw[at : at + 4] = rng.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", rng.randbytes(4)))
    return bytes(raw[: len(data)])


def test_mutations_through_the_loader(monkeypatch, data, target):
    fake = fakekernel.FakeKernel()
    kernel.set_syscall_hook(fake)
    monkeypatch.setattr(externs, "addresses", lambda names, needed=True: dict.fromkeys(names, 0xFFFF0010))
    monkeypatch.setattr(externs, "config_lines", lambda names: {"CONFIG_HZ": "250"})
    rng = random.Random(99)
    loaded = 0
    try:
        for turn in range(COUNT):
            start = time.process_time()
            try:
                spec = read_object(mutate(data, rng))
                names = [name for name, program in spec.programs.items() if program.section != ".text"]
                with Collection(spec, names, btf=target, fold=bool(turn % 2)) as collection:
                    loaded += len(collection.programs)
            except Error as error:
                assert "\n" not in str(error), f"mutation {turn}"  # noqa: PT017
            except Exception as error:
                raise AssertionError(f"mutation {turn}: {error!r}") from error
            assert time.process_time() - start < 2
            assert kernel.open_fds() == []
    finally:
        kernel.set_syscall_hook(None)
    assert loaded > COUNT // 20


def test_the_object_itself_is_good(data):
    assert read_object(data).programs["f"].core_relos
    with pytest.raises(ObjectError):
        read_object(data[:100])
