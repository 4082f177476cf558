"""Random integer programs in the language, and Python's own answer to the same text.

The oracle runs the body in CPython with numbers that wrap at 64 bits, so the
meaning is stated twice: there in a few operators, and by the compiler.
"""

from __future__ import annotations

import ast
import random

M = (1 << 64) - 1


class Wrapping:
    """A 64-bit number, signed or not, with the language's arithmetic."""

    signed = True

    def __init__(self, value):
        value = int(value) & M
        self.v = value - (1 << 64) if self.signed and value >> 63 else value

    def of(self, value):
        return type(self)(value)

    def __int__(self):
        return self.v

    __index__ = __int__

    def __bool__(self):
        return self.v != 0

    def __hash__(self):
        return hash(self.v)


class Signed(Wrapping):
    pass


class Unsigned(Wrapping):
    signed = False


def _method(name, work, swapped=False):
    def method(self, other):
        a, b = self.v, int(other)
        if swapped:
            a, b = b, a
        return self.of(work(a, b))

    setattr(Wrapping, name, method)


for _name, _work in {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "floordiv": lambda a, b: a // b if b else 0,
    "mod": lambda a, b: a % b if b else a,
    "lshift": lambda a, b: a << (b & 63),
    "rshift": lambda a, b: a >> (b & 63),
}.items():
    _method(f"__{_name}__", _work)
    _method(f"__r{_name}__", _work, True)
for _name, _test in {
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
}.items():
    setattr(Wrapping, f"__{_name}__", lambda self, other, test=_test: test(self.v, int(other)))
Wrapping.__neg__ = lambda self: self.of(-self.v)
Wrapping.__invert__ = lambda self: self.of(~self.v)


