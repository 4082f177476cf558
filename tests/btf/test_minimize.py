"""Cut-down BTF relocates as the full one does; the command that makes it; where --btf finds a kernel's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from core_corpus import Case
from core_sides import Side
from libbpf import Libbpf, make_object

from btf.builder import Builder
from btf.core import Relocator
from btf.core_spec import FIELD_BYTE_OFFSET, FIELD_EXISTS, TYPE_ID_TARGET
from btf.errors import BtfError, BtfNotFound, CoreError
from btf.minimize import Minimizer
from btf.reader import Btf
from btf.releases import open_for
from btf.table import Table
from programs import OBJECTS, load_object
from pybpf.__main__ import main
from pybpf.object.reader import read_object

Relo = tuple[int, str, int]


def minimized(full: bytes, local: bytes, relos: list[Relo]) -> bytes:
    keep = Minimizer(Table(full))
    keep.add(Btf(local), relos)
    return keep.to_bytes()


def values(local: bytes, target: bytes, relos: list[Relo]) -> list[tuple[object, ...]]:
    relocator = Relocator(Btf(local), Btf(target))
    found = []
    for relo in relos:
        value = relocator.resolve(*relo)
        new = value.new if relo[2] != TYPE_ID_TARGET else value.new > 0
        found.append((value.old, new, value.poison, value.validate, value.old_size, value.new_size, value.bad_size))
    return found


def test_generated_cases_relocate_the_same() -> None:
    compared = smaller = 0
    for seed in range(1500):
        case = Case(seed)
        local = case.builder.to_bytes()
        relos = [relo[1:] for relo in case.relos]
        try:
            wanted = values(local, case.target, relos)
        except BtfError:
            with pytest.raises(BtfError):
                minimized(case.target, local, relos)
            continue
        small = minimized(case.target, local, relos)
        assert values(local, small, relos) == wanted, f"case {seed}: {relos}"
        compared += 1
        smaller += len(small) < len(case.target)
    assert compared > 800
    assert smaller > compared * 0.9


@pytest.mark.native
def test_libbpf_relocates_the_same(tmp_path: Path) -> None:
    try:
        libbpf = Libbpf()
    except OSError as error:
        pytest.skip(f"libbpf is not installed: {error}")
    compared = 0
    try:
        for seed in range(600):
            case = Case(seed)
            local = case.builder.to_bytes()
            relos = [relo[1:] for relo in case.relos]
            if any(kind == TYPE_ID_TARGET for _, _, kind in relos):
                continue
            try:
                small = minimized(case.target, local, relos)
            except BtfError:
                continue
            (tmp_path / "full").write_bytes(case.target)
            (tmp_path / "small").write_bytes(small)
            data = make_object(case.builder, case.code, case.relos)
            assert libbpf.relocate(data, str(tmp_path / "small")) == libbpf.relocate(data, str(tmp_path / "full")), seed
            compared += 1
    finally:
        libbpf.close()
    assert compared > 250


def test_zero_array_does_not_become_flexible(local: Side, target: Side) -> None:
    """One in the middle of a struct has no elements; cut down, it must not become the last member."""
    s = local.struct("s", 8, [("v", local.array(local.u32, 4), 0)])
    target.struct("s", 8, [("v", target.array(target.u32, 0), 0), ("w", target.u64, 0)])
    relos = [(s, "0:0", FIELD_BYTE_OFFSET), (s, "0:0:1", FIELD_EXISTS)]
    small = minimized(target.to_bytes(), local.to_bytes(), relos)
    assert [row[1] for row in values(local.to_bytes(), small, relos)] == [0, 0]


def test_pointer_size_of_a_32_bit_kernel(local: Side) -> None:
    s = local.struct("s", 16, [("a", local.void_ptr, 0), ("b", local.void_ptr, 64)])
    small = Side(long_size=4)
    small.struct("s", 8, [("a", small.void_ptr, 0), ("b", small.void_ptr, 32)])
    cut = minimized(small.to_bytes(), local.to_bytes(), [(s, "0:1", 0)])
    assert Btf(cut).pointer_size == 4
    assert values(local.to_bytes(), cut, [(s, "0:1", 0)]) == values(local.to_bytes(), small.to_bytes(), [(s, "0:1", 0)])


def test_other_byte_order() -> None:
    local, target = Side("big"), Side("big")
    s = local.struct("task", 8, [("pid", local.u32, 0)])
    target.struct("task", 16, [("x", target.u64, 0), ("pid", target.u32, 64)])
    cut = minimized(target.to_bytes(), local.to_bytes(), [(s, "0:0", 0)])
    assert cut[:2] == b"\xeb\x9f"
    assert values(local.to_bytes(), cut, [(s, "0:0", 0)])[0][1] == 8


def test_relocation_that_fails_is_named(local: Side, target: Side) -> None:
    s = local.struct("task", 8, [("pid", local.u32, 0)])
    target.struct("task", 8, [("pid", target.u32, 0)])
    target.struct("task", 16, [("pid", target.u32, 32)])
    with pytest.raises(CoreError, match=r"<byte_off> .* struct task\.pid .*: ambiguous"):
        minimized(target.to_bytes(), local.to_bytes(), [(s, "0:0", 0)])


# ---- the command --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vmlinux() -> str:
    try:
        Btf.kernel().close()
    except BtfNotFound as error:
        pytest.skip(str(error))
    return "/sys/kernel/btf/vmlinux"


def test_programs_of_bfer(vmlinux: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.btf"
    assert main(["btf", "minimize", vmlinux, "-o", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    assert out.stat().st_size < 8192
    spec = read_object(load_object())
    with Btf.open(str(out)) as small, Btf.kernel() as full:
        one, other = Relocator(Btf(spec.btf), small), Relocator(Btf(spec.btf), full)
        for program in spec.programs.values():
            codes = [bytearray(program.insns), bytearray(program.insns)]
            for code, relocator in zip(codes, (one, other)):
                relocator.relocate(code, program.core_relos, program.name, spec.byteorder)
            assert codes[0] == codes[1]


def test_no_larger_than_bpftools(vmlinux: str, tmp_path: Path) -> None:
    bpftool = shutil.which("bpftool") or "/usr/sbin/bpftool"
    if not os.path.exists(bpftool):
        pytest.skip("bpftool is not installed")
    objects = [str(tmp_path / name) for name in OBJECTS]
    for path in objects:
        Path(path).write_bytes(load_object(Path(path).name))
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    assert main(["btf", "minimize", vmlinux, "-o", str(ours), *objects]) == 0
    subprocess.run([bpftool, "gen", "min_core_btf", vmlinux, theirs, *objects], check=True)
    assert ours.stat().st_size <= theirs.stat().st_size
    for words in ([vmlinux, *objects, "-o", str(theirs)], ["-o", str(theirs), vmlinux]):
        assert main(["btf", "minimize", *words]) == 0
        assert theirs.read_bytes() == ours.read_bytes()
    dump = subprocess.run([bpftool, "btf", "dump", "file", ours], capture_output=True, text=True, check=True).stdout
    assert "STRUCT 'task_struct'" in dump


def test_wrong_use(vmlinux: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, odd = str(tmp_path / "out"), tmp_path / "odd.o"
    odd.write_bytes(b"no object")
    for words in ([vmlinux, str(odd)], [str(odd)], [vmlinux, str(tmp_path / "missing.o")], [str(tmp_path)]):
        assert main(["btf", "minimize", *words, "-o", out]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert str(tmp_path) in error
    assert main(["btf", "minimize", vmlinux, "-o", str(tmp_path / "no" / "folder")]) == 1
    assert not os.path.exists(out)
    with pytest.raises(SystemExit) as caught:
        main(["btf", "minimize", "-o", out])
    assert caught.value.code == 2


# ---- where --btf looks ------------------------------------------------------------------------------

RELEASE, MACHINE = "5.10.0-test+1", "armv7l"


@pytest.fixture
def blobs() -> dict[str, bytes]:
    """Different BTF for the wanted kernel, for its name on another machine, and for another kernel."""
    found = {}
    for name in ("right", "machine", "wrong"):
        builder = Builder(sys.byteorder)
        builder.int(name, 4)
        found[name] = builder.to_bytes()
    return found


def taken(path: Path) -> str:
    with open_for(str(path), RELEASE, MACHINE) as btf:
        return btf.name(1)


def test_a_file_as_it_is(tmp_path: Path, blobs: dict[str, bytes]) -> None:
    (tmp_path / "any").write_bytes(blobs["right"])
    assert taken(tmp_path / "any") == "right"
    with pytest.raises(BtfNotFound, match="no such file"):
        taken(tmp_path / "none")
    (tmp_path / "text").write_text("nothing of the kind")
    with pytest.raises(BtfError, match="text"):
        taken(tmp_path / "text")


def test_folders(tmp_path: Path, blobs: dict[str, bytes]) -> None:
    (tmp_path / "5.11.btf").write_bytes(blobs["wrong"])
    with pytest.raises(BtfNotFound, match=r"neither 5\.10\.0-test\+1\.btf nor armv7l/"):
        taken(tmp_path)
    (tmp_path / MACHINE).mkdir()
    (tmp_path / MACHINE / f"{RELEASE}.btf").write_bytes(blobs["machine"])
    assert taken(tmp_path) == "machine"
    (tmp_path / "x").write_bytes(blobs["right"])
    with tarfile.open(tmp_path / f"{RELEASE}.btf.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "x", f"{RELEASE}.btf")
    assert taken(tmp_path) == "right"


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.xz", "tar.gz", "tar.bz2"])
def test_archives(kind: str, tmp_path: Path, blobs: dict[str, bytes]) -> None:
    path = tmp_path / f"all.{kind}"

    def pack(**members: str) -> None:
        files = {name.replace("__", "/"): blobs[blob] for name, blob in members.items()}
        if kind == "zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, data in files.items():
                    archive.writestr(name, data)
            return
        with tarfile.open(path, "w:" + kind.partition(".")[2]) as tar:
            for name, data in files.items():
                (tmp_path / "member").write_bytes(data)
                tar.add(tmp_path / "member", name)

    wanted = f"{RELEASE}.btf"
    pack(**{f"debian__x86_64__{wanted}": "wrong", f"debian__{MACHINE}__{wanted}": "right", "5.11.btf": "wrong"})
    assert taken(path) == "right"
    pack(**{wanted: "right"})
    assert taken(path) == "right"
    pack(**{"5.11.btf": "wrong"})
    with pytest.raises(BtfNotFound, match=r"has no 5\.10\.0-test\+1\.btf"):
        taken(path)
    whole = path.read_bytes()
    for cut in (len(whole) // 2, 3, 0):
        path.write_bytes(whole[:cut])
        with pytest.raises(BtfError, match="all"):
            taken(path)
    path.write_bytes(whole[:20] + bytes(len(whole) - 20))
    with pytest.raises(BtfError, match="all"):
        taken(path)
