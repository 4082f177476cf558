"""The two sides of a CO-RE relocation, for the tests that build them by hand."""

from __future__ import annotations

import pytest
from core_sides import Side


@pytest.fixture
def local() -> Side:
    return Side()


@pytest.fixture
def target() -> Side:
    return Side()
