"""What the guests say: one boot (two where memory is small) for all checks; and the table of all."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from tests import kernelfs
from tests.guests.checks import FAIL, PASS, SKIP, Result
from tests.guests.matrix import GUESTS, KNOWN_LOSSES, Unavailable
from tests.guests.project import TREE
from tests.guests.qemu import Machine

TABLE: list[str] = []  # what pytest prints at its end
NATIVE = "native"  # the name of the machine that runs the guests
# With less memory than this the checks' own Python and bfer do not fit side by side: they get a boot of their own.
_ROOM = 128
# Of no use in the kernels that have them built in, missing in others.
_MODULES = ("sch_ingress", "cls_bpf", "veth", "dummy", "algif_hash")
# The checks end within some minutes; machines may be slow, and busy with other guests.
_TIMEOUT = 1800.0

# In the shell: no other Python takes memory beside bfer's. The traced command reads its parent's peak. The
# libc's open() is the system call open or openat, as it likes.
_MEMORY = r"""
figure() {
    while read -r name kb unit; do
        [ $name = $1: ] && printf '@figure\t%s\t%s\n' "$2" $kb
    done <$3
}
if [ -e /sys/kernel/btf/vmlinux ]; then
    figure MemTotal 'MemTotal, kB' /proc/meminfo
    figure MemAvailable 'available before, kB' /proc/meminfo
    read -r started idle </proc/uptime
    { python3 -m bfer trace --quiet --trace 'event=open*' -- sh -c 'cat /etc/passwd >/dev/null
        cat /proc/$PPID/status >/tmp/status; cat /proc/meminfo >/tmp/meminfo'; printf '@figure\tfirst run\t%s\n' $?
    } | while read -r line; do
        case $line in
        *"pathname: /etc/passwd,"*)
            read -r first idle </proc/uptime
            printf '%s\n@figure\tstart\t%s\n@figure\tfirst\t%s\n' "$line" $started $first ;;
        @figure*) printf '%s\n' "$line" ;;
        esac
    done
    figure MemAvailable 'available while tracing, kB' /tmp/meminfo
    figure MemAvailable 'available after, kB' /proc/meminfo
    figure VmHWM 'peak, kB' /tmp/status
fi
"""
_CHECKS = "python3 -m tests.guests.checks"


class Report:
    """What one guest said. ``results``, ``figures`` and ``events`` by name; ``unavailable``: why there was no guest."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.unavailable = ""
        self.release = ""
        self.results: dict[str, Result] = {}
        self.figures: dict[str, str] = {}
        self.events: dict[str, list[str]] = {}  # ways that were had, and "WAY: REASON" of the others
        self.status = 255
        self.output = self.log = ""
        self.seconds = 0.0  # from the start to the end, with fetching if there was any

    def read(self) -> None:
        """Take results and figures out of the output."""
        for line in self.output.splitlines():
            words = line.split("\t")
            if words[0] == "@check" and len(words) == 5:
                self.results[words[1]] = Result(words[1], words[2], words[4], float(words[3]))
            elif words[0] == "@figure" and len(words) == 3:
                self.figures[words[1]] = words[2]
            elif words[0] == "@event":
                self.events[words[1]] = words[2:]
        if "first" in self.figures:
            seconds = float(self.figures.pop("first")) - float(self.figures.pop("start"))
            self.figures["first event after, s"] = f"{seconds:.1f}"

    def whole(self) -> str:
        return f"{self.name}: exit status {self.status}\n{self.output[-6000:]}\n{self.log[-3000:]}"


def boot(
    name: str,
    archive: Path,
    wanted: Iterable[str] = (),
    echo: Callable[[bytes], object] | None = None,
) -> Report:
    """Run the checks in a guest, or natively: ``wanted`` ones, by default all.

    ``echo`` gets what they print, as they print it.
    """
    report = Report(name)
    chunks: list[bytes] = []

    def output(data: bytes) -> None:
        chunks.append(data)
        if echo is not None:
            echo(data)

    command = " ".join([_CHECKS, *wanted])
    started = time.monotonic()
    try:
        if name == NATIVE:
            report.release = os.uname().release
            report.status = _natively(command, output)
        else:
            _in_guest(report, command, output, archive, measure=not wanted)
    except Unavailable as error:
        report.unavailable = str(error)
    report.seconds = time.monotonic() - started
    report.output = b"".join(chunks).decode("utf-8", "replace").replace("\r", "")
    report.read()
    return report


