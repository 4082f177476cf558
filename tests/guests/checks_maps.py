"""Every map type: made, used as it is meant to be, read back; batches, iteration, pins, memory."""

from __future__ import annotations

import os
import socket
import struct
import threading

from pybpf import abi, kernel
from pybpf.errors import LoadError, MapError, SyscallError
from pybpf.features import types
from pybpf.maps.create import create, struct_ops
from tests.guests.checks import check, connected_to, equal, figure, skip
from tests.guests.mapkit import UNSUPPORTED, cgroup2, lacking, make, options, put, refused

# --- hashes and arrays ----------------------------------------------------------------


def check_table(kind, deletes, **more):
    with make(kind, "I", "=IQ", 64, name=kind, **more) as table:
        for number in range(5):
            table[number] = number + 1, number << 40
        equal(table[3], (4, 3 << 40))
        equal(table.get(99), None)
        equal({key: value for key, value in table.items() if value != (0, 0)}, {n: (n + 1, n << 40) for n in range(5)})
        if deletes:
            equal(sorted(table), [0, 1, 2, 3, 4])
            del table[0]
            assert 0 not in table
            equal(table.pop(1), (2, 1 << 40))
            equal(table.pop(1, "gone"), "gone")
            equal(table.discard([2, 77, 3]), 2)
            equal(list(table.keys()), [4])
            refused(lambda: table.set(4, (0, 0), abi.NOEXIST), 17)
            refused(lambda: table.set(5, (0, 0), abi.EXIST), 2)
        else:
            equal(len(list(table)), 64)
            refused(lambda: table.map.delete(bytes(4)), 22)
            refused(lambda: table.set(64, (0, 0)), 7)


@check
def check_hash():
    check_table("hash", True)
    check_table("hash", True, flags=abi.F_NO_PREALLOC)


@check
def check_lru_hash():
    check_table("lru_hash", True)
    with make("lru_hash", "I", "I", 64, name="small") as table:
        for number in range(2000):
            table[number] = number
        assert 0 < len(list(table)) <= 128, "old entries make room"


@check
def check_rhash():
    check_table("rhash", True)


@check
def check_array():
    check_table("array", False)


def check_per_cpu(kind):
    count = kernel.possible_cpus()
    with make(kind, "I", "=3B", 8, name=kind) as table:
        table[1] = 1, 2, 3
        equal(table[1], [(1, 2, 3)] * count)
        values = [(cpu, cpu + 1, 255) for cpu in range(count)]
        table[2] = values
        equal(table[2], values)
        equal(dict(table.items())[2], values)
        equal(table.map.width, 8 * count)
        refused(lambda: table.set(2, values[1:] + values + values), 22)


@check
def check_percpu_hash():
    check_per_cpu("percpu_hash")


@check
def check_lru_percpu_hash():
    check_per_cpu("lru_percpu_hash")


@check
def check_percpu_array():
    check_per_cpu("percpu_array")


