"""Links of tracing: each kind fires as often as it should, and no more once it is detached."""

from __future__ import annotations

import os
import time

from pybpf import abi, kallsyms, kernel, links, tracefs
from pybpf.errors import LinkError, NotSupported
from pybpf.proginfo import function_id
from tests.guests.checks import check, equal, in_guest, programs, skip
from tests.guests.linkkit import (
    Counter,
    load,
    or_skip,
    ppids,
    reads,
    refused,
    run,
    shown,
    stopped,
    usdt_program,
    writer,
)

TRACEPOINT = "tp/syscalls/sys_enter_getppid"


def fires(section, act, code=None, exact=True, **options):
    """Load a counting program for ``section``, attach it, and see it run and stop."""
    with Counter() as counter:
        program = load(counter.code(**(code or {})), section)
        with program:
            return shown(or_skip(links.attach, program, **options), counter, act, exact=exact)


# --- tracepoints ----------------------------------------------------------------------


@check
def check_tracepoint():
    fires(TRACEPOINT, ppids)


@check
def check_tracepoint_by_ioctl():
    """What a kernel before 5.15 makes of it, where perf events have no links."""

    def no_links(name, *arguments):
        return -22 if name == "bpf" and arguments[0] == abi.LINK_CREATE else None

    with Counter() as counter, load(counter.code(), TRACEPOINT) as program:
        kernel.set_syscall_hook(no_links)
        try:
            link = or_skip(links.attach, program)
        finally:
            kernel.set_syscall_hook(None)
        equal(link.mechanism, "tracepoint event, ioctl")
        equal(link.attempts[0].error.errno, 22)
        shown(link, counter, ppids)


@check
def check_tracepoint_cookie():
    with Counter() as counter, load(counter.code(cookie=True), TRACEPOINT) as program:
        shown(or_skip(links.attach, program, cookie=0x1234567890), counter, ppids)
        equal(counter.values()[1], 0x1234567890)


@check
def check_raw_tracepoint():
    fires("raw_tp/sys_enter", ppids, exact=False)


@check
def check_raw_tracepoint_cookie():
    with Counter() as counter, load(counter.code(cookie=True), "raw_tp/sys_enter") as program:
        shown(or_skip(links.attach, program, cookie=99), counter, ppids, exact=False)
        equal(counter.values()[1], 99)


@check
def check_tp_btf():
    fires("tp_btf/sys_enter", ppids, exact=False)


# --- functions through BTF --------------------------------------------------------------


@check
def check_fentry():
    fires("fentry/vfs_read", reads)


@check
def check_fexit():
    fires("fexit/vfs_read", reads)


@check
def check_fentry_cookie():
    with Counter() as counter, load(counter.code(cookie=True), "fentry/vfs_read") as program:
        shown(or_skip(links.attach, program, cookie=77), counter, reads)
        equal(counter.values()[1], 77)


@check
def check_fmod_ret():
    """It takes the function's place: reads fail with what it returns, and succeed again."""
    with Counter() as counter, load(counter.code(result=-13), "fmod_ret/security_file_permission") as program:
        with or_skip(links.attach, program):
            try:
                reads(1)
                raise AssertionError("the function's result was not replaced")
            except PermissionError:
                pass
        assert counter.count >= 1
        stopped(counter, reads)


@check
def check_lsm():
    fires("lsm/file_permission", reads, exact=False)


@check
def check_lsm_that_is_not_active():
    """Where BPF is no active security module the link is refused: 5.10 would attach it and never run it."""
    from pybpf.links import tracing

    path = f"/tmp/lsm-{os.getpid()}"
    with open(path, "w") as file:
        file.write("lockdown,capability,yama\n")
    real, tracing.LSM_LIST = tracing.LSM_LIST, path
    try:
        with Counter() as counter, load(counter.code(), "lsm/file_permission") as program:
            error = refused(links.attach, program)
            assert isinstance(error, NotSupported), error
            assert "lsm=lockdown,capability,yama,bpf" in str(error), error
    finally:
        tracing.LSM_LIST = real
        os.unlink(path)


# --- kprobes ------------------------------------------------------------------------------


@check
def check_kprobe():
    fires("kprobe/vfs_read", reads)


@check
def check_kretprobe():
    fires("kretprobe/vfs_read", reads)


