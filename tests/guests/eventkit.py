"""Running small programs under bfer, to see which events they lead to, with which arguments."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile

from tests.guests.checks import equal, in_guest, skip
from tests.guests.checks_trace import argument, bfer

__all__ = ["argument", "arguments", "deeds", "encoded", "one"]

PRELUDE = """
import ctypes, json, os, stat, sys
folder, output, tree, guest = sys.argv[1:5]
guest = bool(guest)
libc = ctypes.CDLL(None)
def told(**facts):
    with open(output, "a") as file:
        for name, value in facts.items():
            if isinstance(value, os.stat_result):
                value = [value.st_mode, value.st_ino, value.st_dev, value.st_ctime_ns, value.st_mtime_ns]
            file.write(json.dumps([name, value]) + "\\n")
"""


@contextlib.contextmanager
def deeds(names, script, *options):
    """The events of these names that a script leads to: by name, the folder that it worked in, and the facts it told.

    Skips where the kernel lacks one of the events.
    """
    with tempfile.TemporaryDirectory(prefix="checks") as top:
        folder, told = os.path.join(top, "f"), os.path.join(top, "told")
        os.mkdir(folder)
        here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        tree = os.environ.get("PYTHONPATH") or here
        command = [sys.executable, "-S", "-c", PRELUDE + script, folder, told, tree, "yes" if in_guest() else ""]
        status, output, errors = bfer("trace", f"event={','.join(names)}", "-o", "json", *options, command=command)
        if status == 1 and "none of the events can be traced" in errors:
            skip(errors.strip())
        equal((status, errors if status else ""), (0, ""))
        found = {name: [] for name in names}
        for line in output.splitlines():
            if line.startswith("{"):
                event = json.loads(line)
                equal(event["argsNum"], len(event["args"]))
                found[event["eventName"]].append(event)
        with open(told) as file:
            facts = dict(map(json.loads, file))
        lacking = [line for line in errors.splitlines() if "is not traced" in line]
        if lacking:
            skip("; ".join(lacking))
        yield found, folder, facts


def arguments(event):
    """The values by name."""
    return {item["name"]: item["value"] for item in event["args"]}


def one(found, name, **wanted):
    """The arguments of the only event of this name whose arguments have these values."""
    every = [*map(arguments, found[name])]
    fitting = [event for event in every if all(event[key] == value for key, value in wanted.items())]
    assert len(fitting) == 1, f"{name} with {wanted}: {every}"
    return fitting[0]


def encoded(device):
    """A device as the kernel numbers it inside (include/linux/kdev_t.h)."""
    return os.major(device) << 20 | os.minor(device)
