"""bfer.Tracer, on a kernel that is not there."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from struct import pack

import pytest
from fake_kernel import FakeKernel
from fake_records import AT_FDCWD, EVENTS, NAMES, field, openat2, record, rows

import bfer
from bfer.event import Decoder
from bfer.records import FORM_BYTES, FORM_CUT, FORM_ITEM, FORM_MORE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    kernel = FakeKernel()
    kernel.install(monkeypatch)
    return kernel


def decoded(raw: bytes, env: bool = False) -> bfer.Event:
    (event,) = Decoder(EVENTS, NAMES, env).decode(rows([raw]), 5)
    return event


def test_an_event() -> None:
    event = decoded(record(path=b"/tmp/\xff", node=b"board", time=7))
    assert event.args == {"dirfd": -100, "pathname": "/tmp/\udcff", "flags": 0o1101, "mode": 0o644}
    assert list(event.args) == ["dirfd", "pathname", "flags", "mode"]
    assert (event.name, event.id, event.result, event.timestamp, event.is_compat) == ("openat", 257, 3, 12, False)
    assert (event.pid, event.tid, event.parent_pid) == (42, 43, 41)
    assert (event.host_pid, event.host_tid, event.host_parent_pid) == (142, 143, 141)
    assert (event.comm, event.host_name, event.uid, event.cpu, event.cgroup_id) == ("cat", "board", 1000, 1, 88)
    assert (event.mount_namespace, event.pid_namespace, event.thread_start_time) == (4026531841, 4026531836, 777)
    assert event.text("flags") == "O_WRONLY|O_CREAT|O_TRUNC"
    assert event.text("pathname") == "/tmp/\ufffd"
    with pytest.raises(KeyError):
        event.text("nothing")
    assert repr(decoded(record(path=b"/x"))) == ("<cat[42] openat(dirfd=-100, pathname='/x', flags=577, mode=420) = 3>")


def test_what_stands_in_memory() -> None:
    assert decoded(openat2(b"/x", (0o2, 0o600, 8))).args["how"] == {"flags": 2, "mode": 0o600, "resolve": 8}
    pointer = decoded(record(pointer=0x1234, status=2)).args["pathname"]
    assert isinstance(pointer, bfer.Pointer)
    assert repr(pointer) == "0x1234"
    assert isinstance(decoded(record(path=b"x", status=1)).args["pathname"], bfer.Truncated)
    path = field(0, b"/bin/ls")
    argv = field(1, b"a", FORM_ITEM) + field(1, b"b", FORM_ITEM)
    event = decoded(record("execve", scalars=(), fields=path + argv))
    assert event.args["argv"] == ["a", "b"]
    assert not isinstance(event.args["argv"], bfer.TruncatedList)
    event = decoded(record("execve", scalars=(), fields=path + argv + field(1, b"", FORM_MORE)), env=True)
    assert isinstance(event.args["argv"], bfer.TruncatedList)
    assert event.args["envp"] == []
    address = pack("=H", 2) + pack(">H", 80) + bytes([127, 0, 0, 1])
    event = decoded(record("connect", scalars=(3, 16), fields=field(1, address, FORM_BYTES)))
    assert event.args["addr"] == {"sa_family": "AF_INET", "sin_port": "80", "sin_addr": "127.0.0.1"}
    event = decoded(record("rename", scalars=(), fields=field(0, b"a" * 9, FORM_CUT) + field(1, 0)))
    assert isinstance(event.args["oldpath"], bfer.Truncated)
    assert event.args["newpath"] == 0
    assert repr(event.args["newpath"]) == "NULL"


def test_iteration_ends_by_stop(kernel: FakeKernel) -> None:
    kernel.batches = [[record(path=b"/a"), record(path=b"/b")], [record(path=b"/c")]]
    with bfer.Tracer("event=openat") as tracer:
        kernel.at_end = tracer.stop
        assert [event.args["pathname"] for event in tracer] == ["/a", "/b", "/c"]
        assert list(tracer) == []
        assert "detach sys_exit" in kernel.log
    assert kernel.log == ["attach sys_exit", "detach sys_exit", "close"]
    tracer.stop()
    tracer.close()
    with pytest.raises(bfer.Error, match="started before"):
        tracer.start()


def test_what_comes_while_it_ends_is_kept(kernel: FakeKernel) -> None:
    kernel.batches = [[record(path=b"/a")]]
    with bfer.Tracer("event=openat", options=["sort-events"]) as tracer:
        tracer.stop()
        kernel.at_end = lambda: None
        assert [event.args["pathname"] for event in tracer] == ["/a"]


def test_leaving_early(kernel: FakeKernel) -> None:
    kernel.batches = [[record(path=b"/a"), record(path=b"/b")]]
    with bfer.Tracer("event=openat") as tracer:
        for event in tracer:
            assert event.args["pathname"] == "/a"
            break
    assert kernel.log[-1] == "close"
    assert [event.args["pathname"] for event in tracer] == ["/b"], "what had come is still there"


def test_an_error_inside_of_the_block_is_handed_on(kernel: FakeKernel) -> None:
    with pytest.raises(ZeroDivisionError), bfer.Tracer("event=openat"):
        raise ZeroDivisionError
    assert kernel.log[-1] == "close"


def test_duration(kernel: FakeKernel) -> None:
    with bfer.Tracer("event=openat", duration=0.01) as tracer:
        assert list(tracer) == []


def test_stop_from_another_thread(kernel: FakeKernel) -> None:
    with bfer.Tracer("event=openat") as tracer:
        timer = threading.Timer(0.05, tracer.stop)
        timer.start()
        assert list(tracer) == []
        timer.join()


def test_asynchronous_iteration(kernel: FakeKernel) -> None:
    """Other tasks run while it waits; ``stop`` from one of them ends it."""
    kernel.batches = [[record(path=b"/a")], [record(path=b"/b")]]
    ticks = []

    async def main() -> list[str]:
        async def other() -> None:
            for tick in range(3):
                await asyncio.sleep(0.005)
                ticks.append(tick)
            tracer.stop()

        with bfer.Tracer("event=openat") as tracer:
            task = asyncio.create_task(other())
            found = [event.args["pathname"] async for event in tracer]
            await task
            return found

    assert asyncio.run(main()) == ["/a", "/b"]
    assert ticks == [0, 1, 2]


def test_losses(kernel: FakeKernel) -> None:
    with bfer.Tracer("event=openat") as tracer:
        assert tracer.lost == {}
        kernel.maps["lost"].data[pack("=I", 257)] = pack("=QQ", 3, 4)
        assert tracer.lost == {"openat": 7}
        tracer.stop()
        list(tracer)
        kernel.maps["lost"].data.clear()
        assert tracer.lost == {"openat": 7}
    assert tracer.lost == {"openat": 7}


def test_a_command(kernel: FakeKernel) -> None:
    kernel.at_end = lambda: None
    with bfer.Tracer("event=openat", command=["sh", "-c", "exit 3"]) as tracer:
        assert list(tracer) == []
        assert tracer.wait() == 3
    with bfer.Tracer("event=openat", command=["sh", "-c", "kill -9 $$"]) as tracer:
        assert list(tracer) == []
    assert tracer.wait() == -9


def test_a_command_that_is_not_there(kernel: FakeKernel) -> None:
    with pytest.raises(bfer.Error, match="cannot run '/no/such'"), bfer.Tracer("event=openat", command=["/no/such"]):
        pass
    assert kernel.log[-1] == "close"


def test_notes(kernel: FakeKernel) -> None:
    assert bfer.Tracer("openat.retval<0").notes == ["event openat is traced alone, because a filter names it"]


@pytest.mark.parametrize(
    ("expressions", "options", "error"),
    [
        (["event=opnat"], {}, "unknown event 'opnat': did you mean 'openat'?"),
        (["event=openat"], {"options": ["parse-arguments"]}, "option 'parse-arguments' is for outputs only: "),
        (["event=openat"], {"options": ["frob"]}, "option 'frob' is not known: "),
        (["event=openat"], {"buffer": 12345}, "--buffer 12345: it must be a power of two from 16K to 1G"),
    ],
)
def test_bad_arguments(kernel: FakeKernel, expressions: list[str], options: dict, error: str) -> None:
    with pytest.raises(bfer.Error) as caught:
        bfer.Tracer(*expressions, **options)
    assert str(caught.value).startswith(error)
    assert kernel.loads == []


def test_wait_without_a_command(kernel: FakeKernel) -> None:
    with pytest.raises(bfer.Error, match="no command"):
        bfer.Tracer("event=openat").wait()


def test_the_package_is_light() -> None:
    code = "import sys; before = set(sys.modules); import bfer; print(*sorted(set(sys.modules) - before))"
    got = subprocess.run([sys.executable, "-S", "-E", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(got.stdout.split()) <= {"bfer", "__future__"}
    assert set(bfer.__all__) <= {*dir(bfer), *bfer._LAZY}
    for name in bfer.__all__:
        getattr(bfer, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        bfer.nothing  # noqa: B018
    assert AT_FDCWD
