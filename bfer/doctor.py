"""``bfer doctor``: what can be traced on this system and what not, and why, found out by doing it."""

from __future__ import annotations

import os
import sys
from errno import EPERM

from bfer.errors import UsageError
from btf.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybpf.features.probes import Finding

# What is tried, as expressions of `bfer trace`; the first is what everything else stands on.
_TRIALS = (
    ("system calls, when they return", ("event=openat",)),
    ("system calls, when they begin", ("event=execve",)),
    ("filters on paths", ("event=openat", "openat.pathname=/etc/*")),
    ("processes and their descendants", ("event=openat", "tree=1")),
    ("programs that are started", ("event=sched_process_exec",)),
    ("files that are opened, by their whole path", ("event=security_file_open",)),
)
_BUFFER = 64 << 10
_TRACE = "trace"


def main(words: list[str]) -> int:
    """Print the report; 0 if ``bfer trace`` works here, else 1. Raises UsageError."""
    for word in words:
        if word != "--json":
            raise UsageError(f"doctor knows no {word!r}: bfer doctor [--json]")
    from pybpf.features import collect

    report = collect()
    report.groups[_TRACE] = trials(report.refusal)
    works = report.groups[_TRACE][0].state == "yes"
    if words:
        import json

        print(json.dumps({**report.as_dict(), "works": works}, indent=1))
        return 0 if works else 1
    from pybpf.features.tool import rows, text

    traced = report.groups.pop(_TRACE)
    lines = text(report)
    if not report.refusal:  # which would stand in every row
        lines += ["", "bfer trace:", *rows(traced)]
    verdict = "`bfer trace` works here." if works else f"`bfer trace` does not work here: {traced[0].reason}"
    lines += ["", verdict]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if works else 1


def trials(refusal: str = "") -> list[Finding]:
    """Each kind of trace, loaded and attached for real; with ``refusal`` none is tried."""
    from pybpf.features.probes import NO, UNKNOWN, Finding

    if refusal:
        return [Finding(name, NO if not number else UNKNOWN, "", refusal) for number, (name, _) in enumerate(_TRIALS)]
    return [_trial(name, list(expressions)) for name, expressions in _TRIALS]


def _trial(name: str, expressions: list[str]) -> Finding:
    from pybpf.features.probes import NO, YES, Finding

    try:
        how, missing = _attach(expressions)
    except Error as error:
        forbidden = getattr(error, "errno", 0) == EPERM
        return Finding(name, NO, "", str(error), "see above: privileges, lockdown" if forbidden else "")
    if missing:
        return Finding(name, NO, "", missing)
    return Finding(name, YES, "", how)


def _attach(expressions: list[str]) -> tuple[str, str]:
    """How a trace of these expressions is attached, and why not if it is not. Raises Error."""
    from bfer import expr
    from bfer.catalogue import Catalogue
    from bfer.names import Names
    from bfer.pushdown import push_down
    from bfer.tracer import Tracer

    catalogue = Catalogue(os.uname().machine)
    policy = expr.parse(expressions, catalogue, Names(catalogue.machine), command=False)
    tracer = Tracer(push_down(policy, command=False), _BUFFER)
    try:
        tracer.start()
        kinds = {"": "BTF tracepoints", "__raw_tp": "raw tracepoints", "__steady": "tracepoints"}
        family = kinds.get(tracer.family, tracer.family)
        if tracer.hooks is None:
            return f"by {family}", ""
        links = [link.name for hook in tracer.hooks.hooks for link in hook.links]
        missing = [f"not by {hook.tried[-1]}" for hook in tracer.hooks.missing()]
        # Some events are seen at several places: one is better than none.
        return "; ".join(links + missing), "" if links else "; ".join(missing)
    finally:
        tracer.close()
