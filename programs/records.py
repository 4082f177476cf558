"""What the programs write into the ring buffer, byte for byte.

A record starts with its time, then comes a block that repeats from event to
event (who, which call, scalar arguments, result), then the part that does not.
User space renders a block once and keeps the text, so nothing that changes
with every event may stand inside it.

Nearly all records have the same size, whatever is in them: then user space takes many
of them out of the buffer by one call.
"""

from __future__ import annotations

from pybpf.lang import Anon, Struct, char, i32, i64, u8, u16, u32, u64

PATH_SIZE = 4104
"""Bytes kept for a path: PATH_MAX (4096, with its NUL) and one word more, so that a longer one is seen to be cut."""

PATH_OK, PATH_CUT, PATH_UNREADABLE = 0, 1, 2

COMPAT = 512
"""Added to the number of a call that came through the 32-bit table, where numbers mean other calls."""

CALLS = 2 * COMPAT
"""One more than the highest number of a system call, compat calls included."""

# Which program a system call is handed over to (Config.handlers): its place in the programs' arrays.
HANDLER_PATH, HANDLER_PLAIN, HANDLER_FIELDS, HANDLER_EXEC, HANDLER_LAST = 1, 2, 3, 4, 5
HANDLERS = 6
HANDLER_BITS = 3
HANDLER_MASK = 7
HANDLER_BY_TABLE = 1 << 6
"""Added where the 32-bit call of a number has another handler than the native one: it is HANDLER_BITS above that."""

HOOKS = CALLS
"""The number of the first event that is no system call."""

NEW_CGROUP = 0xFFFFFFFF
"""The number of records that are for the tracer itself: a control group was made."""

# The controllers of version 1 by whose hierarchy control groups are told apart (Config.cgroup_v1).
GROUPS_BY_MEMORY, GROUPS_BY_PIDS, GROUPS_BY_DEVICES, GROUPS_BY_FREEZER = 1, 2, 3, 4

SOCKADDR_MAX = 128
"""struct sockaddr_storage, include/linux/socket.h."""

AF_INET6 = 10
THREAD_SIZE = 16384  # the kernel's stacks, arch/{x86,arm64}/include/asm

ARGS = 6
"""Numbers that a record has room for: a system call has no more arguments."""

# Places of what is no declared argument; fields carry them like those of arguments.
SLOT_SYSCALL = 32
"""The number of the running system call (Config.detect_syscall)."""

SLOT_EXECUTABLE = 35
"""The path of the file that the process runs (Config.executable)."""

SLOT_FOLDER = 40
"""This and an argument's place: the folder that its relative path begins at (Config.resolve)."""

SLOT_STACK = 34
"""Return addresses of the calling process, u64 each, the innermost first (Config.stacks)."""

STACK_DEPTH = 20

EXTRA = 7
"""Place in Shape.kinds of the bits EXTRA_*: what else belongs into the event's records."""

EXTRA_SYSCALL, EXTRA_ENV = 1, 2

PATHS = 6
"""Place in Shape.kinds of a mask: argument n of a system call is a path. EXTRA then has another: its folder is the
descriptor before it."""

# How the memory behind a system call's argument gets into the record (Shape.kinds).
KIND_NONE = 0
KIND_STRING = 1
KIND_SOCKADDR = 2  # as long as the next argument says
KIND_SOCKADDR_REF = 3  # as long as the int says that the next argument points at
KIND_BUFFER = 4  # as long as the result says
KIND_SIZED = 5  # as long as the next argument says
KIND_VECTOR = 6  # pointers to strings, up to NULL
KIND_ITEMS_8 = 7  # as many pieces of 8 bytes as the next argument says
KIND_ITEMS_16 = 8  # and of 16
KIND_EVENTS = 9  # as many pieces of 16 bytes as the result says
KIND_EVENTS_PACKED = 10  # and of 12
KIND_INT = 11  # 4 bytes; with KIND_CHECKED only where the result is positive
KIND_WORDS = 16  # this and more: KIND_WORDS + n is n words of 8 bytes, up to 47
KIND_CHECKED = 0x40  # added to words: the next argument says how many bytes there are; not read where they are fewer
KIND_OUT = 0x80  # added: written by the kernel, so it says something only where the call succeeded

