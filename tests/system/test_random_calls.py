"""Every system call of the machine with random arguments: strace and bfer tell the same, argument by argument."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from call_compare import RULES
from call_plan import ON_ENTRY, PASSING, Plan
from random_calls import compare, run

from bfer.catalogue import Catalogue

pytestmark = pytest.mark.native

_ACTIONS = Path("/proc/sys/kernel/seccomp/actions_avail")


@pytest.mark.parametrize("seed", [1, 2])
def test_random_calls(seed: int, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    if not _ACTIONS.exists() or "errno" not in _ACTIONS.read_text().split():
        pytest.skip("the kernel has no seccomp filters")
    machine = os.uname().machine
    plan = Plan(seed, 3000, machine)
    comparison = compare(plan, *run(plan, tmp_path), machine)
    assert comparison.differences == []
    assert comparison.calls == len(plan.calls)
    assert comparison.arguments > 8000
    assert comparison.rules.keys() <= RULES.keys()


def test_plan_has_every_call() -> None:
    for machine in ("x86_64", "aarch64"):
        events = [e for e in Catalogue(machine).events.values() if not e.hooks and not e.is_compat]
        wanted = {event.name for event in events} - {*ON_ENTRY, *PASSING}
        plan = Plan(1, len(events), machine)
        assert {name for name, _, _ in plan.calls} == wanted
        assert plan.calls == Plan(1, len(events), machine).calls
