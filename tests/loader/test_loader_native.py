"""The loader against the running kernel, with bytecode written by hand."""

from __future__ import annotations

import errno
import os
import struct

import pytest
import rawcode as rc

from pybpf import abi, commands, kernel, links, tracefs
from pybpf.errors import LinkError, LoadError, NotSupported, ObjectError, SyscallError, VerifierError
from pybpf.loader import Collection
from pybpf.maps import Map
from pybpf.maps.walk import walk
from pybpf.object.spec import MapSpec
from pybpf.ringbuf import RingBuffer

pytestmark = [pytest.mark.native, pytest.mark.in_guests]


def trivial(name: str = "nothing", section: str = "raw_tp/sys_exit", value: int = 0):
    return rc.Code().add(rc.mov(0, value), rc.EXIT).program(name, section)


@pytest.mark.parametrize("section", ["raw_tp/sys_exit", "raw_tracepoint/sys_exit"])
def test_raw_tracepoint_to_ring_buffer(section):
    spec = rc.obj(rc.emit_own("on_exit", section, 0x1122), maps=(rc.own_pid_rodata(), rc.ringbuf()))
    with (
        Collection(spec, ["on_exit"]) as collection,
        RingBuffer(collection.maps["events"]) as ring,
    ):
        assert ring.read() == []
        with links.attach(collection.programs["on_exit"]):
            os.getppid()
        records = ring.read()
        assert records
        assert set(records) == {struct.pack("=Q", 0x1122)}
        # Detached: nothing more arrives.
        ring.drain([])
        os.getppid()
        assert ring.available() == 0


def test_tp_btf():
    spec = rc.obj(rc.emit_own("on_exit", "tp_btf/sys_exit", 7), maps=(rc.own_pid_rodata(), rc.ringbuf()))
    with Collection(spec, ["on_exit"]) as collection, RingBuffer(collection.maps["events"]) as ring:
        assert collection.programs["on_exit"].attach_btf_id > 0
        with links.attach(collection.programs["on_exit"]):
            os.getppid()
        assert ring.drain([]) > 0


def test_tp_btf_without_such_tracepoint():
    with pytest.raises(NotSupported, match="this kernel has no tracepoint 'no_such_thing'"):
        Collection(rc.obj(trivial(section="tp_btf/no_such_thing")), ["nothing"])


@pytest.fixture
def mounted_tracefs():
    try:
        return tracefs.root()
    except LinkError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("old", [False, True], ids=["link", "ioctl"])
def test_tracepoint(mounted_tracefs, old):
    section = "tracepoint/syscalls/sys_enter_getppid"
    spec = rc.obj(rc.emit_own("on_enter", section, 9), maps=(rc.own_pid_rodata(), rc.ringbuf()))

    def no_perf_links(name, *args):
        return -22 if name == "bpf" and args[0] == abi.LINK_CREATE else None

    with Collection(spec, ["on_enter"]) as collection, RingBuffer(collection.maps["events"]) as ring:
        if old:
            kernel.set_syscall_hook(no_perf_links)
        try:
            link = links.attach(collection.programs["on_enter"])
        finally:
            kernel.set_syscall_hook(None)
        with link:
            for _ in range(3):
                os.getppid()
        os.getppid()
        assert ring.read() == [struct.pack("=Q", 9)] * 3


def test_tracepoint_that_does_not_exist(mounted_tracefs):
    with (
        Collection(rc.obj(trivial(section="tp/syscalls/sys_enter_nothing")), ["nothing"]) as collection,
        pytest.raises(LinkError, match="no tracepoint syscalls/sys_enter_nothing"),
    ):
        links.attach(collection.programs["nothing"])


def test_raw_tracepoint_that_does_not_exist():
    with (
        Collection(rc.obj(trivial(section="raw_tp/no_such_thing")), ["nothing"]) as collection,
        pytest.raises(LinkError, match="no raw tracepoint 'no_such_thing'"),
    ):
        links.attach(collection.programs["nothing"])


def test_attaching_what_cannot_be_attached():
    with Collection(rc.obj(trivial(section="syscall")), ["nothing"]) as collection:
        with pytest.raises(LinkError, match="cannot be attached by their section"):
            links.attach(collection.programs["nothing"])
        with pytest.raises(LinkError, match="must name a tracepoint"):
            links.attach(collection.programs["nothing"], "raw_tp")


