"""Whatever is wrong with the words of a command line: one line that names the word, exit status 2, nothing touched."""

from __future__ import annotations

import shlex
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bfer import __main__, expr
from bfer.__main__ import one_line
from bfer.catalogue import Catalogue
from bfer.pushdown import push_down
from btf.errors import Error

X86 = Catalogue("x86_64")

# What follows `bfer trace`, and the word at fault, which the line must name.
EXPRESSIONS = r"""
'' | empty
= | =
=x | =x
!= | !=
!=x | !=x
< | <
>5 | >5
! | !
!! | !!
!uid | !uid
!container=new | !container
!container=ab | !container
not-container=1 | not-container
uid | uid
uid= | uid=
uid! | uid!
uid!5 | uid!5
uid==5 | ==
uid!==5 | !==
uid=>5 | >5
uid=<5 | <5
uid=, | uid=,
uid=0, | uid=0,
uid=,0 | uid=,0
uid=0,,1 | uid=0,,1
uid=-1 | -1
uid=+1 | +1
uid=1.5 | 1.5
uid=1e3 | 1e3
uid=0x | 0x
uid=0xg | 0xg
uid=1_000 | 1_000
'uid= 5' | ' 5'
uid=٥ | ٥
uid=4294967296 | 4294967296
uid=99999999999999999999 | 99999999999999999999
uid=no_such_user | no_such_user
uid=root,nobody_at_all | nobody_at_all
uid>no_such_user | no_such_user
pid | pid
pid=x | x
pid=self | self
pid=new,5 | new
pid=5,new | new
pid>new | new
pid=old | old
pid=new pid!=new | pid!=new
pid=1-5 | 1-5
pid=-5 | -5
pid<<5 | <5
pid<=x | x
pid>= | pid>=
tid | tid
tid=x | x
tid=new | new
tid=4294967296 | 4294967296
mntns=x | x
mntns=mnt:[4026531841] | mnt:[4026531841]
mntns=-4 | -4
mntns= | mntns=
mntns | mntns
pidns=x | x
pidns=host | host
pidns=5000000000 | 5000000000
uts | uts
uts= | uts=
uts>a | >
uts=web* | *
uts=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa | 65
comm | comm
comm= | comm=
comm=a,,b | a,,b
comm>x | >
comm<=x | <=
comm=sixteen_bytes_xx | sixteen_bytes_xx
comm=ääääääää | ääääääää
comm=ba* | ba*
comm!=*sh | *sh
com=x | com
tree | tree
tree= | tree=
tree=0 | 0
tree=abc | abc
tree=-1 | -1
tree>1 | >
tree=1,x | x
tre=5 | tre
tree=99999999999 | 99999999999
follow=1 | follow=1
follow! | follow!
follow!=1 | follow!=1
fo=1 | fo=1
container= | container=
container> | >
container>ab | >
container=new,ab | new
container=,ab | ,ab
contained | contained
container:ab | container:ab
container !container | !container
!c container=ab | container=ab
binary | binary
binary= | binary=
binary=curl | curl
binary=bin/curl | bin/curl
binary=./curl | ./curl
binary=curl* | curl*
binary=*curl* | *curl*
binary=/usr/*/curl | /usr/*/curl
binary>/bin/sh | >
exec= | exec=
exec=sh | sh
executable=sh | sh
bin=sh | sh
bin | bin
binary=/@300 | 255
binary=*/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa | 60
binary=*a,*aa,*aaa,*aaaa,*aaaaa,*aaaaaa,*aaaaaaa,*aaaaaaaa,*aaaaaaaaa | binary
event | event
event= | event=
event=open, | open,
event=opnat | opnat
event=OPENAT | OPENAT
event=openat,nosuch | nosuch
'event=open at' | open at
event=*at | *at
event=o*t* | o*t*
event=zz* | zz*
event=** | **
event>open | >
event!=nosuch | nosuch
event!=zz* | zz*
event!=* | event!=
even=open, | open,
evnt=open | evnt
openat | openat
open* | open*
event=openat event!=openat | event!=
event!=openat openat.retval<0 | event!=openat
event!=open* openat.flags=0 | event!=open*
events | events
events= | events=
events!=open | !=
events=nosuch | nosuch
events=-nosuch | nosuch
events=- | ''
events=--open | -open
set | set
set= | set=
set!=fs | !=
set=ned | ned
set=fs,ned | ned
set=fs* | fs*
set>fs | >
tag= | tag=
tag=nosuch | nosuch
tag!=fs | !=
net | net
net= | net=
net=wlan0 | net=wlan0
netns=5 | netns=5
set=network_events | network_events
event=net_packet | net_packet
event=net_packet_ipv4 | net_packet_ipv4
net_packet_ipv4.src=1.2.3.4 | net_packet_ipv4
event=dns_request | dns_request
tag=packets | packets
threat.severity>=high | threat
threat.mitre.technique=T1055 | threat
.pathname=/x | ''
openat. | ''
openat.=/x | openat
..=x | ''
opnat.pathname=/x | opnat
openat.path=/x | path
openat.pathnam=/x | pathnam
openat.pathname | openat.pathname
openat.pathname= | openat.pathname=
openat.pathname=, | openat.pathname=,
openat.pathname>x | >
openat.pathname<=x | <=
openat.pathname=/a*b | /a*b
openat.pathname=*a*b* | *a*b*
openat.pathname=/a openat.pathname!=/a | openat.pathname!=/a
unlink.flags=0 | flags
openat.flags=O_WRITE | O_WRITE
openat.flags=O_RDWR|O_NOSUCH | O_RDWR|O_NOSUCH
openat.flags= | openat.flags=
openat.flags>O_NOSUCH | O_NOSUCH
openat.flags>O_* | O_*
openat.flags=99999999999 | 99999999999
openat.flags>=-99999999999 | -99999999999
openat.dirfd=x | x
openat.mode=09 | 09
openat.mode=rw | rw
openat.mode>5 openat.mode<5 | openat.mode<5
socket.domain=AF_NOSUCH | AF_NOSUCH
kill.sig=KILL | KILL
kill.sig=SIGNOSUCH | SIGNOSUCH
setuid.uid=no_such_user | no_such_user
sched_process_exit.process_group_exit=maybe | maybe
openat.retval | openat.retval
openat.retval= | openat.retval=
openat.retval=x | x
openat.retval=ENOENT | ENOENT
openat.retval=-ENOWAY | -ENOWAY
openat.retval=9223372036854775808 | 9223372036854775808
openat.retval<-9223372036854775809 | -9223372036854775809
openat.retval<0 openat.retval>0 | openat.retval>0
openat.retvl=0 | retvl
exit.retval=0 | exit
exit_group.retval<0 | exit_group
openat.data=/x | data
openat.data.=/x | ''
openat.data.path=/x | path
openat.args.path=/x | path
openat.arg.pathname=/x | arg.pathname
openat.scope=1 | scope
openat.scope.=1 | ''
openat.scope.uidd=1 | uidd
openat.scope.uid | openat.scope.uid
openat.scope.uid= | openat.scope.uid=
openat.scope.uid=no_such_user | no_such_user
openat.scope.comm>x | >
openat.scope.pid=x | x
openat.scope.cgroupId=-1 | -1
openat.scope.uid=0 openat.scope.uid!=0 | openat.scope.uid!=0
'openat.scope.container>x' | >
uid<5 uid>10 | uid>10
uid=5 uid!=5 | uid!=5
comm=a comm!=a | comm!=a
tree=1 tree!=1 | tree!=1
binary=/bin/sh binary!=*sh | binary!=*sh
mntn=5 | mntn
process=5 | process
uid:5 | uid:5
"""