@check
def check_lpm_trie():
    from pybpf.maps.lpm import Network, Prefix

    with make("lpm_trie", Network(), "I", 16, name="routes") as routes:
        routes["0.0.0.0/0"] = 1
        routes["10.0.0.0/8"] = 2
        routes["10.1.0.0/16"] = 3
        equal([routes[address] for address in ("10.1.2.3", "10.2.0.1", "192.168.0.1")], [3, 2, 1])
        equal(sorted(routes), ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16"])
        del routes["10.1.0.0/16"]
        equal(routes["10.1.2.3"], 2)
    if socket.has_ipv6:  # not in every firmware's Python
        with make("lpm_trie", Network(6), "I", 4, name="routes6") as routes:
            routes["fe80::/10"] = 7
            equal((routes["fe80::1"], routes.get("::1")), (7, None))
    with make("lpm_trie", Prefix(16), "I", 4, name="paths") as paths:
        paths["/etc/"] = 9
        equal((paths["/etc/passwd"], list(paths)), (9, [(b"/etc/".ljust(16, b"\0"), 40)]))


# --- without keys ---------------------------------------------------------------------


@check
def check_queue_and_stack():
    from pybpf.maps.queues import Queue

    for kind, order in (("queue", [1, 2, 3]), ("stack", [3, 2, 1])):
        with make(kind, None, "I", 3, name=kind) as made:
            queue = Queue(made.map, "I")
            equal((queue.pop(), queue.peek("none")), (None, "none"))
            equal([queue.push(number) for number in (1, 2, 3, 4)], [True, True, True, False])
            equal(queue.peek(), order[0])
            equal(list(queue.drain()), order)
            for number in range(5):
                queue.push(number, replace=True)
            equal(sorted(queue.drain()), [2, 3, 4])


@check
def check_bloom_filter():
    from pybpf.maps.queues import Bloom

    with make("bloom_filter", None, "Q", 1000, name="bloom", map_extra=5) as made:
        bloom = Bloom(made.map, "Q")
        for number in range(0, 2000, 2):
            bloom.add(number)
        assert all(number in bloom for number in range(0, 2000, 2))
        wrong = sum(number in bloom for number in range(1, 2000, 2))
        assert wrong < 200, f"{wrong} of 1000 numbers are taken for present"
        equal(made.map.info().map_extra, 5)


# --- objects --------------------------------------------------------------------------


def program(type, value=0, flags=0):
    """A program that returns ``value``; the caller owns the descriptor."""
    code = struct.pack("=BBhi", 0xB7, 0, 0, value) + struct.pack("=BBhi", 0x95, 0, 0, 0)
    fd = kernel.prog_load(type, code, "GPL", name="ret", flags=flags)
    if fd < 0:
        raise LoadError(f"BPF_PROG_LOAD of type {type}: {kernel.errno_text(-fd)}", -fd)
    return kernel.Fd(fd, "program")


def id_of(fd):
    return struct.unpack_from("=I", kernel.obj_get_info(fd, 8), 4)[0]


def misread(map, fd):
    """Whether a 32-bit kernel tells of another slot than it is asked for: seen here, and refused by pybpf."""
    from pybpf.maps import objects

    if not objects.misread(map.type):
        return False
    one, two = struct.pack("=I", 1), struct.pack("=I", 2)
    map.update(two, struct.pack("=i", fd))
    assert map.lookup(one) is not None, "slot 1 is empty, and the kernel says so"
    assert map.delete(two)
    error = refused(lambda: objects.Objects(map).id(1), 22)
    assert "32-bit kernel" in str(error), error
    return True


MISREAD = "a 32-bit kernel answers with slot 2 when asked for slot 1"


@check
def check_prog_array():
    from pybpf.maps.objects import ProgArray

    with make("prog_array", max_entries=4, name="calls") as made, program(abi.PROG_TYPE_SOCKET_FILTER) as target:
        if misread(made.map, target.fd):
            skip(MISREAD)
        calls = ProgArray(made.map)
        calls[2] = target
        equal((calls.id(2), calls.id(0)), (id_of(target.fd), None))
        equal(list(calls.ids()), [(2, id_of(target.fd))])
        with program(abi.PROG_TYPE_XDP) as other:
            refused(lambda: calls.set(1, other), 22)
        del calls[2]
        equal(list(calls.ids()), [])


@check
def check_maps_of_maps():
    from pybpf.maps.objects import MapOfMaps

    told = ""
    with create("array", None, "I", 2, name="inner") as inner, create("array", None, "I", 2, name="other") as other:
        for kind, key in (("array_of_maps", None), ("hash_of_maps", "I")):
            with make(kind, key, None, 4, inner=inner.map, name=kind) as made:
                if misread(made.map, inner.map.fd):
                    told = MISREAD
                    continue
                outer = MapOfMaps(made.map)
                outer[1] = inner
                outer[3] = other
                inner[0] = 42
                equal(dict(outer.ids()), {1: inner.map.id(), 3: other.map.id()})
                with outer.open(1) as opened:
                    equal(opened.typed(int, int)[0], 42)
                    equal((opened.type, opened.name), (abi.MAP_TYPE_ARRAY, "inner"))
                equal(outer.open(0), None)
                with create("hash", "I", "I", 2, name="wrong") as wrong:
                    refused(lambda wrong=wrong, outer=outer: outer.set(0, wrong), 22)
                del outer[1]
                equal(outer.id(1), None)
    if told:
        skip(told)


@check
def check_perf_event_array():
    from pybpf import commands
    from pybpf.maps.objects import Objects

    with make("perf_event_array", name="events") as made:
        equal(made.map.max_entries, kernel.possible_cpus())
        events = Objects(made.map)
        # PERF_COUNT_SW_BPF_OUTPUT of PERF_TYPE_SOFTWARE
        with commands.perf_event(-1, 0, "output", type=1, config=10, sample_type=1 << 10) as event:
            events[0] = event
            refused(lambda: events.set(made.map.max_entries, event), 7)
            refused(lambda: events.id(0), *UNSUPPORTED)
            del events[0]


@check
def check_cgroup_array():
    from pybpf.maps.objects import CgroupArray

    with make("cgroup_array", max_entries=2, name="groups") as made:
        groups = CgroupArray(made.map)
        groups[0] = cgroup2()
        refused(lambda: groups.set(1, "/proc"), 9, 22)
        refused(lambda: groups.set(1, "/no/such/folder"), 2)
        del groups[0]


@check
def check_devmap():
    from pybpf.maps.objects import DevMap

    for kind, key in (("devmap", None), ("devmap_hash", "I")):
        with make(kind, key, "Q", 4, name=kind) as made:
            devices = DevMap(made.map)
            devices[1] = socket.if_nametoindex("lo")
            equal(devices.get(1), (1, 0))
            equal(devices.get(0), None)
            refused(lambda devices=devices: devices.set(2, 99999), 22)
            del devices[1]
            equal(devices.get(1), None)
        with make(kind, key, "I", 4, name=kind) as made:
            devices = DevMap(made.map)
            devices[0] = 1
            equal(devices.get(0), (1, 0))
            refused(lambda devices=devices: devices.set(0, (1, 5)), 22)


@check
def check_cpumap():
    from pybpf.maps.objects import CpuMap

    with make("cpumap", None, "Q", 4, name="cpus") as made:
        cpus = CpuMap(made.map)
        cpus[0] = 192
        equal(cpus.get(0), (192, 0))
        refused(lambda: cpus.set(0, 1 << 20), 75)  # EOVERFLOW: longer than 16384
        del cpus[0]


@check
def check_xskmap():
    from pybpf.maps.objects import XskMap

    with make("xskmap", max_entries=2, name="xsk") as made, socket.socket() as tcp:
        queues = XskMap(made.map)
        refused(lambda: queues.set(0, tcp), 95, 22)  # not a socket of AF_XDP
        with socket.socket(44, socket.SOCK_RAW) as one, socket.socket(44, socket.SOCK_RAW) as two:  # AF_XDP
            for xdp in (one, two):
                xdp.setsockopt(283, 2, struct.pack("=I", 64))  # SOL_XDP, XDP_RX_RING
            queues[1] = one
            refused(lambda: queues.set(1, two, abi.NOEXIST), 17)
            del queues[1]
        refused(lambda: queues.id(1), *UNSUPPORTED)


@check
def check_sockmap_and_sockhash():
    from pybpf.maps.objects import SockMap

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        with connected_to(listening.getsockname()) as ours, listening.accept()[0] as theirs:
            for kind, key in (("sockmap", None), ("sockhash", "I")):
                with make(kind, key, "Q", 4, name=kind) as made:
                    sockets = SockMap(made.map)
                    sockets[0] = ours
                    sockets[1] = theirs
                    cookie = struct.unpack("=Q", ours.getsockopt(socket.SOL_SOCKET, 57, 8))[0]  # SO_COOKIE
                    equal(sockets.id(0), cookie)
                    equal(sockets.id(2), None)
                    del sockets[0]
                    equal([key for key, _ in sockets.ids()], [1])


@check
def check_reuseport_sockarray():
    from pybpf.maps.objects import SockMap

    with make("reuseport_sockarray", None, "Q", 2, name="reuse") as made, socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.SOL_SOCKET, 15, 1)  # SO_REUSEPORT
        udp.bind(("127.0.0.1", 0))
        table = SockMap(made.map)
        table[0] = udp
        assert table.id(0)
        del table[0]


