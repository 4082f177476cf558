"""Blocks and fields of records made in user space, as the programs would write them."""

from __future__ import annotations

from struct import pack

from bfer.records import (
    ARGS,
    CALL,
    FIELD,
    FORM_BYTES,
    FORM_ITEM,
    FORM_MORE,
    FORM_NUMBER,
    FORM_STRING,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from bfer.catalogue import Event


def block_of(event: Event, who: bytes) -> bytes:
    """The block of a record of ``event``, without numbers; ``who`` as in another block."""
    return who + CALL.pack(0, *(0,) * ARGS, event.number, 0)


def _field(slot: int, form: int, data: bytes) -> bytes:
    return FIELD.pack(slot, form, len(data)) + data + bytes(-len(data) % 8)


def text(slot: int, value: str | bytes) -> bytes:
    """A string."""
    return _field(slot, FORM_STRING, value.encode(errors="replace") if isinstance(value, str) else value)


def number(slot: int, value: int) -> bytes:
    return _field(slot, FORM_NUMBER, pack("=Q", value & ((1 << 64) - 1)))


def raw(slot: int, data: bytes) -> bytes:
    """Bytes, for an argument whose kind says what they are."""
    return _field(slot, FORM_BYTES, data)


def items(slot: int, values: Iterable[bytes], more: bool = False) -> bytes:
    """A list of strings; ``more``: it goes on."""
    parts = [_field(slot, FORM_ITEM, value) for value in values]
    if more:
        parts.append(_field(slot, FORM_MORE, b""))
    return b"".join(parts)


def hooks(slot: int, found: Iterable[tuple[str, str, str]]) -> bytes:
    """Hooked functions: the place (of a list without names empty), the function or table, its owner."""
    return raw(slot, b"\0".join([part.encode(errors="replace") for one in found for part in one]))
