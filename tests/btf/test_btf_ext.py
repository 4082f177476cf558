""".BTF.ext: what the builder writes the parser reads; longer records; malformed sections."""

from __future__ import annotations

import struct

import pytest

from btf.builder import Builder
from btf.errors import BtfError
from btf.ext import parse_ext, without_lines
from btf.ext_writer import ExtBuilder
from btf.format import MAGIC
from btf.reader import Btf


@pytest.mark.parametrize("order", ["little", "big"])
def test_round_trip(order: str) -> None:
    b = Builder(order)
    ext = ExtBuilder(b)
    ext.func("tp_btf/sys_exit", 0, 7)
    ext.func(".text", 16, 8)
    ext.func(".text", 0, 9)
    ext.line("tp_btf/sys_exit", 8, "trace.py", "    return 0", 12, 5)
    ext.line("tp_btf/sys_exit", 0, "trace.py", "x = 1", 11, 5000)
    ext.core("tp_btf/sys_exit", 8, 3, "0:1:2", 0)
    parsed = parse_ext(ext.to_bytes(), order)
    t = Btf(b.to_bytes())
    main, text = b.string("tp_btf/sys_exit"), b.string(".text")
    assert t.string(main) == "tp_btf/sys_exit"
    assert parsed.func_info == {main: [(0, 7)], text: [(0, 9), (16, 8)]}
    rows = struct.iter_unpack("=4I", parsed.line_info[main])
    assert [(row[0], t.string(row[1]), t.string(row[2]), row[3]) for row in rows] == [
        (0, "trace.py", "x = 1", 11 << 10 | 1023),
        (8, "trace.py", "    return 0", 12 << 10 | 5),
    ]
    (row,) = parsed.core_relos[main]
    assert (row[0], row[1], t.string(row[2]), row[3]) == (8, 3, "0:1:2", 0)


def cut(data: bytes, order: str = "little") -> tuple[bytes, int]:
    """The section without its lines, and how many bytes of it were looked at."""
    read = [0]

    def part(start: int, end: int) -> bytes:
        read[0] += len(data[start:end])
        return data[start:end]

    return without_lines(len(data), part, order), read[0]


@pytest.mark.parametrize("order", ["little", "big"])
def test_lines_are_left_out_unread(order: str) -> None:
    b = Builder(order)
    ext = ExtBuilder(b)
    ext.func("tp_btf/sys_exit", 0, 7)
    for number in range(100):
        ext.line("tp_btf/sys_exit", 8 * number, "trace.py", "x = 1", 11, 3)
    ext.core("tp_btf/sys_exit", 8, 3, "0:1:2", 0)
    whole = ext.to_bytes()
    less, read = cut(whole, order)
    wanted, found = parse_ext(whole, order), parse_ext(less, order)
    assert found.line_info == {}
    assert (found.func_info, found.core_relos) == (wanted.func_info, wanted.core_relos)
    assert len(less) <= read < len(whole) - 1600


def test_an_odd_header_is_left_to_the_parser() -> None:
    lines = struct.pack("<I2I4I", 16, 1, 1, 0, 0, 0, 0)
    # No CO-RE records; lines that go past the end; lines before the functions.
    head = struct.pack("<HBBI4I", MAGIC, 1, 0, 24, 0, 0, 0, len(lines))
    assert cut(head + lines)[0] == head + lines
    for numbers in ((0, 0, 0, len(lines) + 4, len(lines), 0), (len(lines), 0, 0, len(lines), len(lines), 0)):
        data = struct.pack("<HBBI6I", MAGIC, 1, 0, 32, *numbers) + lines
        assert cut(data)[0] == data


def test_empty() -> None:
    parsed = parse_ext(ExtBuilder(Builder()).to_bytes(), "little")
    assert (parsed.func_info, parsed.line_info, parsed.core_relos) == ({}, {}, {})


def test_header_without_core_relos() -> None:
    body = struct.pack("<I2I2I", 8, 1, 1, 0, 5)
    parsed = parse_ext(struct.pack("<HBBI4I", MAGIC, 1, 0, 24, 0, len(body), len(body), 0) + body, "little")
    assert parsed.func_info == {1: [(0, 5)]}
    assert parsed.core_relos == {}


def test_longer_records_and_header() -> None:
    body = struct.pack("<I2I4I4I", 16, 1, 2, 0, 5, 99, 98, 8, 6, 97, 96)
    head = struct.pack("<HBBI6I", MAGIC, 1, 0, 40, 0, len(body), len(body), 0, len(body), 0).ljust(40, b"\1")
    assert parse_ext(head + body, "little").func_info == {1: [(0, 5), (8, 6)]}


def ext_with(body: bytes, **change: int) -> bytes:
    fields = {"magic": MAGIC, "version": 1, "hdr": 32, "off": 0, "len": len(body), **change}
    head = struct.pack(
        "<HBBI6I", fields["magic"], fields["version"], 0, fields["hdr"], fields["off"], fields["len"], 0, 0, 0, 0
    )
    return head + body


ONE = struct.pack("<I2I2I", 8, 1, 1, 0, 5)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes"),
        (ext_with(ONE, magic=0x1234), "magic"),
        (ext_with(ONE, version=2), "version 2"),
        (ext_with(ONE, hdr=20), "header length"),
        (ext_with(ONE, hdr=1000), "header length"),
        (ext_with(ONE, len=100), "does not fit"),
        (ext_with(ONE, off=2), "does not fit"),
        (ext_with(ONE, len=2), "does not fit"),
        (ext_with(struct.pack("<I", 4) + ONE[4:]), "records of 4 bytes"),
        (ext_with(struct.pack("<I", 10) + ONE[4:]), "records of 10 bytes"),
        (ext_with(struct.pack("<I2I2I", 8, 1, 2, 0, 5)), "claims 2 records where 1 fit"),
        (ext_with(struct.pack("<I2I2I", 8, 1, 0, 0, 5)), "claims 0"),
        (ext_with(struct.pack("<I2I2I", 8, 1, 0xFFFFFFFF, 0, 5)), "claims 4294967295"),
        (ext_with(ONE + b"\0\0\0\0"), "section's header"),
    ],
)
def test_malformed(data: bytes, message: str) -> None:
    with pytest.raises(BtfError, match=message):
        parse_ext(data, "little")


def test_wrong_byte_order() -> None:
    with pytest.raises(BtfError, match="big-endian"):
        parse_ext(ext_with(ONE), "big")


def test_builder_checks() -> None:
    ext = ExtBuilder(Builder())
    with pytest.raises(BtfError, match="not that of an instruction"):
        ext.func("s", 4, 1)
    with pytest.raises(BtfError, match="does not fit"):
        ext.line("s", 0, "f", "t", 1 << 22, 0)
