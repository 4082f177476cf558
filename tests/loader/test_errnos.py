"""Whatever errno the kernel gives for whatever command: one clear line, a typed error, nothing left open."""

from __future__ import annotations

import errno
import os

import pytest
from fakekernel import FakeKernel

from pybpf import abi, attrs, commands, kernel
from pybpf.errors import LinkError, LoadError, MapError, NotSupported, SyscallError
from pybpf.maps import Map
from pybpf.maps.create import create
from pybpf.maps.walk import walk
from pybpf.program import Request
from pybpf.sections import parse_section

ERRNOS = [*sorted(errno.errorcode), abi.ENOTSUPP, 512]  # 512: ERESTARTSYS, which has no name
ONE = bytearray(8)


def load():
    Request("p", parse_section("socket"), bytes(8)).load()


def table(operation):
    """An operation on a map whose creation succeeded."""

    def run():
        with Map(kernel.Fd(os.open("/dev/null", os.O_RDONLY), "map"), "table", 1, 4, 8, 4) as map:
            operation(map)

    return run


# Command: (the operation, its type of error, errnos that are answers rather than errors).
OPERATIONS = {
    abi.MAP_CREATE: (lambda: kernel.map_create(1, 4, 4, 1, name="m"), LoadError, ()),
    abi.MAP_LOOKUP_ELEM: (table(lambda made: made.lookup(bytes(4))), MapError, (errno.ENOENT,)),
    abi.MAP_UPDATE_ELEM: (table(lambda made: made.update(bytes(4), bytes(8))), MapError, ()),
    abi.MAP_DELETE_ELEM: (table(lambda made: made.delete(bytes(4))), MapError, (errno.ENOENT,)),
    abi.MAP_GET_NEXT_KEY: (table(lambda made: list(walk(made))), MapError, (errno.ENOENT,)),
    abi.PROG_LOAD: (load, LoadError, ()),
    abi.OBJ_PIN: (lambda: commands.obj_pin("/x", 3), SyscallError, ()),
    abi.OBJ_GET: (lambda: commands.obj_get("/x"), SyscallError, ()),
    abi.PROG_ATTACH: (lambda: commands.prog_attach(3, 4, 5), LinkError, ()),
    abi.PROG_DETACH: (lambda: commands.prog_detach(3, 4, 5), LinkError, ()),
    abi.PROG_TEST_RUN: (lambda: kernel.prog_test_run(3), SyscallError, (errno.EINTR,)),
    abi.PROG_GET_NEXT_ID: (lambda: commands.prog_get_next_id(0), SyscallError, (errno.ENOENT,)),
    abi.MAP_GET_NEXT_ID: (lambda: commands.map_get_next_id(0), SyscallError, (errno.ENOENT,)),
    abi.PROG_GET_FD_BY_ID: (lambda: commands.prog_get_fd_by_id(1), SyscallError, ()),
    abi.MAP_GET_FD_BY_ID: (lambda: Map.by_id(1), SyscallError, ()),
    abi.OBJ_GET_INFO_BY_FD: (table(lambda made: made.info()), SyscallError, ()),
    abi.PROG_QUERY: (lambda: commands.prog_query(3, 4), LinkError, ()),
    abi.RAW_TRACEPOINT_OPEN: (lambda: kernel.raw_tracepoint_open("x", 3), LinkError, ()),
    abi.BTF_LOAD: (lambda: kernel.btf_load(b"x"), LoadError, ()),
    abi.BTF_GET_FD_BY_ID: (lambda: commands.btf_get_fd_by_id(1), SyscallError, ()),
    abi.TASK_FD_QUERY: (lambda: commands.task_fd_query(1, 2), SyscallError, ()),
    abi.MAP_LOOKUP_AND_DELETE_ELEM: (table(lambda made: made.take(bytes(4))), MapError, (errno.ENOENT,)),
    abi.MAP_FREEZE: (table(lambda made: made.freeze()), MapError, ()),
    abi.BTF_GET_NEXT_ID: (lambda: commands.btf_get_next_id(0), SyscallError, (errno.ENOENT,)),
    abi.LINK_CREATE: (lambda: commands.link_create(3, 0, 41), LinkError, ()),
    abi.LINK_UPDATE: (lambda: commands.link_update(3, 4), LinkError, ()),
    abi.LINK_GET_FD_BY_ID: (lambda: commands.link_get_fd_by_id(1), SyscallError, ()),
    abi.LINK_GET_NEXT_ID: (lambda: commands.link_get_next_id(0), SyscallError, (errno.ENOENT,)),
    abi.ENABLE_STATS: (lambda: commands.enable_stats(), SyscallError, ()),
    abi.ITER_CREATE: (lambda: commands.iter_create(3), LinkError, ()),
    abi.LINK_DETACH: (lambda: commands.link_detach(3), LinkError, ()),
    abi.PROG_BIND_MAP: (lambda: commands.prog_bind_map(3, 4), SyscallError, ()),
    abi.TOKEN_CREATE: (lambda: commands.token_create(3), SyscallError, ()),
    abi.PROG_STREAM_READ_BY_FD: (lambda: commands.prog_stream_read(3, 1), SyscallError, ()),
    abi.PROG_ASSOC_STRUCT_OPS: (lambda: commands.prog_assoc_struct_ops(3, 4), SyscallError, ()),
}
# Batches fall back to single commands where there are none; keys may be missing, and reading ends with ENOENT.
_FALLBACK = commands.UNSUPPORTED
BATCHES = {
    abi.MAP_UPDATE_BATCH: (table(lambda made: made.update_batch([(bytes(4), bytes(8))])), _FALLBACK),
    abi.MAP_DELETE_BATCH: (table(lambda made: made.delete_batch([bytes(4)])), (*_FALLBACK, errno.ENOENT)),
    abi.MAP_LOOKUP_AND_DELETE_BATCH: (table(lambda made: list(made.take_all())), (*_FALLBACK, errno.ENOENT)),
}


