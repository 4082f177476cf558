"""CO-RE by hand-made pairs of local and target types: every kind, and every rule that must fail."""

from __future__ import annotations

import struct

import pytest

from btf.builder import Builder
from btf.core import (
    ENUMVAL_EXISTS,
    ENUMVAL_VALUE,
    FIELD_BYTE_OFFSET,
    FIELD_BYTE_SIZE,
    FIELD_EXISTS,
    FIELD_LSHIFT_U64,
    FIELD_RSHIFT_U64,
    FIELD_SIGNED,
    POISON_HELPER,
    TYPE_EXISTS,
    TYPE_ID_LOCAL,
    TYPE_ID_TARGET,
    TYPE_MATCHES,
    TYPE_SIZE,
    Relocator,
    Resolution,
    patch,
)
from btf.core_spec import parse_access
from btf.errors import BtfError, CoreError
from btf.format import essential_name
from btf.reader import Btf


class Side(Builder):
    """A builder with the types every test needs."""

    def __init__(self, byteorder: str = "little", long_size: int = 8) -> None:
        super().__init__(byteorder)
        self.long = self.int("unsigned long", long_size)
        self.u8 = self.int("unsigned char", 1)
        self.u16 = self.int("unsigned short", 2)
        self.u32 = self.int("unsigned int", 4)
        self.u64 = self.int("unsigned long long", 8)
        self.s32 = self.int("int", 4, signed=True)
        self.s64 = self.int("long long", 8, signed=True)
        self.void_ptr = self.ptr(0)


def resolve(local: Builder, target: Builder, id: int, access: str, kind: int) -> Resolution:
    return Relocator(Btf(local.to_bytes()), Btf(target.to_bytes())).resolve(id, access, kind)


@pytest.fixture
def local() -> Side:
    return Side()


@pytest.fixture
def target() -> Side:
    return Side()


# ---- fields ---------------------------------------------------------------------------


def test_moved_field(local: Side, target: Side) -> None:
    s = local.struct("task", 8, [("pid", local.u32, 0), ("tgid", local.u32, 32)])
    target.struct("task", 24, [("flags", target.u64, 0), ("tgid", target.u32, 64), ("pid", target.u32, 96)])
    r = resolve(local, target, s, "0:0", FIELD_BYTE_OFFSET)
    assert (r.old, r.new, r.poison, r.validate) == (0, 12, False, True)
    assert (r.old_size, r.new_size, r.bad_size) == (4, 4, False)
    assert str(r.target) == "<byte_off> [9] struct task.pid (0:2 @ offset 12)"
    assert resolve(local, target, s, "0:1", FIELD_BYTE_OFFSET).new == 8
    assert resolve(local, target, s, "0:1", FIELD_EXISTS).new == 1
    assert resolve(local, target, s, "0:1", FIELD_BYTE_SIZE).new == 4
    # An index in front steps over whole structs, of the size each side has.
    assert resolve(local, target, s, "2:0", FIELD_BYTE_OFFSET).new == 2 * 24 + 12
    assert resolve(local, target, s, "2:0", FIELD_BYTE_OFFSET).old == 16


def test_missing_field_and_missing_type(local: Side, target: Side) -> None:
    s = local.struct("task", 8, [("gone", local.u32, 0)])
    n = local.struct("nowhere", 8, [("x", local.u32, 0)])
    target.struct("task", 8, [("here", target.u32, 0)])
    for id in (s, n):
        assert resolve(local, target, id, "0:0", FIELD_EXISTS).new == 0
        assert not resolve(local, target, id, "0:0", FIELD_EXISTS).poison
        for kind in (FIELD_BYTE_OFFSET, FIELD_BYTE_SIZE, FIELD_SIGNED, FIELD_LSHIFT_U64, FIELD_RSHIFT_U64):
            assert resolve(local, target, id, "0:0", kind).poison
    assert resolve(local, target, n, "0", TYPE_EXISTS).new == 0
    assert resolve(local, target, n, "0", TYPE_SIZE).new == 0
    assert resolve(local, target, n, "0", TYPE_ID_TARGET).new == 0
    assert resolve(local, target, n, "0", TYPE_MATCHES).new == 0
    assert not any(resolve(local, target, n, "0", kind).poison for kind in (TYPE_EXISTS, TYPE_SIZE, TYPE_ID_TARGET))


@pytest.mark.parametrize(
    ("name", "essence"),
    [
        ("task_struct", "task_struct"),
        ("task___old", "task"),
        ("task___a___b", "task___a"),
        ("a___b", "a"),
        ("foo__bar", "foo__bar"),
        ("foo____bar", "foo____bar"),
        ("___bar", "___bar"),
        ("foo___", "foo___"),
        ("foo____", "foo____"),
        ("x___y____z", "x"),
        ("", ""),
        ("___", "___"),
        ("a____b___c", "a____b"),
    ],
)
def test_essential_name(name: str, essence: str) -> None:
    assert essential_name(name) == essence


