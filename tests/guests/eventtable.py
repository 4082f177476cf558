"""docs/events.md, its last part: which programs of which event each guest's kernel takes, and why not the others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.guests.report import Report

# What a reason says of the program at hand; what is left is the same for many programs.
_PROGRAM = re.compile(
    r"^program '[^']*' \([^)]*\): |\bof program '[^']*' \([^)]*\)|(?<=rejected) program '[^']*'| \(\d+ lines? omitted\)"
)
_BLANKS = re.compile(r"\s+")


def cell(said: list[str], note: dict[str, int]) -> str:
    """What a guest said of an event, in short: kinds of programs that it took, and by number why not the others."""
    had = [_kinds(one) for one in said if ": " not in one]
    reasons = [one.partition(": ")[2] for one in said if ": " in one]
    marks = [note.setdefault(_BLANKS.sub(" ", _PROGRAM.sub("", reason)), len(note) + 1) for reason in reasons]
    return " ".join([", ".join(dict.fromkeys(had)) or "-", *(f"[{mark}]" for mark in dict.fromkeys(marks))])


def _kinds(way: str) -> str:
    """``fexit+fentry`` of ``fexit/vfs_read + fentry/vfs_read``."""
    return "+".join(section.partition("/")[0] for section in way.split(" + "))


def section(reports: dict[str, Report]) -> str:
    """Markdown, from what the check ``catalogue`` said in each guest; empty if it was run in none."""
    shown = [report for report in reports.values() if report.events]
    if not shown:
        return ""
    notes: dict[str, int] = {}
    lines = [
        ["event", *(report.name for report in shown)],
        ["---"] * (len(shown) + 1),
        ["", *(report.release for report in shown)],
    ]
    for name in dict.fromkeys(name for report in shown for name in report.events):
        told = [report.events.get(name) for report in shown]
        lines.append([f"`{name}`", *("not run" if said is None else cell(said, notes) for said in told)])
    text = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([*text, "", *(f"{number}. {reason}" for reason, number in notes.items())]) + "\n"
