"""Control groups: where they are mounted, their ids, and whose a process is."""

from __future__ import annotations

import os
from errno import EINVAL, ENOENT

from pybpf.errors import SyscallError

_V2, _V1 = "cgroup2", "cgroup"


class Mount:
    """A mounted hierarchy: ``version`` 2, or 1 with its ``controllers``."""

    __slots__ = ("controllers", "path", "version")

    def __init__(self, path: str, version: int, controllers: tuple[str, ...] = ()) -> None:
        self.path = path
        self.version = version
        self.controllers = controllers

    def __repr__(self) -> str:
        return f"<Mount {self.path} v{self.version} {','.join(self.controllers)}>"


def mounts(path: str = "/proc/self/mountinfo") -> list[Mount]:
    """The hierarchies that this process sees, in the order of mounting."""
    found = []
    with open(path, errors="replace") as file:
        for line in file:
            # 36 35 98:0 ROOT MOUNTPOINT options [optional fields] - TYPE SOURCE SUPEROPTIONS
            left, dash, right = line.partition(" - ")
            fields, kind = left.split(), right.split()
            if not dash or len(fields) < 5 or not kind or kind[0] not in (_V1, _V2):
                continue
            where = _unescape(fields[4])
            if kind[0] == _V2:
                found.append(Mount(where, 2))
            else:
                options = kind[2].split(",") if len(kind) > 2 else []
                found.append(Mount(where, 1, tuple(word for word in options if word not in ("rw", "ro"))))
    return found


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def root() -> str:
    """Where the version 2 hierarchy, the one that programs attach to, is mounted. Raises SyscallError."""
    for mount in mounts():
        if mount.version == 2:
            return mount.path
    raise SyscallError("no cgroup v2 hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup", ENOENT)


def of_process(pid: int | str = "self") -> str:
    """Path of a process's control group in the version 2 hierarchy. Raises SyscallError."""
    try:
        with open(f"/proc/{pid}/cgroup", errors="replace") as file:
            for line in file:
                if line.startswith("0::"):
                    return root() + line[3:].rstrip("\n").rstrip("/")
    except OSError as error:
        raise SyscallError(f"control group of process {pid}: {error.strerror}", error.errno or ENOENT) from None
    raise SyscallError(f"process {pid} is in no version 2 control group", ENOENT)


def id_of(path: str) -> int:
    """The 64-bit id of a control group, as bpf_get_current_cgroup_id gives it. Raises SyscallError.

    It is the folder's inode number (fs/kernfs; since 5.5 with the generation in the
    upper half, which stays 0 as long as inode numbers are not used up).
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise SyscallError(f"control group {path}: {error.strerror}", error.errno or ENOENT) from None
    if not os.path.exists(path + "/cgroup.procs"):
        raise SyscallError(f"{path} is no control group", EINVAL)
    return status.st_ino


def path_of(id: int) -> str | None:
    """The control group with this id, found by walking the hierarchy; None if there is none. Raises SyscallError."""
    top = root()
    if os.stat(top).st_ino == id:
        return top
    folders = [top]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:  # removed meanwhile
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.inode() == id:
                    return entry.path
                folders.append(entry.path)
    return None
