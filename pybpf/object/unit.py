"""What a compiler hands to the object writer: code with its references still symbolic."""

from __future__ import annotations

from pybpf.object.spec import Reloc


class Core:
    """A CO-RE relocation: root BTF type id, access string and kind (btf.core constants)."""

    __slots__ = ("access", "kind", "type_id")

    def __init__(self, kind: int, type_id: int, access: str) -> None:
        self.kind = kind
        self.type_id = type_id
        self.access = access

    def __repr__(self) -> str:
        return f"core(kind={self.kind} type={self.type_id} {self.access})"


class Loc:
    """A place in DSL source: file name, 1-based line and column, and the line's text."""

    __slots__ = ("col", "line", "path", "text")

    def __init__(self, path: str, line: int, col: int, text: str) -> None:
        self.path = path
        self.line = line
        self.col = col
        self.text = text


class CodeUnit:
    """Machine code of one function.

    ``code`` is little-endian instruction slots of 8 bytes. ``relocs`` and
    ``cores`` refer to slots by index. ``lines`` maps slot indexes to source
    places, ascending. ``stack`` is the frame's size in bytes.
    """

    __slots__ = ("code", "cores", "lines", "name", "relocs", "section", "stack")

    def __init__(self, name: str, section: str, code: bytes, stack: int) -> None:
        self.name = name
        self.section = section
        self.code = code
        self.stack = stack
        self.relocs: list[Reloc] = []
        self.cores: list[tuple[int, Core]] = []
        self.lines: list[tuple[int, Loc]] = []
