"""The language on the host: a program's text is executed by CPython as it stands, but for what Python cannot be taught.

A variable keeps its type, and some functions take a place, not its value.
"""

from __future__ import annotations

import ast
import builtins

from tests.fuzz.hostmaps import Array, Hash, Map, PerCpuArray, PerCpuHash, RingBuf
from tests.fuzz.memory import SCOPE, Anon, Memory, Ref, StructMeta, UnionMeta
from tests.fuzz.numbers import (
    Bits,
    Num,
    Ptr,
    as_type,
    be16,
    be32,
    be64,
    bool_,
    char,
    counting,
    i8,
    i16,
    i32,
    i64,
    kind,
    least_of,
    u8,
    u16,
    u32,
    u64,
)
from tests.fuzz.rewrite import Rewrite
from tests.fuzz.rules import M64, Invalid


def cast(type, value):
    if not isinstance(value, Ref):
        raise Invalid("cast of a number")
    return Ref(type.element, value._m, value._o)


def copy(to, source):
    if isinstance(source, (str, bytes)):
        to._store(source)
        return
    size = builtins.min(to._t.size, source._t.size)
    to._put(Ref(u8[size], source._m, source._o)._raw())


def startswith(place, text):
    raw = text.encode()
    return _bool(place._raw()[: len(raw)] == raw)


def endswith(place, text, n):
    raw = text.encode()
    start = (int(n) - len(raw)) & M64
    return _bool(start <= place._t.count - len(raw) and place._raw()[start : start + len(raw)] == raw)


def loop(count, function, *args):
    """Calls until one gives something true; how many there were."""
    count = int(count)
    for index in builtins.range(count):
        if function(Num(index, u64), *args):
            return Num(index + 1, u64)
    return Num(count, u64)


def _subprog(*function, **options):
    return function[0] if function else _identity


def sizeof(what):
    return what._t.size if isinstance(what, Ref) else what.type.size if isinstance(what, Num) else as_type(what).size


def offsetof(type, name):
    return type.layout.fields[name][0]


def _atomic(name):
    """The operation of that name, which gives the value before."""
    change = {"add": int.__add__, "or": int.__or__, "and": int.__and__, "xor": int.__xor__, "xchg": lambda old, n: n}[
        name
    ]

    def work(place, n):
        old = place._load()
        place._store(old.type(change(int(old), int(n))))
        return old

    return work


def atomic_cmpxchg(place, expected, new):
    old = place._load()
    if int(old.type(expected)) == int(old):
        place._store(old.type(new))
    return old


def _bool(value):
    return Num(int(bool(value)), bool_)


def _keep(name, scope, value):
    """A variable's new value: as the type of its first one."""
    if not isinstance(value, (Num, int)):
        return value
    old = scope.get(name)
    if old is not None:
        if not isinstance(old, Num):
            raise Invalid(f"{name} is no number")
        if old.type is bool_ and not isinstance(value, bool) and not (isinstance(value, Num) and value.type is bool_):
            raise Invalid(f"{name} is a bool")
        return old.type(value)
    if isinstance(value, bool) or (isinstance(value, Num) and value.type is bool_):
        return _bool(value)
    if isinstance(value, Num):
        return (i64 if kind(value) == "s" else u64)(value)
    return (u64 if kind(value) == "u" else i64)(value)


def _choose(test, then, els):
    """``then if test else els``; both sides are computed for their types, as nothing has side effects."""
    return _joined((then, els), then if test else els)


def _and(*values):
    return _joined(values, next((value for value in values if not value), values[-1]))


def _or(*values):
    return _joined(values, next((value for value in values if value), values[-1]))


def _joined(values, value):
    if all(isinstance(one, bool) or (isinstance(one, Num) and one.type is bool_) for one in values):
        return _bool(value)
    kinds = [kind(one) for one in values]
    signs = set(kinds)
    if {"s", "u"} <= signs:
        raise Invalid("signed on one path, unsigned on another")
    result = u32 if signs == {"n"} else i64 if "s" in signs else u64
    return Num(result.wrap(int(value)), result)


def _coerce(type, value):
    type = as_type(type)
    return value if type.kind != "num" else type(value)


def _identity(value):
    return value


SCOPE.update({
    "u8": u8, "u16": u16, "u32": u32, "u64": u64, "i8": i8, "i16": i16, "i32": i32, "i64": i64,
    "be16": be16, "be32": be32, "be64": be64, "char": char, "Ptr": Ptr, "Bits": Bits,
    "min": least_of(False), "max": least_of(True), "range": counting, "bool": _bool, "unroll": _identity,
    "Hash": Hash, "Array": Array, "PerCpuHash": PerCpuHash, "PerCpuArray": PerCpuArray, "RingBuf": RingBuf,
    "cast": cast, "copy": copy, "startswith": startswith, "endswith": endswith, "sizeof": sizeof,
    "offsetof": offsetof, "BPF_ANY": 0, "BPF_NOEXIST": 1, "BPF_EXIST": 2,
    "inline": _identity, "subprog": _subprog, "loop": loop, "hook": lambda *sections: _identity,
    "_keep": _keep, "_bool": _bool, "_choose": _choose, "_and": _and, "_or": _or, "_coerce": _coerce,
    "_num": _coerce,
    "_field": lambda ref, name: ref._field(name), "_item": lambda ref, index: ref._item(index),
    **{f"atomic_{prefix}{name}": _atomic(name) for name in ("add", "or", "and", "xor") for prefix in ("", "fetch_")},
    "atomic_xchg": _atomic("xchg"), "atomic_cmpxchg": atomic_cmpxchg,
    "module": {},
})  # fmt: skip
Struct = StructMeta("Struct", (), {})
SCOPE["Struct"] = Struct
SCOPE["Union"] = UnionMeta("Union", (), {})
SCOPE["Anon"] = Anon


class _Packet:
    """An XDP program's context."""

    def __init__(self, place):
        self.place = place

    def ptr(self, type):
        return self.place


class Oracle:
    """A module's text as CPython runs it."""

    def __init__(self, text):
        tree = ast.fix_missing_locations(Rewrite().visit(ast.parse("from __future__ import annotations\n" + text)))
        self.scope = dict(SCOPE)
        SCOPE["module"] = self.scope
        exec(compile(tree, "<program>", "exec"), self.scope)
        self.maps = {name: thing for name, thing in self.scope.items() if isinstance(thing, (Map, RingBuf))}

    def run(self, name, context, presets, xdp=False):
        """Run program ``name``; ``(result, context, contents of maps, records)``.

        ``xdp``: the context is a packet, which the program takes from its own context.
        """
        for map in self.maps.values():
            map.clear()
        for map, entries in presets.items():
            for key, value in entries.items():
                self.maps[map].set(key, value)
        memory = Memory(context)
        place = Ref(self.scope["C"].layout, memory)
        result = self.scope[name](_Packet(place) if xdp else place)
        contents, records = {}, []
        for name_, map in self.maps.items():
            if isinstance(map, RingBuf):
                records = map.records
            else:
                contents[name_] = map.contents()
        return int(result) & 0xFFFFFFFF, bytes(memory), contents, records
