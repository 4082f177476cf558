"""``python -m pybpf asm`` and ``disasm``, and the ELF objects they make and show."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from asm_corpus import tool

from pybpf.asm.insn import decode
from pybpf.asm.source import assemble
from pybpf.asmtool import assemble_object, disassemble_object
from pybpf.errors import AsmError, ObjectError
from pybpf.object.reader import read_object

ROOT = Path(__file__).parents[2]
OBJDUMP, OBJDUMP_VERSION = tool("llvm-objdump")
CLANG, CLANG_VERSION = tool("clang")
NEEDED = 19


def run(*arguments, data=b"", **options):
    return subprocess.run(
        [sys.executable, "-m", "pybpf", *map(str, arguments)], input=data, capture_output=True, cwd=ROOT, **options
    )


COUNTER = """
.license "GPL"
.map counts, array, 4, 8, 4

.section "syscall"
.globl count
count:
        r6 = r1
        *(u32 *)(r10 - 4) = 2           # key
        r2 = r10
        r2 += -4
        r1 = counts ll
        call bpf_map_lookup_elem#1
        if r0 == 0 goto none
        r1 = 5
        lock *(u64 *)(r0 + 0) += r1
        r1 = 30
        r2 = 12
        call sum
        exit
none:   r0 = -1
        exit

.text
sum:    r0 = r1
        r0 += r2
        exit
