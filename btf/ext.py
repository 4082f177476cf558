""".BTF.ext: function, line and CO-RE records of an object's code sections.

Source: Documentation/bpf/btf.rst, tools/lib/bpf/libbpf_internal.h. Instruction
offsets are bytes from the start of the ELF section; strings and types are
those of the object's .BTF.
"""

from __future__ import annotations

from struct import iter_unpack, pack, unpack_from

from btf.errors import BtfError
from btf.format import MAGIC, NATIVE, VERSION, native_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Records = dict[int, list[tuple[int, ...]]]

FUNC_WORDS = 2
LINE_WORDS = 4
CORE_WORDS = 4
_HEADER_FUNC_LINE = 24
HEADER_CORE = 32


class Ext:
    """Records by section: the key is the string offset of the section's name.

    ``func_info``: ``(offset, type id)``; ``line_info``: ``(offset, file name,
    text, line << 10 | column)``; ``core_relos``: ``(offset, type id, access
    string, kind)``. Names and texts are string offsets into .BTF. The lines are
    many, and looked at by few: they stay packed, four words each in native order.
    """

    __slots__ = ("core_relos", "func_info", "line_info")

    def __init__(self) -> None:
        self.func_info: Records = {}
        self.line_info: dict[int, bytes] = {}
        self.core_relos: Records = {}


def parse_ext(data: bytes, byteorder: str, keep: Callable[[int], bool] | None = None, lines: bool = True) -> Ext:
    """Parse a .BTF.ext section. Longer records of newer compilers are cut; BtfError if malformed.

    With ``keep``, only sections for which it is true, given the string offset of their name; ``lines``: line
    information too, which is most of it.
    """
    mark = "<" if byteorder == "little" else ">"
    data = bytes(data)
    if len(data) < _HEADER_FUNC_LINE:
        raise BtfError(f".BTF.ext: {len(data)} bytes, its header has {_HEADER_FUNC_LINE}")
    magic, version, _, length = unpack_from(f"{mark}HBBI", data)
    if magic != MAGIC:
        raise BtfError(f".BTF.ext: magic is {magic:#06x}, expected {MAGIC:#06x} in {byteorder}-endian order")
    if version != VERSION:
        raise BtfError(f".BTF.ext: version {version} is not supported, only {VERSION}")
    if not _HEADER_FUNC_LINE <= length <= len(data) or length % 4:
        raise BtfError(f".BTF.ext: header length {length} is wrong in {len(data)} bytes")
    ext = Ext()
    func_off, func_len, line_off, line_len = unpack_from(f"{mark}4I", data, 8)
    ext.func_info = _parse_records(data, mark, "func_info", length + func_off, func_len, FUNC_WORDS, keep)
    if lines:
        for section, size, part in _split(data, mark, "line_info", length + line_off, line_len, LINE_WORDS, keep):
            ext.line_info[section] = ext.line_info.get(section, b"") + _packed(part, byteorder, size)
    if length >= HEADER_CORE:
        core_off, core_len = unpack_from(f"{mark}2I", data, 24)
        ext.core_relos = _parse_records(data, mark, "core_relo", length + core_off, core_len, CORE_WORDS, keep)
    return ext


def without_lines(size: int, part: Callable[[int, int], bytes], byteorder: str) -> bytes:
    """A .BTF.ext section of ``size`` bytes less its line information, most of it, which so need not be read.

    ``part`` gives what is between two places. A section with an odd header comes as it is, for ``parse_ext`` to tell.
    """
    mark = "<" if byteorder == "little" else ">"
    head = part(0, HEADER_CORE)
    if len(head) < HEADER_CORE:
        return part(0, size)
    magic, _, _, length, func_off, func_len, at, lines, core_off, core_len = unpack_from(f"{mark}HBBI6I", head)
    start, end = length + at, length + at + lines
    if magic != MAGIC or length < HEADER_CORE or end > size or not func_off + func_len <= at <= core_off - lines:
        return part(0, size)
    fixed = pack(f"{mark}6I", func_off, func_len, at, 0, core_off - lines, core_len)
    return head[:8] + fixed + part(HEADER_CORE, start) + part(end, size)


def _parse_records(
    data: bytes, mark: str, what: str, at: int, size: int, words: int, keep: Callable[[int], bool] | None
) -> Records:
    records: Records = {}
    layout = f"{mark}{words}I"
    for section, record_size, part in _split(data, mark, what, at, size, words, keep):
        rows = records.setdefault(section, [])
        if record_size == words * 4:
            rows += iter_unpack(layout, part)
        else:
            rows += [unpack_from(layout, part, start) for start in range(0, len(part), record_size)]
    return records


def _packed(part: bytes, byteorder: str, record_size: int) -> bytes:
    """Line records as they stay, without what is not known of them."""
    if byteorder != NATIVE:
        part = bytes(native_words(part, byteorder))
    known = LINE_WORDS * 4
    if record_size > known:
        part = b"".join([part[start : start + known] for start in range(0, len(part), record_size)])
    return part


def _split(
    data: bytes, mark: str, what: str, at: int, size: int, words: int, keep: Callable[[int], bool] | None
) -> Iterator[tuple[int, int, bytes]]:
    """The sections' names, and the size and bytes of their records."""
    if not size:
        return
    end = at + size
    if at % 4 or end > len(data) or size < 4:
        raise BtfError(f".BTF.ext: {what} at {at}, {size} bytes, does not fit in {len(data)} bytes")
    record_size: int = unpack_from(f"{mark}I", data, at)[0]
    if record_size < words * 4 or record_size % 4:
        raise BtfError(f".BTF.ext: {what} records of {record_size} bytes, at least {words * 4} expected")
    at += 4
    while at < end:
        if at + 8 > end:
            raise BtfError(f".BTF.ext: {what} ends inside a section's header")
        section, count = unpack_from(f"{mark}2I", data, at)
        at += 8
        if not count or at + count * record_size > end:
            raise BtfError(f".BTF.ext: {what} claims {count} records where {(end - at) // record_size} fit")
        stop = at + count * record_size
        if keep is None or keep(section):
            yield section, record_size, data[at:stop]
        at = stop
