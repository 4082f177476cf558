"""The layout of the programs' records, as user space reads them.

The programs' own description (programs.records) belongs to the compiler,
which a device never imports; a test compares the two.
"""

from __future__ import annotations

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.names import Names

# A record is: u64 time, BLOCK, u8 length of the data or LONG, data: a path without NUL, or fields. Most have the
# same size, and data of any length up to SHORT in it; where there is more it reaches to the record's end.
BLOCK_START = 8
DATA_START = 152
SHORT = 96
LONG = 255
WHO_SIZE = 80
"""The first so many bytes of a block tell who, the others what."""

ROOT_GROUP = 1
"""The id of the control group at the top (the first node of its kernfs)."""

BLOCK = Struct(
    "="
    "QQ"  # thread start time (ns since boot), cgroup id
    "6I"  # host pid, tid, ppid; pid, tid, ppid in the task's own namespace
    "6I"  # uid, mount namespace, pid namespace, cpu, uts namespace, what stands for the nodename
    "16s"  # comm
    "q6Q"  # result, arguments
    "IB2x"  # event, status
)
NODE_KEY = Struct("=II")
_NODE_FACTOR = 0x9E3779B97F4A7C15
_NODE_WORDS = Struct("=8Q")


def node_id(name: bytes) -> int:
    """What stands for a nodename, which is padded to 64 bytes: the upper half of its words' sum, each by its factor."""
    words = enumerate(_NODE_WORDS.unpack(name), 1)
    return sum(word * pow(_NODE_FACTOR, i, 1 << 64) for i, word in words) >> 32 & 0xFFFFFFFF


class Block:
    """The part of a record that repeats from event to event; times in ns, names without their NULs.

    ``node_id`` stands for the nodename; ``node`` is the name itself, if ``names`` can be asked for it.
    """

    __slots__ = (
        *("args", "cgroup_id", "comm", "cpu", "event", "host_pid", "host_ppid", "host_tid", "mnt_ns", "node"),
        *("node_id", "pid", "pid_ns", "ppid", "result", "start_time", "status", "tid", "uid", "uts_ns"),
    )

    def __init__(self, data: bytes, names: Names | None = None) -> None:
        fields = BLOCK.unpack(data)
        self.start_time, self.cgroup_id = fields[:2]
        self.host_pid, self.host_tid, self.host_ppid, self.pid, self.tid, self.ppid = fields[2:8]
        self.uid, self.mnt_ns, self.pid_ns, self.cpu, self.uts_ns, self.node_id = fields[8:14]
        self.comm: bytes = fields[14].partition(b"\0")[0]
        self.node = names.node(NODE_KEY.pack(self.uts_ns, self.node_id)) if names is not None else b""
        self.result: int = fields[15]
        self.args: tuple[int, ...] = fields[16:22]
        self.event, self.status = fields[22:]


# What a filter needs of a block: result, arguments, event and status; it starts at WHO_SIZE.
CALL = Struct("=q6QIB2x")

POINTER = Struct("=Q")


ROW_FORMAT = f"Q{BLOCK.size}s{SHORT + 1}p"
"""struct's format of a record that has the usual size: time, block, data."""

ROW = 3
RECORD_SIZE = DATA_START + SHORT


def split(record: bytes) -> tuple[int, bytes, bytes]:
    """The same of any record."""
    time, length = _ENDS.unpack_from(record)
    data = record[DATA_START:] if length == LONG else record[DATA_START : DATA_START + length]
    return time, record[BLOCK_START : DATA_START - 1], data


_ENDS = Struct(f"=Q{BLOCK.size}xB")

PATH_CUT = 1
PATH_UNREADABLE = 2

PATH_BITS = Struct("=I")  # head of a trie key, before 256 bytes of path
PATH_KEY_SIZE = 256
SUFFIX_KEY = Struct("=I60s")
SUFFIX_SIZE = 60

COMPAT = 512
"""Added to the number of a call of a 32-bit caller."""

