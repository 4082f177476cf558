"""Every type of map as the language declares it: maps of maps, and what may be done with each."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess

import pytest
from lang_harness import function_text, lower, make_module, object_of, programs_of

from btf.format import KIND_ENUM
from btf.reader import Btf
from pybpf import abi, kernel
from pybpf.errors import CompileError, LoadError, MapError
from pybpf.lang.backend import generate
from pybpf.lang.compile import Compilation
from pybpf.loader import Collection, create_map
from pybpf.maps import Map
from pybpf.object.image import assemble
from pybpf.object.reader import read_object
from pybpf.object.spec import MapSpec
from pybpf.vm import Vm, VmError, make_map

NESTED = """
class Entry(Struct):
    hits: u64
    last: u64
per_net = Hash(u32, Entry, 16)
numbers = Array(u64, 4)
nets = HashOfMaps(u32, per_net, 8)
rows = ArrayOfMaps(numbers, 3)
@inline
def count(key, entry, total):
    total.hits += entry.hits
@inline
def fill(i, row, base):
    row[i] += base + i
@inline
def bump(m, key):
    e = m.lookup(key)
    if e:
        e.hits += 1
    else:
        m[key] = Entry(hits=1)
"""
BODY = """
net = nets.lookup(ctx.x)
if not net:
    return -1
bump(net, ctx.y)
bump(net, ctx.y)
bump(net, 99)
if 98 in net:
    return -2
total = Entry()
net.for_each(count, total)
if (row := rows.lookup(1)):
    loop(4, fill, row, 10)
    row[0] += 5
del net[99]
return total.hits * 100 + (rows.lookup(2) == None)
"""


def words(x: int, y: int) -> bytes:
    return struct.pack("<4Q2IQ", 0, 0, 0, 0, x, y, 0)


def model(name: str, type: int, key: int, value: int, entries: int):
    return make_map(MapSpec(name, type, key, value, entries))


def test_maps_of_maps_in_the_interpreter(tmp_path):
    vm = Vm(read_object(object_of(tmp_path, function_text(BODY, NESTED))))
    assert vm.run("f", ctx=bytearray(words(7, 3))) == (1 << 64) - 1
    net = model("net", abi.MAP_TYPE_HASH, 4, 16, 16)
    row = model("row", abi.MAP_TYPE_ARRAY, 4, 8, 4)
    vm.maps["nets"].set(struct.pack("<I", 7), net)
    vm.maps["rows"].set(struct.pack("<I", 1), row)
    assert vm.run("f", ctx=bytearray(words(7, 3))) == 301
    assert net.lookup(struct.pack("<I", 3)) == struct.pack("<QQ", 2, 0)
    assert net.lookup(struct.pack("<I", 99)) is None
    assert [struct.unpack("<Q", row.lookup(struct.pack("<I", i)))[0] for i in range(4)] == [15, 11, 12, 13]
    with pytest.raises(MapError):
        vm.maps["rows"].set(struct.pack("<I", 2), net)
    with pytest.raises(VmError, match="a map of maps says what maps it holds"):
        model("x", abi.MAP_TYPE_ARRAY_OF_MAPS, 4, 4, 4)


@pytest.mark.native
def test_maps_of_maps_in_the_kernel(tmp_path):
    spec = read_object(object_of(tmp_path, function_text(BODY, NESTED)))
    assert spec.maps["nets"].inner.key_size == 4
    assert (spec.maps["rows"].inner.type, spec.maps["rows"].inner.max_entries) == (abi.MAP_TYPE_ARRAY, 4)
    inner = MapSpec("net", abi.MAP_TYPE_HASH, 4, 16, 16), MapSpec("row", abi.MAP_TYPE_ARRAY, 4, 8, 4)
    with Collection(spec, ("f",)) as loaded, Map.create(inner[0]) as net, Map.create(inner[1]) as row:
        assert loaded.programs["f"].test_run(ctx=words(7, 3)).retval == 0xFFFFFFFF
        loaded.maps["nets"].update(struct.pack("<I", 7), struct.pack("<I", net.fd))
        loaded.maps["rows"].update(struct.pack("<I", 1), struct.pack("<I", row.fd))
        assert loaded.programs["f"].test_run(ctx=words(7, 3)).retval == 301
        assert net.lookup(struct.pack("<I", 3)) == struct.pack("<QQ", 2, 0)
        assert [struct.unpack("<Q", row.lookup(struct.pack("<I", i)))[0] for i in range(4)] == [15, 11, 12, 13]


@pytest.mark.native
@pytest.mark.skipif(shutil.which("bpftool") is None, reason="bpftool is not installed")
def test_libbpf_loads_maps_of_maps(tmp_path):
    if not os.path.ismount("/sys/fs/bpf"):
        pytest.skip("no bpffs is mounted at /sys/fs/bpf")
    path, where = tmp_path / "x.o", f"/sys/fs/bpf/pybpf_nested_{os.getpid()}"
    path.write_bytes(object_of(tmp_path, function_text(BODY, NESTED)))
    try:
        done = subprocess.run(["bpftool", "prog", "load", path, where], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    finally:
        if os.path.exists(where):
            os.unlink(where)


@pytest.mark.skipif(shutil.which("clang-19") is None, reason="clang-19 is not installed")
def test_clang_says_the_same(tmp_path):
    """A map of maps as bpf_helpers.h declares it is read as ours."""
    source = tmp_path / "x.c"
    source.write_text(
        "#define __uint(name, val) int (*name)[val]\n#define __type(name, val) typeof(val) *name\n"
        "#define __array(name, val) typeof(val) *name[]\n"
        "struct inner { __uint(type, 1); __uint(max_entries, 16); __type(key, int); __type(value, long); };\n"
        "struct { __uint(type, 12); __uint(max_entries, 4); __type(key, int); __array(values, struct inner); }\n"
        '  outer __attribute__((section(".maps")));\n'
        "static void *(*lookup)(void *, const void *) = (void *)1;\n"
        '__attribute__((section("syscall"))) int f(int *c) { int k = 0; return lookup(&outer, &k) != 0; }\n'
        'char lic[] __attribute__((section("license"))) = "GPL";\n'
    )
    command = ["clang-19", "-target", "bpf", "-O2", "-g", "-c", str(source), "-o", "-"]
    spec = read_object(subprocess.run(command, check=True, capture_output=True).stdout)
    outer, inner = spec.maps["outer"], spec.maps["outer"].inner
    assert (outer.type, outer.key_size, outer.value_size, outer.max_entries) == (12, 4, 4, 4)
    assert (inner.type, inner.key_size, inner.value_size, inner.max_entries) == (1, 4, 8, 16)
    if os.geteuid() == 0:
        Collection(spec, ("f",)).close()


EVERY = """
class V(Struct):
    a: u64
    b: u64
