"""The object reader on damaged and hand-made files: ObjectError and nothing else."""

from __future__ import annotations

import random
import subprocess
import sys
from struct import pack_into, unpack_from

import pytest
from hypothesis import given
from hypothesis import strategies as st
from object_samples import CodeUnit, Core, Loc

from btf.builder import Builder
from pybpf.errors import ObjectError
from pybpf.object import elf
from pybpf.object.image import assemble
from pybpf.object.reader import read_object
from pybpf.object.spec import RELOC_CALL, RELOC_DATA, RELOC_FUNC, RELOC_MAP, Reloc
from pybpf.object.writer import ObjectImage, write_object

EXIT = bytes((0x95, 0, 0, 0, 0, 0, 0, 0))
WIDE = bytes((0x18,)) + bytes(15)
CALL = bytes((0x85, 0x10)) + bytes(6)


def small_object(byteorder: str = "little") -> bytes:
    """An object with everything the reader looks at, in about two kilobytes."""
    builder = Builder(byteorder)
    int_ = builder.int("int", 4, signed=True)
    proto = builder.func_proto(int_, [])
    members = [("type", builder.ptr(builder.array(int_, 2)), 0), ("value", builder.ptr(builder.typedef("t", int_)), 64)]
    table = builder.var("table", builder.struct("", 16, members), 1)
    x, y = builder.var("x", int_, 1), builder.var("y", int_, 1)
    main = CodeUnit("main", "raw_tp/a", WIDE * 3 + CALL + EXIT, 0)
    main.relocs = [
        Reloc(0, RELOC_MAP, "table"),
        Reloc(2, RELOC_DATA, ".rodata", 4),
        Reloc(4, RELOC_FUNC, "sub"),
        Reloc(6, RELOC_CALL, "sub"),
    ]
    main.lines = [(0, Loc("a.py", 1, 1, "x")), (7, Loc("a.py", 2, 3, "yy"))]
    main.cores = [(7, Core(0, int_, "0"))]
    sub = CodeUnit("sub", ".text", EXIT, 0)
    sub.lines = [(0, Loc("a.py", 9, 1, "sub"))]
    funcs = {"main": builder.func("main", proto, 1), "sub": builder.func("sub", proto, 0)}
    data = {".rodata": (bytes(8), [("x", x, 4, 4)]), ".bss": (bytes(4), [("y", y, 0, 4)])}
    return assemble([main, sub], funcs, [("table", table, 16)], data, "GPL", builder, byteorder)


def attempt(data: bytes) -> bool:
    """Whether the reader takes ``data``; anything but ObjectError is a failure of the test."""
    try:
        _ = read_object(data).maps
    except ObjectError as error:
        message = str(error)
    else:
        return True
    assert message
    assert "\n" not in message
    return False


@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_mutations(byteorder: str) -> None:
    good = small_object(byteorder)
    assert attempt(good)
    chance = random.Random(247)
    interesting = (0, 1, 2, 3, 4, 7, 8, 0x0F, 0x10, 0x18, 0x7F, 0x80, 0x85, 0xFE, 0xFF)
    taken = 0
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
            data[chance.randrange(len(data))] = (
                chance.choice(interesting) if chance.random() < 0.7 else chance.randrange(256)
            )
        taken += attempt(bytes(data))
    # Some damage goes unseen (padding, code); if all or none did, the test would test nothing.
    assert 0 < taken < 3000


def test_every_truncation_is_refused() -> None:
    good = small_object()
    for size in range(0, len(good), 3):
        assert not attempt(good[:size])


@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    assert not attempt(data)
    assert not attempt(b"\x7fELF\x02\x01\x01" + bytes(9) + data)


@given(st.data())
def test_every_header_field_may_be_anything(data: st.DataObject) -> None:
    """Numbers of all widths at aligned places, which single bytes hardly make."""
    good = bytearray(small_object())
    width, code = data.draw(st.sampled_from(((2, "<H"), (4, "<I"), (8, "<Q"))))
    at = data.draw(st.integers(0, len(good) // width - 1)) * width
    value = data.draw(st.one_of(st.integers(0, (1 << 8 * width) - 1), st.integers(0, 300)))
    pack_into(code, good, at, value)
    attempt(bytes(good))


def section_header(data: bytes, name: str) -> int:
    """The position of the header of section ``name``."""
    index = next(section.index for section in elf.Elf(data).sections if section.name == name)
    return int(unpack_from("<Q", data, 40)[0]) + index * elf.SHDR_SIZE


def test_enormous_bss_is_refused() -> None:
    data = bytearray(small_object())
    pack_into("<Q", data, section_header(bytes(data), ".bss") + 32, 1 << 40)
    with pytest.raises(ObjectError, match=r"'\.bss' is too large"):
        read_object(bytes(data))


def test_unknown_relocation_type_is_refused() -> None:
    data = bytearray(small_object())
    (at,) = unpack_from("<Q", data, section_header(bytes(data), ".relraw_tp/a") + 24)
    pack_into("<I", data, at + 8, 5)
    with pytest.raises(ObjectError, match=r"'main', instruction 0: relocation type 5 is not supported"):
        read_object(bytes(data))


def test_relocation_outside_any_function_is_refused() -> None:
    data = bytearray(small_object())
    (at,) = unpack_from("<Q", data, section_header(bytes(data), ".relraw_tp/a") + 24)
    pack_into("<Q", data, at, 1 << 33)
    with pytest.raises(ObjectError, match="outside any function"):
        read_object(bytes(data))


def test_local_call_to_the_middle_of_a_function_is_refused() -> None:
    image = ObjectImage()
    # A call of the instruction after it, which no relocation explains.
    image.units = [CodeUnit("f", "raw_tp/x", CALL + EXIT, 0)]
    with pytest.raises(ObjectError, match="not the start of a function"):
        read_object(write_object(image))


def test_recursive_local_call_is_found() -> None:
    image = ObjectImage()
    image.units = [CodeUnit("f", ".text", CALL[:4] + (-1).to_bytes(4, "little", signed=True) + EXIT, 0)]
    relocs = read_object(write_object(image)).programs["f"].relocs
    assert [(r.index, r.kind, r.target) for r in relocs] == [(0, RELOC_CALL, "f")]


def test_section_name_with_newline_keeps_the_message_one_line() -> None:
    image = ObjectImage()
    image.units = [CodeUnit("f\ng", "raw_tp/x", CALL + EXIT, 0)]
    assert not attempt(write_object(image))


def test_reader_is_light_to_import() -> None:
    """It is on the way of every start on a small device."""
    code = "import sys; old = set(sys.modules); import pybpf.object.reader; print(*sorted(set(sys.modules) - old))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    heavy = (
        "dataclasses typing logging subprocess asyncio enum re argparse json inspect ast socket collections functools"
    )
    assert not {*heavy.split(), "contextlib", "pybpf.lang", "pybpf.asm"} & {*done.stdout.split()}