def test_flavours_on_both_sides(local: Side, target: Side) -> None:
    s = local.struct("task___v1", 4, [("pid", local.u32, 0)])
    plain = target.struct("task", 8, [("pid", target.u32, 32)])
    assert resolve(local, target, s, "0:0", FIELD_BYTE_OFFSET).new == 4
    target.struct("task___new", 8, [("pid", target.u32, 32)])
    target.struct("task____x", 8, [("pid", target.u32, 0)])  # not a flavour
    target.struct("tasks", 8, [("pid", target.u32, 0)])
    assert resolve(local, target, s, "0:0", FIELD_BYTE_OFFSET).new == 4
    with pytest.raises(CoreError, match="ambiguous"):
        resolve(local, target, s, "0", TYPE_ID_TARGET)
    only = Side()
    assert only.struct("task", 8, [("pid", only.u32, 32)]) == plain
    assert resolve(local, only, s, "0", TYPE_ID_TARGET).new == plain


def test_candidates_must_agree(local: Side, target: Side) -> None:
    s = local.struct("task", 8, [("pid", local.u32, 0), ("extra", local.u32, 32)])
    target.struct("task", 8, [("pid", target.u32, 0)])
    target.struct("task", 16, [("pid", target.u32, 32), ("extra", target.u32, 64)])
    with pytest.raises(CoreError, match=r"ambiguous.*offset 0.*offset 4"):
        resolve(local, target, s, "0:0", FIELD_BYTE_OFFSET)
    relocator = Relocator(Btf(local.to_bytes()), Btf(target.to_bytes()))
    # A field that one candidate alone has decides for that candidate, from then on too.
    assert relocator.resolve(s, "0:1", FIELD_BYTE_OFFSET).new == 8
    assert relocator.resolve(s, "0:0", FIELD_BYTE_OFFSET).new == 4


def test_candidates_stay_when_none_matches(local: Side, target: Side) -> None:
    s = local.struct("task", 8, [("pid", local.u32, 0), ("none", local.u32, 32)])
    target.struct("task", 8, [("pid", target.u32, 32)])
    relocator = Relocator(Btf(local.to_bytes()), Btf(target.to_bytes()))
    assert relocator.resolve(s, "0:1", FIELD_EXISTS).new == 0
    assert relocator.resolve(s, "0:0", FIELD_BYTE_OFFSET).new == 4


def test_anonymous_members(local: Side, target: Side) -> None:
    s = local.struct("file", 8, [("f_path", local.u64, 0)])
    inner = target.struct("", 16, [("f_pad", target.u64, 0), ("f_path", target.u64, 64)])
    union = target.union("", 16, [("f_other", target.u64, 0), ("", inner, 0)])
    target.struct("file", 24, [("f_mode", target.u64, 0), ("", union, 64)])
    r = resolve(local, target, s, "0:0", FIELD_BYTE_OFFSET)
    assert r.new == 16
    assert r.target is not None
    assert r.target.raw == [0, 1, 1, 1]
    # And the other way round: anonymous levels of the local type do not count.
    other, plain = Side(), Side()
    u = other.union("", 8, [("a", other.u64, 0), ("f_path", other.u64, 0)])
    s = other.struct("file", 16, [("x", other.u64, 0), ("", u, 64)])
    plain.struct("file", 8, [("f_path", plain.u64, 0)])
    r = resolve(other, plain, s, "0:1:1", FIELD_BYTE_OFFSET)
    assert (r.old, r.new) == (8, 0)


def test_nested_path_and_struct_against_union(local: Side, target: Side) -> None:
    inner = local.struct("inner", 8, [("a", local.u32, 0), ("b", local.u32, 32)])
    s = local.struct("outer", 8, [("in", inner, 0)])
    tinner = target.typedef(
        "inner_t", target.const(target.union("whatever", 8, [("a", target.u32, 0), ("b", target.u32, 0)]))
    )
    target.struct("outer", 16, [("pad", target.u64, 0), ("in", tinner, 64)])
    r = resolve(local, target, s, "0:0:1", FIELD_BYTE_OFFSET)
    assert (r.old, r.new) == (4, 8)
    # The root has to be of the very same kind.
    u = local.union("outer", 8, [("in", inner, 0)])
    assert resolve(local, target, u, "0:0:1", FIELD_EXISTS).new == 0


