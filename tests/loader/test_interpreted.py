"""Calls that crash a kernel's interpreter are refused before the kernel sees them."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import rawcode as rc
from fakekernel import FakeKernel

from pybpf import interpreted, kernel
from pybpf.errors import NotSupported
from pybpf.loader import Collection
from pybpf.object.spec import ObjectSpec, ProgramSpec

TASK, RANDOM = 35, 7


def load(monkeypatch, machine, version, helper, interpreting=True):
    """Whether a program with that call reaches the (fake) kernel."""
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine, release=f"{version[0]}.{version[1]}.0"))
    monkeypatch.setattr(kernel, "is_interpreting", lambda: interpreting)
    spec = ObjectSpec()
    code = rc.call(helper) + rc.mov(0, 0) + rc.EXIT
    spec.programs["task"] = ProgramSpec("task", "raw_tp/sys_exit", code)
    fake = FakeKernel()
    kernel.set_syscall_hook(fake)
    try:
        with Collection(spec, ["task"]):
            return True
    finally:
        kernel.set_syscall_hook(None)


def test_call_that_the_compiler_would_have_written(monkeypatch):
    with pytest.raises(NotSupported) as caught:
        load(monkeypatch, "aarch64", (6, 12), TASK)
    message = str(caught.value)
    assert "program 'task' calls bpf_get_current_task" in message
    assert "net.core.bpf_jit_enable=1" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("machine", "version", "helper", "interpreting"),
    [
        ("aarch64", (6, 12), TASK, False),
        ("aarch64", (6, 12), RANDOM, True),
        ("aarch64", (6, 9), TASK, True),
        ("x86_64", (6, 12), TASK, True),
        ("armv7l", (6, 12), TASK, True),
    ],
)
def test_all_else_is_loaded(monkeypatch, machine, version, helper, interpreting):
    assert load(monkeypatch, machine, version, helper, interpreting)


def test_a_call_of_a_function_is_no_call_of_a_helper(monkeypatch):
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="aarch64", release="6.12.0"))
    call = bytes([0x85, 0x10]) + bytes(2) + TASK.to_bytes(4, "little")
    interpreted.refuse_what_crashes("f", call)
    with pytest.raises(NotSupported):
        interpreted.refuse_what_crashes("f", bytes([0x85, 0]) + call[2:])


@pytest.mark.parametrize(("text", "expected"), [("0\n", True), ("1\n", False), ("2\n", False), (None, False)])
def test_whether_the_kernel_interprets(tmp_path, monkeypatch, text, expected):
    path = tmp_path / "bpf_jit_enable"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(kernel, "_JIT_ENABLED", str(path))
    assert kernel.is_interpreting() is expected
