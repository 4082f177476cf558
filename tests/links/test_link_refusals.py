"""What a kernel (which is not there) may answer to each way of attaching: one line, and nothing left open."""

from __future__ import annotations

import errno
import os
import socket
import sys
import types

import pytest

from pybpf import abi, kernel, links
from pybpf.errors import LinkError, NotSupported, SyscallError
from pybpf.links import events, order, tracing
from pybpf.program import Program, Request
from pybpf.sections import parse_section


class FakeKernel:
    """``errors`` is an errno for each system call or command that must fail; others give a descriptor."""

    def __init__(self) -> None:
        self.errors: dict[object, int] = {}
        self.calls: list[tuple[object, bytes]] = []

    def __call__(self, name, *arguments):
        what = arguments[0] if name == "bpf" else name
        attr = arguments[1] if name == "bpf" else arguments[0]
        self.calls.append((what, bytes(attr)))
        if what in self.errors:
            return -self.errors[what]
        if what in (abi.PROG_ATTACH, abi.PROG_DETACH, abi.LINK_DETACH, abi.LINK_UPDATE):
            return 0
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


@pytest.fixture
def fake(monkeypatch, tmp_path):
    fake = FakeKernel()
    kernel.set_syscall_hook(fake)
    monkeypatch.setattr("fcntl.ioctl", lambda *arguments: 0)
    for name in ("kprobe", "uprobe"):
        folder = tmp_path / name / "format"
        folder.mkdir(parents=True)
        (tmp_path / name / "type").write_text("9\n")
        (folder / "retprobe").write_text("config:0\n")
        (folder / "ref_ctr_offset").write_text("config:32-63\n")
    monkeypatch.setattr(events, "_DEVICES", str(tmp_path))
    monkeypatch.setattr("pybpf.kallsyms.PATH", str(tmp_path / "none"))
    yield fake
    kernel.set_syscall_hook(None)
    assert kernel.open_fds() == []


def program(section: str) -> Program:
    fd = kernel.Fd(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), "program")
    return Program(fd, Request("p", parse_section(section), b""))


SECTIONS = [
    ("raw_tp/sys_enter", abi.RAW_TRACEPOINT_OPEN, {}),
    ("tp_btf/sys_enter", abi.RAW_TRACEPOINT_OPEN, {}),
    ("fentry/vfs_read", abi.RAW_TRACEPOINT_OPEN, {}),
    ("fentry/vfs_read", abi.LINK_CREATE, {"cookie": 1}),
    ("kprobe/vfs_read", "perf_event_open", {"order": ("pmu",)}),
    ("kprobe.multi/vfs_read", abi.LINK_CREATE, {"order": ("kprobe.multi",)}),
    ("uprobe", "perf_event_open", {"binary": "/bin/sh", "offset": 64, "order": ("pmu",)}),
    ("uprobe.multi", abi.LINK_CREATE, {"binary": "/bin/sh", "offsets": [64], "order": ("uprobe.multi",)}),
    ("perf_event", "perf_event_open", {"frequency": 10, "on": [0]}),
    ("iter/task", abi.LINK_CREATE, {}),
    ("iter/task", abi.LINK_CREATE, {"pid": 1}),
    ("xdp", abi.LINK_CREATE, {"interface": 1, "order": ("bpf link",)}),
    ("tcx/ingress", abi.LINK_CREATE, {"interface": 1}),
    ("tc", abi.LINK_CREATE, {"interface": 1, "order": ("tcx",)}),
    ("netkit/peer", abi.LINK_CREATE, {"interface": 1}),
    ("cgroup_skb/egress", abi.LINK_CREATE, {"path": "/", "order": ("bpf link",)}),
    ("cgroup_skb/egress", abi.PROG_ATTACH, {"path": "/", "order": ("attach",)}),
    ("sk_lookup", abi.LINK_CREATE, {}),
    ("netfilter", abi.LINK_CREATE, {}),
    ("freplace/f", abi.LINK_CREATE, {"order": ("bpf link",)}),
]
ERRNOS = [
    *(errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOENT, errno.EBUSY, errno.EEXIST, errno.E2BIG, errno.ENOMEM),
    *(errno.EOPNOTSUPP, abi.ENOTSUPP, errno.ENODEV, errno.ESRCH, errno.EBADF, errno.ENOSPC, errno.EMFILE, errno.ENOSYS),
    *(errno.EAGAIN, errno.EINTR, errno.EFAULT, errno.ESTALE, errno.EILSEQ, errno.EADDRNOTAVAIL, errno.ERANGE),
]


