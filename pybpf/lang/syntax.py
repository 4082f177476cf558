"""Which Python the language knows: everything else is refused here, before any meaning is looked at.

Nothing may be passed over in silence, so every node type is listed with the
fields that the compiler handles, also in code that turns out to be dead.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

from pybpf.lang.diagnostics import SourceFile, error_at

# Nodes that are understood, with the fields that hold further nodes. What of these must be empty is checked below.
_STATEMENTS: dict[type[ast.AST], tuple[str, ...]] = {
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
}
_EXPRESSIONS: dict[type[ast.AST], tuple[str, ...]] = {
    ast.BoolOp: ("values",),
    ast.BinOp: ("left", "right"),
    ast.UnaryOp: ("operand",),
    ast.IfExp: ("test", "body", "orelse"),
    ast.Compare: ("left", "comparators"),
    ast.Call: ("func", "args", "keywords"),
    ast.Constant: (),
    ast.Attribute: ("value",),
    ast.Subscript: ("value", "slice"),
    ast.Name: (),
    ast.Tuple: ("elts",),
    ast.Slice: ("lower", "upper", "step"),
    ast.NamedExpr: ("target", "value"),
}
_FIELDS = {**_STATEMENTS, **_EXPRESSIONS, ast.withitem: ("context_expr", "optional_vars"), ast.keyword: ("value",)}

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


def check_body(source: SourceFile, function: ast.FunctionDef, *, head_only: bool = False) -> None:
    """Raise CompileError for the first thing in ``function`` that the language does not know.

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
    for statement in function.body:
        if not head_only:
            _statement(source, statement)
        elif not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
            raise error_at(source, statement, "the body of a kernel function's declaration is '...'")


def _statement(source: SourceFile, node: ast.stmt) -> None:
    if type(node) not in _STATEMENTS:
        raise error_at(source, node, _hint(node))
    if isinstance(node, ast.For):
        if node.orelse:
            raise error_at(source, node.orelse[0], "'for ... else' is not part of the language")
        _target(source, node.target)
        _expression(source, node.iter)
        _block(source, node.body)
    elif isinstance(node, ast.While):
        if node.orelse:
            raise error_at(source, node.orelse[0], "'while ... else' is not part of the language")
        _expression(source, node.test)
        _block(source, node.body)
    elif isinstance(node, ast.If):
        _expression(source, node.test)
        _block(source, node.body)
        _block(source, node.orelse)
    elif isinstance(node, ast.With):
        if len(node.items) != 1:
            raise error_at(source, node.items[1].context_expr, "one item in a 'with': nest them")
        item = node.items[0]
        _expression(source, item.context_expr)
        if not isinstance(item.optional_vars, ast.Name):
            raise error_at(source, item.optional_vars or node, "write 'with ring.reserve(T) as name'")
        _block(source, node.body)
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            _target(source, target)
        _expression(source, node.value)
    elif isinstance(node, ast.AnnAssign):
        if not isinstance(node.target, ast.Name):
            raise error_at(source, node.target, "only a variable can be annotated")
        if node.value is None:
            raise error_at(source, node, f"variable {node.target.id!r} needs a value: write '{node.target.id}: T = 0'")
        _expression(source, node.annotation)
        _expression(source, node.value)
    elif isinstance(node, ast.Delete):
        for target in node.targets:
            if not isinstance(target, ast.Subscript):
                raise error_at(source, target, "only an entry of a map can be deleted: del m[k]")
            _expression(source, target)
    else:
        _children(source, node, _STATEMENTS[type(node)])


def _block(source: SourceFile, body: list[ast.stmt]) -> None:
    for statement in body:
        _statement(source, statement)


def _target(source: SourceFile, node: ast.expr) -> None:
    if isinstance(node, ast.Tuple):
        for element in node.elts:
            _target(source, element)
    elif isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)):
        _expression(source, node)
    else:
        raise error_at(source, node, _hint(node))


def _expression(source: SourceFile, node: ast.expr) -> None:
    fields = _EXPRESSIONS.get(type(node))
    if fields is None:
        raise error_at(source, node, _hint(node))
    if isinstance(node, ast.Constant):
        if isinstance(node.value, (float, complex)) or node.value is Ellipsis:
            raise error_at(source, node, f"{node.value!r}: there are only integers, strings and bytes in the kernel")
        return
    if isinstance(node, ast.Call):
        for keyword in node.keywords:
            if keyword.arg is None:
                raise error_at(source, keyword.value, "'**' is not part of the language: write the arguments out")
            _expression(source, keyword.value)
        for argument in (node.func, *node.args):
            _expression(source, argument)
        return
    _children(source, node, fields)


def _children(source: SourceFile, node: ast.AST, fields: tuple[str, ...]) -> None:
    for field in fields:
        child = getattr(node, field)
        if type(child) is list:
            for element in child:
                _expression(source, element)
        elif child is not None:
            _expression(source, child)


def _hint(node: ast.AST) -> str:
    return _HINTS.get(type(node), f"{type(node).__name__} is not part of the language")
