"""What the guests outside of continuous integration showed, kept in the cache: their table is made of several runs."""

from __future__ import annotations

import json
from pathlib import Path

from tests.guests.checks import Result
from tests.guests.matrix import GUESTS, USUAL, cache
from tests.guests.report import NATIVE, Report


def by_hand(name: str) -> bool:
    """Whether a machine is booted by those alone who ask for it."""
    return name not in (*USUAL, NATIVE)


def keep(report: Report, some: bool) -> None:
    """Keep what a run showed. One of ``some`` checks replaces what is known of these, if the kernel is the same."""
    if report.unavailable:
        return
    before = _load(report.name) if some else None
    if before is None or before.release != report.release:
        before = Report(report.name)
    results = {**before.results, **report.results}
    known = {
        "release": report.release,
        "results": {name: [one.outcome, one.reason, one.seconds] for name, one in results.items()},
        "figures": {**before.figures, **report.figures},
    }
    path = _path(report.name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(known, indent=1))


def kept() -> dict[str, Report]:
    """What is known of the machines that are booted by hand, in their usual order."""
    found = {name: _load(name) for name in GUESTS if by_hand(name)}
    return {name: report for name, report in found.items() if report is not None}


def _path(name: str) -> Path:
    return cache() / "shown" / f"{name}.json"


def _load(name: str) -> Report | None:
    try:
        known = json.loads(_path(name).read_text())
    except FileNotFoundError:
        return None
    report = Report(name)
    report.release, report.figures = known["release"], known["figures"]
    report.results = {name: Result(name, *one) for name, one in known["results"].items()}
    return report
