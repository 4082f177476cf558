"""What guests outside of continuous integration showed: a table made of several runs, read back for the next one."""

from __future__ import annotations

import re

from tests.guests.checks import Result
from tests.guests.matrix import GUESTS, USUAL
from tests.guests.report import LOST, MARKS, NATIVE, Report

_NOTE = re.compile(r"(\d+)\. (.*)")


def by_hand(name: str) -> bool:
    """Whether a machine is booted by those alone who ask for it."""
    return name not in (*USUAL, NATIVE)


def merged(known: dict[str, Report], ran: dict[str, Report], some: bool) -> dict[str, Report]:
    """All that is known after more runs, in the usual order of machines.

    One of ``some`` checks replaces what is known of these, if the kernel is the same.
    """
    found = dict(known)
    for name, report in ran.items():
        if report.unavailable or not by_hand(name):
            continue
        before = known.get(name)
        if not some or before is None or before.release != report.release:
            before = Report(name)
        found[name] = after = Report(name)
        after.release = report.release
        after.results = {**before.results, **report.results}
        after.figures = {**before.figures, **report.figures}
    return {name: found[name] for name in GUESTS if name in found}


def read(text: str) -> dict[str, Report]:
    """The reports that report.tables() made this text of; how long a check took is not in it."""
    lines = text.splitlines()
    notes = {found[1]: found[2].rstrip() for line in lines if (found := _NOTE.fullmatch(line))}
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    heads = [at for at, row in enumerate(rows) if not row[0]]
    if not heads:
        return {}
    reports = [Report(name) for name in rows[0][1:]]
    for report, release in zip(reports, rows[1][1:]):
        report.release = release
    # The names of the machines head both tables, and their releases are a line of the first.
    figures = heads[2] if len(heads) > 2 else len(rows)
    for name, *cells in rows[2:figures]:
        for report, cell in zip(reports, cells):
            if cell != "not run":
                report.results[name] = _result(name, cell, notes)
    for name, *cells in rows[figures + 1 :]:
        for report, cell in zip(reports, cells):
            if cell:
                report.figures[name] = cell
    return {report.name: report for report in reports}


def _result(name: str, cell: str, notes: dict[str, str]) -> Result:
    mark, _, number = cell.partition(" [")
    reason = notes.get(number.rstrip("]"), "")
    if mark == LOST:
        mark, reason = "no", reason.partition(" skips: ")[2]
    return Result(name, next(outcome for outcome, shown in MARKS.items() if shown == mark), reason, 0.0)
