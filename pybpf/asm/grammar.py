"""Reads and prints instructions by the templates of the table of forms.

All templates of a dialect make one tree of tokens; reading an instruction
is a walk down the tree. The walk that came farthest explains what is wrong
when none arrives.
"""

from __future__ import annotations

import re
from functools import cache

from pybpf.asm import tokens as t
from pybpf.asm.forms import DIALECTS, FORMS, LLVM, Form
from pybpf.asm.insn import MASK64, Insn
from pybpf.asm.opcodes import LD_IMM64
from pybpf.errors import AsmError

_OPERAND = re.compile(r"\{([a-z0-9%]+):([a-z_]+)\}")
_REGISTER = re.compile(r"([rw])(0|[1-9][0-9]*)$", re.IGNORECASE)
_RANGES = {"u16": (0, 0xFFFF), "s16": (-0x8000, 0x7FFF)}
_WHAT = {
    "r": "a register r0 to r10",
    "w": "a register w0 to w10",
    "%": "a register %r0 to %r10",
    "i": "a number",
    "u16": "a number",
    "s16": "a number",
    "i64": "a number",
    "off": "an offset such as + 4",
    "add": "an offset such as + 4",
    "jump": "a label or a distance such as +3",
    "label": "the name of a function",
    "pc": "a distance such as pc+3",
    "name": "a helper such as bpf_ktime_get_ns#5",
    "sym": "the name of a map or function",
}
# Numbers of helpers are small, BTF ids of functions are not; the kernel prints both behind a name and #.
_MOST_HELPERS = 1023


class Node:
    """A place in the tree of templates."""

    __slots__ = ("forms", "operands", "words")

    def __init__(self) -> None:
        self.words: dict[str, Node] = {}
        self.operands: dict[str, Node] = {}
        # Forms whose template ends here, with the fields its operands go to.
        self.forms: list[tuple[Form, tuple[str, ...]]] = []


class Symbol:
    """A name used as an operand at ``token``; ``kind`` is that of the operand."""

    __slots__ = ("addend", "kind", "name", "token")

    def __init__(self, name: str, token: t.Token, kind: str, addend: int = 0) -> None:
        self.name = name
        self.token = token
        self.kind = kind
        self.addend = addend


class _Mismatch(Exception):
    """An operand that has the right look but a wrong value: worth telling before all else."""

    def __init__(self, token: t.Token, message: str) -> None:
        super().__init__(message)
        self.token = token
        self.message = message


@cache
def tree(dialect: str) -> Node:
    """The tree of all templates of ``dialect``."""
    if dialect not in DIALECTS:
        raise AsmError(f"there is no dialect {dialect!r}: the dialects are {' and '.join(DIALECTS)}")
    root = Node()
    for form in FORMS:
        for template in form.templates(dialect):
            variants = {template.replace("{x:", "{w:"), template.replace("{x:", "{r:")}
            for variant in sorted(variants):
                _add(root, form, variant)
    return root


def _add(root: Node, form: Form, template: str) -> None:
    node = root
    fields = []
    parts = _OPERAND.split(template)
    place = t.Place("")
    for words, kind, field in zip(parts[::3], [*parts[1::3], ""], [*parts[2::3], ""]):
        for token in (token for statement in t.statements(words, place) for token in statement):
            key = str(token.value) if token.kind == t.NUMBER else token.text
            node = node.words.setdefault(key, Node())
        if kind:
            node = node.operands.setdefault(kind, Node())
            fields.append(field)
    node.forms.append((form, tuple(fields)))


# --- reading ---


def _no_register(token: t.Token) -> _Mismatch:
    letter = token.text[0].lower()
    return _Mismatch(token, f"there is no register {_shorten(token.text)}: registers are {letter}0 to {letter}10")


