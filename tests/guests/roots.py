"""The guests' root file systems: Python 3.11 with pytest on glibc, or on musl as on small firmware; as ext4 images.

Every root is a disk image, not an initramfs: with 64 MB no memory may go to it.
NVMe and ext4 are built into Debian's cloud kernels, so nothing has to be loaded.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from .fetch import need, once, packages, run, say
from .matrix import ARCHES, ROOT_SUITE, Guest, Unavailable, cache

# VERSION stands for Python's. pytest only where the tree's own tests run.
_GLIBC = (
    *("busybox-static", "pythonVERSION-minimal", "libpythonVERSION-minimal", "libpythonVERSION-stdlib"),
    *("libc6", "zlib1g", "libffi8", "libgcc-s1", "libexpat1", "libbz2-1.0", "liblzma5", "libuuid1"),
    *("LIBSSL", "libsqlite3-0"),  # what pyroute2 imports
)
_PYTEST = (
    *("python3-pytest", "python3-pluggy", "python3-iniconfig", "python3-packaging", "python3-attr"),
    *("python3-hypothesis", "python3-sortedcontainers", "python3-pkg-resources"),
)
_SECTOR, _ALIGN = 512, 1 << 20
# Mount points, and the places that programs expect.
_FOLDERS = ("proc", "sys", "dev", "tmp", "root", "run", "mnt", "project", "etc", "bin", "var/tmp")
_INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
[ -e /mnt/init ] || /bin/busybox mount -t ext4 -o ro /dev/nvme0n1p2 /mnt
exec /bin/busybox sh /mnt/init
"""


def image(guest: Guest) -> Path:
    """The guest's root as an ext4 image or a cpio archive, made first if the cache has none. Raises Unavailable."""
    from . import musl

    name = musl.name(guest.arch) if guest.root == "musl" else _name(guest.arch)
    folder = musl.build(guest.arch) if guest.root == "musl" else glibc(guest.arch)
    final = cache() / "roots" / f"{name}.{'img' if ARCHES[guest.arch].disk else 'cpio'}"
    with once(final) as partial:
        if partial is not None:
            (folder / "init").write_text(_INIT)
            (folder / "init").chmod(0o755)
            if ARCHES[guest.arch].disk:
                ext4(folder, partial)
            else:
                with open(partial, "wb") as file:
                    cpio(folder, "", file)
            say(f"made root {name}")
    return final


def _packages(arch: str, pytest: bool) -> tuple[str, ...]:
    names = (*_GLIBC, *(_PYTEST if pytest else ()))
    ssl = "libssl3t64" if ARCHES[arch].suite == "trixie" else "libssl3"
    return tuple(re.escape(name.replace("VERSION", ARCHES[arch].python).replace("LIBSSL", ssl)) for name in names)


def _name(arch: str) -> str:
    """The glibc root's name in the cache: another list of packages is another root."""
    wanted = " ".join((ARCHES[arch].suite, *_packages(arch, pytest=ARCHES[arch].disk)))
    return f"glibc-{arch}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"


def glibc(arch: str) -> Path:
    """The folder of the glibc root: busybox and Python from Debian's packages, on the usual machines with pytest."""
    final = cache() / "roots" / _name(arch)
    with once(final) as root:
        if root is not None:
            unpacked = root / ".unpacked"
            packages(ARCHES[arch].suite, arch, _packages(arch, pytest=ARCHES[arch].disk), unpacked)
            _trim(unpacked, root, arch)
            shutil.rmtree(unpacked)
            furnish(root)
    return final


def furnish(root: Path) -> None:
    """What every root needs besides its programs: applets, users, mount points, and an init."""
    for name in _FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    for applet in _applets(root):
        if not (root / "bin" / applet).exists():
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nuser:x:1000:1000:user:/:/bin/sh\n"
    )
    (root / "etc/group").write_text("root:x:0:\nuser:x:1000:\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")


