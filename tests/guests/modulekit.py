"""A module that does what drivers and rootkits do (deeds.c), loaded, told what to do, and removed."""

from __future__ import annotations

import json
import os

from tests.guests.checks import equal, skip
from tests.guests.checks_trace import argument, bfer

MODULE = "/mnt/modules/deeds.ko"
ACT = "/sys/module/deeds/parameters/act"
LOADED = f"insmod {MODULE}"


def act(word):
    return f"echo {word} >{ACT}"


def need():
    if not os.path.exists(MODULE):
        skip("no module for this kernel: only x86-64 guests have one, where there is a compiler")


def deeds(event, *words):
    """The events seen while the module is loaded, does what ``words`` say, and is removed; by name."""
    need()
    return seen(event, " && ".join([LOADED, *map(act, words), "rmmod deeds"]))


def seen(event, script, *expressions):
    """The events seen while a shell script runs; by name."""
    status, output, errors = bfer("trace", f"event={event}", *expressions, "-o", "json", command=["sh", "-c", script])
    if "is not traced" in errors or "none of the events" in errors:
        skip(errors.strip())
    equal((status, [line for line in errors.splitlines() if "note:" not in line]), (0, []))
    found = {}
    for line in output.splitlines():
        if line.startswith("{"):
            one = json.loads(line)
            equal(one["argsNum"], len(one["args"]))
            found.setdefault(one["eventName"], []).append(one)
    return found


def values(event, *names):
    return tuple(argument(event, name) for name in names)


def symbol(name, module=""):
    """The address of a symbol. Skips where the kernel shows none."""
    suffix = [f"[{module}]"] if module else []
    with open("/proc/kallsyms") as file:
        found = [line.split()[0] for line in file if line.split()[2:] == [name, *suffix]]
    if not found:
        skip(f"/proc/kallsyms has no {name}")
    return int(found[0], 16)
