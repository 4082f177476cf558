"""Random calls, told by strace and by bfer: stricter than strace_compare, for their registers are known.

What bfer shows of a number must be the number that was passed, whatever strace says; names must be strace's.
"""

from __future__ import annotations

import re
from collections import Counter

from strace_compare import _CLONE, Call, Comparison

from bfer.catalogue import Arg, Catalogue
from bfer.names import _MODULES, Names, _bits
from bfer.records import KIND_CHECKED, KIND_OUT
from bfer.values import _BY_ANOTHER, _meant

RULES = {
    "buffer": "strace shows what is in the memory, bfer its address",
    "structure": "strace decodes the structure, bfer shows its address",
    "unused": "strace leaves out an argument that the call ignores",
    "newer": "bfer has names for bits that strace shows as numbers; the values are equal",
    "unknown": "strace does not know the call, or shows its registers: values are compared",
    "address": "strace shows the address of what the call ignores, has a wrong size, or is written by a success only",
    "decoded": "strace knows what this number means for this command",
    "table": "strace takes the names of a table that several calls share, of flags that this one lacks",
    "alias": "the headers have this name, too",
    "glued": "strace leaves out the | before a mode where no flag of those before it has a name",
    "sign": "strace shows another sign or width than that of the kernel's type",
    "length": "strace shows as many bytes as the call says, bfer the string in them",
}

_ALIASES = {
    "PTRACE_PEEKUSER": "PTRACE_PEEKUSR",
    "PTRACE_POKEUSER": "PTRACE_POKEUSR",
    "FUTEX_FD|FUTEX_PRIVATE_FLAG": "FUTEX_FD_PRIVATE",
    "SNDCTL_TMR_TIMEBASE or TCGETS": "TCGETS",
    "SNDCTL_TMR_START or TCSETS": "TCSETS",
    "SNDCTL_TMR_STOP or TCSETSW": "TCSETSW",
    "SNDCTL_TMR_CONTINUE or TCSETSF": "TCSETSF",
    **{f"SO_{name}_OLD": f"SO_{name}" for name in ("TIMESTAMP", "TIMESTAMPNS", "TIMESTAMPING", "RCVTIMEO", "SNDTIMEO")},
}
_SHARED = {
    "timerfd_create": {"TFD_TIMER_ABSTIME": 1, "TFD_TIMER_CANCEL_ON_SET": 2},
    "timerfd_settime": {"TFD_NONBLOCK": 0x800, "TFD_CLOEXEC": 0x80000},
    "open_tree": {"AT_REMOVEDIR": 0x200, "AT_SYMLINK_FOLLOW": 0x400},
}
# Where strace shows another sign or width than the kernel's.
_SIGN = (
    *("socket.protocol", "socketpair.protocol", "preadv.pos_l", "pwritev.pos_l", "preadv2.pos_l", "pwritev2.pos_l"),
    *("kcmp.idx1", "kcmp.idx2", "syslog.type", "mmap.flags", "remap_file_pages.flags", "fcntl.arg", "sysfs.option"),
    *("prctl.arg2", "prctl.arg3", "keyctl.arg2", "personality.persona", "keyctl.arg3", "ptrace.data", "ptrace.addr"),
)
_SIGN_MEMBERS = (
    *("tv_nsec", "tv_usec", "tms_utime", "tms_stime", "tms_cutime", "tms_cstime", "exit_signal", "st_size"),
    *("ru_maxrss", "uptime", "f_bsize", "st_uid", "st_gid", "stx_uid", "stx_gid"),
)
_SHORT = ("exit_signal", "st_uid", "st_gid", "stx_uid", "stx_gid")
# Of these strace knows more names, which depend on devices and protocols.
_DECODED = (
    *("ioctl.request", "getsockopt.optname", "setsockopt.optname", "socket.protocol", "socketpair.protocol"),
    *(
        "futex.val3",
        "prctl.arg2",
        "prctl.arg3",
        "ptrace.addr",
        "futex_wait.mask",
        "futex_wake.mask",
        "sched_getattr.size",
    ),
)
# What strace shows of the lowest byte, of systems whose names stand for flags, too, in the headers.
_SYSTEMS = {
    "PER_SVR4": 1,
    "PER_SVR3": 2,
    "PER_SCOSVR3": 3,
    "PER_WYSEV386": 4,
    "PER_ISCR4": 5,
    "PER_XENIX": 7,
    "PER_IRIX32": 9,
    "PER_IRIXN32": 10,
    "PER_IRIX64": 11,
    "PER_SOLARIS": 13,
    "PER_UW7": 14,
}
# What strace does not read: a key where the command has none, the type of a mount that is only changed, names of hosts
# and sets of signals of a wrong size, what comes with an unknown version, times after a call that failed, the length
# of an address that nobody asks for, a command line that is said to be longer than the memory behind it.
_ADDRESSED = (
    *("fsconfig.key", "mount.filesystemtype", "sethostname.name", "setdomainname.name", "capset.datap", "capget.datap"),
    *("epoll_pwait2.timeout", "epoll_ctl.event", "accept.addrlen", "accept4.addrlen", "getsockname.addrlen"),
    *("getpeername.addrlen", "recvfrom.addrlen", "kexec_file_load.cmdline"),
)
# Several bits that have one name in newer versions.
_COMBINED = {"FAN_MARK_MNTNS", "MOUNT_ATTR__ATIME"}
_MODES = ("semget.semflg", "msgget.msgflg", "shmget.shmflg")

