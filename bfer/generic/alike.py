"""What was probably meant, among tens of thousands of names; imported only to word an error."""

from __future__ import annotations

from bfer.suggest import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def alike(word: str, names: Iterable[str]) -> str:
    """As ``suggest.nearest``, for long lists: only what has a third of the word in common is compared."""
    third = max(len(word) // 3, 1)
    # Of three parts two edits leave one as it was.
    parts = {word[:third], word[third : 2 * third], word[2 * third :]}
    close = [name for name in names if abs(len(name) - len(word)) <= 2 and any(part in name for part in parts)]
    return nearest(word, close)


def function_like(word: str) -> str:
    """The kernel's function that is called most like it."""
    from pybpf import kallsyms

    found: set[str] = set()
    third = max(len(word) // 3, 1)
    parts = [part.encode() for part in (word[:third], word[third : 2 * third], word[2 * third :])]
    copy = word.encode() + b"."
    try:
        for block in kallsyms.blocks():
            for line in block.splitlines():
                words = line.split(None, 3)
                if len(words) < 3 or words[1] not in (b"t", b"T"):
                    continue
                name = words[2]
                if name.startswith(copy):
                    return f": the compiler made it {name.decode()!r}"
                if abs(len(name) - len(word)) <= 2 and any(part in name for part in parts):
                    found.add(name.decode(errors="replace"))
    except OSError:
        pass
    return nearest(word, found) or ": it may be inlined, or be in a module that is not loaded"


def tracepoint_like(category: str, name: str) -> str:
    """The tracepoint that is called most like it, of the same category if there is one."""
    from pybpf import tracefs

    own = [one for _, one in tracefs.event_names(category, "*")]
    if own:
        best = alike(name, own)
        return best.replace("mean '", f"mean '{category}:") if best else f": category {category!r} has no such event"
    homes = [home for home, _ in tracefs.event_names("*", name)]
    if homes:
        return f": did you mean '{homes[0]}:{name}'?"
    every = sorted({home for home, _ in tracefs.event_names("*", "*")})
    return nearest(category, every) or f": there is no category {category!r}"