def test_arrays(local: Side, target: Side) -> None:
    s = local.struct("a", 16, [("v", local.array(local.u32, 4), 0)])
    target.struct("a", 24, [("pad", target.u64, 0), ("v", target.array(target.u32, 3), 64)])
    assert resolve(local, target, s, "0:0:2", FIELD_BYTE_OFFSET).new == 8 + 8
    assert resolve(local, target, s, "0:0:3", FIELD_EXISTS).new == 0
    assert resolve(local, target, s, "0:0:3", FIELD_BYTE_OFFSET).poison
    assert resolve(local, target, s, "0:0:1", FIELD_BYTE_SIZE).new == 4
    assert resolve(local, target, s, "0:0", FIELD_BYTE_SIZE).new == 12
    # A load moves one element, however large the array.
    r = resolve(local, target, s, "0:0", FIELD_BYTE_OFFSET)
    assert (r.old_size, r.new_size, r.bad_size) == (4, 4, False)
    with pytest.raises(CoreError, match="past the end"):
        resolve(local, target, s, "0:0:4", FIELD_EXISTS)
    for kind in (FIELD_SIGNED, FIELD_LSHIFT_U64, FIELD_RSHIFT_U64):
        with pytest.raises(CoreError, match="array"):
            resolve(local, target, s, "0:0:1", kind)


def test_array_of_structs(local: Side, target: Side) -> None:
    e = local.struct("upid", 8, [("nr", local.u32, 0), ("ns", local.u32, 32)])
    s = local.struct("pid", 8, [("numbers", local.array(e, 1), 0)])
    te = target.struct("upid", 16, [("ns", target.u64, 0), ("nr", target.u32, 64)])
    target.struct("pid", 40, [("pad", target.u64, 0), ("numbers", target.array(te, 2), 64)])
    assert resolve(local, target, s, "0:0:0:0", FIELD_BYTE_OFFSET).new == 16


def test_flexible_arrays(local: Side, target: Side) -> None:
    s = local.struct("f", 4, [("n", local.u32, 0), ("v", local.array(local.u32, 0), 32)])
    target.struct("f", 8, [("n", target.u64, 0), ("v", target.array(target.u32, 0), 64)])
    assert resolve(local, target, s, "0:1:5", FIELD_BYTE_OFFSET).new == 8 + 20
    # Not flexible in the middle of a struct.
    t2 = Side()
    t2.struct("f", 12, [("n", t2.u64, 0), ("v", t2.array(t2.u32, 0), 64), ("end", t2.u32, 64)])
    assert resolve(local, t2, s, "0:1:0", FIELD_EXISTS).new == 0
    l2 = Side()
    s2 = l2.struct("f", 8, [("v", l2.array(l2.u32, 0), 0), ("end", l2.u32, 0)])
    with pytest.raises(CoreError, match="past the end"):
        resolve(l2, target, s2, "0:0:0", FIELD_EXISTS)


SORTS = {
    "int": (lambda b: b.s32, lambda b: b.u64),
    "ptr": (lambda b: b.void_ptr, lambda b: b.ptr(b.u32)),
    "struct": (lambda b: b.struct("in", 4, [("x", b.u32, 0)]), lambda b: b.union("other", 8, [("y", b.u64, 0)])),
    "enum": (lambda b: b.enum("colour", 4, [("A", 0)]), lambda b: b.enum64("colour___2", 8, [("B", 5)])),
    "float": (lambda b: b.float_("float", 4), lambda b: b.float_("double", 8)),
    "array": (lambda b: b.array(b.u32, 1), lambda b: b.array(b.u8, 9)),
    "fwd": (lambda b: b.fwd("later"), lambda b: b.fwd("later", union=True)),
}


@pytest.mark.parametrize("mine", SORTS)
@pytest.mark.parametrize("other", SORTS)
def test_field_sorts(mine: str, other: str, local: Side, target: Side) -> None:
    """Fields of one sort are compatible whatever their sizes, signs and lengths; of two sorts never."""
    s = local.struct("s", 8, [("f", SORTS[mine][0](local), 0)])
    target.struct("s", 16, [("f", SORTS[other][1](target), 64)])
    assert resolve(local, target, s, "0:0", FIELD_EXISTS).new == int(mine == other)


def test_field_enums_compare_names(local: Side, target: Side) -> None:
    s = local.struct("s", 4, [("e", local.enum("colour", 4, [("RED", 0)]), 0)])
    target.struct("s", 4, [("e", target.enum("size", 4, [("BIG", 0)]), 0)])
    assert resolve(local, target, s, "0:0", FIELD_EXISTS).new == 0
    t2 = Side()
    t2.struct("s", 4, [("e", t2.enum("", 4, [("BIG", 0)]), 0)])
    assert resolve(local, t2, s, "0:0", FIELD_EXISTS).new == 1


