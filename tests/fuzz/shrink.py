"""Shrinks a failing program: statements and parts of expressions go as long as it fails in the same way."""

from __future__ import annotations

import ast

LIMIT = 600  # texts tried for one program, some 20 seconds on a quiet machine


def shrink(text, still_fails, limit=LIMIT):
    """The smallest text found for which ``still_fails`` holds."""
    again = True
    while again and limit:
        again = False
        for edits in (removals, unwrappings, operands):
            index = 0
            while limit:
                tree = ast.parse(text)
                choices = edits(tree)
                if index >= len(choices):
                    break
                choices[index]()
                smaller = _text(tree)
                index += 1
                if smaller is None or len(smaller) >= len(text):
                    continue
                limit -= 1
                if still_fails(smaller):
                    text = smaller
                    again = True
                    index -= 1  # what follows has moved up
    return text


def _text(tree):
    for node in ast.walk(tree):
        if isinstance(node, (ast.If, ast.For, ast.While, ast.With, ast.FunctionDef)) and not node.body:
            node.body.append(ast.Pass())
    try:
        return ast.unparse(ast.fix_missing_locations(tree)) + "\n"
    except (ValueError, AttributeError):  # a part that cannot stand where it was put
        return None


def _blocks(tree):
    """Every list of statements of a text."""
    for node in ast.walk(tree):
        for field in ("body", "orelse"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                yield block


def removals(tree):
    """Edits that take out a run of statements: longer runs first, and of those the last, which others need least."""
    found = []
    for block in _blocks(tree):
        length = len(block)
        while length:
            for start in range(len(block) - length, -1, -max(1, length // 2)):
                found.append((-length, lambda b=block, s=start, n=length: b.__delitem__(slice(s, s + n))))
            length //= 2
    return [edit for _, edit in sorted(found, key=lambda item: item[0])]


def unwrappings(tree):
    """Edits that put a compound statement's body in its place."""
    return [
        lambda b=block, i=index: b.__setitem__(slice(i, i + 1), b[i].body)
        for block in _blocks(tree)
        for index, node in enumerate(block)
        if isinstance(node, (ast.If, ast.For))
    ]


def operands(tree):
    """Edits that put an operand, or 1, in place of an expression; outer expressions first."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.arguments)) or (isinstance(node, ast.Call) and _declares(node)):
            continue
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list", "target", "targets", "func"):
                continue
            for index, child in enumerate(value) if isinstance(value, list) else ((None, value),):
                if isinstance(
                    child, (ast.BinOp, ast.BoolOp, ast.IfExp, ast.UnaryOp, ast.Call, ast.Compare, ast.Subscript)
                ):
                    parts = [part for part in ast.iter_child_nodes(child) if isinstance(part, ast.expr)]
                    for part in [*parts, ast.Constant(1)]:
                        found.append(lambda n=node, f=field, i=index, p=part: _put(n, f, i, p))
    return found


def _declares(call):
    return isinstance(call.func, ast.Name) and call.func.id[:1].isupper()


def _put(node, field, index, part):
    if index is None:
        setattr(node, field, part)
    else:
        getattr(node, field)[index] = part
