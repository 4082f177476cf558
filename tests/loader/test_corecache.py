"""Answers kept from one load to the next: used when they fit, and only from a place that nobody else can write."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from btf.builder import Builder
from btf.core_patch import Resolution
from btf.errors import BtfNotFound
from btf.reader import Btf
from programs import load_object
from pybpf import corecache, inkernel, target
from pybpf.corecache import Cache
from pybpf.loader import Collection
from pybpf.object.reader import read_object
from pybpf.target import Target

LOCAL = b"some object's BTF"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """Where the cache is; it does not exist yet."""
    path = tmp_path / "cache"
    vmlinux = tmp_path / "vmlinux"
    vmlinux.write_bytes(bytes(1000))
    monkeypatch.setenv("BFER_CACHE", str(path))
    monkeypatch.setattr(corecache, "VMLINUX", str(vmlinux))
    monkeypatch.setattr(corecache, "build_id", lambda: "48dc540c8b76393804ca8088dbfa7d42911a9444")
    return path


def fill() -> None:
    cache = Cache.open(LOCAL)
    assert cache is not None
    cache.add_id("btf_trace_sys_exit", 8, 11322)
    cache.add_id("two\nlines", 8, 1)
    value = Resolution(8, 2336, True)
    value.old_size, value.new_size = 4, 8
    cache.add(7, "0:1", 0, value)
    cache.add(7, "0:2", 0, Resolution((1 << 64) - 1, 0, False, poison=True))
    cache.store()


def stored() -> bool:
    """Whether what fill() has put there comes back; nothing else ever may."""
    cache = Cache.open(LOCAL)
    assert cache is not None
    if not cache.ids:
        assert not cache.values
        return False
    assert cache.ids == {("btf_trace_sys_exit", 8): 11322}
    value, poison = cache.values[7, "0:1", 0], cache.values[7, "0:2", 0]
    assert (value.old, value.new, value.old_size, value.new_size) == (8, 2336, 4, 8)
    assert (value.validate, value.poison, value.bad_size) == (True, False, False)
    assert (poison.old, poison.validate, poison.poison) == ((1 << 64) - 1, False, True)
    return True


def the_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def test_round_trip(folder: Path) -> None:
    assert not stored()
    assert not folder.exists()  # asking leaves nothing
    fill()
    assert stored()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert the_file(folder).stat().st_mode & 0o777 == 0o600
    before = the_file(folder).stat().st_mtime_ns
    cache = Cache.open(LOCAL)
    assert cache is not None
    cache.store()  # nothing is new
    assert the_file(folder).stat().st_mtime_ns == before


def test_another_kernel_or_object(folder: Path, monkeypatch) -> None:
    fill()
    other = Cache.open(LOCAL + b"!")
    assert other is not None
    assert not other.ids
    with monkeypatch.context() as patch:
        patch.setattr(corecache, "build_id", lambda: "48dc540c8b76393804ca8088dbfa7d42911a9445")
        assert not stored()
    with monkeypatch.context() as patch:
        patch.setattr(corecache, "build_id", lambda: "")
        assert Cache.open(LOCAL) is None
    assert stored()
    Path(corecache.VMLINUX).write_bytes(bytes(1001))
    assert not stored()


def test_damage_is_noticed(folder: Path) -> None:
    fill()
    whole = the_file(folder).read_bytes()
    for at in range(len(whole)):
        the_file(folder).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert not stored()
        the_file(folder).write_bytes(whole[:at])
        assert not stored()
    the_file(folder).write_bytes(b"")
    assert not stored()
    the_file(folder).write_bytes(os.urandom(4000))
    assert not stored()
    fill()  # and is mended
    assert stored()


def replace_by_link(file: Path) -> None:
    file.rename(file.parent.parent / "elsewhere")
    file.symlink_to(file.parent.parent / "elsewhere")


def replace_by_fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda folder, file: os.chmod(folder, 0o755),
        lambda folder, file: os.chmod(folder, 0o770),
        lambda folder, file: os.chown(folder, 1000, 1000),
        lambda folder, file: (folder.rename(folder.parent / "real"), folder.symlink_to(folder.parent / "real")),
        lambda folder, file: os.chmod(file, 0o620),
        lambda folder, file: os.chmod(file, 0o602),
        lambda folder, file: os.chown(file, 1000, 0),
        lambda folder, file: replace_by_link(file),
        lambda folder, file: replace_by_fifo(file),
        lambda folder, file: (file.unlink(), file.mkdir()),
        lambda folder, file: os.truncate(file, 2 << 20),
    ],
)
def test_what_others_could_write_is_not_used(tamper, folder: Path) -> None:
    if os.getuid():
        pytest.skip("needs root to give files away")
    fill()
    assert stored()
    tamper(folder, the_file(folder))
    assert not stored()


def test_places_that_cannot_be_written(folder: Path, monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BFER_CACHE", str(tmp_path / "file" / "cache"))
    fill()
    assert not stored()
    monkeypatch.setenv("BFER_CACHE", str(tmp_path / "no" / "such" / "folder"))
    fill()
    assert not stored()
    assert not (tmp_path / "no").exists()


def test_where_the_cache_is(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BFER_CACHE", "")
    assert corecache.folder() == ""
    assert Cache.open(LOCAL) is None
    monkeypatch.delenv("BFER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert corecache.folder() == str(tmp_path / "pybpf")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "missing"))
    assert corecache.folder() == ""
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert corecache.folder() == ""  # no ~/.cache: none is made
    (tmp_path / ".cache").mkdir()
    assert corecache.folder() == str(tmp_path / ".cache" / "pybpf")


def test_old_files_go(folder: Path, monkeypatch) -> None:
    for number in range(25):
        cache = Cache.open(LOCAL + bytes([number]))
        assert cache is not None
        cache.add_id("x", 8, number)
        cache.store()
        file = max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(file, (number, number))
    assert len(list(folder.iterdir())) == 16
    newest = Cache.open(LOCAL + bytes([24]))
    assert newest is not None
    assert newest.ids == {("x", 8): 24}


def test_build_id(tmp_path: Path) -> None:
    def note(name: bytes, type: int, body: bytes) -> bytes:
        head = b"".join(number.to_bytes(4, sys.byteorder) for number in (len(name), len(body), type))
        return head + name.ljust(-(-len(name) // 4) * 4, b"\0") + body.ljust(-(-len(body) // 4) * 4, b"\0")

    file = tmp_path / "notes"
    file.write_bytes(note(b"Linux\0", 3, b"12345") + note(b"GNU\0", 1, bytes(16)) + note(b"GNU\0", 3, b"\xab\xcd\xef"))
    assert corecache.build_id(str(file)) == "abcdef"
    file.write_bytes(note(b"Linux\0", 3, b"12345"))
    assert corecache.build_id(str(file)) == ""
    file.write_bytes(b"\xff" * 100)
    assert corecache.build_id(str(file)) == ""
    assert corecache.build_id(str(tmp_path / "none")) == ""


@pytest.mark.native
def test_second_load_does_without_the_kernels_btf(tmp_path: Path, monkeypatch) -> None:
    if not corecache.build_id():
        pytest.skip("this kernel shows no build id in /sys/kernel/notes")
    monkeypatch.setenv("BFER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(inkernel, "relocates", lambda: False)
    names = ["free", "sys_exit", "fork"]
    spec = read_object(load_object(), names)
    for map in spec.maps.values():
        map.max_entries = map.max_entries or 4096

    def tags() -> dict[str, str]:
        with Collection(spec, names, fold=False) as collection:
            return {name: program.info().tag for name, program in collection.programs.items()}

    first = tags()
    monkeypatch.setattr(Btf, "open", _not_opened)
    assert tags() == first
    monkeypatch.setenv("BFER_CACHE", "")
    with pytest.raises(BtfNotFound):
        tags()


def _not_opened(path: str, base: Btf | None = None) -> Btf:
    raise BtfNotFound(f"{path}: no such file")


# ---- modules --------------------------------------------------------------------------------


def _split(base: Btf, names: list[str]) -> bytes:
    """A module's BTF with a struct of 12 bytes for each name; names that the base has are not repeated."""
    types, strings = [], bytearray()
    for name in names:
        known = base.name_offsets(name)
        if known:
            offset = known[0]
        else:
            offset = base.string_size + len(strings)
            strings += name.encode() + b"\0"
        member = base.name_offsets("x")[0]
        types += [offset, 4 << 24 | 1, 12, member, 1, 64]
    body = b"".join(word.to_bytes(4, sys.byteorder) for word in types)
    head = (0xEB9F).to_bytes(2, sys.byteorder) + bytes([1, 0])
    sizes = (24, 0, len(body), len(body), len(strings))
    return head + b"".join(size.to_bytes(4, sys.byteorder) for size in sizes) + body + bytes(strings)


