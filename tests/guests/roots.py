"""The guests' root file systems: Python 3.11 with pytest on glibc, or on musl as on small firmware; as ext4 images.

Every root is a disk image, not an initramfs: with 64 MB no memory may go to it.
NVMe and ext4 are built into Debian's cloud kernels, so nothing has to be loaded.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .fetch import need, once, packages, run, say
from .matrix import ROOT_SUITE, Guest, Unavailable, cache

TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
_GLIBC = (
    *("busybox-static", "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"),
    *("libc6", "zlib1g", "libffi8", "libexpat1", "libbz2-1.0", "liblzma5", "libuuid1"),
    *("python3-pytest", "python3-pluggy", "python3-iniconfig", "python3-packaging", "python3-attr"),
    *("python3-hypothesis", "python3-sortedcontainers", "python3-pkg-resources"),
)
# Mount points, and the places that programs expect.
_FOLDERS = ("proc", "sys", "dev", "tmp", "root", "run", "mnt", "project", "etc", "bin", "var/tmp")
_INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t ext4 -o ro /dev/nvme0n2 /mnt
exec /bin/busybox sh /mnt/init
"""


def image(guest: Guest) -> Path:
    """The guest's root as an ext4 image, made first if the cache has none. Raises Unavailable."""
    from .musl import build

    name = f"{guest.root}-{guest.arch}"
    folder = build() if guest.root == "musl" else glibc(guest.arch)
    final = cache() / "roots" / f"{name}.ext4"
    with once(final) as partial:
        if partial is not None:
            ext4(folder, partial)
            say(f"made root {name}")
    return final


def glibc(arch: str) -> Path:
    """The folder of the glibc root: busybox, Python 3.11, pytest and hypothesis from Debian's packages."""
    final = cache() / "roots" / f"glibc-{arch}"
    with once(final) as root:
        if root is not None:
            unpacked = root / ".unpacked"
            packages(ROOT_SUITE, arch, tuple(name.replace("+", r"\+") for name in _GLIBC), unpacked)
            _trim(unpacked, root, TRIPLETS[arch])
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
    (root / "init").write_text(_INIT)
    (root / "init").chmod(0o755)


def _applets(root: Path) -> list[str]:
    """The commands of the root's busybox; of another architecture's, the names that ours has."""
    for program in (str(root / "bin/busybox"), shutil.which("busybox") or ""):
        try:
            listed = subprocess.run([program, "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
            return [name for name in listed if name != "busybox"]
        except (OSError, subprocess.CalledProcessError):
            continue
    raise Unavailable("busybox is missing (Debian package busybox-static): its commands cannot be listed")


def _trim(unpacked: Path, root: Path, triplet: str) -> None:
    """Copy what runs Python and pytest out of unpacked packages."""
    libraries = root / "lib" / triplet
    libraries.mkdir(parents=True)
    for top in ("lib", "usr/lib"):
        for path in (unpacked / top / triplet).glob("*.so*"):
            shutil.copy(path, libraries / path.name)
    # The dynamic loader's well-known name: lib64/... on x86-64, lib/... on arm64.
    for path in [*(unpacked / "lib64").glob("ld-*"), *(unpacked / "lib").glob("ld-*")]:
        link = root / path.relative_to(unpacked)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(f"/lib/{triplet}/{Path(os.readlink(path)).name}")
    (root / "bin").mkdir()
    shutil.copy(unpacked / "bin/busybox", root / "bin/busybox")
    (root / "usr/bin").mkdir(parents=True)
    shutil.copy(unpacked / "usr/bin/python3.11", root / "usr/bin/python3.11")
    (root / "usr/bin/python3").symlink_to("python3.11")
    unused = (
        "lib2to3",
        "pydoc_data",
        "ensurepip",
        "idlelib",
        "tkinter",
        "turtledemo",
        "test",
        "wsgiref",
        "__pycache__",
    )
    shutil.copytree(
        unpacked / "usr/lib/python3.11", root / "usr/lib/python3.11", ignore=shutil.ignore_patterns(*unused)
    )
    shutil.copytree(unpacked / "usr/lib/python3/dist-packages", root / "usr/lib/python3/dist-packages")
    _sitecustomize(root)
    compile_all(root, root / "usr/lib")


def _sitecustomize(root: Path) -> None:
    """Debian's link into /etc would dangle in the root."""
    path = root / "usr/lib/python3.11/sitecustomize.py"
    if path.is_symlink():
        path.unlink()


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
            packages(ROOT_SUITE, "amd64", tuple(name for name in _GLIBC if not name.startswith("python3-")), partial)
    triplet = TRIPLETS["amd64"]
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
