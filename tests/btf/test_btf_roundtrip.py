"""Generated types through builder, writer and reader; and what the tools make of data that is broken anywhere."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

import pytest
from btf_samples import every_kind, with_layout
from hypothesis import given, settings
from hypothesis import strategies as st

from btf.builder import Builder
from btf.cprint import dump_c
from btf.dedup import deduplicate
from btf.diff import diff
from btf.dump import dump_raw
from btf.errors import BtfError
from btf.layout import lookup, show
from btf.sanitise import sanitise
from btf.search import find
from btf.table import Table
from btf.writer import write

T = TypeVar("T")
U = TypeVar("U")
# What the types were made of, to be compared with what is read: kind, name, and what its kind adds.
Told = tuple[object, ...]

NAMES = st.text("abcdefghij_0123456789", min_size=1, max_size=6).map("n".__add__)


@st.composite
def types(draw: st.DrawFn) -> tuple[Builder, list[Told]]:
    b = Builder(draw(st.sampled_from(("little", "big"))))
    told: list[Told] = []

    def any_id() -> int:
        return draw(st.integers(0, b.type_count - 1))

    def note(id: int, *facts: object) -> None:
        if id > len(told):
            assert id == len(told) + 1
            told.append(facts)

    for _ in range(draw(st.integers(0, 25))):
        name = draw(NAMES)
        kind = draw(st.integers(0, 13))
        if kind == 0:
            size, signed = draw(st.sampled_from((1, 2, 4, 8, 16))), draw(st.booleans())
            note(b.int(name, size, signed=signed), "int", name, size, int(signed))
        elif kind == 1:
            make = draw(st.sampled_from(("ptr", "const", "volatile", "restrict")))
            target = any_id()
            note(getattr(b, make)(target), make, "", target)
        elif kind == 2:
            target = any_id()
            note(b.typedef(name, target), "typedef", name, target)
        elif kind in (3, 4):
            target = any_id()
            note(b.int("__ARRAY_SIZE_TYPE__", 4), "int", "__ARRAY_SIZE_TYPE__", 4, 0)
            count = draw(st.integers(0, 1 << 32 - 1))
            note(b.array(target, count), "array", "", target, count)
        elif kind in (5, 6):
            bits = draw(st.booleans())
            fields = draw(st.lists(NAMES, max_size=5))
            members = [(field, any_id(), 32 * i, (i + 1) * bits) for i, field in enumerate(fields)]
            note(b.struct(name, 20, members), "struct", name, 20, *members)
        elif kind == 7:
            members = [(field, any_id(), 0, 0) for field in draw(st.lists(NAMES, max_size=4))]
            note(b.union(name, 8, members), "union", name, 8, *members)
        elif kind in (8, 9):
            wide, signed = kind == 9, draw(st.booleans())
            half = 63 if wide else 31
            low, high = (-(1 << half), (1 << half) - 1) if signed else (0, (2 << half) - 1)
            values = draw(st.lists(st.tuples(NAMES, st.integers(low, high)), max_size=5))
            id = (b.enum64 if wide else b.enum)(name, 8 if wide else 4, values, signed)
            note(id, "enum64" if wide else "enum", name, signed, *values)
        elif kind == 10:
            union = draw(st.booleans())
            note(b.fwd(name, union), "fwd", name, union)
        elif kind == 11:
            params = [(param, any_id()) for param in draw(st.lists(NAMES, max_size=4))]
            result = any_id()
            proto = b.func_proto(result, params)
            note(proto, "func_proto", "", result, *params)
            linkage = draw(st.integers(0, 2))
            note(b.func(name, proto, linkage), "func", name, proto, linkage)
        elif kind == 12:
            target, linkage = any_id(), draw(st.integers(0, 2))
            var = b.var(name, target, linkage)
            note(var, "var", name, target, linkage)
            note(b.datasec(f".{name}", 8, [(var, 0, 8)]), "datasec", f".{name}", 8, (var, 0, 8))
        else:
            target, part, flag = any_id(), draw(st.integers(-1, 9)), draw(st.booleans())
            note(b.decl_tag(name, target, part, flag), "decl_tag", name, target, part, flag)
            note(b.type_tag(name, target, flag), "type_tag", name, target, flag)
    return b, told


def read_back(t: Table, id: int) -> Told:
    kind, name = t.label(id).split("] ")[1].split(" ")[0], t.name(id)
    rest: dict[str, object] = {
        "int": lambda: (t.size(id), t.int_encoding(id)),
        "array": lambda: (t.array(id)[0], t.array(id)[2]),
        "struct": lambda: (t.size(id), *t.members(id)),
        "union": lambda: (t.size(id), *t.members(id)),
        "enum": lambda: (t.kflag(id), *t.enumerators(id)),
        "enum64": lambda: (t.kflag(id), *t.enumerators(id)),
        "fwd": lambda: (t.kflag(id),),
        "func_proto": lambda: (t.type(id), *t.params(id)),
        "func": lambda: (t.type(id), t.linkage(id)),
        "var": lambda: (t.type(id), t.linkage(id)),
        "datasec": lambda: (t.size(id), *t.vars(id)),
        "decl_tag": lambda: (t.type(id), t.component(id), t.kflag(id)),
        "type_tag": lambda: (t.type(id), t.kflag(id)),
    }
    return (kind, name, *rest.get(kind, lambda: (t.type(id),))())  # type: ignore[operator]


@settings(deadline=None, max_examples=200)
@given(types())
def test_what_was_built_is_read_and_written(made: tuple[Builder, list[Told]]) -> None:
    b, told = made
    data = b.to_bytes()
    table = Table(data)
    assert [read_back(table, id) for id in table.ids] == told
    assert write(table) == data
    other = "big" if b.byteorder == "little" else "little"
    turned = Table(write(table, other))
    assert [read_back(turned, id) for id in turned.ids] == told
    assert write(turned, b.byteorder) == data


# ---- hostile data ----------------------------------------------------------------------------------


def use_everything(data: bytes) -> None:
    """Every tool, on one blob; each may refuse it, with a BtfError of one line."""
    tools = (
        lambda t: b"".join(dump_raw(t)),
        lambda t: b"".join(dump_c(t)),
        lambda t: [list(show(t, id)) for id in t.ids],
        lambda t: list(diff(t, Table(every_kind(Builder(t.byteorder)).to_bytes()))),
        lambda t: [*find(t, "n*", members=True), *find(t, "node", members=True)],
        lambda t: deduplicate([t, t]),
        lambda t: sanitise(t.data, ()),
        write,
        lambda t: lookup(t, "node"),
    )
    table = refused_or(Table, data)
    for tool in tools if table else ():
        refused_or(tool, table)


def refused_or(tool: Callable[[T], U], given: T) -> U | None:
    """What ``tool`` makes of it, or None if that is a BtfError of one line."""
    message = ""
    try:
        return tool(given)
    except BtfError as error:
        message = str(error)
    assert message.isprintable()
    return None


def mutated(rng: random.Random, data: bytes) -> bytes:
    """A few bytes changed, mostly to numbers that mean something elsewhere; now and then cut or doubled."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(out) - 4)
        how = rng.random()
        if how < 0.3:
            out[at] = rng.randrange(256)
        elif how < 0.8:
            at &= ~3
            out[at : at + 4] = rng.choice((0, 1, 2, 5, 6, 0x40, 0xFFFF, 0xFFFFFF, 1 << 31, 0xFFFFFFFF)).to_bytes(
                4, "little"
            )
        else:
            other = rng.randrange(len(out) - 4) & ~3
            at &= ~3
            out[at : at + 4] = out[other : other + 4]
    if rng.random() < 0.05:
        del out[rng.randrange(len(out)) :]
    return bytes(out)


@pytest.mark.parametrize("layout", [False, True], ids=["plain", "layout"])
def test_tools_survive_mutations(layout: bool) -> None:
    """A slice: 400 blobs of each sort, the same in every run. More: change the number."""
    data = every_kind(Builder()).to_bytes()
    data = with_layout(data) if layout else data
    rng = random.Random(layout)
    for _ in range(400):
        blob = mutated(rng, data)
        start = time.process_time()
        use_everything(blob)
        assert time.process_time() - start < 10, blob.hex()
