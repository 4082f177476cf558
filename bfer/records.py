"""The layout of the programs' records, as user space reads them.

The programs' own description (programs.records) belongs to the compiler,
which a device never imports; a test compares the two.
"""

from __future__ import annotations

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# A record is: u64 time, BLOCK, path without NUL (to the record's end).
BLOCK_START = 8
PATH_START = 200

BLOCK = Struct(
    "="
    "QQ"  # thread start time (ns since boot), cgroup id
    "6I"  # host pid, tid, ppid; pid, tid, ppid in the task's own namespace
    "4I"  # uid, mount namespace, pid namespace, cpu
    "16s64s"  # comm, node name
    "q5Q"  # result, scalar arguments
    "II"  # event, status
)


class Block:
    """The part of a record that repeats from event to event; times in ns, names without their NULs."""

    __slots__ = (
        *("cgroup_id", "comm", "cpu", "event", "host_pid", "host_ppid", "host_tid", "mnt_ns", "node", "pid"),
        *("pid_ns", "ppid", "result", "scalars", "start_time", "status", "tid", "uid"),
    )

    def __init__(self, data: bytes) -> None:
        fields = BLOCK.unpack(data)
        self.start_time, self.cgroup_id = fields[:2]
        self.host_pid, self.host_tid, self.host_ppid, self.pid, self.tid, self.ppid = fields[2:8]
        self.uid, self.mnt_ns, self.pid_ns, self.cpu = fields[8:12]
        self.comm: bytes = fields[12].partition(b"\0")[0]
        self.node: bytes = fields[13].partition(b"\0")[0]
        self.result: int = fields[14]
        self.scalars: tuple[int, ...] = fields[15:20]
        self.event, self.status = fields[20:]


# What a filter needs of a block, by offset: result and scalars; event and status.
CALL_OFFSET = 136
CALL = Struct("=q5QII")

POINTER = Struct("=Q")


class _Split(dict):  # type: ignore[type-arg]
    """By a record's length: the function that gives its time, block and path."""

    def __missing__(self, length: int) -> Callable[[bytes], tuple[int, bytes, bytes]]:
        if len(self) >= 512:
            self.clear()
        unpack = self[length] = Struct(f"=Q192s{length - PATH_START}s").unpack
        return unpack


SPLIT = _Split()

PATH_CUT = 1
PATH_UNREADABLE = 2
PATH_STATUS = 3  # the bits of these
HOW_UNREADABLE = 4

PATH_BITS = Struct("=I")  # head of a trie key, before 256 bytes of path
PATH_KEY_SIZE = 256
SUFFIX_KEY = Struct("=I60s")
SUFFIX_SIZE = 60
RULE = Struct("=QQ")
CALLS = 512
