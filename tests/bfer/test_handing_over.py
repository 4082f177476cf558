"""Programs that hand over by a tail call use as much of the stack as any that they hand over to (hand_over())."""

from __future__ import annotations

from struct import iter_unpack

import pytest

from programs import OBJECT, STEADY, load_object
from pybpf.object.reader import read_object
from pybpf.object.spec import ProgramSpec

FRAME = 10  # the register
TAIL_CALL = (0x85, 0, 12)  # opcode, source register, helper


def lowest(program: ProgramSpec) -> int:
    """How far down a program goes in its frame: by loads, stores, and addresses made from the frame pointer."""
    found, copied = 0, -1
    for opcode, registers, offset, immediate in iter_unpack("<BBhi", program.insns):
        target, source = registers & 15, registers >> 4
        if (opcode & 7 in (2, 3) and target == FRAME) or (opcode & 7 == 1 and source == FRAME):
            found = min(found, offset)
        if opcode == 0x07 and target == copied:
            found = min(found, immediate)
        copied = target if opcode == 0xBF and source == FRAME else -1
    return -found


def hands_over(program: ProgramSpec) -> bool:
    return any(
        (opcode, registers >> 4, immediate) == TAIL_CALL
        for opcode, registers, _, immediate in iter_unpack("<BBhi", program.insns)
    )


@pytest.mark.parametrize("name", [OBJECT, STEADY])
def test_room_for_the_next_program(name: str) -> None:
    programs = [program for program in read_object(load_object(name)).programs.values() if program.section != ".text"]
    first = [program for program in programs if hands_over(program)]
    assert {program.name.partition("__")[0] for program in first} == {"sys_exit", "sys_enter"}
    deepest = max(lowest(program) for program in programs if program not in first)
    assert min(map(lowest, first)) >= deepest > 100
