"""Kernel calls, maps and the loader against a fake kernel: no privileges, every errno."""

from __future__ import annotations

import errno
import os
import struct

import pytest
import rawcode as rc
from fakekernel import FakeKernel, put

from pybpf import abi, kernel, links, privilege, syscalls, tracefs
from pybpf.errors import LinkError, LoadError, MapError, NotSupported, ObjectError, SyscallError, VerifierError
from pybpf.loader import Collection
from pybpf.maps import Map
from pybpf.object.spec import MapSpec
from pybpf.program import Request
from pybpf.sections import parse_section


@pytest.fixture
def fake():
    kernel_ = FakeKernel()
    kernel.set_syscall_hook(kernel_)
    yield kernel_
    kernel.set_syscall_hook(None)


@pytest.fixture
def table(fake):
    with Map.create(MapSpec("table", abi.MAP_TYPE_HASH, 4, 8, 3)) as map:
        yield map


def key(number: int) -> bytes:
    return number.to_bytes(4, "little")


def value(number: int) -> bytes:
    return number.to_bytes(8, "little")


# --- kernel -------------------------------------------------------------------


@pytest.mark.parametrize("error", [*sorted(set(errno.errorcode) - {errno.EPERM, errno.ENOSYS}), abi.ENOTSUPP])
def test_every_errno_is_named(fake, error):
    fake.fail[abi.MAP_CREATE] = error
    with pytest.raises(LoadError) as caught:
        kernel.map_create(abi.MAP_TYPE_HASH, 4, 4, 1, name="events")
    message = str(caught.value)
    assert message.startswith("BPF_MAP_CREATE of map 'events': ")
    assert errno.errorcode.get(error, "ENOTSUPP") in message
    assert "\n" not in message
    assert caught.value.errno == error


def test_kernel_without_bpf(fake):
    fake.fail[abi.MAP_CREATE] = errno.ENOSYS
    with pytest.raises(NotSupported, match="CONFIG_BPF_SYSCALL"):
        kernel.map_create(abi.MAP_TYPE_HASH, 4, 4, 1)


def test_attr_has_only_the_prefix_that_is_needed(fake):
    kernel.map_create(abi.MAP_TYPE_HASH, 4, 8, 1, name="a").close()
    kernel.map_create(abi.MAP_TYPE_HASH, 4, 8, 1, btf_fd=3, key_type_id=1, value_type_id=2).close()
    kernel.map_create(abi.MAP_TYPE_HASH, 4, 8, 1, map_extra=5).close()
    attrs = [attr for _, attr in fake.calls]
    assert [len(attr) for attr in attrs] == [44, 64, 72]
    assert struct.unpack_from("=III", attrs[1], 48) == (3, 1, 2)


def test_prog_load_layout(fake):
    kernel.Fd(
        kernel.prog_load(
            26,
            bytes(16),
            "GPL",
            name="prog",
            flags=16,
            expected_attach_type=23,
            attach_btf_id=77,
            btf_fd=9,
            func_info=bytes(8),
            line_info=bytes(32),
        ),
        "program",
    ).close()
    (attr,) = (attr for command, attr in fake.calls if command == abi.PROG_LOAD)
    assert len(attr) == 116
    assert struct.unpack_from("=II", attr) == (26, 2)
    assert struct.unpack_from("=I", attr, 44) == (16,)
    assert attr[48:64] == b"prog".ljust(16, b"\0")
    assert struct.unpack_from("=III", attr, 68) == (23, 9, 8)
    assert struct.unpack_from("=II", attr, 88) == (1, 16)
    assert struct.unpack_from("=III", attr, 104) == (2, 77, 0)


def test_prog_load_is_retried_on_eagain(fake):
    fake.fail[abi.PROG_LOAD] = [errno.EAGAIN] * 4
    fd = kernel.prog_load(1, bytes(8), "GPL")
    os.close(fd)
    assert fake.commands() == [abi.PROG_LOAD] * 5
    fake.fail[abi.PROG_LOAD] = [errno.EAGAIN] * 9
    assert kernel.prog_load(1, bytes(8), "GPL") == -errno.EAGAIN


def test_test_run_is_retried_on_eintr(fake):
    fake.fail[abi.PROG_TEST_RUN] = [errno.EINTR, errno.EINTR, errno.EBUSY]
    with pytest.raises(SyscallError, match="EBUSY"):
        kernel.prog_test_run(3)
    assert len(fake.calls) == 3