def _in_guest(report: Report, command: str, output: Callable[[bytes], object], archive: Path, measure: bool) -> None:
    machine = Machine(GUESTS[report.name])
    report.release = machine.kernel.release
    small = machine.guest.memory < _ROOM
    if measure and small:
        report.status, report.log = machine.run(_MEMORY, output, archive=archive, timeout=_TIMEOUT)
    elif measure:
        command = _MEMORY + command
    if small:
        machine.guest = replace(machine.guest, memory=_ROOM)
    report.status, report.log = machine.run(
        command, output, archive=archive, wanted=_MODULES, optional=True, timeout=_TIMEOUT
    )


def _natively(command: str, output: Callable[[bytes], object]) -> int:
    kernelfs.provide()
    words = [sys.executable, *command.split()[1:]]
    process = subprocess.Popen(words, cwd=TREE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    with process.stdout:
        while chunk := os.read(process.stdout.fileno(), 65536):
            output(chunk)
    return process.wait()


def troubles(report: Report) -> list[str]:
    """What went wrong in a guest that was there: failed checks, subjects without a result, an early end."""
    if report.unavailable:
        return []
    bad = [f"{result.name}: {result.reason}" for result in report.results.values() if result.outcome == FAIL]
    if report.status not in (0, 1) or (report.status and not bad):
        last = (report.log.strip().splitlines() or ["no kernel log"])[-1]
        bad.append(f"the checks ended with status {report.status}; the kernel's last line: {last}")
    if report.figures.get("first run", "0") != "0":
        bad.append(f"bfer trace ended with status {report.figures['first run']}")
    if report.name != NATIVE and "peak, kB" in report.figures and "first event after, s" not in report.figures:
        bad.append("bfer trace did not print the event")
    return bad


# --- the table ------------------------------------------------------------------------


# Their checks look at what the guest is made of, not its kernel: only guests with the same root say something of each
# other.
_OF_THE_ROOT = ("interpreters", "soak")


def losses(reports: dict[str, Report]) -> dict[tuple[str, str], str]:
    """What a newer kernel skipped although an older one of the same architecture passed it, without a known reason."""
    found = {}
    for name, report in reports.items():
        if name == NATIVE:
            continue
        guest = GUESTS[name]
        older = [
            other
            for other in reports.values()
            if other.name != NATIVE and GUESTS[other.name].arch == guest.arch
            if GUESTS[other.name].version < guest.version
        ]
        for check, result in report.results.items():
            rooted = check.partition(".")[0] in _OF_THE_ROOT
            alike = [other for other in older if not rooted or GUESTS[other.name].root == guest.root]
            had = [other.name for other in alike if check in other.results and other.results[check].outcome == PASS]
            if result.outcome == SKIP and had and (name, check) not in KNOWN_LOSSES:
                found[name, check] = f"{', '.join(had)} can, {name} skips: {result.reason}"
    return found


MARKS = {PASS: "yes", SKIP: "no", FAIL: "FAIL"}
LOST = "LOST"


def tables(reports: dict[str, Report]) -> str:
    """Markdown: checks by guest, the reasons of what was skipped or failed, and the figures."""
    shown = [report for report in reports.values() if not report.unavailable]
    lost = losses(reports)
    names = list(dict.fromkeys(name for report in shown for name in report.results))
    names.sort(key=lambda name: name.partition(".")[0])
    notes: dict[str, int] = {}
    rows = []
    for name in names:
        cells = []
        for report in shown:
            result = report.results.get(name)
            cell = "not run" if result is None else MARKS[result.outcome]
            if result is not None and (name_lost := lost.get((report.name, name))):
                cell, reason = LOST, name_lost
            else:
                reason = "" if result is None else result.reason
            if reason:
                cell += f" [{notes.setdefault(reason, len(notes) + 1)}]"
            cells.append(cell)
        rows.append([name, *cells])
    out = _table(["", *(report.name for report in shown)], [["", *(report.release for report in shown)], *rows])
    out += ["", *(f"{number}. {reason}  " for reason, number in notes.items())]
    figures = list(dict.fromkeys(name for report in shown for name in report.figures))
    if figures:
        rows = [[name, *(report.figures.get(name, "") for report in shown)] for name in figures]
        out += ["", *_table(["", *(report.name for report in shown)], rows)]
    out += [f"\n{report.name}: NOT RUN: {report.unavailable}" for report in reports.values() if report.unavailable]
    return "\n".join(out) + "\n"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in (head, *rows)]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines
