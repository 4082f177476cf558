"""Links of networks, control groups and sockets: each fires, in a network of its own, and stops when detached."""

from __future__ import annotations

import os
import socket
import struct
import sys
import time

from pybpf import abi, cgroups, commands, links
from pybpf.errors import LinkError, SyscallError
from pybpf.links import netlink
from pybpf.maps import Map
from pybpf.object.spec import MapSpec
from tests.guests.checks import check, equal, skip
from tests.guests.linkkit import (
    Counter,
    datagrams,
    load,
    or_skip,
    own_network,
    refused,
    shown,
    stopped,
)

# In a guest it lies beside the checks; in PYTHONPATH every Python would read the archive's directory.
sys.path.append("/project/pyroute2.zip")
try:
    # A second of a real machine, ten of a guest: once for all checks.
    import pyroute2  # noqa: F401
except ImportError:  # the checks say so
    pass

PASS = {"xdp": 2, "tc": 0, "cgroup": 1, "netfilter": 1, "sk": 1}


def network(section, result, act=datagrams, exact=True, runs=5, **options):
    """Attach a counting program in a network of our own; see it run for each packet, and stop."""
    own_network()
    with Counter() as counter, load(counter.code(result, own=False), section) as program:
        return shown(or_skip(links.attach, program, **options), counter, act, runs, exact)


# --- interfaces -----------------------------------------------------------------------


@check
def check_xdp():
    network("xdp", PASS["xdp"], interface="lo")


@check
def check_xdp_by_netlink():
    own_network()
    with Counter() as counter, load(counter.code(PASS["xdp"], own=False), "xdp") as program:
        link = or_skip(links.attach_xdp, program, "lo", mode="generic", order=("netlink",))
        second = refused(links.attach_xdp, program, "lo", mode="generic", order=("netlink",))
        assert "has an XDP program already" in str(second), second
        shown(link, counter, datagrams)


@check
def check_xdp_updated():
    """Another program takes over with no packet lost between; the wrong old one is refused."""
    own_network()
    with (
        Counter() as old_counter,
        Counter() as new_counter,
        load(old_counter.code(PASS["xdp"], own=False), "xdp", "old") as old,
        load(new_counter.code(PASS["xdp"], own=False), "xdp", "new") as new,
        or_skip(links.attach, old, interface="lo") as link,
    ):
        datagrams()
        equal((old_counter.count, new_counter.count), (5, 0))
        link.update(new, old)
        datagrams()
        equal((old_counter.count, new_counter.count), (5, 5))
        assert "does not run" in str(refused(link.update, new, old))
        equal(link.info().program_id, new.info().id)


@check
def check_tcx():
    for direction in ("ingress", "egress"):
        network(f"tcx/{direction}", PASS["tc"], interface="lo")


@check
def check_tcx_chain():
    """Programs go where they are told: before, after, else to the end."""
    own_network()
    index = socket.if_nametoindex("lo")
    with Counter() as counter:
        made = [load(counter.code(-1, own=False), "tcx/ingress", name) for name in ("a", "b", "c", "d")]
        first, second, third, fourth = made
        try:
            with (
                or_skip(links.attach, second, interface="lo") as link,
                links.attach(first, interface="lo", before=link),
                links.attach(fourth, interface="lo"),
                links.attach(third, interface="lo", after=second),
            ):
                ids, _ = commands.prog_query(index, abi.TCX_INGRESS)
                equal(ids, [program.info().id for program in made])
                assert "in this chain already" in str(refused(links.attach, third, interface="lo"))
            equal(commands.prog_query(index, abi.TCX_INGRESS)[0], [])
        finally:
            for program in made:
                program.close()


@check
def check_netkit():
    """A program of a netkit device, for what is sent through it."""
    own_network()
    kind = netlink.attribute(18, netlink.attribute(1, b"netkit"))  # IFLA_LINKINFO, IFLA_INFO_KIND
    head = struct.pack("=BxHiII", 0, 0, 0, 0, 0)
    try:
        # RTM_NEWLINK; NLM_F_ACK, NLM_F_CREATE and NLM_F_EXCL.
        netlink.request(16, head + netlink.attribute(3, b"primary\0") + kind, 4 | 0x600)
    except OSError as error:
        skip(f"no netkit device can be made: {os.strerror(error.errno)} (Linux 6.7, CONFIG_NETKIT)")
    for _, name in socket.if_nameindex():
        netlink.request(19, struct.pack("=BxHiII", 0, 0, socket.if_nametoindex(name), 1, 1))  # RTM_SETLINK: up

    def act():
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("primary", 0x0800))
            for _ in range(5):
                sender.send(bytes(60))

    with Counter() as counter, load(counter.code(PASS["tc"], own=False), "netkit/primary") as program:
        shown(or_skip(links.attach, program, interface="primary"), counter, act)


@check
def check_tc_takes_the_better():
    """A tc program goes by tcx where there is one, else by clsact; the link tells."""
    own_network()
    with Counter() as counter, load(counter.code(PASS["tc"], own=False), "tc") as program:
        for direction in ("ingress", "egress"):
            link = or_skip(links.attach, program, interface="lo", direction=direction)
            assert link.mechanism in ("tcx", "clsact"), link.attempts
            shown(link, counter, datagrams)


@check
def check_tc_clsact():
    """Two filters of a qdisc made for them; the first stays when the second goes, the qdisc goes with the last."""
    own_network()
    index = socket.if_nametoindex("lo")
    with (
        Counter() as counter,
        Counter() as other,
        load(counter.code(-1, own=False), "tc") as program,
        load(other.code(PASS["tc"], own=False), "tc") as second,
    ):
        link = or_skip(links.attach_tc, program, "lo", order=("clsact",))
        after = links.attach_tc(second, "lo", order=("clsact",))
        equal([item[1] for item in netlink.filters(index, netlink.PARENTS["ingress"])], [1, 2])
        datagrams()
        equal((counter.count, other.count), (5, 5))
        after.close()
        stopped(other, datagrams)
        shown(link, counter, datagrams)
        assert no_filters(index)


def no_filters(index):
    """Whether there is no clsact any more: some kernels answer nothing then, others that there is no such qdisc."""
    try:
        return not netlink.filters(index, netlink.PARENTS["ingress"])
    except OSError:
        return True


@check(timeout=60)
def check_killed_process_leaves_no_filter():
    """SIGKILL while a tc filter, an XDP program by netlink and a control group's program are attached."""
    own_network()
    index = socket.if_nametoindex("lo")
    group = make_group()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            counter = Counter()
            keep, said = [counter], []
            for section, result, function, options in (
                ("tc", 0, links.attach_tc, {"interface": "lo", "order": ("clsact",)}),
                ("xdp", 2, links.attach_xdp, {"interface": "lo", "mode": "generic", "order": ("netlink",)}),
                ("cgroup_skb/egress", 1, links.attach_cgroup, {"path": group, "order": ("attach",)}),
            ):
                try:
                    program = load(counter.code(result, own=False), section)
                    keep += [program, function(program, **options)]
                    said.append(f"{section}={program.info().id}")
                except SyscallError as error:
                    said.append(f"{section}: {error}")
            os.write(writing, "\n".join(said).encode())
            time.sleep(60)
        finally:
            os._exit(1)
    os.close(writing)
    try:
        text = os.read(reading, 4096).decode()
    finally:
        os.close(reading)
        os.kill(child, 9)
        os.waitpid(child, 0)
    ids = {int(line.partition("=")[2]) for line in text.splitlines() if "=" in line}
    assert any(line.startswith("cgroup_skb/egress=") for line in text.splitlines()), text
    try:
        end = time.monotonic() + 30
        while (left := ids & set(commands.ids(commands.prog_get_next_id))) and time.monotonic() < end:
            time.sleep(0.05)
        equal(left, set())
        assert no_filters(index)
    finally:
        os.rmdir(group)


