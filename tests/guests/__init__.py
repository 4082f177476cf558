"""Guests: other kernels, booted by QEMU on this machine, in which bfer and the tests run.

Kernels come from Debian's packages, found through the machine's own apt sources,
and roots are either unpacked from packages (glibc) or built from Debian's sources
(musl, busybox). All of it is kept in ``${XDG_CACHE_HOME:-~/.cache}/bfer/guests``,
outside the tree. ``python -m tests.guests --help`` is the command.
"""

from __future__ import annotations
