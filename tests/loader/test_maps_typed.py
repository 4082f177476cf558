"""Types of keys and values, and the maps' logic, against a fake kernel."""

from __future__ import annotations

import errno

import pytest
from fakekernel import FakeKernel

from pybpf import abi, kernel
from pybpf.errors import MapError
from pybpf.lang import Anon, Bits, Ptr, Struct, Union, be16, char, i16, u8, u32, u64
from pybpf.maps.codec import Layout, codec
from pybpf.maps.create import create, kinds
from pybpf.maps.lpm import Network, Prefix


class Inner(Struct):
    low: u8
    port: be16


class Choice(Union):
    number: u32
    bytes_: u8[4]


class Event(Struct):
    pid: u32
    delta: i16
    flag: bool
    comm: char[16]
    inner: Inner
    counts: u64[3]
    choice: Choice
    low: Bits[u32, 3]
    high: Bits[u32, 7]
    at: Ptr[u32]


@pytest.fixture
def fake():
    kernel_ = FakeKernel()
    kernel.set_syscall_hook(kernel_)
    yield kernel_
    kernel.set_syscall_hook(None)


@pytest.mark.parametrize(
    ("type", "size", "value", "raw"),
    [
        (None, 3, b"abc", b"abc"),
        (bytes, 3, b"abc", b"abc"),
        (int, 2, 513, (513).to_bytes(2, "little")),
        (bool, 1, True, b"\1"),
        (str, 5, "abc", b"abc\0\0"),
        ("<I", None, 7, b"\7\0\0\0"),
        (">HB", None, (1, 2), b"\0\1\2"),
        (u32, None, 7, (7).to_bytes(4, "little")),
        (be16, None, 258, b"\1\2"),
        (i16, None, -2, (-2).to_bytes(2, "little", signed=True)),
        (char[4], None, "ab", b"ab\0\0"),
        (u8[3], None, [1, 2, 3], b"\1\2\3"),
        (Prefix(2), None, (b"ab", 12), b"\x0c\0\0\0ab"),
        (Network(), None, "10.0.0.0/8", b"\x08\0\0\0\x0a\0\0\0"),
        (Network(6), None, "::1/128", b"\x80\0\0\0" + bytes(15) + b"\1"),
    ],
)
def test_there_and_back(type, size, value, raw):
    found = codec(type, size)
    assert found.size == len(raw)
    if kernel.abi is not None and __import__("sys").byteorder == "little":
        assert found.pack(value) == raw
    assert found.unpack(found.pack(value)) == value


@pytest.mark.parametrize(
    ("type", "size", "value", "message"),
    [
        (bytes, 3, b"ab", "not 3 bytes"),
        (bytes, 3, "abc", "not 3 bytes"),
        (int, 1, 256, "unsigned number of 1 bytes"),
        (int, 1, "x", "unsigned number"),
        (i16, None, 1 << 15, "signed number of 2 bytes"),
        (str, 2, "abc", "room for 2"),
        (str, 2, 5, "not text"),
        ("=IQ", None, (1,), "does not fit the format '=IQ'"),
        ("=IQ", None, 1, "does not fit"),
        (u8[2], None, [1, 2, 3], "array of 2"),
        (u8[2], None, 5, "not a list"),
        (Event, None, {"pid": -1}, "Event.pid: -1 is not"),
        (Event, None, {"nothing": 1}, "Event has the fields pid, delta"),
        (Event, None, {"low": 8}, "Event.low: 8 does not fit 3 bits"),
        (Event, None, 5, "no value of structure Event"),
        (Network(), None, "10.0.0/8", "not a network of IPv4"),
        (Network(), None, "10.0.0.0/33", "does not fit 4 bytes|not a network"),
        (Prefix(2), None, b"abc", "does not fit 2 bytes"),
    ],
)
def test_values_that_do_not_fit(type, size, value, message):
    with pytest.raises(MapError, match=message):
        codec(type, size).pack(value)


@pytest.mark.parametrize(
    ("type", "size", "message"),
    [
        (int, None, "int has no size of its own"),
        (None, None, "no size"),
        (u32, 8, "u32 has 4 bytes, the map has 8"),
        ("=I", 8, "has 4 bytes, the map has 8"),
        ("=Ix!", None, "no format of the struct module"),
        (object(), 4, "not a type of keys or values"),
        (3.5, 4, "not a type"),
    ],
)
def test_types_that_are_none(type, size, message):
    with pytest.raises(MapError, match=message):
        codec(type, size)


