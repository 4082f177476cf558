"""The table of the kernel's structures: derived from C, true to the running kernel, and what the calls send."""

from __future__ import annotations

import struct

import pytest

from pybpf import abi, attrs, commands, kernel, uapi
from pybpf.syscalls import address


@pytest.fixture
def sent():
    """What was sent to the kernel, as (command, attr); every command gives 0 bytes of answer and descriptor -1."""
    calls = []

    def hook(name, *args):
        calls.append((name if name != "bpf" else args[0], bytes(args[1] if name == "bpf" else args[0])))
        return 0

    kernel.set_syscall_hook(hook)
    yield calls
    kernel.set_syscall_hook(None)


def test_the_table_is_derived_from_the_declarations():
    pytest.importorskip("cstruct", reason="the cstruct package, which derives the table, is not installed")
    assert uapi.table() == attrs.LAYOUTS, "run `python -m pybpf.uapi` and put its output into pybpf/attrs.py"


def test_declared_structures_are_cstruct_classes():
    pytest.importorskip("cstruct", reason="the cstruct package is not installed")
    info = uapi.structure("bpf_map_info")()
    info.unpack(struct.pack("=IIII", 1, 2, 3, 4).ljust(info.size, b"\0"))
    assert (info.type, info.id, info.key_size, info.value_size) == (1, 2, 3, 4)
    with pytest.raises(KeyError):
        uapi.structure("bpf_map")


def test_no_layout_has_overlaps_and_all_are_aligned():
    for name in attrs.LAYOUTS:
        end = 0
        for offset, code, size in attrs.fields(name).values():
            assert offset >= end
            assert code[-1] == "s" or offset % size == 0
            end = offset + size
        assert attrs.size(name) == end


def test_build_sends_only_the_prefix_that_is_needed():
    assert attrs.build("map_create", map_type=2) == b"\2\0\0\0" if struct.pack("=I", 2)[0] else b"\0\0\0\2"
    assert len(attrs.build("map_create", "max_entries", map_type=2)) == 16
    assert len(attrs.build("map_create", "max_entries", map_type=2, map_extra=5)) == 72
    assert len(attrs.build("map_create", "max_entries", map_type=2, map_extra=0)) == 16
    text = bytearray(b"path\0")
    assert attrs.number("obj", attrs.build("obj", pathname=text), "pathname") == address(text)
    assert attrs.build("obj", "bpf_fd", pathname=bytearray()) == bytes(12)
    with pytest.raises(KeyError):
        attrs.build("obj", path="x")


def test_read_takes_what_the_kernel_does_not_have_for_zero():
    raw = struct.pack("=II", 7, 8)
    assert attrs.read("bpf_map_info", raw, "type", "id", "map_extra", "name") == (7, 8, 0, bytes(16))


def fields(layout, raw):
    """Every field of ``raw`` that is not zero; the end of ``raw`` must be the end of a field."""
    ends = [offset + size for offset, _, size in attrs.fields(layout).values()]
    assert len(raw) in ends
    values = dict(zip(attrs.fields(layout), attrs.read(layout, raw, *attrs.fields(layout))))
    return {
        name: value for name, value in values.items() if (value.strip(b"\0") if isinstance(value, bytes) else value)
    }


