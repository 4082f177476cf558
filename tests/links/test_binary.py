"""Functions of programs and libraries, compared with nm and readelf; USDT notes; libraries compared with ldconfig."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pybpf.errors import LinkError
from pybpf.links import libraries, usdt
from pybpf.links.binary import Binary

PROGRAM = """
int spare(int x) { return x + 1; }
int twin(int x) { return spare(x) * 2; }
static int hidden(int x) { return x ^ 3; }
__attribute__((weak)) int soft(int x) { return x - 1; }
int main(int argc, char **argv) { return twin(argc) + hidden(argc) + soft(argc); }
"""
PROBE = """
__attribute__((section(".probes"))) unsigned short demo_hit_semaphore;
int main(int argc, char **argv) {
    __asm__ volatile(
        "990: nop\\n"
        ".pushsection .note.stapsdt,\\"\\",@note\\n.balign 4\\n.4byte 992f-991f,994f-993f,3\\n"
        "991: .asciz \\"stapsdt\\"\\n992: .balign 4\\n"
        "993: .8byte 990b, _.stapsdt.base, demo_hit_semaphore\\n"
        ".asciz \\"demo\\"\\n.asciz \\"hit\\"\\n.asciz \\"%n0@%1 8@%2\\"\\n994: .balign 4\\n.popsection\\n"
        ".pushsection .stapsdt.base,\\"aG\\",\\"progbits\\",.stapsdt.base,comdat\\n.weak _.stapsdt.base\\n"
        ".hidden _.stapsdt.base\\n_.stapsdt.base: .space 1\\n.size _.stapsdt.base, 1\\n.popsection\\n"
        :: "n"(4), "r"(argc), "r"(argv));
    return demo_hit_semaphore;
}
"""


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} on this machine")
    return path


def build(folder: Path, source: str, *options: str) -> str:
    (folder / "program.c").write_text(source)
    out = str(folder / "program")
    subprocess.run([tool("gcc"), "-O0", *options, "-o", out, str(folder / "program.c")], check=True)
    return out


def functions(path: str, *options: str) -> dict[str, int]:
    """Addresses of the functions that nm knows, those with several addresses left out."""
    found: dict[str, set[int]] = {}
    lines = subprocess.run([tool("nm"), *options, path], capture_output=True, text=True, check=True).stdout
    for line in lines.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[1] in "tTwW":
            found.setdefault(fields[2], set()).add(int(fields[0], 16))
    return {name: min(places) for name, places in found.items() if len(places) == 1}


def segments(path: str) -> list[tuple[int, int, int, bool]]:
    """``(offset, address, size, executable)`` of the loaded segments, as readelf has them."""
    text = subprocess.run([tool("readelf"), "-lW", path], capture_output=True, text=True, check=True).stdout
    return [
        (int(fields[1], 16), int(fields[2], 16), int(fields[4], 16), "E" in fields[6:-1])
        for fields in map(str.split, text.splitlines())
        if fields[:1] == ["LOAD"]
    ]


def offset_of(path: str, address: int) -> int:
    return next(
        address - start + offset for offset, start, size, x in segments(path) if x and start <= address < start + size
    )


@pytest.mark.parametrize("kind", ["-pie", "-no-pie", "-static", "-m32"])
def test_functions_of_a_program(tmp_path, kind):
    try:
        path = build(tmp_path, PROGRAM, kind)
    except subprocess.CalledProcessError:
        pytest.skip(f"gcc cannot make {kind} here")
    known = functions(path)
    with Binary(path) as binary:
        for name in ("spare", "twin", "hidden", "soft", "main"):
            assert binary.function(name)[0] == offset_of(path, known[name])
        with pytest.raises(LinkError, match="no function 'nothing'"):
            binary.function("nothing")


def test_every_exported_function_of_a_library():
    """Thousands of names, each found by itself; versions and aliases as nm has them."""
    path = libraries.find("libm.so.6")
    listed = functions(path, "-D", "--defined-only")
    known = {name.partition("@")[0]: at for name, at in listed.items() if "@" not in name or "@@" in name}
    lines = subprocess.run([tool("nm"), "-D", path], capture_output=True, text=True, check=True).stdout.splitlines()
    ifuncs = {fields[-1].partition("@")[0] for fields in map(str.split, lines) if fields[-2] == "i"}
    compared = 0
    with Binary(path) as binary:
        for name, address in known.items():
            if name not in ifuncs:
                assert binary.function(name)[0] == offset_of(path, address), name
                compared += 1
        for name in sorted(ifuncs)[:5]:
            with pytest.raises(LinkError, match="indirect function"):
                binary.function(name)
    assert compared > 100


@pytest.mark.parametrize("name", ["libm.so.6", "libc.so.6"])
def test_exported_names_as_nm_has_them(name):
    path = libraries.find(name)
    listed = subprocess.run([tool("nm"), "-D", "--defined-only", path], capture_output=True, text=True, check=True)
    # An upper-case A is the name of a version.
    known = [line.split()[2].partition("@")[0] for line in listed.stdout.splitlines() if line.split()[1] != "A"]
    with Binary(path) as binary:
        exported = [name.decode() for name in binary.exported()]
    versions = {name for name in exported if name.startswith(("GLIBC_", "GCC_"))}
    assert sorted(set(exported) - versions) == sorted(set(known))
    assert len(known) > 100


def test_stripped_program_says_so(tmp_path):
    path = build(tmp_path, PROGRAM)
    subprocess.run([tool("strip"), path], check=True)
    with Binary(path) as binary, pytest.raises(LinkError, match="stripped of the others: give an offset"):
        binary.function("hidden")


def test_without_section_headers(tmp_path):
    """What sstrip leaves: only what the dynamic linker needs."""
    path = build(tmp_path, PROGRAM, "-shared", "-fPIC")
    whole = Binary(path)
    wanted = {name: whole.function(name) for name in ("spare", "twin")}
    whole.close()
    data = bytearray(Path(path).read_bytes())
    data[0x28:0x30] = bytes(8)
    data[0x3C:0x40] = bytes(4)
    Path(path).write_bytes(data)
    with Binary(path) as binary:
        assert {name: binary.function(name) for name in wanted} == wanted


def test_ambiguous_local_functions(tmp_path):
    (tmp_path / "a.c").write_text("static int same(int x) { return x; } int a(int x) { return same(x); }")
    (tmp_path / "b.c").write_text("static int same(int x) { return -x; } int main(int x) { return same(x); }")
    out = str(tmp_path / "program")
    subprocess.run([tool("gcc"), "-O0", "-o", out, str(tmp_path / "a.c"), str(tmp_path / "b.c")], check=True)
    with Binary(out) as binary, pytest.raises(LinkError, match="there are 2 functions 'same': give the offset of one"):
        binary.function("same")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an ELF file"),
        (b"#!/bin/sh\n" * 20, "not an ELF file"),
        (b"\x7fELF\2\1\1" + bytes(60), "neither an executable"),
    ],
)
def test_files_that_are_no_programs(tmp_path, content, reason):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(LinkError, match=reason):
        Binary(str(path))


def test_cut_off_anywhere_is_one_line(tmp_path):
    """Each prefix of a program is refused, or answers; nothing else is raised."""
    path = build(tmp_path, PROGRAM)
    data = Path(path).read_bytes()
    cut = tmp_path / "cut"
    for size in (*range(0, 1024, 13), *range(1024, len(data), 997)):
        cut.write_bytes(data[:size])
        try:
            with Binary(str(cut)) as binary:
                binary.function("twin")
        except LinkError:
            pass


def test_usdt_notes_as_readelf_shows_them(tmp_path):
    path = build(tmp_path, PROBE)
    text = subprocess.run([tool("readelf"), "-nW", path], capture_output=True, text=True, check=True).stdout
    words = text.replace(",", " ").split()
    location, semaphore = (int(words[words.index(word) + 1], 16) for word in ("Location:", "Semaphore:"))
    (probe,) = usdt.probes(path)
    assert (probe.provider, probe.name) == ("demo", "hit")
    assert probe.offset == offset_of(path, location)
    # The semaphore is in data, whose file offset differs from its address.
    assert probe.semaphore == next(semaphore - s + o for o, s, size, _ in segments(path) if s <= semaphore < s + size)
    assert [argument.size for argument in probe.arguments()] == [4, 8]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("-4@%edi", ("register", 4, True, 112, -1, 1, 0)),
        ("8@%r13", ("register", 8, False, 16, -1, 1, 0)),
        ("1@%r8b", ("register", 1, False, 72, -1, 1, 0)),
        ("2@%ax", ("register", 2, False, 80, -1, 1, 0)),
        ("1@%sil", ("register", 1, False, 104, -1, 1, 0)),
        ("1@%al", ("register", 1, False, 80, -1, 1, 0)),
        ("8@%rsp", ("register", 8, False, 152, -1, 1, 0)),
        ("4@$-5", ("const", 4, False, -1, -1, 1, -5)),
        ("8@-16(%rbp)", ("memory", 8, False, 32, -1, 1, -16)),
        ("8@(%rax)", ("memory", 8, False, 80, -1, 1, 0)),
        ("-4@8(%rax,%rbx,4)", ("indexed", 4, True, 80, 40, 4, 8)),
        ("8@0x10(,%rcx,8)", ("indexed", 8, False, -1, 88, 8, 16)),
    ],
)
def test_arguments_x86_64(text, wanted):
    got = usdt.parse_argument(text, 62)
    assert (got.kind, got.size, got.signed, got.register, got.index, got.scale, got.value) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("8@x0", ("register", 8, False, 0, -1, 1, 0)),
        ("-4@w21", ("register", 4, True, 168, -1, 1, 0)),
        ("8@sp", ("register", 8, False, 248, -1, 1, 0)),
        ("-4@[sp, 12]", ("memory", 4, True, 248, -1, 1, 12)),
        ("8@[x19]", ("memory", 8, False, 152, -1, 1, 0)),
        ("8@[x1, x2, lsl 3]", ("indexed", 8, False, 8, 16, 8, 0)),
        ("4@7", ("const", 4, False, -1, -1, 1, 7)),
    ],
)
def test_arguments_arm64(text, wanted):
    (part,) = usdt._split(text)
    got = usdt.parse_argument(part, 183)
    assert (got.kind, got.size, got.signed, got.register, got.index, got.scale, got.value) == wanted


@pytest.mark.parametrize(
    "text", ["%edi", "3@%edi", "8@", "8@%nothing", "1@%ah", "8@%xmm0", "8@foo(%rip", "8@(%rax,%rbx,3)"]
)
def test_arguments_that_are_none(text):
    with pytest.raises(LinkError, match="USDT argument"):
        usdt.parse_argument(text, 62)


def test_libraries_as_ldconfig_knows_them():
    if not os.path.exists("/etc/ld.so.cache"):
        pytest.skip("no ld.so.cache")
    ldconfig = shutil.which("ldconfig") or "/sbin/ldconfig"
    text = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=True).stdout
    wanted = [(line.split()[0], line.split("=> ")[1]) for line in text.splitlines() if "=> " in line]
    assert list(libraries.cached()) == wanted
    assert len(wanted) > 10


def test_names_of_the_c_library():
    path = libraries.find("libc.so.6")
    for name in ("libc", "c", "libc.so"):
        assert os.path.samefile(libraries.find(name), path)
    assert libraries.find("c", os.getpid()) in libraries.mapped(os.getpid())
    assert libraries.find("/bin/sh") == "/bin/sh"
    assert os.path.basename(libraries.find("sh")) == "sh"


@pytest.mark.parametrize("name", ["no-such-library", "/no/such/file"])
def test_library_that_is_missing(name):
    with pytest.raises(LinkError, match=r"no-such-library: neither|there is no such file"):
        libraries.find(name)


def test_musl_folders(tmp_path):
    assert libraries.musl_folders(str(tmp_path)) == ["/lib", "/usr/local/lib", "/usr/lib"]
    (tmp_path / "ld-musl-x86_64.path").write_text("/opt/lib:/lib\n/usr/lib\n")
    assert libraries.musl_folders(str(tmp_path)) == ["/opt/lib", "/lib", "/usr/lib"]


def test_whose_library_it_is():
    """A process's own mapping wins, by the path that works from here."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        while not any("libc" in path for path in libraries.mapped(child.pid)):
            pass
        path = libraries.find("c", child.pid)
        assert os.path.exists(path)
        assert "libc" in path
    finally:
        child.communicate(b"\n")
