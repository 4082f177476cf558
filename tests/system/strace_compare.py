"""The same run told by strace and by bfer: each call's arguments and result, side by side.

Both watch one and the same run, so numbers, addresses and results must be equal. What cannot be
compared has its reason in RULES; what is neither equal nor covered by a rule is a difference.
"""

from __future__ import annotations

import base64
import errno
import json
import re
from collections import Counter
from pathlib import Path

from strace_log import split

_CALL = re.compile(r"^(\w+)\((.*)\)\s+= (\S+)(?: (E\w+))?.*$")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_NAMED = re.compile(r"^([a-z_]+)=(.*)$")

# Results that the kernel keeps to itself: include/linux/errno.h.
_RESTART = {"ERESTARTSYS": -512, "ERESTARTNOINTR": -513, "ERESTARTNOHAND": -514, "ERESTART_RESTARTBLOCK": -516}

RULES = {
    "buffer": "strace shows what is in the memory, bfer its address",
    "structure": "strace decodes the structure, bfer shows its address",
    "unused": "strace leaves out an argument that the call ignores",
    "entry": "what bfer takes on entry has no result yet",
    "child": "bfer shows that clone returns in the child too",
    "decoded": "strace knows what this number means for this command",
}

_CLONES = ("clone", "clone3", "fork", "vfork")

# clone's arguments carry strace's names, in its own order.
_CLONE = {
    "child_stack": "stack",
    "flags": "flags",
    "parent_tid": "parent_tid",
    "child_tidptr": "child_tid",
    "tls": "tls",
}

# Numbers whose meaning depends on another argument, by call.
_DEPENDENT = {
    "fcntl": "arg",
    "ioctl": "request arg",
    "prctl": "arg2 arg3 arg4 arg5",
    "arch_prctl": "addr",
    "semctl": "arg",
    "ptrace": "addr data",
    "keyctl": "arg2",
    "rseq": "flags",
    "mknodat": "dev",
    "clone": "tls",
    "futex": "val val3 timeout uaddr2",
    "capget": "hdrp",
}


class Call:
    """One call: name, arguments as text, result."""

    def __init__(self, line: str) -> None:
        match = _CALL.match(line)
        assert match, line
        self.line = line
        self.name = match[1]
        self.args = [text for text in split(match[2]) if text]
        self.result = _result(match[3], match[4])


def _result(text: str, error: str | None) -> int | None:
    if error in _RESTART:
        return _RESTART[error]
    if error:
        return -getattr(errno, error)
    return None if text == "?" else int(text, 0)


def read_strace(prefix: Path) -> dict[int, list[Call]]:
    """Calls by thread, of ``strace -ff -xx -o PREFIX``."""
    threads = {}
    for path in prefix.parent.glob(prefix.name + ".*"):
        lines = path.read_text().splitlines()
        threads[int(path.suffix[1:])] = [
            Call(line) for line in lines if _CALL.match(line) and "<unfinished" not in line and "resumed>" not in line
        ]
    return threads


def read_bfer(path: Path) -> dict[int, list[dict]]:
    """System calls by thread, of bfer's JSON with option:parse-arguments."""
    threads: dict[int, list[dict]] = {}
    for line in path.read_bytes().splitlines():
        event = json.loads(line)
        threads.setdefault(event["hostThreadId"], []).append(event)
    return threads