@check
def check_kprobe_cookie():
    with Counter() as counter, load(counter.code(cookie=True), "kprobe/vfs_read") as program:
        shown(or_skip(links.attach, program, cookie=5), counter, reads)
        equal(counter.values()[1], 5)


@check
def check_kprobe_at_an_offset():
    """Some instruction after the first must be a place for a probe, and be passed by every call."""
    with Counter() as counter, load(counter.code(), "kprobe") as program:
        or_skip(links.attach_kprobe, program, "vfs_read").close()
        taken = 0
        for offset in range(1, 24):
            try:
                link = links.attach_kprobe(program, "vfs_read", offset)
            except LinkError:
                continue
            taken += 1
            shown(link, counter, reads)
        assert taken, "no offset of 1 to 23 took a probe"
        assert taken < 23, "every offset took a probe, as if each byte were an instruction"


@check
def check_kprobe_at_an_address():
    found = kallsyms.find(["vfs_read"]).get("vfs_read")
    if not found or not found[0].address:
        skip("the kernel hides its addresses")
    with Counter() as counter, load(counter.code(), "kprobe") as program:
        shown(or_skip(links.attach_kprobe, program, found[0].address), counter, reads)


def events(file):
    try:
        with open(f"{tracefs.root()}/{file}") as lines:
            return [line for line in lines if f":pybpf_{os.getpid()}_" in line]
    except (OSError, LinkError) as error:
        return skip(f"{file}: {error}")


@check
def check_kprobe_by_tracefs():
    """The fallback: a named event, gone when the link is closed."""
    events("kprobe_events")
    with Counter() as counter, load(counter.code(), "kprobe") as program:
        for returns in (False, True):
            link = or_skip(links.attach_kprobe, program, "vfs_read", returns=returns, order=("tracefs",))
            equal(len(events("kprobe_events")), 1)
            shown(link, counter, reads)
            equal(events("kprobe_events"), [])


@check
def check_kprobe_multi():
    with Counter() as counter, load(counter.code(), "kprobe.multi") as program:
        link = or_skip(links.attach_kprobe_multi, program, ["vfs_read", "vfs_write"], order=("kprobe.multi",))
        equal(link.info().fields.get("count"), 2)
        shown(link, counter, reads)


@check
def check_kprobe_multi_cookies():
    with Counter() as counter, load(counter.code(cookie=True), "kprobe.multi") as program:
        names = ["vfs_write", "vfs_read"]
        shown(or_skip(links.attach_kprobe_multi, program, names, cookies=[7, 8]), counter, reads)
        equal(counter.values()[1], 8)


@check
def check_kretprobe_multi():
    fires("kretprobe.multi/vfs_read", reads, order=("kprobe.multi",))


@check
def check_kprobe_multi_pattern():
    fires("kprobe.multi/vfs_rea[d]", reads)


@check
def check_kprobe_multi_falls_back():
    """Without one link for all, a kprobe.multi program takes an event for each function."""
    with Counter() as counter, load(counter.code(), "kprobe.multi") as program:
        names = ["vfs_read", "vfs_write"]
        link = or_skip(links.attach_kprobe_multi, program, names, order=("pmu", "tracefs"))
        equal(len(link), 2)
        shown(link, counter, reads)


@check
def check_kprobe_session():
    """Once at the entry and once at the return of each call."""
    with Counter() as counter, load(counter.code(), "kprobe.session/vfs_read") as program:
        shown(or_skip(links.attach, program), counter, reads, 10)


@check
def check_ksyscall():
    fires("ksyscall/getppid", ppids)


@check
def check_kprobe_of_what_is_no_function():
    with Counter() as counter, load(counter.code(), "kprobe") as program:
        or_skip(links.attach_kprobe, program, "vfs_read").close()
        error = refused(links.attach_kprobe, program, "no_such_function")
        assert "this kernel has no function 'no_such_function'" in str(error), error


# --- uprobes ------------------------------------------------------------------------------


def libc():
    """The C library of this Python, by its file."""
    from pybpf.links.libraries import mapped

    for path in mapped(os.getpid()):
        name = os.path.basename(path)
        if name.startswith(("libc.so", "libc-", "ld-musl")):
            return path
    return skip("this Python has no C library of its own file (static)")


@check
def check_uprobe():
    fires("uprobe", ppids, binary=libc(), function="getppid")