@check
def check_netfilter():
    for hook in ("input", "output"):
        network("netfilter", PASS["netfilter"], family="ipv4", hook=hook, priority=-10)


@check
def check_sk_lookup():
    """Asked for each packet whose receiver is looked up among the sockets that listen."""
    network("sk_lookup", PASS["sk"], exact=False)


@check
def check_flow_dissector():
    """Asked when packets are hashed, here to share them among packet sockets."""

    def act():
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as one:
            one.bind(("lo", 0))
            one.setsockopt(263, 18, os.getpid() & 0xFFFF)  # SOL_PACKET, PACKET_FANOUT: by hash
            datagrams()

    own_network()
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    except OSError as error:
        skip(f"packet sockets: {error}")
    with Counter() as counter, load(counter.code(0, own=False), "flow_dissector") as program:
        shown(or_skip(links.attach, program), counter, act, 5, exact=False)


# --- control groups ---------------------------------------------------------------------


def make_group():
    """A new control group."""
    try:
        path = f"{cgroups.root()}/pybpf-check-{os.getpid()}"
        os.mkdir(path)
    except (SyscallError, OSError) as error:
        skip(f"control group: {error}")
    return path


class Inside:
    """This process is in a control group of its own meanwhile."""

    def __enter__(self):
        self.path = make_group()
        self.home = cgroups.of_process()
        self.move(self.path)
        return self.path

    def move(self, path):
        with open(path + "/cgroup.procs", "w") as file:
            file.write(str(os.getpid()))

    def __exit__(self, *_):
        self.move(self.home)
        os.rmdir(self.path)


@check
def check_cgroup():
    own_network()
    with Inside() as path, Counter() as counter:
        for section in ("cgroup_skb/ingress", "cgroup_skb/egress"):
            with load(counter.code(PASS["cgroup"], own=False), section) as program:
                link = or_skip(links.attach, program, path=path)
                equal(link.info().fields["cgroup_id"] & 0xFFFFFFFF, cgroups.id_of(path) & 0xFFFFFFFF)
                shown(link, counter, datagrams)


@check
def check_cgroup_the_old_way():
    own_network()
    with Inside() as path, Counter() as counter:
        for flags in (0, abi.F_ALLOW_MULTI):
            with load(counter.code(PASS["cgroup"], own=False), "cgroup_skb/egress") as program:
                link = or_skip(links.attach_cgroup, program, path, flags=flags, order=("attach",))
                equal(link.mechanism, "attach")
                shown(link, counter, datagrams)


@check
def check_cgroup_sockets():
    def act():
        for _ in range(5):
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()

    own_network()
    with Inside() as path, Counter() as counter:
        with load(counter.code(1), "cgroup/sock_create") as program:
            shown(or_skip(links.attach, program, path=path), counter, act)
        with load(counter.code(0), "cgroup/sock_create") as program, or_skip(links.attach, program, path=path) as link:
            try:
                act()
                raise AssertionError("a socket was made against the program's will")
            except PermissionError:
                pass
            link.detach()
            act()


@check
def check_sockops():
    """Told of what becomes of TCP connections made by processes in the group."""
    own_network()
    with Inside() as path, Counter() as counter:

        def act():
            for end in connected():
                end.close()

        with load(counter.code(1, own=False), "sockops") as program:
            shown(or_skip(links.attach, program, path=path), counter, act, 2, exact=False)


@check
def check_lsm_cgroup():
    """A security hook for the processes of one group only."""

    def act():
        for _ in range(5):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                one.bind(("127.0.0.1", 0))

    own_network()
    with Inside() as path, Counter() as counter, load(counter.code(1, own=False), "lsm_cgroup/socket_bind") as program:
        shown(or_skip(links.attach, program, path=path), counter, act)


