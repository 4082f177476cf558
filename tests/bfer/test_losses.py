"""Telling of losses: once while running, in all at the end."""

from __future__ import annotations

from struct import pack

import pytest
from fake_kernel import FakeMap

from bfer.losses import Losses
from bfer.writer import say


def test_told_when_new_and_at_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    lost, untracked = FakeMap("lost"), FakeMap("untracked")
    missed = [0]
    losses = Losses(lost, untracked, lambda: missed[0], {257: "openat", 87: "unlink"}, say)

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
