"""Events by name on this kernel: tracepoints against what the kernel itself prints, many places by one program."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bfer
from pybpf import tracefs
from pybpf.errors import LinkError
from tests.system.running import bfer as run
from tests.system.running import need

pytestmark = pytest.mark.native

WORK = """
import os, socket, sys
server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen(1)
client = socket.create_connection(server.getsockname())
client.close()
server.close()
with open("/proc/self/comm", "w") as file:
    file.write("renamed it")
if not os.fork():
    os.execv("/bin/sh", ["/bin/sh", "-c", "exit 3"])
os.wait()
"""
SCHEMAS = Path(__file__).parents[2] / "docs" / "schema"
EVENTS = ("sock:inet_sock_set_state", "task:task_rename", "sched:sched_process_fork", "sched:sched_process_exec")


@pytest.fixture
def instance():
    """A trace buffer of our own."""
    try:
        path = Path(tracefs.root()) / "instances" / f"generic{os.getpid()}"
        path.mkdir()
    except (LinkError, OSError) as error:
        pytest.skip(f"no trace instance: {error}")
    yield path
    path.rmdir()


def test_tracepoints_as_the_kernel_prints_them(instance: Path) -> None:
    """Field by field: the kernel's own trace of the same process, and bfer's."""
    names = ["tp:" + name for name in EVENTS]
    starter = "import os, sys; os.write(1, b'x'); os.read(0, 1); exec(sys.argv[1])"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    child = subprocess.Popen([sys.executable, "-S", "-c", starter, WORK], **pipes)
    try:
        child.stdout.read(1)  # it runs
        (instance / "set_event_pid").write_text(str(child.pid))
        options = (instance / "trace_options").read_text().split()
        if "noevent-fork" in options:
            (instance / "trace_options").write_text("event-fork")
        for name in EVENTS:
            (instance / "events" / name.replace(":", "/") / "enable").write_text("1")
        expressions = ["event=" + ",".join(names), f"tree={child.pid}"]
        with bfer.Tracer(*expressions) as tracer:
            child.stdin.write(b"x")
            child.stdin.close()
            child.wait()
            tracer.stop()
            seen = [(event.name[3:], event.tid, {name: event.text(name) for name in event.args}) for event in tracer]
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        for name in EVENTS:
            (instance / "events" / name.replace(":", "/") / "enable").write_text("0")
    # What different threads do may stand in another order.
    seen.sort(key=lambda row: row[:2])
    printed = sorted(_printed((instance / "trace").read_text()), key=lambda row: row[:2])
    assert {name for name, _, _ in seen} == set(EVENTS)
    assert [(name, pid) for name, pid, _ in seen] == [(name, pid) for name, pid, _ in printed]
    compared = 0
    for (name, _, args), (_, _, shown) in zip(seen, printed):
        for key, text in shown.items():
            key = {"saddrv6": "saddr_v6", "daddrv6": "daddr_v6"}.get(key, key)
            if key in args:
                assert args[key] == text, (name, key, args, shown)
                compared += 1
    assert compared > 30


def _printed(text: str) -> list[tuple[str, int, dict[str, str]]]:
    """Event, thread and fields of each line of a trace; values with blanks end at the next ``key=``."""
    rows = []
    homes = {name.partition(":")[2]: name for name in EVENTS}
    for line in text.splitlines():
        found = re.match(r"\s*.{16}-(\d+)\s.*?: (\w+): (.*)", line)
        if found and found[2] in homes:
            fields = re.findall(r"(\w+)=(.*?)(?= \w+=|$)", found[3])
            rows.append((homes[found[2]], int(found[1]), dict(fields)))
    return rows


def test_places_by_one_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """What kprobe.multi does with functions of the kernel, with those of a library: each has arguments of its own."""
    from bfer.generic import multi
    from bfer.generic.event import GenericEvent
    from pybpf.links import attach_uprobe_multi

    made = GenericEvent.__init__

    def grouped(self, *words):
        made(self, *words)
        self.group = "" if isinstance(self, multi.Group) else "libc"

    def prepare(self, spec, program):
        for event in self._members:
            event.section = "uprobe/x"
        prepared(self, spec, program)

    def attach(self, program):
        offsets = [event.options["offset"] for event in self._members]
        path = self._members[0].options["binary"]
        return attach_uprobe_multi(
            program, path, offsets=offsets, cookies=[*range(len(offsets))], order=("uprobe.multi",)
        )

    prepared = multi.Group.prepare
    monkeypatch.setattr(GenericEvent, "__init__", grouped)
    monkeypatch.setattr(multi.Group, "prepare", prepare)
    monkeypatch.setattr(multi.Group, "attach", attach)
    words = (
        "event=uprobe:c:unlink(const char *path),uprobe:c:setenv(const char *n, const char *v, int o),uprobe:c:getppid"
    )
    code = "import os; os.getppid(); os.putenv('NAME', 'value'); os.unlink('/no/such/file')"
    command = [sys.executable, "-S", "-c", f"try:\n  {code}\nexcept OSError: pass"]
    try:
        with bfer.Tracer(words, "uprobe:c:unlink.path=/no*", command=command) as tracer:
            seen = {event.name: event.args for event in tracer if event.comm.startswith("python")}
    except LinkError as error:
        pytest.skip(str(error))
    assert seen["uprobe:c:unlink"] == {"path": "/no/such/file"}
    assert seen["uprobe:c:setenv"] == {"n": "NAME", "v": "value", "o": 1}
    assert len(seen["uprobe:c:getppid"]) == 6


@pytest.mark.parametrize(
    "format", ["json", "xml", "csv", "table-verbose", "template={eventName} {args} {args.filename}"]
)
def test_formats(format: str) -> None:
    name = "tp:sched:sched_process_exec"
    done = run("trace", f"event={name},raw_tp:sched_process_exec", "-o", format, "--", "/bin/sh", "-c", "exit 0")
    if "tracefs is not mounted" in done.stderr:
        pytest.skip(done.stderr)
    assert (done.returncode, done.stderr) == (0, "")
    assert name in done.stdout
    assert "/bin/sh" in done.stdout
    if format == "json":
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert {row["eventId"] for row in rows} == {"6000", "6001"}
        schema = json.loads((SCHEMAS / "event.schema.json").read_text())["properties"]
        for row in rows:
            assert re.search(schema["eventName"]["pattern"], row["eventName"])
    if format == "xml":
        need("xmllint")
        words = ["xmllint", "--noout", "--schema", str(SCHEMAS / "events.xsd"), "-"]
        subprocess.run(words, input=done.stdout, text=True, check=True, capture_output=True)
        from xml.etree import ElementTree

        events = ElementTree.fromstring(done.stdout)
        assert next(event.findtext("eventName") for event in events) == name
