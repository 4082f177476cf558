"""The guests' results as a table at the end of the run."""

from __future__ import annotations

import pytest

from tests.guests import report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if report.TABLE:
        terminalreporter.section("guests")
        for line in report.TABLE:
            terminalreporter.write_line(line)