@check
def check_uprobe_by_library_name():
    libc()
    fires("uprobe/c:getppid", ppids)


@check
def check_uretprobe():
    fires("uretprobe", ppids, binary=libc(), function="getppid")


@check
def check_uprobe_cookie():
    with Counter() as counter, load(counter.code(cookie=True), "uprobe") as program:
        shown(or_skip(links.attach, program, binary=libc(), function="getppid", cookie=11), counter, ppids)
        equal(counter.values()[1], 11)


@check
def check_uprobe_of_a_process():
    """Only the process asked for: another's calls do not count, ours do."""
    path = libc()
    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
    try:
        with Counter() as counter, load(counter.code(), "uprobe") as program:
            with or_skip(links.attach_uprobe, program, path, "getppid", pid=child):
                ppids()
                equal(counter.count, 0)
            shown(or_skip(links.attach_uprobe, program, path, "getppid", pid=0), counter, ppids)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


@check
def check_uprobe_by_tracefs():
    path = libc()
    events("uprobe_events")
    with Counter() as counter, load(counter.code(), "uprobe") as program:
        link = or_skip(links.attach_uprobe, program, path, "getppid", order=("tracefs",))
        equal(len(events("uprobe_events")), 1)
        shown(link, counter, ppids)
        equal(events("uprobe_events"), [])


@check
def check_uprobe_multi():
    with Counter() as counter, load(counter.code(), "uprobe.multi") as program:
        names = ["getppid", "getuid"]
        shown(or_skip(links.attach_uprobe_multi, program, libc(), names, order=("uprobe.multi",)), counter, ppids)


@check
def check_uprobe_multi_cookies():
    with Counter() as counter, load(counter.code(cookie=True), "uprobe.multi") as program:
        names = ["getuid", "getppid"]
        shown(or_skip(links.attach_uprobe_multi, program, libc(), names, cookies=[21, 22]), counter, ppids)
        equal(counter.values()[1], 22)


@check
def check_uretprobe_multi():
    options = {"binary": libc(), "functions": ["getppid"], "order": ("uprobe.multi",)}
    fires("uretprobe.multi", ppids, **options)


@check
def check_uprobe_multi_falls_back():
    with Counter() as counter, load(counter.code(), "uprobe.multi") as program:
        link = or_skip(links.attach_uprobe_multi, program, libc(), ["getppid", "getuid"], order=("pmu",))
        equal(len(link), 2)
        shown(link, counter, ppids)


@check
def check_uprobe_session():
    """Once at the entry and once at the return of each call."""
    with Counter() as counter, load(counter.code(), "uprobe.session") as program:
        shown(or_skip(links.attach, program, binary=libc(), functions=["getppid"]), counter, ppids, 10)


@check
def check_usdt():
    """The probe of a program with a semaphore, which is up only while it is traced."""
    path = f"/tmp/usdt-{os.getpid()}"
    usdt_program(path)
    try:
        with Counter() as counter:
            for section in ("usdt", "uprobe.multi"):
                with load(counter.code(own=False), section) as program:
                    equal(run(path), 0)
                    before = counter.count
                    with or_skip(links.attach_usdt, program, path, "demo", "hit"):
                        equal((run(path), counter.count - before), (1, 1))
                    equal((run(path), counter.count - before), (0, 1))
    finally:
        os.unlink(path)


# --- iterators, samples ------------------------------------------------------------------


@check
def check_iterator_of_tasks():
    with load(writer(), "iter/task") as program:
        with or_skip(links.attach, program) as link:
            count = len(list(link.lines()))
            assert count >= len([name for name in os.listdir("/proc") if name.isdigit()]) // 2, count
            equal(set(link.lines()), {"pybpf 1"})
            assert len(link.read()) % 8 == 0
        assert "closed" in str(refused(link.read))


@check
def check_iterator_of_one_process():
    with load(writer(), "iter/task") as program, or_skip(links.attach, program, pid=os.getpid()) as link:
        # Its only thread, and the walk's end, which has no task.
        equal(link.read(), b"pybpf 1\n" * 2)


@check
def check_iterator_of_a_map():
    from pybpf.maps import Map
    from pybpf.object.spec import MapSpec

    # The element's key is a null pointer at the walk's end, which counts as a call too.
    with (
        Map.create(MapSpec("walked", abi.MAP_TYPE_ARRAY, 4, 8, 3)) as map,
        load(writer(), "iter/bpf_map_elem") as program,
        or_skip(links.attach, program, map=map) as link,
    ):
        equal(link.read(), b"pybpf 1\n" * 4)