@check
def check_struct_ops():
    from pybpf.errors import Error

    since = types.MAPS["struct_ops"]
    off = options(since[1])
    try:
        made = struct_ops("tcp_congestion_ops")
    except LoadError as error:
        lacking("struct_ops", error)
        raise
    except Error as error:
        skip(f"{off[0]} is not set: {error}" if off else str(error))
    with made:
        assert made.value_size > 100, made.value_size
        equal(made.lookup(bytes(4)), bytes(made.value_size))


@check
def check_insn_array():
    # struct bpf_insn_array_value: original, translated and jitted offset.
    with make("insn_array", None, "4I", 2, name="jumps") as table:
        table[0] = 1, 0, 0, 0
        equal(table[0][0], 1)


# --- local storage --------------------------------------------------------------------


@check
def check_sk_storage():
    from pybpf.maps.storage import Storage

    with make("sk_storage", None, "Q", name="sk") as made, socket.socket() as one, socket.socket() as two:
        store = Storage(made.map, "Q")
        put(store, one, 5)
        equal((store.get(one), store.get(two, "none")), (5, "none"))
        store.set(one, 6, abi.EXIST)
        refused(lambda: store.set(two, 7, abi.EXIST), 2)
        del store[one]
        equal(store.get(one), None)


@check
def check_task_storage():
    from pybpf.maps.storage import Storage

    if not hasattr(os, "pidfd_open"):
        skip("this Python has no os.pidfd_open")
    with make("task_storage", None, "Q", name="task") as made:
        store = Storage(made.map, "Q")
        put(store, os.getpid(), 1 << 40)
        equal(store.get(os.getpid()), 1 << 40)
        equal(store.get(1), None)
        del store[os.getpid()]
        equal(store.get(os.getpid()), None)
        refused(lambda: store.get(1 << 22), 3, 22)


