"""Damaged and hostile objects: always an ObjectError, never another exception, a hang or a flood of memory.

A fixed slice runs here; ``PYBPF_MUTATIONS=10000`` asks for more, per object.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import time
import tracemalloc

import pytest
from object_samples import sample_object

from pybpf.errors import ObjectError
from pybpf.fold import fold
from pybpf.linker import Linked, functions_of
from pybpf.object.elf import Elf
from pybpf.object.reader import read_object

COUNT = int(os.environ.get("PYBPF_MUTATIONS", "400"))
# One file is some kilobytes: what takes a second or a hundred megabytes was told to by the file.
SECONDS, MEMORY = 1.0, 100 << 20

SOURCE = """
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name
typedef unsigned int u32; typedef unsigned long long u64;
enum libbpf_tristate { TRI_NO, TRI_YES, TRI_MODULE };
struct task_struct { int tgid; struct task_struct *real_parent; } __attribute__((preserve_access_index));
static void *(*lookup)(void *, const void *) = (void *)1;
static struct task_struct *(*get_task)(void) = (void *)158;
struct { __uint(type, 1); __uint(max_entries, 4); __type(key, u32); __type(value, u64); } counts SEC(".maps");
extern int LINUX_KERNEL_VERSION SEC(".kconfig");
extern enum libbpf_tristate CONFIG_NET SEC(".kconfig") __attribute__((weak));
extern char CONFIG_LOCALVERSION[20] SEC(".kconfig") __attribute__((weak));
extern const void schedule SEC(".ksyms");
extern int some_kfunc(u64 x, int n) SEC(".ksyms") __attribute__((weak));
const volatile u32 limit = 3;
u64 seen = 5, zero;
static __attribute__((noinline)) int twice(int x) { return x * limit; }
SEC("raw_tp/x") int f(void *ctx)
{
    u32 key = LINUX_KERNEL_VERSION + CONFIG_NET + CONFIG_LOCALVERSION[1];
    u64 *value = lookup(&counts, &key);
    if (value)
        seen += *value + (u64)&schedule;
    if (some_kfunc)
        zero += some_kfunc(1, 2);
    return twice(get_task()->real_parent->tgid) + twice(zero);
}
char _license[] SEC("license") = "GPL";
"""


@pytest.fixture(scope="module")
def objects(tmp_path_factory) -> list[bytes]:
    found = [sample_object()]
    compiler = next((path for name in ("clang", "clang-19", "clang-16") if (path := shutil.which(name))), None)
    if compiler is not None:
        source = tmp_path_factory.mktemp("hostile") / "f.c"
        source.write_text(SOURCE)
        for options in ([], ["-gdwarf-4"]):
            command = [compiler, "-target", "bpfel", "-O2", "-g", "-mcpu=v3", *options, "-c", str(source), "-o", "-"]
            found.append(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    return found


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One of: cut off, bits turned, bytes overwritten, a hostile number in a header or anywhere, pieces swapped."""
    raw = bytearray(data)
    way = rng.randrange(7)
    if way == 0:
        return bytes(raw[: rng.randrange(len(raw))])
    if way == 1:
        for _ in range(rng.randint(1, 8)):
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    elif way == 2:
        at = rng.randrange(len(raw))
        size = rng.randint(1, 64)
        raw[at : at + size] = rng.randbytes(len(raw[at : at + size]))
    elif way == 3:  # an ELF header or a section header
        (table,) = struct.unpack_from("<Q", raw, 40)
        at = rng.choice((rng.randrange(64), rng.randrange(table, len(raw))))
        hostile(raw, at, rng)
    elif way == 4:  # .BTF and .BTF.ext, where most of the meaning is
        at = raw.find(b"\x9f\xeb\x01")
        hostile(raw, min(at + rng.randrange(rng.choice((40, 4000))), len(raw) - 1), rng)
    elif way == 5:
        for _ in range(rng.randint(1, 4)):
            hostile(raw, rng.randrange(len(raw)), rng)
    else:
        one, other, size = rng.randrange(len(raw)), rng.randrange(len(raw)), rng.randint(1, 200)
        raw[one : one + size] = raw[other : other + size]
    return bytes(raw)


