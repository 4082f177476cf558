"""The object reader on objects made by clang, judged by llvm-readelf, bpftool and the kernel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from btf.format import KIND_DATASEC
from btf.reader import Btf
from pybpf import kernel
from pybpf.errors import ObjectError
from pybpf.object.reader import read_object
from pybpf.object.spec import RELOC_CALL, RELOC_DATA, RELOC_FUNC, RELOC_MAP, ObjectSpec

CLANG = next((path for path in map(shutil.which, ("clang-16", "clang-19", "clang-14", "clang")) if path), None)
pytestmark = pytest.mark.skipif(CLANG is None, reason="clang is not installed")

# What libbpf's bpf_helpers.h defines, so that the tests need clang alone.
HEADER = """
typedef unsigned int u32; typedef unsigned long long u64;
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name
#define __array(name, val) typeof(val) *name[]
#define __ulong(name, val) enum { uniq_##name = val } name
#define __noinline __attribute__((noinline))
static void *(*lookup)(void *map, const void *key) = (void *)1;
static u64 (*current_task)(void) = (void *)35;
static long (*probe_read)(void *dst, u32 size, const void *src) = (void *)113;
static long (*output)(void *map, void *data, u64 size, u64 flags) = (void *)130;
static long (*loop)(u32 n, void *fn, void *ctx, u64 flags) = (void *)181;
static long (*trace)(const char *fmt, u32 size, ...) = (void *)6;
char LICENSE[] SEC("license") = "GPL";
"""
SAMPLE = """
struct task_struct { int pid; int tgid; struct task_struct *real_parent; } __attribute__((preserve_access_index));
struct event { u64 a; u32 b; };
struct { __uint(type, 1); __uint(max_entries, 100); __type(key, u32); __type(value, struct event); } hash SEC(".maps");
struct { __uint(type, 27); __uint(max_entries, 4096); } events SEC(".maps");
static struct { __uint(type, 2); __uint(max_entries, 1); __uint(key_size, 4); __uint(value_size, 8);
                __uint(map_flags, 1024); } array SEC(".maps");
struct { __uint(type, 30); __uint(max_entries, 8); __type(value, u64[2]); __ulong(map_extra, 3); } bloom SEC(".maps");
const volatile u32 target = 7;
const volatile char prefix[16];
u64 counter = 5;
static volatile u32 hidden[4] = {1, 2, 3, 4};
u64 zero_a, zero_b;
static u64 zeros[3];
int custom SEC(".data.custom") = 3;
static __noinline int sub1(int a) { return a * 3 + target; }
__noinline int sub2(int a) { return sub1(a) + zeros[a & 1]; }
static long callback(u32 i, void *ctx) { counter += i; return 0; }
SEC("raw_tp/sys_exit") int one(u64 *ctx) {
    u32 k = target, v = 0;
    struct task_struct *t = (void *)current_task(), *p = 0;
    struct event *e = lookup(&hash, &k);
    probe_read(&p, sizeof(p), &t->real_parent);
    probe_read(&v, sizeof(v), &p->tgid);
    if (e) e->a += v;
    static const char fmt[] = "hello %d";
    trace(fmt, sizeof(fmt), sub2(k));
    loop(10, callback, 0, 0);
    __sync_fetch_and_add(&zeros[1], 1); zero_b++;
    return 0; }
SEC("raw_tp/sys_exit") int two(u64 *ctx) {
    u32 z = 0; u64 *p = lookup(&array, &z);
    if (p) *p += hidden[2] + sub1(zero_a) + prefix[3];
    output(&events, &z, 4, 0); hidden[z & 3] = 9; custom++;
    return 0; }
SEC("raw_tp/sched_switch") int three(void *ctx) { return sub2(counter); }
"""


def compile_c(directory: str, source: str, target: str = "bpfel", debug: str = "-g") -> str:
    """Compile ``source`` (the header above is put before it); returns the object's path."""
    path = os.path.join(directory, f"t-{target}.o")
    command = [CLANG or "", "-O2", debug, "-target", target, "-mcpu=v3", "-x", "c", "-c", "-", "-o", path]
    subprocess.run(command, input=HEADER + source, text=True, check=True)
    return path


def read(path: str) -> ObjectSpec:
    with open(path, "rb") as file:
        return read_object(file.read())


@pytest.fixture(scope="module", params=["bpfel", "bpfeb"])
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ObjectSpec]:
    path = compile_c(str(tmp_path_factory.mktemp("clang")), SAMPLE, request.param)
    return path, read(path)


@pytest.mark.skipif(not shutil.which("llvm-readelf"), reason="llvm-readelf is not installed")
def test_functions_are_those_of_readelf(sample: tuple[str, ObjectSpec]) -> None:
    path, spec = sample
    text = subprocess.run(["llvm-readelf", "-sW", path], check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in text.splitlines()]
    expected = {row[7]: int(row[2]) for row in rows if len(row) == 8 and row[3] == "FUNC"}
    assert {name: len(program.insns) for name, program in spec.programs.items()} == expected
    assert spec.programs["two"].section == "raw_tp/sys_exit"
    assert spec.programs["callback"].section == ".text"
    objects = {row[7]: (int(row[2])) for row in rows if len(row) == 8 and row[3] == "OBJECT"}
    for name in ("LICENSE", "hash", "events", "array", "bloom"):
        del objects[name]
    assert {variable.name: variable.size for variable in spec.variables.values()} == objects


