"""System calls with arguments drawn at random by what each is: a plan that tests/system/denied_calls.py carries out.

All addresses are known beforehand, so a plan is data: the same seed gives the same calls.
"""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Iterable
from pathlib import Path

from denied_calls import WORDS

from bfer.catalogue import Arg, Catalogue, Event
from bfer.names import Names
from bfer.values import AT_FDCWD

BASE = 0x2_0000_0000
_PAGE = 4096
_ALL = (1 << 64) - 1

# What bfer takes on entry (execve, exit ...), where seccomp has answered before.
ON_ENTRY = ("execve", "execveat", "exit", "exit_group", "rt_sigreturn", "sigreturn")
# The kernel's own, which seccomp lets pass: a process that makes them is killed.
PASSING = ("uprobe", "uretprobe")

_EDGES = (
    *(0, 1, 2, 3, 7, 255, 256, 4095, 4096, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32),
    *((1 << 32) + 1, 1 << 63, (1 << 63) - 1, _ALL, _ALL - 1, _ALL - 99, (1 << 31) - 2, 0xFFFFFF9C, 0xFFFF00000000),
)
_WILD = (1, 0xDEAD0000, BASE - 8, 0xFFFF800000001000, _ALL, _ALL - 4094)
_WORDS = ("alpha", "/etc/hostname", "../x y", "ext4", "user.name", "", "a\tb\n", "\u00e9t\u00e9", "tmp/*", "q" * 300)
_RAW = (b"\xff\xfe", b"\x80abc", b"\x01\x02\x7f", b"\xc3")
# How many items an array has: few, where there is one, or strace writes all of the memory behind it.
_COUNTS = (
    *("iovcnt", "nr_segs", "vlen", "nfds", "nsops", "nr", "maxnode", "count", "liovcnt", "riovcnt", "nr_args"),
    *("nr_segments", "nr_futexes", "nr_ns_ids", "nr_mnt_ids", "pair_count"),
)
_FEW = 7
_FAMILIES = (0, 1, 1, 2, 2, 10, 10, 16, 17, 38, 40, 3, 99)


