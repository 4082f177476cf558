"""Nothing of Python's syntax is passed over in silence: every node and every field of it is handled or refused."""

from __future__ import annotations

import ast
import copy
import sys

import pytest
from lang_harness import PRELUDE, function_text, lower

from pybpf.errors import CompileError
from pybpf.lang import syntax
from pybpf.lang.diagnostics import SourceFile

# Every kind of node that the language has, in one function.
SAMPLE = '''
def f(ctx, a: u64 = 1) -> u64:
    """What it does."""
    x: u64 = -ctx.a
    y = z = 5
    x += m[1:2][0] if not y else (1, 2)[0]
    for i in range(3):
        if i > 1 and x < 2 <= y or i in (1, 2):
            continue
        else:
            break
    while atmost(3):
        pass
    with ring.reserve(T) as e:
        e.a, e.b = 1, 2
    if (w := m.lookup(x, key=2)):
        del m[1], m[x:y:2]
    return f(x + 1)
'''

# Fields that hold no code: names, constants, contexts; comments on types, which Python leaves out unless asked.
PLAIN = {
    ("Constant", "value"), ("Constant", "kind"), ("Name", "id"), ("Attribute", "attr"), ("keyword", "arg"),
    ("AnnAssign", "simple"), ("arg", "arg"), ("FunctionDef", "name"),
}  # fmt: skip
CONTEXTS = {"ctx", "type_comment"}
# What decides the meaning of an expression; each of their values is tried below.
OPERATORS = {("BoolOp", "op"), ("BinOp", "op"), ("UnaryOp", "op"), ("AugAssign", "op"), ("Compare", "ops")}
# Of a function: what is above its body, which check_body(), routines and lowering look at.
OF_FUNCTIONS = {
    ("FunctionDef", name) for name in ("args", "body", "decorator_list", "returns", "type_params")
} | {("arg", "annotation")}  # fmt: skip


def source() -> SourceFile:
    return SourceFile("x.py", "x.py", SAMPLE)


def known() -> dict[type[ast.AST], tuple[str, ...]]:
    return syntax._FIELDS


def test_every_field_of_every_node_is_accounted_for():
    """By the list of fields of this Python's own ast: what a new version adds must be looked at."""
    for node, fields in known().items():
        rest = set(node._fields) - set(fields) - CONTEXTS
        unknown = {f for f in rest if (node.__name__, f) not in PLAIN | OPERATORS}
        assert not unknown, f"{node.__name__} has fields that nobody looks at: {unknown}"
    for kind in (ast.FunctionDef, ast.arg):
        unknown = {f for f in kind._fields if (kind.__name__, f) not in PLAIN | OF_FUNCTIONS and f not in CONTEXTS}
        assert not unknown


def every(base: type[ast.AST]) -> list[type[ast.AST]]:
    found = []
    for name in dir(ast):
        thing = getattr(ast, name)
        if isinstance(thing, type) and issubclass(thing, base) and thing is not base:
            found.append(thing)
    return found


# Names of old Pythons, which the parser does not make any more.
GONE = {"Num", "Str", "Bytes", "NameConstant", "Ellipsis", "Index", "ExtSlice", "AugLoad", "AugStore", "Param", "Suite"}


def minimal(kind: type[ast.AST]) -> ast.AST:
    node = kind()
    for field in kind._fields:
        setattr(node, field, [])
    return ast.copy_location(node, ast.parse("x").body[0])


@pytest.mark.parametrize("kind", [k for k in every(ast.stmt) if k.__name__ not in GONE], ids=lambda k: k.__name__)
def test_other_statements_are_refused(kind):
    if kind in known():
        return
    function = ast.parse(SAMPLE).body[0]
    function.body[3:3] = [minimal(kind)]
    with pytest.raises(CompileError):
        syntax.check_body(source(), function)


def places() -> list[tuple[int, str, int]]:
    """Every place in SAMPLE that holds an expression or a statement: node number, field, index."""
    found = []
    for number, node in enumerate(ast.walk(ast.parse(SAMPLE).body[0])):
        if type(node) not in known():
            continue
        for field in known()[type(node)]:
            child = getattr(node, field)
            for index in range(len(child) if isinstance(child, list) else 1):
                found.append((number, field, index))
            if not child and isinstance(child, list):
                found.append((number, field, -1))
    return found


def poison(statement: bool) -> ast.AST:
    """Something that the language does not have."""
    text = "async_ = {1}" if statement else "{1}"
    node = ast.parse(text).body[0]
    return node if statement else node.value


@pytest.mark.parametrize("where", places(), ids=str)
def test_every_child_is_looked_at(where):
    """A set, which the language has not, is refused wherever it is put."""
    number, field, index = where
    function = copy.deepcopy(ast.parse(SAMPLE).body[0])
    node = list(ast.walk(function))[number]
    child = getattr(node, field)
    if isinstance(child, list):
        model = child[index] if child else None
        if field == "keywords" and model is None:
            return
        if isinstance(model, (ast.withitem, ast.keyword)):
            return  # no place for code itself; their own fields are places of their own
        statement = isinstance(model, ast.stmt) or (model is None and field in ("orelse", "body"))
        child[index:] = [poison(statement)]
    else:
        setattr(node, field, poison(False))
    ast.fix_missing_locations(function)
    with pytest.raises(CompileError):
        syntax.check_body(source(), function)


def test_the_sample_has_everything():
    function = ast.parse(SAMPLE).body[0]
    syntax.check_body(source(), function)
    assert set(known()) <= {type(node) for node in ast.walk(function)}
    assert PRELUDE


BINARY = {"+": 9, "-": 5, "*": 14, "//": 3, "%": 1, "<<": 28, ">>": 1, "&": 2, "|": 7, "^": 5, "**": 0, "/": 0, "@": 0}


def test_all_operators_of_python_are_there():
    assert len(BINARY) == len(every(ast.operator))
    assert {type(ast.parse(f"a {op} b").body[0].value.op) for op in BINARY} == set(every(ast.operator))
    assert len(every(ast.unaryop)) == 4
    assert len(every(ast.cmpop)) == 10
    assert len(every(ast.boolop)) == 2


@pytest.mark.parametrize("op", BINARY)
def test_operators(tmp_path, op):
    """Each works, on variables and in place, or is refused with words."""
    from lang_harness import World, context

    for body in (f"return ctx.c {op} ctx.d", f"x = ctx.c\nx {op}= ctx.d\nreturn x"):
        text = function_text(body)
        if op in ("**", "/", "@"):
            with pytest.raises(CompileError, match=r"part of the language|use '//'|constants only"):
                lower(tmp_path, text)
            continue
        assert World(lower(tmp_path, text), context(c=7, d=2)).run() == BINARY[op]


@pytest.mark.parametrize(
    "text",
    [
        "def g(*a):\n    return 1",
        "def g(**a):\n    return 1",
        "def g(*, a):\n    return 1",
        "def g(*, a=1):\n    return 1",
        pytest.param(
            "def g[T](a):\n    return 1",
            marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="this Python has no type parameters"),
        ),
    ],
)
def test_parameters_that_are_not_known(text):
    with pytest.raises(CompileError, match="not part of the language"):
        syntax.check_body(source(), ast.parse(text).body[0])