def test_maps(sample: tuple[str, ObjectSpec]) -> None:
    _, spec = sample
    shapes = {m.name: (m.type, m.key_size, m.value_size, m.max_entries, m.flags) for m in spec.maps.values()}
    assert shapes["hash"] == (1, 4, 16, 100, 0)
    assert shapes["events"] == (27, 0, 0, 4096, 0)
    assert shapes["array"] == (2, 4, 8, 1, 1024)
    assert shapes["bloom"] == (30, 0, 16, 8, 0)
    assert shapes[".data.custom"] == (2, 4, 4, 1, 0)
    assert shapes[".rodata"][4] == 1 << 7
    assert spec.maps["bloom"].map_extra == 3
    assert spec.maps[".rodata"].frozen
    btf = Btf(spec.btf)
    assert btf.name(spec.maps["hash"].value_type_id) == "event"


def test_data(sample: tuple[str, ObjectSpec]) -> None:
    _, spec = sample

    def value(name: str) -> bytes:
        variable = spec.variables[name]
        contents = spec.maps[variable.section].contents
        assert contents is not None
        return bytes(contents[variable.offset : variable.offset + variable.size])

    order = "little" if spec.byteorder == "little" else "big"
    assert value("target") == (7).to_bytes(4, order)
    assert value("hidden") == b"".join(n.to_bytes(4, order) for n in (1, 2, 3, 4))
    assert value("zero_b") == bytes(8)
    assert value("one.fmt") == b"hello %d\0"
    assert spec.license == "GPL"


def test_relocations(sample: tuple[str, ObjectSpec]) -> None:
    _, spec = sample
    found = {p.name: sorted({(r.kind, r.target) for r in p.relocs}) for p in spec.programs.values()}
    assert found["one"] == sorted(
        [
            (RELOC_MAP, "hash"),
            (RELOC_DATA, ".rodata"),
            (RELOC_DATA, ".bss"),
            (RELOC_CALL, "sub2"),
            (RELOC_FUNC, "callback"),
        ]
    )
    assert (RELOC_MAP, "array") in found["two"]  # a static map: the section's symbol plus an addend
    assert (RELOC_DATA, ".data.custom") in found["two"]
    assert found["sub2"] == [(RELOC_CALL, "sub1"), (RELOC_DATA, ".bss")]  # the call has no ELF relocation
    addends = {(r.target, r.addend) for r in spec.programs["one"].relocs if r.kind == RELOC_DATA}
    for name in ("one.fmt", "target"):
        assert (".rodata", spec.variables[name].offset) in addends
    # Static variables are addressed through their section's symbol, global ones through their own.
    assert (".bss", spec.variables["zero_b"].offset) in addends
    # The compiler folds an element's offset into the addend or into the next instruction.
    hidden = spec.variables["hidden"].offset
    addends = {r.addend for r in spec.programs["two"].relocs if r.target == ".data"}
    assert any(hidden <= addend < hidden + 16 for addend in addends)


def test_ext(sample: tuple[str, ObjectSpec]) -> None:
    _, spec = sample
    btf = Btf(spec.btf)
    for name, program in spec.programs.items():
        assert [(index, btf.name(type_id)) for index, type_id in program.func_info] == [(0, name)]
        indexes = [record[0] for record in program.line_info]
        assert indexes[0] == 0
        assert indexes == sorted(set(indexes))
        assert indexes[-1] < len(program.insns) // 8
    relos = spec.programs["one"].core_relos
    assert [(btf.name(type_id), access, kind) for _, type_id, access, kind in relos] == [
        ("task_struct", "0:2", 0),
        ("task_struct", "0:1", 0),
    ]
    for index, _, _, _ in relos:
        # An ALU instruction with an immediate (0xb7 mov, 0x07 add): the field's offset.
        assert spec.programs["one"].insns[index * 8] in (0xB7, 0x07)


def test_datasecs_are_completed(sample: tuple[str, ObjectSpec]) -> None:
    _, spec = sample
    btf = Btf(spec.btf)
    for name in (".rodata", ".data", ".bss", ".data.custom"):
        type_id = spec.maps[name].value_type_id
        assert (btf.kind(type_id), btf.size(type_id)) == (KIND_DATASEC, spec.maps[name].value_size)
        variables = btf.vars(type_id)
        assert [offset for _, offset, _ in variables] == sorted(offset for _, offset, _ in variables)
        for var, offset, size in variables:
            known = spec.variables[btf.name(var)]
            assert (known.section, known.offset, known.size) == (name, offset, size)


@pytest.mark.native
def test_kernel_takes_the_completed_btf(tmp_path: object) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root: BPF_BTF_LOAD is refused")
    kernel.btf_load(read(compile_c(str(tmp_path), SAMPLE)).btf).close()