# Which program a system call is handed over to: see programs.records.
HANDLER_PATH, HANDLER_PLAIN, HANDLER_FIELDS, HANDLER_EXEC, HANDLER_LAST = 1, 2, 3, 4, 5
HANDLER_BITS = 3
HANDLER_BY_TABLE = 1 << 6

ARGS = 6
CALLS = 2 * COMPAT
"""One more than the highest number of a system call."""

HOOKS = CALLS
"""The number of the first event that is no system call."""

# What the programs know of an event: wanted and unwanted path bits; bounds of the result (exclusive);
# bits, one of which must be set in an argument, and that argument; masks of arguments: used, narrow, checked, passing;
# the path's argument; the mask of those with bounds; that there is such an event; a kind for each argument.
SHAPE = Struct("=QQqqQIIIIIIII8s")
CHECK_RESULT = 6
VALUE_KEY = Struct("=IIQ")
RANGE = Struct("=QQQ")  # lowest, highest, the bit to flip in both and in the number

# Who is calling, by number.
NUMBER_KEY = Struct("=II")
BY = {"uid": 0, "pid": 1, "tid": 2, "mntns": 3, "pidns": 4}
# So many numbers of one kind are settings of the programs: each with a bit that says there is one, and its verdict.
EXACT = 4
EXACT_SET = 1 << 32
EXACT_VERDICT = 33

# Controllers of version 1 by whose hierarchy control groups can be told apart; their settings count from 1.
GROUPS_BY = ("memory", "pids", "devices", "freezer")

NEW_CGROUP = 0xFFFFFFFF
"""The number of records that are for the tracer itself: a control group was made; its id is the first number."""

# How the memory behind an argument gets into a record.
KIND_STRING = 1
KIND_SOCKADDR = 2
KIND_SOCKADDR_REF = 3
KIND_BUFFER = 4
KIND_SIZED = 5
KIND_VECTOR = 6
KIND_ITEMS_8 = 7
KIND_ITEMS_16 = 8
KIND_EVENTS = 9
KIND_EVENTS_PACKED = 10
KIND_INT = 11
KIND_WORDS = 16
KIND_CHECKED = 0x40
KIND_OUT = 0x80

# A piece of an event that is named by the user: kind, argument, pointers on the way, the argument that tells the
# size; size; offsets.
PIECE = Struct("=BBBBI4i")
PIECES = 32
PIECE_STEPS = 3
BYTES_MAX = 256
TABLES = 256
TABLE_PIECES = 8
TABLE = Struct(f"=II{TABLE_PIECES * PIECE.size}s")
PIECE_NUMBER, PIECE_KEPT, PIECE_RESULT, PIECE_SIGNED_RESULT = range(4)
PIECE_STRING, PIECE_PATH, PIECE_DENTRY, PIECE_BYTES, PIECE_CONSTANT = range(4, 9)
PIECE_FROM_START, PIECE_FROM_HERE = 0x10, 0x20

FIELDS_FULL = 8192
"""No further field is begun behind so many bytes of them."""

SLOT_SYSCALL = 32
SLOT_HASH = 33
"""No program fills this one: bfer.hashes does."""
SLOT_STACK = 34
SLOT_FOLDER = 40
"""This and an argument's place: the folder that its relative path begins at."""
PATHS = 6
"""Place in a shape's kinds of a mask of the arguments that are paths, EXTRA that of those behind a descriptor."""
FORM_DELETED = 12
SLOT_EXECUTABLE = 35
EXTRA = 7
"""Place in a shape's kinds of what else belongs into the records."""
EXTRA_SYSCALL, EXTRA_ENV = 1, 2

# Fields: argument, form, size; the bytes; padding to a multiple of 8.
FIELD = Struct("=HHI")
FORM_STRING, FORM_CUT, FORM_POINTER, FORM_BYTES, FORM_ITEM, FORM_ITEM_CUT, FORM_MORE, FORM_NUMBER = range(1, 9)
FORM_NUMBERS = 9
