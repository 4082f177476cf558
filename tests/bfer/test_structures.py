"""What is behind pointers to structures: layouts by the machine's own C compiler, and how each format shows them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from struct import pack

import pytest
from fake_records import NAMES, field, record

from bfer import memory, structures
from bfer.catalogue import STRUCTURES, Catalogue
from bfer.names import Names
from bfer.output.json import Json
from bfer.output.table import Table
from bfer.records import FORM_BYTES, KIND_EVENTS, KIND_EVENTS_PACKED, KIND_INT, KIND_OUT, KIND_WORDS

CATALOGUE = Catalogue("x86_64", {STRUCTURES})
EVENTS = {event.number: event for named in CATALOGUE.events.values() for event in named.both()}


def shown(name: str, scalars: tuple[int, ...], fields: bytes, result: int = 0) -> tuple[str, list]:
    """The arguments in a table, and in JSON with option parse-arguments."""
    raw = record(name, b"", scalars, fields=fields, result=result, catalogue=CATALOGUE)
    row = Table(EVENTS, NAMES).render([raw], 0).decode()
    return row.split(None, 7)[7].strip(), json.loads(Json(EVENTS, NAMES, True).render([raw], 0))["args"]


def test_as_people_and_programs_see_it() -> None:
    action = field(1, pack("=4Q", 0x1234, 0x14000000, 0x5678, 1 << 1 | 1 << 14), FORM_BYTES) + field(2, 0)
    row, args = shown("rt_sigaction", (2, 8), action)
    assert row == (
        "signum: SIGINT, act: {sa_handler: 0x1234, sa_mask: [INT TERM], sa_flags: SA_RESTORER|SA_RESTART, "
        "sa_restorer: 0x5678}, oldact: NULL, sigsetsize: 8"
    )
    assert args[1]["value"] == {
        "sa_handler": "0x1234",
        "sa_mask": "[INT TERM]",
        "sa_flags": "SA_RESTORER|SA_RESTART",
        "sa_restorer": "0x5678",
    }
    assert args[2] == {"name": "oldact", "type": "void*", "value": "0x0"}
    polls = field(0, pack("=ihhihh", 3, 1, 0, 4, 4, 5), FORM_BYTES)
    row, args = shown("poll", (2, 100), polls, 1)
    assert row == (
        "fds: [{fd: 3, events: POLLIN, revents: 0}, {fd: 4, events: POLLOUT, revents: POLLIN|POLLOUT}], "
        "nfds: 2, timeout: 100"
    )
    row, args = shown("poll", (3, 100), polls, 1)
    assert ", ...], nfds: 3" in row
    assert args[0]["truncated"] is True
    row, _ = shown("prlimit64", (0, 3), field(2, 0) + field(3, pack("=QQ", 8 << 20, (1 << 64) - 1), FORM_BYTES))
    assert row.endswith("new_limit: NULL, old_limit: {rlim_cur: 8388608, rlim_max: RLIM64_INFINITY}")
    spec = field(2, pack("=4q", 1, 2, 3, 4), FORM_BYTES) + field(3, 0)
    row, args = shown("timerfd_settime", (3, 1), spec)
    assert "new_value: {it_interval: {tv_sec: 1, tv_nsec: 2}, it_value: {tv_sec: 3, tv_nsec: 4}}" in row
    assert args[2]["value"]["it_value"] == {"tv_sec": 3, "tv_nsec": 4}


@pytest.mark.parametrize(
    ("status", "value"),
    [
        (0x0300, {"exited": 3}),
        (9, {"killed:signal": 9, "core": 0}),
        (0x8B, {"killed:signal": 11, "core": 1}),
        (0x137F, {"stopped:signal": 19}),
        (0xFFFF, {"continued": 1}),
    ],
)
def test_wait_statuses(status: int, value: dict) -> None:
    assert structures.decode("outwstatus", pack("=I", status), (), NAMES) == value


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (0, "[]"),
        (1 << 8, "[KILL]"),
        ((1 << 64) - 1, "~[]"),
        ((1 << 64) - 1 - (1 << 31) - (1 << 32), "~[RTMIN RT_1]"),
        ((1 << 41) - 1, None),
        ((1 << 42) - 1, None),
    ],
)
def test_sets_of_signals(mask: int, text: str | None) -> None:
    got = structures.decode("sigset", pack("=Q", mask), (), NAMES)
    assert isinstance(got, str)
    assert got == text or (text is None and got.startswith("~[") == (bin(mask).count("1") >= 42))


def test_who_is_shown_what() -> None:
    """32-bit callers, other machines, and those who did not ask, get addresses where the layout is another."""
    plain = Catalogue("x86_64").events["newfstatat"]
    assert (plain.program, plain.args[2].kind, plain.args[2].memory) == ("path", "ptr", 0)
    event = CATALOGUE.events["newfstatat"]
    assert (event.program, event.args[2].memory) == ("fields", KIND_OUT | KIND_WORDS + 18)
    compat = CATALOGUE.events["nanosleep"].compat
    assert compat is not None
    assert (compat.args[0].kind, compat.args[0].memory) == ("ptr", 0)
    compat = CATALOGUE.events["getresuid"].compat
    assert compat is not None
    assert compat.args[0].memory == KIND_INT | KIND_OUT
    arm64 = Catalogue("aarch64", {STRUCTURES})
    assert arm64.events["fstat"].args[1].memory == KIND_OUT | KIND_WORDS + 16
    assert arm64.events["epoll_pwait"].args[1].memory == KIND_OUT | KIND_EVENTS
    assert CATALOGUE.events["epoll_wait"].args[1].memory == KIND_OUT | KIND_EVENTS_PACKED
    for machine in ("s390x", "armv7l"):
        assert Catalogue(machine, {STRUCTURES}).events["fstat"].args[1].memory == 0


def test_every_structure_of_the_catalogue_has_a_decoder() -> None:
    seen = set()
    for machine in ("x86_64", "aarch64"):
        names = Names(machine)
        for event in Catalogue(machine, {STRUCTURES}).events.values():
            for arg in event.args:
                if arg.memory and structures.base(arg.kind) in structures._MEMORY:
                    seen.add(structures.base(arg.kind))
                    size = memory_size(arg.memory & 0x3F)
                    value = structures.decode(arg.kind, bytes(size), (0,) * 6, names)
                    assert isinstance(value, (dict, list, str))
                    assert memory.text(value, names) is not None
    assert seen == set(structures._MEMORY)


def memory_size(kind: int) -> int:
    return 8 * (kind - KIND_WORDS) if kind >= KIND_WORDS else 4 if kind == KIND_INT else 48


C = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/utsname.h>
#define SHOW(name, v) do { printf("%s ", name); for (size_t i = 0; i < sizeof v; i++) \
    printf("%02x", ((unsigned char *)&v)[i]); puts(""); } while (0)
int main(void) {
    struct stat s; memset(&s, 0, sizeof s);
    s.st_ino = 1; s.st_mode = 0100644; s.st_nlink = 3; s.st_uid = 4; s.st_gid = 5; s.st_size = 6; s.st_mtime = 7;
    SHOW("stat", s);
    struct statx x; memset(&x, 0, sizeof x);
    x.stx_mask = 1; x.stx_nlink = 2; x.stx_uid = 3; x.stx_gid = 4; x.stx_mode = 0100600; x.stx_ino = 5; x.stx_size = 6;
    SHOW("statx", x);
    struct statfs f; memset(&f, 0, sizeof f);
    f.f_type = 0xef53; f.f_bsize = 1; f.f_blocks = 2; f.f_bfree = 3; f.f_bavail = 4; f.f_files = 5; f.f_ffree = 6;
    SHOW("statfs", f);
    struct rusage u; memset(&u, 0, sizeof u);
    u.ru_utime.tv_usec = 1; u.ru_stime.tv_sec = 2; u.ru_maxrss = 3;
    SHOW("rusage", u);
    struct sysinfo y; memset(&y, 0, sizeof y);
    y.uptime = 1; y.loads[2] = 2; y.totalram = 3; y.freeswap = 4; y.procs = 5; y.bufferram = 6;
    SHOW("sysinfo", y);
    struct msghdr m; memset(&m, 0, sizeof m);
    m.msg_namelen = 1; m.msg_iovlen = 2; m.msg_controllen = 3; m.msg_flags = MSG_TRUNC;
    SHOW("msghdr", m);
    stack_t t; memset(&t, 0, sizeof t);
    t.ss_flags = SS_DISABLE; t.ss_size = 2;
    SHOW("sigstack", t);
    struct epoll_event e; memset(&e, 0, sizeof e);
    e.events = EPOLLIN; e.data.u64 = 2;
    SHOW("epoll_event", e);
    struct utsname n; memset(&n, 0, sizeof n);
    n.sysname[0] = 'a'; n.nodename[0] = 'b'; n.release[0] = 'c'; n.version[0] = 'd'; n.machine[0] = 'e';
    SHOW("utsname", n);
    struct tms c = {1, 2, 3, 4};
    SHOW("tms", c);
    return 0;
}
"""

