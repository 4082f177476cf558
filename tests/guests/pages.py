"""What guests have shown, put into the pages that tell of it."""

from __future__ import annotations

from bfer.docs import KERNELS
from tests.guests import eventtable, report
from tests.guests.project import TREE

CHECKS = "<!-- what follows is written by python -m tests.guests --matrix --write -->\n"


def write(reports: dict[str, report.Report], some: bool = False) -> None:
    """The table of checks if all were run, that of events if the subject ``catalogue`` was."""
    if not some:
        _put("kernels.md", CHECKS, report.tables(reports))
    events = eventtable.section(reports)
    if events:
        _put("events.md", KERNELS, events)


def _put(name: str, mark: str, text: str) -> None:
    page = TREE / "docs" / name
    page.write_text(page.read_text().partition(mark)[0] + mark + "\n" + text)