@check
def check_inode_storage():
    from pybpf.maps.storage import Storage

    with make("inode_storage", None, "Q", name="inode") as made:
        store = Storage(made.map, "Q")
        try:
            put(store, "/proc/self/exe", 3)
        except MapError as error:
            with open("/sys/kernel/security/lsm") as file:
                active = file.read().strip()
            if error.errno in (95, 9) and "bpf" not in active.split(","):
                skip(f"bpf is not among the active security modules ({active})")
            raise
        equal((store.get("/proc/self/exe"), store.get("/proc/self/status", 0)), (3, 0))
        del store["/proc/self/exe"]


@check
def check_cgrp_storage():
    from pybpf.maps.storage import Storage

    with make("cgrp_storage", None, "I", name="cgrp") as made:
        store = Storage(made.map, "I")
        place = cgroup2()
        put(store, place, 8)
        equal(store.get(place), 8)
        del store[place]


@check
def check_cgroup_storage():
    """The old kinds, whose values come into being when a program is attached."""
    for kind in ("cgroup_storage", "percpu_cgroup_storage"):
        with make(kind, "=QI4x", "Q", 0, name=kind) as made:
            equal(made.get((1, 0)), None)
            equal(list(made.map.keys()), [])


# --- what works on many ---------------------------------------------------------------


@check
def check_spin_lock():
    """Lookups and updates that take the lock in the value."""
    with make("hash", "I", "=IIQ", 4, name="locked", lock=True) as table:
        table[1] = 0, 7, 8
        equal(table.get(1, flags=abi.F_LOCK), (0, 7, 8))
        table.set(1, (0, 9, 10), abi.F_LOCK)
        equal(table[1], (0, 9, 10))
    with make("hash", "I", "=IIQ", 4, name="lockless") as table:
        table[1] = 0, 0, 0
        refused(lambda: table.get(1, flags=abi.F_LOCK), 22)


