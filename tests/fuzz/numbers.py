"""The language's types and numbers on the host: they wrap, and know what they mix with."""

from __future__ import annotations

import builtins

from tests.fuzz.rules import KINDS, Invalid, arithmetic, check_comparison, kind_of_constant, least


class Type:
    """``kind``: num, array, struct or ptr."""

    def __init__(self, name, size, align, kind, element=None, count=0, fields=None, big=False):
        self.name, self.size, self.align, self.kind = name, size, align, kind
        self.element, self.count, self.fields, self.big = element, count, fields or {}, big
        self.signed = name[0] == "i" and kind == "num"
        # What a value of the type is once it is read.
        self.native = self
        self.width = self.shift = 0  # of a bit-field: bits, and those below it in its unit

    def at(self, shift):
        """A bit-field's type at a place in its unit."""
        placed = Bits[self.native, self.width]
        placed.shift = shift
        return placed

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
RESULT = {"s": i64, "u": u64, "n": u32, "e": i64}


class Bits:
    def __class_getitem__(cls, parts):
        base, width = parts
        made = Type(f"{base.name}:{width}", base.size, base.align, "num")
        made.native, made.width = base, width
        return made


class Ptr:
    def __class_getitem__(cls, target):
        target = as_type(target)
        return Type(f"Ptr[{target.name}]", 8, 8, "ptr", target)


def as_type(thing):
    if hasattr(thing, "layout"):
        return thing.layout
    return bool_ if thing is builtins.bool else thing


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
        result = RESULT[arithmetic(op, kind(self), kind(other))]
        return Num(result.wrap(work(self.v, int(other))), result)

    def backward(self, other):
        result = RESULT[arithmetic(op, kind(other), kind(self))]
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


def least_of(greatest):
    def pick(first, *others):
        best = first
        for other in others:
            if isinstance(best, Num) or isinstance(other, Num):
                result = RESULT[least(greatest, kind(best), kind(other))]
                work = builtins.max if greatest else builtins.min
                best = Num(work(int(best), int(other)), result)
            else:
                best = (builtins.max if greatest else builtins.min)(best, other)
        return best

    return pick


def counting(*bounds):
    kinds = {kind(bound) for bound in bounds[:2]}
    if {"s", "u"} <= kinds:
        raise Invalid("bounds of both signs")
    step = bounds[2] if len(bounds) > 2 else 1
    type = i64 if "s" in kinds or int(step) < 0 else u32 if kinds == {"n"} else u64
    for value in builtins.range(*(int(bound) for bound in bounds)):
        yield Num(type.wrap(value), type)
