"""Containers by the names of control groups; the table of groups; what outputs show of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_kernel import FakeMap
from fake_records import EVENTS, NAMES, record

from bfer import containers
from bfer.containers import Groups, container_id, hierarchy_number
from bfer.output.json import Json
from bfer.output.table import ContainerTable
from bfer.output.verbose import ContainerVerbose
from bfer.output.xml import Xml
from bfer.policy import Containers
from bfer.tracer import version_1_controller
from programs import load_object
from pybpf.errors import SyscallError

ROOT = Path(__file__).parents[2]
# Names of this run's own: several may be going on.
ID = "3f" * 28 + f"{os.getpid():08x}"
OTHER = "0a" * 28 + f"{os.getpid():08x}"


@pytest.mark.parametrize(
    ("path", "id"),
    [
        ("/", ""),
        ("", ""),
        ("/system.slice/sshd.service", ""),
        (f"/docker/{ID}", ID),
        (f"/system.slice/docker-{ID}.scope", ID),
        (f"/docker/{ID}/system.slice/cron.service", ID),
        (f"/docker/{ID}/docker/{OTHER}", OTHER),
        (f"/kubepods/besteffort/pod6e5a8d2c-0a1f-4c7b-9a8f-2b3c4d5e6f70/{ID}", ID),
        (f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod6e5a.slice/cri-containerd-{ID}.scope", ID),
        (f"/kubepods.slice/kubepods-pod1.slice:cri-containerd:{ID}", ID),
        (f"/kubepods.slice/kubepods-pod1.slice/crio-{ID}.scope", ID),
        (f"/kubepods.slice/kubepods-pod1.slice/crio-conmon-{ID}.scope", ""),
        (f"/machine.slice/libpod-{ID}.scope/container", ID),
        (f"/machine.slice/libpod-conmon-{ID}.scope", ""),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope", ID),
        (f"/user.slice/nerdctl-{ID}.scope", ID),
        ("/lxc/web", "web"),
        ("/lxc/web/system.slice", "web"),
        ("/lxc.payload.web", "web"),
        ("/lxc.monitor.web", ""),
        ("/lxc.payload/web", "web"),
        ("/machine.slice/systemd-nspawn@debian.service", "debian"),
        ("/machine.slice/systemd-nspawn@debian.service/payload", "debian"),
        ("/machine.slice/machine-web\\x2d1.scope", "web-1"),
        ("/machine.slice/machine-qemu\\x2d1\\x2dvm.scope", ""),
        (f"/x{ID}", ""),
        (f"/{ID[:-1]}", ""),
        (f"/{ID[:-1]}g", ""),
        ("/machine.slice/machine-.scope", ""),
        ("/machine.slice/machine-a\\x", ""),
    ],
)
def test_names(path: str, id: str) -> None:
    assert container_id(path) == id


def test_which_hierarchy(tmp_path: Path) -> None:
    """Version 2 where it is mounted in the usual place, else a controller that engines use."""
    assert version_1_controller(str(tmp_path)) == ""
    for name in ("pids", "memory"):
        (tmp_path / name).mkdir()
        assert version_1_controller(str(tmp_path)) in ("", "pids")
        (tmp_path / name / "cgroup.procs").touch()
        assert version_1_controller(str(tmp_path)) == name
    (tmp_path / "cgroup.controllers").touch()
    assert version_1_controller(str(tmp_path)) == ""
    table = tmp_path / "cgroups"
    table.write_text("#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t1\t1\nmemory\t4\t1\t1\n")
    assert hierarchy_number("memory", str(table)) == 4
    assert hierarchy_number("pids", str(table)) == 0
    assert hierarchy_number("pids", str(tmp_path / "none")) == 0


@pytest.fixture
def hierarchy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders instead of control groups; their inode numbers are the ids."""
    monkeypatch.setattr(containers, "root", lambda: str(tmp_path))
    (tmp_path / "docker" / ID / "inner").mkdir(parents=True)
    (tmp_path / "system.slice").mkdir()
    return tmp_path


def inode(path: Path) -> int:
    return path.stat().st_ino


def test_groups_are_found_by_id(hierarchy: Path) -> None:
    groups = Groups()
    assert groups.container(inode(hierarchy / "docker" / ID)) == ID
    assert groups.container(inode(hierarchy / "docker" / ID / "inner")) == ID
    assert groups.container(inode(hierarchy / "system.slice")) == ""
    assert groups.container(1) == ""
    later = hierarchy / f"docker-{OTHER}.scope"
    later.mkdir()
    number = inode(later)
    assert groups.container(number) == OTHER
    later.rmdir()
    assert groups.container(number) == OTHER  # records of its processes may be on their way
    assert groups.container(1 << 40) == ""