"""


def test_raw_code_between_files_and_streams(tmp_path):
    text = tmp_path / "a.s"
    text.write_text("r0 = 5\nexit\n")
    out = tmp_path / "a.bin"
    code = bytes.fromhex("b7000000050000009500000000000000")
    done = run("asm", text, "-o", out)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert out.read_bytes() == code
    assert run("asm", text).stdout == code
    assert run("asm", "-", "-o", "-", "--dialect", "mnemonic", data=b"mov %r0, 5\nexit").stdout == code
    shown = run("disasm", out)
    assert (shown.returncode, shown.stdout) == (0, b"       0:\tr0 = 0x5\n       1:\texit\n")
    assert run("disasm", "-", "--dialect", "mnemonic", data=code).stdout == b"       0:\tmov %r0, 5\n       1:\texit\n"
    assert run("asm", "-", data=shown.stdout).stdout == code


def test_big_endian_and_long_jumps():
    big = run("asm", "-", "--byteorder", "big", data=b"r1 = *(u64 *)(r10 - 8)").stdout
    assert big.hex() == "791afff800000000"
    assert run("disasm", "-", "--byteorder", "big", data=big).stdout == b"       0:\tr1 = *(u64 *)(r10 - 0x8)\n"
    far = b"goto far\n" + b"r0 = 1\n" * 33_000 + b"far: exit"
    assert run("asm", "-", "--long-jumps", data=far).stdout[0] == 0x06
    assert run("asm", "-", data=far).stdout[0] == 0x05


@pytest.mark.parametrize(
    ("arguments", "data", "message"),
    [
        (("asm", "-"), b"exit\n  foo", "<stdin>:2:3: unknown instruction 'foo' in dialect llvm"),
        (("asm", "-"), b"exit\nr1 = \xff", "<stdin>:2:6: byte 0xff is not UTF-8 text"),
        (("asm", "no/such/file"), b"", "no/such/file: No such file or directory"),
        (("asm", "-", "-o", "no/such/file"), b"exit", "no/such/file: No such file or directory"),
        (("asm", "-", "--elf"), b"f.x: exit", "<stdin>:1:1: 'f.x' cannot name a function"),
        (("asm", "-", "--elf"), b".map m, hsh, 1, 1, 1\nexit", "<stdin>:1:6: unknown map type 'hsh'"),
        (("asm", "-", "--elf"), b"exit\nr1 = m ll", "<stdin>:2:6: symbol 'm' is neither a map nor a function"),
        (("asm", "-", "--elf"), b'.section ".maps"\nexit', "<stdin>:2:1: section '.maps' is not for code"),
        (("asm", "-", "--elf"), b"f: goto g\n.globl g\ng: exit", "<stdin>:1:1: jump leaves function 'f'"),
        (("disasm", "-"), b"1234567", "<stdin>: code of 7 bytes is not a whole number"),
        (("disasm", "-"), b"\x7fELF", "<stdin>: not an ELF file"),
        (("disasm", "no/such/file"), b"", "no/such/file: No such file or directory"),
    ],
)
def test_errors_are_one_line(arguments, data, message):
    done = run(*arguments, data=data)
    assert (done.returncode, done.stdout) == (1, b"")
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"pybpf: {message}")


def test_wrong_usage():
    for arguments in (("asm",), ("asm", "x", "--dialect", "intel"), ("disasm", "x", "y")):
        done = run(*arguments)
        assert done.returncode == 2
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["disasm", "asm"])
def test_reader_that_goes_away(command, unbuffered, tmp_path):
    path = tmp_path / "big"
    path.write_bytes((b"\x95" + bytes(7)) * 50_000 if command == "disasm" else b"exit\n" * 50_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "pybpf", command, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    process.stdout.read(10)
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 1
    assert errors == b""


def test_object_holds_what_the_text_says():
    spec = read_object(assemble_object(COUNTER, file="counter.s"))
    assert spec.license == "GPL"
    counts = spec.maps["counts"]
    assert (counts.type, counts.key_size, counts.value_size, counts.max_entries, counts.flags) == (2, 4, 8, 4, 0)
    assert {name: program.section for name, program in spec.programs.items()} == {"sum": ".text", "count": "syscall"}
    count = spec.programs["count"]
    assert [(reloc.index, reloc.kind, reloc.target) for reloc in count.relocs] == [
        (4, "map", "counts"),
        (12, "call", "sum"),
    ]
    assert len(count.func_info) == 1
    assert len(count.line_info) == 15


def test_object_big_endian():
    little = read_object(assemble_object(COUNTER + ".8byte 0x0102030405060708"))
    big = read_object(assemble_object(COUNTER + ".8byte 0x0102030405060708", byteorder="big"))
    assert big.byteorder == "big"
    assert decode(big.programs["count"].insns, "big") == decode(little.programs["count"].insns)
    assert big.programs["sum"].insns[-8:] == bytes(range(1, 9))
    assert little.programs["sum"].insns[-8:] == bytes(range(8, 0, -1))


def test_same_text_same_bytes():
    assert assemble_object(COUNTER) == assemble_object(COUNTER)


def test_names_for_code_without_labels():
    spec = read_object(assemble_object("r0 = 0; exit\n.section tp/a-b\nexit\nf: exit\n.section x\ng: call f; exit"))
    assert sorted(spec.programs) == ["f", "g", "text", "tp_a_b"]


@pytest.mark.native
def test_object_runs_in_the_kernel():
    from pybpf.loader import Collection

    spec = read_object(assemble_object(COUNTER, file="counter.s", byteorder=sys.byteorder))
    with Collection(spec, ["count"]) as loaded:
        assert loaded.btf_error is None
        assert loaded.programs["count"].test_run(ctx=bytes(8)).retval == 42
        value = loaded.maps["counts"].lookup((2).to_bytes(4, sys.byteorder))
        assert int.from_bytes(value, sys.byteorder) == 5


@pytest.mark.native
def test_verifier_shows_the_line():
    from pybpf.errors import VerifierError
    from pybpf.loader import Collection

    code = '.section "syscall"\nbad: r0 = *(u64 *)(r2 + 8)   # r2 holds nothing\n exit'
    with pytest.raises(VerifierError) as caught, Collection(read_object(assemble_object(code, file="bad.s")), ["bad"]):
        pass
    assert "bad: r0 = *(u64 *)(r2 + 8)" in caught.value.details


@pytest.mark.native
@pytest.mark.skipif(shutil.which("bpftool") is None, reason="bpftool is not installed")
def test_object_loads_with_libbpf(tmp_path):
    if not os.path.ismount("/sys/fs/bpf"):
        pytest.skip("no BPF file system at /sys/fs/bpf to pin to")
    path = tmp_path / "counter.o"
    path.write_bytes(assemble_object(COUNTER, file="counter.s", byteorder=sys.byteorder))
    pin = Path("/sys/fs/bpf") / f"asm_test_{os.getpid()}"
    done = subprocess.run(["bpftool", "prog", "load", path, pin, "type", "syscall"], capture_output=True, text=True)
    try:
        assert done.returncode == 0, done.stderr
    finally:
        if pin.exists():
            pin.unlink()


# --- against llvm-objdump ---

C = """
struct { int (*type)[1]; int (*max_entries)[10]; int *key; long *value; } m __attribute__((section(".maps"), used));
static void *(*lookup)(void *, const void *) = (void*)1;
static long (*loop)(unsigned, void*, void*, unsigned long) = (void*)181;
int counter; const volatile int cfg = 5;
static __attribute__((noinline)) int sub(int a) { if (a > 3) return cfg; return a * counter; }
static long cb(unsigned i, void *c) { return *(int*)c + i; }
__attribute__((noinline)) int glob(int a) { return a + 1 + counter; }
extern int kf(int) __attribute__((section(".ksyms")));
__attribute__((section("tp/one"), used)) int one(void *ctx) {
    int k = 3; long *v = lookup(&m, &k); loop(5, cb, &k, 0);
    if (v) { __sync_fetch_and_add(v, 7); (*v)++; if (*v > 100) return sub(k); }
    for (int i = 0; i < *(int*)ctx; i++) counter += glob(i);
    return kf(2); }
