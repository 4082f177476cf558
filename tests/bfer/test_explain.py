"""``--explain``: the table of hooks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bfer.explain import table
from bfer.hooks import Trial
from pybpf.errors import LinkError
from pybpf.links import Attempt, Link

ROOT = Path(__file__).parents[2]


def test_table_tells_what_was_refused_and_what_was_taken() -> None:
    link = Link("program 'sys_exit' (raw_tp/sys_exit)", mechanism="raw tracepoint")
    second = Link("program 'fork' (tp/sched/sched_process_fork)")
    second.attempts = (Attempt("event, bpf link", LinkError("EINVAL", 22)), Attempt("event, ioctl"))
    hooked = SimpleNamespace(
        event=SimpleNamespace(name="file"),
        tried=[Trial("on_lsm", "no BPF LSM"), Trial("on_kprobe", "attached")],
        links=[Link("program 'on_kprobe' (kprobe f)", mechanism="pmu")],
    )
    tracer = SimpleNamespace(
        refused=[("sys_exit fork", "tp_btf", "no BTF here")],
        links=[second, link],
        hooks=SimpleNamespace(hooks=[hooked]),
        plan=SimpleNamespace(names={1: "openat", 2: "open", 3: "openat", 9: "file"}, calls={1: "a", 2: "a", 3: "b"}),
    )
    assert table(tracer) == [  # type: ignore[arg-type]
        "PROGRAM        HOOK                         RESULT",
        "sys_exit fork  tp_btf                       no BTF here",
        "fork           tp/sched/sched_process_fork  event, bpf link: EINVAL",
        "fork           tp/sched/sched_process_fork  attached by event, ioctl",
        "sys_exit       raw_tp/sys_exit              attached by raw tracepoint",
        "file           on_lsm                       no BPF LSM",
        "file           kprobe f                     attached by pmu",
        "2 events       tail call                    open, openat",
    ]


@pytest.mark.native
def test_a_run_explains_itself() -> None:
    words = [sys.executable, "-m", "bfer", "trace", "--explain", "event=openat", "--", "true"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line[6:] for line in done.stderr.splitlines() if line.startswith("bfer: ")]
    (row,) = [line.split(None, 2) for line in lines if line.startswith("sys_exit ") and "attached" in line]
    assert row[1] in ("tp_btf/sys_exit", "raw_tp/sys_exit")
    assert row[2] == "attached by raw tracepoint"
    assert lines[-1].split(None, 4) == ["1", "event", "tail", "call", "openat"]
