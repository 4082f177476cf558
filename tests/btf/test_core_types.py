"""Types and enumerators as roots of CO-RE relocations: existence, size, id, TYPE_MATCHES, values."""

from __future__ import annotations

import pytest
from core_sides import Side, resolve

from btf.core import (
    ENUMVAL_EXISTS,
    ENUMVAL_VALUE,
    FIELD_EXISTS,
    TYPE_EXISTS,
    TYPE_ID_LOCAL,
    TYPE_ID_TARGET,
    TYPE_MATCHES,
    TYPE_SIZE,
)
from btf.errors import CoreError


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
