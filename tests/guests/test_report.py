"""What a table of guests says, from reports made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from bfer.docs import KERNELS
from tests.guests import eventtable, kept, pages
from tests.guests.checks import FAIL, PASS, SKIP, Result
from tests.guests.report import Report, losses, tables


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


def test_guests_that_are_booted_by_hand_have_a_table_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made of all of their runs: some checks that are run again replace what is known of these."""
    monkeypatch.setattr(pages, "TREE", tmp_path)
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs/kernels.md"
    page.write_text(f"# Kernels\n{pages.CHECKS}old\n\n## By hand\n\n{pages.BY_HAND}")

    def run(name: str, some: bool, release: str = "6.12.0", **outcomes: str) -> None:
        report = Report(name)
        report.release = release
        report.results = {
            f"maps.{what}": Result(f"maps.{what}", outcome, "", 0.0) for what, outcome in outcomes.items()
        }
        pages.write({name: report}, some)

    run("armhf-5.10", False, arrays=PASS)
    run("riscv64-6.12", False, arrays=FAIL, hashes=PASS)
    run("riscv64-6.12", True, arrays=PASS)
    text = page.read_text()
    assert text.startswith(f"# Kernels\n{pages.CHECKS}old\n\n## By hand\n\n{pages.BY_HAND}\n|")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| maps")]
    assert rows == [["maps.arrays", "yes", "yes"], ["maps.hashes", "yes", "not run"]]
    run("riscv64-6.12", False, hashes=PASS)  # a run of all says what there is
    assert "| maps.arrays | not run      | yes        |" in page.read_text()
    run("riscv64-6.12", True, release="6.12.1", arrays=PASS)  # nothing is known of another kernel
    assert "| maps.hashes |" not in page.read_text()
    by_hand = page.read_text().partition("## By hand")[2]
    pages.write({"6.1": Report("6.1")})
    assert "old" not in page.read_text()
    assert page.read_text().partition("## By hand")[2] == by_hand


def test_a_table_is_read_back() -> None:
    old, new = Report("arm64-6.12"), Report("arm64-6.12-musl")
    old.release, new.release = "6.12.0", "6.12.1"
    old.results = {"maps.a": Result("maps.a", PASS, "", 0.0), "maps.b": Result("maps.b", SKIP, "one. or [2]", 0.0)}
    new.results = {"maps.c": Result("maps.c", FAIL, "checks.py:1: no", 0.0), "maps.b": old.results["maps.b"]}
    old.figures, new.figures = {"peak, kB": "1"}, {"MemTotal, kB": "2"}
    text = tables({"arm64-6.12": old, "arm64-6.12-musl": new})
    assert tables(kept.read(text)) == text
    assert kept.read("") == {}


def test_what_was_lost_is_read_back() -> None:
    check = "maps.arrays"
    text = tables(reported(**{"5.10": (check, PASS), "6.12": (check, SKIP)}))
    assert "LOST" in text
    assert tables(kept.read(text)) == text


def test_the_page_is_read_back() -> None:
    text = pages._after("kernels.md", pages.BY_HAND)
    assert len(kept.read(text)) > 3
    assert tables(kept.read(text)).strip() == text.strip()
