"""Bit-fields, signs and sizes through CO-RE, of 32- and 64-bit targets and of both byte orders."""

from __future__ import annotations

import pytest
from core_sides import Side, resolve

from btf.core import FIELD_BYTE_OFFSET, FIELD_BYTE_SIZE, FIELD_LSHIFT_U64, FIELD_RSHIFT_U64, FIELD_SIGNED
from btf.errors import CoreError


def test_signedness(local: Side, target: Side) -> None:
    e = local.enum("e", 4, [("A", 0)])
    members = [("i", local.s32, 0), ("e", e, 32)]
    s = local.struct("s", 8, members)
    te = target.enum("e", 4, [("A", -1)], signed=True)
    target.struct("s", 8, [("i", target.typedef("my_t", target.u32), 0), ("e", te, 32)])
    r = resolve(local, target, s, "0:0", FIELD_SIGNED)
    assert (r.old, r.new, r.validate) == (1, 0, True)
    r = resolve(local, target, s, "0:1", FIELD_SIGNED)
    assert (r.old, r.new) == (0, 1)


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize(("offset", "bits"), [(0, 1), (5, 3), (30, 2), (30, 3), (31, 32), (33, 7), (64, 32), (40, 24)])
def test_bitfield_shifts_select_the_field(order: str, offset: int, bits: int) -> None:
    local, target = Side(order), Side(order)
    s = local.struct("s", 4, [("f", local.u32, 0, 8)])
    target.struct("s", 16, [("f", target.u32, offset, bits)])
    values = {
        kind: resolve(local, target, s, "0:0", kind)
        for kind in (FIELD_BYTE_OFFSET, FIELD_BYTE_SIZE, FIELD_LSHIFT_U64, FIELD_RSHIFT_U64)
    }
    assert [values[kind].validate for kind in sorted(values)] == [False, False, False, True]
    start, size = values[FIELD_BYTE_OFFSET].new, values[FIELD_BYTE_SIZE].new
    assert size in (4, 8)
    assert start % size == 0
    # Set just the field's bits, as a compiler of that byte order numbers them.
    every = 128
    field = (1 << bits) - 1
    if order == "little":
        memory = (field << offset).to_bytes(every // 8, "little")
    else:
        memory = (field << (every - offset - bits)).to_bytes(every // 8, "big")
    loaded = int.from_bytes(memory[start : start + size], order)  # type: ignore[arg-type]
    shifted = loaded << values[FIELD_LSHIFT_U64].new & (1 << 64) - 1
    assert shifted >> values[FIELD_RSHIFT_U64].new == field
    assert shifted == field << (64 - bits)


def test_bitfield_too_wide_for_one_load(local: Side, target: Side) -> None:
    s = local.struct("s", 8, [("f", local.u64, 0, 40)])
    target.struct("s", 16, [("f", target.u64, 40, 40)])
    with pytest.raises(CoreError, match="64-bit load"):
        resolve(local, target, s, "0:0", FIELD_BYTE_OFFSET)


def test_bitfield_against_plain_field(local: Side, target: Side) -> None:
    s = local.struct("s", 4, [("f", local.u32, 3, 5)])
    target.struct("s", 8, [("f", target.u32, 32)])
    assert resolve(local, target, s, "0:0", FIELD_LSHIFT_U64).new == 32
    assert resolve(local, target, s, "0:0", FIELD_RSHIFT_U64).new == 32
    assert resolve(local, target, s, "0:0", FIELD_BYTE_OFFSET).new == 4


def test_resizable_integers(local: Side, target: Side) -> None:
    s = local.struct(
        "s", 24, [("u", local.u32, 0), ("i", local.s32, 32), ("p", local.void_ptr, 64), ("m", local.u32, 128)]
    )
    target.struct(
        "s", 32, [("u", target.u64, 0), ("i", target.s64, 64), ("p", target.void_ptr, 128), ("m", target.s64, 192)]
    )
    r = resolve(local, target, s, "0:0", FIELD_BYTE_OFFSET)
    assert (r.old_size, r.new_size, r.bad_size) == (4, 8, False)
    assert resolve(local, target, s, "0:1", FIELD_BYTE_OFFSET).bad_size
    assert resolve(local, target, s, "0:3", FIELD_BYTE_OFFSET).bad_size
    assert not resolve(local, target, s, "0:2", FIELD_BYTE_OFFSET).bad_size


def test_pointers_of_a_32_bit_kernel(local: Side) -> None:
    s = local.struct("s", 16, [("a", local.void_ptr, 0), ("b", local.void_ptr, 64)])
    small = Side(long_size=4)
    small.struct("s", 8, [("a", small.void_ptr, 0), ("b", small.void_ptr, 32)])
    r = resolve(local, small, s, "0:1", FIELD_BYTE_OFFSET)
    assert (r.old, r.new, r.old_size, r.new_size, r.bad_size) == (8, 4, 8, 4, False)
    assert resolve(local, small, s, "0:1", FIELD_BYTE_SIZE).new == 4
    # A local BTF made for 32 bits still means 64-bit pointers: BPF has no others.
    mine = Side(long_size=4)
    s = mine.struct("s", 8, [("a", mine.void_ptr, 0)])
    assert resolve(mine, small, s, "0:0", FIELD_BYTE_SIZE).old == 8
