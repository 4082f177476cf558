"""Errors that point at the source: ``file:line:col: message``, then the line and a caret."""

from __future__ import annotations

import ast
import os

from pybpf.errors import CompileError
from pybpf.lang.ir import Loc


class SourceFile:
    """The text of one source file. ``path`` is for people, ``label`` for objects (the same on every machine)."""

    __slots__ = ("_locs", "label", "lines", "path")

    def __init__(self, path: str, label: str, text: str) -> None:
        self.path = path
        self.label = label
        self.lines = text.splitlines()
        self._locs: dict[tuple[int, int], Loc] = {}

    def line(self, number: int) -> str:
        """Line ``number`` (1-based), without its end; empty when there is none."""
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""

    def column(self, number: int, byte_offset: int) -> int:
        """1-based column in characters of a byte offset as the parser gives it."""
        return _column(self.line(number), byte_offset)

    def loc(self, node: ast.AST) -> Loc:
        """Where ``node`` starts, for line information."""
        line: int = getattr(node, "lineno", 1)
        offset: int = getattr(node, "col_offset", 0)
        loc = self._locs.get((line, offset))
        if loc is None:
            text = self.line(line)
            loc = self._locs[line, offset] = Loc(self.label, line, _column(text, offset), text.strip())
        return loc

    def place(self, node: ast.AST) -> str:
        """``file:line:col`` of ``node``, the path relative to the working directory if it lies under it."""
        line: int = getattr(node, "lineno", 1)
        path = os.path.relpath(self.path)
        if path.startswith(".."):
            path = self.path
        return f"{path}:{line}:{self.column(line, getattr(node, 'col_offset', 0))}"

    def caret(self, node: ast.AST) -> str:
        """The source line of ``node`` with a mark under it."""
        line: int = getattr(node, "lineno", 1)
        text = self.line(line)
        start = self.column(line, getattr(node, "col_offset", 0))
        end_line = getattr(node, "end_lineno", line)
        end = self.column(line, getattr(node, "end_col_offset", 0)) if end_line == line else len(text) + 1
        pad = "".join("\t" if c == "\t" else " " for c in text[: start - 1])
        return f"{text}\n{pad}^{'~' * max(end - start - 1, 0)}"


def _column(text: str, byte_offset: int) -> int:
    if text.isascii():
        return min(byte_offset, len(text)) + 1
    return len(text.encode()[:byte_offset].decode(errors="replace")) + 1


class LocatedError(CompileError):
    """A CompileError that knows its place."""


def error_at(
    source: SourceFile, node: ast.AST, message: str, trail: tuple[tuple[SourceFile, ast.AST], ...] = ()
) -> LocatedError:
    """A CompileError at ``node``; ``trail`` lists the calls of inline functions that led there, innermost last."""
    details = [source.caret(node)]
    for caller, call in reversed(trail):
        details.append(f"{caller.place(call)}: called from here\n{caller.caret(call)}")
    return LocatedError(f"{source.place(node)}: {message}", "\n".join(details))