def _applets(root: Path) -> list[str]:
    """The commands of the root's busybox; of another architecture's, the names that ours has."""
    for program in (str(root / "bin/busybox"), shutil.which("busybox") or ""):
        try:
            listed = subprocess.run([program, "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
            return [name for name in listed if name != "busybox"]
        except (OSError, subprocess.CalledProcessError):
            continue
    raise Unavailable("busybox is missing (Debian package busybox-static): its commands cannot be listed")


_UNUSED = ["lib2to3", "pydoc_data", "ensurepip", "idlelib", "tkinter", "turtledemo", "test", "wsgiref", "__pycache__"]


def _trim(unpacked: Path, root: Path, arch: str) -> None:
    """Copy what runs Python and pytest out of unpacked packages."""
    python, triplet = f"python{ARCHES[arch].python}", ARCHES[arch].triplet
    libraries = root / "lib" / triplet
    libraries.mkdir(parents=True)
    for top in ("lib", "usr/lib"):
        for path in (unpacked / top / triplet).glob("*.so*"):
            shutil.copy(path, libraries / path.name)
    # The dynamic loader's well-known name: lib64/... on x86-64, lib/... elsewhere.
    for top in ("lib64", "lib", "usr/lib64", "usr/lib"):
        for path in (unpacked / top).glob("ld*.so*"):
            link = root / top.replace("usr/", "") / path.name
            link.parent.mkdir(exist_ok=True)
            if not link.exists():
                link.symlink_to(f"/lib/{triplet}/{Path(os.readlink(path)).name}")
    (root / "bin").mkdir()
    shutil.copy(
        next(unpacked / top / "busybox" for top in ("bin", "usr/bin") if (unpacked / top).exists()), root / "bin"
    )
    (root / "usr/bin").mkdir(parents=True)
    shutil.copy(unpacked / "usr/bin" / python, root / "usr/bin" / python)
    (root / "usr/bin/python3").symlink_to(python)
    shutil.copytree(
        unpacked / "usr/lib" / python,
        root / "usr/lib" / python,
        ignore=shutil.ignore_patterns(*_UNUSED),
        ignore_dangling_symlinks=True,  # into /etc, which is another package's
    )
    if (unpacked / "usr/lib/python3/dist-packages").exists():
        shutil.copytree(unpacked / "usr/lib/python3/dist-packages", root / "usr/lib/python3/dist-packages")
    site = root / "usr/lib" / python / "sitecustomize.py"
    if site.is_symlink():  # into /etc, where the root has nothing
        site.unlink()
    if ARCHES[arch].python == "3.11":
        compile_all(root, root / "usr/lib")


def compile_all(root: Path, folder: Path, *options: str) -> None:
    """Byte code for the guest's Python: compiling a module there takes fifteen times as long as here."""
    command = [*python311(), *options, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    if "-OO" in options:
        command.append("-b")  # foo.pyc beside foo.py, so that it works without
    # Some packages bring deliberately broken files: what does not compile there is not imported either.
    subprocess.run([*command, "-s", str(root), "-p", "/", str(folder)], stdout=subprocess.DEVNULL, check=False)


@functools.cache
def python311() -> tuple[str, ...]:
    """The command that starts a Python 3.11 on this machine. Raises Unavailable.

    Byte code is tied to the version, and the guests' is 3.11. Without one in the PATH
    the interpreter of the unpacked glibc root is used, by its own dynamic loader.
    """
    for candidate in (sys.executable, shutil.which("python3.11"), shutil.which("python3")):
        if candidate and _is_311((candidate,)):
            return (candidate,)
    folder = cache() / "roots" / ".python"
    with once(folder) as partial:
        if partial is not None:
            packages(ROOT_SUITE, "amd64", _packages("amd64", pytest=False), partial)
    triplet = ARCHES["amd64"].triplet
    libraries = f"{folder}/lib/{triplet}:{folder}/usr/lib/{triplet}"
    loader = (f"{folder}/lib/{triplet}/ld-linux-x86-64.so.2", "--library-path", libraries)
    own = (*loader, f"{folder}/usr/bin/python3.11")
    if not _is_311(own):
        raise Unavailable("no Python 3.11 that runs here: byte code for the guests cannot be made")
    return own


def _is_311(command: tuple[str, ...]) -> bool:
    code = "import sys; print(sys.implementation.cache_tag)"
    try:
        done = subprocess.run([*command, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    except OSError:
        return False
    return done.stdout.strip() == b"cpython-311"


def ext4(folder: Path, out: Path) -> None:
    """Write a folder as an ext4 image; needs neither root nor a mount."""
    kib = sum(4 + (path.lstat().st_size + 1023) // 1024 for path in folder.rglob("*") if not path.is_dir())
    folders = sum(1 for path in folder.rglob("*") if path.is_dir())
    size = (kib + 4 * folders) * 11 // 10 + 4096
    command = [need("mke2fs", "e2fsprogs"), "-q", "-F", "-t", "ext4", "-O", "^has_journal,^metadata_csum", "-m", "0"]
    command += ["-b", "1024", "-E", "root_owner=0:0", "-d", str(folder), str(out), f"{size}k"]
    run(command, "mke2fs")


def disk(parts: Sequence[Path], out: Path) -> None:
    """Write images as the partitions of one disk, in the oldest format there is.

    Two disks, and two name spaces of one NVMe controller since Linux 6.12, are probed side by
    side, so that either may become the first.
    """
    table = b""
    with open(out, "wb") as file:
        for path in parts:
            start = max(_ALIGN, -(-file.seek(0, os.SEEK_END) // _ALIGN) * _ALIGN)
            file.seek(start)
            with open(path, "rb") as part:
                shutil.copyfileobj(part, file, 1 << 20)
            size = -(-path.stat().st_size // _SECTOR)
            file.truncate(start + size * _SECTOR)
            # Status, three bytes of cylinders and the like, type Linux, three more, first sector, sectors.
            table += struct.pack("<B3xB3xII", 0, 0x83, start // _SECTOR, size)
        file.seek(446)
        file.write(table.ljust(64, b"\0") + b"\x55\xaa")


def cpio(folder: Path, prefix: str, out: BinaryIO) -> None:
    """Write a folder as an initramfs archive (Documentation/driver-api/early-userspace/buffer-format.rst).

    Names begin with ``prefix``; everything belongs to root. One archive may follow another.
    """
    paths = sorted(folder.rglob("*"))
    entries = [(f"{prefix}/{path.relative_to(folder)}".strip("/"), path) for path in paths]
    start = out.tell()
    if prefix:
        entries.insert(0, (prefix, folder))
    for number, (name, path) in enumerate(entries, 1):
        state = path.lstat()
        data = b""
        if stat.S_ISLNK(state.st_mode):
            data = os.fsencode(os.readlink(path))
        elif stat.S_ISREG(state.st_mode):
            data = path.read_bytes()
        _cpio_entry(out, start, number, state.st_mode, name, data)
    _cpio_entry(out, start, 0, 0, "TRAILER!!!", b"")
    out.write(bytes(-(out.tell() - start) % 512))


def _cpio_entry(out: BinaryIO, start: int, number: int, mode: int, name: str, data: bytes) -> None:
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name.encode()) + 1, 0)
    out.write(b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0")
    out.write(bytes(-(out.tell() - start) % 4))
    out.write(data)
    out.write(bytes(-(out.tell() - start) % 4))
