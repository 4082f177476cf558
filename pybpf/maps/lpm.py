"""Keys of longest-prefix-match tries (4.11): a number of bits, and as many bytes as the trie has."""

from __future__ import annotations

import sys
from errno import EINVAL

from pybpf.errors import MapError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Prefix:
    """Codec of ``(bytes, bits)`` for a trie of ``width`` bytes; bytes or text alone stand for all of their bits."""

    def __init__(self, width: int) -> None:
        if not 1 <= width <= 256:
            raise MapError(f"a trie's keys have 1 to 256 bytes besides the length, not {width}", EINVAL)
        self.width = width
        self.size = 4 + width

    def pack(self, value: Any) -> bytes:
        data, bits = value if isinstance(value, tuple) else (value, None)
        data = data.encode() if isinstance(data, str) else bytes(data)
        bits = len(data) * 8 if bits is None else bits
        if len(data) > self.width or not 0 <= bits <= self.width * 8:
            raise MapError(f"prefix {data!r} of {bits} bits does not fit {self.width} bytes", EINVAL)
        return bits.to_bytes(4, sys.byteorder) + data.ljust(self.width, b"\0")

    def unpack(self, raw: bytes) -> tuple[bytes, int]:
        return raw[4:], int.from_bytes(raw[:4], sys.byteorder)


class Network:
    """Codec of ``"10.0.0.0/8"``, or ``"fe80::/10"`` with ``version`` 6; an address alone is its own network."""

    def __init__(self, version: int = 4) -> None:
        if version not in (4, 6):
            raise MapError(f"there is no version {version} of IP: 4 or 6", EINVAL)
        self.version = version
        self._prefix = Prefix(4 if version == 4 else 16)
        self.size = self._prefix.size

    def _family(self) -> int:
        import _socket

        return int(_socket.AF_INET if self.version == 4 else _socket.AF_INET6)

    def pack(self, value: Any) -> bytes:
        from _socket import inet_pton

        address, slash, bits = str(value).partition("/")
        try:
            raw = inet_pton(self._family(), address)
            return self._prefix.pack((raw, int(bits) if slash else len(raw) * 8))
        except (OSError, ValueError):
            raise MapError(f"{value!r} is not a network of IPv{self.version}", EINVAL) from None

    def unpack(self, raw: bytes) -> str:
        from _socket import inet_ntop

        data, bits = self._prefix.unpack(raw)
        return f"{inet_ntop(self._family(), data)}/{bits}"
