"""The interpreter, the standard and the kernel agree on every instruction with edge values, in all 64 bits."""

from __future__ import annotations

import re
import sys

import pytest
from vm_programs import Body, array, make_object, run_kernel, run_vm
from vm_vectors import ALU_CODES, IMMEDIATES, VALUES, all_cases, allowed_immediate

from pybpf.asm.insn import alu32, alu64, ldx, stx
from pybpf.errors import VerifierError
from pybpf.vm import VmError

CASES = all_cases(sys.byteorder)


@pytest.fixture(params=CASES, ids=repr)
def case(request):
    return request.param


def test_vm_follows_the_standard(case) -> None:
    assert run_vm(case.spec) == case.expected


@pytest.mark.native
def test_kernel_agrees(case) -> None:
    try:
        got = run_kernel(case.spec)
    except VerifierError as error:
        if re.search(r"unknown opcode|reserved field|invalid atomic opcode|invalid BPF_", error.details):
            pytest.skip(f"this kernel rejects {case.name}: {error}")
        raise
    assert got == case.expected


def rejected_immediates():
    for name, (code, off) in ALU_CODES.items():
        for bits, build in ((64, alu64), (32, alu32)):
            for imm in IMMEDIATES:
                if not allowed_immediate(name, bits, imm):
                    yield pytest.param(build(code, 0, imm=imm, off=off), id=f"{name}{bits}-{imm}")


@pytest.mark.parametrize("insn", list(rejected_immediates()))
def test_constant_without_meaning_is_refused(insn) -> None:
    spec = _one(insn)
    with pytest.raises(VmError, match=r"shift by|division by the constant 0"):
        run_vm(spec)


@pytest.mark.native
@pytest.mark.parametrize("insn", list(rejected_immediates())[::7])
def test_kernel_refuses_it_too(insn) -> None:
    with pytest.raises(VerifierError, match=r"invalid shift|div by zero"):
        run_kernel(_one(insn))


def _one(insn):
    body = Body().data(6, "out").add(ldx(8, 0, 6, 0), insn, stx(8, 6, 0, 0)).end(0)
    return make_object([body], [array("out", 8)])


@pytest.mark.parametrize("case", all_cases("big" if sys.byteorder == "little" else "little"), ids=repr)
def test_other_byte_order(case) -> None:
    """The same vectors in an object of the order that this machine does not have."""
    other = "big" if sys.byteorder == "little" else "little"
    spec = case.spec
    spec.byteorder = other
    for program in spec.programs.values():
        program.insns = _reencode(program.insns, other)
    spec.maps["in"].contents = bytearray(b"".join(value.to_bytes(8, other) for value in VALUES))
    assert run_vm(spec) == case.expected


def _reencode(raw: bytes, byteorder: str) -> bytes:
    from pybpf.asm.insn import decode, encode

    return encode(decode(raw), byteorder)