__attribute__((section("tp/one"), used)) int two(void *ctx) { return *(int*)ctx ? sub(2) : 7; }
char _license[] __attribute__((section("license"), used)) = "GPL";
"""


def objdump(path):
    command = [OBJDUMP, "-d", "-r", "--no-show-raw-insn", "--mcpu=v4", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


needs_objdump = pytest.mark.skipif(OBJDUMP_VERSION < NEEDED, reason=f"llvm-objdump {NEEDED} or newer is not installed")


@needs_objdump
@pytest.mark.skipif(CLANG_VERSION < NEEDED, reason=f"clang {NEEDED} or newer is not installed")
@pytest.mark.parametrize("target", ["bpfel", "bpfeb"])
@pytest.mark.parametrize("cpu", ["v1", "v4"])
def test_listing_of_a_clang_object(tmp_path, target, cpu):
    """The whole output, headings, symbols and relocations included."""
    source, path = tmp_path / "c.c", tmp_path / "c.o"
    source.write_text(C)
    subprocess.run([CLANG, "-g", "-O2", f"--target={target}", f"-mcpu={cpu}", "-c", source, "-o", path], check=True)
    assert run("disasm", path).stdout.decode() == objdump(path)


@needs_objdump
@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_listing_of_our_object(tmp_path, byteorder):
    path = tmp_path / "counter.o"
    path.write_bytes(assemble_object(COUNTER, byteorder=byteorder))
    shown = run("disasm", path).stdout.decode()
    assert shown == objdump(path)
    assert "R_BPF_64_64\tcounts" in shown
    assert "<count>:" in shown


def test_listing_in_mnemonics():
    lines = list(disassemble_object(assemble_object(COUNTER), "mnemonic", "x.o"))
    assert "       7:\tjeq %r0, 0, +6 <count+0x70>" in lines
    assert "\t\t0000000000000020:  R_BPF_64_64\tcounts" in lines
    assert "      12:\tcall local -1" in lines


def test_damaged_objects():
    """Bytes set to other values: lines or our error, never anything else."""
    good = assemble_object(COUNTER)
    for at in range(0, len(good), 7):
        for value in (0, 0x7F, 0xFF):
            data = good[:at] + bytes((value,)) + good[at + 1 :]
            try:
                assert all(isinstance(line, str) for line in disassemble_object(data))
            except (AsmError, ObjectError) as error:
                message = str(error)
                assert "\n" not in message
    for size in range(0, len(good), 13):
        with pytest.raises(ObjectError):
            list(disassemble_object(good[:size]))


def test_raw_output_needs_no_elf_layer():
    """The assembler itself stays below the object layer."""
    code = "import sys, pybpf.asm.source, pybpf.asm.disasm; print(*[m for m in sys.modules if 'pybpf' in m])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "pybpf.object" not in done.stdout
    assert assemble("exit") == b"\x95" + bytes(7)
