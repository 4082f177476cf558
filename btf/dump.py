"""All types as text, a line for each type, member, parameter or enumerator: what ``bpftool btf dump`` calls raw."""

from __future__ import annotations

from itertools import accumulate

from btf.errors import BtfError
from btf.format import (
    COMPOSITES,
    INT_BOOL,
    INT_CHAR,
    INT_SIGNED,
    KFLAG,
    KIND_ARRAY,
    KIND_DATASEC,
    KIND_DECL_TAG,
    KIND_ENUM,
    KIND_ENUM64,
    KIND_FLOAT,
    KIND_FUNC,
    KIND_FUNC_PROTO,
    KIND_FWD,
    KIND_INT,
    KIND_MASK,
    KIND_NAMES,
    KIND_SHIFT,
    KIND_VAR,
    VLEN_MASK,
    printable,
)
from btf.reader import MAX_NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btf.table import Table

    Render = Callable[["_Text", list[int], int, bool], str]

_TITLES = tuple(name.upper() for name in KIND_NAMES)
_ENCODINGS = {0: "(none)", INT_SIGNED: "SIGNED", INT_CHAR: "CHAR", INT_BOOL: "BOOL"}
_LINKAGES = ("static", "global", "extern")
_PIECE = 512  # types that are handed out at a time
_MAX_SPLIT = 1 << 18  # strings; a kernel has half as many, and a hostile file shall not fill the memory


def dump_raw(table: Table) -> Iterator[bytes]:
    """The text of all own types of ``table``, piece by piece.

    Bytes equal those of bpftool 7.1 for all kinds that it knows. A name with
    control characters is shown escaped, so that a hostile file can neither
    forge lines nor talk to the terminal. Raises BtfError on reaching a broken type.
    """
    text = _Text(table)
    id = table.first_id
    pieces: list[str] = []
    for record in table.records():
        info = record[1]
        kind = info >> KIND_SHIFT & KIND_MASK
        try:
            name = text[record[0]]
            if kind < len(_TITLES):
                title = _TITLES[kind]
                rest = _RENDER[kind](text, record, info & VLEN_MASK, info >= KFLAG)
            else:
                title, rest = f"UNKNOWN({kind})", f" vlen={info & VLEN_MASK}"
        except BtfError as error:
            raise BtfError(f"BTF type [{id}]: {error}") from None
        pieces.append(f"[{id}] {title} '{name}'{rest}\n")
        id += 1
        if len(pieces) == _PIECE:
            yield "".join(pieces).encode("latin-1")
            pieces.clear()
    yield "".join(pieces).encode("latin-1")


class _Text(dict[int, str]):
    """Names by string offset, as they are printed: one character for each byte."""

    __slots__ = ("below", "plain", "start", "table")

    def __init__(self, table: Table) -> None:
        self.table = table
        self.below = _Text(table.base) if table.base is not None else None
        self.start = table.string_base
        # Found and cut out of a string several times as fast as out of an mmap.
        self.plain = table.strings.decode("latin-1")
        if self.plain.count("\0") <= _MAX_SPLIT:
            self._split()
        self[0] = "(anon)"

    def _split(self) -> None:
        """Cut all strings at once, which takes a fifth of the time of one by one."""
        names = self.plain.split("\0")
        if len(max(names, key=len)) <= MAX_NAME and _is_clean("".join(names)):
            offsets = accumulate(map(len, names), lambda at, length: at + length + 1, initial=self.start)
            self.update(zip(offsets, names[:-1]))

    def __missing__(self, offset: int) -> str:
        at = offset - self.start
        if at < 0 and self.below is not None:
            return self.below[offset]
        name = self.plain[at : self.plain.find("\0", at)]
        if len(name) > MAX_NAME or at >= len(self.plain):
            self.table.read_name(offset)  # which tells what is wrong
        if not _is_clean(name):
            name = printable(str(name.encode("latin-1"), "utf-8", "backslashreplace")).encode().decode("latin-1")
        self[offset] = name
        return name