def test_unlike_member_ends_the_search(local: Side, target: Side) -> None:
    s = local.struct("s", 4, [("x", local.u32, 0)])
    inner = target.struct("", 8, [("x", target.void_ptr, 0)])
    target.struct("s", 16, [("", inner, 0), ("x", target.u32, 64)])
    assert resolve(local, target, s, "0:0", FIELD_EXISTS).new == 0


def test_field_name_is_compared_exactly(local: Side, target: Side) -> None:
    s = local.struct("s", 4, [("x___y", local.u32, 0)])
    target.struct("s", 4, [("x", target.u32, 0)])
    assert resolve(local, target, s, "0:0", FIELD_EXISTS).new == 0


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


# ---- bit-fields -----------------------------------------------------------------------


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


# ---- sizes ----------------------------------------------------------------------------


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


# ---- types ------------------------------------------------------------------------------


def test_type_kinds(local: Side, target: Side) -> None:
    s = local.struct("s", 8, [("x", local.u64, 0)])
    t = target.struct("s", 48, [("y", target.u8, 0)])
    assert resolve(local, target, s, "0", TYPE_EXISTS).new == 1
    r = resolve(local, target, s, "0", TYPE_SIZE)
    assert (r.old, r.new) == (8, 48)
    r = resolve(local, target, s, "0", TYPE_ID_TARGET)
    assert (r.old, r.new, r.validate) == (s, t, False)
    r = resolve(local, target, s, "0", TYPE_ID_LOCAL)
    assert (r.old, r.new, r.validate) == (s, s, False)
    with pytest.raises(CoreError, match="not '0'"):
        resolve(local, target, s, "0:0", TYPE_SIZE)


def test_typedef_meets_only_typedef(local: Side, target: Side) -> None:
    t = local.typedef("thing", local.u32)
    s = local.struct("thing", 4, [("x", local.u32, 0)])
    target.struct("thing", 4, [("x", target.u32, 0)])
    assert resolve(local, target, t, "0", TYPE_EXISTS).new == 0
    assert resolve(local, target, s, "0", TYPE_EXISTS).new == 1
    target.typedef("thing", target.u64)
    assert resolve(local, target, t, "0", TYPE_SIZE).new == 8
    # Behind the typedef the kinds must fit as well.
    t2 = Side()
    t2.typedef("thing", t2.void_ptr)
    assert resolve(local, t2, t, "0", TYPE_EXISTS).new == 0


def test_fwd_is_no_struct(local: Side, target: Side) -> None:
    s = local.struct("s", 4, [("x", local.u32, 0)])
    target.fwd("s")
    assert resolve(local, target, s, "0", TYPE_EXISTS).new == 0


def test_anonymous_root(local: Side, target: Side) -> None:
    s = local.struct("", 4, [("x", local.u32, 0)])
    with pytest.raises(CoreError, match="no name"):
        resolve(local, target, s, "0:0", FIELD_EXISTS)
    assert resolve(local, target, s, "0", TYPE_ID_LOCAL).new == s


def test_types_compat_of_functions_and_pointers(local: Side, target: Side) -> None:
    def add(b: Side, name: str, ret: int, params: list[int]) -> int:
        return b.typedef(name, b.ptr(b.func_proto(ret, [("", p) for p in params])))

    same = add(local, "same", local.u32, [local.void_ptr, local.s64])
    add(target, "same", target.s64, [target.ptr(0), target.u8])
    assert resolve(local, target, same, "0", TYPE_EXISTS).new == 1
    fewer = add(local, "fewer", local.u32, [local.u32])
    add(target, "fewer", target.u32, [])
    assert resolve(local, target, fewer, "0", TYPE_EXISTS).new == 0
    other = add(local, "other", local.u32, [local.u32])
    add(target, "other", target.u32, [target.void_ptr])
    assert resolve(local, target, other, "0", TYPE_EXISTS).new == 0
    result = add(local, "result", local.u32, [])
    add(target, "result", target.void_ptr, [])
    assert resolve(local, target, result, "0", TYPE_EXISTS).new == 0
    arrays = local.typedef("arrays", local.array(local.u32, 3))
    target.typedef("arrays", target.array(target.u8, 99))
    assert resolve(local, target, arrays, "0", TYPE_EXISTS).new == 1
    real = local.float_("double", 8)
    target.float_("double", 8)
    assert resolve(local, target, real, "0", TYPE_EXISTS).new == 0  # libbpf knows no floats here


# ---- TYPE_MATCHES --------------------------------------------------------------------------


