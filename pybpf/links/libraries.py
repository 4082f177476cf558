"""Finding a program or shared library by its name, as the dynamic linkers of glibc and musl would."""

from __future__ import annotations

import os
from errno import ENOENT
from struct import Struct

from pybpf.errors import LinkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_CACHE = "/etc/ld.so.cache"
_CACHE_MAGIC = b"glibc-ld.so.cache1.1"
_FOLDERS = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")


def find(name: str, pid: int = -1) -> str:
    """The file that ``name`` means: a path, a library's soname or short name (``c``, ``libc``), or a command.

    With a ``pid`` its own mapped files come first, as that process sees them,
    which may be in another mount namespace. Raises LinkError.
    """
    if "/" in name:
        if not os.path.exists(name):
            raise LinkError(f"{name}: there is no such file", ENOENT)
        return name
    if pid > 0:
        for path in mapped(pid):
            if _is(os.path.basename(path), name):
                return path
    for path in _candidates(name):
        if _fits(path):
            return path
    where = f", nor is it mapped by process {pid}" if pid > 0 else ""
    raise LinkError(f"{name}: neither a library of this system nor a command in PATH{where}: give its path", ENOENT)


def _is(file: str, name: str) -> bool:
    """Whether ``file`` is the library ``name``: ``libc.so.6`` is ``libc.so.6``, ``libc.so``, ``libc`` and ``c``."""
    if file == name:
        return True
    stem = name.partition(".so")[0]
    for short in (stem, "lib" + stem):
        if file.startswith(short) and ".so" not in name and file[len(short) :].startswith((".so", "-")):
            return ".so" in file
    return ".so" in name and file.startswith(name + ".")


def mapped(pid: int) -> Iterator[str]:
    """Files that a process has mapped with code in them, each once. Raises LinkError if it cannot be asked."""
    path = f"/proc/{pid}/maps"
    seen = set()
    try:
        with open(path, errors="replace") as file:
            for line in file:
                fields = line.rstrip("\n").split(None, 5)
                if len(fields) == 6 and "x" in fields[1] and fields[5].startswith("/") and fields[5] not in seen:
                    seen.add(fields[5])
                    inside = f"/proc/{pid}/root{fields[5]}"
                    # Plain where both see the same file: the kernel shows the path that it was given.
                    yield fields[5] if _same(inside, fields[5]) else inside
    except OSError as error:
        raise LinkError(f"{path}: {error.strerror}", error.errno or ENOENT) from None


def _same(first: str, second: str) -> bool:
    try:
        return os.path.samefile(first, second)
    except OSError:
        return False


def _candidates(name: str) -> Iterator[str]:
    folders = [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    yield from _in_folders(folders, name)
    for soname, path in cached():
        if _is(soname, name):
            yield path
    yield from _in_folders([*musl_folders(), *_FOLDERS, *_multiarch()], name)
    for folder in os.environ.get("PATH", "/usr/bin:/bin").split(":"):
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            yield path


def _in_folders(folders: list[str], name: str) -> Iterator[str]:
    for folder in folders:
        try:
            files = sorted(os.listdir(folder))
        except OSError:
            continue
        for file in sorted(files, key=lambda file: file != name):
            if _is(file, name):
                yield os.path.join(folder, file)


def cached(path: str = _CACHE) -> Iterator[tuple[str, str]]:
    """``(soname, path)`` of what ldconfig knows (glibc, sysdeps/generic/dl-cache.h); nothing without a cache."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return
    # The older format may come first; offsets count from the newer one's header.
    start = data.find(_CACHE_MAGIC)
    if start < 0 or len(data) < start + 48:
        return
    data = data[start:]
    head, entry = Struct("=II"), Struct("=iIIIQ")
    count, _ = head.unpack_from(data, len(_CACHE_MAGIC))
    for index in range(min(count, (len(data) - 48) // entry.size)):
        _, key, value, _, _ = entry.unpack_from(data, 48 + index * entry.size)
        yield _string(data, key), _string(data, value)


def _string(data: bytes, at: int) -> str:
    end = data.find(b"\0", at)
    return os.fsdecode(data[at:end]) if 0 <= at <= end else ""


def musl_folders(etc: str = "/etc") -> list[str]:
    """Where musl's dynamic linker looks (``/etc/ld-musl-ARCH.path``; else its built-in list)."""
    try:
        names = [name for name in os.listdir(etc) if name.startswith("ld-musl-") and name.endswith(".path")]
    except OSError:
        names = []
    for name in names:
        try:
            with open(os.path.join(etc, name)) as file:
                return [folder for folder in file.read().replace("\n", ":").split(":") if folder]
        except OSError:
            continue
    return ["/lib", "/usr/local/lib", "/usr/lib"]


def _multiarch() -> list[str]:
    machine = {"i686": "i386", "armv7l": "arm"}.get(os.uname().machine, os.uname().machine)
    found = []
    for top in ("/lib", "/usr/lib"):
        try:
            found += [os.path.join(top, name) for name in os.listdir(top) if name.startswith(machine + "-linux")]
        except OSError:
            continue
    return found


def _fits(path: str) -> bool:
    """Whether the file is for this machine: an ELF file of the kind that this Python is."""
    return _identity(path) == _identity("/proc/self/exe") != b""


def _identity(path: str) -> bytes:
    """Class, byte order and machine of an ELF file; nothing for any other."""
    try:
        with open(path, "rb") as file:
            head = file.read(20)
    except OSError:
        return b""
    return head[4:6] + head[18:20] if head[:4] == b"\x7fELF" and len(head) == 20 else b""
