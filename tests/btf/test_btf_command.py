"""``python -m pybpf btf``: what a user types and sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from btf_samples import bpftool, every_kind, guest_kernels, guest_modules, kernels

from btf.builder import Builder

ROOT = Path(__file__).parents[2]


def run(*arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pybpf", "btf", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def refused(*arguments: object, status: int = 1) -> str:
    """The one line on standard error."""
    (line,) = run(*arguments, status=status).stderr.splitlines()
    return line


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "sample.btf"
    path.write_bytes(every_kind(Builder()).to_bytes())
    return path


def test_dump(sample: Path) -> None:
    assert run("dump", sample).stdout.encode() == bpftool("btf", "dump", "file", sample, "format", "raw")
    assert "\nstruct node {\n\tstruct node *next;\n" in run("dump", sample, "--format", "c").stdout


def test_dump_a_module_file(tmp_path: Path) -> None:
    if "7.2" not in guest_kernels():
        pytest.skip("kernel 7.2 is not in the cache (python -m tests.guests --fetch 7.2)")
    module = guest_modules("7.2", 20)[3]
    text = run("dump", module, "--base", guest_kernels()["7.2"]).stdout
    assert text.startswith("[118488] ")
    assert "give the BTF of its kernel with --base FILE" in refused("dump", module)


def test_find(sample: Path) -> None:
    lines = run("find", "--btf", sample, "node", "RED", "handler", "hidden_*").stdout.splitlines()
    assert [line.split("] ", 1)[1] for line in lines] == [
        "struct node: size 24, 4 members",
        "enumerator RED = 0 of enum colour",
        "func int handler(struct node *self, const char *more, ...)",
        "fwd union hidden_union",
        "var int hidden_counter",
    ]
    members = run("find", "--members", "--btf", sample, "high", "more").stdout
    assert "member int high: 29 of struct node at +16, bit 3" in members
    assert "parameter const char *more" in members


def test_refusals_are_one_line(sample: Path, tmp_path: Path) -> None:
    assert refused("find", "--btf", sample, "nobody").endswith("nothing is named 'nobody'")
    assert "no such file, and no such module" in refused("dump", "no_such_module")
    assert "no such file" in refused("dump", tmp_path / "absent")
    assert "Is a directory" in refused("dump", tmp_path)
    sample.write_bytes(sample.read_bytes()[:100])
    assert "past the data (100 bytes)" in refused("dump", sample)
    assert run("dump", sample, "--format", "rust", status=2).stdout == ""
    assert "required: COMMAND" in run(status=2).stderr


def test_closed_pipe_is_quiet() -> None:
    if "running" not in kernels():
        pytest.skip("the running kernel has no BTF")
    for form in ("raw", "c"):
        done = subprocess.run(
            ["sh", "-c", '"$0" -m pybpf btf dump vmlinux --format "$1" | head -n 2', sys.executable, form],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert len(done.stdout.splitlines()) == 2
        assert done.stderr == ""


def test_dump_of_a_kernel_needs_little_memory() -> None:
    if "running" not in kernels():
        pytest.skip("the running kernel has no BTF")
    code = (
        "import sys; from pybpf.__main__ import main; main(sys.argv[1:]);"
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0], file=sys.stderr)"
    )
    for form, limit in (("raw", 60), ("c", 120)):
        done = subprocess.run(
            [sys.executable, "-c", code, "btf", "dump", "vmlinux", "--format", form],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
        assert int(done.stderr) < limit << 10, form