class Reader:
    """Reads one statement as an instruction of ``dialect``."""

    def __init__(self, dialect: str, place: t.Place) -> None:
        self.root = tree(dialect)
        self.dialect = dialect
        self.place = place
        self._tokens: list[t.Token] = []
        self._farthest = 0
        self._expected: list[str] = []
        self._mismatch: _Mismatch | None = None

    def read(self, statement: list[t.Token]) -> tuple[Insn, Symbol | None]:
        """The instruction, with a symbol where an operand is a name. Raises AsmError with line and column."""
        self._tokens = statement
        self._farthest = 0
        self._expected = []
        self._mismatch = None
        found = self._walk(self.root, 0, ())
        if found is not None:
            return found
        if self._mismatch is not None:
            raise self.place.at(self._mismatch.token, self._mismatch.message)
        raise self._explain()

    def _walk(self, node: Node, at: int, values: tuple[int | Symbol, ...]) -> tuple[Insn, Symbol | None] | None:
        if at == len(self._tokens):
            for form, fields in node.forms:
                try:
                    return self._build(form, fields, values)
                except _Mismatch as mismatch:
                    self._note(mismatch)
        else:
            token = self._tokens[at]
            key = str(token.value) if token.kind == t.NUMBER else token.text.lower()
            below = node.words.get(key)
            if below is not None:
                found = self._walk(below, at + 1, values)
                if found is not None:
                    return found
        for kind, below in node.operands.items():
            try:
                operand = self._operand(kind, at)
            except _Mismatch as mismatch:
                self._note(mismatch)
                continue
            if operand is not None:
                found = self._walk(below, operand[1], (*values, operand[0]))
                if found is not None:
                    return found
        if at >= self._farthest:
            if at > self._farthest:
                self._farthest, self._expected = at, []
            self._expected += [repr(word) for word in node.words]
            self._expected += [_WHAT[kind] for kind in node.operands]
            if node.forms:
                self._expected.append("the end of the line")
        return None

    def _note(self, mismatch: _Mismatch) -> None:
        if self._mismatch is None:
            self._mismatch = mismatch

    def _explain(self) -> AsmError:
        at = self._farthest
        expected = list(dict.fromkeys(self._expected))
        if at == len(self._tokens):
            last = self._tokens[-1]
            wanted = [item for item in expected if item != "the end of the line"]
            column = last.column + len(last.text)
            return self.place.error(last.line, column, f"instruction ends too early: {_choice(wanted)} is missing")
        token = self._tokens[at]
        shown = _shorten(token.text)
        if "the end of the line" in expected and at:
            return self.place.at(token, f"unexpected {shown} after the instruction")
        if token.kind == t.WORD and (at == 0 or self._tokens[at - 1].text == "lock"):
            close = self._close(token.text, expected)
            hint = f": did you mean {close}?" if close else ""
            return self.place.at(token, f"unknown instruction {shown} in dialect {self.dialect}{hint}")
        return self.place.at(token, f"unexpected {shown}: expected {_choice(expected)}")

    def _close(self, word: str, expected: list[str]) -> str:
        from difflib import get_close_matches

        names = [item[1:-1] for item in expected if item.startswith("'")]
        close = get_close_matches(word.lower(), names, 1)
        return close[0] if close else ""

    # An operand's value and the index of the token behind it; None when it does not start here.

    def _operand(self, kind: str, at: int) -> tuple[int | Symbol, int] | None:
        token = self._tokens[at] if at < len(self._tokens) else None
        if kind in ("off", "add"):
            return self._offset(kind, at)
        if token is None:
            return None
        if kind == "%":
            if token.text != "%":
                return None
            return self._register("r", at + 1)
        if kind in ("r", "w"):
            return self._register(kind, at)
        if kind == "jump":
            return self._jump(at)
        if kind == "pc":
            return self._pc(at)
        if kind == "name":
            return self._named(token, at)
        if kind in ("label", "sym"):
            return self._symbol(kind, at)
        return self._number(kind, at)

    def _register(self, letter: str, at: int) -> tuple[int, int] | None:
        token = self._tokens[at] if at < len(self._tokens) else None
        match = _REGISTER.match(token.text) if token is not None and token.kind == t.WORD else None
        if token is None or match is None or match[1].lower() != letter:
            return None
        number = int(match[2]) if len(match[2]) < 4 else 999
        if number > 10:
            raise _Mismatch(
                token, f"there is no register {_shorten(token.text)}: registers are {letter}0 to {letter}10"
            )
        return number, at + 1

    def _signed(self, at: int) -> tuple[int, int, t.Token] | None:
        """A number with signs in front of it."""
        sign = 1
        first = None
        while at < len(self._tokens):
            token = self._tokens[at]
            first = first or token
            if token.kind == t.NUMBER:
                return sign * token.value, at + 1, first
            if token.text not in ("+", "-"):
                break
            sign = -sign if token.text == "-" else sign
            at += 1
        return None

    def _number(self, kind: str, at: int) -> tuple[int, int] | None:
        got = self._signed(at)
        if got is None:
            return None
        value, after, first = got
        if kind in ("i", "i64") and not -(1 << 63) <= value <= MASK64:
            raise _Mismatch(first, f"{value:#x} does not fit 64 bits")
        if kind == "i64":
            return value & MASK64, after
        if kind == "i":
            # Both readings of 32 bits are taken, as LLVM does; the instruction sign-extends in any case.
            if not -0x8000_0000 <= value <= 0xFFFF_FFFF:
                wide = "lddw" if self.dialect != LLVM else "'r1 = NUMBER ll'"
                raise _Mismatch(first, f"{value:#x} does not fit 32 bits: {wide} loads 64 bits")
            return _s32(value), after
        low, high = _RANGES[kind]
        if not low <= value <= high:
            raise _Mismatch(first, f"{value} is out of range: {low} to {high}")
        return value, after

    def _offset(self, kind: str, at: int) -> tuple[int, int] | None:
        got = self._signed(at)
        if got is None:
            return 0, at
        value, after, first = got
        bits = 16 if kind == "off" else 32
        if not -(1 << bits - 1) <= value < 1 << bits - 1:
            raise _Mismatch(first, f"offset {value} does not fit {bits} bits (signed)")
        return value, after

    def _jump(self, at: int) -> tuple[int | Symbol, int] | None:
        token = self._tokens[at]
        got: tuple[int | Symbol, int] | None
        signed = self._signed(at)
        if token.kind == t.LOCAL:
            got = Symbol(token.text, token, "jump"), at + 1
        elif signed is not None:
            got = signed[0], signed[1]
        else:
            got = self._pc(at) or self._symbol("jump", at)
        return None if got is None else (got[0], self._annotation(got[1]))

    def _annotation(self, at: int) -> int:
        """Behind ``<function+0x10>``, which disassemblers print behind a jump's distance."""
        if at < len(self._tokens) and self._tokens[at].text == "<":
            for end in range(at + 1, len(self._tokens)):
                if self._tokens[end].text == ">":
                    return end + 1
        return at

    def _pc(self, at: int) -> tuple[int, int] | None:
        if self._tokens[at].text.lower() != "pc" or at + 1 == len(self._tokens):
            return None
        if self._tokens[at + 1].text not in ("+", "-"):
            return None
        signed = self._signed(at + 1)
        return None if signed is None else (signed[0], signed[1])

    def _named(self, token: t.Token, at: int) -> tuple[int, int] | None:
        if token.kind != t.NAMED:
            return None
        if not 0 <= token.value <= _MOST_HELPERS:
            raise _Mismatch(token, f"{token.value} is no helper's number: write 'call kfunc {token.value}' for a kfunc")
        return token.value, at + 1

    def _symbol(self, kind: str, at: int) -> tuple[Symbol, int] | None:
        token = self._tokens[at]
        if token.kind != t.WORD:
            return None
        if _REGISTER.match(token.text):
            if int(token.text[1:5]) <= 10:
                return None
            letter = token.text[0]
            raise _Mismatch(
                token, f"there is no register {_shorten(token.text)}: registers are {letter}0 to {letter}10"
            )
        after, addend = at + 1, 0
        if kind == "sym" and after < len(self._tokens) and self._tokens[after].text in ("+", "-"):
            signed = self._signed(after)
            if signed is None:
                return None
            addend, after, first = signed
            if not -0x8000_0000 <= addend <= 0x7FFF_FFFF:
                raise _Mismatch(first, f"offset {addend} does not fit 32 bits (signed)")
        return Symbol(token.text, token, kind, addend), after

    def _build(
        self, form: Form, fields: tuple[str, ...], values: tuple[int | Symbol, ...]
    ) -> tuple[Insn, Symbol | None]:
        insn = Insn(form.op, **form.fixed)
        symbol = None
        seen: dict[str, int] = {}
        for field, value in zip(fields, values):
            if isinstance(value, Symbol):
                symbol = value
            elif seen.setdefault(field, value) != value:
                raise _Mismatch(self._tokens[0], "the register on both sides must be the same")
            else:
                # Only distances can still be too large here.
                bits = 16 if field == "off" else 64 if insn.op == LD_IMM64 else 32
                if bits < 64 and not -(1 << bits - 1) <= value < 1 << bits - 1:
                    raise _Mismatch(self._tokens[-1], f"distance {value:+d} does not fit {bits} bits: jump to a label")
                fill(insn, field, value)
        return insn, symbol