class K(Struct):
    bits: u32
    addr: u8[4]
m_hash = Hash(u32, V, 4)
m_array = Array(V, 4)
m_progs = ProgArray(4)
m_perf = PerfEventArray(4)
m_phash = PerCpuHash(u32, V, 4)
m_parray = PerCpuArray(V, 4)
m_stacks = StackTrace(4)
m_cgroups = CgroupArray(4)
m_lru = LruHash(u32, V, 4)
m_plru = LruPerCpuHash(u32, V, 4)
m_trie = LpmTrie(K, V, 4)
m_aom = ArrayOfMaps(m_hash, 4)
m_hom = HashOfMaps(u32, m_array, 4)
m_dev = DevMap(4)
m_devhash = DevMapHash(4)
m_sock = SockMap(4)
m_sockhash = SockHash(u64, 4)
m_cpu = CpuMap(4)
m_xsk = XskMap(4)
m_reuse = ReuseportArray(4)
m_queue = Queue(V, 4)
m_stack = Stack(V, 4)
m_bloom = BloomFilter(V, 4)
m_sk = SkStorage(V)
m_inode = InodeStorage(V)
m_task = TaskStorage(V)
m_cgrp = CgroupStorage(V)
m_local = CgroupLocal(V)
m_plocal = PerCpuCgroupLocal(V)
m_ring = RingBuf(4096)
m_user = UserRingBuf(4096)
"""
# Types that are not the language's: one that it cannot have, and those whose entries the kernel's own code calls.
NOT_DECLARED = {abi.MAP_TYPE_STRUCT_OPS, abi.MAP_TYPE_ARENA, abi.MAP_TYPE_INSN_ARRAY, abi.MAP_TYPE_RHASH}


@pytest.mark.native
def test_every_type_of_map_can_be_made(tmp_path):
    """Each is declared, read back and made by the kernel, as far as it has the type."""
    module = make_module(tmp_path, EVERY + "@tc\ndef f(skb):\n    return 0\n")
    unit = Compilation()
    unit.add(programs_of(module)[0])
    for name, value in vars(module).items():
        if name.startswith("m_"):
            unit.use_map(value)
    definitions = [(map.name, *unit.types.map_definition(map)) for map in unit.sorted_maps()]
    data = assemble([generate(f) for f in unit.functions], unit.func_ids, definitions, {}, "GPL", unit.types.builder)
    spec = read_object(data)
    types = {map.type for map in spec.maps.values()}
    known = {value for name, value in vars(abi).items() if name.startswith("MAP_TYPE_")}
    assert types == known - NOT_DECLARED
    refused = []
    with kernel.btf_load(spec.btf) as btf:
        for name, map in spec.maps.items():
            try:
                create_map(map, btf.fd).close()
            except LoadError as error:
                refused.append((name, error.errno))
    # XDP sockets and the like may not be built in, and old kernels have fewer types.
    with Btf.kernel() as kernels:
        there = {value for _, value in kernels.enumerators(kernels.find("bpf_map_type", (KIND_ENUM,))[0])}
    optional = {"m_xsk", "m_inode", "m_dev", "m_devhash", "m_cpu"}
    assert not [row for row in refused if row[0] not in optional and spec.maps[row[0]].type in there], refused


MEMORY = """
class V(Struct):
    a: u64
    b: u64
