"""The single-file archive: contents, byte code, reproducibility. The compiler is not needed here."""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
import zipfile
from types import CodeType

import pytest

import pybpf.__main__
from bfer import archive

BUDGET = 1 << 20


@pytest.fixture(autouse=True)
def compiled_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pybpf.__main__, "compile_programs", lambda **_: [("/x/programs/bfer.bpf.o", b"\x7fELF object")])


def run(path: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # -I: neither the directory of the tests nor the environment may lend a module.
    return subprocess.run(
        [sys.executable, "-I", path, *words], capture_output=True, text=True, check=False, cwd="/", env=environment
    )


@pytest.mark.parametrize("sourceless", [False, True])
def test_archive_runs(sourceless: bool, tmp_path: object) -> None:
    path = os.path.join(str(tmp_path), "bfer.pyz")
    archive.make_archive(path, sourceless)
    assert os.path.getsize(path) < BUDGET
    assert os.access(path, os.X_OK)
    done = run(path, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("bfer ")
    with open(path, "rb") as file:
        assert file.readline() == b"#!/usr/bin/env python3\n"


def test_archive_holds_the_packages_and_the_object(tmp_path: object) -> None:
    path = os.path.join(str(tmp_path), "bfer.pyz")
    archive.make_archive(path, False)
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
        assert file.read("programs/bfer.bpf.o") == b"\x7fELF object"
    assert {"__main__.py", "btf/reader.py", "pybpf/loader.py", "pybpf/object/reader.py", "bfer/__main__.py"} <= {*names}
    assert {name.split("/")[0] for name in names} == {"__main__.py", *archive.PACKAGES}
    assert not [name for name in names if "__pycache__" in name]
    assert not [name for name in names if name.startswith(archive._LEFT_OUT)]
    assert not [name for name in names if name.endswith(".py") and archive._is_of_compiler(name)]


def test_a_compiler_where_one_is_asked_for(tmp_path: object) -> None:
    path = os.path.join(str(tmp_path), "bfer.pyz")
    source = os.path.join(str(tmp_path), "one.py")
    with open(source, "w") as file:
        file.write("from pybpf.lang import *\n\n@raw_tp('sys_enter')\ndef one(ctx):\n    return 0\n")
    for compiler, status in ((False, 1), (True, 0)):
        archive.make_archive(path, False, compiler)
        done = subprocess.run(
            [sys.executable, "-m", "pybpf", "build", source, "-o", path + ".o"],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env={"PYTHONPATH": path},
        )
        assert done.returncode == status, done.stderr
        assert len(done.stderr.splitlines()) == status


def test_a_tool_that_was_left_out_is_named(tmp_path: object) -> None:
    path = os.path.join(str(tmp_path), "bfer.pyz")
    archive.make_archive(path, False)
    for words, module in ((["asm", "x"], "pybpf.asmtool"), (["btf", "show", "task_struct"], "btf.layout")):
        done = subprocess.run(
            [sys.executable, "-m", "pybpf", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env={"PYTHONPATH": path},
        )
        message = f"pybpf: this copy comes without {module}: use a checkout or the whole package\n"
        assert (done.returncode, done.stderr) == (1, message)


def test_sourceless_archive_holds_byte_code_only(tmp_path: object) -> None:
    path = os.path.join(str(tmp_path), "bfer.pyz")
    archive.make_archive(path, True)
    with zipfile.ZipFile(path) as file:
        assert [name for name in file.namelist() if name.endswith(".py")] == ["__main__.py"]
        # Unchecked hash (PEP 552): no time stamp, and the source is never looked for.
        assert file.read("bfer/__main__.pyc")[4:8] == b"\1\0\0\0"
        # What only type checkers read is left out.
        for name in file.namelist():
            if name.endswith(".pyc"):
                code = marshal.loads(file.read(name)[16:])
                assert "collections.abc" not in code.co_names, name
                assert not [text for text in _strings(code) if text.startswith("Callable[")], name


def _strings(code: CodeType) -> list[str]:
    """Constants of a module and of its functions, those in tuples, where annotations are, included."""
    found: list[str] = []
    for value in code.co_consts:
        if isinstance(value, CodeType):
            found += _strings(value)
        else:
            found += [part for part in (value if isinstance(value, tuple) else (value,)) if isinstance(part, str)]
    return found


def test_sourceless_archive_names_the_version_it_needs(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    path = os.path.join(str(tmp_path), "bfer.pyz")
    monkeypatch.setattr(
        archive, "_CHECK", archive._CHECK.replace("{tag}", "cpython-27").replace("{tag!r}", "'cpython-27'")
    )
    archive.make_archive(path, True)
    done = run(path, "--version")
    assert done.returncode == 1
    assert (
        done.stderr
        == f"bfer: this archive holds byte code of cpython-27 only; this is {sys.implementation.cache_tag}\n"
    )


@pytest.mark.parametrize("sourceless", [False, True])
def test_same_sources_same_bytes(sourceless: bool, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = []
    for number in ("1", "2"):
        path = os.path.join(str(tmp_path), number)
        monkeypatch.setenv("PYTHONHASHSEED", number)
        archive.make_archive(path, sourceless)
        with open(path, "rb") as file:
            contents.append(file.read())
    assert contents[0] == contents[1]


def test_nothing_is_left_of_a_failed_write(tmp_path: object) -> None:
    directory = os.path.join(str(tmp_path), "taken")
    os.mkdir(directory)
    with pytest.raises(OSError, match="taken"):
        archive.make_archive(directory, False)
    assert os.listdir(str(tmp_path)) == ["taken"]
