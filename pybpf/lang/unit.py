"""What the back end hands to the object writer: code with its references still symbolic."""

from __future__ import annotations

from pybpf.lang.ir import Core, Loc
from pybpf.object.spec import Reloc


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
