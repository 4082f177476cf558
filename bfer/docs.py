"""``python -m bfer.docs``: docs/events.md, the catalogue as a page; ``--write`` puts it there."""

from __future__ import annotations

import os
import sys

from bfer.catalogue import Catalogue
from bfer.descriptions import description
from bfer.output.sink import OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.catalogue import Arg, Event

PAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "docs", "events.md")
_MACHINES = ("x86_64", "aarch64")

_HEAD = """\
# Events

Written by `python3 -m bfer.docs --write` from the catalogue (`bfer/syscalls.py`, `bfer/kernel_events.py`).
`bfer list` shows the events of the machine at hand and marks what its kernel cannot have; `bfer explain EVENT`
attaches one and tells the names of its values. [kernels.md](kernels.md) tells what was seen on which kernel.

Any other function, tracepoint or user-space symbol is an event too, by its name: see [functions.md](functions.md).
"""

_KERNEL = """\
## What the kernel does

Seen where it happens, whichever system call it came from; `retval` is 0. *Seen by* names the kinds of programs,
best first: the first one that the kernel takes is attached. `+` joins programs that only together are one, `;`
separates places. `derive.NAME` is the part of bfer that makes the event, of what it finds in the kernel or of what
was seen in the places behind it (see [architecture.md](architecture.md)). Arguments in parentheses are there with
an output option only.
"""

_CALLS = """\
## System calls

Seen when they return, with their result; exit, exit_group, rt_sigreturn and sigreturn when they begin. The numbers
are those of x86-64 and of arm64 (`include/uapi/asm-generic/unistd.h`, also riscv64 and loongarch64); `-` is a machine
that lacks the call. What only 32-bit processes have on those machines comes last. All are in the set `syscalls`.
"""

_SETS = """\
## Sets

`set=NAME` selects all events of a set, `event!=NAME` takes away from it.
"""


KERNELS = """
## On which kernel

<!-- what follows is written by python -m tests.guests --matrix --check catalogue --write -->

Kinds of programs that could be loaded and attached, of all that there are for the event, and by number why not the
others. What is derived of others has no program of its own.
"""
"""The beginning of the last part of the page, which stays as it is."""


def page() -> str:
    """The text, without what guests have shown."""
    catalogues = {machine: Catalogue(machine, set(OPTIONS)) for machine in _MACHINES}
    events: dict[str, Event] = {}
    numbers: dict[str, list[str]] = {}
    for at, catalogue in enumerate(catalogues.values()):
        for name, event in catalogue.events.items():
            events.setdefault(name, event)
            row = numbers.setdefault(name, ["-", "-"])
            if not event.is_compat:
                row[at] = str(event.number)
    hooks = [event for event in events.values() if event.hooks]
    calls = [event for event in events.values() if not event.hooks]
    native = [event for event in calls if numbers[event.name] != ["-", "-"]]
    rest = [event for event in calls if numbers[event.name] == ["-", "-"]]
    parts = [_HEAD, _KERNEL, *_table(("event", "about", "arguments", "seen by", "sets"), map(_hook_row, hooks))]
    heads = ("system call", "about", "x86-64", "arm64", "arguments", "sets")
    rows = ([_code(e.name), description(e.name), *numbers[e.name], _args(e), _sets(e)] for e in native)
    parts += ["", _CALLS, *_table(heads, rows)]
    only = ((_code(e.name), description(e.name), _args(e), _sets(e)) for e in rest)
    parts += ["", *_table(("of 32-bit processes only", "about", "arguments", "sets"), only), "", _SETS]
    parts += _table(("set", "events", ""), _set_rows(list(events.values())))
    return "\n".join(parts) + "\n"


def _table(heads: tuple[str, ...], rows: object) -> list[str]:
    lines = [heads, ("---",) * len(heads), *rows]  # type: ignore[misc]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _code(text: str) -> str:
    return f"`{text}`"


def _hook_row(event: Event) -> tuple[str, ...]:
    return _code(event.name), description(event.name), _args(event), _code(event.hooks), _sets(event)


def _args(event: Event) -> str:
    return ", ".join([_arg(arg) for arg in event.args])


def _arg(arg: Arg) -> str:
    text = _code(f"{arg.type} {arg.name}")
    return f"({text} with `{arg.option}`)" if arg.option else text


def _sets(event: Event) -> str:
    return " ".join([name for name in event.sets if name != "syscalls"])


def _set_rows(events: list[Event]) -> list[tuple[str, ...]]:
    members: dict[str, list[str]] = {}
    for event in events:
        for name in event.sets:
            members.setdefault(name, []).append(event.name)
    rows = []
    for name, names in sorted(members.items()):
        some = ", ".join(map(_code, names[:6])) + (", ..." if len(names) > 6 else "")
        rows.append((_code(name), str(len(names)), some))
    return rows


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        with open(PAGE, encoding="utf-8") as file:
            _, mark, kernels = file.read().partition(KERNELS)
        with open(PAGE, "w", encoding="utf-8") as file:
            file.write(page() + mark + kernels)
    elif sys.argv[1:]:
        sys.exit("usage: python3 -m bfer.docs [--write]")
    else:
        sys.stdout.write(page())