EXPECTED = {
    "stat": {
        "st_ino": 1,
        "st_mode:inode_mode": 0o100644,
        "st_nlink": 3,
        "st_uid": 4,
        "st_gid": 5,
        "st_size": 6,
        "st_mtime": 7,
    },
    "statx": {
        "stx_mask:statx": 1,
        "stx_nlink": 2,
        "stx_uid": 3,
        "stx_gid": 4,
        "stx_mode:inode_mode": 0o100600,
        "stx_ino": 5,
        "stx_size": 6,
    },
    "statfs": {
        "f_type:filesystem": 0xEF53,
        "f_bsize": 1,
        "f_blocks": 2,
        "f_bfree": 3,
        "f_bavail": 4,
        "f_files": 5,
        "f_ffree": 6,
    },
    "rusage": {"ru_utime": {"tv_sec": 0, "tv_usec": 1}, "ru_stime": {"tv_sec": 2, "tv_usec": 0}, "ru_maxrss": 3},
    "sysinfo": {
        "uptime": 1,
        "loads": [0, 0, 2],
        "totalram": 3,
        "freeram": 0,
        "sharedram": 0,
        "bufferram": 6,
        "totalswap": 0,
        "freeswap": 4,
        "procs": 5,
    },
    "msghdr": {
        "msg_name:ptr": 0,
        "msg_namelen": 1,
        "msg_iov:ptr": 0,
        "msg_iovlen": 2,
        "msg_control:ptr": 0,
        "msg_controllen": 3,
        "msg_flags:msg": 0x20,
    },
    "sigstack": {"ss_sp:ptr": 0, "ss_flags:sigstack": 2, "ss_size": 2},
    "epoll_event": {"events:epoll": 1, "data": 2},
    "utsname": {"sysname": b"a", "nodename": b"b", "release": b"c", "version": b"d", "machine": b"e"},
    "tms": {"tms_utime": 1, "tms_stime": 2, "tms_cutime": 3, "tms_cstime": 4},
}