def fill(insn: Insn, field: str, value: int) -> None:
    """Set a field or a part of ``imm``."""
    if field == "imm_high":
        insn.imm = _s32(insn.imm & 0xFFFF | value << 16)
    elif field == "imm_low":
        insn.imm = _s32(insn.imm & ~0xFFFF | value)
    elif field == "imm_first":
        insn.imm = insn.imm & ~0xFFFF_FFFF | value & 0xFFFF_FFFF
    elif field == "imm_second":
        insn.imm = insn.imm & 0xFFFF_FFFF | (value & 0xFFFF_FFFF) << 32
    else:
        setattr(insn, field, value)


def _s32(value: int) -> int:
    value &= 0xFFFF_FFFF
    return value - (1 << 32) if value & 0x8000_0000 else value


def _choice(items: list[str]) -> str:
    # Too long a list helps nobody; operands first, since they say more than words.
    items = sorted(items, key=lambda item: item.startswith("'"))
    if len(items) > 6:
        items = [*items[:6], "..."]
    return " or ".join(items)


def _shorten(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


# --- printing ---


@cache
def _pieces(template: str) -> tuple[tuple[str, str, str], ...]:
    parts = _OPERAND.split(template)
    return tuple(zip(parts[::3], [*parts[1::3], ""], [*parts[2::3], ""]))


def render(form: Form, insn: Insn, dialect: str, target: str = "") -> str:
    """``insn``, which has that form, as text; ``target`` replaces the distance of a jump or the name in its place."""
    out = []
    for words, kind, field in _pieces(form.template(dialect)):
        out.append(words)
        if kind:
            out.append(_show(kind, _value(insn, field), dialect, target))
    return "".join(out)


def is_exact(form: Form, insn: Insn, dialect: str) -> bool:
    """Whether the text of ``insn`` in that form says all of its fields."""
    same = Insn(form.op, **form.fixed)
    for _, kind, field in _pieces(form.template(dialect)):
        if kind:
            fill(same, field, _value(insn, field))
    return same == insn


def _value(insn: Insn, field: str) -> int:
    if field == "dst":
        return insn.dst
    if field == "src":
        return insn.src
    if field == "off":
        return insn.off
    imm = insn.imm
    if field == "imm_high":
        return imm >> 16 & 0xFFFF
    if field == "imm_low":
        return imm & 0xFFFF
    if field == "imm_first":
        return _s32(imm)
    if field == "imm_second":
        return _s32(imm >> 32)
    return imm


def _show(kind: str, value: int, dialect: str, target: str) -> str:
    if kind in ("r", "w", "x"):
        return f"{'w' if kind == 'x' else kind}{value}"
    if kind == "%":
        return f"%r{value}"
    if kind in ("jump", "pc") and target:
        return target
    if kind in ("off", "add"):
        if not value and (dialect != LLVM or kind == "add"):
            return ""
        if dialect == LLVM:
            return f" - {-value:#x}" if value < 0 else f" + {value:#x}"
        return f"{value:+d}"
    if kind in ("jump", "pc"):
        before = "pc" if kind == "pc" else ""
        return f"{before}{value:+#x}" if dialect == LLVM else f"{before}{value:+d}"
    if kind == "i64" and dialect == LLVM:
        return f"{value - (1 << 64) if value >> 63 else value:#x}"
    return f"{value:#x}" if dialect == LLVM or kind == "i64" else str(value)
