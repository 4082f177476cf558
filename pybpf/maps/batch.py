"""Many elements by one system call (5.6), and one by one where the kernel or the map type has no batches."""

from __future__ import annotations

from errno import E2BIG, EINVAL, ENOENT, ENOSPC
from itertools import islice

from pybpf import abi, commands, kernel
from pybpf.commands import UNSUPPORTED
from pybpf.errors import MapError, SyscallError
from pybpf.maps.walk import batch_count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pybpf.maps.base import Map


def update(map: Map, items: Iterable[tuple[bytes, bytes]], flags: int = 0) -> int:
    """Set elements; returns how many. Raises MapError, which says how many were set before the one that failed."""
    total = 0
    batched = True
    pending = iter(items)
    while True:
        part = [(key, map.whole(value)) for key, value in islice(pending, batch_count(map))]
        if not part:
            return total
        _check(map, [key for key, _ in part])
        if batched:
            error, done = commands.map_batch(
                abi.MAP_UPDATE_BATCH,
                map.fd,
                len(part),
                keys=bytearray(b"".join([key for key, _ in part])),
                values=bytearray(b"".join([value for _, value in part])),
                elem_flags=flags,
            )
            if error not in UNSUPPORTED or done:
                total += done
                if error:
                    raise _failure("BPF_MAP_UPDATE_BATCH", map, error, f"{total} elements were set before")
                continue
            batched = False
        for key, value in part:
            try:
                map.update(key, value, flags)
            except MapError as error:
                raise MapError(f"{error} ({total} elements were set before)", error.errno, error.details) from None
            total += 1


def delete(map: Map, keys: Iterable[bytes]) -> int:
    """Remove elements; returns how many of them there were. Raises MapError."""
    total = 0
    batched = True
    pending = iter(keys)
    while True:
        part = list(islice(pending, batch_count(map)))
        if not part:
            return total
        _check(map, part)
        while batched and part:
            error, done = commands.map_batch(abi.MAP_DELETE_BATCH, map.fd, len(part), keys=bytearray(b"".join(part)))
            if error in UNSUPPORTED and not done:
                batched = False
                break
            if error and error != ENOENT:
                raise _failure("BPF_MAP_DELETE_BATCH", map, error, f"{total + done} elements were removed before")
            total += done
            # The kernel stops at a key that is not there: go on behind it.
            part = part[done + 1 :] if error else []
        total += sum([map.delete(key) for key in part])


def take(map: Map) -> Iterator[tuple[bytes, bytes]]:
    """Look up and delete all elements. No element is given twice or lost, whatever programs do meanwhile.

    Where the kernel cannot do both at once (hashes before 5.6, other types), an update
    between the two calls for one element is lost. Raises MapError.
    """
    position = None
    key_size, width = map.key_size, map.width
    count = batch_count(map)
    while True:
        keys, values = bytearray(key_size * count), bytearray(width * count)
        following = bytearray(max(key_size, 8))
        error, found = commands.map_batch(
            abi.MAP_LOOKUP_AND_DELETE_BATCH,
            map.fd,
            count,
            position=position,
            following=following,
            keys=keys,
            values=values,
        )
        if error == ENOSPC and count < map.max_entries:
            count = min(count * 2, map.max_entries)  # one bucket was larger than the buffer
            continue
        if error in UNSUPPORTED and position is None:
            yield from _take_singly(map)
            return
        if error and error != ENOENT:
            raise _failure("BPF_MAP_LOOKUP_AND_DELETE_BATCH", map, error)
        for index in range(found):
            yield (
                bytes(keys[index * key_size : (index + 1) * key_size]),
                bytes(values[index * width : (index + 1) * width]),
            )
        if error:
            return
        position = following


def _take_singly(map: Map) -> Iterator[tuple[bytes, bytes]]:
    at_once = True
    for key in map.keys():  # noqa: SIM118
        if at_once:
            try:
                value = map.take(key)
            except MapError as error:
                if error.errno not in UNSUPPORTED:
                    raise
                at_once = False
        if not at_once:
            value = map.lookup(key)
            if value is not None and not map.delete(key):
                value = None
        if value is not None:
            yield key, value


def _check(map: Map, keys: list[bytes]) -> None:
    for key in keys:
        if len(key) != map.key_size:
            raise MapError(f"{map}: a key has {map.key_size} bytes, got {len(key)}", EINVAL)


def _failure(command: str, map: Map, error: int, hint: str = "") -> SyscallError:
    if error == E2BIG:
        hint = f"no room for another element (max_entries {map.max_entries}){'; ' if hint else ''}{hint}"
    return kernel.failure(MapError, command, str(map), error, hint)
