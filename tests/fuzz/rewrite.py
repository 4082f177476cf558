"""Rewrites a program's text into what CPython runs as the language means it."""

from __future__ import annotations

import ast


class Rewrite(ast.NodeTransformer):
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

    def visit_While(self, node):
        """``while atmost(n) and test``: a counted loop that the test may end."""
        parts = node.test.values if isinstance(node.test, ast.BoolOp) else [node.test]
        body = [line for part in node.body for line in _lines(self.visit(part))]
        if not (isinstance(parts[0], ast.Call) and ast.unparse(parts[0].func) == "atmost"):
            node.test, node.body = self._test(node.test), body
            return node
        ends = [ast.If(ast.UnaryOp(ast.Not(), self._test(part)), [ast.Break()], []) for part in parts[1:]]
        return ast.For(ast.Name("_", ast.Store()), _call("range", *parts[0].args), ends + body, [])

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
        if isinstance(node.func, ast.Name) and (node.func.id == "addr" or node.func.id.startswith("atomic_")):
            place = node.args[0]
            if isinstance(place, ast.Attribute):
                place = _call("_field", place.value, ast.Constant(place.attr))
            elif isinstance(place, ast.Subscript):
                place = _call("_item", place.value, place.slice)
            return place if node.func.id == "addr" else _call(node.func.id, place, *node.args[1:])
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
