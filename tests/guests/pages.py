"""What guests have shown, put into the pages that tell of it."""

from __future__ import annotations

from bfer.docs import KERNELS
from tests.guests import eventtable, kept, report
from tests.guests.project import TREE

CHECKS = "<!-- what follows is written by python -m tests.guests --matrix --write -->\n"
BY_HAND = "<!-- what follows is written by python -m tests.guests --matrix KERNEL --write -->\n"


def write(reports: dict[str, report.Report], some: bool = False) -> None:
    """What continuous integration boots: the table of checks if all were run, that of events if ``catalogue`` was.

    What is booted by hand has a table of its own, of all that is known of it.
    """
    usual = {name: one for name, one in reports.items() if not kept.by_hand(name)}
    if usual and not some:
        _put("kernels.md", CHECKS, report.tables(usual))
    if len(usual) < len(reports):
        known = kept.read(_after("kernels.md", BY_HAND))
        _put("kernels.md", BY_HAND, report.tables(kept.merged(known, reports, some)))
    events = eventtable.section(usual)
    if events:
        _put("events.md", KERNELS, events)


def _after(name: str, mark: str) -> str:
    """What stands between the mark and the next heading."""
    return (TREE / "docs" / name).read_text().partition(mark)[2].partition("\n## ")[0]


def _put(name: str, mark: str, text: str) -> None:
    """Replace what stands between the mark and the next heading."""
    page = TREE / "docs" / name
    before, _, after = page.read_text().partition(mark)
    _, heading, rest = after.partition("\n## ")
    page.write_text(before + mark + "\n" + text + heading + rest)
