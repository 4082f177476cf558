"""BTF that several tests use: made-up blobs with every kind, the kernels at hand, and the tools to compare with."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from btf.builder import Builder
from btf.format import KIND_MAX
from btf.table import Table
from tests.guests.matrix import cache

VMLINUX = "/sys/kernel/btf/vmlinux"
BPFTOOL = shutil.which("bpftool") or shutil.which("/usr/sbin/bpftool")
# (bytes once, bytes for each entry) past the header of a type, by kind (include/uapi/linux/btf.h).
KIND_SIZES = (
    *((0, 0), (4, 0), (0, 0), (12, 0), (0, 12), (0, 12), (0, 8), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0)),
    *((0, 0), (0, 8), (4, 0), (0, 12), (0, 0), (4, 0), (0, 0), (0, 12)),
)
assert len(KIND_SIZES) == KIND_MAX + 1


def every_kind(b: Builder) -> Builder:
    """Add a type of each kind, with the flags that each can have, among them one that refers to a later one."""
    int_ = b.int("int", 4, signed=True)
    char = b.int("char", 1, signed=True)
    long = b.int("unsigned long", 8)
    b.int("_Bool", 1, bool_=True)
    node = b.declare_struct("node")
    link = b.ptr(node)
    later = b.declare_struct("later", union=True)
    b.define_struct(node, 24, [("next", link, 0), ("both", later, 64), ("low", int_, 128, 3), ("high", int_, 131, 29)])
    b.define_struct(later, 8, [("word", long, 0), ("text", b.array(char, 8), 0)])
    b.struct("", 4, [("anonymous", int_, 0)])
    b.enum("colour", 4, [("RED", 0), ("BLUE", 4294967295)])
    b.enum("sign", 4, [("MINUS", -1), ("PLUS", 1)], signed=True)
    b.enum64("wide", 8, [("HUGE_VALUE", 0xFFFFFFFFFFFFFFFF), ("SMALL_VALUE", 1)])
    b.enum64("deep", 8, [("LEAST", -(1 << 63)), ("MOST", (1 << 63) - 1)], signed=True)
    b.fwd("hidden")
    b.fwd("hidden_union", union=True)
    b.typedef("number", b.const(b.volatile(int_)))
    b.restrict(b.ptr(0))
    proto = b.func_proto(int_, [("self", link), ("more", b.ptr(b.const(char))), ("", 0)])
    func = b.func("handler", proto, 1)
    b.func("inner", b.func_proto(0, []), 0)
    var = b.var("counter", long, 1)
    hidden = b.var("hidden_counter", int_, 0)
    b.datasec(".data", 16, [(var, 0, 8), (hidden, 8, 4)])
    b.float_("double", 8)
    b.decl_tag("whole", func)
    b.decl_tag("kfunc", node, 1)
    b.decl_tag("kept", node, 0, attribute=True)
    b.ptr(b.type_tag("user", node))
    b.ptr(b.type_tag("address_space(1)", node, attribute=True))
    return b


def with_layout(data: bytes, extra: bytes = b"", kinds: tuple[tuple[int, int], ...] = KIND_SIZES) -> bytes:
    """A little-endian blob again with a 32-byte header and a layout section; ``extra`` are types to append."""
    type_len, str_len = struct.unpack_from("<I4xI", data, 12)
    layout = b"".join(struct.pack("<BBH", once, each, 0) for once, each in kinds)
    types = data[24 : 24 + type_len] + extra
    head = struct.pack(
        "<HBBIIIIIII", 0xEB9F, 1, 0, 32, 0, len(types), len(types) + len(layout), str_len, len(types), len(layout)
    )
    return head + types + layout + data[24 + type_len :]


def guest_kernels() -> dict[str, Path]:
    """Images of the guests' kernels that are in the cache (``python -m tests.guests --fetch``), by kernel."""
    found = {}
    for image in sorted((cache() / "kernels").glob("*/image")):
        with open(image, "rb") as file:
            if file.read(4) == b"\x7fELF":
                found[image.parent.name] = image
    return found


def kernels() -> dict[str, str]:
    """Every kernel's BTF that is at hand: the running one's and the guests'."""
    found = {"running": VMLINUX} if os.path.exists(VMLINUX) else {}
    return {**found, **{name: str(path) for name, path in guest_kernels().items()}}


def guest_modules(kernel: str, count: int) -> list[Path]:
    """Some modules of a guest's kernel that have BTF of their own, spread over all of them."""
    folder = guest_kernels()[kernel].parent / "modules"
    paths = sorted(path for path in folder.rglob("*.ko*") if path.suffix in (".ko", ".xz"))
    return paths[:: max(1, len(paths) // count)][:count]


def bpftool(*arguments: object) -> bytes:
    """What bpftool prints; the test is skipped if there is none, and fails if it fails."""
    if BPFTOOL is None:
        pytest.skip("bpftool is not installed")
    done = subprocess.run([BPFTOOL, *map(str, arguments)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def tool(name: str) -> str:
    """Path of a program; the test is skipped if there is none."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def sample() -> Table:
    return Table(every_kind(Builder()).to_bytes())
