"""What types, members and enumerators are called in C, where BTF's names may collide or be no C at all."""

from __future__ import annotations

from btf.format import (
    ENUMS,
    INT_BOOL,
    INT_SIGNED,
    KIND_ENUM,
    KIND_FLOAT,
    KIND_FWD,
    KIND_INT,
    KIND_STRUCT,
    KIND_TYPEDEF,
    KIND_UNION,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from btf.table import Table

KEYWORDS = {KIND_STRUCT: "struct", KIND_UNION: "union", **dict.fromkeys(ENUMS, "enum")}

# An integer or floating-point type made of these words needs no definition.
_BUILTIN = frozenset(
    (
        "char",
        "short",
        "int",
        "long",
        "signed",
        "unsigned",
        "float",
        "double",
        "_Bool",
        "__int128",
        "_Complex",
        "_Float16",
    )
)
_RESERVED = frozenset(
    (
        *("auto", "break", "case", "const", "continue", "default", "do", "else", "enum", "extern", "for", "goto", "if"),
        *("inline", "register", "restrict", "return", "sizeof", "static", "struct", "switch", "typedef", "typeof"),
        *("union", "void", "volatile", "while", "asm", "alignas", "alignof"),
    )
) | (_BUILTIN - {"_Float16"})
_INTEGERS = {1: "char", 2: "short", 4: "int", 8: "long long", 16: "__int128"}
_FLOATS = {2: "_Float16", 4: "float", 8: "double", 16: "long double"}


def is_builtin(name: str) -> bool:
    """Whether C knows a type ``name`` without a definition."""
    return bool(name) and all(word in _BUILTIN for word in name.split())


def builtin_for(table: Table, id: int) -> str:
    """A C type with the size and sign of an INT or FLOAT that C does not know by its own name."""
    size = table.size(id)
    if table.kind(id) == KIND_FLOAT:
        return _FLOATS.get(size, "") or f"struct {{ char bytes[{size}]; }}"
    encoding = table.int_encoding(id)
    if encoding & INT_BOOL and size == 1:
        return "_Bool"
    word = _INTEGERS.get(size)
    if word is None:
        return f"struct {{ char bytes[{size}]; }}"
    return f"{'signed' if encoding & INT_SIGNED else 'unsigned'} {word}"


def identifier(name: str) -> str:
    """``name`` as a C identifier: itself if it is one (nearly always)."""
    if name.isidentifier() and name.isascii() and name not in _RESERVED:
        return name
    text = "".join(letter if letter.isascii() and (letter.isalnum() or letter == "_") else "_" for letter in name)
    return f"_{text}" if not text or text[0].isdigit() or text in _RESERVED else text


class Names:
    """Names of all types of a table and what it stands on, unique in the two name spaces of C.

    The second type of a name gets ``___2``, as a flavour, so that CO-RE takes
    it for the same. A forward declaration shares the name of the type that it announces.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._names: dict[int, str] = {}
        self._values: dict[int, list[str]] = {}
        self._used: set[str] = set()  # typedefs, enumerators: ordinary identifiers
        self._counts: dict[str, int] = {}
        self._tags: dict[str, int] = {}  # tag -> kind
        chain = []
        below: Table | None = table
        while below is not None:
            chain.append(below)
            below = below.base
        self._chain = chain[::-1]
        self._collect()

    def _collect(self) -> None:
        for id, kind in self._ids((KIND_STRUCT, KIND_UNION, *ENUMS, KIND_TYPEDEF, KIND_INT, KIND_FLOAT)):
            name = self._table.name(id)
            if kind == KIND_TYPEDEF:
                self._names[id] = self._ordinary(name)
            elif kind in (KIND_INT, KIND_FLOAT):
                self._names[id] = name if is_builtin(name) else self._ordinary(name or "int")
            else:
                if name:
                    self._names[id] = self._tag(name, KIND_ENUM if kind in ENUMS else kind)
                if kind in ENUMS:
                    self._values[id] = [self._ordinary(value) for value, _ in self._table.enumerators(id)]
        for id, _ in self._ids((KIND_FWD,)):
            name = identifier(self._table.name(id))
            kind = KIND_UNION if self._table.kflag(id) else KIND_STRUCT
            self._names[id] = name if self._tags.get(name) == kind else self._tag(name, kind)

    def _ids(self, kinds: tuple[int, ...]) -> Iterator[tuple[int, int]]:
        for table in self._chain:
            for id in table.ids:
                kind = table.kind(id)
                if kind in kinds:
                    yield id, kind

    def _ordinary(self, name: str) -> str:
        name = identifier(name)
        if name not in self._used:
            self._used.add(name)
            return name
        return self._numbered(name, self._used)

    def _tag(self, name: str, kind: int) -> str:
        name = identifier(name)
        if name in self._tags:
            name = self._numbered(name, self._tags)
        self._tags[name] = kind
        return name

    def _numbered(self, name: str, used: set[str] | dict[str, int]) -> str:
        count = self._counts.get(name, 1)
        while True:
            count += 1
            other = f"{name}___{count}"
            if other not in used:
                break
        self._counts[name] = count
        if isinstance(used, set):
            used.add(other)
        return other

    def __getitem__(self, id: int) -> str:
        """The bare name of a type (without ``struct`` and the like); KeyError for anonymous ones."""
        return self._names[id]

    def spelled(self, id: int) -> str:
        """The name with its keyword; empty for anonymous types."""
        name = self._names.get(id, "")
        kind = self._table.kind(id)
        if kind == KIND_FWD:
            return f"{'union' if self._table.kflag(id) else 'struct'} {name}"
        keyword = KEYWORDS.get(kind)
        return f"{keyword} {name}" if keyword and name else name

    def values(self, id: int, again: bool = False) -> list[str]:
        """Names of an enum's enumerators; new ones when an anonymous enum has to be written ``again``."""
        names = self._values[id]
        return [self._ordinary(name) for name in names] if again else names
