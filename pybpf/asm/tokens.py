"""Splits assembly text into tokens that know their line and column, and cuts it into statements."""

from __future__ import annotations

import re

from pybpf.errors import AsmError

WORD, NUMBER, LOCAL, SIGN, STRING = "word", "number", "local", "sign", "string"

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\f\v]+)
  | (?P<comment>\#[^\n]*|//[^\n]*|/\*(?s:.*?)\*/)
  | (?P<local>[0-9]+[bf]\b)
  | (?P<number>0[xX][0-9a-fA-F]+\b|0[bB][01]+\b|(?:0|[1-9][0-9]*)\b)
  | (?P<word>[A-Za-z_.$][A-Za-z0-9_.$]*)
  | (?P<string>"[^"\n\0]*")
  | (?P<end>[\n;])
  | (?P<sign>>>=|<<=|[-+*/%&|^=!<>]=|[-+*%&|^=<>()\[\]{},:@!~]|/(?!\*))
    """,
    re.VERBOSE,
)
# `call bpf_ktime_get_ns#5`, as the kernel prints it: here # starts no comment.
_NAMED_CALL = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)#(-?[0-9]+)\b")
NAMED = "named"


class Token:
    """A token: ``kind``, its text, its place; ``value`` is what a number stands for."""

    __slots__ = ("column", "kind", "line", "text", "value")

    def __init__(self, kind: str, text: str, line: int, column: int, value: int = 0) -> None:
        self.kind = kind
        self.text = text
        self.line = line
        self.column = column
        self.value = value


class Place:
    """Where text comes from: makes errors that say ``file:line:column: what``."""

    __slots__ = ("file",)

    def __init__(self, file: str) -> None:
        self.file = file

    def error(self, line: int, column: int, message: str) -> AsmError:
        """An error at that place; lines and columns count from 1."""
        return AsmError(f"{self.file}:{line}:{column}: {message}")

    def at(self, token: Token, message: str) -> AsmError:
        """An error at ``token``."""
        return self.error(token.line, token.column, message)


def statements(text: str, place: Place) -> list[list[Token]]:
    """The statements of ``text``: lists of tokens, none of them empty.

    Statements end at a line's end or a semicolon. Comments are ``#`` and ``//``
    up to the line's end and ``/* */``. Raises AsmError for a character that
    starts no token and for a malformed number.
    """
    found: list[list[Token]] = []
    current: list[Token] = []
    at, line, start = 0, 1, 0
    while at < len(text):
        match = None
        if current and current[-1].text.lower() == "call":
            match = _NAMED_CALL.match(text, at)
        if match is not None:
            current.append(Token(NAMED, match[0], line, at - start + 1, _int(match[2])))
            at = match.end()
            continue
        match = _TOKEN.match(text, at)
        column = at - start + 1
        if match is None:
            raise place.error(line, column, _misfit(text, at))
        kind, word = match.lastgroup or "", match[0]
        at = match.end()
        if kind == "end":
            if current:
                found.append(current)
                current = []
        elif kind in (NUMBER, LOCAL):
            digits = word[:-1] if kind == LOCAL else word
            if len(digits) > 66:
                raise place.error(line, column, f"number of {len(digits)} digits: nothing here has more than 64 bits")
            current.append(Token(kind, word, line, column, _int(digits)))
        elif kind not in ("space", "comment"):
            current.append(Token(kind, word, line, column))
        breaks = word.count("\n")
        if breaks:
            line += breaks
            start = at - len(word) + word.rindex("\n") + 1
    if current:
        found.append(current)
    return found


def _int(digits: str) -> int:
    base = {"0x": 16, "0b": 2}.get(digits[:2].lower(), 10)
    return int(digits, base)


def _misfit(text: str, at: int) -> str:
    word = re.compile(r"[0-9A-Za-z_.$]*").match(text, at)
    if word is not None and word[0]:
        bad = word[0] if len(word[0]) <= 40 else f"{word[0][:40]}..."
        if bad[0] == "0" and bad.isdigit():
            return f"number {bad} starts with 0: write it without, or 0x for hexadecimal"
        return f"{bad!r} is neither a number nor a name"
    if text.startswith("/*", at):
        return "comment /* has no end"
    if text[at] == '"':
        return "string has no end on its line"
    return f"character {text[at]!r} does not belong here"
