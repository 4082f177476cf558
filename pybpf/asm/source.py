"""Assembly text in, machine code out: labels, directives and symbols around the instructions.

Directives, the same in both dialects::

    .section "tp_btf/sys_exit"      what follows goes there; .text for short
    .globl NAME                     the label NAME is a function (also .type NAME, @function)
    .map NAME, hash, 4, 8, 1024     a map: type (name or number), sizes of key and value in bytes, entries[, flags]
    .license "GPL"
    .8byte NUMBER[, NUMBER]         raw slots, numbers in the byte order of the code (also .quad)

A label is a name or a number and a colon; ``1f`` and ``1b`` are the next and
the previous label ``1``. A label that is called, or whose address is taken, or
that starts a section, is a function.
"""

from __future__ import annotations

from pybpf.asm import tokens as t
from pybpf.asm.assembler import Assembler, Label
from pybpf.asm.forms import LLVM
from pybpf.asm.grammar import Reader, Symbol
from pybpf.asm.insn import MASK64, Insn, Word, encode
from pybpf.asm.opcodes import BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE, LD_IMM64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pybpf.errors import AsmError

# Kinds of Reference.
MAP, CALL, FUNC = "map", "call", "func"

# Written by compilers for tools that do not matter here.
_IGNORED = frozenset((".size", ".p2align", ".align", ".balign", ".file", ".ident", ".addrsig", ".addrsig_sym"))


class Reference:
    """An instruction's reference to a symbol that only a loader can resolve.

    ``slot`` counts from the section's start; ``kind`` is MAP, CALL or FUNC.
    ``addend`` is an offset in bytes into the map's value.
    """

    __slots__ = ("addend", "kind", "name", "slot")

    def __init__(self, slot: int, kind: str, name: str, addend: int = 0) -> None:
        self.slot = slot
        self.kind = kind
        self.name = name
        self.addend = addend


class MapLine:
    """A ``.map`` directive: ``type`` is a name in lower case (``hash``) or a number in decimal."""

    __slots__ = ("column", "flags", "key_size", "line", "max_entries", "name", "type", "value_size")

    def __init__(self, name: str, type: str, numbers: list[int], token: t.Token) -> None:
        self.name = name
        self.type = type
        self.key_size, self.value_size, self.max_entries, self.flags = numbers
        self.line = token.line
        self.column = token.column


class Section:
    """Code of one section as read; ``labels`` give the number of the instruction they stand before."""

    __slots__ = ("insns", "labels", "locals", "name", "places", "symbols")

    def __init__(self, name: str) -> None:
        self.name = name
        self.insns: list[Insn] = []
        self.symbols: list[Symbol | None] = []
        self.places: list[t.Token] = []
        self.labels: dict[str, int] = {}
        self.locals: dict[str, list[int]] = {}


class Code:
    """One section, assembled: its instructions, the slot of every named label, what is left to a loader."""

    __slots__ = ("functions", "insns", "labels", "lines", "name", "references")

    def __init__(self, name: str, insns: list[Insn]) -> None:
        self.name = name
        self.insns = insns
        self.labels: dict[str, int] = {}
        self.functions: dict[str, int] = {}
        self.references: list[Reference] = []
        # (slot, line) of every instruction in the text, raw slots left out.
        self.lines: list[tuple[int, int]] = []