def matches(build_local, build_target) -> bool:  # type: ignore[no-untyped-def]
    local, target = Side(), Side()
    id = build_local(local)
    build_target(target)
    r = resolve(local, target, id, "0", TYPE_MATCHES)
    assert not r.poison
    return bool(r.new)


@pytest.mark.parametrize(
    ("mine", "other", "expected"),
    [
        # A target may have more members, in another order.
        (lambda b: [("a", b.u32)], lambda b: [("z", b.u64), ("a", b.u32)], True),
        (lambda b: [("a", b.u32), ("b", b.u32)], lambda b: [("a", b.u32)], False),
        (lambda b: [("a", b.u32)], lambda b: [("b", b.u32)], False),
        (lambda b: [("a___x", b.u32)], lambda b: [("a", b.u32)], True),
        # Integers: size and sign, and the name.
        (lambda b: [("a", b.u32)], lambda b: [("a", b.u64)], False),
        (lambda b: [("a", b.u32)], lambda b: [("a", b.int("unsigned int", 4, signed=True))], False),
        (lambda b: [("a", b.u32)], lambda b: [("a", b.int("uint", 4))], False),
        (lambda b: [("a", b.typedef("u", b.const(b.u32)))], lambda b: [("a", b.u32)], True),
        # Pointers: what is behind matters, but not the members of a struct there.
        (lambda b: [("a", b.ptr(b.u32))], lambda b: [("a", b.ptr(b.u64))], False),
        (lambda b: [("a", b.ptr(b.fwd("t")))], lambda b: [("a", b.ptr(b.struct("t", 0, [])))], True),
        (lambda b: [("a", b.ptr(b.fwd("t", True)))], lambda b: [("a", b.ptr(b.struct("t", 0, [])))], False),
        (lambda b: [("a", b.ptr(b.fwd("t", True)))], lambda b: [("a", b.ptr(b.union("t", 0, [])))], True),
        (lambda b: [("a", b.ptr(b.struct("t", 0, [])))], lambda b: [("a", b.ptr(b.fwd("t")))], True),
        (lambda b: [("a", b.ptr(b.union("t", 0, [])))], lambda b: [("a", b.ptr(b.fwd("t")))], False),
        (lambda b: [("a", b.ptr(b.fwd("t")))], lambda b: [("a", b.ptr(b.fwd("t")))], True),
        (lambda b: [("a", b.ptr(b.fwd("t")))], lambda b: [("a", b.ptr(b.fwd("t", True)))], False),
        (
            lambda b: [("a", b.ptr(b.struct("t", 4, [("x", b.u32, 0)])))],
            lambda b: [("a", b.ptr(b.struct("t", 4, [("y", b.u32, 0)])))],
            True,
        ),
        (
            lambda b: [("a", b.struct("t", 4, [("x", b.u32, 0)]))],
            lambda b: [("a", b.struct("t", 4, [("y", b.u32, 0)]))],
            False,
        ),
        (
            lambda b: [("a", b.struct("t", 4, [("x", b.u32, 0)]))],
            lambda b: [("a", b.union("t", 4, [("x", b.u32, 0)]))],
            False,
        ),
        (lambda b: [("a", b.ptr(b.struct("t", 0, [])))], lambda b: [("a", b.ptr(b.struct("v", 0, [])))], False),
        (lambda b: [("a", b.ptr(0))], lambda b: [("a", b.ptr(0))], True),
        (lambda b: [("a", b.ptr(0))], lambda b: [("a", b.ptr(b.u32))], False),
        # Arrays have to be of one length.
        (lambda b: [("a", b.array(b.u32, 2))], lambda b: [("a", b.array(b.u32, 2))], True),
        (lambda b: [("a", b.array(b.u32, 2))], lambda b: [("a", b.array(b.u32, 3))], False),
        # Enums: size and names.
        (lambda b: [("a", b.enum("e", 4, [("A", 1)]))], lambda b: [("a", b.enum("e", 4, [("B", 0), ("A", 7)]))], True),
        (lambda b: [("a", b.enum("e", 4, [("A", 1)]))], lambda b: [("a", b.enum("e", 4, [("B", 1)]))], False),
        (lambda b: [("a", b.enum("e", 4, [("A", 1)]))], lambda b: [("a", b.enum("e", 8, [("A", 1)]))], False),
        (lambda b: [("a", b.enum("e", 8, [("A", 1)]))], lambda b: [("a", b.enum64("e", 8, [("A", 1)]))], True),
        # Functions.
        (
            lambda b: [("a", b.ptr(b.func_proto(b.u32, [("", b.u32)])))],
            lambda b: [("a", b.ptr(b.func_proto(b.u32, [("x", b.u32)])))],
            True,
        ),
        (
            lambda b: [("a", b.ptr(b.func_proto(b.u32, [("", b.u32)])))],
            lambda b: [("a", b.ptr(b.func_proto(b.u32, [("", b.u64)])))],
            False,
        ),
        (
            lambda b: [("a", b.ptr(b.func_proto(b.u32, [])))],
            lambda b: [("a", b.ptr(b.func_proto(b.u64, [])))],
            False,
        ),
        (
            lambda b: [("a", b.ptr(b.func_proto(b.u32, [])))],
            lambda b: [("a", b.ptr(b.func_proto(b.u32, [("", b.u32)])))],
            False,
        ),
    ],
)
def test_type_matches(mine, other, expected) -> None:  # type: ignore[no-untyped-def]
    def add(members):  # type: ignore[no-untyped-def]
        return lambda b: b.struct("s", 800, [(n, t, 64 * i) for i, (n, t) in enumerate(members(b))])

    assert matches(add(mine), add(other)) is expected