def test_frozen_config_prunes_disabled_branch():
    """With the switch off the branch holds code that the verifier would refuse; it must never look at it."""

    def spec(switch: int):
        code = rc.Code().data(1, ".rodata", 4).add(rc.load(4, 1, 1, 0), rc.jeqi(1, 0, 1), rc.movr(0, 9))
        code.add(rc.mov(0, 0), rc.EXIT)
        return rc.obj(code.program("prog", "raw_tp/sys_exit"), maps=(rc.rodata(bytes(4) + rc.u32(switch)),))

    with Collection(spec(0), ["prog"]) as collection:
        assert collection.programs["prog"].info().verified_insns in (0, 5)
    with pytest.raises(VerifierError, match="R9 !read_ok"):
        Collection(spec(1), ["prog"])


def test_frozen_map_refuses_writes():
    with Collection(reader_of_rodata(), ["prog"]) as collection:
        config = collection.maps[".rodata"]
        assert config.lookup(bytes(4)) == b"abcd"
        with pytest.raises(Exception, match="frozen"):
            config.update(bytes(4), b"wxyz")


def reader_of_rodata():
    code = rc.Code().data(1, ".rodata", 0).add(rc.load(4, 0, 1, 0), rc.EXIT)
    return rc.obj(code.program("prog", "socket"), maps=(rc.rodata(b"abcd"),))


def test_test_run_of_a_socket_filter():
    with Collection(reader_of_rodata(), ["prog"]) as collection:
        run = collection.programs["prog"].test_run(bytes(64))
        assert run.retval == int.from_bytes(b"abcd", "little" if rc.LITTLE else "big")
        assert len(run.data) == 64


def test_test_run_of_a_syscall_program():
    code = rc.Code().add(rc.load(8, 2, 1, 0), rc.addi(2, 5), rc.store(8, 1, 2, 8), rc.mov(0, 3), rc.EXIT)
    with Collection(rc.obj(code.program("prog", "syscall")), ["prog"]) as collection:
        run = collection.programs["prog"].test_run(ctx=struct.pack("=QQ", 37, 0))
        assert run.retval == 3
        assert struct.unpack("=QQ", run.ctx) == (37, 42)


def test_test_run_of_a_raw_tracepoint():
    code = rc.Code().add(rc.load(8, 0, 1, 8), rc.EXIT)
    with Collection(rc.obj(code.program("prog", "raw_tp/sys_exit")), ["prog"]) as collection:
        assert collection.programs["prog"].test_run(ctx=struct.pack("=QQ", 1, 99), cpu=0).retval == 99


def test_tail_call_through_a_prog_array():
    jumps = MapSpec("jumps", abi.MAP_TYPE_PROG_ARRAY, 4, 4, 2)
    main = rc.Code().map(2, "jumps").add(rc.mov(3, 1), rc.call(rc.TAIL_CALL), rc.mov(0, 1), rc.EXIT)
    spec = rc.obj(main.program("main", "socket"), trivial("target", "socket", 55), maps=(jumps,))
    with Collection(spec, ["main", "target"]) as collection:
        main_program, target = collection.programs["main"], collection.programs["target"]
        assert main_program.test_run(bytes(64)).retval == 1
        table = collection.maps["jumps"]
        table.update(rc.u32(1), rc.u32(target.fd))
        assert main_program.test_run(bytes(64)).retval == 55
        assert table.lookup(rc.u32(1)) == rc.u32(target.info().id)
        assert table.lookup(rc.u32(0)) is None
        assert list(table.keys()) == [rc.u32(0), rc.u32(1)]
        assert list(table.items()) == [(rc.u32(1), rc.u32(target.info().id))]
        assert table.delete(rc.u32(1))