# Whole command lines, after `bfer`.
LINES = r"""
trase | trase
event=open | event=open
uid>5 | uid>5
frobnicate | frobnicate
--quite | --quite
--trase event=openat | --trase
-x | -x
-qx | -x
--frob=1 | --frob
--quiet=1 | --quiet=1
--trace | --trace
--filter | --filter
-f | --filter
--scope | --scope
-s | --scope
--events | --events
-e | --events
-e nosuch | nosuch
-e open,nosuch | nosuch
-e -nosuch | nosuch
-e '' | events=
-e tag=nosuch | nosuch
-e openat.data.path=/x | path
-s uid=x | 'x'
-s comm=a* | a*
-f pid=x | 'x'
--scope= | empty
--output | --output
-o | --output
-o jsn | jsn
-o xlm:/x | xlm
-o json: | json:
-o option: | option:
-o option:nosuch | nosuch
-o json -o table | standard output
-o none -o json | none
-o template= | template=
-o template={nosuch} | nosuch
trace -o -- true | --output
trace -- | --
trace uid=x -- true | 'x'
trace tree=1 -- true | tree
--duration | --duration
--duration x | x
--duration -5 | -5
--duration 5d | 5d
--duration 1.2.3 | 1.2.3
--buffer x | x
--buffer 100K | 100K
--buffer 4K | 4K
--buffer 2G | 2G
list nosuch | nosuch
list event | event
list events sets | sets
list --jsn | --jsn
list --json=1 | --json=1
list sets -- true | --
trace --json | --json
explain | explain
explain nosuch | nosuch
explain openat close | close
explain open* | open*
explain openat.flags | openat.flags
doctor nosuch | nosuch
"""


