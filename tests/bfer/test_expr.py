"""The filter grammar."""

from __future__ import annotations

import pytest

from bfer import expr
from bfer.catalogue import Catalogue
from bfer.errors import UsageError
from bfer.policy import CONTAINS, EXACT, PREFIX, SUFFIX, Numbers
from bfer.residual import _decide

X86 = Catalogue("x86_64")
ARM64 = Catalogue("aarch64")


def parse(*texts: str, catalogue: Catalogue = X86):
    return expr.parse(texts, catalogue)


def names(*texts: str, catalogue: Catalogue = X86) -> list[str]:
    return [event.name for event in parse(*texts, catalogue=catalogue).events]


DEFAULT = names()
ALL = sorted({*X86.sets["default"], *X86.sets["syscalls"]})


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((), sorted(X86.sets["default"], key=lambda name: X86.events[name].id)),
        (("event=openat",), ["openat"]),
        (("e=openat",), ["openat"]),
        (("ev=unlink,creat",), ["creat", "unlink"]),
        (("event=openat*",), ["openat", "openat2"]),
        (("event=*",), [*X86.events]),
        (("event!=openat",), [name for name in DEFAULT if name != "openat"]),
        (("event!=open*",), [name for name in DEFAULT if not name.startswith("open")]),
        (("set=ipc_pipe",), ["pipe", "pipe2"]),
        (("s=ipc_shm", "e!=shmat,shmdt"), ["shmget", "shmctl"]),
        (("set=ipc_pipe", "event=open"), ["open", "pipe", "pipe2"]),
        # Tracee's != takes away from sets only.
        (("event=openat*", "event!=openat"), ["openat2"]),
        (("event=openat,open", "event!=openat"), ["open"]),
        (("tag=ipc_pipe",), ["pipe", "pipe2"]),
        (("events=openat*,-openat",), ["openat2"]),
        (("events=ipc_pipe,open,-pipe",), ["open", "pipe2"]),
        (("events=-openat",), [name for name in DEFAULT if name != "openat"]),
        *[((who,), ALL) for who in ("comm=x", "pid=7", "tid=7", "pid=new", "tree=7", "follow", "bin=/x")],
        *[((who,), DEFAULT) for who in ("uts=x", "mntns=1", "pidns!=1", "container", "!container", "container=ab")],
        (("uid=0",), DEFAULT),
        (("openat.pathname=/x",), ["openat"]),
        (("openat.pathname=/x", "unlink.retval=0"), ["openat", "unlink"]),
        (("event=unlink", "openat.pathname=/x"), ["openat", "unlink"]),
        (("event!=unlink", "openat.pathname=/x"), [name for name in DEFAULT if name != "unlink"]),
        (("openat.scope.comm=x",), ["openat"]),
        (("openat.data.pathname=/x",), ["openat"]),
        (("openat.args.pathname=/x",), ["openat"]),
    ],
)
def test_events(texts: tuple[str, ...], expected: list[str]) -> None:
    assert sorted(names(*texts)) == sorted(expected)


def test_events_of_another_machine() -> None:
    assert "unlinkat" in names(catalogue=ARM64)
    assert names("event=openat*", catalogue=ARM64) == ["openat", "openat2"]
    assert parse("event=open", catalogue=ARM64).notes == ["on aarch64 only 32-bit processes have open"]
    with pytest.raises(UsageError, match=r"^event 'arch_prctl' does not exist on aarch64$"):
        parse("event=arch_prctl", catalogue=ARM64)
    with pytest.raises(UsageError, match=r"^event 'arch_prctl' does not exist on aarch64$"):
        parse("arch_prctl.addr=0", catalogue=ARM64)
    with pytest.raises(UsageError, match=r"^no event matches 'arch_p\*': see `bfer list`$"):
        parse("event=arch_p*", catalogue=ARM64)


