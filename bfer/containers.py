"""Which container a control group belongs to: by the names that engines give to the groups they make.

Control groups are those of version 2 or, where that is not in use, of one hierarchy of version 1, by the 64-bit id
that records carry.
"""

from __future__ import annotations

import os
from sys import byteorder

from bfer.records import ROOT_GROUP
from pybpf import cgroups
from pybpf.errors import SyscallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.policy import Containers
    from bfer.records import Block
    from pybpf.maps import Map

_ID_SIZE = 64
_HEX = frozenset("0123456789abcdef")
_MOST = 16384
# What stands before a 64-digit id: docker, podman, containerd, cri-o, nerdctl and others; with a
# monitor's group ("crio-conmon-ID.scope") it is not the container's.
_MONITORS = ("conmon", "monitor")
# Names instead of ids.
_NAMED = (
    ("systemd-nspawn@", ".service"),
    ("machine-", ".scope"),
    ("lxc.payload.", ""),
)
_MACHINES_NOT_CONTAINERS = "qemu"  # libvirt registers virtual machines beside containers
_PARENTS = ("lxc", "lxc.payload")  # /lxc/NAME, of older versions


def container_id(path: str) -> str:
    """Id of the innermost container that a control group's path lies in, the empty string for none."""
    names = path.split("/")
    for at in range(len(names) - 1, -1, -1):
        id = _id(names[at], names[at - 1] if at else "")
        if id:
            return id
    return ""


def _id(name: str, parent: str) -> str:
    word = name[: -len(".scope")] if name.endswith(".scope") else name
    tail = word[-_ID_SIZE:]
    if len(tail) == _ID_SIZE and _HEX.issuperset(tail):
        before = word[:-_ID_SIZE]
        if (not before or before[-1] in "-:") and not any(monitor in before for monitor in _MONITORS):
            return tail
    for start, end in _NAMED:
        if name.startswith(start) and name.endswith(end) and len(name) > len(start) + len(end):
            id = _unescaped(name[len(start) : len(name) - len(end)])
            if not id.startswith(_MACHINES_NOT_CONTAINERS):
                return id
    return name if parent in _PARENTS and name else ""


def _unescaped(name: str) -> str:
    """systemd writes a dash within a name as ``\\x2d``."""
    first, *rest = name.split("\\x")
    return first + "".join([_character(part) for part in rest])


def _character(part: str) -> str:
    try:
        return chr(int(part[:2], 16)) + part[2:]
    except ValueError:
        return "\\x" + part


def root() -> str:
    """Where the hierarchy is mounted whose ids the programs give. Raises SyscallError."""
    from bfer.tracer import version_1_controller

    controller = version_1_controller()
    return f"/sys/fs/cgroup/{controller}" if controller else cgroups.root()


def hierarchy_number(controller: str, path: str = "/proc/cgroups") -> int:
    """The kernel's number for a hierarchy of version 1."""
    try:
        with open(path) as file:
            for line in file:
                words = line.split()
                if words[:1] == [controller]:
                    return int(words[1])
    except (OSError, ValueError, IndexError):
        pass
    return 0


class Groups:
    """Control groups and their containers; at most 16,384 are remembered, others are looked up again.

    With ``wanted`` and ``verdicts``, the programs' map, it also judges them, and tells the programs.
    """

    __slots__ = ("_containers", "_first", "_judged", "_verdicts", "_wanted")

    def __init__(
        self, wanted: Containers | None = None, verdicts: Map | None = None, known: dict[int, str] | None = None
    ) -> None:
        """``known`` holds what is remembered, for several to share."""
        self._wanted = wanted
        self._verdicts = verdicts
        self._containers: dict[int, str] = {} if known is None else known
        self._judged: dict[int, bool] = {}
        self._first: set[int] = set()  # those that were there when the trace began

    def container(self, id: int) -> str:
        """Id of the container that control group ``id`` belongs to, or the empty string."""
        if id == ROOT_GROUP:
            return ""
        try:
            return self._containers[id]
        except KeyError:
            self._walk()
            return self._containers.setdefault(id, "")  # gone, or of another cgroup namespace

    def _walk(self) -> set[int]:
        """Read the whole hierarchy; returns the ids of its groups."""
        ids: set[int] = set()
        try:
            top = root()
        except (SyscallError, OSError):
            return ids
        if len(self._containers) > _MOST:
            self._containers.clear()
        folders = [top]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(folder) as entries:
                    found = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:  # removed meanwhile
                continue
            for entry in found:
                # What was told at its making stays: the name may be another's by now, the id never is.
                ids.add(entry.inode())
                self._containers.setdefault(entry.inode(), container_id(entry.path[len(top) :]))
                folders.append(entry.path)
        return ids

    def scan(self) -> None:
        """Judge the groups that there are. Call it when new ones are told of already."""
        self._first = self._walk() | {ROOT_GROUP}
        for id in self._first:
            self.passes(id)

    def learn(self, id: int, path: bytes) -> None:
        """Group ``id`` was made just now."""
        self._containers[id] = container_id(os.fsdecode(path))
        self._first.discard(id)
        self._judge(id)

    def passes(self, id: int) -> bool:
        """Does the filter want the processes of this group? The programs know it from now on."""
        verdict = self._judged.get(id)
        return self._judge(id) if verdict is None else verdict

    def _judge(self, id: int) -> bool:
        if self._wanted is None:
            return True
        verdict = self._wanted.matches(self.container(id), id not in self._first)
        if len(self._judged) >= _MOST:
            self._judged.clear()
        self._judged[id] = verdict
        if self._verdicts is not None:
            self._verdicts.update(id.to_bytes(8, byteorder), int(verdict).to_bytes(4, byteorder))
        return verdict


SHOWN: dict[int, str] = {}
"""What outputs know of the groups, and filters learn of new ones."""

container_of = Groups(known=SHOWN).container
"""The container's id of a control group, for those who only want to show it."""


def has_started(block: Block) -> bool:
    """Does the process of a container see the container's files? Until then the engine prepares it."""
    return bool(container_of(block.cgroup_id)) and block.mnt_ns != _first_mount_namespace()


_first: list[int] = []


def _first_mount_namespace() -> int:
    """The mount namespace of the first process, where the engines are; 0 if that cannot be told."""
    if not _first:
        try:
            _first.append(os.stat("/proc/1/ns/mnt").st_ino)
        except OSError:
            _first.append(0)
    return _first[0]