@pytest.mark.parametrize(("machine", "compilers"), [("x86_64", "gcc cc"), ("aarch64", "aarch64-linux-gnu-gcc")])
def test_layouts_are_those_of_the_headers(machine: str, compilers: str, tmp_path: Path) -> None:
    import os

    compiler = next(filter(None, map(shutil.which, compilers.split())), None)
    emulator = [] if os.uname().machine == machine else [shutil.which(f"qemu-{machine}-static") or ""]
    if compiler is None or emulator == [""]:
        pytest.skip(f"there is no C compiler for {machine}, or nothing that runs its programs")
    (tmp_path / "x.c").write_text(C)
    subprocess.run([compiler, "-static", "-o", tmp_path / "x", tmp_path / "x.c"], check=True)
    done = subprocess.run([*emulator, str(tmp_path / "x")], capture_output=True, text=True, check=True)
    found = dict(line.split() for line in done.stdout.splitlines())
    assert found.keys() == EXPECTED.keys()
    for kind, hexadecimal in found.items():
        data = bytes.fromhex(hexadecimal)
        read = memory_size(structures.memory(kind, machine, False) & 0x3F)
        data = data[:read].ljust(read, b"\0")
        assert structures.decode(kind, data, (0,) * 6, Names(machine)) == EXPECTED[kind], kind