def busy():
    # An emulated processor may be held up for most of it.
    end = time.process_time() + (0.5 if in_guest() else 0.1)
    while time.process_time() < end:
        pass


@check
def check_perf_event():
    with Counter() as counter, load(counter.code(own=False), "perf_event") as program:
        for options in ({"frequency": 1000}, {"period": 1_000_000}):
            shown(or_skip(links.attach, program, event="cpu-clock", **options), counter, busy, 2, exact=False)
        link = or_skip(links.attach_perf_event, program, "task-clock", frequency=1000, pid=os.getpid())
        shown(link, counter, busy, 2, exact=False)


@check
def check_perf_event_of_the_hardware():
    with Counter() as counter, load(counter.code(own=False), "perf_event") as program:
        shown(or_skip(links.attach, program, event="cycles", period=100_000), counter, busy, 2, exact=False)


# --- what links can do ---------------------------------------------------------------------


@check
def check_link_info():
    with Counter() as counter, load(counter.code(), "raw_tp/sys_enter") as program, links.attach(program) as link:
        info = link.info()
        equal((info.type, info.program_id, info.fields["name"]), ("raw_tracepoint", program.info().id, "sys_enter"))
        with links.open_by_id(info.id) as same:
            equal(same.info().id, info.id)


@check
def check_link_pinned():
    """A pin keeps a link alive that nobody has open; removing it detaches."""
    path = f"/sys/fs/bpf/pybpf-check-{os.getpid()}"
    with Counter() as counter, load(counter.code(), TRACEPOINT) as program:
        link = or_skip(links.attach, program)
        if not link.bpf_link:
            link.close()
            skip(f"no bpf link of a perf event: {link.attempts[0].error}")
        try:
            or_skip(link.pin, path)
            link.close()
            ppids()
            equal(counter.count, 5)
            with links.open_pinned(path) as again:
                equal(again.info().program_id, program.info().id)
        finally:
            link.close()
            if os.path.exists(path):
                os.unlink(path)
        stopped(counter, ppids)


@check
def check_attach_all():
    """All programs of a collection by their sections; none is left attached when one cannot be."""

    class Collection:
        def __init__(self, *programs):
            self.programs = {program.name: program for program in programs}

    with Counter() as counter:
        code = counter.code()
        with (
            load(code, TRACEPOINT, "one") as one,
            load(code, TRACEPOINT, "two") as two,
            load(code, "tp/no/such_event", "bad") as bad,
        ):
            shown(or_skip(links.attach_all, Collection(one, two)), counter, ppids, 10)
            assert "no tracepoint no/such_event" in str(refused(links.attach_all, Collection(one, two, bad)))
            stopped(counter, ppids)


@check
def check_attach_first():
    """Of several programs for one event, the first that the kernel takes; the link tells what was tried."""
    with Counter() as counter:
        code = counter.code()
        with load(code, "tp/no/such_event", "one") as one, load(code, TRACEPOINT, "two") as two:
            link = or_skip(links.attach_first, [one, two])
            equal(link.attempts[0].mechanism, "tp/no/such_event")
            shown(link, counter, ppids)


@check
def check_freplace():
    """A function of a loaded program is replaced, and comes back."""
    from pybpf.errors import LoadError
    from pybpf.loader import Collection

    spec = programs("links")
    with Collection(spec, ["asks"]) as collection:
        asks = collection.programs["asks"]
        equal(asks.test_run(bytes(64)).retval, 42)
        spec.programs["replacement"].section = "freplace/answer"
        try:
            replacing = Collection(spec, ["replacement"], targets={"replacement": asks})
        except LoadError as error:
            skip(str(error))
        with replacing:
            program = replacing.programs["replacement"]
            with or_skip(links.attach, program):
                equal(asks.test_run(bytes(64)).retval, 82)
            equal(asks.test_run(bytes(64)).retval, 42)
            with or_skip(links.attach_freplace, program, asks, function_id(asks, "answer")):
                equal(asks.test_run(bytes(64)).retval, 82)
            equal(asks.test_run(bytes(64)).retval, 42)
