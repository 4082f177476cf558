"""The guests' results as a table at the end of the run."""

from __future__ import annotations

import pytest

from tests.guests.test_in_guests import TABLE


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if TABLE:
        terminalreporter.section("guests")
        for line in TABLE:
            terminalreporter.write_line(line)