@pytest.mark.parametrize(("section", "call", "options"), SECTIONS, ids=lambda value: str(value)[:30])
def test_every_errno_is_one_line(fake, section, call, options):
    with program(section) as it:
        links.attach(it, **options).close()
        for number in ERRNOS:
            fake.errors = {call: number}
            with pytest.raises(SyscallError) as caught:
                links.attach(it, **options)
            line = str(caught.value)
            assert "\n" not in line
            assert 10 < len(line) < 400
            assert "'p'" in line, line


@pytest.mark.parametrize(("section", "call", "options"), SECTIONS, ids=lambda value: str(value)[:30])
def test_what_is_closed_stays_closed(fake, section, call, options):
    with program(section) as it:
        link = links.attach(it, **options)
        assert repr(it.name) in repr(link)
        link.detach()
        link.detach()
        link.close()
        if not isinstance(link, links.LinkGroup):
            assert link.fd == -1
            with pytest.raises(LinkError, match="cannot be asked for its info"):
                link.info()


def test_the_next_mechanism_is_taken_and_all_are_told(fake, tmp_path):
    fake.errors = {abi.LINK_CREATE: errno.EINVAL}
    with program("kprobe.multi/vfs_read") as it, links.attach(it) as link:
        assert link.mechanism == "pmu, ioctl"
        assert [attempt.mechanism for attempt in link.attempts] == ["kprobe.multi", "pmu, bpf link", "pmu, ioctl"]
        assert "no kprobe.multi" in str(link.attempts[0])
        assert str(link.attempts[-1]) == "pmu, ioctl: taken"


def test_what_is_forbidden_is_not_tried_another_way(fake):
    fake.errors = {"perf_event_open": errno.EPERM}
    with program("kprobe/vfs_read") as it, pytest.raises(LinkError, match="not permitted") as caught:
        links.attach(it, order=("pmu", "tracefs"))
    assert caught.value.errno == errno.EPERM
    assert "tracefs" not in caught.value.details


def test_the_notsupp_of_trampolines(fake):
    fake.errors = {abi.RAW_TRACEPOINT_OPEN: abi.ENOTSUPP}
    with program("fentry/vfs_read") as it, pytest.raises(LinkError, match="use kprobe/kretprobe"):
        links.attach(it)


def test_lsm_that_is_not_active(fake, monkeypatch, tmp_path):
    path = tmp_path / "lsm"
    path.write_text("capability,yama")
    monkeypatch.setattr(tracing, "LSM_LIST", str(path))
    with program("lsm/file_open") as it:
        with pytest.raises(NotSupported, match="boot with lsm=capability,yama,bpf"):
            links.attach(it)
        assert fake.calls == []
        path.write_text("capability,bpf")
        links.attach(it).close()
        monkeypatch.setattr(tracing, "LSM_LIST", str(tmp_path / "unknown"))
        links.attach(it).close()


def test_cookies_are_only_sent_where_there_are_any(fake, monkeypatch):
    monkeypatch.setattr("pybpf.tracefs.event_id", lambda category, name: 5)
    with program("tp/a/b") as it:
        links.attach(it).close()
        links.attach(it, cookie=3).close()
    sizes = [len(attr) for what, attr in fake.calls if what == abi.LINK_CREATE]
    assert sizes == [16, 24]
    fake.errors = {abi.LINK_CREATE: errno.EINVAL}
    with program("tp/a/b") as it, pytest.raises(LinkError, match=r"cookies of perf events need Linux 5\.15"):
        links.attach(it, cookie=3)


def test_kprobe_behind_what_ftrace_keeps(fake, monkeypatch):
    """On riscv64 the first instructions cannot be probed, but what follows them; a return needs the first."""

    def refuse_entries(name, *arguments):
        offset = int.from_bytes(bytes(arguments[0])[64:72], sys.byteorder) if name == "perf_event_open" else -1
        return -errno.EINVAL if offset == 0 else fake(name, *arguments)

    kernel.set_syscall_hook(refuse_entries)
    machine = types.SimpleNamespace(machine="riscv64")
    monkeypatch.setattr(os, "uname", lambda: machine)
    with program("kprobe/vfs_read") as it:
        with links.attach(it, order=("pmu",)) as link:
            assert link.name == "program 'p' (kprobe vfs_read+0x8)"
        machine.machine = "x86_64"
        with pytest.raises(LinkError, match=r"\(kprobe vfs_read\)"):
            links.attach(it, order=("pmu",))
    machine.machine = "riscv64"
    with program("kretprobe/vfs_read") as it, pytest.raises(LinkError, match="use fexit"):
        links.attach(it, order=("pmu",))


