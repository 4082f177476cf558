"""The kernel's own relocation and look-up of names: the same programs as with ours, or ours after all."""

from __future__ import annotations

import random
import struct
import sys
from errno import E2BIG, EFAULT, EINVAL, ENOENT, EPERM

import pytest
import rawcode as rc

from btf.builder import Builder
from btf.core import Relocator
from btf.core_spec import ENUMVAL_VALUE, FIELD_KINDS, KIND_LABELS, TYPE_KINDS
from btf.errors import BtfError, BtfNotFound
from btf.format import ENUMS, KIND_ENUM, KIND_FUNC, KIND_INT, KIND_PTR, KIND_STRUCT, KIND_TYPEDEF
from btf.reader import Btf
from programs import load_object
from pybpf import abi, inkernel, kernel
from pybpf.errors import NotSupported
from pybpf.loader import Collection
from pybpf.object.reader import read_object

pytestmark = pytest.mark.native


@pytest.fixture
def target():
    try:
        btf = Btf.kernel()
    except BtfNotFound as error:
        pytest.skip(str(error))
    with btf:
        yield btf


@pytest.fixture
def relocating():
    if not inkernel.relocates():
        pytest.skip("this kernel's BPF_PROG_LOAD does not know CO-RE relocations")


def load_both(spec, names, monkeypatch) -> tuple[dict[str, str], dict[str, str]]:
    """Tags of the programs, which are hashes of their relocated code: by the kernel's relocation, and by ours."""

    def tags() -> dict[str, str]:
        with Collection(spec, names, fold=False) as collection:
            return {name: program.info().tag for name, program in collection.programs.items()}

    with monkeypatch.context() as patch:
        patch.setattr(Btf, "kernel", _not_opened)
        theirs = tags()
    with monkeypatch.context() as patch:
        patch.setattr(inkernel, "relocates", lambda: False)
        return theirs, tags()


def _not_opened(path: str = "") -> Btf:
    raise AssertionError("the kernel's BTF was opened")


def test_programs_of_bfer(relocating, monkeypatch) -> None:
    programs = read_object(load_object()).programs
    names = [name for name, program in programs.items() if program.section != ".text"]
    assert len(names) > 10
    for name in names:
        spec = read_object(load_object(), [name])
        for map in spec.maps.values():
            map.max_entries = map.max_entries or 4096
        theirs, ours = load_both(spec, [name], monkeypatch)
        assert theirs == ours