@pytest.mark.parametrize(
    ("texts", "notes"),
    [
        (("event=openat", "openat.pathname=/x"), []),
        (("openat.pathname=/x",), ["event openat is traced alone, because a filter names it"]),
        (
            ("openat.pathname=/x", "open.pathname=/x"),
            ["events openat, open are traced alone, because filters name them"],
        ),
        (("event=open", "openat.retval<0"), ["event openat is traced too, because a filter names it"]),
        (("event=open,creat", "event!=open"), ["event open is both named and excluded: it is not traced"]),
        (("event=open*", "event!=open"), []),
    ],
)
def test_notes(texts: tuple[str, ...], notes: list[str]) -> None:
    assert parse(*texts).notes == notes


@pytest.mark.parametrize(
    ("word", "kind", "data"),
    [
        ("/tmp/x", EXACT, b"/tmp/x"),
        ("/tmp/*", PREFIX, b"/tmp/"),
        ("*.txt", SUFFIX, b".txt"),
        ("*login*", CONTAINS, b"login"),
        ("*", PREFIX, b""),
        ("**", PREFIX, b""),
        ("a=b", EXACT, b"a=b"),
        ("a!<>b", EXACT, b"a!<>b"),
        ("/caf\udcff", EXACT, b"/caf\xff"),
    ],
)
def test_patterns(word: str, kind: int, data: bytes) -> None:
    (item,) = parse(f"openat.pathname={word}").filters["openat"].args["pathname"][1].wanted
    assert (item.kind, item.data) == (kind, data)


def test_values_are_ored_and_repeats_merge() -> None:
    policy = parse("openat.pathname=/a,/b*", "openat.pathname=/c", "openat.pathname!=/d")
    choice = policy.filters["openat"].args["pathname"][1]
    assert [item.data for item in choice.wanted] == [b"/a", b"/b", b"/c"]
    assert [item.data for item in choice.unwanted] == [b"/d"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("openat.flags=O_WRONLY|O_CREAT|O_TRUNC", 0o1101),
        ("openat.flags=O_TRUNC|O_CREAT|O_WRONLY", 0o1101),
        ("openat.flags=O_RDONLY", 0),
        ("openat.flags=0x241", 0x241),
        ("openat.flags=577", 577),
        ("openat.mode=0644", 0o644),
        ("openat.mode=0o644", 0o644),
        ("openat.mode=420", 420),
        ("openat.mode=0", 0),
        ("openat.dirfd=AT_FDCWD", -100),
        ("openat.dirfd=-100", -100),
        ("openat2.size=24", 24),
        ("unlinkat.flags=AT_REMOVEDIR", 0x200),
        ("kill.sig=SIGKILL", 9),
        ("socket.domain=AF_INET", 2),
        ("socket.type=SOCK_STREAM", 1),
        ("ptrace.request=PTRACE_ATTACH", 16),
        ("setuid.uid=root", 0),
        ("setgid.gid=root", 0),
        ("setsockopt.level=SOL_SOCKET", 1),
        ("clone.flags=CLONE_VM|CLONE_VFORK|SIGCHLD", 0x4111),
        ("mknodat.mode=S_IFIFO|0644", 0o10644),
        ("security_socket_create.type=SOCK_DGRAM|SOCK_CLOEXEC", 0o2000002),
        ("sched_process_exit.process_group_exit=true", 1),
        ("close.fd=-1", -1),
        ("close.fd=4294967295", -1),
        ("fchown.owner=-1", 0xFFFFFFFF),
    ],
)
def test_numbers_of_arguments(text: str, value: int) -> None:
    event, _, rest = text.partition(".")
    assert parse(text).filters[event].args[rest.partition("=")[0]][1].wanted == [value]


