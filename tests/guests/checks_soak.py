"""The default set, system-wide, under a workload of small programs: memory stays what it is, and nothing is lost.

``BFER_SOAK`` is how many seconds it goes on; ``python -m tests.guests.soak`` runs it for ten minutes in the small
guest.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

from tests.guests.checks import check, equal, figure, in_guest, skip
from tests.guests.checks_trace import BFER, Folder, skip_where_it_cannot_run

SECONDS = int(os.environ.get("BFER_SOAK", "20"))
WARM_UP = min(60, SECONDS // 2)
RSS_MAX = 14 * 1024  # kB, on the small firmware
# What a run may take more after the warm-up: pages that the allocator touches for the first time.
SLACK = 192 if SECONDS >= 120 else 1024

# Files come and go, programs start and end, every path is a new one.
WORKLOAD = """
cd $1; n=0
while [ ! -e stop ]; do
    n=$((n + 1))
    mkdir d$n; echo $n >d$n/f$n; cat d$n/f$n >/dev/null; cp d$n/f$n d$n/g$n; mv d$n/g$n d$n/h$n; ln -s f$n d$n/s$n
    chmod 600 d$n/h$n; ls -l d$n >/dev/null; echo $n | sed s/1/2/ | grep -q 2; rm -r d$n
done
echo $n >rounds
"""


def memory_of(pid):
    """VmRSS and VmHWM in kB."""
    found = {}
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name in ("VmRSS", "VmHWM"):
                found[name] = int(value.split()[0])
    return found["VmRSS"], found["VmHWM"]


class Lines(threading.Thread):
    """Reads what bfer prints, and counts it."""

    def __init__(self, pipe):
        super().__init__()
        self.pipe = pipe
        self.count = 0
        self.first = threading.Event()

    def run(self):
        while data := os.read(self.pipe.fileno(), 65536):
            self.count += data.count(b"\n")
            self.first.set()


@check(timeout=float(3 * SECONDS + 60))
def check_steady_memory():
    from bfer.machine import is_small

    if "BFER_SOAK" not in os.environ and not is_small():
        skip("this machine has more than 128 MB: the soak is about small ones (BFER_SOAK=SECONDS runs it anyway)")
    # Where others use the kernel too, only what the check starts is traced.
    who = [] if in_guest() else [f"tree={os.getpid()}", "set=default"]
    with Folder() as folder, open(f"{folder}/errors", "w+") as errors:
        tracer = subprocess.Popen([*BFER, "trace", *who, "-o", "json"], stdout=subprocess.PIPE, stderr=errors)
        lines = Lines(tracer.stdout)
        lines.start()
        workload = subprocess.Popen(["sh", "-c", WORKLOAD, "sh", folder])
        try:
            while not lines.first.wait(0.5):
                if tracer.poll() is not None:
                    errors.seek(0)
                    told = errors.read()
                    skip_where_it_cannot_run(tracer.returncode, told)
                    raise AssertionError(told)
            start = time.monotonic()
            samples = []
            while (elapsed := time.monotonic() - start) < SECONDS:
                samples.append((elapsed, *memory_of(tracer.pid)))
                time.sleep(min(1.0, SECONDS / 20))
        finally:
            with open(f"{folder}/stop", "w"):
                pass
            workload.wait()
            tracer.send_signal(signal.SIGTERM)
            status = tracer.wait()
            lines.join()
            tracer.stdout.close()
        with open(f"{folder}/rounds") as file:
            rounds = int(file.read())
        errors.seek(0)
        told = errors.read()
    warm = max(rss for at, rss, _ in samples if at <= WARM_UP)
    later = max(rss for at, rss, _ in samples if at > WARM_UP)
    figure("rounds", rounds)
    figure("events", lines.count)
    figure("RSS warm, kB", warm)
    figure("RSS later, kB", later)
    figure("peak RSS, kB", samples[-1][2])
    equal(status, 0)
    lost = [line for line in told.splitlines() if line.startswith("bfer: lost ")]
    figure("losses told", (lost or ["none"])[-1].partition(" (")[0])
    # The notes tell what this kernel cannot trace; a record without room would be a loss.
    equal([line for line in told.splitlines() if not line.startswith(("bfer: note: ", "bfer: compiling "))], [])
    assert later <= warm + SLACK, f"{warm} kB after {WARM_UP} s, {later} kB later: {samples}"
    if in_guest() and sys.maxsize > 2**32:
        equal(lines.count > 10 * rounds, True)
        if os.environ["BFER_GUEST"] == "5.10-musl":
            assert samples[-1][2] <= RSS_MAX, f"peak of {samples[-1][2]} kB"
