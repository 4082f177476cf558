"""Names of flags, modes and commands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bfer import names, values
from bfer.catalogue import Catalogue
from bfer.names import CHOICE, FLAGS, Names

NAMES = Names("x86_64")
PLAIN = ("ptr", "fd", "dirfd", "id", *[kind for kind in values._BY_ANOTHER if "_" in kind])
ROOT = Path(__file__).parents[2]

# The C library means something else.
_OWN = ("O_LARGEFILE", "__O_TMPFILE", "SIGRTMIN", "F_GETLK64", "F_SETLK64", "F_SETLKW64")

HEADERS = (
    *(
        "fcntl.h",
        "linux/fcntl.h",
        "poll.h",
        "sys/epoll.h",
        "signal.h",
        "linux/magic.h",
        "netinet/in.h",
        "linux/in.h",
        "linux/in6.h",
        "linux/tcp.h",
        "linux/udp.h",
        "linux/netlink.h",
        "linux/if_packet.h",
        "linux/mount.h",
        "linux/falloc.h",
    ),
    *(
        "linux/fanotify.h",
        "linux/stat.h",
        "linux/xattr.h",
        "linux/io_uring.h",
    ),
    *(
        "linux/openat2.h",
        "linux/close_range.h",
        "linux/eventpoll.h",
        "linux/fs.h",
    ),
    *(
        "linux/memfd.h",
        "linux/inotify.h",
        "linux/swap.h",
        "asm/ioctls.h",
    ),
    *(
        "linux/mman.h",
        "linux/membarrier.h",
        "linux/mempolicy.h",
        "linux/sched.h",
    ),
    *(
        "linux/prctl.h",
        "linux/ptrace.h",
        "linux/seccomp.h",
        "linux/personality.h",
    ),
    *(
        "linux/wait.h",
        "linux/landlock.h",
        "linux/futex.h",
        "linux/ipc.h",
    ),
    *(
        "linux/shm.h",
        "linux/sem.h",
        "linux/msg.h",
        "linux/keyctl.h",
    ),
    *(
        "linux/module.h",
        "linux/reboot.h",
        "linux/kexec.h",
        "linux/perf_event.h",
    ),
    *(
        "linux/random.h",
        "linux/time.h",
        "linux/bpf.h",
        "sys/socket.h",
    ),
    *(
        "netinet/in.h",
        "sys/timerfd.h",
        "sys/eventfd.h",
        "sys/signalfd.h",
    ),
    *(
        "sys/epoll.h",
        "sys/mman.h",
        "signal.h",
        "sys/resource.h",
    ),
    *(
        "sys/inotify.h",
        "sys/file.h",
        "sys/splice.h",
        "asm/prctl.h",
    ),
    *(
        "linux/capability.h",
        "unistd.h",
    ),
)


def all_kinds() -> dict[str, object]:
    found = {}
    for text in names._MODULES.values():
        for kind in text.split():
            found[kind] = NAMES.kind(kind) if not kind.endswith("_arm") else Names("aarch64").kind(kind[:-4])
    return found


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "armv7l", "s390x", "riscv64"])
def test_every_kind_of_argument_is_known(machine: str) -> None:
    known = Names(machine)
    for named in Catalogue(machine).events.values():
        for event in named.both():
            for arg in event.args:
                if arg.kind and not arg.memory and arg.kind not in PLAIN:
                    assert known.kind(arg.kind) is not None, (event.name, arg.name, arg.kind)


def test_every_kind_is_used_and_texts_can_be_read_back() -> None:
    used = {arg.kind for m in ("x86_64", "aarch64") for e in Catalogue(m).events.values() for arg in e.args}
    used |= {kind.kind for e in Catalogue("x86_64").events.values() if e.compat for kind in e.compat.args}
    used |= {kind for _, kinds, _ in values._BY_ANOTHER.values() for kind in kinds.values()}
    members = re.findall(r'"\w+:(\w+)"', (ROOT / "bfer" / "structures.py").read_text())
    for name, kind in all_kinds().items():
        assert name in used | {"resolve", "clone3", "capabilities", *members} or name.endswith("_arm"), name
        assert kind is not None
        for text, value in kind._table:
            back = kind.parse(kind.text(value & 0xFFFFFFFFFFFFFFFF if value >= 0 else value))
            assert back in (value, None) or (back or 0) & value == value, (name, text)


def test_values_are_those_of_the_headers(tmp_path: Path) -> None:
    """Every name that the machine's own headers define has their value."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    if os.uname().machine != "x86_64":
        pytest.skip("the tables of x86-64 are compared")
    rows = {}
    for name, kind in all_kinds().items():
        if not name.endswith("_arm"):
            rows.update(dict.fromkeys(kind._table, name))
    existing = []
    for header in HEADERS:  # one at a time: some exclude each other
        source = tmp_path / "one.c"
        lines = ["#define _GNU_SOURCE", f"#include <{header}>", "#include <stdio.h>", "int main(void) {"]
        for text, _ in rows:
            lines += [f"#ifdef {text}", f'printf("{text} %lld\\n", (long long)({text}));', "#endif"]
        source.write_text("\n".join([*lines, "}"]))
        program = tmp_path / "one"
        done = subprocess.run([compiler, "-w", "-o", program, source], capture_output=True, check=False)
        if done.returncode == 0:
            output = subprocess.run([program], capture_output=True, text=True, check=True).stdout
            existing += [line.split() for line in output.splitlines()]
    assert len({name for name, _ in existing}) > 400
    stated: dict[str, set[int]] = {}
    for text, value in rows:
        stated.setdefault(text, set()).add(value & 0xFFFFFFFF)
    different = [(n, v) for n, v in existing if int(v) & 0xFFFFFFFF not in stated[n] and n not in _OWN]
    assert not different, different


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("open", 0o1101, "O_WRONLY|O_CREAT|O_TRUNC"),
        ("open_only", 0o2000000, "O_CLOEXEC"),
        ("inode_mode", 0o100644, "S_IFREG|0644"),
        ("mmap", 0x22, "MAP_PRIVATE|MAP_ANONYMOUS"),
        ("prot", 0, "PROT_NONE"),
        ("clone", 0x1200011, "CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD"),
        ("signal", 9, "SIGKILL"),
        ("signal", 34, "SIGRT_2"),
        ("futex", 0x189, "FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME"),
        ("sock_type", 0o2000001, "SOCK_STREAM|SOCK_CLOEXEC"),
        ("sched", 0x40000001, "SCHED_FIFO|SCHED_RESET_ON_FORK"),
        ("ipcget", 0o1600, "IPC_CREAT|0600"),
        ("mempolicy", 0x8002, "MPOL_BIND|MPOL_F_STATIC_NODES"),
        ("personality", 0xFFFFFFFF, "0xffffffff"),
        ("personality", 0x20008, "PER_LINUX32|UNAME26"),
        ("ptrace", 0x100000001, "0x100000001"),
        ("signal", 0xFFFFFFFF, "-1"),
        ("keyring", 0xFFFFFF9C, "-100"),
        ("mmap", 0x2E, "0xe|MAP_ANONYMOUS"),
        ("mmap", 0x54040022, "MAP_PRIVATE|MAP_ANONYMOUS|MAP_HUGETLB|21<<MAP_HUGE_SHIFT"),
        ("memfd", 0x54000005, "MFD_CLOEXEC|MFD_HUGETLB|21<<MFD_HUGE_SHIFT"),
        ("inode_mode", 0o162000, "0162000"),
        ("inode_mode", 0o100007, "S_IFREG|007"),
        ("statx", 0xFFF, "STATX_ALL"),
        ("dev", 0x801, "makedev(0x8, 0x1)"),
        ("dev", 0x12345678, "makedev(0x456, 0x12378)"),
        ("quota", 0x80000701, "QCMD(Q_GETQUOTA, GRPQUOTA)"),
        ("quota", 0x580203, "QCMD(Q_XQUOTAOFF, 0x3)"),
        ("ioprio", 0x4004, "IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 4)"),
        ("ioctl", 0x5413, "TIOCGWINSZ"),
        ("ioctl", 0xC0045877, "_IOC(_IOC_READ|_IOC_WRITE, 0x58, 0x77, 0x4)"),
        ("swap", 0x18005, "SWAP_FLAG_PREFER|SWAP_FLAG_DISCARD|5"),
        ("kexec", 0x3E0001, "KEXEC_ARCH_X86_64|KEXEC_ON_CRASH"),
        ("ethernet", 0x300, "htons(ETH_P_ALL)"),
        ("fanotify_init", 9, "FAN_CLASS_PRE_CONTENT|FAN_CLOEXEC"),
        ("shmctl_cmd", 0x102, "IPC_64|IPC_STAT"),
        ("personality", 0x40000, "PER_LINUX|ADDR_NO_RANDOMIZE"),
        ("keyring", 0xFFFFFFFD, "KEY_SPEC_SESSION_KEYRING"),
        ("rusage", 0xFFFFFFFF, "RUSAGE_CHILDREN"),
        ("whence", 99, "0x63"),
        ("hex", 255, "0xff"),
        ("access", 0, "F_OK"),
    ],
)
def test_texts(kind: str, value: int, text: str) -> None:
    assert NAMES.text(kind, value) == text


