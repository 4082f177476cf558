"""The running kernel's BTF, against bpftool, and CO-RE against what bpftool says of its structs."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from btf.builder import Builder
from btf.core import (
    ENUMVAL_VALUE,
    FIELD_BYTE_OFFSET,
    FIELD_EXISTS,
    TYPE_EXISTS,
    TYPE_ID_TARGET,
    TYPE_MATCHES,
    TYPE_SIZE,
    Relocator,
)
from btf.errors import BtfNotFound
from btf.format import (
    INT_BOOL,
    INT_CHAR,
    INT_SIGNED,
    KIND_ARRAY,
    KIND_DATASEC,
    KIND_DECL_TAG,
    KIND_ENUM,
    KIND_ENUM64,
    KIND_FLOAT,
    KIND_FUNC,
    KIND_FUNC_PROTO,
    KIND_FWD,
    KIND_INT,
    KIND_NAMES,
    KIND_STRUCT,
    KIND_TYPEDEF,
    KIND_UNION,
    KIND_VAR,
)
from btf.reader import VMLINUX, Btf
from btf.source import Sparing, map_file

BPFTOOL = shutil.which("bpftool") or shutil.which("/usr/sbin/bpftool")
LINKAGES = ("static", "global", "extern")

pytestmark = pytest.mark.skipif(not os.path.exists(VMLINUX), reason=f"{VMLINUX} is missing: this kernel has no BTF")


@pytest.fixture(scope="module")
def kernel() -> Iterator[Btf]:
    with Btf.kernel() as btf:
        yield btf


@pytest.fixture(scope="module")
def raw() -> list[list[str]]:
    """Lines of `bpftool btf dump ... format raw`, grouped by type."""
    if BPFTOOL is None:
        pytest.skip("bpftool is not installed")
    done = subprocess.run(
        [BPFTOOL, "btf", "dump", "file", VMLINUX, "format", "raw"], capture_output=True, text=True, check=True
    )
    groups: list[list[str]] = [["[0] VOID"]]
    for line in done.stdout.splitlines():
        if line.startswith("["):
            groups.append([line])
        else:
            groups[-1].append(line)
    return groups


def quoted(name: str) -> str:
    return f"'{name or '(anon)'}'"


def render(t: Btf, id: int) -> list[str]:
    """A type as bpftool prints it."""
    kind = t.kind(id)
    head = f"[{id}] {KIND_NAMES[kind].upper()} {quoted(t.name(id))}"
    if kind == KIND_INT:
        encoding = {0: "(none)", INT_SIGNED: "SIGNED", INT_CHAR: "CHAR", INT_BOOL: "BOOL"}[t.int_encoding(id)]
        offset, bits = t.int_bits(id)
        return [f"{head} size={t.size(id)} bits_offset={offset} nr_bits={bits} encoding={encoding}"]
    if kind == KIND_ARRAY:
        elem, index, count = t.array(id)
        return [f"{head} type_id={elem} index_type_id={index} nr_elems={count}"]
    if kind in (KIND_STRUCT, KIND_UNION):
        lines = [f"{head} size={t.size(id)} vlen={t.vlen(id)}"]
        for name, type, offset, bits in t.members(id):
            tail = f" bitfield_size={bits}" if bits else ""
            lines.append(f"\t{quoted(name)} type_id={type} bits_offset={offset}{tail}")
        return lines
    if kind in (KIND_ENUM, KIND_ENUM64):
        sign = "SIGNED" if t.kflag(id) else "UNSIGNED"
        lines = [f"{head} encoding={sign} size={t.size(id)} vlen={t.vlen(id)}"]
        mark = "LL" if kind == KIND_ENUM64 else ""
        mark = mark if t.kflag(id) or not mark else "ULL"
        return lines + [f"\t{quoted(name)} val={value}{mark}" for name, value in t.enumerators(id)]
    if kind == KIND_FWD:
        return [f"{head} fwd_kind={'union' if t.kflag(id) else 'struct'}"]
    if kind == KIND_FUNC:
        return [f"{head} type_id={t.type(id)} linkage={LINKAGES[t.linkage(id)]}"]
    if kind == KIND_FUNC_PROTO:
        lines = [f"{head} ret_type_id={t.type(id)} vlen={t.vlen(id)}"]
        return lines + [f"\t{quoted(name)} type_id={type}" for name, type in t.params(id)]
    if kind == KIND_VAR:
        return [f"{head} type_id={t.type(id)}, linkage={LINKAGES[t.linkage(id)]}"]
    if kind == KIND_DATASEC:
        lines = [f"{head} size={t.size(id)} vlen={t.vlen(id)}"]
        for var, offset, size in t.vars(id):
            lines.append(f"\ttype_id={var} offset={offset} size={size} (VAR {quoted(t.name(var))})")
        return lines
    if kind == KIND_FLOAT:
        return [f"{head} size={t.size(id)}"]
    if kind == KIND_DECL_TAG:
        return [f"{head} type_id={t.type(id)} component_idx={t.component(id)}"]
    return [f"{head} type_id={t.type(id)}"]


def test_types_as_bpftool_prints_them(kernel: Btf, raw: list[list[str]]) -> None:
    assert kernel.type_count == len(raw)
    rng = random.Random(4)
    by_kind: dict[str, list[int]] = {}
    for id in range(1, len(raw)):
        by_kind.setdefault(raw[id][0].split(" ", 2)[1], []).append(id)
    ids = rng.sample(range(1, len(raw)), 500)
    for some in by_kind.values():
        ids += [*rng.sample(some, min(len(some), 25)), some[0], some[-1]]
    for id in [*ids, len(raw) - 1]:
        assert render(kernel, id) == [line for line in raw[id] if line], id


def test_names_as_bpftool_finds_them(kernel: Btf, raw: list[list[str]]) -> None:
    pattern = re.compile(r"\[(\d+)\] (\w+) '([^']+)'")
    kinds = {name.upper(): kind for kind, name in enumerate(KIND_NAMES)}
    expected: dict[tuple[str, int], list[int]] = {}
    for group in raw[1:]:
        found = pattern.match(group[0])
        if found and found[3] != "(anon)":
            expected.setdefault((found[3], kinds[found[2]]), []).append(int(found[1]))
    rng = random.Random(5)
    wanted = ["task_struct", "nsproxy", "cred", "pid", "uts_namespace", "mnt_namespace", "pt_regs", "file", "list_head"]
    asked = [(name, KIND_STRUCT) for name in wanted]
    asked += [("btf_trace_sys_exit", KIND_TYPEDEF), ("btf_trace_sched_process_fork", KIND_TYPEDEF)]
    asked += [key for key, ids in expected.items() if len(ids) > 1][:20]
    asked += rng.sample(sorted(expected), 40)
    for name, kind in asked:
        assert kernel.find(name, (kind,)) == expected.get((name, kind), []), (name, kind)
    for name, _ in asked[:11]:
        assert kernel.find(name, (KIND_UNION, KIND_FWD)) == sorted(
            expected.get((name, KIND_UNION), []) + expected.get((name, KIND_FWD), [])
        )
    # A batch of functions is found by another walk.
    names = [name for name, kind in asked if kind == KIND_FUNC]
    with Btf.kernel() as fresh:
        fresh.prefetch(names, (KIND_FUNC,))
        assert [fresh.find(name, (KIND_FUNC,)) for name in names] == [expected[name, KIND_FUNC] for name in names]


def test_read_in_pieces_gives_the_same(kernel: Btf, monkeypatch: pytest.MonkeyPatch) -> None:
    import mmap

    def refuse(*args: object, **more: object) -> None:
        raise OSError(19, "No such device")

    monkeypatch.setattr(mmap, "mmap", refuse)
    with Btf.kernel() as other:
        assert isinstance(other._data, Sparing)
        assert bytes(map_file(VMLINUX)) == bytes(kernel._data[:])  # type: ignore[index]
        assert other._data[:] == bytes(kernel._data[:])  # type: ignore[index]


def test_enumerators_by_name(kernel: Btf) -> None:
    """Those of named and of anonymous enums; checked by going through all enums."""
    ids = [id for id in range(1, kernel.type_count) if kernel.kind(id) in (6, 19)]
    wanted: dict[str, int] = {}
    for id in ids:
        for name, value in kernel.enumerators(id):
            wanted.setdefault(name, value)
    assert wanted["PIDTYPE_TGID"] == 1
    assert not kernel.name(next(id for id in ids if "BPF_ANY" in dict(kernel.enumerators(id))))
    for name in ["BPF_ANY", "BPF_NOEXIST", "PIDTYPE_TGID", "TASK_COMM_LEN", *list(wanted)[:: len(wanted) // 30]]:
        if name in wanted:
            assert kernel.find_enumerator(name) == wanted[name]
    with pytest.raises(BtfNotFound, match="no enumerator 'task_struct'"):
        kernel.find_enumerator("task_struct")


def test_core_on_task_struct(kernel: Btf) -> None:
    b = Builder()
    u32 = b.int("unsigned int", 4)
    s32 = b.int("int", 4, signed=True)
    u64 = b.int("unsigned long", 8)
    chars = b.array(b.int("char", 1, signed=True), 16)
    task = b.declare_struct("task_struct___mine")
    ptr = b.ptr(task)
    b.define_struct(
        task,
        64,
        [
            ("pid", s32, 0),
            ("tgid", u32, 32),
            ("real_parent", ptr, 64),
            ("comm", chars, 128),
            ("no_such_field", u64, 256),
        ],
    )
    state = b.enum("pid_type", 4, [("PIDTYPE_PID", 3), ("PIDTYPE_MAX", 9)])
    absent = b.struct("no_such_struct", 4, [("a", u32, 0)])
    ref = b.typedef("pid_t", s32)
    list_head = b.declare_struct("list_head")
    b.define_struct(list_head, 16, [("next", b.ptr(list_head), 0), ("prev", b.ptr(list_head), 64)])
    r = Relocator(Btf(b.to_bytes()), kernel)
    (id,) = kernel.find("task_struct", (KIND_STRUCT,))
    offsets = {name: offset for name, _, offset, _ in kernel.members(id)}
    for index, name in enumerate(("pid", "tgid", "real_parent", "comm")):
        found = r.resolve(task, f"0:{index}", FIELD_BYTE_OFFSET)
        assert (found.new, found.poison, found.bad_size) == (
            offsets[name] // 8,
            False,
            name == "tgid" and found.bad_size,
        )
    assert r.resolve(task, "0:3:5", FIELD_BYTE_OFFSET).new == offsets["comm"] // 8 + 5
    assert r.resolve(task, "0:4", FIELD_EXISTS).new == 0
    assert r.resolve(task, "0:4", FIELD_BYTE_OFFSET).poison
    assert r.resolve(task, "0", TYPE_ID_TARGET).new == id
    assert r.resolve(task, "0", TYPE_SIZE).new == kernel.size(id)
    assert r.resolve(absent, "0", TYPE_EXISTS).new == 0
    assert r.resolve(ref, "0", TYPE_SIZE).new == 4
    assert r.resolve(list_head, "0", TYPE_MATCHES).new == 1
    values = dict(kernel.enumerators(kernel.find_id("pid_type", KIND_ENUM)))
    assert r.resolve(state, "1", ENUMVAL_VALUE).new == values["PIDTYPE_MAX"]


def test_every_module_can_be_read(kernel: Btf) -> None:
    modules = sorted(set(os.listdir(os.path.dirname(VMLINUX))) - {"vmlinux"})
    if not modules:
        pytest.skip("no module with BTF is loaded")
    for name in modules[:5]:
        with Btf.open(f"{os.path.dirname(VMLINUX)}/{name}", kernel) as t:
            assert t.type_count > kernel.type_count
            for id in range(kernel.type_count, min(t.type_count, kernel.type_count + 500)):
                t.label(id)


def test_start_path_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import btf.reader, btf.core, btf.ext, btf.source\n"
        "heavy = 'dataclasses typing logging subprocess enum re argparse json inspect ast socket collections "
        "functools contextlib'\n"
        "print(*[name for name in heavy.split() if name in sys.modules])"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-I", "-c", code, root], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
