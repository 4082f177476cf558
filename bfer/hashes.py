"""The SHA-256 of the file that a process executes (option:exec-hash).

The file is read when the event is read, milliseconds after it happened, through the process's own root
directory; if the process has ended by then, through that of another one that was seen in the same mount
namespace. It is taken for the right one only if its time of change is the event's.
"""

from __future__ import annotations

import os
from stat import S_ISREG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.records import Block

_CACHE_MAX = 1024
_NAMESPACES_MAX = 256
_NEIGHBOURS = 4
_PIECE = 1 << 16


class Hashes:
    """``proc`` must be a /proc of the initial pid namespace, or of our own where the events come from there."""

    __slots__ = ("_cache", "_neighbours", "_own", "_proc")

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc
        # By mount namespace, path and time of change: the same name may be another file elsewhere.
        self._cache: dict[tuple[int, bytes, int], bytes] = {}
        self._neighbours: dict[int, list[int]] = {}  # processes by mount namespace, the latest last
        try:
            self._own = os.stat(f"{proc}/self/ns/mnt").st_ino
        except OSError:
            self._own = 0

    def sha256(self, block: Block, path: bytes, change_time: int) -> bytes:
        """In hexadecimal; empty where the file cannot be read any more. ``change_time`` in ns."""
        self._remember(block.mnt_ns, block.host_pid)
        key = block.mnt_ns, path, change_time
        known = self._cache.pop(key, None)
        if known is None:
            known = self._find(block, path, change_time)
            if not known:
                return b""
        if len(self._cache) >= _CACHE_MAX:
            del self._cache[next(iter(self._cache))]
        self._cache[key] = known  # the latest used last
        return known

    def _remember(self, namespace: int, pid: int) -> None:
        neighbours = self._neighbours.pop(namespace, [])
        if len(self._neighbours) >= _NAMESPACES_MAX:
            del self._neighbours[next(iter(self._neighbours))]
        self._neighbours[namespace] = [*[other for other in neighbours if other != pid], pid][-_NEIGHBOURS:]

    def _find(self, block: Block, path: bytes, change_time: int) -> bytes:
        proc = self._proc.encode()
        candidates = [b"%s/%d/exe" % (proc, block.host_pid)]
        for pid in reversed(self._neighbours[block.mnt_ns]):
            # The number may have gone to a process of another namespace.
            if self._namespace_of(pid) == block.mnt_ns:
                candidates.append(b"%s/%d/root%s" % (proc, pid, path))
        if block.mnt_ns == self._own:
            candidates.append(path)
        for candidate in candidates:
            found = _hash(candidate, change_time)
            if found:
                return found
        return b""

    def _namespace_of(self, pid: int) -> int:
        try:
            return os.stat(f"{self._proc}/{pid}/ns/mnt").st_ino
        except OSError:
            return 0


def _hash(path: bytes, change_time: int) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        status = os.fstat(fd)
        if not S_ISREG(status.st_mode) or status.st_ctime_ns != change_time:
            return b""
        state = _sha256()
        while data := os.read(fd, _PIECE):
            state.update(data)
        return state.hexdigest().encode()  # type: ignore[no-any-return]
    except OSError:
        return b""
    finally:
        os.close(fd)


def _sha256():  # type: ignore[no-untyped-def]
    """Python's own, for hashlib brings in OpenSSL and with it megabytes."""
    for module in ("_sha2", "_sha256", "hashlib"):  # from 3.12 on, before, and where neither was built
        try:
            return __import__(module).sha256()
        except ImportError:
            continue
    raise ImportError("this Python has no SHA-256")