def test_subprograms_are_linked_once_each():
    """main calls a and b, a calls b: 10 + (1 + 100) + 100."""
    main = (
        rc.Code().sub("a").add(rc.movr(6, 0)).sub("b").add(rc.insn(0x0F, 6, 0), rc.movr(0, 6), rc.addi(0, 10), rc.EXIT)
    )
    a = rc.Code().sub("b").add(rc.addi(0, 1), rc.EXIT)
    b = rc.Code().add(rc.mov(0, 100), rc.EXIT)
    spec = rc.obj(
        main.program("main", "socket"), b.program("b", ".text"), a.program("a", ".text"), trivial("unused", ".text")
    )
    with Collection(spec, ["main"]) as collection:
        assert collection.programs["main"].test_run(bytes(64)).retval == 211


def test_only_needed_maps_are_made_and_given_ones_are_used():
    spec = reader_of_rodata()
    spec.maps["unused"] = MapSpec("unused", abi.MAP_TYPE_HASH, 4, 4, 1)
    with Collection(spec, ["prog"]) as first:
        assert list(first.maps) == [".rodata"]
        given = first.maps[".rodata"]
        with Collection(spec, ["prog"], maps={".rodata": given}) as second:
            assert second.maps[".rodata"] is given
        assert given.lookup(bytes(4)) == b"abcd"
        spec.maps[".rodata"].value_size = 8
        with pytest.raises(LoadError, match=r"given for '\.rodata'"):
            Collection(spec, ["prog"], maps={".rodata": given})


def test_verifier_error_is_one_line_with_the_log_behind_it():
    code = rc.Code().add(rc.movr(0, 2), rc.EXIT)
    with pytest.raises(VerifierError) as caught:
        Collection(rc.obj(code.program("reads_r2", "raw_tp/sys_exit")), ["reads_r2"])
    message = str(caught.value)
    assert message.startswith("verifier rejected program 'reads_r2': ")
    assert "R2 !read_ok" in message
    assert "omitted)" in message
    assert "\n" not in message
    assert "processed" in caught.value.details


def test_log_on_request():
    with Collection(rc.obj(trivial()), ["nothing"], log_level=1) as collection:
        assert "processed 2 insns" in collection.programs["nothing"].log
    with Collection(rc.obj(trivial()), ["nothing"]) as collection:
        assert collection.programs["nothing"].log == ""


def test_long_log_grows_the_buffer():
    code = rc.Code().add(rc.mov(0, 0))
    for _ in range(4000):
        code.add(rc.addi(0, 1))
    code.add(rc.movr(0, 2), rc.EXIT)
    with pytest.raises(VerifierError, match="R2 !read_ok") as caught:
        Collection(rc.obj(code.program("long", "raw_tp/sys_exit")), ["long"])
    assert len(caught.value.details) > 64 * 1024
    assert "0: (b7) r0 = 0" in caught.value.details


def test_unknown_program_map_and_section():
    with pytest.raises(ObjectError, match="no program 'other'; it has: nothing"):
        Collection(rc.obj(trivial()), ["other"])
    with pytest.raises(ObjectError, match="section 'magic/x' is no known kind"):
        Collection(rc.obj(trivial(section="magic/x")), ["nothing"])
    code = rc.Code().map(1, "absent").add(rc.mov(0, 0), rc.EXIT)
    with pytest.raises(ObjectError, match="uses map 'absent'"):
        Collection(rc.obj(code.program("prog", "socket")), ["prog"])


def test_ring_buffer_of_a_wrong_size():
    with pytest.raises(LoadError, match=r"'events' has 5000 bytes: it must be a power of two.*such as 8192"):
        Collection(
            rc.obj(rc.emit_own("p", "raw_tp/sys_exit", 1), maps=(rc.own_pid_rodata(), rc.ringbuf(size=5000))), ["p"]
        )


def test_wrong_byte_order():
    spec = rc.obj(trivial())
    spec.byteorder = "big" if rc.LITTLE else "little"
    with pytest.raises(ObjectError, match="-endian, this machine is"):
        Collection(spec, ["nothing"])