def test_options_of_sockets_are_named_where_they_are_meant() -> None:
    event = Catalogue("x86_64").events["setsockopt"]
    option = event.args[2]
    assert values.named(option, 2, NAMES, (3, 1, 2, 0, 4, 0)) == "SO_REUSEADDR"
    assert values.named(option, 2, NAMES, (3, 6, 2, 0, 4, 0)) == "TCP_MAXSEG"
    assert values.named(option, 2, NAMES, (3, 41, 2, 0, 4, 0)) == "IPV6_2292PKTINFO"
    assert values.named(option, 2, NAMES, (3, 132, 2, 0, 4, 0)) is None
    protocol = Catalogue("x86_64").events["socket"].args[2]
    texts = [values.named(protocol, 0, NAMES, (family, 1, 0)) for family in (1, 2, 10, 16)]
    assert texts == [None, "IPPROTO_IP", "IPPROTO_IP", "NETLINK_ROUTE"]
    arg = Catalogue("x86_64").events["fcntl"].args[2]
    texts = [values.named(arg, 1, NAMES, (3, command, 1)) for command in (0, 2, 4, 10, 6, 1031, 1033)]
    assert texts == [None, "FD_CLOEXEC", "O_WRONLY", "SIGHUP", "0x1", None, "F_SEAL_SEAL"]


