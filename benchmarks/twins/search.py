"""Binary search for a range in a sorted table of one map value."""

from __future__ import annotations

from pybpf.lang import *


class Row(Struct):
    first: u32
    last: u32
    tag: u32


class Table(Struct):
    count: u32
    rows: Row[128]


tables = Array(Table, 1)


@raw_tp("search")
def search(ctx):
    wanted: u32 = ctx.args[0]
    table = tables.lookup(0)
    if not table:
        return 0
    low: u64 = 0
    high: u64 = min(table.count, 128)
    for step in range(8):
        if low >= high:
            break
        middle = (low + high) >> 1
        if middle >= 128:
            break
        row = addr(table.rows[middle])
        if wanted < row.first:
            high = middle
        elif wanted > row.last:
            low = middle + 1
        else:
            return row.tag
    return 0
