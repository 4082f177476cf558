"""What this system can do and cannot: privileges, configuration, and every feature by using it.

``collect()`` gives it all; ``python -m pybpf features`` prints it. ``probes.find`` answers for one
feature of ``tables``.
"""

from __future__ import annotations

import os
from errno import ENOSYS, EPERM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybpf.features.probes import Finding

SYSTEM = "system"


class Report:
    """``groups`` maps names to findings, the system's own first; ``helpers`` program types to names of helpers.

    ``refusal`` is why nothing could be probed, in one line; the empty string if it could.
    """

    def __init__(self) -> None:
        self.groups: dict[str, list[Finding]] = {}
        self.helpers: dict[str, list[str]] = {}
        self.refusal = ""

    def as_dict(self) -> dict[str, object]:
        """All of it, for JSON; the keys stay as they are."""
        kernel = os.uname()
        return {
            "kernel": {"release": kernel.release, "version": kernel.version, "machine": kernel.machine},
            "refusal": self.refusal,
            "groups": {name: [finding.as_dict() for finding in found] for name, found in self.groups.items()},
            "helpers": self.helpers,
        }


def refusal() -> str:
    """Why this process cannot probe at all, in one line; the empty string if it can."""
    from pybpf import abi, kernel
    from pybpf.errors import SyscallError
    from pybpf.features import probes

    try:
        kernel.map_create(abi.MAP_TYPE_ARRAY, 4, 4, 1, name="probe").close()
        probes.load(probes.ZERO + probes.EXIT, abi.PROG_TYPE_KPROBE).close()
    except SyscallError as error:
        if error.errno in (EPERM, ENOSYS):
            return str(error)
    return ""


def collect(helpers_of: Sequence[str] = ()) -> Report:
    """Everything that can be found out here; ``helpers_of`` names program types whose helpers are listed."""
    from pybpf.errors import Error
    from pybpf.features import probes, system, tables

    report = Report()
    report.groups[SYSTEM] = system.findings()
    report.refusal = refusal()
    if report.refusal:
        return report
    for name, group in tables.GROUPS.items():
        report.groups[name] = [probes.find(feature) for feature in group()]
    if helpers_of:
        names = probes.helper_names()
        for type in helpers_of:
            try:
                report.helpers[type] = probes.helpers(type, names)
            except Error:
                report.helpers[type] = []  # no such programs here, as the group of program types says
    return report
