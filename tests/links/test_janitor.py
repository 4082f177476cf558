"""The process that cleans up: after SIGKILL, not after an orderly end, and without keeping anything open meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pybpf.links import janitor as janitors
from pybpf.links.attachment import Attachment
from pybpf.links.janitor import Janitor, ShellJanitor

ROOT = Path(__file__).parents[2]
KINDS = ("fork", "shell")
OWNER = """
import os, sys, time
from pybpf.links.janitor import Janitor, ShellJanitor
kind, path, how = sys.argv[1:]
orderly = how == "orderly"
if kind == "fork":
    janitor = Janitor(lambda: os.close(os.open(path, os.O_CREAT | os.O_WRONLY)))
else:
    janitor = ShellJanitor(': >"$1"', path)
print(janitor._pid, flush=True)
if orderly:
    janitor.dismiss()
    janitor.dismiss()
else:
    time.sleep(60)
"""


def owner(kind: str, path: Path, how: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", OWNER, kind, str(path), how]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def gone(pid: int) -> bool:
    """Whether the process has ended; a dead one that nobody has waited for counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def wait(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
@pytest.mark.parametrize("kind", KINDS)
def test_it_cleans_up_after_a_killed_process(tmp_path, kind, number):
    process = owner(kind, tmp_path / "cleaned", "killed")
    assert process.stdout is not None
    janitor = int(process.stdout.readline())
    # Its own signals do not end it, and the other end of a pipe that it inherited is not held open.
    wait(lambda: os.getsid(janitor) != os.getsid(0))  # what is typed at the terminal is not for it
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        os.kill(janitor, ignored)
    time.sleep(0.05)
    assert not (tmp_path / "cleaned").exists()
    process.send_signal(number)
    assert process.stdout.read() == ""
    process.stdout.close()
    process.wait()
    wait((tmp_path / "cleaned").exists)
    wait(lambda: gone(janitor))


@pytest.mark.parametrize("kind", KINDS)
def test_dismissed_it_does_nothing(tmp_path, kind):
    process = owner(kind, tmp_path / "cleaned", "orderly")
    out, _ = process.communicate()
    assert process.returncode == 0
    assert gone(int(out))
    assert not (tmp_path / "cleaned").exists()


@pytest.mark.parametrize("make", [lambda: Janitor(lambda: None), lambda: ShellJanitor("exit")])
def test_a_janitor_that_was_killed_is_no_error(make):
    janitor = make()
    os.kill(janitor._pid, signal.SIGKILL)
    os.waitpid(janitor._pid, 0)
    janitor.dismiss()


def test_no_zombie_remains():
    janitor = ShellJanitor("exit")
    janitor.dismiss()
    with pytest.raises(ProcessLookupError):
        os.kill(janitor._pid, 0)


def test_it_holds_no_descriptor_but_those_it_needs():
    reading, writing = os.pipe()
    kept = os.open("/dev/null", os.O_RDONLY)
    janitor = Janitor(lambda: None, (kept,))
    try:
        wait(lambda: len(os.listdir(f"/proc/{janitor._pid}/fd")) == 2)
        assert str(kept) in os.listdir(f"/proc/{janitor._pid}/fd")
        os.close(writing)
        assert os.read(reading, 1) == b""  # the end of file: nobody else has the other end
    finally:
        janitor.dismiss()
        os.close(reading)
        os.close(kept)


def test_a_shell_gets_no_descriptor_of_ours():
    """Nor one that was given to this process, whose other end somebody may read to its end."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    janitor = ShellJanitor("exit")
    try:
        assert sorted(os.listdir(f"/proc/{janitor._pid}/fd"), key=int) == ["0", "1", "2"]
        assert os.readlink(f"/proc/{janitor._pid}/cwd") == "/"
        os.close(writing)
        assert os.read(reading, 1) == b""
    finally:
        janitor.dismiss()
        os.close(reading)


def test_without_a_shell_there_is_no_shell_janitor(monkeypatch):
    monkeypatch.setattr(janitors, "SHELL", "/no/such/shell")
    with pytest.raises(FileNotFoundError):
        ShellJanitor("exit")


class Noted(Attachment):
    """An attachment whose undoing is seen in a file."""

    def __init__(self, path: Path) -> None:
        super().__init__("noted", mechanism="file")
        self.path = path
        self._watch()

    def _undo(self) -> None:
        with open(self.path, "a") as file:
            file.write("undone\n")


def test_an_attachment_is_undone_once_and_by_its_maker_only(tmp_path):
    path = tmp_path / "log"
    attachment = Noted(path)
    child = os.fork()
    if not child:
        attachment.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert not path.exists()
    attachment.close()
    attachment.detach()
    attachment.close()
    assert path.read_text() == "undone\n"


def test_an_attachment_that_was_never_made_is_not_undone(tmp_path):
    attachment = Noted(tmp_path / "log")
    attachment._forget()
    attachment.close()
    assert not (tmp_path / "log").exists()
