"""Which Python the language knows: everything else is refused here, before any meaning is looked at.

Nothing may be passed over in silence, so every node type is listed with the
fields that the compiler handles, also in code that turns out to be dead.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from typing import Any, Optional

from pybpf.lang.diagnostics import SourceFile, error_at

# Nodes that are understood, with the fields that hold further nodes. What of these must be empty is checked below.
_FIELDS: dict[type[ast.AST], tuple[str, ...]] = {
    ast.Return: ("value",),
    ast.Assign: ("targets", "value"),
    ast.AugAssign: ("target", "value"),
    ast.AnnAssign: ("target", "annotation", "value"),
    ast.If: ("test", "body", "orelse"),
    ast.For: ("target", "iter", "body", "orelse"),
    ast.While: ("test", "body", "orelse"),
    ast.With: ("items", "body"),
    ast.Expr: ("value",),
    ast.Pass: (),
    ast.Break: (),
    ast.Continue: (),
    ast.Delete: ("targets",),
    ast.withitem: ("context_expr", "optional_vars"),
    ast.BoolOp: ("values",),
    ast.BinOp: ("left", "right"),
    ast.UnaryOp: ("operand",),
    ast.IfExp: ("test", "body", "orelse"),
    ast.Compare: ("left", "comparators"),
    ast.Call: ("func", "args", "keywords"),
    ast.keyword: ("value",),
    ast.Constant: (),
    ast.Attribute: ("value",),
    ast.Subscript: ("value", "slice"),
    ast.Name: (),
    ast.Tuple: ("elts",),
    ast.Slice: ("lower", "upper", "step"),
    ast.NamedExpr: ("target", "value"),
}
_FROM_LAST = {kind: fields[::-1] for kind, fields in _FIELDS.items()}

_HINTS: dict[type, str] = {
    ast.AsyncFor: "'async' is not part of the language",
    ast.AsyncWith: "'async' is not part of the language",
    ast.Await: "'await' is not part of the language",
    ast.FunctionDef: "a function inside a compiled function: define it at module level with @inline",
    ast.AsyncFunctionDef: "'async' is not part of the language",
    ast.ClassDef: "a class inside a compiled function: define it at module level",
    ast.Try: "the kernel has no exceptions: test results with 'if'",
    ast.Raise: "the kernel has no exceptions: return a value",
    ast.Assert: "'assert' is not part of the language: use 'if'",
    ast.Import: "import at module level",
    ast.ImportFrom: "import at module level",
    ast.Global: "'global' is not part of the language: shared state lives in maps",
    ast.Nonlocal: "'nonlocal' is not part of the language: shared state lives in maps",
    ast.Lambda: "'lambda' is not part of the language: define an @inline function",
    ast.ListComp: "comprehensions are not part of the language: use 'for'",
    ast.SetComp: "comprehensions are not part of the language: use 'for'",
    ast.DictComp: "comprehensions are not part of the language: use 'for'",
    ast.GeneratorExp: "comprehensions are not part of the language: use 'for'",
    ast.List: "lists are not part of the language: use a tuple of constants or an array in a Struct",
    ast.Dict: "dictionaries are not part of the language: use a map",
    ast.Set: "sets are not part of the language: use a tuple",
    ast.JoinedStr: "f-strings are not part of the language",
    ast.Starred: "'*' is not part of the language here: write the elements out",
    ast.Yield: "'yield' is not part of the language",
    ast.YieldFrom: "'yield' is not part of the language",
}


def nodes(body: Iterable[ast.AST]) -> list[ast.AST]:
    """The given nodes and all below them, operators and contexts apart, of code that check_body() has accepted."""
    found = list(body)
    for node in found:
        for field in _FIELDS[type(node)]:
            child = getattr(node, field)
            if type(child) is list:
                found += child
            elif child is not None:
                found.append(child)
    return found


def check_body(source: SourceFile, function: ast.FunctionDef, *, head_only: bool = False) -> frozenset[str]:
    """The names that ``function`` assigns. Raises CompileError for the first thing in it that the language lacks.

    With ``head_only`` it is a declaration, whose body is ``...`` or a docstring.
    """
    args = function.args
    for bad, what in (
        (args.vararg, "*args"),
        (args.kwarg, "**kwargs"),
        (next(iter(args.kwonlyargs), None), "keyword-only parameters"),
    ):
        if bad is not None:
            raise error_at(source, bad, f"{what} are not part of the language")
    if getattr(function, "type_params", None):
        raise error_at(source, function, "type parameters are not part of the language")
    if not head_only:
        return _check(source, function.body)
    for statement in function.body:
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
            raise error_at(source, statement, "the body of a kernel function's declaration is '...'")
    return frozenset()


def _check(source: SourceFile, body: list[ast.stmt]) -> frozenset[str]:
    """Look at every node of ``body``, in the order of the text; the names that are assigned."""
    assigned = []
    work: list[ast.AST] = [*reversed(body)]
    while work:
        node = work.pop()
        kind = type(node)
        fields = _FROM_LAST.get(kind)
        if fields is None:
            raise error_at(source, node, _HINTS.get(kind, f"{kind.__name__} is not part of the language"))
        if kind is ast.Name:
            if type(node.ctx) is ast.Store:  # type: ignore[attr-defined]
                assigned.append(node.id)  # type: ignore[attr-defined]
            continue
        rule = _RULES.get(kind)
        if rule is not None:
            fault = rule(node)
            if fault is not None:
                raise error_at(source, *fault)
        for field in fields:
            child = getattr(node, field)
            if type(child) is list:
                work += reversed(child)
            elif child is not None:
                work.append(child)
    return frozenset(assigned)


# --- what a node must not be, beyond its kind: the offending part, and why

_Fault = Optional["tuple[ast.AST, str]"]


def _loop(node: ast.For | ast.While) -> _Fault:
    if node.orelse:
        word = "for" if isinstance(node, ast.For) else "while"
        return node.orelse[0], f"'{word} ... else' is not part of the language"
    return None


def _with(node: ast.With) -> _Fault:
    if len(node.items) != 1:
        return node.items[1].context_expr, "one item in a 'with': nest them"
    name = node.items[0].optional_vars
    if not isinstance(name, ast.Name):
        return name or node, "write 'with ring.reserve(T) as name'"
    return None


def _annotated(node: ast.AnnAssign) -> _Fault:
    if not isinstance(node.target, ast.Name):
        return node.target, "only a variable can be annotated"
    if node.value is None:
        return node, f"variable {node.target.id!r} needs a value: write '{node.target.id}: T = 0'"
    return None


def _delete(node: ast.Delete) -> _Fault:
    for target in node.targets:
        if not isinstance(target, ast.Subscript):
            return target, "only an entry of a map can be deleted: del m[k]"
    return None


def _constant(node: ast.Constant) -> _Fault:
    if isinstance(node.value, (float, complex)) or node.value is Ellipsis:
        return node, f"{node.value!r}: there are only integers, strings and bytes in the kernel"
    return None


def _call(node: ast.Call) -> _Fault:
    for keyword in node.keywords:
        if keyword.arg is None:
            return keyword.value, "'**' is not part of the language: write the arguments out"
    return None


_RULES: dict[type[ast.AST], Callable[[Any], _Fault]] = {
    ast.For: _loop,
    ast.While: _loop,
    ast.With: _with,
    ast.AnnAssign: _annotated,
    ast.Delete: _delete,
    ast.Constant: _constant,
    ast.Call: _call,
}