class Writer:
    """Writes the body of a function of variables a, b, c, d, all of one type."""

    def __init__(self, seed: int, signed: bool) -> None:
        self.rng = random.Random(seed)
        self.signed = signed
        self.lines: list[str] = []
        self.loops = 0

    def body(self) -> str:
        for name in "abcd":
            # Masks and shifts make narrow values of what memory holds; start from the whole range.
            self.lines.append(f"{name}: {'i64' if self.signed else 'u64'} = ctx.{name}")
        for _ in range(self.rng.randint(3, 8)):
            self.statement(0, False)
        self.lines.append(f"return {self.expression(3)} ^ a ^ b")
        return "\n".join(self.lines)

    def constant(self) -> str:
        low = -9 if self.signed else 0
        return str(
            self.rng.choice(
                [0, 1, 2, 3, 5, 7, 8, 63, 255, 1 << 31, (1 << 32) - 1, 1 << 40, low, self.rng.randint(low, 99)]
            )
        )

    def atom(self) -> str:
        return self.rng.choice("abcd") if self.rng.random() < 0.7 else self.constant()

    def expression(self, depth: int) -> str:
        roll = self.rng.random()
        if depth == 0 or roll < 0.15:
            return self.atom()
        if roll < 0.55:
            op = self.rng.choice(["+", "-", "*", "&", "|", "^", "//", "%"])
            left = self.rng.choice("abcd") if op in ("//", "%") else self.expression(depth - 1)
            return f"({left} {op} {self.variable(depth - 1)})"
        if roll < 0.65:
            return f"({self.variable(depth - 1)} {self.rng.choice(['<<', '>>'])} {self.rng.randint(0, 63)})"
        if roll < 0.7:
            return f"({self.rng.choice('abcd')} {self.rng.choice(['<<', '>>'])} {self.rng.choice('abcd')})"
        if roll < 0.78:
            return f"({self.rng.choice(['-', '~'])}{self.rng.choice('abcd')})"
        if roll < 0.88:
            return f"({self.variable(depth - 1)} if {self.condition(depth - 1)} else {self.rng.choice('abcd')})"
        if roll < 0.94:
            return f"{self.rng.choice(['min', 'max'])}({self.rng.choice('abcd')}, {self.variable(depth - 1)})"
        return f"({self.rng.choice('abcd')} {self.rng.choice(['and', 'or'])} {self.rng.choice('abcd')})"

    def variable(self, depth: int) -> str:
        """An expression that is not constant, with the variables' own type."""
        text = self.expression(depth)
        return text if any(c in "abcd" for c in text.replace("and", "")) else f"({self.rng.choice('abcd')} + {text})"

    def condition(self, depth: int) -> str:
        roll = self.rng.random()
        if roll < 0.5 or depth <= 0:
            ops = ["<", "<=", ">", ">=", "==", "!="]
            right = self.atom()
            if not self.signed and right == "0":
                ops = ["==", "!=", ">", "<="]
            text = f"{self.rng.choice('abcd')} {self.rng.choice(ops)} {right}"
            return (
                f"{text} < {self.rng.choice('abcd')}"
                if self.rng.random() < 0.1 and not right.isdigit() and right[0] != "-"
                else text
            )
        if roll < 0.65:
            return f"not {self.rng.choice('abcd')}"
        if roll < 0.75:
            return f"{self.rng.choice('abcd')} & {self.constant().lstrip('-')}"
        return f"({self.condition(depth - 1)} {self.rng.choice(['and', 'or'])} {self.condition(depth - 1)})"

    def statement(self, indent: int, in_loop: bool) -> None:
        pad = "    " * indent
        roll = self.rng.random()
        if roll < 0.4 or indent > 2:
            self.lines.append(f"{pad}{self.rng.choice('abcd')} = {self.expression(3)}")
        elif roll < 0.6:
            op = self.rng.choice(["+=", "-=", "*=", "&=", "|=", "^=", "//=", "%=", ">>="])
            value = str(self.rng.randint(0, 63)) if op == ">>=" else self.variable(2)
            self.lines.append(f"{pad}{self.rng.choice('abcd')} {op} {value}")
        elif roll < 0.8:
            self.lines.append(f"{pad}if {self.condition(2)}:")
            self.statement(indent + 1, in_loop)
            if in_loop and self.rng.random() < 0.3:
                self.lines.append(f"{pad}    {self.rng.choice(['break', 'continue'])}")
            if self.rng.random() < 0.5:
                self.lines.append(f"{pad}else:")
                self.statement(indent + 1, in_loop)
        elif self.loops < 3:
            self.loops += 1
            kind = self.rng.choice(["range", "range", "unroll"])
            count = f"range({self.rng.randint(0, 2)}, {self.rng.randint(0, 5)})"
            name = f"i{self.loops}"
            self.lines.append(f"{pad}for {name} in {count if kind == 'range' else f'unroll({count})'}:")
            self.lines.append(f"{pad}    {self.rng.choice('abcd')} += {name}")
            self.statement(indent + 1, True)
        else:
            self.lines.append(f"{pad}{self.rng.choice('abcd')} ^= {self.atom()}")


class _Context:
    pass


def python_answer(body: str, signed: bool, values: dict[str, int]) -> int:
    """What CPython makes of the same text, as 64 unsigned bits."""
    number = Signed if signed else Unsigned
    context = _Context()
    for name, value in values.items():
        setattr(context, name, number(value))
    lines = "\n".join("    " + line for line in body.splitlines())
    tree = _KeepType().visit(ast.parse(f"def f(ctx):\n{lines}\n"))
    scope = {"unroll": lambda sequence: sequence, "Number": number, "i64": None, "u64": None}
    exec(compile(ast.fix_missing_locations(tree), "body", "exec"), scope)
    return int(scope["f"](context)) & M


class _KeepType(ast.NodeTransformer):
    """A variable keeps its type, also when a plain constant is assigned."""

    def visit_Assign(self, node):
        node.value = ast.Call(ast.Name("Number", ast.Load()), [node.value], [])
        return node