class Plan:
    """``count`` calls or more, of ``seed``: of each call of the machine's table as many."""

    def __init__(self, seed: int, count: int, machine: str, only: Iterable[str] = ()) -> None:
        self._random = random.Random(seed)
        self._names = Names(machine)
        self._memory = bytearray()
        self.calls: list[tuple[str, tuple[int, ...], str]] = []
        wanted = set(only)
        events = [
            event
            for event in Catalogue(machine, ("structures",)).events.values()
            if not event.hooks and not event.is_compat and event.name not in ON_ENTRY + PASSING
            if not wanted or event.name in wanted
        ]
        rounds = max(1, round(count / len(events)))
        self._rows = array("Q")
        self._failing = 0
        for turn in range(rounds):
            if turn == rounds - rounds // 4:
                self._failing = len(self.calls)
            for event in events:
                self._call(event)
        self._failing = self._failing or len(self.calls)

    def write(self, path: Path) -> None:
        size = -(-len(self._memory) // _PAGE) * _PAGE
        header = array("Q", (BASE, size, self._failing, len(self._rows) // WORDS))
        path.write_bytes(header.tobytes() + self._rows.tobytes() + bytes(self._memory.ljust(size, b"\0")))

    def _call(self, event: Event) -> None:
        values = [self._value(event, arg) & _ALL for arg in event.args]
        if any(BASE <= value < BASE + (1 << 32) for value in values):
            values = [v % _FEW if arg.name in _COUNTS else v for arg, v in zip(event.args, values)]
        rest = [self._random.choice(_EDGES) for _ in range(6 - len(values))]
        self.calls.append((event.name, tuple(values), f"syscall_{event.number:#x}"))
        self._rows.extend((event.number, *values, *rest))

    # Numbers.

    def _value(self, event: Event, arg: Arg) -> int:
        if arg.type.endswith(("*", "]")) or arg.memory:
            return self._pointer(arg)
        draw = self._random
        known = self._table(arg.kind)
        turn = draw.random()
        if arg.name in ("sigsetsize", "sizemask"):
            return draw.choice((8, 8, 8, 8, 0, 9, 16, 128, _ALL))
        if arg.kind in ("fd", "dirfd"):
            return draw.choice((0, 1, 2, 3, 9, 1023, AT_FDCWD, -1, *_EDGES))
        if known and turn < 0.3:
            return draw.choice(known)
        if known and turn < 0.55:
            value = 0
            for _ in range(draw.randint(2, 5)):
                value |= draw.choice(known)
            return value
        if turn < 0.7 and (known or arg.kind):
            return 1 << draw.randrange(arg.bits)
        if turn < 0.8:
            return draw.randint(0, 70)
        if turn < 0.85 and arg.kind == "ptr":
            return self._pointer(arg)
        if turn < 0.9 or (turn < 0.97 and not arg.kind):
            return draw.choice(_EDGES)
        if turn < 0.97:
            return draw.randrange(1 << 12)
        return draw.getrandbits(64)

    def _table(self, kind: str) -> list[int]:
        known = self._names.kind(kind) if kind and kind not in ("ptr", "fd", "dirfd", "fcntl_arg") else None
        words = known.words() if known is not None else []
        values = [known.parse(word) for word in words] if known is not None else []
        return [value for value in values if value is not None]

    # Memory.

    def _pointer(self, arg: Arg) -> int:
        turn = self._random.random()
        if turn < 0.08:
            return 0
        if turn < 0.14:
            return self._random.choice(_WILD)
        make = getattr(self, "_" + arg.kind.removeprefix("out"), None)
        if make is not None:
            return self._put(make())
        if arg.type in ("const char*", "char*"):
            return self._put(self._string())
        return self._put(self._soup(40))

    def _put(self, data: bytes) -> int:
        """The address that ``data`` has from now on; now and then it ends with the mapping's page."""
        at = BASE + len(self._memory)
        self._memory += data
        self._memory += bytes(8 + -len(self._memory) % 8)
        return at

    def _string(self) -> bytes:
        draw = self._random
        if draw.random() < 0.1:
            return draw.choice(_RAW) + b"\0"
        if draw.random() < 0.02:
            return b"/long" * draw.choice((800, 821, 900)) + b"\0"
        return draw.choice(_WORDS).encode() + b"\0"

    def _word(self) -> int:
        draw = self._random
        turn = draw.random()
        if turn < 0.4:
            return draw.randint(0, 40)
        if turn < 0.6:
            return draw.choice(_EDGES)
        if turn < 0.7:
            return self._put(self._string())
        if turn < 0.8:
            return 1 << draw.randrange(64)
        return draw.getrandbits(draw.choice((8, 16, 31, 32, 64)))

    def _soup(self, words: int) -> bytes:
        """Numbers that may be members, flags, addresses of strings."""
        values = [self._word() & _ALL for _ in range(words)]
        return struct.pack(f"={words}Q", *values)

    def _sockaddr(self) -> bytes:
        draw = self._random
        family = draw.choice(_FAMILIES)
        data = struct.pack("=H", family)
        if family == 1:
            path = draw.choice((b"/run/x.sock\0", b"\0abstract", b"\0", b"\0\xff\0q", b"rel"))
            return (data + path).ljust(draw.choice((len(path) + 2, 110)), b"\0")
        if family == 2:
            return (data + struct.pack(">H4s", draw.choice((0, 80, 65535)), draw.randbytes(4))).ljust(16, b"\0")
        if family == 10:
            address = draw.choice(
                (bytes(16), bytes(15) + b"\1", bytes(10) + b"\xff\xff" + b"\x7f\0\0\1", draw.randbytes(16))
            )
            return (
                data + struct.pack(">HI", 443, draw.choice((0, 5))) + address + struct.pack("=I", draw.choice((0, 2)))
            )
        return data + draw.randbytes(100)

    def _cap_header(self) -> bytes:
        return struct.pack("=Ii", 0x20080522, self._random.choice((0, 1, -1)))

    def _cap_data(self) -> bytes:
        return struct.pack("=6I", *[self._word() & (0xFFFFFFFF if at < 3 else 0x1FF) for at in range(6)])

    def _iovecs(self) -> bytes:
        data = b""
        for _ in range(6):
            data += struct.pack("=QQ", self._put(self._string()), self._random.randint(0, 4))
        return data