class Source:
    """Assembly text, read. Raises AsmError ``file:line:column: what`` for everything that is wrong with it."""

    def __init__(self, text: str, dialect: str = LLVM, file: str = "<asm>") -> None:
        self.place = t.Place(file)
        self.license = ""
        self.maps: dict[str, MapLine] = {}
        self.sections: dict[str, Section] = {}
        self._declared: dict[str, t.Token] = {}
        self._defined: dict[str, tuple[Section, t.Token]] = {}
        self._reader = Reader(dialect, self.place)
        self._section = self._enter(".text")
        for statement in t.statements(text, self.place):
            self._statement(statement)
        self._check()

    def _enter(self, name: str) -> Section:
        found = self.sections.get(name)
        if found is None:
            found = self.sections[name] = Section(name)
        return found

    def _statement(self, tokens: list[t.Token]) -> None:
        while len(tokens) > 1 and tokens[0].kind in (t.WORD, t.NUMBER) and tokens[1].text == ":":
            self._label(tokens[0])
            tokens = tokens[2:]
        if not tokens:
            return
        first = tokens[0]
        if first.kind == t.WORD and first.text.startswith("."):
            self._directive(first, tokens[1:])
            return
        insn, symbol = self._reader.read(tokens)
        self._add(insn, symbol, first)

    def _add(self, insn: Insn, symbol: Symbol | None, token: t.Token) -> None:
        section = self._section
        if symbol is not None and symbol.token.kind == t.LOCAL:
            # Backwards is known now; forwards gets a name that the label will carry.
            count = len(section.locals.get(str(int(symbol.name[:-1])), ()))
            number = count if symbol.name[-1] == "f" else count - 1
            if number < 0:
                raise self.place.at(symbol.token, f"there is no label {symbol.name[:-1]} before this line")
            symbol.name = f"{int(symbol.name[:-1])}@{number}"
        section.insns.append(insn)
        section.symbols.append(symbol)
        section.places.append(token)

    def _label(self, token: t.Token) -> None:
        section = self._section
        if token.kind == t.NUMBER:
            section.locals.setdefault(str(token.value), []).append(len(section.insns))
            return
        before = self._defined.get(token.text)
        if before is not None:
            raise self.place.at(token, f"label {token.text!r} is defined on line {before[1].line} already")
        if token.text in self.maps:
            raise self.place.at(token, f"{token.text!r} is a map (line {self.maps[token.text].line})")
        self._defined[token.text] = section, token
        section.labels[token.text] = len(section.insns)

    # --- directives ---

    def _directive(self, first: t.Token, operands: list[t.Token]) -> None:
        name = first.text.lower()
        if name == ".text":
            self._section = self._enter(".text")
            self._end(operands, 0)
        elif name == ".section":
            section, after = self._section_name(first, operands)
            self._section = self._enter(section)
            # Flags and type, as compilers write them, say what is known: that it is code.
            if after < len(operands) and operands[after].text != ",":
                self._end(operands, after)
        elif name in (".globl", ".global"):
            self._declare(self._word(first, operands, 0))
            self._end(operands, 1)
        elif name == ".type":
            self._declare(self._word(first, operands, 0))
            if [token.text for token in operands[1:]] not in ([",", "@", "function"], [","]):
                raise self.place.at(first, "expected: .type NAME, @function")
        elif name == ".license":
            if not operands or operands[0].kind != t.STRING:
                raise self._missing(first, operands, 0, 'a string such as "GPL"')
            self.license = operands[0].text[1:-1]
            self._end(operands, 1)
        elif name == ".map":
            self._map(first, operands)
        elif name in (".8byte", ".quad"):
            self._words(first, operands)
        elif name not in _IGNORED:
            raise self.place.at(first, f"unknown directive {first.text!r}")

    def _words(self, first: t.Token, operands: list[t.Token]) -> None:
        at = 0
        while True:
            value, after = self._value(first, operands, at)
            if not -(1 << 63) <= value <= MASK64:
                raise self.place.at(operands[at], f"{value:#x} does not fit 64 bits")
            self._add(Word(value & MASK64), None, first)
            if after == len(operands):
                return
            self._comma(first, operands, after)
            at = after + 1

    def _section_name(self, first: t.Token, operands: list[t.Token]) -> tuple[str, int]:
        if operands and operands[0].kind == t.STRING:
            name, after = operands[0].text[1:-1], 1
        else:
            # Without quotes: whatever comes up to a space or comma.
            name, after = "", 0
            while after < len(operands) and operands[after].text != ",":
                token = operands[after]
                if name and (token.column != operands[0].column + len(name) or token.line != operands[0].line):
                    break
                name += token.text
                after += 1
        if not name:
            raise self._missing(first, operands, 0, 'a name such as "tp_btf/sys_exit"')
        return name, after

    def _map(self, first: t.Token, operands: list[t.Token]) -> None:
        token = self._word(first, operands, 0)
        self._comma(first, operands, 1)
        if token.text in self.maps or token.text in self._defined:
            raise self.place.at(token, f"{token.text!r} is defined already")
        if len(operands) > 2 and operands[2].kind in (t.WORD, t.NUMBER):
            kind = operands[2].text.lower() if operands[2].kind == t.WORD else str(operands[2].value)
        else:
            raise self._missing(first, operands, 2, "a map type such as hash")
        numbers: list[int] = []
        at = 3
        while at < len(operands) and len(numbers) < 4:
            self._comma(first, operands, at)
            value, after = self._value(first, operands, at + 1)
            if not 0 <= value <= 0xFFFF_FFFF:
                raise self.place.at(operands[at + 1], f"{value} does not fit 32 bits")
            numbers.append(value)
            at = after
        self._end(operands, at)
        if len(numbers) < 3:
            raise self._missing(first, operands, len(operands), "NAME, type, key size, value size, entries[, flags]")
        self.maps[token.text] = MapLine(token.text, kind, [*numbers, 0][:4], token)

    def _declare(self, token: t.Token) -> None:
        self._declared.setdefault(token.text, token)

    def _word(self, first: t.Token, operands: list[t.Token], at: int) -> t.Token:
        if at >= len(operands) or operands[at].kind != t.WORD:
            raise self._missing(first, operands, at, "a name")
        return operands[at]

    def _value(self, first: t.Token, operands: list[t.Token], at: int) -> tuple[int, int]:
        minus = at < len(operands) and operands[at].text == "-"
        at += minus
        if at >= len(operands) or operands[at].kind != t.NUMBER:
            raise self._missing(first, operands, at, "a number")
        return -operands[at].value if minus else operands[at].value, at + 1

    def _comma(self, first: t.Token, operands: list[t.Token], at: int) -> None:
        if at >= len(operands) or operands[at].text != ",":
            raise self._missing(first, operands, at, "a comma")

    def _end(self, operands: list[t.Token], at: int) -> None:
        if at < len(operands):
            raise self.place.at(operands[at], f"unexpected {operands[at].text[:40]!r} after the directive")

    def _missing(self, first: t.Token, operands: list[t.Token], at: int, what: str) -> AsmError:
        if at < len(operands):
            return self.place.at(operands[at], f"unexpected {operands[at].text[:40]!r}: {first.text} needs {what} here")
        last = operands[-1] if operands else first
        return self.place.error(last.line, last.column + len(last.text), f"{first.text} needs {what} here")

    # --- symbols ---

    def _check(self) -> None:
        """Every label that is used has a place, with an instruction behind it."""
        for section in self.sections.values():
            for name, places in section.locals.items():
                section.labels.update((f"{name}@{number}", place) for number, place in enumerate(places))
            for insn, symbol in zip(section.insns, section.symbols):
                if symbol is not None:
                    self._check_symbol(section, insn, symbol)
        for name, token in self._declared.items():
            if name not in self._defined and name not in self.maps:
                raise self.place.at(token, f"{name!r} has no label")

    def _check_symbol(self, section: Section, insn: Insn, symbol: Symbol) -> None:
        name, token = symbol.name, symbol.token
        if symbol.kind == "sym":
            if name in self._defined:
                if symbol.addend:
                    raise self.place.at(token, f"{name!r} is a function: an offset into it has no meaning")
            else:
                return  # a map, perhaps one that only the caller of assemble knows
        if token.kind == t.LOCAL:
            if name not in section.labels:
                raise self.place.at(token, f"there is no label {token.text[:-1]} after this line")
            where = section
        else:
            known = self._defined.get(name)
            if known is None:
                close = self._close(name)
                raise self.place.at(token, f"label {name!r} is not defined{close}")
            where = known[0]
        if insn.is_jump and where is not section:
            raise self.place.at(token, f"label {name!r} is in section {where.name!r}: a jump stays in its own")
        if where.labels[name] >= len(where.insns):
            raise self.place.at(token, f"no instruction follows label {token.text!r}")

    def _close(self, name: str) -> str:
        from difflib import get_close_matches

        close = get_close_matches(name, list(self._defined), 1)
        return f": did you mean {close[0]}?" if close else ""

    def error_at_label(self, name: str, message: str) -> AsmError:
        """An error at the definition of label ``name``, or at the first line when there is none."""
        found = self._defined.get(name)
        return self.place.at(found[1], message) if found is not None else self.place.error(1, 1, message)

    def functions(self) -> set[str]:
        """The labels that are functions."""
        found = {name for name in self._declared if name in self._defined}
        for section in self.sections.values():
            # Several labels may start a section; the last is the nearest.
            first = [name for name, place in section.labels.items() if place == 0 and "@" not in name]
            if not found.intersection(first):
                found.update(first[-1:])
            for insn, symbol in zip(section.insns, section.symbols):
                if symbol is not None and not insn.is_jump and symbol.name in self._defined:
                    found.add(symbol.name)
        return found

    # --- code ---

    def assemble(
        self, long_jumps: bool = False, maps: Mapping[str, int] | None = None, relocatable: bool = False
    ) -> list[Code]:
        """The code of every section that has some.

        ``maps`` gives file descriptors of maps by name. Calls and addresses of
        functions are filled in when the function is in the same section; with
        ``relocatable`` all of them stay references for a loader. So do maps that
        ``maps`` does not have. ``long_jumps`` allows the 32-bit jumps of cpu v4
        where a 16-bit one does not reach.
        """
        functions = self.functions()
        return [
            self._code(section, functions, long_jumps, maps or {}, relocatable)
            for section in self.sections.values()
            if section.insns
        ]

    def _code(
        self, section: Section, functions: set[str], long_jumps: bool, maps: Mapping[str, int], relocatable: bool
    ) -> Code:
        assembler = Assembler(long_jumps)
        labels = {name: Label(name) for name in section.labels}
        at: dict[int, list[Label]] = {}
        for name, number in section.labels.items():
            at.setdefault(number, []).append(labels[name])
        fixed = self._fixed_distances(section, at)
        pending: list[tuple[int, str, Symbol]] = []
        for number, (insn, symbol) in enumerate(zip(section.insns, section.symbols)):
            for label in at.get(number, ()):
                assembler.place(label)
            insn = insn.copy()
            target = fixed.get(number)
            if symbol is not None:
                if insn.is_jump:
                    target = labels[symbol.name]
                elif not insn.is_call and symbol.name not in self._defined:
                    if symbol.name in maps:
                        insn.src = BPF_PSEUDO_MAP_VALUE if symbol.addend else BPF_PSEUDO_MAP_FD
                        insn.imm = (symbol.addend & 0xFFFF_FFFF) << 32 | maps[symbol.name] & 0xFFFF_FFFF
                    else:
                        pending.append((number, MAP, symbol))
                else:
                    insn.src = BPF_PSEUDO_CALL if insn.is_call else BPF_PSEUDO_FUNC
                    if symbol.name not in section.labels or (relocatable and symbol.name in self._defined):
                        pending.append((number, CALL if insn.is_call else FUNC, symbol))
                    else:
                        target = labels[symbol.name]
            if target is None:
                assembler.emit(insn)
            else:
                assembler.jump(insn, target)
        insns = assembler.finish()
        code = Code(section.name, insns)
        end = sum(insn.slots for insn in insns)
        for name, number in section.labels.items():
            if "@" not in name:
                code.labels[name] = assembler.slot(number) if number < len(section.insns) else end
        code.functions = {name: slot for name, slot in code.labels.items() if name in functions}
        code.lines = [
            (assembler.slot(number), token.line)
            for number, token in enumerate(section.places)
            if not isinstance(section.insns[number], Word)
        ]
        code.references = [
            Reference(assembler.slot(number), kind, symbol.name, symbol.addend) for number, kind, symbol in pending
        ]
        self._check_pending(pending, relocatable)
        return code

    def _check_pending(self, pending: list[tuple[int, str, Symbol]], relocatable: bool) -> None:
        for _, kind, symbol in pending:
            if kind == MAP and symbol.name not in self.maps:
                close = self._close(symbol.name)
                message = f"symbol {symbol.name!r} is neither a map nor a function{close}"
            elif relocatable:
                continue
            elif kind == MAP:
                message = f"map {symbol.name!r} has no file descriptor here: give one, or make an ELF object"
            else:
                message = f"function {symbol.name!r} is in another section: that needs an ELF object"
            raise self.place.at(symbol.token, message)

    def _fixed_distances(self, section: Section, at: dict[int, list[Label]]) -> dict[int, Label]:
        """Labels for jumps and calls written with a distance, so that inserted instructions do not break them.

        Only code that may need such insertions is treated: elsewhere the text is taken to the letter.
        """
        slots = []
        end = 0
        for insn in section.insns:
            slots.append(end)
            end += insn.slots
        if end <= 0x7FFF:
            return {}
        by_slot = {slot: number for number, slot in enumerate(slots)}
        found = {}
        for number, (insn, symbol) in enumerate(zip(section.insns, section.symbols)):
            if symbol is not None or isinstance(insn, Word):
                continue
            distance = _distance(insn)
            if distance is None:
                continue
            goal = by_slot.get(slots[number] + 1 + distance)
            if goal is None:
                raise self.place.at(section.places[number], f"distance {distance:+d} does not lead to an instruction")
            label = found[number] = Label(f"{distance:+d}")
            at.setdefault(goal, []).append(label)
        return found