# What a field of a record holds (Field.form).
FORM_DELETED = 12  # a string too: the path of a folder that has been removed
FORM_STRING, FORM_CUT, FORM_POINTER, FORM_BYTES, FORM_ITEM, FORM_ITEM_CUT, FORM_MORE, FORM_NUMBER = range(1, 9)
FORM_NUMBERS = 9  # those of the arguments from the field's on


class Context(Struct):
    """Who made the call. Numbers without ``host`` are those of the task's own pid namespace."""

    start_time: u64  # of the thread, ns since boot (monotonic)
    cgroup_id: u64
    host_pid: u32
    host_tid: u32
    host_ppid: u32
    pid: u32
    tid: u32
    ppid: u32
    uid: u32
    mnt_ns: u32
    pid_ns: u32
    cpu: u32
    uts_ns: u32
    node: u32  # what tells this nodename from others: see NodeKey
    comm: char[16]


class Head(Struct):
    """What every record begins with; ``who`` to ``status`` repeat from event to event.

    ``args`` holds the event's numbers. Of a system call they are its arguments, each in its own place;
    one whose memory follows is 0 there. ``status`` is one of PATH_*. The last four bytes are the prefix length
    of a PathKey while paths are matched: they stand right before the path.
    """

    time: u64  # ns since boot, time spent in suspend included
    who: Context
    result: i64
    args: u64[6]
    event: u32  # the system call's number on this machine, or a number from CALLS on
    status: u8
    _zero: u8[2]
    length: u8  # bytes of data, or LONG


SHORT = 96
"""A record with no more data than this has room for all of it, and is followed by anything."""

LONG = 255
"""``Head.length`` of a record with more: the data reaches to its end."""


