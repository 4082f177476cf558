"""The twins of benchmarks/: our object by our loader, our object by libbpf, clang's object by our loader.

All three get the same inputs and must give the same results, contexts, packets,
map contents and records. Programs that PROG_TEST_RUN does not run (tp_btf and
tracepoint programs) are loaded in all three ways and not run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from libbpf_loader import LibbpfObject

from benchmarks.twin_cases import CLANG, CLOCKED, RUNS, fill, names, ours, run, theirs
from pybpf import abi
from pybpf.loader import Collection
from pybpf.maps import Map
from pybpf.object.reader import read_object
from pybpf.program import Program
from pybpf.ringbuf import RingBuffer

pytestmark = pytest.mark.native


@pytest.fixture(autouse=True)
def one_cpu():
    """All runs on one CPU: per-CPU values and the number of the CPU are compared, too."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def hidden(raw: bytes, part: tuple[int, int]) -> bytes:
    """``raw`` without what the clock decides."""
    start, end = part
    return raw[:start] + raw[end:]


def contents(twin: str, maps: Mapping[str, Map]) -> dict[str, object]:
    """What every map holds."""
    found: dict[str, object] = {}
    for name, map in maps.items():
        part = CLOCKED.get(twin, {}).get(name, (0, 0))
        if map.type == abi.MAP_TYPE_RINGBUF:
            with RingBuffer(map) as ring:
                found[name] = [hidden(bytes(record), part) for record in ring.read()]
        elif map.type != abi.MAP_TYPE_PROG_ARRAY and not name.startswith("."):
            split = map.split if map.percpu else lambda raw: [raw]
            found[name] = {key: [hidden(value, part) for value in split(raw)] for key, raw in map.items()}
    return found


def outcome(twin: str, programs: Mapping[str, Program], maps: Mapping[str, Map]) -> dict[str, object]:
    """Everything that running a twin's programs with its inputs leaves."""
    fill(twin, maps)
    results = {
        name: [run(programs[name], given) for given in inputs] for name, inputs in RUNS.get(twin, ([], {}))[1].items()
    }
    return {"results": results, **contents(twin, maps)}


@pytest.mark.parametrize("twin", names())
def test_three_ways_agree(twin: str, tmp_path: Path) -> None:
    if shutil.which(CLANG) is None:
        pytest.skip(f"{CLANG} is not installed")
    mine = ours(twin)
    made = {"ours by our loader": mine, "clang's by our loader": theirs(twin, tmp_path)}
    found: dict[str, dict[str, object]] = {}
    with ExitStack() as stack:
        for way, data in made.items():
            spec = read_object(data)
            wanted = [name for name, program in spec.programs.items() if program.section != ".text"]
            loaded = stack.enter_context(Collection(spec, wanted))
            found[way] = outcome(twin, loaded.programs, loaded.maps)
        spec = read_object(mine)
        wanted = [name for name, program in spec.programs.items() if program.section != ".text"]
        try:
            libbpf = stack.enter_context(LibbpfObject(mine, spec, wanted))
        except OSError as error:
            pytest.skip(f"{error}")
        found["ours by libbpf"] = outcome(twin, libbpf.programs, libbpf.maps)
    expected = found["clang's by our loader"]
    for way, got in found.items():
        assert got == expected, way


def test_most_twins_are_run() -> None:
    """The rest is only loaded: tracepoint programs and tp_btf programs have no test run."""
    only_loaded = {twin for twin in names() if not RUNS.get(twin, ([], {}))[1]}
    assert only_loaded == {"exec", "openat", "tasks"}
