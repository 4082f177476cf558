"""Reads what ``strace -ff -xx -o PREFIX`` wrote about the open family."""

from __future__ import annotations

import re
from pathlib import Path

_CALL = re.compile(r"^(?P<name>\w+)\((?P<args>.*)\)\s+= (?P<result>-?\d+)(?: (?P<errno>E\w+))?")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


def _hidden(comment: re.Match[str]) -> str:
    return re.sub(r'["(){}\[\],]', "?", comment[0])


def split(text: str) -> list[str]:
    """Splits at the commas outside of quotes, braces, parentheses and comments."""
    parts, depth, quoted, start = [], 0, False, 0
    text = re.sub(r"/\*.*?\*/", _hidden, text)
    for i, c in enumerate(text):
        if c == '"':
            quoted = not quoted
        elif not quoted and c in "{[(":
            depth += 1
        elif not quoted and c in "}])":
            depth -= 1
        elif c == "," and not quoted and not depth:
            parts.append(text[start:i].strip())
            start = i + 1
    parts.append(text[start:].strip())
    return parts


def _path(text: str) -> object:
    if text == "NULL":
        return 0
    if text.startswith("0x"):
        return int(text, 16)
    match = _STRING.fullmatch(text)
    assert match, text
    return bytes.fromhex(match[1].replace("\\x", ""))


_NEWER = {"O_EMPTYPATH": 0x4000000, "OPENAT2_REGULAR": 1 << 32}


def flags(text: str) -> frozenset[str]:
    """The words; flags that older versions have no name for are with the bits that have none."""
    words = frozenset(text.split("|"))
    newer = sum(_NEWER[word] for word in words & _NEWER.keys())
    if not newer:
        return words
    named = {word for word in words - _NEWER.keys() if word[:1] not in "0123456789"}
    rest = newer + sum(int(word, 0) for word in words if word[:1] in "0123456789")
    return frozenset({*named, f"{rest:#x}"})


def _how(text: str) -> object:
    if text == "NULL":
        return 0
    if text.startswith("0x"):
        return int(text, 16)
    fields = dict(part.split("=", 1) for part in split(text[1:-1]) if "=" in part and not part.startswith("/*"))
    return (
        flags(fields["flags"]),
        int(fields.get("mode", "0"), 8),
        frozenset() if fields["resolve"] == "0" else flags(fields["resolve"]),
    )


def _arguments(name: str, args: list[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    if name.startswith("openat"):
        found["dirfd"] = -100 if args[0] == "AT_FDCWD" else int(args[0])
        args = args[1:]
    found["pathname"] = _path(args[0])
    if name == "openat2":
        found["how"] = _how(args[1])
        found["size"] = int(args[2])
    elif name == "creat":
        found["mode"] = int(args[1], 8)
    else:
        found["flags"] = flags(args[1])
        if len(args) > 2:  # strace shows the mode only where the call uses it
            found["mode"] = int(args[2], 8)
    return found


def read(prefix: Path) -> list[list[tuple[str, dict[str, object], int, str]]]:
    """One list a thread, by ascending thread id: (call, arguments, result, name of the error)."""
    files = sorted(prefix.parent.glob(prefix.name + ".*"), key=lambda path: int(path.suffix[1:]))
    threads = []
    for path in files:
        calls = []
        for line in path.read_text().splitlines():
            match = _CALL.match(line)
            if match:
                arguments = _arguments(match["name"], split(match["args"]))
                calls.append((match["name"], arguments, int(match["result"]), match["errno"] or ""))
        threads.append(calls)
    return threads
