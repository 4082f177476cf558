"""bfer, and tests of the tree, in guests with other kernels.

Every guest boots once for all checks of bfer and, with pytest in its root, once more
for tests of the tree; as many guests run side by side as there are processors.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from . import inside, project
from .matrix import GUESTS, USUAL, Unavailable
from .qemu import Machine

pytestmark = pytest.mark.guest

TABLE: list[str] = []  # printed at the end
PEAK_RSS = 12 * 1024  # kB, on the small firmware
# 5.10 lacks what bfer's tp_btf programs need, so that the raw_tp family is taken there.
FAMILIES = {name: "tp_btf" if "5.10" not in name else "__raw_tp" for name in GUESTS}
SUITE = ("tests/loader/test_loader_native.py", "tests/loader/test_privilege.py")
SUITE_GUESTS = [name for name in USUAL if GUESTS[name].root == "glibc"]

# In the shell first: no other Python takes memory beside bfer's. The traced command reads its parent's peak.
MEMORY = r"""
figure() {
    while read -r name kb unit; do
        [ $name = $1: ] && echo "{\"figure\": \"$2\", \"value\": $kb}"
    done <$3
}
figure MemTotal 'MemTotal, kB' /proc/meminfo
figure MemAvailable 'available before, kB' /proc/meminfo
python3 -m bfer trace --quiet 'event=open*' --output json:/tmp/first -- \
    sh -c 'cat /etc/passwd >/dev/null; cat /proc/$PPID/status >/tmp/status; cat /proc/meminfo >/tmp/meminfo'
echo "{\"figure\": \"first run\", \"value\": $?}"
figure MemAvailable 'available while tracing, kB' /tmp/meminfo
figure MemAvailable 'available after, kB' /proc/meminfo
figure VmHWM 'VmHWM, kB' /tmp/status
echo "{\"figure\": \"events of the first run\", \"value\": $(grep -c '"/etc/passwd"' /tmp/first)}"
"""
CHECKS = "python3 /project/inside.py"


class Report:
    """What one guest said: ``checks`` name to reason ("" for passed), ``figures`` name to value; or why nothing."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.unavailable = ""
        self.release = ""
        self.checks: dict[str, str] = {}
        self.figures: dict[str, object] = {}
        self.status = 255
        self.output = self.log = ""

    def read(self) -> None:
        for line in self.output.splitlines():
            if line.startswith("{"):
                try:
                    words = json.loads(line)
                except ValueError:
                    continue
                if "check" in words:
                    self.checks[words["check"]] = "" if words["ok"] else words["why"]
                else:
                    self.figures[words["figure"]] = words["value"]

    def whole(self) -> str:
        return f"{self.name}: exit status {self.status}\n{self.output[-6000:]}\n{self.log[-3000:]}"


def _boot(name: str, command: str, archive: Path | None, tests: bool) -> Report:
    report = Report(name)
    try:
        machine = Machine(GUESTS[name])
        report.release = machine.kernel.release
        chunks: list[bytes] = []
        if not tests:
            report.status, report.log = machine.run(command, chunks.append, archive=archive, timeout=300)
            # The checks' own Python and bfer side by side need more than the smallest guest has.
            machine.guest = replace(machine.guest, memory=max(machine.guest.memory, 128))
            command = CHECKS
        report.status, report.log = machine.run(command, chunks.append, archive=archive, tests=tests, timeout=600)
        report.output = b"".join(chunks).decode("utf-8", "replace").replace("\r", "")
        report.read()
    except Unavailable as error:
        report.unavailable = str(error)
        print(f"guest {name}: {error}", file=sys.stderr)
    return report


def _wanted(request: pytest.FixtureRequest, function: str) -> list[str]:
    """The guests of the tests that were selected, the slow ones first."""
    chosen = {item.callspec.params["name"] for item in request.session.items if item.name.startswith(function)}
    return sorted(chosen, key=lambda name: (not name.startswith("arm64"), list(GUESTS).index(name)))


@pytest.fixture(scope="session")
def reports(request: pytest.FixtureRequest) -> dict[tuple[str, str], Report]:
    """All guests' reports. One fixture boots them all, so that they share the processors well."""
    jobs = [(name, "suite") for name in _wanted(request, "test_the_trees_own_tests")]
    jobs += [(name, "bfer") for name in _wanted(request, "test_bfer")]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        archive = None
        try:
            archive = project.make_archive(Path(folder) / "bfer.pyz")
        except Unavailable as error:
            pytest.skip(str(error))
        suite = "cd tree && PYTHONPATH= python3 -m pytest -q -p no:cacheprovider -o addopts=--strict-markers "
        command = {"bfer": MEMORY, "suite": suite + " ".join(SUITE)}
        done = pool.map(lambda job: _boot(job[0], command[job[1]], archive, job[1] == "suite"), jobs)
        reports = dict(zip(jobs, done))
    _tabulate(reports)
    return reports


def _tabulate(reports: dict[tuple[str, str], Report]) -> None:
    for (name, kind), report in reports.items():
        if report.unavailable:
            TABLE.append(f"{name}: {kind}: NOT RUN: {report.unavailable}")
        elif kind == "suite":
            TABLE.append(
                f"{name}: {report.release}: pytest: {(report.output.strip().splitlines() or ['no output'])[-1]}"
            )
        else:
            bad = [check for check, why in report.checks.items() if why] or [
                c for c in inside.CHECKS if c not in report.checks
            ]
            figures = ", ".join(f"{figure}: {value}" for figure, value in report.figures.items())
            passed = f"{len(inside.CHECKS) - len(bad)} of {len(inside.CHECKS)} checks"
            TABLE.append(
                f"{name}: {report.release}: {passed}{''.join(f', FAILED {check}' for check in bad)}; {figures}"
            )


def _report(reports: dict[tuple[str, str], Report], name: str, kind: str) -> Report:
    report = reports[name, kind]
    if report.unavailable:
        pytest.skip(f"guest {name}: {report.unavailable}")
    return report


@pytest.mark.parametrize("check", list(inside.CHECKS))
@pytest.mark.parametrize("name", USUAL)
def test_bfer(reports: dict[tuple[str, str], Report], name: str, check: str) -> None:
    report = _report(reports, name, "bfer")
    assert check in report.checks, report.whole()
    assert report.checks[check] == "", report.checks[check]


@pytest.mark.parametrize("name", USUAL)
def test_bfer_figures(reports: dict[tuple[str, str], Report], name: str) -> None:
    """The family of programs that the kernel makes bfer take, and the memory it takes where there is little."""
    report = _report(reports, name, "bfer")
    figures = report.figures
    assert figures.get("first run") == 0, report.whole()
    assert figures.get("events of the first run") == 1, report.whole()
    assert figures.get("family") == FAMILIES[name], report.whole()
    peak = int(str(figures["VmHWM, kB"]))
    if GUESTS[name].root == "musl":
        assert peak <= PEAK_RSS, figures


@pytest.mark.parametrize("name", SUITE_GUESTS)
def test_the_trees_own_tests(reports: dict[tuple[str, str], Report], name: str) -> None:
    report = _report(reports, name, "suite")
    assert report.status == 0, report.whole()
