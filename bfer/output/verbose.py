"""The table with Tracee's columns for host names, containers, namespaces and parents."""

from __future__ import annotations

from bfer import escape
from bfer.output.table import Table, short_id
from bfer.records import Block

_WHO = "%-17s %-13s %-12s %-12s %-6s %-16s %-7s %-7s %-7s "
_BOTH = "%-17s %-13s %-12s %-12s %-6s %-16s %-15s %-15s %-15s "
_NAMES = ("UTS_NAME", "CONTAINER_ID", "MNT_NS", "PID_NS", "UID", "COMM", "PID", "TID", "PPID")


class Verbose(Table):
    __slots__ = ()

    header = b"%-16s %s%-16s %-20s %s\n" % (
        b"TIME",
        (_WHO % _NAMES).encode(),
        *(b"RET", b"EVENT", b"ARGS"),
    )

    def _context(self, block: Block) -> str:
        comm, node = (escape.for_table(name).decode() for name in (block.comm, block.node))
        return _WHO % (
            *(node, short_id(block), block.mnt_ns, block.pid_ns),
            *(block.uid, comm, block.pid, block.tid, block.ppid),
        )


class ContainerVerbose(Verbose):
    """The same where containers are filtered: with numbers inside of the container / outside."""

    __slots__ = ()

    header = b"%-16s %s%-16s %-20s %s\n" % (
        b"TIME",
        (_BOTH % (*_NAMES[:6], "PID/host", "TID/host", "PPID/host")).encode(),
        *(b"RET", b"EVENT", b"ARGS"),
    )

    def _context(self, block: Block) -> str:
        comm, node = (escape.for_table(name).decode() for name in (block.comm, block.node))
        return _BOTH % (
            *(node, short_id(block), block.mnt_ns, block.pid_ns, block.uid, comm),
            *(f"{block.pid}/{block.host_pid}", f"{block.tid}/{block.host_tid}", f"{block.ppid}/{block.host_ppid}"),
        )
