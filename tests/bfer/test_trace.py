"""A whole run, on a kernel that is not there."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from struct import pack

import pytest
from fake_kernel import FakeKernel
from fake_records import record, rows

from bfer import __main__
from bfer.records import BY, COMPAT, HANDLER_BITS, HANDLER_BY_TABLE, HANDLER_PATH
from pybpf.errors import LoadError, VerifierError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    kernel = FakeKernel()
    kernel.install(monkeypatch)
    kernel.at_end = lambda: os.kill(os.getpid(), signal.SIGTERM)
    return kernel


def bfer(*words: str) -> int:
    return __main__.main(["trace", *words])


def key(number: int) -> bytes:
    return pack("=I", number)


def long(number: int) -> bytes:
    return pack("=Q", number)


def test_table(kernel: FakeKernel, capfd: pytest.CaptureFixture[str]) -> None:
    kernel.batches = [[record(path=b"/a"), record(path=b"/b")], [record(path=b"/c")]]
    assert bfer("event=openat") == 0
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("TIME ")
    assert [line.split(maxsplit=7)[7].split(", ")[1] for line in lines[1:4]] == [f"pathname: /{c}" for c in "abc"]
    assert lines[4:] == ["", "Events: 3  Lost: 0"]
    assert err == ""
    assert kernel.log == ["attach sys_exit", "detach sys_exit", "close"]


def test_json_to_a_file_and_table_at_once(
    kernel: FakeKernel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kernel.batches = [[record()]]
    file = tmp_path / "x.json"
    assert bfer("event=openat", "-q", "-o", "table", "-o", f"json:{file}", "-o", "option:parse-arguments") == 0
    assert len(capfd.readouterr().out.splitlines()) == 1
    (line,) = file.read_text().splitlines()
    event = json.loads(line)
    assert event["args"][2] == {"name": "flags", "type": "string", "value": "O_WRONLY|O_CREAT|O_TRUNC"}
    now = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert abs(event["timestamp"] - 1_000_000_000 - now) < 10**9


def test_relative_time(kernel: FakeKernel, capfd: pytest.CaptureFixture[str]) -> None:
    kernel.batches = [[record(time=time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 10**9)]]
    assert bfer("event=openat", "-o", "json", "-o", "option:relative-time") == 0
    assert 0 < json.loads(capfd.readouterr().out)["timestamp"] < 2 * 10**9


@pytest.mark.parametrize("quiet", [[], ["-q"]])
def test_xml_and_csv_are_whole(
    kernel: FakeKernel, tmp_path: Path, capfd: pytest.CaptureFixture[str], quiet: list[str]
) -> None:
    """Ended by SIGTERM; two outputs end, whatever becomes of the third."""
    import csv
    from xml.etree import ElementTree

    words = ["event=openat", *quiet, "-o", "xml", "-o", f"csv:{tmp_path}/x.csv", "-o", f"xml:{tmp_path}/x.xml"]
    kernel.batches = [[record(), record()]]
    assert bfer(*words) == 0
    assert len(ElementTree.fromstring(capfd.readouterr().out)) == 2
    assert len(ElementTree.parse(tmp_path / "x.xml").getroot()) == 2
    with open(tmp_path / "x.csv", newline="") as file:
        assert [row["eventName"] for row in csv.DictReader(file, strict=True)] == ["openat", "openat"]
    kernel.batches = []
    assert bfer(*words) == 0
    assert len(ElementTree.fromstring(capfd.readouterr().out)) == 0
    kernel.batches = [[record()], [record()]]
    assert bfer(*words, "-o", "json:/dev/full") == 1
    out, err = capfd.readouterr()
    assert len(ElementTree.fromstring(out)) == len(ElementTree.parse(tmp_path / "x.xml").getroot()) == 1
    assert err == "bfer: /dev/full: No space left on device: 2 events not written\n"


def test_a_bad_template_touches_no_file(kernel: FakeKernel, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x"
    file.write_text("kept")
    assert bfer("event=openat", "-o", "template={pid}", "-o", f"out-file:{file}") == 2
    assert file.read_text() == "kept"
    assert capfd.readouterr().err.startswith("bfer: template: unknown field 'pid'")
    assert kernel.loads == []


def test_lines_of_a_template_that_were_not_written(kernel: FakeKernel, capfd: pytest.CaptureFixture[str]) -> None:
    kernel.batches = [[record(), record(), record()]]
    assert bfer("event=openat", "-o", "template=a\\nb", "-o", "out-file:/dev/full") == 1
    assert capfd.readouterr().err == "bfer: /dev/full: No space left on device: 3 events not written\n"


def test_sorted_events(kernel: FakeKernel, capfd: pytest.CaptureFixture[str]) -> None:
    """Old ones at once, new ones when they have waited, or the trace ends."""
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    order = [3, 1, 2, 6, 4, 5]
    kernel.batches = [[record(time=n) for n in order[:3]], [record(time=now + 10**9 * n) for n in order[3:]]]
    assert bfer("event=openat", "-o", "json", "-o", "option:sort-events") == 0
    stamps = [json.loads(line)["timestamp"] for line in capfd.readouterr().out.splitlines()]
    assert stamps == sorted(stamps)
    assert len(stamps) == 6
    kernel.batches = [[record(time=now + 10**12)] * 2]
    assert bfer("event=openat", "-o", "json", "-o", "out-file:/dev/full", "-o", "option:sort-events") == 1
    assert capfd.readouterr().err == "bfer: /dev/full: No space left on device: 2 events not written\n"


def test_sorter_holds_a_little_only() -> None:
    from bfer.records import ROW
    from bfer.sorting import MOST, Sorter

    sorter = Sorter()
    assert sorter.due() is None
    future = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 10**12
    sorter.add(rows([record(time=future + n) for n in range(MOST + 300)]))
    assert sorter.take(256)[0::ROW] == [future + n for n in range(256)]
    assert len(sorter.take(256)) == 44 * ROW
    assert sorter.take(256) == []
    assert len(sorter) == MOST
    assert sorter.due() == pytest.approx(1000, abs=5)
    assert len(sorter.take(MOST + 1, everything=True)) == MOST * ROW
    sorter.add(rows([record(time=1)]))
    assert sorter.due() == 0


def test_environments_are_read_on_request(kernel: FakeKernel) -> None:
    from bfer.records import KIND_VECTOR

    for option, kind in (([], 0), (["-o", "option:exec-env"], KIND_VECTOR)):
        assert bfer("event=execve", *option) == 0
        assert kernel.maps["shapes"].data[key(59)][-8:][:3] == bytes([1, KIND_VECTOR, kind])


def test_residual_and_notes(kernel: FakeKernel, capfd: pytest.CaptureFixture[str]) -> None:
    kernel.batches = [[record(path=b"/login"), record(path=b"/x"), record(path=b"/login", scalars=(3, 0, 0))]]
    assert bfer("openat.pathname=*login*", "openat.flags!=O_RDONLY*") == 0
    out, err = capfd.readouterr()
    assert out.endswith("\nEvents: 1  Lost: 0\n")
    assert err == "bfer: note: event openat is traced alone, because a filter names it\n"
    kernel.batches = []
    assert bfer("openat.pathname=*login*", "--quiet") == 0
    assert capfd.readouterr() == ("", "")


def test_what_the_kernel_gets(kernel: FakeKernel) -> None:
    words = [
        "event=openat,unlink",
        "openat.pathname=/tmp/login*,*.txt",
        "uid=1000",
        "uid!=0",
        "comm=cat",
        "--buffer",
        "64K",
    ]
    assert bfer(*words) == 0
    maps, values = kernel.maps, kernel.spec.values
    assert kernel.loads == [["sys_exit", "path"]]
    numbers = (257, COMPAT + 295, 87, COMPAT + 10)
    assert maps["calls"].data == {key(HANDLER_PATH): key(101)}
    assert maps["numbers"].data == {}
    assert values["uid_exact"] == long(1000 | 1 << 32 | 1 << 33) + long(0 | 1 << 32)
    assert maps["comms"].data == {b"cat".ljust(16, b"\0"): key(1)}
    shapes = maps["shapes"].data
    assert shapes.keys() == {key(number) for number in numbers}
    assert shapes[key(257)][:16] == shapes[key(COMPAT + 295)][:16] == pack("=QQ", 1, 0)
    assert shapes[key(87)][:16] == bytes(16)
    assert maps["path_prefixes"].data == {pack("=I256s", 80, b"/tmp/login"): pack("=Q", 1)}
    assert maps["path_suffixes"].data == {pack("=I60s", 4, b".txt"): pack("=Q", 1)}
    assert values["self_pid"] == os.getpid()
    assert values["watermark"] == 32768
    assert values["suffix_lengths"] == key(4)
    compat_only = HANDLER_BY_TABLE | HANDLER_PATH << HANDLER_BITS
    handlers = {number: handler for number, handler in enumerate(values["handlers"]) if handler}
    assert handlers == {257: HANDLER_PATH, 295: compat_only, 87: HANDLER_PATH, 10: compat_only}
    assert values["prefixes_on"] == values["uid_on"] == values["comm_on"] == 1
    assert 0 < values["started"] <= time.monotonic_ns()
    sizes = {name: spec.max_entries for name, spec in kernel.spec.maps.items()}
    assert sizes["events"] == 65536
    assert sizes["tree"] == sizes["followed"] == sizes["binaries"] == 1
    assert sizes["numbers"] == 1
    assert sizes["shapes"] == COMPAT + 296


def test_many_numbers_are_looked_up(kernel: FakeKernel) -> None:
    words = ["event=openat", "pid!=1,2,3,4,5", "tid!=1,2,3,4"]
    assert bfer(*words) == 0
    maps, values = kernel.maps, kernel.spec.values
    assert maps["numbers"].data == {key(BY["pid"]) + key(pid): key(0) for pid in range(1, 6)}
    assert kernel.spec.maps["numbers"].max_entries == 5
    assert values["pid_mapped"] == key(1)
    assert not values.keys() & {"pid_exact", "tid_mapped"}
    assert values["tid_exact"] == b"".join(long(tid | 1 << 32) for tid in range(1, 5))


def test_a_tree_is_entered_before_tracing_starts(kernel: FakeKernel) -> None:
    child = subprocess.Popen(["sh", "-c", "sleep 60 & wait"])
    try:
        time.sleep(0.2)
        assert bfer(f"tree={child.pid}", "tree!=1", "event=openat") == 0
        tree = kernel.maps["tree"].data
        assert tree[key(child.pid)] == long(1)
        assert len([value for value in tree.values() if value == long(1)]) == 2  # the shell and sleep
        assert tree[key(1)] == tree[key(os.getppid())] == long(0)
        assert kernel.log[:3] == ["attach fork", "attach free", "attach sys_exit"]
        assert kernel.spec.maps["tree"].max_entries == 8192
    finally:
        subprocess.run(["pkill", "-P", str(child.pid)], check=False)
        child.kill()
        child.wait()


def test_second_family(kernel: FakeKernel, capfd: pytest.CaptureFixture[str]) -> None:
    kernel.refused["tp_btf"] = LoadError("no tp_btf", 22)
    assert bfer("event=unlink", "follow", "-q") == 0
    assert kernel.loads[1] == ["sys_exit__raw_tp", "path__raw_tp", "fork__raw_tp", "free__raw_tp"]
    assert kernel.log[0] == "attach fork__raw_tp"
    assert capfd.readouterr() == ("", "")


def test_what_can_be_preempted_is_the_second_choice(kernel: FakeKernel) -> None:
    kernel.preempted = True
    assert bfer("event=unlink", "follow", "-q") == 0
    assert kernel.loads == [["sys_exit__steady", "path__steady", "fork__steady", "free__steady"]]
    kernel.refused["steady"] = LoadError("no tracepoints", 22)
    assert bfer("event=unlink", "-q") == 0
    assert kernel.loads[1:] == [["sys_exit__steady", "path__steady"], ["sys_exit", "path"]]


@pytest.mark.parametrize(
    ("first", "second", "message", "loads"),
    [
        (LoadError("not permitted: be root", 1), None, "not permitted: be root", 1),
        (LoadError("first", 22), LoadError("second", 22), "first", 2),
        (LoadError("first", 22), VerifierError("second", 22, "log"), "second", 2),
        (VerifierError("first", 22), LoadError("second", 22), "first", 2),
    ],
)
def test_no_family(
    kernel: FakeKernel,
    capfd: pytest.CaptureFixture[str],
    first: Exception,
    second: Exception,
    message: str,
    loads: int,
) -> None:
    kernel.refused = {"tp_btf": first, "raw": second}
    assert bfer("event=openat") == 1
    assert capfd.readouterr() == ("", f"bfer: {message}\n")
    assert len(kernel.loads) == loads
    if message == "second":
        assert bfer("event=openat", "--debug") == 1
        assert capfd.readouterr().err == "bfer: second\nbfer: debug: log\n"


def test_losses(kernel: FakeKernel, capfd: pytest.CaptureFixture[str]) -> None:
    kernel.maps["lost"].data[key(257)] = pack("=QQ", 5, 7)
    kernel.maps["untracked"].data[key(0)] = pack("=QQ", 1, 0)
    assert bfer("event=openat,unlink", "follow") == 0
    out, err = capfd.readouterr()
    assert out.endswith("\nEvents: 0  Lost: 12\n")
    assert err == "bfer: lost 12 events (openat 12)\nbfer: no room to follow 1 process: their events are missing\n"


def test_duration(kernel: FakeKernel) -> None:
    kernel.at_end = lambda: None
    start = time.monotonic()
    assert bfer("--duration", "200ms", "-o", "none") == 0
    assert 0.2 <= time.monotonic() - start < 2


def test_sigint_ends_well(kernel: FakeKernel, capfd: pytest.CaptureFixture[str]) -> None:
    kernel.batches = [[record()]]
    kernel.at_end = lambda: os.kill(os.getpid(), signal.SIGINT)
    assert bfer("event=openat") == 0
    assert capfd.readouterr().out.endswith("Events: 1  Lost: 0\n")


def close_when_written_to(reader: int) -> None:
    """A reader that leaves; not before there is a writer, who would wait for another one."""

    def leave() -> None:
        select.select([reader], [], [], 30)
        time.sleep(0.1)
        os.close(reader)

    threading.Thread(target=leave, daemon=True).start()


class TestFailingOutputs:
    """Nobody reads, or the disk is full."""

    def test_full_disk(self, kernel: FakeKernel, capfd: pytest.CaptureFixture[str]) -> None:
        kernel.batches = [[record(), record()], [record()]]
        assert bfer("event=openat", "-o", "json:/dev/full") == 1
        assert capfd.readouterr() == ("", "bfer: /dev/full: No space left on device: 3 events not written\n")
        assert kernel.log[-2:] == ["detach sys_exit", "close"]

    def test_reader_gone(self, kernel: FakeKernel, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        kernel.batches = [[record()]]
        kernel.at_end = lambda: None
        close_when_written_to(reader)
        # Idle, so that only the hang-up tells.
        assert bfer("event=openat", "-o", f"json:{fifo}") == 0
        assert capfd.readouterr() == ("", "")

    def test_reader_gone_while_writing(self, kernel: FakeKernel, tmp_path: Path) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        kernel.batches = [[record()]] * 5000
        kernel.at_end = lambda: None
        close_when_written_to(reader)
        assert bfer("event=openat", "-o", f"json:{fifo}") == 0


class TestCommand:
    """``-- COMMAND``"""

    @pytest.fixture(autouse=True)
    def _the_command_ends_it(self, kernel: FakeKernel) -> None:
        kernel.at_end = lambda: None

    def test_status(self, kernel: FakeKernel, capfd: pytest.CaptureFixture[str]) -> None:
        assert bfer("-q", "--", "sh", "-c", "echo hello; exit 3") == 3
        assert capfd.readouterr() == ("hello\n", "")
        hooks = ("fork", "free", "sys_exit", "sys_enter")
        assert kernel.log == [
            *(f"attach {n}" for n in hooks),
            *(f"detach {n}" for n in hooks),
            "close",
        ]
        assert len(kernel.maps["tree"].data) == 1
        assert kernel.spec.values["tree_default"] == 0

    def test_not_found(self, kernel: FakeKernel, capfd: pytest.CaptureFixture[str]) -> None:
        assert bfer("-q", "--", "no-such-command") == 127
        assert capfd.readouterr() == ("", "bfer: cannot run 'no-such-command': No such file or directory\n")
        assert kernel.log[-1] == "close"

    def test_not_run_when_loading_fails(self, kernel: FakeKernel, tmp_path: Path) -> None:
        kernel.refused = {"tp_btf": LoadError("no", 1)}
        assert bfer("--", "touch", str(tmp_path / "mark")) == 1
        assert not (tmp_path / "mark").exists()

    def test_first_signal_goes_to_the_command(self, kernel: FakeKernel) -> None:
        assert bfer("-q", "--", "sh", "-c", "trap 'exit 9' TERM; kill -TERM $PPID; while :; do sleep 0.05; done") == 9

    def test_second_signal_ends_tracing(self, kernel: FakeKernel, tmp_path: Path) -> None:
        mark = tmp_path / "mark"
        twice = f"trap '' TERM; kill -TERM $PPID; sleep 0.6; kill -TERM $PPID; sleep 5; touch {mark}"
        assert bfer("-q", "--", "sh", "-c", twice) == 128 + signal.SIGTERM
        assert not mark.exists()

    def test_output_closed_but_the_command_goes_on(self, kernel: FakeKernel, tmp_path: Path) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        close_when_written_to(reader)
        assert bfer("-o", f"table:{fifo}", "--", "sh", "-c", "sleep 0.5; exit 4") == 4


FAKE_RUN = """
import os, signal, sys
sys.path[:0] = [ROOT, TESTS]
before = set(sys.modules)
import bfer.__main__
import bfer.tracer
import fake_kernel
from fake_records import record
class Patch:
    setattr = staticmethod(setattr)
