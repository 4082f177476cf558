"""CO-RE against libbpf on generated cases: the same patched instructions, or the same refusal."""

from __future__ import annotations

import os

import pytest
from core_oracle import RULES, run
from libbpf import Libbpf

from btf.core_spec import KIND_LABELS

# The kernel has to take a probing program, or libbpf gives up before it relocates.
pytestmark = pytest.mark.native

CASES = int(os.environ.get("BFER_CORE_CASES", "1500"))


@pytest.fixture(autouse=True)
def _installed() -> None:
    try:
        Libbpf().close()
    except OSError as error:
        pytest.skip(f"libbpf is not installed: {error}")


def test_patched_instructions_equal_those_of_libbpf() -> None:
    seen, complaints = run(0, CASES)
    assert not complaints, "\n\n".join(complaints[:5])
    # The known differences are rare, or they would hide others.
    assert seen["truncated"] + seen["element"] <= CASES // 100
    # The cases are about something: each kind, each outcome, each rule that refuses.
    scarce = {name: seen[name] for name in ("failed", "unchanged", "patched", *KIND_LABELS) if seen[name] < CASES // 20}
    assert not scarce
    assert not [rule for rule in RULES if seen[rule] < 5]
