"""Memory stays what it is, however many processes, paths and results there are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each record is of another process, with another path and result: nothing of it comes again.
CODE = """
import sys
sys.path[:0] = [ROOT, TESTS]
from struct import pack_into
from fake_records import EVENTS, NAMES, record
from bfer import expr
from bfer.catalogue import Catalogue
from bfer.event import Decoder
from bfer.output.sink import renderer
from bfer.pushdown import push_down
from bfer.records import split
from bfer.residual import Residual

def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4

def batches(count):
    for start in range(0, count, 256):
        made = []
        for n in range(start, start + 256):
            raw = bytearray(record(path=b"/tmp/%d/%d" % (n, n % 7), pid=n & 0x3FFFFF, result=n))
            made.append(bytes(raw))
        yield made

def go(count):
    for batch in batches(count):
        rows = [part for raw in batch for part in split(raw)]
        for one in renderers:
            one.lines(rows, 0)
        residual.keep(rows)
        [event.args for event in decoder.decode(rows, 0)]

catalogue = Catalogue("x86_64")
plan = push_down(expr.parse(["openat.pathname=*7*", "openat.flags!=*RDWR*"], catalogue))
residual = Residual(plan.residual, EVENTS, NAMES)
decoder = Decoder(EVENTS, NAMES, False)
formats = ["json", "xml", "csv", "table", "table-verbose", "template={processId} {args.pathname}"]
renderers = [renderer(name, set(), EVENTS, NAMES) for name in formats]
go(6144)
before = rss()
go(12288)
print(rss() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc to tell of memory")
def test_caches_are_bounded() -> None:
    code = CODE.replace("ROOT", repr(str(ROOT))).replace("TESTS", repr(str(ROOT / "tests" / "bfer")))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # One copy of what 12,288 such events are is more than 10 MB in each of the caches.
    assert int(done.stdout) < 6000, f"{done.stdout} kB more"
