"""The compiled object of bfer's programs, in the hands of the usual tools."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from running import need

from programs import load_object
from pybpf.object.reader import read_object

PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("object") / "bfer.bpf.o"
    path.write_bytes(load_object())
    return path


def run(*command: str) -> str:
    got = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": PATH}, check=False)
    assert got.returncode == 0, got.stderr + got.stdout
    return got.stdout


@pytest.mark.native
def test_bpftool_loads_every_program(compiled: Path, tmp_path: Path) -> None:
    """By libbpf: its own ELF reader, its own CO-RE, its own maps."""
    need("bpftool", "unshare")
    pins = tmp_path / "bpf"
    pins.mkdir()
    script = f"mount -t bpf bpf {pins} && bpftool prog loadall {compiled} {pins}/all && ls {pins}/all"
    names = run("unshare", "-m", "sh", "-c", script).split()
    programs = read_object(compiled.read_bytes()).programs
    assert sorted(names) == sorted(name for name, program in programs.items() if program.section != ".text")
    run("unshare", "-m", "sh", "-c", f"mount -t bpf bpf {pins} && bpftool prog load {compiled} {pins}/first")


def test_llvm_objdump_disassembles_it(compiled: Path) -> None:
    tool = next((name for n in range(30, 16, -1) if shutil.which(name := f"llvm-objdump-{n}")), "llvm-objdump")
    need(tool)
    text = run(tool, "-d", "-r", str(compiled))
    if tool != "llvm-objdump":  # before 17 it does not know jset and stores of constants
        assert "<unknown>" not in text
    for name in read_object(compiled.read_bytes()).programs:
        assert f"<{name}>:" in text


def test_its_licence_and_debug_information(compiled: Path) -> None:
    spec = read_object(compiled.read_bytes())
    assert spec.license == "Dual MIT/GPL"
    for program in spec.programs.values():
        assert program.func_info[0][0] == 0
        assert program.line_info[0][0] == 0
    if shutil.which("bpftool", path=PATH):
        dump = run("bpftool", "btf", "dump", "file", str(compiled))
        assert "STRUCT 'task_struct'" in dump