@check
def check_cgroup_link_updated():
    own_network()
    with (
        Inside() as path,
        Counter() as one_counter,
        Counter() as two_counter,
        load(one_counter.code(1, own=False), "cgroup_skb/egress", "one") as one,
        load(two_counter.code(1, own=False), "cgroup_skb/egress", "two") as two,
        or_skip(links.attach, one, path=path) as link,
    ):
        datagrams()
        link.update(two)
        datagrams()
        equal((one_counter.count, two_counter.count), (5, 5))


@check
def check_cgroup_link_detached_for_all():
    """BPF_LINK_DETACH ends it although another descriptor is open, and that one then shows no program."""
    own_network()
    with Inside() as path, Counter() as counter, load(counter.code(1, own=False), "cgroup_skb/egress") as program:
        link = or_skip(links.attach, program, path=path)
        with links.open_by_id(link.info().id) as other:
            datagrams()
            equal(counter.count, 5)
            link.detach()
            stopped(counter, datagrams)
            equal(other.info().fields["cgroup_id"], 0)


@check
def check_cgroup_that_is_none():
    with Counter() as counter, load(counter.code(1, own=False), "cgroup_skb/egress") as program:
        assert "is no control group" in str(refused(links.attach, program, path="/proc"))
        first_version = [mount.path for mount in cgroups.mounts() if mount.version == 1]
        if first_version:
            assert "version 1" in str(refused(links.attach, program, path=first_version[0]))


# --- sockets ----------------------------------------------------------------------------


def connected():
    """Two TCP sockets that talk to each other."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        # create_connection looks names up, which small Pythons have no codec for.
        client = socket.socket()
        client.settimeout(10)
        client.connect(server.getsockname())
        peer, _ = server.accept()
    peer.settimeout(10)
    return client, peer


def sockmap(section, code, order):
    """A program of a sockmap, whose only socket receives (sk_skb) or sends (sk_msg)."""
    own_network()
    client, peer = connected()
    with (
        client,
        peer,
        Counter() as counter,
        Map.create(MapSpec("sockets", abi.MAP_TYPE_SOCKMAP, 4, 4, 2)) as map,
        load(code(counter), section) as program,
    ):

        def act():
            for _ in range(5):
                client.send(b"hello")
                equal(peer.recv(5), b"hello")

        link = or_skip(links.attach, program, map=map, order=order)
        member = peer if section.startswith("sk_skb") else client
        try:
            map.update(bytes(4), struct.pack("=i", member.fileno()))
        except SyscallError as error:
            link.close()
            skip(f"sockmap: {error}")
        try:
            with link:
                act()
                assert counter.count >= 5, counter.count
        finally:
            map.delete(bytes(4))
        stopped(counter, act)


@check
def check_sk_skb():
    sockmap("sk_skb/stream_verdict", lambda counter: counter.code(PASS["sk"], own=False), ("attach",))


@check
def check_sk_msg():
    sockmap("sk_msg", lambda counter: counter.code(PASS["sk"], own=False), ("attach",))


@check
def check_sk_msg_by_link():
    sockmap("sk_msg", lambda counter: counter.code(PASS["sk"], own=False), ("bpf link",))


@check
def check_socket_filter():
    own_network()
    with (
        Counter() as counter,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        load(counter.code(0x7FFFFFFF, own=False), "socket") as program,
    ):
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)

        def act():
            for _ in range(5):
                client.sendto(b"x", server.getsockname())
                server.recv(10)

        shown(links.attach(program, socket=server), counter, act)


@check
def check_reuseport():
    own_network()
    with (
        Counter() as counter,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        load(counter.code(PASS["sk"], own=False), "sk_reuseport") as program,
    ):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        second = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with second:
            second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            second.bind(server.getsockname())

            def act():
                for _ in range(5):
                    client.sendto(b"x", server.getsockname())

            shown(or_skip(links.attach, program, socket=server), counter, act)


@check
def check_no_such_interface():
    with Counter() as counter, load(counter.code(2, own=False), "xdp") as program:
        error = refused(links.attach, program, interface="no-such-if")
        assert isinstance(error, LinkError), error
        assert "no network interface 'no-such-if'" in str(error), error
