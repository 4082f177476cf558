"""The command to trace: started at the gate, its status, its signals."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from bfer.command import Command
from bfer.errors import CommandError
from bfer.signals import SAME, Hurry, Signals


def nothing() -> None:
    pass


def run(*argv: str) -> int:
    command = Command(list(argv), nothing)
    command.release()
    command.wait()
    command.close()
    assert command.status is not None
    return command.status


def test_statuses() -> None:
    assert os.WEXITSTATUS(run("true")) == 0
    assert os.WEXITSTATUS(run("sh", "-c", "exit 7")) == 7
    assert os.WTERMSIG(run("sh", "-c", "kill -9 $$")) == 9


def test_it_waits_for_its_release(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    command = Command(["touch", str(mark)], nothing)
    time.sleep(0.05)
    assert not mark.exists()
    assert not command.poll()
    command.release()
    command.wait()
    assert command.poll()
    assert mark.exists()
    command.close()


def test_never_released(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    command = Command(["touch", str(mark)], nothing)
    command.close()
    assert command.status is not None
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("no-such-command", 127, "No such file or directory"),
        ("/no/such/command", 127, "No such file or directory"),
        ("", 127, "No such file or directory"),
        ("/etc", 126, "Permission denied"),
        ("/etc/passwd", 126, "Permission denied"),
    ],
)
def test_cannot_run(name: str, status: int, reason: str) -> None:
    command = Command([name], nothing)
    with pytest.raises(CommandError) as error:
        command.release()
    assert str(error.value) == f"cannot run {name!r}: {reason}"
    assert error.value.status == status
    command.close()


def test_no_interpreter_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "script"
    script.write_text("echo\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/nowhere")
    command = Command(["script"], nothing)
    with pytest.raises(CommandError, match="cannot run 'script': Exec format error"):
        command.release()
    command.close()


def test_killed_at_the_gate() -> None:
    command = Command(["true"], nothing)
    command.kill(signal.SIGKILL)
    time.sleep(0.05)
    command.release()
    command.wait()
    assert os.WTERMSIG(command.status or 0) == signal.SIGKILL
    command.close()


def test_the_child_has_default_dispositions(tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals = Signals(patient=True)
    try:
        command = Command(["sh", "-c", f"grep SigIgn /proc/self/status > {out}"], signals.restore_in_child)
        command.release()
        command.wait()
        command.close()
    finally:
        signals.close()
        signal.signal(signal.SIGHUP, before)
    ignored = int(out.read_text().split()[1], 16)
    # What was ignored before us (nohup) stays so; what Python ignores does not.
    assert ignored & 1 << signal.SIGHUP - 1
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
        assert not ignored & 1 << signum - 1


def test_signals_are_queued_and_restored() -> None:
    before = signal.getsignal(signal.SIGINT)
    signals = Signals(patient=True)
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    assert sorted(signals.take()) == [signal.SIGINT, signal.SIGTERM]
    assert signals.take() == []
    signals.close()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_request_hurries() -> None:
    signals = Signals(patient=False)
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)  # counts as the same one
    time.sleep(SAME + 0.05)
    with pytest.raises(Hurry):
        os.kill(os.getpid(), signal.SIGTERM)
    signals.close()


def test_die_of() -> None:
    code = "import sys; from bfer.signals import die_of; sys.exit(die_of(int(sys.argv[1])))"
    for signum in (signal.SIGTERM, signal.SIGSEGV, signal.SIGKILL, signal.SIGINT):
        pid = os.spawnve(
            os.P_NOWAIT,
            sys.executable,
            [sys.executable, "-c", code, str(int(signum))],
            {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        status = os.waitpid(pid, 0)[1]
        assert os.WTERMSIG(status) == signum
        assert not os.WCOREDUMP(status)