def test_object_names():
    assert kernel.object_name("a-very.long_name with äöü") == b"a_very.long_nam"
    assert kernel.object_name("ä/b") == b"__b"
    assert kernel.object_name("") == b""


def test_fd_closes_once_and_warns_when_forgotten():
    fd = kernel.Fd(os.open("/dev/null", os.O_RDONLY), "thing")
    assert f"{fd.fd} thing" in kernel.open_fds()
    fd.close()
    fd.close()
    assert fd.fd == -1
    assert repr(fd) == "<Fd closed thing>"
    with pytest.warns(ResourceWarning, match="unclosed <Fd [0-9]+ forgotten>"):
        kernel.Fd(os.open("/dev/null", os.O_RDONLY), "forgotten")
    kept = kernel.Fd(os.open("/dev/null", os.O_RDONLY), "given away")
    os.close(kept.disown())


@pytest.mark.parametrize(("text", "cpus"), [("0\n", [0]), ("0-3,5", [0, 1, 2, 3, 5]), ("0-1,4-5", [0, 1, 4, 5])])
def test_cpu_lists(text, cpus):
    assert kernel.parse_cpus(text) == cpus


@pytest.mark.parametrize("text", ["", "a", "1-", "-"])
def test_broken_cpu_lists(text):
    with pytest.raises(SyscallError, match="not a list of CPUs"):
        kernel.parse_cpus(text)


@pytest.mark.parametrize(
    ("machine", "wide", "numbers"),
    [
        ("x86_64", True, (321, 298)),
        ("x86_64", False, (357, 336)),
        ("i686", False, (357, 336)),
        ("aarch64", True, (280, 241)),
        ("aarch64", False, (386, 364)),
        ("armv7l", False, (386, 364)),
        ("armv8l", False, (386, 364)),
        ("riscv64", True, (280, 241)),
        ("loongarch64", True, (280, 241)),
        ("s390x", True, (351, 331)),
        ("ppc64le", True, (361, 319)),
        ("mips", False, (4355, 4333)),
        ("mips64", True, (5315, 5292)),
        ("mips64", False, (4355, 4333)),
    ],
)
def test_system_call_numbers(machine, wide, numbers):
    assert syscalls.NUMBERS[syscalls.abi(machine, wide)] == numbers


def test_unknown_machine():
    with pytest.raises(NotSupported, match="machine 'vax'"):
        syscalls.abi("vax", False)


def test_machine_code_agrees_with_libc():
    from pybpf import native

    try:
        direct = native.by_machine_code()
    except OSError as error:
        pytest.skip(str(error))
    number = syscalls.NUMBERS[syscalls.abi(os.uname().machine, True)][0]
    libc = native.by_libc()
    attr = bytearray(8)
    for arguments in ((abi.MAP_FREEZE, native.address(attr), 4), (9999, native.address(attr), 8)):
        result = direct(number, *arguments)
        assert result == libc(number, *arguments)
        assert result < 0


# --- RLIMIT_MEMLOCK -------------------------------------------------------------


@pytest.mark.parametrize(("charged", "calls"), [(True, 2), (False, 1)])
def test_memlock_is_raised_only_when_it_counts(fake, monkeypatch, charged, calls):
    raised = []
    monkeypatch.setattr(privilege, "charges_memlock", lambda: charged)
    monkeypatch.setattr(privilege, "raise_memlock", lambda: raised.append(1) or True)
    fake.fail[abi.MAP_CREATE] = [errno.EPERM]
    if charged:
        kernel.map_create(abi.MAP_TYPE_HASH, 4, 4, 1).close()
    else:
        with pytest.raises(LoadError):
            kernel.map_create(abi.MAP_TYPE_HASH, 4, 4, 1)
    assert len(fake.calls) == calls
    assert len(raised) == (1 if charged else 0)


def test_memlock_that_cannot_be_raised_is_not_fatal(fake, monkeypatch):
    monkeypatch.setattr(privilege, "charges_memlock", lambda: True)
    monkeypatch.setattr(privilege, "raise_memlock", lambda: False)
    fake.fail[abi.MAP_CREATE] = errno.EPERM
    with pytest.raises(LoadError) as caught:
        kernel.map_create(abi.MAP_TYPE_HASH, 4, 4, 1)
    assert caught.value.errno == errno.EPERM
    assert len(fake.calls) == 1


