"""Pieces: what the programs of programs/generic.py read for one argument, and the way there from their context."""

from __future__ import annotations

from bfer.records import ARGS, BYTES_MAX, PIECE, PIECE_STEPS

# A way is a tuple of offsets, of which all but the last lead to a pointer that is followed; the first counts from the
# context.

NO_LENGTH = 0xFF
TEXT_MAX = 4104


def along(way: tuple[int, ...], offset: int) -> tuple[int, ...]:
    """So many bytes further."""
    return (*way[:-1], way[-1] + offset)


def behind(way: tuple[int, ...], offset: int = 0) -> tuple[int, ...]:
    """So many bytes behind the pointer that is there."""
    return (*way, offset)


def fits(way: tuple[int, ...]) -> bool:
    """Can the programs go this way?"""
    return len(way) - 1 <= PIECE_STEPS


def piece(kind: int, slot: int, way: tuple[int, ...], size: int = TEXT_MAX, length: int = NO_LENGTH) -> bytes:
    """One piece; ``length`` is the place of the argument that tells the size, which is then at most ``size``."""
    steps = len(way) - 1
    if length >= ARGS:
        length = NO_LENGTH
    offsets = [*way[:-1], *[0] * (PIECE_STEPS - steps), way[-1]] if steps else [way[0], *[0] * PIECE_STEPS]
    return PIECE.pack(kind, slot, steps, length, size, *offsets)


def bytes_size(size: int) -> int:
    """How much is kept of ``size`` bytes."""
    return min(size, BYTES_MAX)