def test_what_the_start_path_packs_is_where_the_table_says(sent):
    """Calls with a different number in each field; pybpf.kernel packs them without the table."""
    buffers = [bytearray(64) for _ in range(4)]
    where = [address(raw) for raw in buffers]
    kernel.map_create(
        *(1, 2, 3, 4), name="abc", flags=5, inner_fd=6, btf_fd=7, key_type_id=8, value_type_id=9, map_extra=10
    ).disown()
    kernel.prog_load(
        *(1, bytes(16), "GPL"),
        name="abc",
        flags=2,
        expected_attach_type=3,
        attach_btf_id=4,
        attach_prog_fd=5,
        btf_fd=6,
        func_info=bytes(24),
        line_info=bytes(32),
        fd_array=bytes(8),
        log_level=7,
        log=buffers[0],
    )
    kernel.btf_load(bytes(9), buffers[0]).disown()
    commands.map_lookup_batch(3, buffers[0], *buffers[1:], 5)
    kernel.map_update(3, b"k", b"v", 4)
    kernel.map_freeze(3)
    kernel.prog_test_run(3, bytes(9), buffers[0], buffers[1], buffers[2], repeat=5, flags=6, cpu=7)
    kernel.raw_tracepoint_open("abc", 3).disown()
    kernel.link_create(3, 4, 5).disown()
    commands.link_detach(3)
    kernel.obj_get_info(3, 8)
    commands.prog_get_fd_by_id(3).disown()
    got = dict(sent)
    create = fields("map_create", got[abi.MAP_CREATE])
    assert create.pop("map_name") == b"abc".ljust(16, b"\0")
    assert create == {
        "map_type": 1,
        "key_size": 2,
        "value_size": 3,
        "max_entries": 4,
        "map_flags": 5,
        "inner_map_fd": 6,
        "btf_fd": 7,
        "btf_key_type_id": 8,
        "btf_value_type_id": 9,
        "map_extra": 10,
    }
    load = fields("prog_load", got[abi.PROG_LOAD])
    assert load.pop("log_buf") == where[0]
    assert all(load.pop(name) for name in ("insns", "license", "func_info", "line_info", "fd_array"))
    assert load.pop("prog_name") == b"abc".ljust(16, b"\0")
    assert load == {
        "prog_type": 1,
        "insn_cnt": 2,
        "log_level": 7,
        "log_size": 64,
        "prog_flags": 2,
        "prog_btf_fd": 6,
        "expected_attach_type": 3,
        "attach_btf_id": 4,
        "attach_prog_fd": 5,
        "func_info_rec_size": 8,
        "func_info_cnt": 3,
        "line_info_rec_size": 16,
        "line_info_cnt": 2,
    }
    btf = fields("btf_load", got[abi.BTF_LOAD])
    assert btf.pop("btf")
    assert btf == {"btf_log_buf": where[0], "btf_size": 9, "btf_log_size": 64, "btf_log_level": 1}
    assert fields("batch", got[abi.MAP_LOOKUP_BATCH]) == {
        "in_batch": where[0],
        "out_batch": where[1],
        "keys": where[2],
        "values": where[3],
        "count": 5,
        "map_fd": 3,
    }
    element = fields("element", got[abi.MAP_UPDATE_ELEM])
    assert element.pop("key")
    assert element.pop("value")
    assert element == {"map_fd": 3, "flags": 4}
    assert fields("element", got[abi.MAP_FREEZE]) == {"map_fd": 3}
    run = fields("test", got[abi.PROG_TEST_RUN])
    assert run.pop("data_in")
    assert run == {
        "prog_fd": 3,
        "data_size_in": 9,
        "data_size_out": 64,
        "data_out": where[0],
        "repeat": 5,
        "ctx_size_in": 64,
        "ctx_size_out": 64,
        "ctx_in": where[1],
        "ctx_out": where[2],
        "flags": 6,
        "cpu": 7,
    }
    open_ = fields("raw_tracepoint", got[abi.RAW_TRACEPOINT_OPEN])
    assert open_.pop("name")
    assert open_ == {"prog_fd": 3}
    assert fields("link_create", got[abi.LINK_CREATE]) == {"prog_fd": 3, "target_fd": 4, "attach_type": 5}
    assert fields("link_detach", got[abi.LINK_DETACH]) == {"link_fd": 3}
    assert {"bpf_fd": 3, "info_len": 8}.items() <= fields("info", got[abi.OBJ_GET_INFO_BY_FD]).items()
    assert fields("by_id", got[abi.PROG_GET_FD_BY_ID]) == {"start_id": 3}


def test_perf_event_attr(sent):
    commands.perf_event(-1, 0, "x", type=1, config=9, sample_period=1).disown()
    commands.perf_event(-1, 0, "x", type=1, config=9, clockid=4).disown()
    (_, short), (_, long) = sent
    assert (len(short), len(long)) == (64, 96)
    assert fields("perf_event_attr", short) == {"type": 1, "size": 64, "config": 9, "sample_period": 1}
    assert fields("perf_event_attr", long) == {"type": 1, "size": 96, "config": 9, "clockid": 4}


