"""What a CO-RE relocation may say: flavours, access strings, and specs that make no sense or never end."""

from __future__ import annotations

import pytest
from core_sides import Side, resolve

from btf.core import FIELD_EXISTS, TYPE_MATCHES
from btf.core_spec import parse_access
from btf.errors import BtfError, CoreError
from btf.format import essential_name


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


@pytest.mark.parametrize(("levels", "ends"), [(40, False), (61, False), (62, True), (90, True)])
def test_exponential_anonymous_members_end(levels: int, ends: bool) -> None:
    """2**40 ways to where the member is not are looked through once; 64 steps are the most there may be."""
    local, target = Side(), Side()
    s = local.struct("s", 4, [("needle", local.u32, 0)])
    id = target.struct("", 4, [("hay", target.u32, 0)])
    for level in range(levels):
        shallow = target.struct("", 4, [(f"s{level}", target.u32, 0)])
        id = target.struct("", 4, [("", shallow, 0), ("", id, 0), ("", id, 0), (f"n{level}", target.u32, 0)])
    target.struct("s", 4, [("", id, 0)])
    if ends:
        with pytest.raises(CoreError, match="too deep"):
            resolve(local, target, s, "0:0", FIELD_EXISTS)
    else:
        assert resolve(local, target, s, "0:0", FIELD_EXISTS).new == 0


def test_recursive_anonymous_member_ends() -> None:
    local, target = Side(), Side()
    s = local.struct("s", 4, [("needle", local.u32, 0)])
    t = target.declare_struct("s")
    target.define_struct(t, 4, [("", t, 0)])
    with pytest.raises(CoreError, match="too deep"):
        resolve(local, target, s, "0:0", FIELD_EXISTS)
