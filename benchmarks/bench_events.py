"""What events cost the tracer: CPU seconds per million of them, by format, with a look at every line.

    sudo python3 benchmarks/bench_events.py [ROUNDS [RATE [EVENTS]]]

A process opens files under names that all differ, RATE times a second; bfer writes the events to /dev/null. The
figure is the CPU time of the whole tracer, reading, rendering, writing, waking and sleeping included, per million
events. It is taken over bursts of 20,000, which the buffer holds whole, so that none is lost; given are the least, the
lower quartile and the median of all bursts: whatever else runs on the machine makes them dearer, never cheaper. Formats
take turns, EVENTS each in a round. Then each format writes
once to a file, and every line is checked: JSON is parsed, and each name must be there as often as it was opened.

On two busy processors (AMD EPYC, Linux 6.18, Python 3.11) the least of 60 bursts was: none 0.24, json 0.61, csv 0.65,
table 0.68, xml 0.70; the quarters are a fifth to a half more.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.workload import Bfer, Made, Workload, lost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FORMATS = ("none", "json", "table", "csv", "xml")
BURST = 20_000


def bursts(load: Workload, format: str, rate: int, count: int) -> list[float]:
    """CPU seconds per million events, of each burst."""
    tracer = Bfer(f"pid={load.pid}", "event=openat", "--output", format, "--buffer", "8M")
    costs = []
    for _ in range(count):
        before = quiet(tracer)
        made = load.run("pace", rate, BURST / rate)
        costs.append((quiet(tracer) - before) / made.calls * 1e6)
    missing = lost(tracer.stop()[1])
    if missing:
        sys.exit(f"lost, although the buffer has room for all of a burst: {missing}")
    return costs


def quiet(tracer: Bfer) -> float:
    """CPU seconds of the tracer so far, once it sleeps."""
    cpu, before = tracer.cpu(), -1.0
    while cpu != before:
        time.sleep(0.05)
        cpu, before = tracer.cpu(), cpu
    return cpu


def trace(load: Workload, format: str, rate: int, seconds: float, output: str) -> tuple[Made, int]:
    """What was made, and how much of it was lost."""
    tracer = Bfer(f"pid={load.pid}", "event=openat", "--output", format, "--buffer", "8M", output=output)
    made = load.run("pace", rate, seconds)
    return made, sum(lost(tracer.stop()[1]).values())


def names(format: str, lines: Iterator[bytes]) -> Iterator[bytes]:
    """The number in each event's path. ValueError where a line is not what the format says."""
    for line in lines:
        if format == "json":
            event = json.loads(line)
            path = next(arg["value"] for arg in event["args"] if arg["name"] == "pathname").encode()
            if event["eventName"] != "openat" or event["returnValue"] != -9:
                raise ValueError(f"another event: {line!r}")
        else:
            if line.count(b"no/such/folder/file") != 1:
                if line.strip() and b"file" in line:
                    raise ValueError(f"not one event in the line {line!r}")
                continue
            path = line[line.index(b"no/such/folder/file") :][:27]
        yield path[-8:]


def check(format: str, path: str, expected: int) -> str:
    with open(path, "rb") as file:
        found = list(names(format, file))
    if format == "xml":
        import xml.etree.ElementTree as tree

        found_in_tree = sum(1 for _, element in tree.iterparse(path) if element.tag == "event")
        if found_in_tree != len(found):
            raise ValueError(f"{found_in_tree} elements, {len(found)} lines")
    if len(found) != expected:
        raise ValueError(f"{format}: {len(found)} events in the file, {expected} expected")
    numbers = list(map(int, found))
    if len(set(numbers)) != len(numbers) or numbers != sorted(numbers):
        raise ValueError(f"{format}: names that come twice, or out of order")
    return f"{len(found)} lines, all as they must be"


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    rate = int(sys.argv[2]) if len(sys.argv) > 2 else 200_000
    events = int(sys.argv[3]) if len(sys.argv) > 3 else 400_000
    costs: dict[str, list[float]] = {format: [] for format in FORMATS}
    with Workload() as load, tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for _ in range(rounds):
            for format in FORMATS:
                costs[format] += bursts(load, format, rate, max(events // BURST, 1))
        checked = {}
        for format in FORMATS[1:]:
            path = os.path.join(folder, format)
            made, missing = trace(load, format, rate, events / rate, path)
            checked[format] = check(format, path, made.calls - missing)
            os.unlink(path)
    print(f"{'CPU s per million events':26} {'least':>6} {'quarter':>8} {'median':>7}")
    for format, figures in costs.items():
        least, quarter = min(figures), statistics.quantiles([*figures, figures[0]], n=4)[0]
        print(f"{format:26} {least:6.3f} {quarter:8.3f} {statistics.median(figures):7.3f}  {checked.get(format, '')}")


if __name__ == "__main__":
    main()