def test_types_of_modules(folder: Path, tmp_path: Path, monkeypatch) -> None:
    kernel = Builder(sys.byteorder)
    number = kernel.int("int", 4, signed=True)
    kernel.struct("in_kernel", 8, [("x", number, 32), ("shared_name", number, 32)])
    sysfs = tmp_path / "btf"
    sysfs.mkdir()
    (sysfs / "vmlinux").write_bytes(kernel.to_bytes())
    base = Btf(kernel.to_bytes())
    (sysfs / "first").write_bytes(_split(base, ["unrelated"]))
    (sysfs / "second").write_bytes(_split(base, ["in_module", "shared_name", "in_kernel"]))
    (sysfs / "third").write_bytes(_split(base, ["flavoured___2"]))
    monkeypatch.setattr(target, "MODULES", str(sysfs))
    monkeypatch.setattr(Btf, "kernel", lambda: Btf.open(str(sysfs / "vmlinux")))

    local = Builder(sys.byteorder)
    number = local.int("int", 4, signed=True)
    ids = {
        name: local.struct(name, 4, [("x", number, 0)])
        for name in ("in_kernel", "in_module", "shared_name", "flavoured", "nowhere")
    }
    seen = Target(local.to_bytes())
    try:
        assert seen.resolve(ids["in_kernel"], "0:0", 0).new == 4
        assert not seen._modules
        assert seen.resolve(ids["in_module"], "0:0", 0).new == 8
        assert set(seen._modules) == {"second"}  # no other has the name
        assert seen.resolve(ids["shared_name"], "0:0", 0).new == 8
        assert seen.resolve(ids["flavoured"], "0:0", 0).new == 8
        assert set(seen._modules) == {"second", "third"}
        assert seen.resolve(ids["nowhere"], "0:0", 0).poison
    finally:
        seen.close()
    # Modules come and go: what depends on them is not kept.
    assert not folder.exists()
    seen = Target(local.to_bytes())
    try:
        assert seen.resolve(ids["in_kernel"], "0:0", 0).new == 4
    finally:
        seen.close()
    assert folder.exists()