def test_what_further_arguments_mean_depends_on_the_first() -> None:
    events = Catalogue("x86_64").events
    for event, args, place, text in (
        ("prctl", (1, 9), 1, "SIGKILL"),
        ("prctl", (24, 21), 1, "CAP_SYS_ADMIN"),
        ("prctl", (47, 2, 13), 2, "CAP_NET_RAW"),
        ("prctl", (53, 1, 4), 2, "PR_SPEC_DISABLE"),
        ("prctl", (15, 0x1000), 1, "0x1000"),
        ("prctl", (38, 1), 1, "1"),
        ("ptrace", (7, 5, 0, 19), 3, "SIGSTOP"),
        ("ptrace", (0x4200, 5, 0, 3), 3, "PTRACE_O_TRACESYSGOOD|PTRACE_O_TRACEFORK"),
        ("keyctl", (7, 0xFFFFFFFD), 1, "KEY_SPEC_SESSION_KEYRING"),
        ("keyctl", (8, 5, 0xFFFFFFFC), 2, "KEY_SPEC_USER_KEYRING"),
        ("fcntl", (3, 8, 0xFFFFFFFB), 2, "-5"),
        ("setreuid", (0xFFFFFFFF, 0), 0, "-1"),
        ("setreuid", (3000000000, 0), 0, "3000000000"),
        ("chmod", (0, 0x10001FF), 1, "0777"),
    ):
        assert values.text(events[event].args[place], args[place], NAMES, args) == text


def test_styles_are_known() -> None:
    assert {kind._style for kind in all_kinds().values()} > {FLAGS, CHOICE}


def test_what_is_printed_can_be_given_as_a_value() -> None:
    """Every kind of every argument that is a number, in any event."""
    tried = [*range(70), *(1 << bit for bit in range(32)), 0x1FF, 0o101666]
    kinds = {
        arg.kind for event in Catalogue("x86_64").events.values() for arg in event.args if arg.kind and not arg.memory
    }
    for name in sorted(kinds):
        kind = NAMES.kind(name)
        if kind is None:
            assert name in PLAIN
            continue
        for value in tried:
            text = kind.text(value)
            if not text.isdigit() and not text.startswith("0x"):
                assert kind.parse(text) == value, (name, text)