def test_type_matches_recursive_struct() -> None:
    def add(b: Side) -> int:
        node = b.declare_struct("node")
        b.define_struct(node, 16, [("next", b.ptr(node), 0), ("v", b.u64, 64)])
        return node

    assert matches(add, add)


# ---- enumerators ------------------------------------------------------------------------------


def test_enumerators(local: Side, target: Side) -> None:
    e = local.enum("e", 4, [("A", 0), ("B___old", 1), ("GONE", 2)])
    target.enum("e", 4, [("B", 7), ("A", -3)], signed=True)
    assert resolve(local, target, e, "0", ENUMVAL_EXISTS).new == 1
    r = resolve(local, target, e, "0", ENUMVAL_VALUE)
    assert (r.old, r.new) == (0, (1 << 64) - 3)
    assert resolve(local, target, e, "1", ENUMVAL_VALUE).new == 7
    assert resolve(local, target, e, "2", ENUMVAL_EXISTS).new == 0
    assert not resolve(local, target, e, "2", ENUMVAL_EXISTS).poison
    assert resolve(local, target, e, "2", ENUMVAL_VALUE).poison
    for access in ("3", "0:0"):
        with pytest.raises(CoreError):
            resolve(local, target, e, access, ENUMVAL_VALUE)
    with pytest.raises(CoreError):
        resolve(local, target, local.u32, "0", ENUMVAL_VALUE)


def test_enum64_and_typedef_of_enum(local: Side, target: Side) -> None:
    e = local.enum("e", 4, [("A", 0xFFFFFFFF)])
    target.enum64("e", 8, [("A", 0x1_2345_6789)])
    r = resolve(local, target, e, "0", ENUMVAL_VALUE)
    # libbpf sign-extends 32-bit enumerators whatever the enum's own sign.
    assert (r.old, r.new) == ((1 << 64) - 1, 0x1_2345_6789)
    t = local.typedef("e_t", local.enum("", 4, [("X", 1)]))
    target.typedef("e_t", target.const(target.enum("", 4, [("X", 5)])))
    assert resolve(local, target, t, "0", ENUMVAL_VALUE).new == 5
    target.typedef("i_t", target.u32)
    t = local.typedef("i_t", local.enum("", 4, [("Y", 1)]))
    assert resolve(local, target, t, "0", ENUMVAL_EXISTS).new == 0


# ---- access strings ------------------------------------------------------------------------------


@pytest.mark.parametrize("access", ["", ":", "0:", ":0", "-1", "0:-1", "a", "0:1x", "0::1", "+1", " 1", "٣", "0x1"])
def test_bad_access_strings(access: str, local: Side, target: Side) -> None:
    s = local.struct("s", 4, [("x", local.u32, 0)])
    with pytest.raises(CoreError):
        resolve(local, target, s, access, FIELD_EXISTS)


def test_access_string_limits() -> None:
    assert parse_access(":".join(["0"] * 64)) == [0] * 64
    with pytest.raises(CoreError, match="65 steps"):
        parse_access(":".join(["0"] * 65))
    with pytest.raises(CoreError):
        parse_access("9" * 5000)


def test_bad_specs(local: Side, target: Side) -> None:
    s = local.struct("s", 4, [("x", local.u32, 0)])
    for access in ("0:1", "0:0:0"):
        with pytest.raises(CoreError):
            resolve(local, target, s, access, FIELD_EXISTS)
    for id in (99, -1):
        with pytest.raises(BtfError, match="no BTF type"):
            resolve(local, target, id, "0:0", FIELD_EXISTS)
    with pytest.raises(CoreError, match="unknown kind 13"):
        resolve(local, target, s, "0:0", 13)
    with pytest.raises(BtfError):
        resolve(local, target, local.func_proto(0, []), "0:0", FIELD_EXISTS)


