"""How many running calls a kretprobe is to keep in mind."""

from __future__ import annotations

from pathlib import Path

from bfer.returning import most_calls


def test_one_in_each_thread_as_far_as_the_kernel_goes(tmp_path: Path) -> None:
    path = tmp_path / "threads-max"
    for text, calls in (("214\n", 214), ("61234\n", 4096), ("0\n", 1), ("", 1024)):
        path.write_text(text)
        assert most_calls(str(path)) == calls
    assert most_calls(str(tmp_path / "none")) == 1024
