"""What the builder writes, the reader reads back, in both byte orders."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btf.builder import Builder
from btf.errors import BtfError
from btf.format import (
    INT_BOOL,
    INT_SIGNED,
    KIND_ARRAY,
    KIND_CONST,
    KIND_DATASEC,
    KIND_DECL_TAG,
    KIND_ENUM,
    KIND_ENUM64,
    KIND_FLOAT,
    KIND_FUNC,
    KIND_FUNC_PROTO,
    KIND_FWD,
    KIND_INT,
    KIND_PTR,
    KIND_RESTRICT,
    KIND_STRUCT,
    KIND_TYPE_TAG,
    KIND_TYPEDEF,
    KIND_UNION,
    KIND_VAR,
    KIND_VOLATILE,
)
from btf.reader import Btf

ORDERS = ("little", "big")


@pytest.mark.parametrize("order", ORDERS)
def test_every_kind_round_trips(order: str) -> None:
    b = Builder(order)
    u32 = b.int("unsigned int", 4)
    flag = b.int("_Bool", 1, bool_=True)
    s64 = b.int("long", 8, signed=True)
    real = b.float_("double", 8)
    ptr = b.ptr(u32)
    const, volatile, restrict = b.const(u32), b.volatile(u32), b.restrict(ptr)
    alias = b.typedef("u32", u32)
    arr = b.array(alias, 7)
    node = b.declare_struct("node")
    next = b.ptr(node)
    b.define_struct(node, 16, [("next", next, 0), ("a", u32, 64, 3), ("b", u32, 67, 29)])
    uni = b.union("both", 8, [("x", u32, 0), ("y", s64, 0)])
    fwd_s, fwd_u = b.fwd("later"), b.fwd("later", union=True)
    enum = b.enum("colour", 4, [("RED", 0), ("BLUE", 0xFFFFFFFF)])
    senum = b.enum("sign", 4, [("NEG", -1), ("POS", 1)], signed=True)
    big = b.enum64("wide", 8, [("HUGE", 1 << 63), ("ONE", 1)])
    sbig = b.enum64("swide", 8, [("LOW", -(1 << 63))], signed=True)
    proto = b.func_proto(u32, [("a", ptr), ("", 0)])
    func = b.func("f", proto, 1)
    var = b.var("counter", u32, 1)
    sec = b.datasec(".bss", 16, [(var, 8, 4)])
    tag = b.decl_tag("user", node, 1)
    whole = b.decl_tag("user", node)
    ttag = b.type_tag("rcu", u32)

    t = Btf(b.to_bytes())
    assert t.byteorder == order
    assert t.type_count == b.type_count
    assert [t.kind(i) for i in (u32, ptr, const, volatile, restrict, alias, arr, node, uni)] == [
        KIND_INT,
        KIND_PTR,
        KIND_CONST,
        KIND_VOLATILE,
        KIND_RESTRICT,
        KIND_TYPEDEF,
        KIND_ARRAY,
        KIND_STRUCT,
        KIND_UNION,
    ]
    assert [t.kind(i) for i in (fwd_s, enum, big, proto, func, var, sec, tag, ttag, real)] == [
        KIND_FWD,
        KIND_ENUM,
        KIND_ENUM64,
        KIND_FUNC_PROTO,
        KIND_FUNC,
        KIND_VAR,
        KIND_DATASEC,
        KIND_DECL_TAG,
        KIND_TYPE_TAG,
        KIND_FLOAT,
    ]
    assert t.int_encoding(s64) == INT_SIGNED
    assert t.int_encoding(flag) == INT_BOOL
    assert t.int_bits(s64) == (0, 64)
    assert t.array(arr)[0] == alias
    assert t.array(arr)[2] == 7
    assert t.size(arr) == 28
    assert t.members(node) == [("next", next, 0, 0), ("a", u32, 64, 3), ("b", u32, 67, 29)]
    assert t.kflag(node)
    assert not t.kflag(uni)
    assert t.members(uni) == [("x", u32, 0, 0), ("y", s64, 0, 0)]
    assert (t.kflag(fwd_s), t.kflag(fwd_u)) == (False, True)
    assert t.enumerators(enum) == [("RED", 0), ("BLUE", 0xFFFFFFFF)]
    assert t.enumerators(senum) == [("NEG", -1), ("POS", 1)]
    assert t.enumerators(big) == [("HUGE", 1 << 63), ("ONE", 1)]
    assert t.enumerators(sbig) == [("LOW", -(1 << 63))]
    assert t.params(proto) == [("a", ptr), ("", 0)]
    assert t.linkage(func) == 1
    assert t.linkage(var) == 1
    assert t.type(func) == proto
    assert t.vars(sec) == [(var, 8, 4)]
    assert t.size(sec) == 16
    assert (t.component(tag), t.component(whole)) == (1, -1)
    assert t.name(tag) == "user"
    assert t.type(ttag) == u32
    assert t.resolve(const) == t.resolve(alias) == t.resolve(ttag) == u32
    assert t.pointer_size == 8
    assert t.find("u32", (KIND_TYPEDEF,)) == [alias]
    assert t.find("later", (KIND_FWD,)) == [fwd_s, fwd_u]
    assert t.find("f", (KIND_FUNC, KIND_VAR)) == [func]
    assert t.find_id("counter", KIND_VAR) == var


def test_equal_types_share_an_id() -> None:
    b = Builder()
    u32 = b.int("u32", 4)
    assert b.int("u32", 4) == u32
    assert b.ptr(u32) == b.ptr(u32)
    assert b.struct("s", 4, [("a", u32, 0)]) == b.struct("s", 4, [("a", u32, 0)])
    assert b.struct("s", 4, [("b", u32, 0)]) != b.struct("s", 4, [("a", u32, 0)])
    assert b.string("a") == b.string("a")
    # Declared structs are never shared: their contents come later.
    assert b.declare_struct("t") != b.declare_struct("t")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda b, u: b.struct("s", 8, [("a", u, 32), ("b", u, 0)]), "comes after"),
        (lambda b, u: b.struct("s", 8, [("a", u, 65)]), "outside of 8 bytes"),
        (lambda b, u: b.struct("s", 8, [("a", u, 3)]), "no bit-field"),
        (lambda b, u: b.struct("s", 8, [("a", u, 0, 256)]), "outside|bit-field"),
        (lambda b, u: b.union("s", 8, [("a", u, 8)]), "of a union"),
        (lambda b, u: b.ptr(99), "no BTF type"),
        (lambda b, u: b.ptr(-1), "no BTF type"),
        (lambda b, u: b.typedef("", u), "needs a name"),
        (lambda b, u: b.int("", 4), "needs a name"),
        (lambda b, u: b.int("x", 3), "size of 1, 2, 4"),
        (lambda b, u: b.float_("x", 3), "size of 2, 4"),
        (lambda b, u: b.array(u, -1), "elements"),
        (lambda b, u: b.array(u, 1 << 32), "elements"),
        (lambda b, u: b.enum("e", 4, [("A", -1)]), "not in 0"),
        (lambda b, u: b.enum("e", 8, [("A", 1 << 32)]), "use enum64"),
        (lambda b, u: b.enum64("e", 8, [("A", 1 << 64)]), "not in 0"),
        (lambda b, u: b.enum("e", 3, []), "3 bytes"),
        (lambda b, u: b.func("f", u, 1), "not a func_proto"),
        (lambda b, u: b.func("f", b.func_proto(0, []), 3), "linkage"),
        (lambda b, u: b.var("v", u, 3), "linkage"),
        (lambda b, u: b.datasec(".d", 4, [(u, 0, 4)]), "not a variable"),
        (lambda b, u: b.datasec(".d", 4, [(b.var("v", u, 1), -1, 4)]), "at -1"),
        (lambda b, u: b.decl_tag("t", u, -2), "component"),
        (lambda b, u: b.string("a\0b"), "NUL"),
        (lambda b, u: b.define_struct(1, 4, []), "not declared"),
        (lambda b, u: (b.declare_struct("s"), b.to_bytes()), "never defined"),
        (lambda b, u: b.struct("s", 1 << 32, []), "size"),
        (lambda b, u: b.struct("s", 0, [("", u, 0)] * 65536), "65536 entries"),
        (lambda b, u: Builder("middle"), "byte order"),
    ],
)
def test_what_the_kernel_refuses_is_refused(make, message) -> None:  # type: ignore[no-untyped-def]
    b = Builder()
    u = b.int("u32", 4)
    with pytest.raises(BtfError, match=message) as error:
        make(b, u)
    assert "\n" not in str(error.value)


names = st.text("abcdefgh_XYZ019é", min_size=1, max_size=12)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[str, list[tuple[str, tuple]]]:  # type: ignore[type-arg]
    """A byte order and a list of builder calls; references point backwards (or to void)."""
    calls: list[tuple[str, tuple]] = []  # type: ignore[type-arg]
    for number in range(draw(st.integers(1, 40))):
        ref = st.integers(0, number)
        kind = draw(st.sampled_from(["int", "ptr", "const", "typedef", "array", "struct", "union", "enum", "enum64"]))
        if kind == "int":
            args = (draw(names), draw(st.sampled_from([1, 2, 4, 8])))
        elif kind in ("ptr", "const"):
            args = (draw(ref),)
        elif kind == "typedef":
            args = (draw(names), draw(ref))
        elif kind == "array":
            args = (draw(ref), draw(st.integers(0, 0xFFFFFFFF)))
        elif kind in ("struct", "union"):
            offsets = sorted(draw(st.lists(st.integers(0, 100), max_size=6)))
            if kind == "union":
                offsets = [0] * len(offsets)
            bits = draw(st.sampled_from([0, 7]))
            args = (
                draw(st.one_of(st.just(""), names)),
                200,
                [(draw(st.one_of(st.just(""), names)), draw(ref), 8 * offset, bits) for offset in offsets],
            )
        else:
            signed = draw(st.booleans())
            width = 31 if kind == "enum" else 63
            low = -(1 << width) if signed else 0
            high = (1 << width) - 1
            values = draw(st.lists(st.tuples(names, st.integers(low, high)), max_size=5))
            args = (draw(st.one_of(st.just(""), names)), 4 if kind == "enum" else 8, values, signed)
        calls.append((kind, args))
    return draw(st.sampled_from(ORDERS)), calls


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_random_graphs_round_trip(graph) -> None:  # type: ignore[no-untyped-def]
    order, calls = graph
    b = Builder(order)
    ids = [0]

    def real(t: int) -> int:
        return ids[t]

    expected = {}
    for kind, args in calls:
        if kind in ("ptr", "const"):
            args = (real(args[0]),)
        elif kind == "typedef":
            args = (args[0], real(args[1]))
        elif kind == "array":
            args = (real(args[0]), args[1])
        elif kind in ("struct", "union"):
            args = (*args[:2], [(n, real(t), o, w) for n, t, o, w in args[2]])
        id = getattr(b, kind)(*args)
        ids.append(id)
        expected[id] = (kind, args)
    t = Btf(b.to_bytes())
    assert t.type_count == b.type_count
    by_name: dict[tuple[str, int], list[int]] = {}
    for id in sorted(expected, reverse=True):
        kind, args = expected[id]
        if kind in ("ptr", "const"):
            assert t.type(id) == args[0]
            continue
        if kind == "array":
            assert (t.array(id)[0], t.array(id)[2]) == args
            continue
        assert t.name(id) == args[0]
        if args[0]:
            by_name.setdefault((args[0], t.kind(id)), []).append(id)
        if kind == "typedef":
            assert t.type(id) == args[1]
            continue
        assert t.size(id) == args[1]
        if kind in ("struct", "union"):
            assert t.members(id) == args[2]
        elif kind in ("enum", "enum64"):
            assert t.enumerators(id) == args[2]
            assert t.kflag(id) == args[3]
    fresh = Btf(b.to_bytes())
    for (name, kind), found in by_name.items():
        assert fresh.find(name, (kind,)) == [
            id for id in range(1, t.type_count) if (t.name(id), t.kind(id)) == (name, kind)
        ]
        assert set(found) <= set(fresh.find(name, (kind,)))
        assert fresh.string_contains(name)