@pytest.mark.parametrize(
    ("section", "options", "words"),
    [
        ("kprobe", {}, "must name a function"),
        ("kprobe/f+x", {}, "'x' is no number"),
        ("kretprobe/f+4", {}, "there is no offset"),
        ("kprobe/f", {"order": ("magic",)}, "no mechanism 'magic', only pmu, tracefs"),
        ("kprobe/f", {"order": ()}, "no mechanism was allowed"),
        ("kprobe.multi/f", {"cookies": [1, 2]}, "2 cookies for 1 functions"),
        ("uprobe/getppid", {}, "must name a place"),
        ("uprobe", {}, "names no file"),
        ("usdt/x:y", {}, "must name a probe"),
        ("perf_event", {"frequency": 1, "period": 1}, "a frequency or a period"),
        ("perf_event", {"event": "nonsense", "period": 1}, "there are cycles"),
        ("iter/task", {"pid": 1, "tid": 1}, "give one of map, tid"),
        ("iter/cgroup", {"cgroup": "/", "walk": "sideways"}, "is none of self, descendants"),
        ("xdp", {}, "interface"),
        ("xdp", {"interface": "lo", "mode": "fast"}, "none of generic, driver, offload"),
        ("xdp", {"interface": "lo", "colour": 1}, "colour"),
        ("tc", {"interface": "lo", "direction": "up"}, "ingress or egress"),
        ("netfilter", {"hook": "here"}, "hooks prerouting"),
        ("cgroup_skb/egress", {"path": "/no/such/path"}, "No such file"),
        ("sk_lookup", {"namespace": "/no/such/path"}, "No such file"),
        ("lwt_in", {}, "cannot be attached by their section"),
    ],
)
def test_wrong_use_is_one_line(fake, section, options, words):
    with program(section) as it, pytest.raises(LinkError, match=words) as caught:
        links.attach(it, **options)
    assert "\n" not in str(caught.value)


def test_struct_ops_is_refused_by_name():
    with pytest.raises(Exception, match="struct_ops replaces a table"):
        parse_section("struct_ops/x")


def test_all_or_none(fake):
    """attach_all and a group let go of what they had when a later part fails."""
    calls = []

    def third_fails(name, *arguments):
        if name == "bpf" and arguments[0] == abi.RAW_TRACEPOINT_OPEN:
            calls.append(name)
            if len(calls) == 3:
                return -errno.EINVAL
        return fake(name, *arguments)

    kernel.set_syscall_hook(third_fails)
    programs = {str(n): program("raw_tp/sys_enter") for n in range(4)}

    class Collection:
        pass

    collection = Collection()
    collection.programs = programs  # type: ignore[attr-defined]
    try:
        with pytest.raises(LinkError, match="EINVAL"):
            links.attach_all(collection)  # type: ignore[arg-type]
        assert len(calls) == 3
        with links.attach_all(collection, ["0", "3"]) as both:  # type: ignore[arg-type]
            assert len(both) == 2
    finally:
        for it in programs.values():
            it.close()


def test_the_best_of_programs_that_are_alike_comes_first(fake, monkeypatch):
    monkeypatch.setattr("pybpf.tracefs.event_id", lambda category, name: 5)
    programs = [program(section) for section in ("tp/a/b", "raw_tp/b", "tp_btf/b")]
    try:
        with links.attach_first(programs) as link:
            assert "tp_btf/b" in link.name
        fake.errors = {abi.RAW_TRACEPOINT_OPEN: errno.ENOENT}
        with links.attach_first(programs) as link:
            assert [attempt.mechanism for attempt in link.attempts][:2] == ["tp_btf/b", "raw_tp/b"]
            assert link.mechanism == "tracepoint event, bpf link"
        fake.errors["perf_event_open"] = errno.ENOENT
        with pytest.raises(LinkError) as caught:
            links.attach_first(programs)
        assert [line.partition(":")[0] for line in caught.value.details.splitlines()] == [
            "tp_btf/b",
            "raw_tp/b",
            "tp/a/b",
        ]
    finally:
        for it in programs:
            it.close()


def test_pyroute2_that_is_missing(fake, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyroute2", None)
    fake.errors = {abi.LINK_CREATE: errno.EINVAL}
    index = socket.if_nametoindex("lo")
    monkeypatch.setattr(Program, "info", lambda self: type("Info", (), {"id": 1})())
    for section in ("xdp", "tc"):
        with program(section) as it, pytest.raises(LinkError, match="pip install pyroute2"):
            links.attach(it, interface=index)


def test_orders_name_mechanisms_that_exist():
    """A misspelt name in a table would be an error at the first use."""
    for name, mechanisms in vars(order).items():
        if name.isupper():
            assert len(set(mechanisms)) == len(mechanisms) > 0
    for kinds in order.ALIKE:
        assert [parse_section(f"{kind}/a/b").kind for kind in kinds] == list(kinds)