def test_no_hierarchy(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise SyscallError("none", 2)

    monkeypatch.setattr(containers, "root", none)
    assert Groups().container(77) == ""


class Counting(FakeMap):
    updates = 0

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        super().update(key, value, flags)
        self.updates += 1


def verdicts(map: FakeMap) -> dict[int, int]:
    return {int.from_bytes(key, sys.byteorder): value[0] for key, value in map.data.items()}


def test_the_programs_are_told(hierarchy: Path) -> None:
    wanted = Containers()
    wanted.new = True
    map = Counting("cgroups")
    groups = Groups(wanted, map)  # type: ignore[arg-type]
    groups.scan()
    old = inode(hierarchy / "docker" / ID)
    assert verdicts(map)[old] == 0
    assert not groups.passes(old)
    groups.learn(7777, f"/docker/{OTHER}".encode())
    assert verdicts(map)[7777] == 1
    groups.learn(7778, b"/system.slice/x")
    assert verdicts(map)[7778] == 0
    updates = map.updates
    for _ in range(100):
        assert groups.passes(7777)
    assert map.updates == updates  # told once
    # Made between the program's start and the scan: both know it.
    groups.learn(old, f"/docker/{ID}".encode())
    assert verdicts(map)[old] == 1


def test_memory_is_bounded(hierarchy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "_MOST", 100)
    groups = Groups()
    for id in range(1 << 40, (1 << 40) + 1000):
        groups.container(id)
        assert len(groups._containers) <= 110


def test_outputs(hierarchy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "container_of", Groups().container)
    inside, outside = (
        record(cgroup_id=inode(path)) for path in (hierarchy / "docker" / ID / "inner", hierarchy / "system.slice")
    )
    first, second = [json.loads(line) for line in Json(EVENTS, NAMES).render([inside, outside], 0).splitlines()]
    assert (first["containerId"], first["contextFlags"]) == (ID, {"containerStarted": True})
    assert (second["containerId"], second["contextFlags"]) == ("", {"containerStarted": False})
    monkeypatch.setattr(containers, "_first", [4026531841])  # the engine's own process, before it changes its files
    (line,) = Json(EVENTS, NAMES).render([inside], 0).splitlines()
    assert json.loads(line)["contextFlags"] == {"containerStarted": False}
    assert f"<containerId>{ID}</containerId>".encode() in Xml(EVENTS, NAMES).render([inside], 0)
    columns = ContainerTable(EVENTS, NAMES).render([inside], 0).split()
    assert columns[1:6] == [ID[:12].encode(), b"1000", b"cat", b"42/142", b"43/143"]
    assert len(ContainerTable.header.split()) == 9
    columns = ContainerVerbose(EVENTS, NAMES).render([inside], 0).split()
    assert columns[2] == ID[:12].encode()
    assert columns[7:10] == [b"42/142", b"43/143", b"41/141"]


def test_a_name_that_needs_escapes(hierarchy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "container_of", Groups().container)
    folder = os.fsencode(hierarchy) + b'/lxc.payload.a"\xff'
    os.mkdir(folder)
    data = record(cgroup_id=os.stat(folder).st_ino)
    assert json.loads(Json(EVENTS, NAMES).render([data], 0))["containerId"] == 'a"�'
    assert ContainerTable(EVENTS, NAMES).render([data], 0).split()[1] == b'a"\\xff'


@pytest.mark.native
class TestKernel:
    """Real control groups, named as docker names them."""

    @pytest.fixture
    def group(self) -> Path:
        try:
            top = Path(containers.root())
            folder = top / f"docker-{ID}.scope"
            folder.mkdir()
        except (SyscallError, OSError) as error:
            pytest.skip(f"no control group can be made: {error}")
        yield folder
        folder.rmdir()

    @pytest.fixture(autouse=True)
    def _compiled(self) -> None:
        """A bare checkout says on stderr that it compiles."""
        load_object()

    def run(self, *words: str, script: str) -> SimpleNamespace:
        command = ["trace", "-q", "-o", "json", "event=openat", *words, "--", "sh", "-c", script]
        done = subprocess.run(
            [sys.executable, "-m", "bfer", *command], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        events = [json.loads(line) for line in done.stdout.splitlines()]
        paths = {arg["value"] for event in events for arg in event["args"] if arg["name"] == "pathname"}
        return SimpleNamespace(events=events, paths={path for path in paths if path.startswith("/no/")})

    ENTER = "cat /no/before; sh -c 'echo $$ >{}/cgroup.procs; exec cat /no/inside'; cat /no/after; :"

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["container"], {"/no/inside"}),
            (["!container"], {"/no/before", "/no/after"}),
            ([f"container={ID[:10]}"], {"/no/inside"}),
            ([f"container={OTHER}"], set()),
            ([f"container!={ID[:3]}"], {"/no/before", "/no/after"}),
            (["container=new"], set()),
            (["container!=new"], {"/no/inside"}),
            (["openat.scope.container"], {"/no/inside"}),
        ],
    )
    def test_one_that_is_there(self, group: Path, words: list[str], expected: set[str]) -> None:
        got = self.run(*words, script=f"exec 2>/dev/null; {self.ENTER.format(group)}")
        assert got.paths == expected
        for event in got.events:
            inside = any(arg["value"] == "/no/inside" for arg in event["args"])
            if inside or event["containerId"]:
                assert event["containerId"] == ID

    @pytest.mark.parametrize("word", ["container=new", "container", f"container={OTHER[:5]}"])
    def test_one_that_is_made_and_removed_meanwhile(self, group: Path, word: str) -> None:
        """Gone before anyone could look it up."""
        new = group.parent / f"docker-{OTHER}.scope"
        script = f"exec 2>/dev/null; mkdir {new}; {self.ENTER.format(new)}; rmdir {new}"
        got = self.run(word, script=script)
        assert got.paths == {"/no/inside"}
        assert {event["containerId"] for event in got.events} == {OTHER}
        assert not new.exists()
