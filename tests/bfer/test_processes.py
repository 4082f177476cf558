"""Process trees out of /proc."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fake_kernel import FakeMap

from bfer.processes import exists, inherited, parents, seed


@pytest.mark.parametrize(
    ("roots", "expected"),
    [
        ({2: True}, {2: True, 4: True, 5: True, 6: True}),
        ({2: True, 4: False}, {2: True, 4: False, 5: False, 6: True}),
        ({4: False}, {4: False, 5: False}),
        ({1: True}, dict.fromkeys(range(1, 8), True)),
        ({9: True}, {9: True}),
    ],
)
def test_the_nearest_root_decides(roots: dict[int, bool], expected: dict[int, bool]) -> None:
    tree = {1: 0, 2: 1, 3: 1, 4: 2, 5: 4, 6: 2, 7: 3}
    assert inherited(roots, tree) == expected


def test_a_circle_ends() -> None:
    # Two readings of /proc at different moments may contradict each other.
    assert inherited({9: True}, {1: 2, 2: 1}) == {9: True}


def test_this_process() -> None:
    found = parents()
    assert found[os.getpid()] == os.getppid()
    assert exists(os.getpid())
    assert not exists(1 << 22 | 1)


def test_odd_names(tmp_path: Path) -> None:
    for pid, name, parent in ((5, "a) S 9 (", 1), (6, "", 5), (7, "x\n y", 5)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) S {parent} 1 1 0")
    (tmp_path / "8").mkdir()  # has just ended
    (tmp_path / "9").mkdir()
    (tmp_path / "9" / "stat").write_text("")
    (tmp_path / "self").mkdir()
    assert parents(str(tmp_path)) == {5: 1, 6: 5, 7: 5}


def test_who_has_ended_meanwhile_is_taken_out(tmp_path: Path) -> None:
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / "stat").write_text("5 (x) S 1 1 1 0")
    tree = FakeMap("tree")
    seed(tree, {5: True, 6: True}, str(tmp_path))  # type: ignore[arg-type]
    assert list(tree.data) == [(5).to_bytes(4, "little")]
