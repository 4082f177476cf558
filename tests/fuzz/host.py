"""The language on the host: numbers that wrap, Structs, maps and ring buffers as plain Python.

A program's text is executed as it stands, but for what Python's syntax cannot
be taught: a variable keeps its type, and some functions take a place, not its
value. Reading a record's bytes that were never set is an error here, as the
kernel's answer would be chance.
"""

from __future__ import annotations

import ast
import builtins

from tests.fuzz.rules import KINDS, M64, Invalid, arithmetic, check_comparison, joined, kind_of_constant, least

EEXIST, ENOENT, E2BIG = 17, 2, 7

# --- types


class Type:
    """``kind``: num, array, struct or ptr."""

    def __init__(self, name, size, align, kind, element=None, count=0, fields=None, big=False):
        self.name, self.size, self.align, self.kind = name, size, align, kind
        self.element, self.count, self.fields, self.big = element, count, fields or {}, big
        self.signed = name[0] == "i" and kind == "num"
        # What a value of the type is once it is read.
        self.native = self

    def __getitem__(self, count):
        return Type(f"{self.name}[{count}]", self.size * count, self.align, "array", self, count)

    def __call__(self, value):
        """A conversion."""
        if self.name == "bool":
            return Num(int(bool(value)), self)
        return Num(self.wrap(int(value)), self)

    def wrap(self, value):
        if self.name == "bool":
            return int(value != 0)
        bits = self.size * 8
        value &= (1 << bits) - 1
        return value - (1 << bits) if self.signed and value >> bits - 1 else value


u8, u16, u32, u64 = (Type(f"u{n * 8}", n, n, "num") for n in (1, 2, 4, 8))
i8, i16, i32, i64 = (Type(f"i{n * 8}", n, n, "num") for n in (1, 2, 4, 8))
bool_ = Type("bool", 1, 1, "num")
char = Type("char", 1, 1, "num")
char.native = u8
be16, be32, be64 = (Type(f"be{n * 8}", n, n, "num", big=True) for n in (2, 4, 8))
be16.native, be32.native, be64.native = u16, u32, u64
_RESULT = {"s": i64, "u": u64, "n": u32, "e": i64}


class Ptr:
    def __class_getitem__(cls, target):
        target = as_type(target)
        return Type(f"Ptr[{target.name}]", 8, 8, "ptr", target)


def as_type(thing):
    if isinstance(thing, StructMeta):
        return thing.layout
    return bool_ if thing is builtins.bool else thing


# --- numbers


class Num:
    """A number with its type."""

    __slots__ = ("type", "v")

    def __init__(self, v, type):
        self.v = v
        self.type = type

    def __int__(self):
        return self.v

    __index__ = __int__

    def __bool__(self):
        return self.v != 0

    def __hash__(self):
        return hash(self.v)

    def __repr__(self):
        return f"{self.type.name}({self.v})"


def kind(value):
    if isinstance(value, Num):
        return KINDS[value.type.name]
    if isinstance(value, bool):
        return "n"
    if isinstance(value, int):
        return kind_of_constant(value)
    raise Invalid(f"{value!r} is no number")


def _operator(op, work):
    def forward(self, other):
        result = _RESULT[arithmetic(op, kind(self), kind(other))]
        return Num(result.wrap(work(self.v, int(other))), result)

    def backward(self, other):
        result = _RESULT[arithmetic(op, kind(other), kind(self))]
        return Num(result.wrap(work(int(other), self.v)), result)

    return forward, backward