# --- maps -----------------------------------------------------------------------


def test_map_life(table):
    assert table.lookup(key(1)) is None
    assert not table.delete(key(1))
    for number in range(3):
        table.update(key(number), value(number))
    assert dict(table.items()) == {key(n): value(n) for n in range(3)}
    assert table.lookup(key(2)) == value(2)
    table.update(key(2), value(9), abi.EXIST)
    assert table.lookup(key(2)) == value(9)
    assert table.delete(key(2))


def test_map_errors_are_one_line(table):
    with pytest.raises(MapError, match=r"map 'table': a key has 4 bytes, got 3"):
        table.lookup(b"abc")
    with pytest.raises(MapError, match=r"a value has 8 bytes, got 4"):
        table.update(key(0), b"abcd")
    for number in range(3):
        table.update(key(number), value(number))
    with pytest.raises(MapError, match=r"no room for another element \(max_entries 3\)"):
        table.update(key(3), value(3))
    with pytest.raises(MapError, match="exists already"):
        table.update(key(1), value(1), abi.NOEXIST)
    with pytest.raises(MapError, match="no such key"):
        table.update(key(7), value(1), abi.EXIST)
    with pytest.raises(MapError, match="not a per-CPU map"):
        table.lookup_percpu(key(1))


@pytest.mark.parametrize("error", [errno.EBUSY, errno.ENOMEM, errno.EFAULT])
def test_map_operations_that_fail(fake, table, error):
    for command in (abi.MAP_LOOKUP_ELEM, abi.MAP_UPDATE_ELEM, abi.MAP_DELETE_ELEM, abi.MAP_GET_NEXT_KEY):
        fake.fail[command] = error
    for operation in (
        lambda: table.lookup(key(0)),
        lambda: table.update(key(0), value(0)),
        lambda: table.delete(key(0)),
        lambda: list(table.keys()),
    ):
        with pytest.raises(MapError) as caught:
            operation()
        assert caught.value.errno == error
        assert "map 'table'" in str(caught.value)


def test_keys_survive_deletion_by_the_caller(table):
    for number in range(3):
        table.update(key(number), value(number))
    assert [(k, table.delete(k)) for k, _ in table.items()] == [(key(n), True) for n in range(3)]


def test_keys_survive_deletion_by_others(fake, table):
    for number in range(3):
        table.update(key(number), value(number))
    seen = []
    for k, _ in table.items():
        seen.append(k)
        # The key that the walk holds next goes away, so the kernel starts over.
        fake.maps[table.fd]["data"].pop(key(1), None)
    assert seen[0] == key(0)
    assert seen[-1] == key(2)
    assert len(seen) == len(set(seen))


def test_btf_types_are_dropped_when_the_kernel_refuses_them(fake):
    spec = MapSpec("typed", abi.MAP_TYPE_STACK_TRACE, 4, 8, 1)
    spec.key_type_id, spec.value_type_id = 1, 2
    fake.fail[abi.MAP_CREATE] = [abi.ENOTSUPP]
    Map.create(spec, btf_fd=5).close()
    assert [len(attr) for _, attr in fake.calls] == [64, 44]


# --- loader ----------------------------------------------------------------------


def two_programs():
    return rc.obj(
        rc.emit_own("first", "raw_tp/sys_exit", 1),
        rc.emit_own("second", "raw_tp/sys_enter", 2),
        maps=(rc.own_pid_rodata(), rc.ringbuf()),
    )


def test_order_of_calls_and_frozen_config(fake):
    spec = two_programs()
    spec.btf = b"not looked at by the fake"
    with Collection(spec, ["first", "second"]) as collection:
        assert fake.commands() == [
            abi.BTF_LOAD,
            abi.MAP_CREATE,
            abi.MAP_UPDATE_ELEM,
            abi.MAP_FREEZE,
            abi.MAP_CREATE,
            abi.PROG_LOAD,
            abi.PROG_LOAD,
        ]
        config = fake.maps[collection.maps[".rodata"].fd]
        assert config["flags"] == abi.F_RDONLY_PROG
        assert config["data"] == {bytes(4): rc.u32(os.getpid())}
        assert sorted(collection.programs) == ["first", "second"]
    assert kernel.open_fds() == []


