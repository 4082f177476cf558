"""User space and the programs must agree on every byte; only tests may compare them, for the compiler is heavy."""

from __future__ import annotations

from importlib import import_module
from struct import Struct, unpack
from sys import byteorder

import pytest
from fake_records import NAMES, UTS_NS, record

import bfer.processes as process_table
import bfer.records as user
import programs.records as kernel
from bfer import expr, values
from bfer.catalogue import Catalogue
from bfer.descriptions import description
from bfer.hooks import known_calls
from bfer.output.sink import OPTIONS
from bfer.policy import NUMBERS
from bfer.pushdown import Shape, push_down
from programs import OBJECTS, common, execs, processes, syscalls
from programs.common import NODE_FACTORS
from pybpf.lang.surface import PROGRAMS
from pybpf.lang.types import field_at

MEMBERS = [
    *("who.start_time", "who.cgroup_id", "who.host_pid", "who.host_tid", "who.host_ppid", "who.pid", "who.tid"),
    *("who.ppid", "who.uid", "who.mnt_ns", "who.pid_ns", "who.cpu", "who.uts_ns", "who.node", "who.comm"),
    *("result", "args", "event", "status"),
]


@pytest.mark.parametrize("member", MEMBERS)
def test_every_member_of_a_block(member: str) -> None:
    layout = kernel.PathRecord.layout
    offset, type = field_at(layout, member)
    name = {"who.node": "node_id"}.get(member, member.rpartition(".")[2])
    raw = bytearray(user.DATA_START)
    raw[offset : offset + type.size] = bytes(range(1, type.size + 1))
    expected = bytes(raw[offset : offset + type.size])
    blank = user.Block(bytes(user.BLOCK.size))
    block = user.Block(bytes(raw[user.BLOCK_START : user.BLOCK_START + user.BLOCK.size]))
    for other in user.Block.__slots__:
        if other == name:
            value = getattr(block, other)
            got = value if isinstance(value, bytes) else b"".join(_bytes(v, expected) for v in _tuple(value))
            assert got == expected
        else:
            assert getattr(block, other) == getattr(blank, other), other


def _tuple(value: object) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _bytes(value: int, expected: bytes) -> bytes:
    from sys import byteorder

    return value.to_bytes(8 if len(expected) % 8 == 0 else len(expected), byteorder)


def test_the_rest_of_a_record() -> None:
    layout = kernel.PathRecord.layout
    assert field_at(layout, "time")[0] == 0
    assert field_at(layout, "who")[0] == user.BLOCK_START
    assert field_at(layout, "length")[0] == user.BLOCK_START + user.BLOCK.size
    assert field_at(layout, "path")[0] == user.DATA_START == user.BLOCK_START + user.BLOCK.size + 1
    assert kernel.NodeKey.layout.size == user.NODE_KEY.size
    assert kernel.NodeName.layout.size == 64 == 8 * len(NODE_FACTORS)
    for name in (b"a", b"board.example.org", bytes(range(192, 256))):
        words = unpack("=8Q", name.ljust(64, b"\0"))
        total = sum(word * factor for word, factor in zip(words, NODE_FACTORS)) % (1 << 64)
        assert user.node_id(name.ljust(64, b"\0")) == total >> 32
    assert field_at(kernel.FieldRecord.layout, "data")[0] == user.DATA_START
    assert field_at(layout, "result")[0] == user.BLOCK_START + user.WHO_SIZE
    assert user.WHO_SIZE + user.CALL.size == user.BLOCK.size
    assert kernel.Field.layout.size == user.FIELD.size


def test_the_shape_of_an_event() -> None:
    layout = kernel.Shape.layout
    event = Catalogue("x86_64").event("openat")
    assert event is not None
    shape = Shape(event)
    shape.rule, shape.above, shape.below, shape.bits, shape.masked = (1, 2), 3, 4, 5, 6
    shape.used, shape.narrow, shape.checked, shape.passing, shape.path = 7, 8, 9, 10, 11
    shape.ranged = 12
    raw = shape.pack()
    assert len(raw) == layout.size
    members = "wanted unwanted above below bits masked used narrow checked passing path ranged"
    for expected, name in enumerate(members.split(), 1):
        offset, type = field_at(layout, name)
        assert int.from_bytes(raw[offset : offset + type.size], byteorder) == expected
    assert raw[field_at(layout, "asked")[0]] == 1
    offset, type = field_at(layout, "kinds")
    assert raw[offset : offset + type.size] == bytes([0, user.KIND_STRING, 0, 0, 0, 0, 0, 0])


