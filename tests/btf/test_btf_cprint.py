"""BTF as C: compilers take it, and give every struct the size and the offsets that BTF states."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from btf_samples import every_kind, kernels, tool

from btf.builder import Builder
from btf.cdecl import plain
from btf.cnames import Names, identifier
from btf.cprint import dump_c
from btf.errors import BtfError
from btf.files import close_table, open_table
from btf.format import COMPOSITES, KIND_STRUCT
from btf.table import Table

COMPILERS = {"gcc": ("gcc",), "bpf": ("clang-19", "-target", "bpf")}


def compile_c(compiler: str, text: bytes, folder: Path, *options: str) -> None:
    """Compile; any warning fails the test."""
    command = COMPILERS[compiler]
    source = folder / "types.c"
    source.write_bytes(text)
    done = subprocess.run(
        [tool(command[0]), *command[1:], "-Werror", *options, "-fsyntax-only", str(source)], capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()[:2000]


def claims(table: Table, ids: Iterable[int], names: Names) -> list[str]:
    """A static assertion for the size of each named struct and the offset of each member, of anonymous ones as well."""
    lines = []
    for id in ids:
        tag = names.spelled(id)
        lines.append(f'_Static_assert(sizeof({tag}) == {table.size(id)}, "{tag}");\n')
        stack = [(id, 0)]
        while stack:
            part, start = stack.pop()
            for name, type, offset, bits in table.members(part):
                inner = table.resolve(type)
                if not name and table.kind(inner) in COMPOSITES:
                    stack.append((inner, start + offset))
                elif name and not bits:
                    place = f"__builtin_offsetof({tag}, {identifier(name)})"
                    lines.append(f'_Static_assert({place} == {(start + offset) // 8}, "{tag}");\n')
    return lines


def named_structs(table: Table) -> list[int]:
    return [id for id in table.ids if table.kind(id) in COMPOSITES and table.name(id)]


def check(table: Table, ids: list[int] | None, compiler: str, folder: Path) -> tuple[int, int]:
    """Compile ``ids`` (default: all types) with what BTF states; returns how many structs and statements there were."""
    structs = named_structs(table) if ids is None else ids
    lines = claims(table, structs, Names(table))
    compile_c(compiler, b"".join(dump_c(table, ids)) + "".join(lines).encode(), folder)
    return len(structs), len(lines)


@pytest.mark.parametrize("compiler", list(COMPILERS))
def test_whole_kernel(compiler: str, tmp_path: Path) -> None:
    if "running" not in kernels():
        pytest.skip("the running kernel has no BTF")
    table = open_table(kernels()["running"])
    try:
        structs, statements = check(table, None, compiler, tmp_path)
        assert structs > 1000
        assert statements > 10_000
    finally:
        close_table(table)


@pytest.mark.parametrize("name", [name for name in kernels() if name != "running"] or ["none"])
def test_some_of_other_kernels(name: str, tmp_path: Path) -> None:
    if name not in kernels():
        pytest.skip("no guest kernel is in the cache (python -m tests.guests --fetch)")
    table = open_table(kernels()[name])
    ids = named_structs(table)
    ids = ids[:: len(ids) // 1000]
    assert len(ids) >= 1000
    check(table, ids, "gcc", tmp_path)


@pytest.mark.parametrize("compiler", list(COMPILERS))
def test_every_kind(compiler: str, tmp_path: Path) -> None:
    check(Table(every_kind(Builder()).to_bytes()), None, compiler, tmp_path)


def odd_layouts() -> Builder:
    """Structs as attributes and other compilers make them."""
    b = Builder()
    char, short, int_ = b.int("char", 1, signed=True), b.int("short", 2, signed=True), b.int("int", 4, signed=True)
    long = b.int("long", 8, signed=True)
    foreign = b.int("usize", 8)
    rust = b.float_("f64", 8)
    b.struct("packed_tail", 5, [("a", int_, 0), ("b", char, 32)])
    b.struct("unaligned", 9, [("a", char, 0), ("b", long, 8)])
    b.struct("aligned_64", 64, [("a", char, 0)])
    b.struct("gap", 4096, [("a", char, 0), ("b", long, 8 * 2048)])
    b.struct("wide_gap", 1 << 20, [("a", int_, 0, 3), ("b", int_, 8 << 16), ("c", int_, 8 << 17, 7)])
    b.struct("no_members", 24, [])
    b.struct("nothing", 0, [])
    b.struct("bits_first_late", 8, [("a", int_, 5, 3), ("b", int_, 31, 1), ("c", int_, 33, 7)])
    b.struct("bits_across", 8, [("a", int_, 0, 30), ("b", int_, 30, 20)])
    b.struct("bits_then_byte", 4, [("a", int_, 0, 3), ("b", char, 8), ("c", short, 16, 9)])
    b.union("large_union", 64, [("a", int_, 0)])
    b.union("packed_union", 6, [("a", int_, 0), ("b", short, 0)])
    inner = b.struct("", 12, [("x", int_, 0), ("y", char, 64)])
    b.struct("around", 16, [("", inner, 0), ("z", int_, 96)])
    named = b.struct("embedded", 8, [("m", int_, 0), ("n", int_, 32)])
    b.struct("extends", 12, [("", named, 0), ("own", int_, 64)])
    b.struct("flexible", 8, [("count", int_, 0), ("items", b.array(long, 0), 64)])
    b.struct("foreign", 24, [("a", foreign, 0), ("b", rust, 64), ("struct", int_, 128), ("2nd", int_, 160)])
    byte = b.enum("byte_enum", 1, [("ONE_BYTE", 1)])
    wide = b.enum64("wide_enum", 8, [("WIDE", 1)])
    b.struct("enums", 16, [("a", byte, 0), ("b", wide, 64)])
    b.struct("twice", 4, [("a", int_, 0)])
    b.struct("twice", 8, [("a", long, 0)])
    loose = b.enum("", 4, [("LOOSE", 3)])
    b.struct("loose_twice", 8, [("a", loose, 0), ("b", loose, 32)])
    b.enum("", 4, [("UNUSED", 5), ("LOOSE", 4)])
    b.enum("forward_enum", 4, [])
    b.typedef("bool", b.int("_Bool", 1, bool_=True))
    b.enum("", 4, [("false", 0), ("true", 1)])
    return b


@pytest.mark.parametrize("compiler", list(COMPILERS))
def test_odd_layouts(compiler: str, tmp_path: Path) -> None:
    table = Table(odd_layouts().to_bytes())
    check(table, None, compiler, tmp_path)
    if compiler == "bpf":
        compile_c(compiler, b"".join(dump_c(table)), tmp_path, "-std=c23")


def test_flavour_for_the_second_of_a_name() -> None:
    text = b"".join(dump_c(Table(odd_layouts().to_bytes()))).decode()
    assert "struct twice {\n\tint a;\n};" in text
    assert "struct twice___2 {\n\tlong a;\n};" in text


def test_bit_fields_where_clang_puts_them(tmp_path: Path) -> None:
    """offsetof() knows no bit-fields, but the BTF that clang makes of our text does."""
    name = kernels().get("running")
    if name is None:
        pytest.skip("the running kernel has no BTF")
    table = open_table(name)
    try:
        ids = [id for id in named_structs(table) if table.kflag(id) and table.kind(id) == KIND_STRUCT]
        ids = ids[:: len(ids) // 150]
        spelled = Names(table)
        uses = "".join(f"{spelled.spelled(id)} use_{number};\n" for number, id in enumerate(ids))
        source, output = tmp_path / "bits.c", tmp_path / "bits.o"
        source.write_bytes(b"".join(dump_c(table, ids)) + uses.encode())
        subprocess.run([tool("clang-19"), "-target", "bpf", "-g", "-c", str(source), "-o", str(output)], check=True)
        made = open_table(str(output))
        fields = 0
        for id in ids:
            expected = [(field, offset, bits) for field, _, offset, bits in table.members(id)]
            (other,) = made.find(spelled[id], (KIND_STRUCT,))
            assert [(field, offset, bits) for field, _, offset, bits in made.members(other)] == expected
            fields += sum(bool(bits) for _, _, bits in expected)
        assert fields > 150
    finally:
        close_table(table)


def test_declarations() -> None:
    b = Builder()
    int_, char = b.int("int", 4, signed=True), b.int("char", 1, signed=True)
    text = b.ptr(b.const(char))
    compare = b.func_proto(int_, [("a", b.ptr(b.const(0))), ("b", b.restrict(b.ptr(0))), ("", 0)])
    table = b.array(b.array(b.ptr(compare), 3), 2)
    handler = b.func_proto(b.ptr(b.func_proto(0, [("", int_)])), [("", int_)])
    names = {
        text: "const char *x",
        b.const(b.ptr(char)): "char *const x",
        b.const(b.array(char, 4)): "const char x[4]",
        b.ptr(b.array(int_, 4)): "int (*x)[4]",
        table: "int (*x[2][3])(const void *a, void *restrict b, ...)",
        b.ptr(handler): "void (*(*x)(int))(int)",
        b.ptr(b.func_proto(0, [])): "void (*x)(void)",
        b.volatile(b.const(int_)): "volatile const int x",
    }
    btf = Table(b.to_bytes())
    assert {id: plain(btf, id, "x") for id in names} == names


def test_what_c_cannot_say_is_refused() -> None:
    def refusal(b: Builder) -> str:
        with pytest.raises(BtfError) as caught:
            b"".join(dump_c(Table(b.to_bytes())))
        return str(caught.value)

    b = Builder()
    itself = b.declare_struct("itself")
    b.define_struct(itself, 8, [("again", itself, 0)])
    assert "contains itself" in refusal(b)
    b = Builder()
    deep = b.int("int", 4)
    for _ in range(3000):
        deep = b.struct("", 4, [("", deep, 0)])
    b.struct("top", 4, [("", deep, 0)])
    assert "nested too deep" in refusal(b)
    b = Builder()
    proto = b.func_proto(0, [])
    for _ in range(300):
        proto = b.func_proto(0, [("a", b.ptr(proto)), ("b", b.ptr(proto))])
    b.typedef("bomb", b.ptr(proto))
    assert "nested too deep" in refusal(b)
    b = Builder()
    int_ = b.int("int", 4)
    b.struct("overlap", 8, [("a", int_, 0), ("b", int_, 16)])
    assert "overlaps" in refusal(b)


def test_long_chains_do_not_exhaust_the_stack(tmp_path: Path) -> None:
    """Named structs within each other are defined one after the other, however deep; only anonymous ones nest in C."""
    b = Builder()
    inner = b.int("int", 4)
    for number in range(60):
        inner = b.struct(f"level{number}", 4, [("inner", inner, 0)])
    alias = b.ptr(inner)
    for number in range(3000):
        alias = b.typedef(f"alias{number}", b.ptr(alias))
    compile_c("gcc", b"".join(dump_c(Table(b.to_bytes()))), tmp_path)