def _is_clean(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _int(text: _Text, record: list[int], vlen: int, flag: bool) -> str:
    word = record[3]
    encoding = _ENCODINGS.get(word >> 24 & 0xF, "UNKN")
    return f" size={record[2]} bits_offset={word >> 16 & 0xFF} nr_bits={word & 0xFF} encoding={encoding}"


def _reference(text: _Text, record: list[int], vlen: int, flag: bool) -> str:
    return f" type_id={record[2]}"


def _array(text: _Text, record: list[int], vlen: int, flag: bool) -> str:
    return f" type_id={record[3]} index_type_id={record[4]} nr_elems={record[5]}"


def _composite(text: _Text, record: list[int], vlen: int, flag: bool) -> str:
    rows = zip(record[3::3], record[4::3], record[5::3])
    if flag:
        lines = [
            f"\n\t'{text[name]}' type_id={type} bits_offset={offset & 0xFFFFFF}"
            + (f" bitfield_size={offset >> 24}" if offset >> 24 else "")
            for name, type, offset in rows
        ]
    else:
        lines = [f"\n\t'{text[name]}' type_id={type} bits_offset={offset}" for name, type, offset in rows]
    return f" size={record[2]} vlen={vlen}{''.join(lines)}"


def _enum(text: _Text, record: list[int], vlen: int, flag: bool) -> str:
    values = record[4::2]
    if flag:
        values = [(value ^ 0x80000000) - 0x80000000 for value in values]
    lines = [f"\n\t'{text[name]}' val={value}" for name, value in zip(record[3::2], values)]
    return f" encoding={'SIGNED' if flag else 'UNSIGNED'} size={record[2]} vlen={vlen}{''.join(lines)}"


def _enum64(text: _Text, record: list[int], vlen: int, flag: bool) -> str:
    values = [low | high << 32 for low, high in zip(record[4::3], record[5::3])]
    mark = "ULL"
    if flag:
        values = [(value ^ 1 << 63) - (1 << 63) for value in values]
        mark = "LL"
    lines = [f"\n\t'{text[name]}' val={value}{mark}" for name, value in zip(record[3::3], values)]
    return f" encoding={'SIGNED' if flag else 'UNSIGNED'} size={record[2]} vlen={vlen}{''.join(lines)}"


def _fwd(text: _Text, record: list[int], vlen: int, flag: bool) -> str:
    return f" fwd_kind={'union' if flag else 'struct'}"


def _linkage(number: int) -> str:
    return _LINKAGES[number] if number < len(_LINKAGES) else "(unknown)"


def _func(text: _Text, record: list[int], vlen: int, flag: bool) -> str:
    return f" type_id={record[2]} linkage={_linkage(vlen)}"


def _func_proto(text: _Text, record: list[int], vlen: int, flag: bool) -> str:
    lines = [f"\n\t'{text[name]}' type_id={type}" for name, type in zip(record[3::2], record[4::2])]
    return f" ret_type_id={record[2]} vlen={vlen}{''.join(lines)}"


def _var(text: _Text, record: list[int], vlen: int, flag: bool) -> str:
    return f" type_id={record[2]}, linkage={_linkage(record[3])}"


def _datasec(text: _Text, record: list[int], vlen: int, flag: bool) -> str:
    lines = []
    for id, offset, size in zip(record[3::3], record[4::3], record[5::3]):
        words, at = text.table.locate(id)
        kind = words[at + 1] >> KIND_SHIFT & KIND_MASK
        title = _TITLES[kind] if kind < len(_TITLES) else f"UNKNOWN({kind})"
        lines.append(f"\n\ttype_id={id} offset={offset} size={size} ({title} '{text[words[at]]}')")
    return f" size={record[2]} vlen={vlen}{''.join(lines)}"


def _float(text: _Text, record: list[int], vlen: int, flag: bool) -> str:
    return f" size={record[2]}"


def _decl_tag(text: _Text, record: list[int], vlen: int, flag: bool) -> str:
    return f" type_id={record[2]} component_idx={(record[3] ^ 0x80000000) - 0x80000000}"


_RENDER: list[Render] = [_reference] * len(_TITLES)
for _kind, _render in (
    (KIND_INT, _int),
    (KIND_ARRAY, _array),
    (COMPOSITES[0], _composite),
    (COMPOSITES[1], _composite),
    (KIND_ENUM, _enum),
    (KIND_ENUM64, _enum64),
    (KIND_FWD, _fwd),
    (KIND_FUNC, _func),
    (KIND_FUNC_PROTO, _func_proto),
    (KIND_VAR, _var),
    (KIND_DATASEC, _datasec),
    (KIND_FLOAT, _float),
    (KIND_DECL_TAG, _decl_tag),
):
    _RENDER[_kind] = _render
