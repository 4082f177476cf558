"""BTF for the running kernel out of what a user gives: a file, or a folder or archive with one for each release."""

from __future__ import annotations

import os

from btf.errors import BtfError, BtfNotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import IO

    from btf.reader import Btf

_MAX_BTF = 64 << 20  # bytes; the kernel itself takes 16 MB
_TAR = (".tar", ".tar.xz", ".tar.gz", ".tar.bz2", ".tgz", ".txz")


def open_for(path: str, release: str = "", machine: str = "") -> Btf:
    """The BTF that ``path`` holds for a kernel (default: the running one).

    A file of raw BTF, or an ELF file with ``.BTF``, is taken as it is. In a folder it is
    ``RELEASE.btf``, ``MACHINE/RELEASE.btf``, or either with ``.tar.xz`` behind it, as BTFHub has
    them; in a zip or tar archive the file of that name, that in a folder ``MACHINE``
    first. ``RELEASE`` and ``MACHINE`` are what ``uname -r`` and ``uname -m`` print. Raises BtfError.
    """
    from btf.reader import Btf

    uname = os.uname()
    release, machine = release or uname.release, machine or uname.machine
    wanted = f"{release}.btf"
    if os.path.isdir(path):
        return _in_folder(path, wanted, machine)
    try:
        with open(path, "rb") as file:
            head = file.read(6)
    except FileNotFoundError:
        raise BtfNotFound(f"{path}: no such file") from None
    except OSError as error:
        raise BtfError(f"cannot open {path}: {error.strerror}") from None
    if head[:2] in (b"\x9f\xeb", b"\xeb\x9f"):
        return Btf.open(path)
    if head[:4] == b"\x7fELF":
        return _from_elf(path)
    if head[:4] == b"PK\x03\x04" or path.endswith(".zip"):
        return _from_zip(path, wanted, machine)
    if path.endswith(_TAR) or head[:6] == b"\xfd7zXZ\0" or head[:2] == b"\x1f\x8b":
        return _from_tar(path, wanted, machine)
    return Btf.open(path)  # which says what is wrong with it


def _in_folder(folder: str, wanted: str, machine: str) -> Btf:
    for name in (wanted, os.path.join(machine, wanted)):
        for ending in ("", ".tar.xz"):
            path = os.path.join(folder, name + ending)
            if os.path.isfile(path):
                return open_for(path, wanted[: -len(".btf")], machine)
    raise BtfNotFound(f"{folder} has neither {wanted} nor {machine}/{wanted}: no BTF for this kernel")


def _from_elf(path: str) -> Btf:
    from btf.elf import sections
    from btf.reader import Btf
    from btf.source import map_file

    data = map_file(path)
    try:
        found = sections(data, (".BTF",))
        if ".BTF" not in found:
            raise BtfError("ELF file has no .BTF section")
        return Btf(found[".BTF"])
    except BtfError as error:
        raise BtfError(f"{path}: {error}") from None
    finally:
        if not isinstance(data, bytearray):
            data.close()


def _choose(names: Iterable[str], wanted: str, machine: str) -> str:
    """The name of the wanted file among an archive's; empty if it is not there."""
    found = [name for name in names if name.rpartition("/")[2] == wanted]
    for name in found:
        if machine in name.split("/")[:-1]:
            return name
    return found[0] if found else ""


def _read(path: str, name: str, file: IO[bytes] | None) -> Btf:
    from btf.reader import Btf

    if file is None:
        raise BtfError(f"{path}: {name} is not a file")
    with file:
        data = file.read(_MAX_BTF + 1)
    if len(data) > _MAX_BTF:
        raise BtfError(f"{path}: {name} has more than {_MAX_BTF >> 20} MB")
    try:
        return Btf(data)
    except BtfError as error:
        raise BtfError(f"{path}: {name}: {error}") from None


def _missing(path: str, wanted: str) -> BtfNotFound:
    return BtfNotFound(f"{path} has no {wanted}: no BTF for this kernel")


def _from_zip(path: str, wanted: str, machine: str) -> Btf:
    from zipfile import ZipFile

    try:
        with ZipFile(path) as archive:
            name = _choose(archive.namelist(), wanted, machine)
            if not name:
                raise _missing(path, wanted)
            return _read(path, name, archive.open(name))
    except BtfError:
        raise
    except Exception as error:  # BadZipFile, EOFError, OSError, zlib.error and more, without a common root
        raise BtfError(f"{path}: zip archive cannot be read: {error}") from None


def _from_tar(path: str, wanted: str, machine: str) -> Btf:
    import tarfile

    try:
        with tarfile.open(path) as archive:
            members = {member.name: member for member in archive if member.isfile()}
            name = _choose(members, wanted, machine)
            if not name:
                raise _missing(path, wanted)
            return _read(path, name, archive.extractfile(members[name]))
    except BtfError:
        raise
    except Exception as error:  # TarError, EOFError, OSError, zlib.error and more, without a common root
        raise BtfError(f"{path}: tar archive cannot be read: {error}") from None