# ---- modules ---------------------------------------------------------------------------------------


def test_modules_are_asked_last(local: Side, target: Side) -> None:
    s = local.struct("in_module", 4, [("x", local.u32, 0)])
    k = local.struct("in_kernel", 4, [("x", local.u32, 0)])
    target.struct("in_kernel", 8, [("x", target.u32, 32)])
    base = Btf(target.to_bytes())
    other = Side()
    other.struct("in_module", 16, [("x", other.u32, 96)])
    asked = []

    def modules() -> list[Btf]:
        asked.append(1)
        return [Btf(other.to_bytes())]

    r = Relocator(Btf(local.to_bytes()), base, modules)
    assert r.resolve(k, "0:0", FIELD_BYTE_OFFSET).new == 4
    assert not asked
    assert r.resolve(s, "0:0", FIELD_BYTE_OFFSET).new == 12
    assert asked


# ---- patching ----------------------------------------------------------------------------------------


def insn(code: int, regs: int, off: int, imm: int, order: str = "little") -> bytes:
    return struct.pack("<BBhi" if order == "little" else ">BBhi", code, regs, off, imm)


POISONED = insn(0x85, 0, 0, POISON_HELPER)


@pytest.mark.parametrize("order", ["little", "big"])
def test_patch_forms(order: str) -> None:
    code = bytearray(
        insn(0x79, 0x12, 8, 0, order)  # ldx dw
        + insn(0xB7, 0x01, 0, 8, order)  # mov imm
        + insn(0x07, 0x01, 0, 8, order)  # add imm
        + insn(0x18, 0x01 if order == "little" else 0x10, 0, 8, order)
        + insn(0, 0, 0, 0, order)
        + insn(0x7B, 0x12, 8, 0, order)  # stx dw
        + insn(0x7A, 0x12, 8, 5, order)  # st dw
    )
    for index in (0, 1, 2, 5, 6):
        patch(code, index, Resolution(8, 24), order)
    patch(code, 3, Resolution(8, 0x1_0000_0018), order)
    assert bytes(code) == (
        insn(0x79, 0x12, 24, 0, order)
        + insn(0xB7, 0x01, 0, 24, order)
        + insn(0x07, 0x01, 0, 24, order)
        + insn(0x18, 0x01 if order == "little" else 0x10, 0, 24, order)
        + insn(0, 0, 0, 1, order)
        + insn(0x7B, 0x12, 24, 0, order)
        + insn(0x7A, 0x12, 24, 5, order)
    )


def test_patch_poison() -> None:
    code = bytearray(insn(0x18, 0x01, 0, 8) + insn(0, 0, 0, 0) + insn(0x79, 0x12, 8, 0) + insn(0x95, 0, 0, 0))
    patch(code, 0, Resolution(8, 0, poison=True))
    patch(code, 2, Resolution(8, 0, poison=True))
    assert bytes(code) == POISONED * 3 + insn(0x95, 0, 0, 0)


@pytest.mark.parametrize(("old", "new", "code"), [(4, 8, 0x79), (4, 2, 0x69), (4, 1, 0x71)])
def test_patch_resizes_loads(old: int, new: int, code: int) -> None:
    what = Resolution(0, 16)
    what.old_size, what.new_size = old, new
    insns = bytearray(insn(0x61, 0x12, 0, 0))
    patch(insns, 0, what)
    assert bytes(insns) == insn(code, 0x12, 16, 0)
    # Only a load or store has a size; an offset in an ALU instruction has not.
    what.bad_size = True
    insns = bytearray(insn(0xB7, 0x01, 0, 0))
    patch(insns, 0, what)
    assert bytes(insns) == insn(0xB7, 0x01, 0, 16)
    insns = bytearray(insn(0x61, 0x12, 0, 0))
    patch(insns, 0, what)
    assert bytes(insns) == POISONED


@pytest.mark.parametrize(
    ("code", "what", "message"),
    [
        (insn(0x79, 0x12, 8, 0), Resolution(4, 0), "holds 8"),
        (insn(0xB7, 0x12, 8, 9), Resolution(4, 0), "holds 9"),
        (insn(0x18, 0, 0, 4) + insn(0, 0, 0, 1), Resolution(4, 0), "holds 4294967300"),
        (insn(0x79, 0x12, 8, 0), Resolution(8, 32768), "does not fit"),
        (insn(0xB7, 0x12, 0, 0), Resolution(0, 1 << 33), "does not fit"),
        (insn(0x0F, 0x12, 0, 0), Resolution(0, 0), "register"),
        (insn(0x05, 0, 1, 0), Resolution(0, 0), "cannot be relocated"),
        (insn(0x20, 0, 0, 0), Resolution(0, 0), "plain 64-bit"),
        (insn(0x18, 0x11, 0, 0) + insn(0, 0, 0, 0), Resolution(0, 0), "plain 64-bit"),
        (insn(0x18, 0, 0, 0) + insn(1, 0, 0, 0), Resolution(0, 0), "plain 64-bit"),
        (insn(0x18, 0, 0, 0), Resolution(0, 0), "second half"),
        (b"", Resolution(0, 0), "no instruction 0"),
    ],
)
def test_patch_refuses(code: bytes, what: Resolution, message: str) -> None:
    insns = bytearray(code)
    with pytest.raises(CoreError, match=message):
        patch(insns, 0, what)
    assert bytes(insns) == code