class Row(Struct):
    """All of such a record, for copying: Head and data."""

    words: u64[(152 + SHORT) // 8]


class NodeKey(Struct):
    """A nodename (by a hash of it) in a uts namespace."""

    uts_ns: u32
    node: u32


class NodeName(Struct):
    """The nodename; all 64 bytes may be used."""

    name: char[64]


class NodeWords(Struct):
    """The same, for computing."""

    words: u64[8]


class PathRecord(Struct):
    """An event with one path (without a NUL), or none. With PATH_UNREADABLE ``path`` holds the pointer instead."""

    _: Anon[Head]
    path: char[PATH_SIZE]
    unasked: u64  # bytes handed over since the program last asked how much waits; not sent


class Field(Struct):
    """Begins a piece of a FieldRecord's data: ``form`` is one of FORM_*, ``size`` the bytes that follow.

    The next field starts at a multiple of 8. FORM_POINTER is followed by an address of 8 bytes that
    could not be read (or was NULL), FORM_ITEM is one string of a vector, FORM_MORE says that
    the vector goes on. Strings come without their NUL.
    """

    arg: u16  # the argument's place
    form: u16
    size: u32  # the prefix length of a PathKey while paths are matched


class CallStack(Struct):
    """Room for return addresses."""

    addresses: u64[STACK_DEPTH]


class PathText(Struct):
    """Room for one string."""

    data: char[PATH_SIZE]


FIELDS_FULL = 8192
"""No field starts behind this."""

FIELDS_SIZE = FIELDS_FULL + PATH_SIZE + 64  # a multiple of 8


class FieldRecord(Struct):
    """An event with any number of fields. What comes after the last one is not sent."""

    _: Anon[Head]
    data: u64[FIELDS_SIZE // 8]  # words, for fields start at multiples of 8
    # Kept in memory, not in a register: the verifier then knows nothing of it, and every pass of a loop looks the same.
    end: u64
    unasked: u64  # as in PathRecord
    busy: u64  # something is being written here
    place: u64  # this record's key in `hook_scratch`
    word: u64  # bytes of a pointer of the process's; kept here as `end` is
    # What the next path is of: a global function takes numbers, and these may be pointers to the verifier.
    dentry: u64
    mount: u64


class PathKey(Struct):
    """Key of a longest-prefix-match trie of paths: ``bits`` of ``data`` count."""

    bits: u32
    data: char[256]


class SuffixKey(Struct):
    """The last ``length`` bytes of a path, NUL-padded."""

    length: u32
    data: char[60]


class Comm(Struct):
    """A task's name, NUL-padded."""

    name: char[16]


class Node(Struct):
    """A host's name, NUL-padded."""

    name: char[64]


# What a number is compared with (NumberKey.field).
BY_UID, BY_PID, BY_TID, BY_MNTNS, BY_PIDNS = range(5)


# A number with a verdict of its own, as a word of the configuration: the number, that there is one, and the verdict.
EXACT = 4
EXACT_SET = 1 << 32
EXACT_SHIFT = 32
EXACT_VERDICT = 33
UNDECIDED = 2


class NumberKey(Struct):
    """Key of the map of verdicts on who is calling."""

    field: u32
    value: u32


# A process's entry in a map of members: the verdict in the lowest bit, above it the start of its first thread (ns since
# boot, monotonic); 0 where user space made the entry. It tells the process from a later one of the same number.
MEMBER_VERDICT = 1
MEMBER_SHIFT = 1


class OwnNumber(Struct):
    """A process: its number in the first pid namespace, and how far below that the tracer's namespace is."""

    host: u32
    level: u32


class Range(Struct):
    """Bounds of an argument, both inclusive. `flip` is the sign bit of a signed one: flipped, numbers are in order."""

    low: u64
    high: u64
    flip: u64


class Shape(Struct):
    """What the programs must know of one event."""

    wanted: u64  # bits of the masks that the path maps hold: at least one of these must match; 0: any path will do
    unwanted: u64  # none of these may match
    above: i64  # the result must be greater than this
    below: i64  # and less than this
    bits: u64  # one of these must be set in argument `masked`; 0: no matter
    masked: u32
    used: u32  # bit n: the call has an argument n
    narrow: u32  # bit n: of argument n 32 bits count
    checked: u32  # bit n: look up argument n in `verdicts`; bit CHECK_RESULT: the result
    passing: u32  # bit n: a value that is not found there passes
    path: u32  # the argument that is the path, or whose string must match
    ranged: u32  # bit n: argument n, if not found there, must be within its entry of `ranges`
    asked: u32  # 1; there is no event where it is 0
    kinds: u8[8]  # by argument: KIND_*; the last is EXTRA_*


CHECK_RESULT = 6


# --- events that are named by the user (programs.generic) --------------------------------

PIECES = 32
"""Pieces that such an event may have: tracepoints have 20 fields at most, functions fewer arguments."""

BYTES_MAX = 256
"""Bytes kept of a buffer or structure."""

PIECE_NUMBER, PIECE_KEPT, PIECE_RESULT, PIECE_SIGNED_RESULT = range(4)
PIECE_STRING, PIECE_PATH, PIECE_DENTRY, PIECE_BYTES, PIECE_CONSTANT = range(4, 9)
PIECE_KIND = 0x0F
# Added: what is at the place is not the value, but tells in 16 bits each where it is, from the start of the
# tracepoint's record or from behind these words, and how many bytes it has.
PIECE_FROM_START, PIECE_FROM_HERE = 0x10, 0x20
PIECE_LOCATED = PIECE_FROM_START | PIECE_FROM_HERE


class Piece(Struct):
    """A value, and the way to it from a program's context.

    Without ``steps`` it is ``offsets[0]`` bytes into the context. Each step reads a pointer, at ``offsets[0]``,
    ``offsets[1]``, ``offsets[2]``, and the value is ``offsets[3]`` bytes behind the last one.
    """

    kind: u8  # PIECE_*: PIECE_KEPT is a number that goes into a field too, PIECE_PATH a struct path;
    # PIECE_CONSTANT is offsets[0] itself
    arg: u8
    steps: u8  # pointers on the way, at most 3
    length: u8  # the argument that tells the size, ARGS or more for none
    size: u32  # bytes of a number; the most that is kept of anything else
    offsets: i32[4]


TABLES = 256
TABLE_PIECES = 8


class Table(Struct):
    """The pieces of one of many events that a program makes."""

    event: u32
    count: u32
    pieces: Piece[TABLE_PIECES]


class Tables(Struct):
    """By the cookie of the place that the program is attached to."""

    tables: Table[TABLES]


class ValueKey(Struct):
    """Key of the map of verdicts on single values."""

    event: u32
    slot: u32  # the argument's place, or CHECK_RESULT
    value: u64
