"""Stack traces (4.6), as ``bpf_get_stackid`` collects them."""

from __future__ import annotations

from errno import EINVAL
from struct import unpack_from
from sys import byteorder

from pybpf import abi
from pybpf.errors import MapError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybpf.maps.base import Map

_BUILD_ID_SIZE = 32  # struct bpf_stack_build_id: s32 status, 20 bytes of id, u64 offset or address
_VALID, _IP = 1, 2


class StackTraces:
    """Addresses by the number that the program got; innermost first.

    ``build_ids`` says that the map was made with ``abi.F_STACK_BUILD_ID`` (4.17): entries are
    then ``(build id in hex, offset in the file)``, or ``("", address)`` where there is none.
    """

    def __init__(self, map: Map, build_ids: bool = False) -> None:
        if map.type != abi.MAP_TYPE_STACK_TRACE:
            raise MapError(f"{map} holds no stack traces (type {map.type})", EINVAL)
        self.map = map
        self.build_ids = build_ids

    def addresses(self, number: int) -> list[int]:
        """The addresses of a trace, [] if there is none of this number. Raises MapError."""
        raw = self._raw(number)
        if self.build_ids:
            return [address for _, address in self._entries(raw)]
        words = memoryview(raw).cast("Q").tolist()
        return words[: words.index(0)] if 0 in words else words

    def places(self, number: int) -> list[tuple[str, int]]:
        """``(build id, offset)`` of a trace that was taken with build ids."""
        return list(self._entries(self._raw(number)))

    def _raw(self, number: int) -> bytes:
        if number < 0:  # what bpf_get_stackid returns when it fails
            raise MapError(f"{self.map}: stack trace {number}: the program got an error instead of a number", -number)
        return self.map.lookup(number.to_bytes(4, byteorder)) or b""

    def _entries(self, raw: bytes) -> Iterator[tuple[str, int]]:
        for at in range(0, len(raw), _BUILD_ID_SIZE):
            status, offset = unpack_from("=i", raw, at)[0], unpack_from("=Q", raw, at + 24)[0]
            if status == _VALID:
                yield raw[at + 4 : at + 24].hex(), offset
            elif status == _IP:
                yield "", offset
            else:
                return

    def numbers(self) -> Iterator[int]:
        """The numbers of all traces."""
        for key in self.map.keys():  # noqa: SIM118
            yield int.from_bytes(key, byteorder)

    def discard(self, number: int) -> bool:
        """Forget a trace, so that its number can be used again; False if there was none."""
        return self.map.delete(number.to_bytes(4, byteorder))
