"""Formatting as bpf_trace_printk and bpf_snprintf do it (kernel/bpf/helpers.c, bpf_bprintf_prepare)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

from pybpf.vm.errors import VmError
from pybpf.vm.memory import Memory

_FLAGS = b"0+- "
_DIGITS = b"0123456789"
_SPACES = b" \t\n\v\f\r"
_ADDRESS_KINDS = b"sSxBK"


class _Refused(Exception):
    """The kernel answers EINVAL to this format."""


def format_text(
    form: bytes, args: Sequence[int | None], memory: Memory, string: Callable[[int, bool], bytes]
) -> bytes | None:
    """The text, without a NUL at its end; None for a format that the kernel refuses with EINVAL.

    ``form`` must hold a NUL. ``string`` reads what a %s points to, from user space if its second argument says so.
    Raises VmError when the format uses a register that was never written.
    """
    if b"\0" not in form:
        return None
    try:
        return _Formatter(form[: form.index(b"\0")], args, memory, string).run()
    except _Refused:
        return None


class _Formatter:
    def __init__(
        self, form: bytes, args: Sequence[int | None], memory: Memory, string: Callable[[int, bool], bytes]
    ) -> None:
        self.form = form
        self.args = list(args)
        self.memory = memory
        self.string = string
        self.at = 0

    def run(self) -> bytes:
        shown = b""
        while self.at < len(self.form):
            char = self.form[self.at : self.at + 1]
            if char not in _SPACES and not b" " <= char <= b"~":
                raise _Refused
            self.at += 1
            if char != b"%":
                shown += char
            elif self._peek() == b"%":
                self.at += 1
                shown += b"%"
            else:
                shown += self._specifier()
        return shown

    def _peek(self, distance: int = 0) -> bytes:
        return self.form[self.at + distance : self.at + distance + 1]

    def _run_of(self, chars: bytes) -> bytes:
        start = self.at
        while self._peek() and self._peek() in chars:
            self.at += 1
        return self.form[start : self.at]

    def _next(self) -> int:
        if not self.args:
            raise _Refused
        value = self.args.pop(0)
        if value is None:
            raise VmError("formats a register that was never written, or was cleared by a call")
        return value

    def _specifier(self) -> bytes:
        flags = self._run_of(_FLAGS).decode()
        width = self._run_of(_DIGITS).decode()
        kind = self._peek()
        self.at += 1
        left = "-" if "-" in flags else ""
        if kind == b"p":
            return self._pointer(left, width)
        if kind == b"s":
            return b"%*s" % (int(left + (width or "0")), self.string(self._next(), False))
        if kind == b"c":
            return b"%*s" % (int(left + (width or "0")), bytes([self._next() & 0xFF]))
        bits = 32
        if kind == b"l":
            bits = 64
            self.at += self._peek() == b"l"
            kind = self._peek()
            self.at += 1
        if not kind or kind not in b"iduxX":
            raise _Refused
        value = self._next() & (1 << bits) - 1
        if kind in b"id":
            value -= value >> bits - 1 << bits
            conversion = "d"
        else:
            flags = flags.replace("+", "").replace(" ", "")
            conversion = "d" if kind == b"u" else kind.decode()
        return (f"%{flags}{width}{conversion}" % value).encode()

    def _pointer(self, left: str, width: str) -> bytes:
        kind, following = self._peek(), self._peek(1)
        if kind and kind in b"ku" and following == b"s":
            self.at += 2
            return self.string(self._next(), kind == b"u")  # printed as it is, whatever width is asked for
        if kind and kind in b"iI":
            if not following or following not in b"46":
                raise _Refused
            self.at += 2
            return self._ip(kind, following)
        value = self._next()
        if kind and kind in _ADDRESS_KINDS:
            self.at += 1
            if kind in b"sSB":
                return b"%#x" % value  # no symbol is known
        elif kind.isalnum():
            raise _Refused
        # The kernel hashes %p and prints %px as it is; there is nothing to hide here.
        return (f"%{left}{width or 16}s" % f"{value:016x}").encode()

    def _ip(self, kind: bytes, version: bytes) -> bytes:
        size = 4 if version == b"4" else 16
        raw = self.memory.probe(self._next(), size, False) or bytes(size)
        if size == 4:
            return b".".join(b"%d" % byte if kind == b"I" else b"%03d" % byte for byte in raw)
        groups = [raw[at : at + 2].hex().encode() for at in range(0, 16, 2)]
        return (b":" if kind == b"I" else b"").join(groups)
