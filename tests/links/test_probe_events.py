"""Events in tracefs outlive their maker: a shell removes them if it is killed, and touches nobody else's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pybpf import tracefs
from pybpf.errors import LinkError
from pybpf.links import janitor, probe_events
from pybpf.links.janitor import Janitor, ShellJanitor
from tests.links.test_janitor import ROOT, gone, wait

GROUP = "pybpf_17_400"
BEFORE = """\
p:pybpf_17_400/e1 vfs_read
r64:pybpf_17_400/e2 vfs_read+0
p:pybpf_17_4001/e1 vfs_read
p:pybpf_117_400/e1 vfs_read
p:kprobes/pybpf_17_400 vfs_read
r:pybpf_18_400/e1 vfs_read arg=pybpf_17_400/e1
"""
# Makes an event at a function of libc, and waits to be killed.
MAKER = """
import subprocess, sys, time
from pybpf import abi, commands, tracefs
from pybpf.links import libraries, probe_events, uprobes
guard = probe_events.Guard()
name = probe_events._group() + "/e1"
path = libraries.find("c")
probe_events._write("uprobe_events", f"p:{name} {path}:{uprobes.function_offset(path, 'getppid'):#x}\\n", "test")
if sys.argv[1] == "busy":
    number = tracefs.event_id(*name.split("/"))
    event = commands.perf_event_open(abi.PERF_TYPE_TRACEPOINT, number, -1, 0, "test")
    # The event is held for a while longer than its maker lives.
    subprocess.Popen(["sleep", "1"], pass_fds=[event.fd])
print(name, probe_events._probes.janitor._pid, flush=True)
time.sleep(60)
"""


def shells() -> list[list[str]]:
    """The shells of this machine, as words."""
    found = [["/bin/sh"]]
    found += [[path] for path in map(shutil.which, ("dash", "bash")) if path]
    busybox = shutil.which("busybox")
    return [*found, [busybox, "sh"]] if busybox else found


@pytest.mark.parametrize("words", shells(), ids=" ".join)
def test_what_the_shell_writes(tmp_path, words):
    """In files that keep all lines: those of the group, and not too often. One of the files may not be there."""
    folder = tmp_path / "a folder's $name * "
    folder.mkdir()
    files = [folder / "kprobe_events", folder / "uprobe_events", folder / "none"]
    files[0].write_text(BEFORE)
    files[1].write_text("p:pybpf_17_4/e1 /bin/sh:0x10\n")
    script = "shift 0; read -r line && exit\n" + probe_events._SCRIPT
    command = [*words, "-c", script, "janitor", GROUP, "1", *map(str, files)]
    subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, timeout=20)
    assert files[0].read_text().startswith(f"{BEFORE}-:{GROUP}/e1\n-:{GROUP}/e2\n")
    assert {line for line in files[0].read_text().splitlines() if line[0] == "-"} == {f"-:{GROUP}/e{n}" for n in (1, 2)}
    assert files[1].read_text() == "p:pybpf_17_4/e1 /bin/sh:0x10\n"


@pytest.mark.native
@pytest.mark.parametrize("how", ["at once", "busy"])
def test_after_a_kill_the_event_is_gone(how):
    """Also one that is still held then; the events of others stay."""
    try:
        path = Path(tracefs.root()) / "uprobe_events"
    except LinkError as error:
        pytest.skip(str(error))
    if not path.exists():
        pytest.skip("no uprobe_events in tracefs")
    words = [sys.executable, "-c", MAKER, how]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    name, janitor = process.stdout.readline().split()
    others = name.partition("/")[0] + "0/e1"
    probe_events._write("uprobe_events", f"p:{others} {shutil.which('sh')}:0x1000\n", "test")
    try:
        assert f"p:{name} " in path.read_text()
        process.kill()
        process.wait()
        if how == "busy":
            time.sleep(0.3)
            assert f"p:{name} " in path.read_text()
        wait(lambda: gone(int(janitor)))
        assert f"p:{name} " not in path.read_text()
        assert f"p:{others} " in path.read_text()
    finally:
        process.kill()
        process.communicate()
        probe_events.remove("uprobe_events", others)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A tracefs of plain files."""
    (tmp_path / "kprobe_events").write_text("")
    monkeypatch.setattr(tracefs, "root", lambda: str(tmp_path))
    return tmp_path


def test_guards_share_a_janitor(folder):
    probes = probe_events._probes
    one, two = probe_events.Guard(), probe_events.Guard()
    shell = probes.janitor
    assert type(shell) is ShellJanitor
    one.close()
    one.close()
    assert probes.janitor is shell
    two.close()
    assert probes.janitor is None
    assert gone(shell._pid)


def test_a_forked_process_has_guards_of_its_own(folder):
    guard = probe_events.Guard()
    shell = probe_events._probes.janitor
    assert shell is not None
    child = os.fork()
    if not child:
        guard.close()
        own = probe_events.Guard()
        other = probe_events._probes.janitor
        own.close()
        os._exit(0 if other is not None and other._pid != shell._pid else 1)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert not gone(shell._pid)
    finally:
        guard.close()


def test_without_a_shell_it_is_a_fork_or_none(folder, monkeypatch):
    monkeypatch.setattr(janitor, "SHELL", "/no/such/shell")
    guard = probe_events.Guard(fork=False)
    assert probe_events._probes.janitor is None
    guard.close()
    guard = probe_events.Guard()
    assert type(probe_events._probes.janitor) is Janitor
    guard.close()


def test_no_process_at_all_is_one_clear_line(folder, monkeypatch):
    def fork():
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(janitor, "SHELL", "/no/such/shell")
    monkeypatch.setattr(os, "fork", fork)
    with pytest.raises(LinkError, match="fork of a janitor"):
        probe_events.Guard()
    assert probe_events._probes.count == 0