def hostile(raw: bytearray, at: int, rng: random.Random) -> None:
    size = rng.choice((1, 2, 4, 8))
    value = rng.choice(
        (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, len(raw), 1 << 63, (1 << 64) - 8)
    )
    at &= -size
    raw[at : at + size] = (value & (1 << size * 8) - 1).to_bytes(size, "little")[: len(raw[at : at + size])]


def examine(data: bytes) -> bool:
    """Read, and link every program; whether the object is still good."""
    try:
        spec = read_object(data)
        assert isinstance(spec.maps, dict)
        for name, program in spec.programs.items():
            assert isinstance(program.line_info + program.func_info + program.core_relos, list)
            if program.section != ".text":
                functions = functions_of(spec, name)
                Linked(functions, lambda function: function.insns, spec.byteorder)
                constants = {".rodata": bytes(64), ".kconfig": bytes(64)}
                for function in functions:
                    fold(function, function.insns, constants, {"some_kfunc": False}, spec.byteorder)
    except ObjectError as error:
        if "\n" in str(error) or len(str(error)) > 2000:
            raise AssertionError("not one line") from error
        return False
    return True


def test_mutations(objects):
    rng = random.Random(2024)
    for number, data in enumerate(objects):
        assert examine(data)
        worst = 0.0
        refused = 0
        for turn in range(COUNT):
            broken = mutate(data, rng)
            before = time.process_time()
            try:
                refused += not examine(broken)
            except Exception as error:
                raise AssertionError(f"object {number}, mutation {turn}: {error!r}") from error
            worst = max(worst, time.process_time() - before)
        assert worst < SECONDS
        assert refused > COUNT // 10


def test_memory_is_bounded(objects):
    rng = random.Random(7)
    tracemalloc.start()
    try:
        for data in objects:
            for _ in range(min(COUNT, 60)):
                examine(mutate(data, rng))
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


def test_what_is_wrong_with_ext_is_said_each_time():
    """.BTF.ext is taken apart when a program is asked for what it says, and no sooner."""
    data = sample_object()
    header = next(section for section in Elf(data).sections if section.name == ".BTF.ext")
    raw = bytearray(data)
    raw[header.offset + 2] = 9  # its version
    programs = read_object(bytes(raw)).programs.values()
    assert programs
    for program in [*programs, *programs]:
        for ask in (lambda p: p.line_info, lambda p: p.func_info, lambda p: p.core_relos):
            with pytest.raises(ObjectError, match=r"BTF of the object: \.BTF\.ext: version 9 is not supported"):
                ask(program)


@pytest.mark.parametrize("cut", [*range(80), 200, 500])
def test_every_early_cut(cut):
    with pytest.raises(ObjectError):
        read_object(sample_object()[:cut])


def section_table(data: bytes) -> tuple[int, int]:
    return struct.unpack_from("<Q", data, 40)[0], struct.unpack_from("<H", data, 60)[0]


def test_sections_that_overlap():
    # Ten thousand sections that all claim the same megabyte: ten gigabytes if one believed it.
    data = sample_object()
    table, count = section_table(data)
    extra = 10_000
    raw = bytearray(data[:table]) + data[table : table + 64 * count]
    raw += b"".join(struct.pack("<IIQQQQIIQQ", 0, 1, 2, 0, 0, table, 0, 0, 1, 0) for _ in range(extra))
    struct.pack_into("<H", raw, 60, count + extra)
    with pytest.raises(ObjectError, match="overlap"):
        read_object(bytes(raw))


def test_sections_without_bytes_that_claim_gigabytes():
    data = sample_object()
    table, count = section_table(data)
    raw = bytearray(data)
    for number in range(count):
        at = table + number * 64
        if struct.unpack_from("<I", raw, at + 4)[0] == 8:  # SHT_NOBITS
            struct.pack_into("<Q", raw, at + 32, 1 << 40)
    with pytest.raises(ObjectError, match="too large"):
        read_object(bytes(raw))