@check
def check_batches():
    """Update, read, take and delete thousands of elements; types without batches do it one by one."""
    for kind in ("hash", "lru_hash", "percpu_hash", "lpm_trie", "array", "percpu_array"):
        count = 500 if kind == "lpm_trie" else 4000
        key = "II" if kind == "lpm_trie" else "I"
        with make(kind, key, "I", 10_000 if "array" not in kind else count, name=kind) as table:
            keys = [(32, n) for n in range(count)] if kind == "lpm_trie" else list(range(count))
            equal(table.update((key, index) for index, key in enumerate(keys)), count)
            unpacked = {key: value[0] if table.map.percpu else value for key, value in table.items()}
            equal(len(unpacked), count)
            equal([unpacked[key] for key in keys[:50]], list(range(50)))
            if "array" in kind:
                continue
            taken = dict(table.take_all())
            equal(len(taken), count)
            equal(list(table), [])
            table.update((key, 1) for key in keys)
            equal(table.discard([*keys[::2], *keys[::2]]), count // 2)
            equal(len(list(table)), count // 2)
    with make("hash", "I", "I", 100, name="small") as table:
        error = refused(lambda: table.update((n, n) for n in range(200)), 7)
        assert "100 elements were set before" in str(error), error
        equal(len(list(table)), 100)


@check(timeout=60)
def check_iteration_survives_deletion():
    """Keys are walked while others delete and add: no key comes twice, none that stays is missed, it ends."""
    for kind in ("hash", "lpm_trie"):
        lasting = [(32, n) for n in range(1000)]
        passing = [(32, n) for n in range(1000, 3000)]
        with make(kind, "II", "I", 4000, name=kind) as table:
            table.update((key, 1) for key in lasting + passing)
            stop = threading.Event()
            worker = threading.Thread(target=churn, args=(table, passing, stop))
            worker.start()
            try:
                for _ in range(3):
                    for found in (list(table), [key for key, _ in table.items()]):
                        equal(len(found), len(set(found)))
                        if kind == "hash":
                            assert set(found) >= set(lasting), f"{len(set(lasting) - set(found))} keys missed"
            finally:
                stop.set()
                worker.join()
            for key in table:
                del table[key]
            equal(list(table), [])


def churn(table, keys, stop):
    while not stop.is_set():
        for key in keys:
            table.map.delete(struct.pack("=II", *key))
        for key in keys:
            table[key] = 2


@check
def check_freeze_and_flags():
    with make("array", None, "I", 2, name="frozen", flags=abi.F_RDONLY_PROG) as table:
        table[0] = 5
        table.map.freeze()
        error = refused(lambda: table.set(0, 6), 1)
        assert "frozen" in str(error), error
        equal((table[0], table.map.info().frozen), (5, True))
    with make("array", None, "I", 2, name="readonly", flags=abi.F_RDONLY) as table:
        refused(lambda: table.set(0, 6), 1)
        equal(table[0], 0)
    with make("array", None, "I", 2, name="writeonly", flags=abi.F_WRONLY) as table:
        table[0] = 6
        refused(lambda: table.get(0), 1)


@check
def check_pins_ids_and_info():
    from pybpf.maps import Map

    place = f"/sys/fs/bpf/pybpf-check-{os.getpid()}"
    with make("hash", "I", "Q", 8, name="pinned", flags=abi.F_NO_PREALLOC) as table:
        table[1] = 11
        info = table.map.info()
        equal((info.name, info.type, info.key_size, info.value_size, info.max_entries), ("pinned", 1, 4, 8, 8))
        equal((info.id, info.flags & 1, info.frozen), (table.map.id(), 1, False))
        assert info.memory > 0, info.memory
        with Map.by_id(info.id) as same:
            equal(same.typed(int, int)[1], 11)
        refused(lambda: Map.by_id(0x7FFFFFFF), 2)
        try:
            table.map.pin(place)
        except SyscallError as error:
            if not os.path.ismount("/sys/fs/bpf"):
                skip(f"no bpf file system is mounted: {error}")
            raise
        try:
            refused(lambda: table.map.pin(place), 17)
            table.close()
            with Map.open_pinned(place) as again:
                equal((again.name, again.typed(int, int)[1]), ("pinned", 11))
            with Map.open_pinned(place, abi.F_RDONLY) as again:
                refused(lambda: again.update(bytes(4), bytes(8)), 1)
        finally:
            os.unlink(place)
        refused(lambda: Map.open_pinned(place), 2)


@check
def check_mapped_array():
    from pybpf.maps.memory import MappedArray

    with make("array", None, "Q", 1000, name="mapped", flags=abi.F_MMAPABLE) as table:
        with MappedArray(table.map, "Q") as memory:
            memory[999] = 7
            equal(table[999], 7)
            table[3] = 4
            with memory.words() as words:
                equal((words[3], sum(words), len(words)), (4, 11, 1000))
                words[4] = 1 << 63
            equal(table[4], 1 << 63)
            refused(table.map.freeze, 16)  # EBUSY
        table.map.freeze()
        with MappedArray(table.map, "Q", writable=False) as memory:
            equal(memory[999], 7)
            refused(lambda: memory.__setitem__(0, 1), 22)
    with make("array", None, "=3B", 5, name="odd", flags=abi.F_MMAPABLE) as table:
        table[4] = 1, 2, 3
        with MappedArray(table.map, "=3B") as memory:
            equal((memory[4], memory[0], len(memory)), ((1, 2, 3), (0, 0, 0), 5))
    with make("array", None, "Q", 1, name="plain") as table:
        refused(lambda: MappedArray(table.map), 1, 22, 524)


@check
def check_arena():
    from pybpf.maps.memory import map_arena

    with make("arena", max_entries=4, name="arena") as made:
        memory = map_arena(made.map)
        try:
            memory[5000:5005] = b"hello"
            equal(memory[4998:5006], b"\0\0hello\0")
        finally:
            memory.close()


@check(timeout=60)
def check_1000_cycles_grow_nothing():
    """Create, fill by a batch, close: neither descriptors nor memory are left."""

    def cycle():
        with create("hash", "I", "I", 64, name="cycle") as table:
            table.update((n, n) for n in range(64))
            equal(len(dict(table.items())), 64)
            list(table.take_all())

    for _ in range(50):
        cycle()
    before = resident(), os.listdir("/proc/self/fd")
    for _ in range(1000):
        cycle()
    after = resident(), os.listdir("/proc/self/fd")
    equal(after[1], before[1])
    figure("memory after 1,000 maps, kB", (after[0] - before[0]) // 1024)
    assert after[0] - before[0] < 512 * 1024, f"{after[0] - before[0]} bytes more"


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
