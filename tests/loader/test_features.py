"""The report on features: how findings are judged, what it looks like, and what a user without privileges gets."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pybpf import abi, kernel
from pybpf.errors import SyscallError
from pybpf.features import Report, probes, tables, types
from pybpf.features.tool import rows, text
from pybpf.maps.create import kinds

ROOT = Path(__file__).parents[2]
# An ordinary user, who may still read the interpreter's files wherever they are.
NOBODY = (
    "setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=+dac_read_search --ambient-caps=+dac_read_search"
)


def failing(error):
    def probe():
        if error:
            raise SyscallError("BPF_MAP_CREATE: refused", error)

    return probe


@pytest.mark.parametrize(
    ("error", "since", "options", "state", "reason", "remedy"),
    [
        (0, "5.1", (), probes.YES, "", ""),
        (errno.EINVAL, "99.1", (), probes.NO, "came with Linux 99.1", "Linux 99.1 or newer"),
        (errno.EINVAL, "4.1", (), probes.NO, "BPF_MAP_CREATE: refused", ""),
        (errno.EINVAL, "4.1", ("LACKING",), probes.NO, "CONFIG_LACKING is not set", "built with CONFIG_LACKING"),
        (errno.EINVAL, "4.1", ("BPF_SYSCALL",), probes.NO, "refused", ""),
        (errno.E2BIG, "4.1", (), probes.NO, "refused", ""),
        (abi.ENOTSUPP, "4.1", (), probes.NO, "refused", ""),
        (errno.EPERM, "4.1", (), probes.UNKNOWN, "refused", "privileges"),
        (errno.ENOMEM, "4.1", (), probes.UNKNOWN, "refused", ""),
    ],
)
def test_judgement(monkeypatch, error, since, options, state, reason, remedy):
    monkeypatch.setattr(probes, "settings", lambda: {"BPF_SYSCALL": "y"})
    finding = probes.find(probes.Feature("thing", since, failing(error), options))
    assert finding.state == state
    assert reason in finding.reason
    assert remedy in finding.remedy
    assert bool(finding.reason) == (state != probes.YES)


def test_unknown_configuration_explains_nothing(monkeypatch):
    monkeypatch.setattr(probes, "settings", lambda: None)
    finding = probes.find(probes.Feature("thing", "4.1", failing(errno.EINVAL), ("LACKING",)))
    assert (finding.state, finding.reason) == (probes.NO, "BPF_MAP_CREATE: refused")


def test_every_type_of_the_kernel_is_in_the_tables():
    assert set(types.MAPS) == set(kinds())
    programs = {name[10:].lower() for name in vars(abi) if name.startswith("PROG_TYPE_")}
    assert set(types.PROGRAMS) == programs


def test_names_are_unique_and_versions_are_versions():
    names = [(group, feature.name) for group, features in tables.GROUPS.items() for feature in features()]
    assert len(names) == len(set(names))
    for feature in tables.everything():
        assert len(probes.version(feature.since)) == 2
        assert not [option for option in feature.options if option.startswith("CONFIG_")]


def test_nothing_is_left_open_when_everything_is_refused():
    """Each errno that probes may meet, for each of them."""
    for error in (errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.E2BIG, abi.ENOTSUPP, errno.ENOMEM):
        kernel.set_syscall_hook(lambda name, *args, error=error: -error)
        try:
            for group in ("map types", "program types", "code", "commands"):
                for feature in tables.GROUPS[group]():
                    if error == abi.ENOTSUPP and feature.name in ("ext", "struct_ops"):
                        continue  # what a kernel that knows them says to so little
                    assert probes.find(feature).state != probes.YES, feature.name
        finally:
            kernel.set_syscall_hook(None)
    assert kernel.open_fds() == []


def test_the_table():
    report = Report()
    report.groups["system"] = [probes.Finding("privileges", probes.YES)]
    report.groups["hooks"] = [
        probes.Finding("kprobe", probes.NO, "4.17", "CONFIG_KPROBE_EVENTS is not set", "a kernel built with it"),
        probes.Finding("tp_btf", probes.YES, "5.5"),
    ]
    report.helpers["xdp"] = ["redirect"] * 30
    lines = text(report)
    assert lines[:2] == ["system: 1 of 1", "  yes     privileges"]
    assert "hooks: 1 of 2" in lines
    assert not [line for line in lines if "tp_btf" in line]
    assert [line for line in text(report, True) if "tp_btf" in line]
    assert "helpers of xdp: 30" in lines
    assert max(len(line) for line in lines) < 125
    first, second = rows(report.groups["hooks"][:1])
    assert first.split() == ["no", "kprobe", "4.17", "CONFIG_KPROBE_EVENTS", "is", "not", "set"]
    assert second.strip() == "-> a kernel built with it"


def as_nobody(*words):
    if os.geteuid() or shutil.which("setpriv") is None:
        pytest.skip("only root with setpriv can become nobody")
    command = [*NOBODY.split(), sys.executable, "-m", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_without_privileges_pybpf_features_gives_what_files_tell():
    done = as_nobody("pybpf", "features")
    assert done.returncode == 1
    assert done.stdout.startswith("system: ")
    assert "run as root" in done.stdout
    assert "map types" not in done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("pybpf: not permitted: ")


def test_without_privileges_bfer_doctor_says_so():
    done = as_nobody("bfer", "doctor")
    assert (done.returncode, done.stderr) == (1, "")
    last = done.stdout.splitlines()[-1]
    assert last.startswith("`bfer trace` does not work here: not permitted: ")
    report = json.loads(as_nobody("bfer", "doctor", "--json").stdout)
    assert report["works"] is False
    assert report["refusal"]
    assert [finding["state"] for finding in report["groups"]["trace"]][:2] == ["no", "unknown"]


def test_wrong_usage():
    done = subprocess.run([sys.executable, "-m", "bfer", "doctor", "now"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "bfer: doctor knows no 'now': bfer doctor [--json]\n"
    command = [sys.executable, "-m", "pybpf", "features", "--helpers", "xpd"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("pybpf: no program type 'xpd': there are socket_filter, ")
