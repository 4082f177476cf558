"""CO-RE, function and line information through the loader, on the running kernel."""

from __future__ import annotations

import os
import sys

import pytest
import rawcode as rc

from btf.builder import Builder
from btf.errors import BtfNotFound, CoreError
from btf.reader import Btf
from pybpf import kernel
from pybpf.errors import ObjectError, VerifierError
from pybpf.loader import Collection

pytestmark = pytest.mark.native

GET_CURRENT_TASK_BTF = 158  # since 5.11
FIELD_BYTE_OFFSET = 0


class Described:
    """An object's BTF with a task_struct of our own, two functions and source lines."""

    def __init__(self, field: str = "tgid") -> None:
        builder = Builder(sys.byteorder)
        number = builder.int("int", 4, signed=True)
        # The offset is not the kernel's on purpose.
        self.task = builder.struct("task_struct", 128, [(field, number, 64 * 8)])
        proto = builder.func_proto(number, [("ctx", builder.ptr(0))])
        self.main = builder.func("main", proto, 1)
        self.sub = builder.func("sub", proto, 0)
        self.file = builder.string("dir/prog.py")
        self.text = builder.string("return task.tgid")
        self.raw = builder.to_bytes()


def tgid_object(described: Described, helper: int = GET_CURRENT_TASK_BTF):
    """main calls sub, which returns a field of the current task at a relocated offset."""
    main = rc.Code().add(rc.mov(6, 0)).sub("sub").add(rc.EXIT).program("main", "raw_tp/sys_exit")
    sub = rc.Code().add(rc.call(helper), rc.load(4, 0, 0, 64), rc.EXIT).program("sub", ".text")
    sub.core_relos = [(1, described.task, "0:0", FIELD_BYTE_OFFSET)]
    main.func_info = [(0, described.main)]
    sub.func_info = [(0, described.sub)]
    main.line_info = [(0, described.file, described.text, 10 << 10 | 5), (1, described.file, described.text, 11 << 10)]
    sub.line_info = [(0, described.file, described.text, 20 << 10), (1, described.file, described.text, 21 << 10)]
    spec = rc.obj(main, sub)
    spec.btf = described.raw
    return spec


@pytest.fixture(scope="module", autouse=True)
def needed():
    try:
        Btf.kernel().close()
    except BtfNotFound as error:
        pytest.skip(str(error))


def test_relocated_field_with_function_and_line_information():
    with Collection(tgid_object(Described()), ["main"]) as collection:
        assert collection.btf_error is None
        program = collection.programs["main"]
        assert program.test_run(ctx=bytes(16)).retval == os.getpid()
        assert program.info().btf_id > 0


def test_specification_is_left_alone():
    spec = tgid_object(Described())
    before = [bytes(program.insns) for program in spec.programs.values()]
    with Btf.kernel() as btf:
        for _ in range(2):
            with Collection(spec, ["main"], btf=btf) as collection:
                assert collection.programs["main"].test_run(ctx=bytes(16)).retval == os.getpid()
        # A caller's BTF is not closed.
        assert btf.find("task_struct", (4,))
    assert [bytes(program.insns) for program in spec.programs.values()] == before


def test_missing_field_is_named():
    with pytest.raises(VerifierError) as caught:
        Collection(tgid_object(Described("no_such_field")), ["main"])
    message = str(caught.value)
    assert "no_such_field" in message
    assert "this kernel does not have" in message
    assert "dir/prog.py:21" in message
    assert "\n" not in message
    assert kernel.open_fds() == []


def test_rejection_is_shown_at_its_source_line():
    spec = tgid_object(Described())
    # Reading r3, which nothing has set, in the line of slot 1.
    spec.programs["sub"].insns = rc.mov(0, 0) + rc.movr(0, 3) + rc.EXIT
    spec.programs["sub"].core_relos = []
    with pytest.raises(VerifierError, match=r"R3 !read_ok \(dir/prog\.py:21; "):
        Collection(spec, ["main"])


def test_broken_btf_is_done_without():
    spec = tgid_object(Described())
    for program in spec.programs.values():
        program.core_relos = []
        program.insns = program.insns.replace(rc.load(4, 0, 0, 64), rc.mov(0, 1))
    spec.btf = b"\x9f\xeb\x01\x00 broken"
    with Collection(spec, ["main"]) as collection:
        assert collection.btf_error is not None
        assert collection.programs["main"].test_run(ctx=bytes(16)).retval == 1


def test_relocations_without_btf():
    spec = tgid_object(Described())
    spec.btf = b""
    with pytest.raises(ObjectError, match=r"no \.BTF section"):
        Collection(spec, ["main"])


def test_relocation_that_cannot_be_applied():
    spec = tgid_object(Described())
    spec.programs["sub"].core_relos = [(0, 1, "0:0", FIELD_BYTE_OFFSET)]
    with pytest.raises(CoreError, match="program sub"):
        Collection(spec, ["main"])
    assert kernel.open_fds() == []
