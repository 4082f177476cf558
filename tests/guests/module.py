"""A kernel module for the guests, made from deeds.c without the kernel's headers.

What a module must know of its kernel is its version, which every module of the kernel carries, and the places of
a few members of structures, which the BTF in the kernel's image tells. Only for x86-64: it needs a compiler
of the guest's architecture, and the machine's own is at hand.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

from btf.files import close_table, open_table
from btf.format import KIND_FUNC, KIND_STRUCT
from btf.table import Table

from .fetch import once
from .kernel import Kernel, modules

NAMES = ("deeds", "other")  # of one length: the second is the same module under another name
_SOURCE = Path(__file__).with_name("deeds.c")
_FLAGS = (
    *("-O2", "-ffreestanding", "-fno-pic", "-fno-pie", "-mcmodel=kernel", "-mno-red-zone", "-mgeneral-regs-only"),
    *("-fno-stack-protector", "-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-fno-common", "-w"),
)
# Macros of the source: sizes of structures, and places in bytes of members.
_SIZES = {
    "MODULE_SIZE": "module",
    "FILE_OPERATIONS_SIZE": "file_operations",
    "PROC_OPS_SIZE": "proc_ops",
    "KPROBE_SIZE": "kprobe",
    "PIPE_BUFFER_SIZE": "pipe_buffer",
}
_PLACES = {
    "NAME_OFFSET": "module.name",
    "LIST_OFFSET": "module.list",
    "INIT_OFFSET": "module.init",
    "EXIT_OFFSET": "module.exit",
    "ITERATE_SHARED": "file_operations.iterate_shared",
    "SPLICE_READ": "file_operations.splice_read",
    "KPROBE_SYMBOL": "kprobe.symbol_name",
    "KPROBE_PRE": "kprobe.pre_handler",
    "KPROBE_POST": "kprobe.post_handler",
    "FILE_INODE": "file.f_inode",
    "INODE_FOPS": "inode.i_fop",
    "PIPE_HEAD": "pipe_inode_info.head",
    "PIPE_RING_SIZE": "pipe_inode_info.ring_size",
    "PIPE_BUFS": "pipe_inode_info.bufs",
    "PIPE_BUFFER_OFFSET": "pipe_buffer.offset",
    "PIPE_BUFFER_LEN": "pipe_buffer.len",
    "PIPE_BUFFER_FLAGS": "pipe_buffer.flags",
    "PAGE_REFCOUNT": "page._refcount",
}


def images(kernel: Kernel, folder: Path) -> list[tuple[str, bytes]]:
    """Name and contents of the modules for a kernel; none where they cannot be made."""
    recipe = hashlib.sha256(_SOURCE.read_bytes() + Path(__file__).read_bytes()).hexdigest()[:8]
    path = build(kernel, folder / f"{kernel.release}-{recipe}.ko")
    if path is None:
        return []
    data = path.read_bytes()
    first = NAMES[0].encode()
    return [(name, data.replace(first + b"\0", name.encode() + b"\0")) for name in NAMES]


def build(kernel: Kernel, final: Path) -> Path | None:
    """The module for a kernel, made at ``final`` first if it is not there; None where it cannot be made."""
    if shutil.which("gcc") is None or kernel.image.read_bytes()[:4] != b"\x7fELF":
        return None
    with once(final) as partial:
        if partial is not None:
            done = subprocess.run(
                ["gcc", "-c", *_FLAGS, *macros(kernel), str(_SOURCE), "-o", str(partial)],
                capture_output=True,
                text=True,
                check=False,
            )
            assert not done.returncode, done.stderr
    return final


def macros(kernel: Kernel) -> list[str]:
    """What deeds.c must be told of the kernel, as options of the compiler."""
    data = next(data for name, data in modules(kernel.modules, ["dummy"]) if name == "dummy")
    version = re.search(rb"vermagic=([^\0]*)\0", data)
    assert version is not None
    found = [f'-DVERMAGIC="{version[1].decode()}"']
    table = open_table(str(kernel.image))
    try:
        found += [f"-D{macro}={table.size(_struct(table, name))}" for macro, name in _SIZES.items()]
        for macro, name in _PLACES.items():
            struct, _, member = name.partition(".")
            place = _place(table, _struct(table, struct), member)
            assert place is not None, f"{kernel.release}: no {name}"
            found.append(f"-D{macro}={place // 8}")
        if not table.find("debugfs_create_file", (KIND_FUNC,)):
            found.append("-DDEBUGFS_FULL")
    finally:
        close_table(table)
    return found


def _struct(table: Table, name: str) -> int:
    return table.find(name, (KIND_STRUCT,))[0]


def _place(table: Table, struct: int, name: str) -> int | None:
    """Where a member is, in bits, also one of an anonymous part."""
    for member, type, bit, _ in table.members(struct):
        if member == name:
            return bit
        if not member:
            inner = _place(table, table.resolve(type), name)
            if inner is not None:
                return bit + inner
    return None