@pytest.fixture
def refuse():
    """A kernel that answers one command with one errno, and knows all others."""
    fake = FakeKernel()
    wanted = {}

    def hook(name, *args):
        if args[0] == wanted["command"]:
            if wanted["errno"] in wanted["once"]:  # would be asked for again for ever
                wanted["errno"], wanted["once"] = errno.EBUSY, ()
                return -errno.EINTR
            return -wanted["errno"]
        if args[0] in (abi.MAP_LOOKUP_ELEM, abi.MAP_DELETE_ELEM, abi.MAP_GET_NEXT_KEY):
            return -errno.ENOENT
        return 0 if args[0] == abi.MAP_UPDATE_ELEM else fake(name, *args)

    def choose(command, error):
        wanted.update(command=command, errno=error, once=(errno.EINTR,) if command == abi.PROG_TEST_RUN else ())

    kernel.set_syscall_hook(hook)
    yield choose
    kernel.set_syscall_hook(None)


def test_no_command_is_forgotten():
    assert set(OPERATIONS) | set(BATCHES) | {abi.MAP_LOOKUP_BATCH} == set(abi.COMMAND_NAMES)


@pytest.mark.parametrize("command", OPERATIONS, ids=lambda command: abi.COMMAND_NAMES[command])
def test_each_errno_of_each_command(refuse, command):
    operation, kind, answers = OPERATIONS[command]
    for error in ERRNOS:
        if error in answers and error != errno.EINTR:
            refuse(command, error)
            operation()
            continue
        refuse(command, error)
        expected = errno.EBUSY if error in answers else error
        with pytest.raises(SyscallError) as caught:
            operation()
        check_error(caught.value, kind, abi.COMMAND_NAMES[command], expected)


@pytest.mark.parametrize("command", BATCHES, ids=lambda command: abi.COMMAND_NAMES[command])
def test_each_errno_of_each_batch(refuse, command):
    operation, answers = BATCHES[command]
    for error in ERRNOS:
        refuse(command, error)
        if error in answers:
            operation()
            continue
        with pytest.raises(SyscallError) as caught:
            operation()
        check_error(caught.value, MapError, abi.COMMAND_NAMES[command], error)


def check_error(error, kind, name, number):
    message = str(error)
    assert error.errno == number
    assert "\n" not in message
    assert len(message) < 300
    if number == errno.ENOSYS:
        assert isinstance(error, NotSupported)
        assert "CONFIG_BPF_SYSCALL" in message
    else:
        assert isinstance(error, kind)
        # Either the kernel's own word, or what it means here.
        text = errno.errorcode.get(number, "ENOTSUPP" if number == abi.ENOTSUPP else str(number))
        meant = ("not permitted", "no room for another element", "exists already", "no such key", "lacks")
        assert (name in message and text in message) or any(word in message for word in meant), message
    assert kernel.open_fds() == []


@pytest.mark.parametrize("error", ERRNOS)
def test_reading_a_map_falls_back_from_batches(refuse, error):
    """Any error of the first batch means that there are none: the walk by keys says what is wrong, if anything."""
    refuse(abi.MAP_LOOKUP_BATCH, error)
    table(lambda made: list(made.items()))()


def test_a_refused_map_leaves_no_btf_open(refuse):
    for error in (errno.EINVAL, errno.E2BIG, errno.EPERM, errno.ENOMEM):
        refuse(abi.MAP_CREATE, error)
        with pytest.raises(LoadError):
            create("task_storage", None, "Q", name="x")
        assert kernel.open_fds() == []


def test_a_map_whose_info_cannot_be_had_is_closed(refuse):
    refuse(abi.OBJ_GET_INFO_BY_FD, errno.EACCES)
    with pytest.raises(SyscallError, match="EACCES"):
        Map.by_id(7)
    assert kernel.open_fds() == []


def test_the_answer_to_a_query_that_needs_more_room():
    """PROG_QUERY says how many there are; TEST_RUN how much it would have written."""
    ids = list(range(100, 140))

    def query(name, command, attr):
        import ctypes
        import struct

        if command == abi.PROG_TEST_RUN:
            struct.pack_into("=I", attr, 12, 99)
            return -errno.ENOSPC
        room, where = attrs.number("query", attr, "prog_cnt"), attrs.number("query", attr, "prog_ids")
        struct.pack_into("=I", attr, 24, len(ids))
        if room < len(ids):
            return -errno.ENOSPC
        raw = struct.pack(f"={len(ids)}I", *ids)
        ctypes.memmove(where, raw, len(raw))
        return 0

    kernel.set_syscall_hook(query)
    try:
        assert commands.prog_query(3, 4) == (ids, 0)
        with pytest.raises(SyscallError, match="99 bytes of data came out"):
            kernel.prog_test_run(3, bytes(14), bytearray(14))
    finally:
        kernel.set_syscall_hook(None)
