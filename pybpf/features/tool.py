"""``python -m pybpf features``: the report as a table or as JSON."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence
    from typing import Any

    from pybpf.features import Report
    from pybpf.features.probes import Finding

_WIDTH = 38


def add_command(commands: Any) -> None:
    """Add ``features`` to the sub-parsers of ``python -m pybpf``."""
    parser: ArgumentParser = commands.add_parser("features", help="what this kernel and system can do, and why not")
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parser.add_argument("--all", action="store_true", help="also what is there (default: counted)")
    parser.add_argument(
        "--helpers",
        action="append",
        default=[],
        metavar="TYPE",
        help="list the helpers of a program type such as xdp; `all` for every type; can be repeated",
    )
    parser.set_defaults(run=run)


def run(options: Namespace) -> int:
    """Print the report; 0, or 1 if nothing could be probed. Raises ObjectError for an unknown program type."""
    from pybpf.errors import ObjectError
    from pybpf.features import collect, types

    wanted = list(types.PROGRAMS) if "all" in options.helpers else options.helpers
    unknown = [name for name in wanted if name not in types.PROGRAMS]
    if unknown:
        raise ObjectError(f"no program type {unknown[0]!r}: there are {', '.join(types.PROGRAMS)}")
    report = collect(wanted)
    if options.json:
        import json

        print(json.dumps(report.as_dict(), indent=1))
    else:
        print("\n".join(text(report, options.all)))
    if report.refusal:
        print(f"pybpf: {report.refusal}", file=sys.stderr)
    return 1 if report.refusal else 0


def text(report: Report, everything: bool = False) -> list[str]:
    """The lines of the table; of the probed groups only what is missing, unless ``everything``."""
    from pybpf.features import SYSTEM
    from pybpf.features.probes import YES

    lines: list[str] = []
    for name, found in report.groups.items():
        there = [finding for finding in found if finding.state == YES]
        lines += ["", f"{name}: {len(there)} of {len(found)}"] if lines else [f"{name}: {len(there)} of {len(found)}"]
        shown = found if everything or name == SYSTEM else [finding for finding in found if finding.state != YES]
        lines += rows(shown)
    for type, helpers in report.helpers.items():
        lines += ["", f"helpers of {type}: {len(helpers)}", *_wrapped(helpers)]
    return lines


def rows(found: Sequence[Finding]) -> list[str]:
    """Findings as lines of columns, each remedy as a line below."""
    width = max([_WIDTH, *[len(finding.name) for finding in found]])
    lines = []
    for finding in found:
        head = f"  {finding.state:<7} {finding.name:<{width}} {finding.since:<5}"
        lines.append(f"{head} {finding.reason}".rstrip())
        if finding.remedy:
            lines.append(" " * (width + 17) + f"-> {finding.remedy}")
    return lines


def _wrapped(words: list[str]) -> list[str]:
    lines, line = [], " "
    for word in words:
        if len(line) + len(word) > 110:
            lines.append(line)
            line = " "
        line += f" {word}"
    return [*lines, line] if line.strip() else lines