@pytest.mark.parametrize("command", [abi.MAP_CREATE, abi.MAP_UPDATE_ELEM, abi.MAP_FREEZE, abi.PROG_LOAD])
@pytest.mark.parametrize("skip", [0, 1])
def test_whatever_fails_nothing_stays_open(fake, command, skip):
    fake.fail[command] = [0] * skip + [errno.EINVAL] * 9
    if skip and command in (abi.MAP_UPDATE_ELEM, abi.MAP_FREEZE):
        with Collection(two_programs(), ["first"]):
            pass
    else:
        with pytest.raises((LoadError, MapError)):
            Collection(two_programs(), ["first", "second"])
    assert kernel.open_fds() == []


def test_refused_btf_is_remembered_and_done_without(fake):
    spec = two_programs()
    spec.btf = b"new kinds"
    spec.programs["first"].func_info = [(0, 1)]
    fake.fail[abi.BTF_LOAD] = errno.EINVAL
    with Collection(spec, ["first"]) as collection:
        assert collection.btf_error is not None
        assert collection.btf_error.errno == errno.EINVAL
    (attr,) = (attr for command, attr in fake.calls if command == abi.PROG_LOAD)
    assert struct.unpack_from("=II", attr, 72) == (0, 0)


def test_refusal_without_a_log(fake):
    fake.fail[abi.PROG_LOAD] = errno.EINVAL
    with pytest.raises(LoadError) as caught:
        Collection(two_programs(), ["first"])
    assert not isinstance(caught.value, VerifierError)
    assert "BPF_PROG_LOAD of program 'first' (raw_tp/sys_exit): EINVAL" in str(caught.value)


def test_refusal_with_statistics_alone():
    """What a kernel says of an attach type that it does not know."""

    def hook(name, command, attr):
        level, _, where = struct.unpack_from("=IIQ", attr, 24)
        if level:
            put(where, b"processed 0 insns (limit 1000000) max_states_per_insn 0 total_states 0\n\0")
        return -errno.EINVAL

    kernel.set_syscall_hook(hook)
    try:
        with pytest.raises(LoadError, match="this kernel may lack the program type or its hook") as caught:
            Request("p", parse_section("socket"), bytes(8)).load()
    finally:
        kernel.set_syscall_hook(None)
    assert not isinstance(caught.value, VerifierError)


def test_log_buffer_grows_until_it_fits():
    sizes = []

    def hook(name, command, attr):
        level, size, where = struct.unpack_from("=IIQ", attr, 24)
        sizes.append((level, size))
        if not level:
            return -errno.EACCES
        if size < 300000:
            return -errno.ENOSPC
        put(where, b"0: (95) exit\nR0 !read_ok\nprocessed 1 insns (limit 1000000)\n\0")
        return -errno.EACCES

    kernel.set_syscall_hook(hook)
    try:
        with pytest.raises(VerifierError, match=r"0: \(95\) exit: R0 !read_ok \(1 line omitted\)"):
            Request("p", parse_section("socket"), bytes(8)).load()
    finally:
        kernel.set_syscall_hook(None)
    assert sizes == [(0, 0), (1, 1 << 16), (1, 1 << 17), (1, 1 << 18), (1, 1 << 19)]


def test_log_that_never_fits_falls_back_to_the_last_words(monkeypatch):
    def hook(name, command, attr):
        level, _, where = struct.unpack_from("=IIQ", attr, 24)
        if level == abi.LOG_LEVEL1:
            return -errno.ENOSPC
        if level == abi.LOG_STATS:
            put(where, b"BPF program is too large\n\0")
        return -errno.E2BIG

    monkeypatch.setattr("pybpf.program._log_limit", lambda: 1 << 17)
    kernel.set_syscall_hook(hook)
    try:
        with pytest.raises(VerifierError, match="'p': BPF program is too large"):
            Request("p", parse_section("socket"), bytes(8)).load()
    finally:
        kernel.set_syscall_hook(None)


def test_a_million_steps_are_taken_twice_only():
    """The kernel keeps the end of a log that does not fit, and says how long it would be, since 6.4."""
    levels = []

    def hook(name, command, attr):
        level, _, where = struct.unpack_from("=IIQ", attr, 24)
        levels.append(level)
        if not level:
            return -errno.E2BIG
        put(where, b"3: R1=\n7: (05) goto pc-3\nBPF program is too large. Processed 1000001 insn\n\0")
        struct.pack_into("=I", attr, 140, 50_000_000)
        return -errno.ENOSPC

    kernel.set_syscall_hook(hook)
    try:
        with pytest.raises(VerifierError, match=r"'p': BPF program is too large\. .* \(1 line omitted\)") as caught:
            Request("p", parse_section("socket"), bytes(8)).load()
    finally:
        kernel.set_syscall_hook(None)
    assert levels == [0, abi.LOG_LEVEL1]
    assert caught.value.errno == errno.E2BIG