def test_a_structure_is_a_record():
    found = codec(Event)
    assert isinstance(found, Layout)
    assert found.size == Event.size
    Record = found.record
    value = Record(pid=7, delta=-3, flag=True, comm="cat", inner=(1, 8080), counts=[1, 2], low=5, high=100, at=1 << 40)
    raw = found.pack(value)
    assert raw[Event.offset("pid") : Event.offset("pid") + 4] == kernel.pack("=I", 7)
    assert raw[Event.offset("inner.port") : Event.offset("inner.port") + 2] == b"\x1f\x90"
    got = found.unpack(raw)
    assert (got.pid, got.delta, got.flag, got.comm) == (7, -3, True, "cat")
    assert (got.inner.low, got.inner.port, got.counts) == (1, 8080, [1, 2, 0])
    assert (got.low, got.high, got.at) == (5, 100, 1 << 40)
    assert got == found.unpack(found.pack(got))
    assert got != Record()
    got.pid = 9
    assert found.unpack(found.pack(got)).pid == 9
    assert found.pack({"pid": 9})[:4] == kernel.pack("=I", 9)
    assert found.pack(raw) == raw
    assert repr(Record(pid=1)).startswith("Event(pid=1, delta=0, flag=False, comm='', inner=Inner(low=0, port=0)")
    with pytest.raises(MapError, match="each to be given once"):
        Record(1, pid=1)


def test_members_of_a_union_overlap():
    found = codec(Choice)
    assert found.unpack(found.pack({"number": 0x01020304})).bytes_ in ([4, 3, 2, 1], [1, 2, 3, 4])
    assert found.unpack(found.pack({"bytes_": [1, 0, 0, 0]})).number in (1, 1 << 24)


def test_members_of_nameless_structures_are_the_owners():
    class Nameless(Struct):
        a: u32
        _: Anon[Inner]

    found = codec(Nameless)
    assert found.unpack(found.pack({"a": 1, "low": 2, "port": 3})).port == 3


def test_cstruct_classes():
    cstruct = pytest.importorskip("cstruct", reason="the cstruct package is not installed")
    Pair = cstruct.parse("struct pair { uint32_t a; uint64_t b; };", __cls__=cstruct.MemCStruct)
    found = codec(Pair)
    assert found.size == 16
    got = found.unpack(found.pack({"a": 5, "b": 6}))
    assert (got.a, got.b) == (5, 6)
    assert found.pack(got) == kernel.pack("=I4xQ", 5, 6)
    with pytest.raises(MapError, match="is not a"):
        found.pack(7)


def test_a_typed_map_is_a_mapping(fake):
    with create("hash", u32, Event, 4, name="events") as events:
        events[1] = {"pid": 5, "comm": "cat"}
        assert (events[1].pid, events[1].comm) == (5, "cat")
        assert 1 in events
        assert 2 not in events
        assert events.get(2, "none") == "none"
        with pytest.raises(KeyError):
            events[2]
        with pytest.raises(KeyError):
            del events[2]
        assert events.update({2: {"pid": 6}, 3: {"pid": 7}}) == 2
        assert sorted(value.pid for value in events.values()) == [5, 6, 7]
        assert list(events) == [1, 2, 3]
        assert events.discard([1, 9]) == 1
        assert events.pop(2).pid == 6
        assert [(key, value.pid) for key, value in events.take_all()] == [(3, 7)]
        assert list(events.items()) == []
        with pytest.raises(MapError, match=r"map 'events': key: 'x' is not an unsigned number of 4 bytes"):
            events["x"]
        with pytest.raises(MapError, match=r"map 'events': value: Event.pid: 'x'"):
            events[1] = {"pid": "x"}
    assert kernel.open_fds() == []


def test_types_must_have_the_maps_sizes(fake):
    with create("hash", "I", "Q", 4, name="m") as made, pytest.raises(MapError, match="map 'm': u64 has 8 bytes"):
        made.map.typed(u64)


def test_unknown_kind():
    with pytest.raises(MapError, match="'hsah' is no type of map: there are hash, array"):
        create("hsah", "I", "I", 1)
    assert len(kinds()) == 35


def test_a_walk_whose_keys_come_and_go_ends(fake):
    """Keys that are deleted and added behind the walk make the kernel start over again and again."""
    with create("lpm_trie", "I", "I", 100, name="churn") as table:
        for number in range(10):
            table[number] = number
        data = fake.maps[table.fd]["data"]
        seen = []
        for count, key in enumerate(table.map.keys()):
            seen.append(key)
            # Whatever the walk holds goes away, and something comes in its place.
            for other in list(data):
                if other not in seen:
                    del data[other]
                    break
            if count < 1000:
                data[(1000 + count).to_bytes(4, "little")] = bytes(4)
            assert count < 5000
        assert len(seen) == len(set(seen))


def test_errors_of_single_updates_say_how_far_it_went(fake):
    with create("hash", "I", "I", 2, name="m") as table:
        with pytest.raises(MapError, match=r"no room.*\(2 elements were set before\)") as caught:
            table.update([(1, 1), (2, 2), (3, 3)])
        assert caught.value.errno == errno.E2BIG
        assert abi.MAP_UPDATE_BATCH in fake.commands()


def test_what_a_32_bit_kernel_would_misread_is_refused(monkeypatch):
    from pybpf.maps import objects

    wide, narrow = ("x86_64", "aarch64", "armv8l", "s390x"), ("armv7l", "i686", "mips")
    for type in (abi.MAP_TYPE_PROG_ARRAY, abi.MAP_TYPE_ARRAY_OF_MAPS):
        assert not any(objects.misread(type, machine) for machine in wide)
        assert all(objects.misread(type, machine) for machine in narrow)
    assert not objects.misread(abi.MAP_TYPE_HASH_OF_MAPS, "armv7l")
