"""What CO-RE came to, kept from one start to the next: for kernels that do not relocate themselves.

A file for each pair of a kernel (its build id) and an object's types (a hash). It
is never required: whatever is wrong with it, or with the place it is in, means
that the kernel's BTF is read. Only a folder and files of our own that nobody else
can write are used, so that another user can neither plant nor change what a
privileged process loads.

``BFER_CACHE`` names the folder; empty, it switches the cache off. Without it the
folder is ``pybpf`` in ``$XDG_CACHE_HOME`` or ``~/.cache``, if that exists: a device
that has no such place gets no files.
"""

from __future__ import annotations

import os
import stat
from binascii import crc32
from sys import byteorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btf.core_patch import Resolution

NOTES = "/sys/kernel/notes"
VMLINUX = "/sys/kernel/btf/vmlinux"

_VERSION = "pybpf-core 1"
_SUFFIX = ".core"
_MAX_FILE = 1 << 20  # bytes
_MAX_FILES = 16
_NT_GNU_BUILD_ID = 3
_VALIDATE, _POISON, _BAD_SIZE = 1, 2, 4


def folder() -> str:
    """Where the cache is; empty when there is none."""
    given = os.environ.get("BFER_CACHE")
    if given is not None:
        return given
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.environ.get("HOME") or "/", ".cache")
    return os.path.join(base, "pybpf") if os.path.isabs(base) and os.path.isdir(base) else ""


def build_id(path: str = NOTES) -> str:
    """The running kernel's build id in hexadecimal; empty when it has none that can be read."""
    try:
        with open(path, "rb") as file:
            notes = file.read(1 << 16)
    except OSError:
        return ""
    at = 0
    while at + 12 <= len(notes):
        name_size, size, type = (int.from_bytes(notes[at + i : at + i + 4], byteorder) for i in (0, 4, 8))
        start = at + 12 + (name_size + 3 & ~3)
        if type == _NT_GNU_BUILD_ID and notes[at + 12 : at + 12 + name_size] == b"GNU\0":
            return notes[start : start + size].hex()
        at = start + (size + 3 & ~3)
    return ""


def _digest(data: bytes) -> str:
    try:
        from _blake2 import blake2b  # hashlib costs 3 ms more
    except ImportError:
        try:
            from hashlib import blake2b
        except ImportError:
            return ""
    return str(blake2b(data, digest_size=16).hexdigest())


class Cache:
    """Ids of the kernel's types and values of relocations, for one kernel and one object's BTF."""

    def __init__(self, directory: str, key: str) -> None:
        self._directory = directory
        self._key = key
        self._changed = False
        self.ids: dict[tuple[str, int], int] = {}
        self.values: dict[tuple[int, str, int], Resolution] = {}

    @classmethod
    def open(cls, local: bytes) -> Cache | None:
        """The cache for the running kernel and an object's BTF, filled if it was stored before; None without one."""
        directory = folder()
        kernel = build_id() if directory else ""
        digest = _digest(local) if kernel else ""
        if not digest:
            return None
        try:
            size = os.stat(VMLINUX).st_size
        except OSError:
            return None
        cache = cls(directory, f"{kernel}-{size}-{digest}")
        try:
            cache._read()
        except (OSError, ValueError):  # not there, or not to be trusted
            cache.ids, cache.values = {}, {}
        return cache

    def add_id(self, name: str, kind: int, id: int) -> None:
        self.ids[name, kind] = id
        self._changed = True

    def add(self, type_id: int, access: str, kind: int, value: Resolution) -> None:
        self.values[type_id, access, kind] = value
        self._changed = True

    # ---- file ---------------------------------------------------------------------

    def _name(self) -> str:
        return self._key.replace("-", "")[:8] + self._key[-32:] + _SUFFIX

    def _read(self) -> None:
        with _Directory(self._directory, create=False) as directory:
            body, _, tail = directory.read(self._name()).decode("ascii").rpartition("end ")
        lines = body.split("\n")
        if lines[0] != f"{_VERSION} {self._key}" or int(tail, 16) != crc32(body.encode()):
            raise ValueError("stale or damaged")
        for line in lines[1:-1]:
            sort, *words = line.split(" ")
            if sort == "id":
                name, kind, id = words
                self.ids[name, int(kind)] = int(id)
            else:
                type_id, access, kind, *numbers = words
                self.values[int(type_id), access, int(kind)] = _resolution(*map(int, numbers))

    def store(self) -> None:
        """Write what is new; silently nothing if that cannot be."""
        if not self._changed:
            return
        self._changed = False
        lines = [f"{_VERSION} {self._key}"]
        # An object may name its hooks as it likes.
        plain = [key for key in self.ids if key[0].isascii() and key[0].split() == [key[0]]]
        lines += [f"id {name} {kind} {self.ids[name, kind]}" for name, kind in plain]
        for (type_id, access, kind), value in self.values.items():
            flags = value.validate * _VALIDATE | value.poison * _POISON | value.bad_size * _BAD_SIZE
            numbers = f"{value.old} {value.new} {flags} {value.old_size} {value.new_size}"
            lines.append(f"core {type_id} {access} {kind} {numbers}")
        body = "\n".join(lines) + "\n"
        try:
            with _Directory(self._directory, create=True) as directory:
                directory.write(self._name(), f"{body}end {crc32(body.encode()):08x}".encode())
        except (OSError, ValueError):
            pass


def _resolution(old: int, new: int, flags: int, old_size: int, new_size: int) -> Resolution:
    from btf.core_patch import Resolution

    value = Resolution(old, new, bool(flags & _VALIDATE), bool(flags & _POISON))
    value.old_size, value.new_size, value.bad_size = old_size, new_size, bool(flags & _BAD_SIZE)
    return value


class _Directory:
    """The folder, held open so that what was checked is what is used. Raises OSError and ValueError."""

    def __init__(self, path: str, create: bool) -> None:
        if create:
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                pass
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def __enter__(self) -> _Directory:
        found = os.fstat(self._fd)
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            os.close(self._fd)
            raise ValueError("the folder is not ours alone")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def read(self, name: str) -> bytes:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._fd)
        try:
            found = os.fstat(fd)
            ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
            if not ours or found.st_size > _MAX_FILE:
                raise ValueError("the file is not ours alone")
            return os.read(fd, _MAX_FILE)
        finally:
            os.close(fd)

    def write(self, name: str, data: bytes) -> None:
        """Replace a file whole, and drop the oldest when there are too many."""
        partial = f"{name}.{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(partial, flags, 0o600, dir_fd=self._fd)
        try:
            try:
                done = os.write(fd, data)
            finally:
                os.close(fd)
            if done < len(data):
                raise ValueError("the disk is full")
            os.rename(partial, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except BaseException:
            os.unlink(partial, dir_fd=self._fd)
            raise
        self._prune()

    def _prune(self) -> None:
        names = [name for name in os.listdir(self._fd) if _SUFFIX in name]
        if len(names) > _MAX_FILES:
            names.sort(key=lambda name: os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mtime)
            for name in names[:-_MAX_FILES]:
                os.unlink(name, dir_fd=self._fd)