def test_constants_and_keys() -> None:
    names = [
        name
        for name in vars(user)
        if name.startswith(("KIND_", "FORM_", "PATH_CUT", "PATH_UNREAD", "FIELDS_", "EXTRA", "HANDLER"))
    ]
    names += ["SLOT_SYSCALL", "SLOT_STACK", "SLOT_FOLDER", "PATHS"]
    assert len(names) > 15
    for name in (*names, "COMPAT", "CALLS", "ARGS", "CHECK_RESULT", "NEW_CGROUP", "SHORT", "LONG"):
        assert getattr(user, name) == getattr(kernel, name), name
    assert kernel.PathKey.layout.size == user.PATH_BITS.size + user.PATH_KEY_SIZE
    assert kernel.SuffixKey.layout.size == user.SUFFIX_KEY.size
    assert field_at(kernel.SuffixKey.layout, "data")[1].size == user.SUFFIX_SIZE
    assert kernel.ValueKey.layout.size == user.VALUE_KEY.size
    assert kernel.Range.layout.size == user.RANGE.size
    assert kernel.NumberKey.layout.size == user.NUMBER_KEY.size
    assert {f"BY_{name.upper()}": value for name, value in user.BY.items()} == {
        name: value for name, value in vars(kernel).items() if name.startswith("BY_")
    }
    assert (kernel.EXACT, kernel.EXACT_SET, kernel.EXACT_VERDICT) == (user.EXACT, user.EXACT_SET, user.EXACT_VERDICT)
    assert [getattr(kernel, f"GROUPS_BY_{name.upper()}") for name in user.GROUPS_BY] == [1, 2, 3, 4]
    assert kernel.MEMBER_SHIFT == process_table._MARK_SHIFT


def test_settings_have_their_names() -> None:
    names = {name for name, _, _ in common.Config.settings}
    catalogue = Catalogue("x86_64")
    texts = [f"{field}{op}" for field in NUMBERS for op in ("=1", "<5", ">2")]
    texts += ["pid=new", "comm=x", "tree=1", "follow", "uts=x", "container", "binary=/x"]
    texts += ["openat.pathname=/x,*y", "open.retval>0", "open.flags=1", "open.flags>1"]
    plan = push_down(expr.parse(texts, catalogue), options=OPTIONS)
    numbers = {f"{kind}_{place}" for kind in user.BY for place in ("exact", "mapped")}
    others = {
        "self_pid",
        "level",
        "level_ns",
        "cgroup_v1",
        "hierarchy",
        "started",
        "watermark",
        "suffix_lengths",
        "handlers",
    } | known_calls("x86_64").keys()
    assert plan.config.keys() | numbers | others == names


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "riscv64", "armv7l", "s390x"])
def test_every_event_has_its_program(machine: str) -> None:
    made = {"path": syscalls.path, "plain": syscalls.plain, "fields": syscalls.fields}
    made.update(plain_enter=execs.plain_enter, exec=execs.exec_exit)
    for named in Catalogue(machine).events.values():
        assert description(named.name), named.name
        for event in named.both():
            if event.derive:
                assert import_module(f"bfer.derive.{event.derive}").SOURCE
            if event.hooks and not event.places():
                continue
            if event.hooks:
                modules = [import_module(name) for name in OBJECTS[event.object]]
                (number,) = [getattr(m, event.name.upper()) for m in modules if hasattr(m, event.name.upper())]
                assert number == event.number
                made_here = {
                    name for m in modules for p in PROGRAMS[m.__name__].values() for name, _, _ in p.variants()
                }
                assert {name for place in event.places() for way in place for name in way} <= made_here
                continue
            assert made[event.program] is not None
            assert len(event.args) <= user.ARGS
            assert event.number < user.CALLS
            # What the program for one path, and the one for starting programs, expect.
            strings = [arg.slot for arg in event.args if arg.memory == user.KIND_STRING]
            if event.program == "path":
                assert len(strings) == 1
            if event.program == "exec":
                vectors = [arg.slot for arg in event.args if arg.memory == user.KIND_VECTOR]
                assert vectors == [strings[0] + 1, strings[0] + 2]
    assert processes.fork is not None
    assert processes.free is not None


def test_numbers_have_their_c_types() -> None:
    event = Catalogue("x86_64").events["openat2"]
    assert values.number(event.args[0], 0xFFFFFF9C) == -100
    assert values.number(event.args[3], 1 << 63) == 1 << 63
    assert values.number(Catalogue("x86_64").events["lseek"].args[1], (1 << 64) - 1) == -1
    compat = Catalogue("x86_64").events["lseek"].compat
    assert compat is not None
    assert values.number(compat.args[1], 0xFFFFFFFF) == -1


@pytest.mark.parametrize("length", [0, 1, 95, 96, 97, 254, 255, 256, 5000])
def test_records_of_any_length_come_apart(length: int) -> None:
    path = bytes(33 + n % 90 for n in range(length))
    raw = record("unlink", path, (), time=7)
    assert len(raw) == user.DATA_START + max(length, user.SHORT)
    block = user.Block(user.split(raw)[1], NAMES)
    assert (block.comm, block.node, block.uts_ns, block.event) == (b"cat", b"board", UTS_NS, 87)
    assert user.split(raw)[::2] == (7, path)
    if len(raw) == user.RECORD_SIZE:
        assert Struct("=" + user.ROW_FORMAT).unpack(raw) == user.split(raw)
        assert len(user.split(raw)) == user.ROW
