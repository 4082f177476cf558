"""Layouts as pahole shows them, and what moved between two kernels."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from btf_samples import every_kind, guest_kernels, kernels, tool

from btf.builder import Builder
from btf.diff import diff
from btf.errors import BtfError, BtfNotFound
from btf.files import close_table, open_table
from btf.format import KIND_STRUCT
from btf.layout import lookup, show
from btf.table import Table

# `name; /* offset size */`, `name:bits; /* offset: bit size */`, in pahole's lines and ours.
MEMBER = re.compile(
    r"([\w\]]+)(?:\[\d*\])*(?::(\d+))?(?:\)\(.*\))?(?: __attribute__.*)?; */\* +(\d+)(?:: *(\d+))? +(\d+) \*/"
)
HOLE = re.compile(r"/\* XXX (\d+) (byte|bit)s? hole")
NUMBERS = re.compile(r"/\* (size|padding|bit_padding|last cacheline): (.*) \*/")
BOUNDARY = re.compile(r"--- (cacheline \d+ boundary.*) ---")


def facts(lines: list[str], patterns: tuple[re.Pattern[str], ...]) -> list[object]:
    """The numbers of a layout, in order, without the spelling of types."""
    found: list[object] = []
    for line in lines:
        for pattern in patterns:
            match = pattern.search(line)
            if match:
                found.append(match.groups())
    return found


def pahole(path: str, names: list[str]) -> dict[str, list[str]]:
    done = subprocess.run(
        [tool("pahole"), "-F", "btf", "-C", ",".join(names), path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    found: dict[str, list[str]] = {}
    for line in done.stdout.decode().splitlines():
        head = re.match(r"(?:struct|union) (\w+) \{", line)
        if head:
            found[head[1]] = []
        if found:
            found[list(found)[-1]].append(line)
    return found


def test_layouts_as_pahole_shows_them() -> None:
    if "6.1" not in guest_kernels():
        pytest.skip("kernel 6.1 is not in the cache (python -m tests.guests --fetch 6.1)")
    path = str(guest_kernels()["6.1"])
    table = open_table(path)
    names = [table.name(id) for id in table.ids if table.kind(id) == KIND_STRUCT and table.name(id)]
    names = sorted(name for name in set(names) if names.count(name) == 1)[::7]
    names += ["task_struct", "sk_buff", "sock", "sched_dl_entity", "tcp_sock", "page"]
    expected = pahole(path, names)
    assert len(expected) > 1000
    compared = odd = 0
    for name, lines in expected.items():
        (id,) = lookup(table, f"struct {name}")
        shown = list(show(table, id))
        if any("} *" in line or ")[" in line for line in (*lines, *shown)):
            continue  # pahole goes on behind a pointer to an anonymous struct; our pattern knows no pointer to an array
        assert facts(shown, (MEMBER,)) == facts(lines, (MEMBER,)), name
        # pahole counts the bits behind a _Bool as if it were an int, and now and then tells of a cache line twice.
        everything = (MEMBER, HOLE, NUMBERS, BOUNDARY)
        odd += facts(shown, everything) != facts(lines, everything)
        compared += len(lines)
    assert compared > 10_000
    assert odd * 100 < len(expected), f"{odd} of {len(expected)} differ"


def lines_of(b: Builder, name: str) -> str:
    table = Table(b.to_bytes())
    return "\n".join(line for id in lookup(table, name) for line in show(table, id))


def test_holes_padding_and_bits() -> None:
    b = Builder()
    char, int_ = b.int("char", 1), b.int("int", 4, signed=True)
    inner = b.struct("", 12, [("low", char, 0), ("high", int_, 64)])
    b.struct("s", 80, [("a", char, 0), ("f", int_, 32, 3), ("x", b.ptr(0), 128), ("in", inner, 512)])
    assert lines_of(b, "s").replace("  ", "").splitlines() == [
        line.replace("  ", "")
        for line in (
            "struct s {",
            "\tchar a;                                  /*     0     1 */",
            "",
            "\t/* XXX 3 bytes hole */",
            "",
            "\tint f:3;                                 /*     4: 0  4 */",
            "",
            "\t/* XXX 29 bits hole */",
            "",
            "",
            "\t/* XXX 8 bytes hole */",
            "",
            "\tvoid *x;                                 /*    16     8 */",
            "",
            "\t/* XXX 40 bytes hole */",
            "",
            "\t/* --- cacheline 1 boundary (64 bytes) --- */",
            "\tstruct {",
            "\t\tchar low;                        /*    64     1 */",
            "",
            "\t\t/* XXX 7 bytes hole */",
            "",
            "\t\tint high;                        /*    72     4 */",
            "\t} in;                                    /*    64    12 */",
            "",
            "\t/* size: 80, cachelines: 2, members: 4 */",
            "\t/* sum members: 21, holes: 3, sum holes: 51 */",
            "\t/* sum bitfield members: 3 bits, bit holes: 1, sum bit holes: 29 bits */",
            "\t/* padding: 4 */",
            "\t/* last cacheline: 16 bytes */",
            "};",
        )
    ]


def test_show_whatever_has_a_name() -> None:
    b = every_kind(Builder())
    b.typedef("alias", b.struct("", 4, [("x", 1, 0)]))
    assert lines_of(b, "alias").startswith("typedef struct {\n\tint x; ")
    assert lines_of(b, "alias").endswith("} alias;")
    assert lines_of(b, "number") == "typedef const volatile int number; /* size: 4 */"
    assert lines_of(b, "hidden") == "struct hidden;"
    assert lines_of(b, "handler") == "int handler(struct node *self, const char *more, ...);"
    assert lines_of(b, "counter") == "unsigned long counter;"
    assert "\tMINUS = -1,\n\tPLUS = 1,\n" in lines_of(b, "enum sign")
    with pytest.raises(BtfNotFound, match="no type, function or variable 'enum node'"):
        lookup(Table(b.to_bytes()), "enum node")
    looped = Builder()
    itself = looped.declare_struct("")
    looped.define_struct(itself, 4, [("a", itself, 0)])
    looped.struct("top", 4, [("a", itself, 0)])
    with pytest.raises(BtfError, match="contains itself"):
        lines_of(looped, "top")


# ---- diff --------------------------------------------------------------------------------------


def kernel_one() -> Builder:
    b = Builder()
    int_, long = b.int("int", 4, signed=True), b.int("long", 8, signed=True)
    anonymous = b.union("", 8, [("inner", int_, 0), ("other", long, 0)])
    b.struct("task", 32, [("pid", int_, 0), ("", anonymous, 64), ("flag", int_, 128, 1), ("gone", int_, 160)])
    b.struct("same", 4, [("a", int_, 0)])
    b.struct("removed", 4, [("a", int_, 0)])
    b.enum("state", 4, [("RUN", 0), ("STOP", 1), ("OLD", 2)])
    b.func("call", b.func_proto(int_, [("a", int_)]), 1)
    return b


def kernel_two() -> Builder:
    b = Builder()
    long, int_ = b.int("long", 8, signed=True), b.int("int", 4, signed=True)
    anonymous = b.union("", 8, [("inner", int_, 0), ("other", long, 0)])
    members = [("pid", long, 0), ("", anonymous, 128), ("flag", int_, 192, 2), ("added", int_, 224)]
    b.struct("task", 40, members)
    b.struct("same", 4, [("a", int_, 0)])
    b.enum("state", 4, [("RUN", 0), ("STOP", 4), ("NEW", 2)])
    b.func("call", b.func_proto(int_, [("a", long)]), 1)
    b.struct("appeared", 4, [("a", int_, 0)])
    return b


def test_diff_tells_what_moved() -> None:
    old, new = Table(kernel_one().to_bytes()), Table(kernel_two().to_bytes())
    assert list(diff(old, old)) == []
    assert list(diff(old, new)) == [
        "  enum state:",
        "      STOP = 1 -> 4",
        "    - OLD = 2",
        "    + NEW = 2",
        "  func call:",
        "    - int call(int a)",
        "    + int call(long a)",
        "+ struct appeared: new",
        "- struct removed: gone",
        "  struct task: size 32 -> 40",
        "      pid: size 4 -> 8, type 'int pid' -> 'long pid'",
        "      flag: at 16:0 -> 24:0, bits 1 -> 2",
        "    - int gone at 20",
        "      inner: at 8 -> 16",
        "      other: at 8 -> 16",
        "    + int added at 28",
    ]
    assert list(diff(old, new, ["same", "struct same"])) == []
    with pytest.raises(BtfError, match="neither side has a type or function 'nothing'"):
        list(diff(old, new, ["nothing"]))


def test_diff_of_two_kernels() -> None:
    """Every offset that is said to have moved is what each kernel's own layout shows."""
    found = guest_kernels()
    if not {"6.1", "6.12"} <= found.keys():
        pytest.skip("kernels 6.1 and 6.12 are not both in the cache (python -m tests.guests --fetch 6.1 6.12)")
    old, new = open_table(str(found["6.1"])), open_table(str(found["6.12"]))
    lines = list(diff(old, new, ["struct task_struct"]))
    assert re.match(r"  struct task_struct: size (\d+) -> (\d+)", lines[0])
    places: list[dict[str, str]] = []
    for table in (old, new):
        (id,) = lookup(table, "struct task_struct")
        shown = [MEMBER.search(line) for line in show(table, id) if line.startswith("\t") and line[1] != "\t"]
        places.append({match[1]: match[3] for match in shown if match and not match[2]})
    moved = 0
    for line in lines[1:]:
        match = re.match(r"      (\w+): at (\d+) -> (\d+)", line)
        if match and match[1] in places[0] and match[1] in places[1]:
            assert (places[0][match[1]], places[1][match[1]]) == (match[2], match[3])
            moved += 1
    assert moved > 100


def test_running_kernel_is_like_itself() -> None:
    if "running" not in kernels():
        pytest.skip("the running kernel has no BTF")
    table, other = open_table(kernels()["running"]), open_table(str(Path(kernels()["running"])))
    try:
        assert list(diff(table, other, ["task_struct", "file", "vfs_open", "pid_type"])) == []
    finally:
        close_table(table)
        close_table(other)
