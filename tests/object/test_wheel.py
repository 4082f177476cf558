"""The wheel: pure Python, with the eBPF object that its build compiles; the source distribution has none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec

import pytest

import pybpf.errors
from pybpf.object.reader import read_object

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(pybpf.errors.__file__)))
# One small program in the place of all, so that this tests packaging and not the compiler.
PROGRAM = """
from pybpf.lang import *

counts = Array(u64, 4)


@raw_tp("sched_switch")
def tiny(ctx):
    value = counts.lookup(0)
    if value:
        value[0] += 1
    return 0
"""


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    missing = [name for name in ("build", "setuptools", "wheel") if find_spec(name) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed")
    copy = str(tmp_path_factory.mktemp("tree"))
    for name in ("btf", "pybpf", "programs", "bfer"):
        shutil.copytree(
            os.path.join(ROOT, name), os.path.join(copy, name), ignore=shutil.ignore_patterns("__pycache__", "*.o")
        )
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(os.path.join(ROOT, name), copy)
    with open(os.path.join(copy, "programs", "tiny.py"), "w", encoding="utf-8") as file:
        file.write(PROGRAM)
    with open(os.path.join(copy, "programs", "__init__.py"), "a", encoding="utf-8") as file:
        file.write('\nOBJECTS = {OBJECT: ("programs.tiny",)}\n')
    out = os.path.join(copy, "dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--sdist", "--wheel", "-o", out, copy]
    # Not from the tree: its own `programs` must not come before the copy's.
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=os.path.dirname(copy))
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    return [os.path.join(out, name) for name in sorted(os.listdir(out))]


def test_wheel_is_pure_and_holds_the_object(distributions: list[str]) -> None:
    wheel = next(path for path in distributions if path.endswith(".whl"))
    assert wheel.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        spec = read_object(file.read("programs/bfer.bpf.o"))
    assert list(spec.programs) == ["tiny"]
    assert list(spec.maps) == ["counts"]
    for package in ("btf", "pybpf", "pybpf/asm", "pybpf/lang", "pybpf/object", "programs", "bfer", "bfer/output"):
        assert f"{package}/__init__.py" in names
    assert not [name for name in names if name.startswith(("tests", "setup"))]


def test_source_distribution_holds_no_object(distributions: list[str]) -> None:
    with tarfile.open(next(path for path in distributions if path.endswith(".tar.gz"))) as file:
        names = [name.split("/", 1)[-1] for name in file.getnames()]
    assert {"setup.py", "pyproject.toml", "programs/syscalls.py"} <= {*names}
    assert not [name for name in names if name.endswith(".o")]
