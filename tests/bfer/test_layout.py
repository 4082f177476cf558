"""User space and the programs must agree on every byte; only tests may compare them, for the compiler is heavy."""

from __future__ import annotations

import pytest

import bfer.records as user
import programs.records as kernel
from bfer import expr, values
from bfer.catalogue import _EVENTS, HOW, PATH, Catalogue
from bfer.pushdown import push_down
from programs import common, files, processes
from pybpf.lang.types import field_at

MEMBERS = [
    *("who.start_time", "who.cgroup_id", "who.host_pid", "who.host_tid", "who.host_ppid", "who.pid", "who.tid"),
    *("who.ppid", "who.uid", "who.mnt_ns", "who.pid_ns", "who.cpu", "who.comm", "who.node", "result", "scalars"),
    *("event", "status"),
]


@pytest.mark.parametrize("member", MEMBERS)
def test_every_member_of_a_block(member: str) -> None:
    layout = kernel.PathRecord.layout
    offset, type = field_at(layout, member)
    name = member.rpartition(".")[2]
    raw = bytearray(user.PATH_START)
    raw[offset : offset + type.size] = bytes(range(1, type.size + 1))
    expected = bytes(raw[offset : offset + type.size])
    blank = user.Block(bytes(user.PATH_START - user.BLOCK_START))
    block = user.Block(bytes(raw[user.BLOCK_START :]))
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

    return value.to_bytes(8 if len(expected) % 8 == 0 else 4, byteorder)


def test_the_rest_of_a_record() -> None:
    layout = kernel.PathRecord.layout
    assert field_at(layout, "time")[0] == 0
    assert field_at(layout, "who")[0] == user.BLOCK_START
    assert field_at(layout, "path")[0] == user.PATH_START == user.BLOCK_START + user.BLOCK.size
    assert field_at(layout, "result")[0] == user.BLOCK_START + user.CALL_OFFSET
    assert user.CALL_OFFSET + user.CALL.size == user.BLOCK.size


def test_constants_and_keys() -> None:
    assert (
        *(user.PATH_CUT, user.PATH_UNREADABLE),
        user.HOW_UNREADABLE,
    ) == (kernel.PATH_CUT, kernel.PATH_UNREADABLE, kernel.HOW_UNREADABLE)
    assert kernel.PathKey.layout.size == user.PATH_BITS.size + user.PATH_KEY_SIZE
    assert kernel.SuffixKey.layout.size == user.SUFFIX_KEY.size
    assert field_at(kernel.SuffixKey.layout, "data")[1].size == user.SUFFIX_SIZE
    assert kernel.PathRule.layout.size == user.RULE.size
    assert common.CALLS == user.CALLS


def test_settings_have_their_names() -> None:
    names = {name for name, _, _ in common.Config.settings}
    catalogue = Catalogue("x86_64")
    texts = ["uid=1", "uid<5", "uid>2", "pid=1", "pid<5", "pid>2", "pid=new", "comm=x", "tree=1", "follow"]
    plan = push_down(expr.parse([*texts, "openat.pathname=/x,*y"], catalogue))
    assert plan.config.keys() | {"self_pid", "started", "watermark", "suffix_lengths"} == names


def test_every_event_has_its_program_and_scalars() -> None:
    for name, program, args, _, _ in _EVENTS:
        source = getattr(files, program)
        assert source is not None, name
        kinds = [kind for _, _, kind in args if kind != PATH]
        slots = sum(3 if kind == HOW else 1 for kind in kinds)
        assert slots <= 5
        path = [kind for _, _, kind in args].index(PATH)
        assert program.startswith("fd_" if path else "path_")
    assert processes.fork is not None
    assert processes.exit is not None


def test_numbers_have_their_c_types() -> None:
    args = Catalogue("x86_64").events["openat2"].args
    assert values.number(args[0], (0xFFFFFF9C, 0, 0, 0, 24)) == -100
    assert values.number(args[3], (0, 0, 0, 0, 1 << 63)) == 1 << 63
