"""Finding the BTF that a tool was asked for: raw files, ELF files, /sys/kernel/btf, modules by name."""

from __future__ import annotations

import os

from btf import elf
from btf.errors import BtfError, BtfNotFound
from btf.source import map_file
from btf.table import Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from btf.reader import Data

SYSFS = "/sys/kernel/btf"
VMLINUX = "vmlinux"
_MAX_UNPACKED = 1 << 30  # bytes; a kernel with all its debug information has less


def find_path(name: str) -> str:
    """The file that ``name`` stands for: itself if it is a path or exists, else that module's in /sys/kernel/btf."""
    if os.sep in name or os.path.exists(name):
        return name
    path = os.path.join(SYSFS, name)
    # As modprobe does, the kernel takes a dash in a module's name for an underscore.
    for candidate in (path, os.path.join(SYSFS, name.replace("-", "_"))):
        if os.path.exists(candidate):
            return candidate
    raise BtfNotFound(f"{name}: no such file, and no such module in {SYSFS} (is it loaded?)")


def base_path(path: str) -> str:
    """The vmlinux beside a module's file in /sys/kernel/btf; empty for any other file."""
    folder, name = os.path.split(os.path.abspath(path))
    vmlinux = os.path.join(folder, VMLINUX)
    return vmlinux if folder == SYSFS and name != VMLINUX and os.path.exists(vmlinux) else ""


def open_table(name: str, base: Table | None = None) -> Table:
    """BTF of ``name``: a file of raw BTF, an ELF file with ``.BTF`` (also .gz, .xz), or a module of this kernel.

    ``base`` is what split BTF stands on; without it, a module of /sys/kernel/btf
    gets the vmlinux there, and a module built with a distilled base (``.BTF.base``,
    Linux 6.11) stands on that. With both, the module is moved from its distilled base to ``base``.
    """
    path = find_path(name)
    if base is None and base_path(path):
        base = open_table(base_path(path))
    try:
        return _table(_unpack(map_file(path)), base)
    except BtfNotFound:
        raise
    except BtfError as error:
        raise BtfError(f"{path}: {error}") from None


def close_table(table: Table) -> None:
    """Close a table and everything that it stands on."""
    below: Table | None = table
    while below is not None:
        below.close()
        below = below.base


def _table(data: Data, base: Table | None) -> Table:
    if data[:4] != elf.MAGIC:
        return _split(data, base)
    try:
        found = elf.sections(data, (".BTF", ".BTF.base"))  # type: ignore[arg-type]
    finally:
        _release(data)
    if ".BTF" not in found:
        raise BtfError("ELF file has no .BTF section: build it with BTF (clang -g, pahole -J, CONFIG_DEBUG_INFO_BTF)")
    if ".BTF.base" not in found:
        return _split(found[".BTF"], base)
    distilled = Table(found[".BTF.base"])
    if base is None:
        return Table(found[".BTF"], distilled)
    from btf.distilled import relocate

    return Table(relocate(Table(found[".BTF"], distilled), base), base)


def _split(data: Data, base: Table | None) -> Table:
    try:
        return Table(data, base)
    except BtfError as error:
        _release(data)
        if base is None and "does not start with the empty string" in str(error):
            raise BtfError("this is split BTF, of a module: give the BTF of its kernel with --base FILE") from None
        raise


def _release(data: Data) -> None:
    if not isinstance(data, (bytes, bytearray, memoryview)):
        data.close()


def _unpack(data: Data) -> Data:
    """The contents of a compressed file (modules mostly are); anything else as it is."""
    head = bytes(data[:6])
    if head[:2] == b"\x1f\x8b":
        import zlib

        unpacker: Callable[[bytes, int], bytes] = zlib.decompressobj(31).decompress
    elif head == b"\xfd7zXZ\x00":
        from lzma import LZMADecompressor

        unpacker = LZMADecompressor().decompress
    elif head[:4] == b"\x28\xb5\x2f\xfd":
        raise BtfError("file is compressed with zstd: decompress it first, with zstd -d")
    else:
        return data
    try:
        whole = unpacker(bytes(data), _MAX_UNPACKED)
    except Exception as error:  # zlib.error, LZMAError: neither has a common root
        raise BtfError(f"compressed file is damaged: {error}") from None
    finally:
        _release(data)
    return whole
