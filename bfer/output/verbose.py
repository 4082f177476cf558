"""The table with Tracee's columns for host names, containers, namespaces and parents."""

from __future__ import annotations

from bfer import escape
from bfer.output.table import Table
from bfer.records import Block

_WHO = "%-17s %-13s %-12s %-12s %-6s %-16s %-7s %-7s %-7s "


class Verbose(Table):
    __slots__ = ()

    header = b"%-16s %s%-16s %-20s %s\n" % (
        b"TIME",
        (_WHO % ("UTS_NAME", "CONTAINER_ID", "MNT_NS", "PID_NS", "UID", "COMM", "PID", "TID", "PPID")).encode(),
        *(b"RET", b"EVENT", b"ARGS"),
    )

    def _context(self, block: Block) -> str:
        comm, node = (escape.for_table(name).decode() for name in (block.comm, block.node))
        return _WHO % (
            *(node, "", block.mnt_ns, block.pid_ns),
            *(block.uid, comm, block.pid, block.tid, block.ppid),
        )
