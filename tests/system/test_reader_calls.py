"""What bfer asks of the kernel while it traces."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.native

CALL = re.compile(r"(bpf\(\w+|epoll_p?wait|ioctl\(\d+, PERF_EVENT_IOC_SET_BPF)")
ATTACH = re.compile(r"bpf\(BPF_(RAW_TRACEPOINT_OPEN|LINK_CREATE)|ioctl")


def test_no_map_is_read_or_written_while_tracing(tmp_path: Path) -> None:
    """Such a call keeps programs on perf events from running on its processor, so it would cost events."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    log, output = tmp_path / "log", tmp_path / "output"
    bfer = [sys.executable, "-m", "bfer", "trace", "-q", "-o", f"json:{output}", "event=openat,execve", "follow"]
    traced = ["--", "sh", "-c", "cat /etc/hostname; sleep 0.3"]
    # No -f: the command is not strace's business.
    command = ["strace", "-e", "trace=bpf,epoll_wait,epoll_pwait,ioctl", "-o", str(log), *bfer, *traced]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b'"/etc/hostname"' in output.read_bytes()
    calls = [match[1] for line in log.read_text().splitlines() if (match := CALL.match(line))]
    attached = max(at for at, call in enumerate(calls) if ATTACH.match(call))
    waits = [at for at, call in enumerate(calls) if call.startswith("epoll")]
    assert len(waits) > 2
    assert "bpf(BPF_MAP_UPDATE_ELEM" in calls[:attached]
    assert {call for call in calls[attached + 1 : waits[-1]] if not call.startswith("epoll")} == set()
    assert "bpf(BPF_MAP_LOOKUP_ELEM" in calls[waits[-1] :]  # the losses, at the end
