"""What table and JSON have in common: a line is a time stamp, a head, a path and a tail.

Head and tail are the same for many events, so their text is made once for each
distinct block of fields and kept. A batch is handled column by column, which
leaves most of the work to loops inside of the interpreter.
"""

from __future__ import annotations

from bfer.records import PATH_STATUS, PATH_UNREADABLE, POINTER, SPLIT, Block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bfer.catalogue import Event
    from bfer.values import OpenTable

_CACHE_MAX = 4096


class Lines:
    """Base of the renderers. ``events`` is by system call number, ``table`` the machine's open flags.

    A batch should have a few hundred records at most: the cache of 4096 blocks holds all of one at least.
    """

    __slots__ = ("_cache", "_events", "_pointers", "_table")

    header = b""

    def __init__(self, events: dict[int, Event], table: OpenTable) -> None:
        self._events = events
        self._table = table
        self._cache: dict[bytes, tuple[bytes, bytes]] = {}
        # Blocks of the cache where the path could not be read: an address stands in its place.
        self._pointers: set[bytes] = set()

    def render(self, records: list[bytes], offset: int) -> bytes:
        """The lines of ``records`` (at least one); ``offset`` (ns) is added to their times."""
        if len(self._cache) + len(records) > _CACHE_MAX:
            self._cache.clear()
            self._pointers.clear()
        times, blocks, raw = zip(*[SPLIT[len(record)](record) for record in records])
        # One look at all paths; a separator, lest the end of one complete a character that another begins.
        paths = raw if self._safe(b"/".join(raw)) else [self._path(path) for path in raw]
        try:
            parts = [*map(self._cache.__getitem__, blocks)]
        except KeyError:
            parts = [self._cache.get(block) or self._compile(block) for block in blocks]
        if self._pointers:
            pairs = zip(blocks, raw, paths)
            paths = [self._address(old) if block in self._pointers else new for block, old, new in pairs]
        out = [b""] * (4 * len(records))
        out[0::4] = self._stamps([time + offset for time in times])
        out[1::4], out[3::4] = zip(*parts)
        out[2::4] = paths
        return b"".join(out)

    def summary(self, events: int, lost: int) -> bytes:
        """What ends the output."""
        return b""

    def _compile(self, data: bytes) -> tuple[bytes, bytes]:
        block = Block(data)
        if block.status & PATH_STATUS == PATH_UNREADABLE:
            self._pointers.add(data)
        parts = self._cache[data] = self._parts(block, self._events[block.event])
        return parts

    def _address(self, raw: bytes) -> bytes:
        return self._pointer(POINTER.unpack_from(raw)[0]).encode()

    # --- what a format decides --------------------------------------------------

    def _safe(self, text: bytes) -> bool:
        """Need none of these bytes be escaped?"""
        raise NotImplementedError

    def _path(self, path: bytes) -> bytes:
        raise NotImplementedError

    def _pointer(self, value: int) -> str:
        raise NotImplementedError

    def _stamps(self, times: Sequence[int]) -> Iterable[bytes]:
        """The beginning of each line; ns."""
        raise NotImplementedError

    def _parts(self, block: Block, event: Event) -> tuple[bytes, bytes]:
        """The texts before and after the path, or the address in its place."""
        raise NotImplementedError
