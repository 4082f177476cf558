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


@pytest.mark.parametrize(
    "options", [[], ["parse-arguments-fds", "exec-env", "exec-hash", "stack-addresses", "resolve-paths"]]
)
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


PLACES = """
import os, sys
base = sys.argv[1]
os.makedirs(base + "/x/y"); os.chdir(base + "/x")
def attempt(act, *words, **more):
    try: return act(*words, **more)
    except OSError: return -1
attempt(os.open, "file", os.O_RDONLY)
attempt(os.open, "./y/../file", os.O_RDONLY)
attempt(os.open, base + "/whole", os.O_RDONLY)
fd = os.open(base, os.O_RDONLY)
attempt(os.open, "file", os.O_RDONLY, dir_fd=fd)
attempt(os.rename, "a", "b", src_dir_fd=fd)
os.chdir("y")
os.rmdir(base + "/x/y")
attempt(os.open, "file", os.O_RDONLY)
attempt(os.open, "file", os.O_RDONLY, dir_fd=77)
os.chdir("/")
attempt(os.open, "no-such-file", os.O_RDONLY)
attempt(os.execv, "no-such-program", ["x"])
"""


def test_relative_paths_from_the_root(tmp_path: Path) -> None:
    """By the current folder, by a descriptor, of a folder that is gone; what is whole stays alone."""
    out = tmp_path / "e.json"
    base = str(tmp_path / "w")
    words = ("trace", "-q", "event=openat,renameat,chdir,execve", "-o", "option:resolve-paths", "-o", f"json:{out}")
    done = bfer(*words, "--", PYTHON, "-S", "-E", "-c", PLACES, base)
    assert (done.returncode, done.stderr) == (0, "")
    found = []
    for line in out.read_bytes().splitlines():
        event = json.loads(line)
        paths = [arg for arg in event["args"] if "path" in arg["name"]]
        if not paths[0]["value"].startswith("/") or paths[0]["value"] == base + "/whole":
            found.append((event["eventName"], *[arg.get("resolved") for arg in paths]))
    start = next(i for i, row in enumerate(found) if row[1] == f"{base}/x/file")
    assert found[start:] == [
        ("openat", f"{base}/x/file"),
        ("openat", f"{base}/x/y/../file"),
        ("openat", None),
        ("openat", f"{base}/file"),
        ("renameat", f"{base}/a", f"{base}/x/b"),
        ("chdir", f"{base}/x/y"),
        ("openat", f"{base}/x/y (deleted)/file"),
        ("openat", None),
        ("openat", "/no-such-file"),
        ("execve", "/no-such-program"),
    ]


def test_paths_below_mount_points(tmp_path: Path) -> None:
    """In a mount namespace of its own: the path goes on above the mounted file system."""
    need("unshare", "mount")
    out = tmp_path / "e.json"
    script = f"mount -t tmpfs none {tmp_path}/m && cd {tmp_path}/m && cat there"
    (tmp_path / "m").mkdir()
    words = ("trace", "-q", "event=openat", "openat.pathname=there", "-o", "option:resolve-paths", "-o", f"json:{out}")
    done = bfer(*words, "--", "unshare", "-m", "sh", "-c", script)
    assert done.returncode == 1, done.stderr
    (line,) = out.read_bytes().splitlines()
    assert json.loads(line)["args"][1]["resolved"] == f"{tmp_path}/m/there"