def test_every_command_can_be_sent(sent):
    """All commands of the kernel are there, here or in pybpf.kernel; each by the function for it."""
    one = bytearray(8)
    kernel.map_create(1, 4, 4, 1).disown()
    kernel.map_lookup(3, b"k", one)
    kernel.map_update(3, b"k", b"v")
    kernel.map_delete(3, b"k")
    commands.map_get_next_key(3, None, 4)
    commands.map_lookup_and_delete(3, b"k", one)
    kernel.map_freeze(3)
    kernel.prog_load(1, bytes(8), "GPL")
    kernel.prog_test_run(3)
    for step in (
        commands.prog_get_next_id,
        commands.map_get_next_id,
        commands.btf_get_next_id,
        commands.link_get_next_id,
    ):
        step(0)
    for get in (
        commands.prog_get_fd_by_id,
        commands.map_get_fd_by_id,
        commands.btf_get_fd_by_id,
        commands.link_get_fd_by_id,
    ):
        get(1).disown()
    kernel.obj_get_info(3, 8)
    kernel.raw_tracepoint_open("x", 3).disown()
    kernel.btf_load(b"x").disown()
    kernel.link_create(3, 4, 5).disown()
    commands.link_detach(3)
    commands.map_lookup_batch(3, None, one, one, one, 1)
    for command in (abi.MAP_LOOKUP_AND_DELETE_BATCH, abi.MAP_UPDATE_BATCH, abi.MAP_DELETE_BATCH):
        commands.map_batch(command, 3, 1, keys=one)
    commands.obj_pin("/x", 3)
    commands.obj_get("/x").disown()
    commands.prog_attach(3, 4, 5)
    commands.prog_detach(3, 4, 5)
    commands.prog_query(3, 4)
    commands.task_fd_query(1, 3)
    commands.link_update(3, 4)
    commands.enable_stats().disown()
    commands.iter_create(3).disown()
    commands.prog_bind_map(3, 4)
    commands.token_create(3).disown()
    commands.prog_stream_read(3, commands.STREAM_STDOUT)
    commands.prog_assoc_struct_ops(3, 4)
    assert {command for command, _ in sent} == set(abi.COMMAND_NAMES) == set(range(39))


def test_link_variants(sent):
    cookies = bytearray(16)
    commands.link_create(3, 0, 42, 0, "kprobe_multi", cnt=2, cookies=cookies).disown()
    (_, raw) = sent[0]
    assert fields("link_create", raw[:16]) == {"prog_fd": 3, "attach_type": 42}
    assert fields("link_create_kprobe_multi", raw[16:]) == {"cnt": 2, "cookies": address(cookies)}


def test_reasons_given_by_common_attributes():
    """A kernel that knows them writes a log; an older one says EINVAL and is asked again without."""
    seen = []

    def old(name, command, attr, common=None):
        seen.append((command, bytes(attr), common is not None))
        return -22 if command >= abi.COMMON_ATTRS else 7

    kernel.set_syscall_hook(old)
    try:
        assert commands.explained(abi.MAP_CREATE, bytearray(4)) == (7, "")
    finally:
        kernel.set_syscall_hook(None)
    assert seen == [(abi.COMMON_ATTRS, bytes(4), True), (0, bytes(4), False)]

    def new(name, command, attr, common=None):
        import ctypes

        where, room = (
            attrs.number("bpf_common_attr", common, "log_buf"),
            attrs.number("bpf_common_attr", common, "log_size"),
        )
        assert len(common) == 24
        assert room == 4096
        ctypes.memmove(where, b"too many\n\0", 10)
        return -22

    kernel.set_syscall_hook(new)
    try:
        assert commands.explained(abi.MAP_CREATE, bytearray(4)) == (-22, "too many")
    finally:
        kernel.set_syscall_hook(None)