@pytest.mark.parametrize(
    ("texts", "inside", "outside"),
    [
        (("uid=0",), [0], [1, 1000]),
        (("uid=0,1000",), [0, 1000], [1]),
        (("uid=root",), [0], [1]),
        (("uid!=0",), [1, 1000], [0]),
        (("u>0", "u!=1000"), [1, 999, 1001], [0, 1000]),
        (("uid<10",), [0, 9], [10, 11]),
        (("uid<=10",), [0, 10], [11]),
        (("uid>=10", "uid<20"), [10, 19], [9, 20]),
        (("uid>5", "uid>7"), [8], [6, 7]),
        (("uid=0", "uid>1000"), [0, 1001], [1, 1000]),
        (("uid=0,5", "uid!=5"), [0], [5, 6]),
        (("uid>5", "uid!=7", "uid<10"), [6, 8, 9], [5, 7, 10]),
    ],
)
def test_numbers(texts: tuple[str, ...], inside: list[int], outside: list[int]) -> None:
    uid = parse(*texts).numbers["uid"]
    assert isinstance(uid, Numbers)
    assert [n for n in inside + outside if uid.matches(n)] == inside


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("openat.retval=-ENOENT", [-2], [0, 3, -13]),
        ("openat.retval!=-ENOENT,-EACCES", [0, -1], [-2, -13]),
        ("openat.retval<0", [-1, -38], [0, 3]),
        ("openat.retval>=0", [0, 3], [-1]),
        ("openat.retval=3,-2", [3, -2], [4]),
        ("openat.retval>-9223372036854775808", [-1], []),
    ],
)
def test_results(text: str, inside: list[int], outside: list[int]) -> None:
    numbers = parse(text).filters["openat"].result
    assert [n for n in inside + outside if numbers.matches(n)] == inside


def test_who() -> None:
    policy = parse("comm=a.sh,x=y", "comm!=cat", "tree=3,5", "tree!=7", "follow", "pid=9", "pid=new", "uts!=a.b")
    assert policy.nodes == {b"a.b": False}
    assert policy.comms == {b"a.sh": True, b"x=y": True, b"cat": False}
    assert policy.tree == {3: True, 5: True, 7: False}
    assert policy.follow
    assert policy.numbers["pid"].exact == {9: True}
    assert policy.pid_new is True
    assert parse("pid!=new", "f").pid_new is False
    assert not parse("p=new").numbers
    assert {*parse("mntns>5", "pidns!=6", "tid=7", "u=0").numbers} == {"mntns", "pidns", "tid", "uid"}


@pytest.mark.parametrize("name", ["binary", "executable", "exec", "bin"])
def test_binary(name: str) -> None:
    choice = parse(f"{name}=/usr/bin/curl,*/wget", f"{name}!=/usr/b*").binary
    assert [(item.kind, item.data) for item in choice.wanted] == [(EXACT, b"/usr/bin/curl"), (SUFFIX, b"/wget")]
    assert [(item.kind, item.data) for item in choice.unwanted] == [(PREFIX, b"/usr/b")]


@pytest.mark.parametrize(
    ("texts", "passing"),
    [
        (("container",), ["abc old", "abc new", "def old"]),
        (("c",), ["abc old", "abc new", "def old"]),
        (("!container",), [" old", " new"]),
        (("!c",), [" old", " new"]),
        (("not-container",), [" old", " new"]),
        (("container=new",), ["abc new"]),
        (("container!=new",), ["abc old", "def old"]),
        (("container=ab,d",), ["abc old", "abc new", "def old"]),
        (("container=ab", "cont=new"), ["abc new"]),
        (("container!=ab",), ["def old", " old", " new"]),
        (("container", "container!=ab"), ["def old"]),
    ],
)
def test_containers(texts: tuple[str, ...], passing: list[str]) -> None:
    container = parse(*texts).container
    tried = ["abc old", "abc new", "def old", " old", " new"]
    assert [word for word in tried if container.matches(word.split(" ")[0], word.endswith("new"))] == passing


def test_scope() -> None:
    scope = parse("openat.scope.uid>=1000", "openat.scope.comm=a*", "openat.scope.container").filters["openat"].scope
    assert scope.keys() == {"uid", "comm", "container"}
    assert scope["container"].inside is True


@pytest.mark.parametrize(
    ("texts", "inside", "outside"),
    [
        (("lseek.offset>=5",), [5, 1 << 40], [4, -1]),
        (("lseek.offset<0",), [-1], [0, 5]),
        (("lseek.offset>0", "lseek.offset<=9", "lseek.offset!=3"), [1, 9], [0, 3, 10]),
        (("lseek.offset=7", "lseek.offset>100"), [7, 101], [8, 100]),
        (("lseek.offset=-1",), [-1], [1]),
    ],
)
def test_bounds_of_arguments(texts: tuple[str, ...], inside: list[int], outside: list[int]) -> None:
    choice = parse(*texts).filters["lseek"].args["offset"][1]
    assert [n for n in inside + outside if _decide(choice, n)] == inside


