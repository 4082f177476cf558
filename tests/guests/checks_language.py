"""The language on this kernel: callbacks and their replacements, maps of maps, places at odd addresses, guards."""

from __future__ import annotations

import struct
import time

from tests.guests.checks import check, equal, programs, skip
from tests.guests.checks_core import kernel_btf

PACKET = bytes(64)


def loaded(name):
    """The program alone; skips where its guards find no BTF to ask, or where it would be interpreted and may not be."""
    from btf.errors import BtfNotFound
    from pybpf.errors import VerifierError
    from pybpf.loader import Collection

    try:
        return Collection(programs("language"), [name])
    except BtfNotFound as error:
        return skip(str(error))
    except VerifierError as error:
        if "non-JITed" in str(error) or "JIT is required" in str(error):
            skip(str(error))
        raise


def result(collection, name):
    return collection.programs[name].test_run(data=PACKET).retval


@check
def check_loops():
    """bpf_loop, or the plain loop where the kernel has none."""
    with loaded("loops") as collection:
        total = passes = 0
        while passes < 40 and total <= 1000:
            total += passes * 3
            passes += 1
        equal(result(collection, "loops"), total * 100 + passes)
        equal(collection.maps["squares"].lookup(struct.pack("=I", 5)), struct.pack("=Q", 26))


@check
def check_walks_over_maps():
    with loaded("walks") as collection:
        got = result(collection, "walks")
        if got == 0xFFFF:
            skip("this kernel's enum bpf_func_id has no BPF_FUNC_for_each_map_elem")
        equal(got, sum(i * i * 10 for i in range(5)))


@check
def check_packed_structures():
    """The verifier wants the stack accessed at aligned places."""
    with loaded("places") as collection:
        equal(result(collection, "places"), 151)


@check
def check_maps_of_maps():
    from pybpf import abi
    from pybpf.maps import Map
    from pybpf.maps.objects import misread
    from pybpf.object.spec import MapSpec

    with loaded("nested") as collection:
        equal(result(collection, "nested"), 77)
        with Map.create(MapSpec("row", abi.MAP_TYPE_ARRAY, 4, 8, 4)) as row:
            collection.maps["rows"].update(struct.pack("=I", 1), struct.pack("=I", row.fd))
            if misread(collection.maps["rows"].type):
                equal(result(collection, "nested"), 77)
                skip("a 32-bit kernel takes slot 2 when a program looks up slot 1")
            equal(result(collection, "nested"), 5)
            equal(result(collection, "nested"), 10)
            equal(row.lookup(struct.pack("=I", 2)), struct.pack("=Q", 10))


@check
def check_prefixes_known_at_run_time():
    with loaded("known") as collection:
        collection.maps["prefixes"].update(struct.pack("=I16s", 5 * 8, b"/etc/"), bytes(4))
        for text, expected in ((b"/etc/passwd", 1), (b"/etc", 0), (b"/usr", 0)):
            collection.maps["words"].update(bytes(4), struct.pack("12s", text))
            equal(result(collection, "known"), expected)


@check
def check_kernel_functions():
    """A call of one, which is cut out where the kernel has none."""
    from btf.format import KIND_FUNC

    with kernel_btf() as btf:
        there = bool(btf.find("bpf_rcu_read_lock", (KIND_FUNC,)))
    with loaded("kfuncs") as collection:
        equal(result(collection, "kfuncs"), 1 if there else 2)


@check
def check_timers():
    with loaded("timers") as collection:
        if result(collection, "timers") == 2:
            skip("this kernel's enum bpf_func_id has no BPF_FUNC_timer_init")
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if struct.unpack_from("=Q", collection.maps["jobs"].lookup(bytes(4)), 16)[0]:
                return
            time.sleep(0.02)
        raise AssertionError("the timer did not fire within 20 seconds")
