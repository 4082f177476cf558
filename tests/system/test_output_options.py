"""Output options and formats of real runs, checked by schemas and by what really was."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from running import ROOT, bfer, need

pytestmark = pytest.mark.native

SCHEMAS = ROOT / "docs" / "schema"
PYTHON = os.path.realpath(sys.executable)

# Many kinds of arguments: paths, addresses, vectors, structures, odd bytes, failures.
WORKLOAD = r"""
import os, socket, subprocess, sys
os.chdir(sys.argv[1])
open(b"odd \xff \"<&>\n", "w").close()
for name in ("missing", "x" * 300):
    try: os.stat(name)
    except OSError: pass
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b"x", ("127.0.0.1", 9))
u = socket.socket(socket.AF_UNIX); u.bind("\0bfer-test-%d" % os.getpid())
t = socket.socketpair()
os.pipe(); os.rename(b"odd \xff \"<&>\n", "even")
subprocess.run(["/bin/true", "<a>", "b\n"], env={"A": "1"})
open("maps", "w").write(open("/proc/self/maps").read())
"""


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """A checkout compiles its programs when they are first wanted, and says so."""
    from programs import OBJECTS, load_object

    for name in OBJECTS:
        load_object(name)


def run(tmp_path: Path, *words: str) -> None:
    done = bfer(*("trace", "-q", "--buffer", "16M", *words, "--", PYTHON, "-S", "-E", "-c", WORKLOAD, str(tmp_path)))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("options", [[], ["parse-arguments-fds", "exec-env", "exec-hash", "stack-addresses"]])
def test_a_real_run_meets_the_schemas(tmp_path: Path, options: list[str]) -> None:
    need("xmllint")
    sys.path.insert(0, str(ROOT / "tests" / "bfer"))
    try:
        from test_formats import check
    finally:
        sys.path.pop(0)
    words = [f"option:{name}" for name in options] + [f"json:{tmp_path}/e.json", f"xml:{tmp_path}/e.xml"]
    run(tmp_path, "set=syscalls,proc", *(word for output in words for word in ("-o", output)))
    schema = json.loads((SCHEMAS / "event.schema.json").read_text())
    lines = (tmp_path / "e.json").read_bytes().splitlines()
    names = set()
    for line in lines:
        event = json.loads(line)
        check(event, schema, schema)
        names.add(event["eventName"])
    assert len(lines) > 500
    assert names > {"openat", "execve", "sendto", "bind", "socketpair", "sched_process_exec", "exit_group"}
    subprocess.run(
        ["xmllint", "--noout", "--schema", str(SCHEMAS / "events.xsd"), str(tmp_path / "e.xml")],
        check=True,
        capture_output=True,
    )


def test_hash_of_a_program(tmp_path: Path) -> None:
    run(tmp_path, "event=sched_process_exec", "-o", "option:exec-hash", "-o", f"json:{tmp_path}/e.json")
    found = {}
    for line in (tmp_path / "e.json").read_bytes().splitlines():
        args = {arg["name"]: arg["value"] for arg in json.loads(line)["args"]}
        found[args["pathname"]] = args["sha256"]
    for path in (PYTHON, os.path.realpath("/bin/true")):
        assert found[path] == hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_stacks_begin_in_a_mapped_file(tmp_path: Path) -> None:
    run(tmp_path, "event=rename", "-o", "option:stack-addresses", "-o", f"json:{tmp_path}/e.json")
    (line,) = (tmp_path / "e.json").read_bytes().splitlines()
    innermost = json.loads(line)["stackAddresses"][0]
    for line in (tmp_path / "maps").read_text().splitlines():
        start, end = (int(word, 16) for word in line.split()[0].split("-"))
        if start <= innermost < end:
            assert "libc" in line or "ld-musl" in line or "python" in line
            return
    pytest.fail(f"{innermost:#x} is nowhere")


def test_running_call_and_file_for_messages(tmp_path: Path) -> None:
    words = ("task_rename.new_name=bfer-new", "-o", "option:detect-syscall", "-o", "option:parse-arguments")
    files = ("-o", f"json:{tmp_path}/a/b/e.json", "-o", f"err-file:{tmp_path}/a/err")
    rename = "import ctypes; ctypes.CDLL(None).prctl(15, b'bfer-new')"
    done = bfer("trace", *words, *files, "--", PYTHON, "-S", "-E", "-c", rename)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (line,) = (tmp_path / "a" / "b" / "e.json").read_bytes().splitlines()
    assert {arg["name"]: arg["value"] for arg in json.loads(line)["args"]}["syscall"] == "prctl"
    assert (tmp_path / "a" / "err").read_text() == (
        "bfer: note: event task_rename is traced alone, because a filter names it\n"
    )


def test_a_template_of_go(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("{{ .EventName }}:{{ .ReturnValue }}")
    done = bfer("trace", "-q", "event=exit_group", "-o", f"gotemplate={tmp_path}/t", "--", "true")
    assert done.stdout == "exit_group:0\n"
