"""Writing a BTF blob from its parts: records of types, strings, and the layout of kinds if it has one."""

from __future__ import annotations

from array import array
from struct import pack

from btf.errors import BtfError
from btf.format import KIND_MAX, KIND_SHIFT, MAGIC, VERSION, Lengths, native_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from btf.format import Bytes
    from btf.table import Table

_HEADER = 24
_HEADER_LAYOUT = 32
_PIECE = 1 << 16  # words


def blob(types: Bytes, strings: Bytes, byteorder: str, layout: Bytes = b"", flags: int = 0) -> bytes:
    """A blob of type records (already in ``byteorder``) and strings; 32-byte header with a layout (Linux 7.1)."""
    mark = "<" if byteorder == "little" else ">"
    length = _HEADER_LAYOUT if layout else _HEADER
    str_off = len(types) + len(layout)
    head = pack(f"{mark}HBBIIIII", MAGIC, VERSION, flags, length, 0, len(types), str_off, len(strings))
    if layout:
        head += pack(f"{mark}II", len(types), len(layout))
    return b"".join((head, types, layout, strings))


def pack_records(records: Iterable[Sequence[int]], byteorder: str) -> bytes:
    """Records (lists of words) as a type section."""
    packed = bytearray()
    words = array("I")
    for record in records:
        words.extend(record)
        if len(words) >= _PIECE:
            packed += native_words(words.tobytes(), byteorder)
            del words[:]
    packed += native_words(words.tobytes(), byteorder)
    return bytes(packed)


def kind_layout(byteorder: str) -> bytes:
    """The layout section that describes all kinds known here: for each, bytes once and for each entry, and flags."""
    lengths = Lengths([])
    mark = "<" if byteorder == "little" else ">"
    entries = [pack(f"{mark}BBH", 0, 0, 0)]
    for kind in range(1, KIND_MAX + 1):
        once, one = lengths[kind << KIND_SHIFT], lengths[kind << KIND_SHIFT | 1]
        entries.append(pack(f"{mark}BBH", 4 * (once - 3), 4 * (one - once), 0))
    return b"".join(entries)


def write(table: Table, byteorder: str = "") -> bytes:
    """The blob of ``table``, from its decoded records; equal to what was read if the sections stand in a row.

    ``byteorder`` (``little``, ``big``) turns it round; default is its own.
    Raises BtfError for a blob with a header that is not understood.
    """
    head = table.header
    if head.extended:
        raise BtfError(f"BTF header has {head.length} bytes, more than is understood here: it cannot be rewritten")
    order = byteorder or table.byteorder
    layout = bytearray(table.layout)
    if order != table.byteorder:
        # Entries are {u8 info size, u8 entry size, u16 flags}.
        layout[2::4], layout[3::4] = layout[3::4], layout[2::4]
    return blob(pack_records(table.records(), order), table.strings, order, layout, head.flags)
