"""Shrinks a failing program: statements and parts of expressions go as long as it fails in the same way."""

from __future__ import annotations

import ast
import time

LIMIT = 20  # seconds for one program


def candidates(text):
    """Texts with an operand in place of an expression."""
    count = sum(1 for _ in ast.walk(ast.parse(text)))
    for number in range(count):
        for choice in range(4):
            tree = ast.parse(text)
            if _change(tree, number, choice):
                try:
                    yield ast.unparse(ast.fix_missing_locations(tree)) + "\n"
                except (ValueError, AttributeError):
                    pass


def _change(tree, number, choice):
    node = list(ast.walk(tree))[number]
    for field, value in ast.iter_fields(node):
        for holder, index, child in _children(node, field, value):
            if not isinstance(child, ast.expr):
                continue
            parts = [part for part in ast.iter_child_nodes(child) if isinstance(part, ast.expr)]
            if isinstance(child, (ast.BinOp, ast.BoolOp, ast.IfExp, ast.UnaryOp, ast.Call)) and choice < len(parts):
                part = parts[choice]
                if index is None:
                    setattr(holder, field, part)
                else:
                    getattr(holder, field)[index] = part
                return True
    return False


def _children(node, field, value):
    if isinstance(value, list):
        for index, child in enumerate(value):
            yield node, index, child
    else:
        yield node, None, value


def _blocks(tree):
    """Every list of statements of a text."""
    for node in ast.walk(tree):
        for field in ("body", "orelse"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                yield block


def without_statements(text):
    """Texts without a run of statements, longer runs first, and with blocks taken out of their statement."""
    sizes = [len(block) for block in _blocks(ast.parse(text))]
    for position, size in enumerate(sizes):
        length = size
        while length:
            for start in range(0, size - length + 1, max(1, length // 2)):
                tree = ast.parse(text)
                block = list(_blocks(tree))[position]
                del block[start : start + length]
                yield _text(tree)
            length //= 2
        for index in range(size):
            tree = ast.parse(text)
            block = list(_blocks(tree))[position]
            inner = getattr(block[index], "body", None)
            if isinstance(block[index], (ast.If, ast.For)) and inner:
                block[index : index + 1] = inner
                yield _text(tree)


def _text(tree):
    for node in ast.walk(tree):
        if isinstance(node, (ast.If, ast.For, ast.With, ast.FunctionDef)) and not node.body:
            node.body.append(ast.Pass())
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def shrink(text, still_fails):
    """The smallest text found for which ``still_fails`` holds."""
    end = time.monotonic() + LIMIT
    for makers in ((without_statements,), (without_statements, candidates)):
        again = True
        while again and time.monotonic() < end:
            again = False
            for maker in makers:
                for smaller in maker(text):
                    if time.monotonic() > end:
                        return text
                    if len(smaller) < len(text) and still_fails(smaller):
                        text = smaller
                        again = True
                        break
                if again:
                    break
    return text
