"""``python -m pybpf``: its two commands, their output and their errors."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Iterator, Sequence
from importlib import import_module

import pytest
from object_samples import sample_object

from pybpf.__main__ import main
from pybpf.errors import CompileError


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[list[str], str]]]:
    """A stand-in for the compiler: remembers what it was asked for, and gives the sample object."""
    calls: list[tuple[list[str], str]] = []

    def compile_modules(modules: Sequence[str], name: str, lines: bool) -> bytes:
        assert lines
        if any(hasattr(import_module(module), "wrong") for module in modules):
            raise CompileError("x.py:3:5: no such field", "details follow")
        calls.append(([*modules], name))
        return sample_object()

    fake = types.ModuleType("pybpf.lang")
    fake.compile_modules = compile_modules  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pybpf.lang", fake)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield calls
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(directory: object, name: str, text: str) -> str:
    path = os.path.join(str(directory), name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def test_info(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    path = os.path.join(str(tmp_path), "x.o")
    with open(path, "wb") as file:
        file.write(sample_object())
    assert main(["info", path]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("little-endian, license Dual MIT/GPL, BTF ")
    assert "program one [raw_tp/sched_switch]: 7 instructions" in lines
    assert "program two [raw_tp/sched_switch]: 6 instructions, 1 CO-RE relocations" in lines
    assert "map table: type 2, key 4, value 8, entries 3, flags 0x0" in lines
    assert "map .rodata: type 2, key 4, value 12, entries 1, flags 0x80" in lines
    assert "variable limit [.rodata+4]: 8 bytes" in lines


def test_build_of_files(
    compiler: list[tuple[list[str], str]], tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "neighbour_of_first.py", "x = 1\n")
    first = write(tmp_path, "first_dsl.py", "from neighbour_of_first import x\n")
    second = write(tmp_path, "second_dsl.py", "")
    output = os.path.join(str(tmp_path), "out.bpf.o")
    assert main(["build", first, second, "-o", output]) == 0
    assert compiler == [(["first_dsl", "second_dsl"], "out.bpf.o")]
    with open(output, "rb") as file:
        assert file.read() == sample_object()
    size = len(sample_object())
    assert capsys.readouterr().out == f"{output}: {size} bytes, 3 programs, 21 instructions\n"
    assert not [name for name in os.listdir(str(tmp_path)) if name.endswith(".tmp")]


def test_build_names_the_output_after_the_first_file(compiler: list[tuple[list[str], str]], tmp_path: object) -> None:
    assert main(["build", write(tmp_path, "third_dsl.py", "")]) == 0
    assert os.path.exists(os.path.join(str(tmp_path), "third_dsl.bpf.o"))


def test_build_of_the_programs(compiler: list[tuple[list[str], str]], tmp_path: object) -> None:
    package = types.ModuleType("programs")
    package.__file__ = os.path.join(str(tmp_path), "__init__.py")
    package.OBJECTS = {"bfer.bpf.o": ("neighbour_of_nobody",)}  # type: ignore[attr-defined]
    write(tmp_path, "neighbour_of_nobody.py", "")
    sys.path.insert(0, str(tmp_path))
    kept = sys.modules.get("programs")
    sys.modules["programs"] = package
    try:
        assert main(["build"]) == 0
    finally:
        del sys.modules["programs"]
        if kept is not None:
            sys.modules["programs"] = kept
    assert compiler == [(["neighbour_of_nobody"], "bfer.bpf.o")]
    assert os.path.exists(os.path.join(str(tmp_path), "bfer.bpf.o"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("wrong_dsl.py", "wrong = True", "pybpf: x.py:3:5: no such field\ndetails follow\n"),
        ("syntax_dsl.py", "def f(:\n", "syntax_dsl.py:1:7: "),
        (
            "import_dsl.py",
            "import no_such_module_here",
            "import_dsl.py:1: ModuleNotFoundError: No module named 'no_such_module_here'",
        ),
        ("name_dsl.py", "\nx = y", "name_dsl.py:2: NameError: name 'y' is not defined"),
        (
            "hook_dsl.py",
            "from pybpf.errors import CompileError\nraise CompileError('write category:name')",
            "hook_dsl.py:2: write category:name",
        ),
        ("sys.py", "", "a module named 'sys' is loaded already"),
        ("not_python.txt", "", "not a Python file"),
    ],
)
def test_build_errors(
    name: str,
    text: str,
    message: str,
    compiler: list[tuple[list[str], str]],
    tmp_path: object,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["build", write(tmp_path, name, text)]) == 1
    assert message in capsys.readouterr().err
    assert os.listdir(str(tmp_path)) == [name] or os.listdir(str(tmp_path)) == ["__pycache__", name]


def test_errors(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    missing = os.path.join(str(tmp_path), "missing.o")
    assert main(["info", missing]) == 1
    assert capsys.readouterr().err == f"pybpf: {missing}: No such file or directory\n"
    assert main(["info", __file__]) == 1
    assert capsys.readouterr().err.startswith(f"pybpf: {__file__}: not an ELF file")
    for words in ([], ["sing"], ["info"], ["build", "--loud"]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2


def run(command: str, **given: object) -> subprocess.CompletedProcess[bytes]:
    """A shell's view: ``command`` with ``pybpf`` in it."""
    line = command.replace("pybpf", f"{sys.executable} -m pybpf", 1)
    return subprocess.run(line, shell=True, capture_output=True, check=False, timeout=60, **given)  # type: ignore[call-overload, no-any-return]


def test_info_of_standard_input() -> None:
    done = run("pybpf info -", input=sample_object())
    assert done.returncode == 0
    assert done.stdout.startswith(b"little-endian")
    assert run("pybpf info -", input=b"").stderr.startswith(b"pybpf: <stdin>: not an ELF file")


@pytest.mark.parametrize(
    "command", ["pybpf info - >&-", "pybpf disasm - >&-", "pybpf asm - <&-", "pybpf info - >/dev/full"]
)
def test_streams_that_are_closed_or_full(command: str) -> None:
    done = run(command, **({} if "<&-" in command else {"input": sample_object()}))
    assert done.returncode == 1
    assert done.stderr.startswith(b"pybpf: ")
    assert done.stderr.count(b"\n") == 1


def test_build_into_what_is_no_file(
    compiler: list[tuple[list[str], str]], tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = os.path.join(str(tmp_path), "missing", "x.o")
    for number, (output, reason) in enumerate(
        ((str(tmp_path), "Is a directory"), (nowhere, "No such file or directory"))
    ):
        source = write(tmp_path, f"goes_nowhere_{number}_dsl.py", "")
        assert main(["build", source, "-o", output]) == 1
        assert capsys.readouterr().err == f"pybpf: {output}: {reason}\n"
    assert not [name for name in os.listdir(os.path.dirname(str(tmp_path))) if name.endswith(".tmp")]
