"""What cannot work ends with one clear line, the right exit status, and no traceback."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from running import BFER, ENVIRONMENT, as_user, bfer, need

from pybpf import inkernel


def one_line(got: subprocess.CompletedProcess[str], status: int) -> str:
    assert got.returncode == status, got.stderr
    assert got.stdout == ""
    assert got.stderr.startswith("bfer: ")
    assert got.stderr.count("\n") == 1, got.stderr
    return got.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trace", "event=opennat"], ["opennat", "openat"]),
        (["trace", "event=zzz*"], ["zzz*"]),
        (["trace", "set=nothing"], ["nothing"]),
        (["trace", "bogus=1"], ["bogus"]),
        (["trace", "uid=root!"], ["root!"]),
        (["trace", "uid=-1"], ["-1"]),
        (["trace", "pid=99999999999"], ["99999999999"]),
        (["trace", "comm="], ["comm"]),
        (["trace", "comm=sixteen-chars-16"], ["sixteen-chars-16"]),
        (["trace", "openat.path=/x"], ["path", "pathname"]),
        (["trace", "opnat.pathname=/x"], ["opnat", "openat"]),
        (["trace", "openat.retval=abc"], ["abc"]),
        (["trace", "tree=abc"], ["abc"]),
        (["trace", "--output", "yaml"], ["yaml", "table", "json"]),
        (["trace", "--output", "option:nothing"], ["nothing"]),
        (["trace", "--duration", "soon"], ["soon"]),
        (["trace", "--buffer", "5"], ["5"]),
        (["trace", "--nothing"], ["--nothing"]),
        (["trace", "tree=1", "--", "true"], ["tree"]),
        (["nothing"], ["nothing"]),
        (["--trace"], ["--trace"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_arguments(arguments: list[str], words: list[str]) -> None:
    line = one_line(bfer(*arguments), 2)
    for word in words:
        assert word in line


@pytest.mark.native
@pytest.mark.parametrize("path", ["/proc/nothing/x", "/tmp", "/proc/version/x"])
def test_output_that_cannot_be_written(path: str) -> None:
    line = one_line(bfer("trace", "event=openat", "--output", f"json:{path}"), 1)
    assert path in line


@pytest.mark.native
def test_without_root() -> None:
    if os.getuid() != 0:
        pytest.skip("needs root to become another user")
    got = subprocess.run(
        as_user(*BFER, "trace", "event=openat"), capture_output=True, text=True, env=ENVIRONMENT, cwd="/"
    )
    line = one_line(got, 1)
    assert "uid 1000" in line
    assert "CAP_BPF" in line


@pytest.mark.native
def test_without_btf() -> None:
    need("unshare")
    command = "mount -t tmpfs none /sys/kernel/btf && exec " + " ".join(BFER) + " trace event=openat -- cat /etc/passwd"
    got = subprocess.run(
        ["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, env=ENVIRONMENT, cwd="/"
    )
    if inkernel.relocates():
        # The kernel has its BTF all the same, and does without the file what it is needed for.
        assert (got.returncode, got.stderr) == (0, "")
        assert "pathname: /etc/passwd" in got.stdout
    else:
        line = one_line(got, 1)
        assert "/sys/kernel/btf/vmlinux" in line
        assert "--btf" in line


@pytest.mark.native
def test_a_btf_file_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "vmlinux"
    file.write_bytes(b"no BTF at all")
    assert str(file) in one_line(bfer("trace", "event=openat", "--btf", str(file)), 1)
    assert str(file) + "x" in one_line(bfer("trace", "event=openat", "--btf", str(file) + "x"), 1)


@pytest.mark.native
def test_a_process_that_does_not_exist() -> None:
    assert "4194303" in one_line(bfer("trace", "tree=4194303"), 1)
