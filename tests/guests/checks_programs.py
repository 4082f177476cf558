"""Programs: test runs with all of their input and output, statistics, details, pins, replacement, locked memory."""

from __future__ import annotations

import os
import struct

from pybpf import abi, commands, kernel
from pybpf.errors import LinkError, LoadError, SyscallError
from pybpf.loader import Collection
from pybpf.maps import Map
from pybpf.maps.objects import ProgArray, misread
from pybpf.privilege import charges_memlock, kernel_version
from pybpf.program import Program
from tests.guests.checks import check, equal, figure, in_guest, programs, skip
from tests.guests.linkkit import or_skip
from tests.guests.mapkit import refused

PACKET = bytes(range(64))


def loaded(*names, **more):
    return Collection(programs("programs"), names, **more)


def replacing(function, target):
    """The program that is to take the place of a function of ``target``: made of a subprogram of the same signature."""
    spec = programs("programs")
    spec.programs["other_answer"].section = f"freplace/{function}"
    return Collection(spec, ["other_answer"], targets={"other_answer": target})


def since(version, call):
    """The result of a call; an older kernel may refuse it with EINVAL, EFAULT or ENOTSUPP."""
    try:
        return call()
    except SyscallError as error:
        if error.errno in (22, 95, abi.ENOTSUPP) and kernel_version() < tuple(map(int, version.split("."))):
            skip(f"came with {version}: {error}")
        raise


@check
def check_test_run_of_a_packet():
    """Data comes out changed; the context goes in and comes back; it is run again and again."""
    with loaded("change") as collection:
        program = collection.programs["change"]
        run = program.test_run(PACKET)
        equal((run.retval, len(run.data), run.data[:14]), (len(PACKET), len(PACKET), PACKET[:13] + b"\x77"))
        run = program.test_run(PACKET, repeat=1000)
        assert run.duration < 1_000_000, run.duration
        # struct __sk_buff: len, pkt_type, mark ... priority at 32, cb at 48
        context = bytearray(192)
        struct.pack_into("=I", context, 48, 7)
        run = program.test_run(PACKET, bytes(context), ctx_room=192)
        equal(struct.unpack_from("=I", run.ctx, 48)[0], 8)
        error = refused(lambda: program.test_run(PACKET, room=-32), 28)
        assert "64 bytes of data came out" in str(error), error
        refused(lambda: program.test_run(PACKET[:8]), 22)


@check
def check_test_run_of_xdp():
    with loaded("shorten") as collection:
        run = collection.programs["shorten"].test_run(PACKET)
        equal((run.retval, run.data), (2, PACKET[:-20]))  # XDP_PASS
        # struct xdp_md: data, data_end, data_meta, ingress_ifindex ...
        context = struct.pack("=6I", 0, len(PACKET), 0, 0, 0, 0)
        run = since("5.15", lambda: collection.programs["shorten"].test_run(PACKET, context, ctx_room=24))
        equal(struct.unpack_from("=2I", run.ctx), (0, len(PACKET) - 20))


@check
def check_test_run_of_xdp_with_live_frames():
    """Frames that are dropped: the program runs for each of them, and nothing comes out."""
    with loaded("count_frames") as collection:
        program = collection.programs["count_frames"]
        since("5.18", lambda: program.test_run(PACKET, repeat=100, live_frames=True, batch_size=10))
        equal(sum(collection.maps["frames"].typed(int, int)[0]), 100)


@check
def check_test_run_of_raw_tracepoint():
    with loaded("second") as collection:
        program = collection.programs["second"]
        equal(program.test_run(ctx=struct.pack("=QQ", 5, 99), cpu=0).retval, 99)
        refused(lambda: program.test_run(ctx=struct.pack("=QQ", 5, 99), cpu=100_000), 6, 22)  # ENXIO


@check
def check_test_run_of_syscall():
    with Collection(programs("programs"), ["change"]):
        pass
    try:
        collection = loaded("double")
    except LoadError as error:
        if kernel_version() < (5, 14):
            skip(f"came with 5.14: {error}")
        raise
    with collection:
        run = collection.programs["double"].test_run(ctx=struct.pack("=QQ", 21, 0))
        equal((run.retval, struct.unpack("=QQ", run.ctx)), (3, (21, 42)))


@check
def check_statistics():
    """Runs and time are counted while somebody holds the descriptor, and no longer."""
    with loaded("change") as collection:
        program = collection.programs["change"]
        equal((program.info().run_count, program.info().run_time), (0, 0))
        with commands.enable_stats():
            program.test_run(PACKET, repeat=5)
            counted = program.info()
        # A test run counts from some version on; what tells is that it does not go on.
        program.test_run(PACKET, repeat=5)
        equal(program.info().run_count, counted.run_count)
    with loaded("on_getppid") as collection:
        program = collection.programs["on_getppid"]
        from pybpf import links

        with or_skip(links.attach, program):
            for _ in range(3):
                os.getppid()
            equal(program.info().run_count, 0)
            with commands.enable_stats():
                for _ in range(50):
                    os.getppid()
                info = program.info()
            assert info.run_count >= 50, info.run_count
            assert info.run_time > 0, info.run_time
            for _ in range(50):
                os.getppid()
            assert program.info().run_count < info.run_count + 50


