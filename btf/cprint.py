"""Types as C: a header that compiles, with the sizes and offsets that BTF states.

Order: a struct or union comes after what it contains, and after at least a
forward declaration of what it points to; a typedef after what it names. The
walk keeps its own stack, so that no depth of nesting exhausts Python's.
"""

from __future__ import annotations

from btf.cdecl import COMPILERS_OWN, Declarator
from btf.clayout import MAX_DEPTH, Layouts
from btf.cnames import KEYWORDS, Names, builtin_for, identifier, is_builtin
from btf.errors import BtfError
from btf.format import (
    COMPOSITES,
    ENUMS,
    KIND_ARRAY,
    KIND_FLOAT,
    KIND_FUNC_PROTO,
    KIND_FWD,
    KIND_INT,
    KIND_PTR,
    KIND_TYPE_TAG,
    KIND_TYPEDEF,
    KIND_UNION,
    MODIFIERS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from btf.table import Table

    Need = tuple[int, int]  # what is needed, and of which type

_MENTION, _COMPLETE = 0, 1  # a name that is declared; a type whose size is known
_PIECE = 1 << 16
_MAX_NODES = 1 << 20  # types that one definition may refer to
_MAX_TEXT = 1 << 22  # characters of one definition

_HEAD = """\
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

#if defined(__clang__) && defined(__bpf__) && !defined(BPF_NO_PRESERVE_ACCESS_INDEX)
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif
"""
_TAGS = """
#ifdef __clang__
#define __btf_type_tag(x) __attribute__((btf_type_tag(x)))
#else
#define __btf_type_tag(x)
#endif
"""
_TAIL = """
#if defined(__clang__) && defined(__bpf__) && !defined(BPF_NO_PRESERVE_ACCESS_INDEX)
#pragma clang attribute pop
#endif

#endif /* __VMLINUX_H__ */
"""
# C23 has these as keywords.
_C23 = frozenset(("bool", "false", "true", "nullptr"))


def dump_c(table: Table, ids: Iterable[int] | None = None) -> Iterator[bytes]:
    """A C header of the types ``ids`` and all that they need, piece by piece; default: all own types of ``table``."""
    printer = Printer(table)
    size = 0
    pieces = [_HEAD]
    if any(table.kind(id) == KIND_TYPE_TAG for id in table.ids):
        pieces.append(_TAGS)
    for text in printer.definitions(table.ids if ids is None else ids):
        pieces.append(text)
        size += len(text)
        if size > _PIECE:
            yield "".join(pieces).encode()
            pieces.clear()
            size = 0
    pieces.append(_TAIL)
    yield "".join(pieces).encode()


class Printer:
    """Definitions of a table's types in an order that a C compiler takes; each at most once."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._names = Names(table)
        self._layouts = Layouts(table)
        self._declarator = Declarator(table, self._spell, tags=True)
        self._done: set[Need] = set()
        self._tags: set[str] = set()  # tags that have been declared or defined
        self._shown: set[int] = set()  # enums whose enumerators are defined
        self._text = 0

    def definitions(self, ids: Iterable[int]) -> Iterator[str]:
        """What ``ids`` need, and themselves. Types that are only parts of others (pointers, functions) give no text."""
        constants = []
        for id in ids:
            kind = self._table.kind(id)
            if kind in COMPOSITES:
                # An anonymous struct is printed where it is used.
                if self._table.name(id):
                    yield from self._emit((_COMPLETE, id))
            elif kind in ENUMS and not self._table.name(id):
                constants.append(id)
            elif kind in ENUMS or kind in (KIND_TYPEDEF, KIND_FWD):
                yield from self._emit((_MENTION, id))
        # So is an anonymous enum, unless nothing does use it.
        for id in constants:
            if id not in self._shown:
                yield from self._emit((_MENTION, id))

    # ---- order --------------------------------------------------------------------------

    def _emit(self, need: Need) -> Iterator[str]:
        """The text of ``need`` after that of everything it needs; depth first."""
        if need in self._done:
            return
        self._done.add(need)
        stack = [(need, iter(self._needs(need)))]
        while stack:
            need, rest = stack[-1]
            for other in rest:
                if other not in self._done:
                    # Marked at once: what leads back to itself finds its name declared.
                    self._done.add(other)
                    stack.append((other, iter(self._needs(other))))
                    break
            else:
                stack.pop()
                text = self._define(need)
                if text:
                    yield text

    def _needs(self, need: Need) -> list[Need]:
        """What has to stand before the text of ``need``."""
        how, id = need
        table = self._table
        kind = table.kind(id)
        if kind in COMPOSITES:
            return self._leaves((type, _COMPLETE) for _, type, _, _ in table.members(id)) if how == _COMPLETE else []
        if kind == KIND_TYPEDEF:
            needs = self._leaves(((table.type(id), how),))
            return [*needs, (_MENTION, id)] if how == _COMPLETE else needs
        return []

    def _leaves(self, roots: Iterable[Need]) -> list[Need]:
        """Named types, enums and forward declarations that a definition refers to, and how. ``roots``: (type, how)."""
        table = self._table
        found: dict[Need, None] = {}
        seen: set[Need] = set()
        stack = list(roots)[::-1]
        while stack:
            item = stack.pop()
            if item in seen:
                continue
            seen.add(item)
            if len(seen) > _MAX_NODES:
                raise BtfError(f"BTF type [{item[0]}]: a definition refers to more than {_MAX_NODES} types")
            id, how = item
            kind = table.kind(id)
            if kind == KIND_PTR:
                stack.append((table.type(id), _MENTION))
            elif kind == KIND_ARRAY:
                stack.append((table.array(id)[0], _COMPLETE))
            elif kind == KIND_FUNC_PROTO:
                stack += [(type, _MENTION) for _, type in table.params(id)[::-1]]
                stack.append((table.type(id), _MENTION))
            elif kind in COMPOSITES and not table.name(id):
                stack += [(type, _COMPLETE) for _, type, _, _ in table.members(id)[::-1]]
            elif kind == KIND_TYPEDEF or kind in COMPOSITES:
                found[how, id] = None
            elif kind in ENUMS:
                if table.name(id):
                    found[_MENTION, id] = None
            elif kind in MODIFIERS:
                stack.append((table.type(id), how))
            elif kind in (KIND_FWD, KIND_INT, KIND_FLOAT):
                found[_MENTION, id] = None
        return list(found)

    # ---- text ---------------------------------------------------------------------------

    def _define(self, need: Need) -> str:
        how, id = need
        table = self._table
        kind = table.kind(id)
        self._text = 0
        if kind in COMPOSITES or kind == KIND_FWD:
            tag = self._names.spelled(id)
            if how == _COMPLETE and kind != KIND_FWD:
                self._tags.add(tag)
                return f"\n{self._body(id, 0)};\n"
            if tag in self._tags:
                return ""
            self._tags.add(tag)
            return f"\n{tag};\n"
        if kind in ENUMS:
            return self._guarded(f"\n{self._enum(id, 0)};\n", table.enumerators(id)[0][0] if table.vlen(id) else "")
        if kind == KIND_TYPEDEF:
            name = table.name(id)
            if how == _COMPLETE or name in COMPILERS_OWN:
                return ""
            return self._guarded(f"\ntypedef {self._declarator.declare(table.type(id), self._names[id])};\n", name)
        if kind in (KIND_INT, KIND_FLOAT) and not is_builtin(table.name(id)):
            return f"\ntypedef {builtin_for(table, id)} {self._names[id]};\n"
        return ""

    def _guarded(self, text: str, name: str) -> str:
        if name not in _C23:
            return text
        return f"\n#if !defined(__STDC_VERSION__) || __STDC_VERSION__ < 202311L{text}#endif\n"

    def _spell(self, id: int, depth: int) -> str:
        """The type at the end of a declaration: its name, or all of it when it has none."""
        table = self._table
        kind = table.kind(id)
        if kind in COMPOSITES and not table.name(id):
            return self._body(id, depth)
        if kind in ENUMS and not table.name(id):
            return self._enum(id, depth)
        try:
            return self._names.spelled(id)
        except KeyError:
            raise BtfError(f"BTF type {table.label(id)} has no place in a declaration") from None

    def _body(self, id: int, depth: int, head: str = "") -> str:
        """Definition of a struct or union, indented by ``depth`` tabs but for its first line, the tag or ``head``."""
        table = self._table
        kind = table.kind(id)
        if depth > MAX_DEPTH:
            raise BtfError(f"BTF type {table.label(id)} contains itself, or is nested too deep")
        tabs = "\t" * (depth + 1)
        lines = self._union(id, depth + 1) if kind == KIND_UNION else self._struct(id, depth + 1)
        head = head or (self._names.spelled(id) if table.name(id) else KEYWORDS[kind])
        tail = " __attribute__((packed))" if self._layouts.is_packed(id) else ""
        text = f"{head} {{\n{''.join(f'{tabs}{line};{chr(10)}' for line in lines)}{tabs[1:]}}}{tail}"
        self._text += len(text)
        if self._text > _MAX_TEXT:
            raise BtfError(f"BTF type {table.label(id)}: its definition is longer than {_MAX_TEXT} characters")
        return text

    def _struct(self, id: int, depth: int) -> list[str]:
        lines = []
        for field, bits in self._layouts.padded(id):
            if field:
                lines.append(self._field(field[1], field[0], field[3], depth))
            else:
                lines.append(f"long long: {bits}" if bits <= 64 else f"char __gap_{len(lines)}[{bits // 8}]")
        return lines

    def _union(self, id: int, depth: int) -> list[str]:
        lines = [self._field(type, name, bits, depth) for name, type, _, bits in self._layouts.fields(id)]
        size = self._layouts.union_filler(id)
        return [*lines, f"char __size[{size}]"] if size else lines

    def _field(self, type: int, name: str, bits: int, depth: int) -> str:
        if not name and not bits:
            embedded = self._table.resolve(type)
            if self._table.kind(embedded) in COMPOSITES and self._table.name(embedded):
                # Its members count as the outer one's, but only with -fms-extensions may C say so by name.
                return self._body(embedded, depth, KEYWORDS[self._table.kind(embedded)])
        text = self._declarator.declare(type, identifier(name) if name else "", depth)
        return f"{text}: {bits}" if bits else text

    def _enum(self, id: int, depth: int) -> str:
        table = self._table
        head = f"enum {self._names[id]}" if table.name(id) else "enum"
        values = table.enumerators(id)
        if not values:
            return head
        tabs = "\t" * (depth + 1)
        names = self._names.values(id, again=id in self._shown)
        self._shown.add(id)
        lines = "".join(f"{tabs}{name} = {_value(value)},\n" for name, (_, value) in zip(names, values))
        return f"{head} {{\n{lines}{tabs[1:]}}}{_enum_mode(table.size(id), [value for _, value in values])}"


def _value(value: int) -> str:
    if value < -(1 << 31):
        return f"(-{-value - 1}LL - 1)"
    if value > 0x7FFFFFFFFFFFFFFF:
        return f"{value}ULL"
    return f"{value}LL" if value > 0xFFFFFFFF else str(value)


def _enum_mode(size: int, values: list[int]) -> str:
    """The attribute that gives an enum its size, where the values alone do not."""
    low, high = min(values), max(values)
    natural = 4 if low >= -(1 << 31) and high <= (0x7FFFFFFF if low < 0 else 0xFFFFFFFF) else 8
    modes = {1: "byte", 2: "HI", 4: "SI", 8: "DI"}
    return "" if size == natural else f" __attribute__((mode({modes.get(size, 'SI')})))"