def _distance(insn: Insn) -> int | None:
    """The distance in slots that ``insn`` holds, if it holds one."""
    if insn.is_gotol or (insn.is_call and insn.src == BPF_PSEUDO_CALL):
        return insn.imm
    if insn.is_jump:
        return None if insn.is_gotox else insn.off
    if insn.op == LD_IMM64 and insn.src == BPF_PSEUDO_FUNC:
        return (insn.imm & 0xFFFF_FFFF ^ 0x8000_0000) - 0x8000_0000
    return None


def assemble(
    text: str,
    dialect: str = LLVM,
    byteorder: str = "little",
    file: str = "<asm>",
    long_jumps: bool = False,
    maps: Mapping[str, int] | None = None,
) -> bytes:
    """The machine code of ``text``, which has code in one section only.

    ``maps`` are file descriptors of maps that the text names. Raises AsmError
    with ``file:line:column`` for text that is wrong or that needs a loader.
    """
    source = Source(text, dialect, file)
    codes = source.assemble(long_jumps, maps)
    if len(codes) > 1:
        names = " and ".join(repr(code.name) for code in codes[:2])
        token = source.sections[codes[1].name].places[0]
        raise source.place.at(token, f"code is in sections {names}: raw code has one, several need an ELF object")
    return encode(codes[0].insns, byteorder) if codes else b""
