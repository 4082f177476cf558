"""A slice of the mutated blobs of ``hostile``, and changes that hypothesis thinks of."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

from hostile import Case, run, samples, steps
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from btf.errors import BtfError

ROOT = Path(__file__).parents[2]
BLOBS = int(os.environ.get("BFER_HOSTILE_BLOBS", "400"))


def test_mutated_blobs() -> None:
    seen, complaints = run(0, BLOBS)
    assert not complaints, "\n".join(complaints[:5])
    # Some get through to the answers, most do not.
    for step in ("reader", "table", "target", "minimize", "dump", "c", "show", "diff", "dedup", "write", "sanitise"):
        assert seen[f"{step}: answer"] > BLOBS // 10, step
        assert seen[f"{step}: error"] > BLOBS // 10, step


def test_within_64_megabytes() -> None:
    """In a process of its own, whose address space is limited."""
    words = [sys.executable, "-m", "tests.btf.hostile", "60", "100000"]
    got = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert got.returncode == 0, got.stdout + got.stderr
    assert "60 blobs: nothing but answers and our errors" in got.stdout


CASE: tuple[Case, list[bytes]] = samples(1)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    which=st.integers(0, 4),
    edits=st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 0xFFFFFFFF)), max_size=6),
    end=st.integers(0, 4096),
)
def test_words_and_ends_by_hypothesis(which: int, edits: list[tuple[int, int]], end: int) -> None:
    case, blobs = CASE
    data = bytearray(blobs[which])
    for at, word in edits:
        at = at % (len(data) // 4) * 4
        data[at : at + 4] = word.to_bytes(4, sys.byteorder)
    changed = bytes(data[: max(len(data) - end % 64, 1)] if end % 3 == 0 else data)
    errors = []
    for step in steps(changed, blobs[which], case, random.Random(end)).values():
        try:
            step()
        except BtfError as error:
            errors.append(str(error))
    assert "\n" not in "".join(errors)
