"""The word that was probably meant; imported only to word an error."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def distance(a: str, b: str) -> int:
    """Edits between two words: insert, delete, replace, or swap two neighbours."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a):
        following = [i + 1]
        for j, y in enumerate(b):
            cost = min(row[j] + (x != y), row[j + 1] + 1, following[j] + 1)
            if i and j and x == b[j - 1] and a[i - 1] == y:
                cost = min(cost, before[j - 1] + 1)
            following.append(cost)
        before, row = row, following
    return row[-1]


def nearest(word: str, words: Iterable[str]) -> str:
    """``": did you mean 'x'?"`` for the closest of ``words``, or the empty string when none is close."""
    best = min(((distance(word, w), w) for w in words), default=(99, ""))
    return f": did you mean {best[1]!r}?" if best[0] <= max(1, len(word) // 3) else ""
