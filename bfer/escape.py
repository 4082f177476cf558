"""Bytes that came from outside, made safe for a terminal and for JSON."""

from __future__ import annotations

_PRINTABLE = bytes(range(0x20, 0x7F))
# Deleting these leaves nothing of a text that needs no escaping.
TABLE_SAFE = _PRINTABLE.replace(b"\\", b"")
JSON_SAFE = _PRINTABLE.replace(b"\\", b"").replace(b'"', b"") + b"\x7f"
# These too, if they are valid UTF-8.
_HIGH = bytes(range(0x80, 0x100))
_JSON_SAFE_OR_HIGH = JSON_SAFE + _HIGH

_NAMED = {0x09: "\\t", 0x0A: "\\n", 0x0B: "\\v", 0x0C: "\\f", 0x0D: "\\r", 0x5C: "\\\\"}
_JSON = {
    **{c: f"\\u{c:04x}" for c in range(0x20)},
    0x08: "\\b",
    0x09: "\\t",
    0x0A: "\\n",
    0x0C: "\\f",
    0x0D: "\\r",
    0x22: '\\"',
    0x5C: "\\\\",
}


def safe_for_table(data: bytes) -> bool:
    """Can ``data`` be printed as it is?"""
    if not data.translate(None, TABLE_SAFE):
        return True
    try:
        return b"\\" not in data and data.decode().isprintable()
    except UnicodeDecodeError:
        return False


def safe_for_json(data: bytes) -> bool:
    """Can ``data`` stand in a JSON string as it is?"""
    if not data.translate(None, JSON_SAFE):
        return True
    return not data.translate(None, _JSON_SAFE_OR_HIGH) and is_utf8(data)


def for_table(data: bytes) -> bytes:
    r"""As strace prints strings: ``\n``, ``\33``; bytes that are no printable UTF-8 as ``\xff``."""
    if safe_for_table(data):
        return data
    text = data.decode("utf-8", "surrogateescape")
    out = []
    for i, c in enumerate(text):
        code = ord(c)
        if code in _NAMED:
            out.append(_NAMED[code])
        elif code < 0x20 or code == 0x7F:
            # The shortest octal form, unless a digit follows that would be read as part of it.
            digit_follows = text[i + 1 : i + 2] in "01234567" and i + 1 < len(text)
            out.append(f"\\{code:03o}" if digit_follows else f"\\{code:o}")
        elif c.isprintable():
            out.append(c)
        else:
            out.append("".join(f"\\x{b:02x}" for b in c.encode("utf-8", "surrogateescape")))
    return "".join(out).encode()


def for_json(data: bytes) -> bytes:
    """The inside of a JSON string; what is no UTF-8 becomes U+FFFD."""
    if safe_for_json(data):
        return data
    return data.decode("utf-8", "replace").translate(_JSON).encode()


def is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def base64(data: bytes) -> bytes:
    from binascii import b2a_base64

    return b2a_base64(data, newline=False)
