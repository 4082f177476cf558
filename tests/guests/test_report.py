"""What a table of guests says, from reports made by hand."""

from __future__ import annotations

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