# Calls of which strace shows registers (as for those that it does not know, syscall_0x1d4).
_RAW = ("epoll_ctl_old", "epoll_wait_old", "nfsservctl", "create_module", "query_module", "get_kernel_syms", "rseq")
_PTRACE_DATA = [f"PTRACE_{what}{kind}REGS" for what in ("GET", "SET") for kind in ("", "FP", "FPX")]
_FUTEX_LOCK = (6, 13)  # FUTEX_LOCK_PI and FUTEX_LOCK_PI2, which ignore val
_COMMENT = re.compile(r" /\* ([^*]*) \*/")
_CONSTANTS = {"NULL": 0, "AT_FDCWD": -100, "FAN_NOFD": -1, "RLIM64_INFINITY": (1 << 64) - 1}
# These stand for the upper half of an offset that 64-bit callers pass as a whole.
_SKIPPED = {
    "preadv": ("pos_h",),
    "pwritev": ("pos_h",),
    "preadv2": ("pos_h",),
    "pwritev2": ("pos_h",),
}


class RandomComparison(Comparison):
    """``more`` counts by argument where strace shows more than bfer."""

    def __init__(self, machine: str) -> None:
        super().__init__()
        self.names = Names(machine)
        self.arguments = 0
        self.more: Counter[str] = Counter()
        self.addresses: Counter[str] = Counter()
        self._events = Catalogue(machine, ("structures",)).events
        self._lexicon: dict[str, set[int]] = {}
        for kinds in _MODULES.values():
            for name in kinds.split():
                kind = self.names.kind(name)
                if kind is not None:
                    for word, value in kind._table:
                        self._lexicon.setdefault(word, set()).add(value)
        self._raw = 0
        self._arg: Arg | None = None

    def planned(self, call: Call, event: dict, values: tuple[int, ...]) -> None:
        """One call of a plan, whose registers held ``values``."""
        self.calls += 1
        if call.result != event["returnValue"]:
            self.differences.append(f"result {event['returnValue']}: {call.line[:160]}")
        known = self._events[event["eventName"]]
        pairs = [
            (arg, shown, raw)
            for arg, shown, raw in zip(known.args, event["args"], values)
            if arg.name not in _SKIPPED.get(call.name, ())
        ]
        raw_call = call.name.startswith("syscall_") or (
            call.name in _RAW and all(_plain(text) is not None for text in call.args)
        )
        texts = call.args[: len(pairs)] if raw_call else call.args
        if call.name == "restart_syscall":
            texts = []
        if call.name == "clone":
            named = dict(text.split("=", 1) for text in texts)
            named = {_CLONE[name]: text for name, text in named.items()}
            texts = [named.get(arg.name, "") for arg, _, _ in pairs]
        if call.name == "futex" and values[1] & 0x7F in _FUTEX_LOCK:
            texts.insert(2, "")
        if call.name == "ptrace" and len(texts) == 3 and texts[0] in _PTRACE_DATA:
            texts.insert(2, "")
        if len(texts) < len(pairs) or "" in texts:
            self.rules["unused"] += 1
        if len(texts) > len(pairs):
            self.differences.append(f"{call.name}: {len(texts)} arguments: {call.line[:160]}")
        for at, (arg, shown, raw) in enumerate(pairs):
            self.arguments += 1
            where = f"{call.name}.{arg.name}"
            if not self.holds(arg, shown["value"], raw, values):
                self.differences.append(f"{where} = {shown['value']!r} of {raw:#x}")
                continue
            if at >= len(texts) or not texts[at]:
                continue
            self._arg, self._raw = arg, raw
            verdict = self.unknown(texts[at]) if raw_call else self.random(call, texts[at], shown)
            if verdict:
                self.rules[verdict] += 1
                if verdict in ("buffer", "structure", "decoded"):
                    name = f"{where} {arg.kind}"
                    if verdict == "decoded":
                        name += f" {_COMMENT.sub('', texts[at])}"
                    self.more[name] += 1
                if verdict == "address":
                    self.addresses[where] += 1
            elif verdict is None:
                self.differences.append(f"{where} = {shown['value']!r} | strace {texts[at][:200]}: {call.line[:160]}")

    def holds(self, arg: Arg, value: object, raw: int, values: tuple[int, ...]) -> bool:
        """Is a shown number the one of the register?"""
        if arg.memory:
            return not (isinstance(value, str) and value.startswith("0x")) or int(value, 16) == raw
        kind = _meant(arg.kind, values) if arg.kind in _BY_ANOTHER else arg.kind
        number = self.number(value, kind)
        if number is None:
            return "(" in str(value) or "PER_" in str(value)  # only strace tells
        bits = 32 if arg.kind in _BY_ANOTHER else arg.bits  # commands that take an int
        return (number - raw) % (1 << bits) == 0

    def number(self, value: object, kind: str = "") -> int | None:
        """The number that a text means, by the names of a kind, or of any."""
        if isinstance(value, int):
            return value
        text = _COMMENT.sub("", str(value))
        known = (
            self.names.kind(kind)
            if kind not in ("", "ptr", "fd", "dirfd", "fcntl_arg", "sockopt", "ipproto") and "_arg" not in kind
            else None
        )
        total = 0
        for word in text.split("|"):
            found = _CONSTANTS.get(word)
            if found is None and known is not None:
                found = dict(known._table).get(word)
            if found is None and word in self._lexicon:
                found = max(self._lexicon[word])
            if found is None:
                found = _bits(word) if "<<" in word else _plain(word)
            if found is None:
                return None
            total |= found
        return total

    def unknown(self, text: str) -> str | None:
        """A register, in full; that bfer shows the same has been seen."""
        number = _plain(text)
        return "unknown" if number is not None and (number - self._raw) % (1 << 32) == 0 else None

    def random(self, call: Call, text: str, shown: dict) -> str | None:
        """As Comparison.argument."""
        arg = self._arg
        assert arg is not None
        value = shown["value"]
        where = f"{call.name}.{arg.name}"
        text = re.sub(r" => [\[{].*$", "", text)
        if call.name == "syslog" and arg.name == "type":  # the name stands in the comment
            text = re.sub(r"\b(\d+) /\* ([A-Z][A-Z_0-9]+) \*/", r"\2", text)
        text = _COMMENT.sub("", text)
        if call.name == "personality":
            for word, number in _SYSTEMS.items():
                if text.split("|")[0] == word:
                    text = text.replace(word, f"{number:#x}")
        for word, number in _SHARED.get(call.name, {}).items():
            if arg.name == "flags" and word in text.split("|"):
                rest = self.number(text)
                assert rest is not None
                return "table" if rest | number == self.number(value, arg.kind) else None
        if text in _ALIASES:
            return "alias" if _ALIASES[text] == value else None
        text = text.replace("AT_STATX_SYNC_AS_STAT|", "").replace("AT_STATX_SYNC_AS_STAT", "0")
        address = isinstance(value, str) and value.startswith("0x")
        if text.startswith('"') and not address:
            if call.name == "getcwd":
                return "length" if text in ('""', '""...') or self.string(text, shown) else None
            if call.name == "kexec_file_load":
                mine, theirs = str(value).encode(), bytes.fromhex(text.strip('".').replace("\\x", ""))
                return "length" if mine.startswith(theirs.partition(b"\0")[0]) or "valueBytes" in shown else None
            return "" if self.string(text, shown) else None
        if text[0] in '[{"~' and address and arg.memory and not self.unread(call, arg) and text not in ("[]", '""...'):
            return None
        if text[0] in '[{"~' and address:
            return "buffer" if text.startswith('"') else "structure"
        if arg.memory and not address:
            if _plain(text) is not None:
                known = where in _ADDRESSED or "sigset" in arg.kind or "sockaddr" in arg.kind or value == []
                return "address" if known and _plain(text) == self._raw else None
            return "" if self.same(text, value) else None
        if self.equal(text, value):
            return ""
        if where in _SIGN and self.same_bits(text, value):
            return "sign"
        if arg.kind in ("ptr", "path"):
            return "decoded"
        if where in _DECODED and (str(value)[0] in "-_0123456789" or "<<PR_MTE_" in text):
            return "decoded"
        if where in _MODES and text == str(value).replace("|", ""):
            return "glued"
        theirs, mine = _words(text), _words(value)
        if (theirs < mine or mine & _COMBINED) and self.number(text, arg.kind) is not None:
            number = self.number(text, arg.kind)
            assert number is not None
            if (number - self._raw) % (1 << arg.bits) == 0:
                return "newer"
        return None

    def unread(self, call: Call, arg: Arg) -> bool:
        """May the memory behind an argument be left unread: the call failed, or has said that it is too short?"""
        failed = arg.memory & KIND_OUT and (call.result or 0) < 0
        return bool(failed or arg.memory & KIND_CHECKED or (call.result == 0 and arg.kind == "outwstatus"))

    def same_bits(self, text: str, value: object) -> bool:
        theirs = self.number(text)
        mine = self.number(value)
        return theirs is not None and mine is not None and (theirs - mine) % (1 << 32) == 0

    def same(self, text: str, value: object) -> bool:
        if isinstance(value, list) and len(value) == 1:  # struct sched_param, by newer versions
            text = re.sub(r"^\{sched_priority=(-?\d+)\}$", r"[\1]", text)
        try:
            return super().same(text, value)
        except ValueError:  # words where numbers were awaited
            return False

    def members(self, text: str, value: dict) -> bool:
        if text.startswith("{events="):  # struct epoll_event
            text = re.sub(r"data=\{u32=\d+, u64=(\d+)\}", r"data=\1", text)
        return super().members(text.replace("1<<CAP_", "CAP_"), value)

    def member(self, name: str, text: str, value: object) -> bool:
        if name in _SIGN_MEMBERS:
            theirs, mine = _plain(text), _plain(str(value))
            if theirs is not None and mine is not None:
                return (theirs - mine) % (1 << (32 if name in _SHORT else 64)) == 0
        if text[0] in '"[{' and isinstance(value, str) and value.startswith("0x"):
            assert self._arg is not None
            self.more[f"{self._arg.kind}->{name}"] += 1
            return True
        return super().member(name, text, value)

    def string(self, text: str, shown: dict) -> bool:
        import base64

        match = re.fullmatch(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?', text)
        assert match, text
        theirs = bytes.fromhex(match[1].replace("\\x", ""))
        value = shown["value"]
        if not isinstance(value, str):
            return False
        mine = base64.b64decode(shown["valueBytes"]) if "valueBytes" in shown else value.encode()
        if match[2]:
            return mine.startswith(theirs)
        return theirs.startswith(mine) if shown.get("truncated") else theirs == mine

    def equal(self, text: str, value: object) -> bool:
        """Strictly: the same number with the same sign, or the same words."""
        text = _COMMENT.sub("", text)
        if text == value:
            return True
        theirs = _CONSTANTS.get(text, _plain(text))
        mine = value if isinstance(value, int) else _CONSTANTS.get(str(value), _plain(str(value)))
        if theirs is not None and mine is not None:
            return theirs == mine
        if isinstance(value, int):
            return False
        if set(text.split("|")) - {"0"} == set(str(value).split("|")) - {"0"}:
            return True
        # Of members no kind is known here.
        if (_words(text) < _words(value) or _words(value) & _COMBINED) and self._arg is not None and self._arg.memory:
            return self.number(text) is not None and self.number(text) == self.number(value)
        return False


def _words(text: object) -> set[str]:
    return {word for word in str(text).split("|") if not word[:1].isdigit()}


def _plain(word: str) -> int | None:
    try:
        return int(word, 8) if re.fullmatch(r"0[0-7]+", word) else int(word, 0)
    except ValueError:
        return None