@check
def check_details():
    from btf.format import KIND_FUNC
    from pybpf.proginfo import Details, program_btf

    with loaded("count_frames") as collection:
        program = collection.programs["count_frames"]
        details = Details(program)
        equal((details.type, details.name, details.map_ids), (6, "count_frames", [collection.maps["frames"].id()]))
        equal((details.id, details.tag, details.uid), (program.info().id, program.info().tag, os.getuid()))
        assert len(details.translated) % 8 == 0
        assert len(details.translated) >= 16
        assert details.translated[-8] == 0x95, "ends with exit"
        assert details.gpl_compatible
        assert 0 < details.load_time < 1 << 62
        equal([insn for insn, _ in details.functions], [0])
        assert details.lines
        assert details.machine_code or not jit_enabled()
        with program_btf(program) as btf:
            equal(btf.name(details.functions[0][1]), "count_frames")
            source = btf.string(details.lines[0][2])
            assert source, "the source line is there"
            assert btf.find_id("count_frames", KIND_FUNC)


def jit_enabled():
    try:
        with open("/proc/sys/net/core/bpf_jit_enable") as file:
            return file.read().strip() != "0"
    except OSError:
        return False


@check
def check_pins_and_ids():
    place = f"/sys/fs/bpf/pybpf-check-program-{os.getpid()}"
    with loaded("change") as collection:
        program = collection.programs["change"]
        with Program.by_id(program.info().id) as same:
            equal((same.name, same.section), ("change", "sched_cls"))
            equal(same.test_run(PACKET).retval, len(PACKET))
        try:
            program.pin(place)
        except SyscallError as error:
            if not os.path.ismount("/sys/fs/bpf"):
                skip(f"no bpf file system is mounted: {error}")
            raise
    try:
        with Program.open_pinned(place) as again:
            equal((again.name, again.test_run(PACKET).retval), ("change", len(PACKET)))
        error = refused(lambda: Map.open_pinned(place), 22)
        assert "is no map but a bpf-prog" in str(error), error
    finally:
        os.unlink(place)
    refused(lambda: Program.open_pinned(place), 2)


@check
def check_tail_calls():
    with loaded("caller", "callee") as collection:
        caller, callee = collection.programs["caller"], collection.programs["callee"]
        table = ProgArray(collection.maps["table"])
        equal(caller.test_run(PACKET).retval, 1)
        table[1] = callee
        equal(caller.test_run(PACKET).retval, 55)
        if not misread(table.map.type):
            equal(table.id(1), callee.info().id)
        del table[1]
        equal(caller.test_run(PACKET).retval, 1)


@check
def check_replacement():
    """freplace: a global function of a loaded program gives way to another, and comes back."""
    from pybpf.links.freplace import attach_freplace

    with loaded("asks") as target:
        asks = target.programs["asks"]
        equal(asks.test_run(PACKET).retval, 7)
        error = refused(lambda: replacing("nothing", asks), 2)
        assert "has no function 'nothing'" in str(error), error
        try:
            replacement = replacing("answer", asks)
        except LoadError as error:
            if error.errno == 1 and not in_guest():
                skip(f"this machine forbids programs that replace others: {error}")
            if error.errno == abi.ENOTSUPP:
                skip(f"this architecture has no trampolines yet: {error}")
            if "should be JITed" in str(error):
                skip(str(error))
            raise
        with replacement:
            try:
                link = attach_freplace(replacement.programs["other_answer"])
            except LinkError as error:
                if "ENOTSUPP" in error.details + str(error):
                    skip(f"this architecture has no trampolines yet: {error.details}")
                raise
            with link:
                equal(asks.test_run(PACKET).retval, 8)
            equal(asks.test_run(PACKET).retval, 7)


@check
def check_locked_memory():
    """Maps of more memory than RLIMIT_MEMLOCK allows: the limit is lifted where it counts, and only there."""
    import resource

    limit = resource.RLIMIT_MEMLOCK
    resource.setrlimit(limit, (65536, resource.getrlimit(limit)[1]))
    charged = charges_memlock()
    equal(charged, kernel_version() < (5, 11))
    held = [kernel.map_create(abi.MAP_TYPE_ARRAY, 4, 4096, 64, name="big") for _ in range(4)]
    raised = resource.getrlimit(limit)[0] != 65536
    for fd in held:
        fd.close()
    equal(raised, charged)
    figure("locked memory counts", int(charged))


@check
def check_log_of_the_right_size():
    """A rejection whose log is longer than the first buffer comes whole."""
    with_sizes = []
    code = b"\xb7" + bytes(7) + b"\x07" + bytes(3) + struct.pack("=i", 1)
    code += (b"\x07" + bytes(3) + struct.pack("=i", 1)) * 4000 + b"\xbf\x20" + bytes(6) + b"\x95" + bytes(7)
    log = bytearray(1000)
    result = kernel.prog_load(abi.PROG_TYPE_SOCKET_FILTER, code, "GPL", log_level=1, log=log, log_sizes=with_sizes)
    equal(result, -28)
    if kernel_version() >= (6, 4):
        log = bytearray(with_sizes[0])
        equal(kernel.prog_load(abi.PROG_TYPE_SOCKET_FILTER, code, "GPL", log_level=1, log=log), -13)
    else:
        equal(with_sizes, [0])
