"""``bfer list``: events with their arguments, sets, filters; what this kernel cannot have is marked."""

from __future__ import annotations

import os

from bfer.errors import UsageError
from bfer.writer import STDOUT, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from bfer.catalogue import Arg, Catalogue

_WIDTH = 100


def main(words: list[str]) -> int:
    """Print what ``words`` ask for: events, sets or filters, also as JSON; functions or tracepoints.

    Raises UsageError.
    """
    if words[:1] in (["--functions"], ["--tracepoints"]):
        from bfer.generic import describe

        if len(words) != 2:
            raise UsageError(f"{words[0]} takes one pattern, as in bfer list {words[0]} 'vfs_*'")
        found = describe.functions if words[0] == "--functions" else describe.tracepoints
        lines = found(words[1], os.uname().machine)
        write_all(STDOUT, ("\n".join(lines) + "\n").encode(), "standard output")
        return 0
    topics = [word for word in words if not word.startswith("-")]
    for word in words:
        if word.startswith("-") and word != "--json":
            raise UsageError(f"list knows no {word!r}: bfer list [events|sets|filters] [--json]")
    topic = topics[0] if topics else "events"
    if len(topics) > 1:
        raise UsageError(f"list takes one word, not also {topics[1]!r}: bfer list [events|sets|filters] [--json]")
    if topic not in _TOPICS:
        from bfer.suggest import nearest

        hint = nearest(topic, _TOPICS) or f": there are {', '.join(_TOPICS)}; `bfer explain EVENT` tells of one event"
        raise UsageError(f"list knows no {topic!r}{hint}")
    text, data = _TOPICS[topic]
    if "--json" in words:
        import json

        out = json.dumps(data(catalogue()), indent=1) + "\n"
    else:
        out = text(catalogue())
    write_all(STDOUT, out.encode(), "standard output")
    return 0


def catalogue() -> Catalogue:
    """The events of this machine, with all arguments that they can have."""
    from bfer.catalogue import EXECUTABLE, STACKS, Catalogue
    from bfer.output.sink import OPTIONS

    return Catalogue(os.uname().machine, set(OPTIONS) - {STACKS, EXECUTABLE})


def _events(catalogue: Catalogue) -> str:
    from bfer.availability import missing
    from bfer.descriptions import description

    absent = missing(catalogue)
    notes = list(dict.fromkeys(absent.values()))
    lines = [f"{'EVENT':<28} {'SETS':<40} ARGUMENTS"]
    for event in catalogue.events.values():
        mark = f" [{notes.index(absent[event.name]) + 1}]" if event.name in absent else ""
        args = ", ".join(f"{arg.type} {arg.name}" for arg in event.args)
        lines.append(f"{event.name + mark:<28} {' '.join(event.sets):<40} {args}".rstrip())
        about = description(event.name)
        if about:
            lines.append(f"    {about}")
    lines += ["", *[f"[{number}] not in this kernel: {note}" for number, note in enumerate(notes, 1)]] if notes else []
    if catalogue.absent:
        lines += ["", *wrapped(f"Not on {catalogue.machine}:", catalogue.absent)]
    return "\n".join(lines) + "\n"


def _events_data(catalogue: Catalogue) -> list[dict[str, object]]:
    from bfer.availability import missing
    from bfer.descriptions import description

    absent = missing(catalogue)
    return [
        {
            "name": event.name,
            "id": event.id,
            "sets": list(event.sets),
            "about": description(event.name),
            "args": [_arg(arg) for arg in event.args],
            "available": event.name not in absent,
            "reason": absent.get(event.name, ""),
        }
        for event in catalogue.events.values()
    ]


def _arg(arg: Arg) -> dict[str, str]:
    return {"name": arg.name, "type": arg.type}


def _sets(catalogue: Catalogue) -> str:
    lines = []
    for name, members in sorted(catalogue.sets.items()):
        lines += wrapped(f"{name} ({len(members)}):", members)
    return "\n".join(lines) + "\n"


def _sets_data(catalogue: Catalogue) -> dict[str, list[str]]:
    return dict(sorted(catalogue.sets.items()))


def _filters(catalogue: Catalogue) -> str:
    from bfer.filters import FILTERS

    rows = [("FILTER", "OPERATORS", "VALUES", "EXAMPLE", "ABOUT")]
    for filter in FILTERS:
        other = f" (also {', '.join(filter.other.split())})" if filter.other else ""
        rows.append((filter.name, filter.operators, filter.values, filter.example, filter.about + other))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "".join("  ".join([*(f"{cell:{width}}" for cell, width in zip(row, widths)), row[4]]) + "\n" for row in rows)


def _filters_data(catalogue: Catalogue) -> list[dict[str, object]]:
    from bfer.filters import FILTERS

    return [filter.as_dict() for filter in FILTERS]


_TOPICS: dict[str, tuple[Callable[[Catalogue], str], Callable[[Catalogue], object]]] = {
    "events": (_events, _events_data),
    "sets": (_sets, _sets_data),
    "filters": (_filters, _filters_data),
}


def wrapped(title: str, words: list[str], indent: str = "    ") -> list[str]:
    """``title`` and ``words`` in lines of at most 100 columns."""
    lines = [title]
    for word in words:
        if len(lines[-1]) + 1 + len(word) > _WIDTH:
            lines.append(indent + word)
        else:
            lines[-1] += " " + word
    return lines
