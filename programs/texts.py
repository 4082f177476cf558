"""Strings that programs bring with them."""

from __future__ import annotations

from programs.fields import *
from programs.records import *
from pybpf.lang import *


@inline
def put_words(record, arg, first, second, size):
    """A string of at most 16 bytes, as two words in the machine's order."""
    end = record.end
    if end <= FIELDS_FULL:
        field = cast(Ptr[Field], addr(record.data[end >> 3]))
        words = cast(Ptr[u64], addr(field[1]))
        words[0] = first
        words[1] = second
        close_field(record, field, arg, FORM_STRING, size)
