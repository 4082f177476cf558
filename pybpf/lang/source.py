"""From a function object to its syntax tree: every file is read once, functions are found by line.

``inspect.getsource`` is not used: it guesses where a function ends and differs
between Python versions. The parser's own positions do not.
"""

from __future__ import annotations

import ast
import builtins
import sys
from importlib.util import decode_source
from types import FunctionType

from pybpf.errors import CompileError
from pybpf.lang.diagnostics import SourceFile, error_at
from pybpf.lang.syntax import check_body, nodes

# The fields by which a statement, or a part of one, holds statements.
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


class Routine:
    """A function of the language: its tree, its file, and what the names in it mean outside of it."""

    __slots__ = ("assigned", "function", "names", "node", "source")

    def __init__(
        self, function: FunctionType, node: ast.FunctionDef, source: SourceFile, assigned: frozenset[str]
    ) -> None:
        self.function = function
        self.node = node
        self.source = source
        self.assigned = assigned
        self.names: dict[str, object] = {}
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            try:
                self.names[name] = cell.cell_contents
            except ValueError:  # a name of the enclosing function that has no value yet
                continue

    def lookup(self, name: str) -> object:
        """What a name that is not local means: closure, module, Python's builtins. Raises KeyError."""
        if name in self.names:
            return self.names[name]
        if name in self.function.__globals__:
            return self.function.__globals__[name]
        return vars(builtins)[name]

    def known_names(self) -> list[str]:
        """The names of the enclosing function and of the module, for hints."""
        return [*self.names, *self.function.__globals__]


class _File:
    """One source file, whose functions are parsed as they are asked for."""

    __slots__ = ("_all", "_lines", "_text", "path", "source")

    def __init__(self, path: str, module: str) -> None:
        self.path = path
        self._text = _read(path, module)
        self.source = SourceFile(path, _label(path, module), self._text)
        self._lines = self._text.split("\n")
        self._all: dict[tuple[int, str], ast.FunctionDef] | None = None

    def find(self, line: int, name: str) -> ast.FunctionDef | None:
        """The function whose first line, that of a decorator if it has any, is ``line``."""
        if self._all is None:
            node = self._alone(line, name)
            if node is not None:
                return node
            self._all = self._parse_all()
        return self._all.get((line, name))

    def _alone(self, line: int, name: str) -> ast.FunctionDef | None:
        """The same by parsing only the lines of an unindented function: most of a file is none of ours.

        It is taken to end before the next unindented line. Where that lies inside
        brackets or a string, this is no whole function, and the answer is None.
        """
        lines, end = self._lines, line - 1
        while end < len(lines) and lines[end].startswith("@"):
            end += 1
        if end >= len(lines) or not lines[end].startswith("def "):
            return None
        end += 1
        while end < len(lines) and lines[end][:1] in ("", " ", "\t", "#"):
            end += 1
        try:
            body = ast.parse("\n" * (line - 1) + "\n".join(lines[line - 1 : end]) + "\n", self.path).body
        except (SyntaxError, ValueError):
            return None
        node = body[0] if len(body) == 1 else None
        return node if isinstance(node, ast.FunctionDef) and node.name == name else None

    def _parse_all(self) -> dict[tuple[int, str], ast.FunctionDef]:
        try:
            tree = ast.parse(self._text, self.path)
        except SyntaxError as error:
            raise CompileError(f"{self.path}:{error.lineno}:{error.offset}: {error.msg}") from None
        functions: dict[tuple[int, str], ast.FunctionDef] = {}
        for node in _functions(tree):
            # Code objects start at the first decorator.
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if (first, node.name) in functions:
                raise error_at(self.source, node, f"two functions {node.name!r} start on one line")
            functions[first, node.name] = node
        return functions


class Sources:
    """The files of one compilation."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._routines: dict[FunctionType, Routine] = {}

    def declaration(self, function: FunctionType) -> Routine:
        """A function of which only the head counts: its body is ``...``, a docstring or both. Raises CompileError."""
        return self.routine(function, declared=True)

    def routine(self, function: FunctionType, *, declared: bool = False) -> Routine:
        """The routine behind a function object. Raises CompileError when its source cannot be had or is not DSL."""
        found = self._routines.get(function)
        if found is None:
            code = function.__code__
            path = code.co_filename
            file = self._files.get(path)
            if file is None:
                file = self._files[path] = _File(path, function.__module__)
            node = file.find(code.co_firstlineno, code.co_name)
            if node is None:
                raise CompileError(
                    f"{path}:{code.co_firstlineno}:1: function {code.co_name!r} is not at this line: "
                    "the file changed since it was imported, or this is not a plain 'def'"
                )
            assigned = check_body(file.source, node, head_only=declared)
            found = self._routines[function] = Routine(function, node, file.source, assigned)
        return found


def _functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """All function definitions. Statements only are looked at, which are a tenth of the nodes."""
    found = []
    work: list[ast.AST] = [tree]
    for node in work:
        if isinstance(node, ast.FunctionDef):
            found.append(node)
        for field in _BLOCKS:
            work += getattr(node, field, ())
    return found


def _read(path: str, module: str) -> str:
    try:
        with open(path, "rb") as file:
            raw = file.read()
        first, second, *_ = [*raw.split(b"\n", 2), b""]
        if b"coding" in first or b"coding" in second:  # as it may say in one of these
            return decode_source(raw)
        return "\n".join(raw.decode("utf-8-sig").replace("\r\n", "\n").split("\r"))
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        # Inside a zip archive only the module's loader can read it.
        loader = getattr(sys.modules.get(module), "__loader__", None)
        get_source = getattr(loader, "get_source", None)
        try:
            text = get_source(module) if get_source is not None and module != "__main__" else None
        except (ImportError, OSError):
            text = None
        if text is None:
            raise CompileError(
                f"{path}:1:1: the source cannot be read ({error}): compiling needs the .py file"
            ) from None
        return str(text)


def _label(path: str, module: str) -> str:
    """A path that does not depend on where the tree stands: ``programs/files.py`` for module programs.files."""
    parts = module.split(".")
    name = path.replace("\\", "/").split("/")[-1]
    if name == "__init__.py":
        return "/".join([*parts, name])
    return "/".join([*parts[:-1], name])


def assigned_names(body: list[ast.stmt]) -> frozenset[str]:
    """Names that the statements, which check_body() has seen, assign."""
    return frozenset([node.id for node in nodes(body) if type(node) is ast.Name and type(node.ctx) is ast.Store])