def test_failing_loads_leave_nothing_open():
    bad = rc.Code().map(1, "events").add(rc.movr(0, 2), rc.EXIT).program("bad", "raw_tp/sys_exit")
    spec = rc.obj(rc.emit_own("good", "raw_tp/sys_exit", 1), bad, maps=(rc.own_pid_rodata(), rc.ringbuf()))
    before = sorted(os.listdir("/proc/self/fd"))
    opened = kernel.open_fds()
    for _ in range(20):
        with pytest.raises(VerifierError):
            Collection(spec, ["good", "bad"])
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert kernel.open_fds() == opened


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_200_cycles_grow_nothing():
    spec = rc.obj(rc.emit_own("on_exit", "raw_tp/sys_exit", 1), maps=(rc.own_pid_rodata(), rc.ringbuf()))

    def cycle():
        with Collection(spec, ["on_exit"]) as collection, RingBuffer(collection.maps["events"]) as ring:
            with links.attach(collection.programs["on_exit"]):
                os.getppid()
            ring.read()

    for _ in range(20):
        cycle()
    before, memory = sorted(os.listdir("/proc/self/fd")), resident()
    for _ in range(200):
        cycle()
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert resident() - memory < 2 * 1024 * 1024


def test_program_info():
    with Collection(rc.obj(trivial("a-long-name-with-signs")), ["a-long-name-with-signs"]) as collection:
        info = collection.programs["a-long-name-with-signs"].info()
        assert info.name == "a_long_name_wit"
        assert info.type == abi.PROG_TYPE_RAW_TRACEPOINT
        assert info.id in list(program_ids())
        with commands.prog_get_fd_by_id(info.id):
            pass


def program_ids():
    id = commands.prog_get_next_id(0)
    while id is not None:
        yield id
        id = commands.prog_get_next_id(id)


def test_closed_objects_say_so():
    spec = rc.obj(rc.emit_own("p", "raw_tp/sys_exit", 1), maps=(rc.own_pid_rodata(), rc.ringbuf()))
    with Collection(spec, ["p"]) as collection:
        ring = RingBuffer(collection.maps["events"])
        ring.close()
        ring.close()
    for operation in (
        lambda: collection.maps[".rodata"].lookup(bytes(4)),
        lambda: list(collection.maps[".rodata"].items()),
        lambda: collection.maps[".rodata"].freeze(),
        lambda: collection.programs["p"].info(),
        lambda: collection.programs["p"].test_run(ctx=bytes(16)),
        lambda: links.attach(collection.programs["p"]),
        ring.read,
    ):
        with pytest.raises(SyscallError) as caught:
            operation()
        assert caught.value.errno in (errno.EBADF, errno.EBADFD)


def test_number_that_does_not_fit():
    with pytest.raises(LoadError, match="does not fit into 32 bits"):
        Map.create(MapSpec("huge", abi.MAP_TYPE_HASH, 4, 4, 1 << 32))


@pytest.mark.parametrize("type", [abi.MAP_TYPE_HASH, abi.MAP_TYPE_LRU_HASH, abi.MAP_TYPE_PERCPU_HASH])
def test_large_maps_are_read_in_batches(type):
    with Map.create(MapSpec("large", type, 4, 12, 20000)) as table:
        wanted = {rc.u32(n) for n in range(10000)}
        for key in wanted:
            table.update(key, key * 3)
        items = list(table.items())
        assert len(items) == len(wanted)
        assert {key for key, _ in items} == wanted
        assert all((table.split(value)[0] if table.percpu else value) == key * 3 for key, value in items)
        assert set(walk(table)) == wanted
        for key in list(table.keys()):
            assert table.delete(key)
        assert list(table.keys()) == []


def test_per_cpu_values():
    with Map.create(MapSpec("percpu", abi.MAP_TYPE_PERCPU_ARRAY, 4, 4, 2)) as table:
        count = kernel.possible_cpus()
        table.update(rc.u32(1), b"abcd")
        assert table.lookup_percpu(rc.u32(1)) == [b"abcd"] * count
        table.update(rc.u32(0), b"".join(rc.u32(n) + bytes(4) for n in range(count)))
        assert table.lookup_percpu(rc.u32(0)) == [rc.u32(n) for n in range(count)]
        assert [key for key, _ in table.items()] == [rc.u32(0), rc.u32(1)]


def test_queue():
    with Map.create(MapSpec("queue", abi.MAP_TYPE_QUEUE, 0, 4, 2)) as queue:
        queue.update(b"", b"1st.")
        queue.update(b"", b"2nd.")
        assert [queue.take(), queue.take(), queue.take()] == [b"1st.", b"2nd.", None]