store = Array(V, 1)
ring = RingBuf(4096)
user = UserRingBuf(4096)
@inline
def taken(record, total):
    v = V()
    if dynptr_read(v, 16, record, 0) == 0:
        total.a += v.a
@tc
def f(skb):
    v = store.lookup(0)
    if not v:
        return 1
    d = Dynptr()
    got = V()
    if dynptr_from_mem(v, 16, 0, d) != 0:
        return 2
    if dynptr_write(d, 8, V(a=skb.len), 8) != 0 or dynptr_read(got, 16, d, 0) != 0:
        return 3
    p = cast(Ptr[V], dynptr_data(d, 0, 16))
    if not p:
        return 4
    p.a = 5
    r = Dynptr()
    ringbuf_reserve_dynptr(ring, 16, 0, r)
    dynptr_write(r, 0, v)
    ringbuf_submit_dynptr(r)
    total = V()
    user.drain(taken, total)
    return got.b + p.a + total.a
"""


@pytest.mark.native
def test_dynptrs_and_records_from_user_space(tmp_path):
    with Collection(read_object(object_of(tmp_path, MEMORY)), ("f",)) as loaded:
        data = bytes(100)
        got = loaded.programs["f"].test_run(data=data).retval
        assert got in (len(data) + 5, len(data) - 14 + 5)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("m_aom.update(1, 2)", "ArrayOfMaps m_aom has no update() (has: lookup)"),
        ("m_hom[1] = 5", "entries of HashOfMaps m_hom cannot be set by a program"),
        ("del m_hom[1]", "entries of HashOfMaps m_hom cannot be deleted by a program"),
        ("m_hom.lookup(1).lookup(2)", "pointer may be None here: test it with 'if' first"),
        ("redirect_map(m_hash, 1)", "redirect_map() takes a DevMap or DevMapHash or CpuMap or XskMap, not Hash m_hash"),
        ("get_stackid(ctx, m_ring, 0)", "get_stackid() takes a StackTrace, not RingBuf m_ring"),
        ("map_lookup_elem(m_queue, 1)", "map_lookup_elem() takes a map with entries, not Queue m_queue"),
        ("ringbuf_output(m_user, b'ab', 2)", "ringbuf_output() takes a RingBuf, not UserRingBuf m_user"),
        ("map_lookup_percpu_elem(m_hash, 1, 0)", "map_lookup_percpu_elem() takes a PerCpuHash or PerCpuArray"),
        ("m_user.drain(5)", "m_user.drain() calls an @inline function, not 5"),
        ("m_local.get(1)", "m_local.get() takes 0 arguments, not 1"),
        ("m_sock.lookup(1)", "SockMap m_sock has no lookup(): see the helpers that take it"),
        ("dynptr_write(ctx, 0, b'ab')", "a Dynptr is wanted here, not"),
        ("sock_hash_update(ctx, m_sockhash, ctx, 0)", "the key of m_sockhash is a u64"),
    ],
)
def test_wrong_uses(tmp_path, body, message):
    with pytest.raises(CompileError) as error:
        lower(tmp_path, EVERY + f"@tc\ndef f(ctx):\n    {body}\n    return 0\n")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = ArrayOfMaps(5, 4)", "5 cannot be in a map"),
        ("b = TaskStorage(u64)\na = ArrayOfMaps(b, 4)", "cannot be in a map"),
        ("c = Hash(u32, u64, 1)\nb = ArrayOfMaps(c, 4)\na = HashOfMaps(u32, b, 4)", "cannot be in a map"),
        ("a = UserRingBuf(5000)", "not a power of two"),
    ],
)
def test_wrong_declarations(tmp_path, text, message):
    with pytest.raises(CompileError, match=message):
        lower(tmp_path, text + "\n@tc\ndef f(ctx):\n    return 0\n")


def test_cgroup_local_storage(tmp_path):
    text = EVERY + "@cgroup('skb/egress')\ndef f(skb):\n    v = m_local.get()\n    v.a += skb.len\n    return 1\n"
    spec = read_object(object_of(tmp_path, text))
    assert spec.maps["m_local"].key_size == 8
    if os.geteuid() == 0:
        Collection(spec, ("f",)).close()
