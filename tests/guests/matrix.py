"""The guests: which kernel, root, memory and machine each name stands for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


class Unavailable(Exception):
    """A guest cannot be had here; the message is the reason as observed, in one line."""


@dataclass(frozen=True)
class Arch:
    """What differs between architectures. ``qemu`` is the command, ``package`` the one that brings it.

    ``tty`` gets the command's output. x86-64 has a second line for the kernel's log,
    elsewhere the log shares the only one and is kept down to emergencies. ``disk``
    says that NVMe and ext4 are built into the kernel; else the root is an initramfs,
    which takes memory.
    """

    triplet: str
    qemu: str
    package: str
    tty: str
    append: str
    suite: str = "bookworm"
    python: str = "3.11"
    disk: bool = True


ARCHES = {
    "amd64": Arch(
        "x86_64-linux-gnu",
        "qemu-system-x86_64 -M q35 -cpu max",
        "qemu-system-x86",
        "ttyS1",
        # The TSC's frequency is measured at boot, and on a busy machine was seen to come out a hundred times too low.
        "console=ttyS0 clocksource=hpet no_timer_check",
    ),
    "arm64": Arch(
        "aarch64-linux-gnu",
        "qemu-system-aarch64 -M virt -cpu cortex-a72",
        "qemu-system-arm",
        "ttyAMA0",
        "console=ttyAMA0 loglevel=1",
    ),
    "armhf": Arch(
        "arm-linux-gnueabihf",
        "qemu-system-arm -M virt,highmem=off -cpu cortex-a15",
        "qemu-system-arm",
        "ttyAMA0",
        "console=ttyAMA0 loglevel=1",
        disk=False,
    ),
    "riscv64": Arch(
        "riscv64-linux-gnu",
        "qemu-system-riscv64 -M virt -cpu rv64",
        "qemu-system-misc",
        "ttyS0",
        "console=ttyS0 loglevel=1",
        suite="trixie",
        python="3.13",
        disk=False,
    ),
    "s390x": Arch(
        "s390x-linux-gnu",
        "qemu-system-s390x -M s390-ccw-virtio -cpu max",
        "qemu-system-misc",
        "ttysclp0",
        "console=ttysclp0 loglevel=1",
        disk=False,
    ),
}


@dataclass(frozen=True)
class Guest:
    """One row of the matrix. ``memory`` is QEMU's, in MiB; ``root`` is ``glibc`` or ``musl``.

    ``packages`` are regular expressions: point versions of kernel packages come and go,
    the newest that matches is taken. ``append`` goes to the kernel's command line, ``cpu`` replaces
    the architecture's usual processor.
    """

    name: str
    arch: str
    suite: str
    packages: tuple[str, ...]
    root: str = "glibc"
    memory: int = 256
    append: str = ""
    cpu: str = ""

    @property
    def kernel(self) -> str:
        """Name of the kernel's folder in the cache: guests that differ only in root or memory share it."""
        return self.name.replace("-musl", "")

    @property
    def version(self) -> tuple[int, ...]:
        """The kernel's version, for comparisons between guests of one architecture."""
        return tuple(int(part) for part in self.kernel.rpartition("-")[2].split("."))


def _image(version: str, arch: str) -> tuple[str, ...]:
    return (rf"linux-image-{version}[0-9.+a-z-]*-cloud-{arch}-unsigned",)


def _split(version: str, arch: str) -> tuple[str, ...]:
    # Since 7.x the image and the modules are packages of their own.
    return (rf"linux-binary-{version}[0-9.+a-z-]*-cloud-{arch}", rf"linux-modules-{version}[0-9.+a-z-]*-cloud-{arch}")


# Debian's 5.10 leaves BPF out of the active security modules. The musl guest stays so, as a device's would be.
_LSM = "lsm=lockdown,yama,integrity,bpf"

GUESTS = {
    guest.name: guest
    for guest in (
        Guest("5.10-musl", "amd64", "bullseye", _image(r"5\.10\.", "amd64"), root="musl", memory=64),
        Guest("5.10", "amd64", "bullseye", _image(r"5\.10\.", "amd64"), append=_LSM),
        Guest("6.1", "amd64", "bookworm", _image(r"6\.1\.", "amd64")),
        # With cx16 Linux 6.12 crashed at every boot under QEMU 7.2, without it at none. 7.2 boots with it, and
        # without it has no memory for local storage and arenas.
        Guest("6.12", "amd64", "trixie", _image(r"6\.12\.", "amd64"), cpu="max,-cx16"),
        Guest("7.2", "amd64", "sid", _split(r"7\.2\.", "amd64")),
        Guest("arm64-5.10", "arm64", "bullseye", _image(r"5\.10\.", "arm64"), append=_LSM),
        Guest("arm64-6.1", "arm64", "bookworm", _image(r"6\.1\.", "arm64")),
        Guest("arm64-6.12", "arm64", "trixie", _image(r"6\.12\.", "arm64")),
        Guest("arm64-6.12-musl", "arm64", "trixie", _image(r"6\.12\.", "arm64"), root="musl", memory=128),
        # No flavour for virtual machines is made for these. Debian has riscv64's programs interpreted, in which 6.12
        # crashes.
        Guest(
            "riscv64-6.12",
            "riscv64",
            "trixie",
            (r"linux-image-6\.12\.[0-9.+a-z]*-riscv64",),
            memory=512,
            append="sysctl.net.core.bpf_jit_enable=1",
        ),
        Guest("armhf-5.10", "armhf", "bullseye", (r"linux-image-5\.10\.[0-9-]*-armmp",), memory=512),
        Guest("s390x-6.1", "s390x", "bookworm", (r"linux-image-6\.1\.[0-9-]*-s390x",), memory=512),
    )
}
# What continuous integration boots; the matrix has more, and the others are there for a closer look.
USUAL = ("5.10-musl", "6.1", "6.12", "7.2", "arm64-5.10")
MATRIX = ("5.10-musl", "5.10", "6.1", "6.12", "7.2", "arm64-5.10", "arm64-6.12")

# What a newer kernel lacks although an older one of its architecture has it, and why that is no fault
# of ours: (guest, check) to the reason. Everything else of the kind is a failure.
KNOWN_LOSSES: dict[tuple[str, str], str] = {}

# The suite of the x86-64 and arm64 roots: its Python (3.11) is the one that byte code is made for.
ROOT_SUITE = "bookworm"


def cache() -> Path:
    """The folder that holds everything fetched and built; made if missing."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = Path(home) / "bfer" / "guests"
    path.mkdir(parents=True, exist_ok=True)
    return path