def test_relocation_at_a_wrong_instruction(fake):
    code = rc.Code().map(1, "events").add(rc.mov(0, 0), rc.EXIT)
    code.relocs[0].index = 2
    with pytest.raises(ObjectError, match="relocation to 'events' at slot 2 is not at a 64-bit load"):
        Collection(rc.obj(code.program("p", "socket"), maps=(rc.ringbuf(),)), ["p"])
    code.relocs[0].index = 400
    with pytest.raises(ObjectError, match="slot 400"):
        Collection(rc.obj(code.program("p", "socket"), maps=(rc.ringbuf(),)), ["p"])
    call = rc.Code().sub("nowhere").add(rc.EXIT)
    with pytest.raises(ObjectError, match="'p' calls 'nowhere'"):
        Collection(rc.obj(call.program("p", "socket")), ["p"])


# --- links -----------------------------------------------------------------------


@pytest.fixture
def events(tmp_path, monkeypatch):
    directory = tmp_path / "events" / "sched" / "sched_switch"
    directory.mkdir(parents=True)
    (directory / "id").write_text("316\n")
    monkeypatch.setattr(tracefs, "_PLACES", (str(tmp_path),))


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EBADF])
def test_tracepoint_link_failures(fake, events, monkeypatch, error):
    """EINVAL: no such link on this kernel, use ioctl; anything else is an error. Nothing stays open."""
    ioctls = []
    monkeypatch.setattr("fcntl.ioctl", lambda fd, request, argument: ioctls.append(request))
    fake.fail[abi.LINK_CREATE] = error
    spec = rc.obj(rc.Code().add(rc.mov(0, 0), rc.EXIT).program("p", "tp/sched/sched_switch"))
    with Collection(spec, ["p"]) as collection:
        if error == errno.EINVAL:
            links.attach(collection.programs["p"]).close()
            assert [request & 0xFFFF for request in ioctls] == [0x2408, 0x2400]
        else:
            with pytest.raises(LinkError, match="EBADF"):
                links.attach(collection.programs["p"])
    assert kernel.open_fds() == []


def test_tracefs_not_mounted(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(tracefs, "_PLACES", (str(tmp_path / "none"),))
    with pytest.raises(LinkError, match="mount -t tracefs tracefs /sys/kernel/tracing"):
        tracefs.event_id("sched", "sched_switch")


def test_perf_event_refused_by_paranoia(fake, events):
    fake.fail["perf_event_open"] = errno.EACCES
    spec = rc.obj(rc.Code().add(rc.mov(0, 0), rc.EXIT).program("p", "tp/sched/sched_switch"))
    with Collection(spec, ["p"]) as collection, pytest.raises(LinkError, match="not permitted"):
        links.attach(collection.programs["p"])
    assert kernel.open_fds() == []


@pytest.mark.parametrize("section", ["tp/sched", "tp/a/b/c", "tp/../x"])
def test_bad_tracepoint_sections(fake, section):
    spec = rc.obj(rc.Code().add(rc.mov(0, 0), rc.EXIT).program("p", section))
    with Collection(spec, ["p"]) as collection, pytest.raises(LinkError, match="tp/CATEGORY/NAME"):
        links.attach(collection.programs["p"])


# --- sections --------------------------------------------------------------------


def test_sections():
    tracepoint = parse_section("tracepoint/sched/sched_switch")
    assert (tracepoint.kind, tracepoint.type, tracepoint.target) == ("tp", 5, "sched/sched_switch")
    assert parse_section("?raw_tp/sys_exit").target == "sys_exit"
    assert parse_section("tp_btf/sys_exit").attach_type == 23
    assert parse_section("syscall").flags == abi.F_SLEEPABLE
    with pytest.raises(ObjectError, match="must name its hook, as in tp_btf/NAME"):
        parse_section("tp_btf")
    with pytest.raises(ObjectError, match="no known kind of program"):
        parse_section(".text")