def test_patch_without_validation() -> None:
    insns = bytearray(insn(0x79, 0x12, 99, 0))
    patch(insns, 0, Resolution(4, 8, validate=False))
    assert bytes(insns) == insn(0x79, 0x12, 8, 0)


def test_patch_size_mismatch() -> None:
    what = Resolution(0, 0)
    what.old_size, what.new_size = 8, 4
    with pytest.raises(CoreError, match="moves 4 bytes"):
        patch(bytearray(insn(0x61, 0x12, 0, 0)), 0, what)
    what.old_size, what.new_size = 4, 16
    with pytest.raises(CoreError, match="16 bytes"):
        patch(bytearray(insn(0x61, 0x12, 0, 0)), 0, what)


def test_relocate_names_the_culprit(local: Side, target: Side) -> None:
    s = local.struct("task", 8, [("a", local.u32, 0), ("pid", local.u32, 32)])
    target.struct("task", 8, [("a", target.u32, 0), ("pid", target.u32, 32)])
    relocator = Relocator(Btf(local.to_bytes()), Btf(target.to_bytes()))
    insns = bytearray(insn(0x61, 0x12, 4, 0) + insn(0x61, 0x12, 8, 0))
    with pytest.raises(CoreError) as error:
        relocator.relocate(insns, [(0, s, "0:1", 0), (1, s, "0:1", 0)], "on_exit")
    assert str(error.value).startswith(
        f"program on_exit: CO-RE relocation #1 at instruction 1: <byte_off> [{s}] struct task.pid (0:1 @ offset 4): "
    )
    with pytest.raises(CoreError, match=r"relocation #0 at instruction 7.*no instruction 7"):
        relocator.relocate(insns, [(7, s, "0:1", 0)], "p")
    with pytest.raises(CoreError, match=r"<kind 77> \[12345\]"):
        relocator.relocate(insns, [(0, 12345, "0:1", 77)], "p")


def test_big_endian_relocation() -> None:
    local, target = Side("big"), Side("big")
    s = local.struct("task", 8, [("pid", local.u32, 0)])
    target.struct("task", 16, [("x", target.u64, 0), ("pid", target.u32, 64)])
    insns = bytearray(insn(0x61, 0x21, 0, 0, "big"))
    Relocator(Btf(local.to_bytes()), Btf(target.to_bytes())).relocate(insns, [(0, s, "0:0", 0)], "p", "big")
    assert bytes(insns) == insn(0x61, 0x21, 8, 0, "big")


# ---- hostile types --------------------------------------------------------------------------------------


def test_exponential_types_end() -> None:
    def add(b: Side, leaf: str) -> int:
        id = b.struct("leaf", 0, [(leaf, b.u32, 0)])
        for level in range(30):
            id = b.union(f"level{level}", 0, [("a", id, 0), ("b", id, 0)])
        return b.struct("top", 0, [("x", id, 0)])

    local, target = Side(), Side()
    id = add(local, "same")
    add(target, "same")
    with pytest.raises(CoreError, match=r"too long|too deep"):
        resolve(local, target, id, "0", TYPE_MATCHES)


def test_exponential_anonymous_members_end() -> None:
    local, target = Side(), Side()
    s = local.struct("s", 4, [("needle", local.u32, 0)])
    id = target.struct("", 4, [("hay", target.u32, 0)])
    for level in range(40):
        id = target.struct("", 4, [("", id, 0), ("", id, 0), (f"n{level}", target.u32, 0)])
    target.struct("s", 4, [("", id, 0)])
    with pytest.raises(CoreError, match="too long"):
        resolve(local, target, s, "0:0", FIELD_EXISTS)


def test_recursive_anonymous_member_ends() -> None:
    local, target = Side(), Side()
    s = local.struct("s", 4, [("needle", local.u32, 0)])
    t = target.declare_struct("s")
    target.define_struct(t, 4, [("", t, 0)])
    with pytest.raises(CoreError, match="too deep"):
        resolve(local, target, s, "0:0", FIELD_EXISTS)
