"""Fields through CO-RE: found by name, by path and by sort, in structs that differ; several candidates; modules."""

from __future__ import annotations

import pytest
from core_sides import Side, resolve

from btf.core import (
    FIELD_BYTE_OFFSET,
    FIELD_BYTE_SIZE,
    FIELD_EXISTS,
    FIELD_LSHIFT_U64,
    FIELD_RSHIFT_U64,
    FIELD_SIGNED,
    TYPE_EXISTS,
    TYPE_ID_TARGET,
    TYPE_MATCHES,
    TYPE_SIZE,
    Relocator,
)
from btf.errors import CoreError
from btf.reader import Btf


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


def test_flavour_of_a_flavour(local: Side, target: Side) -> None:
    """Essential names are compared on both sides: nf_conn___init of the kernel is a flavour of nf_conn alone."""
    s = local.struct("nf_conn___init___mine", 4, [("x", local.u32, 0)])
    n = local.struct("nf_conn___mine", 4, [("x", local.u32, 0)])
    target.struct("nf_conn___init", 8, [("x", target.u32, 32)])
    assert resolve(local, target, s, "0:0", FIELD_EXISTS).new == 0
    assert resolve(local, target, n, "0:0", FIELD_BYTE_OFFSET).new == 4


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


def test_modules_are_asked_last(local: Side, target: Side) -> None:
    s = local.struct("in_module", 4, [("x", local.u32, 0)])
    k = local.struct("in_kernel", 4, [("x", local.u32, 0)])
    target.struct("in_kernel", 8, [("x", target.u32, 32)])
    base = Btf(target.to_bytes())
    other = Side()
    other.struct("in_module", 16, [("x", other.u32, 96)])
    asked = []

    def modules(name: str) -> list[Btf]:
        asked.append(name)
        return [Btf(other.to_bytes())]

    r = Relocator(Btf(local.to_bytes()), base, modules)
    assert r.resolve(k, "0:0", FIELD_BYTE_OFFSET).new == 4
    assert not asked
    assert r.resolve(s, "0:0", FIELD_BYTE_OFFSET).new == 12
    assert asked == ["in_module"]
