"""``python -m tests.guests``: fetch the guests, run commands in them, and compare what their kernels can do."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from tests.guests import pages, project, qemu, report
from tests.guests.fetch import say
from tests.guests.matrix import GUESTS, MATRIX, USUAL, Unavailable


def main(argv: list[str]) -> int:
    """The command's exit status; 77 if the guest cannot be had, 1 if something failed, 2 wrong usage."""
    command = argv[argv.index("--") + 1 :] if "--" in argv else []
    options = _parser().parse_args(argv[: argv.index("--")] if "--" in argv else argv)
    names = [*GUESTS, report.NATIVE] if options.matrix else GUESTS
    unknown = [name for name in options.names if name not in names]
    if unknown:
        say(f"no guest {unknown[0]!r}: there are {', '.join(names)}")
        return 2
    if options.fetch:
        return _fetch(options.names or USUAL)
    if options.matrix:
        return _matrix(options.names or [report.NATIVE, *MATRIX], options.check, options.write)
    if len(options.names) != 1 or not command:
        _parser().print_usage(sys.stderr)
        return 2
    return _run(options.names[0], command, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.guests",
        usage="python -m tests.guests KERNEL [options] -- COMMAND...\n"
        "       python -m tests.guests --fetch [KERNEL...]\n"
        "       python -m tests.guests --matrix [KERNEL...] [--check SUBJECT[.CHECK]] [--write]",
        description="Run a command in a guest. In /project it finds bfer.pyz (which is in the PYTHONPATH, "
        "so that python3 -m bfer is this tree's), the checks (python3 -m tests.guests.checks) and, with --tests, "
        f"the tree. One word is a shell script. Guests: {', '.join(GUESTS)}.",
    )
    parser.add_argument("names", nargs="*", metavar="KERNEL")
    parser.add_argument("--fetch", action="store_true", help="fetch kernels, fetch or build roots, and run nothing")
    parser.add_argument("--matrix", action="store_true", help="run the checks in guests and natively, print the table")
    parser.add_argument("--check", action="append", default=[], metavar="NAME", help="only these checks")
    parser.add_argument("--write", action="store_true", help="put the tables into the pages in docs too")
    parser.add_argument("--tests", action="store_true", help="bring the tree with its tests, as /project/tree")
    parser.add_argument("--modules", default="", metavar="A,B", help="kernel modules to load first")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="end the guest (default 600)")
    parser.add_argument("--log", action="store_true", help="show the kernel's log at the end")
    return parser


def _fetch(names: list[str] | tuple[str, ...]) -> int:
    status = 0
    for name in names:
        try:
            machine = qemu.Machine(GUESTS[name])
            say(f"{name}: {machine.kernel.release}, root {machine.root.stem}, {machine.guest.memory} MB")
        except Unavailable as error:
            say(f"{name}: NOT AVAILABLE: {error}")
            status = 1
    return status


def _matrix(names: list[str], wanted: list[str], write: bool) -> int:
    reports = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            archive = project.make_archive(Path(folder) / "bfer.pyz")
        except Unavailable as error:
            say(str(error))
            return 77
        for name in names:
            say(f"{name}: checks")
            reports[name] = report.boot(name, archive, wanted, lambda data: os.write(2, data))
            say(f"{name}: {reports[name].unavailable or f'{reports[name].seconds:.0f} s'}")
    text = report.tables(reports)
    print(text)
    if write:
        pages.write(reports, some=bool(wanted))
    troubles = [f"{name}: {why}" for name, one in reports.items() for why in report.troubles(one)]
    troubles += report.losses(reports).values()
    for trouble in troubles:
        say(trouble)
    return 1 if troubles else 0


def _run(name: str, command: list[str], options: argparse.Namespace) -> int:
    try:
        machine = qemu.Machine(GUESTS[name])
        with tempfile.TemporaryDirectory() as folder:
            archive = project.make_archive(Path(folder) / "bfer.pyz")
            status, log = machine.run(
                qemu.shell(command),
                lambda data: os.write(1, data),
                archive=archive,
                tests=options.tests,
                wanted=tuple(word for word in options.modules.split(",") if word),
                timeout=options.timeout,
            )
    except Unavailable as error:
        say(f"{name}: NOT AVAILABLE: {error}")
        return 77
    if options.log or status == 255:
        sys.stderr.write(log)
    return status


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # takes the guest along
    sys.exit(main(sys.argv[1:]))
