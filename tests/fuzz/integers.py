"""Random integer programs: every width and sign, branches, loops, many live values, inline functions, subprograms."""

from __future__ import annotations

import random

from tests.fuzz.rules import KINDS, arithmetic, joined, kind_of_constant, least

CONTEXT = """class C(Struct):
    a: i64
    b: i64
    c: u64
    d: u64
    e: i32
    f: u32
    g: i16
    h: u16
    k: i8
    l: u8
    pad: u16
    out: u64
    more: u64
"""
FIELDS = {
    "a": "i64", "b": "i64", "c": "u64", "d": "u64", "e": "i32", "f": "u32", "g": "i16", "h": "u16", "k": "i8", "l": "u8"
}  # fmt: skip
TYPES = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")
_CONSTANTS = (0, 1, 2, 3, 5, 7, 8, 10, 63, 64, 100, 127, 128, 255, 256, 1000, 0x7FFF, 0x8000, 0xFFFF,
              (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, (1 << 63) - 1)  # fmt: skip


class Expressions:
    """Expressions of the variables in ``self.names`` (name to type); each comes with its kind and is no constant."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.names: dict[str, str] = {}
        self.calls: list[tuple[str, list[str], str]] = []  # functions: name, types of parameters, of the result

    def constant(self, other: str) -> str:
        """A constant that mixes with an operand of kind ``other``."""
        rng = self.rng
        value = rng.choice(_CONSTANTS) if rng.random() < 0.7 else rng.randint(0, 300)
        if other == "s" and rng.random() < 0.3:
            return str(-value)
        if other == "u" and rng.random() < 0.1:
            return str((1 << 64) - 1 - value)
        return str(value)

    def variable(self) -> tuple[str, str]:
        name = self.rng.choice(list(self.names))
        return name, KINDS[self.names[name]]

    def as_kind(self, text: str, kind: str, wanted: str) -> str:
        if kind == wanted:
            return text
        rng = self.rng
        if wanted == "n":
            return rng.choice(
                [f"u32({text})", f"u8({text})", f"u16({text})", f"({text} & {rng.choice([1, 7, 255, 65535])})"]
            )
        if wanted == "s":
            return f"{rng.choice(['i64', 'i64', 'i32', 'i16', 'i8'])}({text})"
        return f"u64({text})"

    def mixing(self, a: str, kind_a: str, b: str, kind_b: str) -> tuple[str, str, str, str]:
        """Two operands with a common order."""
        if {kind_a, kind_b} == {"s", "u"}:
            if self.rng.random() < 0.5:
                return self.as_kind(a, kind_a, kind_b), kind_b, b, kind_b
            return a, kind_a, self.as_kind(b, kind_b, kind_a), kind_a
        return a, kind_a, b, kind_b

    def pair(self, depth: int) -> tuple[str, str, str, str]:
        a, kind_a = self.expression(depth)
        if self.rng.random() < 0.35:
            b = self.constant(kind_a)
            return a, kind_a, b, kind_of_constant(int(b))
        b, kind_b = self.expression(depth)
        return self.mixing(a, kind_a, b, kind_b)

    def expression(self, depth: int) -> tuple[str, str]:
        rng = self.rng
        roll = rng.random()
        if depth <= 0 or roll < 0.12:
            return self.variable()
        if roll < 0.5:
            op = rng.choice(["+", "-", "*", "&", "|", "^", "//", "%", "+", "-", "&"])
            a, kind_a, b, kind_b = self.pair(depth - 1)
            if op not in ("//", "%") and rng.random() < 0.2:
                b, kind_b = self.expression(depth - 1)  # of any sign
            if rng.random() < 0.12 and not (kind_b == "e" or b.lstrip("-").isdigit()):
                # The constant on the left.
                a = self.constant(kind_b)
                kind_a = kind_of_constant(int(a))
            kind = arithmetic(op, kind_a, kind_b)
            return f"({a} {op} {b})", "s" if kind == "e" else kind
        if roll < 0.62:
            a, kind = self.expression(depth - 1)
            op = rng.choice(["<<", ">>", ">>"])
            by = (
                str(rng.choice([0, 1, 3, 7, 8, 16, 31, 32, 33, 48, 63]))
                if rng.random() < 0.6
                else self.expression(0)[0]
            )
            return f"({a} {op} {by})", arithmetic(op, kind, "n")
        if roll < 0.69:
            a, kind = self.expression(depth - 1)
            return f"({rng.choice('-~')}{a})", "u" if kind == "u" else "s"
        if roll < 0.77:
            a, kind = self.expression(depth - 1)
            type = rng.choice(TYPES)
            return f"{type}({a})", KINDS[type]
        if roll < 0.84:
            a, kind_a, b, kind_b = self.pair(depth - 1)
            return f"({a} if {self.condition(depth - 1)} else {b})", joined(kind_a, kind_b)
        if roll < 0.89:
            a, kind_a, b, kind_b = self.pair(depth - 1)
            name = rng.choice(["min", "max"])
            return f"{name}({a}, {b})", least(name == "max", kind_a, kind_b)
        if roll < 0.92:
            a, kind_a = self.expression(depth - 1)
            b, kind_b = self.expression(depth - 1)
            a, kind_a, b, kind_b = self.mixing(a, kind_a, b, kind_b)
            return f"({a} {rng.choice(['and', 'or'])} {b})", joined(kind_a, kind_b)
        if roll < 0.95 or not self.calls:
            if rng.random() < 0.5:
                return f"({self.condition(depth - 1, True)})", "n"
            return f"bool({self.condition(depth - 1)})", "n"
        name, types, result = rng.choice(self.calls)
        return f"{name}({', '.join(self.expression(depth - 1)[0] for _ in types)})", KINDS[result]

    def condition(self, depth: int, value: bool = False) -> str:
        """What ``if`` takes; as a ``value`` it must be a bool, not any number that counts as true."""
        rng = self.rng
        roll = rng.random()
        if roll < 0.6 or depth <= 0 or (value and 0.68 <= roll < 0.76):
            a, kind_a, b, kind_b = self.pair(depth - 1)
            if kind_b == "u" or not b.lstrip("-").isdigit():
                if kind_b in "nu" and kind_a == "s" and b.isdigit() and int(b) >= 1 << 63:
                    b = "1"
                ops = ["<", "<=", ">", ">=", "==", "!="]
            else:
                # Comparing a u64 with "< 0" or ">= 0" is an error of its own.
                ops = ["==", "!=", ">"] if b in ("0", "-0") else ["<", "<=", ">", ">=", "==", "!="]
            return f"{a} {rng.choice(ops)} {b}"
        if roll < 0.68:
            return f"not {self.expression(0)[0]}"
        if roll < 0.76:
            return f"{self.expression(0)[0]} & {rng.choice([1, 2, 8, 255, 1 << 31, 1 << 40])}"
        if roll < 0.81:
            a = self.expression(depth - 1)[0]
            values = sorted({rng.choice([0, 1, 3, 7, 200, 65535]) for _ in range(3)})
            return f"{a} {rng.choice(['in', 'not in'])} ({', '.join(map(str, values))},)"
        one, other = self.condition(depth - 1, value), self.condition(depth - 1, value)
        return f"({one} {rng.choice(['and', 'or'])} {other})"


class Writer(Expressions):
    """One program: ``text(name)`` is a function of that name and those that it calls."""

    def __init__(self, rng: random.Random, xdp: bool = False) -> None:
        super().__init__(rng)
        self.xdp = xdp
        self.lines: list[str] = []
        self.loops = 0
        self.fixed: set[str] = set()  # variables that are not assigned: counters
        self.budget = 0

    def text(self, name: str) -> str:
        rng = self.rng
        helpers = []
        for number in range(rng.choice([0, 0, 1, 2])):
            helpers.append(self.function(f"{name}_g{number}"))
        self.names, self.lines = {}, []
        self.budget = rng.randint(6, 22)
        for field in rng.sample(sorted(FIELDS), rng.randint(3, len(FIELDS))):
            type = FIELDS[field]
            if rng.random() < 0.6:
                self.lines.append(f"    {field}: {rng.choice([type, rng.choice(TYPES)])} = ctx.{field}")
                type = self.lines[-1].split(":")[1].split("=")[0].strip()
            else:
                self.lines.append(f"    {field} = ctx.{field}")
                type = "i64" if type[0] == "i" else "u64"
            self.names[field] = type
        for number in range(rng.choice([0, 1, 3, 8, 14]) if self.xdp or rng.random() < 0.985 else 40):
            text = self.expression(2)[0]
            type = rng.choice(TYPES)
            self.lines.append(f"    v{number}: {type} = {text}")
            self.names[f"v{number}"] = type
        while self.budget > 0:
            self.statement(1, False)
        everything = " ^ ".join(self.names)
        self.lines.append(f"    ctx.out = {self.expression(3)[0]}")
        self.lines.append(f"    ctx.more = {everything}")
        self.lines.append(f"    return {rng.choice(['0', self.expression(1)[0]])}")
        body = "\n".join(self.lines)
        return "".join(helpers) + head(name, self.xdp) + f"{body}\n"

    def function(self, name: str) -> str:
        rng = self.rng
        kind = rng.choice(["inline", "inline", "subprog", "subprog", "subprog(global_=True)"])
        types = [rng.choice(TYPES) for _ in range(rng.randint(1, 4))]
        result = rng.choice(["i32", "i64", "u32", "u64", "u8", "i16"])
        self.names = {f"p{i}": type for i, type in enumerate(types)}
        self.lines, self.budget = [], rng.randint(0, 4)
        kept, self.calls = self.calls, self.calls if rng.random() < 0.4 else []
        while self.budget > 0:
            self.statement(1, False)
        if rng.random() < 0.5:
            self.lines.append(f"    if {self.condition(1)}:\n        return {self.expression(2)[0]}")
        self.lines.append(f"    return {self.expression(2)[0]}")
        self.calls = [*kept, (name, types, result)]
        params = ", ".join(f"p{i}: {type}" for i, type in enumerate(types))
        body = "\n".join(self.lines)
        return f"@{kind}\ndef {name}({params}) -> {result}:\n{body}\n"

    def target(self) -> str:
        return self.rng.choice([name for name in self.names if name not in self.fixed])

    def statement(self, indent: int, in_loop: bool) -> None:
        self.budget -= 1
        rng, pad = self.rng, "    " * indent
        roll = rng.random()
        if roll < 0.36 or indent > 3:
            self.lines.append(f"{pad}{self.target()} = {self.expression(3)[0]}")
        elif roll < 0.52:
            name = self.target()
            op = rng.choice(["+=", "-=", "*=", "&=", "|=", "^=", "//=", "%=", ">>=", "<<="])
            value, kind = self.expression(2)
            if op in ("//=", "%="):
                _, _, value, _ = self.order(name, value, kind)
            elif op in (">>=", "<<=") and rng.random() < 0.6:
                value = str(rng.randint(0, 63))
            self.lines.append(f"{pad}{name} {op} {value}")
        elif roll < 0.58:
            one, other = self.target(), self.target()
            if one != other:
                self.lines.append(f"{pad}{one}, {other} = {self.expression(1)[0]}, {self.expression(1)[0]}")
            else:
                self.lines.append(f"{pad}{one} = {self.expression(2)[0]}")
        elif roll < 0.82:
            self.lines.append(f"{pad}if {self.condition(2)}:")
            self.block(indent + 1, in_loop)
            if in_loop and rng.random() < 0.3:
                self.lines.append(f"{pad}    {rng.choice(['break', 'continue'])}")
            if rng.random() < 0.45:
                self.lines.append(f"{pad}else:")
                self.block(indent + 1, in_loop)
        elif self.loops < 2 and not in_loop:
            self.loop(indent)
        else:
            self.lines.append(f"{pad}{self.target()} ^= {self.expression(1)[0]}")

    def order(self, name: str, value: str, kind: str) -> tuple[str, str, str, str]:
        own = KINDS[self.names[name]]
        return name, own, self.as_kind(value, kind, own) if {own, kind} == {"s", "u"} else value, own

    def loop(self, indent: int) -> None:
        rng, pad = self.rng, "    " * indent
        self.loops += 1
        if rng.random() < 0.3:
            self.while_loop(indent)
            return
        name = f"i{self.loops}"
        bounds = rng.choice(
            [
                f"{rng.randint(1, 4)}",
                f"{rng.randint(-2, 1)}, {rng.randint(1, 3)}",
                f"{rng.randint(0, 7)}, -1, -{rng.randint(2, 4)}",
                f"{self.expression(0)[0]} & {rng.choice([1, 3])}",
            ]
        )
        signed = "-" in bounds
        if "&" not in bounds and rng.random() < 0.25:
            # Each pass has a constant of its own; what it means as an operand depends on its value.
            self.lines.append(f"{pad}for {name} in unroll(range({bounds})):")
            self.lines.append(f"{pad}    {self.target()} += {name}")
        else:
            self.lines.append(f"{pad}for {name} in range({bounds}):")
            self.names[name] = "i64" if signed else "u32"
            self.fixed.add(name)
            self.lines.append(f"{pad}    {self.target()} += {self.expression(1)[0]}")
        self.block(indent + 1, True)
        self.names.pop(name, None)

    def while_loop(self, indent: int) -> None:
        """A loop that a count of passes bounds, or a variable that moves towards a constant."""
        rng, pad, name = self.rng, "    " * indent, f"w{self.loops}"
        if rng.random() < 0.5:
            test = f" and {self.condition(1)}" if rng.random() < 0.7 else ""
            self.lines.append(f"{pad}while atmost({rng.randint(1, 4)}){test}:")
            self.lines.append(f"{pad}    {self.target()} += {self.expression(1)[0]}")
        else:
            down = rng.random() < 0.3
            start = rng.choice([f"{rng.randint(0, 5)}", f"{self.expression(0)[0]} & 3"])
            self.lines.append(f"{pad}{name}: {rng.choice(['i64', 'i32', 'i8'] if down else TYPES)} = {start}")
            limit = f"> {rng.randint(-2, 2)}" if down else f"{rng.choice(['<', '<='])} {rng.randint(1, 6)}"
            test = f" and {self.condition(1)}" if rng.random() < 0.3 else ""
            self.lines.append(f"{pad}while {name} {limit}{test}:")
            self.lines.append(f"{pad}    {name} {'-' if down else '+'}= {rng.randint(1, 3)}")
            self.names[name] = self.lines[-3].split(":")[1].split("=")[0].strip()
            self.fixed.add(name)
        self.block(indent + 1, True)
        self.names.pop(name, None)

    def block(self, indent: int, in_loop: bool) -> None:
        for _ in range(1 if in_loop else self.rng.randint(1, 2)):
            self.statement(indent, in_loop)


def head(name: str, xdp: bool) -> str:
    """The first lines of a program that has its context, or a packet that holds one, in ``ctx``."""
    if not xdp:
        return f"@hook('syscall')\ndef {name}(ctx: Ptr[C]):\n"
    return f"@hook('xdp')\ndef {name}(xdp):\n    ctx = xdp.ptr(C)\n    if not ctx:\n        return 0\n"


EDGES = (0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32,
         (1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 5)  # fmt: skip


def number(rng: random.Random) -> int:
    """64 bits that are likely to hurt."""
    roll = rng.random()
    if roll < 0.5:
        return rng.choice(EDGES)
    return rng.getrandbits(64) if roll < 0.75 else rng.getrandbits(rng.choice([3, 8, 16, 32]))


class Schema:
    """What the programs of one object share: here only the context. ``xdp``: they take it from a packet."""

    ring = None
    size = 72

    def __init__(self, rng: random.Random, xdp: bool = False) -> None:
        self.xdp = xdp
        self.text = CONTEXT

    def program(self, rng: random.Random, name: str) -> str:
        return Writer(rng, self.xdp).text(name)

    def inputs(self, rng: random.Random) -> tuple[bytes, dict[str, dict[bytes, bytes]]]:
        """The bytes of the context, and what maps hold before the run."""
        raw = b"".join(number(rng).to_bytes(8, "little") for _ in range(9))
        return raw[: self.size], {}