class Comparison:
    """Counts calls that are equal, what was left out by which rule, and the differences."""

    def __init__(self) -> None:
        self.calls = 0
        self.rules: Counter[str] = Counter()
        self.differences: list[str] = []

    def threads(self, expected: dict[int, list[Call]], got: dict[int, list[dict]]) -> None:
        for tid, theirs in expected.items():
            mine = got.get(tid, [])
            # strace prepares the first process in a few calls of its own, which it does not show.
            start = len(mine) - len(theirs)
            if start > 0 and theirs and theirs[0].name == "execve":
                mine = mine[next((i for i, e in enumerate(mine) if e["eventName"] == "execve"), 0) :]
            elif mine and mine[0]["eventName"] in _CLONES and mine[0]["returnValue"] == 0:
                mine = mine[1:]
                self.rules["child"] += 1
            names = [event["eventName"] for event in mine]
            wanted = [call.name for call in theirs]
            if names != wanted:
                at = next((i for i, (a, b) in enumerate(zip(names, wanted)) if a != b), min(len(names), len(wanted)))
                where = f"bfer {names[at : at + 3]}, strace {[c.line[:80] for c in theirs[at : at + 3]]}"
                self.differences.append(f"thread {tid}: {len(names)} and {len(wanted)} calls; from {at}: {where}")
                continue
            for call, event in zip(theirs, mine):
                self.call(call, event)

    def call(self, call: Call, event: dict) -> None:
        self.calls += 1
        if call.name == "rt_sigreturn":
            self.rules["entry"] += 1
            return
        if call.result is None:
            self.rules["entry"] += 1
        elif call.result not in (event["returnValue"], event["returnValue"] & 0xFFFFFFFFFFFFFFFF):
            self.differences.append(f"result {event['returnValue']}: {call.line[:160]}")
        args = {arg["name"]: arg for arg in event["args"]}
        for i, text in enumerate(call.args):
            named = _NAMED.match(text)
            if call.name == "clone" and named:
                arg, text = args[_CLONE[named[1]]], named[2]
            elif i < len(event["args"]):
                arg = event["args"][i]
            else:
                self.differences.append(f"argument {i} is too many: {call.line[:160]}")
                continue
            verdict = self.argument(call, text, arg)
            if verdict:
                self.rules[verdict] += 1
            elif verdict is None:
                self.differences.append(f"{arg['name']} = {arg['value']!r}, strace {text[:80]}: {call.line[:160]}")
        if len(call.args) < len(event["args"]):
            self.rules["unused"] += 1

    def argument(self, call: Call, text: str, arg: dict) -> str | None:
        """'' when they are equal, the rule by which they are not compared, None when they differ."""
        value = arg["value"]
        text = re.sub(r" => [\[{].*$", "", re.sub(r" /\* .*? \*/$", "", text))
        text = text.replace("AT_STATX_SYNC_AS_STAT|", "").replace("AT_STATX_SYNC_AS_STAT", "0")  # these are no bits
        if arg["name"] in _DEPENDENT.get(call.name, "").split() and not self.equal(text, value):
            return "decoded"
        if text.startswith('"'):
            match = _STRING.fullmatch(text)
            assert match, text
            if isinstance(value, str) and not value.startswith("0x"):
                return "" if _bytes(arg) == _unescaped(match[1]) else None
            return "buffer"
        if text[0] in "[{" or text.startswith("~["):
            if isinstance(value, str) and value.startswith("0x"):
                return "structure"
            return "" if self.same(text, value) else None
        return "" if self.equal(text, value) else None

    def same(self, text: str, value: object) -> bool:
        """Is what both show of a structure, or a list, or a set of signals, the same?"""
        text = re.sub(r" /\* .*? \*/", "", text)
        if isinstance(value, dict):
            if text.startswith("[{W"):
                return _wait_status(text) == value
            return self.members(text, value)
        if isinstance(value, list):
            pair = re.fullmatch(r"\[(?:\d+ => )?(-?\d+)\]", text)
            if pair and len(value) == 1:  # a number before and after the call
                return int(pair[1]) == value[0]
            parts = [part for part in split(text[1:-1]) if part and part != "..."]
            if any(isinstance(item, dict) for item in value):
                return len(parts) == len(value) and all(map(self.same, parts, value))
            return _list(text) == [_item(item) for item in value]
        return text == value

    def members(self, text: str, value: dict) -> bool:
        members = dict(part.split("=", 1) for part in split(text[1:-1]) if "=" in part)
        if "sa_family" in members:
            return self.address(text, members["sa_family"], value)
        shown = [name for name in value if name in members]
        assert shown or "..." in text, text
        return all(self.member(name, members[name], value[name]) for name in shown)

    def member(self, name: str, theirs: str, mine: object) -> bool:
        if theirs[0] in "[{~":
            return self.same(theirs, mine)
        if theirs.startswith('"'):  # bfer may have the address only
            return _text(theirs) == mine or str(mine).startswith("0x")
        return self.equal(_product(theirs), mine)

    def equal(self, text: str, value: object) -> bool:
        """Do both mean the same number?"""
        return _equal(text, value)

    def address(self, text: str, family: str, value: dict) -> bool:
        plain = re.sub(r"\b(htons|inet_addr|inet_pton|htonl)\(([^()]*)\)", r"\2", text)
        for name in ("sin_port", "sin_addr", "sin6_port"):
            found = re.search(rf"{name}=([^,}}]*)", plain)
            if found and name in value and _text(found[1]) != value[name]:
                return False
        found = re.search(r'sun_path=(@?)"((?:\\x[0-9a-f]{2})*)"', text)
        if found and found[1] + _unescaped(found[2]).decode("utf-8", "replace") != value.get("sun_path"):
            return False
        return family == value["sa_family"]


def _product(text: str) -> str:
    """``8192*1024`` as a number."""
    first, star, second = text.partition("*")
    return str(int(first) * int(second)) if star and first.isdigit() and second.isdigit() else text


def _wait_status(text: str) -> dict[str, object]:
    number = text.rpartition("== ")[2].rstrip("}]").partition(" ")[0]
    if "WIFEXITED" in text:
        return {"exited": int(number)}
    if "WIFSIGNALED" in text:
        found = re.search(r"WTERMSIG\(s\) == (\w+)", text)
        assert found, text
        return {"killed": found[1], "core": int("WCOREDUMP(s)" in text)}
    if "WIFSTOPPED" in text:
        return {"stopped": number}
    return {"continued": 1}


def _unescaped(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _text(text: str) -> str:
    match = _STRING.fullmatch(text)
    return _unescaped(match[1]).decode("utf-8", "replace") if match else text


def _bytes(arg: dict) -> bytes:
    return base64.b64decode(arg["valueBytes"]) if "valueBytes" in arg else arg["value"].encode()


def _list(text: str) -> list[object]:
    items: list[object] = []
    for part in split(text[1:-1]):
        match = _STRING.fullmatch(part)
        items.append(_unescaped(match[1]) if match else int(part, 0) if part else None)
    return [item for item in items if item is not None]


def _item(value: object) -> object:
    return value.encode() if isinstance(value, str) else value


_CONSTANTS = {"NULL": 0, "AT_FDCWD": -100, "RLIM64_INFINITY": -1}


def _equal(text: str, value: object) -> bool:
    if text == value or (text in _CONSTANTS and value in (_CONSTANTS[text], hex(_CONSTANTS[text]), "0")):
        return True
    mine = _number(value)
    theirs = _number(text)
    if mine is not None and theirs is not None:
        return mine == theirs or ((mine - theirs) % (1 << 32) == 0 and min(mine, theirs) < 0)
    return isinstance(value, str) and frozenset(text.split("|")) == frozenset(value.split("|"))


def _number(value: object) -> int | None:
    if isinstance(value, int):
        return value
    text = str(value)
    try:
        return int(text, 8) if re.fullmatch(r"0[0-7]+", text) else int(text, 0)
    except ValueError:
        return None
