"""What events cost the tracer: CPU seconds per million of them, by format, with a look at every line.

    sudo python3 benchmarks/bench_events.py [ROUNDS [RATE [EVENTS]]]

A process opens files under names that all differ, RATE times a second; bfer writes the events to /dev/null. The
figure is the CPU time of the whole tracer from being attached to its end, reading, rendering and
writing included, per million events that arrived; minimum and median of the rounds. Then each format writes
once to a file, and every line is checked: JSON is parsed, and each name must be there as often as it was opened.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.workload import Bfer, Made, Workload, lost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FORMATS = ("none", "json", "table", "csv", "xml")


def trace(load: Workload, format: str, rate: int, seconds: float, output: str = os.devnull) -> tuple[Made, int, float]:
    """What was made, how much of it was lost, and the tracer's CPU seconds."""
    tracer = Bfer(f"pid={load.pid}", "event=openat", "--output", format, "--buffer", "8M", output=output)
    made = load.run("pace", rate, seconds)
    cpu, said = tracer.stop()
    return made, sum(lost(said).values()), cpu


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
    seconds = events / rate
    costs: dict[str, list[float]] = {format: [] for format in FORMATS}
    losses = dict.fromkeys(FORMATS, 0)
    with Workload() as load, tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for _ in range(rounds):
            for format in FORMATS:
                made, missing, cpu = trace(load, format, rate, seconds)
                costs[format].append(cpu / max(made.calls - missing, 1) * 1e6)
                losses[format] += missing
        checked = {}
        for format in FORMATS[1:]:
            path = os.path.join(folder, format)
            made, missing, _ = trace(load, format, rate, seconds, path)
            checked[format] = check(format, path, made.calls - missing)
            os.unlink(path)
    print(f"{'CPU s per million events':26} {'min':>6} {'median':>7} {'lost':>8}")
    for format, figures in costs.items():
        print(
            f"{format:26} {min(figures):6.3f} {statistics.median(figures):7.3f} {losses[format]:8}"
            f"  {checked.get(format, '')}"
        )


if __name__ == "__main__":
    main()
