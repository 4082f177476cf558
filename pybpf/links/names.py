"""Parts of a section's name: ``function+0x10``, ``path:function``."""

from __future__ import annotations

from errno import EINVAL

from pybpf.errors import LinkError


def number(text: str, what: str) -> int:
    """A decimal or 0x number. Raises LinkError."""
    try:
        return int(text, 0)
    except ValueError:
        raise LinkError(f"{what}: {text!r} is no number", EINVAL) from None


def split_offset(text: str, what: str) -> tuple[str, int]:
    """``("name", 16)`` of ``name+0x10``. Raises LinkError."""
    name, plus, offset = text.partition("+")
    return name, number(offset, what) if plus else 0
