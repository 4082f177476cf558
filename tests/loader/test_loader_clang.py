"""Objects that clang made, read by our reader and loaded by our loader."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys

import pytest

from pybpf import links
from pybpf.loader import Collection
from pybpf.object.reader import read_object
from pybpf.ringbuf import RingBuffer

pytestmark = pytest.mark.native

SOURCE = """
typedef unsigned int u32;
typedef unsigned long long u64;
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name

struct task_struct { int tgid; struct task_struct *real_parent; } __attribute__((preserve_access_index));

static void *(*map_lookup)(void *, const void *) = (void *)1;
static u64 (*get_pid_tgid)(void) = (void *)14;
static long (*tail_call)(void *, void *, u32) = (void *)12;
static long (*ringbuf_output)(void *, void *, u64, u64) = (void *)130;
static struct task_struct *(*get_task)(void) = (void *)158;
static long (*for_each)(void *, void *, void *, u64) = (void *)164;

struct { __uint(type, 27); __uint(max_entries, 65536); } events SEC(".maps");
struct { __uint(type, 2); __uint(max_entries, 4); __type(key, u32); __type(value, u64); } counters SEC(".maps");
struct { __uint(type, 1); __uint(max_entries, 4); __type(key, u32); __type(value, u64); } unused SEC(".maps");

const volatile u32 target_pid = 0;
const volatile u32 enabled = 1;
u64 seen = 0;
u64 start = 1000;
char text[] = "initial";

static __attribute__((noinline)) int send(u64 tag, u32 parent)
{
    struct { u64 tag; u32 parent; u32 pad; } record = { tag, parent, 0 };
    return ringbuf_output(&events, &record, sizeof(record), 0);
}

SEC("tp_btf/sys_exit") int on_exit(u64 *ctx)
{
    if (!enabled || get_pid_tgid() >> 32 != target_pid)
        return 0;
    struct task_struct *task = get_task();
    seen++;
    send(start + seen, task->real_parent->tgid);
    return 0;
}

static long add(void *map, u32 *key, u64 *value, u64 *sum) { *sum += *value; return 0; }

SEC("socket") int total(void *ctx)
{
    u64 sum = 0;
    for_each(&counters, add, &sum, 0);
    return sum + text[0];
}

char _license[] SEC("license") = "GPL";
"""


def clang() -> str | None:
    return next((path for name in ("clang", "clang-19", "clang-16", "clang-14") if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def spec_bytes(tmp_path_factory):
    compiler = clang()
    if compiler is None:
        pytest.skip("no clang to make the object with")
    directory = tmp_path_factory.mktemp("clang")
    source = directory / "prog.c"
    source.write_text(SOURCE)
    target = "bpfel" if sys.byteorder == "little" else "bpfeb"
    subprocess.run(
        [compiler, "-target", target, "-O2", "-g", "-mcpu=v3", "-c", str(source), "-o", str(directory / "prog.o")],
        check=True,
        timeout=120,
    )
    return (directory / "prog.o").read_bytes()


def test_everything_at_once(spec_bytes):
    spec = read_object(spec_bytes)
    spec.set("target_pid", os.getpid())
    with (
        Collection(spec, ["on_exit"]) as collection,
        RingBuffer(collection.maps["events"]) as ring,
    ):
        assert collection.btf_error is None
        assert sorted(collection.maps) == [".bss", ".data", ".rodata", "events"]
        with links.attach(collection.programs["on_exit"]):
            os.getppid()
        records = [struct.unpack("=QII", record) for record in ring.read()]
        assert [tag for tag, _, _ in records] == list(range(1001, 1001 + len(records)))
        assert {parent for _, parent, _ in records} == {os.getppid()}
        (seen,) = struct.unpack_from("=Q", collection.maps[".bss"].lookup(bytes(4)) or b"")
        assert seen == len(records) > 0
        assert collection.programs["on_exit"].info().btf_id > 0


def test_switched_off_by_config(spec_bytes):
    on, off = read_object(spec_bytes), read_object(spec_bytes)
    off.set("enabled", 0)
    with Collection(on, ["on_exit"]) as large, Collection(off, ["on_exit"]) as small:
        sizes = [c.programs["on_exit"].info().translated_size for c in (large, small)]
    assert sizes[1] < sizes[0] / 4


def test_callback_of_a_helper(spec_bytes):
    with Collection(read_object(spec_bytes), ["total"]) as collection:
        for index in range(4):
            collection.maps["counters"].update(index.to_bytes(4, sys.byteorder), struct.pack("=Q", 10 + index))
        assert collection.programs["total"].test_run(bytes(64)).retval == 46 + ord("i")
