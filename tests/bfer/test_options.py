"""Output options that add to events: stacks, the running system call, hashes of what is executed."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from struct import pack
from xml.etree import ElementTree

import pytest
from fake_records import NAMES, field, record

from bfer import __main__, expr
from bfer.catalogue import Catalogue
from bfer.hashes import Hashes
from bfer.names import Names
from bfer.output.csv import Csv
from bfer.output.json import Json
from bfer.output.table import Table
from bfer.output.xml import Xml
from bfer.pushdown import push_down
from bfer.records import (
    BLOCK,
    EXTRA,
    EXTRA_SYSCALL,
    FORM_BYTES,
    FORM_DELETED,
    FORM_NUMBER,
    PATHS,
    SLOT_EXECUTABLE,
    SLOT_FOLDER,
    SLOT_STACK,
    SLOT_SYSCALL,
    Block,
)

OPTIONS = {"stack-addresses", "detect-syscall", "exec-hash"}
CATALOGUE = Catalogue("x86_64", OPTIONS)
EVENTS = {event.number: event for named in CATALOGUE.events.values() for event in named.both()}
ROOT = Path(__file__).parents[2]
STACK = (0x7F0000001000, 0x400123, (1 << 64) - 1)


def stack(*addresses: int) -> bytes:
    return field(SLOT_STACK, pack(f"={len(addresses)}Q", *addresses), FORM_BYTES)


def records() -> list[bytes]:
    return [
        record("openat", field(1, b"/x") + stack(*STACK)),
        record("openat", field(1, b"/y") + stack(1)),
        record("openat", field(1, b"/z")),  # no stack, as of a kernel thread
        record("exit_group", scalars=(0,), stack=stack(*STACK)),
        record("getpid", scalars=(), stack=stack(*STACK)),
    ]


WANTED = [list(STACK), [1], None, list(STACK), list(STACK)]


def test_stacks_in_every_format() -> None:
    renderer = Json(EVENTS, NAMES)
    renderer.show_stacks()
    for _ in range(2):  # from the cache the second time
        lines = [json.loads(line) for line in renderer.render(records(), 0).splitlines()]
        assert [line["stackAddresses"] for line in lines] == WANTED
    assert lines[0]["args"][1] == {"name": "pathname", "type": "const char*", "value": "/x"}
    assert [len(line["args"]) for line in lines] == [4, 4, 4, 1, 0]
    rows = Csv(EVENTS, NAMES)
    rows.show_stacks()
    cells = [row[-3] for row in csv.reader(io.StringIO(rows.render(records(), 0).decode(), newline=""), strict=True)]
    assert [json.loads(cell) if cell else None for cell in cells] == WANTED
    xml = Xml(EVENTS, NAMES)
    xml.show_stacks()
    root = ElementTree.fromstring(xml.opening + xml.render(records(), 0) + xml.closing)
    items = [[int(item.text or "") for item in event.find("stackAddresses") or ()] for event in root]
    assert items == [wanted or [] for wanted in WANTED]
    table = Table(EVENTS, NAMES)
    table.show_stacks()
    assert b"pathname: /x, flags" in table.render(records(), 0)


def test_a_stack_takes_no_room_from_vectors() -> None:
    """The program adds it after them: that a record is full with it says nothing about them."""
    renderer = Json(EVENTS, NAMES)
    renderer.show_stacks()
    fields = field(0, b"/bin/ls") + field(1, b"a" * 4070, 5) + field(1, b"b" * 4070, 5)
    assert len(fields) <= 8192 < len(fields + stack(*STACK))
    (line,) = renderer.render([record("execve", scalars=(), fields=fields + stack(*STACK))], 0).splitlines()
    args = json.loads(line)["args"]
    assert len(args[1]["value"]) == 2
    assert "truncated" not in args[1]


def running(path: bytes) -> bytes:
    return field(SLOT_EXECUTABLE, path)


def test_executables_in_every_format() -> None:
    events = [
        record("openat", field(1, b"/x") + running(b"/usr/bin/cat") + stack(1)),
        record("getpid", scalars=(), stack=running(b'/opt/a "b",\xff') + stack(2)),
        record("getpid", scalars=(), stack=running(b"")),
        record("execve", scalars=(), fields=field(0, b"/bin/ls") + stack(4) + running(b"/bin/ls")),
    ]
    for stacks in (True, False):
        renderer = Json(EVENTS, NAMES)
        renderer.show_executables()
        if stacks:
            renderer.show_stacks()
        for _ in range(2):
            lines = [json.loads(line) for line in renderer.render(events, 0).splitlines()]
            assert [line["executable"]["path"] for line in lines] == [
                *("/usr/bin/cat", '/opt/a "b",\ufffd', "", "/bin/ls"),
            ]
            assert [line["stackAddresses"] for line in lines] == ([[1], [2], None, [4]] if stacks else [None] * 4)
            assert base64.b64decode(lines[1]["executable"]["valueBytes"]) == b'/opt/a "b",\xff'
            assert [*lines[0]][13:16] == ["processName", "executable", "hostName"]
            assert lines[0]["args"][1]["value"] == "/x"
    rows = Csv(EVENTS, NAMES)
    rows.show_executables()
    text = (rows.opening + rows.render(events, 0)).decode()
    cells = [*csv.DictReader(io.StringIO(text, newline=""), strict=True)]
    assert [row["executable"] for row in cells] == ["/usr/bin/cat", '/opt/a "b",\\xff', "", "/bin/ls"]
    assert [row["hostName"] for row in cells] == ["board"] * 4
    xml = Xml(EVENTS, NAMES)
    xml.show_executables()
    root = ElementTree.fromstring(xml.opening + xml.render(events, 0) + xml.closing)
    assert [event.findtext("executable/path") for event in root] == [
        *("/usr/bin/cat", '/opt/a "b",\ufffd', "", "/bin/ls"),
    ]
    assert b"executable" not in Json(EVENTS, NAMES).render([record("getpid", scalars=())], 0)


@pytest.mark.native
def test_the_file_that_runs(tmp_path: Path) -> None:
    """Seen by the kernel at the moment of the event: a program that is another by now, and one that was removed."""
    program = tmp_path / "one"
    shutil.copy("/bin/sh", program)
    file = tmp_path / "events"
    script = f"rm {program}; (: </no/one); exec cat /no/two"
    words = ["trace", "-q", "-o", f"json:{file}", "-o", "option:executable", "event=openat,execve,getpid,exit_group"]
    done = subprocess.run(
        [sys.executable, "-m", "bfer", *words, "--", str(program), "-c", script], cwd=ROOT, capture_output=True
    )
    assert done.returncode == 1
    events = [json.loads(line) for line in file.read_text().splitlines()]
    running = {
        event["args"][1]["value"]: event["executable"]["path"] for event in events if event["eventName"] == "openat"
    }
    assert running["/no/one"] == str(program)
    assert running["/no/two"] == os.path.realpath(shutil.which("cat") or "")
    for event in events:
        if event["eventName"] == "execve" and not event["returnValue"]:
            assert os.path.basename(event["executable"]["path"]) == os.path.basename(
                os.path.realpath(event["args"][0]["value"])
            )


def test_what_the_programs_are_told() -> None:
    plan = push_down(expr.parse(["event=openat,security_file_open,sched_process_exec"], CATALOGUE), options=OPTIONS)
    assert plan.config == {"stacks": 1, "detect_syscall": 1}
    assert plan.calls == {257: "fields", 512 + 295: "fields"}
    extras = {plan.names[number]: shape.kinds[EXTRA] for number, shape in plan.shapes.items()}
    assert extras == {"openat": 0, "security_file_open": EXTRA_SYSCALL, "sched_process_exec": 0}
    plain = Catalogue("x86_64")
    plan = push_down(expr.parse(["event=openat,security_file_open"], plain))
    assert plan.config == {}
    assert plan.calls[257] == "path"
    for name in ("security_file_open", "security_mmap_file", "task_rename", "sched_process_exec"):
        wanted = [arg.name for arg in CATALOGUE.events[name].args]
        assert [arg.name for arg in plain.events[name].args] == wanted[:-1]
        assert wanted[-1] in ("syscall", "sha256")


@pytest.mark.parametrize(
    ("machine", "number", "name"),
    [
        ("x86_64", 257, "openat"),
        ("aarch64", 56, "openat"),
        ("x86_64", 512 + 295, "compat_openat"),
        ("x86_64", 2**32 - 1, None),
    ],
)
def test_the_running_system_call(machine: str, number: int, name: str | None) -> None:
    catalogue = Catalogue(machine, OPTIONS)
    event = catalogue.events["task_rename"]
    names = Names(machine)
    raw = record("task_rename", fields=field(0, b"a") + field(1, b"b") + field(SLOT_SYSCALL, number, FORM_NUMBER))
    (line,) = Json({event.number: event}, names, True).render([raw], 0).splitlines()
    assert json.loads(line)["args"][2]["value"] == (name or "4294967295")
    (line,) = Json({event.number: event}, names).render([raw], 0).splitlines()
    assert json.loads(line)["args"][2] == {"name": "syscall", "type": "int", "value": number if name else -1}


def block(pid: int, namespace: int) -> Block:
    return Block(BLOCK.pack(1, 1, pid, pid, 1, pid, pid, 1, 0, namespace, 1, 0, 1, 1, b"x", 0, *[0] * 6, 0, 0))


def test_hashes(tmp_path: Path) -> None:
    """A /proc of two processes in one mount namespace, whose root directory is not ours."""
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    program = root / "bin" / "x"
    program.write_bytes(b"program" * 100_000)
    proc = tmp_path / "proc"
    for pid in ("self", "7", "8"):
        (proc / pid / "ns").mkdir(parents=True)
        (proc / pid / "ns" / "mnt").write_text("")
        (proc / pid / "root").symlink_to(root)
    os.link(proc / "7" / "ns" / "mnt", proc / "8" / "ns" / "mnt2")
    (proc / "8" / "ns" / "mnt").unlink()
    (proc / "8" / "ns" / "mnt2").rename(proc / "8" / "ns" / "mnt")
    (proc / "7" / "exe").symlink_to(program)
    namespace = (proc / "7" / "ns" / "mnt").stat().st_ino
    changed = program.stat().st_ctime_ns
    expected = hashlib.sha256(program.read_bytes()).hexdigest().encode()

    hashes = Hashes(str(proc))
    assert hashes.sha256(block(7, namespace), b"/bin/x", changed + 1) == b"", "another version of the file"
    assert hashes.sha256(block(7, namespace), b"/bin/x", changed) == expected
    program.unlink()
    assert hashes.sha256(block(9, namespace), b"/bin/x", changed) == expected, "kept"
    assert hashes.sha256(block(9, 4), b"/bin/x", changed) == b"", "of another mount namespace"

    program.write_bytes(b"y")
    changed = program.stat().st_ctime_ns
    (proc / "7" / "exe").unlink()
    assert hashes.sha256(block(99, namespace), b"/bin/x", changed) == hashlib.sha256(b"y").hexdigest().encode()
    for number in range(3000):
        hashes.sha256(block(number, number), b"/bin/x", changed)
    for number in range(3000):
        hashes._cache[0, b"%d" % number, 0] = b"z"
        hashes.sha256(block(99, namespace), b"/bin/x", changed)
    assert len(hashes._neighbours) <= 256
    assert max(map(len, hashes._neighbours.values())) <= 4


def test_hashes_are_no_filter(capfd: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["-o", "option:exec-hash", "-t", "sched_process_exec.sha256=00"]) == 2
    message = "sha256 is found out when the event is shown, too late for a filter: 'sched_process_exec.sha256=00'"
    assert capfd.readouterr() == ("", f"bfer: {message}\n")


def test_relative_paths() -> None:
    catalogue = Catalogue("x86_64", {"resolve-paths"})
    events = {event.number: event for event in catalogue.events.values()}
    assert [catalogue.events[name].program for name in ("openat", "close", "fsopen")] == ["fields", "plain", "path"]

    def args(name: str, fields: bytes, result: int = 0) -> list[tuple[object, object]]:
        raw = record(name, fields, (), fields=fields, result=result)
        (line,) = Json(events, NAMES).render([raw], 0).splitlines()
        return [(arg["value"], arg.get("resolved")) for arg in json.loads(line)["args"] if "path" in arg["name"]]

    folder = field(SLOT_FOLDER + 1, b"/tmp")
    assert args("openat", field(1, b"./a//b/../c") + folder) == [("./a//b/../c", "/tmp/a/b/../c")]
    assert args("openat", field(1, b"/x")) == [("/x", None)]
    assert args("openat", field(1, b"x") + field(SLOT_FOLDER + 1, b"/")) == [("x", "/x")]
    assert args("openat", field(1, b"") + field(SLOT_FOLDER + 1, b"/")) == [("", "/")]
    gone = field(SLOT_FOLDER + 1, b"/d", FORM_DELETED)
    assert args("openat", field(1, b"x") + gone) == [("x", "/d (deleted)/x")]
    two = field(1, b"x") + folder + field(3, b"y") + field(SLOT_FOLDER + 3, b"/")
    assert args("renameat", two) == [("x", "/tmp/x"), ("y", "/y")]
    entered = field(0, b"x") + field(SLOT_FOLDER, b"/new/x")
    assert args("chdir", entered) == [("x", "/new/x")]
    assert args("chdir", entered, result=-2) == [("x", "/new/x/x")]
    raw = record("openat", field(1, b"<x") + folder, (), fields=field(1, b"<x") + folder)
    assert b"pathname: <x </tmp/<x>, flags" in Table(events, NAMES).render([raw], 0)
    xml = Xml(events, NAMES)
    root = ElementTree.fromstring(xml.opening + xml.render([raw], 0) + xml.closing)
    arg = root[0].find("args")[1]
    assert (arg.text, arg.find("resolved").text) == ("<x", "/tmp/<x")
    shape = push_down(expr.parse(["event=linkat,symlinkat,execve,setxattr"], catalogue), options={"resolve-paths"})
    masks = {shape.names[number]: one.kinds[PATHS:] for number, one in shape.shapes.items() if number < 512}
    assert masks == {
        "linkat": bytes([0b1010, 0b1010]),
        "symlinkat": bytes([0b100, 0b100]),
        "execve": bytes([1, 0]),
        "setxattr": bytes([1, 0]),
    }
