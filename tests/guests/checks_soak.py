"""The default set under a workload of small programs: memory stays what it is, and nothing is lost.

``BFER_SOAK`` is how many seconds it goes on; ``python -m tests.guests.soak`` runs it for ten minutes in the small
guest. A shell drives it: there is no room for another Python beside bfer's where memory is little.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.guests.checks import check, equal, figure, in_guest, skip
from tests.guests.checks_trace import BFER, Folder, skip_where_it_cannot_run

SECONDS = int(os.environ.get("BFER_SOAK", "20"))
RSS_MAX = 14 * 1024  # kB, on the small firmware

# $1 is the folder, $2 the seconds, $3 says whether only what this shell starts is traced; the rest is the tracer.
# Files come and go, programs start and end, every path is a new one. Without its pauses the workload alone would be
# more than an emulated processor can do, and what is lost then says nothing.
SCRIPT = r"""
at=$1; seconds=$2; tree=$3; shift 3
[ -z "$tree" ] || set -- "$@" tree=$$ set=default
{ "$@" 2>$at/errors & echo $! >$at/pid; wait $!; echo $? >$at/status; } |
    { read -r first && echo >$at/ready; wc -l >$at/lines; } &
reader=$!; cd $at
now() { read -r up idle </proc/uptime; now=${up%.*}; }
while [ ! -e ready ] && [ ! -e status ]; do sleep 1; done
n=0; while [ ! -e stop ]; do
    n=$((n + 1))
    mkdir d$n; echo $n >d$n/f$n; cat d$n/f$n >/dev/null; cp d$n/f$n d$n/g$n; mv d$n/g$n d$n/h$n; ln -s f$n d$n/s$n
    chmod 600 d$n/h$n; ls -l d$n >/dev/null; echo $n | sed s/1/2/ | grep -q 2; rm -r d$n
    echo $n >rounds; sleep 0.5
done &
workload=$!
read -r pid <pid; now; start=$now
while [ $((now - start)) -lt $seconds ] && [ ! -e status ]; do
    while read -r name kb unit; do
        case $name in RssAnon:) own=$kb;; VmHWM:) peak=$kb;; esac
    done </proc/$pid/status
    echo "@sample $((now - start)) $own $peak"
    sleep 1; now
done
echo >stop; wait $workload; kill $pid; wait $reader
while read -r status; do echo "@status $status"; done <status
while read -r count; do echo "@events $count"; done <lines
while read -r count; do echo "@rounds $count"; done <rounds
while read -r line; do echo "@told $line"; done <errors
"""


class Soak:
    """What the script printed: ``samples``, ``told`` (what bfer said), and counts.

    A sample is the second, bfer's own memory and the peak of its RSS, in kB. RSS has pages of files as well, which
    the kernel takes away where memory is short and which come back when they are read: growth does not show in it.
    """

    def __init__(self, output):
        rows = [line.split(" ", 1) for line in output.replace("\r", "").splitlines() if line.startswith("@")]
        counts = {name: int(rest) for name, rest in rows if name in ("@status", "@events", "@rounds")}
        self.status, self.events, self.rounds = (counts.get(name, -1) for name in ("@status", "@events", "@rounds"))
        self.samples = [tuple(map(int, rest.split())) for name, rest in rows if name == "@sample"]
        self.told = [rest for name, rest in rows if name == "@told"]

    def judge(self, seconds, peak=0):
        """Tell the figures. Raises AssertionError; ``peak`` bounds the RSS, in kB, if given."""
        assert (self.status, self.samples != []) == (0, True), (self.status, self.told)
        warm_up = min(60, seconds // 2)
        # What a run may take more after the warm-up: pages that the allocator touches for the first time, and where
        # memory is not short, caches of thousands of lines that fill up for minutes.
        slack = 8192 if not peak else 192 if seconds >= 120 else 1024
        warm = max(own for at, own, _ in self.samples if at <= warm_up)
        later = max(own for at, own, _ in self.samples if at > warm_up)
        lost = [line for line in self.told if line.startswith("bfer: lost ")]
        figure("rounds", self.rounds)
        figure("events", self.events)
        figure("own memory warm, kB", warm)
        figure("own memory later, kB", later)
        figure("peak RSS, kB", self.samples[-1][2])
        figure("losses told", (lost or ["none"])[-1])
        # The notes tell what this kernel cannot trace; a record without room would be a loss.
        equal([line for line in self.told if not line.startswith(("bfer: note: ", "bfer: compiling "))], [])
        assert later <= warm + slack, f"{warm} kB after {warm_up} s, {later} kB later: {self.samples}"
        assert self.events > 10 * self.rounds > 0, (self.events, self.rounds)
        assert not peak or self.samples[-1][2] <= peak, f"peak of {self.samples[-1][2]} kB"


@check(timeout=float(3 * SECONDS + 60))
def check_steady_memory():
    from bfer.machine import is_small

    if "BFER_SOAK" not in os.environ and not is_small():
        skip("this machine has more than 128 MB: the soak is about small ones (BFER_SOAK=SECONDS runs it anyway)")
    with Folder() as folder:
        # Where others use the kernel too, only what the check starts is traced.
        tree = "" if in_guest() else "tree"
        words = ["sh", "-c", SCRIPT, "sh", folder, str(SECONDS), tree, *BFER, "trace", "-o", "json"]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    soak = Soak(done.stdout)
    skip_where_it_cannot_run(soak.status, "".join(f"{line}\n" for line in soak.told))
    firmware = os.environ.get("BFER_GUEST") == "5.10-musl" and sys.maxsize > 2**32
    soak.judge(SECONDS, RSS_MAX if firmware else 0)
