"""Process trees out of /proc."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from sys import byteorder

import pytest
from fake_kernel import FakeMap

from bfer import expr
from bfer.catalogue import Catalogue
from bfer.policy import Choice
from bfer.processes import executable, exists, inherited, seed, seed_binaries, table


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
    parent, start = table()[os.getpid()]
    assert parent == os.getppid()
    assert table()[parent][1] <= start
    assert exists(os.getpid())
    assert not exists(1 << 22 | 1)
    assert executable(os.getpid()) == os.path.realpath("/proc/self/exe").encode()
    assert executable(1 << 22 | 1) == b""


def process(proc: Path, pid: int, parent: int = 1, exe: str = "", name: str = "x", start: int = 7) -> None:
    folder = proc / str(pid)
    folder.mkdir(exist_ok=True)
    (folder / "stat").write_text(f"{pid} ({name}) S {parent}{' 1' * 17} {start} 0")
    if exe:
        (folder / "exe").unlink(missing_ok=True)
        (folder / "exe").symlink_to(exe)


def test_odd_names(tmp_path: Path) -> None:
    for pid, name, parent in ((5, "a) S 9 (", 1), (6, "", 5), (7, "x\n y", 5)):
        process(tmp_path, pid, parent, name=name, start=pid)
    (tmp_path / "8").mkdir()  # has just ended
    (tmp_path / "9").mkdir()
    (tmp_path / "9" / "stat").write_text("")
    (tmp_path / "self").mkdir()
    assert table(str(tmp_path)) == {5: (1, 5), 6: (5, 6), 7: (5, 7)}


def key(pid: int) -> bytes:
    return pid.to_bytes(4, byteorder)


def value(verdict: int, start: int = 0) -> bytes:
    return (start << 1 | verdict).to_bytes(8, byteorder)


def test_who_has_ended_meanwhile_is_taken_out(tmp_path: Path) -> None:
    process(tmp_path, 5)
    tree = FakeMap("tree")
    seed(tree, {5: True, 6: True}, proc=str(tmp_path))  # type: ignore[arg-type]
    assert tree.data == {key(5): value(1)}


def test_what_the_programs_entered_stays(tmp_path: Path) -> None:
    """They saw the fork: the parent may have ended since, and /proc shows another."""
    process(tmp_path, 5)
    process(tmp_path, 6, parent=5)
    tree = FakeMap("tree")
    tree.data[key(6)] = value(0, 99)
    seed(tree, {5: True}, proc=str(tmp_path))  # type: ignore[arg-type]
    assert tree.data == {key(5): value(1), key(6): value(0, 99)}


class Changing(FakeMap):
    """``act`` runs at each update, as the world goes on meanwhile."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__("binaries")
        self.act = act

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        super().update(key, value, flags)
        self.act()


def test_a_number_that_is_used_again_meanwhile(tmp_path: Path) -> None:
    process(tmp_path, 5)
    process(tmp_path, 6, parent=5)
    tree = Changing(lambda: process(tmp_path, 6, parent=7, start=8))
    process(tmp_path, 7, parent=1)
    seed(tree, {5: True, 7: False}, proc=str(tmp_path))  # type: ignore[arg-type]
    assert tree.data == {key(5): value(1), key(6): value(0), key(7): value(0)}


def choice(*words: str) -> Choice:
    found = expr.parse(words, Catalogue("x86_64")).binary
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("bin=/usr/bin/cat",), {5: 1}),
        (("bin=/usr/bin/*",), {5: 1, 6: 1}),
        (("bin!=/usr/bin/cat",), {5: 0}),
        (("bin=*/cat", "bin!=/bin/cat"), {5: 1}),
    ],
)
def test_what_runs_already(tmp_path: Path, words: tuple[str, ...], expected: dict[int, int]) -> None:
    for pid, exe in ((5, "/usr/bin/cat"), (6, "/usr/bin/dog"), (7, "/bin/cat"), (8, "")):
        process(tmp_path, pid, exe=exe)
    binaries = FakeMap("binaries")
    seed_binaries(binaries, choice(*words), proc=str(tmp_path))  # type: ignore[arg-type]
    assert binaries.data == {key(pid): value(verdict) for pid, verdict in expected.items()}


def test_what_becomes_another_program_meanwhile(tmp_path: Path) -> None:
    process(tmp_path, 5, exe="/bin/cat")
    binaries = Changing(lambda: process(tmp_path, 5, exe="/bin/dog"))
    seed_binaries(binaries, choice("bin=/bin/cat"), proc=str(tmp_path))  # type: ignore[arg-type]
    assert binaries.data == {}


def test_a_file_that_was_removed(tmp_path: Path) -> None:
    program = tmp_path / "program"
    shutil.copy("/bin/sleep", program)
    child = subprocess.Popen([program, "60"])
    try:
        deadline = time.monotonic() + 60
        while executable(child.pid) != bytes(program) and time.monotonic() < deadline:
            time.sleep(0.01)
        program.unlink()
        assert executable(child.pid) == bytes(program)
    finally:
        child.kill()
        child.wait()
