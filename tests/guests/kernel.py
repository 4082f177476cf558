"""A guest's kernel: fetched, unpacked, and its loadable modules in the order they must be loaded."""

from __future__ import annotations

import lzma
import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

from .fetch import once, packages
from .matrix import Guest, Unavailable, cache


class Kernel:
    """``image`` is what QEMU boots, ``release`` what ``uname -r`` will say, ``modules`` their folder."""

    def __init__(self, folder: Path) -> None:
        self.release = (folder / "release").read_text()
        self.image = folder / "image"
        self.modules = folder / "modules"
        self.config = folder / "config"  # may be missing


def kernel(guest: Guest) -> Kernel:
    """The guest's kernel, fetched first if the cache has none. Raises Unavailable."""
    with once(cache() / "kernels" / guest.kernel) as folder:
        if folder is not None:
            _fetch(guest, folder)
    return Kernel(cache() / "kernels" / guest.kernel)


def _fetch(guest: Guest, folder: Path) -> None:
    unpacked = folder / "unpacked"
    names = packages(guest.suite, guest.arch, guest.packages, unpacked)
    releases = [
        path for top in ("lib/modules", "usr/lib/modules") for path in (unpacked / top).glob("*") if path.is_dir()
    ]
    if not releases:
        raise Unavailable(f"{' '.join(names)} holds no modules")
    release = releases[0].name
    boot = unpacked / "boot"
    # Some architectures have no compressed image.
    places = [boot / f"vmlinuz-{release}", boot / f"vmlinux-{release}", *(path / "vmlinuz" for path in releases)]
    image = next((path for path in places if path.exists()), None)
    if image is None:
        raise Unavailable(f"{' '.join(names)} holds no vmlinuz")
    data = image.read_bytes()
    (folder / "image").write_bytes((_elf(data) if guest.arch == "amd64" else None) or data)
    (folder / "release").write_text(release)
    config = boot / f"config-{release}"
    if config.exists():
        shutil.copy(config, folder / "config")
    shutil.move(str(next(path for path in releases if (path / "kernel").is_dir())), folder / "modules")
    shutil.rmtree(unpacked)


def _elf(image: bytes) -> bytes | None:
    """The uncompressed kernel in a bzImage (Documentation/arch/x86/boot.rst), or None.

    QEMU boots an ELF file by its PVH note, which saves the guest the decompression;
    the bzImage itself boots too, so that a missing tool costs only time.
    """
    offset, size = struct.unpack_from("<II", image, 0x248)
    payload = image[(image[0x1F1] + 1) * 512 + offset :][:size]
    try:
        if payload.startswith(b"\x28\xb5\x2f\xfd"):
            result = _filter("zstd", payload)
        elif payload.startswith(b"\x02\x21\x4c\x18"):
            result = _filter("lz4", payload)
        elif payload.startswith(b"\xfd7zXZ\0"):
            result = lzma.LZMADecompressor().decompress(payload)
        else:
            result = zlib.decompressobj(31).decompress(payload)
    except (OSError, zlib.error, lzma.LZMAError):
        return None
    return result if result.startswith(b"\x7fELF") else None


def _filter(program: str, data: bytes) -> bytes:
    # The size of the kernel follows its compressed data: both tools complain about it, after their work.
    done = subprocess.run([program, "-dcq"], input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return done.stdout


def modules(folder: Path, wanted: list[str], optional: bool = False) -> list[tuple[str, bytes]]:
    """Modules as (name, contents), each after those it depends on; built-in ones are left out.

    Raises Unavailable for one that the kernel does not have, unless they are ``optional``.
    """
    files = {}
    for path in folder.rglob("*.ko*"):
        files[path.name.partition(".ko")[0].replace("-", "_")] = path
    builtin = (folder / "modules.builtin").read_text() if (folder / "modules.builtin").exists() else ""
    ready = {Path(line).name.partition(".ko")[0].replace("-", "_") for line in builtin.splitlines()}
    ordered: list[tuple[str, bytes]] = []

    def add(name: str) -> None:
        name = name.replace("-", "_")
        if name in ready:
            return
        if name not in files:
            if optional:
                return
            raise Unavailable(f"the kernel has no module {name!r}")
        ready.add(name)
        data = files[name].read_bytes()
        if files[name].suffix == ".xz":
            data = lzma.decompress(data)
        found = re.search(rb"\0depends=([^\0]*)\0", data)
        for other in found[1].decode().split(",") if found and found[1] else ():
            add(other)
        ordered.append((name, data))

    for name in wanted:
        add(name)
    return ordered