BAD = [
    ("", "empty filter expression"),
    ("=x", "no name before '=' in '=x'"),
    ("uid==5", "unknown operator '==' in 'uid==5'"),
    ("uid!==5", "unknown operator '!==' in 'uid!==5'"),
    ("uid!5", "unknown operator '!' in 'uid!5'"),
    ("event", "'event' needs an operator (= !=) and a value"),
    ("uid", "'uid' needs an operator (= != < > <= >=) and a value"),
    ("event=", "empty value in 'event='"),
    ("event=open,", "empty value in 'event=open,'"),
    ("comm=a,,b", "empty value in 'comm=a,,b'"),
    ("openat.pathname=", "empty value in 'openat.pathname='"),
    ("openat.retval=", "empty value in 'openat.retval='"),
    ("uid=", "empty value in 'uid='"),
    ("event>open", "'event' knows no operator '>', only = !=: 'event>open'"),
    ("set!=fs", "'set' knows no operator '!=', only =: 'set!=fs'"),
    ("comm<x", "'comm' knows no operator '<', only = !=: 'comm<x'"),
    ("tree>1", "'tree' knows no operator '>', only = !=: 'tree>1'"),
    ("follow=1", "'follow' takes no value: 'follow=1'"),
    ("event=opnat", "unknown event 'opnat': did you mean 'openat'?"),
    ("event=openta", "unknown event 'openta': did you mean 'openat'?"),
    ("event=security_fileopen", "unknown event 'security_fileopen': did you mean 'security_file_open'?"),
    ("event!=foo", "unknown event 'foo': see `bfer list`"),
    ("event=foo*", "no event matches 'foo*': see `bfer list`"),
    ("event=*at", "unknown event '*at': see `bfer list`"),
    ("event=o*t*", "no event matches 'o*t*': see `bfer list`"),
    ("set=fs_file_op", "unknown set 'fs_file_op': did you mean 'fs_file_ops'?"),
    ("set=ned", "unknown set 'ned': did you mean 'net'?"),
    (
        "xyzzyx=5",
        f"unknown filter 'xyzzyx': there are {', '.join(expr.FIELDS)}, EVENT.ARG, EVENT.retval",
    ),
    ("com=x", "unknown filter 'com': did you mean 'comm'?"),
    ("tre=5", "unknown filter 'tre': did you mean 'tree'?"),
    ("openat", "unknown filter 'openat': did you mean 'event=openat'?"),
    ("uid=no_such_user", "there is no user 'no_such_user': 'uid=no_such_user'"),
    ("uid=0x", "'0x' is not a number: 'uid=0x'"),
    ("uid=-1", "'-1' is not a number: 'uid=-1'"),
    ("uid=1_000", "'1_000' is not a number: 'uid=1_000'"),
    ("uid=+5", "'+5' is not a number: 'uid=+5'"),
    ("uid= 5", "' 5' is not a number: 'uid= 5'"),
    ("uid=\u0665", "'\u0665' is not a number: 'uid=\u0665'"),
    ("uid=4294967296", "4294967296 is too big: 'uid=4294967296'"),
    ("pid<x", "'x' is not a number: 'pid<x'"),
    ("pid=new,5", "'new' stands alone, as pid=new or pid!=new: 'pid=new,5'"),
    ("pid<new", "'new' stands alone, as pid=new or pid!=new: 'pid<new'"),
    ("tree=0", "there is no process 0: 'tree=0'"),
    ("tree=abc", "'abc' is not a number: 'tree=abc'"),
    ("comm=sixteen_bytes_xx", "a comm has at most 15 bytes, 'sixteen_bytes_xx' has 16"),
    ("comm=ba*", "'comm' takes no wildcards: 'comm=ba*'"),
    ("opnat.pathname=/x", "unknown event 'opnat': did you mean 'openat'?"),
    ("openat.path=/x", "event 'openat' has no argument 'path': it has dirfd, pathname, flags, mode, retval"),
    ("openat.pathnam=/x", "event 'openat' has no argument 'pathnam': did you mean 'pathname'?"),
    ("unlink.flags=0", "event 'unlink' has no argument 'flags': it has pathname, retval"),
    ("openat.=/x", "event 'openat' has no argument '': it has dirfd, pathname, flags, mode, retval"),
    (".pathname=/x", "unknown event '': see `bfer list`"),
    ("openat.pathname", "'openat.pathname' needs an operator (= !=) and a value"),
    ("openat.pathname>x", "'openat.pathname' knows no operator '>', only = !=: 'openat.pathname>x'"),
    ("openat.retval", "'openat.retval' needs an operator (= != < > <= >=) and a value"),
    ("openat.retval=ENOENT", "calls fail with negative values, use -ENOENT: 'openat.retval=ENOENT'"),
    (
        "openat.retval=-ENOWAY",
        "'-ENOWAY' is neither a number nor an error such as -ENOENT: 'openat.retval=-ENOWAY'",
    ),
    ("openat.retval=x", "'x' is neither a number nor an error such as -ENOENT: 'openat.retval=x'"),
    ("openat.retval=9223372036854775808", "9223372036854775808 is too big: 'openat.retval=9223372036854775808'"),
    ("openat.flags=O_WRITE", "'O_WRITE' is no value of flags (int): 'openat.flags=O_WRITE'"),
    ("openat.dirfd=x", "'x' is no value of dirfd (int): 'openat.dirfd=x'"),
    ("openat.mode=09", "'09' is no value of mode (mode_t): 'openat.mode=09'"),
    (
        "openat.pathname=/a*b",
        "'*' is a wildcard only at the start and the end of a value: 'openat.pathname=/a*b'",
    ),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[text or "empty" for text, _ in BAD])