class Corpus:
    """A program with relocations into types of the running kernel, all behind a branch that is never taken."""

    def __init__(self, target: Btf, seed: int) -> None:
        self.random = random.Random(seed)
        self.target = target
        self.builder = Builder(sys.byteorder)
        self.relos: list[tuple[int, str, int]] = []
        ids = [id for id in self.random.sample(range(1, target.type_count), 1200) if target.name(id)]
        for id in ids:
            if target.kind(id) == KIND_STRUCT:
                self.struct(id)
            elif target.kind(id) in ENUMS and target.vlen(id):
                self.enum(id)
        self.relos.append((self.builder.struct("no_such_struct", 4, []), "0", 8))

    def struct(self, id: int) -> None:
        """Some members in another order, and one that is not there."""
        target, builder = self.target, self.builder
        members = []
        rows = [row for row in target.members(id) if row[0]]
        for name, type, _, _ in self.random.sample(rows, min(len(rows), 4)):
            plain = target.resolve(type)
            if target.kind(plain) == KIND_PTR:
                members.append((name, builder.ptr(0)))
            elif target.kind(plain) == KIND_INT and target.size(plain) <= 8:
                size = target.size(plain)
                members.append((name, builder.int(f"u{8 * size}", size)))
        members.append(("no_such_member", builder.int("u32", 4)))
        rows = [(name, type, 64 * at) for at, (name, type) in enumerate(members)]
        local = builder.struct(target.name(id) + self.random.choice(("", "___mine")), 8 * len(members), rows)
        for at in range(len(members)):
            self.relos.append((local, f"0:{at}", self.random.choice(FIELD_KINDS)))
        self.relos.append((local, "0", self.random.choice(TYPE_KINDS)))

    def enum(self, id: int) -> None:
        rows = self.target.enumerators(id)
        name = self.random.choice(rows)[0]
        values = [(name, 7), ("NO_SUCH_VALUE", 8)]
        local = self.builder.enum(self.target.name(id), 4, values)
        self.relos += [(local, str(at), kind) for at in (0, 1) for kind in (ENUMVAL_VALUE - 1, ENUMVAL_VALUE)]

    def spec(self):
        """The object: those relocations that the rules allow, each in a 64-bit immediate load."""
        number = self.builder.int("int", 4, signed=True)
        function = self.builder.func("main", self.builder.func_proto(number, [("ctx", self.builder.ptr(0))]), 1)
        for access in {access for _, access, _ in self.relos}:
            self.builder.string(access)
        raw = self.builder.to_bytes()
        relocator = Relocator(Btf(raw), self.target)
        body = b""
        kept = []
        for type_id, access, kind in self.relos:
            try:
                old = relocator.resolve(type_id, access, kind).old
            except BtfError:
                continue
            kept.append((2 + len(body) // 8, type_id, access, kind))
            body += struct.pack("=BBhIBBhI", 0x18, 0, 0, old & 0xFFFFFFFF, 0, 0, 0, old >> 32)
        code = rc.Code().add(rc.mov(0, 0), rc.jeqi(0, 0, len(body) // 8), body, rc.EXIT)
        program = code.program("main", "raw_tp/sys_enter")
        program.core_relos = kept
        program.func_info = [(0, function)]
        spec = rc.obj(program)
        spec.btf = raw
        return spec


@pytest.mark.parametrize("seed", range(4))
def test_types_of_the_kernel(seed, relocating, target, monkeypatch) -> None:
    spec = Corpus(target, seed).spec()
    relos = spec.programs["main"].core_relos
    assert len(relos) > 200
    theirs, ours = load_both(spec, ["main"], monkeypatch)
    assert theirs == ours
    kinds = {kind for _, _, _, kind in relos}
    assert kinds == set(range(len(KIND_LABELS)))


def test_ids_by_name(relocating, target) -> None:
    wanted = [("btf_trace_sys_exit", KIND_TYPEDEF), ("task_struct", KIND_STRUCT), ("bpf_prog_put", KIND_FUNC)]
    assert inkernel.find_ids(wanted) == [target.find_id(*one) for one in wanted]
    assert inkernel.find_ids([]) == []
    assert inkernel.find_ids([*wanted, ("no_such_name", KIND_FUNC)]) is None
    assert inkernel.find_ids([("x" * 300, KIND_FUNC)]) is None
    assert inkernel.find_ids([("task_struct", KIND_ENUM)]) is None


def test_without_function_information_ours_is_used(relocating, monkeypatch) -> None:
    spec = read_object(load_object(), ["free"])
    for map in spec.maps.values():
        map.max_entries = map.max_entries or 4096
    with Collection(spec, ["free"], fold=False) as collection:
        tag = collection.programs["free"].info().tag
    spec.programs["free"].func_info = []
    with Collection(spec, ["free"], fold=False) as collection:
        assert collection.programs["free"].info().tag == tag
    # Neither is it taken for granted that the access string stands in the BTF.
    spec = read_object(load_object(), ["free"])
    strings = inkernel.Strings(spec.btf)
    assert strings.offset("no such string") == -1
    at = strings.offset("0:0")
    assert Btf(spec.btf).string(at) == "0:0"


def test_refusal_is_explained_by_ours(relocating) -> None:
    spec = read_object(load_object(), ["free"])
    spec.programs["free"].section = "tp_btf/no_such_tracepoint"
    with pytest.raises(NotSupported, match="no tracepoint 'no_such_tracepoint'") as caught:
        Collection(spec, ["free"])
    assert caught.value.errno == ENOENT
    assert kernel.open_fds() == []


@pytest.mark.parametrize("error", [E2BIG, EINVAL, EPERM])
def test_a_kernel_that_does_not_relocate(error, monkeypatch, target) -> None:
    def old(name: str, command: int, attr: bytearray) -> int | None:
        if command == abi.PROG_LOAD and len(attr) > 136 and any(attr[128:]):
            return -error
        return None

    kernel.set_syscall_hook(old)
    try:
        assert not inkernel.relocates()
        spec = read_object(load_object(), ["free__raw_tp"])
        with Collection(spec, ["free__raw_tp"], fold=False) as collection:
            assert collection.programs["free__raw_tp"].fd > 0
        # Then the file is needed, and its absence told.
        monkeypatch.setattr(Btf, "open", _missing)
        with pytest.raises(BtfNotFound, match=r"/sys/kernel/btf/vmlinux is missing.*--btf FILE"):
            Collection(spec, ["free__raw_tp"], fold=False)
    finally:
        kernel.set_syscall_hook(None)
    assert kernel.open_fds() == []


def _missing(path: str, base: Btf | None = None) -> Btf:
    raise BtfNotFound(f"{path}: no such file")


def test_refused_with_relocations(monkeypatch, relocating) -> None:
    """A kernel that takes relocations but not this program gets it again, relocated."""
    loads = []

    def hook(name: str, command: int, attr: bytearray) -> int | None:
        if command == abi.PROG_LOAD:
            loads.append(len(attr) > 136 and any(attr[128:]))
            if loads[-1]:
                return -EFAULT if attr[16:24] == bytes(8) else -EINVAL
        return None

    kernel.set_syscall_hook(hook)
    try:
        with Collection(read_object(load_object(), ["free__raw_tp"]), ["free__raw_tp"], fold=False) as collection:
            assert collection.programs["free__raw_tp"].fd > 0
    finally:
        kernel.set_syscall_hook(None)
    assert loads[0]  # the question
    assert loads[-1] is False
