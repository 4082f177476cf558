"""The checks that every guest runs, on the kernel at hand."""

from __future__ import annotations

import pytest

from tests.guests import checks

pytestmark = pytest.mark.native

ALL = [check for subject in checks.subjects() for check in checks.load(subject)]


@pytest.mark.parametrize("check", ALL, ids=lambda check: check.name)
def test_check(check: checks.Check) -> None:
    result = checks.run(check)
    if result.outcome == checks.SKIP:
        pytest.skip(result.reason)
    assert result.outcome == checks.PASS, result.reason
