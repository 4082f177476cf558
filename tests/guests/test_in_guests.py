"""The checks, and tests of the tree, in guests with other kernels.

Every guest boots once for all checks (the small one once more, to measure memory where there
is little) and, with pytest in its root, once more for tests of the tree; as many guests run side by
side as there are processors. ``BFER_GUESTS=0`` leaves them out, another number says how many run side by side. With
``BFER_GUESTS_WRITE`` what they show is put into the pages in docs.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.guests import checks, pages, project, report
from tests.guests.matrix import GUESTS, USUAL, Unavailable
from tests.guests.qemu import Machine

pytestmark = pytest.mark.guest

PEAK_RSS = 12_000  # kB, on the small firmware
# 5.10 lacks what bfer's tp_btf programs need, so that the raw_tp family is taken there.
# 7.2 preempts them.
FAMILIES = {name: "tp_btf" if "5.10" not in name else "__raw_tp" for name in USUAL} | {"7.2": "__steady"}
SUITE_GUESTS = ("6.1", "7.2")
MARKER = "pytest.mark.in_guests"
SUBJECTS = checks.subjects()


class Suite:
    """The tree's own tests in one guest: pytest's exit status and output."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.unavailable = ""
        self.status, self.output, self.log = 255, "", ""

    def run(self, archive: Path) -> Suite:
        chunks: list[bytes] = []
        command = "cd tree && PYTHONPATH= python3 -m pytest -q -p no:cacheprovider -o addopts=--strict-markers "
        try:
            machine = Machine(GUESTS[self.name])
            words = f"{command} -m in_guests {' '.join(marked())}"
            self.status, self.log = machine.run(words, chunks.append, archive=archive, tests=True, timeout=900)
        except Unavailable as error:
            self.unavailable = str(error)
        self.output = b"".join(chunks).decode("utf-8", "replace").replace("\r", "")
        return self


def marked() -> list[str]:
    """Files with tests for guests: reading all of them there would take a minute."""
    here = project.TREE / "tests"
    files = [path for path in sorted(here.rglob("test_*.py")) if path != Path(__file__)]
    return [str(path.relative_to(project.TREE)) for path in files if MARKER in path.read_text()]


def side_by_side() -> int:
    """How many guests run at a time; 0 for none at all."""
    try:
        return int(os.environ["BFER_GUESTS"])
    except (KeyError, ValueError):
        return os.cpu_count() or 1


@pytest.fixture(scope="session")
def archive() -> Path:
    if not side_by_side():
        pytest.skip("BFER_GUESTS=0 leaves the guests out")
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield project.make_archive(Path(folder) / "bfer.pyz")
        except Unavailable as error:
            pytest.skip(str(error))


@pytest.fixture(scope="session")
def guests(request: pytest.FixtureRequest, archive: Path) -> dict[tuple[str, str], object]:
    """All selected guests' reports. One fixture boots them all, so that they share the processors well."""
    wanted = {(item.callspec.params["name"], "checks") for item in _items(request, "test_checks")}
    wanted |= {(item.callspec.params["name"], "suite") for item in _items(request, "test_the_trees_own")}
    if _items(request, "test_newer_kernels"):
        wanted |= {(name, "checks") for name in USUAL}
    # The slow ones first.
    jobs = sorted(wanted, key=lambda job: (not job[0].startswith("arm64"), job[1], USUAL.index(job[0])))

    def run(job: tuple[str, str]) -> object:
        name, kind = job
        started = time.monotonic()
        done = Suite(name).run(archive) if kind == "suite" else report.boot(name, archive)
        seconds = time.monotonic() - started
        print(f"guest {name}: {kind}: {done.unavailable or f'{seconds:.0f} s'}", file=sys.__stderr__, flush=True)
        return done

    with ThreadPoolExecutor(side_by_side()) as pool:
        done = dict(zip(jobs, pool.map(run, jobs)))
    reports = {name: one for (name, kind), one in done.items() if kind == "checks"}
    report.TABLE.append(report.tables(reports))
    if os.environ.get("BFER_GUESTS_WRITE"):
        pages.write(reports)
    for (name, kind), one in done.items():
        if kind == "suite":
            said = (one.output.strip().splitlines() or ["no output"])[-1]
            report.TABLE.append(f"{name}: pytest: {f'NOT RUN: {one.unavailable}' if one.unavailable else said}")
    return done


def _items(request: pytest.FixtureRequest, prefix: str) -> list[pytest.Item]:
    return [item for item in request.session.items if item.name.startswith(prefix) and item.path == Path(__file__)]


def _there(guests: dict[tuple[str, str], object], name: str, kind: str) -> object:
    one = guests[name, kind]
    if one.unavailable:
        pytest.skip(f"guest {name}: {one.unavailable}")
    return one


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("name", USUAL)
def test_checks(guests: dict[tuple[str, str], object], name: str, subject: str) -> None:
    """Every check of a subject passed, or was skipped for a reason that was observed."""
    one = _there(guests, name, "checks")
    for check in checks.load(subject):
        assert check.name in one.results, one.whole()
        result = one.results[check.name]
        assert result.outcome != checks.FAIL, f"{check.name}: {result.reason}\n{one.whole()}"


@pytest.mark.parametrize("name", USUAL)
def test_checks_figures(guests: dict[tuple[str, str], object], name: str) -> None:
    """The family of programs that the kernel makes bfer take, and the memory it takes where there is little."""
    one = _there(guests, name, "checks")
    assert report.troubles(one) == [], one.whole()
    assert one.figures["family"] == FAMILIES[name], one.whole()
    if GUESTS[name].root == "musl":
        assert int(one.figures["peak, kB"]) <= PEAK_RSS, one.figures


def test_newer_kernels_lack_nothing(guests: dict[tuple[str, str], object]) -> None:
    """What an older kernel can do, a newer one of the same architecture can too."""
    assert report.losses({name: one for (name, kind), one in guests.items() if kind == "checks"}) == {}


@pytest.mark.parametrize("name", SUITE_GUESTS)
def test_the_trees_own_tests(guests: dict[tuple[str, str], object], name: str) -> None:
    one = _there(guests, name, "suite")
    assert one.status == 0, f"{one.output[-6000:]}\n{one.log[-3000:]}"
