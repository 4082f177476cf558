"""The guests: which kernel, root, memory and machine each name stands for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


class Unavailable(Exception):
    """A guest cannot be had here; the message is the reason as observed, in one line."""


@dataclass(frozen=True)
class Guest:
    """One row of the matrix. ``memory`` is QEMU's, in MiB; ``root`` is ``glibc`` or ``musl``.

    ``packages`` are regular expressions: point versions of kernel packages come and go,
    the newest that matches is taken.
    """

    name: str
    arch: str
    suite: str
    packages: tuple[str, ...]
    root: str = "glibc"
    memory: int = 256

    @property
    def kernel(self) -> str:
        """Name of the kernel's folder in the cache: guests that differ only in root or memory share it."""
        return self.name.replace("-musl", "")


def _image(version: str, arch: str) -> tuple[str, ...]:
    return (rf"linux-image-{version}[0-9.+a-z-]*-cloud-{arch}-unsigned",)


def _split(version: str, arch: str) -> tuple[str, ...]:
    # Since 7.x the image and the modules are packages of their own.
    return (rf"linux-binary-{version}[0-9.+a-z-]*-cloud-{arch}", rf"linux-modules-{version}[0-9.+a-z-]*-cloud-{arch}")


GUESTS = {
    guest.name: guest
    for guest in (
        Guest("5.10-musl", "amd64", "bullseye", _image(r"5\.10\.", "amd64"), root="musl", memory=64),
        Guest("5.10", "amd64", "bullseye", _image(r"5\.10\.", "amd64")),
        Guest("6.1", "amd64", "bookworm", _image(r"6\.1\.", "amd64")),
        Guest("6.12", "amd64", "trixie", _image(r"6\.12\.", "amd64")),
        Guest("7.2", "amd64", "sid", _split(r"7\.2\.", "amd64")),
        Guest("arm64-5.10", "arm64", "bullseye", _image(r"5\.10\.", "arm64")),
        Guest("arm64-6.1", "arm64", "bookworm", _image(r"6\.1\.", "arm64")),
        Guest("arm64-6.12", "arm64", "trixie", _image(r"6\.12\.", "arm64")),
    )
}
# What continuous integration boots; the others are there for a closer look.
USUAL = ("5.10-musl", "5.10", "6.1", "6.12", "7.2", "arm64-5.10")

# The roots' own distribution: its Python (3.11) is the one that byte code is made for.
ROOT_SUITE = "bookworm"


def cache() -> Path:
    """The folder that holds everything fetched and built; made if missing."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = Path(home) / "bfer" / "guests"
    path.mkdir(parents=True, exist_ok=True)
    return path
