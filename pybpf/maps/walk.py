"""All elements of a map: in batches where the kernel has them, else key by key."""

from __future__ import annotations

from errno import ENOENT, ENOSPC

from pybpf import abi, kernel
from pybpf.commands import map_get_next_key, map_lookup_batch
from pybpf.errors import MapError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybpf.maps.base import Map

# Types that BPF_MAP_LOOKUP_BATCH walks bucket by bucket since 5.6 (per-CPU arrays 5.13).
BATCHED = frozenset(
    (
        abi.MAP_TYPE_HASH,
        abi.MAP_TYPE_ARRAY,
        abi.MAP_TYPE_PERCPU_HASH,
        abi.MAP_TYPE_PERCPU_ARRAY,
        abi.MAP_TYPE_LRU_HASH,
        abi.MAP_TYPE_LRU_PERCPU_HASH,
    )
)
_BATCH_BYTES = 64 * 1024


def keys(map: Map) -> Iterator[bytes]:
    """All keys, each at most once, whatever is deleted meanwhile."""
    if map.type in BATCHED:
        for key, _ in items(map):
            yield key
    else:
        yield from walk(map)


def items(map: Map) -> Iterator[tuple[bytes, bytes]]:
    """All ``(key, value)``; what is deleted meanwhile may be missing, nothing comes twice."""
    step = read_batch(map, None) if map.type in BATCHED else None
    if step is None:
        for key in walk(map):
            value = map.lookup(key)
            if value is not None:
                yield key, value
    while step is not None:
        keys, values, position = step
        yield from zip(keys, values)
        step = read_batch(map, position) if position is not None else None


def batch_count(map: Map) -> int:
    """How many elements to ask for at once: more gain nothing, and take memory."""
    return max(1, min(map.max_entries, _BATCH_BYTES // (map.key_size + map.width)))


def read_batch(map: Map, position: bytearray | None) -> tuple[list[bytes], list[bytes], bytearray | None] | None:
    """Many elements by one call: ``(keys, values, next position or None)``; None if this kernel cannot."""
    key_size, width = map.key_size, map.width
    count = batch_count(map)
    # The position is a bucket number or an array's index: 4 bytes, or a key for other types.
    following = bytearray(max(key_size, 8))
    while True:
        keys, values = bytearray(key_size * count), bytearray(width * count)
        error, found = map_lookup_batch(map.fd, position, following, keys, values, count)
        if error != ENOSPC or count >= map.max_entries:
            break
        count = min(count * 2, map.max_entries)  # one bucket was larger than the buffer
    if error and error != ENOENT:
        if position is None:
            return None
        raise kernel.failure(MapError, "BPF_MAP_LOOKUP_BATCH", str(map), error)
    return (
        [bytes(keys[at : at + key_size]) for at in range(0, found * key_size, key_size)],
        [bytes(values[at : at + width]) for at in range(0, found * width, width)],
        None if error == ENOENT else following,
    )


def walk(map: Map) -> Iterator[bytes]:
    """Key by key, for types without batches.

    The next key is asked for before the caller may delete this one. When
    somebody else deletes it, the kernel starts over: hence the set of keys that
    were given. Where elements come and go faster than we walk, the walk ends when
    it has met as many known keys in a row as there are.
    """
    seen: set[bytes] = set()
    what = str(map)
    known = 0
    key = map_get_next_key(map.fd, None, map.key_size, what)
    while key is not None and known <= len(seen):
        following = map_get_next_key(map.fd, key, map.key_size, what)
        known += 1
        if key not in seen:
            known = 0
            seen.add(key)
            yield key
        key = following