kernel = fake_kernel.FakeKernel()
kernel.install(Patch)
kernel.batches = [[record()]]
kernel.at_end = lambda: os.kill(os.getpid(), signal_number)
signal_number = 15
ARGS
assert bfer.__main__.main(words) == status
print(*sorted(set(sys.modules) - before))
"""
FORBIDDEN = {
    *("pyroute2", "cstruct", "dataclasses", "typing", "logging", "subprocess", "asyncio", "argparse", "json", "re"),
    *("socket", "enum", "inspect", "ast", "collections", "functools", "contextlib"),
}


@pytest.mark.parametrize(
    "arguments",
    [
        "words, status = ['trace', '-q', '-o', 'none', 'event=openat', 'openat.pathname=/tmp/login*'], 0",
        "words, status = ['trace', 'event=openat', 'openat.pathname=*x*', 'openat.retval<0', '-q'], 0",
        "kernel.at_end = lambda: None; words, status = ['-q', '-o', 'json:/dev/null', '--', 'true'], 0",
    ],
    ids=["plain", "residual", "command"],
)
def test_start_path_imports(arguments: str) -> None:
    code = FAKE_RUN.replace("ROOT", repr(str(ROOT))).replace("TESTS", repr(str(ROOT / "tests" / "bfer")))
    code = code.replace("import os, signal, sys", "import os, sys").replace("ARGS", arguments)
    done = subprocess.run([sys.executable, "-S", "-E", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    modules = set(done.stdout.splitlines()[-1].split())
    assert not FORBIDDEN & modules
    assert not [name for name in modules if name.startswith(("pybpf.lang", "pybpf.asm"))]
    assert len([name for name in modules if name.startswith("bfer")]) <= 32