def test_bad_expressions(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text)
    assert str(error.value) == message
    assert "\n" not in str(error.value)


def test_contradictions() -> None:
    with pytest.raises(UsageError, match="pid=new and pid!=new exclude each other"):
        parse("pid=new", "pid!=new")
    with pytest.raises(UsageError, match="no event is left to trace: event!= removed them all"):
        parse("event!=*")


NEVER = [
    ("uid<5", "uid>10"),
    ("uid=5", "uid!=5"),
    ("pid>5", "pid<7", "pid!=6"),
    ("comm=a", "comm!=a"),
    ("uts=a", "uts!=a"),
    ("tree=1", "tree!=1"),
    ("container", "!container"),
    ("!container", "container=ab"),
    ("not-container", "container=new"),
    ("container=abc", "container!=ab"),
    ("binary=/bin/sh", "binary!=*/sh"),
    ("binary=/bin/a*", "binary!=/bin/*"),
    ("openat.retval<0", "openat.retval>=0"),
    ("openat.flags=O_RDWR", "openat.flags!=2"),
    ("openat.pathname=/tmp/x", "openat.pathname!=/tmp/*"),
    ("openat.pathname=*ab*", "openat.pathname!=*a*"),
    ("close.fd>5", "close.fd<3"),
    ("openat.scope.uid<1", "openat.scope.uid>1"),
]


@pytest.mark.parametrize("texts", NEVER, ids=" ".join)
def test_what_can_never_match(texts: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as error:
        parse(*texts)
    assert str(error.value) == f"nothing can ever match {' and '.join(map(repr, texts))}"
    for text in texts[:-1]:
        parse(text)


def test_filters_of_events_that_are_left_out() -> None:
    with pytest.raises(UsageError) as error:
        parse("event!=open*", "openat.retval<0")
    assert str(error.value) == "'event!=open*' excludes openat, so 'openat.retval<0' can never match"


@pytest.mark.parametrize("catalogue", [X86, ARM64], ids=["x86_64", "aarch64"])
def test_sets_are_found_without_making_all_events(catalogue: Catalogue) -> None:
    for name, members in catalogue.sets.items():
        fresh = Catalogue(catalogue.machine).members(name)
        assert [event.name for event in catalogue.members(name)] == members
        assert {event.name for event in fresh} == set(members), name
    assert Catalogue(catalogue.machine).members("nothing") == []