for _name, _op, _work in (
    ("add", "+", lambda a, b: a + b),
    ("sub", "-", lambda a, b: a - b),
    ("mul", "*", lambda a, b: a * b),
    ("and", "&", lambda a, b: a & b),
    ("or", "|", lambda a, b: a | b),
    ("xor", "^", lambda a, b: a ^ b),
    ("floordiv", "//", lambda a, b: a // b if b else 0),
    ("mod", "%", lambda a, b: a % b if b else a),
    ("lshift", "<<", lambda a, b: a << (b & 63)),
    ("rshift", ">>", lambda a, b: a >> (b & 63)),
):
    _forward, _backward = _operator(_op, _work)
    setattr(Num, f"__{_name}__", _forward)
    setattr(Num, f"__r{_name}__", _backward)


def _comparison(work):
    def compare(self, other):
        if not isinstance(other, (Num, int)):
            return NotImplemented
        check_comparison(kind(self), kind(other))
        return Num(int(work(self.v, int(other))), bool_)

    return compare


for _name, _work in (
    ("lt", lambda a, b: a < b),
    ("le", lambda a, b: a <= b),
    ("gt", lambda a, b: a > b),
    ("ge", lambda a, b: a >= b),
    ("eq", lambda a, b: a == b),
    ("ne", lambda a, b: a != b),
):
    setattr(Num, f"__{_name}__", _comparison(_work))
Num.__neg__ = lambda self: (u64 if kind(self) == "u" else i64)(-self.v)
Num.__invert__ = lambda self: (u64 if kind(self) == "u" else i64)(~self.v)


def _least(greatest):
    def pick(first, *others):
        best = first
        for other in others:
            if isinstance(best, Num) or isinstance(other, Num):
                result = _RESULT[least(greatest, kind(best), kind(other))]
                work = builtins.max if greatest else builtins.min
                best = Num(work(int(best), int(other)), result)
            else:
                best = (builtins.max if greatest else builtins.min)(best, other)
        return best

    return pick


def _range(*bounds):
    kinds = {kind(bound) for bound in bounds[:2]}
    if {"s", "u"} <= kinds:
        raise Invalid("bounds of both signs")
    step = bounds[2] if len(bounds) > 2 else 1
    type = i64 if "s" in kinds or int(step) < 0 else u32 if kinds == {"n"} else u64
    for value in builtins.range(*(int(bound) for bound in bounds)):
        yield Num(type.wrap(value), type)


# --- memory


class Memory(bytearray):
    """Bytes; ``unset`` holds the places in a record that nobody wrote yet."""

    unset = frozenset()


class Ref:
    """An object in memory: of a struct, an array, or, as what a pointer leads to, a number."""

    __slots__ = ("_m", "_o", "_t")

    def __init__(self, type, memory, offset=0):
        object.__setattr__(self, "_t", type)
        object.__setattr__(self, "_m", memory)
        object.__setattr__(self, "_o", offset)

    def _field(self, name):
        field = self._t.fields.get(name)
        if field is None:
            raise Invalid(f"{self._t.name} has no field {name}")
        return Ref(field[1], self._m, self._o + field[0])

    def _item(self, index):
        number = int(index)
        if self._t.kind == "array":
            if not 0 <= number < self._t.count:
                raise Invalid(f"index {number} is outside of {self._t.name}")
            return Ref(self._t.element, self._m, self._o + number * self._t.element.size)
        return Ref(self._t, self._m, self._o + number * self._t.size)

    def _slice(self, part):
        first = int(part.start or 0)
        count = (self._t.count if part.stop is None else int(part.stop)) - first
        if first < 0 or first + count > self._t.count:
            raise Invalid(f"[{first}:{first + count}] is outside of {self._t.name}")
        return Ref(self._t.element[count], self._m, self._o + first * self._t.element.size)

    def _raw(self):
        end = self._o + self._t.size
        if self._o < 0 or end > len(self._m):
            raise Invalid("access outside of the object")
        if self._m.unset and not self._m.unset.isdisjoint(builtins.range(self._o, end)):
            raise Invalid("a record's bytes are read before they are set")
        return bytes(self._m[self._o : end])

    def _put(self, raw):
        end = self._o + len(raw)
        if self._o < 0 or end > len(self._m):
            raise Invalid("access outside of the object")
        self._m[self._o : end] = raw
        if self._m.unset:
            self._m.unset -= set(builtins.range(self._o, end))

    def _load(self):
        """The value: a number for numbers, else the place itself."""
        if self._t.kind != "num":
            return self
        native = self._t.native
        raw = self._raw()
        return Num(native.wrap(int.from_bytes(raw, "big" if self._t.big else "little")), native)

    def _store(self, value):
        if self._t.kind == "num":
            number = int(value)
            bits = self._t.size * 8
            if not isinstance(value, Num) and not -(1 << bits - 1) <= number < 1 << bits:
                raise Invalid(f"{number} does not fit {self._t.name}")
            number = self._t.wrap(number) & (1 << bits) - 1
            self._put(number.to_bytes(self._t.size, "big" if self._t.big else "little"))
        elif isinstance(value, (str, bytes)):
            raw = value.encode() if isinstance(value, str) else value
            if len(raw) > self._t.size:
                raise Invalid("the string is too long")
            self._put(raw.ljust(self._t.size, b"\0"))
        elif isinstance(value, Ref) and value._t.size == self._t.size:
            self._put(value._raw())
        else:
            raise Invalid(f"{value!r} cannot be stored as {self._t.name}")

    def __getattr__(self, name):
        if name == "discard":
            return self._m.discard
        return self._field(name)._load()

    def __setattr__(self, name, value):
        self._field(name)._store(value)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self._slice(index)
        return self._item(index)._load()

    def __setitem__(self, index, value):
        self._item(index)._store(value)

    def __len__(self):
        return self._t.count

    def __bool__(self):
        return True

    def __eq__(self, other):
        if isinstance(other, (str, bytes)):
            raw = other.encode() if isinstance(other, str) else other
            if len(raw) > self._t.size:
                raise Invalid("the string is too long")
            raw += b"\0" if len(raw) < self._t.size else b""
            return self._raw()[: len(raw)] == raw
        return NotImplemented

    __hash__ = None


class StructMeta(type):
    def __new__(meta, name, bases, space, packed=False):
        cls = super().__new__(meta, name, bases, space)
        fields, offset, align = {}, 0, 1
        scope = {**SCOPE, **SCOPE["module"]}
        for field, note in space.get("__annotations__", {}).items():
            type = as_type(eval(note, scope) if isinstance(note, str) else note)
            wanted = 1 if packed else type.align
            offset = -(-offset // wanted) * wanted
            fields[field] = (offset, type)
            offset += type.size
            align = builtins.max(align, wanted)
        cls.layout = Type(name, -(-offset // align) * align, align, "struct", fields=fields)
        return cls

    def __init__(cls, name, bases, space, packed=False):
        super().__init__(name, bases, space)

    def __call__(cls, **values):
        made = Ref(cls.layout, Memory(cls.layout.size))
        for name, value in values.items():
            setattr(made, name, value)
        return made

    def __getitem__(cls, count):
        return cls.layout[count]


def used_bytes(type, offset=0):
    """The places in an object that are not padding."""
    if type.kind == "struct":
        for at, field in type.fields.values():
            yield from used_bytes(field, offset + at)
    elif type.kind == "array":
        for i in builtins.range(type.count):
            yield from used_bytes(type.element, offset + i * type.element.size)
    else:
        yield from builtins.range(offset, offset + type.size)


# --- maps


class Map:
    per_cpu = False
    array = False

    def __init__(self, key, value, entries):
        self.key, self.value, self.entries = as_type(key), as_type(value), entries
        self.clear()

    def clear(self):
        self.data = {}

    def raw(self, type, value):
        """A key or value as bytes."""
        if isinstance(value, Ref) and value._t is type:
            return value._raw()
        place = Ref(type, Memory(type.size))
        place._store(value)
        return place._raw()

    def find(self, key):
        return self.data.get(key)

    def set(self, key, value, flags=0):
        there = key in self.data
        if there and flags == 1:
            return -EEXIST
        if not there and flags == 2:
            return -ENOENT
        if not there and len(self.data) >= self.entries:
            return -E2BIG
        if there and self.per_cpu:
            self.data[key][:] = value
        else:
            self.data[key] = Memory(value)
        return 0

    def lookup(self, key):
        found = self.find(self.raw(self.key, key))
        return None if found is None else Ref(self.value, found)

    def get(self, key, default):
        place = self.lookup(key)
        value = place._load() if place is not None else default
        kind_ = joined(KINDS[self.value.native.name], kind(default))
        return Num(_RESULT[kind_].wrap(int(value)), _RESULT[kind_])

    def update(self, key, value, flags=0):
        return Num(self.set(self.raw(self.key, key), self.raw(self.value, value), int(flags)), i64)

    def delete(self, key):
        return Num(0 if self.data.pop(self.raw(self.key, key), None) is not None else -ENOENT, i64)

    def __getitem__(self, key):
        """For ``m[k] += n`` only: an absent entry counts as 0."""
        place = self.lookup(key)
        return Num(0, self.value.native) if place is None else place._load()

    def __setitem__(self, key, value):
        self.set(self.raw(self.key, key), self.raw(self.value, value))

    def change(self, key, value):
        """The second half of ``m[k] += n``: in place where there is an entry."""
        raw = self.raw(self.key, key)
        found = self.find(raw)
        if found is not None:
            Ref(self.value, found)._store(value)
        elif not self.array:
            self.set(raw, self.raw(self.value, value))

    def __delitem__(self, key):
        self.delete(key)

    def __contains__(self, key):
        return self.lookup(key) is not None

    def contents(self):
        return {key: bytes(value) for key, value in self.data.items()}


class Hash(Map):
    pass


class PerCpuHash(Map):
    per_cpu = True


class Array(Map):
    array = True

    def __init__(self, value, entries):
        super().__init__(u32, value, entries)

    def clear(self):
        self.data = {i.to_bytes(4, "little"): Memory(self.value.size) for i in builtins.range(self.entries)}

    def set(self, key, value, flags=0):
        if int.from_bytes(key, "little") >= self.entries:
            return -E2BIG
        if flags == 1:
            return -EEXIST
        self.data[key][:] = value
        return 0


class PerCpuArray(Array):
    per_cpu = True


class RingBuf:
    def __init__(self, size):
        self.records = []

    def clear(self):
        self.records = []

    def output(self, record, size=None, flags=0):
        raw = record._raw()
        self.records.append(raw if size is None else raw[: int(size)])
        return Num(0, i64)

    def reserve(self, layout):
        return _Reservation(self, layout.layout)


class _Reservation:
    def __init__(self, ring, type):
        self.ring = ring
        self.memory = Memory(type.size)
        self.memory.unset = set(used_bytes(type))
        self.memory.discard = self.discard
        self.type = type
        self.alive = True

    def discard(self):
        self.alive = False

    def __enter__(self):
        return Ref(self.type, self.memory)

    def __exit__(self, kind_, value, trace):
        if kind_ is None and self.alive:
            if self.memory.unset:
                raise Invalid("a record is submitted before all of it is set")
            self.ring.records.append(bytes(self.memory))
        self.memory.discard = None


# --- functions of the language


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
    return place._raw()[: len(raw)] == raw


def endswith(place, text, n):
    raw = text.encode()
    start = (int(n) - len(raw)) & M64
    return start <= place._t.count - len(raw) and place._raw()[start : start + len(raw)] == raw


def sizeof(what):
    return what._t.size if isinstance(what, Ref) else what.type.size if isinstance(what, Num) else as_type(what).size


def offsetof(type, name):
    return type.layout.fields[name][0]


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


SCOPE = {
    "u8": u8, "u16": u16, "u32": u32, "u64": u64, "i8": i8, "i16": i16, "i32": i32, "i64": i64,
    "be16": be16, "be32": be32, "be64": be64, "char": char, "Ptr": Ptr,
    "min": _least(False), "max": _least(True), "range": _range, "bool": _bool, "unroll": _identity,
    "Hash": Hash, "Array": Array, "PerCpuHash": PerCpuHash, "PerCpuArray": PerCpuArray, "RingBuf": RingBuf,
    "cast": cast, "copy": copy, "startswith": startswith, "endswith": endswith, "sizeof": sizeof,
    "offsetof": offsetof, "BPF_ANY": 0, "BPF_NOEXIST": 1, "BPF_EXIST": 2,
    "inline": _identity, "subprog": _identity, "hook": lambda *sections: _identity,
    "_keep": _keep, "_bool": _bool, "_choose": _choose, "_and": _and, "_or": _or, "_coerce": _coerce,
    "_num": _coerce,
    "_field": lambda ref, name: ref._field(name), "_item": lambda ref, index: ref._item(index),
    "_atomic_add": lambda ref, n: ref._store(ref._load() + n),
    "module": {},
}  # fmt: skip
Struct = StructMeta("Struct", (), {})
SCOPE["Struct"] = Struct


# --- the text


class _Rewrite(ast.NodeTransformer):
    """What Python's syntax cannot be taught; everything else runs as it stands."""

    def visit_FunctionDef(self, node):
        head = []
        for arg in node.args.args:
            if arg.annotation is not None and not _is_pointer(arg.annotation):
                head += _parse(f"{arg.arg} = _coerce({ast.unparse(arg.annotation)}, {arg.arg})")
            arg.annotation = None
        self.result = ast.unparse(node.returns) if node.returns is not None else None
        node.returns = None
        self.generic_visit(node)
        node.body = head + node.body
        return node

    def visit_Return(self, node):
        self.generic_visit(node)
        if self.result is not None and node.value is not None:
            node.value = _call("_coerce", ast.Name(self.result, ast.Load()), node.value)
        return node

    def visit_AnnAssign(self, node):
        if isinstance(node.annotation, ast.Name) and isinstance(node.target, ast.Name) and node.value is not None:
            self.generic_visit(node)
            return ast.Assign([node.target], _call("_num", node.annotation, node.value))
        return node  # a field

    def visit_Assign(self, node):
        self.generic_visit(node)
        target = node.targets[0]
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            node.value.elts = [self._kept(t, v) for t, v in zip(target.elts, node.value.elts)]
        else:
            node.value = self._kept(target, node.value)
        return node

    def visit_AugAssign(self, node):
        self.generic_visit(node)
        target = node.target
        if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name) and _is_map(target.value.id):
            now = ast.BinOp(ast.Subscript(target.value, target.slice, ast.Load()), node.op, node.value)
            return ast.Expr(ast.Call(ast.Attribute(target.value, "change", ast.Load()), [target.slice, now], []))
        if isinstance(target, ast.Name):
            now = ast.BinOp(ast.Name(target.id, ast.Load()), node.op, node.value)
            return ast.Assign([target], self._kept(target, now))
        return node

    def _kept(self, target, value):
        if not isinstance(target, ast.Name):
            return value
        scope = ast.Call(ast.Name("locals", ast.Load()), [], [])
        return _call("_keep", ast.Constant(target.id), scope, value)

    def visit_IfExp(self, node):
        self.generic_visit(node)
        return _call("_choose", node.test, node.body, node.orelse)

    def visit_BoolOp(self, node):
        if _is_condition(node):
            return self.generic_visit(node)
        self.generic_visit(node)
        return _call("_and" if isinstance(node.op, ast.And) else "_or", *node.values)

    def visit_UnaryOp(self, node):
        self.generic_visit(node)
        return _call("_bool", node) if isinstance(node.op, ast.Not) else node

    def visit_Compare(self, node):
        """Python's ``in`` gives a bool of its own, which counts as a constant."""
        self.generic_visit(node)
        return _call("_bool", node) if isinstance(node.ops[0], (ast.In, ast.NotIn)) else node

    def visit_If(self, node):
        node.test = self._test(node.test)
        node.body = [line for part in node.body for line in _lines(self.visit(part))]
        node.orelse = [line for part in node.orelse for line in _lines(self.visit(part))]
        return node

    def _test(self, node):
        """A condition: only truth counts, so ``and`` and ``or`` stay Python's own."""
        if isinstance(node, ast.BoolOp):
            node.values = [self._test(value) for value in node.values]
            return node
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            node.operand = self._test(node.operand)
            return node
        return self.visit(node)

    def visit_Call(self, node):
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in ("addr", "atomic_add"):
            place = node.args[0]
            if isinstance(place, ast.Attribute):
                place = _call("_field", place.value, ast.Constant(place.attr))
            elif isinstance(place, ast.Subscript):
                place = _call("_item", place.value, place.slice)
            return place if node.func.id == "addr" else _call("_atomic_add", place, node.args[1])
        return node


def _lines(found):
    return found if isinstance(found, list) else [found]


def _is_map(name):
    return name.startswith("m_")


def _is_pointer(node):
    return isinstance(node, ast.Subscript)


def _is_condition(node):
    if isinstance(node, ast.BoolOp):
        return all(_is_condition(part) for part in node.values)
    return isinstance(node, ast.Compare) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not))


def _parse(text):
    return ast.parse(text).body


def _call(name, *args):
    return ast.Call(ast.Name(name, ast.Load()), list(args), [])


class Oracle:
    """A module's text as CPython runs it."""

    def __init__(self, text):
        tree = ast.fix_missing_locations(_Rewrite().visit(ast.parse("from __future__ import annotations\n" + text)))
        self.scope = dict(SCOPE)
        SCOPE["module"] = self.scope
        exec(compile(tree, "<program>", "exec"), self.scope)
        self.maps = {name: thing for name, thing in self.scope.items() if isinstance(thing, (Map, RingBuf))}

    def run(self, name, context, presets):
        """Run program ``name``; ``(result, context, contents of maps, records)``."""
        for map in self.maps.values():
            map.clear()
        for map, entries in presets.items():
            for key, value in entries.items():
                self.maps[map].set(key, value)
        memory = Memory(context)
        result = self.scope[name](Ref(self.scope["C"].layout, memory))
        contents, records = {}, []
        for name_, map in self.maps.items():
            if isinstance(map, RingBuf):
                records = map.records
            else:
                contents[name_] = map.contents()
        return int(result) & 0xFFFFFFFF, bytes(memory), contents, records