@pytest.mark.native
@pytest.mark.skipif(not shutil.which("bpftool"), reason="bpftool is not installed")
def test_maps_are_those_libbpf_makes(tmp_path: object) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root: BPF_MAP_CREATE is refused")
    # libbpf 1.1 takes neither static maps nor 64-bit numbers in definitions.
    path = compile_c(
        str(tmp_path), SAMPLE.replace("static struct", "struct").replace("__ulong(map_extra", "__uint(map_extra")
    )
    root = os.path.join(str(tmp_path), "bpffs")
    os.mkdir(root)
    if subprocess.run(["mount", "-t", "bpf", "bpf", root], capture_output=True, check=False).returncode:
        pytest.skip("bpffs cannot be mounted: bpftool has no place to pin to")
    try:
        pins = os.path.join(root, "maps")
        command = ["bpftool", "prog", "loadall", path, os.path.join(root, "progs"), "pinmaps", pins]
        subprocess.run(command, check=True, capture_output=True)
        spec = read(path)
        pinned = {name.replace(".", "_"): item for name, item in spec.maps.items()}
        seen = 0
        for name in os.listdir(pins):
            text = subprocess.run(
                ["bpftool", "-j", "map", "show", "pinned", os.path.join(pins, name)], check=True, capture_output=True
            ).stdout
            shown = json.loads(text)
            # libbpf puts the object's name before .rodata, .data and .bss, and pins dots as underscores.
            ours = pinned[name[len("t_bpfel") :] if name.startswith("t_bpfel_") else name]
            assert (shown["bytes_key"], shown["bytes_value"], shown["max_entries"]) == (
                ours.key_size,
                ours.value_size,
                ours.max_entries,
            )
            seen += 1
        assert seen == len(spec.maps)
    finally:
        subprocess.run(["umount", root], check=True)


EMPTY = """
SEC("raw_tp/x") int f(void *c) { return 0; }
"""
REFUSED = [
    (
        """extern struct { int a; } CONFIG_A SEC(".kconfig");
        SEC("raw_tp/x") int f(void *c) { return CONFIG_A.a; }""",
        r"'CONFIG_A' in \.kconfig has a type that no setting has",
    ),
    (
        """extern int other(int);
        SEC("raw_tp/x") int f(void *c) { return other(1); }""",
        r"'other' is not defined",
    ),
    (
        """struct { u32 t, k, v, m; } old SEC("maps") = {2, 4, 4, 1};
        SEC("raw_tp/x") int f(void *c) { u32 k = 0; return !lookup(&old, &k); }""",
        r"'maps' is not supported: legacy",
    ),
    (
        """struct ops { int (*f)(void *); };
        SEC("struct_ops/f") int f(void *c) { return 0; }
        struct ops o SEC(".struct_ops") = { .f = f };""",
        r"section '\.struct_ops' is not supported",
    ),
    (
        EMPTY
        + """struct { __uint(type, 3); __uint(max_entries, 1); __uint(key_size, 4); __array(values, int(void *)); }
        jumps SEC(".maps") = { .values = { [0] = &f } };""",
        r"map 'jumps', field 'values'",
    ),
    (
        EMPTY
        + """struct in { __uint(type, 2); __uint(max_entries, 1); __type(key, u32); __type(value, u32); };
        struct in in SEC(".maps");
        struct { __uint(type, 12); __uint(max_entries, 1); __type(key, u32); __array(values, struct in); }
        outer SEC(".maps") = { .values = { [0] = &in } };""",
        r"section '.maps' says what maps hold at the start",
    ),
    (
        """u64 x = 1; u64 *p = &x;
        SEC("raw_tp/x") int f(void *c) { return *p; }""",
        r"section '\.data' holds pointers",
    ),
    (
        EMPTY + 'struct { __uint(type, 2); __uint(speed, 1); } m SEC(".maps");',
        r"map 'm', field 'speed'",
    ),
    (
        EMPTY + 'struct { __uint(type, 2); __type(key, u32); __uint(key_size, 8); } m SEC(".maps");',
        r"map 'm', field 'key_size' says 8",
    ),
]


@pytest.mark.parametrize(("source", "message"), REFUSED)
def test_what_is_not_supported_is_refused_by_name(source: str, message: str, tmp_path: object) -> None:
    path = compile_c(str(tmp_path), source)
    with pytest.raises(ObjectError, match=message):
        _ = read(path).maps


def test_maps_without_debug_information_are_refused(tmp_path: object) -> None:
    path = compile_c(str(tmp_path), SAMPLE, debug="-g0")
    with pytest.raises(ObjectError, match="compile with -g"):
        read(path)


def test_other_machines_are_refused(tmp_path: object) -> None:
    path = os.path.join(str(tmp_path), "host.o")
    subprocess.run([CLANG or "", "-x", "c", "-c", "-", "-o", path], input="int x;", text=True, check=True)
    with pytest.raises(ObjectError, match="not eBPF"):
        read(path)