def table(text: str) -> list[tuple[list[str], str]]:
    rows = []
    for line in text.strip().replace("@300", "a" * 300).splitlines():
        words, _, fault = line.rpartition(" | ")
        rows.append((shlex.split(words), fault.strip("'") if len(fault) > 2 else fault))
    return rows


CASES = [(["trace", *words], fault) for words, fault in table(EXPRESSIONS)] + table(LINES)


def test_there_are_many() -> None:
    assert len({tuple(words) for words, _ in CASES}) == len(CASES) >= 200


@pytest.mark.parametrize(("words", "fault"), CASES, ids=[" ".join(words) for words, _ in CASES])
def test_one_line_that_names_the_word(
    words: list[str], fault: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "bfer.tracer", None)  # not even imported
    assert __main__.main(words) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("bfer: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert "Traceback" not in err
    assert fault in err


@pytest.mark.parametrize(
    "words",
    [
        *(["trace", word] for word in ("event=a\nb", "a\nb=c", "binary=a\nb", "comm=" + "a\n" * 9, "openat.a\r\nb=1")),
        *(["trace", word] for word in ("event=\udcff", "uid=\udcff", "binary=\udcff\x1b[2J", "set=\u2028")),
        ["--duration", "a\nb"],
        ["--buffer", "\n"],
        ["-o", "json\n"],
        ["-o", "option:\n"],
        ["list", "a\nb"],
        ["explain", "a\nb"],
        ["a\nb"],
        ["--a\nb"],
    ],
    ids=repr,
)
def test_words_that_would_break_the_line(words: list[str], capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert __main__.main(words) == 2
    out, err = capfdbinary.readouterr()
    assert out == b""
    assert err.count(b"\n") == 1
    assert err.endswith(b"\n")
    assert not [byte for byte in err[:-1] if byte < 0x20]


PIECES = st.sampled_from(
    [
        *(*expr.FIELDS, *expr.SYNONYMS, "!container", "openat", "close", "exit", "security_file_open", "net", "open*"),
        *("pathname", "flags", "fd", "retval", "scope", "data", "args", "uid", "comm", "container", "sha256"),
        *("=", "!=", "<", ">", "<=", ">=", ".", ",", "*", "-", "!", ":", "|", " ", "\n", "(", ")", "new", "root"),
        *("0", "1", "-1", "5", "4294967296", "18446744073709551616", "0x10", "010", "-ENOENT", "O_RDWR", "AF_INET"),
        *("/etc/*", "*x", "é", "\udcff", "\0", "kprobe:", "tp:", "uprobe:/bin/sh"),
    ]
)


@given(st.lists(st.lists(PIECES, max_size=6).map("".join), max_size=4))
def test_any_words_at_all(texts: list[str]) -> None:
    """They make a policy, or are told to be wrong; and what can be told to the kernel is."""
    policy, told = None, ""
    try:
        policy = expr.parse(texts, X86)
    except Error as error:
        told = one_line(str(error))
    assert "\n" not in told
    if policy is not None:
        assert policy.events
        for shape in push_down(policy).shapes.values():
            shape.pack()
