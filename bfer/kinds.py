"""What a value from the caller's memory can be, besides text, numbers, lists and dicts (``bfer.memory``)."""

from __future__ import annotations


class Cut(bytes):
    """A string of which the end is missing."""


class Blob(bytes):
    """Bytes that are no text."""


class Named(bytes):
    """A number and what it stands for."""


class Relative(bytes):
    """A path, and as ``whole`` the same from the root."""

    whole = b""


class Pointer(int):
    """An address instead of what is there."""


class More:
    """Stands at the end of a list that goes on."""


MORE = More()
