"""Telling of losses: once while running, in all at the end."""

from __future__ import annotations

from struct import pack
from types import SimpleNamespace

import pytest
from fake_kernel import FakeMap

from bfer.hooks import Hooks
from bfer.losses import Losses
from bfer.writer import say


def test_told_when_new_and_at_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    lost, untracked = FakeMap("lost"), FakeMap("untracked")
    missed = [0]
    losses = Losses(lost, untracked, lambda final: {"not known": missed[0]}, {257: "openat", 87: "unlink"}, say)

    def told(final: bool = False) -> str:
        losses.tell(final)
        return capfd.readouterr().err

    assert told() == ""
    lost.data[pack("=I", 257)] = pack("=QQ", 3, 4)
    assert told() == "bfer: lost 7 events so far (openat 7)\n"
    assert told() == ""
    lost.data[pack("=I", 87)] = pack("=QQ", 0, 1)
    untracked.data[pack("=I", 0)] = pack("=QQ", 2, 0)
    missed[0] = 5
    assert told() == (
        "bfer: lost 13 events so far (openat 7, unlink 1, not known 5)\n"
        "bfer: no room to follow 2 processes so far: their events are missing\n"
    )
    assert told(final=True) == (
        "bfer: lost 13 events (openat 7, unlink 1, not known 5)\n"
        "bfer: no room to follow 2 processes: their events are missing\n"
    )
    assert losses.total == 13


def test_nothing_lost_is_nothing_said(capfd: pytest.CaptureFixture[str]) -> None:
    losses = Losses(FakeMap("lost"), None, None, {257: "openat"}, say)
    losses.tell(final=True)
    assert capfd.readouterr().err == ""


def test_counters_are_read_on_alarm_and_at_the_end() -> None:
    lost, alarm, finals = FakeMap("lost"), [False], []

    def missed(final: bool) -> dict[str, int]:
        finals.append(final)
        return {"not known": 0, "do_exit": 2}

    losses = Losses(lost, None, missed, {257: "openat", 900: "do_exit"}, alarmed=lambda: alarm[0])
    lost.data[pack("=I", 257)] = pack("=QQ", 3, 4)
    losses.tell()
    assert losses.by_name == {"do_exit": 2}
    alarm[0] = True
    losses.tell()
    assert losses.by_name == {"openat": 7, "do_exit": 2}
    alarm[0] = False
    lost.data[pack("=I", 900)] = pack("=QQ", 0, 1)
    losses.tell()
    assert losses.by_name == {"openat": 7, "do_exit": 2}
    losses.tell(final=True)
    assert losses.by_name == {"openat": 7, "do_exit": 3}
    assert losses.total == 10
    assert finals == [False, False, False, True]


def test_runs_left_out_are_told_by_event() -> None:
    class Program:
        def __init__(self, misses: int) -> None:
            self.misses = misses

        def info(self) -> SimpleNamespace:
            return SimpleNamespace(recursion_misses=self.misses)

    hooks = Hooks([], {}, lambda _: None)
    hooks.hooks = [
        SimpleNamespace(event=SimpleNamespace(name=name), programs=[*map(Program, misses)])
        for name, misses in (("vfs_write", (1, 2)), ("magic_write", (0,)), ("magic_write", (4,)), ("do_exit", (0,)))
    ]
    assert hooks.missed() == {"vfs_write": 3, "magic_write": 4}
