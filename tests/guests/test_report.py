"""What a table of guests says, from reports made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from bfer.docs import KERNELS
from tests.guests import eventtable, pages
from tests.guests.checks import PASS, SKIP, Result
from tests.guests.report import Report, losses


def reported(**outcomes: tuple[str, str]) -> dict[str, Report]:
    """Reports of guests: the check that ran in each, and its outcome."""
    found = {}
    for name, (check, outcome) in outcomes.items():
        report = Report(name)
        report.results = {check: Result(check, outcome, "the reason", 0.0)}
        found[name] = report
    return found


def test_what_a_newer_kernel_lacks_is_a_loss() -> None:
    check = "maps.arrays"
    found = losses(reported(**{"6.1": (check, PASS), "7.2": (check, SKIP), "arm64-5.10": (check, SKIP)}))
    assert found == {("7.2", check): "6.1 can, 7.2 skips: the reason"}


def test_what_an_older_kernel_lacks_is_none() -> None:
    check = "maps.arrays"
    assert losses(reported(**{"6.1": (check, SKIP), "7.2": (check, PASS), "arm64-5.10": (check, PASS)})) == {}


def test_roots_that_differ_say_nothing_of_each_other() -> None:
    """The small firmware has a Python that the other roots do not have; the kernel has no part in that."""
    check = "interpreters.statically_linked_python"
    musl = {"5.10-musl": (check, PASS), "5.10": (check, PASS)}
    assert losses(reported(**musl, **{"6.1": (check, PASS), "7.2": (check, SKIP)})).keys() == {("7.2", check)}
    assert losses(reported(**{"5.10-musl": (check, PASS), "6.1": (check, SKIP)})) == {}


def test_the_table_of_events() -> None:
    old, new = Report("5.10-musl"), Report("6.1")
    old.release, new.release = "5.10.0", "6.1.0"
    old.output = (
        "@event\tvfs_read\tkprobe/vfs_read + kretprobe/vfs_read"
        "\tvfs_read: program 'vfs_read' (fexit/vfs_read): the reason\n"
        "@event\tdo_exit\tkprobe/do_exit\tdo_exit: program 'do_exit' (fentry/do_exit): the reason\n"
    )
    new.output = (
        "@event\tvfs_read\tfexit/vfs_read\tkprobe/vfs_read + kretprobe/vfs_read\n@event\tdo_exit\tdo_exit: another\n"
    )
    old.read()
    new.read()
    text = eventtable.section({"5.10-musl": old, "6.1": new})
    assert "| `vfs_read` | kprobe+kretprobe [1] | fexit, kprobe+kretprobe |" in text
    assert "| `do_exit` | kprobe [1] | - [2] |" in text
    assert text.endswith("\n1. the reason\n2. another\n")


def test_pages_keep_what_stands_before_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "TREE", tmp_path)
    (tmp_path / "docs").mkdir()
    events, kernels = tmp_path / "docs/events.md", tmp_path / "docs/kernels.md"
    events.write_text("# Events\n")
    kernels.write_text("# Kernels\n" + pages.CHECKS + "old")
    report = Report("6.1")
    report.output = "@event\tvfs_read\tfexit/vfs_read\n"
    report.read()
    pages.write({"6.1": report}, some=True)
    assert kernels.read_text() == "# Kernels\n" + pages.CHECKS + "old"
    assert events.read_text().startswith("# Events\n" + KERNELS + "\n| event | 6.1 |")
    report.results = {"maps.arrays": Result("maps.arrays", PASS, "", 0.0)}
    pages.write({"6.1": report})
    assert kernels.read_text().startswith("# Kernels\n" + pages.CHECKS + "\n|")
    assert "old" not in kernels.read_text()
    assert events.read_text().count(KERNELS) == 1
