"""The toolkit's core on this kernel: BTF, CO-RE, every program of bfer's object, events by a ring buffer, guards."""

from __future__ import annotations

import os
import struct
import sys

from tests.guests.checks import check, equal, programs, skip

RECORD = struct.Struct("=IIQ32s")


def bfers_object(names=None, name=""):
    """An object of bfer's programs, by default that of the system calls."""
    from programs import OBJECT, load_object
    from pybpf.object.reader import read_object

    return read_object(load_object(name or OBJECT), names)


def kernel_btf():
    """The kernel's BTF, or the skip."""
    from btf.errors import BtfNotFound
    from btf.reader import Btf

    try:
        return Btf.kernel()
    except BtfNotFound as error:
        return skip(str(error))


@check
def check_btf_of_the_kernel():
    """Types that every kernel has, with values that the kernel itself proves."""
    from btf.format import KIND_INT, KIND_STRUCT

    with kernel_btf() as btf:
        assert btf.type_count > 10_000, btf.type_count
        equal(btf.size(btf.find_id("unsigned int", KIND_INT)), 4)
        task = btf.find_id("task_struct", KIND_STRUCT)
        names = [name for name, _, _, _ in btf.members(task)]
        assert {"pid", "tgid", "comm", "real_parent"} <= set(names), names
        equal(btf.pointer_size, struct.calcsize("P"))


@check
def check_tp_btf_family():
    """bfer's programs for BTF tracepoints load."""
    load_family("")


@check
def check_raw_tp_family():
    """bfer's programs for raw tracepoints, the ones for old kernels, load."""
    load_family("__raw_tp")


@check
def check_steady_family():
    """bfer's programs on the records of tracepoints, for kernels that preempt the others, load on others too."""
    from programs import STEADY, load_object
    from pybpf.errors import NotSupported, VerifierError
    from pybpf.loader import Collection
    from pybpf.object.reader import read_object

    kernel_btf().close()
    spec = read_object(load_object(STEADY))
    names = sorted(name for name in spec.programs if name.endswith("__steady"))
    assert len(names) > 10, names
    try:
        with Collection(spec, names) as collection:
            equal(sorted(collection.programs), names)
    except (VerifierError, NotSupported) as error:
        if not lacks_task_btf():
            raise
        skip(f"no helper 158 (get_current_task_btf, 5.11): {error}")


def load_family(suffix):
    from pybpf.errors import NotSupported, VerifierError
    from pybpf.loader import Collection

    kernel_btf().close()
    every = bfers_object()
    kind = "raw_tp/" if suffix else "tp_btf/"
    names = sorted(name for name, program in every.programs.items() if program.section.startswith(kind))
    assert len(names) > 3, names
    try:
        with Collection(every, names, fold=False) as collection:
            equal(sorted(collection.programs), names)
            for program in collection.programs.values():
                assert program.info().jited_size > 0 or not jit(), program.name
    except (VerifierError, NotSupported) as error:
        if not suffix and "misaligned access" in str(error):
            skip(f"no CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS, for which there are the raw tracepoints: {error}")
        if suffix or not lacks_task_btf():
            raise
        skip(f"no helper 158 (get_current_task_btf, 5.11): {error}")


def jit():
    try:
        with open("/proc/sys/net/core/bpf_jit_enable") as file:
            return file.read().strip() != "0"
    except OSError:
        return False


def lacks_task_btf():
    """Whether the kernel has no get_current_task_btf(), seen by trying."""
    from pybpf import abi, kernel

    code = struct.pack("=BBhi", 0x85, 0, 0, 158) + struct.pack("=BBhi", 0xB7, 0, 0, 0)
    code += struct.pack("=BBhi", 0x95, 0, 0, 0)
    fd = kernel.prog_load(abi.PROG_TYPE_KPROBE, code, "GPL", name="probe")
    if fd >= 0:
        os.close(fd)
    return fd < 0


def records_of(variant):
    """Load and attach a program that tells of this process's system calls, and take its records."""
    from pybpf.links import attach
    from pybpf.loader import Collection
    from pybpf.ringbuf import RingBuffer

    spec = programs("core")
    spec.set("pid", os.getpid())
    name = "on_exit" + variant
    with Collection(spec, [name]) as collection, RingBuffer(collection.maps["records"]) as ring:
        with attach(collection.programs[name]):
            for _ in range(50):
                os.getppid()
        found = []
        while ring.available():
            ring.drain(found)
        counted = sum(
            int.from_bytes(value, sys.byteorder) for value in collection.maps["counts"].lookup_percpu(bytes(4))
        )
        for _ in range(50):
            os.getppid()
        equal(ring.available(), 0)  # detached
    return [RECORD.unpack(record) for record in found], counted


def check_records(variant):
    records, counted = records_of(variant)
    assert len(records) >= 50, len(records)
    equal(len(records), counted)
    equal({record[:2] for record in records}, {(os.getpid(), os.getppid())})
    with open("/proc/self/comm", "rb") as file:
        equal({record[3].rstrip(b"\0") for record in records}, {file.read().rstrip(b"\n")})
    equal([record[2] for record in records], sorted(record[2] for record in records))


@check
def check_events_by_raw_tp():
    kernel_btf().close()
    check_records("__raw_tp")


@check
def check_events_by_tp_btf():
    from pybpf.errors import VerifierError

    kernel_btf().close()
    try:
        check_records("")
    except VerifierError as error:
        if not lacks_task_btf():
            raise
        skip(f"no helper 158 (get_current_task_btf, 5.11): {error}")
