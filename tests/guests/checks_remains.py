"""What remains after detaching, and after a kill: nothing, by the objects' ids."""

from __future__ import annotations

import json
import os
import signal
import time

from pybpf import kernel, links, tracefs
from pybpf.errors import LinkError
from pybpf.links import probe_events
from tests.guests.checks import Skip, check, equal, figure, objects, skip
from tests.guests.checks_links import TRACEPOINT, events, libc
from tests.guests.checks_netlinks import PASS, make_group
from tests.guests.linkkit import Counter, load, own_network

# Every mechanism that attaches, by section and options; those of networks with what their programs return.
TRACING = (
    ("raw_tp/sys_enter", {}),
    ("tp_btf/sys_enter", {}),
    (TRACEPOINT, {}),
    ("fentry/vfs_read", {}),
    ("fexit/vfs_read", {}),
    ("lsm/file_permission", {}),
    ("kprobe/vfs_read", {}),
    ("kprobe/vfs_read", {"order": ("tracefs",)}),
    ("kretprobe/vfs_read", {}),
    ("kretprobe/vfs_read", {"maxactive": 64}),
    ("kprobe.multi/vfs_rea[d]", {"order": ("kprobe.multi",)}),
    ("perf_event", {"event": "cpu-clock", "frequency": 10}),
)
PROBES = (
    ("uprobe/c:getppid", {}),
    ("uprobe/c:getppid", {"order": ("tracefs",)}),
    ("uretprobe/c:getppid", {}),
    ("uprobe.multi/c:getppid", {"order": ("uprobe.multi",)}),
)
NETWORK = (
    ("xdp", PASS["xdp"], {"interface": "lo", "order": ("bpf link",)}),
    ("tcx/ingress", PASS["tc"], {"interface": "lo"}),
    ("netfilter", PASS["netfilter"], {"family": "ipv4", "hook": "input", "priority": -10}),
    ("sk_lookup", PASS["sk"], {}),
    ("flow_dissector", 0, {}),
)


class Holder:
    """In the process that is killed: what it has attached, and the numbers of all that."""

    def __init__(self):
        self.counter = Counter()
        self.kept = [self.counter]
        self.ids = [("map", self.counter.map.id())]
        self.ways = []

    def attach(self, section, options, **code):
        """Attach if this kernel can."""
        from btf.errors import Error

        try:
            program = load(self.counter.code(**code), section)
            link = links.attach(program, **options)
        except (Error, Skip):
            return
        self.kept += [program, link]
        self.ids.append(("program", program.info().id))
        if link.bpf_link:
            self.ids.append(("link", link.info().id))
        order = "tracefs" if "maxactive" in options else "".join(options.get("order", ()))
        self.ways.append(f"{section.partition('/')[0]}{' by ' if order else ''}{order}")


def hold_everything(group):
    holder = Holder()
    for section, options in (*TRACING, *PROBES):
        holder.attach(section, options, own=section != "perf_event")
    for section, result, options in NETWORK:
        holder.attach(section, options, own=False, result=result)
    if group:
        holder.attach("cgroup_skb/egress", {"path": group, "order": ("bpf link",)}, own=False, result=PASS["cgroup"])
    return holder


@check(timeout=60)
def check_killed_process_leaves_nothing():
    """SIGKILL while attached by every mechanism that there is: no program, map, link or probe remains."""
    own_network()
    try:
        group = make_group()
    except Skip:
        group = ""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            holder = hold_everything(group)
            os.write(writing, json.dumps([holder.ids, holder.ways]).encode())
            time.sleep(300)
        finally:
            os._exit(1)
    os.close(writing)
    try:
        told = os.read(reading, 1 << 16)
        assert told, "the process to be killed ended by itself"
        ids, ways = json.loads(told)
        made = {(noun, number) for noun, number in ids}
        equal(made - objects(), set())
        assert "raw_tp" in ways, ways
        equal(len(probes_of(child)), sum(way.endswith(" by tracefs") for way in ways))
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if group:
            os.rmdir(group)
    print(f"held when killed: {', '.join(ways)}")
    figure("mechanisms held when killed", len(ways))
    end = time.monotonic() + 60
    while (left := (made & objects(), probes_of(child))) != (set(), []) and time.monotonic() < end:
        time.sleep(0.05)
    equal(left, (set(), []))


def probes_of(pid):
    """The probes in tracefs that a process has made."""
    found = []
    for file in probe_events.FILES:
        try:
            with open(f"{tracefs.root()}/{file}") as lines:
                found += [line for line in lines if f":pybpf_{pid}_" in line]
        except (OSError, LinkError):
            continue
    return found


@check
def check_dead_makers_probe_is_swept():
    """What even a janitor could not remove goes when the next tracer makes a probe."""
    events("uprobe_events")
    path = f"{tracefs.root()}/uprobe_events"
    name = "pybpf_999999999_1/e1"
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        # It is not turned on, so that any place will do.
        os.write(fd, f"p:{name} {libc()}:0x1000\n".encode())
    finally:
        os.close(fd)
    assert name in probe_events.sweep("uprobe_events")
    with open(path) as file:
        assert name not in file.read()


def memory():
    """Resident kilobytes of this process."""
    try:
        with open("/proc/self/smaps_rollup") as file:
            return int(file.read().partition("Rss:")[2].split()[0])
    except OSError as error:
        return skip(f"smaps_rollup: {error.strerror}")  # statm may be wrong by 64 pages before 6.2


@check(timeout=60)
def check_thousand_cycles():
    """Loading, attaching and detaching a thousand times leaves descriptors and memory as they were."""
    with Counter() as counter:
        code = counter.code()

        def cycle():
            with load(code, "raw_tp/sys_enter") as program, links.attach(program):
                pass

        for _ in range(50):
            cycle()
        fds, kilobytes = len(os.listdir("/proc/self/fd")), memory()
        for _ in range(1000):
            cycle()
        equal(len(os.listdir("/proc/self/fd")), fds)
        equal(kernel.open_fds(), [f"{counter.map.fd} map 'count'"])
        grown = memory() - kilobytes
        figure("growth in 1,000 cycles of load and attach, kB", grown)
        assert grown <= 128, grown
