"""Writing .BTF.ext; ``btf.ext`` tells what is in it."""

from __future__ import annotations

from struct import pack

from btf.errors import BtfError
from btf.ext import CORE_WORDS, FUNC_WORDS, HEADER_CORE, LINE_WORDS
from btf.format import MAGIC, VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btf.builder import Builder
    from btf.ext import Records

_MAX_COLUMN = 0x3FF
_MAX_LINE = 0x3FFFFF


class ExtBuilder:
    """Collects records and writes .BTF.ext; strings go into ``builder``, the object's BTF."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._func: Records = {}
        self._line: Records = {}
        self._core: Records = {}

    def func(self, section: str, insn_off_bytes: int, type_id: int) -> None:
        """The function (a FUNC) that starts at an offset of a section."""
        self._add(self._func, section, insn_off_bytes, type_id)

    def line(self, section: str, insn_off_bytes: int, file: str, text: str, line: int, col: int) -> None:
        """The source of an instruction. Columns above 1023 do not fit and become 1023."""
        if not 0 <= line <= _MAX_LINE or col < 0:
            raise BtfError(f"line {line}, column {col} of {file} does not fit in BTF line information")
        builder = self._builder
        position = line << 10 | min(col, _MAX_COLUMN)
        self._add(self._line, section, insn_off_bytes, builder.string(file), builder.string(text), position)

    def core(self, section: str, insn_off_bytes: int, type_id: int, access: str, kind: int) -> None:
        """A CO-RE relocation; ``access`` like ``0:1:2``, ``kind`` a constant of btf.core."""
        self._add(self._core, section, insn_off_bytes, type_id, self._builder.string(access), kind)

    def _add(self, records: Records, section: str, offset: int, *fields: int) -> None:
        if offset % 8 or offset < 0:
            raise BtfError(f"offset {offset} in section '{section}' is not that of an instruction")
        records.setdefault(self._builder.string(section), []).append((offset, *fields))

    def to_bytes(self) -> bytes:
        """The section, records of each code section in ascending order of offset."""
        mark = "<" if self._builder.byteorder == "little" else ">"
        parts = [
            self._pack(mark, records, words)
            for records, words in ((self._func, FUNC_WORDS), (self._line, LINE_WORDS), (self._core, CORE_WORDS))
        ]
        spans = []
        at = 0
        for part in parts:
            spans += [at, len(part)]
            at += len(part)
        return pack(f"{mark}HBBI6I", MAGIC, VERSION, 0, HEADER_CORE, *spans) + b"".join(parts)

    @staticmethod
    def _pack(mark: str, records: Records, words: int) -> bytes:
        if not records:
            return b""
        out = [pack(f"{mark}I", words * 4)]
        for section, rows in records.items():
            out.append(pack(f"{mark}2I", section, len(rows)))
            out += [pack(f"{mark}{words}I", *row) for row in sorted(rows, key=lambda row: row[0])]
        return b"".join(out)
