"""Every feature that can be probed: a kernel as new as the claim has it, an older one has not."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from pybpf.features import probes, tables
from pybpf.privilege import kernel_version
from tests.guests.checks import check, equal, figure, in_guest, skip
from tests.guests.checks_trace import skip_where_it_cannot_run
from tests.guests.mapkit import lacks_cx16

# Claims that a machine does not keep, with the first version of Linux that does: trampolines of
# arm64 came in steps.
LATER = {"aarch64": {"fentry, fexit": "6.0", "LSM": "6.0", "kprobe.multi": "6.14"}}
# Off in most kernels, whose configuration need not be readable: remote controls.
INACTIVE = "security module is not active"  # BPF LSM is built in, but not among those
RARE = ("lirc_mode2",)


def verify(group):
    """Probe a group; complain of what a kernel lacks that should have it, or has that should not."""
    kernel = kernel_version()
    later = LATER.get(os.uname().machine, {})
    wrong, there = [], 0
    for feature in tables.GROUPS[group]():
        finding = probes.find(feature)
        there += finding.state == probes.YES
        expected = probes.version(later.get(feature.name, feature.since)) <= kernel
        explained = probes.options_off(feature.options) or feature.name in RARE or INACTIVE in finding.reason
        # Where the configuration cannot be read: the kernel's own word for what it knows and was built without.
        explained = explained or (feature.options and probes.settings() is None and "ENOTSUP (" in finding.reason)
        if finding.state == probes.YES and probes.version(feature.since) > kernel:
            wrong.append(f"{feature.name} is here, before {feature.since}")
        elif finding.state == probes.NO and expected and not explained:
            wrong.append(f"{feature.name} is missing, since {feature.since}: {finding.reason}")
        elif finding.state == probes.UNKNOWN and in_guest() and not (lacks_cx16() and "ENOMEM" in finding.reason):
            wrong.append(f"{feature.name} could not be probed: {finding.reason}")
    figure(f"features of {group}", there)
    assert not wrong, "; ".join(wrong)


@check
def check_map_types():
    verify("map types")


@check
def check_program_types():
    verify("program types")


@check
def check_hooks():
    verify("hooks")


@check
def check_code():
    verify("code")


@check
def check_btf():
    verify("BTF")


@check
def check_commands():
    verify("commands")


@check
def check_helpers():
    """Which helpers a type of program may call, for helpers that have been there all along and for nonsense."""
    names = probes.helper_names()
    if not names:
        skip("this kernel has no BTF, which has the names of its helpers, nor is there the compiler, which knows them")
    equal((names[1], names[14]), ("map_lookup_elem", "get_current_pid_tgid"))
    assert len(names) > 150, len(names)
    kprobe = probes.helpers("kprobe", names)
    xdp = probes.helpers("xdp", names)
    assert {"map_lookup_elem", "get_current_task", "probe_read_kernel", "perf_event_output"} <= set(kprobe)
    assert {"xdp_adjust_head", "redirect", "csum_diff"} <= set(xdp)
    assert not {"xdp_adjust_head", "skb_store_bytes"} & set(kprobe)
    assert "get_stackid" not in xdp
    equal(probes.helpers("kprobe", {9999: "no such helper"}), [])
    figure("helpers of kprobe programs", len(kprobe))


@check(timeout=60)
def check_commands_report():
    """`pybpf features --json` and `bfer doctor --json` as processes of their own."""
    done = subprocess.run([sys.executable, "-m", "pybpf", "features", "--json"], capture_output=True, check=False)
    equal((done.returncode, done.stderr), (0, b""))
    report = json.loads(done.stdout)
    equal(sorted(report), ["groups", "helpers", "kernel", "refusal"])
    equal(list(report["groups"]), ["system", *tables.GROUPS])
    equal(report["kernel"]["release"], os.uname().release)
    for group in report["groups"].values():
        for finding in group:
            equal(sorted(finding), ["name", "reason", "remedy", "since", "state"])
            assert finding["state"] in ("yes", "no", "unknown")
            assert finding["state"] == "yes" or finding["reason"], finding
    done = subprocess.run([sys.executable, "-m", "bfer", "doctor", "--json"], capture_output=True, check=False)
    report = json.loads(done.stdout)
    trials = report["groups"]["trace"]
    if not report["works"]:
        skip_where_it_cannot_run(done.returncode, f"{trials[0]['reason']}\n")
    equal((done.returncode, report["works"]), (0, True))
    equal([finding["state"] for finding in trials][:2], ["yes", "yes"])
