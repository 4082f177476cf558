"""C declarations of types: ``const char *(*name)(int, void *)`` from the chain of types that BTF stores."""

from __future__ import annotations

from btf.errors import BtfError
from btf.format import (
    COMPOSITES,
    ENUMS,
    KIND_ARRAY,
    KIND_CONST,
    KIND_FUNC,
    KIND_FUNC_PROTO,
    KIND_FWD,
    KIND_PTR,
    KIND_RESTRICT,
    KIND_TYPE_TAG,
    KIND_TYPEDEF,
    KIND_VAR,
    KIND_VOLATILE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from btf.reader import Btf

    # Text for a type at the end of a chain, given its id and the current depth of nesting.
    Spell = Callable[[int, int], str]

# Typedefs that every compiler brings along, each its own: what they stand for is written instead.
COMPILERS_OWN = frozenset(("__builtin_va_list",))
_QUALIFIERS = {KIND_CONST: "const", KIND_VOLATILE: "volatile", KIND_RESTRICT: "restrict"}
_MAX_HOPS = 256  # pointers, arrays and qualifiers of one declaration
_MAX_DEPTH = 16  # function types in the parameters of each other
_BUDGET = 1 << 16  # parameters of one declaration, all functions in it together


class Declarator:
    """Makes declarations; ``spell`` gives the text of the type at the end of a chain.

    ``tags`` says whether TYPE_TAG is written, as ``__btf_type_tag("x")``. Raises
    BtfError for what C cannot express: types that go round in circles.
    """

    def __init__(self, btf: Btf, spell: Spell, tags: bool = False) -> None:
        self._btf = btf
        self._spell = spell
        self._tags = tags
        self._left = 0

    def declare(self, id: int, name: str, depth: int = 0) -> str:
        """A declaration of ``name`` with type ``id``, without the semicolon; ``name`` may be empty."""
        self._left = _BUDGET
        return self._declare(id, name, 0, depth)

    def _declare(self, id: int, name: str, level: int, depth: int) -> str:
        btf = self._btf
        text = name
        after_star = False
        qualifiers: list[str] = []
        for _ in range(_MAX_HOPS):
            kind = btf.kind(id)
            if kind == KIND_PTR:
                mine = " ".join(qualifiers)
                text = f"*{mine} {text}" if mine and text else f"*{mine}{text}"
                qualifiers = []
                after_star = True
                id = btf.type(id)
            elif kind in _QUALIFIERS:
                if _QUALIFIERS[kind] not in qualifiers:
                    qualifiers.append(_QUALIFIERS[kind])
                id = btf.type(id)
            elif kind == KIND_TYPE_TAG:
                if self._tags and not btf.kflag(id):
                    qualifiers.append(f'__btf_type_tag("{_quoted(btf.name(id))}")')
                id = btf.type(id)
            elif kind == KIND_TYPEDEF and btf.name(id) in COMPILERS_OWN:
                id = btf.type(id)
            elif kind == KIND_ARRAY:
                elem, _, count = btf.array(id)
                text = f"({text})[{count}]" if after_star else f"{text}[{count}]"
                after_star = False
                id = elem
            elif kind == KIND_FUNC_PROTO:
                text = f"({text})" if after_star else text
                text += f"({self._params(id, level, depth)})"
                after_star = False
                qualifiers = []
                id = btf.type(id)
            else:
                base = " ".join((*qualifiers, self._spell(id, depth) if id else "void"))
                return f"{base} {text}" if text else base
        raise BtfError(f"BTF type [{id}] refers to itself, or is nested too deep")

    def _params(self, id: int, level: int, depth: int) -> str:
        params = self._btf.params(id)
        self._left -= len(params)
        if level >= _MAX_DEPTH or self._left < 0:
            raise BtfError(f"BTF type [{id}] refers to itself, or is nested too deep")
        if params and params[-1] == ("", 0):
            head = [self._declare(type, name, level + 1, depth) for name, type in params[:-1]]
            return ", ".join([*head, "..."]) if head else ""
        return ", ".join(self._declare(type, name, level + 1, depth) for name, type in params) or "void"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def short_name(btf: Btf, id: int) -> str:
    """How a type is mentioned in a line of text: ``struct file``, ``pid_t``; anonymous ones by keyword and id."""
    kind = btf.kind(id)
    name = btf.name(id)
    if kind in COMPOSITES:
        return f"{'struct' if kind == COMPOSITES[0] else 'union'} {name or f'{{...}} /* [{id}] */'}"
    if kind in ENUMS:
        return f"enum {name or f'{{...}} /* [{id}] */'}"
    return name or f"[{id}]"


def spelled(btf: Btf, id: int) -> str:
    """Like short_name(), with the keyword of a forward declaration: what stands at the end of a declaration."""
    if btf.kind(id) == KIND_FWD:
        return f"{'union' if btf.kflag(id) else 'struct'} {btf.name(id)}"
    return short_name(btf, id)


def plain(btf: Btf, id: int, name: str = "") -> str:
    """One line of C: ``name`` with type ``id``; without a name, what a FUNC, VAR or TYPEDEF declares itself."""
    if btf.kind(id) in (KIND_FUNC, KIND_VAR, KIND_TYPEDEF) and not name:
        name, id = btf.name(id), btf.type(id)
    return Declarator(btf, lambda base, _: spelled(btf, base)).declare(id, name)
